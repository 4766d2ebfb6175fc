"""The settings: where a scene takes place.

Each function paints one setting for a group of n pictures, with a brush whose plane is the picture: x from -1 to 1, y
upwards. `light` is the time of day, `u` (n, 8, 1, 1) are eight random numbers for each picture, uniform in [0, 1).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from atelier.world.inks import Brush, Canvas, Colour, ramp
from atelier.world.shapes import Plane, constant, intersection, subtract, to_device, union

TIMES = ("day", "sunset", "night")

SKY_TOP = ((0.30, 0.58, 0.93), (0.45, 0.25, 0.55), (0.03, 0.05, 0.19))
SKY_LOW = ((0.80, 0.91, 0.99), (1.00, 0.62, 0.30), (0.13, 0.18, 0.42))
AMBIENT = ((1.00, 1.00, 1.00), (0.97, 0.76, 0.66), (0.42, 0.47, 0.70))


@dataclass
class Light:
    """The time of day of n pictures, and the colours that go with it.

    Attributes:
        times: n names of TIMES.
        device: the device of the tensors below.
        time_index: (n,), indices into TIMES.
        top, low: colours (n, 3) of the sky, at its top and at the horizon.
        ambient: (n, 3), multiplies the colours of everything outdoors.
        day, sunset, night: the indices of the pictures at each time.
    """

    times: Sequence[str]
    device: torch.device

    def __post_init__(self) -> None:
        self.time_index = to_device([TIMES.index(time) for time in self.times], self.device)
        self.top, self.low, self.ambient = (
            constant(table, self.device)[self.time_index] for table in (SKY_TOP, SKY_LOW, AMBIENT)
        )
        self.day, self.sunset, self.night = (
            to_device([picture for picture, own in enumerate(self.times) if own == time], self.device) for time in TIMES
        )

    def on(self, colour: tuple[float, float, float]) -> Tensor:
        """What a colour looks like in this light, (n, 3)."""
        return self.ambient * constant(colour, self.device)


@dataclass(frozen=True)
class Setting:
    """A setting of the vocabulary.

    Attributes:
        paint: paints it.
        phrase: follows a subject in a caption, "on the moon".
        name: in a caption without a subject, "the moon".
        ground: height on which subjects stand.
        sky: whether the time of day can be seen.
    """

    paint: Callable[[Brush, Light, Tensor], None]
    phrase: str
    name: str
    ground: float = -0.68
    sky: bool = True


SETTINGS: dict[str, Setting] = {}


def setting(key: str, phrase: str, name: str, ground: float = -0.68, sky: bool = True):
    """Register the decorated painter under `key`."""

    def register(paint: Callable[[Brush, Light, Tensor], None]) -> Callable[[Brush, Light, Tensor], None]:
        SETTINGS[key] = Setting(paint, phrase, name, ground, sky)
        return paint

    return register


def sky(b: Brush, light: Light, u: Tensor, horizon: float, clouds: bool = True, valley: float | None = None) -> None:
    """Paint the sky: sun and clouds by day, a low sun at sunset, moon and stars at night."""
    b.canvas.rgb.copy_(b.ink.tone(ramp(b.y, light.top, light.low, 1.0, horizon), False).expand_as(b.canvas.rgb))
    stars = _stars(b.canvas.rgb.shape[-1], b.canvas.rgb.device.type)
    night = (light.time_index == TIMES.index("night")).float()[:, None, None]
    b.canvas.rgb.add_((stars * night).unsqueeze(1) * 0.8).clamp_(max=1)
    side = torch.where(u[:, 0] < 0.5, -0.60, 0.60)
    _paint_subset(b, light.day, lambda s: _day_sky(s, side[light.day], u[light.day], clouds))
    low = 0.72 * side if valley is None else torch.full_like(side, valley)
    _paint_subset(b, light.sunset, lambda s: _low_sun(s, low[light.sunset], horizon + 0.20))
    _paint_subset(b, light.night, lambda s: s.fill(s.crescent(side[light.night], 0.66, 0.17), (0.98, 0.95, 0.80)))


def _paint_subset(b: Brush, here: Tensor, paint: Callable[[Brush], None]) -> None:
    """Paint only the pictures with the indices `here` (m,)."""
    if len(here) == len(b.canvas.rgb):
        paint(b)
    elif len(here):
        rgb = b.canvas.rgb[here]
        plane = Plane(*(t if t.shape[0] == 1 else t[here] for t in (b.x, b.y)), b.unit)
        canvas = Canvas(rgb, plane, b.canvas.pixel)
        paint(Brush(canvas, b.ink, plane, b.near))
        b.canvas.rgb[here] = rgb


def _day_sky(b: Brush, side: Tensor, u: Tensor, clouds: bool) -> None:
    b.fill(b.circle(side, 0.66, 0.17), (1.0, 0.86, 0.24))
    if clouds:
        c = b.at(-side + 0.12 * (u[:, 1] - 0.5), 0.62, 0.34)
        b.fill(
            union(c.ellipse(0.0, 0.0, 0.95, 0.30), c.circle(-0.25, 0.20, 0.34), c.circle(0.3, 0.12, 0.27)) * 0.34,
            (1.0, 1.0, 1.0),
        )


def _low_sun(b: Brush, cx: Tensor, cy: float) -> None:
    sun = b.circle(cx, cy, 0.24)
    b.glow(sun, (1.0, 0.80, 0.35), 0.35)
    b.fill(sun, (1.0, 0.90, 0.50))


@lru_cache(maxsize=8)
def _stars(size: int, device: str, count: int = 26) -> Tensor:
    """The brightness (size, size) of a fixed pattern of stars."""
    random = torch.Generator().manual_seed(7)
    x, y = torch.rand(2, count, generator=random)
    axis = (torch.arange(size) + 0.5) / size
    far = (axis[None, :, None] - x).square() + (1 - axis[:, None, None] - (0.35 + 0.65 * y)).square()
    return (1 - far.sqrt() * 64).clamp(0, 1).amax(-1).to(device)


def _ground(b: Brush, colour: Colour, height: float | Tensor, line: float = 1.0) -> None:
    b.fill(b.below(height), colour, line)


def _hill(b: Brush, cx: float | Tensor, top: float, width: float) -> Tensor:
    """The height of a rounded hill over each x."""
    return top * (1 - ((b.x - cx) / width).square())


@setting("moon", "on the moon", "the moon", ground=-0.62, sky=False)
def moon(b: Brush, light: Light, u: Tensor) -> None:
    """A night sky with the Earth in it, grey dust with craters."""
    b.canvas.rgb.copy_(b.ink.tone(ramp(b.y, SKY_TOP[2], SKY_LOW[2], 1.0, -0.4), False).expand_as(b.canvas.rgb))
    b.canvas.rgb.add_(_stars(b.canvas.rgb.shape[-1], b.canvas.rgb.device.type) * 0.9).clamp_(max=1)
    side = torch.where(u[:, 0] < 0.5, -0.60, 0.60)
    earth = b.at(side, 0.62, 0.22)
    globe = earth.circle(0, 0, 1)
    b.fill(globe * 0.22, (0.18, 0.42, 0.92))
    land = union(earth.ellipse(-0.35, 0.3, 0.5, 0.34, 0.5), earth.ellipse(0.4, -0.35, 0.34, 0.46, 0.4))
    b.fill(intersection(land, globe + 0.08) * 0.22, (0.30, 0.68, 0.34), line=0)
    _ground(
        b,
        ramp(b.y, (0.80, 0.80, 0.83), (0.58, 0.58, 0.63), -0.2, -1.0).expand(len(u), -1, -1, -1),
        -0.42 + 0.10 * (1 - b.x.square()),
    )
    for cx, cy, r in ((-0.66, -0.62, 0.20), (0.62, -0.72, 0.24), (-0.15, -0.88, 0.20), (0.42, -0.46, 0.10)):
        b.fill(b.ellipse(cx, cy, r, 0.36 * r), (0.50, 0.50, 0.55), line=0)


@setting("lake", "by a lake in the mountains", "a lake in the mountains", ground=-0.74)
def lake(b: Brush, light: Light, u: Tensor) -> None:
    """Mountains with snow, their lake, a green shore."""
    sky(b, light, u, horizon=-0.10, valley=0.10)
    rock, snow = light.on((0.47, 0.49, 0.60)), light.on((0.97, 0.98, 1.0))
    for cx, top, half in ((0.50, 0.42, 0.85), (-0.42, 0.62, 0.80)):
        peak = b.polygon((cx - half, -0.12), (cx + half, -0.12), (cx, top))
        b.fill(peak, rock)
        cap = union(
            b.polygon((cx - 0.26, top - 0.17), (cx - 0.02, top - 0.25), (cx, top)),
            b.polygon((cx - 0.06, top - 0.14), (cx + 0.26, top - 0.19), (cx, top)),
        )
        b.fill(intersection(cap, peak + 0.02), snow, line=0)
    _ground(b, ramp(b.y, light.on((0.42, 0.70, 0.90)), light.on((0.12, 0.36, 0.72)), -0.1, -0.8), -0.10)
    _paint_subset(b, light.sunset, _sunset_on_water)
    shine = union(b.box(-0.5, -0.28, 0.22, 0.014), b.box(0.45, -0.22, 0.26, 0.014), b.box(0.1, -0.42, 0.30, 0.016))
    b.fill(shine, light.on((0.82, 0.92, 1.0)), line=0)
    _ground(b, light.on((0.36, 0.62, 0.26)), -0.66 - 0.06 * torch.sin(3 * b.x + 1))


@setting("beach", "on the beach", "the beach")
def beach(b: Brush, light: Light, u: Tensor) -> None:
    """Sea, foam, sand and a palm."""
    sky(b, light, u, horizon=0.0)
    _ground(b, ramp(b.y, light.on((0.08, 0.45, 0.75)), light.on((0.25, 0.78, 0.80)), 0.0, -0.4), 0.0)
    shore = -0.36 + 0.05 * torch.sin(3.2 * b.x + 1)
    _ground(b, light.on((1.0, 1.0, 1.0)), shore + 0.05, line=0)
    _ground(b, ramp(b.y, light.on((0.98, 0.87, 0.60)), light.on((0.90, 0.74, 0.45)), -0.4, -1.0), shore)
    palm = b.at(torch.where(u[:, 2] < 0.5, -0.80, 0.80), -0.35, 1.0)
    b.fill(palm.segment(0.0, -0.15, 0.04, 0.55, 0.035), light.on((0.50, 0.33, 0.20)))
    leaves = union(
        *(
            palm.ellipse(0.04 + dx, 0.58 + dy, 0.24, 0.055, turn)
            for dx, dy, turn in ((-0.19, -0.06, 0.5), (0.19, -0.06, -0.5), (-0.14, 0.09, -0.5), (0.14, 0.09, 0.5))
        )
    )
    b.fill(leaves, light.on((0.18, 0.55, 0.25)))


@setting("forest", "in a forest", "a forest")
def forest(b: Brush, light: Light, u: Tensor) -> None:
    """Two rows of firs, the one behind darker."""
    sky(b, light, u, horizon=0.1, clouds=False)
    _ground(b, light.on((0.10, 0.34, 0.20)), 0.10 + 0.05 * torch.sin(9 * b.x), line=0)
    for spots, base, height, colour in (
        ((-0.62, -0.2, 0.22, 0.64), -0.20, 0.95, (0.09, 0.38, 0.20)),
        ((-0.9, 0.92), -0.42, 1.25, (0.14, 0.48, 0.24)),
    ):
        firs = union(*(_fir(b, cx, base, height) for cx in spots))
        b.fill(firs, light.on(colour))
    _ground(
        b,
        ramp(b.y, light.on((0.30, 0.50, 0.20)), light.on((0.22, 0.38, 0.16)), -0.4, -1.0),
        -0.40 + 0.03 * torch.sin(5 * b.x),
    )


def _sunset_on_water(b: Brush) -> None:
    field = ramp(b.y, (0.98, 0.62, 0.38), (0.42, 0.28, 0.52), -0.1, -0.7).expand(b.canvas.rgb.shape[0], -1, -1, -1)
    b.fill(b.below(-0.10), field)
    path = union(b.box(0.10, -0.17, 0.24, 0.03), b.box(0.06, -0.29, 0.17, 0.025), b.box(0.13, -0.40, 0.20, 0.025))
    b.fill(path, (1.0, 0.88, 0.50), line=0)


def _fir(b: Brush, cx: float, base: float, height: float) -> Tensor:
    tiers = [
        b.polygon((cx - half, base + low * height), (cx + half, base + low * height), (cx, base + high * height))
        for half, low, high in ((0.27, 0.0, 0.62), (0.19, 0.40, 1.0))
    ]
    return union(*tiers)


@setting("desert", "in the desert", "the desert")
def desert(b: Brush, light: Light, u: Tensor) -> None:
    """Dunes and a cactus."""
    sky(b, light, u, horizon=-0.15, clouds=False)
    _ground(b, light.on((0.90, 0.62, 0.32)), -0.02 + 0.16 * torch.sin(2.4 * b.x + 0.8))
    _ground(
        b,
        ramp(b.y, light.on((0.97, 0.74, 0.40)), light.on((0.82, 0.52, 0.24)), -0.1, -1.0),
        -0.32 + 0.10 * torch.sin(2.8 * b.x - 1.2),
    )
    c = b.at(torch.where(u[:, 2] < 0.5, -0.80, 0.80), -0.28, 1.0)
    cactus = union(
        c.segment(0, -0.1, 0, 0.46, 0.07),
        c.segment(-0.17, 0.12, -0.17, 0.28, 0.045),
        c.segment(-0.17, 0.12, 0, 0.06, 0.045),
        c.segment(0.17, 0.2, 0.17, 0.36, 0.045),
        c.segment(0.17, 0.2, 0, 0.14, 0.045),
    )
    b.fill(cactus, light.on((0.20, 0.52, 0.26)))


@setting("city", "in the city", "the city")
def city(b: Brush, light: Light, u: Tensor) -> None:
    """Towers with lit windows behind a street."""
    sky(b, light, u, horizon=-0.2, clouds=False)
    lit = constant(((0.62, 0.74, 0.84), (1.0, 0.85, 0.55), (1.0, 0.88, 0.45)), light.device)[light.time_index]
    for left, right, top, colour in (
        (-1.1, -0.62, 0.30, (0.50, 0.50, 0.60)),
        (-0.60, -0.22, 0.58, (0.42, 0.42, 0.54)),
        (-0.20, 0.20, 0.16, (0.56, 0.52, 0.58)),
        (0.22, 0.58, 0.66, (0.46, 0.46, 0.57)),
        (0.60, 1.1, 0.36, (0.53, 0.50, 0.58)),
    ):
        tower = b.box((left + right) / 2, (top - 0.5) / 2, (right - left) / 2, (top + 0.5) / 2)
        b.fill(tower, light.on(colour))
        rows = b.at(left + 0.09, top - 0.02, 1.0).repeat(0.19, 0.20)
        windows = torch.maximum((rows.x.abs() - 0.045).maximum(rows.y.abs() - 0.055), tower + 0.055)
        b.fill(windows, lit, line=0)
    _ground(b, light.on((0.36, 0.36, 0.40)), -0.46)
    _ground(b, light.on((0.70, 0.69, 0.68)), b.x * 0 - 0.46, line=0)
    _ground(b, light.on((0.30, 0.30, 0.34)), -0.54, line=0)
    dashes = Plane((b.x + 0.25).remainder(0.5) - 0.25, b.y, b.unit).box(0, -0.90, 0.13, 0.022)
    b.fill(dashes, light.on((0.96, 0.93, 0.80)), line=0)


@setting("meadow", "in a meadow", "a meadow")
def meadow(b: Brush, light: Light, u: Tensor) -> None:
    """Rolling green hills with flowers."""
    sky(b, light, u, horizon=-0.1)
    _ground(b, light.on((0.48, 0.76, 0.36)), -0.02 + 0.14 * torch.sin(2.2 * b.x + 2))
    _ground(
        b,
        ramp(b.y, light.on((0.42, 0.74, 0.28)), light.on((0.24, 0.56, 0.20)), -0.2, -1.0),
        -0.28 + 0.08 * torch.sin(2.6 * b.x - 0.5),
    )
    for colour, spots in (
        ((0.98, 0.40, 0.45), ((-0.82, -0.52), (0.55, -0.88), (0.86, -0.55))),
        ((1.0, 0.95, 0.85), ((-0.58, -0.84), (0.70, -0.68), (-0.88, -0.80))),
    ):
        b.fill(union(*(b.circle(cx, cy, 0.055) for cx, cy in spots)), light.on(colour), line=0)


@setting("snow", "in the snow", "a snowy field")
def snow(b: Brush, light: Light, u: Tensor) -> None:
    """White hills, small firs on the horizon, falling snow."""
    sky(b, light, u, horizon=-0.1)
    _ground(b, light.on((0.80, 0.87, 0.95)), 0.02 + 0.12 * torch.sin(2.1 * b.x + 0.5))
    firs = union(*(_fir(b, cx, -0.16, 0.5) for cx in (-0.84, 0.86)))
    b.fill(firs, light.on((0.22, 0.45, 0.42)))
    _ground(
        b,
        ramp(b.y, light.on((0.97, 0.98, 1.0)), light.on((0.82, 0.88, 0.96)), -0.2, -1.0),
        -0.22 + 0.06 * torch.sin(2.7 * b.x - 1.0),
    )
    flakes = b.repeat(0.42, 0.46)
    b.fill(subtract(flakes.circle(0.0, 0.0, 0.032), b.below(-0.15)), light.on((1.0, 1.0, 1.0)), line=0)


@setting("sea", "on the sea", "the sea", ground=-0.60)
def sea(b: Brush, light: Light, u: Tensor) -> None:
    """Open water with waves up to the horizon."""
    sky(b, light, u, horizon=-0.02)
    _paint_subset(b, light.sunset, lambda s: s.fill(s.below(-0.02), (0.80, 0.50, 0.45)))
    for height, colour in ((-0.02, (0.16, 0.46, 0.80)), (-0.30, (0.10, 0.36, 0.72)), (-0.62, (0.06, 0.26, 0.60))):
        wave = height + 0.05 * torch.sin(6.0 * b.x + 9 * height) * (-height)
        _ground(b, light.on(colour), wave)
        b.fill((b.y - wave + 0.05).abs() - 0.016, light.on((0.75, 0.90, 1.0)), line=0)


@setting("under the sea", "under the sea", "the bottom of the sea", sky=False)
def under_the_sea(b: Brush, light: Light, u: Tensor) -> None:
    """Blue water, rays of light, weed, coral and bubbles."""
    b.canvas.rgb.copy_(
        b.ink.tone(ramp(b.y, (0.30, 0.78, 0.90), (0.02, 0.25, 0.55), 1.0, -0.7), False).expand_as(b.canvas.rgb)
    )
    rays = union(
        b.polygon((-0.9, -0.7), (-0.45, -0.7), (-0.25, 1.1), (-0.45, 1.1)),
        b.polygon((0.25, -0.7), (0.75, -0.7), (0.25, 1.1), (0.05, 1.1)),
    )
    b.canvas.paint(rays, b.ink.tone(b.canvas.colour((0.75, 0.95, 1.0)), False), 0.16)
    weed = union(
        *(
            b.ellipse(cx, -0.45, 0.055, 0.42, turn)
            for cx, turn in ((-0.86, 0.12), (-0.72, -0.15), (0.80, 0.15), (0.92, -0.1))
        )
    )
    b.fill(weed, (0.10, 0.58, 0.32))
    b.fill(union(b.circle(-0.74, -0.66, 0.16), b.circle(0.70, -0.66, 0.14)), (0.96, 0.45, 0.50))
    b.fill(
        union(b.ring(-0.62, 0.35, 0.07, 0.03), b.ring(-0.50, 0.62, 0.05, 0.03), b.ring(0.66, 0.48, 0.07, 0.03)),
        (0.90, 0.98, 1.0),
        line=0,
    )
    _ground(b, (0.86, 0.78, 0.52), -0.66 + 0.04 * torch.sin(4 * b.x))


@setting("kitchen", "on a kitchen table", "a kitchen", ground=-0.58, sky=False)
def kitchen(b: Brush, light: Light, u: Tensor) -> None:
    """Tiles, a window, a wooden table."""
    _wall(b, (0.86, 0.93, 0.90))
    tiles = b.repeat(0.5, 0.5)
    b.fill(torch.maximum(tiles.x.abs() - 0.235, tiles.y.abs() - 0.235), (0.94, 0.98, 0.96), line=0)
    window = b.box(-0.50, 0.46, 0.30, 0.34)
    b.fill(window - 0.05, (0.98, 0.97, 0.94))
    b.fill(window, (0.58, 0.82, 0.98), line=0.5)
    b.fill(union(b.box(-0.50, 0.46, 0.30, 0.02), b.box(-0.50, 0.46, 0.02, 0.34)), (0.98, 0.97, 0.94), line=0)
    b.fill(union(b.box(0.62, 0.42, 0.30, 0.035), b.box(0.62, 0.42, 0.30, 0.035)), (0.62, 0.42, 0.26))
    b.fill(union(b.box(0.48, 0.56, 0.08, 0.11), b.box(0.72, 0.54, 0.07, 0.09)), (0.92, 0.42, 0.34), line=0.7)
    b.fill(b.below(-0.44), (0.80, 0.58, 0.36))
    b.fill(b.box(0, -0.47, 1.1, 0.045), (0.68, 0.46, 0.27), line=0.5)


def _wall(b: Brush, colour: tuple[float, float, float]) -> None:
    b.canvas.rgb.copy_(b.ink.tone(b.canvas.colour(colour), False).expand_as(b.canvas.rgb))


@setting("library", "in a library", "a library", sky=False)
def library(b: Brush, light: Light, u: Tensor) -> None:
    """Shelves full of books."""
    _wall(b, (0.42, 0.27, 0.17))
    colours = ((0.75, 0.25, 0.22), (0.25, 0.42, 0.62), (0.88, 0.72, 0.40), (0.30, 0.52, 0.36))
    for shelf in range(4):
        base = -0.42 + 0.40 * shelf
        for book, colour in enumerate(colours):
            x = (b.x + 0.11 * book + 0.23 * shelf).remainder(0.44) - 0.22
            spine = Plane(x, b.y, b.unit).box(0, base + 0.13 - 0.015 * book, 0.048, 0.13 - 0.015 * book)
            b.fill(spine, colour, line=0)
        b.fill(b.box(0, base - 0.03, 1.2, 0.028), (0.60, 0.40, 0.24), line=0.5)
    b.fill(b.below(-0.52), (0.60, 0.24, 0.22))


@setting("space", "in outer space", "outer space", sky=False)
def space(b: Brush, light: Light, u: Tensor) -> None:
    """Stars, a violet nebula, a planet with a ring."""
    b.canvas.rgb.copy_(b.ink.tone(ramp(b.y, (0.10, 0.05, 0.26), (0.34, 0.10, 0.42)), False).expand_as(b.canvas.rgb))
    b.glow(b.ellipse(-0.3, -0.2, 0.7, 0.18, 0.5), (0.55, 0.22, 0.62), 0.3)
    b.canvas.rgb.add_(_stars(b.canvas.rgb.shape[-1], b.canvas.rgb.device.type, 60) * 0.9).clamp_(max=1)
    side = torch.where(u[:, 0] < 0.5, -0.60, 0.60)
    b.fill(b.circle(side, 0.60, 0.22), (0.95, 0.70, 0.42))
    b.fill(b.ellipse(side, 0.60, 0.38, 0.07, 0.35), (0.98, 0.88, 0.66), line=0.5)
    b.fill(b.circle(-side * 1.2, -0.72, 0.34), (0.30, 0.62, 0.70))


@setting("volcano", "by a volcano", "a volcano")
def volcano(b: Brush, light: Light, u: Tensor) -> None:
    """A cone that spills lava under a cloud of smoke."""
    sky(b, light, u, horizon=-0.2, clouds=False)
    b.fill(
        union(b.circle(-0.12, 0.78, 0.24), b.circle(0.16, 0.86, 0.26), b.circle(0.0, 0.60, 0.16)),
        light.on((0.45, 0.42, 0.44)),
    )
    cone = b.polygon((-0.98, -0.5), (0.98, -0.5), (0.20, 0.46), (-0.20, 0.46))
    b.fill(cone, light.on((0.34, 0.27, 0.28)))
    lava = union(
        b.polygon((-0.20, 0.46), (-0.16, 0.12), (0.0, 0.30), (0.14, 0.02), (0.20, 0.46)),
        b.polygon((-0.50, -0.5), (-0.34, -0.5), (-0.06, 0.4), (-0.14, 0.4)),
        b.polygon((0.30, -0.5), (0.52, -0.5), (0.14, 0.4), (0.04, 0.4)),
    )
    b.fill(lava, (1.0, 0.42, 0.08), line=0)
    _ground(b, light.on((0.28, 0.22, 0.22)), -0.44 + 0.03 * torch.sin(7 * b.x))


@setting("wheat field", "in a wheat field", "a wheat field")
def wheat_field(b: Brush, light: Light, u: Tensor) -> None:
    """Golden rows that run to the horizon."""
    sky(b, light, u, horizon=-0.08)
    _ground(b, light.on((0.96, 0.80, 0.28)), -0.08)
    depth = (-0.08 - b.y).clamp(min=0.05)
    rows = (b.x / (depth + 0.22) * 2.2).remainder(1.0) - 0.5
    b.fill(intersection(rows.abs() * 0.4 - 0.09, b.below(-0.10)), light.on((0.82, 0.60, 0.16)), line=0)
    b.fill(b.box(0, -0.07, 1.2, 0.035), light.on((0.36, 0.56, 0.26)))
    barn = b.box(0.74, 0.07, 0.15, 0.13)
    b.fill(barn, light.on((0.80, 0.24, 0.20)))
    b.fill(b.polygon((0.54, 0.18), (0.94, 0.18), (0.74, 0.36)), light.on((0.45, 0.25, 0.22)))


@setting("castle", "in front of a castle", "a castle")
def castle(b: Brush, light: Light, u: Tensor) -> None:
    """Walls, two round towers with blue roofs, a gate."""
    sky(b, light, u, horizon=-0.3)
    stone, roof = light.on((0.76, 0.70, 0.62)), light.on((0.22, 0.36, 0.68))
    battlements = torch.maximum(
        Plane((b.x + 0.1).remainder(0.2) - 0.1, b.y, b.unit).box(0, 0.22, 0.055, 0.06), b.box(0, 0.2, 0.6, 0.1)
    )
    b.fill(union(b.box(0, -0.14, 0.66, 0.30), battlements), stone)
    for cx in (-0.72, 0.72):
        b.fill(b.box(cx, 0.0, 0.20, 0.46), stone)
        b.fill(b.polygon((cx - 0.27, 0.44), (cx + 0.27, 0.44), (cx, 0.92)), roof)
        b.fill(b.box(cx, 0.20, 0.06, 0.10), light.on((0.25, 0.20, 0.22)), line=0)
    b.fill(union(b.box(0, -0.30, 0.18, 0.20), b.circle(0, -0.10, 0.18)), light.on((0.25, 0.20, 0.22)), line=0.5)
    _ground(b, light.on((0.44, 0.66, 0.32)), -0.44 + 0.02 * torch.sin(4 * b.x))


@setting("cave", "in a cave", "a cave", sky=False)
def cave(b: Brush, light: Light, u: Tensor) -> None:
    """Dark rock with stalactites and glowing crystals."""
    _wall(b, (0.20, 0.16, 0.24))
    b.fill(b.ellipse(0, -0.05, 0.82, 0.72), (0.34, 0.29, 0.40))
    teeth = union(
        *(
            b.polygon((cx - 0.15, 1.05), (cx, 1.0 - drop), (cx + 0.15, 1.05))
            for cx, drop in ((-0.80, 0.75), (-0.44, 0.52), (-0.10, 0.36), (0.30, 0.50), (0.70, 0.80))
        )
    )
    b.fill(teeth, (0.15, 0.12, 0.18))
    crystals = union(
        *(
            b.polygon((cx - 0.09, -0.62), (cx + 0.09, -0.62), (cx + lean, top))
            for cx, lean, top in (
                (-0.84, -0.06, -0.16),
                (-0.66, 0.08, -0.32),
                (0.70, -0.06, -0.26),
                (0.87, 0.05, -0.08),
            )
        )
    )
    b.fill(crystals, (0.35, 0.92, 0.86))
    _ground(b, (0.26, 0.21, 0.28), -0.56 + 0.03 * torch.sin(6 * b.x))


@setting("stage", "on a stage", "a stage", ground=-0.64, sky=False)
def stage(b: Brush, light: Light, u: Tensor) -> None:
    """Red curtains, a spotlight, boards."""
    _wall(b, (0.16, 0.12, 0.22))
    b.canvas.paint(
        b.polygon((-0.62, -0.6), (0.62, -0.6), (0.16, 1.1), (-0.16, 1.1)),
        b.ink.tone(b.canvas.colour((0.98, 0.92, 0.68)), False),
        0.75,
    )
    folds = 0.5 + 0.5 * torch.cos(26 * b.x)
    red = torch.stack([0.62 + 0.22 * folds, 0.06 + 0.04 * folds, 0.10 + 0.04 * folds], dim=1)
    curtains = union(b.x.abs().mul(-1) + 0.66 + 0.08 * torch.cos(2.2 * b.y), b.above(0.72 + 0.06 * torch.cos(9 * b.x)))
    b.fill(curtains, red)
    b.fill(b.below(-0.50), (0.72, 0.50, 0.30))
    b.fill(b.box(0, -0.53, 1.2, 0.03), (0.50, 0.33, 0.20), line=0)
