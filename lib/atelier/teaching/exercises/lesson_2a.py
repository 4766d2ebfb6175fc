"""Checkers of the exercises of lesson 2a, the vanilla GAN."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from atelier.teaching.exercises import AnswerError, exercise, expect_close, expect_number, expect_tensor

LATENT, PIXELS, BATCH = 3, 5, 7


@exercise("2a.1")
def check_game_value(game_value: Callable[[Tensor, Tensor], Tensor]) -> None:
    """V of eq. 1, a scalar, from logits (n,) and (m,); finite for large logits, too."""
    real, fake = torch.tensor([2.0, 0.5, -1.0, 3.0]), torch.tensor([-1.5, 0.25])
    result = expect_tensor(game_value(real, fake), (), "game_value")
    log_real, log_fooled, log_caught = F.logsigmoid(real), F.logsigmoid(fake), F.logsigmoid(-fake)
    wanted = log_real.mean() + log_caught.mean()
    expect_close(
        result,
        wanted,
        {
            "this is −V, the discriminator's loss. V itself is what the discriminator maximises.": -wanted,
            "you summed over the batch; E is the mean, so that V does not depend on the number of pictures.": (
                log_real.sum() + log_caught.sum()
            ),
            "both terms have log D; for the drawn pictures it is log(1 − D).": log_real.mean() + log_fooled.mean(),
            "the two kinds of picture are swapped: D should be near 1 on the real ones.": (
                F.logsigmoid(-real).mean() + log_fooled.mean()
            ),
            "these are logarithms to base 2; eq. 1 has natural logarithms.": wanted / math.log(2),
            "this is the logarithm of the mean; eq. 1 has the mean of the logarithms.": (
                real.sigmoid().mean().log() + (-fake).sigmoid().mean().log()
            ),
            "this is the mean of the sigmoids: the logarithm is missing.": (
                real.sigmoid().mean() + (-fake).sigmoid().mean()
            ),
        },
    )
    extreme = game_value(torch.tensor([-200.0]), torch.tensor([200.0]))
    if not torch.isfinite(extreme).all():
        raise AnswerError(
            "right for small logits, but at a logit of −200 it is not finite: the sigmoid is rounded to 0 before the "
            "logarithm is taken. Use one function that does both."
        )
    expect_close(extreme, torch.tensor(-400.0), tolerance=1e-3)


@exercise("2a.2")
def check_gradient_ratio(ratio: float) -> None:
    """The ratio of the two losses' slopes at a logit of −5: non-saturating over saturating."""
    value = expect_number(ratio)
    sigmoid = 1 / (1 + math.exp(5))
    saturating_loss, other_loss = math.log(1 - sigmoid), -math.log(sigmoid)
    wrong = {
        sigmoid / (1 - sigmoid): "this is the inverse of the ratio: the saturating loss has the smaller slope.",
        1 / sigmoid: "you divided 1 by the saturating slope. The other slope is not quite 1 at this logit.",
        1 - sigmoid: "this is the slope of the non-saturating loss alone; divide it by that of the other loss.",
        sigmoid: "this is the slope of the saturating loss alone; it is the divisor of the ratio.",
        1.0: "the two losses have the same aim, but their slopes are not equal.",
        abs(other_loss / saturating_loss): "this is the ratio of the losses; the ratio of their slopes is asked for.",
        1 / (sigmoid * (1 - sigmoid)): "this is 1 over the sigmoid's own slope: the chain rule has one more factor.",
        math.exp(-5.0): "this is the inverse of the ratio: the saturating loss has the smaller slope.",
    }
    wanted = math.exp(5)
    if abs(value - wanted) <= 0.005 * wanted:
        return
    for number, message in wrong.items():
        if math.isclose(abs(value), number, rel_tol=2e-3):
            raise AnswerError(message)
    if value < 0:
        raise AnswerError(f"{value:.4g} is negative: both slopes have the same sign, so their ratio is positive.")
    side = "small" if value < wanted else "large"
    raise AnswerError(f"{value:.4g} is too {side}; the two slopes are D and 1 − D, up to the sign.")


