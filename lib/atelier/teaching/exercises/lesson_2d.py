"""Checkers of the exercises of lesson 2d, the VQ-VAE."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from atelier.blocks.vq import nearest_codes
from atelier.teaching.exercises import AnswerError, exercise, expect_close, expect_number, expect_tensor


@exercise("2d.1")
def check_sentence_bits(sentence_bits: Callable[[int, int], float]) -> None:
    """Bits of a grid of codes."""
    cases = [(8, 64), (16, 16384), (1, 2), (3, 10)]
    results = [expect_number(sentence_bits(*case), "what sentence_bits returns") for case in cases]
    side, codes = torch.tensor(cases, dtype=torch.float64).T
    expect_close(
        torch.tensor(results, dtype=torch.float64),
        side.square() * codes.log2(),
        {
            "this is right for one cell; a picture has side × side cells.": codes.log2(),
            "the grid has side × side cells; here it has only side.": side * codes.log2(),
            "this is in nats, the unit of the natural logarithm; return bits.": side.square() * codes.log(),
            "a cell takes log2(codes) bits, not as many bits as there are codes.": side.square() * codes,
            "this is the number of possible sentences; return the bits to name one of them.": codes ** side.square(),
            "this is the logarithm to base 10; return bits.": side.square() * codes.log10(),
            "the bits of each cell are rounded up; with 10 codes a cell takes log2(10) ≈ 3.32 bits.": (
                side.square() * codes.log2().ceil()
            ),
        },
    )


@exercise("2d.2")
def check_perplexity(perplexity: float) -> None:
    """The perplexity of 1/2, 1/4, 1/8, 1/8 and four zeros, to two decimals."""
    given = expect_number(perplexity)
    shares = torch.tensor([1 / 2, 1 / 4, 1 / 8, 1 / 8], dtype=torch.float64)
    nats = -(shares * shares.log()).sum().item()
    bits = nats / math.log(2)
    if abs(given - math.exp(nats)) <= 0.006:
        return
    faults = {
        8.0: "8 is the number of rows, dead ones included.",
        4.0: "4 is the number of rows in use; it would be right if they were equally frequent.",
        bits: "1.75 is the entropy in bits; the perplexity is 2 to the power of it.",
        nats: "1.21 is the entropy in nats; the perplexity is e to the power of it.",
        math.exp(bits): "the entropy is in bits, but the base of the power is e.",
        2**nats: "the entropy is in nats, but the base of the power is 2.",
        math.exp(-nats): "the minus sign is missing: this is exp of Σ p log p.",
        1
        / shares.square().sum().item(): "this is 1 / Σ p², another effective number; the perplexity takes the entropy.",
        2.0: "2 would be right for two equally frequent rows; here four rows are in use.",
    }
    for wrong, message in faults.items():
        if abs(given - wrong) <= 0.006:
            raise AnswerError(message)
    if not 1 <= given <= 8:
        raise AnswerError(f"{given:.4g} is impossible: with eight rows a perplexity lies between 1 and 8.")
    raise AnswerError(f"{given:.4g} is too {'small' if given < math.exp(nats) else 'large'}, or not to two decimals.")


@exercise("2d.3")
def check_quantise(quantise: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]) -> None:
    """Nearest codes of a map, and z_q with the gradient passed straight through."""
    n, c, h, w = 2, 3, 4, 5
    codebook = torch.randn(7, c, requires_grad=True)
    z_e = torch.randn(n, c, h, w, requires_grad=True)
    returned: Any = quantise(z_e, codebook)
    if not isinstance(returned, tuple) or len(returned) != 2:
        raise AnswerError("quantise returns two things, z_q and the indices.")
    z_q = expect_tensor(returned[0], (n, c, h, w), "quantise, as z_q,")
    indices = expect_tensor(returned[1], (n, h, w), "quantise, as the indices,")
    _check_indices(indices, z_e.detach(), codebook.detach())
    _check_values(z_q, z_e.detach(), codebook.detach()[indices].permute(0, 3, 1, 2))
    _check_gradients(z_q, z_e, codebook)


def _check_indices(indices: Tensor, z_e: Tensor, codebook: Tensor) -> None:
    n, c, h, w = z_e.shape
    cells, mixed = z_e.permute(0, 2, 3, 1).reshape(-1, c), z_e.reshape(-1, c)  # mixed: a mistake
    distances, mixed_distances = torch.cdist(cells, codebook), torch.cdist(mixed, codebook)
    faults = {
        "the indices are those of the farthest rows, and each vector has numbers of several cells.": (
            mixed_distances.argmax(1)
        ),
        "the indices are those of the farthest rows.": distances.argmax(1),
        "the vectors are mixed up: reshape puts numbers of several cells into one vector.": mixed_distances.argmin(1),
        "you chose the rows with the largest product with the vector; a long row can win without being near.": (
            cells @ codebook.T
        ).argmax(1),
    }
    shaped = {message: numbers.reshape(n, h, w) for message, numbers in faults.items()}
    expect_close(indices, distances.argmin(1).reshape(n, h, w), shaped)


def _check_values(z_q: Tensor, z_e: Tensor, rows: Tensor) -> None:
    n, c, h, w = z_e.shape
    expect_close(
        z_q,
        rows,
        {
            "z_q is z_e itself: it should have the values of the rows.": z_e,
            "z_q is the rows plus z_e: the term that you add for the gradient must have the value 0.": rows + z_e,
            "z_q has the right rows in the wrong cells: after the look-up the channels are the last axis.": (
                rows.permute(0, 2, 3, 1).reshape(n, c, h, w)
            ),
        },
    )


def _check_gradients(z_q: Tensor, z_e: Tensor, codebook: Tensor) -> None:
    if not z_q.requires_grad:
        raise AnswerError("z_q has the right values but no gradient: the encoder would not learn.")
    gradient = torch.randn(z_q.shape)
    to_z_e, to_codebook = torch.autograd.grad((z_q * gradient).sum(), (z_e, codebook), allow_unused=True)
    if to_z_e is None or not to_z_e.any():
        raise AnswerError("the values are right, but no gradient reaches z_e: is the right term detached?")
    expect_close(
        to_z_e,
        gradient,
        {
            "z_e gets the gradient twice.": 2 * gradient,
            "z_e gets the gradient with the wrong sign.": -gradient,
        },
    )
    if to_codebook is not None and to_codebook.any():
        raise AnswerError("z_e gets its gradient, but the codebook gets one as well: detach the rows.")


@exercise("2d.4")
def check_quantise_twice(quantise_twice: Callable[[Tensor, Tensor, Tensor], Tensor]) -> None:
    """The sum of the nearest row of the first codebook and the row of the second that is nearest to the remainder."""
    vectors, first, second = torch.randn(40, 4), torch.randn(6, 4), 0.5 * torch.randn(9, 4)
    result = quantise_twice(vectors, first, second)
    if isinstance(result, Tensor) and result.dtype in (torch.int64, torch.int32):
        raise AnswerError("these are numbers of rows; return the sum of the rows themselves.")
    result = expect_tensor(result, (40, 4), "quantise_twice")
    coarse = first[nearest_codes(vectors, first)]
    fine = second[nearest_codes(vectors - coarse, second)]
    expect_close(
        result,
        coarse + fine,
        {
            "this is the row of the first codebook alone; add a row of the second for the remainder.": coarse,
            "this is the row of the second codebook alone; add the row of the first.": fine,
            "the second codebook quantises the vectors themselves; it should quantise the remainder.": (
                coarse + second[nearest_codes(vectors, second)]
            ),
            "the second codebook quantises the row of the first; it should quantise the remainder.": (
                coarse + second[nearest_codes(coarse, second)]
            ),
            "the remainder has the wrong sign: it is the vector minus the row.": (
                coarse + second[nearest_codes(coarse - vectors, second)]
            ),
            "the second row is subtracted; add it.": coarse - fine,
            "this is the mean of the two rows; return their sum.": (coarse + fine) / 2,
            "this is the remainder, not yet quantised by the second codebook.": vectors - coarse,
        },
    )
