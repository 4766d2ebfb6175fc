"""The files in the folder of a training: checkpoints and metrics.

metrics.jsonl           one line of JSON at intervals
samples/00001200.png    a sample of the averaged weights at step 1200
checkpoint-00001200/    everything needed to resume from step 1200; only the newest checkpoint is kept
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
    """Find the checkpoint with the highest step in the folder of a training; None if there is no checkpoint."""
    return max(Path(folder).glob(f"{CHECKPOINT}*"), key=step_of, default=None)


def step_of(checkpoint: Path) -> int:
    """Read the step of a checkpoint from its name."""
    return int(checkpoint.name.removeprefix(CHECKPOINT))


def read_checkpoint(file: Path) -> dict[str, Any]:
    """Read one file of a checkpoint.

    Raises:
        TrainingError: if the file cannot be read.
    """
    try:
        return torch.load(file, map_location="cpu", weights_only=True)
    except Exception as fault:  # torch.load raises a dozen different types
        raise TrainingError(
            f"{file} cannot be read ({type(fault).__name__}); remove {file.parent} and start this training again."
        ) from fault


def load_optimizer_state(optimizer: Optimizer, state: dict[str, Any]) -> None:
    """Load the moments of an optimizer; its settings (learning rate, betas, ...) stay those of the recipe."""
    settings = [{name: value for name, value in group.items() if name != "params"} for group in optimizer.param_groups]
    optimizer.load_state_dict(state)
    for group, current in zip(optimizer.param_groups, settings, strict=True):
        group.update(current)


def read_metrics(file: Path) -> list[dict[str, float]]:
    """Read the lines of a metrics.jsonl; an empty list if the file does not exist."""
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()] if file.is_file() else []


def drop_metrics_after(file: Path, step: int) -> None:
    """Drop the lines of metrics after a step: an interrupted session wrote them after its last checkpoint."""
    if not file.exists():
        return
    kept = []
    for line in file.read_text(encoding="utf-8").splitlines():
        try:
            if json.loads(line)["step"] <= step:
                kept.append(line + "\n")
        except (json.JSONDecodeError, KeyError, TypeError):
            continue  # the process was killed while it wrote this line
    replacement = file.with_suffix(".new")
    replacement.write_text("".join(kept), encoding="utf-8")
    replacement.replace(file)
