"""What `atelier train all` does: train, one after the other, all that a preset still lacks.

Every block is a training of its own, the one of `atelier train BLOCK`, in the same folder RUN (see `command`), and
leaves its weights in RUN/preset/ before the next one begins. RUN/finished.json says what is finished, so that a run
which was stopped, or killed, goes on in the block where it was. The minutes are shared out as the preset's config.json
says, {"recipes": {"all": {"vqgan": 5, "bart": 7, ...}}}; only the proportions count.
"""

from __future__ import annotations

import gc
import json
import time
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

from accelerate import PartialState

from atelier.training.checkpoints import METRICS_FILE
from atelier.training.loop import Outcome
from atelier.training.recipe import TrainingError
from atelier.training.recipes import RECIPES
from atelier.training.run import TRAINED, Request, RunRequest, made_file, resuming, run_folder, run_training
from atelier.weights.preset import Preset, load_preset
from atelier.weights.storage import replace_file

ALL = "all"
FINISHED_FILE = "finished.json"
RESERVED = 0.05  # of a piece: for reading and painting before a training, for a last picture and the weights after it


class AllRequest(RunRequest):
    """What was asked for on the command line, as in `RunRequest`.

    minutes: of training time for all blocks together. steps: of each block. stop_after: minutes of wall time after
    which this piece of the run has ended, whatever is left to do.
    """


def train_everything(request: AllRequest, begun: float | None = None) -> Iterator[str]:
    """Train what the preset lacks; of a complete preset, everything anew.

    begun: the moment of `time.monotonic` from which `stop_after` counts; None: now.

    Yields:
        A line before each block, and at the end a table of what is finished, with how to go on if not all is.

    Raises PresetError or TrainingError as `run_training` does, and TrainingError for shares that are none.
    """
    begun = time.monotonic() if begun is None else begun
    _ = request.budget  # says what is wrong before anything is trained
    preset, run = load_preset(request.preset), run_folder(request)
    minutes, finished = block_minutes(preset, request.minutes), read_finished(run)
    if finished and not request.resume:
        raise TrainingError(
            f"{run} already holds a training, with {', '.join(finished)} finished. "
            "Go on with --resume, or choose another folder with --run-dir."
        )
    for block in lacking(preset):
        if block in finished:
            continue
        left = minutes_left(request.stop_after, begun)
        if left is not None and left <= 0:
            break
        yield f"{block}: {minutes[block]:.2f} minutes of training" if block in minutes else f"{block}: training"
        outcome = run_training(_block_request(request, block, run, minutes.get(block), left))
        PartialState().wait_for_everyone()  # the next block reads what the first process has written
        if outcome is not None and not outcome.finished:
            break
        finished[block] = _record(outcome, run / block / METRICS_FILE)
        if PartialState().is_main_process:
            replace_file(run / FINISHED_FILE, (json.dumps(finished, indent=1) + "\n").encode())
        del outcome
        gc.collect()  # pictures and weights of this block make room for the next one's
    yield table(finished)
    missing = [block for block in lacking(preset) if block not in finished]
    if missing:
        yield f"Not finished: {', '.join(missing)}. `{resuming(ALL, request)}` goes on."
    else:
        yield f"All is trained; {run / 'preset'} is a preset to draw with."


def lacking(preset: Preset) -> list[str]:
    """The blocks to train, in order: those whose files the preset does not have, or all if it has every one."""
    unknown = {"clip"} if preset.clip is None else set()
    blocks = [block for block in TRAINED if block not in unknown]
    return [block for block in blocks if made_file(block) not in preset.files] or blocks


def block_minutes(preset: Preset, minutes: float | None) -> dict[str, float]:
    """Each lacking block's part of the minutes; a tokenizer takes seconds, and none. Empty if there are no minutes.

    Raises TrainingError for a share of an unknown block, or one that is not a number above 0.
    """
    said = preset.recipes.get(ALL, {})
    for block, share in said.items():
        if block not in RECIPES:
            raise TrainingError(
                f"The preset's shares name {block!r}; blocks that take minutes are {', '.join(RECIPES)}."
            )
        if isinstance(share, bool) or not isinstance(share, int | float) or not share > 0:
            raise TrainingError(f"The preset gives {block} the share {share!r} of the minutes; it must be above 0.")
    if minutes is None:
        return {}
    shares = {block: said.get(block, RECIPES[block].share) for block in lacking(preset) if block in RECIPES}
    return {block: minutes * share / sum(shares.values()) for block, share in shares.items()}


def minutes_left(stop_after: float | None, begun: float) -> float | None:
    """Minutes for which a training may still step in this piece, a part of it reserved; None for a run in one piece."""
    if stop_after is None:
        return None
    return stop_after * (1 - RESERVED) - (time.monotonic() - begun) / 60


def table(finished: dict[str, dict[str, Any]]) -> str:
    """What is finished, a line for each block: steps, minutes, pictures a second, and the last metrics."""
    lines = [f"{'block':<12}{'steps':>8}{'minutes':>9}{'pictures/s':>12}  at the end"]
    for block, record in finished.items():
        if not record:
            lines.append(f"{block:<12}{'':>29}  {made_file(block)}")
            continue
        metrics, minutes, pace = record["metrics"], record["seconds"] / 60, record["pictures_per_second"]
        ends = ", ".join(f"{name} {metrics[name]:.4g}" for name in RECIPES[block].reported if name in metrics)
        lines.append(f"{block:<12}{record['step']:>8}{minutes:>9.2f}{pace:>12.0f}  {ends}")
    return "\n".join(lines)


def read_finished(run: Path) -> dict[str, dict[str, Any]]:
    """What RUN/finished.json says: for each finished block, in order, the numbers of `table`; nothing without one.

    Raises TrainingError if it cannot be read.
    """
    path = run / FINISHED_FILE
    if not path.is_file():
        return {}
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as fault:
        raise TrainingError(
            f"{path} cannot be read ({fault}); remove it: nothing finished is trained twice."
        ) from fault


def _block_request(
    request: AllRequest, block: str, run: Path, minutes: float | None, stop_after: float | None
) -> Request:
    asked: dict[str, Any] = {item.name: getattr(request, item.name) for item in fields(request)}
    asked |= {"block": block, "run_dir": run, "minutes": minutes, "stop_after": stop_after}
    return Request(**asked)


def _record(outcome: Outcome | None, metrics: Path) -> dict[str, Any]:
    """The numbers of `table`; empty for the tokenizer."""
    if outcome is None:
        return {}
    return {
        "step": outcome.step,
        "seconds": round(outcome.seconds, 1),
        "pictures_per_second": outcome.pictures / max(1, outcome.step) * steps_per_second(outcome, metrics),
        "metrics": outcome.metrics,
    }


def steps_per_second(outcome: Outcome, metrics: Path) -> float:
    """The pace of a training's second half, by its lines of metrics; of all of it where there are too few lines.

    A training's beginning is slow: pictures are painted for the first time, and a GPU chooses its convolutions.
    """
    lines = [json.loads(line) for line in metrics.read_text(encoding="utf-8").splitlines()] if metrics.is_file() else []
    later = [line for line in lines if line["seconds"] >= outcome.seconds / 2]
    if len(later) < 2 or later[-1]["seconds"] <= later[0]["seconds"]:
        return outcome.step / max(outcome.seconds, 1e-9)
    return (later[-1]["step"] - later[0]["step"]) / (later[-1]["seconds"] - later[0]["seconds"])
