"""Presets: folders that hold everything a pipeline needs.

    config.json          sizes of the blocks, how they are trained, and the SHA-256 of each file beside it
    vqgan.safetensors    pictures to codes and back            bart.safetensors        captions to codes
    clip.safetensors     how well picture and caption match    tokenizer.json          captions to token ids
    perceptual.safetensors, judge.safetensors                  the two classifiers of painted pictures
    history.json         the training's metrics over time  README.md               the model card
    clip_tokenizer.json  captions to token ids for a clip that was not trained on the same ids as bart
    enwiki-words-frequency.txt  published: with it, hashtags in prompts are taken apart

A preset may be incomplete: while it is being trained it has only the files that are finished. The published models are
presets as well, once `atelier download` has fetched and converted them. How files are stored is said in `storage`.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import MISSING, asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, TypeVar

from torch import nn

from atelier.blocks.bart import Bart, BartConfig
from atelier.blocks.classifier import ClassifierConfig, PictureClassifier
from atelier.blocks.clip import CLIP, CLIPConfig
from atelier.blocks.vqgan import VQGAN, VQGANConfig
from atelier.decoding import Sampling
from atelier.weights.sizes import check_sizes
from atelier.weights.storage import (
    PresetError,
    check_recorded,
    fill_in_weights,
    holds,
    only_writer,
    read_json,
    read_recorded,
    replace_file,
    stored_weights,
)
from atelier.weights.streams import AnyModule, described
from atelier.weights.tokenizer import Tokenizer

CONFIG_FILE = "config.json"
TOKENIZER_FILE = "tokenizer.json"
VQGAN_FILE, PERCEPTUAL_FILE = "vqgan.safetensors", "perceptual.safetensors"
CLIP_TOKENIZER_FILE = "clip_tokenizer.json"
FREQUENCIES_FILE = "enwiki-words-frequency.txt"
HISTORY_FILE = "history.json"
CACHE = Path.home() / ".cache" / "atelier"
PIPELINE_FILES = ("vqgan.safetensors", "bart.safetensors", TOKENIZER_FILE)

logger = logging.getLogger(__name__)

AnyConfig = TypeVar("AnyConfig")


@dataclass(frozen=True)
class Preset:
    """What a config.json says.

    name: of the preset. world: of the painted world it is trained on, "small_world" or "full_world"; "" for none.
    picture_size: pixels on a side. vqgan, bart, clip, classifier: the sizes of the blocks; without a clip, pictures are
    not ranked, and without a classifier, nothing can be trained or measured on painted pictures.
    recipes: for each trained block, what its recipe's settings are, where they differ from the recipe's defaults; and
    under "all", each block's share of the time when all are trained.
    sampling: how the pipeline chooses codes, where it differs from `atelier.decoding.Sampling`'s defaults.
    words: all words of the captions it was trained on, or none where they are not a closed list.
    normalization: what is done to prompts before the tokenizer's own rules, see `atelier.weights.normalizers`.
    files: the SHA-256 of each file that belongs to the preset and is there. folder: where it was read from.
    trained_with: for a block that means nothing without other files (a translator writes the codes of one VQ-GAN), the
    SHA-256 of each of them as it was in training. A block without a record is believed.
    """

    name: str
    world: str
    picture_size: int
    vqgan: VQGANConfig
    bart: BartConfig
    clip: CLIPConfig | None
    classifier: ClassifierConfig | None
    recipes: dict[str, dict[str, Any]] = field(default_factory=dict)
    sampling: dict[str, Any] = field(default_factory=dict)
    words: tuple[str, ...] = ()
    normalization: str | None = None
    files: dict[str, str] = field(default_factory=dict)
    trained_with: dict[str, dict[str, str]] = field(default_factory=dict)
    folder: Path = Path()

    def __post_init__(self) -> None:
        object.__setattr__(self, "words", tuple(self.words))  # read from JSON it is a list
        for config in (self.vqgan, self.bart, self.clip):
            check_sizes(config)
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
        if self.clip is not None and self._shares_tokenizer and self.bart.text_vocabulary != self.clip.vocabulary:
            raise ValueError(
                f"The bart's text_vocabulary is {self.bart.text_vocabulary}, but the clip's vocabulary is "
                f"{self.clip.vocabulary}; they read the same tokens, so they must be the same."
            )

    @property
    def _shares_tokenizer(self) -> bool:
        return CLIP_TOKENIZER_FILE not in self.files

    @property
    def complete(self) -> bool:
        """Whether everything that a pipeline needs is there."""
        return all(file in self.files for file in self._pipeline_files)

    @property
    def _pipeline_files(self) -> list[str]:
        return [*PIPELINE_FILES, *([] if self.clip is None else ["clip.safetensors"])]

    def check_pipeline(self) -> None:
        """Compare everything that a pipeline needs with its hash. Raises PresetError as `check` does."""
        for file in self._pipeline_files:
            self.check(file)

    def load_vqgan(self) -> VQGAN:
        """The VQ-GAN with its weights, in float32, for use. Raises PresetError as `load_weights` does."""
        return load_weights(self, "vqgan", described(lambda: VQGAN(self.vqgan)))

    def load_bart(self, as_stored: bool = False) -> Bart:
        """The translator with its weights. Raises PresetError also when they belong to another VQ-GAN or tokenizer.

        as_stored: leave the numbers in the types that the file has, see `load_weights`.
        """
        self._check_companions("bart")
        return load_weights(self, "bart", described(lambda: Bart(self.bart)), as_stored)

    def load_clip(self) -> CLIP:
        """The critic with its weights. Raises PresetError also when they belong to another tokenizer."""
        self._check_companions("clip")
        return load_weights(self, "clip", CLIP(self.clip_sizes))

    def load_classifier(self, name: str) -> PictureClassifier:
        """A classifier with its weights: "perceptual" or "judge"."""
        return load_weights(self, name, PictureClassifier(self.classifier_sizes))

    def load_tokenizer(self) -> Tokenizer:
        """The tokenizer. Raises PresetError when its file is missing or altered, or has more ids than bart knows."""
        tokenizer = self._read_tokenizer(TOKENIZER_FILE, self._normalizer())
        if len(tokenizer) > self.bart.text_vocabulary:
            raise PresetError(
                f"{self.folder / TOKENIZER_FILE} has {len(tokenizer)} ids, but the preset's text_vocabulary is "
                f"{self.bart.text_vocabulary}; train the tokenizer again: atelier train tokenizer."
            )
        return tokenizer

    def load_clip_tokenizer(self) -> Tokenizer:
        """The tokenizer of the clip: bart's, unless it has its own. Raises PresetError as `load_tokenizer` does."""
        if self._shares_tokenizer:
            return self.load_tokenizer()
        tokenizer, clip = self._read_tokenizer(CLIP_TOKENIZER_FILE), self.clip_sizes
        if len(tokenizer) > clip.vocabulary:
            raise PresetError(
                f"{self.folder / CLIP_TOKENIZER_FILE} has {len(tokenizer)} ids, but the clip's vocabulary is "
                f"{clip.vocabulary}; they do not belong together."
            )
        return tokenizer

    def _read_tokenizer(self, file: str, normalize: Callable[[str], str] | None = None) -> Tokenizer:
        self.check(file)
        try:
            return Tokenizer.from_file(self.folder / file, normalize)
        except ValueError as fault:
            raise PresetError(str(fault)) from fault

    def _normalizer(self) -> Callable[[str], str] | None:
        if self.normalization is None:
            return None
        from atelier.weights.normalizers import normalizer  # with it come libraries that no other preset needs

        frequencies = self.read(FREQUENCIES_FILE).decode() if FREQUENCIES_FILE in self.files else ""
        try:
            return normalizer(self.normalization, frequencies)
        except ValueError as fault:
            raise PresetError(f"{self.folder / CONFIG_FILE} does not describe a preset: {fault}") from fault

    @property
    def clip_sizes(self) -> CLIPConfig:
        """The sizes of the clip. Raises PresetError where the preset has none."""
        return self._there("clip", self.clip)

    @property
    def classifier_sizes(self) -> ClassifierConfig:
        """The sizes of both classifiers. Raises PresetError where the preset has none."""
        return self._there("classifier", self.classifier)

    def _there(self, name: str, config: AnyConfig | None) -> AnyConfig:
        if config is None:
            raise PresetError(f"The preset {self.name} has no {name}; choose another preset.")
        return config

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
        return read_recorded(self.folder / file, self.files, CONFIG_FILE)

    def check(self, file: str) -> None:
        """Compare one of the preset's files with its hash. Raises PresetError when it is missing or altered."""
        check_recorded(self.folder / file, self.files, CONFIG_FILE)


