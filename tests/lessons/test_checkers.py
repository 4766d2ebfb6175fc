"""Checkers: whatever an answer gives, no mistake is named that it does not contain."""

import math
import re
import signal
import sys
from itertools import combinations
from typing import Any

import numpy as np
import pytest
import torch
from atelier.teaching import exercises as course
from atelier.teaching import pieces as blocks
from atelier.teaching.exercises import (
    AnswerError,
    expect_close,
    expect_number,
    expect_numbers,
    expect_tensor,
    grade,
    run_checker,
)
from atelier.teaching.lessons import LESSONS
from atelier.teaching.pieces import Piece, pieces_of
from hypothesis import given, settings
from hypothesis import strategies as st
from test_lessons import exercises, namespace
from torch import Tensor

# What a checker may say of an answer that contains none of the mistakes it knows.
GENERAL = re.compile(
    r"returned (nothing|a |the shape)|should be|numbers? (are|is) wrong|infinite or NaN|is impossible|"
    r"is too (small|large)|is negative|it stopped with|the result is |returns two things|two calls gave the same|"
    r"not filled in|is missing; the stations|there should be five|nothing was written|standard deviations"
)
MAGNITUDES = [7.123, -7.77, 3.3e-30, 1.7e-4, 4.321e5, 1e30, -1e30, math.inf, -math.inf, math.nan]
OTHERS = ["text", [], {}, object(), 1j, np.array([1.0, 2.0]), [1, "a"], (None, 3), True, torch.tensor(1j)]
ANSWERS = {key: (lesson, parts) for lesson in LESSONS.values() for key, parts in exercises(lesson).items()}
PIECES = [piece for lesson in LESSONS for piece in pieces_of(lesson)]


def solution(key: str) -> Any:
    lesson, parts = ANSWERS[key]
    names = namespace(lesson)
    exec(parts["stub"], names)
    exec(parts["solution"], names)
    return names[parts["answer"]]


def filled(output: Any, value: float) -> Any:
    """The output of a solution with every number replaced by a value."""
    if isinstance(output, Tensor):
        if output.dtype == torch.bool:  # a mask of True alone is a mistake that the checker knows
            return output.roll(1)
        if output.is_floating_point():
            return torch.full_like(output.detach(), value)
        return torch.full_like(output, int(max(-1e6, min(1e6, value))) if math.isfinite(value) else 999)
    if isinstance(output, tuple | list):
        return type(output)(filled(part, value) for part in output)
    return value if isinstance(output, int | float) else output


@pytest.mark.parametrize("value", MAGNITUDES)
@pytest.mark.parametrize("key", ANSWERS)
def test_a_constant_of_any_magnitude_gets_no_false_diagnosis(key: str, value: float) -> None:
    answer = solution(key)
    given = (lambda *inputs: filled(answer(*inputs), value)) if callable(answer) else filled(answer, value)
    if not callable(answer) and not isinstance(answer, int | float | Tensor):
        given = value
    result = grade(key, given)
    if result.mark == "✓":
        assert answer is not None
        assert key == "5.4"  # it returns nothing
    else:
        assert GENERAL.search(result.message), result


@pytest.mark.parametrize("value", OTHERS, ids=lambda value: type(value).__name__)
@pytest.mark.parametrize("key", ANSWERS)
def test_another_type_gets_no_false_diagnosis(key: str, value: Any) -> None:
    result = grade(key, (lambda *inputs: value) if callable(solution(key)) else value)
    assert result.mark == "✗"
    assert GENERAL.search(result.message), result
    assert "it stopped with" not in result.message, result


