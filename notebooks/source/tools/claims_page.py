"""notebooks/CLAIMS.md: every claim of the slides with its measurement and verdict, and one figure of all intervals."""

from __future__ import annotations

import io
import textwrap
from pathlib import Path
from typing import Any

import nbformat
from atelier.evaluation.intervals import Estimate
from atelier.teaching.claims import CLAIMS, COLOURS, LESSON_OF, METADATA, OUTCOMES, Rule
from atelier.teaching.figures import GREY, INK, PIXELS_PER_INCH, STYLE
from atelier.teaching.lessons import LESSONS
from matplotlib import rc_context
from matplotlib.figure import Figure
from nbformat import NotebookNode
from palette import with_palette

REACH = 60.0  # the axis ends here; longer intervals are cut off, with an arrow
WRAP = 62  # characters in a line of a row's label
LINE, GAP = 0.155, 0.12  # inches: a line of a label, and the space between two rows


def verdicts(notebook: NotebookNode) -> dict[str, tuple[str, dict[str, Any]]]:
    """Key of a claim → id of the cell that measured it, and its verdict: see `MeasuredClaim.facts`."""
    found = {}
    for cell in notebook.cells:
        for output in cell.get("outputs", ()):
            facts = output.get("metadata", {}).get(METADATA)
            if facts:
                found[facts["claim"]] = (cell.id, dict(facts))
    return found


def all_verdicts(folder: Path) -> dict[str, tuple[str, dict[str, Any]]]:
    """The verdicts of all lessons in a folder, in the order of the claims."""
    found: dict[str, tuple[str, dict[str, Any]]] = {}
    for lesson in LESSONS.values():
        found |= verdicts(nbformat.read(folder / f"{lesson.name}.ipynb", as_version=4))
    return {key: found[key] for key in CLAIMS}


def claims_table(folder: Path) -> str:
    """The text of CLAIMS.md: how a verdict is made, the figure, and a row for each claim."""
    measured = all_verdicts(folder)
    outcomes = [facts["outcome"] for _, facts in measured.values()]
    counts = ", ".join(f"{outcomes.count(outcome)} {outcome}" for outcome in OUTCOMES)
    lines = [
        "# What the slides claim, and what the lessons measure",
        "",
        "Made by `make notebooks` out of the lessons' outputs. Each claim has rules that were written down before the",
        "measurement: a quantity, most often a difference to a control, and a threshold. The verdict follows from the",
        "95 % interval of the measurement. It is *holds* or *does not hold* if the whole interval lies on one side of",
        "the threshold, and *undecided* if it does not. Headings, history and other people's results are *not testable",
        "here*; they are cited instead.",
        "",
        f"Of {len(outcomes)} claims: {counts}.",
        "",
        "![All measurements with their intervals, as distances from their thresholds](../docs/claims.png)",
        "",
        "| claim, in the slides’ words | lesson | cell | measured | verdict |",
        "|---|---|---|---|---|",
    ]
    for key, (cell, facts) in measured.items():
        lesson = LESSONS[LESSON_OF[key]]
        said = " ".join([*facts["reasons"], facts["figures"]]).strip()
        row = (CLAIMS[key].words, f"[{lesson.key}]({lesson.name}.ipynb)", cell, said, facts["outcome"])
        lines.append("| " + " | ".join(text.replace("|", "\\|") for text in row) + " |")
    return "\n".join(lines) + "\n"


def support(rule: Rule, number: float) -> float:
    """How far a number lies from a rule's threshold, on the side that supports the claim if positive.

    Returns:
        Points for shares and their differences; for other quantities, per cent of the threshold, or of 1 if that is 0.
    """
    scale = 100 if rule.unit in ("%", "points") else 100 / (abs(rule.threshold) or 1)
    return (number - rule.threshold) * scale * (1 if rule.above else -1)


def claims_figure(folder: Path) -> bytes:
    """A PNG with a row for each rule: its measurement and interval as distances from the threshold."""
    rows = []
    for key, (_, facts) in all_verdicts(folder).items():
        for rule, interval in zip(CLAIMS[key].rules, facts["intervals"], strict=True):
            value, low, high = (support(rule, number) for number in interval)
            outcome = rule.outcome(Estimate(*interval, sampled=""))
            label = textwrap.wrap(f"{LESSON_OF[key]}  {rule.sentence}", WRAP)
            rows.append((label, value, min(low, high), max(low, high), outcome))
    heights = [LINE * len(label) + GAP for label, *_ in rows]
    with rc_context(STYLE):
        figure = Figure(figsize=(10.5, sum(heights) + 1.2))
        axis = figure.subplots()
        top = 0.0
        ticks = []
        for (_, value, low, high, outcome), height in zip(rows, heights, strict=True):
            y = top + height / 2
            _draw_interval(axis, y, value, low, high, COLOURS[outcome])
            ticks.append(y)
            top += height
        axis.axvline(0, color=INK, linewidth=1)
        axis.set(xlim=(-REACH * 1.08, REACH * 1.08), ylim=(top or 1, 0))
        axis.set_yticks(ticks, ["\n".join(label) for label, *_ in rows], fontsize=8.5)
        axis.grid(axis="y", visible=False)
        axis.tick_params(axis="y", length=0)
        axis.set_xlabel(
            "distance from the threshold: points for shares, otherwise % of the threshold.\n"
            "Right of the line supports the claim. Bars: 95 % intervals; arrows go on."
        )
        for outcome in OUTCOMES[:3]:
            axis.plot([], [], "o", color=COLOURS[outcome], label=outcome)
        axis.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=3)
        file = io.BytesIO()
        figure.savefig(file, format="png", dpi=PIXELS_PER_INCH)
    return with_palette(file.getvalue())


def _draw_interval(axis: Any, y: float, value: float, low: float, high: float, colour: str) -> None:
    shown_low, shown_high = max(low, -REACH), min(high, REACH)
    if shown_low < shown_high:
        axis.plot([shown_low, shown_high], [y, y], color=colour, linewidth=2.5, solid_capstyle="butt")
    if low < -REACH:
        axis.plot(-REACH, y, "<", color=colour, markersize=6)
    if high > REACH:
        axis.plot(REACH, y, ">", color=colour, markersize=6)
    if -REACH <= value <= REACH:
        axis.plot(value, y, "o", color=colour, markersize=6, markeredgecolor="white")
    axis.axhline(y, color=GREY, linewidth=0.3, zorder=0)
