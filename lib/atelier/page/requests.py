"""The requests that the page's server accepts. Each is checked whole, for it may come from any program."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from atelier.decoding import SamplingOptions
from atelier.page.faults import PageError
from atelier.page.gallery import COUNTS
from atelier.page.presets import Presets
from atelier.weights.tokenizer import clean_texts

MOST_CHARACTERS = 500
LARGEST_SEED = 2**31 - 1
MOST_GUIDANCE, MOST_TEMPERATURE = 10, 2


@dataclass(frozen=True)
class DrawRequest:
    """What to draw, and how.

    Attributes:
        prompt: what to draw.
        preset: the name of the preset.
        n: pictures, one of COUNTS.
        seed: None chooses one at random.
        guidance, temperature: None takes the preset's.
        rank: whether the best picture comes first.
        first_codes: codes with which every picture begins.
    """

    prompt: str
    preset: str
    n: int
    seed: int | None
    guidance: float | None
    temperature: float | None
    rank: bool
    first_codes: tuple[int, ...]

    @property
    def sampling(self) -> SamplingOptions:
        """The options of `Sampling` that are given."""
        given = {"guidance": self.guidance, "temperature": self.temperature}
        return cast(SamplingOptions, {name: value for name, value in given.items() if value is not None})

    def settings(self, seed: int | None) -> dict[str, Any]:
        """The request, with the seed that was used, such that it draws the same pictures again."""
        settings = {"prompt": self.prompt, "preset": self.preset, "n": self.n, "seed": seed, **self.sampling}
        return settings | ({"first_codes": list(self.first_codes)} if self.first_codes else {})


def draw_request(values: Any, presets: Presets) -> DrawRequest:
    """Check a request to draw: a JSON object, of which only "prompt" must be given.

    Raises:
        PageError: if a value is missing, unknown, of the wrong type or out of range.
    """
    values = _object(values, DrawRequest.__annotations__)
    preset = values.get("preset") or presets.first
    described = presets.preset(preset).vqgan
    return DrawRequest(
        prompt=_prompt(values.get("prompt")),
        preset=preset,
        n=_count(values.get("n", COUNTS[-1])),
        seed=_seed(values.get("seed")),
        guidance=_number("guidance", values.get("guidance"), MOST_GUIDANCE),
        temperature=_number("temperature", values.get("temperature"), MOST_TEMPERATURE),
        rank=_truth("rank", values.get("rank", True)),
        first_codes=_codes(values.get("first_codes") or [], described.codes, range(described.grid**2)),
    )


@dataclass(frozen=True)
class LookRequest:
    """A picture whose attention to the words is wanted: its prompt, its preset, and its codes, row by row."""

    prompt: str
    preset: str
    codes: tuple[int, ...]


def look_request(values: Any, presets: Presets) -> LookRequest:
    """Check a request to look inside a picture.

    Raises:
        PageError: as for `draw_request`.
    """
    values = _object(values, LookRequest.__annotations__)
    preset = values.get("preset") or presets.first
    return LookRequest(_prompt(values.get("prompt")), preset, _picture(values.get("codes"), preset, presets))


@dataclass(frozen=True)
class SaveRequest:
    """Pictures to save in one file.

    Attributes:
        preset: the name of their preset.
        settings: those that drew them; they are written into the file.
        pictures: the codes of each picture, row by row.
    """

    preset: str
    settings: dict[str, Any]
    pictures: tuple[tuple[int, ...], ...]


def save_request(values: Any, presets: Presets) -> SaveRequest:
    """Check a request to save pictures: {"settings": as for `draw_request`, "pictures": [codes, …], "place": number}.

    Raises:
        PageError: as for `draw_request`.
    """
    values = _object(values, ("settings", "pictures", "place"))
    drawn = draw_request(values.get("settings"), presets)
    pictures, place = values.get("pictures"), values.get("place")
    if not isinstance(pictures, list) or not 1 <= len(pictures) <= max(COUNTS):
        raise PageError(f"Give the codes of 1 to {max(COUNTS)} pictures as a list.")
    facts = drawn.settings(drawn.seed)
    if place is not None:
        facts["place"] = _whole("place", place, 1, max(COUNTS))
    checked = tuple(_picture(codes, drawn.preset, presets) for codes in pictures)
    return SaveRequest(drawn.preset, facts, checked)


# ---------------------------------------------------------------------------------------------- single values


def _object(values: Any, known: Mapping[str, Any] | tuple[str, ...]) -> dict[str, Any]:
    if not isinstance(values, dict):
        raise PageError(f"The request is {_kind(values)}; send a JSON object with {', '.join(known)}.")
    unknown = [name for name in values if name not in known]
    if unknown:
        raise PageError(f"There is no setting {unknown[0][:40]!r}; there are {', '.join(known)}.")
    return values


def _prompt(prompt: Any) -> str:
    if prompt is not None and not isinstance(prompt, str):
        raise PageError(f"The prompt is {_kind(prompt)}; give text.")
    (prompt,) = clean_texts([prompt or ""])
    if not prompt.strip():
        raise PageError("The prompt is empty; say what to draw.")
    if len(prompt) > MOST_CHARACTERS:
        raise PageError(f"The prompt has {len(prompt):,} characters; give at most {MOST_CHARACTERS}.")
    return prompt


def _count(n: Any) -> int:
    if isinstance(n, bool) or not isinstance(n, int | float) or n not in COUNTS:
        raise PageError(f"n is {_kind(n)}; draw {', '.join(map(str, COUNTS[:-1]))} or {COUNTS[-1]} pictures.")
    return int(n)


def _seed(seed: Any) -> int | None:
    return None if seed is None else _whole("The seed", seed, 0, LARGEST_SEED)


def _whole(name: str, number: Any, low: int, high: int) -> int:
    if not _within(number, low, high) or number != int(number):
        raise PageError(f"{name} is {_kind(number)}; give a whole number from {low} to {high}.")
    return int(number)


def _number(name: str, number: Any, high: float) -> float | None:
    if number is not None and not _within(number, 0, high):
        raise PageError(f"{name} is {_kind(number)}; give a number from 0 to {high}.")
    return number


def _truth(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise PageError(f"{name} is {_kind(value)}; give true or false.")
    return value


def _picture(codes: Any, preset: str, presets: Presets) -> tuple[int, ...]:
    vqgan = presets.preset(preset).vqgan
    return _codes(codes, vqgan.codes, range(vqgan.grid**2, vqgan.grid**2 + 1))


def _codes(codes: Any, count: int, lengths: range) -> tuple[int, ...]:
    """Check a list of codes below `count`, as long as one of `lengths`."""
    right = isinstance(codes, list) and len(codes) in lengths
    if not right or not all(_within(code, 0, count - 1) and code == int(code) for code in codes):
        wanted = lengths[0] if len(lengths) == 1 else f"at most {lengths[-1]}"
        raise PageError(f"The codes do not fit the preset; give {wanted} whole numbers from 0 to {count - 1}.")
    return tuple(map(int, codes))


def _within(number: Any, low: float, high: float) -> bool:
    return isinstance(number, int | float) and not isinstance(number, bool) and low <= number <= high


def _kind(value: Any) -> str:
    """A value from a request as a part of a sentence, shortened."""
    match value:
        case None:
            return "missing"
        case bool():
            return str(value).lower()
        case int() | float():
            return f"{value!r:.30}"
        case str():
            return f"the text {value!r:.30}"
        case list():
            return "a list"
    return "an object"
