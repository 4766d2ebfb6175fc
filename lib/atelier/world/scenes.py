"""A scene: everything a picture and its caption agree on."""

from __future__ import annotations

from dataclasses import dataclass


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
        size: "small" or "big"; "large" and "huge", in the small world and in sprites, stand closer to their places.
        second: the second subject and its colour, or None.
        relation: how the first subject stands to the second.
        seed: decides what is left open: exact positions, clouds, the caption's wording.
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
