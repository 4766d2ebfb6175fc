"""The small models of part 2, trained on sprites, and the folder they are shipped in.

    models.json              sizes, sprites, training and measurements of each model, and the SHA-256 of each file
    NAME.safetensors         the weights of a model, in float16
    README.md                the model card

As for presets, the hash of a file and the names and shapes of its tensors are checked before it is used.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, overload

from torch import nn

from atelier.arguments import shown
from atelier.blocks.autoencoder import Autoencoder, AutoencoderConfig
from atelier.blocks.classifier import ClassifierConfig, PictureClassifier
from atelier.blocks.gan import GANConfig, Generator
from atelier.blocks.vae import VAE
from atelier.blocks.vq import VQVAE, VQVAEConfig
from atelier.blocks.vqgan import VQGAN, VQGANConfig
from atelier.folders import preset_folders
from atelier.weights.fields import from_json
from atelier.weights.storage import (
    PresetError,
    check_hash,
    has_file,
    read_json,
    read_weights_into,
    replace_file,
    serialized_weights,
    write_lock,
)

MODELS_FILE = "models.json"
SPRITES_FOLDER = "sprites"

MODEL_CLASSES: dict[str, tuple[type[Any], type[nn.Module]]] = {
    "judge": (ClassifierConfig, PictureClassifier),
    "perceptual": (ClassifierConfig, PictureClassifier),
    "gan": (GANConfig, Generator),
    "autoencoder": (AutoencoderConfig, Autoencoder),
    "vae": (AutoencoderConfig, VAE),
    "vqvae": (VQVAEConfig, VQVAE),
    "vqgan_without_adversary": (VQGANConfig, VQGAN),
    "vqgan": (VQGANConfig, VQGAN),
}
SPRITE_MODELS = tuple(MODEL_CLASSES)


@dataclass(frozen=True)
class SpriteModel:
    """The entry of a model in models.json.

    Attributes:
        config: its sizes, a config of its block.
        subjects: the subjects of the sprites that it was trained on, as arguments of `atelier.world.sprites`.
        colours: the colours of the sprites that it was trained on.
        training: seed, steps, minutes, and the metrics at the end.
        measured: metrics on sprites that were not in the training.
    """

    config: Any
    subjects: tuple[str, ...]
    colours: tuple[str, ...]
    training: dict[str, float] = field(default_factory=dict)
    measured: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class SpriteModels:
    """A folder of sprite models.

    Attributes:
        folder: the folder.
        models: the entry of each model, by name.
        files: the SHA-256 of each file, by name.
    """

    folder: Path
    models: dict[str, SpriteModel] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)

    def __getitem__(self, name: str) -> SpriteModel:
        """Look up the entry of a model.

        Raises:
            PresetError: if there is no such model.
        """
        if name not in SPRITE_MODELS:
            raise PresetError(f"There is no sprite model {name!r}; choose one of {', '.join(SPRITE_MODELS)}.")
        if name not in self.models:
            raise PresetError(
                f"{self.folder} has no sprite model {name!r} yet; train it: atelier train sprites --only {name}."
            )
        return self.models[name]


# ---------------------------------------------------------------------------------------------- reading


def sprites_folder() -> Path:
    """Find the shipped models: the first folder sprites/ with a models.json in `preset_folders`."""
    folders = [folder / SPRITES_FOLDER for folder in preset_folders()]
    return next((folder for folder in folders if has_file(folder, MODELS_FILE)), folders[0])


def read_sprite_models(folder: str | Path | None = None) -> SpriteModels:
    """Read the models.json of a folder.

    Args:
        folder: the folder; None for the shipped models.

    Returns:
        The models.

    Raises:
        PresetError: if there is no models.json, or if it is damaged or does not describe sprite models.
    """
    folder = sprites_folder() if folder is None else Path(folder)
    path = folder / MODELS_FILE
    if not has_file(folder, MODELS_FILE):
        raise PresetError(
            f"{folder} holds no sprite models: it has no {MODELS_FILE}. Train them: atelier train sprites."
        )
    values = read_json(path)
    try:
        return _models_from(values, folder)
    except (TypeError, ValueError, AttributeError) as fault:
        raise PresetError(f"{path} does not describe sprite models: {fault}") from fault


def _models_from(values: Any, folder: Path) -> SpriteModels:
    read = from_json(_Record, values, "the file")
    unknown = sorted(read.models.keys() - MODEL_CLASSES.keys())
    if unknown:
        raise ValueError(f"it has the unknown model {shown(unknown[0])}; expected are {', '.join(SPRITE_MODELS)}.")
    models = {name: _model_from(values, name) for name, values in read.models.items()}
    return SpriteModels(folder, models, read.files)


@dataclass(frozen=True)
class _Record:
    """The content of a models.json; see `SpriteModels`."""

    models: dict[str, Any]
    files: dict[str, str]


def _model_from(values: Any, name: str) -> SpriteModel:
    model = from_json(SpriteModel, values, name)
    return replace(model, config=from_json(MODEL_CLASSES[name][0], model.config, f"{name}.config"))


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
    """Load a sprite model.

    Args:
        name: one of SPRITE_MODELS.
        folder: the folder of the models; None for the shipped ones.

    Returns:
        The model in float32, in evaluation mode.

    Raises:
        PresetError: if there is no such model, or if its weights are missing, truncated, altered, or of another model.
    """
    kept = read_sprite_models(folder)
    config, path = kept[name].config, kept.folder / f"{name}.safetensors"
    check_hash(path, kept.files, MODELS_FILE)
    _, build = MODEL_CLASSES[name]
    return read_weights_into(build(config), path, MODELS_FILE)


# ---------------------------------------------------------------------------------------------- writing


def save_sprite_model(folder: str | Path, name: str, module: nn.Module, model: SpriteModel) -> SpriteModels:
    """Write a model's weights as NAME.safetensors and its entry into models.json; other entries are kept.

    Args:
        folder: the folder of the models; it is created if necessary.
        name: one of SPRITE_MODELS.
        module: the model.
        model: its entry.

    Returns:
        All models of the folder.
    """
    folder = Path(folder)
    content, path = serialized_weights(module), folder / f"{name}.safetensors"
    with write_lock(folder):
        replace_file(path, content)
        kept = read_sprite_models(folder) if has_file(folder, MODELS_FILE) else SpriteModels(folder)
        models = {**kept.models, name: model}
        hashes = {**kept.files, path.name: hashlib.sha256(content).hexdigest()}
        ordered = {known: models[known] for known in SPRITE_MODELS if known in models}
        values = {"models": {known: asdict(ordered[known]) for known in ordered}, "files": hashes}
        replace_file(folder / MODELS_FILE, (json.dumps(values, indent=2) + "\n").encode())
    return SpriteModels(folder, ordered, hashes)
