"""Reading and writing tensors one at a time, so that a model is converted without holding all of it in memory.

The safetensors library reads single tensors, but writes a file only from tensors that are all in memory. This module
writes the same format: 8 bytes with the length of the header; the header, a JSON object with the dtype, shape and
offsets of every tensor; then the data of the tensors, one after the other.
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

DTYPE_NAMES = {torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16"}


class LazyTensor(NamedTuple):
    """A tensor that is read when it is needed.

    Attributes:
        shape: its shape.
        read: returns the tensor.
    """

    shape: tuple[int, ...]
    read: Callable[[], Tensor]


def write_safetensors(path: Path, tensors: Mapping[str, LazyTensor], dtype: torch.dtype) -> str:
    """Write tensors to a safetensors file, one at a time.

    Args:
        path: the path of the file.
        tensors: the tensors by name. `read` has to return the given shape and dtype.
        dtype: the dtype of all tensors.

    Returns:
        The SHA-256 of the file.
    """
    header, end = {}, 0
    for name, tensor in tensors.items():
        start, end = end, end + math.prod(tensor.shape) * dtype.itemsize
        header[name] = {"dtype": DTYPE_NAMES[dtype], "shape": list(tensor.shape), "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # aligns the data to 8 bytes
    digest = hashlib.sha256()
    with path.open("wb") as file:
        for content in (len(text).to_bytes(8, "little"), text):
            file.write(content)
            digest.update(content)
        for tensor in tensors.values():
            content = memoryview(tensor.read().flatten().view(torch.uint8).numpy())
            file.write(content)
            digest.update(content)
    return digest.hexdigest()


def check_finite(tensor: Tensor) -> Tensor:
    """Check that a tensor has no NaN and no infinity.

    Returns:
        The tensor.

    Raises:
        ValueError: if a value is not finite.
    """
    if tensor.is_floating_point() and tensor.numel():
        low, high = tensor.aminmax()  # NaN propagates to both, and no copy is made
        if not (low.isfinite() and high.isfinite()):
            name = str(tensor.dtype).removeprefix("torch.")
            raise ValueError(f"some values are not finite in {name}")
    return tensor


class _SkipNormalInit(TorchFunctionMode):
    """Skips the initialisation of parameters from a normal distribution, and its scaling with a number.

    A tensor on the meta device has no values to initialise, and the first call of such a function for it imports
    PyTorch's compiler, which takes seconds.
    """

    def __torch_function__(self, func: Any, types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None) -> Any:
        kwargs = kwargs or {}
        if func in (nn.init.normal_, Tensor.normal_):
            return args[0] if args else kwargs["tensor"]
        if func is torch.randn:
            return torch.empty(*args, **kwargs)
        if func in (Tensor.mul, Tensor.__mul__, Tensor.__rmul__) and isinstance(args[1], int | float):
            return args[0]
        return func(*args, **kwargs)


def on_meta_device(build: Callable[[], AnyModule]) -> AnyModule:
    """Build a module on the meta device: its parameters have names and shapes, but no memory.

    Args:
        build: constructs the module.

    Returns:
        The module, to be filled by `load_state_dict(..., assign=True)`.
    """
    with torch.device("meta"), _SkipNormalInit():
        return build()


def sha256(path: Path) -> str:
    """Compute the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
