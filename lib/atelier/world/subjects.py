"""The subjects: what a scene shows.

Each function paints one subject with a brush whose plane is the subject's own: the subject fills the square from -1 to
1 and stands on y = -1. `c` is its colour, (n, 3). Large simple shapes come first, then details that can still be seen
at 64 pixels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from atelier.world.inks import Brush, brighter, darker
from atelier.world.shapes import blend, intersection, subtract, union

COLOURS: dict[str, tuple[float, float, float]] = {
    "red": (0.86, 0.12, 0.13),
    "orange": (0.98, 0.53, 0.07),
    "yellow": (0.99, 0.85, 0.14),
    "green": (0.15, 0.62, 0.22),
    "blue": (0.13, 0.32, 0.88),
    "purple": (0.52, 0.18, 0.70),
    "brown": (0.46, 0.27, 0.14),
    "white": (0.97, 0.97, 0.96),
    "pink": (0.99, 0.56, 0.74),
    "black": (0.12, 0.12, 0.14),
    "grey": (0.56, 0.57, 0.60),
    "turquoise": (0.10, 0.74, 0.73),
}

DARK, CREAM, WOOD, LEAF = (0.12, 0.11, 0.14), (0.97, 0.92, 0.80), (0.50, 0.32, 0.18), (0.20, 0.58, 0.24)
GLASS, STEEL, GOLD, WHITE = (0.72, 0.88, 0.96), (0.62, 0.65, 0.70), (0.98, 0.80, 0.22), (0.97, 0.97, 0.96)


@dataclass(frozen=True)
class Subject:
    """A subject of the vocabulary.

    Attributes:
        paint: paints it.
        noun: with its article, "a cat", "the Eiffel tower".
        natural: its natural colour, which captions may leave out.
        floats: whether it hangs in the air.
        dish: for food, the dish that has the scene's colour: "in a bowl" becomes "in a blue bowl".
    """

    paint: Callable[[Brush, Tensor], None]
    noun: str
    natural: str
    floats: bool = False
    dish: str = ""


SUBJECTS: dict[str, Subject] = {}


def subject(noun: str, natural: str, floats: bool = False, dish: str = ""):
    """Register the decorated painter under its noun without the article."""

    def register(paint: Callable[[Brush, Tensor], None]) -> Callable[[Brush, Tensor], None]:
        SUBJECTS[noun.removeprefix("an ").removeprefix("a ").removeprefix("the ")] = Subject(
            paint, noun, natural, floats, dish
        )
        return paint

    return register


@subject("the Eiffel tower", natural="brown")
def eiffel_tower(b: Brush, c: Tensor) -> None:
    """Four legs that sweep up into a spire, two platforms."""
    half = 0.07 + 0.56 * torch.exp(-1.7 * (b.y + 1))
    silhouette = intersection((b.x.abs() - half) * 0.8, b.below(0.92), b.above(-1.0))
    arch = intersection(b.ellipse(0, -1.02, 0.36, 0.46), b.above(-1.2))
    gap = intersection(b.x.abs() - (half - 0.11), b.above(-0.42), b.below(0.02))
    b.fill(union(subtract(silhouette, arch, gap), b.segment(0, 0.85, 0, 1.0, 0.025)), c)
    b.fill(b.box(0, -0.48, 0.42, 0.055), darker(c, 0.25))
    b.fill(b.box(0, 0.06, 0.20, 0.045), darker(c, 0.25))


@subject("a strawberry", natural="red")
def strawberry(b: Brush, c: Tensor) -> None:
    """A heart of fruit, seeds, a crown of leaves."""
    shoulders = blend(b.circle(-0.36, 0.12, 0.46), b.circle(0.36, 0.12, 0.46), 0.3)
    body = blend(shoulders, b.polygon((-0.66, 0.0), (0.0, -1.02), (0.66, 0.0)) - 0.04, 0.35)
    b.fill(body, c)
    seeds = b.repeat(0.40, 0.32).ellipse(0, 0, 0.045, 0.065)
    b.fill(intersection(seeds, body + 0.16), contrasting(c), line=0)
    leaves = union(
        *(
            b.ellipse(0.26 * dx, 0.56 + dy, 0.30, 0.12, turn)
            for dx, dy, turn in ((-1.3, 0.02, 0.35), (1.3, 0.02, -0.35), (-0.6, -0.10, 0.9), (0.6, -0.10, -0.9))
        )
    )
    b.fill(union(leaves, b.segment(0, 0.58, 0.06, 0.92, 0.06)), LEAF)


def contrasting(c: Tensor) -> Tensor:
    """A colour (n, 3) for details on a body of colour c (n, 3): light on dark, dark on light."""
    bright = (c.mean(1, keepdim=True) > 0.75).float()
    return bright * darker(c, 0.45) + (1 - bright) * brighter(c, 0.65)


@subject("the food of china", natural="blue", dish="in a bowl")
def food_of_china(b: Brush, c: Tensor) -> None:
    """A bowl of noodles with greens and an egg, chopsticks across."""
    b.fill(b.segment(0.15, 0.30, 0.80, 0.98, 0.045), WOOD)
    b.fill(b.segment(0.32, 0.22, 0.98, 0.84, 0.045), WOOD)
    noodles = b.ellipse(0, -0.02, 0.78, 0.42)
    b.fill(noodles, (0.97, 0.80, 0.42))
    strands = union(*(b.ring(cx, 0.02, 0.26, 0.05) for cx in (-0.38, 0.05, 0.42)))
    b.fill(intersection(strands, noodles + 0.06), (0.85, 0.60, 0.22), line=0)
    b.fill(union(b.ellipse(-0.45, 0.24, 0.22, 0.10, 0.5), b.ellipse(-0.18, 0.34, 0.20, 0.09, -0.4)), LEAF)
    b.fill(b.ellipse(0.22, 0.26, 0.21, 0.15), WHITE)
    b.fill(b.circle(0.22, 0.27, 0.085), (0.99, 0.66, 0.12), line=0)
    bowl = intersection(b.ellipse(0, -0.06, 0.95, 0.86), b.below(-0.06))
    b.fill(union(bowl, b.box(0, -0.92, 0.38, 0.08)), c)
    b.fill(b.box(0, -0.10, 0.99, 0.075, r=0.07), brighter(c, 0.30))


@subject("a house", natural="white")
def house(b: Brush, c: Tensor) -> None:
    """Walls, a dark roof, a chimney, a door and two windows."""
    b.fill(b.box(0.46, 0.56, 0.11, 0.30), (0.45, 0.30, 0.28))
    b.fill(b.box(0, -0.46, 0.74, 0.54), c)
    b.fill(b.polygon((-0.98, 0.0), (0.98, 0.0), (0.0, 0.92)), (0.36, 0.25, 0.30))
    b.fill(b.box(0, -0.66, 0.17, 0.34), (0.30, 0.18, 0.12))
    b.fill(union(b.box(-0.45, -0.40, 0.15, 0.17), b.box(0.45, -0.40, 0.15, 0.17)), (1.0, 0.90, 0.55))


@subject("a sailing boat", natural="white")
def sailing_boat(b: Brush, c: Tensor) -> None:
    """Two sails of the boat's colour over a wooden hull."""
    b.fill(b.segment(0.0, -0.6, 0.0, 0.98, 0.035), WOOD)
    b.fill(b.polygon((-0.08, -0.44), (-0.08, 0.92), (-0.86, -0.44)), c)
    b.fill(b.polygon((0.08, -0.44), (0.74, -0.44), (0.08, 0.72)), brighter(c, 0.35))
    b.fill(b.polygon((-0.98, -0.54), (-0.62, -0.98), (0.62, -0.98), (0.98, -0.54)), (0.40, 0.22, 0.14))
    b.fill(b.box(0, -0.58, 0.97, 0.05), CREAM, line=0.5)


