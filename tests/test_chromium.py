"""Which Chromium is taken."""

from pathlib import Path

import pytest
from chromium import chromium


def test_named_one_comes_first_then_the_systems_then_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("CHROME_PATH", "")
    assert chromium() is None
    for name in ("google-chrome", "chromium"):
        (tmp_path / name).touch(mode=0o755)
        assert chromium() == str(tmp_path / name)
    monkeypatch.setenv("CHROME_PATH", "my/own")
    assert chromium() == "my/own"
