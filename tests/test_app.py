"""The requests that the page accepts; tests/browser tests it in a browser."""

import math
import socket
from typing import Any

import pytest
from atelier.page import app
from atelier.page.app import MOST_CHARACTERS, PageError, validated
from tiny_preset import filled_preset

REQUEST: dict[str, Any] = {
    "prompt": "a cat",
    "seed": None,
    "guidance": 1.5,
    "temperature": 0.8,
    "n": 4,
    "preset": "tiny",
}


def request_with(**changes: Any) -> dict[str, Any]:
    return REQUEST | changes


@pytest.fixture(autouse=True)
def tiny(tmp_path, monkeypatch):
    monkeypatch.setenv("ATELIER_DATA", str(tmp_path))
    filled_preset(tmp_path / "tiny")
    app.pipeline.cache_clear()
    yield
    app.pipeline.cache_clear()


def test_valid_requests_become_arguments():
    assert validated(**request_with()) == {"prompt": "a cat", "seed": None, "guidance": 1.5, "temperature": 0.8, "n": 4}
    assert validated(**request_with(seed=7.0))["seed"] == 7


@pytest.mark.parametrize(
    ("changes", "sentence"),
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
def test_invalid_requests_are_refused(changes, sentence):
    with pytest.raises(PageError, match=sentence):
        validated(**request_with(**changes))


def test_a_drawing_is_streamed_and_its_codes_are_shown():
    updates = list(app.draw("a cat", 1, 1.5, 0.8, 4, "tiny"))
    assert all(drawing is None for _, _, drawing in updates[:-1])
    pictures, line, drawing = updates[-1]
    assert pictures.count("<figure>") == 4
    assert "Seed 1" in line
    assert "<table" in app.look_inside(drawing, 2, "tiny")


def test_an_invalid_request_shows_an_error_and_no_drawing():
    ((pictures, line, drawing),) = app.draw("", None, 1.5, 0.8, 4, "tiny")
    assert (pictures, drawing) == ("", None)
    assert "The prompt is empty" in line
    assert app.look_inside(None, 1, "tiny") == "Draw something first."


def test_a_bug_is_not_shown_as_an_error_of_the_user(monkeypatch):
    def fail(*_: object, **__: object) -> None:
        raise ValueError("a bug")

    monkeypatch.setattr(app.Pipeline, "stream", fail)
    with pytest.raises(ValueError, match="a bug"):
        list(app.draw("a cat", 1, 1.5, 0.8, 4, "tiny"))


def test_a_port_in_use_is_reported():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(PageError, match=f"cannot be served at 127.0.0.1:{port}; give another --port"):
            app.serve(port=port, preset="tiny")
