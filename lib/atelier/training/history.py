"""The history of a preset's training, history.json: some of the metrics of each block."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from atelier.training.checkpoints import is_metrics, read_metrics
from atelier.weights.storage import replace_file

HISTORY_LINES = 100  # kept for each block, plus the last line


def record_history(history: Path, block: str, earlier: list[dict[str, float]], metrics: Path) -> None:
    """Write the metrics of a block to the preset's history: up to HISTORY_LINES evenly spaced lines, and the last one.

    Args:
        history: the preset's history.json.
        block: the trained block.
        earlier: after a warm start, the history of the weights that the run started from, else empty. The steps and
            seconds of the run are added to those of its last line.
        metrics: the metrics.jsonl of the run.
    """
    before = earlier[-1] if earlier else {"step": 0, "seconds": 0}
    counted = [
        {**line, "step": line["step"] + before["step"], "seconds": line["seconds"] + before["seconds"]}
        for line in read_metrics(metrics)
    ]
    lines = [*earlier, *counted]
    kept = lines[:: max(1, math.ceil(len(lines) / HISTORY_LINES))]
    if lines and kept[-1] is not lines[-1]:
        kept.append(lines[-1])
    rounded = [{name: float(f"{value:.5g}") for name, value in line.items()} for line in kept]
    known = {**read_history(history), block: rounded}
    replace_file(history, (json.dumps(known) + "\n").encode())


def read_history(history: Path) -> dict[str, Any]:
    """Read a history.json. If it cannot be read, return {}: a run must not fail because an old curve is lost."""
    try:
        known = json.loads(history.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    curves = known.items() if isinstance(known, dict) else ()
    return {block: lines for block, lines in curves if isinstance(lines, list) and all(map(is_metrics, lines))}
