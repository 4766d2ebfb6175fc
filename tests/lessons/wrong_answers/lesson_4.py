"""Wrong answers to the exercises of lesson 4, each of which must be told what is wrong in it."""

import math

import torch.nn.functional as F
from torch import Tensor


def loss_of_pictures(similarities: Tensor, scale: float) -> Tensor:
    return -(scale * similarities).log_softmax(1).diagonal().mean()


def loss_of_captions(similarities: Tensor, scale: float) -> Tensor:
    return -(scale * similarities).log_softmax(0).diagonal().mean()


def loss_without_scale(similarities: Tensor, scale: float) -> Tensor:
    return (loss_of_pictures(similarities, 1) + loss_of_captions(similarities, 1)) / 2


def loss_with_wrong_sign(similarities: Tensor, scale: float) -> Tensor:
    return -(loss_of_pictures(similarities, scale) + loss_of_captions(similarities, scale)) / 2


def loss_summed(similarities: Tensor, scale: float) -> Tensor:
    return loss_of_pictures(similarities, scale) + loss_of_captions(similarities, scale)


def loss_of_each(similarities: Tensor, scale: float) -> Tensor:
    logits = scale * similarities
    return -(logits.log_softmax(1).diagonal() + logits.log_softmax(0).diagonal()) / 2


def loss_divided(similarities: Tensor, scale: float) -> Tensor:
    return (loss_of_pictures(similarities, 1 / scale) + loss_of_captions(similarities, 1 / scale)) / 2


def loss_of_all_cells(similarities: Tensor, scale: float) -> Tensor:
    logits = scale * similarities
    return -(logits.log_softmax(1).mean() + logits.log_softmax(0).mean()) / 2


def by_short_means(images: Tensor, sentences: Tensor) -> Tensor:
    return (images @ sentences.mean(1).T).argmax(1)


def by_the_farthest(images: Tensor, sentences: Tensor) -> Tensor:
    return (images @ F.normalize(sentences.mean(1), dim=-1).T).argmin(1)


def by_the_first_sentence(images: Tensor, sentences: Tensor) -> Tensor:
    return (images @ sentences[:, 0].T).argmax(1)


def by_the_nearest_sentence(images: Tensor, sentences: Tensor) -> Tensor:
    return (images @ sentences.flatten(0, 1).T).view(len(images), len(sentences), -1).amax(2).argmax(1)


def similarities_only(images: Tensor, sentences: Tensor) -> Tensor:
    return images @ F.normalize(sentences.mean(1), dim=-1).T


def labels_for_labels(images: Tensor, sentences: Tensor) -> Tensor:
    return (images @ F.normalize(sentences.mean(1), dim=-1).T).argmax(0)


def share_of_the_first(right: list[bool], k: int) -> float:
    return sum(right[:k]) / k


def any_is_right(right: list[bool], k: int) -> float:
    return 1 - math.comb(len(right) - sum(right), k) / math.comb(len(right), k)


def with_putting_back(right: list[bool], k: int) -> float:
    n = len(right)
    return sum(((n - place) ** k - (n - 1 - place) ** k) / n**k for place, fine in enumerate(right) if fine)


def a_random_pick(right: list[bool], k: int) -> float:
    return sum(right) / len(right)


def the_worst(right: list[bool], k: int) -> float:
    n = len(right)
    return sum(math.comb(place, k - 1) / math.comb(n, k) for place, fine in enumerate(right) if fine)


def the_first(right: list[bool], k: int) -> float:
    return float(right[0])


def undivided(right: list[bool], k: int) -> float:
    return float(sum(math.comb(len(right) - 1 - place, k - 1) for place, fine in enumerate(right) if fine))


WRONG = {
    "4.1": [15, 4.515, 20.79, -10.4, 4.852, 32768, 1 / 32768, 10.3, "10.40"],
    "4.2": [
        loss_of_pictures,
        loss_of_captions,
        loss_without_scale,
        loss_with_wrong_sign,
        loss_summed,
        loss_of_each,
        loss_divided,
        loss_of_all_cells,
    ],
    "4.3": [
        by_short_means,
        by_the_farthest,
        by_the_first_sentence,
        by_the_nearest_sentence,
        similarities_only,
        labels_for_labels,
    ],
    "4.4": [share_of_the_first, any_is_right, with_putting_back, a_random_pick, the_worst, the_first, undivided],
}