# ---------------------------------------------------------------------------------------------- finding and reading


def preset_folders() -> list[Path]:
    """Where presets are looked for: $ATELIER_DATA if it is set, the checkout's data/, and where downloads go else."""
    checkout = Path(__file__).parents[3] / "data"
    chosen = os.environ.get("ATELIER_DATA")
    return [*([Path(chosen)] if chosen else []), checkout, CACHE]


def downloads_folder() -> Path:
    """Where presets that are downloaded go: $ATELIER_DATA if it is set, else the user's cache."""
    chosen = os.environ.get("ATELIER_DATA")
    return Path(chosen) if chosen else CACHE


def find_presets() -> dict[str, Path]:
    """The folders of all presets that can be found by name; an earlier place hides a later one."""
    found: dict[str, Path] = {}
    for place in preset_folders():
        for folder in _folders(place):
            if holds(folder, CONFIG_FILE):
                found.setdefault(folder.name, folder)
    return found


def _folders(place: Path) -> list[Path]:
    try:
        return sorted(place.iterdir())
    except OSError:  # mostly there is no such place; of one that cannot be listed, no preset is known by name
        return []


def readable_presets() -> tuple[dict[str, Preset], dict[str, PresetError]]:
    """All presets that can be found, by the names of their folders: those that can be read, and what others fail by.

    One damaged preset must not stop the others from being used.
    """
    readable: dict[str, Preset] = {}
    faults: dict[str, PresetError] = {}
    for name, folder in find_presets().items():
        try:
            readable[name] = read_preset(folder)
        except PresetError as fault:
            faults[name] = fault
    return readable, faults