@subject("a cat", natural="orange")
def cat(b: Brush, c: Tensor) -> None:
    """A cat that sits and looks at you."""
    b.fill(union(b.segment(0.40, -0.86, 0.80, -0.62, 0.10), b.segment(0.80, -0.62, 0.72, -0.10, 0.10)), darker(c, 0.15))
    b.fill(blend(b.ellipse(0, -0.56, 0.54, 0.46), b.ellipse(0, -0.30, 0.38, 0.46), 0.15), c)
    b.fill(b.ellipse(0, -0.58, 0.24, 0.32), brighter(c, 0.45), line=0)
    ears = union(
        b.polygon((-0.56, 0.36), (-0.10, 0.66), (-0.50, 1.0)), b.polygon((0.10, 0.66), (0.56, 0.36), (0.50, 1.0))
    )
    b.fill(union(ears, b.ellipse(0, 0.34, 0.58, 0.46)), c)
    b.fill(union(b.ellipse(-0.24, 0.40, 0.13, 0.15), b.ellipse(0.24, 0.40, 0.13, 0.15)), (0.86, 0.96, 0.50), line=0.6)
    b.fill(union(b.ellipse(-0.24, 0.39, 0.055, 0.12), b.ellipse(0.24, 0.39, 0.055, 0.12)), DARK, line=0)
    b.fill(b.polygon((-0.09, 0.20), (0.0, 0.10), (0.09, 0.20)), (0.95, 0.48, 0.52), line=0)
    b.fill(union(b.ellipse(-0.20, -0.94, 0.17, 0.09), b.ellipse(0.20, -0.94, 0.17, 0.09)), brighter(c, 0.25))


@subject("a mushroom", natural="red")
def mushroom(b: Brush, c: Tensor) -> None:
    """A cap with white dots on a cream stem."""
    b.fill(blend(b.box(0, -0.45, 0.22, 0.55, r=0.15), b.ellipse(0, -0.86, 0.32, 0.15), 0.15), CREAM)
    cap = intersection(b.ellipse(0, 0.02, 0.98, 0.92), b.above(-0.02))
    b.fill(cap, c)
    dots = union(
        b.circle(0.0, 0.58, 0.17), b.circle(-0.50, 0.30, 0.15), b.circle(0.50, 0.30, 0.15), b.circle(-0.05, 0.16, 0.11)
    )
    b.fill(intersection(dots, cap + 0.04), contrasting(c), line=0)


@subject("a hot-air balloon", natural="red", floats=True)
def hot_air_balloon(b: Brush, c: Tensor) -> None:
    """A striped envelope over a basket."""
    b.fill(
        union(b.segment(-0.34, -0.2, -0.14, -0.75, 0.025), b.segment(0.34, -0.2, 0.14, -0.75, 0.025)), WOOD, line=0.5
    )
    envelope = blend(
        b.circle(0, 0.28, 0.70), b.polygon((-0.50, -0.05), (-0.16, -0.52), (0.16, -0.52), (0.50, -0.05)), 0.12
    )
    b.fill(envelope, c)
    stripes = subtract(b.ellipse(0, 0.20, 0.46, 0.85), b.ellipse(0, 0.20, 0.18, 0.85))
    b.fill(intersection(stripes, envelope + 0.04), brighter(c, 0.50), line=0)
    b.fill(b.box(0, -0.85, 0.20, 0.15, r=0.04), WOOD)


