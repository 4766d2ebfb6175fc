"""The map of the whole pipeline, with the parts that a lesson is about highlighted."""

from __future__ import annotations

from collections.abc import Collection
from itertools import pairwise
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

from atelier.teaching.figures import BLUE, GREY, INK, ORANGE, figure, hide_axes


class Station(NamedTuple):
    """A part of the map.

    Attributes:
        name: in bold.
        words: under the name.
        x, y: the centre, in units of the axes.
        computes: True for a network, False for what networks pass on.
    """

    name: str
    words: str
    x: float
    y: float
    computes: bool


WIDTH, SMALL_WIDTH, HEIGHT = 1.36, 1.12, 0.62
TOP, BOTTOM = 1.55, 0.35

STATIONS = (
    Station("prompt", "“the Eiffel tower …”", 0.0, TOP, False),
    Station("BART", "translates", 1.75, TOP, True),
    Station("codes", "a grid of words", 3.5, TOP, False),
    Station("decoder", "VQ-GAN’s, draws", 5.25, TOP, True),
    Station("pictures", "nine of them", 7.0, TOP, False),
    Station("CLIP", "ranks", 8.75, TOP, True),
    Station("GAN", "draws", 0.0, BOTTOM, True),
    Station("AE", "compresses", 1.3125, BOTTOM, True),
    Station("VAE", "fills the gaps", 2.625, BOTTOM, True),
    Station("VQ-VAE", "speaks in codes", 3.9375, BOTTOM, True),
    Station("VQ-GAN", "sharpens", 5.25, BOTTOM, True),
)
PLACES = {station.name: station for station in STATIONS}
PIPELINE = ("prompt", "BART", "codes", "decoder", "pictures", "CLIP")
LINEAGE = ("GAN", "AE", "VAE", "VQ-VAE", "VQ-GAN")


def pipeline_map(highlighted: Collection[str] = ()) -> Figure:
    """Draw the pipeline from prompt to ranked pictures, and below it the networks that lead to the VQ-GAN.

    Args:
        highlighted: names of STATIONS.

    Raises:
        ValueError: a name is not on the map.
    """
    unknown = sorted(set(highlighted) - PLACES.keys())
    if unknown:
        raise ValueError(f"{', '.join(unknown)} is not on the map; the map has {', '.join(PLACES)}.")
    made, axis = figure(9.4, 2.1)
    hide_axes(axis)
    axis.set(xlim=(-0.78, 9.53), ylim=(-0.12, 2.02))
    for row in (PIPELINE, LINEAGE):
        for before, after in pairwise(row):
            _arrow(axis, PLACES[before], PLACES[after])
    _arrow_upwards(axis, PLACES["VQ-GAN"], PLACES["decoder"])
    for station in STATIONS:
        _draw(axis, station, station.name in highlighted)
    axis.text(7.0, BOTTOM, "part 2: how a network\nlearns to draw", fontsize=8.5, color="#6B7280", va="center")
    return made


def describe(highlighted: Collection[str] = ()) -> str:
    """The map in words, for its alternative text."""
    words = (
        "Map of the machine: a prompt goes to BART, which translates it into codes; the VQ-GAN's decoder turns codes "
        "into pictures; CLIP ranks them. Below, the line that leads to the VQ-GAN: GAN, AE, VAE, VQ-VAE, VQ-GAN."
    )
    here = [station.name for station in STATIONS if station.name in highlighted]
    return f"{words} Lit: {', '.join(here)}." if here else words


def _draw(axis: Axes, station: Station, highlighted: bool) -> None:
    width = WIDTH if station.y == TOP else SMALL_WIDTH
    face = ORANGE if highlighted else ("#E8F1F8" if station.computes else "white")
    edge = "#9A6700" if highlighted else (BLUE if station.computes else GREY)
    axis.add_patch(
        FancyBboxPatch(
            (station.x - width / 2, station.y - HEIGHT / 2),
            width,
            HEIGHT,
            boxstyle="round,pad=0,rounding_size=0.12",
            facecolor=face,
            edgecolor=edge,
            linewidth=2.2 if highlighted else 1.1,
            linestyle="-" if station.computes else (0, (3, 2)),
        )
    )
    axis.text(station.x, station.y + 0.10, station.name, ha="center", va="center", fontsize=10.5, weight="bold")
    axis.text(station.x, station.y - 0.15, station.words, ha="center", va="center", fontsize=7.3, color=INK)


def _arrow(axis: Axes, before: Station, after: Station) -> None:
    half = (WIDTH if before.y == TOP else SMALL_WIDTH) / 2
    start, end = (before.x + half + 0.03, before.y), (after.x - half - 0.03, after.y)
    axis.add_patch(FancyArrowPatch(start, end, arrowstyle="-|>", mutation_scale=9, color=INK, shrinkA=0, shrinkB=0))


def _arrow_upwards(axis: Axes, below: Station, above: Station) -> None:
    start, end = (below.x, below.y + HEIGHT / 2 + 0.03), (above.x, above.y - HEIGHT / 2 - 0.03)
    axis.add_patch(
        FancyArrowPatch(
            start, end, arrowstyle="-|>", mutation_scale=9, color=GREY, linestyle=(0, (3, 2)), shrinkA=0, shrinkB=0
        )
    )
