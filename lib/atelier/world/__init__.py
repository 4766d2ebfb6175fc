"""The painted world: scenes, their captions, and the pictures that the painter makes of them."""

from atelier.world.captions import caption, parse
from atelier.world.held_out import HELD_OUT, is_held_out
from atelier.world.painter import paint
from atelier.world.scenes import Scene
from atelier.world.sprites import (
    HELD_OUT_SPRITES,
    SPRITE_COLOURS,
    SPRITE_WORDINGS,
    SPRITES,
    paint_sprites,
    sprite_caption,
    sprite_requests,
    sprite_scene,
    sprite_scenes,
    sprites,
    varied_sprites,
)
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
    "HELD_OUT_SPRITES",
    "SPRITES",
    "SPRITE_COLOURS",
    "SPRITE_WORDINGS",
    "WORLDS",
    "HeldOut",
    "Scene",
    "World",
    "caption",
    "full_world",
    "is_held_out",
    "named_world",
    "paint",
    "paint_sprites",
    "parse",
    "small_world",
    "sprite_caption",
    "sprite_requests",
    "sprite_scene",
    "sprite_scenes",
    "sprites",
    "studio_world",
    "varied_sprites",
    "vocabulary",
]
