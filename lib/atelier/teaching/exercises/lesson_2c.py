"""Checkers of the exercises of lesson 2c, the VAE; it calls the posterior of a picture its cloud."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from atelier.teaching.exercises import AnswerError, exercise, expect_close, expect_finite, expect_numbers, expect_tensor


@exercise("2c.1")
def check_divergences(answer: Any) -> None:
    """The KL divergences of three clouds in nats, to two decimals."""
    a, b, c = expect_numbers(answer, 3)
    faults = {
        "A: this cloud is the prior itself; what is the divergence of a distribution from itself?": abs(a) > 0.01,
        "B: this is twice as much: the ½ of the formula is missing.": _near(b, 25.0),
        "B: the term of the centre is half its square, not half the number itself.": _near(b, 3.5),
        "B: this is the mean over the two axes, or one of them; the divergence is the sum.": any(
            _near(b, other) for other in (4.5, 6.25, 8.0)
        ),
        "B: this is not the divergence of a cloud with its centre at (3, 4).": not _near(b, 12.5),
        "C: this is one axis; the cloud has two.": _near(c, 0.57),
        "C: this is twice as much: the ½ of the formula is missing.": _near(c, 2.27),
        "C: σ is e⁻¹, so log σ² is −2, not −1.": _near(c, 0.135) or _near(c, 0.14),
        "C: log σ² is negative and is subtracted, so it makes the divergence larger.": _near(c, -2.86) or c < 0,
        "C: this is not the divergence of that narrow cloud.": not _near(c, 1.135),
    }
    for message, applies in faults.items():
        if applies:
            raise AnswerError(message)


def _near(number: float, other: float) -> bool:
    return abs(number - other) <= 0.011


@exercise("2c.2")
def check_sample(answer: Callable[[Tensor, Tensor], Tensor]) -> None:
    """z = μ + σ·ε: independent noise for each number, σ and not σ², gradients to both."""
    n = 5000
    mean = torch.tensor([2.0, -1.0]).repeat(n, 1).requires_grad_()
    log_variance = torch.tensor([0.5, 3.0]).square().log().repeat(n, 1).requires_grad_()
    z = expect_tensor(answer(mean, log_variance), (n, 2), "sample")
    noise = z.detach() - mean.detach()
    expect_finite(noise)
    if noise.abs().max() < 1e-6:
        raise AnswerError("the samples are the centres: they are not random.")
    if torch.equal(z, answer(mean, log_variance)):
        raise AnswerError("the samples are not random: two calls gave the same numbers.")
    if noise.std(0).max() < 1e-5:
        raise AnswerError("all clouds have the same noise: each of the n needs its own.")
    if noise.T.corrcoef()[0, 1].abs() > 0.9:
        raise AnswerError("both axes of a cloud have the same noise: each needs its own.")
    if noise.mean(0).abs().max() > 0.25:
        raise AnswerError("the mean of the samples is not the centre: is ε from N(0, 1), with mean 0?")
    _expect_deviations(noise.std(0))
    if not z.requires_grad:
        raise AnswerError("the sample has no gradient: use neither detach nor no_grad.")
    to_mean, to_log_variance = torch.autograd.grad(z.sum(), (mean, log_variance), allow_unused=True)
    if to_mean is None or not torch.allclose(to_mean, torch.ones_like(to_mean)):
        raise AnswerError("the gradient of the centres is missing or wrong: moving μ by 1 should move z by 1.")
    if to_log_variance is None or to_log_variance.abs().max() == 0:
        raise AnswerError("no gradient reaches the log variances, so the encoder would never learn them.")
    expect_close(to_log_variance, noise / 2, tolerance=1e-3)


def _expect_deviations(deviations: Tensor) -> None:
    """Compare standard deviations (2,) with the right ones, 0.5 and 3, and recognise common mistakes."""
    faults = {
        "the standard deviation of the samples is σ² instead of σ: exp(log σ²) is the variance.": (0.25, 9.0),
        "log σ² is used as σ: how do you get a standard deviation from a log variance?": (1.386, 2.197),
        "the standard deviation of the samples is √σ: there is one square root too many.": (0.707, 1.732),
        "the standard deviation of the samples is 1 for all clouds: σ is missing.": (1.0, 1.0),
    }
    if torch.allclose(deviations, torch.tensor([0.5, 3.0]), rtol=0.08):
        return
    for message, given in faults.items():
        if torch.allclose(deviations, torch.tensor(given), rtol=0.08):
            raise AnswerError(message)
    raise AnswerError(
        f"clouds with σ = 0.5 and σ = 3 gave samples with the standard deviations {deviations[0]:.2f} and "
        f"{deviations[1]:.2f}."
    )


@exercise("2c.3")
def check_kl_from_wide(answer: Callable[[Tensor, Tensor, float], Tensor]) -> None:
    """½ Σ (μ²/s² + σ²/s² − 1 − log(σ²/s²)) for each cloud."""
    mean, log_variance, s = torch.randn(5, 3), torch.randn(5, 3), 2.5
    result = expect_tensor(answer(mean, log_variance, s), (5,), "kl_from_wide")
    square, variance = mean.square(), log_variance.exp()

    def divergence(centre: Tensor, ratio: Tensor, log_ratio: Tensor) -> Tensor:
        return (centre + ratio - 1 - log_ratio) / 2  # (5, 3)

    log_s2 = 2 * torch.tensor(s).log()
    right = divergence(square / s**2, variance / s**2, log_variance - log_s2)
    faults = {
        "this is the divergence from N(0, I): s is missing.": divergence(square, variance, log_variance).sum(1),
        "s is used as the prior's variance; it is the standard deviation, and the variance is s².": divergence(
            square / s, variance / s, log_variance - log_s2 / 2
        ).sum(1),
        "μ² is not divided by s².": divergence(square, variance / s**2, log_variance - log_s2).sum(1),
        "σ² is not divided by s², outside the logarithm.": divergence(
            square / s**2, variance, log_variance - log_s2
        ).sum(1),
        "s is missing in the logarithm, which is of σ²/s².": divergence(
            square / s**2, variance / s**2, log_variance
        ).sum(1),
        "the logarithm of s² has the wrong sign: log(σ²/s²) = log σ² − log s².": divergence(
            square / s**2, variance / s**2, log_variance + log_s2
        ).sum(1),
        "the two distributions are swapped: this is KL(prior ‖ cloud).": (
            (s**2 / variance + square / variance - 1 - log_s2 + log_variance).sum(1) / 2
        ),
        "this is twice as much: the ½ is missing.": 2 * right.sum(1),
        "this is the mean over the axes; the divergence is the sum.": right.mean(1),
    }
    expect_close(result, right.sum(1), faults)


@exercise("2c.4")
def check_best_variance(answer: Callable[[Tensor, float], Tensor]) -> None:
    """The variance σ² = β / (β + w²) that minimises the loss."""
    w, beta = torch.tensor([0.0, 0.5, -1.0, 2.0, 5.0]), 0.7
    result = expect_tensor(answer(w, beta), (5,), "best_variance")
    square = w.square()
    right = beta / (beta + square)
    faults = {
        "this is σ; return its square.": right.sqrt(),
        "this is the inverse: the more the decoder uses an axis, the narrower the cloud.": (beta + square) / beta,
        "β is missing: this is right for β = 1 only.": 1 / (1 + square),
        "β is in the wrong place: a larger β makes clouds wider, and yours makes them narrower.": 1
        / (1 + beta * square),
        "w is not squared.": beta / (beta + w),
        "this has |w| in place of w².": beta / (beta + w.abs()),
        "the σ² of the KL term is missing: an axis that is not used would get an infinitely wide cloud.": beta / square,
        "this is log σ²; return σ².": right.log(),
    }
    expect_close(result, right, faults)
