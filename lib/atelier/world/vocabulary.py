"""A world is a vocabulary: what its scenes may show. A smaller vocabulary is a smaller world."""

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

HeldOut = Literal["never", "allowed", "only"]
Roll = Callable[[], float]  # uniform in [0, 1)


@dataclass(frozen=True)
class World:
    """What can be in a scene, and how often.

    Attributes:
        subjects, settings, colours, styles: names of the vocabulary.
        places, sizes: where subjects stand and how big they are.
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
        """The four attributes a judge can tell, each with its values."""
        return {"subject": self.subjects, "setting": self.settings, "colour": self.colours, "style": self.styles}

    def sample(self, n: int, seed: int, held_out: HeldOut = "never", complete: bool = False) -> list[Scene]:
        """Draw n scenes.

        Args:
            n: how many.
            seed: the same seed gives the same scenes; seeds that differ give scenes that differ.
            held_out: "never" leaves out the combinations of HELD_OUT, "allowed" does not, "only" draws nothing else,
                each combination as often.
            complete: one subject and a setting in every scene, so that a caption can state all four attributes.

        Raises:
            AtelierError: "only", for a world without any held-out combination.
        """
        dice = random.Random(f"{self.name} {seed}")
        if held_out == "only":
            return [self._scene(dice, complete, self._held_out(number)) for number in range(n)]
        scenes: list[Scene] = []
        while len(scenes) < n:
            scene = self._scene(dice, complete)
            if held_out == "allowed" or not is_held_out(scene):
                scenes.append(scene)
        return scenes

    def _held_out(self, number: int) -> dict[str, str]:
        """The fields of one held-out combination of this world; they come in turn."""
        inside = [(s, a, v) for s, a, v in HELD_OUT if s in self.subjects and v in self.attributes[a]]
        if not inside:
            raise AtelierError(f"The world {self.name!r} has none of the held-out combinations, so it cannot draw any.")
        subject, attribute, value = inside[number % len(inside)]
        return {"subject": subject, attribute: value}

    def labels(self, scene: Scene) -> dict[str, int]:
        """The scene's four attributes as class numbers of this world, -1 for what is not in the picture."""
        colour = scene.colour if scene.subject else None
        values = {"subject": scene.subject, "setting": scene.setting, "colour": colour, "style": scene.style}
        return {name: _index(self.attributes[name], value) for name, value in values.items()}

    def _scene(self, dice: random.Random, complete: bool, fixed: dict[str, str] | None = None) -> Scene:
        """A random scene; `fixed` names fields that are not left to chance."""
        roll, fixed = dice.random, fixed or {}
        whole = complete or bool(fixed)  # with a subject and a setting
        subject = None if not whole and roll() < 0.12 else _pick(self.subjects, roll)
        setting = None if subject and not whole and roll() < 0.06 else _pick(self.settings, roll)
        subject, setting = fixed.get("subject", subject), fixed.get("setting", setting)
        second = None
        if subject and not complete and roll() < self.pairs:
            second = (_other(self.subjects, subject, roll), _pick(self.colours, roll))
        lands = subject and setting and not SUBJECTS[subject].floats and roll() < 0.10
        return Scene(
            subject=subject,
            colour=fixed.get("colour", self._colour(subject, roll) if subject else "white"),
            setting=setting,
            time=_pick(TIMES, roll) if setting and SETTINGS[setting].sky else "day",
            style=fixed.get("style", _pick(self.styles, roll)),
            pose="landing" if lands else "standing",
            place=_pick(self.places, roll),
            size=_pick(self.sizes, roll),
            second=second,
            relation=_pick(RELATIONS, roll),
            seed=dice.getrandbits(31),
        )

    def _colour(self, subject: str, roll: Roll) -> str:
        natural = SUBJECTS[subject].natural
        return natural if natural in self.colours and roll() < 0.15 else _pick(self.colours, roll)


def _pick(options: Sequence[str], roll: Roll) -> str:
    return options[int(roll() * len(options))]


def _other(options: Sequence[str], but: str, roll: Roll) -> str:
    index = int(roll() * (len(options) - 1))
    return options[index if options[index] != but else -1]


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
    """What two CPU cores can learn in an afternoon: few, big subjects, one to a picture."""
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
    """What two CPU cores can learn in ten hours at 128 pixels: twice the subjects of the small world."""
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
    """The world of a name in WORLDS. Raises AtelierError for any other name."""
    if name not in WORLDS:
        raise AtelierError(f"There is no world {name!r}; there are {', '.join(WORLDS)}.")
    return WORLDS[name]()


def vocabulary(world: World) -> dict[str, list[str]]:
    """What can be said about a world's scenes: kind of phrase → phrases."""
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
