"""Checkers of the exercises of lesson 1, the building blocks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from atelier.teaching.exercises import AnswerError, exercise, expect_close, expect_filled_in, expect_tensor

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
        (1, 9): "each of the 32 places has a number, the empty ones too.",
    },
    "states": {
        (9, 32, 192): "the prompt is read once for all nine pictures.",
        (1, 192): "each of the 32 places has a vector of its own.",
        (1, 192, 32): "places come first, then the numbers of each.",
        (32, 192): "with one prompt the shape still begins with a 1.",
        (1, 9, 192): "each of the 32 places has a vector, the empty ones too.",
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
        (9, 64, 32): "the cells should keep their rows and columns.",
    },
    "pictures": {
        (9, 64, 64, 3): "the colours come first, then rows and columns.",
        (9, 64, 64): "each pixel has three colours.",
        (3, 64, 64): "this is one picture, and there are nine.",
        (9, 3, 8, 8): "8 × 8 is the grid of codes; a picture has more pixels.",
    },
    "scores": {
        (1,): "each picture has a score of its own.",
        (9, 1): "a list of nine numbers has one direction; in Python its shape is (9,).",
        (9, 128): "128 is the length of CLIP's vectors; the score is one number for each picture.",
    },
}


@exercise("1.1")
def check_shapes(shapes: Any) -> None:
    """The shapes on the way of nine pictures."""
    if not isinstance(shapes, dict):
        raise AnswerError(f"the answer is a {type(shapes).__name__}; it should be a dictionary, name: shape.")
    missing, unknown = [name for name in SHAPES if name not in shapes], [name for name in shapes if name not in SHAPES]
    if missing or unknown:
        wrong = f"{', '.join(missing)} is missing" if missing else f"{', '.join(map(str, unknown))} is not a station"
        raise AnswerError(f"{wrong}; the stations are {', '.join(SHAPES)}.")
    expect_filled_in(shapes, "the shape of")
    for name, wanted in SHAPES.items():
        given = _as_shape(name, shapes[name])
        if given == wanted:
            continue
        if given in REMARKS[name]:
            raise AnswerError(f"{name} {given}: {REMARKS[name][given]}")
        if len(given) != len(wanted):
            raise AnswerError(f"{name}: {given} has the wrong number of directions, {len(given)}.")
        places = [str(place) for place, (a, b) in enumerate(zip(given, wanted, strict=True), 1) if a != b]
        raise AnswerError(f"{name}: in {given}, number {', '.join(places)} is wrong.")


def _as_shape(name: str, shape: Any) -> tuple[int, ...]:
    """The shape that an answer gives for a station, as a tuple; a single number counts as a shape of one direction."""
    numbers = tuple(shape) if isinstance(shape, Sequence) and not isinstance(shape, str) else (shape,)
    if not all(isinstance(number, int) and not isinstance(number, bool) for number in numbers):
        raise AnswerError(f"{name} is {shape!r}; a shape is a tuple of whole numbers, such as (1, 32).")
    return numbers


@exercise("1.2")
def check_best_first(best_first: Callable[[Tensor, Tensor], Tensor]) -> None:
    """Pictures in the order of their scores."""
    scores = torch.tensor([31.45, 30.44, 31.59, 12.0, 29.9])
    pictures = torch.rand(5, 3, 4, 4)
    result: Any = best_first(pictures, scores)
    order = scores.argsort(descending=True)
    if isinstance(result, Tensor) and result.shape == scores.shape:
        if torch.equal(result, order):
            raise AnswerError("these are the indices in the right order; now take the pictures with these indices.")
        raise AnswerError("these are numbers, one for each picture; return the pictures.")
    if isinstance(result, Tensor) and result.shape in ((3, 4, 4), (1, 3, 4, 4)):
        raise AnswerError("this is one picture; return all five, the best one first.")
    expect_close(
        expect_tensor(result, (5, 3, 4, 4), "best_first"),
        pictures[order],
        {
            "the worst picture comes first: argsort sorts in ascending order by default.": pictures[order.flip(0)],
            "the pictures are in their original order.": pictures,
            "each picture's rank is used as an index: use argsort once, not twice.": pictures[order.argsort()],
            "the order is reversed, but it does not depend on the scores.": pictures.flip(0),
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
        raise AnswerError("the two grids are side by side; put one above the other.")
    expect_close(
        expect_tensor(result, (8, 8), "glued"),
        torch.cat([above[:4], below[4:]]),
        {
            "the upper half of the second grid is used; use its lower half.": torch.cat([above[:4], below[:4]]),
            "the lower half of the first grid is used; use its upper half.": torch.cat([above[4:], below[4:]]),
            "the two grids are swapped: the first grid gives the upper half.": torch.cat([below[:4], above[4:]]),
            "of each grid the wrong half is used.": torch.cat([above[4:], below[:4]]),
            "these are left and right halves; glue upper and lower ones.": torch.cat(
                [above[:, :4], below[:, 4:]], dim=1
            ),
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
            "this is the cosine; the score is 100 times as large.": cosine,
            "the lengths are missing: a longer vector would get a higher score.": 100 * product,
            "the lengths are missing, and the 100 as well.": product,
            "the sentence's length is missing.": 100 * product / lengths,
            "the pictures' lengths are missing.": 100 * product / length,
            "all pictures are divided by the same length; each vector has its own.": 100
            * product
            / (pictures.norm() * length),
            "the lengths are squared: norm has already taken the square root.": 100 * product / (lengths * length) ** 2,
            "the product is multiplied by the lengths; divide by them.": 100 * product * lengths * length,
            "the sign is wrong.": -100 * cosine,
        },
    )
