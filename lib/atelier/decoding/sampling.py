"""Sampling: from a translator's logits to the next code.

Each picture has its own row of random numbers, made on the CPU. They do not depend on the device or on the other
pictures of the batch, and neither do the codes, except for rounding: see docs/REPRODUCIBLE.md.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import SupportsIndex, TypedDict

import torch
from torch import Tensor

from atelier.arguments import real_number, whole_number
from atelier.errors import AtelierError

GREEDY_BELOW = 1e-6  # below this temperature the most likely code is taken, since the division could overflow


class SamplingOptions(TypedDict, total=False):
    """The fields of `Sampling` as keyword arguments; a field that is left out keeps the preset's value."""

    guidance: float
    temperature: float
    top_k: int | None
    top_p: float | None


@dataclass(frozen=True)
class Sampling:
    """The options of sampling the next code.

    Attributes:
        guidance: the scale of classifier-free guidance (Ho and Salimans 2022, "Classifier-free diffusion guidance"),
            which DALL·E Mini calls super-conditioning. The logits are uncond + guidance · (cond − uncond), where cond
            are the logits for the caption and uncond those for the empty caption. With guidance 1 only cond is
            computed, which halves the cost.
        temperature: the logits are divided by it; below 1e-6, the most likely code is always taken.
        top_k: sample only from the k most likely codes; None: from all codes.
        top_p: sample only from the smallest set of most likely codes whose total probability reaches this value
            (nucleus sampling, Holtzman et al. 2020, section 3.1); None: from all codes.

    Raises:
        AtelierError: if a value is not a number or is out of range.
    """

    guidance: float = 3.0
    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None

    def __post_init__(self) -> None:
        for name in ("guidance", "temperature", "top_p"):
            if name != "top_p" or self.top_p is not None:
                object.__setattr__(self, name, real_number(getattr(self, name), name))
        if self.top_k is not None:
            object.__setattr__(self, "top_k", whole_number(self.top_k, "top_k"))
        if not 0 <= self.guidance <= 100:
            raise AtelierError(f"guidance is {self.guidance}; give a number from 0 to 100 (1 means no guidance).")
        if not 0 <= self.temperature <= 100:
            raise AtelierError(
                f"temperature is {self.temperature}; give a number from 0 (always the most likely code) to 100."
            )
        if self.top_k is not None and self.top_k < 1:
            raise AtelierError(f"top_k is {self.top_k}; give at least 1.")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise AtelierError(f"top_p is {self.top_p}; give a probability above 0 and at most 1.")

    @property
    def guided(self) -> bool:
        """Whether the logits for the empty caption are needed too."""
        return self.guidance != 1

    @property
    def greedy(self) -> bool:
        """Whether the most likely code is always taken."""
        return self.temperature < GREEDY_BELOW


def probabilities(logits: Tensor, sampling: Sampling) -> Tensor:
    """Compute the probabilities of the next code.

    Args:
        logits: (n, codes).
        sampling: its temperature, top_k and top_p are applied.

    Returns:
        (n, codes) float32; each row sums to 1.
    """
    logits = logits.float()
    if sampling.greedy:
        return torch.zeros_like(logits).scatter_(1, logits.argmax(1, keepdim=True), 1.0)
    if sampling.top_k is not None and sampling.top_k < logits.shape[1]:
        best = logits.topk(sampling.top_k)
        logits = torch.full_like(logits, -torch.inf).scatter_(1, best.indices, best.values)
    distribution = (logits / sampling.temperature).softmax(1)
    if sampling.top_p is not None and sampling.top_p < 1:
        ranked = distribution.sort(1, descending=True)
        before = ranked.values.cumsum(1) - ranked.values  # the total probability of all more likely codes
        left_out = before >= sampling.top_p
        left_out[:, 0] = False  # the most likely code always stays, also if top_p is too small for a float32
        kept = ranked.values.masked_fill(left_out, 0.0)
        distribution = torch.zeros_like(distribution).scatter_(1, ranked.indices, kept)
        distribution = distribution / distribution.sum(1, keepdim=True)
    return distribution


def sample_codes(distribution: Tensor, uniforms: Tensor) -> Tensor:
    """Sample one code per row by inverting the cumulative distribution function.

    Args:
        distribution: (n, codes); each row sums to 1.
        uniforms: (n,), random numbers, uniform in [0, 1).

    Returns:
        Codes (n,), int64; a code of probability 0 is never sampled.
    """
    if distribution.device.type == "mps":  # Apple GPUs have no float64, so compute on the CPU
        return sample_codes(distribution.cpu(), uniforms.cpu()).to(distribution.device)
    cumulative = distribution.double().cumsum(1)  # (n, codes)
    targets = uniforms.double()[:, None] * cumulative[:, -1:]  # (n, 1)
    return torch.searchsorted(cumulative, targets, right=True).squeeze(1).clamp_(max=distribution.shape[1] - 1)


def uniform_numbers(seed: SupportsIndex, pictures: int, steps: int) -> Tensor:
    """Generate the random numbers for `sample_codes`. The row of a picture does not depend on the number of pictures.

    Args:
        seed: any integer.
        pictures: the number of rows.
        steps: the number of codes of a picture.

    Returns:
        (pictures, steps) float32, uniform in [0, 1), on the CPU. Different seeds give different numbers.

    Raises:
        AtelierError: if the seed is not a whole number.
    """
    number = whole_number(seed, "The seed")
    numbers = _uniform(number % 2**32, pictures, steps)
    if number >> 32:  # PyTorch's generator uses only 32 bits of a seed; other seeds add the numbers of a second one
        other = hashlib.blake2b(str(number).encode(), digest_size=4).digest()
        numbers = (numbers + _uniform(int.from_bytes(other, "big"), pictures, steps)) % 1
    return numbers


def _uniform(seed: int, pictures: int, steps: int) -> Tensor:
    return torch.rand(pictures, steps, generator=torch.Generator().manual_seed(seed), dtype=torch.float32)
