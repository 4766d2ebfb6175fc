"""The published DALL·E Minis as presets: fetched from the hub, converted, and put where presets are found by name.

What two projects published of the same models differs in form, so each has a class that turns its files into the same
thing: sizes, tensors and a tokenizer. The conversion goes tensor by tensor from file to file; a model of ten gigabytes
needs no ten gigabytes of memory. The preset appears as a whole or not at all.
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
from atelier.errors import FileError
from atelier.weights.preset import (
    FREQUENCIES_FILE,
    Preset,
    add_file,
    downloads_folder,
    read_preset,
    save_preset,
    update_preset,
)
from atelier.weights.published import flax, mindalle
from atelier.weights.published.hub import AbsentError, DownloadError, Fetched, fetch, is_full, room_for
from atelier.weights.published.pieces import Piece, PublishedError, matched, sources
from atelier.weights.published.tokenizer import read_tokenizer
from atelier.weights.storage import PresetError
from atelier.weights.streams import Source, described, write_safetensors
from atelier.weights.tokenizer import Tokenizer

ORIGIN_FILE = "origin.json"  # where a preset comes from: its mark as a download
UNFINISHED = ".unfinished"
DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32}

Report = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Contents:
    """What a publication holds, in a form that does not tell which one it was.

    Attributes:
        files: what was fetched.
        vqgan, bart: sizes.
        vqgan_pieces, bart_pieces: tensors, each with the folder or file that errors are to name.
        tokenizer: of bart.
        normalization: of the prompts, see `Preset`.
        sampling: what the publication's own code does by default.
    """

    files: list[Fetched]
    vqgan: VQGANConfig
    vqgan_pieces: tuple[Path, Iterable[Piece]]
    bart: BartConfig
    bart_pieces: tuple[Path, Iterable[Piece]]
    tokenizer: Tokenizer
    normalization: str | None
    sampling: dict[str, Any]


class Publication(Protocol):
    """A place where a model was published."""

    def fetch(self) -> Contents:
        """Get the files and look into them. Raises DownloadError or PublishedError."""
        ...


@dataclass(frozen=True)
class Flax:
    """The DALL·E Mini project's own publication of a model: see `flax`."""

    repository: str
    vqgan: str = "dalle-mini/vqgan_imagenet_f16_16384"
    frequencies: str = "dalle-mini/dalle-mini"  # where the list of words for hashtags is

    def fetch(self) -> Contents:
        """Two folders of Flax's, and a list of words if there is one."""
        bart = fetch(self.repository, [flax.CONFIG_FILE, flax.WEIGHTS_FILE])
        words = self._vocabulary()
        vqgan = fetch(self.vqgan, [flax.CONFIG_FILE, flax.WEIGHTS_FILE])
        folder, vqgan_folder = (files[flax.CONFIG_FILE].path.parent for files in (bart, vqgan))
        config = flax.bart_config(folder)
        normalizes = flax.normalizes_text(folder)
        return Contents(
            files=[*bart.values(), *words, *(self._frequencies() if normalizes else []), *vqgan.values()],
            vqgan=flax.vqgan_config(vqgan_folder),
            vqgan_pieces=(vqgan_folder / flax.WEIGHTS_FILE, flax.vqgan_pieces(vqgan_folder)),
            bart=config,
            bart_pieces=(folder / flax.WEIGHTS_FILE, flax.bart_pieces(folder, config)),
            tokenizer=read_tokenizer(words[0].path.parent, config.text_vocabulary),
            normalization="dalle-mini" if normalizes else None,
            sampling={"guidance": 10.0, "top_k": 50},
        )

    def _vocabulary(self) -> list[Fetched]:
        try:
            return [*fetch(self.repository, ["vocab.json", "merges.txt"]).values()]
        except AbsentError:
            return [*fetch(self.repository, ["tokenizer.json"]).values()]

    def _frequencies(self) -> list[Fetched]:
        try:
            return [*fetch(self.frequencies, [FREQUENCIES_FILE]).values()]
        except AbsentError:
            return []


