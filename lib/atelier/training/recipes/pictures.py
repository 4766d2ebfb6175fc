"""Pictures in recipes: a grid for samples, and data augmentation."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def grid(pictures: Tensor, columns: int) -> Tensor:
    """Lay out pictures in a grid, row by row; empty cells of the last row are white.

    Args:
        pictures: (n, 3, h, w).
        columns: pictures in a row.

    Returns:
        (3, rows · h, columns · w).
    """
    number, channels, height, width = pictures.shape
    rows = -(-number // columns)
    filled = torch.cat([pictures, pictures.new_ones(rows * columns - number, channels, height, width)])
    together = filled.reshape(rows, columns, channels, height, width)
    return together.permute(2, 0, 3, 1, 4).reshape(channels, rows * height, columns * width)


def shifted(pictures: Tensor, most: int) -> Tensor:
    """Shift each picture at random in both directions, and repeat its edge pixels at the border.

    Args:
        pictures: (n, 3, h, w).
        most: the largest shift, in pixels.

    Returns:
        (n, 3, h, w).
    """
    number, _, height, width = pictures.shape
    offsets = torch.randint(0, 2 * most + 1, (2, number, 1)).to(pictures.device, non_blocking=True)
    padded = F.pad(pictures, (most,) * 4, mode="replicate")
    rows = offsets[0] + torch.arange(height, device=pictures.device)  # (n, h)
    columns = offsets[1] + torch.arange(width, device=pictures.device)  # (n, w)
    which = torch.arange(number, device=pictures.device)[:, None, None]
    moved = padded.permute(0, 2, 3, 1)[which, rows[:, :, None], columns[:, None, :]]  # (n, h, w, 3)
    # Contiguous, since the convolution of some CPUs (oneDNN with AVX2) writes outside its memory for other layouts.
    return moved.permute(0, 3, 1, 2).contiguous()


def softened(pictures: Tensor, share: float) -> Tensor:
    """Soften a share of the pictures: shrink them to half their size and enlarge them again.

    Args:
        pictures: (n, 3, h, w).
        share: the probability with which each picture is softened.

    Returns:
        (n, 3, h, w).
    """
    size = pictures.shape[-2:]
    half = F.interpolate(pictures, scale_factor=0.5, mode="area")
    soft = F.interpolate(half, size=size, mode="bilinear", align_corners=False)
    chosen = (torch.rand(len(pictures), 1, 1, 1) < share).to(pictures.device, non_blocking=True)
    return torch.where(chosen, soft, pictures)


def noisy(pictures: Tensor, most: float) -> Tensor:
    """Add normal noise to each picture, with a random standard deviation.

    Args:
        pictures: (n, 3, h, w).
        most: the largest standard deviation.

    Returns:
        (n, 3, h, w).
    """
    strength = most * torch.rand(len(pictures), 1, 1, 1).to(pictures.device, non_blocking=True)
    return pictures + strength * torch.randn_like(pictures)
