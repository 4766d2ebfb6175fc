"""The small models of part 2, trained on sprites, and the folder they are shipped in.

    models.json              for each model: its sizes, its sprites, its training, what was measured; and all SHA-256
    NAME.safetensors         its weights, in float16
    README.md                the model card

Nothing is used before its hash, its names and its shapes have been checked, as for presets.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, overload

from torch import nn

from atelier.blocks.autoencoder import Autoencoder, AutoencoderConfig
from atelier.blocks.classifier import ClassifierConfig, PictureClassifier
from atelier.blocks.gan import GANConfig, Generator
from atelier.blocks.vae import VAE
from atelier.blocks.vq import VQVAE, VQVAEConfig
from atelier.blocks.vqgan import VQGAN, VQGANConfig
from atelier.weights.presets import (
    PresetError,
    config_from,
    fill_in_weights,
    holds,
    only_writer,
    preset_folders,
    read_json,
    read_recorded,
    replace_file,
    stored_weights,
)

MODELS_FILE = "models.json"
SPRITES_FOLDER = "sprites"

BUILT_FROM: dict[str, tuple[type[Any], type[nn.Module]]] = {
    "judge": (ClassifierConfig, PictureClassifier),
    "perceptual": (ClassifierConfig, PictureClassifier),
    "gan": (GANConfig, Generator),
    "autoencoder": (AutoencoderConfig, Autoencoder),
    "vae": (AutoencoderConfig, VAE),
    "vqvae": (VQVAEConfig, VQVAE),
    "vqgan_without_adversary": (VQGANConfig, VQGAN),
    "vqgan": (VQGANConfig, VQGAN),
}
SPRITE_MODELS = tuple(BUILT_FROM)


@dataclass(frozen=True)
class SpriteModel:
    """What models.json says of a model.

    config: its sizes, a config of its block. subjects, colours: of the sprites it was trained on, as
    `atelier.world.sprites` takes them. training: seed, steps, minutes, and the metrics at the end.
    measured: what it does on sprites that it has not seen.
    """

    config: Any
    subjects: tuple[str, ...]
    colours: tuple[str, ...]
    training: dict[str, float] = field(default_factory=dict)
    measured: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class SpriteModels:
    """A folder of sprite models: what is known of each by its name, and the SHA-256 of each file."""

    folder: Path
    models: dict[str, SpriteModel] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)

    def __getitem__(self, name: str) -> SpriteModel:
        """What is known of a model. Raises PresetError where there is no such model."""
        if name not in SPRITE_MODELS:
            raise PresetError(f"There is no sprite model {name!r}; choose one of {', '.join(SPRITE_MODELS)}.")
        if name not in self.models:
            raise PresetError(
                f"{self.folder} has no sprite model {name!r} yet; make it: atelier train sprites --only {name}."
            )
        return self.models[name]


# ---------------------------------------------------------------------------------------------- reading


def sprites_folder() -> Path:
    """The shipped models: the first folder sprites/ with a models.json where presets are looked for."""
    places = [place / SPRITES_FOLDER for place in preset_folders()]
    return next((place for place in places if holds(place, MODELS_FILE)), places[0])


def read_sprite_models(folder: str | Path | None = None) -> SpriteModels:
    """What a folder of sprite models holds; None: the shipped ones.

    Raises PresetError when there is no models.json, or when it is damaged or does not describe such models.
    """
    folder = sprites_folder() if folder is None else Path(folder)
    path = folder / MODELS_FILE
    if not holds(folder, MODELS_FILE):
        raise PresetError(
            f"{folder} holds no sprite models: it has no {MODELS_FILE}. Make them: atelier train sprites."
        )
    values = read_json(path)
    try:
        return _models_from(values, folder)
    except (TypeError, ValueError, AttributeError) as fault:
        raise PresetError(f"{path} does not describe sprite models: {fault}") from fault


def _models_from(values: Any, folder: Path) -> SpriteModels:
    if not isinstance(values, dict) or set(values) != {"models", "files"}:
        raise ValueError("it is not an object with the keys models and files.")
    for key, value in values.items():
        if not isinstance(value, dict):
            raise ValueError(f"{key} is a {type(value).__name__}, not an object.")
    unknown = sorted(values["models"].keys() - BUILT_FROM.keys())
    if unknown:
        raise ValueError(f"it has the unknown model {', '.join(unknown)}; it knows {', '.join(SPRITE_MODELS)}.")
    models = {name: _model_from(name, model) for name, model in values["models"].items()}
    return SpriteModels(folder, models, values["files"])


def _model_from(name: str, values: Any) -> SpriteModel:
    model: SpriteModel = config_from(values, SpriteModel, name)
    return replace(model, config=config_from(values["config"], BUILT_FROM[name][0], f"{name}.config"))


@overload
def load_sprite_model(name: Literal["gan"], folder: str | Path | None = None) -> Generator: ...
@overload
def load_sprite_model(name: Literal["autoencoder"], folder: str | Path | None = None) -> Autoencoder: ...
@overload
def load_sprite_model(name: Literal["vae"], folder: str | Path | None = None) -> VAE: ...
@overload
def load_sprite_model(name: Literal["vqvae"], folder: str | Path | None = None) -> VQVAE: ...
@overload
def load_sprite_model(name: Literal["vqgan", "vqgan_without_adversary"], folder: str | Path | None = None) -> VQGAN: ...
@overload
def load_sprite_model(name: Literal["judge", "perceptual"], folder: str | Path | None = None) -> PictureClassifier: ...
@overload
def load_sprite_model(name: str, folder: str | Path | None = None) -> nn.Module: ...
def load_sprite_model(name: str, folder: str | Path | None = None) -> nn.Module:
    """A sprite model with its weights, in float32, in evaluation mode.

    name: one of SPRITE_MODELS. folder: where the models are; None: the shipped ones.

    Raises PresetError naming the file when there is no such model, or when its weights are missing, truncated, altered,
    or of another model.
    """
    kept = read_sprite_models(folder)
    config, path = kept[name].config, kept.folder / f"{name}.safetensors"
    content = read_recorded(path, kept.files, MODELS_FILE)
    _, build = BUILT_FROM[name]
    return fill_in_weights(build(config), content, path, MODELS_FILE)


# ---------------------------------------------------------------------------------------------- writing


def save_sprite_model(folder: str | Path, name: str, module: nn.Module, model: SpriteModel) -> SpriteModels:
    """Write a model's weights as NAME.safetensors, and what is known of it into models.json, beside what is there."""
    folder = Path(folder)
    content, path = stored_weights(module), folder / f"{name}.safetensors"
    with only_writer(folder):
        replace_file(path, content)
        kept = read_sprite_models(folder) if holds(folder, MODELS_FILE) else SpriteModels(folder)
        models = {**kept.models, name: model}
        hashes = {**kept.files, path.name: hashlib.sha256(content).hexdigest()}
        ordered = {known: models[known] for known in SPRITE_MODELS if known in models}
        values = {"models": {known: asdict(ordered[known]) for known in ordered}, "files": hashes}
        replace_file(folder / MODELS_FILE, (json.dumps(values, indent=2) + "\n").encode())
    return SpriteModels(folder, ordered, hashes)
