"""A scene: the description from which both a picture and its caption are made."""

from __future__ import annotations

import difflib
from collections.abc import Collection
from dataclasses import dataclass

from atelier.errors import AtelierError
from atelier.world.inks import INKS
from atelier.world.settings import SETTINGS, TIMES
from atelier.world.subjects import COLOURS, SUBJECTS


@dataclass(frozen=True, slots=True)
class Scene:
    """What a picture shows.

    Attributes:
        subject: a name of the vocabulary, or None for a setting without a subject.
        colour: the subject's colour, a name.
        setting: a name, or None for a plain ground.
        time: "day", "sunset" or "night".
        style: a name.
        pose: "standing" or "landing".
        place: "left", "centre" or "right".
        size: "small", "big", "large" (the small world) or "huge" (sprites); the last two vary less in position.
        second: the second subject and its colour, or None.
        relation: where the first subject is, seen from the second: "next to" or "above" it.
        seed: decides the rest: exact positions, clouds, the caption's wording.
    """

    subject: str | None
    colour: str
    setting: str | None
    time: str
    style: str
    pose: str = "standing"
    place: str = "centre"
    size: str = "big"
    second: tuple[str, str] | None = None
    relation: str = "next to"
    seed: int = 0


def check(scene: Scene) -> None:
    """Check that every name in a scene is in the vocabulary.

    Raises:
        AtelierError: a name is not; the message has the nearest known name.
    """
    pairs = [(scene.subject, scene.colour), *([scene.second] if scene.second else [])]
    named: list[tuple[str, str | None, Collection[str]]] = [
        *(("subject", subject, SUBJECTS) for subject, _ in pairs),
        *(("colour", colour, COLOURS) for _, colour in pairs),
        ("setting", scene.setting, SETTINGS),
        ("time", scene.time, TIMES),
        ("style", scene.style, INKS),
    ]
    for field, name, known in named:
        if name is not None and name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0)
            raise AtelierError(f"There is no {field} {name!r} in the painted world; the nearest name is {near[0]!r}.")
