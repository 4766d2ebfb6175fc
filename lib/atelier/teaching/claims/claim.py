"""Claims, the rules by which they are judged, and the four verdicts.

A rule is fixed before the measurement: a quantity, and the threshold that it has to pass. The verdict depends only on
the rule and the interval of the measurement, so no cell of a lesson can choose it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from atelier.evaluation.intervals import Estimate

HOLDS, FAILS, UNDECIDED, UNTESTABLE = "holds", "does not hold", "undecided", "not testable here"
OUTCOMES = (HOLDS, FAILS, UNDECIDED, UNTESTABLE)


@dataclass(frozen=True)
class Rule:
    """The quantity that is measured, and the values of it that support the claim.

    Attributes:
        quantity: what is measured, as a difference from the control if there is one, such as "pictures recognised,
            trained minus untrained generator".
        threshold: the claim needs values beyond it.
        above: whether the values must be above the threshold or below it.
        unit: "%" for shares and "points" for their differences, whose values are from 0 to 1 and from −1 to 1; any
            other unit, or "" for a number without unit.
        least, most: the values that the quantity can take. The threshold lies between them, so that the measurement
            can contradict the claim as well as support it.

    Raises:
        ValueError: if the threshold is not between `least` and `most`, as such a rule can have only one result.
    """

    quantity: str
    threshold: float
    above: bool = True
    unit: str = "%"
    least: float = 0.0
    most: float = 1.0

    def __post_init__(self) -> None:
        if not self.least < self.threshold < self.most:
            raise ValueError(
                f"{self.quantity!r} takes values from {self.least:g} to {self.most:g}, so the threshold "
                f"{self.threshold:g} leaves one result only; it must lie between them."
            )

    @classmethod
    def of_difference(cls, quantity: str, threshold: float = 0.0, above: bool = True) -> Rule:
        """Make the rule for a difference of two shares."""
        return cls(quantity, threshold, above, unit="points", least=-1.0)

    @classmethod
    def of_number(
        cls, quantity: str, threshold: float, above: bool = True, unit: str = "", least: float = -math.inf
    ) -> Rule:
        """Make the rule for a quantity that is not a share."""
        return cls(quantity, threshold, above, unit, least, most=math.inf)

    def outcome(self, estimate: Estimate) -> str:
        """Judge a measurement: HOLDS or FAILS if its whole interval lies on one side of the threshold, else UNDECIDED.

        Raises:
            ValueError: if the quantity cannot take the measured value.
        """
        if not self.least <= estimate.value <= self.most:
            raise ValueError(f"{self.quantity!r} was {estimate.value:g}; it is from {self.least:g} to {self.most:g}.")
        if estimate.low > self.threshold:
            return HOLDS if self.above else FAILS
        if estimate.high < self.threshold:
            return FAILS if self.above else HOLDS
        return UNDECIDED

    def written(self, number: float) -> str:
        """Write a value of the quantity with its unit, to two or three digits."""
        scaled = 100 * number if self.unit in ("%", "points") else number
        digits = f"{scaled:.3g}" if abs(scaled) < 100 else f"{scaled:.0f}"
        return f"{digits} {self.unit}".strip()

    @property
    def sentence(self) -> str:
        """The rule in words."""
        return f"{self.quantity}: {'above' if self.above else 'below'} {self.written(self.threshold)}"

    def reason(self, estimate: Estimate) -> str:
        """Say in one line what was measured and where its interval lies."""
        low, high = self.written(estimate.low), self.written(estimate.high)
        side = {
            HOLDS: "above" if self.above else "below",
            FAILS: "below" if self.above else "above",
            UNDECIDED: "on both sides of",
        }[self.outcome(estimate)]
        return (
            f"{self.quantity}: {self.written(estimate.value)}; the interval from {low} to {high} ({estimate.sampled}) "
            f"lies {side} {self.written(self.threshold)}."
        )


@dataclass(frozen=True)
class Claim:
    """A claim of the session's slides, or of the course about the same subject.

    Attributes:
        words: the claim as a sentence, quoted word for word.
        rules: the claim holds if all of them hold; empty if it cannot be tested here.
        source: for a claim that cannot be tested here, why not, and where the original result is published.

    Raises:
        ValueError: if the claim has neither rules nor a source, or both.
    """

    words: str
    rules: tuple[Rule, ...] = ()
    source: str = ""

    def __post_init__(self) -> None:
        if bool(self.rules) == bool(self.source):
            raise ValueError(f"{self.words!r} needs rules, or else a source that says why it is not tested here.")

    def outcome(self, estimates: Sequence[Estimate]) -> str:
        """Judge the claim by one measurement for each of its rules.

        Raises:
            ValueError: if there are more or fewer measurements than rules.
        """
        if len(estimates) != len(self.rules):
            raise ValueError(f"The claim has {len(self.rules)} rules, but {len(estimates)} measurements were given.")
        if not self.rules:
            return UNTESTABLE
        outcomes = [rule.outcome(estimate) for rule, estimate in zip(self.rules, estimates, strict=True)]
        if FAILS in outcomes:
            return FAILS
        return UNDECIDED if UNDECIDED in outcomes else HOLDS
