"""The painter: from scenes to pictures.

Pictures of one style are painted together: first the settings, all pictures with the same setting at once, then the
subjects, all pictures with the same subject at once. So each shape is one tensor operation for many pictures.

The random numbers of a picture depend on its scene's seed alone. So the same scene gives the same picture in any batch,
at any resolution, and, up to rounding errors, on any device.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from atelier.world.inks import INKS, Brush, Canvas, Colour, Ink, ramp
from atelier.world.scenes import Scene, check
from atelier.world.settings import SETTINGS, TIMES, Light
from atelier.world.shapes import Plane, constant, to_device
from atelier.world.subjects import COLOURS, SUBJECTS

SIZE = {  # in picture units: the smallest half-height, the range of half-heights, the largest shift from the place
    "small": (0.40, 0.06, 0.12),
    "big": (0.60, 0.10, 0.12),
    "large": (0.66, 0.04, 0.05),
    "huge": (0.80, 0.06, 0.10),
}
PLACE = {"left": -0.36, "centre": 0.0, "right": 0.36}
# The colour of the light on subjects by day, in the evening and at night, weak enough that colours can be told apart.
DAYLIGHT = ((1.0, 1.0, 1.0), (1.0, 0.95, 0.90), (0.84, 0.86, 0.96))


def paint(
    scenes: Sequence[Scene], size: int = 64, device: str | torch.device = "cpu", background: Colour | None = None
) -> Tensor:
    """Paint scenes.

    Args:
        scenes: n scenes.
        size: pixels per side.
        device: where to paint.
        background: paint every subject on this plain colour instead of in its setting.

    Returns:
        (n, 3, size, size) float32 in [0, 1].

    Raises:
        AtelierError: a scene has a name outside the vocabulary.
    """
    for scene in scenes:
        check(scene)
    device = torch.device(device)
    pictures = torch.empty(len(scenes), 3, size, size, device=device)
    for members in _groups(scene.style for scene in scenes):
        pictures[to_device(members, device)] = _paint_style([scenes[i] for i in members], size, device, background)
    return pictures


def uniform(seeds: Sequence[int], count: int, device: torch.device) -> Tensor:
    """Random numbers from a counter-based hash, the same on every device.

    Args:
        seeds: n seeds.
        count: numbers for each seed.
        device: where to make them.

    Returns:
        (n, count), in [0, 1).
    """
    mask = 0xFFFFFFFF
    seed = to_device([s & mask for s in seeds], device)[:, None]
    x = (seed * 0x9E3779B1 + torch.arange(1, count + 1, device=device) * 0x85EBCA77) & mask
    for shift, factor in ((16, 0x21F0AAAD), (15, 0x735A2D97)):
        x = ((x ^ (x >> shift)) * factor) & mask
    return ((x ^ (x >> 15)) >> 8).to(torch.float32) / 2**24  # 24 bits: all that float32 holds exactly


def _groups(kinds: Iterable[Hashable]) -> list[list[int]]:
    """The indices of equal items, one list for each kind of item."""
    groups = defaultdict(list)
    for index, kind in enumerate(kinds):
        groups[kind].append(index)
    return list(groups.values())


def _paint_style(scenes: list[Scene], size: int, device: torch.device, background: Colour | None) -> Tensor:
    """Pictures of one style, (n, 3, size, size)."""
    ink = INKS[scenes[0].style]
    axis = (torch.arange(size, device=device) + 0.5) * (2 / size) - 1
    straight = Plane(axis[None, None], -axis[None, :, None], torch.ones(1, 1, 1, device=device))
    plane = ink.warp(straight)
    canvas = Canvas(torch.empty(len(scenes), 3, size, size, device=device), plane, 2 / size)
    random = uniform([scene.seed for scene in scenes], 16, device)[..., None, None]  # (n, 16, 1, 1)
    if background is None:
        for members in _groups(scene.setting for scene in scenes):
            part = Canvas(torch.empty(len(members), 3, size, size, device=device), plane, canvas.pixel)
            where = to_device(members, device)
            _paint_setting(Brush(part, ink, plane, near=False), [scenes[i] for i in members], random[where, :8])
            canvas.rgb[where] = part.rgb
    else:
        canvas.rgb.copy_(canvas.colour(background).expand_as(canvas.rgb))
    ink.backdrop(Brush(canvas, ink, plane, near=False), random[:, 8, 0, 0])
    for layer in _layers(scenes):
        _paint_subjects(canvas, ink, layer, random)
    ink.finish(Brush(canvas, ink, straight, near=True))
    return canvas.rgb.clamp_(0, 1)


def _paint_setting(far: Brush, scenes: list[Scene], random: Tensor) -> None:
    """Paint the setting that all scenes share, or a plain room if they have no setting; random (n, 8, 1, 1)."""
    light = Light([scene.time for scene in scenes], far.canvas.rgb.device)
    setting = scenes[0].setting
    if setting is not None:
        SETTINGS[setting].paint(far, light, random)
        return
    hue = torch.cos(6.283 * (random[:, 0, :, 0] + constant((0.0, 0.33, 0.67), random.device)))
    wall = 0.80 + 0.10 * hue
    far.canvas.rgb.copy_(far.ink.tone(ramp(far.y, wall * 1.08, wall * 0.95), False).expand_as(far.canvas.rgb))
    far.fill(far.below(-0.45), wall * 0.82)


Layer = list[
    tuple[int, Scene, str, str, float]
]  # at most one subject per picture: (picture, scene, subject, colour, shift)


def _layers(scenes: list[Scene]) -> list[Layer]:
    """Subjects from back to front: second subjects, then first ones."""
    back: Layer = []
    front: Layer = []
    for index, scene in enumerate(scenes):
        if scene.subject is None:
            continue
        if scene.second is not None:
            back.append((index, scene, *scene.second, 1.0))
        front.append((index, scene, scene.subject, scene.colour, -1.0 if scene.second else 0.0))
    return [layer for layer in (back, front) if layer]


def _paint_subjects(canvas: Canvas, ink: Ink, layer: Layer, random: Tensor) -> None:
    """Paint a layer's subjects on the canvas, one group for each subject; random (n, 16, 1, 1)."""
    device = canvas.rgb.device
    for members in _groups(entry[2] for entry in layer):
        group = [layer[i] for i in members]
        where = to_device([index for index, *_ in group], device)
        part = Canvas(canvas.rgb[where], canvas.plane, canvas.pixel)
        cx, cy, scale, lift = (t[:, None, None] for t in _positions(group, random[where, :, 0, 0]))
        brush = Brush(part, ink, canvas.plane, near=True)
        if not SUBJECTS[group[0][2]].floats:
            brush.shadow(brush.at(cx, cy - 0.97 * scale - lift, scale).ellipse(0.0, 0.0, 0.85, 0.16))
        tint = to_device([DAYLIGHT[TIMES.index(scene.time)] for _, scene, *_ in group], device)
        colour = to_device([COLOURS[colour] for *_, colour, _ in group], device) * tint
        SUBJECTS[group[0][2]].paint(brush.at(cx, cy, scale), colour)
        canvas.rgb[where] = part.rgb


