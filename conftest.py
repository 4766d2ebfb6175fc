"""Tests, and lessons that are run as tests, save the learner's blocks in a temporary folder instead of runs/mine."""

import os
import tempfile
from pathlib import Path

import pytest

FOLDER = pytest.StashKey[tempfile.TemporaryDirectory]()


def pytest_configure(config: pytest.Config) -> None:
    """Choose a folder for each process, since with `-n 2` two lessons run at the same time."""
    config.stash[FOLDER] = tempfile.TemporaryDirectory()
    os.environ["ATELIER_MINE"] = str(Path(config.stash[FOLDER].name) / "mine")  # see `atelier.teaching.mine`


def pytest_unconfigure(config: pytest.Config) -> None:
    """Remove the folder."""
    config.stash[FOLDER].cleanup()
