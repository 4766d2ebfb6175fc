"""Exercises: `check` tests a learner's answer and says what is wrong in it.

The module of a lesson registers a checker for each exercise with `@exercise`. A checker gets the answer and tests it.
It returns if the answer is right; otherwise it raises `AnswerError` with a sentence about what is wrong in this answer.
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
    """An answer is wrong; the message says what is wrong in it, but not the right answer."""


@dataclass(frozen=True)
class Exercise:
    """An exercise.

    Attributes:
        key: that of its lesson and a number, such as "2d.1".
        checker: takes an answer, and raises AnswerError if it is wrong.
    """

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
class CheckResult:
    """The result of checking an answer.

    Attributes:
        key: of the exercise.
        mark: "○" (not tried yet), "✗" (wrong) or "✓" (right).
        message: the mark in words, or what is wrong.
    """

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
    """Check an answer, and display the result: ○ not tried yet, ✗ and what is wrong, or ✓.

    Errors in the answer are displayed as well, not raised.

    Args:
        key: of the exercise, as in its heading.
        answer: the function, class or value that the exercise asks for. A function that raises NotImplementedError, or
            the value None, counts as not tried yet.
    """
    display(grade(key, answer))


def grade(key: str, answer: Any) -> CheckResult:
    """Check an answer; see `check`."""
    try:
        checker = _find(key).checker
        if answer is None or answer is Ellipsis:
            raise NotImplementedError
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            checker(answer)
    except NotImplementedError:
        return CheckResult(key, "○", "not tried yet.")
    except AnswerError as error:
        return CheckResult(key, "✗", str(error))
    except Exception as error:  # a learner's code may raise any exception, and "Run all" must go on
        return CheckResult(key, "✗", f"it stopped with {type(error).__name__}: {error}")
    return CheckResult(key, "✓", "right.")


def _find(key: str) -> Exercise:
    """The exercise with a key. The module of its lesson is imported when it is first needed.

    Raises:
        AtelierError: there is no such exercise.
    """
    lesson = key.split(".")[0]
    name = f"{__name__}.lesson_{lesson}"
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
    if key not in EXERCISES:
        raise AtelierError(f"There is no exercise {key!r}; its number is in the heading above.")
    return EXERCISES[key]


# ---------------------------------------------------------------------------------------------- what checkers share


def expect_tensor(result: Any, shape: tuple[int, ...], called: str = "your function") -> Tensor:
    """Check that a result is a tensor of the expected shape.

    Args:
        result: what the answer returned.
        shape: the expected shape.
        called: the name of the answer, for messages.

    Returns:
        The result.

    Raises:
        AnswerError: the result is None, not a tensor, or a tensor of another shape.
    """
    if result is None:
        raise AnswerError(f"{called} returned nothing: does it end in a return?")
    if not isinstance(result, Tensor):
        raise AnswerError(f"{called} returned a {type(result).__name__}; it should return a tensor.")
    if tuple(result.shape) != shape:
        raise AnswerError(f"{called} returned the shape {tuple(result.shape)}; it should return {shape}.")
    return result


def expect_number(result: Any, called: str = "the answer") -> float:
    """Check that a result is a number, or a tensor with one number.

    Args:
        result: the answer, or what it returned.
        called: its name, for messages.

    Returns:
        The result as a float.

    Raises:
        AnswerError: the result is neither.
    """
    if isinstance(result, Tensor) and result.numel() != 1:
        raise AnswerError(f"{called} has the shape {tuple(result.shape)}; it should be one number.")
    if isinstance(result, bool) or not isinstance(result, int | float | Tensor):
        raise AnswerError(f"{called} is a {type(result).__name__}; it should be a number.")
    return float(result)


def expect_close(
    result: Tensor, wanted: Tensor, faults: Mapping[str, Tensor] | None = None, tolerance: float = 1e-4
) -> None:
    """Compare numbers with the right ones, and recognise common mistakes by the numbers that they give.

    Args:
        result: what the answer returned.
        wanted: the right numbers, of the same shape.
        faults: the message for a mistake → the numbers that this mistake gives.
        tolerance: relative to the largest of the right numbers.

    Raises:
        AnswerError: the numbers are wrong; with the message of the mistake, or with the largest difference.
    """
    if _close(result, wanted, tolerance):
        return
    for message, numbers in (faults or {}).items():
        if numbers.shape == result.shape and _close(result, numbers, tolerance):
            raise AnswerError(message)
    if not torch.isfinite(result.double()).all():
        raise AnswerError("some numbers are infinite or NaN: is there a division by 0, or a logarithm of 0?")
    worst = (result.double() - wanted.double()).abs().max().item()
    raise AnswerError(f"the shape is right, but the numbers are wrong: the largest difference is {worst:.3g}.")


def _close(a: Tensor, b: Tensor, tolerance: float) -> bool:
    scale = b.double().abs().max().clamp(min=1e-6)
    return bool(((a.detach().double() - b.detach().double()).abs() <= tolerance * scale).all())
