"""The panel that draws pictures in a notebook."""

import re

import ipywidgets as widgets
import pytest
from atelier.drawing.pipeline import Pipeline
from atelier.teaching import drawing_panel
from tiny_preset import filled_preset


@pytest.fixture(scope="module")
def pipe(tmp_path_factory) -> Pipeline:
    return Pipeline.from_pretrained(filled_preset(tmp_path_factory.mktemp("presets") / "tiny").folder)


def parts(panel: widgets.VBox) -> tuple[widgets.Text, widgets.Text, widgets.Button, widgets.HTML, widgets.HTML]:
    words, (_, seed), _, _, button, line, pictures = (getattr(part, "children", part) for part in panel.children)
    return words, seed, button, line, pictures


def test_the_button_draws_nine_pictures_the_best_first(pipe):
    _, seed, button, line, pictures = parts(drawing_panel(pipe, "a red car"))
    seed.value = "7"
    button.click()
    scores = [float(score) for score in re.findall(r"<span>(-?[\d.]+)</span>", pictures.value)]
    assert len(scores) == 9 == pictures.value.count("Picture ")
    assert scores == sorted(scores, reverse=True)
    assert "Seed 7" in line.value
    assert not button.disabled
    assert f"{pipe.draw('a red car', seed=7).scores[0]:.2f}" == f"{scores[0]:.2f}"


@pytest.mark.parametrize(
    ("prompt", "seed", "sentence"),
    [
        ("", "", "prompt is empty"),
        ("a car", "seven", "whole number"),
        ("a car", "²", "whole number"),
        ("<b>", "-1", "whole number"),
    ],
)
def test_invalid_input_is_explained(pipe, prompt, seed, sentence):
    words, seed_box, button, line, pictures = parts(drawing_panel(pipe))
    words.value, seed_box.value = prompt, seed
    button.click()
    assert sentence in line.value
    assert pictures.value == ""
    assert not button.disabled
