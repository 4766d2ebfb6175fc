"""The evaluation of a preset, on pipelines and judges whose results are known."""

import dataclasses
import json
from itertools import combinations
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from atelier.drawing.pipeline import Pipeline
from atelier.evaluation.card import card, draw_curves, table, write_card
from atelier.evaluation.evaluate import (
    KINDS,
    Evaluation,
    Novelty,
    Retrieval,
    Shares,
    best_of,
    best_of_each,
    correct_attributes,
    distinct_scenes,
    evaluate,
    evaluation_world,
    interval,
    judge_accuracy,
    novelty,
    reconstruction,
    retrieval,
)
from atelier.evaluation.intervals import Estimate
from atelier.weights.preset import Preset
from atelier.world import ATTRIBUTES, Scene, parse, small_world
from tiny_preset import filled_preset
from torch import Tensor, nn

WORLD = small_world()


@pytest.fixture(scope="module")
def preset(tmp_path_factory: pytest.TempPathFactory) -> Preset:
    return filled_preset(tmp_path_factory.mktemp("presets") / "tiny")


class FixedJudge(nn.Module):
    """A judge that gives the same answers for all pictures.

    Args:
        answers: attribute → the class for each picture.
    """

    def __init__(self, answers: dict[str, list[int]]) -> None:
        super().__init__()
        self.answers = answers
        self.unused = nn.Parameter(torch.zeros(1))

    def forward(self, pictures: Tensor) -> dict[str, Tensor]:
        classes = {name: len(values) for name, values in WORLD.attributes.items()}
        rows = {name: torch.tensor(answers)[: len(pictures)] for name, answers in self.answers.items()}
        return {name: nn.functional.one_hot(row, classes[name]).float() for name, row in rows.items()}


def test_each_attribute_is_compared_by_itself() -> None:
    scenes = [Scene("cat", "red", "moon", "day", "photo"), Scene("car", "blue", "beach", "day", "cartoon")]
    labels = [WORLD.labels(scene) for scene in scenes]
    answers = {name: [label[name] for label in labels] for name in ATTRIBUTES}
    answers["colour"] = [answers["colour"][0], 0]
    judge = FixedJudge(answers)
    right = correct_attributes(judge, WORLD, torch.zeros(2, 3, 8, 8), scenes)  # ty: ignore[invalid-argument-type]
    assert right.tolist() == [[True] * 4, [True, True, False, True]]


def test_evaluate_measures_everything_and_reports(preset: Preset) -> None:
    seen: list[str] = []
    pipeline = Pipeline.from_pretrained(preset.folder, device="cpu")
    found = evaluate(preset, pipeline, prompts=12, pictures=100, report=lambda what, *_: seen.append(what))
    shares = [*vars(found.seen).values(), *vars(found.held_out).values(), found.codes_used]
    assert all(0 <= share <= 1 for share in shares)
    assert 0 < found.psnr < 40
    assert found.seen.all <= min(found.seen.subject, found.seen.setting, found.seen.colour, found.seen.style)
    assert set(found.as_dict()) >= {"seen", "held_out", "psnr", "codes_used", "clip_retrieval"}
    assert set(found.as_dict()["seen"]) == {"subject", "setting", "colour", "style", "all", "all_best_of_9"}
    for kind in ("seen", "held_out"):
        for name, (low, high) in found.intervals[kind].items():
            assert 0 <= low <= getattr(getattr(found, kind), name) <= high <= 1
            assert low < high
        for way, gain in found.gains[kind].items():
            curve = found.ranking[kind][way]
            assert gain.low <= gain.value <= gain.high
            assert gain.value == pytest.approx(curve["9"] - curve["1"])
    assert set(found.judge) == {"64", "128"}
    assert set(found.novel) == {"setting", "colour", "style"}
    assert all(0 <= new.together <= new.attribute <= 1 for new in found.novel.values())
    ranked = {f"ranking, {kind} captions, {way}" for kind in ("seen", "held-out") for way in ("preset", "free")}
    assert set(seen) == {"seen captions", "held-out captions", "reconstructions", "CLIP retrieval", *ranked}
    assert set(found.ranking) == {"seen", "held_out"}
    for curves in found.ranking.values():
        assert {name: list(curve) for name, curve in curves.items()} == {
            "preset": ["1", "2", "4", "9", "16"],
            "free": ["1", "2", "4", "9", "16"],
        }


