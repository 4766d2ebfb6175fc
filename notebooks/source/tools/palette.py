"""Smaller figures: a PNG with a palette of 256 colours takes about half the bytes of one with three numbers a pixel.

Figures with too many colours for a palette keep three numbers a pixel, but rounded ones, which compress better.
"""

from __future__ import annotations

import base64
import io

import numpy as np
from nbformat import NotebookNode
from PIL import Image

LEAST_PSNR = 36.0  # decibels; at 31 the difference is visible in pictures of many colours
STEP = 8  # between the values of red, green and blue in a figure with too many colours for a palette: 41 dB or more


def with_palette(png: bytes) -> bytes:
    """The same picture in fewer bytes: with at most 256 colours or, if it would look different, with rounded ones.

    Args:
        png: a PNG file.

    Returns:
        A PNG file whose PSNR against the original is at least LEAST_PSNR; the original if it has a palette already or
        no bytes can be saved.
    """
    opened = Image.open(io.BytesIO(png))
    if opened.mode == "P":
        return png
    picture = opened.convert("RGB")
    reduced = picture.quantize(256, method=Image.Quantize.MEDIANCUT, kmeans=2, dither=Image.Dither.NONE)
    error = np.asarray(picture, dtype=float) - np.asarray(reduced.convert("RGB"), dtype=float)
    if np.square(error).mean() > 255**2 / 10 ** (LEAST_PSNR / 10):
        reduced = picture.point([min(255, round(value / STEP) * STEP) for value in range(256)] * 3)
    file = io.BytesIO()
    reduced.save(file, "PNG", optimize=True)
    return min(png, file.getvalue(), key=len)


def shrink_figures(notebook: NotebookNode) -> None:
    """Give the figures among the outputs of a notebook a palette, in place."""
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            if "image/png" in data:
                content = with_palette(base64.b64decode(data["image/png"]))
                data["image/png"] = base64.b64encode(content).decode() + "\n"
