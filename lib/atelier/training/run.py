"""`atelier train BLOCK`: trains one block of a preset.

The folder RUN of a run holds the training of each block in RUN/<block>/ (see `loop`) and the trained weights in
RUN/preset/, a preset like the shipped ones, with which `--preset RUN/preset` draws. The files of other blocks that a
training needs are read from RUN/preset/; a file missing there is copied from the preset given on the command line.
"""

from __future__ import annotations

import dataclasses
import json
import shlex
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator, PartialState
from accelerate.utils import parse_flag_from_env

from atelier.training.checkpoints import METRICS_FILE, read_metrics
from atelier.training.data import CaptionedFolder, FolderSource, PaintedSource, PictureSource, derive_seed
from atelier.training.interruption import Interruption
from atelier.training.loop import Budget, Outcome, best_precision, train
from atelier.training.recipe import Inputs, Settings, TrainingError
from atelier.training.recipes import RECIPES
from atelier.weights.preset import (
    CONFIG_FILE,
    HISTORY_FILE,
    TOKENIZER_FILE,
    Preset,
    add_file,
    load_preset,
    read_preset,
    save_weights,
    update_preset,
)
from atelier.weights.storage import replace_file, write_lock
from atelier.weights.tokenizer import train_tokenizer, words_of
from atelier.world import World, caption, named_world

TOKENIZER = "tokenizer"
TRAINED = (TOKENIZER, *RECIPES)
PRECISIONS = ("auto", "bf16", "no")
FIXED = ("name", "world", "picture_size", "vqgan", "bart", "clip", "classifier")  # the same in all sessions of a run
TOKENIZER_CAPTIONS = 50_000
PAINT_TOGETHER_ON_GPU = 16384  # about 200,000 kernel launches, not many more than for a tenth of the pictures


@dataclass(frozen=True, kw_only=True)
class RunRequest:
    """The options common to `atelier train BLOCK` and `atelier train all`.

    Attributes:
        preset: a name or a folder.
        run_dir: RUN; None: runs/NAME, with the preset's name.
        steps, minutes, stop_after: see `Budget`.
        resume: continue from the checkpoint.
        seed: of the run; the seed of each block is derived from it.
        precision: one of PRECISIONS.

    Raises:
        TrainingError: if the precision is unknown.
    """

    preset: str = "laptop"
    run_dir: Path | None = None
    steps: int | None = None
    minutes: float | None = None
    stop_after: float | None = None
    resume: bool = False
    seed: int = 0
    precision: str = "auto"

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise TrainingError(f"precision was {self.precision!r}; choose one of {', '.join(PRECISIONS)}.")

    @property
    def budget(self) -> Budget:
        """How long to train."""
        return Budget(self.steps, self.minutes, self.stop_after)


@dataclass(frozen=True, kw_only=True)
class Request(RunRequest):
    """The options of `atelier train BLOCK`.

    Attributes:
        block: one of TRAINED.
        data: a folder of captioned pictures; None paints the preset's world. All blocks of a run use the same of the
            two.
        batch_size: overrides the preset's.

    The other attributes are those of `RunRequest`.

    Raises:
        TrainingError: if the block or the precision is unknown.
    """

    block: str
    data: Path | None = None
    batch_size: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.block not in TRAINED:
            raise TrainingError(f"There is nothing called {self.block!r} to train; choose one of {', '.join(TRAINED)}.")


def run_training(request: Request) -> Outcome | None:
    """Train a block and write its weights to RUN/preset/.

    An interrupted training writes its weights too, as a preview. When it is resumed, the settings in the preset's
    recipe may differ (see `train`), the sizes may not.

    Returns:
        The outcome of the training; None for the tokenizer.

    Raises:
        PresetError: if the preset or one of its files cannot be read.
        DataError: if the folder of pictures cannot be read.
        TrainingError: if the block cannot be trained as asked for.
    """
    begun = time.monotonic()
    source, run_dir = load_preset(request.preset), run_folder(request)
    origin = _origin(request, source)
    preset = _run_preset(source, run_dir / "preset", origin)
    if request.block == TOKENIZER:
        _train_tokenizer(request, preset, origin)
        return None
    budget, kind = request.budget, RECIPES[request.block]
    settings = _settings(request, preset, kind.settings_type)
    holders = {file: _preset_holding(file, preset, source) for file in kind.needs(settings)}
    seed = _seed(request)
    torch.manual_seed(seed)  # for the initial weights
    recipe = kind.build(Inputs(preset, holders, origin if isinstance(origin, World) else None), settings)
    accelerator = _accelerator(request.precision)
    if accelerator.is_main_process:
        preset = _write_preset(preset, holders)
    folder = run_dir / request.block
    with Interruption() as interruption:
        data = recipe.batches(
            _pictures(request, preset, origin, accelerator),
            folder,
            accelerator,
            lambda: interruption.asked or budget.session_over(time.monotonic() - begun),
        )
    if data is None:
        return Outcome(0, 0.0, False, {}, recipe.exported)
    outcome = train(
        recipe,
        data,
        folder,
        budget.after(time.monotonic() - begun),
        accelerator=accelerator,
        seed=seed,
        resume=request.resume,
    )
    if accelerator.is_main_process:
        save_weights(preset, recipe.name, outcome.averaged, recipe.bound_to)
        with write_lock(preset.folder):
            _record_history(preset.folder / HISTORY_FILE, request.block, folder / METRICS_FILE)
    return outcome


