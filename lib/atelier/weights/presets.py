"""Presets: folders that hold everything a pipeline needs.

    config.json          sizes of the blocks, how they are trained, and the SHA-256 of each file beside it
    vqgan.safetensors    pictures to codes and back            bart.safetensors        captions to codes
    clip.safetensors     how well picture and caption match    tokenizer.json          captions to token ids
    perceptual.safetensors, judge.safetensors                  the two classifiers of painted pictures
    history.json         the training's metrics over time  README.md               the model card

Weights are stored in float16 and computed with in float32. A preset may be incomplete: while it is being trained it
has only the files that are finished. Nothing is used before its hash, its names and its shapes have been checked.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, TypeVar

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from atelier.blocks.bart import Bart, BartConfig
from atelier.blocks.clip import CLIP, CLIPConfig
from atelier.blocks.vq import VectorQuantizer
from atelier.blocks.vqgan import VQGAN, VQGANConfig
from atelier.decoding import Sampling
from atelier.errors import AtelierError
from atelier.weights.tokenizer import Tokenizer
from atelier.world.classifier import ClassifierConfig, PictureClassifier

CONFIG_FILE = "config.json"
TOKENIZER_FILE = "tokenizer.json"
HISTORY_FILE = "history.json"
BLOCKS = ("vqgan", "bart", "clip", "perceptual", "judge")
PIPELINE_FILES = ("vqgan.safetensors", "bart.safetensors", "clip.safetensors", TOKENIZER_FILE)

AnyModule = TypeVar("AnyModule", bound=nn.Module)


class PresetError(AtelierError):
    """A preset cannot be used; the message names the file and the reason."""


@dataclass(frozen=True)
class Preset:
    """What a config.json says.

    name: of the preset. world: of the painted world it is trained on, "small_world" or "full_world"; "" for none.
    picture_size: pixels on a side. vqgan, bart, clip, classifier: the sizes of the blocks.
    recipes: for each trained block, what its recipe's settings are, where they differ from the recipe's defaults.
    sampling: how the pipeline chooses codes, where it differs from `atelier.decoding.Sampling`'s defaults.
    words: all words of the captions it was trained on, or none where they are not a closed list.
    files: the SHA-256 of each file that belongs to the preset and is there. folder: where it was read from.
    trained_with: for a block that means nothing without other files (a translator writes the codes of one VQ-GAN), the
    SHA-256 of each of them as it was in training. A block without a record is believed.
    """

    name: str
    world: str
    picture_size: int
    vqgan: VQGANConfig
    bart: BartConfig
    clip: CLIPConfig
    classifier: ClassifierConfig
    recipes: dict[str, dict[str, Any]] = field(default_factory=dict)
    sampling: dict[str, Any] = field(default_factory=dict)
    words: tuple[str, ...] = ()
    files: dict[str, str] = field(default_factory=dict)
    trained_with: dict[str, dict[str, str]] = field(default_factory=dict)
    folder: Path = Path()

    def __post_init__(self) -> None:
        object.__setattr__(self, "words", tuple(self.words))  # read from JSON it is a list
        if self.vqgan.resolution != self.picture_size:
            raise ValueError(
                f"picture_size is {self.picture_size}, but the vqgan's resolution is {self.vqgan.resolution}; "
                "they must be the same."
            )
        if self.bart.target_length != self.vqgan.grid**2:
            raise ValueError(
                f"The vqgan gives {self.vqgan.grid**2} codes to a picture, but the bart's target_length is "
                f"{self.bart.target_length}; they must be the same."
            )
        if self.bart.target_vocabulary < self.vqgan.codes:
            raise ValueError(
                f"The vqgan has {self.vqgan.codes} codes, but the bart's target_vocabulary is "
                f"{self.bart.target_vocabulary}; it must be at least as large."
            )
        if self.clip.image_size != self.picture_size:
            raise ValueError(
                f"picture_size is {self.picture_size}, but the clip's image_size is {self.clip.image_size}; "
                "they must be the same."
            )
        if self.bart.text_vocabulary != self.clip.vocabulary:
            raise ValueError(
                f"The bart's text_vocabulary is {self.bart.text_vocabulary}, but the clip's vocabulary is "
                f"{self.clip.vocabulary}; they read the same tokens, so they must be the same."
            )

    @property
    def complete(self) -> bool:
        """Whether everything that a pipeline needs is there."""
        return all(file in self.files for file in PIPELINE_FILES)

    def load_vqgan(self) -> VQGAN:
        """The VQ-GAN with its weights, in float32, for use. Raises PresetError as `load_weights` does."""
        return load_weights(self, "vqgan", VQGAN(self.vqgan))

    def load_bart(self) -> Bart:
        """The translator with its weights. Raises PresetError also when they belong to another VQ-GAN or tokenizer."""
        self._check_companions("bart")
        return load_weights(self, "bart", Bart(self.bart))

    def load_clip(self) -> CLIP:
        """The critic with its weights. Raises PresetError also when they belong to another tokenizer."""
        self._check_companions("clip")
        return load_weights(self, "clip", CLIP(self.clip))

    def load_classifier(self, name: str) -> PictureClassifier:
        """A classifier with its weights: "perceptual" or "judge"."""
        return load_weights(self, name, PictureClassifier(self.classifier))

    def load_tokenizer(self) -> Tokenizer:
        """The tokenizer. Raises PresetError when its file is missing or altered, or has more ids than bart knows."""
        self.read(TOKENIZER_FILE)
        path = self.folder / TOKENIZER_FILE
        try:
            tokenizer = Tokenizer.from_file(path)
        except ValueError as fault:
            raise PresetError(str(fault)) from fault
        if len(tokenizer) > self.bart.text_vocabulary:
            raise PresetError(
                f"{path} has {len(tokenizer)} ids, but the preset's text_vocabulary is {self.bart.text_vocabulary}; "
                "train the tokenizer again: atelier train tokenizer."
            )
        return tokenizer

    def _check_companions(self, block: str) -> None:
        for file, trained in self.trained_with.get(block, {}).items():
            found = self.files.get(file, trained)
            if found != trained:
                raise PresetError(
                    f"{self.folder / block}.safetensors was trained with another {file} (SHA-256 {trained}) than the "
                    f"one now beside it ({found}); restore that file, or train again: atelier train {block}."
                )

    def read(self, file: str) -> bytes:
        """The checked content of one of the preset's files. Raises PresetError when it is missing or altered."""
        path = self.folder / file
        if file not in self.files:
            raise PresetError(f"The preset in {self.folder} has no {file} (its {CONFIG_FILE} records none).")
        if not path.is_file():
            raise PresetError(f"{path} is missing, though {self.folder / CONFIG_FILE} records it; restore the file.")
        content = path.read_bytes()
        found = hashlib.sha256(content).hexdigest()
        if found != self.files[file]:
            raise PresetError(
                f"{path} was truncated or altered: its {len(content)} bytes have the SHA-256 {found}, but "
                f"{CONFIG_FILE} records {self.files[file]}. Restore the file."
            )
        return content


