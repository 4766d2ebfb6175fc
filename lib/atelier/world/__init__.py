"""The painted world: scenes, their captions, and the pictures that the painter makes of them."""

from atelier.world.captions import caption, parse
from atelier.world.held_out import HELD_OUT, is_held_out
from atelier.world.painter import paint
from atelier.world.scenes import Scene
from atelier.world.sprites import SPRITES, sprites
from atelier.world.vocabulary import (
    ATTRIBUTES,
    WORLDS,
    HeldOut,
    World,
    full_world,
    named_world,
    small_world,
    studio_world,
    vocabulary,
)

__all__ = [
    "ATTRIBUTES",
    "HELD_OUT",
    "SPRITES",
    "WORLDS",
    "HeldOut",
    "Scene",
    "World",
    "caption",
    "full_world",
    "is_held_out",
    "named_world",
    "paint",
    "parse",
    "small_world",
    "sprites",
    "studio_world",
    "vocabulary",
]
