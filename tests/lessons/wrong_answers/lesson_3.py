"""Wrong answers to the exercises of lesson 3, each of which must be told what is wrong in it."""

import torch
from torch import Tensor


def mask_inverted(known: int, new: int) -> Tensor:
    places = torch.arange(known + new)
    return places > places[known:, None]


def mask_without_itself(known: int, new: int) -> Tensor:
    places = torch.arange(known + new)
    return places < places[known:, None]


def mask_that_forgets_the_known(known: int, new: int) -> Tensor:
    return torch.ones(new, new).tril().bool()


def mask_from_the_corner(known: int, new: int) -> Tensor:
    return torch.ones(new, known + new).tril().bool()


def mask_of_everybody(known: int, new: int) -> Tensor:
    return torch.ones(known + new, known + new).tril().bool()


def mask_of_the_future(known: int, new: int) -> Tensor:
    places = torch.arange(known + new)
    return places >= places[known:, None]


def mask_of_ones(known: int, new: int) -> Tensor:
    return torch.ones(new, known + new).bool()


def mask_of_numbers(known: int, new: int) -> Tensor:
    places = torch.arange(known + new)
    return (places <= places[known:, None]).float()


def mask_on_its_side(known: int, new: int) -> Tensor:
    places = torch.arange(known + new)
    return (places <= places[known:, None]).T


def infilled_as_found(tokens: list[int], start: int, length: int, mask: int) -> list[int]:
    if length == 0:
        return tokens
    tokens[start : start + length - 1] = [mask] * length
    return tokens


def infilled_token_by_token(tokens: list[int], start: int, length: int, mask: int) -> list[int]:
    return [*tokens[:start], *[mask] * length, *tokens[start + length :]]


def infilled_too_short(tokens: list[int], start: int, length: int, mask: int) -> list[int]:
    return [*tokens[:start], mask, *tokens[start + length - 1 :]]


def infilled_too_long(tokens: list[int], start: int, length: int, mask: int) -> list[int]:
    return [*tokens[:start], mask, *tokens[start + length + 1 :]]


def infilled_without_mask(tokens: list[int], start: int, length: int, mask: int) -> list[int]:
    return [*tokens[:start], *tokens[start + length :]]


def infilled_unless_empty(tokens: list[int], start: int, length: int, mask: int) -> list[int]:
    return [*tokens[:start], *[mask][:length], *tokens[start + length :]]


def infilled_as_tuple(tokens: list[int], start: int, length: int, mask: int) -> tuple[int, ...]:
    return (*tokens[:start], mask, *tokens[start + length :])


def nucleus(shares: Tensor, top_p: float) -> Tensor:
    ranked, places = shares.sort(descending=True)
    kept = ranked.masked_fill(ranked.cumsum(0) - ranked >= top_p, 0.0)
    shares = torch.zeros_like(shares).scatter(0, places, kept)
    return shares / shares.sum()


def lot_the_wrong_way(conditional: Tensor, unconditional: Tensor, guidance: float, top_p: float) -> Tensor:
    return nucleus((conditional + guidance * (unconditional - conditional)).softmax(0), top_p)


def lot_from_the_conditional(conditional: Tensor, unconditional: Tensor, guidance: float, top_p: float) -> Tensor:
    return nucleus((conditional + guidance * (conditional - unconditional)).softmax(0), top_p)


def lot_of_guided_probabilities(conditional: Tensor, unconditional: Tensor, guidance: float, top_p: float) -> Tensor:
    asked, free = conditional.softmax(0), unconditional.softmax(0)
    return free + guidance * (asked - free)


def lot_of_logits(conditional: Tensor, unconditional: Tensor, guidance: float, top_p: float) -> Tensor:
    return unconditional + guidance * (conditional - unconditional)


def lot_of_all(conditional: Tensor, unconditional: Tensor, guidance: float, top_p: float) -> Tensor:
    return (unconditional + guidance * (conditional - unconditional)).softmax(0)


def lot_that_does_not_sum_to_one(conditional: Tensor, unconditional: Tensor, guidance: float, top_p: float) -> Tensor:
    shares = lot_of_all(conditional, unconditional, guidance, top_p)
    ranked, places = shares.sort(descending=True)
    return torch.zeros_like(shares).scatter(0, places, ranked.masked_fill(ranked.cumsum(0) - ranked >= top_p, 0.0))


def lot_without_the_last(conditional: Tensor, unconditional: Tensor, guidance: float, top_p: float) -> Tensor:
    shares = lot_of_all(conditional, unconditional, guidance, top_p)
    ranked, places = shares.sort(descending=True)
    kept = torch.zeros_like(shares).scatter(0, places, ranked.masked_fill(ranked.cumsum(0) > top_p + 1e-4, 0.0))
    return kept / kept.sum()


def lot_in_order_of_size(conditional: Tensor, unconditional: Tensor, guidance: float, top_p: float) -> Tensor:
    shares = lot_of_all(conditional, unconditional, guidance, top_p)
    return shares if top_p == 1 else nucleus(shares, top_p).sort(descending=True).values


def lot_unsorted(conditional: Tensor, unconditional: Tensor, guidance: float, top_p: float) -> Tensor:
    shares = lot_of_all(conditional, unconditional, guidance, top_p)
    kept = shares.masked_fill(shares.cumsum(0) - shares >= top_p, 0.0)
    return kept / kept.sum()


WRONG = {
    "3.1": [0.12, 0.33, 0.71, 0.40, 2.0, 4, 0.27, 0.31, "0.26", 0.9, 1.4],
    "3.2": [
        mask_inverted,
        mask_without_itself,
        mask_that_forgets_the_known,
        mask_from_the_corner,
        mask_of_everybody,
        mask_of_the_future,
        mask_of_ones,
        mask_of_numbers,
        mask_on_its_side,
    ],
    "3.3": [
        infilled_as_found,
        infilled_token_by_token,
        infilled_too_short,
        infilled_too_long,
        infilled_without_mask,
        infilled_unless_empty,
        infilled_as_tuple,
    ],
    "3.4": [
        lot_the_wrong_way,
        lot_from_the_conditional,
        lot_of_guided_probabilities,
        lot_of_logits,
        lot_of_all,
        lot_that_does_not_sum_to_one,
        lot_without_the_last,
        lot_in_order_of_size,
        lot_unsorted,
    ],
}
