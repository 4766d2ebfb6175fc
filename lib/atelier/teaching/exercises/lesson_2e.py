"""Checkers of lesson 2e, the VQ-GAN."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from atelier.blocks.vqgan import VQGANConfig
from atelier.teaching.exercises import AnswerError, exercise, expect_close, expect_tensor

KERNEL = 4  # of every convolution of the patch discriminator
SMALLEST = 1e-4  # keeps λ finite, as in `adaptive_weight`


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


def _numbers(answer: Callable[..., Any], given: list[Any], called: str) -> Tensor:
    """What the answer makes of each thing given, as a tensor of float64."""
    results = [answer(each) for each in given]
    if any(result is None for result in results):
        raise AnswerError(f"{called} returned nothing: does it end in a return?")
    try:
        return torch.tensor([float(result) for result in results], dtype=torch.float64)
    except (TypeError, ValueError) as fault:
        raise AnswerError(f"{called} returned a {type(results[0]).__name__}, where one number is wanted.") from fault


@exercise("2e.1")
def bits_per_picture(answer: Callable[[VQGANConfig], float]) -> None:
    """codes in the grid × log₂ of the codebook's size."""
    configs = [_config(32, 4, 64, 16), _config(64, 4, 512, 8), VQGANConfig.f16_16384()]

    def made(formula: Callable[[VQGANConfig], float]) -> Tensor:
        return torch.tensor([formula(config) for config in configs], dtype=torch.float64)

    expect_close(
        _numbers(answer, configs, "bits_per_picture"),
        made(lambda c: c.grid**2 * math.log2(c.codes)),
        {
            "this is for one row of the grid only: the grid has two sides.": made(
                lambda c: c.grid * math.log2(c.codes)
            ),
            "these are nats, not bits: which base has the logarithm?": made(lambda c: c.grid**2 * math.log(c.codes)),
            "this pays for every code of the codebook at every place, but only one of them is named there.": made(
                lambda c: c.grid**2 * c.codes
            ),
            "this sends the vectors themselves. The decoder has the codebook, so a code's number is enough.": made(
                lambda c: c.grid**2 * c.code_width * 32
            ),
            "this counts a code for every pixel, but a code stands for factor × factor pixels.": made(
                lambda c: c.resolution**2 * math.log2(c.codes)
            ),
            "these are bytes, not bits.": made(lambda c: c.grid**2 * math.log2(c.codes) / 8),
            "this is the cost of one code; a picture is a grid of them.": made(lambda c: math.log2(c.codes)),
        },
    )


def _field(strides: list[int]) -> int:
    """Pixels along one side that one number at the end of a stack of convolutions sees."""
    side = 1
    for stride in reversed(strides):
        side = side * stride + KERNEL - stride
    return side


@exercise("2e.2")
def receptive_field(answer: Callable[[int], int]) -> None:
    """Of the patch discriminator with so many layers that halve."""
    layers = [1, 2, 3, 4]

    def made(strides: Callable[[int], list[int]]) -> Tensor:
        return torch.tensor([_field(strides(number)) for number in layers], dtype=torch.float64)

    wanted = made(lambda n: [2] * n + [1, 1])
    expect_close(
        _numbers(answer, layers, "receptive_field"),
        wanted,
        {
            "one convolution of stride 1 is missing: there are two, the second makes the logits.": made(
                lambda n: [2] * n + [1]
            ),
            "only the convolutions that halve are counted here; two of stride 1 come after them.": made(
                lambda n: [2] * n
            ),
            "here all convolutions halve the map, but the last two have stride 1.": made(lambda n: [2] * (n + 2)),
            "here no convolution has a stride: a step of 1 after a halving is a step of 2 pixels before it.": made(
                lambda n: [1] * (n + 2)
            ),
            "here one convolution too many halves the map.": made(lambda n: [2] * (n + 1) + [1]),
            "the strides are walked through in the wrong order: begin at the logit and go back to the pixels.": made(
                lambda n: [1, 1] + [2] * n
            ),
            "it is off by one: a single number, before any convolution, sees 1 pixel.": wanted - 1,
        },
        tolerance=1e-6,
    )


