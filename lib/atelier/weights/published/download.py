"""The published DALL·E Minis as presets: downloaded from the hub, converted, and stored where presets are found.

Two projects published the same models in different formats. A class for each of them reads its files into the same
form: sizes, tensors and a tokenizer. Tensors are converted one at a time from file to file, so that converting a model
of ten gigabytes takes little memory. A preset is moved to its folder only when it is complete.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import filelock
import torch
from torch import Tensor, nn

from atelier.blocks.bart import Bart, BartConfig
from atelier.blocks.vqgan import VQGAN, VQGANConfig
from atelier.errors import FileError, file_errors
from atelier.folders import downloads_folder
from atelier.weights.preset import (
    FREQUENCIES_FILE,
    TOKENIZER_FILE,
    Preset,
    add_file,
    read_preset,
    save_preset,
    update_preset,
)
from atelier.weights.published import flax, mindalle
from atelier.weights.published.hub import (
    DownloadError,
    HubFile,
    MissingFileError,
    check_free_space,
    disk_is_full,
    fetch,
    file_size,
)
from atelier.weights.published.tensors import PublishedError, PublishedTensor, converted, match_tensors
from atelier.weights.published.tokenizer import read_tokenizer
from atelier.weights.storage import PresetError
from atelier.weights.streams import LazyTensor, on_meta_device, write_safetensors
from atelier.weights.tokenizer import Tokenizer

ORIGIN_FILE = "origin.json"  # records the source of a downloaded preset; presets without it were not downloaded
UNFINISHED = ".unfinished"
DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32}

Report = Callable[[str, int, int], None]


@dataclass(frozen=True)
class PublishedModel:
    """A downloaded model, in the same form for all publications.

    Attributes:
        files: the downloaded files.
        vqgan: sizes of the VQ-GAN.
        vqgan_tensors: the file or folder of its tensors, for error messages, and the tensors.
        bart: sizes of the translator.
        bart_tensors: the same for the translator.
        tokenizer: the tokenizer of the translator.
        normalization: the normalization of the prompts, see `Preset`.
        sampling: the defaults of the publication's own code.
    """

    files: list[HubFile]
    vqgan: VQGANConfig
    vqgan_tensors: tuple[Path, Iterable[PublishedTensor]]
    bart: BartConfig
    bart_tensors: tuple[Path, Iterable[PublishedTensor]]
    tokenizer: Tokenizer
    normalization: str | None
    sampling: dict[str, Any]


class Publication(Protocol):
    """A publication of a model on the hub."""

    def fetch(self) -> PublishedModel:
        """Download the files and read their headers.

        Raises:
            DownloadError: if a file cannot be downloaded.
            PublishedError: if a file is damaged or of another architecture.
        """
        ...

    def weights(self) -> list[tuple[str, str, str | None]]:
        """List repository, name and commit (None: the newest) of each file of weights."""
        ...


@dataclass(frozen=True)
class FlaxPublication:
    """The DALL·E Mini project's own publication of a model, see the module `flax`.

    Attributes:
        repository: the repository of the translator.
        vqgan: the repository of the VQ-GAN.
        frequencies: the repository with the list of words that hashtags are split with.
        revision, vqgan_revision: the commits of the two repositories; None: the newest.
    """

    repository: str
    vqgan: str = "dalle-mini/vqgan_imagenet_f16_16384"
    frequencies: str = "dalle-mini/dalle-mini"
    revision: str | None = None
    vqgan_revision: str | None = None

    def fetch(self) -> PublishedModel:
        """Download both models, and the list of words if there is one."""
        bart = fetch(self.repository, [flax.CONFIG_FILE, flax.WEIGHTS_FILE], self.revision)
        tokenizer = self._tokenizer_files()
        vqgan = fetch(self.vqgan, [flax.CONFIG_FILE, flax.WEIGHTS_FILE], self.vqgan_revision)
        folder, vqgan_folder = (files[flax.CONFIG_FILE].path.parent for files in (bart, vqgan))
        config = flax.bart_config(folder)
        normalizes = flax.normalizes_text(folder)
        return PublishedModel(
            files=[*bart.values(), *tokenizer, *(self._frequencies() if normalizes else []), *vqgan.values()],
            vqgan=flax.vqgan_config(vqgan_folder),
            vqgan_tensors=(vqgan_folder / flax.WEIGHTS_FILE, flax.vqgan_tensors(vqgan_folder)),
            bart=config,
            bart_tensors=(folder / flax.WEIGHTS_FILE, flax.bart_tensors(folder, config)),
            tokenizer=read_tokenizer(tokenizer[0].path.parent, config.text_vocabulary),
            normalization="dalle-mini" if normalizes else None,
            sampling={"guidance": 10.0, "top_k": 50},
        )

    def weights(self) -> list[tuple[str, str, str | None]]:
        """List the translator's file and the VQ-GAN's."""
        return [
            (self.repository, flax.WEIGHTS_FILE, self.revision),
            (self.vqgan, flax.WEIGHTS_FILE, self.vqgan_revision),
        ]

    def _tokenizer_files(self) -> list[HubFile]:
        try:
            return [*fetch(self.repository, ["vocab.json", "merges.txt"], self.revision).values()]
        except MissingFileError:
            return [*fetch(self.repository, [TOKENIZER_FILE], self.revision).values()]

    def _frequencies(self) -> list[HubFile]:
        try:
            return [*fetch(self.frequencies, [FREQUENCIES_FILE]).values()]
        except MissingFileError:
            return []


@dataclass(frozen=True)
class MinDallePublication:
    """The min-dalle project's publication of a model, see the module `mindalle`.

    Attributes:
        suffix: the suffix of the files' names.
        bart: sizes of the translator.
        vqgan: sizes of the VQ-GAN.
        repository: the repository of all files.
    """

    suffix: str
    bart: BartConfig
    vqgan: VQGANConfig
    repository: str = "kuprel/min-dalle"

    def fetch(self) -> PublishedModel:
        """Download the three files of weights and the two files of the tokenizer."""
        detoker, encoder, decoder = names = [file for _, file, _ in self.weights()]
        tokenizer = [f"vocab{self.suffix}.json", f"merges{self.suffix}.txt"]
        files = fetch(self.repository, [*tokenizer, *names])
        paths = {name: file.path for name, file in files.items()}
        folder = paths[encoder].parent
        return PublishedModel(
            files=[*files.values()],
            vqgan=self.vqgan,
            vqgan_tensors=(paths[detoker], mindalle.detoker_tensors(paths[detoker])),
            bart=self.bart,
            bart_tensors=(folder, mindalle.bart_tensors(paths[encoder], paths[decoder])),
            tokenizer=read_tokenizer(folder, self.bart.text_vocabulary, split_at_blanks=True, suffix=self.suffix),
            normalization="min-dalle",
            sampling={"guidance": 16.0, "top_k": 256},
        )

    def weights(self) -> list[tuple[str, str, str | None]]:
        """List the files of the VQ-GAN's decoder and of the translator's encoder and decoder."""
        files = ["detoker.pt", f"encoder{self.suffix}.pt", f"decoder{self.suffix}.pt"]
        return [(self.repository, file, None) for file in files]


# The commit that the inference notebook of the DALL·E Mini project names. It names none for the translators: what was
# downloaded is in ORIGIN_FILE, with its commit and hash.
VQGAN_COMMIT = "e93a26e7707683d349bf5d5c41c5b0ef69b677a9"

PUBLISHED: dict[str, dict[str, Publication]] = {
    "dalle-mini": {
        "flax": FlaxPublication("dalle-mini/dalle-mini", vqgan_revision=VQGAN_COMMIT),
        "min-dalle": MinDallePublication("_mini", BartConfig.dalle_mini(), mindalle.detoker_config()),
    },
    "dalle-mega": {
        "flax": FlaxPublication("dalle-mini/dalle-mega", vqgan_revision=VQGAN_COMMIT),
        "min-dalle": MinDallePublication("", BartConfig.dalle_mega(), mindalle.detoker_config()),
    },
}


def download_size(name: str, source: str = "flax") -> tuple[int, int]:
    """Find how much a download needs, without downloading anything but a few headers.

    Args:
        name, source: as for `download`.

    Returns:
        The bytes of the weights that are not in the cache yet, and the free bytes that the disk must have at most: for
        these and for the converted preset, which is never larger than all the published weights.

    Raises:
        DownloadError: if there is no such model or source, or if the hub does not answer.
    """
    publication: Publication = _choose(_choose(PUBLISHED, name, "published model"), source, f"source of {name}")
    sizes = [file_size(*weights) for weights in publication.weights()]
    missing = sum(size for size, is_cached in sizes if not is_cached)
    return missing, missing + sum(size for size, _ in sizes)


def download(
    name: str, source: str = "flax", dtype: str = "float16", report: Report = lambda *_: None
) -> tuple[Preset, list[str]]:
    """Download a published model and convert it to a preset, unless this preset exists already.

    Args:
        name: "dalle-mini" or "dalle-mega".
        source: the publication: "flax", the original, or "min-dalle", which is smaller and cannot encode pictures.
        dtype: the dtype of the stored weights: "float16", "bfloat16" or "float32".
        report: called during the conversion with what is converted, the bytes that are done, and their total.

    Returns:
        The preset, and sentences that the user should read.

    Raises:
        DownloadError: if there is no such model, source or dtype, or if the files cannot be downloaded.
        PublishedError: if the files are damaged or of another architecture.
        FileError: if the preset cannot be written.
    """
    publication = _choose(_choose(PUBLISHED, name, "published model"), source, f"source of {name}")
    _choose(DTYPES, dtype, "dtype")
    folder = downloads_folder() / name
    with _download_lock(folder):
        existing = _existing_preset(folder, source, dtype)
        if existing is not None:
            return existing, [f"{name} is in {folder} already."]
        try:
            model = publication.fetch()
            with _work_folder(folder) as work:
                _convert(model, name, work, DTYPES[dtype], report)
                origin = {"source": source, "dtype": dtype, "files": [file.record for file in model.files]}
                (work / ORIGIN_FILE).write_text(json.dumps(origin, indent=2) + "\n", encoding="utf-8")
                _replace_folder(folder, work)
        except OSError as fault:
            if disk_is_full(fault):
                raise DownloadError(
                    f"The disk is full at {folder.parent}; free some space and run the same command again."
                ) from fault
            raise FileError(f"{fault.filename or folder} cannot be written: {fault.strerror or fault}.") from fault
    return read_preset(folder), _remarks(model)


def _choose(known: dict[str, Any], name: str, what: str) -> Any:
    if name not in known:
        raise DownloadError(f"There is no {what} {name!r}; choose one of {', '.join(known)}.")
    return known[name]


def _remarks(model: PublishedModel) -> list[str]:
    remarks = []
    if model.vqgan.decoder_only:
        remarks.append("This source has no encoder: the preset can draw pictures, but not complete them.")
    if model.normalization == "dalle-mini" and FREQUENCIES_FILE not in {file.file for file in model.files}:
        remarks.append(f"The hub has no {FREQUENCIES_FILE}: hashtags in prompts are not split into words.")
    return remarks


def _existing_preset(folder: Path, source: str, dtype: str) -> Preset | None:
    """Read the preset if it was downloaded from this source in this dtype and is undamaged.

    Raises:
        DownloadError: if the folder was not made by a download.
    """
    if not folder.exists():
        return None
    try:
        origin = json.loads((folder / ORIGIN_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError) as fault:
        raise DownloadError(
            f"{folder} exists and was not downloaded (it has no readable {ORIGIN_FILE}); move it away and run the "
            "same command again."
        ) from fault
    if not isinstance(origin, dict) or (origin.get("source"), origin.get("dtype")) != (source, dtype):
        return None
    try:
        preset = read_preset(folder)
        for file in preset.files:
            preset.check(file)
    except (PresetError, OSError):
        return None
    return preset if preset.complete else None


# ---------------------------------------------------------------------------------------------- conversion


def _convert(model: PublishedModel, name: str, folder: Path, dtype: torch.dtype, report: Report) -> None:
    """Write a complete preset into an empty folder."""
    blocks: list[tuple[str, nn.Module, tuple[Path, Iterable[PublishedTensor]]]] = [
        ("vqgan", on_meta_device(lambda: VQGAN(model.vqgan)), model.vqgan_tensors),
        ("bart", on_meta_device(lambda: Bart(model.bart)), model.bart_tensors),
    ]
    weights = {
        block: converted(match_tensors(tensors, module, path), dtype, path) for block, module, (path, tensors) in blocks
    }
    total = sum(_size(tensor, dtype) for tensors in weights.values() for tensor in tensors.values())
    check_free_space(folder, total, f"{name} in {str(dtype).removeprefix('torch.')}")
    progress = _Progress(report, total)
    preset = save_preset(_preset(model, name), folder)
    for block, tensors in weights.items():
        file = f"{block}.safetensors"
        reported = {key: progress.reporting(f"converting {block}", tensor, dtype) for key, tensor in tensors.items()}
        preset = update_preset(preset, files={file: write_safetensors(folder / file, reported, dtype)})
    preset = add_file(preset, TOKENIZER_FILE, model.tokenizer.content())
    for file in model.files:
        if file.file == FREQUENCIES_FILE:
            preset = add_file(preset, FREQUENCIES_FILE, file.path.read_bytes())


def _preset(model: PublishedModel, name: str) -> Preset:
    try:
        return Preset(
            name=name,
            world="",
            picture_size=model.vqgan.resolution,
            vqgan=model.vqgan,
            bart=model.bart,
            clip=None,
            classifier=None,
            sampling=model.sampling,
            normalization=model.normalization,
        )
    except ValueError as fault:
        raise PublishedError(f"The blocks published as {name} do not fit together: {fault}") from fault


class _Progress:
    """Counts the bytes of the tensors that have been converted.

    Args:
        report: see `download`.
        total: the bytes of all tensors.
    """

    def __init__(self, report: Report, total: int) -> None:
        self.report, self.total, self.done = report, total, 0

    def reporting(self, what: str, tensor: LazyTensor, dtype: torch.dtype) -> LazyTensor:
        """Wrap a tensor so that reading it is reported."""

        def read() -> Tensor:
            value = tensor.read()
            self.done += _size(tensor, dtype)
            self.report(what, self.done, self.total)
            return value

        return LazyTensor(tensor.shape, read)


def _size(tensor: LazyTensor, dtype: torch.dtype) -> int:
    return math.prod(tensor.shape) * dtype.itemsize


# ---------------------------------------------------------------------------------------------- folders


@contextmanager
def _download_lock(folder: Path) -> Generator[None]:
    """Refuse a second download of the same preset while one is running."""
    parent = folder.parent / UNFINISHED
    with file_errors(parent):
        parent.mkdir(parents=True, exist_ok=True)
    try:
        lock = filelock.FileLock(parent / f"{folder.name}.lock", timeout=0).acquire()
    except filelock.Timeout as fault:
        raise DownloadError(f"Another download of {folder.name} is running; wait until it has finished.") from fault
    with lock:
        yield


@contextmanager
def _work_folder(folder: Path) -> Generator[Path]:
    """Make an empty folder, which is removed afterwards. Presets are not looked for in it."""
    work = folder.parent / UNFINISHED / folder.name
    shutil.rmtree(work, ignore_errors=True)  # an interrupted download may have left it
    work.mkdir(parents=True)
    try:
        yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _replace_folder(folder: Path, work: Path) -> None:
    """Move a complete folder to its place. The folder that was there is removed last, and restored if moving fails."""
    old = work.with_name(f"{folder.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        folder.replace(old)
    try:
        work.replace(folder)
    except OSError:
        if old.exists():
            old.replace(folder)
        raise
    shutil.rmtree(old, ignore_errors=True)