def test_the_best_of_k_is_the_mean_over_all_choices_of_k() -> None:
    right = torch.zeros(2, 16)
    right[0, 0] = right[1, 15] = 1  # once CLIP puts the only right one first, once last
    found = best_of(right)
    assert found == pytest.approx({"1": 1 / 16, "2": 2 / 32, "4": 4 / 32, "9": 9 / 32, "16": 1 / 2})
    chosen = [min(choice) for choice in combinations(range(16), 4)]  # the best-ranked of four
    assert [round(value, 4) for value in best_of_each(right)[4].tolist()] == [0.25, 0]
    some = (torch.rand(1, 16) < 0.5).float()
    assert best_of(some)["4"] == pytest.approx(some[0, chosen].mean().item())


def test_the_interval_of_a_share_is_over_prompts_and_never_a_point() -> None:
    low, high = interval(torch.ones(500))
    assert 0.99 < low < high == 1
    low, high = interval(torch.tensor([0.0, 1 / 9, 5 / 9, 1.0] * 25))
    assert low < 5 / 12 < high


def test_reconstruction_of_a_perfect_autoencoder_is_perfect(preset: Preset) -> None:
    """In place of the VQ-GAN, a module that returns the pictures plus 0.1 and uses every code."""
    vqgan = preset.load_vqgan()

    class Identity(nn.Module):
        config = vqgan.config

        def __init__(self) -> None:
            super().__init__()
            self.unused = nn.Parameter(torch.zeros(1))

        def forward(self, pictures: Tensor):
            n = len(pictures)
            codes = torch.arange(16).repeat(n, 1).view(n, 4, 4)
            return pictures + 0.1, vqgan.encode(pictures)._replace(indices=codes)

    judge = preset.load_classifier("judge")
    psnr, used, _ = reconstruction(Identity(), judge, WORLD, 50)  # ty: ignore[invalid-argument-type]
    assert 20 <= psnr < 21  # an error of 0.1 everywhere is 20 dB, a little less where white is clamped
    assert used == 1


class KnowingCLIP(nn.Module):
    """A CLIP and its tokenizer in one, whose vectors are the four attributes of the captions and of the pictures.

    Args:
        monkeypatch: replaces the painter, so that pictures are their scenes' labels.
        blind: attributes that its image tower does not see.
    """

    config = SimpleNamespace(context_length=4, image_size=8)

    def __init__(self, monkeypatch: pytest.MonkeyPatch, blind: tuple[str, ...] = ()) -> None:
        super().__init__()
        self.seen = [name for name in ATTRIBUTES if name not in blind]
        monkeypatch.setattr(
            "atelier.evaluation.evaluate.paint", lambda scenes, *_: [WORLD.labels(scene) for scene in scenes]
        )

    def encode(self, captions: list[str], length: int) -> Tensor:
        assert length == 4
        labels = [WORLD.labels(parse(text)) for text in captions]
        return torch.tensor([[label[name] for name in ATTRIBUTES] for label in labels])

    def encode_text(self, ids: Tensor) -> Tensor:
        return nn.functional.one_hot(ids, 10).flatten(1).float()

    def encode_image(self, labels: list[dict[str, int]]) -> Tensor:
        ids = torch.tensor([[label[name] for name in ATTRIBUTES] for label in labels])
        hot = nn.functional.one_hot(ids, 10).float()
        return (hot * torch.tensor([[[float(name in self.seen)] for name in ATTRIBUTES]])).flatten(1)


def test_retrieval_is_perfect_for_a_clip_that_sees_all_attributes_and_worse_for_one_that_does_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for blind, low, high in (((), 1.0, 1.0), (("colour",), 0.75, 0.97), (ATTRIBUTES, 1 / 64, 1 / 64)):
        clip = KnowingCLIP(monkeypatch, blind)
        pipeline = SimpleNamespace(clip=clip, tokenizer=clip, clip_tokenizer=clip, device="cpu")
        found = retrieval(pipeline, WORLD, "never", draws=4)  # ty: ignore[invalid-argument-type]
        assert low <= found <= high, (blind, found)


def test_retrieval_of_random_weights_is_chance(preset: Preset) -> None:
    assert retrieval(Pipeline.from_pretrained(preset.folder, device="cpu"), WORLD, "only", draws=4) < 0.2


