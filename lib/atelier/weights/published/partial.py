"""Downloads that go on where an earlier one stopped, in the same process or another one.

huggingface_hub resumes a download within one call, and removes what it has when the call fails. Here a file is first
downloaded beside its place in huggingface_hub's cache, and moved there when it is complete; huggingface_hub then finds
it in its cache and does not download it again.
"""

from __future__ import annotations

from http import HTTPStatus
from pathlib import Path

import filelock
import huggingface_hub
from huggingface_hub import constants
from huggingface_hub.errors import HfHubHTTPError
from huggingface_hub.file_download import http_get, repo_folder_name

ENDING = ".partial.incomplete"  # tools that clean the cache know the second ending


def download_blob(repository: str, file: str, metadata: huggingface_hub.HfFileMetadata) -> None:
    """Download a file of the hub into the cache's folder of contents, unless it is there.

    Args:
        repository: OWNER/NAME.
        file: its name, for the progress bar.
        metadata: what the hub says about it, which the caller has checked: the hash becomes a file's name.

    Raises:
        OSError: if the connection breaks, the disk is full, or the file does not have the size that the hub says.
    """
    size, etag = metadata.size, metadata.etag
    assert size is not None
    assert etag is not None
    cache, folder = Path(constants.HF_HUB_CACHE), repo_folder_name(repo_id=repository, repo_type="model")
    blob, lock = cache / folder / "blobs" / etag, cache / ".locks" / folder / f"{etag}.partial.lock"
    for path in (blob, lock):
        path.parent.mkdir(parents=True, exist_ok=True)
    partial = blob.with_name(f"{etag}{ENDING}")
    with filelock.FileLock(lock):
        if blob.exists():
            return
        if partial.exists() and partial.stat().st_size > size:
            partial.unlink()
        try:
            _append(partial, metadata.location, size, file)
        except HfHubHTTPError as fault:
            if fault.response.status_code != HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                raise
            partial.unlink()  # the server once sent fewer bytes than it says, and has no more of them
            _append(partial, metadata.location, size, file)
        partial.replace(blob)


def _append(partial: Path, url: str, size: int, name: str) -> None:
    """Append to a partial file what it lacks of a file of the given size."""
    with partial.open("ab") as target:
        http_get(url, target, resume_size=target.tell(), expected_size=size, displayed_filename=name)