def run_folder(request: RunRequest) -> Path:
    """Return RUN: the folder given, or else runs/NAME with the preset's name."""
    return request.run_dir or Path("runs") / load_preset(request.preset).name


def summary(outcome: Outcome | None, request: Request, folder: Path) -> str:
    """Write a sentence on what `run_training` did in RUN (`folder`), where its weights are, and how to continue."""
    if outcome is None:
        return f"The tokenizer is in {folder / 'preset' / TOKENIZER_FILE}."
    weights = folder / "preset" / output_file(request.block)
    if outcome.finished:
        return (
            f"{request.block} finished at {outcome.duration}; its weights are in {weights} "
            "(more: --resume and a larger budget)."
        )
    return (
        f"{request.block} stopped at {outcome.duration}; a preview of its weights is in {weights}. "
        f"Continue with `{resume_command(request.block, request)}`."
    )


def output_file(block: str) -> str:
    """Return the name of the file that the training of a block writes to a preset."""
    return TOKENIZER_FILE if block == TOKENIZER else f"{RECIPES[block].name}.safetensors"


def resume_command(block: str, request: RunRequest) -> str:
    """Return the command that resumes a training: the options of its request, and --resume."""
    words = ["atelier", "train", block]
    for item in dataclasses.fields(request):
        value = getattr(request, item.name)
        if item.name not in ("block", "resume") and value != item.default:
            words += [f"--{item.name.replace('_', '-')}", f"{value:g}" if isinstance(value, float) else str(value)]
    return shlex.join([*words, "--resume"])


def _seed(request: Request) -> int:
    """Derive the seed of a block, so that judge and perceptual network have different initial weights and scenes."""
    return derive_seed(request.seed, request.block)


