"""From an image file's world into tensors."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor


def square(image: Image.Image, size: int) -> Tensor:
    """The central square of an image, the right way up, as (3, size, size) bytes."""
    upright = ImageOps.exif_transpose(image).convert("RGB")
    fitted = ImageOps.fit(upright, (size, size), method=Image.Resampling.LANCZOS)
    return torch.from_numpy(np.array(fitted)).permute(2, 0, 1)


def clip_square(image: Image.Image, size: int) -> Tensor:
    """A picture as CLIPs see it, (3, size, size) bytes: bicubic until the shortest side fits, then the centre.

    Pixel for pixel what OpenAI's and open_clip's transforms give, the order of their steps included.
    """
    width, height = image.size
    scaled = [int(size * side / min(width, height)) for side in (width, height)]
    left, top = (round((side - size) / 2) for side in scaled)
    fitted = image if image.size == tuple(scaled) else image.resize((scaled[0], scaled[1]), Image.Resampling.BICUBIC)
    seen = fitted.crop((left, top, left + size, top + size)).convert("RGB")
    return torch.from_numpy(np.array(seen)).permute(2, 0, 1)


def seen_by_clip(pictures: Tensor, size: int) -> Tensor:
    """Square pictures (n, 3, s, s) from 0 to 1 at the size that a CLIP takes, (n, 3, size, size) from 0 to 1.

    Where they have another size they become images first, so that the CLIP sees what a viewer would see.
    """
    if pictures.shape[-1] == size:
        return pictures
    pixels = (pictures * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
    resized = torch.stack([clip_square(Image.fromarray(picture), size) for picture in pixels])
    return resized.to(pictures.device) / 255