@dataclass(frozen=True)
class MinDalle:
    """The min-dalle project's publication of a model: see `mindalle`. suffix: of its files' names."""

    suffix: str
    bart: BartConfig
    vqgan: VQGANConfig
    repository: str = "kuprel/min-dalle"

    def fetch(self) -> Contents:
        """Three files of PyTorch's and two of words."""
        encoder, decoder = (f"{stack}{self.suffix}.pt" for stack in ("encoder", "decoder"))
        words = [f"vocab{self.suffix}.json", f"merges{self.suffix}.txt"]
        files = fetch(self.repository, [*words, "detoker.pt", encoder, decoder])
        paths = {name: file.path for name, file in files.items()}
        folder = paths[encoder].parent
        return Contents(
            files=[*files.values()],
            vqgan=self.vqgan,
            vqgan_pieces=(paths["detoker.pt"], mindalle.detoker_pieces(paths["detoker.pt"])),
            bart=self.bart,
            bart_pieces=(folder, mindalle.bart_pieces(paths[encoder], paths[decoder])),
            tokenizer=read_tokenizer(folder, self.bart.text_vocabulary, by_blanks=True, suffix=self.suffix),
            normalization="min-dalle",
            sampling={"guidance": 16.0, "top_k": 256},
        )


PUBLISHED: dict[str, dict[str, Publication]] = {
    "dalle-mini": {
        "flax": Flax("dalle-mini/dalle-mini"),
        "min-dalle": MinDalle("_mini", BartConfig.dalle_mini(), mindalle.detoker_config()),
    },
    "dalle-mega": {
        "flax": Flax("dalle-mini/dalle-mega"),
        "min-dalle": MinDalle("", BartConfig.dalle_mega(), mindalle.detoker_config()),
    },
}


def download(
    name: str, source: str = "flax", dtype: str = "float16", report: Report = lambda *_: None
) -> tuple[Preset, list[str]]:
    """Make a published model a preset; where it is one already, nothing is contacted.

    Args:
        name: "dalle-mini" or "dalle-mega".
        source: whose publication: "flax", the original, or "min-dalle", which is smaller and cannot encode pictures.
        dtype: of the stored numbers: "float16", "bfloat16" or "float32".
        report: called during the conversion with what is converted, and how many bytes are done, of how many.

    Returns:
        The preset, and sentences that the user should read.

    Raises:
        DownloadError: there is no such model, source or dtype; or the files cannot be had.
        PublishedError: the files are not what they should be.
    """
    publication = _choice(_choice(PUBLISHED, name, "published model"), source, f"source of {name}")
    _choice(DTYPES, dtype, "dtype")
    folder = downloads_folder() / name
    with _alone(folder):
        present = _present(folder, source, dtype)
        if present is not None:
            return present, [f"{name} is there already, in {folder}."]
        try:
            contents = publication.fetch()
            with _unfinished(folder) as made:
                _convert(contents, name, made, DTYPES[dtype], report)
                records = [file.record for file in contents.files]
                _write_json(made / ORIGIN_FILE, {"source": source, "dtype": dtype, "files": records})
                _put(made, folder)
        except OSError as fault:
            if is_full(fault):
                raise DownloadError(f"The disk is full at {folder.parent}; make room, then run it again.") from fault
            raise FileError(f"{fault.filename or folder} cannot be written: {fault.strerror or fault}.") from fault
    return read_preset(folder), _remarks(contents)


def _choice(known: dict[str, Any], name: str, what: str) -> Any:
    if name not in known:
        raise DownloadError(f"There is no {what} {name!r}; choose one of {', '.join(known)}.")
    return known[name]


def _remarks(contents: Contents) -> list[str]:
    remarks = []
    if contents.vqgan.decoder_only:
        remarks.append("This source holds no encoder: pictures can be drawn, but not completed.")
    if contents.normalization == "dalle-mini" and FREQUENCIES_FILE not in {file.file for file in contents.files}:
        remarks.append(
            f"The hub has no {FREQUENCIES_FILE}: hashtags in prompts are not taken apart, they lose their #."
        )
    return remarks


