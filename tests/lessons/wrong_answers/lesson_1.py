"""Wrong answers to the exercises of lesson 1, each of which must be told what is wrong in it."""

import torch
from torch import Tensor

RIGHT = {
    "ids": (1, 32),
    "states": (1, 32, 192),
    "codes": (9, 8, 8),
    "vectors": (9, 32, 8, 8),
    "pictures": (9, 3, 64, 64),
    "scores": (9,),
}


def worst_first(pictures: Tensor, scores: Tensor) -> Tensor:
    return pictures[scores.argsort()]


def places_only(pictures: Tensor, scores: Tensor) -> Tensor:
    return scores.argsort(descending=True)


def scores_only(pictures: Tensor, scores: Tensor) -> Tensor:
    return scores.sort(descending=True).values


def the_best(pictures: Tensor, scores: Tensor) -> Tensor:
    return pictures[scores.argmax()]


def ranks_as_places(pictures: Tensor, scores: Tensor) -> Tensor:
    return pictures[scores.argsort(descending=True).argsort()]


def turned_round(pictures: Tensor, scores: Tensor) -> Tensor:
    return pictures.flip(0)


def two_upper_halves(above: Tensor, below: Tensor) -> Tensor:
    return torch.cat([above[:4], below[:4]])


def side_by_side(above: Tensor, below: Tensor) -> Tensor:
    return torch.cat([above[:4], below[4:]], dim=1)


def left_and_right(above: Tensor, below: Tensor) -> Tensor:
    return torch.cat([above[:, :4], below[:, 4:]], dim=1)


def changed_places(above: Tensor, below: Tensor) -> Tensor:
    return torch.cat([below[:4], above[4:]])


def both_whole(above: Tensor, below: Tensor) -> Tensor:
    return torch.cat([above, below])


def cosine_only(text: Tensor, pictures: Tensor) -> Tensor:
    return torch.cosine_similarity(text[None], pictures)


def product_only(text: Tensor, pictures: Tensor) -> Tensor:
    return 100 * pictures @ text


def one_length_for_all(text: Tensor, pictures: Tensor) -> Tensor:
    return 100 * pictures @ text / (pictures.norm() * text.norm())


def without_the_sentences_length(text: Tensor, pictures: Tensor) -> Tensor:
    return 100 * pictures @ text / pictures.norm(dim=1)


def a_column(text: Tensor, pictures: Tensor) -> Tensor:
    return (100 * pictures @ text / (pictures.norm(dim=1) * text.norm()))[:, None]


WRONG = {
    "1.1": [
        RIGHT | {"ids": (9, 32)},
        RIGHT | {"states": (1, 192)},
        RIGHT | {"codes": (9, 64)},
        RIGHT | {"vectors": (9, 8, 8, 32)},
        RIGHT | {"pictures": (9, 64, 64, 3)},
        RIGHT | {"scores": (9, 1)},
        RIGHT | {"scores": (7,)},
        RIGHT | {"vectors": (9, 32, 64)},
        {"ids": (1, 32)},
        [(1, 32)],
    ],
    "1.2": [worst_first, places_only, scores_only, the_best, ranks_as_places, turned_round],
    "1.3": [two_upper_halves, side_by_side, left_and_right, changed_places, both_whole],
    "1.4": [cosine_only, product_only, one_length_for_all, without_the_sentences_length, a_column],
}
