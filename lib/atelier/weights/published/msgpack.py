"""Flax's msgpack files: a tree of names with an array at each leaf.

The format is MessagePack (see its public specification). Flax stores an array as an extension of type 1, which holds
its shape, the name of its dtype and its data, and cuts arrays of 1 GiB and more into chunks. This reader parses the
names and shapes only, and reads the data of an array, or of one of its layers, when it is needed. With a file of 400 MB
that is converted to float16, the `msgpack` package takes two (streaming) to three times as much memory and twice the
time.
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

from atelier.weights.published.tensors import PublishedError

ARRAY_EXTENSION = 1
CHUNKED = "__msgpack_chunked_array__"
MAXIMUM_DEPTH = 64
DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}

# The struct format of the length that follows the first byte of a value, for the values that have one.
LENGTHS = {
    **dict.fromkeys((0xC4, 0xC7, 0xD9), ">B"),
    **dict.fromkeys((0xC5, 0xC8, 0xDA, 0xDC, 0xDE), ">H"),
    **dict.fromkeys((0xC6, 0xC9, 0xDB, 0xDD, 0xDF), ">I"),
}
NUMBERS = dict(zip(range(0xCA, 0xD4), (">f", ">d", ">B", ">H", ">I", ">Q", ">b", ">h", ">i", ">q"), strict=True))
CONSTANTS = {0xC0: None, 0xC2: False, 0xC3: True}


@dataclass(frozen=True)
class ByteRange:
    """Consecutive bytes of a file.

    Attributes:
        start: offset of the first byte.
        size: number of bytes.
    """

    start: int
    size: int


@dataclass(frozen=True)
class Array:
    """An array that is still in its file.

    Attributes:
        path: the path of the file.
        dtype: the dtype of the array.
        shape: the shape of the array.
        ranges: where its data is, in order.
    """

    path: Path
    dtype: torch.dtype
    shape: tuple[int, ...]
    ranges: tuple[ByteRange, ...]

    def __getitem__(self, i: int) -> Array:
        """Index the first axis: layer i of stacked layers."""
        shape = self.shape[1:]
        size = math.prod(shape) * self.dtype.itemsize
        return replace(self, shape=shape, ranges=_slice(self.ranges, i * size, size))

    def read(self) -> Tensor:
        """Read the data.

        Raises:
            ValueError: if the file ends too early.
        """
        tensor = torch.empty(self.shape, dtype=self.dtype)
        data = memoryview(tensor.flatten().view(torch.uint8).numpy())
        with self.path.open("rb") as file:
            for part in self.ranges:
                file.seek(part.start)
                if file.readinto(data[: part.size]) < part.size:
                    raise ValueError("it ends in the middle of a tensor")
                data = data[part.size :]
        return tensor


def _slice(ranges: tuple[ByteRange, ...], start: int, size: int) -> tuple[ByteRange, ...]:
    """Select `size` bytes from `start` on, counted within the concatenated ranges."""
    selected, offset = [], 0
    for part in ranges:
        first, last = max(start, offset), min(start + size, offset + part.size)
        if first < last:
            selected.append(ByteRange(part.start + first - offset, last - first))
        offset += part.size
    return tuple(selected)


def read_msgpack(path: Path) -> dict[str, Array]:
    """Parse a Flax file.

    Args:
        path: the path of the file.

    Returns:
        The arrays by their names, such as "model/lm_head/kernel".

    Raises:
        PublishedError: if the file is missing or cut off, or is not a Flax file.
    """
    try:
        with path.open("rb") as file:
            tree = _Parser(file, path).value()
            if file.read(1):
                raise ValueError("there are bytes after its end")
        return dict(_leaves(tree, ""))
    except FileNotFoundError as fault:
        raise PublishedError(f"{path} is missing.") from fault
    except OSError as fault:
        raise PublishedError(f"{path} cannot be read: {fault.strerror}.") from fault
    except (ValueError, TypeError, struct.error) as fault:
        raise PublishedError(f"{path} is not a complete msgpack file of Flax: {fault}.") from fault


class _Parser:
    """Parses one value after the other; of an array it keeps the position instead of the data."""

    def __init__(self, file: io.BufferedReader, path: Path) -> None:
        self.file, self.path = file, path
        self.size = path.stat().st_size

    def take(self, count: int) -> bytes:
        if self.file.tell() + count > self.size:
            raise ValueError("it ends in the middle")
        return self.file.read(count)

    def number(self, form: str) -> Any:
        return struct.unpack(form, self.take(struct.calcsize(form)))[0]

    def value(self, depth: int = 0) -> Any:
        if depth > MAXIMUM_DEPTH:
            raise ValueError("it is nested deeper than a model can be")
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
            raise ValueError(f"no value starts with the byte {code:#x}")
        return self.sized(code, length, depth)

    def sized(self, code: int, length: int, depth: int) -> Any:
        """Parse a value whose length is known."""
        if 0xA0 <= code < 0xC0 or 0xD9 <= code <= 0xDB:
            return self.take(length).decode()
        if 0x90 <= code < 0xA0 or code in (0xDC, 0xDD):
            return [self.value(depth + 1) for _ in range(length)]
        if code < 0x90 or code in (0xDE, 0xDF):
            return self.mapping(length, depth)
        if code in (0xC4, 0xC5, 0xC6):
            return self.skip(length)
        return self.array(length, depth)

    def mapping(self, length: int, depth: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for _ in range(length):
            name = self.value(depth + 1)
            if not isinstance(name, str) or name in found:
                raise ValueError(f"the name {name!r} is not a string, or occurs twice")
            found[name] = self.value(depth + 1)
        return found

    def skip(self, length: int) -> ByteRange:
        data = ByteRange(self.file.tell(), length)
        if data.start + length > self.size:
            raise ValueError("it ends in the middle")
        self.file.seek(length, 1)
        return data

    def array(self, length: int, depth: int) -> Array:
        """Parse Flax's extension: a list of shape, dtype and data."""
        kind = self.number(">b")
        end = self.file.tell() + length
        if kind != ARRAY_EXTENSION:
            raise ValueError(f"it holds an extension of type {kind}, which is not an array")
        parts = self.value(depth + 1)
        types = [type(part) for part in parts] if isinstance(parts, list) else []
        if self.file.tell() != end or types != [list, str, ByteRange]:
            raise ValueError("an array in it does not consist of a shape, a dtype and data")
        shape, dtype, data = parts
        if dtype not in DTYPES:
            raise ValueError(f"it holds an array of dtype {dtype!r}; supported are {', '.join(DTYPES)}")
        return _array(self.path, DTYPES[dtype], shape, (data,))


