"""Lesson 2a's experiments: arms differ in what they say, and copies are told from new pictures; its suggestions run."""

import re
from typing import Any

import assembly
import pytest
import torch
from atelier.blocks.gan import Discriminator, GANConfig
from atelier.teaching.experiments import lesson_2a
from atelier.teaching.experiments.lesson_2a import Game
from atelier.teaching.lessons import LESSONS
from atelier.weights.sprites import load_sprite_model
from atelier.world import SPRITES


@pytest.fixture
def short(monkeypatch):
    """Trainings of two steps."""
    monkeypatch.setattr(lesson_2a, "STEPS", 2)
    monkeypatch.setattr(lesson_2a, "PERIOD", 1)
    return lesson_2a.coloured_sprites(2, seed=0)


def test_sprites_come_kind_after_kind_in_the_kinds_colours():
    judge = load_sprite_model("judge")
    kinds = lesson_2a.recognised(judge, lesson_2a.coloured_sprites(3, seed=5))
    assert kinds.tolist() == [kind for kind in range(len(SPRITES)) for _ in range(3)]
    assert lesson_2a.kind_shares(kinds) == pytest.approx([1 / 6] * 6)


def test_without_spectral_norm_the_layers_have_their_stored_weights():
    torch.manual_seed(0)
    discriminator = Discriminator(GANConfig(width=48))
    ending = ".parametrizations.weight.original"
    stored = {
        name.removesuffix(ending): weight.clone() for name, weight in discriminator.named_parameters() if ending in name
    }
    lesson_2a.remove_spectral_norm(discriminator)
    found = {name.removesuffix(".weight"): weight for name, weight in discriminator.named_parameters()}
    assert len(stored) == 4
    assert all(torch.equal(found[name], weight) for name, weight in stored.items())


def test_a_training_repeats_and_leaves_the_random_numbers_alone(short):
    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    first, second = (lesson_2a.train(Game(), 1, short) for _ in range(2))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert first.gradients == second.gradients
    assert len(first.gradients) == len(first.fooled) == 2


def test_the_arms_differ_from_the_first_gradient_on(short):
    played = {arm: lesson_2a.train(game, 1, short) for arm, game in lesson_2a.GAMES.items()}
    assert len({run.gradients[0] for run in played.values()}) == len(played)


def test_the_nearest_picture_is_the_picture_itself_if_it_is_there(short):
    distances, places = lesson_2a.nearest(short[[4, 1]], short)
    assert places.tolist() == [4, 1]
    assert distances.tolist() == pytest.approx([0, 0], abs=1e-2)


def test_copies_are_told_from_new_pictures(short, monkeypatch):
    monkeypatch.setitem(lesson_2a.SIZES, "test", 20)
    monkeypatch.setattr(lesson_2a, "drawn_by", lambda generator, seed: lesson_2a.coloured_sprites(20, seed))
    found = lesson_2a.compare_copies("test", 7)
    assert found["nearer"] == 1
    assert found["control"] == pytest.approx(0.5, abs=0.1)
    monkeypatch.setattr(lesson_2a, "drawn_by", lambda generator, seed: lesson_2a.coloured_sprites(100, seed + 50))
    assert lesson_2a.compare_copies("test", 7)["nearer"] == pytest.approx(found["control"], abs=0.05)


def test_stored_pictures_come_back(short):
    again = lesson_2a.from_text(lesson_2a.as_text(short[:5]))
    torch.testing.assert_close(again, short[:5], atol=0.02, rtol=0)


# ---------------------------------------------------------------------------------------------- suggestions


def test_the_suggested_training_runs(short):
    cells = [cell.source for cell in assembly.read_source(LESSONS["2a"]).cells]
    imports = next(source for source in cells if source.startswith("import math"))
    suggested = [code for source in cells for code in re.findall(r"```python\n(.+?)```", source, re.DOTALL)]
    assert len(suggested) == 1
    exec(f"{imports}\n{suggested[0]}", {})


def test_the_walk_of_exercise_4_can_stand_wherever_section_5_calls_path():
    sources = [cell.source for cell in assembly.read_source(LESSONS["2a"]).cells if cell.cell_type == "code"]
    exec_here: dict[str, Any] = {"torch": torch, "F": torch.nn.functional, "Tensor": torch.Tensor}
    for source in sources:
        if "def path(" in source:
            exec(source[: source.index("def latent")], exec_here)
        elif "def walk(" in source:
            exec(source, exec_here)  # the solution comes last
    start, end = torch.randn(2, 16)
    for shares in (torch.linspace(0, 1, 9), torch.tensor([1.3])):
        line, arc = (exec_here[name](start, end, shares) for name in ("path", "walk"))
        assert line.shape == arc.shape == (len(shares), 16)
    torch.testing.assert_close(exec_here["walk"](start, end, torch.tensor([0.0, 1.0])), torch.stack([start, end]))