def _present(folder: Path, source: str, dtype: str) -> Preset | None:
    """The preset, if it was downloaded in this form and is sound. Raises DownloadError for a folder of other origin."""
    if not folder.exists():
        return None
    try:
        origin = json.loads((folder / ORIGIN_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError) as fault:
        raise DownloadError(
            f"{folder} is there already, and was not downloaded (it has no {ORIGIN_FILE} that can be read); move it "
            "away, then run this again."
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


def _convert(contents: Contents, name: str, folder: Path, dtype: torch.dtype, report: Report) -> Preset:
    """Write a whole preset into an empty folder."""
    blocks: list[tuple[str, nn.Module, tuple[Path, Iterable[Piece]]]] = [
        ("vqgan", described(lambda: VQGAN(contents.vqgan)), contents.vqgan_pieces),
        ("bart", described(lambda: Bart(contents.bart)), contents.bart_pieces),
    ]
    plans = {block: sources(matched(pieces, module, path), dtype, path) for block, module, (path, pieces) in blocks}
    total = sum(_size(source, dtype) for plan in plans.values() for source in plan.values())
    room_for(folder, total, f"{name} in this form")
    preset = save_preset(_preset(contents, name), folder)
    progress = _Progress(report, total)
    for block, plan in plans.items():
        file = f"{block}.safetensors"
        watched = {place: progress.watching(block, source, dtype) for place, source in plan.items()}
        preset = update_preset(preset, files={file: write_safetensors(folder / file, watched, dtype)})
    preset = add_file(preset, "tokenizer.json", contents.tokenizer.content())
    for fetched in contents.files:
        if fetched.file == FREQUENCIES_FILE:
            preset = add_file(preset, FREQUENCIES_FILE, fetched.path.read_bytes())
    return preset


def _preset(contents: Contents, name: str) -> Preset:
    try:
        return Preset(
            name=name,
            world="",
            picture_size=contents.vqgan.resolution,
            vqgan=contents.vqgan,
            bart=contents.bart,
            clip=None,
            classifier=None,
            sampling=contents.sampling,
            normalization=contents.normalization,
        )
    except ValueError as fault:
        raise PublishedError(f"The blocks that were published as {name} do not fit together: {fault}") from fault


class _Progress:
    """Counts the bytes of tensors while they are read."""

    def __init__(self, report: Report, total: int) -> None:
        self.report, self.total, self.done = report, total, 0

    def watching(self, block: str, source: Source, dtype: torch.dtype) -> Source:
        def read() -> Tensor:
            tensor = source.read()
            self.done += _size(source, dtype)
            self.report(f"converting {block}", self.done, self.total)
            return tensor

        return Source(source.shape, read)


def _size(source: Source, dtype: torch.dtype) -> int:
    return math.prod(source.shape) * dtype.itemsize


# ---------------------------------------------------------------------------------------------- all or nothing


@contextmanager
def _alone(folder: Path) -> Generator[None]:
    """Only one process at a time makes a preset."""
    place = folder.parent / UNFINISHED
    place.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(place / f"{folder.name}.lock", timeout=0)
    try:
        lock.acquire()
    except filelock.Timeout as fault:
        raise DownloadError(f"Another download of {folder.name} is under way; let it finish.") from fault
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _unfinished(folder: Path) -> Generator[Path]:
    """An empty folder to work in, which is gone afterwards, and in which nobody looks for presets."""
    work = folder.parent / UNFINISHED / folder.name
    shutil.rmtree(work, ignore_errors=True)  # a killed download has left it
    work.mkdir(parents=True)
    try:
        yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _put(made: Path, folder: Path) -> None:
    """Move a finished folder to its place; the one that stood there goes only then."""
    old = made.with_name(f"{folder.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        folder.replace(old)
    try:
        made.replace(folder)
    except OSError:
        if old.exists():
            old.replace(folder)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _write_json(path: Path, values: Any) -> None:
    path.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
