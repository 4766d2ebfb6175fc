"""Pictures as files: PNGs with the settings that made them, and the names under which they are saved."""

from __future__ import annotations

import base64
import io
import re
from typing import Any

from PIL import Image

from atelier.drawing.drawing import png_info

LEAST_PIXELS = 256  # a saved picture is enlarged, by a whole factor, to at least this width


def png(image: Image.Image, facts: dict[str, Any]) -> bytes:
    """An image as a PNG file, with the settings that made it in a text chunk called “atelier”.

    Args:
        image: the image.
        facts: the settings, which must fit into JSON.
    """
    return _encoded(image, "png", pnginfo=png_info(facts))


def file_name(prompt: str, most: int = 40) -> str:
    """A prompt as a file name: letters and digits of any language, with dashes between words."""
    return re.sub(r"[\W_]+", "-", prompt.lower()).strip("-")[:most].strip("-") or "drawing"


def enlarged(image: Image.Image, least: int = LEAST_PIXELS) -> Image.Image:
    """An image enlarged by the smallest whole factor with which it is at least `least` pixels wide."""
    factor = max(1, -(-least // image.width))
    return image.resize((image.width * factor, image.height * factor), Image.Resampling.BICUBIC)


def jpeg_url(image: Image.Image) -> str:
    """An image as a data URL, compressed as a JPEG."""
    return data_url(_encoded(image, "jpeg", quality=88), "jpeg")


def png_url(image: Image.Image) -> str:
    """An image as a data URL, without loss."""
    return data_url(_encoded(image, "png"), "png")


def data_url(content: bytes, kind: str) -> str:
    """The content of an image file as a data URL; `kind` is "png" or "jpeg"."""
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def _encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, format=kind, **options)
    return file.getvalue()
