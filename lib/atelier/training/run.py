"""`atelier train BLOCK`: trains one block of a preset.

The folder RUN has a subfolder RUN/<block>/ for the checkpoints and metrics of each block (see `loop`). The trained
weights are in RUN/preset/, a preset like the shipped ones. Some blocks are trained with the files of other blocks;
these are read from RUN/preset/, and a file missing there is copied from the preset given on the command line. As soon
as RUN/preset/ has a tokenizer, a translator and a VQ-GAN, `atelier draw --preset RUN/preset` draws with it; if it has a
CLIP, the pictures are ranked.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import shlex
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator, PartialState
from accelerate.tracking import get_available_trackers
from accelerate.utils import LoggerType, parse_flag_from_env

from atelier.arguments import shown
from atelier.training.checkpoints import METRICS_FILE, newest_checkpoint, training_lock
from atelier.training.data import CaptionedFolder, FolderSource, PaintedSource, PictureSource, derive_seed
from atelier.training.history import read_history, record_history
from atelier.training.interruption import Interruption
from atelier.training.loop import Budget, Outcome, best_precision, train
from atelier.training.recipe import Inputs, Recipe, Settings, TrainingError
from atelier.training.recipes import RECIPES
from atelier.weights.fields import from_json
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
from atelier.weights.storage import read_json, replace_file, write_lock
from atelier.weights.tokenizer import train_tokenizer, words_of
from atelier.world import World, caption, named_world

logger = logging.getLogger(__name__)

TOKENIZER = "tokenizer"
TRAINABLE = (TOKENIZER, *RECIPES)
PRECISIONS = ("auto", "bf16", "no")
# These fields must be the same in all sessions of a run.
FIXED_FIELDS = ("name", "world", "picture_size", "vqgan", "bart", "clip", "classifier")
TOKENIZER_CAPTIONS = 50_000
DATA_FILE = "data.json"  # in the folder of each block: the data and the seed of its first session
PAINT_TOGETHER_ON_GPU = 16384  # pictures; a tenth of them would take nearly as many kernel launches, about 200,000


@dataclass(frozen=True, kw_only=True)
class RunRequest:
    """The options common to `atelier train BLOCK` and `atelier train all`.

    Attributes:
        preset: a name or a folder.
        run_dir: RUN; None: runs/NAME, with the preset's name.
        steps, minutes, stop_after: see `Budget`.
        resume: continue from the checkpoint.
        seed: the seed of the run; the seed of each block is derived from it.
        precision: one of PRECISIONS.
        set: settings that override the preset's, such as "bart.learning_rate=0.001"; see `given_settings`.
        track: one of accelerate's trackers, such as "tensorboard" or "trackio", to log the metrics to; "" for none.

    Raises:
        TrainingError: if the precision or the tracker is unknown, or if a string in `set` is not a setting.
    """

    preset: str = "laptop"
    run_dir: Path | None = None
    steps: int | None = None
    minutes: float | None = None
    stop_after: float | None = None
    resume: bool = False
    seed: int = 0
    precision: str = "auto"
    set: tuple[str, ...] = ()
    track: str = ""

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise TrainingError(f"precision is {self.precision!r}; choose one of {', '.join(PRECISIONS)}.")
        check_tracker(self.track)
        for block in given_settings(self.set):
            if block not in RECIPES:
                raise TrainingError(f"There is no block {block!r} with settings; choose one of {', '.join(RECIPES)}.")

    @property
    def budget(self) -> Budget:
        """How long to train."""
        return Budget(self.steps, self.minutes, self.stop_after)


@dataclass(frozen=True, kw_only=True)
class Request(RunRequest):
    """The options of `atelier train BLOCK`.

    Attributes:
        block: one of TRAINABLE.
        data: a folder of captioned pictures; None: paint the preset's world. All blocks of a run must be trained on
            the same data.
        batch_size: overrides the preset's batch size.
        warm_start: initialise this block with the preset's weights instead of random ones. The budget and the learning
            rate schedule start anew.

    The other attributes are those of `RunRequest`.

    Raises:
        TrainingError: for the reasons in `RunRequest`, if the block is unknown, if `warm_start` is set for the
            tokenizer, or if `set` has a setting of another block.
    """

    block: str
    data: Path | None = None
    batch_size: int | None = None
    warm_start: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.block not in TRAINABLE:
            raise TrainingError(f"There is no block {self.block!r} to train; choose one of {', '.join(TRAINABLE)}.")
        if self.warm_start and self.block == TOKENIZER:
            raise TrainingError("The tokenizer is always trained from scratch; leave --warm-start out.")
        for block in given_settings(self.set):
            if block != self.block:
                raise TrainingError(
                    f"A setting of {block} has no effect on the training of {self.block}; leave it out."
                )


def run_training(request: Request) -> Outcome | None:
    """Train a block and write its weights to RUN/preset/.

    An interrupted run writes its weights too, as a preview. A resumed run may have other settings in the preset's
    recipe (see `train`), but not other sizes.

    Returns:
        The outcome; None for the tokenizer.

    Raises:
        PresetError: if the preset or one of its files cannot be read.
        DataError: if the folder of pictures cannot be read.
        TrainingError: if the block cannot be trained with these options.
    """
    begun = time.monotonic()
    source, run_dir = load_preset(request.preset), run_folder(request)
    origin = _origin(request, source)
    preset = _run_preset(source, run_dir / "preset", origin)
    kind, folder = RECIPES.get(request.block), run_dir / request.block
    if kind is None:
        state = process_state()
        if state.is_main_process:
            with training_lock(folder):
                _train_tokenizer(request, preset, origin)
        state.wait_for_everyone()
        return None
    budget, settings = request.budget, recipe_settings(request.block, preset, request.set, request.batch_size)
    holders = {file: _preset_holding(file, preset, source) for file in kind.needs(settings)}
    seed = _seed(request)
    torch.manual_seed(seed)  # for the initial weights
    recipe = _build(kind, Inputs(preset, holders, origin if isinstance(origin, World) else None), settings)
    if request.warm_start:
        recipe.warm_start(source)
    accelerator = _accelerator(request.precision, request.track, folder)
    logger.info(
        "%s: %s, precision %s, %s processes, %s",
        *(request.block, accelerator.device, accelerator.mixed_precision, accelerator.num_processes, settings),
    )
    with training_lock(folder, held=accelerator.is_main_process):
        if accelerator.is_main_process:
            preset = _write_preset(preset, holders)
        pictures = _pictures(request, preset, origin, accelerator)
        _check_same_data(folder, pictures, request, accelerator)
        with Interruption() as interruption:
            data = recipe.batches(
                pictures,
                folder,
                accelerator,
                lambda: interruption.asked or budget.session_over(time.monotonic() - begun),
            )
        if data is None:
            return Outcome(step=0, seconds=0.0, finished=False, metrics={}, averaged=recipe.exported, prepared=False)
        outcome = train(
            recipe,
            data,
            folder,
            budget.after(time.monotonic() - begun),
            accelerator=accelerator,
            seed=seed,
            resume=request.resume,
        )
        for tracker in accelerator.trackers:
            tracker.finish()
        if accelerator.is_main_process:
            save_weights(preset, recipe.name, outcome.averaged, recipe.trained_with)
            with write_lock(preset.folder):
                earlier = (
                    read_history(source.folder / HISTORY_FILE).get(request.block, []) if request.warm_start else []
                )
                record_history(preset.folder / HISTORY_FILE, request.block, earlier, folder / METRICS_FILE)
        return outcome


def _build(kind: type[Recipe], inputs: Inputs, settings: Settings) -> Recipe:
    """Build a recipe.

    Raises:
        TrainingError: if there is not enough memory for the modules, or for the reasons in `Recipe.build`.
    """
    try:
        return kind.build(inputs, settings)
    except (MemoryError, RuntimeError) as fault:
        if isinstance(fault, RuntimeError) and "allocate" not in str(fault) and "overflow" not in str(fault):
            raise
        raise TrainingError("The sizes in the preset are too large for this machine's memory.") from fault


def run_folder(request: RunRequest) -> Path:
    """Return RUN: `run_dir` if it is given, else runs/NAME with the preset's name."""
    return request.run_dir or Path("runs") / load_preset(request.preset).name


