"""`atelier train all`: trains the blocks that a preset lacks, one after the other.

If the preset has all blocks, all are trained again. Each block is trained as by `atelier train BLOCK`, in the same
folder RUN (see `run`), and its weights are written to RUN/preset/ before the next block starts. RUN/finished.json lists
the finished blocks, so that an interrupted run resumes with the block that was being trained. The preset's config.json
can divide the minutes among the blocks, as in {"recipes": {"all": {"vqgan": 5, "bart": 7, ...}}}; only the proportions
count. With a folder of captioned pictures, all blocks are trained except the classifiers: the attributes that they
learn exist only for painted pictures.
"""

from __future__ import annotations

import gc
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from atelier.training.checkpoints import METRICS_FILE, read_metrics
from atelier.training.loop import Outcome
from atelier.training.recipe import TrainingError
from atelier.training.recipes import RECIPES
from atelier.training.run import (
    TRAINABLE,
    Request,
    RunRequest,
    given_settings,
    output_file,
    process_state,
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
REMEDY = "You can also remove it and use --resume: finished blocks are not trained again."
RESERVED = 0.05  # the share of a session that is reserved for painting before the training and for saving after it


@dataclass(frozen=True, kw_only=True)
class AllRequest(RunRequest):
    """The options of `atelier train all`.

    Attributes:
        data: a folder of captioned pictures; None: paint the preset's world.
        minutes: total minutes of training for all blocks.
        steps: steps of each block.
        stop_after: minutes of wall time after which this session ends, even if the run is not finished.

    The other attributes are those of `RunRequest`.
    """

    data: Path | None = None


def train_everything(request: AllRequest, begun: float | None = None) -> Iterator[str]:
    """Train the blocks that the preset lacks, or all blocks again if the preset is complete.

    For a folder of pictures the classifiers are not trained, since its pictures have no labelled attributes; the VQ-GAN
    is trained with the preset's perceptual network.

    Args:
        request: the options.
        begun: the start of the session by `time.monotonic`, for `stop_after`; None: now.

    Yields:
        A line before each block, a table of the finished blocks, and a last line with the folder of the finished preset
        or with the command that continues the run.

    Raises:
        PresetError: for the reasons in `run_training`.
        TrainingError: for the reasons in `run_training`, or if a block's share of the minutes is invalid.
    """
    begun = time.monotonic() if begun is None else begun
    _ = request.budget  # raises an error for an invalid budget before the first block is trained
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
        process_state().wait_for_everyone()  # the next block reads the files that the first process writes
        if outcome is not None and not outcome.finished:
            break
        finished[block] = _record(outcome, run / block / METRICS_FILE)
        if process_state().is_main_process:
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
        data: a folder of pictures to train on. If it is given, the list has all blocks except the classifiers, even
            those that the preset has.
    """
    blocks = [block for block in TRAINABLE if block != "clip" or preset.clip is not None]
    if data is not None:
        return [block for block in blocks if block not in CLASSIFIERS]
    return [block for block in blocks if output_file(block) not in preset.files] or blocks


def block_minutes(preset: Preset, minutes: float | None, data: Path | None = None) -> dict[str, float]:
    """Divide the minutes among the blocks to train. The tokenizer gets no share, since it takes only seconds.

    Returns:
        The minutes of each block; empty if `minutes` is None.

    Raises:
        TrainingError: if the preset gives a share to an unknown block, or a share is not a number above 0.
    """
    shares = preset.recipes.get(ALL, {})
    for block, share in shares.items():
        if block not in RECIPES:
            raise TrainingError(
                f"The preset gives a share of the minutes to {block!r}; only these blocks can have one: "
                f"{', '.join(RECIPES)}."
            )
        if isinstance(share, bool) or not isinstance(share, int | float) or not share > 0:
            raise TrainingError(f"The preset gives {block} the share {share!r} of the minutes; it must be above 0.")
    if minutes is None:
        return {}
    trained = [block for block in missing_blocks(preset, data) if block in RECIPES]
    missing = {block: shares.get(block, RECIPES[block].share) for block in trained}
    return {block: minutes * share / sum(missing.values()) for block, share in missing.items()}


def minutes_left(stop_after: float | None, begun: float) -> float | None:
    """Compute the minutes that are left for training in this session, after subtracting the reserved share.

    Args:
        stop_after: the limit of the session, in minutes of wall time; None: no limit.
        begun: the start of the session by `time.monotonic`.

    Returns:
        The minutes, negative if the limit has passed; None if there is no limit.
    """
    if stop_after is None:
        return None
    return stop_after * (1 - RESERVED) - (time.monotonic() - begun) / 60


def results_table(finished: dict[str, dict[str, Any]]) -> str:
    """Format a table of the finished blocks, with the steps, minutes, pictures per second and last metrics of each."""
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
    """Read RUN/finished.json: the record of each finished block, in order, for `results_table`.

    Returns:
        The records by block; empty if the file does not exist.

    Raises:
        TrainingError: if the file cannot be read.
    """
    path = run / FINISHED_FILE
    if not path.is_file():
        return {}
    try:
        finished = read_json(path)
    except PresetError as fault:
        raise TrainingError(f"{fault} {REMEDY}") from fault
    if not isinstance(finished, dict) or not all(_is_record(*item) for item in finished.items()):
        raise TrainingError(f"{path} is damaged: it is not a table of finished blocks; restore the file. {REMEDY}")
    return finished


def _is_record(block: str, record: Any) -> bool:
    """Whether a value has the form of a record made by `_record`."""
    if block not in TRAINABLE or not isinstance(record, dict):
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
    """Make the record of a finished block for `results_table`; it is empty for the tokenizer."""
    if outcome is None:
        return {}
    return {
        "step": outcome.step,
        "seconds": round(outcome.seconds, 1),
        "pictures_per_second": outcome.pictures / max(1, outcome.step) * steps_per_second(outcome, metrics),
        "metrics": outcome.metrics,
    }


def steps_per_second(outcome: Outcome, metrics: Path) -> float:
    """Compute the steps per second in the second half of a run, or in the whole run if it has too few lines of metrics.

    The first steps are slow: pictures are painted for the first time, and cuDNN compares convolution algorithms.

    Args:
        outcome: the outcome of the run.
        metrics: its file of metrics.
    """
    later = [line for line in read_metrics(metrics) if line["seconds"] >= outcome.seconds / 2]
    if len(later) < 2 or later[-1]["seconds"] <= later[0]["seconds"]:
        return outcome.step / max(outcome.seconds, 1e-9)
    return (later[-1]["step"] - later[0]["step"]) / (later[-1]["seconds"] - later[0]["seconds"])
