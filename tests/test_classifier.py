"""The picture classifier: shapes, features, resizing, learning, bad input."""

import pytest
import torch
import torch.nn.functional as F
from atelier.blocks.classifier import ClassifierConfig, PictureClassifier, resize
from atelier.world import full_world

ATTRIBUTES = {"colour": ("red", "green", "blue"), "place": ("north-west", "north-east", "south-west", "south-east")}
TINY = ClassifierConfig(ATTRIBUTES, resolution=16, widths=(8, 12, 16))


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def painted(number: int, side: int = 16) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Grey pictures with one square in a corner: its colour and its place are the attributes."""
    colour, place = torch.randint(3, (number,)), torch.randint(4, (number,))
    pictures = 0.4 + 0.2 * torch.rand(number, 3, side, side)
    half, quarter = side // 2, side // 4
    for picture, c, p in zip(pictures, colour.tolist(), place.tolist(), strict=True):
        top, left = (p // 2) * half + quarter // 2, (p % 2) * half + quarter // 2
        picture[:, top : top + quarter, left : left + quarter] = torch.eye(3)[c][:, None, None]
    return pictures, {"colour": colour, "place": place}


def test_one_set_of_logits_for_each_attribute():
    logits = PictureClassifier(TINY)(torch.rand(5, 3, 16, 16))
    assert {name: tuple(values.shape) for name, values in logits.items()} == {"colour": (5, 3), "place": (5, 4)}


def test_features_go_from_fine_to_coarse():
    maps = PictureClassifier(TINY).features(torch.rand(2, 3, 16, 16))
    assert [tuple(features.shape) for features in maps] == [(2, 8, 8, 8), (2, 12, 4, 4), (2, 16, 2, 2)]


def test_the_size_that_judges_is_small():
    model = PictureClassifier(ClassifierConfig(full_world().attributes))
    assert 0.3e6 < sum(weight.numel() for weight in model.parameters()) < 0.8e6
    assert len(model.features(torch.rand(1, 3, 64, 64))) == 4


def test_in_evaluation_a_picture_is_judged_alone():
    model = PictureClassifier(TINY)
    model(torch.rand(8, 3, 16, 16))
    model.eval()
    pictures = torch.rand(4, 3, 16, 16)
    assert torch.allclose(model(pictures)["colour"][:1], model(pictures[:1])["colour"], atol=1e-5)


def test_other_sizes_are_resized_and_areas_averaged():
    model = PictureClassifier(TINY).eval()
    small = torch.rand(2, 3, 16, 16)
    large = small.repeat_interleave(2, 2).repeat_interleave(2, 3)
    assert torch.allclose(model(large)["place"], model(small)["place"], atol=1e-5)
    assert torch.equal(resize(large, 16), small)
    assert resize(small, 16) is small
    assert resize(torch.rand(1, 3, 8, 40), 16).shape == (1, 3, 16, 16)
    assert resize(torch.ones(1, 3, 8, 8), 16).eq(1).all()


def test_it_learns_what_it_is_shown():
    model = PictureClassifier(TINY)
    optimizer = torch.optim.AdamW(model.parameters(), 4e-3)
    for _ in range(60):
        pictures, labels = painted(64)
        logits = model(pictures)
        optimizer.zero_grad()
        torch.stack([F.cross_entropy(logits[name], labels[name]) for name in ATTRIBUTES]).sum().backward()
        optimizer.step()
    pictures, labels = painted(200, side=32)
    model.eval()
    with torch.no_grad():
        right = {name: (model(pictures)[name].argmax(1) == labels[name]).float().mean().item() for name in ATTRIBUTES}
    assert min(right.values()) > 0.95


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"attributes": {}}, "at least one attribute"),
        ({"attributes": {"colour": ("red",)}}, "at least two classes"),
        ({"attributes": {"colour": 8}}, "has 8 for colour"),
        ({"attributes": {"colour": "red"}}, "names of at least two classes"),
        ({"attributes": {"colour": ("red", "blue", "red")}}, "names a class of colour twice"),
        ({"attributes": ATTRIBUTES, "widths": ()}, "widths is \\(\\) and depth 1"),
        ({"attributes": ATTRIBUTES, "depth": 0}, "and depth 0: give whole numbers"),
        ({"attributes": ATTRIBUTES, "resolution": 40}, "cannot be halved 4 times"),
    ],
)
def test_impossible_configs_are_refused(arguments: dict, sentence: str):
    with pytest.raises(ValueError, match=sentence):
        ClassifierConfig(**arguments)


def test_what_is_no_picture_is_refused():
    with pytest.raises(ValueError, match=r"\(n, 3, H, W\), but got \(1, 1, 16, 16\)"):
        PictureClassifier(TINY)(torch.zeros(1, 1, 16, 16))