def summary(outcome: Outcome | None, request: Request, folder: Path) -> str:
    """Summarise a session of `run_training` in RUN (`folder`): its outcome, the weights, and how to continue."""
    if outcome is None:
        return f"The tokenizer is in {folder / 'preset' / TOKENIZER_FILE}."
    again = f"Continue with `{resume_command(request.block, request)}`."
    if not outcome.prepared:
        return f"{request.block} stopped before its first step, while its data were being prepared. {again}"
    weights = folder / "preset" / output_file(request.block)
    if outcome.finished:
        return (
            f"{request.block} finished at {outcome.in_words}; its weights are in {weights} "
            "(to train it longer: --resume and a larger budget)."
        )
    return f"{request.block} stopped at {outcome.in_words}; a preview of its weights is in {weights}. {again}"


def output_file(block: str) -> str:
    """Return the name of a block's file in a preset."""
    return TOKENIZER_FILE if block == TOKENIZER else f"{RECIPES[block].name}.safetensors"


def resume_command(block: str, request: RunRequest) -> str:
    """Return the command that resumes a run: the options of its request, plus --resume."""
    words = ["atelier", "train", block]
    for item in dataclasses.fields(request):
        value = getattr(request, item.name)
        if item.name in ("block", "resume") or value == item.default:
            continue
        for part in value if isinstance(value, tuple) else (value,):
            words.append(f"--{item.name.replace('_', '-')}")
            if not isinstance(part, bool):
                words.append(f"{part:g}" if isinstance(part, float) else str(part))
    return shlex.join([*words, "--resume"])


