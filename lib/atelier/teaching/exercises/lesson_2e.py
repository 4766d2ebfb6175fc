"""Checkers of the exercises of lesson 2e, the VQ-GAN."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from atelier.blocks.vqgan import VQGANConfig
from atelier.teaching.exercises import AnswerError, exercise, expect_close, expect_number, expect_tensor

KERNEL = 4  # of every convolution of the patch discriminator
EPSILON = 1e-4  # keeps λ finite, as in `adaptive_weight`


def _config(resolution: int, levels: int, codes: int, code_width: int) -> VQGANConfig:
    return VQGANConfig(
        resolution=resolution,
        channels=8,
        multipliers=(1,) * levels,
        residual_blocks=1,
        attention_resolutions=(),
        z_channels=8,
        codes=codes,
        code_width=code_width,
        group_norm_groups=4,
    )


def _numbers(answer: Callable[..., Any], inputs: list[Any], called: str) -> Tensor:
    """The answer's result for each input, as a tensor (n,) of float64."""
    results = [answer(each) for each in inputs]
    if any(result is None for result in results):
        raise AnswerError(f"{called} returned nothing: does it end in a return?")
    numbers = [expect_number(result, f"what {called} returns") for result in results]
    return torch.tensor(numbers, dtype=torch.float64)


@exercise("2e.1")
def check_bits_per_picture(answer: Callable[[VQGANConfig], float]) -> None:
    """The number of codes in the grid times log₂ of the codebook's size."""
    configs = [_config(32, 4, 64, 16), _config(64, 4, 512, 8), VQGANConfig.f16_16384()]

    def each(formula: Callable[[VQGANConfig], float]) -> Tensor:
        return torch.tensor([formula(config) for config in configs], dtype=torch.float64)

    expect_close(
        _numbers(answer, configs, "bits_per_picture"),
        each(lambda c: c.grid**2 * math.log2(c.codes)),
        {
            "this is for one row of the grid only: a picture has grid × grid codes.": each(
                lambda c: c.grid * math.log2(c.codes)
            ),
            "these are nats, not bits: which base has the logarithm?": each(lambda c: c.grid**2 * math.log(c.codes)),
            "this counts a bit for every code of the codebook in each cell; a cell names only one code.": each(
                lambda c: c.grid**2 * c.codes
            ),
            "these are the bits of the vectors. The decoder has the codebook, so a code's number is enough.": each(
                lambda c: c.grid**2 * c.code_width * 32
            ),
            "this counts a code for every pixel, but a code stands for factor × factor pixels.": each(
                lambda c: c.resolution**2 * math.log2(c.codes)
            ),
            "these are bytes, not bits.": each(lambda c: c.grid**2 * math.log2(c.codes) / 8),
            "these are the bits of one code; a picture is a grid of codes.": each(lambda c: math.log2(c.codes)),
        },
    )


def _receptive_field(strides: list[int]) -> int:
    """The side, in pixels, of the receptive field of one number at the end of a stack of convolutions."""
    side = 1
    for stride in reversed(strides):
        side = side * stride + KERNEL - stride
    return side


@exercise("2e.2")
def check_receptive_field(answer: Callable[[int], int]) -> None:
    """The receptive field of a patch discriminator with a given number of layers that halve the map."""
    layers = [1, 2, 3, 4]

    def each(strides: Callable[[int], list[int]]) -> Tensor:
        return torch.tensor([_receptive_field(strides(number)) for number in layers], dtype=torch.float64)

    wanted = each(lambda n: [2] * n + [1, 1])
    expect_close(
        _numbers(answer, layers, "receptive_field"),
        wanted,
        {
            "one convolution of stride 1 is missing: there are two, the second of which makes the logits.": each(
                lambda n: [2] * n + [1]
            ),
            "only the convolutions that halve are counted; two of stride 1 come after them.": each(lambda n: [2] * n),
            "all convolutions have stride 1 here: after a halving, a step of 1 is a step of 2 pixels before it.": each(
                lambda n: [1] * (n + 2)
            ),
            "too many convolutions halve the map; the last two have stride 1.": each(lambda n: [2] * (n + 1) + [1]),
            "the strides are in the wrong order: begin at the logit and go back to the pixels.": each(
                lambda n: [1, 1] + [2] * n
            ),
            "this is one too small: before any convolution, the receptive field of a number is 1 pixel.": wanted - 1,
        },
        tolerance=1e-6,
    )


