"""Files from the hub: fetched once, kept in huggingface_hub's own cache, and compared with the hub's hash of them.

Nothing is contacted for a file that is there. $HF_ENDPOINT names another hub, $HF_HOME another place for the cache.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import huggingface_hub
from huggingface_hub import constants
from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError, RepositoryNotFoundError

from atelier.errors import AtelierError
from atelier.weights.streams import sha256

SHA256, GIT_SHA1 = re.compile("[0-9a-f]{64}"), re.compile("[0-9a-f]{40}")


class DownloadError(AtelierError):
    """A file cannot be had; the message says why, and what to do."""


class AbsentError(DownloadError):
    """The hub has no such file."""


@dataclass(frozen=True)
class Fetched:
    """A file that is here now, whole and unaltered.

    Attributes:
        repository, file: its names on the hub.
        commit: the state of the repository that it belongs to.
        sha256: of its content.
        path: where it is.
    """

    repository: str
    file: str
    commit: str
    sha256: str
    path: Path

    @property
    def record(self) -> dict[str, str | int]:
        """What there is to remember of it."""
        size = self.path.stat().st_size
        values = {"repository": self.repository, "file": self.file, "commit": self.commit, "sha256": self.sha256}
        return {**values, "bytes": size}


def fetch(repository: str, files: Iterable[str]) -> dict[str, Fetched]:
    """Files of one state of a repository, from the cache where they are there, else from the hub.

    Raises:
        AbsentError: the repository has no such file.
        DownloadError: there is no connection, no room, no such repository, or what arrived is not what was sent.
    """
    fetched: dict[str, Fetched] = {}
    revision: str | None = None
    for file in files:
        path = _cached(repository, file, revision) or _downloaded(repository, file, revision)
        revision = path.parents[len(Path(file).parts) - 1].name  # …/snapshots/COMMIT/FILE
        fetched[file] = Fetched(repository, file, revision, _checked(path), path)
    return fetched


def room_for(folder: Path, size: int, what: str) -> None:
    """Raise DownloadError unless a folder, which need not exist yet, has room for `size` bytes."""
    there = next(place for place in (folder, *folder.parents) if place.exists())
    free = shutil.disk_usage(there).free
    if free < size:
        raise DownloadError(
            f"{what} needs {size / 1e9:.2f} GB, but there are only {free / 1e9:.2f} GB free at {there}; make room and "
            "run the same command again."
        )


def is_full(fault: BaseException | None) -> bool:
    """Whether an error, or one that it came from, says that the disk is full."""
    while fault is not None:
        if isinstance(fault, OSError) and fault.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        fault = fault.__cause__ or fault.__context__
    return False


def _cached(repository: str, file: str, revision: str | None) -> Path | None:
    try:
        return Path(huggingface_hub.hf_hub_download(repository, file, revision=revision, local_files_only=True))
    except LocalEntryNotFoundError:
        return None


def _downloaded(repository: str, file: str, revision: str | None) -> Path:
    endpoint = os.environ.get("HF_ENDPOINT") or constants.ENDPOINT
    try:
        url = huggingface_hub.hf_hub_url(repository, file, revision=revision, endpoint=endpoint)
        size = huggingface_hub.get_hf_file_metadata(url).size or 0
        room_for(Path(constants.HF_HUB_CACHE), size, f"{file} of {repository}")
        path = Path(huggingface_hub.hf_hub_download(repository, file, revision=revision, endpoint=endpoint))
    except DownloadError:
        raise
    except EntryNotFoundError as fault:
        if isinstance(fault, LocalEntryNotFoundError):
            raise _unreachable(repository, file, endpoint, fault) from fault
        raise AbsentError(f"{repository} at {endpoint} has no file {file}.") from fault
    except RepositoryNotFoundError as fault:
        raise DownloadError(f"There is no repository {repository} at {endpoint}, or it is not public.") from fault
    except Exception as fault:  # the classes of a broken connection change with the library that the hub's client uses
        if is_full(fault):
            raise DownloadError(
                f"The disk is full: {file} of {repository} did not fit; make room and run the same command again."
            ) from fault
        raise _unreachable(repository, file, endpoint, fault) from fault
    _sweep(path)
    return path


def _unreachable(repository: str, file: str, endpoint: str, fault: Exception) -> DownloadError:
    reason = (str(fault).strip() or type(fault).__name__).splitlines()[0].rstrip(".")
    return DownloadError(
        f"{file} of {repository} could not be downloaded from {endpoint}: {reason}. Check the connection and run the "
        "same command again; files that are complete are kept."
    )


def _checked(path: Path) -> str:
    """The SHA-256 of a cached file, if it is what the hub has.

    The cache names a file's content by the hub's tag of it: the SHA-256 of large files, git's SHA-1 of small ones.
    Where the file system knows no links, there is no such name, and the record beside the preset is all there is.
    """
    tag = path.readlink().name if path.is_symlink() else ""
    found = sha256(path)
    if SHA256.fullmatch(tag) and tag != found:
        raise _altered(path, f"SHA-256 {found}", tag)
    if GIT_SHA1.fullmatch(tag):
        content = path.read_bytes()
        git = hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
        if git != tag:
            raise _altered(path, f"git hash {git}", tag)
    return found


def _altered(path: Path, found: str, expected: str) -> DownloadError:
    for place in (path.resolve(), path):
        place.unlink(missing_ok=True)
    return DownloadError(
        f"{path.name} was truncated or altered on the way: it has the {found}, but the hub has {expected}. It was "
        "removed; run the same command again."
    )


def _sweep(path: Path) -> None:
    """Remove what killed downloads of the same file have left; this one has the lock, or did not need it."""
    if path.is_symlink():
        blob = path.parent / path.readlink()
        for leftover in blob.parent.glob(f"{blob.name}*.incomplete"):
            leftover.unlink(missing_ok=True)
