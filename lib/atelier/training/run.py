"""What `atelier train` does: put a block's recipe, its data and the preset it belongs to together, and train.

A run's folder RUN keeps one training for each block in RUN/<block>/ (see `loop`), and what is finished in RUN/preset/,
a preset like the shipped ones: `--preset RUN/preset` draws with it. What a block needs of other blocks is taken from
RUN/preset/, and if it is not there yet, copied there from the preset named.
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

from atelier.training.checkpoints import METRICS_FILE
from atelier.training.data import CaptionedFolder, FolderSource, PaintedSource, PictureSource, mixed_seed
from atelier.training.interruption import Interruption
from atelier.training.loop import Budget, Outcome, best_precision, train
from atelier.training.recipe import Inputs, Settings, TrainingError
from atelier.training.recipes import RECIPES
from atelier.weights.presets import (
    CONFIG_FILE,
    HISTORY_FILE,
    TOKENIZER_FILE,
    Preset,
    add_file,
    load_preset,
    only_writer,
    read_preset,
    replace_file,
    save_weights,
    update_preset,
)
from atelier.weights.tokenizer import train_tokenizer, words_of
from atelier.world import World, caption, named_world

TOKENIZER = "tokenizer"
TRAINED = (TOKENIZER, *RECIPES)
PRECISIONS = ("auto", "bf16", "no")
FIXED = ("name", "world", "picture_size", "vqgan", "bart", "clip", "classifier")  # what a run's preset never changes
TOKENIZER_CAPTIONS = 50_000
PAINT_TOGETHER_ON_GPU = 16384  # some 200,000 small operations, hardly more than a tenth of the pictures would take


@dataclass(frozen=True, kw_only=True)
class RunRequest:
    """What every training of a preset's blocks was asked for on the command line.

    preset: a name or a folder. run_dir: RUN; None: runs/ and the preset's name. steps, minutes, stop_after: see
    `Budget`. resume: go on from the checkpoint. seed: another one, another training; each block makes a seed of its own
    of it. precision: one of PRECISIONS.
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
        """How long is trained."""
        return Budget(self.steps, self.minutes, self.stop_after)


@dataclass(frozen=True, kw_only=True)
class Request(RunRequest):
    """What the training of one block was asked for.

    block: one of TRAINED. data: a folder of captioned pictures; None paints the preset's world. A run keeps to one of
    the two. batch_size: overrides the preset's.
    """

    block: str
    data: Path | None = None
    batch_size: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.block not in TRAINED:
            raise TrainingError(f"There is nothing called {self.block!r} to train; choose one of {', '.join(TRAINED)}.")


def run_training(request: Request) -> Outcome | None:
    """Train what is asked for and leave its weights in RUN/preset/. A tokenizer has no outcome but its file.

    A training that was interrupted leaves its weights there as well, as a preview: `Outcome.finished` tells. On
    resuming, the preset's recipe may have changed (see `train`), its sizes may not.

    Raises:
        PresetError, DataError, TrainingError: with a sentence that says what is wrong and what to do.
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
    holders = {file: _holder(file, preset, source) for file in kind.needs(settings)}
    seed = _seed(request)
    torch.manual_seed(seed)  # the weights that training starts from
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
        with only_writer(preset.folder):
            _remember(preset.folder / HISTORY_FILE, request.block, folder / METRICS_FILE)
    return outcome


def run_folder(request: RunRequest) -> Path:
    """RUN: the folder asked for, else runs/ and the preset's name."""
    return request.run_dir or Path("runs") / load_preset(request.preset).name


def summary(outcome: Outcome | None, request: Request, folder: Path) -> str:
    """One sentence on what `run_training` did in RUN (`folder`), where its weights are, and how to go on."""
    if outcome is None:
        return f"The tokenizer is in {folder / 'preset' / TOKENIZER_FILE}."
    weights = folder / "preset" / made_file(request.block)
    done = f"step {outcome.step}, after {outcome.seconds / 60:.1f} minutes of training"
    if outcome.finished:
        return f"{request.block} finished at {done}; its weights are in {weights} (more: --resume and a larger budget)."
    return (
        f"{request.block} stopped at {done}; a preview of its weights is in {weights}, "
        f"and `{resuming(request.block, request)}` goes on."
    )


