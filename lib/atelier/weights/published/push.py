"""`atelier push`: uploads a preset to a repository of the hub, with its model card in the hub's form.

huggingface_hub finds the account's token: $HF_TOKEN, or what `hf auth login` stored. $HF_ENDPOINT names another hub.
"""

from __future__ import annotations

import os
import re

from huggingface_hub import CommitOperationAdd, HfApi
from huggingface_hub.errors import HfHubHTTPError

from atelier.errors import AtelierError
from atelier.weights.preset import CONFIG_FILE, HISTORY_FILE, Preset
from atelier.weights.storage import has_file

CARD_FILE = "README.md"
ABOUT_FILES = (HISTORY_FILE, "evaluation.json", "curves.png")  # beside the card; uploaded if they exist
HEADER = """\
---
license: mit
library_name: atelier
pipeline_tag: text-to-image
tags:
- dalle-mini
- vq-gan
- bart
- clip
---
"""


class PushError(AtelierError):
    """A preset cannot be uploaded; the message says why, and what to do."""


def push(preset: Preset, repository: str, private: bool = False) -> str:
    """Upload a preset to the hub in one commit; the repository is created if it does not exist.

    Args:
        preset: a complete preset.
        repository: OWNER/NAME.
        private: whether only the owner can see a repository that is created.

    Returns:
        The address of the repository.

    Raises:
        PresetError: if a file of the preset is missing or altered.
        PushError: if the preset is incomplete, or the hub cannot be reached or refuses the upload.
    """
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", repository):
        raise PushError(f"{repository!r} is not a repository; give OWNER/NAME, with your user name as the owner.")
    if not preset.complete:
        raise PushError(f"The preset {preset.name} lacks blocks, so nobody could draw with it; train them first.")
    content = _content(preset, repository)
    hub = HfApi(endpoint=os.environ.get("HF_ENDPOINT") or None)
    try:
        address = hub.create_repo(repository, private=private, exist_ok=True)
        hub.create_commit(
            repository,
            [CommitOperationAdd(path_in_repo=file, path_or_fileobj=data) for file, data in content.items()],
            commit_message=f"Upload the preset {preset.name}",
        )
    except HfHubHTTPError as fault:
        status = fault.response.status_code
        advice = (
            "Log in with `hf auth login`, or set HF_TOKEN to a token that may write." if status in (401, 403) else ""
        )
        raise PushError(f"The hub refused {repository} (HTTP {status}). {advice}".strip()) from fault
    except Exception as fault:  # the exceptions of a broken connection depend on the HTTP library of huggingface_hub
        raise PushError(f"The hub cannot be reached ({' '.join(str(fault).split())[:200]}).") from fault
    return str(address)


def _content(preset: Preset, repository: str) -> dict[str, bytes]:
    """Collect the files to upload, by name; those of the preset are compared with their hashes."""
    files = {CONFIG_FILE: (preset.folder / CONFIG_FILE).read_bytes()}
    files |= {file: preset.read(file) for file in preset.files}
    files |= {file: (preset.folder / file).read_bytes() for file in ABOUT_FILES if has_file(preset.folder, file)}
    return {**files, CARD_FILE: card(preset, repository).encode()}


def card(preset: Preset, repository: str) -> str:
    """Write the model card in the hub's form: a header, the preset's own card if there is one, and how to draw."""
    path = preset.folder / CARD_FILE
    text = path.read_text(encoding="utf-8") if path.is_file() else f"# {preset.name}\n\nA preset of Atelier.\n"
    return f"""{HEADER}
{text.strip()}

## Draw with it

```sh
hf download {repository} --local-dir {preset.name}
atelier draw "…" --preset ./{preset.name}
```
"""
