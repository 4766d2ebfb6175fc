"""Worlds: a world is a vocabulary, and its scenes are sampled from it. A smaller vocabulary is a smaller world."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from atelier.errors import AtelierError
from atelier.world.captions import PLACE_PHRASES, RELATIONS, SIZE_WORDS, STYLE_PHRASES, TIME_NAMES, TIME_PHRASES
from atelier.world.held_out import HELD_OUT, is_held_out
from atelier.world.inks import INKS
from atelier.world.scenes import Scene
from atelier.world.settings import SETTINGS, TIMES
from atelier.world.subjects import COLOURS, SUBJECTS

ATTRIBUTES = ("subject", "setting", "colour", "style")  # of a scene; a complete caption states all four
HeldOut = Literal["never", "allowed", "only"]
Uniform = Callable[[], float]  # returns a random number, uniform in [0, 1)


@dataclass(frozen=True)
class World:
    """What the scenes of a world may show, and how often.

    Attributes:
        name: "full", "small" or "studio".
        subjects, settings, colours, styles: names to choose from.
        places, sizes: the places and sizes of subjects; a name that occurs twice is chosen twice as often.
        pairs: share of scenes with two subjects.
    """

    name: str
    subjects: tuple[str, ...]
    settings: tuple[str, ...]
    colours: tuple[str, ...]
    styles: tuple[str, ...]
    places: tuple[str, ...] = ("centre",)
    sizes: tuple[str, ...] = ("big",)
    pairs: float = 0.0

    @property
    def attributes(self) -> dict[str, tuple[str, ...]]:
        """The four attributes that a classifier names, each with its values."""
        return dict(zip(ATTRIBUTES, (self.subjects, self.settings, self.colours, self.styles), strict=True))

    def sample(self, n: int, seed: int, held_out: HeldOut = "never", complete: bool = False) -> list[Scene]:
        """Sample n scenes.

        Args:
            n: how many.
            seed: the same seed gives the same scenes, another seed gives others.
            held_out: what to do with the combinations of HELD_OUT. "never" leaves them out, "allowed" does not, and
                "only" samples no other scenes, all combinations equally often.
            complete: one subject and a setting in every scene, so that a caption can state all four attributes.

        Raises:
            AtelierError: held_out is "only", and the world contains no held-out combination.
        """
        generator = random.Random(f"{self.name} {seed}")
        if held_out == "only":
            return [self._scene(generator, complete, self._held_out(number)) for number in range(n)]
        scenes: list[Scene] = []
        while len(scenes) < n:
            scene = self._scene(generator, complete)
            if held_out == "allowed" or not is_held_out(scene):
                scenes.append(scene)
        return scenes

    def _held_out(self, number: int) -> dict[str, str]:
        """The fields of this world's held-out combination with that number, counted round and round."""
        inside = [(s, a, v) for s, a, v in HELD_OUT if s in self.subjects and v in self.attributes[a]]
        if not inside:
            raise AtelierError(
                f"The world {self.name!r} contains none of the held-out combinations, so it cannot sample any."
            )
        subject, attribute, value = inside[number % len(inside)]
        return {"subject": subject, attribute: value}

    def labels(self, scene: Scene) -> dict[str, int]:
        """The scene's four attributes as class numbers of this world, -1 for one that the picture does not show."""
        colour = scene.colour if scene.subject else None
        values = {"subject": scene.subject, "setting": scene.setting, "colour": colour, "style": scene.style}
        return {name: _index(self.attributes[name], value) for name, value in values.items()}

    def _scene(self, generator: random.Random, complete: bool, fixed: dict[str, str] | None = None) -> Scene:
        """A random scene; `fixed` has the values of fields that are not random."""
        uniform, fixed = generator.random, fixed or {}
        whole = complete or bool(fixed)  # with a subject and a setting
        subject = None if not whole and uniform() < 0.12 else _pick(self.subjects, uniform)
        setting = None if subject and not whole and uniform() < 0.06 else _pick(self.settings, uniform)
        subject, setting = fixed.get("subject", subject), fixed.get("setting", setting)
        second = None
        if subject and not complete and uniform() < self.pairs:
            second = (_pick_other(self.subjects, subject, uniform), _pick(self.colours, uniform))
        lands = subject and setting and not SUBJECTS[subject].floats and uniform() < 0.10
        return Scene(
            subject=subject,
            colour=fixed.get("colour", self._colour(subject, uniform) if subject else "white"),
            setting=setting,
            time=_pick(TIMES, uniform) if setting and SETTINGS[setting].sky else "day",
            style=fixed.get("style", _pick(self.styles, uniform)),
            pose="landing" if lands else "standing",
            place=_pick(self.places, uniform),
            size=_pick(self.sizes, uniform),
            second=second,
            relation=_pick(RELATIONS, uniform),
            seed=generator.getrandbits(31),
        )

    def _colour(self, subject: str, uniform: Uniform) -> str:
        natural = SUBJECTS[subject].natural
        return natural if natural in self.colours and uniform() < 0.15 else _pick(self.colours, uniform)