def made_file(block: str) -> str:
    """The file that a block's training leaves in a preset."""
    return TOKENIZER_FILE if block == TOKENIZER else f"{RECIPES[block].name}.safetensors"


def resuming(block: str, request: RunRequest) -> str:
    """The command that resumes a training: all that was asked for, as it was asked for, and --resume."""
    words = ["atelier", "train", block]
    for item in dataclasses.fields(request):
        value = getattr(request, item.name)
        if item.name not in ("block", "resume") and value != item.default:
            words += [f"--{item.name.replace('_', '-')}", f"{value:g}" if isinstance(value, float) else str(value)]
    return shlex.join([*words, "--resume"])


def _seed(request: Request) -> int:
    """A seed for each block, so that the judge and the perceptual network start differently and see other scenes."""
    return mixed_seed(request.seed, request.block)


def _remember(history: Path, block: str, metrics: Path, most: int = 100) -> None:
    """Keep a training's lines of metrics with the preset, thinned to `most` evenly spaced ones and the last."""
    lines = [json.loads(line) for line in metrics.read_text(encoding="utf-8").splitlines()] if metrics.is_file() else []
    kept = lines[:: max(1, -(-len(lines) // most))]
    if lines and kept[-1] is not lines[-1]:
        kept.append(lines[-1])
    rounded = [{name: float(f"{value:.5g}") for name, value in line.items()} for line in kept]
    known = {**_read_history(history), block: rounded}
    replace_file(history, (json.dumps(known) + "\n").encode())


def _read_history(history: Path) -> dict[str, Any]:
    """What a history.json holds; nothing if it cannot be read, for a curve is not worth a training."""
    try:
        known = json.loads(history.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}


# ---------------------------------------------------------------------------------------------- the run's preset


def _origin(request: Request, source: Preset) -> World | Path:
    """Where pictures and captions come from: the world to paint, or a folder."""
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
    """The run's own preset, not yet written: the source's sizes and recipes, and what the run has finished so far."""
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
            f"{folder} belongs to another training: its preset is {known.name!r} of {_seen(known)}, and it differs "
            f"from {fresh.name!r} of {_seen(fresh)} in {', '.join(different)}. Choose another folder with --run-dir."
        )
    return replace(fresh, words=known.words, files=known.files, trained_with=known.trained_with)


def _seen(preset: Preset) -> str:
    return preset.world or "a folder of pictures"


def _write_preset(preset: Preset, holders: dict[str, Preset]) -> Preset:
    """Write the run's preset, with copies of the files that other presets hold."""
    preset = update_preset(preset, recipes=preset.recipes, sampling=preset.sampling)
    for file, holder in holders.items():
        if holder.folder == preset.folder:
            continue
        # The words of a painted world say nothing about a folder of pictures.
        words = holder.words if holder.world == preset.world else ()
        preset = add_file(preset, file, holder.read(file), **({"words": words} if file == TOKENIZER_FILE else {}))
    return preset


def _holder(file: str, preset: Preset, source: Preset) -> Preset:
    """Whose file is used: the run's own, else the source's."""
    for holder in (preset, source):
        if file in holder.files:
            return holder
    raise TrainingError(
        f"This training needs {file}, and neither {preset.folder} nor the preset {source.name} has it. "
        f"Make it first: atelier train {next(block for block in TRAINED if made_file(block) == file)}."
    )


# ---------------------------------------------------------------------------------------------- settings and data


def _settings(request: Request, preset: Preset, settings: type[Settings]) -> Settings:
    """The recipe's settings: its defaults, changed by the preset's, changed by the command line's."""
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
    arguments: dict[str, Any] = {key: tuple(it) if isinstance(it, list) else it for key, it in chosen.items()}
    try:
        return settings(**arguments)
    except (TypeError, ValueError) as fault:
        raise TrainingError(f"The settings for {request.block} do not work: {fault}") from fault


def _accelerator(precision: str) -> Accelerator:
    """The devices and processes that there are. Accelerate joins processes without a GPU only if cpu is said."""
    torch.backends.cudnn.benchmark = True  # the shapes stay the same, so trying out which convolution is quickest pays
    cpu = not torch.accelerator.is_available() or parse_flag_from_env("ACCELERATE_USE_CPU")
    device = PartialState(cpu=cpu).device or "cpu"  # an Accelerator made to ask for it would fix the precision
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
