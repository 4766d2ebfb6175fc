"""Metrics of reconstructions."""

from __future__ import annotations

import torch
from torch import Tensor

MOST_DECIBELS = 100.0  # for a perfect reconstruction, with an error of 0


@torch.no_grad()
def psnr(pictures: Tensor, reconstructions: Tensor) -> Tensor:
    """Compute the peak signal-to-noise ratio of each reconstruction, −10 log₁₀ of its mean squared error.

    Args:
        pictures: (n, 3, h, w), from 0 to 1.
        reconstructions: (n, 3, h, w); clamped to [0, 1] first, as for display.

    Returns:
        (n,) in decibels, at most 100.
    """
    errors = (pictures.float() - reconstructions.float().clamp(0, 1)).square().mean((1, 2, 3))
    return -10 * errors.clamp(min=10 ** (-MOST_DECIBELS / 10)).log10()
