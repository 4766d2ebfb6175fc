"""Tensors from one file to another, one at a time, so that a published model is converted without ever being in memory.

The library safetensors reads tensors one at a time, but writes a file only from tensors that are all in memory. What is
written here is its format: 8 bytes that give the length of the header; the header, a JSON object with the type, shape
and place of every tensor; then the numbers, one tensor after the other.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

AnyModule = TypeVar("AnyModule", bound=nn.Module)

NAMES = {torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16"}


class Source(NamedTuple):
    """A tensor that can be had when its turn comes."""

    shape: tuple[int, ...]
    read: Callable[[], Tensor]


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
