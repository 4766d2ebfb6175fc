"""`atelier train all`: trains all blocks that a preset lacks, one after the other.

Each block is trained as by `atelier train BLOCK`, in the same folder RUN (see `run`), and its weights are written to
RUN/preset/ before the next block starts. RUN/finished.json lists the finished blocks, so that a run that was stopped or
killed resumes in the block where it was. The preset's config.json can divide the minutes among the blocks, as in
{"recipes": {"all": {"vqgan": 5, "bart": 7, ...}}}; only the proportions count. With a folder of captioned pictures all
blocks are trained but the classifiers, which learn attributes that only painted pictures have.
"""

from __future__ import annotations

import gc
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from accelerate import PartialState

from atelier.training.checkpoints import METRICS_FILE, read_metrics
from atelier.training.loop import Outcome
from atelier.training.recipe import TrainingError
from atelier.training.recipes import RECIPES
from atelier.training.run import (
    TRAINED,
    Request,
    RunRequest,
    given_settings,
    output_file,
    recipe_settings,
    resume_command,
    run_folder,
    run_training,
)
from atelier.weights.preset import Preset, load_preset
from atelier.weights.storage import PresetError, read_json, replace_file

ALL = "all"
FINISHED_FILE = "finished.json"
CLASSIFIERS = ("classifier", "judge")
AGAIN = "Or remove it and use --resume; finished blocks are not trained again."
RESERVED = 0.05  # the share of a session for painting before a training run and for saving after it


@dataclass(frozen=True, kw_only=True)
class AllRequest(RunRequest):
    """The options of `atelier train all`.

    Attributes:
        data: a folder of captioned pictures; None paints the preset's world.
        minutes: minutes of training for all blocks together.
        steps: steps of each block.
        stop_after: minutes of wall time after which this session ends, finished or not.

    The other attributes are those of `RunRequest`.
    """

    data: Path | None = None


def train_everything(request: AllRequest, begun: float | None = None) -> Iterator[str]:
    """Train the blocks that the preset lacks, or all blocks again if the preset is complete.

    A folder of pictures has no attributes that a classifier could learn; the VQ-GAN then uses the preset's perceptual
    network, and all other blocks are trained.

    Args:
        request: the options.
        begun: the time by `time.monotonic` from which `stop_after` counts; None: now.

    Yields:
        A line before each block, a table of the finished blocks, and a last line with the command that continues, or
        with the folder of the finished preset.

    Raises:
        PresetError: as `run_training` does.
        TrainingError: as `run_training` does, and if a block's share of the minutes is invalid.
    """
    begun = time.monotonic() if begun is None else begun
    _ = request.budget  # raises an error for an invalid budget before anything is trained
    preset, run = load_preset(request.preset), run_folder(request)
    blocks = missing_blocks(preset, request.data)
    for block in given_settings(request.set):
        recipe_settings(block, preset, request.set)  # raises an error for an invalid setting
    minutes, finished = block_minutes(preset, request.minutes, request.data), read_finished(run)
    if finished and not request.resume:
        raise TrainingError(
            f"{run} already holds a training run, with {', '.join(finished)} finished. "
            "Continue with --resume, or choose another folder with --run-dir."
        )
    for block in blocks:
        if block in finished:
            continue
        left = minutes_left(request.stop_after, begun)
        if left is not None and left <= 0:
            break
        yield f"{block}: {minutes[block]:.2f} minutes of training" if block in minutes else f"{block}: training"
        outcome = run_training(_block_request(request, block, run, minutes.get(block), left))
        PartialState().wait_for_everyone()  # the next block reads the files that the first process writes
        if outcome is not None and not outcome.finished:
            break
        finished[block] = _record(outcome, run / block / METRICS_FILE)
        if PartialState().is_main_process:
            replace_file(run / FINISHED_FILE, (json.dumps(finished, indent=1) + "\n").encode())
        del outcome
        gc.collect()  # frees the pictures and weights of this block
    yield results_table(finished)
    missing = [block for block in blocks if block not in finished]
    if missing:
        yield f"Not finished: {', '.join(missing)}. Continue with `{resume_command(ALL, request)}`."
    else:
        yield f"All is trained; {run / 'preset'} is a preset to draw with."


def missing_blocks(preset: Preset, data: Path | None = None) -> list[str]:
    """List the blocks to train, in order: those whose files the preset lacks, or all blocks if it lacks no file.

    Args:
        preset: the preset.
        data: a folder of pictures; for it these are all blocks but the classifiers, whatever the preset has.
    """
    blocks = [block for block in TRAINED if block != "clip" or preset.clip is not None]
    if data is not None:
        return [block for block in blocks if block not in CLASSIFIERS]
    return [block for block in blocks if output_file(block) not in preset.files] or blocks


