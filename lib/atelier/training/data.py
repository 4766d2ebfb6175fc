"""Batches of captioned pictures: painted on the fly, or read from the learner's own folder.

There is no last batch, and `data[i]`, batch i, depends only on the seed and i. So a training run that is stopped and
resumed sees the same batches as one that was not, and each of n processes can take every nth batch.
"""

from __future__ import annotations

import csv
import hashlib
import io
import unicodedata
from collections.abc import Callable, Sequence
from contextlib import suppress
from copy import copy
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from atelier.arguments import shown, user_path
from atelier.errors import AtelierError, file_errors
from atelier.pictures import square
from atelier.world import HeldOut, Scene, World, caption, paint

CAPTIONS_FILE = "captions.csv"


class DataError(AtelierError):
    """Data cannot be read or made; the message says what is wrong, with the file and the row."""


@dataclass(frozen=True)
class Batch:
    """Pictures with their captions.

    Attributes:
        pictures: (n, 3, size, size) float32 in [0, 1].
        captions: n sentences.
        scenes: the n scenes that were painted, or None for pictures from a folder.
    """

    pictures: Tensor
    captions: list[str]
    scenes: list[Scene] | None = None

    def to(self, device: torch.device | str, layout: torch.memory_format = torch.contiguous_format) -> Batch:
        """Return the batch with its pictures on a device, in a memory layout."""
        return replace(self, pictures=self.pictures.to(device, non_blocking=True).contiguous(memory_format=layout))

    def copy(self) -> Batch:
        """Return the batch with a copy of its pictures."""
        return replace(self, pictures=self.pictures.clone())


class AnyBatch(Protocol):
    """What the training loop needs of a batch of any kind."""

    def to(self, device: torch.device | str, layout: torch.memory_format = ...) -> AnyBatch:
        """Return the batch on a device, its pictures in a memory layout."""
        ...

    def copy(self) -> AnyBatch:
        """Return the batch with copies of its tensors."""
        ...


BatchKind = TypeVar("BatchKind", bound=AnyBatch, covariant=True)


class Batches(Protocol[BatchKind]):
    """What the training loop needs of data: batch i for any i >= 0, the same one each time."""

    def __getitem__(self, number: int) -> BatchKind: ...


def derive_seed(*parts: Any) -> int:
    """Hash values to a seed in [0, 2^63); similar values give unrelated seeds."""
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def _check_number(number: int) -> None:
    """Check the number of a batch.

    Raises:
        IndexError: if it is negative.
    """
    if number < 0:
        raise IndexError(f"Batches are numbered from 0; number {number} was asked for.")


def _check_batch_size(batch_size: int) -> None:
    """Check the size of a batch.

    Raises:
        DataError: if it is below 1.
    """
    if batch_size < 1:
        raise DataError(f"A batch holds at least one picture; batch_size was {batch_size}.")


class Epochs:
    """Epochs without end over items, each epoch in its own random order.

    Args:
        length: the number of items.
        seed: the seed of the orders.
    """

    def __init__(self, length: int, seed: int) -> None:
        self.length, self.seed = length, seed
        self._epoch, self._order = -1, torch.empty(0, dtype=torch.long)

    def batch(self, number: int, size: int) -> list[int]:
        """List the items of a batch, which may end one epoch and begin the next.

        Args:
            number: the number of the batch.
            size: items in a batch.

        Raises:
            IndexError: if the number is negative.
        """
        _check_number(number)
        return [self._item(number * size + k) for k in range(size)]

    def _item(self, position: int) -> int:
        epoch, place = divmod(position, self.length)
        if epoch != self._epoch:
            generator = torch.Generator().manual_seed(derive_seed(self.seed, epoch))
            self._epoch, self._order = epoch, torch.randperm(self.length, generator=generator)
        return int(self._order[place])


