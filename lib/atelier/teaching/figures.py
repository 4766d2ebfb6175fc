"""The figures of the lessons: one palette, one style, and an alternative text for each."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import matplotlib as mpl
import torch
import torch.nn.functional as F
from cycler import cycler
from IPython.display import display
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from atelier.evaluation.intervals import Estimate

# Okabe and Ito's palette, whose colours can also be told apart with colour blindness (jfly.uni-koeln.de/color).
BLUE, ORANGE, GREEN, VERMILION = "#0072B2", "#E69F00", "#009E73", "#D55E00"
SKY, PURPLE, YELLOW = "#56B4E9", "#CC79A7", "#F0E442"
INK, GREY = "#1F2937", "#9CA3AF"
COLOURS = (BLUE, ORANGE, GREEN, VERMILION, PURPLE, SKY, YELLOW, GREY)

STYLE: Any = {
    "axes.edgecolor": GREY,
    "axes.grid": True,
    "axes.labelcolor": INK,
    "axes.prop_cycle": cycler(color=COLOURS),
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "figure.constrained_layout.use": True,
    "font.size": 10,
    "grid.color": "#E5E7EB",
    "image.interpolation": "nearest",
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
}
PIXELS_PER_INCH = 128  # stored; more than the browser's 96, so that lines stay sharp on dense screens
SCREEN_PIXELS_PER_INCH = 96
DARK = 0.55  # on colours whose mean is below this, text is white


class DescribedPicture:
    """A PNG with its alternative text. A notebook shows both; a terminal shows the text.

    Args:
        png: the file's bytes.
        alt: what the picture shows.
        width: in the browser's pixels.

    Raises:
        ValueError: alt has fewer than three words.
    """

    def __init__(self, png: bytes, alt: str, width: int):
        if len(alt.split()) < 3:
            raise ValueError(f"The alternative text is {alt!r}: say in a few words what the picture shows.")
        self.png, self.alt, self.width = png, alt, width

    def _repr_mimebundle_(self, **_: object) -> tuple[dict[str, Any], dict[str, Any]]:
        return {"image/png": self.png, "text/plain": self.alt}, {"image/png": {"alt": self.alt, "width": self.width}}


def figure(
    width: float = 8.0, height: float = 3.0, rows: int = 1, columns: int = 1, **options: Any
) -> tuple[Figure, Any]:
    """A figure in the course's style.

    Unlike `plt.subplots`, pyplot keeps no reference to the figure, so it need not be closed.

    Args:
        width, height: in inches.
        rows, columns: the numbers of rows and columns of axes.
        **options: the options of matplotlib's `Figure.subplots`.

    Returns:
        The figure, and its axes as `plt.subplots` returns them.
    """
    with mpl.rc_context(STYLE):
        made = Figure(figsize=(width, height), layout="constrained")
        return made, made.subplots(rows, columns, **options)


def show(picture: Figure | Image.Image, alt: str) -> None:
    """Display a figure or an image with its alternative text.

    Args:
        picture: a figure of matplotlib, or an image of Pillow.
        alt: what it shows, in a sentence.

    Raises:
        ValueError: alt has fewer than three words.
    """
    display(with_alt_text(picture, alt))


def with_alt_text(picture: Figure | Image.Image, alt: str) -> DescribedPicture:
    """A figure or an image as a PNG with its alternative text; see `show`."""
    file = io.BytesIO()
    if isinstance(picture, Figure):
        with mpl.rc_context(STYLE):
            picture.savefig(file, format="png", dpi=PIXELS_PER_INCH, facecolor="white", metadata={"Software": None})
        return DescribedPicture(file.getvalue(), alt, round(picture.get_size_inches()[0] * SCREEN_PIXELS_PER_INCH))
    picture.save(file, format="png")
    return DescribedPicture(file.getvalue(), alt, picture.width)


def sheet(pictures: Tensor, columns: int, scale: int = 2, gap: int = 2) -> Image.Image:
    """Pictures as one image, row by row on white, each pixel enlarged to a square.

    Args:
        pictures: (n, 3, h, w), clipped to [0, 1].
        columns: pictures in a row.
        scale: side of the square that a pixel becomes.
        gap: between pictures, in pixels of the sheet.
    """
    number, _, height, width = pictures.shape
    rows = -(-number // columns)
    high, wide = height * scale + gap, width * scale + gap
    paper = Image.new("RGB", (columns * wide - gap, rows * high - gap), "white")
    pixels = (pictures.detach().cpu().clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).numpy()
    for place, picture in enumerate(pixels):
        large = Image.fromarray(picture).resize((width * scale, height * scale), Image.Resampling.NEAREST)
        paper.paste(large, (place % columns * wide, place // columns * high))
    return paper


def posterize(pictures: Tensor, side: int | None = None, shades: int = 32) -> Tensor:
    """Reduce pictures to few shades of each colour, which can hardly be seen and makes stored notebooks smaller.

    Args:
        pictures: (…, 3, h, w), clipped to [0, 1].
        side: if given, larger pictures are shrunk to side × side pixels.
        shades: the number of shades of each colour.

    Returns:
        (…, 3, h, w), or (…, 3, side, side) if they were shrunk; on the CPU.
    """
    pixels = pictures.detach().float()
    if side is not None and pixels.shape[-1] > side:
        pixels = F.interpolate(pixels.reshape(-1, *pixels.shape[-3:]), (side, side), mode="area").view(
            *pixels.shape[:-2], side, side
        )
    return (pixels.cpu().clamp(0, 1) * (shades - 1)).round() / (shades - 1)


@torch.no_grad()
def code_colours(decode: Callable[[Tensor], Tensor], cells: Tensor) -> Tensor:
    """The colour that a decoder paints for each code or vector when it fills the whole grid.

    Args:
        decode: grids of codes (m, 3, 3), or of vectors (m, width, 3, 3), to pictures (m, 3, 3 · s, 3 · s).
        cells: codes (m,), or vectors (m, width).

    Returns:
        Colours (m, 3), from 0 to 1, on the CPU: the mean of the middle cell, which has equal cells on all sides.
    """
    painted = decode(cells[..., None, None].expand(*cells.shape, 3, 3).contiguous())
    side = painted.shape[-1] // 3
    return painted[:, :, side:-side, side:-side].mean((2, 3)).clamp(0, 1).cpu()


def draw_tiles(
    axis: Axes, codes: Tensor, palette: Tensor, x: float = 0, y: float = 0, tile: float = 1, size: float = 7
) -> None:
    """Draw a grid of codes as tiles in their colours, with their numbers.

    Args:
        axis: drawn into; x, y and tile are in its units.
        codes: (h, w).
        palette: the colours (codes, 3) of the whole codebook, of `code_colours`.
        x, y: the lower left corner.
        tile: side of a tile.
        size: the size of the numbers, in points.
    """
    codes = codes.cpu()
    rows, columns = codes.shape
    colours = palette[codes]  # (h, w, 3)
    axis.imshow(colours, extent=(x, x + columns * tile, y, y + rows * tile), interpolation="nearest")
    for row, line in enumerate(codes.tolist()):
        for column, code in enumerate(line):
            ink = "white" if colours[row, column].mean() < DARK else INK
            place = x + (column + 0.5) * tile, y + (rows - row - 0.52) * tile
            axis.text(*place, str(code), color=ink, ha="center", va="center", fontsize=size)


def picture_grid(
    pictures: Tensor,
    columns: int,
    titles: Sequence[str] = (),
    rows: Sequence[str] = (),
    title: str = "",
    inches: float = 0.9,
) -> Figure:
    """Pictures in a grid, with titles above the pictures, names beside the rows, and a title above them all.

    Args:
        pictures: (n, 3, h, w), clipped to [0, 1].
        columns: pictures in a row.
        titles: one for each picture, or one for each column; may be empty.
        rows: a name for each row; may be empty.
        title: above them all; may be empty.
        inches: side of a picture.

    Raises:
        ValueError: the number of titles is neither that of the pictures nor that of the columns, or the number of row
            names is not that of the rows.
    """
    count = -(-len(pictures) // columns)
    if titles and len(titles) not in (len(pictures), columns):
        raise ValueError(f"{len(titles)} titles for {len(pictures)} pictures in {columns} columns: give one for each.")
    if rows and len(rows) != count:
        raise ValueError(f"{len(rows)} row names for {count} rows: give one for each.")
    per_row = len(titles) > columns
    height = count * (inches + 0.22 * per_row) + 0.25 * bool(titles and not per_row) + 0.35 * bool(title)
    made, axes = figure(columns * inches + 1.1 * bool(rows), height, count, columns, squeeze=False)
    pixels = pictures.detach().cpu().clamp(0, 1).permute(0, 2, 3, 1).numpy()
    for place, axis in enumerate(axes.flat):
        hide_axes(axis)
        if place < len(pictures):
            axis.imshow(pixels[place], interpolation="nearest")  # for notebooks that do not set the style
        if place < len(titles):
            axis.set_title(titles[place], loc="center", fontsize=9, fontweight="normal", pad=3)
    for axis, name in zip(axes[:, 0], rows, strict=False):
        axis.text(-0.12, 0.5, name, transform=axis.transAxes, ha="right", va="center", fontsize=9)
    if title:
        made.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold")
    return made


def hide_axes(axis: Axes) -> None:
    """Hide ticks, grid and frame, so that only what is drawn can be seen."""
    axis.set(xticks=[], yticks=[])
    axis.grid(False)
    for spine in axis.spines.values():
        spine.set_visible(False)


def draw_estimates(
    axis: Axes, places: Sequence[float], estimates: Sequence[Estimate], scale: float = 1.0, **style: Any
) -> None:
    """Draw estimates as marks with their 95 % intervals as error bars.

    Args:
        axis: to draw on.
        places: on the horizontal axis, one for each estimate.
        estimates: what was measured.
        scale: values are multiplied by it; 100 for shares in per cent.
        **style: of matplotlib's `Axes.errorbar`.
    """
    values = [scale * each.value for each in estimates]
    reach = [
        [scale * (each.value - each.low) for each in estimates],
        [scale * (each.high - each.value) for each in estimates],
    ]
    look: dict[str, Any] = {"marker": "o", "markersize": 4, "capsize": 2.5, "elinewidth": 1.2, **style}
    axis.errorbar(places, values, reach, **look)


def curves(
    lines: Mapping[str, Sequence[float]],
    x: Sequence[float] | None = None,
    xlabel: str = "step",
    ylabel: str = "",
    title: str = "",
    width: float = 7.0,
    height: float = 2.6,
    log: bool = False,
) -> Figure:
    """Curves over a common axis, each with its name at the right end instead of a legend.

    Args:
        lines: name → values.
        x: the x coordinates of the values; None: 0, 1, 2, ….
        xlabel, ylabel, title: with units.
        width, height: in inches.
        log: make the axis of the values logarithmic.
    """
    made, axis = figure(width, height)
    for colour, (name, values) in zip(COLOURS, lines.items(), strict=False):
        places = list(x) if x is not None else list(range(len(values)))
        axis.plot(places, values, color=colour)
        axis.annotate(
            name, (places[-1], values[-1]), (5, 0), textcoords="offset points", color=colour, va="center", fontsize=9
        )
    axis.set(xlabel=xlabel, ylabel=ylabel)
    axis.set_title(title)
    if log:
        axis.set_yscale("log")
    return made
