"""Captions: a scene in words, and words as a scene.

The language is small and closed, so that every word can be learned; its wording varies with the scene's seed. What a
caption leaves unsaid is open: the pictures it describes differ in it.
"""

from __future__ import annotations

import re

from atelier.errors import AtelierError
from atelier.world.scenes import Scene
from atelier.world.settings import SETTINGS
from atelier.world.subjects import COLOURS, SUBJECTS

STYLE_PHRASES: dict[str, tuple[str, ...]] = {
    "photo": ("a photo of {}", "a photograph of {}"),
    "cartoon": ("a cartoon of {}", "a cartoon drawing of {}"),
    "stained glass": ("a stained glass window with an image of {}", "a stained glass window of {}"),
    "watercolour": ("a watercolour of {}", "a watercolour painting of {}"),
    "paper cut-out": ("a paper cut-out of {}", "{} cut out of paper"),
    "pencil drawing": ("a pencil drawing of {}", "a pencil sketch of {}"),
}
TIME_PHRASES = {
    "day": ("by day", "on a clear day"),
    "sunset": ("at sunset", "in the evening sun"),
    "night": ("at night", "under the stars"),
}
TIME_NAMES = {"day": "a clear day", "sunset": "sunset", "night": "night"}
PLACE_PHRASES = {"left": "on the left", "right": "on the right"}
SIZE_WORDS = {"small": "small"}  # size → word; the usual size goes without saying
RELATIONS = ("next to", "above")


def caption(scene: Scene, complete: bool = False) -> str:
    """Say in words what a scene shows.

    Args:
        scene: the scene; its seed chooses the wording and what is left unsaid.
        complete: name subject, colour, setting and style, whatever the seed would leave out.
    """
    dice = _Dice(scene.seed)
    what = _subjects(scene, dice, complete) if scene.subject else _empty_scene(scene, dice)
    where = _surroundings(scene, dice, complete) if scene.subject else ""
    body = f"{what} {where}".strip()
    goes_without_saying = dice.chance(0.4 if scene.style == "photo" else 0.03)
    return body if goes_without_saying and not complete else dice.pick(STYLE_PHRASES[scene.style]).format(body)


def _subjects(scene: Scene, dice: _Dice, complete: bool) -> str:
    """ "a small red cat next to a house"."""
    assert scene.subject is not None
    first = _thing(scene.subject, scene.colour, dice, complete)
    if scene.size in SIZE_WORDS and not SUBJECTS[scene.subject].dish and dice.chance(0.8):
        first = _insert(first, SIZE_WORDS[scene.size])
    return f"{first} {scene.relation} {_thing(*scene.second, dice, complete)}" if scene.second else first


def _surroundings(scene: Scene, dice: _Dice, complete: bool) -> str:
    """ "landing on the beach at sunset on the left"."""
    parts = ["landing"] if scene.pose == "landing" else []
    if scene.setting and (complete or not dice.chance(0.06)):
        parts += [SETTINGS[scene.setting].phrase, _time(scene, dice)]
    if scene.place in PLACE_PHRASES and not scene.second and dice.chance(0.8):
        parts.append(PLACE_PHRASES[scene.place])
    return " ".join(part for part in parts if part)


def _empty_scene(scene: Scene, dice: _Dice) -> str:
    """ "sunset over the sea", "the sea at night"."""
    if scene.setting is None:
        return "nothing at all"
    where = SETTINGS[scene.setting]
    if where.sky and dice.chance(0.6):
        return f"{TIME_NAMES[scene.time]} over {where.name}"
    return f"{where.name} {_time(scene, dice)}".strip()


def _time(scene: Scene, dice: _Dice) -> str:
    """The time of day, where it can be seen; that it is day goes without saying half of the time."""
    assert scene.setting is not None
    said = SETTINGS[scene.setting].sky and dice.chance(0.5 if scene.time == "day" else 0.9)
    return dice.pick(TIME_PHRASES[scene.time]) if said else ""


def _thing(name: str, colour: str, dice: _Dice, complete: bool) -> str:
    """A subject with its colour: a colour of its own may go unsaid."""
    subject = SUBJECTS[name]
    if colour == subject.natural and not complete and dice.chance(0.5):
        return subject.noun
    if subject.dish:
        preposition, dish = subject.dish.split(" ", 1)
        return f"{subject.noun} {preposition} {_insert(dish, colour)}"
    return _insert(subject.noun, colour)


