"""Checkers of the exercises of lesson 4, CLIP."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import combinations

import torch
import torch.nn.functional as F
from torch import Tensor

from atelier.teaching.exercises import AnswerError, exercise, expect_close, expect_number, expect_tensor

BATCH = 32768


@exercise("4.1")
def check_first_loss(first_loss: float) -> None:
    """ln 32768, to two decimals."""
    given = expect_number(first_loss)
    if abs(given - math.log(BATCH)) <= 0.006:
        return
    faults = {
        math.log2(BATCH): "15 is the logarithm to base 2: bits. The loss is in nats.",
        math.log10(BATCH): "this is the logarithm to base 10; the loss has the natural logarithm.",
        2 * math.log(BATCH): "this is the sum of the loss's two halves; the loss is their mean.",
        -math.log(BATCH): "the sign is wrong: the loss is minus the logarithm of a probability.",
        math.log(BATCH) / 2: "this is half of the loss: the mean of two equal numbers is the number itself.",
        math.log(128): "4.85 is the first loss of your own training, with 128 pairs.",
        1 / BATCH: "this is the probability of the right caption; the loss is minus its logarithm.",
        float(BATCH): "this is the number of captions; the loss is the logarithm of it.",
    }
    for wrong, message in faults.items():
        if math.isclose(given, wrong, rel_tol=1e-3, abs_tol=1e-9):
            raise AnswerError(message)
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
            "this is the loss of finding a picture's caption; the other direction is missing.": rows.mean(),
            "this is the loss of finding a caption's picture; the other direction is missing.": columns.mean(),
            "the scale is missing: these are the cosines alone.": loss(similarities),
            "the sign is wrong: a loss is minus the mean of the logarithms.": -loss(logits),
            "this is the sum of both directions; the loss is their mean.": 2 * loss(logits),
            "this is the sum over the pairs; the loss is their mean.": 5 * loss(logits),
            "the cosines are divided by the scale; multiply by it.": loss(similarities / scale),
            "the logarithm is missing: this is the mean probability of the right answers.": _mean_probability(logits),
            "the logarithm is missing: this is minus the mean probability of the right answers.": (
                -_mean_probability(logits)
            ),
            "this is the mean over all cells; only those on the diagonal are right answers.": (
                -(logits.log_softmax(1).mean() + logits.log_softmax(0).mean()) / 2
            ),
        },
    )


def _mean_probability(logits: Tensor) -> Tensor:
    """The mean probability of the right answers in both directions."""
    return (logits.softmax(1).diagonal().mean() + logits.softmax(0).diagonal().mean()) / 2


@exercise("4.3")
def check_classify(classify: Callable[[Tensor, Tensor], Tensor]) -> None:
    """The nearest of the labels' mean directions, where normalising makes a difference."""
    images = F.normalize(torch.randn(60, 6), dim=-1)
    spread = torch.tensor([0.1, 1.0, 2.0, 4.0])[:, None, None]  # the last labels' sentences disagree
    sentences = F.normalize(torch.randn(4, 1, 6) + spread * torch.randn(4, 5, 6), dim=-1)
    result = classify(images.clone(), sentences.clone())
    if isinstance(result, Tensor) and result.shape == (60, 4):
        raise AnswerError("these are similarities, (n, labels); return the number of the best label, (n,).")
    result = expect_tensor(result, (60,), "classify")
    mean = sentences.mean(1)
    similar, single = images @ F.normalize(mean, dim=-1).T, torch.einsum("ne,lte->nlt", images, sentences)
    expect_close(
        result,
        similar.argmax(1),
        {
            "the mean is not normalised: labels whose sentences differ have shorter means and are at a disadvantage.": (
                (images @ mean.T).argmax(1)
            ),
            "this is the least similar label.": similar.argmin(1),
            "only the first sentence of each label is used.": single[..., 0].argmax(1),
            "this is the label with the nearest single sentence; return that with the nearest mean.": (
                single.amax(2).argmax(1)
            ),
            "these are numbers of sentences, not of labels.": single.flatten(1).argmax(1),
        },
    )


@exercise("4.4")
def check_best_of_k(best_of_k: Callable[[list[bool], int], float]) -> None:
    """The share of all subsets of k pictures whose best-ranked picture is right."""
    order, sizes = [True, False, True, True, False, False, True], (1, 2, 3, 5, 7)
    given = [expect_number(best_of_k(list(order), k), "what best_of_k returns") for k in sizes]
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
            "this is the share of right pictures among CLIP's first k; CLIP shows only one of k random pictures.": each(
                lambda k: sum(order[:k]) / k
            ),
            "this is the probability that any of the k is right, but CLIP may choose a wrong one.": counted(
                lambda choice: float(any(order[place] for place in choice))
            ),
            "this samples the k pictures with replacement: no picture can be chosen twice.": each(
                lambda k: sum(
                    ((n - place) ** k - (n - 1 - place) ** k) / n**k for place, right in enumerate(order) if right
                )
            ),
            "this does not depend on k: it is the share of right pictures, without CLIP's choice.": each(
                lambda k: share
            ),
            "this is 1 − (1 − p)^k, the probability that at least one is right; CLIP may choose a wrong one.": each(
                lambda k: 1 - (1 - share) ** k
            ),
            "this is always the first picture of all, which is not always among the k.": each(
                lambda k: float(order[0])
            ),
            "this is the picture that CLIP ranks last among the k: the list begins with the best.": counted(
                lambda choice: float(order[max(choice)])
            ),
            "this is the number of subsets whose best is right; divide by the number of all subsets.": each(
                lambda k: sum(math.comb(n - 1 - place, k - 1) for place, right in enumerate(order) if right)
            ),
        },
    )
