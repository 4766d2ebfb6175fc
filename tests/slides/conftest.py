"""The deck, filled and built: `make test-all`. slides/ must have its node_modules."""

import sys
from pathlib import Path

import pytest

SLIDES = Path(__file__).resolve().parents[2] / "slides"
sys.path.insert(0, str(SLIDES))

import deck  # noqa: E402  (a script of slides/, not a package)


@pytest.fixture(scope="session")
def slides() -> list[deck.Slide]:
    """The slides of session.md."""
    return deck.slides(deck.SOURCE.read_text(encoding="utf-8"))


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The deck as HTML, newly built from slides/."""
    target = tmp_path_factory.mktemp("deck") / "session.html"
    deck.write_filled()
    deck.marp("--output", str(target))
    return target
