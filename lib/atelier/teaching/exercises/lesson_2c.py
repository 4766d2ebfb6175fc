"""Checkers of lesson 2c's exercises: what a cloud costs, a sampler, another prior, the width of a cloud."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from atelier.teaching.exercises import AnswerError, exercise, expect_close, expect_tensor

Clouds = Callable[[Tensor, Tensor], Tensor]


@exercise("2c.1")
def what_a_cloud_costs(answer: Any) -> None:
    """Three numbers of nats, to two decimals."""
    if not isinstance(answer, Sequence | Tensor) or isinstance(answer, str) or len(answer) != 3:
        raise AnswerError("a list of three numbers is wanted, one for each of A, B and C.")
    a, b, c = (float(number) for number in answer)
    faults = {
        "A: this cloud is the prior itself; how far is a distribution from itself?": abs(a) > 0.01,
        "B: twice too much. Where is the half of the formula?": _near(b, 25.0),
        "B: a centre costs the half of its square, not of the number itself.": _near(b, 3.5),
        "B: that is the mean over the two axes, or one of them; what is wanted is the sum.": any(
            _near(b, other) for other in (4.5, 6.25, 8.0)
        ),
        "B: these are not the nats of a centre at (3, 4).": not _near(b, 12.5),
        "C: that is one axis; the cloud has two.": _near(c, 0.57),
        "C: twice too much. Where is the half of the formula?": _near(c, 2.27),
        "C: σ is e⁻¹, and so log σ² is -2, not -1.": _near(c, 0.135) or _near(c, 0.14),
        "C: the logarithm is subtracted, and it is negative: it makes the cloud dearer.": _near(c, -2.86) or c < 0,
        "C: these are not the nats of that narrow cloud.": not _near(c, 1.135),
    }
    for words, found in faults.items():
        if found:
            raise AnswerError(words)


def _near(number: float, other: float) -> bool:
    return abs(number - other) <= 0.011


@exercise("2c.2")
def mend_the_sampler(answer: Clouds) -> None:
    """z = μ + σ·ε: noise of its own for each number, σ and not σ², gradients to both."""
    n = 5000
    mean = torch.tensor([2.0, -1.0]).repeat(n, 1).requires_grad_()
    log_variance = torch.tensor([0.5, 3.0]).square().log().repeat(n, 1).requires_grad_()
    z = expect_tensor(answer(mean, log_variance), (n, 2), "sample")
    noise = z.detach() - mean.detach()
    if noise.abs().max() < 1e-6:
        raise AnswerError("the samples are the centres: there is no chance in them.")
    if noise.std(0).max() < 1e-5:
        raise AnswerError("all clouds got the same roll of the dice: each of the n needs its own.")
    if noise.T.corrcoef()[0, 1].abs() > 0.9:
        raise AnswerError("both axes of a cloud got the same roll of the dice: each needs its own.")
    if noise.mean(0).abs().max() > 0.25:
        raise AnswerError("the samples do not lie around the centres: is ε from N(0, 1), with mean 0?")
    expect_spread(noise.std(0))
    if not z.requires_grad:
        raise AnswerError("the sample has no gradient: what was taken away with detach, or drawn without one?")
    to_mean, to_width = torch.autograd.grad(z.sum(), (mean, log_variance), allow_unused=True)
    if to_mean is None or not torch.allclose(to_mean, torch.ones_like(to_mean)):
        raise AnswerError("no gradient, or a wrong one, reaches the centres: moving μ by 1 should move z by 1.")
    if to_width is None or to_width.abs().max() == 0:
        raise AnswerError("no gradient reaches the log variances, so the clouds' widths would never learn.")
    expect_close(to_width, noise / 2, tolerance=1e-3)


def expect_spread(spread: Tensor) -> None:
    """Compare standard deviations with the right ones, 0.5 and 3, and recognise what gives others."""
    known = {
        "the samples spread by σ² where they should by σ: exp(log σ²) is the variance.": (0.25, 9.0),
        "log σ² was taken for σ: what turns a log variance into a standard deviation?": (1.386, 2.197),
        "the samples spread by √σ: one square root too many.": (0.707, 1.732),
        "all clouds have width 1: where is σ?": (1.0, 1.0),
    }
    if torch.allclose(spread, torch.tensor([0.5, 3.0]), rtol=0.08):
        return
    for words, widths in known.items():
        if torch.allclose(spread, torch.tensor(widths), rtol=0.08):
            raise AnswerError(words)
    raise AnswerError(
        f"clouds with σ = 0.5 and σ = 3 gave samples with the standard deviations {spread[0]:.2f} and {spread[1]:.2f}."
    )


@exercise("2c.3")
def another_prior(answer: Callable[[Tensor, Tensor, float], Tensor]) -> None:
    """½ Σ (μ²/s² + σ²/s² − 1 − log(σ²/s²)), for each cloud."""
    mean, log_variance, s = torch.randn(5, 3), torch.randn(5, 3), 2.5
    result = expect_tensor(answer(mean, log_variance, s), (5,), "kl_from_wide")
    square, variance = mean.square(), log_variance.exp()

    def cost(centre: Tensor, ratio: Tensor, log_ratio: Tensor) -> Tensor:
        return (centre + ratio - 1 - log_ratio) / 2  # (5, 3)

    log_s2 = 2 * torch.tensor(s).log()
    right = cost(square / s**2, variance / s**2, log_variance - log_s2)
    faults = {
        "that is the divergence from N(0, I): s does not come in.": cost(square, variance, log_variance).sum(1),
        "s was taken for the prior's variance; it is the standard deviation, and the variance is s².": cost(
            square / s, variance / s, log_variance - log_s2 / 2
        ).sum(1),
        "the centre is not measured in the prior's units: μ² has to be divided too.": cost(
            square, variance / s**2, log_variance - log_s2
        ).sum(1),
        "the variance is not measured in the prior's units: σ² has to be divided too.": cost(
            square / s**2, variance, log_variance - log_s2
        ).sum(1),
        "the logarithm is of σ²/s², and here s is missing in it.": cost(
            square / s**2, variance / s**2, log_variance
        ).sum(1),
        "the logarithm of s² has the wrong sign: log(σ²/s²) = log σ² - log s².": cost(
            square / s**2, variance / s**2, log_variance + log_s2
        ).sum(1),
        "the two distributions are the wrong way round: that is KL(prior ‖ cloud).": (
            (s**2 / variance + square / variance - 1 - log_s2 + log_variance).sum(1) / 2
        ),
        "twice too much: the half is missing.": 2 * right.sum(1),
        "that is the mean over the axes; a cloud pays for each of them, so take the sum.": right.mean(1),
    }
    expect_close(result, right.sum(1), faults)


@exercise("2c.4")
def how_wide_the_cloud_will_be(answer: Callable[[Tensor, float], Tensor]) -> None:
    """σ² = β / (β + w²)."""
    w, beta = torch.tensor([0.0, 0.5, -1.0, 2.0, 5.0]), 0.7
    result = expect_tensor(answer(w, beta), (5,), "best_variance")
    square = w.square()
    right = beta / (beta + square)
    faults = {
        "that is σ; its square is wanted.": right.sqrt(),
        "upside down: an axis that the decoder uses more gets a narrower cloud, not a wider one.": (beta + square)
        / beta,
        "β is missing: that is right for β = 1 only.": 1 / (1 + square),
        "β stands in the wrong place: a larger β makes clouds wider, and yours makes them narrower.": 1
        / (1 + beta * square),
        "w comes in without its square.": beta / (beta + w),
        "the sign of w must not matter, but it should be w², not |w|.": beta / (beta + w.abs()),
        "that forgets the σ² of the KL term: an axis that is not used would get an infinitely wide cloud.": beta
        / square,
        "that is log σ²; σ² is wanted.": right.log(),
    }
    expect_close(result, right, faults)