@subject("a car", natural="red")
def car(b: Brush, c: Tensor) -> None:
    """A small round car, seen from the side."""
    b.fill(b.polygon((-0.66, -0.28), (0.62, -0.28), (0.34, 0.34), (-0.42, 0.34)) - 0.08, c)
    b.fill(
        union(
            b.polygon((-0.50, -0.24), (-0.06, -0.24), (-0.06, 0.26), (-0.36, 0.26)),
            b.polygon((0.04, -0.24), (0.48, -0.24), (0.29, 0.26), (0.04, 0.26)),
        ),
        GLASS,
        line=0.6,
    )
    b.fill(b.box(0, -0.46, 0.98, 0.28, r=0.18), c)
    b.fill(b.ellipse(0.88, -0.38, 0.09, 0.10), (1.0, 0.93, 0.60), line=0.5)
    wheels = union(b.circle(-0.52, -0.72, 0.28), b.circle(0.52, -0.72, 0.28))
    b.fill(wheels, DARK)
    b.fill(wheels + 0.15, (0.80, 0.80, 0.82), line=0)


@subject("a butterfly", natural="orange", floats=True)
def butterfly(b: Brush, c: Tensor) -> None:
    """Four wings, spread."""
    b.fill(union(b.ellipse(-0.42, -0.42, 0.36, 0.44, 0.5), b.ellipse(0.42, -0.42, 0.36, 0.44, -0.5)), darker(c, 0.22))
    upper = union(b.ellipse(-0.52, 0.30, 0.44, 0.56, 0.6), b.ellipse(0.52, 0.30, 0.44, 0.56, -0.6))
    b.fill(upper, c)
    b.fill(
        union(
            b.circle(-0.60, 0.40, 0.17),
            b.circle(0.60, 0.40, 0.17),
            b.circle(-0.44, -0.50, 0.12),
            b.circle(0.44, -0.50, 0.12),
        ),
        contrasting(c),
        line=0,
    )
    b.fill(union(b.segment(0, 0.5, -0.22, 0.92, 0.03), b.segment(0, 0.5, 0.22, 0.92, 0.03)), DARK, line=0)
    b.fill(b.ellipse(0, -0.02, 0.11, 0.62), DARK)


@subject("a tree", natural="green")
def tree(b: Brush, c: Tensor) -> None:
    """A round crown on a trunk."""
    b.fill(blend(b.box(0, -0.60, 0.13, 0.40), b.ellipse(0, -0.96, 0.28, 0.08), 0.15), WOOD)
    crown = union(
        b.circle(-0.42, 0.02, 0.40), b.circle(0.42, 0.02, 0.40), b.circle(0, 0.44, 0.50), b.circle(0, -0.02, 0.42)
    )
    b.fill(crown, c)
    b.fill(
        union(b.circle(-0.22, 0.52, 0.15), b.circle(0.34, 0.14, 0.13), b.circle(-0.40, 0.02, 0.11)),
        brighter(c, 0.3),
        line=0,
    )


@subject("a flower", natural="yellow")
def flower(b: Brush, c: Tensor) -> None:
    """Eight petals around an eye, two leaves."""
    b.fill(b.segment(0, -0.98, 0, 0.1, 0.06), LEAF)
    b.fill(union(b.ellipse(-0.30, -0.66, 0.32, 0.12, -0.5), b.ellipse(0.30, -0.60, 0.32, 0.12, 0.5)), LEAF)
    b.fill(b.star(0, 0.36, 0.72, points=8, waist=0.55) - 0.05, c)
    b.fill(b.circle(0, 0.36, 0.23), (0.45, 0.26, 0.12))
    b.fill(b.circle(0, 0.36, 0.12), GOLD, line=0)


@subject("a rocket", natural="white")
def rocket(b: Brush, c: Tensor) -> None:
    """A hull with a window, fins and a flame."""
    b.fill(b.polygon((-0.20, -0.55), (0.0, -1.0), (0.20, -0.55)), (1.0, 0.62, 0.12))
    fins = union(
        b.polygon((-0.66, -0.72), (-0.30, -0.50), (-0.30, 0.0)), b.polygon((0.66, -0.72), (0.30, 0.0), (0.30, -0.50))
    )
    b.fill(fins, darker(c, 0.4))
    hull = intersection(b.circle(-0.62, 0.0, 1.0), b.circle(0.62, 0.0, 1.0), b.above(-0.58))
    b.fill(union(hull, b.polygon((-0.20, 0.60), (0.20, 0.60), (0.0, 1.0))), c)
    b.fill(b.circle(0, 0.20, 0.19), GLASS)
    b.fill(b.box(0, -0.28, 0.36, 0.06), darker(c, 0.4), line=0)


