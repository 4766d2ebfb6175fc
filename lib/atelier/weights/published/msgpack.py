"""Flax's msgpack files: a tree of names with an array at each leaf.

The format is MessagePack's (its public specification); Flax puts an array into an extension of type 1, which holds a
shape, the name of a type and the numbers, and cuts arrays of 1 GiB and more into chunks. Here the file is only walked
through: the numbers stay where they are until an array, or one layer of it, is asked for. The `msgpack` package would
hold each of them three times on the way.
"""

from __future__ import annotations

import io
import math
import struct
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from atelier.weights.published.pieces import PublishedError

File = io.BufferedReader
ARRAY = 1  # Flax's extension type
CHUNKED = "__msgpack_chunked_array__"
DEEPEST = 64
TYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}

# What the bytes above the small numbers and the short forms begin: how the length that follows is written.
LENGTHS = {
    **dict.fromkeys((0xC4, 0xC7, 0xD9), ">B"),
    **dict.fromkeys((0xC5, 0xC8, 0xDA, 0xDC, 0xDE), ">H"),
    **dict.fromkeys((0xC6, 0xC9, 0xDB, 0xDD, 0xDF), ">I"),
}
NUMBERS = dict(zip(range(0xCA, 0xD4), (">f", ">d", ">B", ">H", ">I", ">Q", ">b", ">h", ">i", ">q"), strict=True))
CONSTANTS = {0xC0: None, 0xC2: False, 0xC3: True}


@dataclass(frozen=True)
class Run:
    """Bytes that lie one after the other in a file."""

    start: int
    size: int


@dataclass(frozen=True)
class Array:
    """Where a file holds an array: its numbers are those of its runs, one after the other."""

    path: Path
    dtype: torch.dtype
    shape: tuple[int, ...]
    runs: tuple[Run, ...]

    def __getitem__(self, i: int) -> Array:
        """The part of the array with index i along the first axis: what a stack holds of one layer."""
        shape = self.shape[1:]
        size = math.prod(shape) * self.dtype.itemsize
        return replace(self, shape=shape, runs=_cut(self.runs, i * size, size))

    def read(self) -> Tensor:
        """The numbers. Raises ValueError where the file ends too early."""
        tensor = torch.empty(self.shape, dtype=self.dtype)
        room = memoryview(tensor.flatten().view(torch.uint8).numpy())
        with self.path.open("rb") as file:
            for run in self.runs:
                _read_into(file, run.start, room[: run.size])
                room = room[run.size :]
        return tensor


def _read_into(file: File, start: int, room: memoryview) -> None:
    """Fill `room` with the file's bytes from `start` on. Raises ValueError where the file ends too early."""
    file.seek(start)
    while room:
        count = file.readinto(room)
        if not count:
            raise ValueError("it ends in the middle of a tensor")
        room = room[count:]


def _cut(runs: tuple[Run, ...], start: int, size: int) -> tuple[Run, ...]:
    """The runs that hold the bytes from `start` on."""
    cut, begin = [], 0
    for run in runs:
        first, last = max(start, begin), min(start + size, begin + run.size)
        if first < last:
            cut.append(Run(run.start + first - begin, last - first))
        begin += run.size
    return tuple(cut)


def read_msgpack(path: Path) -> dict[str, Array]:
    """The arrays of a Flax file by their names, such as "model/lm_head/kernel".

    Raises PublishedError when the file is missing, cut off, or no such file.
    """
    try:
        with path.open("rb") as file:
            tree = _Walk(file, path).value()
            if file.read(1):
                raise ValueError("it goes on after its end")
        return dict(_leaves(tree, ""))
    except FileNotFoundError as fault:
        raise PublishedError(f"{path} is missing.") from fault
    except OSError as fault:
        raise PublishedError(f"{path} cannot be read: {fault.strerror}.") from fault
    except (ValueError, TypeError, struct.error) as fault:
        raise PublishedError(f"{path} is not a whole msgpack file of Flax: {fault}.") from fault