# ---------------------------------------------------------------------------------------------- finding and reading


def preset_folders() -> list[Path]:
    """Where presets are looked for: $ATELIER_DATA if it is set, then the checkout's data/."""
    checkout = Path(__file__).parents[3] / "data"
    chosen = os.environ.get("ATELIER_DATA")
    return [Path(chosen), checkout] if chosen else [checkout]


def find_presets() -> dict[str, Path]:
    """The folders of all presets that can be found by name; an earlier place hides a later one."""
    found: dict[str, Path] = {}
    for place in preset_folders():
        for config in sorted(place.glob(f"*/{CONFIG_FILE}")):
            found.setdefault(config.parent.name, config.parent)
    return found


def load_preset(name_or_folder: str | Path) -> Preset:
    """Read a preset by its name, or from a folder. Its weights are read when they are asked for.

    Raises PresetError when there is no such preset, or when its config.json is damaged, has an unknown or missing key,
    or sizes that do not fit together.
    """
    folder = _folder_of(name_or_folder)
    if not (folder / CONFIG_FILE).is_file():
        raise PresetError(f"{folder} is not a preset: it holds no {CONFIG_FILE}.")
    return read_preset(folder)


def read_preset(folder: Path) -> Preset:
    """Read a preset from the config.json of a folder. Raises PresetError as `load_preset` does."""
    path = folder / CONFIG_FILE
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as fault:
        raise PresetError(f"{path} is not valid JSON ({fault}); restore the file.") from fault
    try:
        return _preset_from(values, folder)
    except (TypeError, ValueError, AttributeError) as fault:
        raise PresetError(f"{path} does not describe a preset: {fault}") from fault