def _seed(request: Request) -> int:
    """Derive a block's seed, so that the judge and the perceptual network get different initial weights and scenes."""
    return derive_seed(request.seed, request.block)


# ---------------------------------------------------------------------------------------------- the run's preset


def _origin(request: Request, source: Preset) -> World | Path:
    """Return the source of pictures and captions: a world to paint, or a folder."""
    if request.data is not None:
        return request.data
    if not source.world:
        raise TrainingError(
            f"The preset {source.name} has no painted world; give a folder of pictures to train on with --data."
        )
    try:
        return named_world(source.world)
    except ValueError as fault:
        raise TrainingError(f"The preset {source.name} cannot be trained. {fault}") from fault


def _run_preset(source: Preset, folder: Path, origin: World | Path) -> Preset:
    """Build the preset of the run without writing it: the source's sizes and recipes, and the run's own files."""
    try:
        fresh = replace(source, words=(), files={}, trained_with={}, folder=folder)
    except ValueError as fault:  # in training, the translator and the CLIP share a tokenizer
        raise TrainingError(f"The preset {source.name} cannot be trained. {fault}") from fault
    if isinstance(origin, World):
        fresh = replace(fresh, classifier=replace(source.classifier_config, attributes=origin.attributes))
    else:
        fresh = replace(fresh, world="")
    if not (folder / CONFIG_FILE).is_file():
        return fresh
    known = read_preset(folder)
    different = [name for name in FIXED_FIELDS if getattr(known, name) != getattr(fresh, name)]
    if different:
        raise TrainingError(
            f"{folder} belongs to another run: its preset is {known.name!r}, trained on {_data_of(known)}. It differs "
            f"from {fresh.name!r}, trained on {_data_of(fresh)}, in {', '.join(different)}. Choose another folder with "
            "--run-dir."
        )
    return replace(fresh, words=known.words, files=known.files, trained_with=known.trained_with)


def _data_of(preset: Preset) -> str:
    return preset.world or "a folder of pictures"


def _write_preset(preset: Preset, holders: dict[str, Preset]) -> Preset:
    """Write the preset of the run, and copy the files that it needs from other presets (`holders`) into it."""
    preset = update_preset(preset, recipes=preset.recipes, sampling=preset.sampling)
    for file, holder in holders.items():
        if holder.folder == preset.folder:
            continue
        # The words of a painted world do not describe the captions of a folder.
        words = holder.words if holder.world == preset.world else ()
        preset = add_file(preset, file, holder.read(file), **({"words": words} if file == TOKENIZER_FILE else {}))
    return preset


def _preset_holding(file: str, preset: Preset, source: Preset) -> Preset:
    """Return the preset to read a file from: the run's preset if it has the file, else the source."""
    for holder in (preset, source):
        if file in holder.files:
            return holder
    raise TrainingError(
        f"The training needs {file}, but neither {preset.folder} nor the preset {source.name} has it. "
        f"Make it first: atelier train {next(block for block in TRAINABLE if output_file(block) == file)}."
    )


# ---------------------------------------------------------------------------------------------- settings and data


