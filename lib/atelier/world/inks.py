"""The styles: each ink paints shapes in its own way.

An ink fills a shape given by its signed distance, and finishes the picture. Subjects and settings are written without
reference to a style, so every one of them can be painted with every ink.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from atelier.world.shapes import Number, Plane, constant

Colour = tuple[float, float, float] | Tensor  # a constant, (n, 3) for each picture, or a field (n, 3, h or 1, w or 1)

PAPER = (0.98, 0.965, 0.93)


@dataclass
class Canvas:
    """n pictures while they are being painted.

    Attributes:
        rgb: (n, 3, h, w), from 0 to 1.
        plane: coordinates from -1 to 1, x to the right and y upwards.
        pixel: a pixel's width in these units.
    """

    rgb: Tensor
    plane: Plane
    pixel: float

    def paint(self, distance: Tensor, colour: Colour, opacity: Number = 1.0) -> None:
        """Paint a shape: distance (n, h, w) in picture units, edges antialiased over one pixel."""
        cover = (distance * (-1 / self.pixel)).add_(0.5).clamp_(0, 1)
        if not (isinstance(opacity, float) and opacity == 1.0):
            cover.mul_(opacity)
        self.rgb.lerp_(self.colour(colour), cover.unsqueeze(1))

    def colour(self, colour: Colour) -> Tensor:
        """A colour as a tensor that broadcasts against rgb."""
        tensor = colour if isinstance(colour, Tensor) else constant((colour,), self.rgb.device)
        return tensor if tensor.dim() == 4 else tensor[:, :, None, None]


class Brush(Plane):
    """A plane with a canvas and an ink: paints shapes that are measured in the plane's units.

    Args:
        canvas: painted on.
        ink: paints, in its style.
        plane: the coordinates of what is painted.
        near: True for subjects, which get relief, full outlines and full colours; False for settings behind them.
    """

    def __init__(self, canvas: Canvas, ink: Ink, plane: Plane, near: bool) -> None:
        super().__init__(plane.x, plane.y, plane.unit)
        self.canvas, self.ink, self.near = canvas, ink, near

    def fill(self, distance: Tensor, colour: Colour, line: float = 1.0) -> None:
        """Fill a shape.

        Args:
            distance: (n, h, w), in this plane's units.
            colour: before the ink changes it.
            line: scales the outline, in styles that draw one.
        """
        self.ink.fill(self, distance * self.unit, self.ink.tone(self.canvas.colour(colour), self.near), line)

    def glow(self, distance: Tensor, colour: Colour, reach: float) -> None:
        """Paint light around a shape (n, h, w) that fades over `reach` units of this plane."""
        share = (distance.clamp(min=0) * (-1 / reach)).exp_()
        self.canvas.rgb.lerp_(self.ink.tone(self.canvas.colour(colour), False), share.mul_(0.6).unsqueeze(1))

    def shadow(self, distance: Tensor, strength: float = 0.3) -> None:
        """Darken the ground softly inside a shape (n, h, w)."""
        share = (distance * self.unit * -9).add_(0.25).clamp_(0, 1).mul_(strength)
        self.canvas.rgb.mul_(1 - share.unsqueeze(1))

    def at(self, cx: Number, cy: Number, scale: Number) -> Brush:
        """The same brush with its origin at (cx, cy) and units `scale` long."""
        plane = Plane((self.x - cx) / scale, (self.y - cy) / scale, self.unit * scale)
        return Brush(self.canvas, self.ink, plane, self.near)


class Ink:
    """The style of a photo: soft light from the upper left, no lines. The other styles are subclasses."""

    def warp(self, plane: Plane) -> Plane:
        """The plane on which this style paints; a style with uneven lines bends it."""
        return plane

    def tone(self, colour: Tensor, near: bool) -> Tensor:
        """The colour that this style paints instead of the given one."""
        return colour

    def fill(self, brush: Brush, distance: Tensor, colour: Tensor, line: float) -> None:
        """Paint one shape on the brush's canvas; distance (n, h, w) in picture units."""
        if brush.near:
            relief = (distance * (-1 / 0.20)).clamp_(0, 1).mul_(0.28).add_(0.80)
            light = relief.add_((brush.y - brush.x) * 0.07)
            colour = colour * light.unsqueeze(1)
        brush.canvas.paint(distance, colour)

    def backdrop(self, brush: Brush, choice: Tensor) -> None:
        """Paint what the style adds between the setting and the subjects; choice (n,), in [0, 1), picks a variant."""

    def finish(self, brush: Brush) -> None:
        """Finish the whole picture: here, darken its corners."""
        brush.canvas.rgb.mul_(1.03 - 0.13 * (brush.x.square() + brush.y.square()).unsqueeze(1))


