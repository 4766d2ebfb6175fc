"""Drawing the deck's figures: a canvas measured in the slide's pixels, with the slide's typeface."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import torch
from atelier.teaching.figures import BLUE, GREY, INK, STYLE, VERMILION
from fontTools.ttLib import TTFont
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Polygon
from matplotlib.typing import ColorType
from PIL import Image
from torch import Tensor

HERE = Path(__file__).parent
FONTS = HERE / "node_modules" / "@fontsource" / "atkinson-hyperlegible-next" / "files"
TYPEFACE = "Atkinson Hyperlegible Next"
WEIGHTS = (400, 700)

DENSITY = 1.5  # stored pixels for one pixel of the slide: sharp on a projector of 1080 lines
FILM_EDGE = 2  # pixels around each frame of a film
POINT = 0.72  # points in a pixel of the slide, with 100 pixels to an inch
COLOURS_STORED = 128  # in a figure's palette: with more, an audience sees no difference
PALE_BLUE, PALE_GREEN, PALE_ORANGE, PALE_RED, PAPER = "#E3EFF7", "#E0F1EC", "#FDF1D8", "#FBE7DA", "#F4F5F7"
SLATE, RUST = "#4B5563", "#B44A00"  # of labels, and of labels of VERMILION arrows

PROJECTED: Any = {
    **STYLE,
    "axes.axisbelow": True,
    "axes.labelsize": 19 * POINT,
    "axes.titlesize": 21 * POINT,
    "axes.linewidth": 1.2,
    "figure.constrained_layout.use": False,
    "font.family": [TYPEFACE, "DejaVu Sans"],
    "font.size": 19 * POINT,
    "legend.fontsize": 19 * POINT,
    "lines.linewidth": 3,
    "mathtext.fontset": "cm",
    "xtick.labelsize": 18 * POINT,
    "ytick.labelsize": 18 * POINT,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
}


def use_typeface(scratch: Path) -> None:
    """Make the deck's typeface known to matplotlib.

    Args:
        scratch: folder for font files in a format that matplotlib reads.

    Raises:
        FileNotFoundError: the typeface is not installed.
    """
    if not FONTS.is_dir():
        raise FileNotFoundError("The deck's typeface is missing: run npm ci in slides/, or `make slides`, which does.")
    scratch.mkdir(parents=True, exist_ok=True)
    for weight in WEIGHTS:
        name = f"atkinson-hyperlegible-next-latin-{weight}-normal"
        font = TTFont(FONTS / f"{name}.woff")
        font.flavor = None
        font.save(scratch / f"{name}.ttf")
        font_manager.fontManager.addfont(scratch / f"{name}.ttf")


def canvas(width: int, height: int) -> tuple[Figure, Axes]:
    """An empty canvas. Its axes are in the slide's pixels, from the upper left corner."""
    made = Figure(figsize=(width / 100, height / 100))
    axis = made.add_axes((0, 0, 1, 1))
    axis.set(xlim=(0, width), ylim=(height, 0))
    axis.set_axis_off()
    return made, axis


def plot(made: Figure, x: float, y: float, width: float, height: float, **settings: Any) -> Axes:
    """Axes for a plot on a canvas, with the upper left corner at (x, y); sizes in the slide's pixels."""
    whole_width, whole_height = made.get_size_inches() * 100
    return made.add_axes(
        (x / whole_width, 1 - (y + height) / whole_height, width / whole_width, height / whole_height), **settings
    )


def draw_text(axis: Axes, x: float, y: float, text: str, size: float = 22, **settings: Any) -> None:
    """Write text centred on (x, y), unless the settings say otherwise; size in pixels."""
    settings = {"ha": "center", "va": "center", "color": INK, "linespacing": 1.25} | settings
    axis.text(x, y, text, fontsize=size * POINT, **settings)


def draw_picture(axis: Axes, pixels: Tensor, x: float, y: float, side: float, smooth: bool = True) -> None:
    """Draw a picture (3, h, w) or (h, w, 3), from 0 to 1, with its upper left corner at (x, y) and a given height."""
    pixels = pixels.detach().cpu().clamp(0, 1)
    pixels = pixels.permute(1, 2, 0) if pixels.shape[0] == 3 else pixels
    limits = axis.get_xlim(), axis.get_ylim()
    axis.imshow(
        pixels,
        extent=(x, x + side * pixels.shape[1] / pixels.shape[0], y + side, y),
        interpolation="bicubic" if smooth else "nearest",
        aspect="auto",
        zorder=2,
    )
    axis.set(xlim=limits[0], ylim=limits[1])


