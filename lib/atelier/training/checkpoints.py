"""The files in the folder of a training run: checkpoints and metrics.

metrics.jsonl           one line of JSON at intervals
samples/00001200.png    a sample picture made with the averaged weights of step 1200
checkpoint-00001200/    everything needed to resume from step 1200; a training removes only its own older checkpoint
damaged-00001200/       a damaged checkpoint, if an older one was used instead
.lock                   held while a training is running
"""

from __future__ import annotations

import itertools
import json
import logging
import re
import shutil
import zipfile
import zlib
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import filelock
import torch
from torch.optim import Optimizer

from atelier.training.recipe import TrainingError
from atelier.weights.storage import remove_partial_files, replace_file

METRICS_FILE = "metrics.jsonl"
CHECKPOINT, DAMAGED = "checkpoint-", "damaged-"
NAME = re.compile(rf"{CHECKPOINT}\d{{8,15}}", re.ASCII)
UNFINISHED = ".unfinished-"
STATE_FILE = "state.pt"
LOCK_FILE = ".lock"

logger = logging.getLogger(__name__)


@contextmanager
def training_lock(folder: Path, held: bool = True) -> Generator[None]:
    """Lock the folder of a training run, so that a second training in it is refused at its start.

    Args:
        folder: it is created if necessary.
        held: False: do nothing. Only the first process of a training run locks its folder.

    Raises:
        TrainingError: if another process has locked it.
    """
    if not held:
        yield
        return
    folder.mkdir(parents=True, exist_ok=True)
    try:
        lock = filelock.FileLock(folder / LOCK_FILE, timeout=0).acquire()
    except filelock.Timeout as fault:
        raise TrainingError(
            f"Another training is running in {folder}; wait for its end, or choose another folder with --run-dir."
        ) from fault
    with lock:
        remove_partial_files(folder)
        yield


def checkpoints(folder: str | Path) -> list[Path]:
    """List the checkpoints in the folder of a training run, the newest first; other files and folders are ignored."""
    found = [path for path in Path(folder).glob(f"{CHECKPOINT}*") if NAME.fullmatch(path.name) and path.is_dir()]
    return sorted(found, key=step_of, reverse=True)


def newest_checkpoint(folder: str | Path) -> Path | None:
    """Find the checkpoint with the highest step in the folder of a training run; None if there is no checkpoint."""
    return next(iter(checkpoints(folder)), None)


def set_damaged_aside(folder: str | Path) -> None:
    """Rename the damaged checkpoints that are newer than the newest sound one, and log a sentence for each.

    If no checkpoint is sound, nothing is changed: reading the newest raises the error.
    """
    damaged = list(itertools.takewhile(lambda checkpoint: not _is_sound(checkpoint), checkpoints(folder)))
    if len(damaged) == len(checkpoints(folder)):
        return
    for checkpoint in damaged:
        aside = checkpoint.with_name(checkpoint.name.replace(CHECKPOINT, DAMAGED))
        if aside.exists():
            shutil.rmtree(aside)
        checkpoint.rename(aside)
        logger.warning("%s is damaged and is now called %s; an older checkpoint is used.", checkpoint, aside.name)


def _is_sound(checkpoint: Path) -> bool:
    """Whether the files of a checkpoint are whole: they are zip archives, which contain check sums."""
    try:
        for file in [checkpoint / STATE_FILE, *checkpoint.glob("process-*.pt")]:
            with zipfile.ZipFile(file) as archive:
                if archive.testzip() is not None:
                    return False
    except (OSError, zipfile.BadZipFile, zlib.error):
        return False
    return True


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
    """Load the state of an optimizer, such as its moments; its settings (betas, ...) stay those of the recipe."""
    settings = [{name: value for name, value in group.items() if name != "params"} for group in optimizer.param_groups]
    optimizer.load_state_dict(state)
    for group, current in zip(optimizer.param_groups, settings, strict=True):
        group.update(current)


def read_metrics(file: Path) -> list[dict[str, float]]:
    """Read the lines of a metrics.jsonl; an empty list if the file does not exist.

    Lines that cannot be read are left out: the process may have been killed while it wrote one.
    """
    if not file.is_file():
        return []
    lines = []
    for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
        with suppress(ValueError, RecursionError):
            values = json.loads(line)
            if is_metrics(values):
                lines.append(values)
    return lines


def is_metrics(values: Any) -> bool:
    """Whether a value is a line of metrics: an object of numbers, with a step and seconds."""
    return (
        isinstance(values, dict)
        and {"step", "seconds"} <= values.keys()
        and all(type(value) in (int, float) for value in values.values())
    )


def drop_metrics_after(file: Path, step: int) -> None:
    """Drop the lines of metrics after a step, which a killed session wrote after its last checkpoint."""
    if file.exists():
        kept = [json.dumps(line) + "\n" for line in read_metrics(file) if line["step"] <= step]
        replace_file(file, "".join(kept).encode())
