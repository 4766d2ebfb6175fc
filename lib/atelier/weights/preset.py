"""Presets: folders with the files of a pipeline.

    config.json                 the sizes of the blocks, the settings of their training, the SHA-256 of the other files
    tokenizer.json              the tokenizer of the captions
    bart.safetensors            the translator from token ids to codes
    vqgan.safetensors           the VQ-GAN: pictures to codes and back
    clip.safetensors            the CLIP, which ranks pictures by their similarity to the caption
    clip_tokenizer.json         the tokenizer of the CLIP, if it is not the translator's
    perceptual.safetensors      the classifier whose features are compared in the perceptual loss of the VQ-GAN
    judge.safetensors           the classifier that recognises what the pictures show, for measurements
    history.json                the metrics during training
    README.md                   the model card
    enwiki-words-frequency.txt  a published list of word frequencies, for splitting hashtags in prompts

A preset may be incomplete: while it is being trained, it has only the files of the blocks trained so far.
`atelier download` converts the published models to presets. The module `storage` reads and writes the files.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from torch import nn

from atelier.arguments import shown, user_path
from atelier.blocks.bart import Bart, BartConfig
from atelier.blocks.classifier import ClassifierConfig, PictureClassifier
from atelier.blocks.clip import CLIP, CLIPConfig
from atelier.blocks.vqgan import VQGAN, VQGANConfig
from atelier.decoding import Sampling
from atelier.errors import AtelierError
from atelier.folders import preset_folders
from atelier.weights.fields import from_json
from atelier.weights.sizes import check_sizes
from atelier.weights.storage import (
    PresetError,
    check_hash,
    has_file,
    read_checked,
    read_json,
    read_weights_into,
    replace_file,
    serialized_weights,
    write_lock,
)
from atelier.weights.streams import AnyModule, on_meta_device
from atelier.weights.tokenizer import Tokenizer

CONFIG_FILE = "config.json"
TOKENIZER_FILE = "tokenizer.json"
VQGAN_FILE, CLIP_FILE, PERCEPTUAL_FILE = "vqgan.safetensors", "clip.safetensors", "perceptual.safetensors"
CLIP_TOKENIZER_FILE = "clip_tokenizer.json"
FREQUENCIES_FILE = "enwiki-words-frequency.txt"
HISTORY_FILE = "history.json"
PIPELINE_FILES = (VQGAN_FILE, "bart.safetensors", TOKENIZER_FILE)
WEIGHTS_SUFFIX = ".safetensors"

logger = logging.getLogger(__name__)

AnyConfig = TypeVar("AnyConfig")


@dataclass(frozen=True)
class Preset:
    """The content of a config.json.

    Attributes:
        name: the name of the preset.
        world: the painted world to train on, such as "small_world"; "" if the preset is trained on other pictures.
        picture_size: the width and height of the pictures in pixels.
        vqgan: sizes of the VQ-GAN.
        bart: sizes of the translator.
        clip: sizes of the CLIP; None if pictures are not ranked.
        classifier: sizes of both classifiers; None if the preset cannot be trained or evaluated on painted pictures.
        recipes: the settings of each block's recipe that differ from the defaults; under "all", each block's share of
            the minutes for `atelier train all`.
        sampling: the options of `atelier.decoding.Sampling` that differ from the defaults.
        words: all words of the training captions; empty if the captions had no closed vocabulary.
        normalization: the name of the normalization of prompts before the tokenizer's own, see
            `atelier.weights.normalizers`; None: only the tokenizer's own.
        files: the SHA-256 of each file, by name.
        trained_with: for each block that depends on other files, the SHA-256 of these files when it was trained. For
            example, a translator works only with the VQ-GAN whose codes it learned. A block without an entry is not
            checked.
        folder: the folder that the preset was read from.

    Raises:
        ValueError: if a size is impossible, or if the sizes do not fit together.
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
        for config in (self.vqgan, self.bart, self.clip):
            check_sizes(config)
        if self.vqgan.resolution != self.picture_size:
            raise ValueError(
                f"picture_size is {self.picture_size}, but the vqgan's resolution is {self.vqgan.resolution}; "
                "they must be the same."
            )
        if self.bart.target_length != self.vqgan.grid**2:
            raise ValueError(
                f"The vqgan encodes a picture as {self.vqgan.grid**2} codes, but the bart's target_length is "
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
                f"{self.clip.vocabulary}; they share a tokenizer, so they must be the same."
            )

    @property
    def _shares_tokenizer(self) -> bool:
        return CLIP_TOKENIZER_FILE not in self.files

    @property
    def complete(self) -> bool:
        """Whether the preset has all files of a pipeline, and its blocks were trained with one another."""
        blocks = [file.removesuffix(WEIGHTS_SUFFIX) for file in self._pipeline_files if file.endswith(WEIGHTS_SUFFIX)]
        return TOKENIZER_FILE in self.files and all(map(self.has_block, blocks))

    @property
    def _pipeline_files(self) -> list[str]:
        """The files that `Pipeline.from_pretrained` reads from a complete preset."""
        clip = [] if self.clip is None else [CLIP_FILE]
        optional = [file for file in (CLIP_TOKENIZER_FILE, FREQUENCIES_FILE) if file in self.files]
        return [*PIPELINE_FILES, *clip, *optional]

    def check_pipeline(self) -> None:
        """Compare all files of a pipeline with their hashes, and check that the blocks were trained with one another.

        Raises:
            PresetError: if a file is missing or altered, or a block was trained with another file.
        """
        for file in self._pipeline_files:
            self.check(file)
            self._check_trained_with(file.removesuffix(WEIGHTS_SUFFIX))

    def load_vqgan(self) -> VQGAN:
        """Load the VQ-GAN in float32, in evaluation mode.

        Raises:
            PresetError: for the reasons in `load_weights`.
        """
        return load_weights(self, "vqgan", on_meta_device(lambda: VQGAN(self.vqgan)))

    def load_bart(self, as_stored: bool = False) -> Bart:
        """Load the translator, in evaluation mode.

        Args:
            as_stored: keep the dtypes of the file instead of converting to float32, see `load_weights`.

        Returns:
            The translator.

        Raises:
            PresetError: for the reasons in `load_weights`, or if it was trained with another VQ-GAN or tokenizer.
        """
        self._check_trained_with("bart")
        return load_weights(self, "bart", on_meta_device(lambda: Bart(self.bart)), as_stored)

    def load_clip(self) -> CLIP:
        """Load the CLIP, in evaluation mode.

        Raises:
            PresetError: for the reasons in `load_weights`, or if it was trained with another tokenizer.
        """
        self._check_trained_with("clip")
        return load_weights(self, "clip", on_meta_device(lambda: CLIP(self.clip_config)))

    def load_classifier(self, name: str) -> PictureClassifier:
        """Load a classifier, in evaluation mode.

        Args:
            name: "perceptual" or "judge".

        Returns:
            The classifier.

        Raises:
            PresetError: for the reasons in `load_weights`.
        """
        return load_weights(self, name, on_meta_device(lambda: PictureClassifier(self.classifier_config)))

    def load_tokenizer(self) -> Tokenizer:
        """Load the translator's tokenizer.

        Raises:
            PresetError: if its file is missing or altered, or if it has more ids than the translator's vocabulary.
        """
        tokenizer = self._read_tokenizer(TOKENIZER_FILE, self._normalizer())
        if len(tokenizer) > self.bart.text_vocabulary:
            raise PresetError(
                f"{self.folder / TOKENIZER_FILE} has {len(tokenizer)} ids, but the preset's text_vocabulary is "
                f"{self.bart.text_vocabulary}; train a new tokenizer: atelier train tokenizer."
            )
        return tokenizer

    def load_clip_tokenizer(self) -> Tokenizer:
        """Load the tokenizer of the CLIP, which is the translator's unless the CLIP has its own.

        Raises:
            PresetError: if its file is missing or altered, or if it has more ids than the CLIP's vocabulary.
        """
        if self._shares_tokenizer:
            return self.load_tokenizer()
        tokenizer, clip = self._read_tokenizer(CLIP_TOKENIZER_FILE), self.clip_config
        if len(tokenizer) > clip.vocabulary:
            raise PresetError(
                f"{self.folder / CLIP_TOKENIZER_FILE} has {len(tokenizer)} ids, but the clip's vocabulary is "
                f"{clip.vocabulary}; restore the tokenizer of this CLIP."
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
        from atelier.weights.normalizers import normalizer  # imports optional packages

        frequencies = self.read(FREQUENCIES_FILE).decode() if FREQUENCIES_FILE in self.files else ""
        try:
            return normalizer(self.normalization, frequencies)
        except ValueError as fault:
            raise PresetError(f"{self.folder / CONFIG_FILE} does not describe a preset: {fault}") from fault

    @property
    def clip_config(self) -> CLIPConfig:
        """The sizes of the CLIP.

        Raises:
            PresetError: if the preset has no CLIP.
        """
        return self._required("clip", self.clip)

    @property
    def classifier_config(self) -> ClassifierConfig:
        """The sizes of both classifiers.

        Raises:
            PresetError: if the preset has no classifiers.
        """
        return self._required("classifier", self.classifier)

    def _required(self, name: str, config: AnyConfig | None) -> AnyConfig:
        if config is None:
            raise PresetError(f"The preset {self.name} has no {name}; choose another preset.")
        return config

    def has_block(self, block: str) -> bool:
        """Whether the preset has the weights of a block, trained with the other files that are now in the preset."""
        return f"{block}{WEIGHTS_SUFFIX}" in self.files and not list(self._changed_files(block))

    def _changed_files(self, block: str) -> Iterator[tuple[str, str, str]]:
        """List the files that changed after a block was trained with them: the name, the old and the new SHA-256."""
        for file, old in self.trained_with.get(block, {}).items():
            new = self.files.get(file, old)
            if new != old:
                yield file, old, new

    def _check_trained_with(self, block: str) -> None:
        for file, old, new in self._changed_files(block):
            raise PresetError(
                f"{self.folder / block}.safetensors was trained with another {file} (SHA-256 {old}) than the "
                f"one in this folder ({new}); restore that file, or train again: atelier train {block}."
            )

    def read(self, file: str) -> bytes:
        """Read one of the preset's files.

        Raises:
            PresetError: if it is missing or altered.
        """
        return read_checked(self.folder / file, self.files, CONFIG_FILE)

    def check(self, file: str) -> None:
        """Compare one of the preset's files with its hash.

        Raises:
            PresetError: if it is missing or altered.
        """
        check_hash(self.folder / file, self.files, CONFIG_FILE)
        logger.debug("%s has the recorded SHA-256", self.folder / file)


# ---------------------------------------------------------------------------------------------- finding and reading


def find_presets() -> dict[str, Path]:
    """Find all presets: their folders by name. If two have the same name, the first in `preset_folders` is used."""
    found: dict[str, Path] = {}
    for parent in preset_folders():
        for folder in _folders(parent):
            if has_file(folder, CONFIG_FILE):
                found.setdefault(folder.name, folder)
    return found


def _folders(parent: Path) -> list[Path]:
    try:
        return sorted(parent.iterdir())
    except OSError:  # the folder does not exist, or cannot be listed
        return []


def readable_presets() -> tuple[dict[str, Preset], dict[str, PresetError]]:
    """Read all presets that `find_presets` finds; a damaged preset does not prevent the use of the others.

    Returns:
        The presets that could be read, and the errors of the others, both by name.
    """
    readable: dict[str, Preset] = {}
    faults: dict[str, PresetError] = {}
    for name, folder in find_presets().items():
        try:
            readable[name] = read_preset(folder)
        except PresetError as fault:
            faults[name] = fault
    return readable, faults


def log_skipped(faults: Mapping[str, PresetError]) -> None:
    """Log a warning for each preset that cannot be used.

    Args:
        faults: the errors by the names of the presets.
    """
    for name, fault in faults.items():
        logger.warning("The preset %s is skipped: %s", name, fault)


def load_preset(name_or_folder: str | Path | None) -> Preset:
    """Read the config.json of a preset, given its name or folder. The weights are loaded later.

    Args:
        name_or_folder: a name in `find_presets`, or the path of a folder; None: `best_preset`.

    Returns:
        The preset.

    Raises:
        PresetError: if there is no such preset, or if its config.json is damaged, has an unknown or missing key, or has
            sizes that do not fit together.
    """
    preset = best_preset() if name_or_folder is None else read_preset(_find_folder(name_or_folder))
    logger.info("preset %s in %s", preset.name, preset.folder)
    return preset


def best_preset() -> Preset:
    """Find the complete and undamaged preset with the largest pictures; warn of each damaged one that was tried first.

    Raises:
        PresetError: if there is no such preset.
    """
    readable, faults = readable_presets()
    complete = {name: preset for name, preset in readable.items() if preset.complete}
    for name, preset in sorted(complete.items(), key=lambda item: -item[1].picture_size):
        try:
            preset.check_pipeline()
        except PresetError as fault:
            faults[name] = fault
        else:
            log_skipped(faults)
            return preset
    sentence = "No preset with weights was found; train one (atelier train --help) or set ATELIER_DATA."
    raise PresetError(" ".join([sentence, *map(str, faults.values())]))


def read_preset(folder: Path) -> Preset:
    """Read a preset from a folder.

    Raises:
        PresetError: if the folder has no config.json, or for the reasons in `load_preset`.
    """
    path = folder / CONFIG_FILE
    if not has_file(folder, CONFIG_FILE):
        raise PresetError(f"{folder} is not a preset: it has no {CONFIG_FILE}.")
    values = read_json(path)
    try:
        return _preset_from(values, folder)
    except (TypeError, ValueError, AttributeError) as fault:
        raise PresetError(f"{path} does not describe a preset: {fault}") from fault


def _find_folder(name_or_folder: str | Path) -> Path:
    known = find_presets()
    if str(name_or_folder) in known:
        return known[str(name_or_folder)]
    with suppress(OSError, AtelierError):  # the name may be too long for a path
        if str(name_or_folder) and user_path(name_or_folder).is_dir():
            return user_path(name_or_folder)
    names = ", ".join(known) or "none"
    raise PresetError(
        f"There is no preset {shown(str(name_or_folder), 200)}. Known presets: {names}. "
        f"Give one of them, or a folder with a {CONFIG_FILE}; `atelier download` downloads published presets."
    )


def _preset_from(values: Any, folder: Path) -> Preset:
    preset = from_json(Preset, values, "the preset", folder=folder)
    if not _is_file_name(preset.name):
        raise ValueError(f"name is {shown(preset.name)}; give a name that a folder can have.")
    for file in preset.files:
        if not _is_file_name(file):
            raise ValueError(f"files has the key {shown(file)}; give the name of a file in this folder.")
    from_json(Sampling, preset.sampling, "sampling")
    return preset


def _is_file_name(name: str) -> bool:
    """Whether a string is a valid file name on every operating system, and not a path."""
    return 0 < len(name) <= 100 and not re.search(r'[/\\:*?"<>|\x00-\x1f\ud800-\udfff]|^\.+$', name)


# ---------------------------------------------------------------------------------------------- weights


def load_weights(preset: Preset, name: str, module: AnyModule, as_stored: bool = False) -> AnyModule:
    """Load a preset's weights NAME.safetensors into a module.

    Args:
        preset: the preset.
        name: the name of the weights.
        module: the model to load the weights into.
        as_stored: keep the dtypes of the file, mostly float16, instead of converting to the module's dtypes.

    Returns:
        The module, in evaluation mode.

    Raises:
        PresetError: if the file is missing, truncated or altered, or does not fit the module.
    """
    path = preset.folder / f"{name}.safetensors"
    preset.check(path.name)
    return read_weights_into(module, path, CONFIG_FILE, as_stored)


def save_preset(preset: Preset, folder: str | Path) -> Preset:
    """Write a preset's config.json to a folder.

    Args:
        preset: the preset.
        folder: the folder; it is created if necessary.

    Returns:
        The preset with this folder.
    """
    moved = replace(preset, folder=Path(folder))
    moved.folder.mkdir(parents=True, exist_ok=True)
    values = asdict(moved)
    del values["folder"]
    replace_file(moved.folder / CONFIG_FILE, (json.dumps(values, indent=2, ensure_ascii=False) + "\n").encode())
    return moved


def update_preset(preset: Preset, **changes: Any) -> Preset:
    """Change fields in a preset's config.json.

    The folder is locked, and the file is read again before it is written, so that two training runs can update the same
    preset at the same time.

    Args:
        preset: the preset. If its folder has a config.json, all fields are read again from that file.
        changes: new values of fields. Entries of `files` and `trained_with` are added to the existing entries; an empty
            entry removes the existing one.

    Returns:
        The updated preset.
    """
    with write_lock(preset.folder):
        return _apply_changes(preset, changes)


def _apply_changes(preset: Preset, changes: dict[str, Any]) -> Preset:
    now = read_preset(preset.folder) if has_file(preset.folder, CONFIG_FILE) else preset
    for name in {"files", "trained_with"} & changes.keys():
        entries = {**getattr(now, name), **changes[name]}
        changes[name] = {key: entry for key, entry in entries.items() if entry}
    return save_preset(replace(now, **changes), preset.folder)


def save_weights(preset: Preset, name: str, module: nn.Module, trained_with: Mapping[str, str] | None = None) -> Preset:
    """Write a module's weights as NAME.safetensors and record their hash in config.json.

    Args:
        preset: the preset.
        name: the name of the weights.
        module: the model; see `serialized_weights` for the format.
        trained_with: the SHA-256 of each file that the weights depend on, by name.

    Returns:
        The updated preset.
    """
    return add_file(
        preset, f"{name}.safetensors", serialized_weights(module), trained_with={name: dict(trained_with or {})}
    )


def add_file(preset: Preset, file: str, content: bytes, **changes: Any) -> Preset:
    """Write one of a preset's files and record its hash in config.json.

    Args:
        preset: the preset.
        file: the name of the file.
        content: its content.
        changes: further changes, as for `update_preset`.

    Returns:
        The updated preset.
    """
    with write_lock(preset.folder):  # one lock for both writes, so that config.json always has the hash of this file
        replace_file(preset.folder / file, content)
        return _apply_changes(preset, {"files": {file: hashlib.sha256(content).hexdigest()}, **changes})