def tell_of_skipped(faults: Mapping[str, PresetError]) -> None:
    """Log one sentence for each preset that is not used because of a fault; the log goes to stderr by default."""
    for name, fault in faults.items():
        logger.warning("The preset %s is skipped: %s", name, fault)


def load_preset(name_or_folder: str | Path) -> Preset:
    """Read a preset by its name, or from a folder. Its weights are read when they are asked for.

    Raises PresetError when there is no such preset, or when its config.json is damaged, has an unknown or missing key,
    or sizes that do not fit together.
    """
    return read_preset(_folder_of(name_or_folder))


def read_preset(folder: Path) -> Preset:
    """Read a preset from the config.json of a folder. Raises PresetError as `load_preset` does."""
    path = folder / CONFIG_FILE
    if not holds(folder, CONFIG_FILE):
        raise PresetError(f"{folder} is not a preset: it holds no {CONFIG_FILE}.")
    values = read_json(path)
    try:
        return _preset_from(values, folder)
    except (TypeError, ValueError, AttributeError) as fault:
        raise PresetError(f"{path} does not describe a preset: {fault}") from fault


def _folder_of(name_or_folder: str | Path) -> Path:
    known = find_presets()
    if str(name_or_folder) in known:
        return known[str(name_or_folder)]
    with suppress(OSError):  # a name may be longer than any file's
        if Path(name_or_folder).is_dir():
            return Path(name_or_folder)
    names = ", ".join(known) or "none"
    raise PresetError(
        f"There is no preset {str(name_or_folder)!r}. Known presets: {names}. "
        f"A folder that holds a {CONFIG_FILE} can be given as well, and `atelier download` fetches published ones."
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
    left_out = {name for name in ("clip", "classifier") if values[name] is None}
    built = {name: config_from(values[name], config, name) for name, config in blocks.items() if name not in left_out}
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


def config_from(values: Any, config: type[Any], name: str) -> Any:
    """A block's config from what JSON has of it.

    Raises ValueError for a missing or unknown key, and for sizes that are refused by `check_sizes`. name: of the block.
    """
    _check_object(values, name)
    _check_keys(values, config, name)
    built = config(**{key: tuple(value) if isinstance(value, list) else value for key, value in values.items()})
    check_sizes(built)
    return built


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


def load_weights(preset: Preset, name: str, module: AnyModule, as_stored: bool = False) -> AnyModule:
    """Fill a module with a preset's weights NAME.safetensors and put it into evaluation mode.

    Raises PresetError as `check_recorded` and `fill_in_weights` do, which also says what `as_stored` means.
    """
    path = preset.folder / f"{name}.safetensors"
    preset.check(path.name)
    return fill_in_weights(module, path, CONFIG_FILE, as_stored)


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

    The file is read anew before it is written, and no other process or thread writes meanwhile, so that two trainings
    which work on the same preset do not undo what the other one recorded. Where there is no file yet, the preset given
    is what is changed.

    changes: fields of the preset and their new values. The entries of `files` and `trained_with` are added to those
    already there, and an empty entry removes one.
    """
    with only_writer(preset.folder):
        return _updated(preset, changes)


def _updated(preset: Preset, changes: dict[str, Any]) -> Preset:
    now = read_preset(preset.folder) if holds(preset.folder, CONFIG_FILE) else preset
    for name in {"files", "trained_with"} & changes.keys():
        entries = {**getattr(now, name), **changes[name]}
        changes[name] = {key: entry for key, entry in entries.items() if entry}
    return save_preset(replace(now, **changes), preset.folder)


def save_weights(preset: Preset, name: str, module: nn.Module, bound_to: Mapping[str, str] | None = None) -> Preset:
    """Write a module's weights as NAME.safetensors, as `stored_weights` has them, and record their hash in config.json.

    bound_to: the SHA-256 of each file that the weights were trained with and mean nothing without.
    """
    return add_file(preset, f"{name}.safetensors", stored_weights(module), trained_with={name: dict(bound_to or {})})


def add_file(preset: Preset, file: str, content: bytes, **changes: Any) -> Preset:
    """Write one of a preset's files and record its hash, and other `changes`, in config.json: see `update_preset`."""
    with only_writer(preset.folder):  # one lock for both, so that the hash recorded is that of the file
        replace_file(preset.folder / file, content)
        return _updated(preset, {"files": {file: hashlib.sha256(content).hexdigest()}, **changes})
