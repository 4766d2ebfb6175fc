"""Pillow images as tensors of the size that a network takes."""

from __future__ import annotations

import struct
import zlib

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from atelier.errors import AtelierError

MOST_PIXELS = 2**26  # of an image that is read: 67 million, which take a few hundred megabytes


def as_rgb(image: Image.Image) -> Image.Image:
    """An image of any mode in RGB: transparent parts laid on white, more than 8 bits scaled to 8 bits.

    The values of floats and of whole numbers of 32 bits may reach 1 (floats only), 255 or 65535; the largest one tells.

    Raises:
        AtelierError: if such an image has values that are not finite, or larger than 65535.
    """
    if image.mode.startswith(("I", "F")):  # Pillow would cut the values off
        values = np.asarray(image, dtype=np.float64)
        largest = values.max(initial=0)
        if not np.isfinite(values).all() or largest > 65535:
            raise AtelierError(
                f"The image has values up to {largest:g}, which are no shades of grey; give one with values from 0 to "
                "1, 255 or 65535."
            )
        ranges = (65535,) if image.mode.startswith("I;16") else (1, 255, 65535) if image.mode == "F" else (255, 65535)
        most = next(end for end in ranges if largest <= end)
        image = Image.fromarray((values.clip(0, most) * (255 / most)).round().astype(np.uint8))
    if image.has_transparency_data:
        layer = (image.convert("LA") if image.mode == "La" else image).convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
    return image.convert("RGB")


def square(image: Image.Image, size: int) -> Tensor:
    """The central square of an image, turned as its EXIF data state, as (3, size, size) bytes; see `as_rgb`.

    Raises:
        AtelierError: if the image has no pixels or more than MOST_PIXELS, or if its file is damaged.
    """
    if not 0 < image.width * image.height <= MOST_PIXELS:
        raise AtelierError(
            f"The image has {image.width} × {image.height} pixels; give one with 1 to {MOST_PIXELS // 10**6} million."
        )
    try:
        upright = as_rgb(ImageOps.exif_transpose(image))  # reads the file, which `Image.open` only opens
    except (OSError, SyntaxError, ValueError, EOFError, zlib.error, struct.error) as fault:
        raise AtelierError(f"The image cannot be read: {fault}.") from fault
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