@exercise("2e.3")
def check_share_still_learning(answer: Callable[[Tensor, Tensor], Tensor]) -> None:
    """The share of patches where the discriminator's hinge loss has a gradient."""
    real = torch.tensor([-1.7, -0.4, 0.2, 0.6, 1.5, 2.2, 1.1, 3.0, 0.9, 1.3, 2.5, 1.8]).reshape(3, 1, 2, 2)
    fake = torch.tensor([-2.0, -1.2, -0.7, 0.3, 1.4, -3.1, -1.6, -0.1]).reshape(2, 1, 2, 2)

    def share(of_real: Tensor, of_fake: Tensor) -> Tensor:
        return torch.cat([of_real.flatten(), of_fake.flatten()]).float().mean()

    result = expect_tensor(answer(real, fake), (), "share_still_learning")
    expect_close(
        result.float(),
        share(real < 1, fake > -1),
        {
            "this is the share of patches without a gradient; return the share of the others.": share(
                real >= 1, fake <= -1
            ),
            "this counts the patches with a wrong sign. The hinge loss has a gradient until a logit is beyond ±1.": (
                share(real < 0, fake > 0)
            ),
            "only the real patches are counted.": (real < 1).float().mean(),
            "only the drawn patches are counted.": (fake > -1).float().mean(),
            "the two signs are swapped: real patches are pushed up, drawn ones down.": share(real > -1, fake < 1),
            "this is the mean of two shares, but there are more real patches than drawn ones: count all together.": (
                ((real < 1).float().mean() + (fake > -1).float().mean()) / 2
            ),
            "both kinds have the same bound here, but drawn patches are pushed down, to −1.": share(real < 1, fake < 1),
        },
    )


@exercise("2e.4")
def check_balanced_loss(answer: Callable[[Tensor, Tensor, Tensor, float], Tensor]) -> None:
    """nll + weight · λ · adversarial, where λ is detached."""
    weight = 0.75
    layer, other = nn.Parameter(torch.tensor([1.0, -2.0, 0.5])), nn.Parameter(torch.tensor([0.3, 0.1, -0.2]))
    nll, adversarial = (layer * other).square().sum() + layer.square().sum(), (layer**3).sum() + (other * layer).sum()
    lengths = [
        torch.autograd.grad(loss, layer, retain_graph=True, create_graph=True)[0].norm() for loss in (nll, adversarial)
    ]
    attached = lengths[0] / (lengths[1] + EPSILON)  # λ with gradients, a mistake
    balance = attached.detach()
    wanted = nll + weight * balance * adversarial
    result = expect_tensor(answer(nll, adversarial, layer, weight), (), "balanced_loss")
    if layer.grad is not None or other.grad is not None:
        raise AnswerError(
            "it changed the .grad of a parameter, which the optimiser uses: torch.autograd.grad returns gradients and "
            "does not change .grad."
        )
    expect_close(
        result,
        wanted,
        {
            "λ is inverted: it is large where the gradient of the reconstruction is longer than the adversary's.": (
                nll + weight * lengths[1] / (lengths[0] + EPSILON) * adversarial
            ),
            "the weight is missing.": nll + balance * adversarial,
            "λ is missing: this is the weighted sum of the two losses.": nll + weight * adversarial,
            "the adversarial loss has the wrong sign: the decoder minimises it.": nll - weight * balance * adversarial,
            "λ is the quotient of squared lengths here; it is the quotient of the lengths.": (
                nll + weight * balance**2 * adversarial
            ),
            "the reconstruction loss is missing.": weight * balance * adversarial,
            "λ multiplies the reconstruction loss here; it belongs to the adversarial loss.": (
                balance * nll + weight * adversarial
            ),
        },
        tolerance=1e-3,
    )
    if not result.requires_grad:
        raise AnswerError("the number is right, but it has no gradient: detach only λ.")
    expect_close(
        _gradients(result, layer, other),
        _gradients(wanted, layer, other),
        {
            "the number is right, but the adversarial part gives no gradient: detach λ, not the loss.": _gradients(
                nll, layer, other
            ),
            "the number is right, but the reconstruction gives no gradient: detach λ, not the loss.": _gradients(
                wanted - nll, layer, other
            ),
            "the number is right, but gradients pass through λ, so that training would change λ itself. Detach it.": (
                _gradients(nll + weight * attached * adversarial, layer, other)
            ),
        },
        tolerance=1e-3,
    )


def _gradients(loss: Tensor, *parameters: Tensor) -> Tensor:
    """The gradients of a loss with respect to the parameters, as one vector."""
    try:
        return torch.cat(torch.autograd.grad(loss, parameters, retain_graph=True))
    except RuntimeError as error:
        raise AnswerError(
            "the number is right, but its graph was freed, so it cannot be trained on: use retain_graph=True."
        ) from error