class _LinearNetwork(nn.Module):
    """A linear layer, in place of the generator or the discriminator."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.linear = nn.Linear(inputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """x (n, inputs) → (n, outputs), or (n,) where there is one output."""
        return self.linear(x).squeeze(1)


@exercise("2a.3")
def check_generator_turn(generator_turn: Callable[[nn.Module, nn.Module, Tensor], Tensor]) -> None:
    """The generator's loss: its value, its gradients, and the state in which the discriminator is left."""
    generator, discriminator = _LinearNetwork(LATENT, PIXELS), _LinearNetwork(PIXELS, 1)
    z = torch.randn(BATCH, LATENT)
    logits = discriminator(generator(z))
    wanted = F.softplus(-logits).mean()
    wanted_gradient = torch.autograd.grad(wanted, generator.linear.weight, retain_graph=True)[0]
    result = expect_tensor(generator_turn(generator, discriminator, z), (), "generator_turn")
    expect_close(
        result,
        wanted,
        {
            "this is the saturating loss, log(1 − D); use −log D.": F.logsigmoid(-logits).mean(),
            "this is the discriminator's loss: it falls when drawn pictures are recognised.": F.softplus(logits).mean(),
            "the sign is wrong: with this loss the generator's pictures look less and less real.": -wanted,
            "this is the sum over the batch; the loss is the mean.": F.softplus(-logits).sum(),
            "this is the mean of the logits; the loss is −log of their sigmoid.": -logits.mean(),
        },
    )
    if not result.requires_grad:
        raise AnswerError(
            "the number is right, but it has no gradient: the gradient must pass through the discriminator to the "
            "generator, so use neither detach nor no_grad."
        )
    result.backward()
    if generator.linear.weight.grad is None:
        raise AnswerError("the number is right, but no gradient reaches the generator: its pictures are detached.")
    expect_close(generator.linear.weight.grad, wanted_gradient)
    if any(parameter.grad is not None for parameter in discriminator.parameters()):
        raise AnswerError("the generator gets its gradient, but one is left in the discriminator's weights as well.")
    if not all(parameter.requires_grad for parameter in discriminator.parameters()):
        raise AnswerError(
            "the gradients are right, but the discriminator's weights are still frozen afterwards: it cannot learn in "
            "its own turn."
        )


@exercise("2a.4")
def check_walk(walk: Callable[[Tensor, Tensor, Tensor], Tensor]) -> None:
    """Spherical interpolation: start (d,), end (d,), shares (n,) → (n, d)."""
    start, end = torch.randn(2, 16)
    end = end * (start.norm() / end.norm())
    shares = torch.tensor([0.0, 0.2, 0.5, 0.9, 1.0])
    result = expect_tensor(walk(start, end, shares), (len(shares), len(start)), "walk")
    share = shares[:, None]  # (n, 1)
    angle = torch.acos(F.cosine_similarity(start, end, dim=0))
    straight = (1 - share) * start + share * end
    wanted = _arc(start, end, share, angle)
    expect_close(
        result,
        wanted,
        {
            "this is the straight line: its middle points are much shorter than those that the generator was trained "
            "on.": straight,
            "the direction is reversed: a share of 0 should give the start.": _arc(end, start, share, angle),
            "these points have length 1; they should be as long as start.": wanted / start.norm(),
            "the length is right, but the steps are not equal: you projected the straight line onto the sphere.": (
                F.normalize(straight, dim=1) * start.norm()
            ),
            "the weights are not divided by sin θ.": wanted * torch.sin(angle),
            "the angle is in degrees; torch.sin takes radians.": _arc(start, end, share, torch.rad2deg(angle)),
            "the cosine is used as the angle: the arc cosine is missing.": _arc(start, end, share, angle.cos()),
        },
    )


def _arc(start: Tensor, end: Tensor, share: Tensor, angle: Tensor) -> Tensor:
    """Spherical interpolation with a given angle, (n, d)."""
    return (torch.sin((1 - share) * angle) * start + torch.sin(share * angle) * end) / torch.sin(angle)
