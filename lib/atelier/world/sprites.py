"""Sprites: one large subject on plain paper, for networks that learn in a minute and a half."""

from __future__ import annotations

import random
from collections.abc import Collection, Sequence

import torch
from torch import Tensor

from atelier.world.captions import insert_adjective
from atelier.world.held_out import is_held_out
from atelier.world.inks import PAPER
from atelier.world.painter import paint
from atelier.world.scenes import Scene
from atelier.world.subjects import SUBJECTS

SPRITES = ("strawberry", "mushroom", "car", "house", "cat", "star")
SPRITE_COLOURS = ("red", "orange", "green", "blue", "purple")
SPRITE_WORDINGS = (
    "{sprite}",
    "a drawing of {sprite}",
    "a cartoon of {sprite}",
    "{sprite} on paper",
    "{noun} in {colour}",
)
# One colour of each subject is held out when translators and rankers of sprites are trained. Each colour is still seen
# with at least four subjects, or all but one of those that `HELD_OUT` leaves it.
HELD_OUT_SPRITES = (
    ("strawberry", "green"),
    ("mushroom", "orange"),
    ("car", "purple"),
    ("house", "red"),
    ("cat", "blue"),
    ("star", "red"),
)

VARIED_SUBJECTS = (
    "butterfly", "fish", "rocket", "robot", "umbrella", "teapot", "flower", "apple", "heart", "rabbit", "owl", "guitar",
)  # fmt: skip
VARIED_COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "turquoise")


def sprite_scenes(
    n: int,
    seed: int,
    subjects: Sequence[str] = SPRITES,
    colours: Sequence[str] = SPRITE_COLOURS,
    left_out: Collection[tuple[str, str]] = (),
) -> list[Scene]:
    """Make the scenes of n sprites, going through the subjects in turn.

    Args:
        n: how many.
        seed: the same seed gives the same scenes.
        subjects: the kinds of sprite.
        colours: the colours to choose from.
        left_out: pairs of subject and colour that do not occur, besides those of `HELD_OUT`.

    Returns:
        The scenes.

    Raises:
        ValueError: if no colour is left for a subject.
    """
    allowed = {
        subject: [c for c in colours if (subject, c) not in left_out and not is_held_out(sprite_scene(subject, c))]
        for subject in subjects
    }
    for subject, left in allowed.items():
        if not left:
            raise ValueError(f"left_out leaves no colour for the subject {subject!r}: give more colours.")
    generator = random.Random(f"sprites {seed}")
    scenes = []
    for number in range(n):
        subject = subjects[number % len(subjects)]
        colour, own_seed = generator.choice(allowed[subject]), generator.getrandbits(31)
        scenes.append(sprite_scene(subject, colour, own_seed))
    return scenes


def sprite_scene(subject: str, colour: str, seed: int = 0) -> Scene:
    """The scene of one sprite; its seed decides the exact position and size."""
    return Scene(subject, colour, None, "day", "cartoon", size="huge", seed=seed)


def paint_sprites(scenes: Sequence[Scene], size: int = 32, device: str | torch.device = "cpu") -> Tensor:
    """Paint the scenes of sprites: pictures (n, 3, size, size), from 0 to 1."""
    return paint(scenes, size, device, background=PAPER)


def varied_sprites(n: int, seed: int) -> list[Scene]:
    """Make the scenes of n sprites of other subjects and more colours than those of the lessons."""
    return sprite_scenes(n, seed, VARIED_SUBJECTS, VARIED_COLOURS)


def sprite_caption(scene: Scene, wording: int | None = None) -> str:
    """Write a caption of a sprite, such as "a red car".

    Args:
        scene: the scene of the sprite.
        wording: the index of one of SPRITE_WORDINGS; None: the seed of the scene chooses one.

    Raises:
        ValueError: if the scene has no subject.
    """
    if scene.subject is None:
        raise ValueError("The scene has no subject, so it is not a sprite.")
    noun = SUBJECTS[scene.subject].noun
    sprite = insert_adjective(noun, scene.colour)
    wording = scene.seed % len(SPRITE_WORDINGS) if wording is None else wording
    return SPRITE_WORDINGS[wording].format(sprite=sprite, noun=noun, colour=scene.colour)


def sprite_requests(n: int, seed: int, held_out: bool) -> tuple[list[Scene], list[str]]:
    """Choose n sprites to draw, and write their captions. Subjects and wordings take turns.

    Args:
        n: how many.
        seed: of the colours.
        held_out: choose the combinations of HELD_OUT_SPRITES, or only all others.

    Returns:
        The scenes, and a caption of each.
    """
    if held_out:
        scenes = [sprite_scene(*HELD_OUT_SPRITES[number % len(HELD_OUT_SPRITES)]) for number in range(n)]
    else:
        scenes = sprite_scenes(n, seed, left_out=HELD_OUT_SPRITES)
    wordings = [number // len(HELD_OUT_SPRITES) % len(SPRITE_WORDINGS) for number in range(n)]
    return scenes, [sprite_caption(scene, wording) for scene, wording in zip(scenes, wordings, strict=True)]


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
    kinds = torch.arange(n, device=device) % len(subjects)
    return paint_sprites(sprite_scenes(n, seed, subjects, colours), size, device), kinds