def block_minutes(preset: Preset, minutes: float | None, data: Path | None = None) -> dict[str, float]:
    """Divide the minutes among the missing blocks; the tokenizer takes seconds and gets no share.

    Returns:
        The minutes of each block; empty if `minutes` is None.

    Raises:
        TrainingError: if a share is given to an unknown block or is not a number above 0.
    """
    shares = preset.recipes.get(ALL, {})
    for block, share in shares.items():
        if block not in RECIPES:
            raise TrainingError(
                f"The preset's shares name {block!r}; only these blocks take a share: {', '.join(RECIPES)}."
            )
        if isinstance(share, bool) or not isinstance(share, int | float) or not share > 0:
            raise TrainingError(f"The preset gives {block} the share {share!r} of the minutes; it must be above 0.")
    if minutes is None:
        return {}
    trained = [block for block in missing_blocks(preset, data) if block in RECIPES]
    missing = {block: shares.get(block, RECIPES[block].share) for block in trained}
    return {block: minutes * share / sum(missing.values()) for block, share in missing.items()}


def minutes_left(stop_after: float | None, begun: float) -> float | None:
    """Compute the minutes that are left for training in this session, without the reserved share of the session.

    Args:
        stop_after: minutes of wall time of the session; None: without limit.
        begun: the time by `time.monotonic` at which the session began.

    Returns:
        The minutes, below 0 if the time is over; None without limit.
    """
    if stop_after is None:
        return None
    return stop_after * (1 - RESERVED) - (time.monotonic() - begun) / 60


def results_table(finished: dict[str, dict[str, Any]]) -> str:
    """Format a table of the finished blocks: steps, minutes, pictures per second and the last metrics of each."""
    lines = [f"{'block':<12}{'steps':>8}{'minutes':>9}{'pictures/s':>12}  at the end"]
    for block, record in finished.items():
        if not record:
            lines.append(f"{block:<12}{'':>29}  {output_file(block)}")
            continue
        metrics, minutes, pace = record["metrics"], record["seconds"] / 60, record["pictures_per_second"]
        ends = ", ".join(f"{name} {metrics[name]:.4g}" for name in RECIPES[block].reported if name in metrics)
        lines.append(f"{block:<12}{record['step']:>8}{minutes:>9.2f}{pace:>12.0f}  {ends}")
    return "\n".join(lines)


def read_finished(run: Path) -> dict[str, dict[str, Any]]:
    """Read RUN/finished.json: for each finished block, in order, its numbers for `results_table`.

    Returns:
        The numbers by block; empty if the file does not exist.

    Raises:
        TrainingError: if the file cannot be read.
    """
    path = run / FINISHED_FILE
    if not path.is_file():
        return {}
    try:
        finished = read_json(path)
    except PresetError as fault:
        raise TrainingError(f"{fault} {AGAIN}") from fault
    if not isinstance(finished, dict) or not all(_is_record(*item) for item in finished.items()):
        raise TrainingError(f"{path} is damaged: it does not list finished blocks with their numbers. {AGAIN}")
    return finished


def _is_record(block: str, record: Any) -> bool:
    """Whether a value is one that `_record` makes."""
    if block not in TRAINED or not isinstance(record, dict):
        return False
    numbers = [record.get(name) for name in ("step", "seconds", "pictures_per_second")]
    metrics = record.get("metrics")
    values = [*numbers, *(metrics.values() if isinstance(metrics, dict) else [None])]
    return not record or all(type(value) in (int, float) for value in values)


def _block_request(
    request: AllRequest, block: str, run: Path, minutes: float | None, stop_after: float | None
) -> Request:
    options: dict[str, Any] = {item.name: getattr(request, item.name) for item in fields(request)}
    options |= {"block": block, "run_dir": run, "minutes": minutes, "stop_after": stop_after}
    options["set"] = tuple(word for word in request.set if block in given_settings([word]))
    return Request(**options)


def _record(outcome: Outcome | None, metrics: Path) -> dict[str, Any]:
    """Collect the numbers of a block for `results_table`; empty for the tokenizer."""
    if outcome is None:
        return {}
    return {
        "step": outcome.step,
        "seconds": round(outcome.seconds, 1),
        "pictures_per_second": outcome.pictures / max(1, outcome.step) * steps_per_second(outcome, metrics),
        "metrics": outcome.metrics,
    }


def steps_per_second(outcome: Outcome, metrics: Path) -> float:
    """Compute the steps per second in the second half of a training run, or in all of it if there are too few metrics.

    The first steps are slow: pictures are painted for the first time, and cuDNN tries out its convolutions.

    Args:
        outcome: the outcome of the training.
        metrics: its file of metrics.
    """
    later = [line for line in read_metrics(metrics) if line["seconds"] >= outcome.seconds / 2]
    if len(later) < 2 or later[-1]["seconds"] <= later[0]["seconds"]:
        return outcome.step / max(outcome.seconds, 1e-9)
    return (later[-1]["step"] - later[0]["step"]) / (later[-1]["seconds"] - later[0]["seconds"])