@subject("a fish", natural="orange", floats=True)
def fish(b: Brush, c: Tensor) -> None:
    """A fish that swims to the left."""
    b.fill(b.polygon((0.40, 0.0), (0.98, -0.50), (0.98, 0.50)), darker(c, 0.2))
    b.fill(
        union(
            b.polygon((-0.25, 0.35), (0.40, 0.30), (0.20, 0.78)),
            b.polygon((-0.10, -0.35), (0.10, -0.70), (0.35, -0.28)),
        ),
        darker(c, 0.2),
    )
    body = b.ellipse(-0.16, 0.0, 0.78, 0.50)
    b.fill(body, c)
    stripes = union(b.box(-0.10, 0, 0.08, 0.6), b.box(0.26, 0, 0.07, 0.6))
    b.fill(intersection(stripes, body + 0.03), contrasting(c), line=0)
    b.fill(b.circle(-0.58, 0.12, 0.13), WHITE, line=0.5)
    b.fill(b.circle(-0.60, 0.12, 0.065), DARK, line=0)


@subject("a bird", natural="blue")
def bird(b: Brush, c: Tensor) -> None:
    """A plump songbird on two thin legs."""
    b.fill(
        union(b.segment(-0.12, -0.95, -0.12, -0.5, 0.035), b.segment(0.16, -0.95, 0.16, -0.5, 0.035)),
        (0.85, 0.50, 0.15),
        line=0.5,
    )
    b.fill(b.polygon((0.40, -0.30), (0.98, 0.18), (0.75, 0.35), (0.30, 0.05)), darker(c, 0.3))
    b.fill(blend(b.ellipse(0.05, -0.18, 0.60, 0.48, -0.2), b.circle(-0.32, 0.42, 0.36), 0.2), c)
    b.fill(b.ellipse(-0.10, -0.34, 0.34, 0.26), brighter(c, 0.6), line=0)
    b.fill(b.ellipse(0.24, -0.08, 0.36, 0.24, 0.3), darker(c, 0.25))
    b.fill(b.polygon((-0.98, 0.36), (-0.62, 0.24), (-0.62, 0.50)), (1.0, 0.68, 0.15))
    b.fill(b.circle(-0.40, 0.50, 0.07), DARK, line=0)


@subject("a dog", natural="brown")
def dog(b: Brush, c: Tensor) -> None:
    """A dog that sits, with hanging ears and a tongue."""
    b.fill(b.segment(0.44, -0.70, 0.86, -0.34, 0.09), c)
    b.fill(blend(b.ellipse(0, -0.58, 0.52, 0.44), b.ellipse(0, -0.28, 0.36, 0.40), 0.15), c)
    b.fill(union(b.ellipse(-0.22, -0.92, 0.20, 0.11), b.ellipse(0.22, -0.92, 0.20, 0.11)), brighter(c, 0.45))
    b.fill(b.box(0, 0.42, 0.46, 0.44, r=0.34), c)
    b.fill(union(b.ellipse(-0.54, 0.36, 0.17, 0.42, 0.2), b.ellipse(0.54, 0.36, 0.17, 0.42, -0.2)), darker(c, 0.4))
    b.fill(b.ellipse(0, 0.18, 0.30, 0.23), brighter(c, 0.55))
    b.fill(b.ellipse(0.02, -0.04, 0.09, 0.15), (0.93, 0.40, 0.45), line=0.5)
    b.fill(b.ellipse(0, 0.28, 0.13, 0.09), DARK, line=0)
    b.fill(union(b.circle(-0.20, 0.52, 0.07), b.circle(0.20, 0.52, 0.07)), DARK, line=0)


@subject("a rabbit", natural="white")
def rabbit(b: Brush, c: Tensor) -> None:
    """Two long ears over a round face."""
    ears = union(b.ellipse(-0.22, 0.64, 0.15, 0.42, 0.15), b.ellipse(0.22, 0.64, 0.15, 0.42, -0.15))
    b.fill(ears, c)
    b.fill(ears + 0.08, (0.96, 0.66, 0.70), line=0)
    b.fill(b.circle(0.48, -0.72, 0.16), brighter(c, 0.5))
    b.fill(b.ellipse(0, -0.60, 0.46, 0.40), c)
    b.fill(b.ellipse(0, 0.06, 0.44, 0.38), c)
    b.fill(b.ellipse(0, -0.62, 0.24, 0.26), brighter(c, 0.5), line=0)
    b.fill(union(b.circle(-0.17, 0.12, 0.07), b.circle(0.17, 0.12, 0.07)), DARK, line=0)
    b.fill(b.ellipse(0, -0.05, 0.08, 0.06), (0.93, 0.42, 0.50), line=0)


@subject("a robot", natural="grey")
def robot(b: Brush, c: Tensor) -> None:
    """A box on a box, with an antenna and two lit eyes."""
    b.fill(union(b.segment(0, 0.7, 0, 0.90, 0.03), b.circle(0, 0.92, 0.08)), (0.90, 0.25, 0.20), line=0.7)
    b.fill(union(b.box(-0.24, -0.84, 0.13, 0.16), b.box(0.24, -0.84, 0.13, 0.16)), darker(c, 0.4))
    b.fill(union(b.segment(-0.5, -0.15, -0.78, -0.5, 0.09), b.segment(0.5, -0.15, 0.78, -0.5, 0.09)), darker(c, 0.25))
    b.fill(b.box(0, -0.32, 0.50, 0.40, r=0.06), c)
    b.fill(b.box(0, 0.42, 0.42, 0.30, r=0.08), c)
    b.fill(b.box(0, 0.44, 0.32, 0.16, r=0.05), DARK, line=0)
    b.fill(union(b.circle(-0.15, 0.46, 0.075), b.circle(0.15, 0.46, 0.075)), (0.55, 0.95, 1.0), line=0)
    b.fill(b.box(0, -0.30, 0.26, 0.18, r=0.03), brighter(c, 0.5), line=0.5)
    b.fill(union(b.circle(-0.12, -0.28, 0.05), b.circle(0.12, -0.28, 0.05)), (0.95, 0.35, 0.25), line=0)


