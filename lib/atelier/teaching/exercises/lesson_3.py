"""Checkers of the exercises of lesson 3, BART."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from atelier.teaching.exercises import AnswerError, exercise, expect_close, expect_tensor


@exercise("3.1")
def check_share_of_first(share_of_first: float | Tensor) -> None:
    """The softmax share of the first of three keys, to two decimals."""
    given = _number(share_of_first)
    products = torch.tensor([4.0, 6.0, 0.0], dtype=torch.float64)
    share = (products / 2).softmax(0)[0].item()
    if abs(given - share) <= 0.006:
        return
    faults = {
        products.softmax(0)[0].item(): "the products are not divided by √c before the softmax.",
        (products / 4).softmax(0)[0].item(): "the products are divided by c = 4; it is its square root.",
        (products / 2).softmax(0)[1].item(): "this is the share of the second key; asked for is the first.",
        (products / 2).softmax(0)[2].item(): "this is the share of the third key; asked for is the first.",
        0.4: "this is the first product as a share of the sum, 4 / 10; the softmax takes the exponentials first.",
        2.0: "this is the first key's fit, 4 / 2; it is not a share yet.",
        4.0: "this is the product of the query and the first key; it is not a share yet.",
        math.exp(2) / (math.exp(2) + math.exp(3)): "the third key is forgotten: its exponential is 1, not 0.",
        4 / (4 + 8 + 1): "the base of the powers is 2 here; the softmax has e.",
    }
    for wrong, words in faults.items():
        if abs(given - wrong) <= 0.006:
            raise AnswerError(words)
    if not 0 <= given <= 1:
        raise AnswerError(f"{given:.4g} is impossible: a share lies between 0 and 1.")
    raise AnswerError(f"{given:.4g} is too {'small' if given < share else 'large'}, or not to two decimals.")


@exercise("3.2")
def check_decoder_mask(decoder_mask: Callable[[int, int], Tensor]) -> None:
    """A causal mask behind known tokens."""
    for known, new in ((5, 3), (0, 4), (3, 1)):
        returned: Any = decoder_mask(known, new)
        if isinstance(returned, Tensor) and tuple(returned.shape) == (known + new, known + new) and known:
            raise AnswerError("there is a row for each token, also for the known ones; only the new ones look now.")
        if isinstance(returned, Tensor) and tuple(returned.shape) == (new, new) and known:
            raise AnswerError("the table has columns for the new tokens only; the known keys can be seen as well.")
        if isinstance(returned, Tensor) and tuple(returned.shape) == (known + new, new) and known:
            raise AnswerError("the table lies on its side: a row is a new token, a column is a key.")
        mask = expect_tensor(returned, (new, known + new), f"decoder_mask({known}, {new})")
        if mask.dtype != torch.bool:
            raise AnswerError(f"the mask holds {mask.dtype}; wanted is bool, True where a token may see a key.")
        _check_mask(mask, known, new)


def _check_mask(mask: Tensor, known: int, new: int) -> None:
    keys, tokens = torch.arange(known + new), torch.arange(known, known + new)[:, None]
    wanted = keys <= tokens
    faults = {
        "it is the other way round: True where a token must not see a key.": ~wanted,
        "a token does not see itself here; it may.": keys < tokens,
        "a token sees itself and what comes after it; it is to see what came before.": keys >= tokens,
        "every token sees every key, also those that come later.": torch.ones_like(wanted),
        "the known tokens are counted as if the new ones stood at the beginning: their places start at `known`.": (
            keys <= tokens - known
        ),
        "the known tokens are hidden; they came before all of the new ones.": wanted & (keys >= known),
        "a token sees one key too many, its successor's.": keys <= tokens + 1,
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
            raise AnswerError(f"infilled returned a {type(result).__name__}, where a list is wanted.")
        if result is given or given != tokens:
            raise AnswerError(f"the list that was handed in has changed, or was handed back (a run of {length}).")
        _check_run(result, tokens, start, length, mask)


def _check_run(result: list[int], tokens: list[int], start: int, length: int, mask: int) -> None:
    before, after = tokens[:start], tokens[start + length :]
    if result == [*before, mask, *after]:
        return
    if result == [*before, *[mask] * length, *after]:
        if length == 0:
            raise AnswerError("a run of length 0 has to leave a mask as well, between two tokens.")
        raise AnswerError("there is a mask for each token; one for the whole run hides how long it was.")
    if result == [*before, *after]:
        raise AnswerError("the run is gone without a trace; that is token deletion. A mask takes its place.")
    if result == [*before, mask, *tokens[start + length - 1 :]]:
        raise AnswerError(f"of a run of {length} the last token is left: it ends before start + length.")
    if result == [*before, mask, *tokens[start + length + 1 :]]:
        raise AnswerError(f"behind a run of {length} a token too many is gone: it ends before start + length.")
    if result == [*tokens[: start + 1], mask, *after]:
        raise AnswerError("the first token of the run is still there: what is in front ends before start.")
    if result == [*before, mask, *tokens[length:]]:
        raise AnswerError("what comes behind the run starts at start + length, not at length.")
    raise AnswerError(f"for {tokens}, start {start}, length {length} it gives {result}.")


@exercise("3.4")
def check_lot(lot: Callable[[Tensor, Tensor, float, float], Tensor]) -> None:
    """Guided logits to the probabilities of a nucleus."""
    conditional, unconditional = 1.5 * torch.randn(12), 1.5 * torch.randn(12)
    guided = unconditional + 2.5 * (conditional - unconditional)
    whole = expect_tensor(lot(conditional.clone(), unconditional.clone(), 2.5, 1.0), (12,), "lot")
    _check_guided(whole, conditional, unconditional, guided)
    shares = torch.tensor([0.05, 0.40, 0.02, 0.25, 0.15, 0.10, 0.03])
    result = expect_tensor(lot(shares.log(), shares.log(), 1.0, 0.7), (7,), "lot")
    kept, too_few = shares * (shares >= 0.15), shares * (shares >= 0.25)  # 0.40 + 0.25 = 0.65 has not reached 0.7
    expect_close(
        result,
        kept / kept.sum(),
        {
            "the right codes are left, but their shares no longer sum to 1.": kept,
            "one code is missing: the one that reaches top_p stays as well.": too_few / too_few.sum(),
            "one code is missing, the one that reaches top_p, and the rest does not sum to 1.": too_few,
            "nothing is cut away: top_p is not used.": shares,
            "the likeliest codes are cut away: sort from the likeliest down.": _unlikely(shares, 0.7),
            "the shares stand in the order of their size; each must go back to its own code.": (
                (kept / kept.sum()).sort(descending=True).values
            ),
            "the codes are summed in the order of their numbers; sort them by probability first.": _unsorted(
                shares, 0.7
            ),
            "all the kept codes have the same share; they keep their proportions.": (kept > 0) / (kept > 0).sum(),
        },
    )


def _check_guided(result: Tensor, conditional: Tensor, unconditional: Tensor, guided: Tensor) -> None:
    softmax = {
        "guidance pushes the wrong way, towards the logits without a caption.": (
            conditional + 2.5 * (unconditional - conditional)
        ),
        "guidance starts from the conditional logits; it starts from the unconditional ones.": (
            conditional + 2.5 * (conditional - unconditional)
        ),
        "guidance has no effect: these are the conditional logits alone.": conditional,
        "the unconditional logits are subtracted whole; guidance · conditional − unconditional is not the formula.": (
            2.5 * conditional - unconditional
        ),
        "the difference is missing: this is guidance times the conditional logits.": 2.5 * conditional,
    }
    faults = {words: logits.softmax(0) for words, logits in softmax.items()}
    mixed = unconditional.softmax(0) + 2.5 * (conditional.softmax(0) - unconditional.softmax(0))
    faults["the probabilities are guided; it is the logits, before the softmax."] = mixed
    faults["the probabilities are guided, it is the logits; and negative ones are cut off."] = (
        mixed.clamp(min=0) / mixed.clamp(min=0).sum()
    )
    faults["these are still logits: the softmax is missing."] = guided
    expect_close(result, guided.softmax(0), faults)


def _unlikely(shares: Tensor, top_p: float) -> Tensor:
    """What stays if the sorting begins with the unlikeliest code."""
    ranked, places = shares.sort()
    kept = ranked.masked_fill(ranked.cumsum(0) - ranked >= top_p, 0.0)
    return torch.zeros_like(shares).scatter(0, places, kept) / kept.sum()


def _unsorted(shares: Tensor, top_p: float) -> Tensor:
    """What stays if nothing is sorted."""
    kept = shares.masked_fill(shares.cumsum(0) - shares >= top_p, 0.0)
    return kept / kept.sum()


def _number(result: float | Tensor | None) -> float:
    """The answer as a number; a tensor with one element will do."""
    if isinstance(result, Tensor) and result.numel() == 1:
        return result.item()
    if isinstance(result, bool) or not isinstance(result, int | float):
        raise AnswerError(f"the answer is a {type(result).__name__}, where a number is wanted.")
    return float(result)
