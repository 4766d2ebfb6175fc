"""Captions: from a scene to its caption, and from a caption back to a scene.

The language is small and closed, so that every word can be learned. The wording varies with the scene's seed, and a
caption may leave attributes out; scenes with the same caption can then differ in those attributes.
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
SIZE_WORDS = {"small": "small"}  # size → word; other sizes are not mentioned
RELATIONS = ("next to", "above")


def caption(scene: Scene, complete: bool = False) -> str:
    """Write the caption of a scene.

    Args:
        scene: the scene; its seed chooses the wording and which attributes are left out.
        complete: always name subject, colour, setting and style.
    """
    random = _RandomStream(scene.seed)
    what = _subjects(scene, random, complete) if scene.subject else _empty_scene(scene, random)
    where = _surroundings(scene, random, complete) if scene.subject else ""
    body = f"{what} {where}".strip()
    leaves_style_out = random.chance(0.4 if scene.style == "photo" else 0.03)
    return body if leaves_style_out and not complete else random.pick(STYLE_PHRASES[scene.style]).format(body)


def _subjects(scene: Scene, random: _RandomStream, complete: bool) -> str:
    """The part about the subjects: "a small red cat next to a house"."""
    assert scene.subject is not None
    first = _subject(scene.subject, scene.colour, random, complete)
    if scene.size in SIZE_WORDS and not SUBJECTS[scene.subject].dish and random.chance(0.8):
        first = insert_adjective(first, SIZE_WORDS[scene.size])
    return f"{first} {scene.relation} {_subject(*scene.second, random, complete)}" if scene.second else first


def _surroundings(scene: Scene, random: _RandomStream, complete: bool) -> str:
    """The part after the subjects: "landing on the beach at sunset on the left"."""
    parts = ["landing"] if scene.pose == "landing" else []
    if scene.setting and (complete or not random.chance(0.06)):
        parts += [SETTINGS[scene.setting].phrase, _time(scene, random)]
    if scene.place in PLACE_PHRASES and not scene.second and random.chance(0.8):
        parts.append(PLACE_PHRASES[scene.place])
    return " ".join(part for part in parts if part)


def _empty_scene(scene: Scene, random: _RandomStream) -> str:
    """A setting without a subject: "sunset over the sea", "the sea at night"."""
    if scene.setting is None:
        return "nothing at all"
    where = SETTINGS[scene.setting]
    if where.sky and random.chance(0.6):
        return f"{TIME_NAMES[scene.time]} over {where.name}"
    return f"{where.name} {_time(scene, random)}".strip()


def _time(scene: Scene, random: _RandomStream) -> str:
    """The time of day, or "" where it cannot be seen or is left out; half of the captions leave out that it is day."""
    assert scene.setting is not None
    named = SETTINGS[scene.setting].sky and random.chance(0.5 if scene.time == "day" else 0.9)
    return random.pick(TIME_PHRASES[scene.time]) if named else ""


def _subject(name: str, colour: str, random: _RandomStream, complete: bool) -> str:
    """A subject with its colour; its natural colour may be left out."""
    left_out = colour == SUBJECTS[name].natural and not complete and random.chance(0.5)
    return subject_phrase(name, None if left_out else colour)


def subject_phrase(name: str, colour: str | None = None) -> str:
    """A subject as captions name it: "a cat", "a green cat", "the food of china in a blue bowl"."""
    subject = SUBJECTS[name]
    if colour is None:
        return subject.noun
    if subject.dish:
        preposition, dish = subject.dish.split(" ", 1)
        return f"{subject.noun} {preposition} {insert_adjective(dish, colour)}"
    return insert_adjective(subject.noun, colour)


def insert_adjective(noun: str, word: str) -> str:
    """Put an adjective after the article of a noun, and change "a" to "an" or back where the adjective needs it."""
    article, rest = noun.split(" ", 1)
    if article in ("a", "an"):
        article = "an" if word[0] in "aeiou" else "a"
    return f"{article} {word} {rest}"


class _RandomStream:
    """A short stream of random numbers from a scene's seed (SplitMix64)."""

    def __init__(self, seed: int) -> None:
        self.state = self._mix(seed)  # without this, neighbouring seeds would give the same numbers, one step apart

    def uniform(self) -> float:
        """The next number, uniform in [0, 1)."""
        self.state = (self.state + 0x9E3779B97F4A7C15) & 0xFFFFFFFFFFFFFFFF
        return (self._mix(self.state) >> 11) / 2**53

    @staticmethod
    def _mix(z: int) -> int:
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & 0xFFFFFFFFFFFFFFFF
        return z ^ (z >> 31)

    def chance(self, probability: float) -> bool:
        """True with the given probability."""
        return self.uniform() < probability

    def pick(self, options: tuple[str, ...]) -> str:
        """One of the options, each equally likely."""
        return options[int(self.uniform() * len(options))]


def parse(text: str) -> Scene:
    """Read a caption of the world's language back into a scene; attributes that it leaves out get their default.

    Raises:
        AtelierError: the text names neither a subject nor a setting of the world, or has words outside its vocabulary.
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
    subject, second_subject = found.get("subject"), other.get("subject")
    both = {**other, **found}
    return Scene(
        subject,
        _colour(found, subject),
        both.get("setting"),
        both.get("time", "day"),
        style or "photo",
        pose=both.get("pose", "standing"),
        place=both.get("place", "centre"),
        size=both.get("size", "big"),
        second=(second_subject, _colour(other, second_subject)) if second_subject else None,
        relation=relation or "next to",
    )


IGNORED = {"a", "an", "the", "of", "on", "in", "by", "with", "image", "over", "plate", "bowl", "to", "at", "under"}


def _read(rest: str) -> dict[str, str]:
    """The attributes named in one part of a caption, and under "unknown" the words outside the vocabulary."""
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
    return {**found, "unknown": " ".join(word for word in rest.split() if word not in IGNORED)}


def _take(rest: str, pairs: list[tuple[str, str]]) -> tuple[str | None, str]:
    """The value of the longest phrase that occurs in the text, and the text without it."""
    hits = [(phrase, value) for phrase, value in pairs if f" {phrase} " in rest]
    if not hits:
        return None, rest
    phrase, value = max(hits, key=lambda hit: len(hit[0]))
    return value, rest.replace(f" {phrase} ", " ", 1)


def _colour(found: dict[str, str], subject: str | None) -> str:
    return found.get("colour") or (SUBJECTS[subject].natural if subject else "white")
