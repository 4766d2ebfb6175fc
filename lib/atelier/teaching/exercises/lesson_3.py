"""Checkers of the exercises of lesson 3, BART."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from atelier.teaching.exercises import AnswerError, exercise, expect_close, expect_number, expect_tensor


@exercise("3.1")
def check_share_of_first(share_of_first: float | Tensor) -> None:
    """The softmax share of the first of three keys, to two decimals."""
    given = expect_number(share_of_first)
    products = torch.tensor([4.0, 6.0, 0.0], dtype=torch.float64)
    share = (products / 2).softmax(0)[0].item()
    if abs(given - share) <= 0.006:
        return
    faults = {
        products.softmax(0)[0].item(): "the products are not divided by √c before the softmax.",
        (products / 4).softmax(0)[0].item(): "the products are divided by c = 4; divide by its square root.",
        (products / 2).softmax(0)[1].item(): "this is the share of the second key; the first key's is asked for.",
        (products / 2).softmax(0)[2].item(): "this is the share of the third key; the first key's is asked for.",
        0.4: "this is the first product as a share of the sum, 4 / 10; the softmax takes the exponentials first.",
        2.0: "this is the first key's product over √c, 4 / 2; it is not a share yet.",
        4.0: "this is the product of the query and the first key; it is not a share yet.",
        math.exp(2) / (math.exp(2) + math.exp(3)): "the third key is missing: its exponential is 1, not 0.",
        4 / (4 + 8 + 1): "these are powers of 2; the softmax has powers of e.",
    }
    for wrong, message in faults.items():
        if abs(given - wrong) <= 0.006:
            raise AnswerError(message)
    if not 0 <= given <= 1:
        raise AnswerError(f"{given:.4g} is impossible: a share lies between 0 and 1.")
    raise AnswerError(f"{given:.4g} is too {'small' if given < share else 'large'}, or not to two decimals.")


@exercise("3.2")
def check_decoder_mask(decoder_mask: Callable[[int, int], Tensor]) -> None:
    """A causal mask for new tokens that follow known ones."""
    for known, new in ((5, 3), (0, 4), (3, 1)):
        returned: Any = decoder_mask(known, new)
        if isinstance(returned, Tensor) and tuple(returned.shape) == (known + new, known + new) and known:
            raise AnswerError("there is a row for each token; only the new tokens have queries, and so rows.")
        if isinstance(returned, Tensor) and tuple(returned.shape) == (new, new) and known:
            raise AnswerError("the table has columns for the new tokens only; the known ones have keys as well.")
        if isinstance(returned, Tensor) and tuple(returned.shape) == (known + new, new) and known:
            raise AnswerError("the table is transposed: a row is a new token, a column is a key.")
        mask = expect_tensor(returned, (new, known + new), f"decoder_mask({known}, {new})")
        if mask.dtype != torch.bool:
            raise AnswerError(f"the mask has the type {mask.dtype}; it should be bool, True where a token sees a key.")
        _check_mask(mask, known, new)


def _check_mask(mask: Tensor, known: int, new: int) -> None:
    keys, tokens = torch.arange(known + new), torch.arange(known, known + new)[:, None]
    wanted = keys <= tokens
    faults = {
        "the mask is inverted: it is True where a token must not see a key.": ~wanted,
        "a token does not see itself here; it should.": keys < tokens,
        "a token sees itself and later tokens; it should see itself and earlier ones.": keys >= tokens,
        "every token sees every key, also later ones.": torch.ones_like(wanted),
        "the positions of the new tokens start at 0 here; they start at `known`.": keys <= tokens - known,
        "the known tokens are hidden; they came before all of the new ones.": wanted & (keys >= known),
        "a token sees one key too many, that of the next token.": keys <= tokens + 1,
    }
    expect_close(mask, wanted, faults)


@exercise("3.3")
def check_infilled(infilled: Callable[[list[int], int, int, int], list[int]]) -> None:
    """A run of tokens replaced by one mask."""
    tokens, mask = [11, 12, 13, 14, 15, 16, 17], 3
    for start, length in ((2, 3), (0, 1), (4, 0), (7, 0), (0, 7)):
        given = list(tokens)
        result = infilled(given, start, length, mask)
        if not isinstance(result, list):
            raise AnswerError(f"infilled returned a {type(result).__name__}; it should return a list.")
        if result is given or given != tokens:
            raise AnswerError(f"your function changed or returned the list it was given (a run of {length}): copy it.")
        _check_infilled(result, tokens, start, length, mask)


def _check_infilled(result: list[int], tokens: list[int], start: int, length: int, mask: int) -> None:
    before, after = tokens[:start], tokens[start + length :]
    if result == [*before, mask, *after]:
        return
    if result == [*before, *[mask] * length, *after]:
        if length == 0:
            raise AnswerError("for a run of length 0 a mask has to be inserted as well, between two tokens.")
        raise AnswerError("there is a mask for each token; use one for the whole run, which hides its length.")
    if result == [*before, *after]:
        raise AnswerError("the run is removed without a mask: this is token deletion.")
    if result == [*before, mask, *tokens[start + length - 1 :]]:
        raise AnswerError(f"the last token of a run of {length} is still there: the run ends before start + length.")
    if result == [*before, mask, *tokens[start + length + 1 :]]:
        raise AnswerError(f"the token after a run of {length} is missing: the run ends before start + length.")
    if result == [*tokens[: start + 1], mask, *after]:
        raise AnswerError("the first token of the run is still there: the tokens before the run end before start.")
    if result == [*before, mask, *tokens[length:]]:
        raise AnswerError("the tokens after the run start at start + length, not at length.")
    raise AnswerError(f"for {tokens}, start {start} and length {length} the result is {result}.")


@exercise("3.4")
def check_lot(lot: Callable[[Tensor, Tensor, float, float], Tensor]) -> None:
    """The probabilities of guided logits, restricted to a nucleus."""
    conditional, unconditional = 1.5 * torch.randn(12), 1.5 * torch.randn(12)
    guided = unconditional + 2.5 * (conditional - unconditional)
    whole = expect_tensor(lot(conditional.clone(), unconditional.clone(), 2.5, 1.0), (12,), "lot")
    _check_guided(whole, conditional, unconditional, guided)
    shares = torch.tensor([0.05, 0.28, 0.02, 0.24, 0.20, 0.14, 0.07])
    result = expect_tensor(lot(shares.log(), shares.log(), 1.0, 0.7), (7,), "lot")
    kept, too_few = shares * (shares >= 0.20), shares * (shares >= 0.24)  # 0.28 + 0.24 = 0.52 has not reached 0.7
    expect_close(
        result,
        kept / kept.sum(),
        {
            "the right codes are kept, but their probabilities do not sum to 1.": kept,
            "one code is missing: the code that reaches top_p is kept as well.": too_few / too_few.sum(),
            "one code is missing, the one that reaches top_p, and the probabilities do not sum to 1.": too_few,
            "all codes are kept: top_p is not used.": shares,
            "the likeliest codes are removed: sort in descending order.": _least_likely(shares, 0.7),
            "the probabilities are sorted; each must go back to its own code.": (
                (kept / kept.sum()).sort(descending=True).values
            ),
            "the codes are summed in the order of their numbers; sort them by probability first.": _unsorted(
                shares, 0.7
            ),
            "all kept codes have the same probability; they should keep their proportions.": (
                (kept > 0) / (kept > 0).sum()
            ),
        },
    )


def _check_guided(result: Tensor, conditional: Tensor, unconditional: Tensor, guided: Tensor) -> None:
    softmax = {
        "guidance has the wrong sign: it moves towards the logits without a caption.": (
            conditional + 2.5 * (unconditional - conditional)
        ),
        "the difference is added to the conditional logits; add it to the unconditional ones.": (
            conditional + 2.5 * (conditional - unconditional)
        ),
        "guidance has no effect: these are the conditional logits alone.": conditional,
        "this is guidance · conditional − unconditional; guidance multiplies the difference of the logits.": (
            2.5 * conditional - unconditional
        ),
        "the difference is missing: this is guidance times the conditional logits.": 2.5 * conditional,
    }
    faults = {message: logits.softmax(0) for message, logits in softmax.items()}
    mixed = unconditional.softmax(0) + 2.5 * (conditional.softmax(0) - unconditional.softmax(0))
    faults["guidance is applied to probabilities; apply it to logits, before the softmax."] = mixed
    faults["guidance is applied to probabilities, and negative ones are clipped; apply it to logits."] = (
        mixed.clamp(min=0) / mixed.clamp(min=0).sum()
    )
    faults["these are logits: the softmax is missing."] = guided
    likeliest = guided.softmax(0).sort(descending=True).values
    faults["the probabilities are in the order of their size; each must go back to its own code."] = likeliest
    faults["the probabilities are in ascending order; each must go back to its own code."] = likeliest.flip(0)
    expect_close(result, guided.softmax(0), faults)


def _least_likely(shares: Tensor, top_p: float) -> Tensor:
    """The result if the codes are sorted in ascending order."""
    ranked, places = shares.sort()
    kept = ranked.masked_fill(ranked.cumsum(0) - ranked >= top_p, 0.0)
    return torch.zeros_like(shares).scatter(0, places, kept) / kept.sum()


def _unsorted(shares: Tensor, top_p: float) -> Tensor:
    """The result if the codes are not sorted."""
    kept = shares.masked_fill(shares.cumsum(0) - shares >= top_p, 0.0)
    return kept / kept.sum()
