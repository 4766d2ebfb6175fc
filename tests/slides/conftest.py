"""The deck, filled and built, and a browser to look at it: `make test-all`. slides/ must have its node_modules."""

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

SLIDES = Path(__file__).resolve().parents[2] / "slides"
sys.path.insert(0, str(SLIDES))

import deck  # noqa: E402  (a script of slides/, not a package)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Chromium: $CHROME_PATH, else the system's, else Playwright's own."""
    path = os.environ.get("CHROME_PATH") or shutil.which("chromium") or shutil.which("chromium-browser")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def slides() -> list[deck.Slide]:
    """The slides of session.md."""
    return deck.slides(deck.SOURCE.read_text(encoding="utf-8"))


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The deck as HTML, built anew from what stands in slides/."""
    target = tmp_path_factory.mktemp("deck") / "session.html"
    deck.write_filled()
    deck.marp("--output", str(target))
    return target