def _pick(options: Sequence[str], uniform: Uniform) -> str:
    return options[int(uniform() * len(options))]


def _pick_other(options: Sequence[str], excluded: str, uniform: Uniform) -> str:
    """One of the options, but not the excluded one."""
    index = int(uniform() * (len(options) - 1))
    return options[index if options[index] != excluded else -1]


def _index(options: Sequence[str], value: str | None) -> int:
    return options.index(value) if value in options else -1


def full_world() -> World:
    """Everything the painter can paint."""
    return World(
        "full",
        subjects=tuple(SUBJECTS),
        settings=tuple(SETTINGS),
        colours=tuple(COLOURS),
        styles=tuple(INKS),
        places=("centre", "centre", "left", "right"),
        sizes=("big", "big", "small"),
        pairs=0.20,
    )


def small_world() -> World:
    """The part that two CPU cores can learn in an afternoon: few, large subjects, one in each picture."""
    return World(
        "small",
        subjects=(
            "Eiffel tower", "strawberry", "food of china", "house", "sailing boat",
            "cat", "mushroom", "hot-air balloon", "car", "butterfly",
        ),
        settings=("moon", "lake", "beach", "forest", "desert", "city", "meadow", "snow"),
        colours=("red", "orange", "yellow", "green", "blue", "purple", "brown", "white"),
        styles=("photo", "cartoon", "stained glass", "watercolour"),
        sizes=("large",),
    )  # fmt: skip


def studio_world() -> World:
    """The part that two CPU cores can learn in ten hours at 128 pixels: twice the small world's subjects."""
    small = small_world()
    return World(
        "studio",
        subjects=(
            *small.subjects, "rocket", "robot", "umbrella", "teapot",
            "penguin", "owl", "rabbit", "fish", "lighthouse", "train",
        ),
        settings=(*small.settings, "under the sea", "castle", "volcano", "space"),
        colours=(*small.colours, "pink", "turquoise"),
        styles=(*small.styles, "paper cut-out"),
        sizes=small.sizes,
    )  # fmt: skip


WORLDS = {"full_world": full_world, "small_world": small_world, "studio_world": studio_world}


def named_world(name: str) -> World:
    """The world with a name of WORLDS.

    Raises:
        AtelierError: there is no such world.
    """
    if name not in WORLDS:
        raise AtelierError(f"There is no world {name!r}; there are {', '.join(WORLDS)}.")
    return WORLDS[name]()


def vocabulary(world: World) -> dict[str, list[str]]:
    """The phrases that captions of a world may contain: kind of phrase → phrases."""
    return {
        "subjects": [f"{SUBJECTS[name].noun} {SUBJECTS[name].dish}".strip() for name in world.subjects],
        "colours": list(world.colours),
        "settings": [phrase for name in world.settings for phrase in (SETTINGS[name].phrase, SETTINGS[name].name)],
        "poses": ["landing …"],
        "times": [phrase for phrases in TIME_PHRASES.values() for phrase in phrases]
        + [f"{name} over …" for name in TIME_NAMES.values()],
        "styles": [phrase.format("…") for name in world.styles for phrase in STYLE_PHRASES[name]],
        "sizes": sorted({size for size in world.sizes if size in SIZE_WORDS}),
        "places": [PLACE_PHRASES[place] for place in dict.fromkeys(world.places) if place in PLACE_PHRASES],
        "pairs": [f"… {relation} …" for relation in RELATIONS] if world.pairs else [],
    }