def _insert(noun: str, word: str) -> str:
    """Put an adjective behind the article, and mend the article."""
    article, rest = noun.split(" ", 1)
    if article in ("a", "an"):
        article = "an" if word[0] in "aeiou" else "a"
    return f"{article} {word} {rest}"


class _Dice:
    """A short random stream from a scene's seed (SplitMix64)."""

    def __init__(self, seed: int) -> None:
        self.state = self._mixed(seed)  # mixed once, or neighbouring seeds would share a stream

    def roll(self) -> float:
        self.state = (self.state + 0x9E3779B97F4A7C15) & 0xFFFFFFFFFFFFFFFF
        return (self._mixed(self.state) >> 11) / 2**53

    @staticmethod
    def _mixed(z: int) -> int:
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & 0xFFFFFFFFFFFFFFFF
        return z ^ (z >> 31)

    def chance(self, probability: float) -> bool:
        return self.roll() < probability

    def pick(self, options: tuple[str, ...]) -> str:
        return options[int(self.roll() * len(options))]


def parse(text: str) -> Scene:
    """Read a caption of the world's language back into a scene; what it leaves unsaid gets the usual value.

    Raises:
        AtelierError: the text names neither a subject nor a setting of the world, or has words that mean nothing in it.
    """
    rest = f" {' '.join(re.sub(r'[^a-z0-9 -]', ' ', text.lower()).split())} "
    style, rest = _take(rest, [(p.replace("{}", "").strip(), key) for key, ps in STYLE_PHRASES.items() for p in ps])
    relation, _ = _take(rest, [(relation, relation) for relation in RELATIONS])
    first, _, second = rest.partition(f" {relation} ") if relation else (rest, "", "")
    # The second subject's noun ends where the setting begins, so each side can be read on its own.
    found = _read(f"{first} ")
    other = _read(f" {second}")
    unknown = [*found.pop("unknown").split(), *other.pop("unknown").split()]
    if unknown:
        raise AtelierError(f"The painted world has no word for {', '.join(map(repr, unknown))}.")
    if not {"subject", "setting"} & found.keys():
        raise AtelierError(f"{text!r} names neither a subject nor a setting of the painted world.")
    subject, partner = found.get("subject"), other.get("subject")
    said = {**other, **found}
    return Scene(
        subject,
        _colour(found, subject),
        said.get("setting"),
        said.get("time", "day"),
        style or "photo",
        pose=said.get("pose", "standing"),
        place=said.get("place", "centre"),
        size=said.get("size", "big"),
        second=(partner, _colour(other, partner)) if partner else None,
        relation=relation or "next to",
    )


GLUE = {"a", "an", "the", "of", "on", "in", "by", "with", "image", "over", "plate", "bowl", "to", "at", "under"}


def _read(rest: str) -> dict[str, str]:
    """The attributes named in one part of a caption, and under "unknown" the words that mean nothing."""
    phrases = {
        "pose": [("landing", "landing")],
        "setting": [(text, key) for key, s in SETTINGS.items() for text in (s.phrase, s.name)],
        "time": [(p, t) for t, ps in TIME_PHRASES.items() for p in (*ps, TIME_NAMES[t])],
        "place": [(phrase, place) for place, phrase in PLACE_PHRASES.items()],
        "subject": [(subject.noun.split(" ", 1)[1].lower(), name) for name, subject in SUBJECTS.items()],
        "size": [(word, size) for size, word in SIZE_WORDS.items()],
        "colour": [(colour, colour) for colour in COLOURS],
    }
    found = {}
    for attribute, pairs in phrases.items():
        value, rest = _take(rest, pairs)
        if value is not None:
            found[attribute] = value
    return {**found, "unknown": " ".join(word for word in rest.split() if word not in GLUE)}


def _take(rest: str, pairs: list[tuple[str, str]]) -> tuple[str | None, str]:
    """The value of the longest phrase that occurs in the text, and the text without it."""
    hits = [(phrase, value) for phrase, value in pairs if f" {phrase} " in rest]
    if not hits:
        return None, rest
    phrase, value = max(hits, key=lambda hit: len(hit[0]))
    return value, rest.replace(f" {phrase} ", " ", 1)


def _colour(found: dict[str, str], subject: str | None) -> str:
    return found.get("colour") or (SUBJECTS[subject].natural if subject else "white")