@subject("an umbrella", natural="purple")
def umbrella(b: Brush, c: Tensor) -> None:
    """An open umbrella with scallops and a crook."""
    hook = intersection(b.ring(0.17, -0.80, 0.17, 0.08), b.below(-0.80))
    b.fill(union(b.segment(0, 0.8, 0, -0.80, 0.04), hook), WOOD)
    dome = intersection(b.circle(0, -0.02, 0.96), b.above(-0.02))
    scallops = union(*(b.ellipse(cx, -0.04, 0.24, 0.15) for cx in (-0.72, -0.24, 0.24, 0.72)))
    roof = subtract(dome, scallops)
    b.fill(roof, c)
    ribs = subtract(b.ellipse(0, -0.10, 0.48, 1.02), b.ellipse(0, -0.10, 0.16, 1.02))
    b.fill(intersection(ribs, roof + 0.02), brighter(c, 0.35), line=0)


@subject("a teapot", natural="blue")
def teapot(b: Brush, c: Tensor) -> None:
    """A belly, a spout, a handle, a lid."""
    b.fill(b.ring(0.62, -0.28, 0.30, 0.12), darker(c, 0.2))
    b.fill(b.polygon((-0.98, 0.20), (-0.86, 0.28), (-0.40, -0.10), (-0.45, -0.55)), darker(c, 0.1))
    b.fill(b.ellipse(0, -0.36, 0.68, 0.60), c)
    b.fill(union(b.ellipse(0, 0.24, 0.36, 0.13), b.circle(0, 0.44, 0.11)), brighter(c, 0.25))
    b.fill(b.box(0, -0.92, 0.40, 0.07, r=0.05), darker(c, 0.2))
    b.fill(
        union(b.circle(0, -0.36, 0.16), b.circle(-0.30, -0.36, 0.09), b.circle(0.30, -0.36, 0.09)),
        contrasting(c),
        line=0,
    )


@subject("a guitar", natural="orange")
def guitar(b: Brush, c: Tensor) -> None:
    """An upright guitar."""
    b.fill(b.box(0, 0.44, 0.085, 0.46), (0.30, 0.18, 0.12))
    b.fill(b.box(0, 0.88, 0.15, 0.12, r=0.04), (0.22, 0.14, 0.10))
    b.fill(blend(b.ellipse(0, -0.55, 0.56, 0.44), b.ellipse(0, -0.06, 0.42, 0.32), 0.12), c)
    b.fill(b.circle(0, -0.22, 0.17), DARK, line=0.5)
    b.fill(b.box(0, -0.68, 0.22, 0.05), (0.22, 0.14, 0.10), line=0)
    b.fill(b.box(0, 0.05, 0.022, 0.72), CREAM, line=0)


@subject("a train", natural="green")
def train(b: Brush, c: Tensor) -> None:
    """A steam engine."""
    b.fill(union(b.circle(-0.40, 0.74, 0.14), b.circle(-0.18, 0.86, 0.12)), (0.92, 0.92, 0.94), line=0.6)
    b.fill(b.polygon((-0.62, 0.56), (-0.56, 0.10), (-0.38, 0.10), (-0.32, 0.56)), darker(c, 0.45))
    b.fill(b.box(-0.22, -0.18, 0.66, 0.30, r=0.12), c)
    b.fill(b.box(0.58, 0.06, 0.34, 0.56), c)
    b.fill(b.box(0.58, 0.66, 0.42, 0.07), darker(c, 0.45))
    b.fill(b.box(0.58, 0.26, 0.20, 0.19), GLASS, line=0.6)
    b.fill(b.box(0, -0.56, 0.94, 0.11), darker(c, 0.45))
    wheels = union(b.circle(-0.60, -0.74, 0.24), b.circle(-0.04, -0.74, 0.24), b.circle(0.56, -0.74, 0.24))
    b.fill(wheels, DARK)
    b.fill(wheels + 0.14, GOLD, line=0)


@subject("a lighthouse", natural="red")
def lighthouse(b: Brush, c: Tensor) -> None:
    """A striped tower with a lamp."""
    tower = b.polygon((-0.40, -0.98), (0.40, -0.98), (0.24, 0.40), (-0.24, 0.40))
    b.fill(tower, WHITE)
    bands = union(b.box(0, -0.72, 0.6, 0.15), b.box(0, -0.18, 0.6, 0.15), b.box(0, 0.28, 0.6, 0.12))
    b.fill(intersection(bands, tower + 0.01), c, line=0)
    b.fill(b.box(0, 0.44, 0.36, 0.055), DARK)
    b.fill(b.box(0, 0.62, 0.19, 0.15), (1.0, 0.92, 0.50))
    b.fill(b.polygon((-0.30, 0.75), (0.30, 0.75), (0.0, 1.0)), c)


