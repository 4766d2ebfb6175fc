"""Batches of captioned pictures: painted on the fly, or read from the learner's own folder.

All data are endless and are asked by number: `data[i]` is batch i, a function of the seed and i alone. So
a training that is stopped and taken up again sees exactly the batches it would have seen, and several processes can
share the work by taking every n-th number.
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from atelier.errors import AtelierError
from atelier.pictures import square
from atelier.world import HeldOut, Scene, World, caption, paint

CAPTIONS_FILE = "captions.csv"


class DataError(AtelierError):
    """The data asked for cannot be read; the message names the file and the row."""


@dataclass(frozen=True)
class Batch:
    """Pictures with their captions.

    pictures: (n, 3, size, size) float32 in [0, 1].
    captions: n sentences.
    scenes: the n scenes that were painted, or None for pictures that nobody painted.
    """

    pictures: Tensor
    captions: list[str]
    scenes: list[Scene] | None = None

    def to(self, device: torch.device | str, layout: torch.memory_format = torch.contiguous_format) -> Batch:
        """The same batch with its pictures on another device, in a memory layout."""
        return replace(self, pictures=self.pictures.to(device, non_blocking=True).contiguous(memory_format=layout))

    def copy(self) -> Batch:
        """The same batch with pictures of its own."""
        return replace(self, pictures=self.pictures.clone())


class AnyBatch(Protocol):
    """What the loop does with a batch of any kind."""

    def to(self, device: torch.device | str, layout: torch.memory_format = ...) -> AnyBatch:
        """The same batch on another device, its pictures in a memory layout."""
        ...

    def copy(self) -> AnyBatch:
        """The same batch with tensors of its own."""
        ...


BatchKind = TypeVar("BatchKind", bound=AnyBatch, covariant=True)


class Batches(Protocol[BatchKind]):
    """What a training asks of its data: batch i for any i >= 0, the same one every time."""

    def __getitem__(self, number: int) -> BatchKind: ...


def in_bytes(batch: Batch) -> Batch:
    """The batch with pictures of 8 bits, as a file would keep them: (n, 3, size, size) uint8."""
    return replace(batch, pictures=(batch.pictures * 255).round().byte())


def mixed_seed(*parts: Any) -> int:
    """One seed in [0, 2^63) for a tuple of values, unrelated for neighbouring tuples."""
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


class Epochs:
    """Endless passes over `length` items, each in a random order of its own.

    Args:
        length: how many items there are.
        seed: two seeds give two unrelated sequences of orders.
    """

    def __init__(self, length: int, seed: int) -> None:
        self.length, self.seed = length, seed
        self._epoch, self._order = -1, torch.empty(0, dtype=torch.long)

    def batch(self, number: int, size: int) -> list[int]:
        """The items of batch `number`; a batch may end one epoch and begin the next.

        Raises:
            IndexError: for a negative number.
        """
        if number < 0:
            raise IndexError(f"Batches are numbered from 0; number {number} was asked for.")
        return [self._item(number * size + k) for k in range(size)]

    def _item(self, position: int) -> int:
        epoch, place = divmod(position, self.length)
        if epoch != self._epoch:
            generator = torch.Generator().manual_seed(mixed_seed(self.seed, epoch))
            self._epoch, self._order = epoch, torch.randperm(self.length, generator=generator)
        return int(self._order[place])


@dataclass
class PaintedPictures:
    """Endless batches of a painted world.

    size: pixels on a side. batch_size: pictures in a batch. seed: two seeds give two unrelated streams.
    held_out: "never" leaves the held-out combinations out, "allowed" paints everything, "only" paints nothing else.
    device: where the pictures are painted.
    stride: the distance between the numbers that will be asked for (the number of processes that share the work).
    paint_together: pictures painted in one go; a group of several hundred is painted faster than many small ones.
    distinct: how many pictures are painted, about (whole groups are); then the same batches come again, from memory,
    where a picture is 3 * size * size bytes. None: always new ones.
    """

    world: World
    size: int
    batch_size: int
    seed: int
    held_out: HeldOut = "never"
    device: torch.device | str = "cpu"
    stride: int = 1
    paint_together: int = 256
    distinct: int | None = None

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise DataError(f"A batch holds at least one picture; batch_size was {self.batch_size}.")
        if self.distinct is not None and self.distinct < 1:
            raise DataError(f"distinct was {self.distinct}; paint at least one picture, or None for always new ones.")
        self._together = max(1, self.paint_together // self.batch_size)  # batches in a group
        self._ready: dict[int, Batch] = {}

    def __getitem__(self, number: int) -> Batch:
        """Batch `number`. Raises IndexError for a negative number."""
        if number < 0:
            raise IndexError(f"Batches are numbered from 0; number {number} was asked for.")
        if self.distinct is None:
            if number not in self._ready:
                self._ready = self._paint(self._group(number))
            return self._ready[number]
        number %= self._round(self.distinct)
        if number not in self._ready:
            self._ready |= {own: in_bytes(batch) for own, batch in self._paint(self._group(number)).items()}
        kept = self._ready[number]
        return replace(kept, pictures=kept.pictures.float() / 255)

    def _round(self, distinct: int) -> int:
        """How many batches, over all processes, are painted before they come again: whole groups of each process."""
        groups = -(-distinct // (self._together * self.batch_size * self.stride))
        return groups * self._together * self.stride

    def _group(self, number: int) -> list[int]:
        """The numbers painted together with this one. Groups are fixed, so the pictures do not depend on the order."""
        turn, rank = divmod(number, self.stride)
        first = turn // self._together * self._together
        return [(first + k) * self.stride + rank for k in range(self._together)]

    def _paint(self, numbers: list[int]) -> dict[int, Batch]:
        drawn = [
            self.world.sample(self.batch_size, seed=mixed_seed(self.seed, number), held_out=self.held_out)
            for number in numbers
        ]
        pictures = paint([scene for scenes in drawn for scene in scenes], self.size, self.device)
        pieces = pictures.split(self.batch_size)  # one (batch_size, 3, size, size) for each number
        return {
            number: Batch(piece, [caption(scene) for scene in scenes], scenes)
            for number, piece, scenes in zip(numbers, pieces, drawn, strict=True)
        }


class CaptionedFolder:
    """Endless batches of the learner's own pictures.

    The folder holds a captions.csv with the columns file_name and text, and the pictures it names. Every picture is
    cut to its central square, resized and kept in memory as bytes (12 kB for one of 64×64), so that a fault in any
    row is found before training begins. Each epoch goes through all pictures in an order of its own.

    Raises DataError naming the row (1 is the first one under the header) for a missing file, an unreadable picture or
    an empty caption, and the file for a missing captions.csv or column.
    """

    def __init__(
        self,
        folder: str | Path,
        size: int,
        batch_size: int = 16,
        seed: int = 0,
        device: torch.device | str = "cpu",
    ) -> None:
        if batch_size < 1:
            raise DataError(f"A batch holds at least one picture; batch_size was {batch_size}.")
        rows = _read_captions(Path(folder))
        self.captions = [text for _, text in rows]
        self.pictures = torch.stack(  # (pictures, 3, size, size) uint8
            [_read_picture(Path(folder), name, size, number) for number, (name, _) in enumerate(rows, start=1)]
        )
        self.batch_size, self.device = batch_size, device
        self._epochs = Epochs(len(self.captions), seed)

    def __len__(self) -> int:
        """The number of pictures in the folder."""
        return len(self.captions)

    def __getitem__(self, number: int) -> Batch:
        """Batch `number`; a batch may end one epoch and begin the next. Raises IndexError for a negative number."""
        chosen = self._epochs.batch(number, self.batch_size)
        pictures = self.pictures[chosen].to(self.device).float() / 255
        return Batch(pictures, [self.captions[i] for i in chosen])


class PictureSource(Protocol):
    """Where captioned pictures come from."""

    @property
    def identity(self) -> str:
        """A string that differs for sources of different pictures or captions."""
        ...

    @property
    def device(self) -> torch.device:
        """Where pictures are made."""
        ...

    def batches(self, batch_size: int, distinct: int | None, held_out: HeldOut) -> Batches[Batch]:
        """Endless batches; for `distinct` and `held_out` see `PaintedPictures`."""
        ...

    def count(self, wanted: int) -> int:
        """How many distinct pictures there are to be had, if `wanted` are wanted."""
        ...

    def portion(self, first: int, number: int, captions: int) -> tuple[Tensor, list[list[str]]]:
        """Pictures first, first + 1, ...: (number, 3, size, size) in [0, 1], with up to so many captions for each."""
        ...


@dataclass(frozen=True)
class PaintedSource:
    """A painted world.

    Attributes:
        world: what is painted.
        size: pixels on a side.
        seed: two seeds give unrelated pictures.
        device: where the pictures are painted.
        stride: the number of processes that share the work.
        paint_together: see `PaintedPictures`.
    """

    world: World
    size: int
    seed: int
    device: torch.device
    stride: int = 1
    paint_together: int = 256

    @property
    def identity(self) -> str:
        """The world, the size and the seed."""
        return f"{self.world.name} world, {self.size} pixels, seed {self.seed}"

    def batches(self, batch_size: int, distinct: int | None, held_out: HeldOut) -> PaintedPictures:
        """Endless batches; see `PaintedPictures`."""
        return PaintedPictures(
            self.world,
            self.size,
            batch_size,
            self.seed,
            held_out=held_out,
            device=self.device,
            stride=self.stride,
            paint_together=self.paint_together,
            distinct=distinct,
        )

    def count(self, wanted: int) -> int:
        """As many as are wanted."""
        return wanted

    def portion(self, first: int, number: int, captions: int) -> tuple[Tensor, list[list[str]]]:
        """New scenes for each portion, without held-out combinations. The captions of a scene differ in wording."""
        scenes = self.world.sample(number, seed=mixed_seed(self.seed, "portion", first))
        pictures = torch.cat(
            [
                paint(scenes[start : start + self.paint_together], self.size, self.device)
                for start in range(0, number, self.paint_together)
            ]
        )
        return pictures, [[caption(worded(scene, k)) for k in range(captions)] for scene in scenes]


def worded(scene: Scene, number: int) -> Scene:
    """The same scene with another caption: `number` 0 is the scene itself."""
    return scene if number == 0 else replace(scene, seed=mixed_seed(scene.seed, "wording", number) % 2**31)


@dataclass(frozen=True)
class FolderSource:
    """A folder of captioned pictures; see `CaptionedFolder`.

    Attributes:
        folder: with its captions.csv.
        size: pixels on a side.
        seed: two seeds give other orders.
        device: where `portion` puts pictures.
    """

    folder: Path
    size: int
    seed: int
    device: torch.device

    @cached_property
    def _read(self) -> CaptionedFolder:
        return CaptionedFolder(self.folder, self.size, seed=self.seed)

    @property
    def identity(self) -> str:
        """A hash of all pictures and captions."""
        digest = hashlib.sha256(self._read.pictures.numpy())
        digest.update(repr(self._read.captions).encode())
        return f"folder of {len(self._read)} pictures, {self.size} pixels, SHA-256 {digest.hexdigest()}"

    def batches(self, batch_size: int, distinct: int | None, held_out: HeldOut) -> CaptionedFolder:
        """Endless batches; the folder's pictures are all there are, so `distinct` and `held_out` do not apply."""
        return CaptionedFolder(self.folder, self.size, batch_size, self.seed)

    def count(self, wanted: int) -> int:
        """The number of pictures in the folder."""
        return len(self._read)

    def portion(self, first: int, number: int, captions: int) -> tuple[Tensor, list[list[str]]]:
        """The folder's pictures in the order of captions.csv, each with its one caption."""
        pictures = self._read.pictures[first : first + number].to(self.device).float() / 255
        return pictures, [[text] for text in self._read.captions[first : first + number]]


