"""Sprites: one large subject on plain paper, for networks that learn in a minute and a half."""

from __future__ import annotations

import random

import torch
from torch import Tensor

from atelier.world.held_out import is_held_out
from atelier.world.inks import PAPER
from atelier.world.painter import paint
from atelier.world.scenes import Scene

SPRITES = ("strawberry", "mushroom", "car", "house", "cat", "star")
SPRITE_COLOURS = ("red", "orange", "green", "blue", "purple")


def sprites(
    n: int,
    seed: int,
    size: int = 32,
    subjects: tuple[str, ...] = SPRITES,
    colours: tuple[str, ...] = SPRITE_COLOURS,
    device: str | torch.device = "cpu",
) -> tuple[Tensor, Tensor]:
    """Paint n sprites, going through the subjects in turn.

    Args:
        n: how many.
        seed: the same seed gives the same sprites.
        size: pixels per side.
        subjects: the kinds of sprite.
        colours: the colours to choose from.
        device: where to paint.

    Returns:
        Pictures (n, 3, size, size), from 0 to 1, and kinds (n,) int64, indices into `subjects`.
    """
    generator = random.Random(f"sprites {seed}")
    scenes = []
    for number in range(n):
        subject = subjects[number % len(subjects)]
        allowed = [c for c in colours if not is_held_out(Scene(subject, c, None, "day", "cartoon"))]
        colour, own_seed = generator.choice(allowed), generator.getrandbits(31)
        scenes.append(Scene(subject, colour, None, "day", "cartoon", size="huge", seed=own_seed))
    kinds = torch.arange(n, device=device) % len(subjects)
    return paint(scenes, size, device, ground=PAPER), kinds
