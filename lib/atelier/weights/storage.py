"""Files with their hashes: reading, checking and writing them, one writer at a time, and the weights in them.

Weights are stored in float16 and computed with in float32. Nothing is used before its hash, its names and its shapes
have been checked.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import filelock
import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from atelier.errors import AtelierError
from atelier.weights.codebooks import learning_only, with_statistics
from atelier.weights.streams import AnyModule, sha256

LOCK_FILE = ".lock"


class PresetError(AtelierError):
    """A preset cannot be used; the message names the file and the reason."""


# ---------------------------------------------------------------------------------------------- files


def holds(folder: Path, file: str) -> bool:
    """Whether a folder has a file. True also where that cannot be looked up: whoever reads the file learns why."""
    try:
        (folder / file).stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True
    return True


def read_json(path: Path) -> Any:
    """What a JSON file holds. Raises PresetError when it cannot be read or is damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as fault:
        raise unreadable(path, fault) from fault
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as fault:
        raise PresetError(f"{path} is not valid JSON ({fault}); restore the file.") from fault


def unreadable(path: Path, fault: OSError) -> PresetError:
    """The error for a file that the system does not let us read."""
    return PresetError(f"{path} cannot be read: {fault.strerror}.")


def read_recorded(path: Path, files: Mapping[str, str], record: str) -> bytes:
    """The content of a file, if it has the SHA-256 that is recorded of it.

    files: the SHA-256 by the file's name. record: the JSON file beside it that says so.

    Raises PresetError when the file is not recorded, missing, truncated or altered.
    """
    check_recorded(path, files, record)
    try:
        return path.read_bytes()
    except OSError as fault:
        raise unreadable(path, fault) from fault


def check_recorded(path: Path, files: Mapping[str, str], record: str) -> None:
    """Compare a file with what is recorded of it, without holding it in memory; raises as `read_recorded` does."""
    if path.name not in files:
        raise PresetError(f"{path.parent} has no {path.name} (its {record} records none).")
    if not holds(path.parent, path.name):
        raise PresetError(f"{path} is missing, though {path.parent / record} records it; restore the file.")
    try:
        found = sha256(path)
    except OSError as fault:
        raise unreadable(path, fault) from fault
    if found != files[path.name]:
        raise PresetError(
            f"{path} was truncated or altered: its {path.stat().st_size} bytes have the SHA-256 {found}, but "
            f"{record} records {files[path.name]}. Restore the file."
        )


@contextmanager
def only_writer(folder: Path) -> Generator[None]:
    """Wait until no other process or thread writes into a folder, and keep them waiting; the folder is made.

    What is recorded in a file beside earlier records has to be read and written within one such block.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(folder / LOCK_FILE):
        yield


def replace_file(path: Path, content: bytes) -> None:
    """Write a file whole, or leave the old one: a kill in between must not leave half of it."""
    # Several processes and threads may write the same file.
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}")
    unfinished.write_bytes(content)
    unfinished.replace(path)


# ---------------------------------------------------------------------------------------------- weights


def fill_in_weights(module: AnyModule, path: Path, record: str, as_stored: bool = False) -> AnyModule:
    """Fill a module with stored weights and put it into evaluation mode.

    Args:
        module: the model, of any weights.
        path: of the weights, as `stored_weights` writes them; its hash has been checked.
        record: the JSON file that holds the model's sizes, for errors.
        as_stored: keep the types that the file has, mostly float16, which take half the memory of float32.

    Returns:
        The module.

    Raises:
        PresetError: if the file is not whole, a name is missing or unknown, or a shape is not the module's. The module
            is then unchanged.
    """
    try:
        with safe_open(path, framework="pt") as file:
            shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
        _check_tensors(module, shapes, path, record)
        weights = {
            name: _read(path, name, None if as_stored else tensor.dtype) for name, tensor in _expected(module).items()
        }
    except SafetensorError as fault:
        raise PresetError(f"{path} is not a safetensors file: {fault}; restore the file.") from fault
    module.load_state_dict(with_statistics(module, weights), strict=True, assign=True)
    return module.eval()


def _read(path: Path, name: str, dtype: torch.dtype | None) -> Tensor:
    """A copy of one of a file's tensors, in the type given or its own."""
    # The file is opened for each tensor: what has been read of an open file stays mapped, and counts as memory in use.
    with safe_open(path, framework="pt") as file:
        stored = file.get_tensor(name)
    return stored.to(dtype or stored.dtype, copy=True)


def _expected(module: nn.Module) -> dict[str, Tensor]:
    """The tensors of a module that are stored."""
    left_out = learning_only(module)
    return {key: tensor for key, tensor in module.state_dict().items() if key not in left_out}


def _check_tensors(module: nn.Module, stored: Mapping[str, tuple[int, ...]], path: Path, record: str) -> None:
    """Raise PresetError unless a file's tensors, {name: shape}, are the module's."""
    expected = {key: tuple(tensor.shape) for key, tensor in _expected(module).items()}
    missing, unknown = sorted(expected.keys() - stored.keys()), sorted(stored.keys() - expected.keys())
    if missing or unknown:
        parts = [f"lacks {_some(missing)}"] * bool(missing) + [f"has the unknown {_some(unknown)}"] * bool(unknown)
        raise PresetError(f"{path} {' and '.join(parts)}; it belongs to a model of other sizes than {record} has.")
    for key, shape in expected.items():
        if stored[key] != shape:
            raise PresetError(f"{path} has {key} with the shape {stored[key]}, but {record} asks for {shape}.")


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def stored_weights(module: nn.Module) -> bytes:
    """A module's weights in float16, as the content of a safetensors file.

    Tensors that float16 cannot hold stay in float32, and whole numbers and flags are kept as they are. A codebook's
    statistics, which only training needs, are left out.
    """
    return safetensors.torch.save({key: _halved(tensor) for key, tensor in _expected(module).items()})


def _halved(tensor: Tensor) -> Tensor:
    tensor = tensor.detach().cpu().contiguous().clone()
    if not tensor.is_floating_point():
        return tensor
    half = tensor.half()
    return half if torch.isfinite(half).all() else tensor.float()