class CartoonInk(Ink):
    """A cartoon: flat bright colours inside dark lines."""

    width, line_colour = 0.045, (0.09, 0.07, 0.11)

    def tone(self, colour: Tensor, near: bool) -> Tensor:
        """More saturated than the given colour."""
        grey = colour.mean(1, keepdim=True)
        return (grey + (colour - grey) * 1.2).clamp(0, 1) * 0.95 + 0.05

    def fill(self, brush: Brush, distance: Tensor, colour: Tensor, line: float) -> None:
        """The outline first, then the shape inside it."""
        half = (self.width if brush.near else 0.6 * self.width) * line / 2
        if half > 0:
            brush.canvas.paint(distance - half, self.line_colour)
        brush.canvas.paint(distance + half, colour)

    def finish(self, brush: Brush) -> None:
        """Leave the picture as it is."""


class StainedGlassInk(CartoonInk):
    """A stained glass window: bright glass between lines of lead, under an arch."""

    width, line_colour = 0.055, (0.04, 0.04, 0.06)

    def tone(self, colour: Tensor, near: bool) -> Tensor:
        """Saturated and bright, like glass with light behind it; settings are paler than subjects."""
        grey = colour.mean(1, keepdim=True)
        vivid = (grey + (colour - grey) * 1.35).clamp(0, 1)
        return vivid * 0.92 + 0.06 if near else vivid * 0.84 + 0.14

    def backdrop(self, brush: Brush, choice: Tensor) -> None:
        """Paint panes of glass, each a little lighter or darker, with lead between them."""
        lead, shade = _panes(brush.canvas.rgb.shape[-1], brush.canvas.rgb.device.type)
        which = (choice * lead.shape[0]).long()
        brush.canvas.rgb.mul_(shade[which].unsqueeze(1))
        brush.canvas.paint(lead[which], self.line_colour)

    def finish(self, brush: Brush) -> None:
        """Paint lead around the arch that frames the window."""
        arch = brush.box(0.0, -0.455, 0.93, 0.485)
        arch = torch.minimum(arch, torch.maximum(brush.circle(0.0, 0.02, 0.93), brush.above(0.0)))
        brush.canvas.paint(-arch, self.line_colour)


class WatercolourInk(Ink):
    """A watercolour: pale washes with darker rims, uneven lines, a white margin."""

    def warp(self, plane: Plane) -> Plane:
        """Bend the plane, so that lines are uneven."""
        x = plane.x + 0.018 * torch.sin(7 * plane.y + 1.0) + 0.010 * torch.sin(17 * plane.y)
        y = plane.y + 0.018 * torch.sin(6 * plane.x + 2.0) + 0.010 * torch.sin(15 * plane.x)
        return Plane(x, y, plane.unit)

    def tone(self, colour: Tensor, near: bool) -> Tensor:
        """Paler, as if thinned with water."""
        strength = 0.84 if near else 0.58
        paper = constant(PAPER, colour.device).view(1, 3, 1, 1)
        return paper + (colour - paper) * strength

    def fill(self, brush: Brush, distance: Tensor, colour: Tensor, line: float) -> None:
        """Paint a wash whose rim is darker, as pigment gathers there when it dries."""
        if brush.near:
            rim = (distance * 28).exp_().clamp_(max=1).mul_(-0.34 * min(line, 1.0)).add_(1.04)
            colour = colour * rim.unsqueeze(1)
        brush.canvas.paint(distance, colour, 0.94)

    def finish(self, brush: Brush) -> None:
        """Leave a margin of white paper, with an uneven edge."""
        edge = brush.box(0.0, 0.0, 0.90, 0.90, r=0.35)
        edge = edge + 0.05 * torch.sin(5 * brush.x + 3 * brush.y) + 0.04 * torch.sin(9 * brush.y - 4 * brush.x)
        share = (edge * 8).add_(0.5).clamp_(0, 1)
        brush.canvas.rgb.lerp_(brush.canvas.colour(PAPER), share.unsqueeze(1))


