"""notebooks/RECHECK.md: the verdicts of all claims, measured again with other seeds by `make recheck`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from atelier.evaluation.intervals import Estimate
from atelier.teaching.claims import CLAIMS, LESSON_OF, UNTESTABLE
from atelier.teaching.lessons import LESSONS, NOTEBOOKS
from atelier.weights.storage import replace_file
from claims_page import all_verdicts

RECHECKS = NOTEBOOKS.parent / "data" / "experiments" / "rechecks.json"
RECHECK_FILE = "RECHECK.md"
Rechecks = dict[str, dict[str, dict[str, Any]]]  # claim → offset of the seeds → "intervals" and "experiments"


def read_rechecks(path: Path = RECHECKS) -> Rechecks:
    """Read the stored measurements; empty if there is none."""
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def store(claim: str, offset: int, intervals: list[list[float]], experiments: bool, path: Path = RECHECKS) -> None:
    """Store the measurements of a claim.

    Args:
        claim: its key.
        offset: what was added to every seed.
        intervals: value, low end and high end for each of the claim's rules.
        experiments: whether the seeds of the lesson's stored experiments were shifted, too.
        path: of the file.
    """
    stored = read_rechecks(path)
    stored.setdefault(claim, {})[str(offset)] = {"intervals": intervals, "experiments": experiments}
    ordered = {key: stored[key] for key in CLAIMS if key in stored}
    replace_file(path, (json.dumps(ordered, indent=1) + "\n").encode())


def recheck_page(folder: Path = NOTEBOOKS, rechecks: Rechecks | None = None) -> str:
    """The text of RECHECK.md: a row for each claim, with its verdict in the lesson and with the other seeds.

    Args:
        folder: of the executed lessons.
        rechecks: the stored measurements; None reads them from the file.
    """
    again = read_rechecks() if rechecks is None else rechecks
    offsets = sorted({int(offset) for measured in again.values() for offset in measured})
    lines = [
        "# The claims, measured again with other seeds",
        "",
        "Made by `make recheck`. Each claim of [the table](CLAIMS.md) that can be tested here is measured again: a",
        "number is added to every seed of its lesson, so pictures, captions, noise and trainings are new. The rules",
        "stay as they are. A verdict that depends on the seeds differs between the columns. Where a verdict is marked",
        "with *, the lesson's experiments, which take hours, keep their stored results.",
        "",
        "| claim | lesson | as published | " + " | ".join(f"seeds + {offset}" for offset in offsets) + " |",
        "|---|---|---|" + "---|" * len(offsets),
    ]
    for key, (_, facts) in all_verdicts(folder).items():
        if facts["outcome"] == UNTESTABLE:
            continue
        lesson = LESSONS[LESSON_OF[key]]
        cells = [_outcome(key, again.get(key, {}).get(str(offset))) for offset in offsets]
        words = CLAIMS[key].words.replace("|", "\\|")
        lines.append(f"| {words} | [{lesson.key}]({lesson.name}.ipynb) | {_cell(key, facts)} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _outcome(claim: str, measured: dict[str, Any] | None) -> str:
    if measured is None:
        return "not measured"
    return _cell(claim, measured) + ("" if measured["experiments"] else " *")


def _cell(claim: str, measured: dict[str, Any]) -> str:
    """The verdict that follows from the intervals, and the intervals."""
    estimates = [Estimate(*interval, sampled="") for interval in measured["intervals"]]
    numbers = "; ".join(
        f"{rule.written(each.value)} ({rule.written(each.low)} to {rule.written(each.high)})"
        for rule, each in zip(CLAIMS[claim].rules, estimates, strict=True)
    )
    return f"**{CLAIMS[claim].outcome(estimates)}**: {numbers}"
