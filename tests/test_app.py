"""What the page accepts; how it looks and behaves in a browser is in tests/browser."""

import math
from typing import Any

import pytest
from atelier.page import app
from atelier.page.app import MOST_CHARACTERS, PageError, checked
from tiny_preset import filled_preset

ASKED: dict[str, Any] = {"prompt": "a cat", "seed": None, "guidance": 1.5, "temperature": 0.8, "n": 4, "preset": "tiny"}


def asked(**wish: Any) -> dict[str, Any]:
    return ASKED | wish


@pytest.fixture(autouse=True)
def tiny(tmp_path, monkeypatch):
    monkeypatch.setenv("ATELIER_DATA", str(tmp_path))
    filled_preset(tmp_path / "tiny")
    app.pipeline.cache_clear()
    yield
    app.pipeline.cache_clear()


def test_sound_wishes_become_arguments():
    assert checked(**asked()) == {"prompt": "a cat", "seed": None, "guidance": 1.5, "temperature": 0.8, "n": 4}
    assert checked(**asked(seed=7.0))["seed"] == 7


@pytest.mark.parametrize(
    ("wish", "sentence"),
    [
        ({"prompt": " "}, "empty"),
        ({"prompt": "a" * (MOST_CHARACTERS + 1)}, "501 characters"),
        ({"prompt": None}, "empty"),
        ({"n": 5}, "1, 4, 9"),
        ({"n": "9"}, "1, 4, 9"),
        ({"seed": 1.5}, "whole number"),
        ({"seed": -1}, "whole number"),
        ({"seed": math.inf}, "whole number"),
        ({"seed": math.nan}, "whole number"),
        ({"guidance": 11}, "guidance"),
        ({"temperature": math.nan}, "temperature"),
        ({"guidance": "1"}, "guidance"),
        ({"preset": "../tiny"}, "no preset"),
        ({"preset": None}, "no preset"),
    ],
)
def test_anything_else_gets_a_sentence(wish, sentence):
    with pytest.raises(PageError, match=sentence):
        checked(**asked(**wish))


def test_a_drawing_is_streamed_and_looked_into():
    updates = list(app.draw("a cat", 1, 1.5, 0.8, 4, "tiny"))
    assert all(drawing is None for _, _, drawing in updates[:-1])
    pictures, line, drawing = updates[-1]
    assert pictures.count("<figure>") == 4
    assert "Seed 1" in line
    assert "<table" in app.inside(drawing, 2, "tiny")


def test_a_fault_is_shown_and_nothing_drawn():
    ((pictures, line, drawing),) = app.draw("", None, 1.5, 0.8, 4, "tiny")
    assert (pictures, drawing) == ("", None)
    assert "The prompt is empty" in line
    assert app.inside(None, 1, "tiny") == "Draw something first."
