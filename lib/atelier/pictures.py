"""Pillow images as tensors of the size that a network takes."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor


def square(image: Image.Image, size: int) -> Tensor:
    """The central square of an image, turned as its EXIF data state, as (3, size, size) bytes."""
    upright = ImageOps.exif_transpose(image).convert("RGB")
    fitted = ImageOps.fit(upright, (size, size), method=Image.Resampling.LANCZOS)
    return torch.from_numpy(np.array(fitted)).permute(2, 0, 1)


def clip_square(image: Image.Image, size: int) -> Tensor:
    """An image as CLIP takes it, (3, size, size) bytes: its shorter side resized to `size`, then its centre.

    The result equals that of OpenAI's and open_clip's transforms in every pixel.
    """
    width, height = image.size
    scaled = [int(size * side / min(width, height)) for side in (width, height)]
    left, top = (round((side - size) / 2) for side in scaled)
    fitted = image if image.size == tuple(scaled) else image.resize((scaled[0], scaled[1]), Image.Resampling.BICUBIC)
    cropped = fitted.crop((left, top, left + size, top + size)).convert("RGB")
    return torch.from_numpy(np.array(cropped)).permute(2, 0, 1)


def seen_by_clip(pictures: Tensor, size: int) -> Tensor:
    """Square pictures (n, 3, s, s), from 0 to 1, resized for a CLIP: (n, 3, size, size), from 0 to 1.

    Before resizing they are rounded to bytes, as in an image file.
    """
    if pictures.shape[-1] == size:
        return pictures
    pixels = (pictures * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
    resized = torch.stack([clip_square(Image.fromarray(picture), size) for picture in pixels])
    return resized.to(pictures.device) / 255