def save_captioned(scenes: Sequence[Scene], folder: Path, size: int) -> None:
    """Paint scenes into a folder that `CaptionedFolder` reads: PNGs, `size` pixels on a side, and captions.csv."""
    folder.mkdir(parents=True, exist_ok=True)
    digits = len(str(len(scenes) - 1))
    with (folder / CAPTIONS_FILE).open("w", newline="", encoding="utf-8") as table:
        writer = csv.writer(table, lineterminator="\n")
        writer.writerow(["file_name", "text"])
        for start in range(0, len(scenes), 256):
            group = scenes[start : start + 256]
            pixels = (paint(group, size) * 255).round().byte().permute(0, 2, 3, 1).numpy()
            for number, (scene, picture) in enumerate(zip(group, pixels, strict=True), start):
                name = f"{number:0{digits}}.png"
                Image.fromarray(picture).save(folder / name, optimize=True)
                writer.writerow([name, caption(scene)])


def _read_captions(folder: Path) -> list[tuple[str, str]]:
    """The (file_name, text) pairs of a folder's captions.csv."""
    table = folder / CAPTIONS_FILE
    if not folder.is_dir():
        raise DataError(f"There is no folder {folder}; give one that holds pictures and a {CAPTIONS_FILE}.")
    if not table.is_file():
        raise DataError(f"{folder} holds no {CAPTIONS_FILE}; write one with the columns file_name and text.")
    try:
        with table.open(newline="", encoding="utf-8-sig") as lines:
            reader = csv.DictReader(lines)
            columns, rows = reader.fieldnames or [], list(reader)
    except (UnicodeDecodeError, csv.Error) as fault:
        raise DataError(f"{table} cannot be read as a CSV file in UTF-8: {fault}.") from fault
    for column in ("file_name", "text"):
        if column not in columns:
            found = ", ".join(columns) or "none"
            raise DataError(f"{table} has no column {column}; its columns are: {found}. It needs file_name and text.")
    if not rows:
        raise DataError(f"{table} has no rows; write one for every picture.")
    return [_checked_row(table, number, row) for number, row in enumerate(rows, start=1)]


def _checked_row(table: Path, number: int, row: dict[str, str | None]) -> tuple[str, str]:
    name, text = (row["file_name"] or "").strip(), (row["text"] or "").strip()
    if not name:
        raise DataError(f"Row {number} of {table} names no file; fill in its file_name.")
    if not text:
        raise DataError(f"Row {number} of {table} ({name}) has an empty caption; fill in its text.")
    return name, text


def _read_picture(folder: Path, name: str, size: int, row: int) -> Tensor:
    """The central square of a picture as (3, size, size) bytes."""
    where = f"Row {row} of {folder / CAPTIONS_FILE} names {name}"
    if not (folder / name).is_file():
        raise DataError(f"{where}, but there is no such file; add it or remove the row.")
    try:
        with Image.open(folder / name) as opened:
            return square(opened, size)
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError) as fault:
        raise DataError(
            f"{where}, which cannot be read as a picture ({fault}); replace it or remove the row."
        ) from fault