def test_novelty_counts_what_was_held_out_and_only_that() -> None:
    blue = Scene("strawberry", "blue", "beach", "day", "photo")
    moon = Scene("Eiffel tower", "red", "moon", "day", "photo")
    right = torch.zeros(2, 4, 4)  # two captions, four pictures; subject, setting, colour, style
    right[0, :3, 2] = 1  # three of four are blue
    right[0, :1, 0] = 1  # one of them is a strawberry
    right[1, :, 2] = 1  # the tower's colour was not held out; its setting was, and is never right
    assert novelty([blue, moon], right) == {"setting": Novelty(0, 0), "colour": Novelty(0.75, 0.25)}


def test_a_judge_of_another_world_is_refused(preset: Preset) -> None:
    names = {**preset.classifier_config.attributes, "colour": ("red", "crimson")}
    other = dataclasses.replace(preset, classifier=dataclasses.replace(preset.classifier_config, attributes=names))
    assert evaluation_world(preset) == WORLD
    with pytest.raises(ValueError, match="no judge, or one of other subjects, settings, colours or styles"):
        evaluation_world(other)
    with pytest.raises(ValueError, match="world"):
        evaluation_world(dataclasses.replace(preset, world=""))


def test_distinct_scenes_differ_in_an_attribute() -> None:
    a, b = Scene("cat", "red", "moon", "day", "photo", seed=1), Scene("cat", "red", "moon", "night", "photo", seed=2)
    c = dataclasses.replace(a, colour="blue")
    assert distinct_scenes([a, b, c]) == [a, c]


def test_judge_accuracy_is_a_share_for_each_attribute(preset: Preset) -> None:
    found = judge_accuracy(preset.load_classifier("judge"), WORLD, 16, 100)
    assert set(found) == set(ATTRIBUTES)
    assert all(0 <= share < 0.7 for share in found.values()), "a judge of random weights cannot be right"


def evaluation() -> Evaluation:
    shares = Shares(0.9, 0.8, 0.7, 0.6, 0.5, 0.625)
    ones = dict.fromkeys(ATTRIBUTES, 1.0)
    new = {"colour": Novelty(0.75, 0.5)}
    bounds = {kind: {name: (value - 0.02, value + 0.02) for name, value in vars(shares).items()} for kind in KINDS}
    curves = {"held_out": {"free": {"1": 0.9, "9": 0.95}}}
    gains = {"held_out": {"free": Estimate(0.05, -0.01, 0.11, "20 captions")}}
    judged = {"64": ones, "128": ones}
    return Evaluation(shares, shares, bounds, 22.25, 0.99, Retrieval(0.98, 0.97), new, judged, ones, curves, gains)


def test_the_card_has_the_measurements(preset: Preset, tmp_path: Path) -> None:
    text = card(preset, evaluation(), {"bart": [{"step": 10, "seconds": 90, "loss": 3.0}]}, 500, 1000)
    for piece in (
        "62.5 %",
        "22.2 dB",
        "| bart | 10 | 2 |",
        "Eiffel tower × moon",
        "--prompts 500",
        "98.0 %",
        "colour 75.0 %, with its subject 50.0 %",
    ):
        assert piece in text
    assert "all four, best of nine | 62.5 % (60.5 to 64.5)" in table(evaluation())
    assert "1: 90.0 %, 9: 95.0 %; the first of nine minus a random one: +5.0 points (-1.0 to +11.0)" in text
    history = {"bart": [{"step": i, "seconds": 60 * i, "loss": 5 / (i + 1)} for i in range(9)]}
    draw_curves(history, tmp_path / "curves.png")
    assert (tmp_path / "curves.png").stat().st_size > 2000


def test_the_card_is_written_into_the_preset(tmp_path: Path) -> None:
    preset = filled_preset(tmp_path / "tiny")
    write_card(preset, evaluation(), 5, 10)
    assert json.loads((preset.folder / "evaluation.json").read_text())["seen"]["all_best_of_9"] == 0.625
    assert (preset.folder / "README.md").read_text().startswith("# tiny")


@pytest.mark.parametrize(
    "content",
    [b"", b"\xff{", b"[]", b'{"bart": 3}', b'{"bart": [{"step": 1, "seconds": 1}], "vqgan": [{}]}', b"[" * 90_000],
)
def test_a_damaged_history_does_not_cost_the_card(tmp_path: Path, content: bytes) -> None:
    preset = filled_preset(tmp_path / "preset")
    (preset.folder / "history.json").write_bytes(content)
    write_card(preset, evaluation(), 5, 10)
    assert "5 captions" in (preset.folder / "README.md").read_text(encoding="utf-8")
    assert (preset.folder / "curves.png").is_file()
