"""The files of a training's folder: finding, reading and writing checkpoints, and the lines of metrics.

metrics.jsonl           one line of JSON at intervals
samples/00001200.png    what the averaged weights draw at step 1200
checkpoint-00001200/    everything needed to go on from step 1200; only the newest is kept
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch.optim import Optimizer

from atelier.training.recipe import TrainingError

METRICS_FILE = "metrics.jsonl"
CHECKPOINT = "checkpoint-"
UNFINISHED = ".unfinished-"


def newest_checkpoint(folder: str | Path) -> Path | None:
    """The checkpoint of a training's folder with the highest step, or None."""
    return max(Path(folder).glob(f"{CHECKPOINT}*"), key=step_of, default=None)


def step_of(checkpoint: Path) -> int:
    """The step at which a checkpoint was made."""
    return int(checkpoint.name.removeprefix(CHECKPOINT))


def read_checkpoint(file: Path) -> dict[str, Any]:
    """The content of one of a checkpoint's files.

    Raises:
        TrainingError: if it cannot be read.
    """
    try:
        return torch.load(file, map_location="cpu", weights_only=True)
    except Exception as fault:  # torch.load fails with a dozen different types
        raise TrainingError(
            f"{file} cannot be read ({type(fault).__name__}); remove {file.parent} and start that training again."
        ) from fault


def load_moments(optimizer: Optimizer, state: dict[str, Any]) -> None:
    """Take up an optimizer's moments, but not its settings: those are as the recipe says now."""
    settings = [{name: value for name, value in group.items() if name != "params"} for group in optimizer.param_groups]
    optimizer.load_state_dict(state)
    for group, now in zip(optimizer.param_groups, settings, strict=True):
        group.update(now)


def drop_metrics_after(file: Path, step: int) -> None:
    """Drop the lines that an interrupted session wrote after its last checkpoint: they will be written again."""
    if not file.exists():
        return
    kept = []
    for line in file.read_text(encoding="utf-8").splitlines():
        try:
            if json.loads(line)["step"] <= step:
                kept.append(line + "\n")
        except (json.JSONDecodeError, KeyError, TypeError):
            continue  # the kill fell into the middle of this line
    replacement = file.with_suffix(".new")
    replacement.write_text("".join(kept), encoding="utf-8")
    replacement.replace(file)