@pytest.mark.parametrize("key", ANSWERS)
def test_every_mistake_that_is_recognised_gives_other_numbers_than_the_right_answer_and_the_others(
    key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def recording(result: Tensor, wanted: Tensor, faults: Any = None, tolerance: float = 1e-4) -> None:
        calls.append((wanted, dict(faults or {}), tolerance))
        expect_close(result, wanted, faults, tolerance)

    module = sys.modules[f"{course.__name__}.lesson_{ANSWERS[key][0].key}"] if grade(key, None) else None
    monkeypatch.setattr(module, "expect_close", recording, raising=False)
    assert grade(key, solution(key)).mark == "✓"
    apart: dict[tuple[str, str], bool] = {}  # whether two differ in any of the checker's comparisons
    for wanted, faults, tolerance in calls:
        scale = 3 * tolerance * max(1e-6, wanted.double().abs().max().item())
        fitting = {"the right answer": wanted}
        fitting |= {message: numbers for message, numbers in faults.items() if numbers.shape == wanted.shape}
        for (first, a), (second, b) in combinations(fitting.items(), 2):
            difference = (a.double() - b.double()).abs().nan_to_num(0.0, posinf=1e30).max().item()
            apart[first, second] = apart.get((first, second), False) or difference > scale
    assert [pair for pair, differ in apart.items() if not differ] == []


@pytest.mark.parametrize("piece", PIECES, ids=lambda piece: piece.key)
def test_every_mistake_in_a_piece_can_be_recognised(piece: Piece, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each differs from the right answer by enough for `expect_close` to name it, and from every other mistake."""
    known: set[str] = set()
    alone: set[str] = set()  # the mistakes that a comparison tells from the right answer and from those named before

    def recording(result: Tensor, wanted: Tensor, faults: Any = None, tolerance: float = 1e-4) -> None:
        allowed = tolerance * max(1e-6, wanted.double().abs().max().item())
        named: list[Tensor] = []
        for message, numbers in (faults or {}).items():
            known.add(message)
            others = [other for other in named if other.shape == numbers.shape]
            if apart(numbers, wanted, 10 * allowed) and all(apart(numbers, other, allowed) for other in others):
                alone.add(message)
            named.append(numbers)
        expect_close(result, wanted, faults, tolerance)

    def apart(a: Tensor, b: Tensor, allowed: float) -> bool:
        return a.shape != b.shape or (a.double() - b.double()).abs().nan_to_num(1e30).max().item() > allowed

    module = sys.modules[f"{blocks.__name__}.lesson_{piece.key.split('.')[0]}"]
    monkeypatch.setattr(module, "expect_close", recording, raising=False)
    assert run_checker(piece.key, piece.checker, piece.original).mark == "✓"
    assert known == alone


def test_a_piece_is_told_that_it_changes_its_input() -> None:
    piece = next(piece for piece in PIECES if piece.key == "3.Bart.shift")

    def in_place(bart: Any, targets: Tensor) -> Tensor:
        targets[:, 1:] = targets[:, :-1].clone()
        targets[:, 0] = bart.config.decoder_start
        return targets

    assert "changes a tensor that it gets" in run_checker(piece.key, piece.checker, in_place).message


def test_an_operation_that_pytorch_does_not_implement_counts_as_tried() -> None:
    piece = next(piece for piece in PIECES if piece.key == "4.CLIP.end_position")

    def of_booleans(clip: Any, ids: Tensor) -> Tensor:
        return (ids == clip.config.end_token).argmax(1)

    result = run_checker(piece.key, piece.checker, of_booleans)
    assert str(result).startswith("✗ 4.CLIP.end_position: it stopped with NotImplementedError: ")


@given(st.floats(allow_nan=True, allow_infinity=True), st.floats(allow_nan=True, allow_infinity=True))
@settings(max_examples=200, deadline=None)
def test_a_mistake_is_named_only_if_the_numbers_are_those_of_the_mistake(number: float, fault: float) -> None:
    wanted, answer, mistake = torch.tensor([[1.0, 2.0], [number, 2.0], [fault, 2.0]], dtype=torch.float64)
    try:
        expect_close(answer, wanted, {"the mistake": mistake})
    except AnswerError as error:
        if str(error) == "the mistake":
            assert number == fault or (math.isnan(number) and math.isnan(fault)) or abs(number - fault) <= 3e-4
    else:
        assert number == pytest.approx(1.0, abs=3e-4)


def test_numpy_counts_as_numbers() -> None:
    assert expect_number(np.float32(2.5)) == 2.5
    assert expect_numbers(np.array([0.0, 12.5]), 2) == [0.0, 12.5]
    assert torch.equal(expect_tensor(np.ones((2, 3)), (2, 3)), torch.ones(2, 3).double())


def test_a_partly_filled_answer_is_told_what_is_missing() -> None:
    shapes = dict.fromkeys(("ids", "states", "codes", "vectors", "pictures", "scores"), (1, 32))
    assert str(grade("1.1", shapes | {"codes": None})) == "✗ 1.1: the shape of codes is not filled in yet."
    assert grade("1.1", dict.fromkeys(shapes, ...)).mark == "○"
    assert "a shape is a tuple of whole numbers" in grade("1.1", shapes | {"states": "nine"}).message
    assert str(grade("2c.1", [0.0, None, 1.0])) == "✗ 2c.1: number 2 is not filled in yet."
    assert grade("2c.1", [None, None, None]).mark == "○"


def test_the_gradient_by_autograd_is_refused_in_both_of_its_forms() -> None:
    def loss(x: Tensor, x_hat: Tensor) -> Tensor:
        return (x - x_hat).flatten(1).norm(dim=1).mean()

    def by_backward(x: Tensor, x_hat: Tensor) -> Tensor:
        tracked = x_hat.clone().requires_grad_()
        return torch.autograd.grad(loss(x, tracked), tracked)[0]

    def by_func(x: Tensor, x_hat: Tensor) -> Tensor:
        return torch.func.grad(loss, argnums=1)(x, x_hat)

    for answer in (by_backward, by_func):
        assert "this uses autograd" in grade("2b.3", answer).message


class FaultyError(Exception):
    """An exception whose message raises another."""

    def __str__(self) -> str:
        raise ValueError("no message")


@pytest.mark.parametrize("fault", [SystemExit(3), KeyboardInterrupt(), FaultyError(), GeneratorExit()])
def test_whatever_an_answer_raises_becomes_part_of_the_result(fault: BaseException) -> None:
    def checker(_: object) -> None:
        raise fault

    result = run_checker("2a.1", checker, "an answer")
    assert result.mark == "✗"
    assert result.message.startswith(f"it stopped with {type(fault).__name__}")


def test_the_user_can_interrupt_a_checker() -> None:
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        run_checker("2a.1", lambda _: signal.raise_signal(signal.SIGINT), "an answer")
    assert signal.getsignal(signal.SIGINT) is before