@dataclass
class PaintedPictures:
    """Endless batches of painted pictures.

    Attributes:
        world: the world to paint.
        size: pixels on a side.
        batch_size: pictures in a batch.
        seed: the seed of the scenes; two seeds give unrelated pictures.
        held_out: "never" leaves the held-out combinations out, "allowed" paints all combinations, "only" paints only
            the held-out ones.
        device: where the pictures are painted.
        stride: the distance between the batch numbers that one process takes: the number of processes.
        paint_together: pictures painted in one group; several hundred together are painted faster than a few at a time.
        distinct: the number of different pictures, rounded up to whole groups. After them the same batches are repeated
            from memory, where a picture takes 3 · size · size bytes. None: every batch is new.

    Raises:
        DataError: if batch_size or distinct is below 1.
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
        _check_batch_size(self.batch_size)
        if self.distinct is not None and self.distinct < 1:
            raise DataError(f"distinct was {self.distinct}; it must be at least 1, or None for new pictures only.")
        self._together = max(1, self.paint_together // self.batch_size)  # batches in a group
        self._ready: dict[int, Batch] = {}

    def __getitem__(self, number: int) -> Batch:
        """Make batch `number`.

        Raises:
            IndexError: if the number is negative.
        """
        _check_number(number)
        if self.distinct is None:
            if number not in self._ready:
                self._ready = self._paint(self._group(number))
            return self._ready[number]
        number %= self._period(self.distinct)
        if number not in self._ready:
            for i, batch in self._paint(self._group(number)).items():
                self._ready[i] = replace(batch, pictures=(batch.pictures * 255).round().byte())
        stored = self._ready[number]
        return replace(stored, pictures=stored.pictures.float() / 255)

    def _period(self, distinct: int) -> int:
        """The number of batches, of all processes together, before they repeat; each process paints whole groups."""
        groups = -(-distinct // (self._together * self.batch_size * self.stride))
        return groups * self._together * self.stride

    def _group(self, number: int) -> list[int]:
        """List the numbers of the batches painted together with this one. It is the same list for each of them."""
        index, rank = divmod(number, self.stride)
        first = index // self._together * self._together
        return [(first + k) * self.stride + rank for k in range(self._together)]

    def _paint(self, numbers: list[int]) -> dict[int, Batch]:
        scenes_of = [
            self.world.sample(self.batch_size, seed=derive_seed(self.seed, number), held_out=self.held_out)
            for number in numbers
        ]
        pictures = paint([scene for scenes in scenes_of for scene in scenes], self.size, self.device)
        parts = pictures.split(self.batch_size)  # one (batch_size, 3, size, size) for each number
        return {
            number: Batch(part, [caption(scene) for scene in scenes], scenes)
            for number, part, scenes in zip(numbers, parts, scenes_of, strict=True)
        }


class CaptionedFolder:
    """Endless batches of the learner's own pictures.

    The folder holds a captions.csv with the columns file_name and text, and the pictures that it names. All pictures
    are read by the constructor, so that a fault in any row is found before training begins. They are cut to their
    central square, resized and kept in memory as bytes (12 kB for 64 × 64 pixels). Each epoch has all pictures in its
    own random order.

    Args:
        folder: the folder.
        size: pixels on a side.
        batch_size: pictures in a batch.
        seed: the seed of the orders.

    Raises:
        DataError: if captions.csv or one of its columns is missing, or if a picture is missing or unreadable or a
            caption is empty; the message then names the row as a spreadsheet counts them: the header is row 1.
    """

    def __init__(self, folder: str | Path, size: int, batch_size: int = 16, seed: int = 0) -> None:
        _check_batch_size(batch_size)
        folder = user_path(folder)
        rows = _read_captions(folder)
        self.captions = [text for *_, text in rows]
        self.pictures = torch.stack(  # (pictures, 3, size, size) uint8
            [_read_picture(folder, name, size, number) for number, name, _ in rows]
        )
        self.batch_size = batch_size
        self._epochs = Epochs(len(self.captions), seed)

    def __len__(self) -> int:
        """The number of pictures in the folder."""
        return len(self.captions)

    def __getitem__(self, number: int) -> Batch:
        """Make batch `number`, which may end one epoch and begin the next.

        Raises:
            IndexError: if the number is negative.
        """
        chosen = self._epochs.batch(number, self.batch_size)
        return Batch(self.pictures[chosen].float() / 255, [self.captions[i] for i in chosen])

    def in_batches(self, batch_size: int) -> CaptionedFolder:
        """Return the same pictures in batches of another size, without reading them again.

        Raises:
            DataError: if batch_size is below 1.
        """
        _check_batch_size(batch_size)
        other = copy(self)
        other.batch_size = batch_size
        return other


class PictureSource(Protocol):
    """A source of captioned pictures."""

    @property
    def identity(self) -> str:
        """A string that differs between sources of different pictures or captions."""
        ...

    @property
    def device(self) -> torch.device:
        """The device of the pictures of `portion`."""
        ...

    def batches(self, batch_size: int, distinct: int | None, held_out: HeldOut) -> Batches[Batch]:
        """Make endless batches; for `distinct` and `held_out` see `PaintedPictures`."""
        ...

    def count(self, wanted: int) -> int:
        """Return how many distinct pictures the source gives if `wanted` are wanted."""
        ...

    def portion(self, first: int, number: int, captions: int) -> tuple[Tensor, list[list[str]]]:
        """Make a portion of the pictures.

        Args:
            first: the index of its first picture.
            number: its number of pictures.
            captions: the largest number of captions per picture.

        Returns:
            Pictures (number, 3, size, size) in [0, 1], and the captions of each.
        """
        ...


@dataclass(frozen=True)
class PaintedSource:
    """A painted world as a source of pictures.

    Attributes:
        world, size, seed, device, paint_together: as for `PaintedPictures`.
        stride: the number of processes.
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
        """Make endless batches of painted pictures."""
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
        """Return the number wanted: a world gives any number of pictures."""
        return wanted

    def portion(self, first: int, number: int, captions: int) -> tuple[Tensor, list[list[str]]]:
        """Paint new scenes, without held-out combinations; the captions of a scene differ in wording."""
        scenes = self.world.sample(number, seed=derive_seed(self.seed, "portion", first))
        pictures = torch.cat(
            [
                paint(scenes[start : start + self.paint_together], self.size, self.device)
                for start in range(0, number, self.paint_together)
            ]
        )
        return pictures, [[caption(reworded(scene, k)) for k in range(captions)] for scene in scenes]


