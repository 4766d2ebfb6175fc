"""Files from the hub: downloaded once, kept in huggingface_hub's cache, and compared with the hub's hash of them.

A file that is in the cache is used without a connection. $HF_ENDPOINT names another hub, $HF_HOME another folder for
the cache.
"""

from __future__ import annotations

import errno
import logging
import os
import re
import shutil
import threading
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import huggingface_hub
from huggingface_hub import constants
from huggingface_hub.errors import (
    EntryNotFoundError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils.sha import git_hash

from atelier.arguments import shown
from atelier.errors import AtelierError
from atelier.weights.published.partial import download_blob
from atelier.weights.streams import sha256

PATIENCE = 60.0  # seconds for an answer
LEAST_PACE = 20_000.0  # bytes per second; a slower download is given up
DEFAULT_ENDPOINT = constants._HF_DEFAULT_ENDPOINT  # constants.ENDPOINT is empty if $HF_ENDPOINT was at import

Result = TypeVar("Result")

logger = logging.getLogger(__name__)

SHA256, GIT_SHA1 = re.compile("[0-9a-f]{64}"), re.compile("[0-9a-f]{40}")


class DownloadError(AtelierError):
    """A file cannot be downloaded; the message says why, and what to do."""


class MissingFileError(DownloadError):
    """The hub has no such file."""


@dataclass(frozen=True)
class HubFile:
    """A complete and verified file in the cache.

    Attributes:
        repository: its repository on the hub.
        file: its name in the repository.
        commit: the commit of the repository that it belongs to.
        sha256: the SHA-256 of its content.
        path: its path in the cache.
    """

    repository: str
    file: str
    commit: str
    sha256: str
    path: Path

    @property
    def record(self) -> dict[str, str | int]:
        """The entry for this file in the record of a download."""
        size = self.path.stat().st_size
        values = {"repository": self.repository, "file": self.file, "commit": self.commit, "sha256": self.sha256}
        return {**values, "bytes": size}


def fetch(repository: str, files: Iterable[str], revision: str | None = None) -> dict[str, HubFile]:
    """Get files of one commit of a repository, from the cache or else from the hub.

    Args:
        repository: OWNER/NAME.
        files: their names in the repository.
        revision: the commit; None: the newest, or that of the files in the cache.

    Returns:
        The files by name.

    Raises:
        MissingFileError: if the repository has no such file.
        DownloadError: if there is no connection, no space on the disk, no such repository or commit, or if a file is
            altered.
    """
    fetched: dict[str, HubFile] = {}
    for file in files:
        path = find_in_cache(repository, file, revision) or _download(repository, file, revision)
        revision = path.parents[len(Path(file).parts) - 1].name  # …/snapshots/COMMIT/FILE
        fetched[file] = HubFile(repository, file, revision, _verify(path), path)
    return fetched


def find_in_cache(repository: str, file: str, revision: str | None = None) -> Path | None:
    """Find a file in the cache; None if it is not there."""
    path = huggingface_hub.try_to_load_from_cache(repository, file, revision=revision)
    return Path(path) if isinstance(path, str) else None


def file_size(repository: str, file: str, revision: str | None = None) -> tuple[int, bool]:
    """Find the size of a file without downloading it.

    Args:
        repository, file, revision: as for `fetch`.

    Returns:
        Its bytes, and whether it is in the cache already, in which case no connection is needed.

    Raises:
        MissingFileError, DownloadError: for the reasons in `fetch`.
    """
    cached = find_in_cache(repository, file, revision)
    if cached is not None:
        return cached.stat().st_size, True
    with _hub_errors(repository, file, revision):
        return _on_hub(repository, file, revision)[1], False


def check_free_space(folder: Path, size: int, what: str) -> None:
    """Check that a disk has enough free space.

    Args:
        folder: a folder on the disk, which need not exist yet.
        size: the bytes that are needed.
        what: needs them, for the error.

    Raises:
        DownloadError: if there are fewer free bytes.
    """
    existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
    free = shutil.disk_usage(existing).free
    if free < size:
        raise DownloadError(
            f"{what} needs {size / 1e9:.2f} GB, but only {free / 1e9:.2f} GB are free at {existing}; free some space "
            "and run the same command again."
        )


def disk_is_full(fault: BaseException | None) -> bool:
    """Whether a full disk caused an exception, directly or through the exceptions that it was raised from."""
    while fault is not None:
        if isinstance(fault, OSError) and fault.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        fault = fault.__cause__ or fault.__context__
    return False


def _endpoint() -> str:
    return os.environ.get("HF_ENDPOINT") or constants.ENDPOINT or DEFAULT_ENDPOINT


def _on_hub(repository: str, file: str, revision: str | None) -> tuple[huggingface_hub.HfFileMetadata, int]:
    """Ask the hub about a file, and check its answer; the second value is the size in bytes."""
    url = huggingface_hub.hf_hub_url(repository, file, revision=revision, endpoint=_endpoint())
    metadata = _within(PATIENCE, lambda: huggingface_hub.get_hf_file_metadata(url))
    return metadata, _checked_size(metadata, f"{file} of {repository}", _endpoint())


def _download(repository: str, file: str, revision: str | None) -> Path:
    endpoint = _endpoint()
    with _hub_errors(repository, file, revision):
        metadata, size = _on_hub(repository, file, revision)
        check_free_space(Path(constants.HF_HUB_CACHE), size, f"{file} of {repository}")
        seconds = PATIENCE + size / LEAST_PACE
        logger.info("downloading %s of %s from %s, %.1f MB", file, repository, endpoint, size / 1e6)
        _within(seconds, lambda: download_blob(repository, file, metadata))
        linked = _within(
            PATIENCE, lambda: huggingface_hub.hf_hub_download(repository, file, revision=revision, endpoint=endpoint)
        )
    path = Path(linked)
    _remove_incomplete(path)
    return path


@contextmanager
def _hub_errors(repository: str, file: str, revision: str | None) -> Generator[None]:
    """Convert the exceptions of huggingface_hub to a DownloadError whose sentence names the file."""
    endpoint = _endpoint()
    try:
        yield
    except DownloadError:
        raise
    except EntryNotFoundError as fault:
        if isinstance(fault, LocalEntryNotFoundError):
            raise _connection_error(repository, file, endpoint, fault) from fault
        raise MissingFileError(f"{repository} at {endpoint} has no file {file}.") from fault
    except RevisionNotFoundError as fault:
        raise DownloadError(f"{repository} at {endpoint} has no commit {revision}.") from fault
    except RepositoryNotFoundError as fault:
        raise DownloadError(f"There is no repository {repository} at {endpoint}, or it is not public.") from fault
    except Exception as fault:  # the exceptions of a broken connection depend on the HTTP library of huggingface_hub
        if disk_is_full(fault):
            raise DownloadError(
                f"The disk is full: there was no space for {file} of {repository}; free some space and run the same "
                "command again."
            ) from fault
        raise _connection_error(repository, file, endpoint, fault) from fault


def _checked_size(metadata: huggingface_hub.HfFileMetadata, what: str, endpoint: str) -> int:
    """Return the size of a file, after checking what the hub says about it: the cache uses the hashes as file names.

    Raises:
        DownloadError: if a hash is not a hash, or if the size is unknown.
    """
    etag, commit = metadata.etag or "", metadata.commit_hash or ""
    hashes_valid = (SHA256.fullmatch(etag) or GIT_SHA1.fullmatch(etag)) and GIT_SHA1.fullmatch(commit)
    if not hashes_valid or metadata.size is None:  # a size of 0 is valid; whoever reads the file refuses it
        raise DownloadError(
            f"{endpoint} sent no valid hash, commit or size for {what} (ETag {shown(etag)}, commit {shown(commit)}, "
            f"size {metadata.size}), so it was not downloaded. Check the connection and $HF_ENDPOINT."
        )
    return metadata.size


def _within(seconds: float, call: Callable[[], Result]) -> Result:
    """Call a function in another thread, and give up after some time.

    Raises:
        TimeoutError: if it has not returned in time. The thread ends with the process.
    """
    outcome: Future[Result] = Future()

    def run() -> None:
        try:
            outcome.set_result(call())
        except BaseException as fault:  # passed on to the caller
            outcome.set_exception(fault)

    threading.Thread(target=run, daemon=True).start()
    try:
        return outcome.result(seconds)
    except FutureTimeoutError as fault:
        if outcome.done():
            raise
        raise TimeoutError(f"it took more than {seconds:.0f} seconds") from fault


def _connection_error(repository: str, file: str, endpoint: str, fault: Exception) -> DownloadError:
    reason = (str(fault).strip() or type(fault).__name__).splitlines()[0].rstrip(".")
    return DownloadError(
        f"{file} of {repository} could not be downloaded from {endpoint}: {reason}. Check the connection and run the "
        "same command again; what has arrived is kept."
    )


def _verify(path: Path) -> str:
    """Compare a cached file with the hub's hash of it.

    The cache is a folder of links to files that are named by the hub's ETag: the SHA-256 of large files, git's SHA-1 of
    small ones. On a file system without links the name is not known, and the file is not compared.

    Returns:
        The SHA-256 of the file.

    Raises:
        DownloadError: if the hashes differ; the file is removed.
    """
    etag = path.readlink().name if path.is_symlink() else ""
    found = sha256(path)
    if etag and not SHA256.fullmatch(etag) and not GIT_SHA1.fullmatch(etag):
        raise _removed(path, f"SHA-256 {found}", f"{shown(etag)}, which is not a hash")
    if SHA256.fullmatch(etag) and etag != found:
        raise _removed(path, f"SHA-256 {found}", etag)
    if GIT_SHA1.fullmatch(etag) and etag != (git := git_hash(path.read_bytes())):
        raise _removed(path, f"git hash {git}", etag)
    return found


def _removed(path: Path, found: str, expected: str) -> DownloadError:
    """Remove an altered file and return the error that says so."""
    for file in (path.resolve(), path):
        file.unlink(missing_ok=True)
    return DownloadError(
        f"{path.name} was truncated or altered on the way: it has the {found}, but the hub has {expected}. It was "
        "removed; run the same command again."
    )


def _remove_incomplete(path: Path) -> None:
    """Remove the incomplete copies of a file that interrupted downloads have left."""
    if path.is_symlink():
        blob = path.parent / path.readlink()
        for incomplete in blob.parent.glob(f"{blob.name}*.incomplete"):
            incomplete.unlink(missing_ok=True)
