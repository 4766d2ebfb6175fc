"""Sampling: from a translator's logits to the next code.

Each picture has its own row of random numbers, made on the CPU. So a picture depends neither on the number of pictures
drawn with it nor on the device.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import SupportsIndex, TypedDict

import torch
from torch import Tensor

from atelier.arguments import real_number, whole_number
from atelier.errors import AtelierError

GREEDY_BELOW = 1e-6  # below this temperature the likeliest code is taken: logits divided by less could overflow


class SamplingOptions(TypedDict, total=False):
    """The fields of `Sampling` as keyword arguments; those left out keep the preset's values."""

    guidance: float
    temperature: float
    top_k: int | None
    top_p: float | None


@dataclass(frozen=True)
class Sampling:
    """How the next code is chosen.

    Attributes:
        guidance: the guidance scale: logits are uncond + guidance · (cond − uncond), where uncond are the logits for
            the empty caption. Classifier-free guidance (Ho and Salimans 2022, "Classifier-free diffusion
            guidance"), which DALL·E Mini calls super-conditioning. With 1 the logits are cond, at half the cost.
        temperature: the logits are divided by it; 0, or a number below 1e-6, always takes the likeliest code.
        top_k: only the k likeliest codes can be drawn; None: all.
        top_p: only the likeliest codes that together reach this probability can be drawn (nucleus sampling, Holtzman et
            al. 2020, section 3.1); None: all.

    Raises:
        AtelierError: if a value is not a number, or out of range.
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
                f"temperature is {self.temperature}; give a number from 0 (always the likeliest code) to 100."
            )
        if self.top_k is not None and self.top_k < 1:
            raise AtelierError(f"top_k is {self.top_k}; at least 1 code must be left to draw from.")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise AtelierError(f"top_p is {self.top_p}; it is a probability, above 0 and at most 1.")


def probabilities(logits: Tensor, sampling: Sampling) -> Tensor:
    """Compute the distribution from which the next code is drawn.

    Args:
        logits: (n, codes).
        sampling: temperature, top_k and top_p.

    Returns:
        (n, codes) float32; each row sums to 1.
    """
    logits = logits.float()
    if sampling.temperature < GREEDY_BELOW:
        return torch.zeros_like(logits).scatter_(1, logits.argmax(1, keepdim=True), 1.0)
    if sampling.top_k is not None and sampling.top_k < logits.shape[1]:
        best = logits.topk(sampling.top_k)
        logits = torch.full_like(logits, -torch.inf).scatter_(1, best.indices, best.values)
    distribution = (logits / sampling.temperature).softmax(1)
    if sampling.top_p is not None and sampling.top_p < 1:
        ranked = distribution.sort(1, descending=True)
        before = ranked.values.cumsum(1) - ranked.values  # the total probability of all likelier codes
        kept = ranked.values.masked_fill(before >= sampling.top_p, 0.0)
        distribution = torch.zeros_like(distribution).scatter_(1, ranked.indices, kept)
        distribution = distribution / distribution.sum(1, keepdim=True)
    return distribution


def sample_codes(distribution: Tensor, uniforms: Tensor) -> Tensor:
    """Draw one code per row by inverting the cumulative distribution function.

    Args:
        distribution: (n, codes), rows that sum to 1.
        uniforms: (n,), uniform in [0, 1).

    Returns:
        Codes (n,), int64; never one of probability 0.
    """
    if distribution.device.type == "mps":  # Apple GPUs have no float64; on the CPU the codes are those of any device
        return sample_codes(distribution.cpu(), uniforms.cpu()).to(distribution.device)
    cumulative = distribution.double().cumsum(1)  # (n, codes)
    targets = uniforms.double()[:, None] * cumulative[:, -1:]  # (n, 1)
    return torch.searchsorted(cumulative, targets, right=True).squeeze(1).clamp_(max=distribution.shape[1] - 1)


def uniform_numbers(seed: SupportsIndex, pictures: int, steps: int) -> Tensor:
    """Make the random numbers with which `sample_codes` draws codes; a picture's row does not depend on other pictures.

    Args:
        seed: any integer.
        pictures: the number of rows.
        steps: codes of a picture.

    Returns:
        (pictures, steps) float32, uniform in [0, 1), on the CPU. Different seeds give different numbers.

    Raises:
        AtelierError: if the seed is not a whole number.
    """
    number = whole_number(seed, "The seed")
    numbers = _uniform(number % 2**32, pictures, steps)
    if number >> 32:  # PyTorch's generator uses only 32 bits of a seed, so a larger or negative seed adds a second one
        other = hashlib.blake2b(str(number).encode(), digest_size=4).digest()
        numbers = (numbers + _uniform(int.from_bytes(other, "big"), pictures, steps)) % 1
    return numbers


def _uniform(seed: int, pictures: int, steps: int) -> Tensor:
    return torch.rand(pictures, steps, generator=torch.Generator().manual_seed(seed), dtype=torch.float32)
