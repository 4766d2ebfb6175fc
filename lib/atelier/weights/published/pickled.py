"""Tensors of PyTorch's own files (.pt, .ckpt), unpickled as weights only: such a file cannot run code.

A file is mapped, not read. What has been touched of a mapping counts as memory of the process until the mapping goes,
so the file is mapped anew after some megabytes: copying out of it costs no more memory than the copies.
"""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from atelier.weights.published.pieces import PublishedError

MAPPED_AT_ONCE = 8 * 2**20  # bytes


class PickledFile:
    """A file of named tensors.

    Args:
        path: of the file.
        inside: where in it the tensors are, if not at its top: "state_dict" for Lightning's checkpoints.
        stand_ins: classes that may occur in the file, each with its name there; they are never used.

    Raises:
        PublishedError: the file is missing, damaged, holds other classes, or no tensors.
    """

    def __init__(self, path: Path, inside: str | None = None, stand_ins: Sequence[tuple[Callable, str]] = ()) -> None:
        self.path, self.inside = path, inside
        self.stand_ins: list[Callable | tuple[Callable, str]] = [*stand_ins]
        self._state, self._touched = self._open(), 0
        self.shapes = {name: tuple(tensor.shape) for name, tensor in self._state.items()}

    def read(self, name: str) -> Tensor:
        """One tensor, still in the mapping: copy it before the next one is read."""
        if self._touched > MAPPED_AT_ONCE:
            self._state = {}  # the old mapping goes before there is a new one
            self._state, self._touched = self._open(), 0
        tensor = self._state[name]
        self._touched += tensor.nbytes
        return tensor

    def _open(self) -> dict[str, Tensor]:
        try:
            with torch.serialization.safe_globals(self.stand_ins):
                # Files from before 2020 are no archives; they cannot be mapped.
                mapped = zipfile.is_zipfile(self.path)
                content = torch.load(self.path, map_location="cpu", weights_only=True, mmap=mapped)
        except FileNotFoundError as fault:
            raise PublishedError(f"{self.path} is missing.") from fault
        except Exception as fault:  # where a damaged file ends decides which of many classes is raised
            if isinstance(fault, pickle.UnpicklingError) and "Unsupported" in str(fault):
                raise PublishedError(
                    f"{self.path} does not only hold weights, so it is not opened: {_first_sentence(fault)}"
                ) from fault
            raise PublishedError(
                f"{self.path} is damaged, or no file of PyTorch's: {_first_sentence(fault)}"
            ) from fault
        return self._tensors(content)

    def _tensors(self, content: Any) -> dict[str, Tensor]:
        if self.inside is not None:
            content = content.get(self.inside) if isinstance(content, dict) else None
        if not isinstance(content, dict) or not content or not all(isinstance(x, Tensor) for x in content.values()):
            where = f" under {self.inside!r}" if self.inside else ""
            raise PublishedError(f"{self.path} does not hold named tensors{where}.")
        return content


def _first_sentence(fault: Exception) -> str:
    """The beginning of a message of many lines, ended like a sentence."""
    lines = [line.strip() for line in str(fault).splitlines() if line.strip()]
    named = next((line for line in lines if "GLOBAL" in line), lines[0] if lines else type(fault).__name__)
    return named.rstrip(".")[:200] + "."
