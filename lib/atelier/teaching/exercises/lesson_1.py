"""Checkers of the exercises of lesson 1, the building blocks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from atelier.teaching.exercises import AnswerError, exercise, expect_close, expect_tensor

SHAPES = {
    "ids": (1, 32),
    "states": (1, 32, 192),
    "codes": (9, 8, 8),
    "vectors": (9, 32, 8, 8),
    "pictures": (9, 3, 64, 64),
    "scores": (9,),
}
REMARKS: dict[str, dict[tuple[int, ...], str]] = {
    "ids": {
        (9, 32): "the prompt is read once for all nine pictures.",
        (32,): "one prompt is a table with one row, so a 1 comes first.",
        (1, 9): "all 32 places have a number, those with nothing in them as well.",
    },
    "states": {
        (9, 32, 192): "the prompt is read once for all nine pictures.",
        (1, 192): "each of the 32 places has a vector of its own.",
        (1, 192, 32): "places come first, then the numbers of each.",
        (32, 192): "one prompt still has a 1 in front.",
        (1, 9, 192): "all 32 places get a vector, those with nothing in them as well.",
    },
    "codes": {
        (9, 64): "these are the codes in a row; as a grid they have rows and columns.",
        (8, 8): "there are nine pictures, each with its own grid.",
        (9, 1024): "1024 is how many codes there are to choose from.",
        (9, 64, 64): "64 × 64 are the pixels; a picture has 64 codes in all.",
    },
    "vectors": {
        (9, 8, 8, 32): "the numbers of a cell come before its row and column.",
        (9, 192, 8, 8): "192 is the width of BART's vectors; a row of the codebook is shorter.",
        (32, 8, 8): "there are nine pictures.",
        (9, 64, 32): "here the cells are to keep their rows and columns.",
    },
    "pictures": {
        (9, 64, 64, 3): "the colours come first, then rows and columns.",
        (9, 64, 64): "each pixel has three colours.",
        (3, 64, 64): "this is one picture, and there are nine.",
        (9, 3, 8, 8): "8 × 8 is the grid of codes; a picture has more pixels.",
    },
    "scores": {
        (1,): "each picture has a score of its own.",
        (9, 1): "a list of nine numbers has one direction; in Python it is (9,).",
        (9, 128): "128 is the length of CLIP's vectors; the score is one number for each picture.",
    },
}


@exercise("1.1")
def check_shapes(shapes: Any) -> None:
    """The shapes on the way of nine pictures."""
    if not isinstance(shapes, dict):
        raise AnswerError(f"the answer is a {type(shapes).__name__}; write a dictionary, name: shape.")
    missing, unknown = [name for name in SHAPES if name not in shapes], [name for name in shapes if name not in SHAPES]
    if missing or unknown:
        words = f"{', '.join(missing)} is missing" if missing else f"{', '.join(map(str, unknown))} is no station"
        raise AnswerError(f"{words}; the stations are {', '.join(SHAPES)}.")
    for name, wanted in SHAPES.items():
        given: tuple[int, ...] = (shapes[name],) if isinstance(shapes[name], int) else tuple(shapes[name])
        if given == wanted:
            continue
        if given in REMARKS[name]:
            raise AnswerError(f"{name} {given}: {REMARKS[name][given]}")
        if len(given) != len(wanted):
            raise AnswerError(f"{name}: {given} has the wrong number of directions, {len(given)}.")
        places = [str(place) for place, (a, b) in enumerate(zip(given, wanted, strict=True), 1) if a != b]
        raise AnswerError(f"{name}: in {given} number {', '.join(places)} is not right.")


@exercise("1.2")
def check_best_first(best_first: Callable[[Tensor, Tensor], Tensor]) -> None:
    """Pictures in the order of their scores."""
    scores = torch.tensor([31.45, 30.44, 31.59, 12.0, 29.9])
    pictures = torch.rand(5, 3, 4, 4)
    result: Any = best_first(pictures, scores)
    order = scores.argsort(descending=True)
    if isinstance(result, Tensor) and result.shape == scores.shape:
        if torch.equal(result, order):
            raise AnswerError("these are the places in the right order; now take the pictures that stand there.")
        raise AnswerError("these are numbers, one for each picture; wanted are the pictures.")
    if isinstance(result, Tensor) and result.shape in ((3, 4, 4), (1, 3, 4, 4)):
        raise AnswerError("this is one picture; all five are wanted, the best one first.")
    expect_close(
        expect_tensor(result, (5, 3, 4, 4), "best_first"),
        pictures[order],
        {
            "the worst picture comes first: argsort counts upwards unless it is told not to.": pictures[order.flip(0)],
            "the pictures are in the order in which they came.": pictures,
            "each picture's rank is used as if it were a place: argsort once is enough.": pictures[order.argsort()],
            "the order is turned round, but the scores were not looked at.": pictures.flip(0),
        },
    )


@exercise("1.3")
def check_glued(glued: Callable[[Tensor, Tensor], Tensor]) -> None:
    """The upper half of one grid over the lower half of another."""
    above, below = torch.arange(64).reshape(8, 8), torch.arange(100, 164).reshape(8, 8)
    result = glued(above, below)
    if isinstance(result, Tensor) and result.shape == (16, 8):
        raise AnswerError("both grids are there as a whole, one under the other; take half of each.")
    if isinstance(result, Tensor) and result.shape in ((8, 16), (4, 16)):
        raise AnswerError("the two stand side by side; one is to stand over the other.")
    expect_close(
        expect_tensor(result, (8, 8), "glued"),
        torch.cat([above[:4], below[4:]]),
        {
            "the upper half of the second grid is used; wanted is its lower one.": torch.cat([above[:4], below[:4]]),
            "the lower half of the first grid is used; wanted is its upper one.": torch.cat([above[4:], below[4:]]),
            "the two change places: the first grid gives the upper half.": torch.cat([below[:4], above[4:]]),
            "both halves are the wrong ones.": torch.cat([above[4:], below[:4]]),
            "left and right are glued; wanted are above and below.": torch.cat([above[:, :4], below[:, 4:]], dim=1),
            "this is the first grid alone.": above,
            "this is the second grid alone.": below,
        },
        tolerance=0,
    )


@exercise("1.4")
def check_score(score: Callable[[Tensor, Tensor], Tensor]) -> None:
    """100 · cosine of one vector and several others."""
    text, pictures = 3 * torch.randn(16), torch.randn(5, 16) * torch.arange(1, 6)[:, None]
    product, lengths, length = pictures @ text, pictures.norm(dim=1), text.norm()
    cosine = product / (lengths * length)
    expect_close(
        expect_tensor(score(text, pictures), (5,), "score"),
        100 * cosine,
        {
            "this is the cosine; the score is 100 times as much.": cosine,
            "the lengths are missing: a long vector would win by being long.": 100 * product,
            "the lengths are missing, and the 100 as well.": product,
            "the sentence's length is missing.": 100 * product / lengths,
            "the pictures' lengths are missing.": 100 * product / length,
            "all pictures are divided by one length; each has its own.": 100 * product / (pictures.norm() * length),
            "the lengths are squared: norm has taken the root already.": 100 * product / (lengths * length) ** 2,
            "it is multiplied by the lengths where it should be divided.": 100 * product * lengths * length,
            "the sign is turned round.": -100 * cosine,
        },
    )
