"""The claims of the slides, and the verdicts of the lessons on them.

`CLAIMS` has every claim of the session's slides; the module of each lesson has the claims that it measures, with their
rules. A cell of the lesson measures a claim and ends in a call of `verdict`; `make notebooks` collects the verdicts in
notebooks/CLAIMS.md.
"""

from __future__ import annotations

import html
from importlib import import_module
from pkgutil import iter_modules
from typing import Any

from IPython.display import display

from atelier.evaluation.intervals import Estimate
from atelier.teaching.claims.claim import FAILS, HOLDS, OUTCOMES, UNDECIDED, UNTESTABLE, Claim, Rule

METADATA = "atelier_claim"  # the key of a verdict in the metadata of a cell's output
COLOURS = {HOLDS: "#00704F", FAILS: "#B42318", UNDECIDED: "#8A5A00", UNTESTABLE: "#5C6670"}


def _all_claims() -> tuple[dict[str, Claim], dict[str, str]]:
    """The claims of all lessons by key, and the lesson of each."""
    claims: dict[str, Claim] = {}
    lessons: dict[str, str] = {}
    for module in iter_modules(__path__):
        if not module.name.startswith("lesson_"):
            continue
        own = import_module(f"{__name__}.{module.name}").CLAIMS
        claims |= own
        lessons |= dict.fromkeys(own, module.name.removeprefix("lesson_"))
    return claims, lessons


CLAIMS, LESSON_OF = _all_claims()


class MeasuredClaim:
    """A claim with its measurements and verdict, as the output of a notebook's cell.

    Args:
        key: of CLAIMS.
        estimates: a measurement for each of the claim's rules.
        figures: more numbers, in a sentence or two.

    Raises:
        ValueError: if there is no such claim, or if the measurements do not match its rules.
    """

    def __init__(self, key: str, estimates: tuple[Estimate, ...], figures: str) -> None:
        if key not in CLAIMS:
            raise ValueError(f"There is no claim {key!r}; there are {', '.join(CLAIMS)}.")
        self.key, self.claim, self.estimates, self.figures = key, CLAIMS[key], estimates, figures
        self.outcome = self.claim.outcome(estimates)

    @property
    def reasons(self) -> list[str]:
        """One line for each rule, or the source of a claim that is not tested here."""
        pairs = zip(self.claim.rules, self.estimates, strict=True)
        return [rule.reason(estimate) for rule, estimate in pairs] or [self.claim.source]

    @property
    def facts(self) -> dict[str, Any]:
        """What `make notebooks` collects."""
        return {
            "claim": self.key,
            "outcome": self.outcome,
            "reasons": self.reasons,
            "figures": self.figures,
            "intervals": [[estimate.value, estimate.low, estimate.high] for estimate in self.estimates],
        }

    def _repr_mimebundle_(self, **_: object) -> tuple[dict[str, str], dict[str, Any]]:
        colour, lines = COLOURS[self.outcome], [*self.reasons, *([self.figures] if self.figures else [])]
        markup = (
            f'<div style="border-left: 4px solid {colour}; padding: .4em .8em; margin: .4em 0">'
            f"<i>{html.escape(self.claim.words)}</i><br>{'<br>'.join(map(html.escape, lines))}<br>"
            f'<b style="color: {colour}">{self.outcome}</b></div>'
        )
        plain = "\n".join([self.claim.words, *lines, f"→ {self.outcome}"])
        return {"text/html": markup, "text/plain": plain}, {METADATA: self.facts}


def verdict(key: str, *estimates: Estimate, figures: str = "") -> None:
    """Display a claim with its measurements and the verdict that follows from its rules.

    Args:
        key: of CLAIMS.
        estimates: a measurement for each of the claim's rules, in their order; none for a claim that cannot be tested.
        figures: more numbers with their units, in a sentence or two, such as those of further controls.

    Raises:
        ValueError: if there is no such claim, or if the measurements do not match its rules.
    """
    display(MeasuredClaim(key, estimates, figures))


__all__ = [
    "CLAIMS",
    "COLOURS",
    "FAILS",
    "HOLDS",
    "LESSON_OF",
    "METADATA",
    "OUTCOMES",
    "UNDECIDED",
    "UNTESTABLE",
    "Claim",
    "MeasuredClaim",
    "Rule",
    "verdict",
]