def box(
    axis: Axes,
    x: float,
    y: float,
    width: float,
    height: float,
    face: ColorType = PALE_BLUE,
    edge: ColorType = BLUE,
    line: float = 2,
    corner: float = 12,
) -> None:
    """Draw a rounded box with its upper left corner at (x, y)."""
    style = f"round,pad=0,rounding_size={corner}"
    axis.add_patch(
        FancyBboxPatch((x, y), width, height, boxstyle=style, facecolor=face, edgecolor=edge, linewidth=line, zorder=1)
    )


def network(
    axis: Axes,
    x: float,
    middle: float,
    width: float,
    heights: tuple[float, float],
    name: str,
    face: str = PALE_BLUE,
    edge: str = BLUE,
    size: float = 24,
) -> None:
    """Draw a network as a trapezium that narrows or widens as its data do; `heights` are at its left and right."""
    left, right = heights
    corners = [
        (x, middle - left / 2),
        (x + width, middle - right / 2),
        (x + width, middle + right / 2),
        (x, middle + left / 2),
    ]
    axis.add_patch(
        Polygon(corners, facecolor=face, edgecolor=edge, linewidth=2, joinstyle="round", closed=True, zorder=1)
    )
    draw_text(axis, x + width / 2, middle, name, size, weight="bold", zorder=3)


def arrow(
    axis: Axes,
    start: tuple[float, float],
    end: tuple[float, float],
    colour: str = INK,
    bend: float = 0.0,
    dashed: bool = False,
    line: float = 2.4,
) -> None:
    """Draw an arrow; `bend` curves it."""
    axis.add_patch(
        FancyArrowPatch(
            start,
            end,
            arrowstyle="-|>",
            mutation_scale=20,
            color=colour,
            linewidth=line,
            linestyle=(0, (4, 2.5)) if dashed else "-",
            connectionstyle=f"arc3,rad={bend}",
            shrinkA=0,
            shrinkB=0,
            zorder=4,
        )
    )


def flow(axis: Axes, y: float, *spans: tuple[float, float], line: float = 2.4) -> None:
    """Draw horizontal arrows at one height, each from an x to another."""
    for start, end in spans:
        arrow(axis, (start, y), (end, y), line=line)


def tiles(
    axis: Axes, codes: Tensor, colours: Tensor, x: float, y: float, tile: float, size: float = 0, gap: float = 2
) -> None:
    """Draw codes (h, w) as tiles in their colours (h, w, 3), with their numbers in a given size unless it is 0."""
    for row in range(codes.shape[0]):
        for column in range(codes.shape[1]):
            colour = colours[row, column].clamp(0, 1).tolist()
            left, top = x + column * tile, y + row * tile
            corners = [(left, top), (left + tile - gap, top)]
            corners += [(left + tile - gap, top + tile - gap), (left, top + tile - gap)]
            axis.add_patch(Polygon(corners, facecolor=colour, linewidth=0, zorder=2))
            if size:
                ink = "white" if sum(colour) < 1.65 else INK
                place = (left + (tile - gap) / 2, top + (tile - gap) / 2)
                draw_text(axis, *place, str(int(codes[row, column])), size, color=ink, zorder=3)


def frame(
    axis: Axes, x: float, y: float, width: float, height: float, colour: str = VERMILION, line: float = 4
) -> None:
    """Draw an empty frame."""
    corners = [(x, y), (x + width, y), (x + width, y + height), (x, y + height)]
    axis.add_patch(Polygon(corners, facecolor="none", edgecolor=colour, linewidth=line, zorder=5))


def show_frame_only(axis: Axes) -> None:
    """Hide ticks and grid of a plot, and draw a thin frame around it."""
    axis.set(xticks=[], yticks=[])
    axis.grid(False)
    for spine in axis.spines.values():
        spine.set(visible=True, color=GREY, linewidth=1.5)


def show_baseline_only(axis: Axes, ticks: Sequence[float] = ()) -> None:
    """Hide grid and frame of a plot except for the line below."""
    axis.grid(False)
    axis.set_yticks(list(ticks))
    axis.spines["left"].set_visible(False)
    axis.spines["bottom"].set_color(GREY)


def compressed_png(picture: Image.Image, colours: int = COLOURS_STORED) -> bytes:
    """A picture as a small PNG with few colours."""
    file = io.BytesIO()
    few = picture.convert("RGB").quantize(colours, method=Image.Quantize.MEDIANCUT, kmeans=8, dither=Image.Dither.NONE)
    few.save(file, format="png", optimize=True)
    return file.getvalue()


def rendered(made: Figure) -> Image.Image:
    """A canvas as an image."""
    file = io.BytesIO()
    with mpl.rc_context(PROJECTED):
        made.savefig(file, format="png", dpi=100 * DENSITY, facecolor="white")
    return Image.open(file)


def image(pixels: Tensor) -> Image.Image:
    """A picture (3, h, w), from 0 to 1, as an image of w × h pixels."""
    return Image.fromarray((pixels.detach().cpu().clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).numpy())
