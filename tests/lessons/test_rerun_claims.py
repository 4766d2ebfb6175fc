"""Seeds of a lesson are shifted, and nothing else is."""

import ast
import os

import pytest
import rerun_claims
from atelier.teaching import experiments
from atelier.teaching.experiments import Experiment
from atelier.teaching.lessons import LESSONS
from rerun_claims import shift_experiments, with_other_seeds


@pytest.mark.parametrize(
    ("source", "shifted"),
    [
        ("sprites(10, seed=3)", "sprites(10, seed=1003)"),
        ("torch.manual_seed(0)", "torch.manual_seed(1000)"),
        ("dice = np.random.default_rng(7)", "dice = np.random.default_rng(1007)"),
        ("random.Random(5).sample(range(4), 2)", "random.Random(1005).sample(range(4), 2)"),
        (
            "def train(steps: int, seed: int = 2, rate: float = 3): ...",
            "def train(steps: int, seed: int = 1002, rate: float = 3): ...",
        ),
        ("draw(seed=seed + 1, n=4)", "draw(seed=seed + 1, n=4)"),
        ("draw('a cat', 9)", "draw('a cat', 9)"),
        ("draw(seed=None)", "draw(seed=None)"),
    ],
)
def test_seeds_are_shifted(source: str, shifted: str) -> None:
    assert with_other_seeds(source, 1000) == ast.unparse(ast.parse(shifted))


def test_a_cell_with_commands_stays_as_it_is() -> None:
    assert with_other_seeds("!ls\nseed(seed=1)", 1000) == "!ls\nseed(seed=1)"


def test_experiments_are_shifted_only_if_all_of_the_lesson_were_run_with_the_offset(tmp_path, monkeypatch):
    monkeypatch.setattr(experiments, "FOLDER", tmp_path)
    monkeypatch.setenv("ATELIER_SEED_OFFSET", "0")  # so that the environment is restored at the end
    one, two = (Experiment(f"2e-{name}", "?", ("a",), (0,), lambda arm, seed: {"x": seed}) for name in ("one", "two"))
    monkeypatch.setattr(rerun_claims, "all_experiments", lambda: {"2e-one": one, "2e-two": two})
    assert shift_experiments(LESSONS["2e"], 7) == ["2e-one", "2e-two"]
    assert "ATELIER_SEED_OFFSET" not in os.environ
    monkeypatch.setenv("ATELIER_SEED_OFFSET", "7")
    for experiment in (one, two):
        list(experiment.complete())
    assert shift_experiments(LESSONS["2e"], 7) == []
    assert os.environ["ATELIER_SEED_OFFSET"] == "7"
    assert shift_experiments(LESSONS["2b"], 7) == []