def _folder_of(name_or_folder: str | Path) -> Path:
    known = find_presets()
    if str(name_or_folder) in known:
        return known[str(name_or_folder)]
    if Path(name_or_folder).is_dir():
        return Path(name_or_folder)
    names = ", ".join(known) or "none"
    raise PresetError(
        f"There is no preset {str(name_or_folder)!r}. Known presets: {names}. "
        f"A folder that holds a {CONFIG_FILE} can be given as well."
    )


def _preset_from(values: Any, folder: Path) -> Preset:
    if not isinstance(values, dict):
        raise ValueError(f"it holds a {type(values).__name__}, not an object.")
    _check_keys(values, Preset, "the preset", computed={"folder"})
    for name in ("recipes", "sampling", "files", "trained_with"):
        _check_object(values.get(name, {}), name)
    for name in ("recipes", "trained_with"):
        for block, inner in values.get(name, {}).items():
            _check_object(inner, f"{name}.{block}")
    _check_sampling(values.get("sampling", {}))
    if not isinstance(values.get("words", []), list):
        raise ValueError(f"words is a {type(values['words']).__name__}, not a list.")
    blocks = {"vqgan": VQGANConfig, "bart": BartConfig, "clip": CLIPConfig, "classifier": ClassifierConfig}
    built = {name: _config_from(values[name], config, name) for name, config in blocks.items()}
    arguments: dict[str, Any] = {**values, **built, "folder": folder}
    return Preset(**arguments)


def _check_object(values: Any, name: str) -> None:
    if not isinstance(values, dict):
        raise ValueError(f"{name} is a {type(values).__name__}, not an object.")


def _check_sampling(values: dict[str, Any]) -> None:
    _check_keys(values, Sampling, "sampling")
    defaults = Sampling()
    for name, value in values.items():
        fits = isinstance(value, int if name == "top_k" else (int, float)) and not isinstance(value, bool)
        if not fits and (value is not None or getattr(defaults, name) is not None):
            kind = "a whole number" if name == "top_k" else "a number"
            raise ValueError(f"sampling has {value!r} for {name}; give {kind}.")
    Sampling(**values)  # it knows its ranges


def _config_from(values: Any, config: type[Any], name: str) -> Any:
    _check_object(values, name)
    _check_keys(values, config, name)
    return config(**{key: tuple(value) if isinstance(value, list) else value for key, value in values.items()})


def _check_keys(
    values: Mapping[str, Any], config: type[Any], name: str, computed: frozenset[str] | set[str] = frozenset()
):
    known = {item.name: item for item in fields(config) if item.name not in computed}
    unknown = sorted(values.keys() - known.keys())
    if unknown:
        raise ValueError(f"{name} has the unknown key {', '.join(unknown)}; it knows {', '.join(known)}.")
    needed = {key for key, item in known.items() if item.default is MISSING and item.default_factory is MISSING}
    missing = sorted(needed - values.keys())
    if missing:
        raise ValueError(f"{name} lacks {', '.join(missing)}.")


# ---------------------------------------------------------------------------------------------- weights