class PositionRange(NamedTuple):
    """The sizes and positions that a subject may have, in picture units; its seed chooses among them.

    Attributes:
        min_scale: the smallest half-height.
        scale_range: how much larger the half-height may be.
        x: the middle of the positions.
        x_range: how far from x the subject may be.
        ground: height of the ground.
        lift: height of the subject over the ground.
    """

    min_scale: float
    scale_range: float
    x: float
    x_range: float
    ground: float
    lift: float


def _positions(group: Layer, random: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Centre x, centre y, half-height and height over the ground of each subject, (n,) each, in picture units."""
    ranges = [_position_range(scene, name, shift) for _, scene, name, _, shift in group]
    min_scale, scale_range, x, x_range, ground, lift = to_device(ranges, random.device).unbind(1)
    scale = min_scale + scale_range * random[:, 10]
    x = x + x_range * (2 * random[:, 11] - 1)
    return x, ground + lift + scale, scale, lift


def _position_range(scene: Scene, name: str, shift: float) -> PositionRange:
    """Where a subject may be; shift is -1 and 1 for the first and the second of two subjects, 0 for a single one."""
    min_scale, scale_range, x_range = SIZE[scene.size]
    ground = SETTINGS[scene.setting].ground if scene.setting else -0.66
    if scene.size == "huge":
        return PositionRange(min_scale, scale_range, 0.0, x_range, -0.86, 0.0)
    lift = 0.22 if SUBJECTS[name].floats else 0.20 if scene.pose == "landing" else 0.0
    if not shift:
        return PositionRange(min_scale, scale_range, PLACE[scene.place], x_range, ground, lift)
    x, stacked = 0.46 * shift, scene.relation == "above"
    if stacked:
        x, lift = 0.0, 0.82 if shift < 0 else lift
    return PositionRange(0.68 * min_scale, 0.68 * scale_range, x, 0.3 * x_range, ground, lift)
