"""Checkers of the exercises of lesson 4, CLIP."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import combinations

import torch
import torch.nn.functional as F
from torch import Tensor

from atelier.teaching.exercises import AnswerError, exercise, expect_close, expect_tensor

BATCH = 32768


@exercise("4.1")
def check_first_loss(first_loss: float) -> None:
    """ln 32768, to two decimals."""
    given = _number(first_loss, "the answer")
    if abs(given - math.log(BATCH)) <= 0.006:
        return
    faults = {
        math.log2(BATCH): "15 is the logarithm to base 2: bits. The loss is in nats.",
        math.log10(BATCH): "this is the logarithm to base 10; the loss has the natural one.",
        2 * math.log(BATCH): "both halves of the loss have this value, but the loss is their mean, not their sum.",
        -math.log(BATCH): "the sign is lost: the logarithm of a probability is negative, and the loss is minus that.",
        math.log(BATCH) / 2: "this is half of it: the mean of two equal halves is each of them.",
        math.log(128): "4.85 is the beginning of your own training, with 128 pairs.",
        1 / BATCH: "this is the probability of the right caption; the loss is minus its logarithm.",
        float(BATCH): "this is the number of captions; the loss is the logarithm of it.",
    }
    for wrong, words in faults.items():
        if math.isclose(given, wrong, rel_tol=1e-3, abs_tol=1e-9):
            raise AnswerError(words)
    raise AnswerError(f"{given:.4g} is too {'small' if given < math.log(BATCH) else 'large'}, or not to two decimals.")


@exercise("4.2")
def check_loss_by_hand(loss_by_hand: Callable[[Tensor, float], Tensor]) -> None:
    """The mean of both cross-entropies of a matrix that is not symmetric."""
    similarities, scale = torch.randn(5, 5).clamp(-1, 1), 3.0
    result = expect_tensor(loss_by_hand(similarities.clone(), scale), (), "loss_by_hand")
    logits = scale * similarities

    def loss(logits: Tensor) -> Tensor:
        return -(logits.log_softmax(1).diagonal().mean() + logits.log_softmax(0).diagonal().mean()) / 2

    rows, columns = -logits.log_softmax(1).diagonal(), -logits.log_softmax(0).diagonal()
    expect_close(
        result,
        loss(logits),
        {
            "only the pictures are asked for their captions; the other direction is missing.": rows.mean(),
            "only the captions are asked for their pictures; the other direction is missing.": columns.mean(),
            "the scale is missing: these are the cosines alone.": loss(similarities),
            "the sign is wrong: a loss is minus the mean of the logarithms.": -loss(logits),
            "both directions are summed; the loss is their mean.": 2 * loss(logits),
            "the losses of the pairs are summed; the loss is their mean.": 5 * loss(logits),
            "the cosines are divided by the scale; it is one over the temperature already.": loss(similarities / scale),
            "all cells are taken; only those on the diagonal are right answers.": (
                -(logits.log_softmax(1).mean() + logits.log_softmax(0).mean()) / 2
            ),
        },
    )


@exercise("4.3")
def check_classify(classify: Callable[[Tensor, Tensor], Tensor]) -> None:
    """The nearest of the labels' mean directions, where normalising makes a difference."""
    images = F.normalize(torch.randn(60, 6), dim=-1)
    spread = torch.tensor([0.1, 1.0, 2.0, 4.0])[:, None, None]  # the last labels' sentences disagree
    sentences = F.normalize(torch.randn(4, 1, 6) + spread * torch.randn(4, 5, 6), dim=-1)
    result = classify(images.clone(), sentences.clone())
    if isinstance(result, Tensor) and result.shape == (60, 4):
        raise AnswerError("these are similarities, (n, labels); wanted is the number of the best label, (n,).")
    result = expect_tensor(result, (60,), "classify")
    mean = sentences.mean(1)
    similar, single = images @ F.normalize(mean, dim=-1).T, torch.einsum("ne,lte->nlt", images, sentences)
    expect_close(
        result,
        similar.argmax(1),
        {
            "the mean is not made one unit long: labels whose sentences disagree are at a disadvantage.": (
                (images @ mean.T).argmax(1)
            ),
            "the least similar label wins.": similar.argmin(1),
            "only the first sentence of each label is used.": single[..., 0].argmax(1),
            "the nearest single sentence wins; wanted is the label with the nearest mean.": single.amax(2).argmax(1),
            "these are numbers of sentences, not of labels.": single.flatten(1).argmax(1),
        },
    )


@exercise("4.4")
def check_best_of_k(best_of_k: Callable[[list[bool], int], float]) -> None:
    """Counted out over all choices."""
    order, sizes = [True, False, True, True, False, False, True], (1, 2, 3, 5, 7)
    given = [_number(best_of_k(list(order), k), "best_of_k") for k in sizes]
    n, share = len(order), sum(order) / len(order)

    def each(rule: Callable[[int], float]) -> Tensor:
        return torch.tensor([rule(k) for k in sizes], dtype=torch.float64)

    def counted(choose: Callable[[tuple[int, ...]], float]) -> Tensor:
        choices = {k: [choose(choice) for choice in combinations(range(n), k)] for k in sizes}
        return each(lambda k: sum(choices[k]) / len(choices[k]))

    expect_close(
        torch.tensor(given, dtype=torch.float64),
        counted(lambda choice: float(order[min(choice)])),
        {
            "this is the share of right ones among CLIP's first k; but only one is shown.": each(
                lambda k: sum(order[:k]) / k
            ),
            "this is the probability that any of the k is right; CLIP need not choose it.": counted(
                lambda choice: float(any(order[place] for place in choice))
            ),
            "this draws the k with putting back: no picture can be chosen twice.": each(
                lambda k: sum(
                    ((n - place) ** k - (n - 1 - place) ** k) / n**k for place, fine in enumerate(order) if fine
                )
            ),
            "this is a random pick, whatever k is: CLIP's choice is not in it.": each(lambda k: share),
            "this is 1 − (1 − p)^k: that at least one is right, with putting back, and not that CLIP finds it.": each(
                lambda k: 1 - (1 - share) ** k
            ),
            "this always shows the first of all; it is not always among the k.": each(lambda k: float(order[0])),
            "this is the worst of the k by CLIP's lights: the list begins with the best.": counted(
                lambda choice: float(order[max(choice)])
            ),
            "this is the number of choices; divide by how many there are.": each(
                lambda k: sum(math.comb(n - 1 - place, k - 1) for place, fine in enumerate(order) if fine)
            ),
        },
    )


def _number(result: float | Tensor | None, called: str) -> float:
    """The result as a number; a tensor with one element will do."""
    if isinstance(result, Tensor) and result.numel() == 1:
        return result.item()
    if isinstance(result, bool) or not isinstance(result, int | float):
        raise AnswerError(f"{called} is a {type(result).__name__}, where a number is wanted.")
    return float(result)
