"""Tensors in files, one at a time: no file is ever in memory as a whole, so loading takes little more than the weights.

The files are safetensors: 8 bytes that tell the length of the header; the header, a JSON object with the type, shape
and place of every tensor; then the numbers, one tensor after the other.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

AnyModule = TypeVar("AnyModule", bound=nn.Module)

TYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
File = io.BufferedReader | io.BytesIO
NAMES = {dtype: name for name, dtype in TYPES.items()}


@dataclass(frozen=True)
class Stored:
    """Where a file holds a tensor."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    start: int  # bytes from the beginning of the file

    @property
    def size(self) -> int:
        """How many bytes its numbers take."""
        return math.prod(self.shape) * self.dtype.itemsize

    def read(self, file: File) -> Tensor:
        """The tensor. Raises ValueError where the file ends too early."""
        tensor = torch.empty(self.shape, dtype=self.dtype)
        read_into(file, self.start, memoryview(tensor.flatten().view(torch.uint8).numpy()))
        return tensor


class Source(NamedTuple):
    """A tensor that can be had when its turn comes."""

    shape: tuple[int, ...]
    read: Callable[[], Tensor]


def read_into(file: File, start: int, room: memoryview) -> None:
    """Fill `room` with the file's bytes from `start` on. Raises ValueError where the file ends too early."""
    file.seek(start)
    while room:
        count = file.readinto(room)
        if not count:
            raise ValueError("it ends in the middle of a tensor")
        room = room[count:]


def safetensors_index(file: File) -> dict[str, Stored]:
    """What a safetensors file holds, by name. Raises ValueError where it is no such file, or not all of one."""
    file.seek(0, 2)
    size = file.tell()
    file.seek(0)
    begin = 8 + int.from_bytes(file.read(8), "little")
    if size < 8 or begin > size:
        raise ValueError("its header is not complete")
    try:
        header = json.loads(file.read(begin - 8))
        header.pop("__metadata__", None)
        index = {name: _stored(entry, begin) for name, entry in header.items()}
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as fault:
        raise ValueError("its header does not say what it holds") from fault
    end = begin
    for entry in sorted(index.values(), key=lambda entry: entry.start):
        if entry.start != end:
            raise ValueError("its tensors do not lie one after the other")
        end += entry.size
    if end != size:
        raise ValueError(f"its header describes {end} bytes, but it has {size}")
    return index


def _stored(entry: Any, begin: int) -> Stored:
    start, end = entry["data_offsets"]
    stored = Stored(TYPES[entry["dtype"]], tuple(entry["shape"]), begin + start)
    if min(stored.shape, default=0) < 0 or stored.size != end - start:
        raise ValueError(f"{entry} does not add up")
    return stored


def write_safetensors(path: Path, tensors: Mapping[str, Source], dtype: torch.dtype) -> str:
    """Write tensors one by one, in one type, and return the SHA-256 of the file.

    What a source gives has to have the shape that it was said to have, and that type.
    """
    header, end = {}, 0
    for name, source in tensors.items():
        start, end = end, end + math.prod(source.shape) * dtype.itemsize
        header[name] = {"dtype": NAMES[dtype], "shape": list(source.shape), "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # so that the numbers lie at multiples of 8
    digest = hashlib.sha256()
    with path.open("wb") as file:
        for content in (len(text).to_bytes(8, "little"), text):
            file.write(content)
            digest.update(content)
        for source in tensors.values():
            content = memoryview(source.read().flatten().view(torch.uint8).numpy())
            file.write(content)
            digest.update(content)
    return digest.hexdigest()


def checked(tensor: Tensor) -> Tensor:
    """The tensor itself. Raises ValueError for numbers that are not finite, as none of a model are."""
    if tensor.is_floating_point() and tensor.numel():
        low, high = tensor.aminmax()  # a number that is none spreads to both, and no copy is made
        if not (low.isfinite() and high.isfinite()):
            name = str(tensor.dtype).removeprefix("torch.")
            raise ValueError(f"there are numbers in it that are not finite in {name}")
    return tensor


class _Unfilled(TorchFunctionMode):
    """Leaves tensors as they are where a constructor would draw normal numbers for them.

    Without numbers there is nothing to draw; and the first time that PyTorch draws where it has no memory to draw into,
    it imports its compiler, which takes seconds.
    """

    def __torch_function__(self, func: Any, types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None) -> Any:
        kwargs = kwargs or {}
        if func in (nn.init.normal_, Tensor.normal_):
            return args[0] if args else kwargs["tensor"]
        return func(*args, **kwargs)


def described(build: Callable[[], AnyModule]) -> AnyModule:
    """A block without numbers, only names and shapes: those of a file can become its own, with no memory for others."""
    with torch.device("meta"), _Unfilled():
        return build()


def sha256(path: Path) -> str:
    """The SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