def reworded(scene: Scene, number: int) -> Scene:
    """Return the scene with another seed, which words its caption differently; number 0 is the scene itself."""
    return scene if number == 0 else replace(scene, seed=derive_seed(scene.seed, "wording", number) % 2**31)


@dataclass(frozen=True)
class FolderSource:
    """A folder of captioned pictures as a source; see `CaptionedFolder`.

    Attributes:
        folder: the folder with its captions.csv.
        size: pixels on a side.
        seed: the seed of the orders.
        device: where `portion` puts pictures; those of `batches` are on the CPU.
    """

    folder: Path
    size: int
    seed: int
    device: torch.device

    @cached_property
    def _content(self) -> CaptionedFolder:
        return CaptionedFolder(self.folder, self.size, seed=self.seed)

    @property
    def identity(self) -> str:
        """The number of pictures, their size and a hash of all pictures and captions."""
        digest = hashlib.sha256(self._content.pictures.numpy())
        digest.update(repr(self._content.captions).encode())
        return f"folder of {len(self._content)} pictures, {self.size} pixels, SHA-256 {digest.hexdigest()}"

    def batches(self, batch_size: int, distinct: int | None, held_out: HeldOut) -> CaptionedFolder:
        """Make endless batches of all pictures of the folder; `distinct` and `held_out` do not apply."""
        return self._content.in_batches(batch_size)

    def count(self, wanted: int) -> int:
        """Return the number of pictures in the folder."""
        return len(self._content)

    def portion(self, first: int, number: int, captions: int) -> tuple[Tensor, list[list[str]]]:
        """Return pictures in the order of captions.csv, each with its one caption."""
        pictures = self._content.pictures[first : first + number].to(self.device).float() / 255
        return pictures, [[text] for text in self._content.captions[first : first + number]]


