"""Figures of the stored notebooks become smaller, and look the same."""

import base64
import io

import nbformat
import numpy as np
import palette
from PIL import Image, ImageDraw


def png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def plot() -> bytes:
    """White paper with lines in two colours whose edges are shaded, as matplotlib draws them."""
    paper = Image.new("RGB", (1200, 800), "white")
    pen = ImageDraw.Draw(paper)
    for number in range(20):
        pen.line((40 * number, 0, 1200 - 30 * number, 800), fill=("navy", "crimson")[number % 2], width=9)
    return png(np.asarray(paper.resize((300, 200), Image.Resampling.LANCZOS)))


def psnr(a: bytes, b: bytes) -> float:
    first, second = (np.asarray(Image.open(io.BytesIO(each)).convert("RGB"), dtype=float) for each in (a, b))
    return float(10 * np.log10(255**2 / np.square(first - second).mean()))


def test_a_plot_gets_a_palette() -> None:
    small = palette.with_palette(plot())
    assert len(small) < len(plot())
    assert Image.open(io.BytesIO(small)).mode == "P"
    assert psnr(small, plot()) >= palette.LEAST_PSNR


def test_a_picture_of_many_colours_keeps_them_rounded() -> None:
    noise = png(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8))
    small = palette.with_palette(noise)
    assert len(small) < len(noise)
    assert Image.open(io.BytesIO(small)).mode == "RGB"
    assert psnr(small, noise) >= palette.LEAST_PSNR


def test_white_and_black_stay_white_and_black() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    pixels[:8], pixels[-8:] = 255, 0
    small = np.asarray(Image.open(io.BytesIO(palette.with_palette(png(pixels)))))
    assert (small[:8] == 255).all()
    assert (small[-8:] == 0).all()


def test_a_palette_is_given_once() -> None:
    small = palette.with_palette(plot())
    assert palette.with_palette(small) == small


def test_figures_of_a_notebook_are_made_smaller() -> None:
    figure = nbformat.v4.new_output("display_data", {"image/png": base64.b64encode(plot()).decode()})
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("plot()", outputs=[figure])])
    palette.shrink_figures(notebook)
    stored = notebook.cells[0].outputs[0].data["image/png"]
    assert base64.b64decode(stored) == palette.with_palette(plot())