def _record_history(history: Path, block: str, metrics: Path, most: int = 100) -> None:
    """Add the metrics of a training to the preset's history.

    Args:
        history: the preset's history.json.
        block: the trained block.
        metrics: the metrics.jsonl of its training.
        most: at most so many evenly spaced lines are kept, and the last one.
    """
    lines = read_metrics(metrics)
    kept = lines[:: max(1, -(-len(lines) // most))]
    if lines and kept[-1] is not lines[-1]:
        kept.append(lines[-1])
    rounded = [{name: float(f"{value:.5g}") for name, value in line.items()} for line in kept]
    known = {**_read_history(history), block: rounded}
    replace_file(history, (json.dumps(known) + "\n").encode())


def _read_history(history: Path) -> dict[str, Any]:
    """Read a history.json; empty if it cannot be read, since a lost curve must not fail a training."""
    try:
        known = json.loads(history.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}


# ---------------------------------------------------------------------------------------------- the run's preset


def _origin(request: Request, source: Preset) -> World | Path:
    """Return where pictures and captions come from: the world to paint, or a folder."""
    if request.data is not None:
        return request.data
    if not source.world:
        raise TrainingError(
            f"The preset {source.name} belongs to no painted world; give the folder of pictures to train on: --data."
        )
    try:
        return named_world(source.world)
    except ValueError as fault:
        raise TrainingError(f"The preset {source.name} cannot be trained. {fault}") from fault


def _run_preset(source: Preset, folder: Path, origin: World | Path) -> Preset:
    """Make the preset of the run, without writing it: sizes and recipes of the source, files of the run so far."""
    fresh = replace(source, words=(), files={}, trained_with={}, folder=folder)
    if isinstance(origin, World):
        fresh = replace(fresh, classifier=replace(source.classifier_sizes, attributes=origin.attributes))
    else:
        fresh = replace(fresh, world="")
    if not (folder / CONFIG_FILE).is_file():
        return fresh
    known = read_preset(folder)
    different = [name for name in FIXED if getattr(known, name) != getattr(fresh, name)]
    if different:
        raise TrainingError(
            f"{folder} belongs to another training: its preset is {known.name!r} of {_data_of(known)}, and it differs "
            f"from {fresh.name!r} of {_data_of(fresh)} in {', '.join(different)}. Choose another folder with --run-dir."
        )
    return replace(fresh, words=known.words, files=known.files, trained_with=known.trained_with)


def _data_of(preset: Preset) -> str:
    return preset.world or "a folder of pictures"


def _write_preset(preset: Preset, holders: dict[str, Preset]) -> Preset:
    """Write the preset of the run, with copies of the files that other presets hold."""
    preset = update_preset(preset, recipes=preset.recipes, sampling=preset.sampling)
    for file, holder in holders.items():
        if holder.folder == preset.folder:
            continue
        # The words of a painted world say nothing about a folder of pictures.
        words = holder.words if holder.world == preset.world else ()
        preset = add_file(preset, file, holder.read(file), **({"words": words} if file == TOKENIZER_FILE else {}))
    return preset


def _preset_holding(file: str, preset: Preset, source: Preset) -> Preset:
    """Return the preset whose file is used: the run's if it has the file, else the source."""
    for holder in (preset, source):
        if file in holder.files:
            return holder
    raise TrainingError(
        f"This training needs {file}, and neither {preset.folder} nor the preset {source.name} has it. "
        f"Make it first: atelier train {next(block for block in TRAINED if output_file(block) == file)}."
    )


# ---------------------------------------------------------------------------------------------- settings and data


def _settings(request: Request, preset: Preset, settings: type[Settings]) -> Settings:
    """Make the settings: the preset's override the defaults, the command line's override both."""
    chosen: dict[str, Any] = dict(preset.recipes.get(request.block, {}))
    if request.batch_size is not None:
        chosen["batch_size"] = request.batch_size
    known = {item.name for item in dataclasses.fields(settings)}
    unknown = sorted(chosen.keys() - known)
    if unknown:
        raise TrainingError(
            f"The preset's recipe for {request.block} has the unknown key {', '.join(unknown)}; "
            f"it knows {', '.join(sorted(known))}."
        )
    arguments: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in chosen.items()}
    try:
        return settings(**arguments)
    except (TypeError, ValueError) as fault:
        raise TrainingError(f"The settings for {request.block} are invalid: {fault}") from fault


def _accelerator(precision: str) -> Accelerator:
    """Make an accelerator for the devices and processes of this machine."""
    torch.backends.cudnn.benchmark = True  # finds the fastest convolutions by trial; the shapes stay the same
    # Accelerate joins processes without a GPU only with cpu=True.
    cpu = not torch.accelerator.is_available() or parse_flag_from_env("ACCELERATE_USE_CPU")
    device = PartialState(cpu=cpu).device or "cpu"  # PartialState, since an Accelerator would fix the precision
    return Accelerator(cpu=cpu, mixed_precision=best_precision(device) if precision == "auto" else precision)


def _pictures(request: Request, preset: Preset, origin: World | Path, accelerator: Accelerator) -> PictureSource:
    device = accelerator.device
    if isinstance(origin, Path):
        return FolderSource(origin, preset.picture_size, _seed(request), device)
    return PaintedSource(
        origin,
        preset.picture_size,
        _seed(request),
        device,
        stride=accelerator.num_processes,
        paint_together=256 if device.type == "cpu" else PAINT_TOGETHER_ON_GPU,
    )


def _train_tokenizer(request: Request, preset: Preset, origin: World | Path) -> None:
    if isinstance(origin, Path):
        captions = CaptionedFolder(origin, preset.picture_size).captions
    else:
        scenes = origin.sample(TOKENIZER_CAPTIONS, seed=_seed(request), held_out="never")
        captions = list(map(caption, scenes))
    tokenizer = train_tokenizer(captions, vocabulary=preset.bart.text_vocabulary)
    words = tuple(sorted({word for text in captions for word in words_of(text)}))
    add_file(_write_preset(preset, {}), TOKENIZER_FILE, tokenizer.content(), words=words)
