"""A drawing as HTML and as PNG files that contain the settings with which they were drawn."""

import base64
import io
import json
import re
from typing import Any

import pytest
import torch
from atelier.drawing.drawing import Drawing
from atelier.page.gallery import pictures_html
from atelier.page.pictures import file_name, png
from PIL import Image

PROMPT = 'a "red" <car> & más'


def drawing(n: int = 4, **more: Any) -> Drawing:
    pictures = torch.linspace(0, 1, n * 3 * 8 * 8).view(n, 3, 8, 8)
    codes = torch.zeros(n, 2, 2, dtype=torch.long)
    facts: dict[str, Any] = {"scores": [31.5, 30.25, 2.0, -1.0][:n], "seed": 3} | more
    return Drawing(PROMPT, pictures, codes, **facts)


def files(markup: str, kind: str) -> list[bytes]:
    return [base64.b64decode(data) for data in re.findall(rf'src="data:image/{kind};base64,([^"]+)"', markup)]


def test_png_contains_its_settings():
    facts = drawing(settings={"preset": "laptop", "guidance": 1.5}).record(2)
    with Image.open(io.BytesIO(png(Image.new("RGB", (4, 4)), facts))) as image:
        assert json.loads(image.info["atelier"]) == facts
    assert facts == {"prompt": PROMPT, "seed": 3, "preset": "laptop", "guidance": 1.5, "place": 2}


def test_finished_pictures_have_score_place_and_link():
    markup = pictures_html(drawing())
    assert re.findall(r"<span>([-\d.]+)</span>", markup) == ["31.50", "30.25", "2.00", "-1.00"]
    places = []
    for data in files(markup, "png"):
        with Image.open(io.BytesIO(data)) as image:
            assert image.size == (256, 256)
            places.append(json.loads(image.info["atelier"])["place"])
    assert places == [1, 2, 3, 4]
    assert "<car>" not in markup
    assert 'download="a-red-car-más-3-1.png"' in markup


def test_unfinished_pictures_cannot_be_saved():
    markup = pictures_html(drawing(scores=[], progress=0.5))
    assert len(files(markup, "jpeg")) == 4
    assert "download" not in markup


@pytest.mark.parametrize(("scores", "framed"), [([31.5, 2.0], 1), ([-16.0, -20.0], 0), ([], 0), (None, 0)])
def test_only_a_picture_that_fits_the_prompt_is_framed(scores, framed):
    markup = pictures_html(drawing(n=2, scores=scores))
    assert markup.count('<figure class="best">') == framed
    assert markup.index("<figure") <= markup.find('<figure class="best">') or not framed


@pytest.mark.parametrize(
    ("prompt", "name"),
    [
        ("A red car!", "a-red-car"),
        ("../../etc/passwd", "etc-passwd"),
        ("🍓", "drawing"),
        ("月", "月"),
        ("a" * 90, "a" * 40),
    ],
)
def test_any_prompt_makes_a_file_name(prompt, name):
    assert file_name(prompt) == name