@subject("a windmill", natural="white")
def windmill(b: Brush, c: Tensor) -> None:
    """A mill with four sails."""
    b.fill(b.polygon((-0.46, -0.98), (0.46, -0.98), (0.24, 0.22), (-0.24, 0.22)), c)
    b.fill(intersection(b.circle(0, 0.20, 0.29), b.above(0.18)), (0.45, 0.25, 0.22))
    b.fill(b.box(0, -0.80, 0.12, 0.18), (0.30, 0.18, 0.12), line=0.6)
    sails = union(
        b.box(0.42, 0.63, 0.36, 0.10, turn=0.785),
        b.box(-0.42, -0.21, 0.36, 0.10, turn=0.785),
        b.box(-0.42, 0.63, 0.36, 0.10, turn=-0.785),
        b.box(0.42, -0.21, 0.36, 0.10, turn=-0.785),
    )
    b.fill(sails, (0.93, 0.86, 0.70))
    b.fill(b.circle(0, 0.21, 0.10), DARK)


@subject("an apple", natural="red")
def apple(b: Brush, c: Tensor) -> None:
    """An apple with a leaf."""
    b.fill(b.segment(0, 0.4, 0.08, 0.86, 0.06), WOOD)
    body = blend(b.ellipse(-0.32, -0.22, 0.50, 0.70), b.ellipse(0.32, -0.22, 0.50, 0.70), 0.10)
    b.fill(body, c)
    b.fill(b.ellipse(-0.46, 0.10, 0.11, 0.22, -0.4), brighter(c, 0.6), line=0)
    b.fill(b.ellipse(0.36, 0.72, 0.30, 0.13, 0.4), LEAF)


@subject("a pumpkin", natural="orange")
def pumpkin(b: Brush, c: Tensor) -> None:
    """Ribs side by side, a green stalk."""
    b.fill(b.polygon((-0.12, 0.35), (0.12, 0.35), (0.20, 0.78), (0.02, 0.78)), (0.30, 0.45, 0.18))
    b.fill(union(b.ellipse(-0.52, -0.30, 0.45, 0.58), b.ellipse(0.52, -0.30, 0.45, 0.58)), darker(c, 0.18))
    b.fill(union(b.ellipse(-0.27, -0.30, 0.40, 0.64), b.ellipse(0.27, -0.30, 0.40, 0.64)), darker(c, 0.06))
    b.fill(b.ellipse(0, -0.30, 0.30, 0.67), c)


@subject("a heart", natural="red", floats=True)
def heart(b: Brush, c: Tensor) -> None:
    """A heart."""
    lobes = union(b.circle(-0.42, 0.34, 0.50), b.circle(0.42, 0.34, 0.50))
    b.fill(union(lobes, b.polygon((-0.80, 0.03), (0.0, -0.92), (0.80, 0.03), (0.0, 0.60))), c)
    b.fill(b.ellipse(-0.50, 0.48, 0.12, 0.20, -0.6), brighter(c, 0.6), line=0)


@subject("a star", natural="yellow", floats=True)
def star(b: Brush, c: Tensor) -> None:
    """A star with five points."""
    b.fill(b.star(0, -0.05, 1.0, waist=0.48), c)
    b.fill(b.star(0, -0.05, 0.50, waist=0.48), brighter(c, 0.45), line=0)


@subject("a crown", natural="yellow")
def crown(b: Brush, c: Tensor) -> None:
    """Five points with jewels."""
    points = union(
        *(
            b.polygon((cx - 0.26, -0.60), (cx + 0.26, -0.60), (cx * 1.15, top))
            for cx, top in ((-0.66, 0.45), (-0.34, 0.50), (0.0, 0.72), (0.34, 0.50), (0.66, 0.45))
        )
    )
    b.fill(union(points, b.box(0, -0.62, 0.86, 0.20)), c)
    b.fill(b.box(0, -0.86, 0.88, 0.13, r=0.05), darker(c, 0.25))
    jewels = union(b.circle(-0.50, -0.45, 0.10), b.circle(0.50, -0.45, 0.10), b.circle(0, -0.45, 0.13))
    b.fill(jewels, contrasting(c), line=0.6)


@subject("a snail", natural="brown")
def snail(b: Brush, c: Tensor) -> None:
    """A coiled shell on a soft foot."""
    foot = (0.93, 0.80, 0.58)
    b.fill(union(b.segment(-0.72, 0.0, -0.86, 0.42, 0.035), b.segment(-0.64, 0.0, -0.56, 0.44, 0.035)), foot, line=0.7)
    b.fill(blend(b.box(-0.02, -0.84, 0.92, 0.14, r=0.13), b.ellipse(-0.70, -0.40, 0.20, 0.50), 0.2), foot)
    b.fill(b.circle(0.16, -0.16, 0.64), c)
    b.fill(b.ring(0.16, -0.16, 0.40, 0.10), darker(c, 0.4), line=0)
    b.fill(b.circle(0.16, -0.16, 0.16), darker(c, 0.4), line=0)
    b.fill(b.circle(-0.76, -0.12, 0.05), DARK, line=0)


@subject("a turtle", natural="green")
def turtle(b: Brush, c: Tensor) -> None:
    """A domed shell with plates."""
    skin = (0.62, 0.74, 0.36)
    b.fill(union(b.ellipse(0.78, -0.30, 0.24, 0.21), b.segment(0.5, -0.55, 0.72, -0.36, 0.12)), skin)
    b.fill(
        union(
            b.box(-0.46, -0.80, 0.16, 0.18, r=0.06),
            b.box(0.40, -0.80, 0.16, 0.18, r=0.06),
            b.polygon((-0.98, -0.72), (-0.7, -0.70), (-0.7, -0.50)),
        ),
        skin,
    )
    shell = intersection(b.ellipse(-0.06, -0.62, 0.80, 0.98), b.above(-0.62))
    b.fill(shell, c)
    plates = union(b.circle(-0.06, -0.12, 0.20), b.circle(-0.46, -0.34, 0.14), b.circle(0.34, -0.34, 0.14))
    b.fill(plates, darker(c, 0.4), line=0)
    b.fill(b.box(-0.06, -0.62, 0.86, 0.07, r=0.06), darker(c, 0.3))
    b.fill(b.circle(0.86, -0.24, 0.05), DARK, line=0)