@exercise("2e.3")
def share_still_learning(answer: Callable[[Tensor, Tensor], Tensor]) -> None:
    """Of the patches, those where the discriminator's hinge loss has a gradient."""
    real = torch.tensor([-1.7, -0.4, 0.2, 0.6, 1.5, 2.2, 1.1, 3.0, 0.9, 1.3, 2.5, 1.8]).reshape(3, 1, 2, 2)
    fake = torch.tensor([-2.0, -1.2, -0.7, 0.3, 1.4, -3.1, -1.6, -0.1]).reshape(2, 1, 2, 2)

    def share(real_learns: Tensor, fake_learns: Tensor) -> Tensor:
        return torch.cat([real_learns.flatten(), fake_learns.flatten()]).float().mean()

    result = expect_tensor(answer(real, fake), (), "share_still_learning")
    expect_close(
        result.float(),
        share(real < 1, fake > -1),
        {
            "this is the share of patches that have stopped teaching; the others are wanted.": share(
                real >= 1, fake <= -1
            ),
            "this counts the patches that are judged wrongly. The hinge pulls until a logit is beyond ±1.": share(
                real < 0, fake > 0
            ),
            "only the real patches are counted.": (real < 1).float().mean(),
            "only the drawn patches are counted.": (fake > -1).float().mean(),
            "the two signs are mixed up: real patches are pushed up, drawn ones down.": share(real > -1, fake < 1),
            "this is the mean of two shares. There are more real patches than drawn ones here: count all alike.": (
                ((real < 1).float().mean() + (fake > -1).float().mean()) / 2
            ),
            "both are held to the same bound, but a drawn patch is pushed down, to −1.": share(real < 1, fake < 1),
        },
    )


@exercise("2e.4")
def balanced_loss(answer: Callable[[Tensor, Tensor, Tensor, float], Tensor]) -> None:
    """nll + weight · λ · adversarial, where λ is a number and not a path for gradients."""
    weight = 0.75
    layer, other = nn.Parameter(torch.tensor([1.0, -2.0, 0.5])), nn.Parameter(torch.tensor([0.3, 0.1, -0.2]))
    nll, adversarial = (layer * other).square().sum() + layer.square().sum(), (layer**3).sum() + (other * layer).sum()
    lengths = [
        torch.autograd.grad(loss, layer, retain_graph=True, create_graph=True)[0].norm() for loss in (nll, adversarial)
    ]
    followed = lengths[0] / (lengths[1] + SMALLEST)  # λ as a path for gradients, a mistake
    pull = followed.detach()
    wanted = nll + weight * pull * adversarial
    result = expect_tensor(answer(nll, adversarial, layer, weight), (), "balanced_loss")
    if layer.grad is not None or other.grad is not None:
        raise AnswerError(
            "it left gradients behind in .grad, where the optimiser will find them: torch.autograd.grad returns "
            "gradients and leaves .grad alone."
        )
    expect_close(
        result,
        wanted,
        {
            "λ is upside down: it is large where the reconstruction pulls more strongly than the adversary.": (
                nll + weight * lengths[1] / (lengths[0] + SMALLEST) * adversarial
            ),
            "the weight is missing.": nll + pull * adversarial,
            "λ is missing: this is a weighted sum of the two losses as they are.": nll + weight * adversarial,
            "the adversarial loss enters with the wrong sign: the decoder minimises it.": (
                nll - weight * pull * adversarial
            ),
            "λ compares squared lengths here; it is the quotient of the lengths.": nll + weight * pull**2 * adversarial,
            "the reconstruction's own part is missing.": weight * pull * adversarial,
            "λ scales the reconstruction here; it belongs to the adversarial loss.": pull * nll + weight * adversarial,
        },
        tolerance=1e-3,
    )
    if not result.requires_grad:
        raise AnswerError("the number is right, but nothing can learn from it: its gradient was cut off.")
    expect_close(
        _learned(result, layer, other),
        _learned(wanted, layer, other),
        {
            "the number is right, but the adversarial part gives no gradient: detach λ, not the loss.": _learned(
                nll, layer, other
            ),
            "the number is right, but the reconstruction gives no gradient: detach λ, not the loss.": _learned(
                wanted - nll, layer, other
            ),
            "the number is right, but λ lets gradients through: the two networks could make the balance itself their "
            "aim. Detach it.": _learned(nll + weight * followed * adversarial, layer, other),
        },
        tolerance=1e-3,
    )


def _learned(loss: Tensor, *parameters: Tensor) -> Tensor:
    """The gradients of a loss, one after the other."""
    try:
        return torch.cat(torch.autograd.grad(loss, parameters, retain_graph=True))
    except RuntimeError as fault:
        raise AnswerError(
            "the number is right, but its graph is gone, so nothing can learn from it: retain_graph=True keeps it."
        ) from fault
