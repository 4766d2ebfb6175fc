"""Estimates with 95 % confidence intervals.

Each function takes one number for each thing that was sampled independently, such as a prompt, a picture, or a training
run with its own seed. Nine pictures of one prompt are not independent, so their mean is passed as one number.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats
from torch import Tensor

Numbers = Sequence[float] | np.ndarray | Tensor  # one-dimensional

CONFIDENCE = 0.95
RESAMPLES = 2000
FEWEST_FOR_BOOTSTRAP = 10  # of fewer numbers the bootstrap's intervals are too narrow


@dataclass(frozen=True)
class Estimate:
    """An estimate with its 95 % interval.

    Attributes:
        value: the estimate.
        low, high: the bounds of the interval.
        sampled: what was sampled and how many, such as "64 captions".
    """

    value: float
    low: float
    high: float
    sampled: str

    def __post_init__(self) -> None:
        if not self.low <= self.value <= self.high:
            raise ValueError(f"The interval from {self.low} to {self.high} does not contain the value {self.value}.")


def share(successes: Sequence[bool] | Numbers, sampled: str) -> Estimate:
    """Estimate a share of successes, with the exact interval of Clopper and Pearson (1934).

    Args:
        successes: true or false for each trial; at least one trial.
        sampled: see `Estimate`; without a number, the number of trials is put before it.
    """
    trials = np.asarray(successes, dtype=bool)
    found = stats.binomtest(int(trials.sum()), len(trials))
    bounds = found.proportion_ci(CONFIDENCE, method="exact")
    return Estimate(found.statistic, float(bounds.low), float(bounds.high), _counted(len(trials), sampled))


def mean(values: Numbers, sampled: str) -> Estimate:
    """Estimate a mean, with the bootstrap's percentile interval, or with Student's t for fewer than ten values.

    Args:
        values: one for each thing sampled; at least two.
        sampled: see `Estimate`.

    Raises:
        ValueError: if there are fewer than two values.
    """
    numbers = np.asarray(values, dtype=float)
    if len(numbers) < 2:
        raise ValueError(f"An interval needs at least two values, but got {len(numbers)}.")
    if len(numbers) < FEWEST_FOR_BOOTSTRAP:
        centre, spread = float(numbers.mean()), float(stats.sem(numbers))
        reach = float(stats.t.ppf((1 + CONFIDENCE) / 2, len(numbers) - 1)) * spread
        return Estimate(centre, centre - reach, centre + reach, _counted(len(numbers), sampled))
    return statistic(np.mean, [numbers], sampled)


def difference(first: Numbers, second: Numbers, sampled: str) -> Estimate:
    """Estimate the mean of `first` minus `second` for paired values: both values i belong to one prompt or seed.

    Args:
        first, second: equally many values.
        sampled: see `Estimate`.

    Raises:
        ValueError: if their numbers differ, or there are fewer than two pairs.
    """
    if len(first) != len(second):
        raise ValueError(f"Pairs were expected, but there are {len(first)} and {len(second)} values.")
    return mean(list(np.asarray(first, dtype=float) - np.asarray(second, dtype=float)), sampled)


def difference_of_groups(first: Numbers, second: Numbers, sampled: str) -> Estimate:
    """Estimate the mean of `first` minus the mean of `second` for two independent groups.

    The interval is the bootstrap's, or that of Welch's t if a group has fewer than ten values.

    Args:
        first, second: at least two values each.
        sampled: see `Estimate`; without a number, both numbers of values are put before it.

    Raises:
        ValueError: if a group has fewer than two values.
    """
    a, b = np.asarray(first, dtype=float), np.asarray(second, dtype=float)
    if min(len(a), len(b)) < 2:
        raise ValueError(f"An interval needs at least two values in each group, but got {len(a)} and {len(b)}.")
    counted = sampled if sampled[:1].isdigit() else f"{len(a)} and {len(b)} {sampled}"
    if min(len(a), len(b)) < FEWEST_FOR_BOOTSTRAP:
        centre = float(a.mean() - b.mean())
        if a.std() == b.std() == 0:
            return Estimate(centre, centre, centre, counted)
        bounds = stats.ttest_ind(a, b, equal_var=False).confidence_interval(CONFIDENCE)
        return Estimate(centre, float(bounds.low), float(bounds.high), counted)
    return statistic(lambda x, y: np.mean(x) - np.mean(y), [a, b], counted, paired=False)


def statistic(
    function: Callable[..., float],
    samples: Sequence[Numbers],
    sampled: str,
    paired: bool = True,
) -> Estimate:
    """Estimate any statistic, such as a ratio of means, with the bootstrap's percentile interval (Efron 1979).

    Args:
        function: computes the statistic from the samples, each a 1-d array.
        samples: one sequence of values or several.
        sampled: see `Estimate`.
        paired: whether the values i of all sequences belong together, so that they are resampled together.
    """
    arrays = [np.asarray(values, dtype=float) for values in samples]
    value = float(function(*arrays))
    if all(np.ptp(values) == 0 for values in arrays):
        return Estimate(value, value, value, _counted(len(arrays[0]), sampled))
    bounds = stats.bootstrap(
        arrays, function, n_resamples=RESAMPLES, confidence_level=CONFIDENCE, method="percentile", vectorized=False,
        paired=paired and len(arrays) > 1, rng=np.random.default_rng(0),
    ).confidence_interval  # fmt: skip
    low, high = float(bounds.low), float(bounds.high)
    return Estimate(value, min(low, value), max(high, value), _counted(len(arrays[0]), sampled))


def _counted(number: int, sampled: str) -> str:
    return sampled if sampled[:1].isdigit() else f"{number} {sampled}"