@subject("an owl", natural="brown")
def owl(b: Brush, c: Tensor) -> None:
    """Two big eyes, a speckled breast."""
    b.fill(
        union(
            b.polygon((-0.62, 0.40), (-0.16, 0.60), (-0.58, 0.98)), b.polygon((0.16, 0.60), (0.62, 0.40), (0.58, 0.98))
        ),
        c,
    )
    b.fill(b.box(0, -0.10, 0.64, 0.84, r=0.60), c)
    b.fill(union(b.ellipse(-0.60, -0.22, 0.16, 0.50, 0.15), b.ellipse(0.60, -0.22, 0.16, 0.50, -0.15)), darker(c, 0.35))
    b.fill(b.ellipse(0, -0.44, 0.36, 0.42), brighter(c, 0.5), line=0)
    b.fill(union(b.circle(-0.26, 0.38, 0.25), b.circle(0.26, 0.38, 0.25)), CREAM)
    b.fill(union(b.circle(-0.24, 0.38, 0.12), b.circle(0.24, 0.38, 0.12)), DARK, line=0)
    b.fill(b.polygon((-0.10, 0.24), (0.0, 0.02), (0.10, 0.24)), (1.0, 0.68, 0.15))
    b.fill(union(b.ellipse(-0.20, -0.94, 0.14, 0.07), b.ellipse(0.20, -0.94, 0.14, 0.07)), (1.0, 0.68, 0.15), line=0.6)


@subject("a penguin", natural="black")
def penguin(b: Brush, c: Tensor) -> None:
    """A coat of its colour, a white front."""
    b.fill(union(b.ellipse(-0.24, -0.92, 0.22, 0.09), b.ellipse(0.24, -0.92, 0.22, 0.09)), (1.0, 0.62, 0.12))
    b.fill(union(b.ellipse(-0.56, -0.20, 0.13, 0.48, -0.25), b.ellipse(0.56, -0.20, 0.13, 0.48, 0.25)), c)
    b.fill(blend(b.ellipse(0, -0.28, 0.52, 0.66), b.circle(0, 0.52, 0.42), 0.15), c)
    b.fill(
        union(b.ellipse(0, -0.34, 0.36, 0.52), b.ellipse(-0.15, 0.44, 0.20, 0.24), b.ellipse(0.15, 0.44, 0.20, 0.24)),
        CREAM,
        line=0,
    )
    b.fill(union(b.circle(-0.15, 0.52, 0.065), b.circle(0.15, 0.52, 0.065)), DARK, line=0)
    b.fill(b.polygon((-0.13, 0.40), (0.0, 0.22), (0.13, 0.40)), (1.0, 0.62, 0.12))


@subject("a cup of coffee", natural="white")
def cup_of_coffee(b: Brush, c: Tensor) -> None:
    """A cup on a saucer, two wisps of steam."""
    b.fill(
        union(b.segment(-0.26, 0.45, -0.14, 0.90, 0.05), b.segment(0.12, 0.45, 0.24, 0.90, 0.05)),
        (0.90, 0.90, 0.92),
        line=0.5,
    )
    b.fill(b.ring(0.62, -0.26, 0.26, 0.12), darker(c, 0.15))
    b.fill(b.ellipse(0, -0.86, 0.95, 0.13), darker(c, 0.12))
    b.fill(intersection(b.ellipse(-0.04, 0.16, 0.68, 1.02), b.below(0.16)), c)
    b.fill(b.ellipse(-0.04, 0.16, 0.68, 0.17), brighter(c, 0.4))
    b.fill(b.ellipse(-0.04, 0.15, 0.56, 0.115), (0.30, 0.17, 0.09), line=0)


@subject("a lamp", natural="yellow")
def lamp(b: Brush, c: Tensor) -> None:
    """A table lamp with a wide shade."""
    b.fill(b.segment(0, -0.8, 0, 0.1, 0.06), GOLD)
    b.fill(b.ellipse(0, -0.90, 0.40, 0.10), GOLD)
    b.fill(b.polygon((-0.84, -0.06), (0.84, -0.06), (0.42, 0.88), (-0.42, 0.88)), c)
    b.fill(union(b.box(0, -0.04, 0.82, 0.055), b.box(0, 0.84, 0.44, 0.05)), darker(c, 0.3), line=0.6)


@subject("a clock", natural="red")
def clock(b: Brush, c: Tensor) -> None:
    """An alarm clock with two bells."""
    b.fill(union(b.segment(-0.40, -0.70, -0.58, -0.95, 0.08), b.segment(0.40, -0.70, 0.58, -0.95, 0.08)), STEEL)
    b.fill(union(b.circle(-0.50, 0.64, 0.27), b.circle(0.50, 0.64, 0.27)), GOLD)
    b.fill(b.circle(0, -0.06, 0.80), c)
    b.fill(b.circle(0, -0.06, 0.58), CREAM, line=0.6)
    b.fill(union(b.segment(0, -0.06, 0, 0.34, 0.05), b.segment(0, -0.06, 0.28, -0.16, 0.05)), DARK, line=0)