def given_settings(words: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Parse settings from the command line.

    Args:
        words: strings BLOCK.SETTING=VALUE with a JSON value, such as "bart.learning_rate=0.001".

    Returns:
        The values, by block and setting.

    Raises:
        TrainingError: if a string does not have this form.
    """
    found: dict[str, dict[str, Any]] = {}
    for word in words:
        key, equals, text = word.partition("=")
        block, dot, setting = key.partition(".")
        fault = TrainingError(
            f"{shown(word)} is not a setting; write BLOCK.SETTING=VALUE, as in bart.learning_rate=0.001."
        )
        if not (equals and dot and setting):
            raise fault
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            raise fault from None
        found.setdefault(block, {})[setting] = value
    return found


def recipe_settings(block: str, preset: Preset, given: Iterable[str] = (), batch_size: int | None = None) -> Settings:
    """Combine a block's settings: those of the preset override the defaults; those of the command line override both.

    Args:
        block: the name of a recipe.
        preset: the preset.
        given: settings from the command line, see `given_settings`.
        batch_size: overrides every other batch size.

    Raises:
        TrainingError: if a setting is unknown, has the wrong type, or is out of range.
    """
    chosen = {**preset.recipes.get(block, {}), **given_settings(given).get(block, {})}
    if batch_size is not None:
        chosen["batch_size"] = batch_size
    try:
        return from_json(RECIPES[block].settings_type, chosen, f"recipes.{block}")
    except TrainingError:
        raise
    except (TypeError, ValueError) as fault:
        raise TrainingError(f"The settings for {block} are invalid: {fault}") from fault


def check_tracker(name: str) -> None:
    """Check that accelerate knows a tracker and that the tracker's package is installed; "" means no tracker.

    Raises:
        TrainingError: if the tracker is unknown or its package is missing.
    """
    trackers = [kind.value for kind in LoggerType if kind is not LoggerType.ALL]
    if name and name not in trackers:
        raise TrainingError(f"There is no tracker {shown(name)}; choose one of {', '.join(trackers)}.")
    if name and LoggerType(name) not in get_available_trackers():
        raise TrainingError(f"The package of the tracker {name} is not installed: pip install {name}.")


def _without_gpu() -> bool:
    """Whether to train on the CPU. Without a GPU, accelerate connects several processes only if it is told so."""
    return not torch.accelerator.is_available() or parse_flag_from_env("ACCELERATE_USE_CPU")


def process_state() -> PartialState:
    """Connect the processes of this training. Ask for it here: on a CPU, PartialState() would leave them separate."""
    return PartialState(cpu=_without_gpu())


def _accelerator(precision: str, tracker: str = "", folder: Path = Path()) -> Accelerator:
    """Build an accelerator for this machine's devices and processes, with a tracker that writes to the folder."""
    torch.backends.cudnn.benchmark = True  # try all convolution algorithms once: the shapes are the same in every step
    device = process_state().device or "cpu"  # not Accelerator's, which would already fix the precision
    accelerator = Accelerator(
        cpu=_without_gpu(),
        mixed_precision=best_precision(device) if precision == "auto" else precision,
        log_with=tracker or None,
        project_dir=folder,
    )
    if tracker:
        accelerator.init_trackers("atelier")
    return accelerator


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


def _check_same_data(folder: Path, pictures: PictureSource, request: Request, accelerator: Accelerator) -> None:
    """Check that the data and the seed are those of the run's first session; in the first session, record them.

    Raises:
        TrainingError: if the data or the seed differ.
    """
    data, path = {"source": pictures.identity, "seed": request.seed}, folder / DATA_FILE
    if newest_checkpoint(folder) is not None and path.is_file():
        begun = read_json(path)
        if not isinstance(begun, dict):
            raise TrainingError(f"{path} is damaged: it is not a JSON object. Restore it, or start a new run.")
        if begun != data:
            raise TrainingError(
                f"{folder} was trained with the data {begun.get('source')} and seed {begun.get('seed')}, but now the "
                f"data are {data['source']} and the seed is {data['seed']}. Give the same --data and --seed, or start "
                "a new run from these weights: --warm-start with this run's preset and another --run-dir."
            )
    elif accelerator.is_main_process:
        folder.mkdir(parents=True, exist_ok=True)
        replace_file(path, (json.dumps(data) + "\n").encode())


def _train_tokenizer(request: Request, preset: Preset, origin: World | Path) -> None:
    if isinstance(origin, Path):
        captions = CaptionedFolder(origin, preset.picture_size).captions
    else:
        scenes = origin.sample(TOKENIZER_CAPTIONS, seed=_seed(request), held_out="never")
        captions = list(map(caption, scenes))
    tokenizer = train_tokenizer(captions, vocabulary=preset.bart.text_vocabulary)
    words = tuple(sorted({word for text in captions for word in words_of(text)}))
    add_file(_write_preset(preset, {}), TOKENIZER_FILE, tokenizer.content(), words=words)