class _Walk:
    """Reads one value of a file after the other; an array becomes the place where it lies."""

    def __init__(self, file: File, path: Path) -> None:
        self.file, self.path = file, path
        self.size = path.stat().st_size

    def take(self, count: int) -> bytes:
        if self.file.tell() + count > self.size:
            raise ValueError("it ends in the middle")
        return self.file.read(count)

    def number(self, form: str) -> Any:
        return struct.unpack(form, self.take(struct.calcsize(form)))[0]

    def value(self, depth: int = 0) -> Any:
        if depth > DEEPEST:
            raise ValueError("it is nested deeper than any model")
        code = self.number(">B")
        if code < 0x80 or code >= 0xE0:
            return code if code < 0x80 else code - 0x100
        if code in CONSTANTS:
            return CONSTANTS[code]
        if code in NUMBERS:
            return self.number(NUMBERS[code])
        if code < 0xC0:
            length = code & (0x1F if code >= 0xA0 else 0x0F)
        elif 0xD4 <= code <= 0xD8:
            length = 1 << (code - 0xD4)
        elif code in LENGTHS:
            length = self.number(LENGTHS[code])
        else:
            raise ValueError(f"the byte {code:#x} begins nothing")
        return self.sized(code, length, depth)

    def sized(self, code: int, length: int, depth: int) -> Any:
        """A value that says how long it is."""
        if 0xA0 <= code < 0xC0 or 0xD9 <= code <= 0xDB:
            return self.take(length).decode()
        if 0x90 <= code < 0xA0 or code in (0xDC, 0xDD):
            return [self.value(depth + 1) for _ in range(length)]
        if code < 0x90 or code in (0xDE, 0xDF):
            return self.table(length, depth)
        if code in (0xC4, 0xC5, 0xC6):
            return self.skip(length)
        return self.array(length, depth)

    def table(self, length: int, depth: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for _ in range(length):
            name = self.value(depth + 1)
            if not isinstance(name, str) or name in found:
                raise ValueError(f"the name {name!r} is none, or stands there twice")
            found[name] = self.value(depth + 1)
        return found

    def skip(self, length: int) -> Run:
        run = Run(self.file.tell(), length)
        if run.start + length > self.size:
            raise ValueError("it ends in the middle")
        self.file.seek(length, 1)
        return run

    def array(self, length: int, depth: int) -> Array:
        """Flax's extension: a list of shape, type and numbers."""
        kind = self.number(">b")
        end = self.file.tell() + length
        if kind != ARRAY:
            raise ValueError(f"it holds an extension of type {kind}, which is no array")
        parts = self.value(depth + 1)
        forms = [type(part) for part in parts] if isinstance(parts, list) else []
        if self.file.tell() != end or forms != [list, str, Run]:
            raise ValueError("an array in it does not consist of a shape, a type and numbers")
        shape, dtype, run = parts
        if dtype not in TYPES:
            raise ValueError(f"it holds numbers of type {dtype!r}; known are {', '.join(TYPES)}")
        return _array(self.path, TYPES[dtype], shape, (run,))


def _array(path: Path, dtype: torch.dtype, shape: list[int], runs: tuple[Run, ...]) -> Array:
    if any(not isinstance(side, int) or side < 0 for side in shape):
        raise ValueError(f"an array in it has the shape {shape}")
    array = Array(path, dtype, tuple(shape), runs)
    if math.prod(array.shape) * dtype.itemsize != sum(run.size for run in runs):
        raise ValueError(f"an array in it has the shape {shape}, but another number of bytes")
    return array


def _leaves(tree: Any, name: str) -> list[tuple[str, Array]]:
    if isinstance(tree, Array):
        return [(name, tree)]
    if not isinstance(tree, dict):
        raise ValueError(f"it has no array at {name or 'its top'}")
    if CHUNKED in tree:
        return [(name, _joined(tree))]
    return [leaf for key, branch in tree.items() for leaf in _leaves(branch, f"{name}/{key}" if name else key)]


def _joined(tree: dict[str, Any]) -> Array:
    """An array that Flax has cut into chunks: they are numbered, and so are the sides of its shape."""
    parts = [tree.get("chunks"), tree.get("shape")]
    chunks, shape = ([x[key] for key in sorted(x, key=int)] if isinstance(x, dict) else [] for x in parts)
    if not chunks or any(not isinstance(chunk, Array) or chunk.dtype != chunks[0].dtype for chunk in chunks):
        raise ValueError("an array in it is cut into chunks that do not belong together")
    return _array(chunks[0].path, chunks[0].dtype, shape, tuple(run for chunk in chunks for run in chunk.runs))
