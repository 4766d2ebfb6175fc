"""Sampling: from a translator's logits to the next code.

Each picture has its own row of random numbers, so a picture does not depend on how many others are drawn beside it, nor
on the device.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypedDict

import torch
from torch import Tensor


class SamplingOptions(TypedDict, total=False):
    """`Sampling`'s fields as keyword arguments; those left out keep the preset's values."""

    guidance: float
    temperature: float
    top_k: int | None
    top_p: float | None


@dataclass(frozen=True)
class Sampling:
    """How the next code is chosen.

    Attributes:
        guidance: how far the logits are pushed away from those without a caption: uncond + guidance · (cond − uncond).
            DALL·E Mini calls it super-conditioning (Ho and Salimans 2022, "Classifier-free diffusion guidance", for
            pictures in general). 1 leaves the logits as they are, and halves the work.
        temperature: divides the logits; 0 always takes the likeliest code.
        top_k: only the k likeliest codes can be drawn; None: all.
        top_p: only the likeliest codes that together reach this probability can be drawn (Holtzman et al. 2020,
            section 3.1); None: all.

    Raises:
        ValueError: a number out of range.
    """

    guidance: float = 3.0
    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.guidance <= 100:
            raise ValueError(f"guidance is {self.guidance}; give a number from 0 to 100 (1 means none).")
        if not 0 <= self.temperature <= 100:
            raise ValueError(
                f"temperature is {self.temperature}; give a number from 0 (always the likeliest code) to 100."
            )
        if self.top_k is not None and self.top_k < 1:
            raise ValueError(f"top_k is {self.top_k}; at least 1 code must be left to draw from.")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise ValueError(f"top_p is {self.top_p}; it is a probability, above 0 and at most 1.")


def probabilities(logits: Tensor, sampling: Sampling) -> Tensor:
    """Logits (n, codes) to the probabilities that the next code is drawn from, (n, codes), float32."""
    logits = logits.float()
    if sampling.temperature == 0:
        return torch.zeros_like(logits).scatter_(1, logits.argmax(1, keepdim=True), 1.0)
    if sampling.top_k is not None and sampling.top_k < logits.shape[1]:
        best = logits.topk(sampling.top_k)
        logits = torch.full_like(logits, -torch.inf).scatter_(1, best.indices, best.values)
    share = (logits / sampling.temperature).softmax(1)
    if sampling.top_p is not None and sampling.top_p < 1:
        ranked = share.sort(1, descending=True)
        before = ranked.values.cumsum(1) - ranked.values  # probability of everything likelier
        kept = ranked.values.masked_fill(before >= sampling.top_p, 0.0)
        share = torch.zeros_like(share).scatter_(1, ranked.indices, kept)
        share = share / share.sum(1, keepdim=True)
    return share


def pick(share: Tensor, dice: Tensor) -> Tensor:
    """Draw one code per row by inverting the distribution function.

    Args:
        share: (n, codes), rows that sum to 1.
        dice: (n,), uniform in [0, 1).

    Returns:
        (n,) int64; never a code of probability 0.
    """
    total = share.double().cumsum(1)  # (n, codes)
    thrown = dice.double()[:, None] * total[:, -1:]
    return torch.searchsorted(total, thrown, right=True).squeeze(1).clamp_(max=share.shape[1] - 1)


def dice(seed: int, pictures: int, steps: int) -> Tensor:
    """Uniform numbers (pictures, steps) of any whole seed; a picture's row does not depend on how many there are."""
    return torch.rand(pictures, steps, generator=torch.Generator().manual_seed(seed % 2**63))
