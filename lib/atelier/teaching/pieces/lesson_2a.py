"""The pieces of lesson 2a, the vanilla GAN."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from atelier.teaching.exercises import AnswerError, expect_close, expect_tensor
from atelier.teaching.pieces import piece

MODULE = "atelier.blocks.gan"


@piece(
    "2a.discriminator_loss",
    MODULE,
    minutes=10,
    hints=(
        "The loss is −E[log D(x)] − E[log(1 − D(G(z)))], and D is the sigmoid of the logits. 1 − sigmoid(x) equals "
        "sigmoid(−x).",
        "−log sigmoid(x) is `F.softplus(-x)`, which is also finite for large logits. Take a mean for each kind of "
        "picture, and add the two.",
    ),
)
def check_discriminator_loss(loss: Callable[[Tensor, Tensor], Tensor]) -> None:
    """−E[log D(x)] − E[log(1 − D(G(z)))], finite for large logits."""
    real, fake = torch.tensor([2.0, 0.5, 1.2, 3.0, 0.1]), torch.tensor([-1.5, 0.25, 0.9])
    real.requires_grad_()
    fake.requires_grad_()
    expect_tensor(loss(fake, fake), (), "discriminator_loss")  # before a sum of different shapes can stop it
    on_real, on_fake = F.softplus(-real), F.softplus(fake)
    wanted = on_real.mean() + on_fake.mean()
    result = expect_tensor(loss(real, fake), (), "discriminator_loss")
    expect_close(
        result,
        wanted,
        {
            "the sign is wrong: with this loss the discriminator learns to take the one kind for the other.": -wanted,
            "real and generated pictures are swapped.": F.softplus(real).mean() + F.softplus(-fake).mean(),
            "generated pictures are treated as real ones: their term is −log(1 − D).": (
                on_real.mean() + F.softplus(-fake).mean()
            ),
            "these are sums; E is the mean.": on_real.sum() + on_fake.sum(),
            "this is half of the loss: the two means are added, not averaged.": wanted / 2,
            "this is the mean over all pictures together; each kind has its own mean.": (
                torch.cat([on_real, on_fake]).mean()
            ),
            "the term of the generated pictures is missing.": on_real.mean(),
            "the term of the real pictures is missing.": on_fake.mean(),
            "the logarithm is missing.": -real.sigmoid().mean() - (-fake).sigmoid().mean(),
            "these are logits; the loss takes the logarithm of their sigmoid.": (
                -real.log().mean() - (1 - fake).log().mean()
            ),
        },
    )
    _expect_gradient(result, real, fake)
    _expect_finite_for_large_logits(loss(torch.tensor([-200.0]), torch.tensor([200.0])), 400.0)


@piece(
    "2a.generator_loss",
    MODULE,
    minutes=5,
    hints=(
        "The non-saturating loss is −E[log D(G(z))]: small if the discriminator takes the generated pictures for real.",
        "`F.softplus(-fake_logits)` is −log sigmoid. Take the mean.",
    ),
)
def check_generator_loss(loss: Callable[[Tensor], Tensor]) -> None:
    """−E[log D(G(z))], finite for large logits."""
    fake = torch.tensor([1.5, 0.25, 0.9, 3.0], requires_grad=True)
    wanted = F.softplus(-fake).mean()
    result = expect_tensor(loss(fake), (), "generator_loss")
    expect_close(
        result,
        wanted,
        {
            "the sign is wrong.": -wanted,
            "this is the saturating loss, E[log(1 − D)]; the non-saturating one is −E[log D].": -F.softplus(
                fake
            ).mean(),
            "this is the discriminator's term: it is small if generated pictures are recognised.": (
                F.softplus(fake).mean()
            ),
            "this is the sum; E is the mean.": F.softplus(-fake).sum(),
            "this is minus the mean of the logits; the loss takes the logarithm of their sigmoid.": -fake.mean(),
            "this is the logarithm of the logits; it belongs to their sigmoid.": -fake.log().mean(),
            "this is the logarithm of the mean; E is the mean of the logarithms.": -fake.sigmoid().mean().log(),
            "the logarithm is missing.": -fake.sigmoid().mean(),
        },
    )
    _expect_gradient(result, fake)
    _expect_finite_for_large_logits(loss(torch.tensor([-200.0])), 200.0)


def _expect_gradient(result: Tensor, *logits: Tensor) -> None:
    if not result.requires_grad or None in torch.autograd.grad(result, logits, allow_unused=True):
        raise AnswerError("the value is right, but no gradient reaches the logits: the network would learn nothing.")


def _expect_finite_for_large_logits(result: Tensor, wanted: float) -> None:
    if not torch.isfinite(result).all():
        raise AnswerError(
            "right for small logits, but at a logit of −200 it is not finite: the sigmoid is rounded to 0 before the "
            "logarithm is taken. Use one function that does both."
        )
    expect_close(result, torch.tensor(wanted), tolerance=1e-3)
