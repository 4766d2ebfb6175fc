"""Estimates with 95 % confidence intervals.

Each function takes one number for each independent sample, such as a prompt, a picture, or a training run with its own
seed. Nine pictures of one prompt are not independent, so pass their mean as one number.
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
MIN_FOR_BOOTSTRAP = 10  # with fewer values, the bootstrap's intervals are too narrow


@dataclass(frozen=True)
class Estimate:
    """An estimate with its 95 % interval.

    Attributes:
        value: the estimate.
        low, high: the bounds of the interval.
        sampled: the number and kind of the samples, such as "64 captions".

    Raises:
        ValueError: if the interval does not contain the value.
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
        sampled: see `Estimate`; if it does not begin with a number, the number of trials is put in front of it.
    """
    trials = np.asarray(successes, dtype=bool)
    found = stats.binomtest(int(trials.sum()), len(trials))
    bounds = found.proportion_ci(CONFIDENCE, method="exact")
    return Estimate(found.statistic, float(bounds.low), float(bounds.high), _counted([len(trials)], sampled))


def mean(values: Numbers, sampled: str) -> Estimate:
    """Estimate a mean, with the bootstrap's percentile interval, or with Student's t for fewer than ten values.

    Args:
        values: one value for each sample; at least two.
        sampled: see `share`.

    Raises:
        ValueError: if there are fewer than two values.
    """
    numbers = np.asarray(values, dtype=float)
    if len(numbers) < 2:
        raise ValueError(f"An interval needs at least two values, but got {len(numbers)}.")
    if len(numbers) < MIN_FOR_BOOTSTRAP:
        centre, standard_error = float(numbers.mean()), float(stats.sem(numbers))
        margin = float(stats.t.ppf((1 + CONFIDENCE) / 2, len(numbers) - 1)) * standard_error
        return Estimate(centre, centre - margin, centre + margin, _counted([len(numbers)], sampled))
    return statistic(np.mean, [numbers], sampled)


def difference(first: Numbers, second: Numbers, sampled: str) -> Estimate:
    """Estimate the mean of the differences `first` − `second` of paired values.

    Args:
        first, second: the values; first[i] and second[i] are from the same prompt or seed.
        sampled: see `share`.

    Raises:
        ValueError: if there are not equally many values, or fewer than two pairs.
    """
    if len(first) != len(second):
        raise ValueError(f"There are {len(first)} and {len(second)} values; paired values must be equally many.")
    return mean(list(np.asarray(first, dtype=float) - np.asarray(second, dtype=float)), sampled)


def difference_of_groups(first: Numbers, second: Numbers, sampled: str) -> Estimate:
    """Estimate the difference of the means of two independent groups, `first` − `second`.

    The interval is the bootstrap's percentile interval, or Welch's t interval if a group has fewer than ten values.

    Args:
        first, second: at least two values each.
        sampled: see `Estimate`; if it does not begin with a number, the sizes of both groups are put in front of it.

    Raises:
        ValueError: if a group has fewer than two values.
    """
    a, b = np.asarray(first, dtype=float), np.asarray(second, dtype=float)
    if min(len(a), len(b)) < 2:
        raise ValueError(f"An interval needs at least two values in each group, but got {len(a)} and {len(b)}.")
    if min(len(a), len(b)) < MIN_FOR_BOOTSTRAP:
        centre, counted = float(a.mean() - b.mean()), _counted([len(a), len(b)], sampled)
        if a.std() == b.std() == 0:
            return Estimate(centre, centre, centre, counted)
        bounds = stats.ttest_ind(a, b, equal_var=False).confidence_interval(CONFIDENCE)
        return Estimate(centre, float(bounds.low), float(bounds.high), counted)
    return statistic(lambda x, y: np.mean(x) - np.mean(y), [a, b], sampled, paired=False)


def statistic(
    function: Callable[..., float],
    samples: Sequence[Numbers],
    sampled: str,
    paired: bool = True,
) -> Estimate:
    """Estimate any statistic, such as a ratio of means, with the bootstrap's percentile interval (Efron 1979).

    The percentile interval of a biased statistic may not contain the estimate; it is then widened to contain it.

    Args:
        function: computes the statistic from the samples, each a one-dimensional array.
        samples: one or more sequences of values.
        sampled: see `Estimate`; if it does not begin with a number, the number of values is put in front of it, or the
            number of values in each sequence if they are not paired.
        paired: whether the sequences are paired: the values at the same position are then resampled together.
    """
    arrays = [np.asarray(values, dtype=float) for values in samples]
    counted = _counted([len(values) for values in (arrays[:1] if paired else arrays)], sampled)
    value = float(function(*arrays))
    if all(np.ptp(values) == 0 for values in arrays):
        return Estimate(value, value, value, counted)
    bounds = stats.bootstrap(
        arrays, function, n_resamples=RESAMPLES, confidence_level=CONFIDENCE, method="percentile", vectorized=False,
        paired=paired and len(arrays) > 1, rng=np.random.default_rng(0),
    ).confidence_interval  # fmt: skip
    low, high = float(bounds.low), float(bounds.high)
    return Estimate(value, min(low, value), max(high, value), counted)


def _counted(numbers: Sequence[int], sampled: str) -> str:
    """Put the numbers of samples in front of what was sampled, unless it begins with a number: "64 captions"."""
    return sampled if sampled[:1].isdigit() else f"{' and '.join(map(str, numbers))} {sampled}"
