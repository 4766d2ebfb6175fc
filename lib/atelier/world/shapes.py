"""Signed distances of plane shapes, for many pictures at once.

A shape is given by a number at every point: the distance to its edge, negative inside. Shapes are joined with `union`,
cut with `intersection` and `subtract`, and joined with a rounded seam by `blend`. Distances are in the units of their
plane. Edges can be antialiased because the distance, unlike a bitmap, tells how far a pixel is from the edge.

Source of the idea: J. C. Hart, "Sphere tracing" (1996), section 2, and constructive solid geometry on distance fields.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor

Number = float | Tensor  # a constant, or a value for each picture, (n, 1, 1)


@cache
def constant(numbers: tuple[Any, ...], device: torch.device) -> Tensor:
    """Constant numbers as a tensor, which must not be changed.

    The tensor is made once for each device, because copying it to a GPU each time would make the GPU wait.
    """
    return torch.tensor(numbers, device=device)


def to_device(numbers: Sequence[Any], device: torch.device) -> Tensor:
    """Numbers that depend on the scenes as a tensor, copied to the device without waiting for it."""
    return torch.tensor(numbers).to(device, non_blocking=True)


class Plane:
    """The points of n pictures, in the coordinates of what is painted there.

    Args:
        x: (n, 1, w) or (n, h, w), to the right.
        y: (n, h, 1) or (n, h, w), upwards.
        unit: (n, 1, 1), the length of one unit of this plane in picture units (a picture is 2 units wide and high).
    """

    def __init__(self, x: Tensor, y: Tensor, unit: Tensor) -> None:
        self.x, self.y, self.unit = x, y, unit

    def circle(self, cx: Number, cy: Number, r: Number) -> Tensor:
        """Distance to a circle of radius r, (n, h, w)."""
        return ((self.x - cx).square() + (self.y - cy).square()).sqrt_() - r

    def ellipse(self, cx: Number, cy: Number, rx: float, ry: float, turn: float = 0.0) -> Tensor:
        """First-order distance to an ellipse with half-axes rx, ry, turned by `turn` radians, (n, h, w)."""
        x, y = self._turned(cx, cy, turn)
        norm = ((x / rx).square() + (y / ry).square()).sqrt_()
        slope = ((x / rx**2).square() + (y / ry**2).square()).sqrt_()
        return (norm - 1).mul_(norm).div_(slope.add_(1e-6))

    def box(
        self, cx: Number, cy: Number, half_width: float, half_height: float, r: float = 0.0, turn: float = 0.0
    ) -> Tensor:
        """Distance to a box with corners rounded by r, turned by `turn` radians, (n, h, w)."""
        x, y = self._turned(cx, cy, turn)
        dx, dy = x.abs() - (half_width - r), y.abs() - (half_height - r)
        inside = torch.maximum(dx, dy)
        if r == 0.0:
            return inside
        outside = (dx.clamp(min=0).square() + dy.clamp(min=0).square()).sqrt_()
        return outside.add_(inside.clamp_(max=0)).sub_(r)

    def segment(self, x1: float, y1: float, x2: float, y2: float, r: float) -> Tensor:
        """Distance to a line from (x1, y1) to (x2, y2) with round ends, 2r thick, (n, h, w)."""
        dx, dy = x2 - x1, y2 - y1
        x, y = self.x - x1, self.y - y1
        along = (x * dx + y * dy).div_(dx * dx + dy * dy).clamp_(0, 1)
        return ((x - along * dx).square_() + (y - along * dy).square_()).sqrt_().sub_(r)

    def polygon(self, *points: tuple[float, float]) -> Tensor:
        """Distance (mitred at the corners) to a convex polygon, corners counter-clockwise, (n, h, w)."""
        distance = None
        for (x1, y1), (x2, y2) in zip(points, points[1:] + points[:1], strict=True):
            length = math.hypot(x2 - x1, y2 - y1)
            nx, ny = (y2 - y1) / length, (x1 - x2) / length
            edge = (self.x * nx - (x1 * nx + y1 * ny)) + self.y * ny
            distance = edge if distance is None else torch.maximum(distance, edge, out=distance)
        assert distance is not None
        return distance

    def above(self, height: Number) -> Tensor:
        """Distance to the half-plane over a horizontal line, (n, h, w)."""
        return (height - self.y) + 0 * self.x

    def below(self, height: Number) -> Tensor:
        """Distance to the half-plane under a horizontal line or under a curve of shape (n, 1, w), (n, h, w)."""
        return (self.y - height) + 0 * self.x

    def ring(self, cx: Number, cy: Number, r: float, thickness: float) -> Tensor:
        """Distance to a ring of radius r, `thickness` wide, (n, h, w)."""
        return self.circle(cx, cy, r).abs_().sub_(thickness / 2)

    def crescent(self, cx: Number, cy: Number, r: float) -> Tensor:
        """Distance to a crescent moon that opens to the right, (n, h, w)."""
        return subtract(self.circle(cx, cy, r), self.circle(cx + 0.45 * r, cy + 0.2 * r, 0.85 * r))

    def star(self, cx: Number, cy: Number, r: float, points: int = 5, waist: float = 0.5) -> Tensor:
        """Distance to a star, one of whose points is at the top, (n, h, w); waist is inner over outer radius."""
        x, y = (self.x - cx) + 0 * self.y, (self.y - cy) + 0 * self.x
        sector = math.pi / points
        angle = torch.atan2(x, y).abs_()
        angle = (
            (angle + sector).remainder_(2 * sector).sub_(sector).abs_()
        )  # all halves of points are mapped to the same one
        radius = (x.square() + y.square()).sqrt_()
        px, py = radius * angle.sin(), radius * angle.cos()  # the point's tip lies at (0, r)
        tip, notch = (0.0, r), (waist * r * math.sin(sector), waist * r * math.cos(sector))
        length = math.hypot(notch[0] - tip[0], notch[1] - tip[1])
        nx, ny = (tip[1] - notch[1]) / length, (notch[0] - tip[0]) / length
        return px.mul_(nx).add_(py.mul_(ny)).sub_(r * ny)

    def repeat(self, width: float, height: float) -> Plane:
        """The plane as a brick pattern of cells, each with its own origin in the middle."""
        row = (self.y / height).floor()
        x = (self.x + row.remainder(2) * (width / 2)).remainder(width) - width / 2
        return Plane(x, self.y.remainder(height) - height / 2, self.unit)

    def _turned(self, cx: Number, cy: Number, turn: float) -> tuple[Tensor, Tensor]:
        x, y = self.x - cx, self.y - cy
        if turn == 0.0:
            return x, y
        cos, sin = math.cos(turn), math.sin(turn)
        return x * cos + y * sin, y * cos - x * sin


def union(*distances: Tensor) -> Tensor:
    """The points that lie in at least one of the shapes."""
    return _fold(torch.minimum, distances)


def intersection(*distances: Tensor) -> Tensor:
    """The points that lie in all of the shapes."""
    return _fold(torch.maximum, distances)


def subtract(distance: Tensor, *holes: Tensor) -> Tensor:
    """A shape without its holes."""
    return _fold(torch.maximum, (distance, *(-hole for hole in holes)))


def blend(a: Tensor, b: Tensor, softness: float) -> Tensor:
    """A union whose seam is rounded over a length of `softness` (polynomial smooth minimum)."""
    share = ((b - a) * (0.5 / softness)).add_(0.5).clamp_(0, 1)
    return torch.lerp(b, a, share).sub_(share.mul_(1 - share).mul_(softness))


def _fold(join, distances: Sequence[Tensor]) -> Tensor:
    first, *rest = distances
    for other in rest:
        first = join(first, other)
    return first
