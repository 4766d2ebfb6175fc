"""Exercises: `check` looks at a learner's answer and names what is wrong in it.

A lesson's module here registers a checker for each of its exercises with `@exercise`. A checker gets the answer, tries
it out, and raises `AnswerError` with a sentence about this very answer, or returns if it is right.
"""

from __future__ import annotations

import html
import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from IPython.display import display
from torch import Tensor

from atelier.errors import AtelierError


class AnswerError(AtelierError):
    """An answer is wrong; the message says what is wrong in it, and not what the right one is."""


@dataclass(frozen=True)
class Exercise:
    """What `check` needs to know of one. `key` is its lesson's and a number ("2d.1")."""

    key: str
    checker: Callable[[Any], None]


EXERCISES: dict[str, Exercise] = {}


def exercise(key: str) -> Callable[[Callable[[Any], None]], Callable[[Any], None]]:
    """Register the decorated checker under `key`."""

    def register(checker: Callable[[Any], None]) -> Callable[[Any], None]:
        EXERCISES[key] = Exercise(key, checker)
        return checker

    return register


@dataclass(frozen=True)
class Verdict:
    """What came out: mark is "○" (not tried yet), "✗" or "✓"; message says more where there is more to say."""

    key: str
    mark: str
    message: str

    def __str__(self) -> str:
        return f"{self.mark} {self.key}: {self.message}"

    def _repr_mimebundle_(self, **_: object) -> dict[str, str]:
        colour = {"○": "#6B7280", "✗": "#B42318", "✓": "#00704F"}[self.mark]
        words = html.escape(self.message)
        markup = f'<div><b style="color: {colour}">{self.mark} {self.key}</b> {words}</div>'
        return {"text/plain": str(self), "text/html": markup}


def check(key: str, answer: Any) -> None:
    """Say how an answer stands: ○ not tried yet, ✗ and what is wrong in it, or ✓. Never raises.

    Args:
        key: of the exercise, as in its heading.
        answer: the function, class or value that it asks for. A function not tried yet raises NotImplementedError; a
            value not tried yet is None.
    """
    display(judge(key, answer))


def judge(key: str, answer: Any) -> Verdict:
    """What `check` displays."""
    try:
        checker = _find(key).checker
        if answer is None or answer is Ellipsis:
            raise NotImplementedError
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            checker(answer)
    except NotImplementedError:
        return Verdict(key, "○", "not tried yet.")
    except AnswerError as fault:
        return Verdict(key, "✗", str(fault))
    except Exception as fault:  # a learner's code may raise anything, and "Run all" must go on
        return Verdict(key, "✗", f"it stopped with {type(fault).__name__}: {fault}")
    return Verdict(key, "✓", "right.")


def _find(key: str) -> Exercise:
    """The exercise of that key; its lesson's module is imported when it is first asked for."""
    lesson = key.split(".")[0]
    name = f"{__name__}.lesson_{lesson}"
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as fault:
        if fault.name != name:
            raise
    if key not in EXERCISES:
        raise AtelierError(f"There is no exercise {key!r}; its number stands in the heading above.")
    return EXERCISES[key]


# ---------------------------------------------------------------------------------------------- what checkers share


def expect_tensor(result: Any, shape: tuple[int, ...], called: str = "your function") -> Tensor:
    """The result as a tensor of that shape.

    Raises:
        AnswerError: if it is nothing, no tensor, or a tensor of another shape.
    """
    if result is None:
        raise AnswerError(f"{called} returned nothing: does it end in a return?")
    if not isinstance(result, Tensor):
        raise AnswerError(f"{called} returned a {type(result).__name__}, where a tensor is wanted.")
    if tuple(result.shape) != shape:
        raise AnswerError(f"{called} returned the shape {tuple(result.shape)}, where {shape} is wanted.")
    return result


def expect_close(
    result: Tensor, wanted: Tensor, faults: Mapping[str, Tensor] | None = None, tolerance: float = 1e-4
) -> None:
    """Compare numbers, and recognise well-known mistakes by what they would have given.

    Args:
        result: the answer's.
        wanted: the right ones, of the same shape.
        faults: what to say → the numbers that this mistake gives.
        tolerance: relative to the largest of the wanted numbers.

    Raises:
        AnswerError: with the words of the fault whose numbers these are, or with the largest difference.
    """
    if _alike(result, wanted, tolerance):
        return
    for words, numbers in (faults or {}).items():
        if numbers.shape == result.shape and _alike(result, numbers, tolerance):
            raise AnswerError(words)
    if not torch.isfinite(result.double()).all():
        raise AnswerError("some numbers are infinite or not numbers: is there a division by 0, or a logarithm of it?")
    worst = (result.double() - wanted.double()).abs().max().item()
    raise AnswerError(f"the shape is right, but the numbers are not: the largest difference is {worst:.3g}.")


def _alike(a: Tensor, b: Tensor, tolerance: float) -> bool:
    scale = b.double().abs().max().clamp(min=1e-6)
    return bool(((a.detach().double() - b.detach().double()).abs() <= tolerance * scale).all())
