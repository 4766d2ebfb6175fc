"""Tensors of PyTorch's pickled files (.pt, .ckpt), loaded with weights_only=True: such a file cannot run code.

The file is memory-mapped. Pages that were read from the mapping count as memory of the process until the mapping is
closed. Therefore the file is mapped again after some megabytes, and reading it needs little more memory than the copies
of its tensors.
"""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from atelier.weights.published.tensors import PublishedError, PublishedTensor

BYTES_PER_MAPPING = 8 * 2**20


class PickledFile:
    """A pickled file of named tensors.

    Args:
        path: the path of the file.
        key: the key of the state dict in the file; None if the file is the state dict. Lightning's checkpoints have
            "state_dict".
        allowed_classes: classes that may occur in the file, each with its full name there; they are never used.

    Attributes:
        shapes: the shape of each tensor, by name.

    Raises:
        PublishedError: if the file is missing or damaged, refers to other classes, or has no named tensors.
    """

    def __init__(
        self, path: Path, key: str | None = None, allowed_classes: Sequence[tuple[Callable, str]] = ()
    ) -> None:
        self.path, self.key = path, key
        self.allowed_classes: list[Callable | tuple[Callable, str]] = [*allowed_classes]
        self._state, self._bytes_read = self._open(), 0
        self.shapes = {name: tuple(tensor.shape) for name, tensor in self._state.items()}

    def read(self, name: str) -> Tensor:
        """Return one tensor. It lies in the mapping, so copy it before the next call."""
        if self._bytes_read > BYTES_PER_MAPPING:
            self._state = {}  # closes the old mapping before the new one is opened
            self._state, self._bytes_read = self._open(), 0
        tensor = self._state[name]
        self._bytes_read += tensor.nbytes
        return tensor

    def tensors(self, key_of: Callable[[str], str] = str) -> Iterator[PublishedTensor]:
        """List all tensors.

        Args:
            key_of: returns the key in our block for a name in the file; by default both are the same.

        Yields:
            The tensors in the order of the file.
        """
        for name, shape in self.shapes.items():
            yield PublishedTensor(name, key_of(name), shape, partial(self.read, name))

    def _open(self) -> dict[str, Tensor]:
        try:
            with torch.serialization.safe_globals(self.allowed_classes):
                # Files from before 2020 are not zip archives and cannot be mapped.
                mapped = zipfile.is_zipfile(self.path)
                if mapped:
                    _check_inflated(self.path)
                content = torch.load(self.path, map_location="cpu", weights_only=True, mmap=mapped)
        except PublishedError:
            raise
        except FileNotFoundError as fault:
            raise PublishedError(f"{self.path} is missing.") from fault
        except Exception as fault:  # a damaged file can raise any of a dozen classes
            if isinstance(fault, pickle.UnpicklingError) and "Unsupported global" in str(fault):
                raise PublishedError(
                    f"{self.path} contains more than weights, so it is not loaded: {_first_sentence(fault)}"
                ) from fault
            raise PublishedError(f"{self.path} is damaged, or not a PyTorch file: {_first_sentence(fault)}") from fault
        return self._state_dict(content)

    def _state_dict(self, content: Any) -> dict[str, Tensor]:
        if self.key is not None:
            content = content.get(self.key) if isinstance(content, dict) else None
        if not isinstance(content, dict) or not content or not all(map(_is_plain_tensor, content.values())):
            where = f" under {self.key!r}" if self.key else ""
            raise PublishedError(f"{self.path} does not hold named, dense tensors{where}.")
        return content


def _is_plain_tensor(value: Any) -> bool:
    """Whether a value is a dense tensor in memory that it does not share with itself, as an expanded tensor does."""
    return (
        isinstance(value, Tensor)
        and value.layout == torch.strided
        and value.device.type == "cpu"
        and value.nbytes <= value.untyped_storage().nbytes()
    )


def _check_inflated(path: Path) -> None:
    """Refuse a zip archive that is much larger when it is read; PyTorch stores tensors without compression."""
    with zipfile.ZipFile(path) as archive:
        size = sum(item.file_size for item in archive.infolist())
    if size > 2 * path.stat().st_size + 2**20:
        raise PublishedError(
            f"{path} is compressed and would have {size / 1e6:.0f} MB; PyTorch does not write such files."
        )


def _first_sentence(fault: Exception) -> str:
    """Shorten a message of many lines to the line that names a refused class, or else to its first line."""
    lines = [line.strip() for line in str(fault).splitlines() if line.strip()]
    named = next((line for line in lines if "GLOBAL" in line), lines[0] if lines else type(fault).__name__)
    return named.rstrip(".")[:200] + "."
