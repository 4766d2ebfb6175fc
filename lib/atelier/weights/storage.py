"""Files with recorded hashes, and weights in such files: reading, checking and writing.

Weights are stored in float16 and converted to float32 when they are loaded. Before a file is used, its hash and the
names and shapes of its tensors are checked. A lock lets only one process or thread write at a time.
"""

from __future__ import annotations

import glob
import json
import os
import threading
import time
from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import filelock
import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from atelier.errors import AtelierError
from atelier.weights.codebooks import moving_average_keys, with_moving_averages
from atelier.weights.streams import AnyModule, check_finite, sha256

MOST_LEVELS = 20  # of nested lists and objects in a JSON file
LOCK_FILE = ".lock"
PARTIAL = ".partial"  # the ending of temporary files
FLOATS, WHOLE = ("F16", "BF16", "F32"), ("BOOL", "I64", "I32", "U8")  # dtypes in safetensors files
LONG_AGO = 3600.0  # seconds; an older temporary file belongs to a process that was killed


class PresetError(AtelierError):
    """A preset cannot be used; the message names the file and the reason."""


# ---------------------------------------------------------------------------------------------- files


def has_file(folder: Path, file: str) -> bool:
    """Whether a folder has a file. True also if this cannot be determined; reading the file then raises the error."""
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
        values = json.loads(path.read_text(encoding="utf-8"))
    except OSError as fault:
        raise unreadable_error(path, fault) from fault
    except (ValueError, RecursionError) as fault:  # a ValueError also for a number of more than 4300 digits
        raise PresetError(f"{path} is not valid JSON ({str(fault).partition(';')[0]}); restore the file.") from fault
    _check_depth(values, path)
    return values


def _check_depth(values: Any, path: Path) -> None:
    """Refuse values that are nested so deeply that copying or printing them could fail."""
    level = [values]
    for _ in range(MOST_LEVELS):
        level = [inner for value in level if isinstance(value, dict | list) for inner in _inner(value)]
        if not level:
            return
    raise PresetError(f"{path} is not valid: it is nested more than {MOST_LEVELS} levels deep; restore the file.")


def _inner(value: dict[str, Any] | list[Any]) -> Iterable[Any]:
    return value.values() if isinstance(value, dict) else value


def unreadable_error(path: Path, fault: OSError) -> PresetError:
    """Make the error for a file that the operating system cannot read."""
    return PresetError(f"{path} cannot be read: {fault.strerror}.")


def read_checked(path: Path, files: Mapping[str, str], record: str) -> bytes:
    """Read a file after checking its hash.

    Args:
        path: the path of the file.
        files: the recorded SHA-256 of each file, by name.
        record: the name of the JSON file that records them, for error messages.

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
        raise PresetError(f"{path.parent} has no {path.name}: its {record} does not list this file.")
    if not has_file(path.parent, path.name):
        raise PresetError(f"{path} is missing, though {path.parent / record} lists it; restore the file.")
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
    """Lock a folder against other writers, in this process and in others; the folder is created if necessary.

    To update a file, read and write it within one such context. The temporary files of killed writers are removed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(folder / LOCK_FILE):
        remove_partial_files(folder)
        yield


def replace_file(path: Path, content: bytes) -> None:
    """Write a file atomically: after an interruption it has either the old content or the new.

    Raises:
        OSError: if it cannot be written; the old content is then kept, and the temporary file is removed.
    """
    # The temporary name is unique, as several processes and threads may write the same file.
    unfinished = path.with_name(f".{path.name[:100]}.{os.getpid()}.{threading.get_ident()}{PARTIAL}")
    try:
        unfinished.write_bytes(content)
        unfinished.replace(path)
    except OSError as fault:
        unfinished.unlink(missing_ok=True)
        raise OSError(fault.errno, fault.strerror, str(path)) from fault
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise
    remove_partial_files(path.parent, f".{path.name[:100]}.", older_than=LONG_AGO)


def remove_partial_files(folder: Path, prefix: str = ".", older_than: float = 0.0) -> None:
    """Remove the temporary files that `replace_file` leaves if its process is killed.

    Args:
        folder: where.
        prefix: of their names.
        older_than: seconds since the last change. 0 is safe only if nobody else writes in the folder.
    """
    for leftover in folder.glob(f"{glob.escape(prefix)}*{PARTIAL}"):
        with suppress(OSError):
            if time.time() - leftover.stat().st_mtime >= older_than:
                leftover.unlink()


# ---------------------------------------------------------------------------------------------- weights


def read_weights_into(module: AnyModule, path: Path, record: str, as_stored: bool = False) -> AnyModule:
    """Load stored weights into a module.

    Args:
        module: the model, with any weights.
        path: the path of the weights, in the format of `serialized_weights`; its hash has been checked.
        record: the name of the JSON file with the model's sizes, for error messages.
        as_stored: keep the dtypes of the file, mostly float16, which takes half the memory of float32.

    Returns:
        The module, in evaluation mode.

    Raises:
        PresetError: if the file is incomplete, a name is missing or unknown, or a shape differs. The module is then
            unchanged.
    """
    _check_header(module, path, record)
    weights = {
        name: _read(path, name, None if as_stored else tensor.dtype) for name, tensor in _stored_tensors(module).items()
    }
    module.load_state_dict(with_moving_averages(module, weights), strict=True, assign=True)
    return module.eval()


def _check_header(module: nn.Module, path: Path, record: str) -> None:
    """Compare the names, shapes and dtypes in the header of a file of weights with a module.

    Args:
        module: the model; it may be on the meta device.
        path, record: as for `read_weights_into`.

    Raises:
        PresetError: if the file is not a safetensors file, or is that of another model.
    """
    try:
        with safe_open(path, framework="pt") as file:
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
            shapes = {name: tuple(part.get_shape()) for name, part in slices.items()}
            dtypes = {name: str(part.get_dtype()) for name, part in slices.items()}
    except SafetensorError as fault:
        reason = " ".join(str(fault).split())[:200]
        raise PresetError(f"{path} is not a safetensors file: {reason}; restore the file.") from fault
    except OSError as fault:
        raise unreadable_error(path, fault) from fault
    _check_tensors(module, shapes, path, record)
    for name, tensor in _stored_tensors(module).items():
        expected = FLOATS if tensor.is_floating_point() else WHOLE
        if dtypes[name] not in expected:
            raise PresetError(f"{path} has {name} in {dtypes[name]}; expected is one of {', '.join(expected)}.")


def _read(path: Path, name: str, dtype: torch.dtype | None) -> Tensor:
    """Copy a tensor from a file; with the dtype None it keeps its own."""
    # The file is opened for each tensor: pages that were read from an open file stay mapped and count as memory in use.
    with safe_open(path, framework="pt") as file:
        stored = file.get_tensor(name)
    try:
        check_finite(stored)
    except ValueError as fault:
        raise PresetError(f"{path} cannot be used: {name}: {fault}; restore the file, or train it again.") from fault
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
        parts = [("lacks", missing), ("has the unknown", unknown)]
        found = " and ".join(f"{what} {_first_names(names)}" for what, names in parts if names)
        raise PresetError(f"{path} {found}; it belongs to a model of other sizes than in {record}.")
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