def load_weights(preset: Preset, name: str, module: AnyModule) -> AnyModule:
    """Fill a module with a preset's weights NAME.safetensors, in float32, and put it into evaluation mode.

    Raises PresetError naming the file when it is missing, truncated or altered, when a name is missing or unknown, or
    when a shape is not the module's. The module is then as it was.
    """
    path = preset.folder / f"{name}.safetensors"
    try:
        stored = safetensors.torch.load(preset.read(path.name))
    except SafetensorError as fault:
        raise PresetError(f"{path} is not a safetensors file ({fault}); restore the file.") from fault
    expected = {key: tensor for key, tensor in module.state_dict().items() if key not in _statistics(module)}
    missing, unknown = sorted(expected.keys() - stored.keys()), sorted(stored.keys() - expected.keys())
    if missing or unknown:
        parts = [f"lacks {_some(missing)}"] * bool(missing) + [f"has the unknown {_some(unknown)}"] * bool(unknown)
        raise PresetError(f"{path} {' and '.join(parts)}; it belongs to a model of other sizes than {CONFIG_FILE} has.")
    for key, tensor in expected.items():
        if stored[key].shape != tensor.shape:
            raise PresetError(
                f"{path} has {key} with the shape {tuple(stored[key].shape)}, but {CONFIG_FILE} asks for "
                f"{tuple(tensor.shape)}."
            )
    module.load_state_dict({key: tensor.to(expected[key].dtype) for key, tensor in stored.items()}, strict=True)
    return module.eval()


def _statistics(module: nn.Module) -> set[str]:
    """Names of what a codebook only learns by: nobody who draws needs it, and a codebook loads without."""
    books = [name for name, part in module.named_modules() if isinstance(part, VectorQuantizer)]
    return {f"{name}.{statistic}" for name in books for statistic in ("counts", "sums")}


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def save_preset(preset: Preset, folder: str | Path) -> Preset:
    """Write a preset's config.json into a folder. The preset returned is the one in that folder."""
    moved = replace(preset, folder=Path(folder))
    moved.folder.mkdir(parents=True, exist_ok=True)
    values = asdict(moved)
    del values["folder"]
    replace_file(moved.folder / CONFIG_FILE, (json.dumps(values, indent=2, ensure_ascii=False) + "\n").encode())
    return moved


def update_preset(preset: Preset, **changes: Any) -> Preset:
    """Change what a preset's config.json says, and return what it says then.

    The file is read anew before it is written, so that two trainings which work on the same preset do not undo what
    the other one recorded. Where there is no file yet, the preset given is what is changed.

    changes: fields of the preset and their new values. The entries of `files` and `trained_with` are added to those
    already there, and an empty entry removes one.
    """
    path = preset.folder / CONFIG_FILE
    now = read_preset(preset.folder) if path.is_file() else preset
    for name in {"files", "trained_with"} & changes.keys():
        entries = {**getattr(now, name), **changes[name]}
        changes[name] = {key: entry for key, entry in entries.items() if entry}
    return save_preset(replace(now, **changes), preset.folder)


def save_weights(preset: Preset, name: str, module: nn.Module, bound_to: Mapping[str, str] | None = None) -> Preset:
    """Write a module's weights as NAME.safetensors, in float16, and record their hash in config.json.

    Tensors that float16 cannot hold stay in float32, and whole numbers and flags are kept as they are. A codebook's
    statistics, which only training needs, are left out.

    bound_to: the SHA-256 of each file that the weights were trained with and mean nothing without.
    """
    left_out = _statistics(module)
    tensors = {key: _halved(tensor) for key, tensor in module.state_dict().items() if key not in left_out}
    content = safetensors.torch.save(tensors)
    return add_file(preset, f"{name}.safetensors", content, trained_with={name: dict(bound_to or {})})


def add_file(preset: Preset, file: str, content: bytes, **changes: Any) -> Preset:
    """Write one of a preset's files and record its hash, and other `changes`, in config.json: see `update_preset`."""
    preset.folder.mkdir(parents=True, exist_ok=True)
    replace_file(preset.folder / file, content)
    return update_preset(preset, files={file: hashlib.sha256(content).hexdigest()}, **changes)


def _halved(tensor: Tensor) -> Tensor:
    tensor = tensor.detach().cpu().contiguous().clone()
    if not tensor.is_floating_point():
        return tensor
    half = tensor.half()
    return half if torch.isfinite(half).all() else tensor.float()


def replace_file(path: Path, content: bytes) -> None:
    """Write a file whole, or leave the old one: a kill in between must not leave half of it."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")  # several processes may write the same file
    unfinished.write_bytes(content)
    unfinished.replace(path)
