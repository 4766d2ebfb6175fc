"""What `atelier train` does: put a block's recipe, its data and the preset it belongs to together, and train.

A run's folder RUN keeps one training for each block in RUN/<block>/ (see `loop`), and what is finished in RUN/preset/,
a preset like the shipped ones: `--preset RUN/preset` draws with it. What a block needs of other blocks is taken from
RUN/preset/, and if it is not there yet, copied there from the preset named:

    vqgan needs perceptual.safetensors (made by `atelier train classifier`)
    bart  needs vqgan.safetensors and tokenizer.json (made by `atelier train tokenizer`)
    clip  needs tokenizer.json, and vqgan.safetensors where the preset shows it reconstructions
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from accelerate import Accelerator, PartialState
from accelerate.utils import parse_flag_from_env

from atelier.training.data import Batches, CaptionedFolder, PaintedPictures
from atelier.training.loop import METRICS_FILE, Budget, Outcome, Recipe, Settings, TrainingError, best_precision, train
from atelier.training.recipes.bart import BartRecipe, BartSettings
from atelier.training.recipes.classifier import ClassifierRecipe, ClassifierSettings
from atelier.training.recipes.clip import CLIPRecipe, CLIPSettings
from atelier.training.recipes.vqgan import VQGANRecipe, VQGANSettings
from atelier.weights.presets import (
    CONFIG_FILE,
    HISTORY_FILE,
    TOKENIZER_FILE,
    Preset,
    add_file,
    load_preset,
    save_preset,
    save_weights,
)
from atelier.weights.tokenizer import train_tokenizer, words_of
from atelier.world import WORLDS, World, caption

TRAINED = ("vqgan", "bart", "clip", "classifier", "judge", "tokenizer")
PRECISIONS = ("auto", "bf16", "no")
WEIGHTS_NAMES = {"vqgan": "vqgan", "bart": "bart", "clip": "clip", "classifier": "perceptual", "judge": "judge"}
MADE_BY = {"perceptual.safetensors": "classifier", "vqgan.safetensors": "vqgan", TOKENIZER_FILE: "tokenizer"}
TOKENIZER_CAPTIONS = 50_000

AnySettings = TypeVar("AnySettings", bound=Settings)


@dataclass(frozen=True)
class Request:
    """What was asked for on the command line.

    block: one of TRAINED. preset: a name or a folder. run_dir: RUN. steps, minutes, stop_after: see `Budget`.
    resume: go on from the checkpoint. data: a folder of captioned pictures; None paints the preset's world.
    batch_size: overrides the preset's. precision: one of PRECISIONS.
    """

    block: str
    preset: str = "laptop"
    run_dir: Path | None = None
    steps: int | None = None
    minutes: float | None = None
    stop_after: float | None = None
    resume: bool = False
    data: Path | None = None
    seed: int = 0
    batch_size: int | None = None
    precision: str = "auto"

    def __post_init__(self) -> None:
        if self.block not in TRAINED:
            raise TrainingError(f"There is nothing called {self.block!r} to train; choose one of {', '.join(TRAINED)}.")
        if self.precision not in PRECISIONS:
            raise TrainingError(f"precision was {self.precision!r}; choose one of {', '.join(PRECISIONS)}.")


def run_training(request: Request) -> Outcome | None:
    """Train what is asked for and leave its weights in RUN/preset/. A tokenizer has no outcome but its file.

    Raises PresetError, DataError or TrainingError with a sentence that says what is wrong and what to do.
    """
    source = load_preset(request.preset)
    run_dir = request.run_dir or Path("runs") / source.name
    world = named_world(source.world)
    preset = _run_preset(source, run_dir / "preset", world)
    if request.block == "tokenizer":
        _train_tokenizer(request, preset, world)
        return None
    budget = Budget(request.steps, request.minutes, request.stop_after)
    torch.manual_seed(request.seed)  # the weights that training starts from
    recipe, preset = _recipe(request, source, preset, world)
    accelerator = _accelerator(request.precision)
    data = _data(request, preset, world, recipe.settings.batch_size, accelerator)
    outcome = train(
        recipe, data, run_dir / request.block, budget, accelerator=accelerator, seed=request.seed, resume=request.resume
    )
    if accelerator.is_main_process:
        # Another block may have finished meanwhile, so its file must not be forgotten.
        newest = replace(preset, files={**preset.files, **_recorded_files(preset.folder)})
        save_weights(newest, recipe.name, outcome.averaged)
        _remember(preset.folder / HISTORY_FILE, request.block, run_dir / request.block / METRICS_FILE)
    return outcome


def _remember(history: Path, block: str, metrics: Path, most: int = 100) -> None:
    """Keep a training's lines of metrics with the preset, thinned to `most` evenly spaced ones and the last."""
    lines = [json.loads(line) for line in metrics.read_text(encoding="utf-8").splitlines()] if metrics.is_file() else []
    kept = lines[:: max(1, len(lines) // most)]
    if lines and kept[-1] is not lines[-1]:
        kept.append(lines[-1])
    rounded = [{name: float(f"{value:.5g}") for name, value in line.items()} for line in kept]
    known = json.loads(history.read_text(encoding="utf-8")) if history.is_file() else {}
    history.write_text(json.dumps({**known, block: rounded}) + "\n", encoding="utf-8")


def named_world(name: str) -> World:
    """A painted world by the name that presets use. Raises TrainingError for an unknown name."""
    if name not in WORLDS:
        raise TrainingError(f"The preset asks for the world {name!r}; there are {', '.join(WORLDS)}.")
    return WORLDS[name]()


def _run_preset(source: Preset, folder: Path, world: World) -> Preset:
    """The run's own preset: the sizes of the source, and whatever the run has finished so far."""
    classes = {attribute: len(names) for attribute, names in world.attributes.items()}
    classifier = replace(source.classifier, attributes=classes)
    known = load_preset(folder) if (folder / CONFIG_FILE).is_file() else replace(source, files={})
    return save_preset(replace(source, classifier=classifier, files=known.files, words=known.words), folder)


def _recorded_files(folder: Path) -> dict[str, str]:
    return load_preset(folder).files


def _with(preset: Preset, source: Preset, *files: str) -> Preset:
    """The run's preset with the files needed: its own, else copies of the source's."""
    for file in files:
        if file in preset.files:
            continue
        if file not in source.files:
            raise TrainingError(
                f"This training needs {file}, and neither {preset.folder} nor the preset {source.name} has it. "
                f"Make it first: atelier train {MADE_BY[file]}."
            )
        preset = add_file(preset, file, source.read(file))
    return preset


def _recipe(request: Request, source: Preset, preset: Preset, world: World) -> tuple[Recipe, Preset]:
    """The recipe asked for, and the run's preset with what the recipe needed."""
    makers: dict[str, Callable[[Request, Preset, Preset, World], tuple[Recipe, Preset]]] = {
        "vqgan": _vqgan_recipe,
        "bart": _bart_recipe,
        "clip": _clip_recipe,
        "classifier": _classifier_recipe,
        "judge": _classifier_recipe,
    }
    return makers[request.block](request, source, preset, world)


def _vqgan_recipe(request: Request, source: Preset, preset: Preset, _: World) -> tuple[Recipe, Preset]:
    preset = _with(preset, source, "perceptual.safetensors")
    settings = _settings(request, preset, VQGANSettings)
    return VQGANRecipe(preset.vqgan, preset.load_classifier("perceptual"), settings), preset


def _bart_recipe(request: Request, source: Preset, preset: Preset, _: World) -> tuple[Recipe, Preset]:
    preset = _with(preset, source, "vqgan.safetensors", TOKENIZER_FILE)
    settings = _settings(request, preset, BartSettings)
    bound_to = {file: preset.files[file] for file in ("vqgan.safetensors", TOKENIZER_FILE)}
    return BartRecipe(preset.bart, preset.load_vqgan(), preset.load_tokenizer(), settings, bound_to), preset


def _clip_recipe(request: Request, source: Preset, preset: Preset, _: World) -> tuple[Recipe, Preset]:
    settings = _settings(request, preset, CLIPSettings)
    preset = _with(preset, source, TOKENIZER_FILE)
    vqgan = None
    if settings.reconstructed_share > 0:
        preset = _with(preset, source, "vqgan.safetensors")
        vqgan = preset.load_vqgan()
    bound_to = {TOKENIZER_FILE: preset.files[TOKENIZER_FILE]}
    return CLIPRecipe(preset.clip, preset.load_tokenizer(), settings, vqgan, bound_to), preset


def _classifier_recipe(request: Request, _: Preset, preset: Preset, world: World) -> tuple[Recipe, Preset]:
    if request.data is not None:
        raise TrainingError("A classifier learns the attributes of painted scenes; train it without a data folder.")
    settings = _settings(request, preset, ClassifierSettings)
    return ClassifierRecipe(WEIGHTS_NAMES[request.block], preset.classifier, world, settings), preset


def _settings(request: Request, preset: Preset, settings: type[AnySettings]) -> AnySettings:
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
    cpu = not torch.accelerator.is_available() or parse_flag_from_env("ACCELERATE_USE_CPU")
    device = PartialState(cpu=cpu).device or "cpu"  # an Accelerator made to ask for it would fix the precision
    return Accelerator(cpu=cpu, mixed_precision=best_precision(device) if precision == "auto" else precision)


def _data(request: Request, preset: Preset, world: World, batch_size: int, accelerator: Accelerator) -> Batches:
    if request.data is not None:
        return CaptionedFolder(request.data, preset.picture_size, batch_size, request.seed)
    return PaintedPictures(
        world,
        preset.picture_size,
        batch_size,
        request.seed,
        held_out="allowed" if request.block == "judge" else "never",
        device=accelerator.device,
        stride=accelerator.num_processes,
    )


def _train_tokenizer(request: Request, preset: Preset, world: World) -> None:
    if request.data is not None:
        captions = CaptionedFolder(request.data, preset.picture_size).captions
    else:
        scenes = world.sample(TOKENIZER_CAPTIONS, seed=request.seed, held_out="never")
        captions = list(map(caption, scenes))
    tokenizer = train_tokenizer(captions, vocabulary=preset.bart.text_vocabulary)
    unfinished = preset.folder / f".{TOKENIZER_FILE}.{os.getpid()}.trained"
    tokenizer.save(unfinished)
    content = unfinished.read_bytes()
    unfinished.unlink()
    words = tuple(sorted({word for text in captions for word in words_of(text)}))
    add_file(replace(preset, words=words), TOKENIZER_FILE, content)