class PaperInk(Ink):
    """A paper cut-out: sheets of card, each with a shadow on the sheet below."""

    def tone(self, colour: Tensor, near: bool) -> Tensor:
        """Slightly cream; a setting's gradient becomes two plain colours, since card has no gradients."""
        if colour.shape[-2] > 1 and not near:
            colour = torch.where(torch.linspace(0, 1, colour.shape[-2], device=colour.device)[:, None] < 0.33,
                                 colour[:, :, :1], colour.mean((-2, -1), keepdim=True))  # fmt: skip
        return colour * 0.86 + constant((0.12, 0.105, 0.08), colour.device).view(1, 3, 1, 1)

    def fill(self, brush: Brush, distance: Tensor, colour: Tensor, line: float) -> None:
        """Paint the shadow to the lower right, then the sheet."""
        if line > 0:
            shift = max(1, round(0.05 / brush.canvas.pixel))
            moved = distance.roll((shift, shift), (-2, -1))
            moved[..., :shift, :], moved[..., :shift] = distance[..., :1, :], distance[..., :1]
            share = (moved * (-1 / 0.06)).add_(0.5).clamp_(0, 1).mul_(0.42)
            brush.canvas.rgb.mul_(1 - share.unsqueeze(1))
        brush.canvas.paint(distance, colour)

    def finish(self, brush: Brush) -> None:
        """Paint a frame of card around the scene."""
        frame = -brush.box(0.0, 0.0, 0.93, 0.93, r=0.05)
        self.fill(brush, frame, self.tone(brush.canvas.colour((0.98, 0.95, 0.88)), True), 1.0)


class PencilInk(CartoonInk):
    """A pencil drawing: white paper, thin graphite lines, light colours."""

    width, line_colour = 0.032, (0.30, 0.30, 0.34)

    def tone(self, colour: Tensor, near: bool) -> Tensor:
        """Lighter; settings much more so than subjects."""
        strength = 0.80 if near else 0.26
        return 1 + (colour - 1) * strength


INKS: dict[str, Ink] = {
    "photo": Ink(),
    "cartoon": CartoonInk(),
    "stained glass": StainedGlassInk(),
    "watercolour": WatercolourInk(),
    "paper cut-out": PaperInk(),
    "pencil drawing": PencilInk(),
}


@lru_cache(maxsize=8)
def _panes(size: int, device: str, patterns: int = 3) -> tuple[Tensor, Tensor]:
    """Panes of glass, as cells of a Voronoi diagram.

    Returns:
        Distance to the lead in picture units, and brightness of the pane, (patterns, size, size) each.
    """
    side = 4
    axis = (torch.arange(size) + 0.5) * 2 / size - 1
    y, x = torch.meshgrid(-axis, axis, indexing="ij")
    leads, shades = [], []
    for pattern in range(patterns):
        random = torch.Generator().manual_seed(pattern)
        corner = torch.cartesian_prod(torch.arange(side), torch.arange(side)) * (2 / side) - 1
        sites = corner + (0.15 + 0.7 * torch.rand(side * side, 2, generator=random)) * (2 / side)
        distance = ((x[..., None] - sites[:, 0]) ** 2 + (y[..., None] - sites[:, 1]) ** 2).sqrt()
        nearest, index = distance.topk(2, largest=False)
        gap = sites[index[..., 0]] - sites[index[..., 1]]
        to_edge = (nearest[..., 1] ** 2 - nearest[..., 0] ** 2) / (2 * gap.norm(dim=-1) + 1e-6)
        leads.append(to_edge - 0.02)
        shades.append((0.86 + 0.24 * torch.rand(side * side, generator=random))[index[..., 0]])
    return torch.stack(leads).to(device), torch.stack(shades).to(device)


def ramp(y: Tensor, top: Colour, bottom: Colour, y_top: float = 1.0, y_bottom: float = -1.0) -> Tensor:
    """A vertical gradient as a colour field.

    Args:
        y: (n, h, 1).
        top, bottom: the colours at `y_top` and above, and at `y_bottom` and below.
        y_top, y_bottom: heights between which the colour changes.

    Returns:
        (n, 3, h, 1).
    """
    share = ((y_top - y) / (y_top - y_bottom)).clamp(0, 1)[:, None]
    top, bottom = (_column(colour, y.device) for colour in (top, bottom))
    return top + (bottom - top) * share


def _column(colour: Colour, device: torch.device) -> Tensor:
    tensor = colour if isinstance(colour, Tensor) else constant((colour,), device)
    return tensor[:, :, None, None]


def brighter(colour: Tensor, share: float = 0.4) -> Tensor:
    """The colour mixed with white."""
    return colour + (1 - colour) * share


def darker(colour: Tensor, share: float = 0.35) -> Tensor:
    """The colour mixed with black."""
    return colour * (1 - share)
