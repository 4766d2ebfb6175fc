"""Files with recorded hashes, and weights in such files: reading, checking and writing.

Weights are stored in float16 and used in float32. The hash of a file and the names and shapes of its tensors are
checked before it is used. Locks allow only one writer at a time.
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
from atelier.weights.codebooks import moving_average_keys, with_moving_averages
from atelier.weights.streams import AnyModule, sha256

LOCK_FILE = ".lock"


class PresetError(AtelierError):
    """A preset cannot be used; the message names the file and the reason."""


# ---------------------------------------------------------------------------------------------- files


def has_file(folder: Path, file: str) -> bool:
    """Whether a folder has a file; True also if this cannot be determined, and reading the file then says why."""
    try:
        (folder / file).stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True
    return True


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        PresetError: if the file cannot be read or is damaged.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as fault:
        raise unreadable_error(path, fault) from fault
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as fault:
        raise PresetError(f"{path} is not valid JSON ({fault}); restore the file.") from fault


def unreadable_error(path: Path, fault: OSError) -> PresetError:
    """Make the error for a file that the operating system cannot read."""
    return PresetError(f"{path} cannot be read: {fault.strerror}.")


def read_checked(path: Path, files: Mapping[str, str], record: str) -> bytes:
    """Read a file after checking its hash.

    Args:
        path: of the file.
        files: the recorded SHA-256 of each file, by name.
        record: the name of the JSON file that records them, for errors.

    Returns:
        The content.

    Raises:
        PresetError: if the file is not recorded, missing, truncated or altered.
    """
    check_hash(path, files, record)
    try:
        return path.read_bytes()
    except OSError as fault:
        raise unreadable_error(path, fault) from fault


def check_hash(path: Path, files: Mapping[str, str], record: str) -> None:
    """Compare a file with its recorded hash; the arguments and errors are those of `read_checked`."""
    if path.name not in files:
        raise PresetError(f"{path.parent} has no {path.name} (its {record} does not record it).")
    if not has_file(path.parent, path.name):
        raise PresetError(f"{path} is missing, though {path.parent / record} records it; restore the file.")
    try:
        found = sha256(path)
    except OSError as fault:
        raise unreadable_error(path, fault) from fault
    if found != files[path.name]:
        raise PresetError(
            f"{path} was truncated or altered: its {path.stat().st_size} bytes have the SHA-256 {found}, but "
            f"{record} records {files[path.name]}. Restore the file."
        )


@contextmanager
def write_lock(folder: Path) -> Generator[None]:
    """Lock a folder against other writers, in this process and in others; it is created if necessary.

    An update of a file has to read and write it within one such context.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(folder / LOCK_FILE):
        yield


def replace_file(path: Path, content: bytes) -> None:
    """Write a file atomically: after an interruption it has either the old content or the new."""
    # The temporary name is unique, as several processes and threads may write the same file.
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}")
    unfinished.write_bytes(content)
    unfinished.replace(path)


# ---------------------------------------------------------------------------------------------- weights


def read_weights_into(module: AnyModule, path: Path, record: str, as_stored: bool = False) -> AnyModule:
    """Load stored weights into a module.

    Args:
        module: the model, with any weights.
        path: of the weights, in the format of `serialized_weights`; its hash has been checked.
        record: the name of the JSON file with the model's sizes, for errors.
        as_stored: keep the dtypes of the file, mostly float16, which takes half the memory of float32.

    Returns:
        The module, in evaluation mode.

    Raises:
        PresetError: if the file is incomplete, a name is missing or unknown, or a shape differs. The module is then
            unchanged.
    """
    try:
        with safe_open(path, framework="pt") as file:
            shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
        _check_tensors(module, shapes, path, record)
        weights = {
            name: _read(path, name, None if as_stored else tensor.dtype)
            for name, tensor in _stored_tensors(module).items()
        }
    except SafetensorError as fault:
        raise PresetError(f"{path} is not a safetensors file: {fault}; restore the file.") from fault
    module.load_state_dict(with_moving_averages(module, weights), strict=True, assign=True)
    return module.eval()


def _read(path: Path, name: str, dtype: torch.dtype | None) -> Tensor:
    """Copy a tensor from a file; with the dtype None it keeps its own."""
    # The file is opened for each tensor: pages that were read from an open file stay mapped and count as memory in use.
    with safe_open(path, framework="pt") as file:
        stored = file.get_tensor(name)
    return stored.to(dtype or stored.dtype, copy=True)


def _stored_tensors(module: nn.Module) -> dict[str, Tensor]:
    """Select the tensors of a module that are stored: all but the moving averages of codebooks."""
    not_stored = moving_average_keys(module)
    return {key: tensor for key, tensor in module.state_dict().items() if key not in not_stored}


def _check_tensors(module: nn.Module, stored: Mapping[str, tuple[int, ...]], path: Path, record: str) -> None:
    """Compare the shapes of a file's tensors, by name, with a module.

    Raises:
        PresetError: if a name is missing or unknown, or if a shape differs.
    """
    expected = {key: tuple(tensor.shape) for key, tensor in _stored_tensors(module).items()}
    missing, unknown = sorted(expected.keys() - stored.keys()), sorted(stored.keys() - expected.keys())
    if missing or unknown:
        parts = [f"lacks {_first_names(missing)}"] * bool(missing) + [
            f"has the unknown {_first_names(unknown)}"
        ] * bool(unknown)
        raise PresetError(f"{path} {' and '.join(parts)}; it belongs to a model of other sizes than in {record}.")
    for key, shape in expected.items():
        if stored[key] != shape:
            raise PresetError(f"{path} has {key} with the shape {stored[key]}, but {record} asks for {shape}.")


def _first_names(names: list[str]) -> str:
    """Join the first three names, followed by the number of the others."""
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def serialized_weights(module: nn.Module) -> bytes:
    """Serialize a module's weights in float16, as the content of a safetensors file.

    Tensors with values beyond the range of float16 stay in float32; integers and booleans keep their dtype. The moving
    averages of codebooks, which only training needs, are left out.
    """
    return safetensors.torch.save({key: _to_float16(tensor) for key, tensor in _stored_tensors(module).items()})


def _to_float16(tensor: Tensor) -> Tensor:
    tensor = tensor.detach().cpu().contiguous().clone()
    if not tensor.is_floating_point():
        return tensor
    half = tensor.half()
    return half if torch.isfinite(half).all() else tensor.float()
