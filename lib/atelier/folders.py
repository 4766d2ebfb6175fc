"""The folders in which presets are searched, and where downloads go. For `doctor`, it imports no other packages."""

import os
import tempfile
from pathlib import Path


def checkout_folder() -> Path | None:
    """Return the folder of the course that contains this library; None for an installed package."""
    folder = Path(__file__).parents[2]
    return folder if (folder / "pyproject.toml").is_file() else None


def shipped_folder() -> Path:
    """Return the folder of the shipped presets: data/ of the checkout, or of the installed package."""
    return (checkout_folder() or Path(__file__).parent) / "data"


def cache_folder() -> Path:
    """Return the folder for what can be downloaded again: $XDG_CACHE_HOME/atelier, by default ~/.cache/atelier.

    In a container whose user has no home, it lies in the folder for temporary files.
    """
    try:
        home = Path.home()
    except RuntimeError:
        home = Path(tempfile.gettempdir())
    return Path(os.environ.get("XDG_CACHE_HOME") or home / ".cache") / "atelier"


def downloads_folder() -> Path:
    """Return the folder for downloaded presets: $ATELIER_DATA if it is set, else the user's cache."""
    chosen = os.environ.get("ATELIER_DATA")
    return Path(chosen) if chosen else cache_folder()


def preset_folders() -> list[Path]:
    """List the folders that are searched for presets: $ATELIER_DATA if it is set, the shipped ones, the cache."""
    chosen = os.environ.get("ATELIER_DATA")
    return [*([Path(chosen)] if chosen else []), shipped_folder(), cache_folder()]