def _array(path: Path, dtype: torch.dtype, shape: list[int], ranges: tuple[ByteRange, ...]) -> Array:
    if any(not isinstance(side, int) or side < 0 for side in shape):
        raise ValueError(f"an array in it has the shape {shape}")
    if math.prod(shape) * dtype.itemsize != sum(part.size for part in ranges):
        raise ValueError(f"an array in it has the shape {shape}, but another number of bytes")
    return Array(path, dtype, tuple(shape), ranges)


def _leaves(tree: Any, name: str) -> list[tuple[str, Array]]:
    """List the arrays of a tree with their names; `name` is that of the tree itself."""
    if isinstance(tree, Array):
        return [(name, tree)]
    if not isinstance(tree, dict):
        raise ValueError(f"it has no array at {name or 'its root'}")
    if CHUNKED in tree:
        return [(name, _joined(tree))]
    return [leaf for key, branch in tree.items() for leaf in _leaves(branch, f"{name}/{key}" if name else key)]


def _joined(tree: dict[str, Any]) -> Array:
    """Join an array that Flax has cut into chunks; the chunks and the sides of its shape have numbers as keys."""
    parts = [tree.get("chunks"), tree.get("shape")]
    chunks, shape = ([x[key] for key in sorted(x, key=int)] if isinstance(x, dict) else [] for x in parts)
    if not chunks or any(not isinstance(chunk, Array) or chunk.dtype != chunks[0].dtype for chunk in chunks):
        raise ValueError("an array in it is cut into chunks that do not belong together")
    return _array(chunks[0].path, chunks[0].dtype, shape, tuple(part for chunk in chunks for part in chunk.ranges))
