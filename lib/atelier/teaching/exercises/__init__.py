"""Exercises: `check` tests a learner's answer and says what is wrong in it.

The module of a lesson registers a checker for each exercise with `@exercise`. A checker takes the answer, and raises
`AnswerError` with a sentence about what is wrong in this answer, unless the answer is right.
"""

from __future__ import annotations

import html
import importlib
import math
import signal
import threading
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any

import numpy as np
import torch
from IPython.display import display
from torch import Tensor

from atelier.errors import AtelierError
from atelier.teaching.room import send_result


class AnswerError(AtelierError):
    """An answer is wrong; the message says what is wrong in it, but not the right answer."""


@dataclass(frozen=True)
class Exercise:
    """An exercise.

    Attributes:
        key: the key of its lesson and a number, such as "2d.1".
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
        key: the key of the exercise.
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

    Errors in the answer are displayed as well, not raised. After `join_room`, the mark is sent to
    the room.

    Args:
        key: the key of the exercise, as in its heading.
        answer: the function, class or value that the exercise asks for. A function that raises NotImplementedError
            without a message, and the values None and ..., count as not tried yet.
    """
    result = grade(key, answer)
    display(result)
    send_result(key, result.mark)


def grade(key: str, answer: Any) -> CheckResult:
    """Check an answer; see `check`."""
    return run_checker(key, _find(key).checker, answer)


def run_checker(key: str, checker: Callable[[Any], None], answer: Any) -> CheckResult:
    """Run a checker on an answer, with the same random numbers each time; errors become part of the result.

    Raises:
        KeyboardInterrupt: if the user interrupts the checker with Ctrl-C.
    """
    interrupts: list[int] = []
    try:
        if answer is None or answer is Ellipsis:
            raise NotImplementedError
        with torch.random.fork_rng(devices=[]), _recorded_interrupts(interrupts):
            torch.manual_seed(0)
            checker(answer)
    except NotImplementedError as error:
        if not error.args:  # PyTorch raises one with a message, such as for the argmax of booleans
            return CheckResult(key, "○", "not tried yet.")
        return CheckResult(key, "✗", f"it stopped with {described(error)}")
    except AnswerError as error:
        return CheckResult(key, "✗", str(error))
    except KeyboardInterrupt as error:
        if interrupts:
            raise
        return CheckResult(key, "✗", f"it stopped with {described(error)}")
    except BaseException as error:  # a learner's code may raise anything, also SystemExit, and "Run all" must go on
        return CheckResult(key, "✗", f"it stopped with {described(error)}")
    return CheckResult(key, "✓", "right.")


@contextmanager
def _recorded_interrupts(interrupts: list[int]) -> Generator[None]:
    """Record the user's Ctrl-C, to tell its KeyboardInterrupt from one that the answer raises."""

    def record(number: int, _: FrameType | None) -> None:
        interrupts.append(number)
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():  # other threads cannot set signal handlers
        yield
        return
    before = signal.signal(signal.SIGINT, record)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def described(error: BaseException) -> str:
    """Describe an exception: its class and its message, unless the message cannot be made."""
    try:
        message = str(error)
    except Exception:  # a learner's own class of exceptions may be faulty
        message = "(its message cannot be shown)"
    return f"{type(error).__name__}: {message}"


def _find(key: str) -> Exercise:
    """Find the exercise with a key. The module of its lesson is imported when it is first needed.

    Raises:
        AtelierError: if there is no such exercise.
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
    """Check that a result is a tensor, or a NumPy array, of the expected shape.

    Args:
        result: what the answer returned.
        shape: the expected shape.
        called: the name of the answer, for messages.

    Returns:
        The result, as a tensor.

    Raises:
        AnswerError: if the result is None, not a tensor, complex, or of another shape.
    """
    if result is None:
        raise AnswerError(f"{called} returned nothing: does it end in a return?")
    if isinstance(result, np.ndarray | np.generic) and result.dtype.kind in "bif":
        result = torch.as_tensor(result)
    if not isinstance(result, Tensor):
        raise AnswerError(f"{called} returned a {type(result).__name__}; it should return a tensor.")
    if result.is_complex():
        raise AnswerError(f"{called} returned complex numbers; they should be real.")
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
        AnswerError: if the result is neither, or is complex, infinite or NaN.
    """
    if isinstance(result, Tensor | np.ndarray) and math.prod(result.shape) != 1:
        raise AnswerError(f"{called} has the shape {tuple(result.shape)}; it should be one number.")
    if isinstance(result, bool) or not isinstance(result, int | float | Tensor | np.ndarray | np.number):
        raise AnswerError(f"{called} is a {type(result).__name__}; it should be a number.")
    if isinstance(result, complex | np.complexfloating) or (isinstance(result, Tensor) and result.is_complex()):
        raise AnswerError(f"{called} is a complex number; it should be a real one.")
    number = float(result.item() if isinstance(result, Tensor | np.ndarray) else result)
    if not math.isfinite(number):
        raise AnswerError(f"{called} is {number}; it should be a finite number.")
    return number