def save_captioned(
    scenes: Sequence[Scene],
    folder: Path,
    size: int,
    paint: Callable[[Sequence[Scene], int], Tensor] = paint,
    caption: Callable[[Scene], str] = caption,
) -> None:
    """Paint scenes into a folder that `CaptionedFolder` can read: PNG files and captions.csv.

    Args:
        scenes: what to paint.
        folder: created if it does not exist. It must be empty, as earlier pictures would have no captions.
        size: pixels on a side.
        paint: paints scenes.
        caption: describes a scene.

    Raises:
        DataError: if the folder is not empty.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise DataError(f"{folder} is not empty; choose another folder, or remove what is in it.")
    digits, table = len(str(len(scenes) - 1)), io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(["file_name", "text"])
    for start in range(0, len(scenes), 256):
        group = scenes[start : start + 256]
        pixels = (paint(group, size) * 255).round().byte().permute(0, 2, 3, 1).numpy()
        for number, (scene, picture) in enumerate(zip(group, pixels, strict=True), start):
            name = f"{number:0{digits}}.png"
            Image.fromarray(picture).save(folder / name, optimize=True)
            writer.writerow([name, caption(scene)])
    (folder / CAPTIONS_FILE).write_text(table.getvalue(), encoding="utf-8", newline="")  # last: a kill leaves none


def _read_captions(folder: Path) -> list[tuple[int, str, str]]:
    """Read the rows of a folder's captions.csv: number, as a spreadsheet counts rows, file_name and text."""
    table = folder / CAPTIONS_FILE
    if not folder.is_dir():
        raise DataError(f"There is no folder {folder}; give one that holds pictures and a {CAPTIONS_FILE}.")
    if not table.is_file():
        raise DataError(f"{folder} holds no {CAPTIONS_FILE}; write one with the columns file_name and text.")
    rows: list[tuple[int, list[str]]] = []  # with their numbers; empty rows count, too
    number = 0
    try:
        with file_errors(table), table.open(newline="", encoding="utf-8-sig") as lines:
            for number, fields in enumerate(csv.reader(lines, strict=True), start=1):
                if fields:
                    rows.append((number, fields))
    except UnicodeDecodeError as fault:
        raise DataError(f"{table} cannot be read as a CSV file in UTF-8: {fault}.") from fault
    except csv.Error as fault:
        raise DataError(f"Row {number + 1} of {table} cannot be read ({fault}); {_csv_advice(str(fault))}") from fault
    columns = rows[0][1] if rows else []
    for column in ("file_name", "text"):
        if column not in columns:
            found = ", ".join(columns) or "none"
            other = next((mark for mark in (";", "\t") if mark in found), None)
            advice = f" Its fields are separated by {other!r}; separate them by commas." if other else ""
            raise DataError(
                f"{table} has no column {column}; its columns are: {found}. It needs file_name and text.{advice}"
            )
        if columns.count(column) > 1:
            raise DataError(f"{table} has {columns.count(column)} columns {column}; keep one of them.")
    if len(rows) == 1:
        raise DataError(f"{table} has no rows below its header; write one for each picture.")
    return [(number, *_checked_row(table, number, columns, fields)) for number, fields in rows[1:]]


def _csv_advice(fault: str) -> str:
    if "field limit" in fault:
        return "a field is too long for a caption, or a quote is opened and not closed."
    if "expected after" in fault:
        return "separate the fields by commas, and double a quote inside a caption."
    return 'a quote that is opened there must be closed, and a quote inside a caption must be doubled: "".'


def _checked_row(table: Path, number: int, columns: list[str], fields: list[str]) -> tuple[str, str]:
    if len(fields) > len(columns):
        raise DataError(
            f"Row {number} of {table} has more fields than columns; put a caption with a comma in quotes: "
            '1.png,"a cat, asleep".'
        )
    row = dict(zip(columns, fields, strict=False))
    name, text = row.get("file_name", "").strip(), row.get("text", "").strip()
    if not name:
        raise DataError(f"Row {number} of {table} names no file; fill in its file_name.")
    if not any(character.isprintable() and not character.isspace() for character in text):
        raise DataError(f"Row {number} of {table} ({name}) has an empty caption; fill in its text.")
    return name, text


def _picture_path(folder: Path, name: str) -> Path | None:
    """Find a picture by its name, also if captions.csv writes its accents in another form of Unicode; None: no file."""
    with suppress(AtelierError):
        for form in (name, unicodedata.normalize("NFC", name), unicodedata.normalize("NFD", name)):
            path = user_path(folder / form)
            with suppress(OSError):  # the name may be too long
                if path.is_file():
                    return path
    return None


def _advice(name: str) -> str:
    if "\\" in name:
        return "write / instead of \\ between folder and file"
    if len(name.split()) > 2 and not Path(name).suffix:
        return "it looks like a caption, so check whether the columns file_name and text are swapped"
    return "add it or remove the row"


def _read_picture(folder: Path, name: str, size: int, row: int) -> Tensor:
    """Read the central square of a picture as (3, size, size) uint8."""
    where = f"Row {row} of {folder / CAPTIONS_FILE} names {shown(name)}"
    path = _picture_path(folder, name)
    if path is None:
        raise DataError(f"{where}, but there is no such file; {_advice(name)}.")
    try:
        with Image.open(path) as opened:
            return square(opened, size)
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError) as fault:
        raise DataError(
            f"{where}, which cannot be read as a picture ({str(fault).rstrip('.')}); replace it or remove the row."
        ) from fault