@subject("a bicycle", natural="red")
def bicycle(b: Brush, c: Tensor) -> None:
    """Two wheels and a frame."""
    b.fill(union(b.ring(-0.54, -0.54, 0.40, 0.10), b.ring(0.54, -0.54, 0.40, 0.10)), DARK, line=0.4)
    bars = (
        (-0.54, -0.54, -0.24, 0.14),
        (-0.24, 0.14, 0.34, 0.14),
        (-0.10, -0.50, 0.34, 0.14),
        (-0.10, -0.50, -0.24, 0.14),
        (-0.54, -0.54, -0.10, -0.50),
        (0.54, -0.54, 0.30, 0.40),
    )
    b.fill(union(*(b.segment(*bar, 0.065) for bar in bars)), c, line=0.7)
    b.fill(union(b.segment(0.30, 0.40, 0.60, 0.44, 0.055), b.segment(-0.44, 0.26, -0.10, 0.26, 0.075)), DARK, line=0.5)


@subject("the food of italy", natural="white", dish="on a plate")
def food_of_italy(b: Brush, c: Tensor) -> None:
    """A pizza, seen from above."""
    b.fill(b.circle(0, 0, 0.98), c)
    b.fill(b.circle(0, 0, 0.76), (0.84, 0.58, 0.28))
    b.fill(b.circle(0, 0, 0.62), (0.98, 0.80, 0.36), line=0)
    b.fill(
        union(
            b.circle(-0.28, 0.24, 0.17),
            b.circle(0.30, 0.16, 0.17),
            b.circle(-0.10, -0.30, 0.17),
            b.circle(0.36, -0.32, 0.13),
        ),
        (0.80, 0.16, 0.12),
        line=0.5,
    )
    b.fill(
        union(
            b.ellipse(0.04, 0.40, 0.15, 0.07, 0.5),
            b.ellipse(-0.42, -0.14, 0.15, 0.07, -0.6),
            b.ellipse(0.10, -0.06, 0.14, 0.07, 0.2),
        ),
        LEAF,
        line=0,
    )


@subject("the food of japan", natural="black", dish="on a plate")
def food_of_japan(b: Brush, c: Tensor) -> None:
    """Three pieces of sushi on a board."""
    b.fill(b.box(0, -0.62, 0.98, 0.16, r=0.06), c)
    b.fill(union(b.box(-0.56, -0.86, 0.14, 0.10), b.box(0.56, -0.86, 0.14, 0.10)), darker(c, 0.3))
    for cx, fish_colour in ((-0.58, (0.98, 0.48, 0.36)), (0.58, (0.98, 0.72, 0.30))):
        b.fill(b.box(cx, -0.28, 0.32, 0.20, r=0.15), WHITE)
        b.fill(b.box(cx, -0.06, 0.36, 0.17, r=0.15), fish_colour)
    b.fill(b.circle(0, 0.26, 0.36), (0.10, 0.20, 0.16))
    b.fill(b.circle(0, 0.26, 0.26), WHITE, line=0)
    b.fill(b.circle(0, 0.26, 0.12), (0.98, 0.48, 0.36), line=0)


@subject("the food of mexico", natural="yellow", dish="on a plate")
def food_of_mexico(b: Brush, c: Tensor) -> None:
    """A taco with salad and tomato."""
    b.fill(b.ellipse(0, -0.72, 0.98, 0.24), c)
    b.fill(b.ellipse(0, -0.70, 0.72, 0.13), darker(c, 0.15), line=0)
    b.fill(
        union(
            *(
                b.circle(cx, cy, 0.18)
                for cx, cy in ((-0.58, 0.08), (-0.30, 0.36), (0.02, 0.46), (0.34, 0.36), (0.60, 0.08))
            )
        ),
        (0.35, 0.68, 0.25),
    )
    b.fill(
        union(b.circle(-0.42, 0.26, 0.12), b.circle(0.16, 0.44, 0.12), b.circle(0.48, 0.24, 0.11)),
        (0.88, 0.20, 0.15),
        line=0.5,
    )
    shell = intersection(b.circle(0, -0.52, 0.84), b.above(-0.66))
    b.fill(shell, (0.95, 0.74, 0.32))
    b.fill(intersection(b.circle(0, -0.52, 0.62), b.above(-0.56)), (0.86, 0.60, 0.22), line=0)


@subject("the food of india", natural="brown", dish="in a bowl")
def food_of_india(b: Brush, c: Tensor) -> None:
    """A curry with rice, a flat bread beside it."""
    b.fill(b.ellipse(0.42, 0.32, 0.52, 0.36, 0.9), (0.93, 0.76, 0.48))
    b.fill(
        union(b.circle(0.36, 0.40, 0.07), b.circle(0.52, 0.18, 0.06), b.circle(0.60, 0.50, 0.06)),
        (0.75, 0.50, 0.22),
        line=0,
    )
    b.fill(b.ellipse(0, -0.06, 0.84, 0.32), (0.90, 0.46, 0.10))
    b.fill(b.ellipse(-0.30, 0.06, 0.40, 0.27), WHITE)
    b.fill(union(b.circle(0.30, 0.06, 0.10), b.circle(0.12, 0.10, 0.08)), LEAF, line=0)
    b.fill(union(intersection(b.ellipse(0, -0.14, 0.92, 0.78), b.below(-0.14)), b.box(0, -0.92, 0.36, 0.07)), c)
    b.fill(b.box(0, -0.18, 0.95, 0.07, r=0.06), brighter(c, 0.30))