def expect_numbers(result: Any, count: int, called: str = "the answer") -> list[float]:
    """Check that a result is a list, a tuple, a tensor or a NumPy array of `count` numbers.

    Args:
        result: the answer, or what it returned.
        count: how many numbers are expected.
        called: its name, for messages.

    Returns:
        The numbers.

    Raises:
        NotImplementedError: if all numbers are None or ..., so that the answer is not filled in yet.
        AnswerError: if the result is something else, or a number is missing.
    """
    if isinstance(result, Tensor | np.ndarray):
        result = result.tolist()
    if not isinstance(result, list | tuple) or len(result) != count:
        raise AnswerError(f"{called} should be a list of {count} numbers.")
    expect_filled_in(dict(enumerate(result, 1)), "number")
    return [expect_number(number, f"number {place}") for place, number in enumerate(result, 1)]


def expect_filled_in(parts: Mapping[Any, Any], called: str) -> None:
    """Check that no part of an answer is still None or ....

    Args:
        parts: the parts of the answer, by name.
        called: what a part is, for the message.

    Raises:
        NotImplementedError: if no part is filled in.
        AnswerError: if some parts are filled in, and others are not.
    """
    empty = [name for name, part in parts.items() if part is None or part is Ellipsis]
    if empty and len(empty) == len(parts):
        raise NotImplementedError
    if empty:
        raise AnswerError(f"{called} {', '.join(map(str, empty))} is not filled in yet.")


def expect_close(
    result: Tensor, wanted: Tensor, faults: Mapping[str, Tensor] | None = None, tolerance: float = 1e-4
) -> None:
    """Compare numbers with the right ones, and recognise common mistakes by the numbers that these give.

    Args:
        result: what the answer returned.
        wanted: the right numbers, of the same shape.
        faults: for each common mistake, its message and the numbers that it gives.
        tolerance: the largest allowed difference, relative to the largest of the right numbers. A mistake is recognised
            only if its numbers differ from the right ones by more than ten times as much.

    Raises:
        AnswerError: if the numbers are wrong, with the message of the mistake or the largest difference.
    """
    allowed = tolerance * max(1e-6, wanted.double().abs().max().item())
    if _close(result, wanted, allowed):
        return
    for message, numbers in (faults or {}).items():
        same_shape = numbers.shape == result.shape
        if same_shape and _close(result, numbers, allowed) and not _close(numbers, wanted, 10 * allowed):
            raise AnswerError(message)
    expect_finite(result)
    if not wanted.is_floating_point():
        raise AnswerError(f"{int((result != wanted).sum())} of {wanted.numel()} numbers are wrong.")
    worst = (result.double() - wanted.double()).abs().max().item()
    if wanted.ndim == 0:
        raise AnswerError(f"the number is wrong: it differs from the right one by {worst:.3g}.")
    raise AnswerError(f"the numbers are wrong: the largest difference is {worst:.3g}.")


def expect_finite(result: Tensor) -> None:
    """Check that no number is infinite or NaN.

    Raises:
        AnswerError: if one is.
    """
    if not torch.isfinite(result.double()).all():
        raise AnswerError("some numbers are infinite or NaN.")


def _close(a: Tensor, b: Tensor, tolerance: float) -> bool:
    """Whether two tensors differ nowhere by more than the tolerance; infinite numbers and NaN must be the same."""
    a, b = a.detach().double(), b.detach().double()
    same = (a == b) | (a.isnan() & b.isnan())
    near = (a - b).abs() <= tolerance  # False where the difference is NaN
    return bool((same | (near & a.isfinite() & b.isfinite())).all())
