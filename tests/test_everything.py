"""`atelier train all`: the order, the minutes, several sessions, a kill, and bad input."""

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from atelier.cli import app
from atelier.drawing.pipeline import Pipeline
from atelier.training import everything
from atelier.training.checkpoints import METRICS_FILE, read_metrics
from atelier.training.everything import (
    AllRequest,
    block_minutes,
    minutes_left,
    missing_blocks,
    read_finished,
    steps_per_second,
    train_everything,
)
from atelier.training.loop import Outcome
from atelier.training.recipe import Settings, TrainingError
from atelier.training.recipes import RECIPES
from atelier.training.recipes.bart import BartSettings
from atelier.training.recipes.classifier import ClassifierSettings
from atelier.training.recipes.clip import CLIPSettings
from atelier.training.recipes.vqgan import VQGANSettings
from atelier.training.run import TRAINABLE, Request, recipe_settings, resume_command
from atelier.weights.preset import load_preset, save_preset
from tiny_preset import filled_preset, tiny_preset
from torch import nn
from typer.testing import CliRunner

STEPS = 10


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """The folder of a run that was not interrupted, and of the preset with its sizes."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("whole")
    preset = tiny_preset(folder / "tiny")
    request = AllRequest(preset=str(preset.folder), run_dir=folder / "run", steps=STEPS, precision="no")
    (folder / "lines.txt").write_text("\n".join(train_everything(request)))
    return folder


@pytest.fixture
def trained(monkeypatch) -> list[Request]:
    """The requests for trainings, which are replaced by a function that only records them."""
    requests: list[Request] = []

    def fake_training(request: Request) -> Outcome | None:
        requests.append(request)
        assert request.run_dir is not None
        (request.run_dir / request.block).mkdir(parents=True, exist_ok=True)
        return None if request.block == "tokenizer" else Outcome(10, 2.0, True, {"loss": 0.5}, nn.Identity(), 640)

    monkeypatch.setattr(everything, "run_training", fake_training)
    return requests


def test_all_is_trained_in_order_and_the_preset_draws(whole):
    lines = (whole / "lines.txt").read_text().splitlines()
    assert [line.split(":")[0] for line in lines[: len(TRAINABLE)]] == list(TRAINABLE)
    assert lines[-1].startswith("All is trained")
    finished = read_finished(whole / "run")
    assert list(finished) == list(TRAINABLE)
    assert all(finished[block]["step"] == STEPS for block in RECIPES)
    assert all(finished[block]["pictures_per_second"] > 0 for block in RECIPES)
    preset = load_preset(whole / "run" / "preset")
    assert preset.complete
    drawing = Pipeline.from_pretrained(preset.folder, device="cpu").draw("a red cat on the beach", n=2, seed=0)
    assert drawing.pictures.shape == (2, 3, 16, 16)
    assert drawing.scores is not None


def test_a_run_killed_in_a_block_resumes_there_and_ends_with_the_same_weights(tmp_path, whole):
    words = [
        *("train", "all", "--preset", str(whole / "tiny"), "--run-dir", str(tmp_path)),
        *("--steps", str(STEPS), "--precision", "no"),
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with (tmp_path / "output.txt").open("w") as output:
        victim = subprocess.Popen(
            [sys.executable, "-m", "atelier", *words], env=environment, stdout=output, stderr=subprocess.DEVNULL
        )
        deadline = time.monotonic() + 120
        while not (tmp_path / "vqgan").is_dir():
            assert victim.poll() is None, "the run ended before it could be killed"
            assert time.monotonic() < deadline, "the run did not reach the block where it should be killed"
            time.sleep(0.01)
        victim.send_signal(signal.SIGKILL)
        assert victim.wait() == -signal.SIGKILL
    assert list(read_finished(tmp_path)) == ["tokenizer", "classifier", "judge"]

    refused = CliRunner().invoke(app, words)
    assert refused.exit_code == 1
    sentence = "already holds a training run, with tokenizer, classifier, judge finished. Continue with --resume"
    assert sentence in refused.output
    result = CliRunner().invoke(app, [*words, "--resume"])
    assert result.exit_code == 0, result.output
    assert [line.split(":")[0] for line in result.stdout.splitlines()[:3]] == ["vqgan", "bart", "clip"]
    assert load_preset(tmp_path / "preset").files == load_preset(whole / "run" / "preset").files
    # A further run finds nothing to train and writes nothing.
    before = (tmp_path / "vqgan" / "metrics.jsonl").stat().st_mtime_ns
    assert "All is trained" in CliRunner().invoke(app, [*words, "--resume"]).stdout
    assert (tmp_path / "vqgan" / "metrics.jsonl").stat().st_mtime_ns == before


@pytest.mark.hardware
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_all_is_trained_on_a_gpu(tmp_path):
    preset = tiny_preset(tmp_path / "tiny")
    recipes = {**preset.recipes, "bart": {**preset.recipes["bart"], "distinct": 64}}
    preset = save_preset(replace(preset, recipes=recipes), preset.folder)
    words = ["train", "all", "--preset", str(preset.folder), "--run-dir", str(tmp_path / "run"), "--steps", "8"]
    done = subprocess.run([sys.executable, "-m", "atelier", *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "All is trained" in done.stdout
    assert list((tmp_path / "run" / "bart" / "samples").glob("*.png"))  # drawn with a CUDA graph
    pipe = Pipeline.from_pretrained(tmp_path / "run" / "preset", device="cuda")
    assert pipe.draw("a red cat on the beach", n=2, seed=0).pictures.shape == (2, 3, 16, 16)


def test_sessions_end_in_time_and_together_train_all(tmp_path, monkeypatch):
    monkeypatch.setattr("atelier.training.run.TOKENIZER_CAPTIONS", 500)
    preset = tiny_preset(tmp_path / "tiny")
    request = AllRequest(
        preset=str(preset.folder), run_dir=tmp_path / "run", minutes=0.1, stop_after=0.05, precision="no"
    )
    lines, sessions = list(train_everything(request)), 1
    assert "Not finished" in lines[-1]
    assert f"Continue with `atelier train all --preset {preset.folder}" in lines[-1]
    assert lines[-1].endswith("--minutes 0.1 --stop-after 0.05 --precision no --resume`.")
    while "Not finished" in lines[-1]:
        began = time.process_time()  # not wall time, which depends on other programs
        lines, sessions = list(train_everything(replace(request, resume=True))), sessions + 1
        assert time.process_time() - began < 60 * 0.05 + 2.5, "a session took longer than its limit"
        assert sessions < 12, "twelve sessions did not finish the training"
    finished = read_finished(tmp_path / "run")
    assert list(finished) == list(TRAINABLE)
    minutes = block_minutes(preset, request.minutes)
    for block, share in minutes.items():
        assert 60 * share - 0.1 < finished[block]["seconds"] < 60 * share + 2


def test_only_missing_blocks_are_trained_and_share_the_minutes(tmp_path, trained):
    preset = filled_preset(tmp_path / "filled")  # all but the perceptual network
    assert missing_blocks(preset) == ["classifier"]
    list(train_everything(AllRequest(preset=str(preset.folder), run_dir=tmp_path / "run", minutes=3)))
    assert [(request.block, request.minutes) for request in trained] == [("classifier", 3)]

    without = {name: preset.files[name] for name in ("tokenizer.json", "judge.safetensors")}
    shares = {"vqgan": 2, "bart": 5, "clip": 2}
    preset = save_preset(replace(preset, files=without, recipes={"all": shares}), tmp_path / "half")
    assert block_minutes(preset, 20) == pytest.approx({"classifier": 2, "vqgan": 4, "bart": 10, "clip": 4})
    assert block_minutes(preset, None) == {}


def test_all_blocks_of_a_complete_preset_are_trained_and_clip_only_if_the_preset_has_one(tmp_path):
    preset = filled_preset(tmp_path / "filled")
    assert missing_blocks(replace(preset, files={**preset.files, "perceptual.safetensors": "0"})) == list(TRAINABLE)
    assert missing_blocks(replace(preset, files={}, clip=None)) == [block for block in TRAINABLE if block != "clip"]


@pytest.mark.parametrize("name", ["laptop", "studio", "full"])
def test_the_recipes_of_the_shipped_presets_are_valid(name):
    preset = load_preset(name)
    kinds: dict[str, Callable[..., Settings]] = {
        "classifier": ClassifierSettings,
        "judge": ClassifierSettings,
        "vqgan": VQGANSettings,
        "bart": BartSettings,
        "clip": CLIPSettings,
    }
    assert preset.recipes.keys() <= {"all", *kinds}
    for block, kind in kinds.items():
        assert kind(**preset.recipes.get(block, {})).batch_size >= 16
    minutes = block_minutes(replace(preset, files={}), 16)
    assert list(minutes) == list(TRAINABLE[1:])
    assert sum(minutes.values()) == pytest.approx(16)


def test_the_table_lists_the_finished_blocks(tmp_path, trained):
    preset = tiny_preset(tmp_path / "tiny")
    *_, table, last = train_everything(AllRequest(preset=str(preset.folder), run_dir=tmp_path / "run", minutes=1))
    rows = [row.split() for row in table.splitlines()]
    assert rows[0][:4] == ["block", "steps", "minutes", "pictures/s"]
    assert rows[1] == ["tokenizer", "tokenizer.json"]
    assert rows[-1] == ["clip", "10", "0.03", "320", "loss", "0.5"]
    assert last.endswith("is a preset to draw with.")


def test_steps_per_second_are_those_of_the_second_half(tmp_path):
    path, outcome = tmp_path / "metrics.jsonl", Outcome(300, 20.0, True, {}, nn.Identity(), 600)
    assert steps_per_second(outcome, path) == 15
    lines = [{"step": 10, "seconds": 8.0}, {"step": 100, "seconds": 12.0}, {"step": 300, "seconds": 20.0}]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert steps_per_second(outcome, path) == 25
    path.write_text(json.dumps(lines[-1]) + "\n")
    assert steps_per_second(outcome, path) == 15


def test_the_minutes_left_count_from_the_start_of_the_session():
    now = time.monotonic()
    assert minutes_left(None, now) is None
    assert minutes_left(10, now - 60) == pytest.approx(8.5, abs=0.01)
    left = minutes_left(1, now - 60)
    assert left is not None
    assert left < 0


@pytest.mark.parametrize(
    ("shares", "sentence"),
    [
        ({"tokenizer": 1}, "gives a share of the minutes to 'tokenizer'"),
        ({"vqgan": 0}, "gives vqgan the share 0"),
        ({"bart": "much"}, "gives bart the share 'much'"),
    ],
)
def test_invalid_shares_are_refused_before_anything_is_trained(tmp_path, trained, shares, sentence):
    preset = tiny_preset(tmp_path / "tiny")
    preset = save_preset(replace(preset, recipes={**preset.recipes, "all": shares}), preset.folder)
    with pytest.raises(TrainingError, match=sentence):
        list(train_everything(AllRequest(preset=str(preset.folder), run_dir=tmp_path / "run", minutes=1)))
    assert trained == []


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "needs a limit"),
        (["--minutes", "0"], "minutes is 0.0"),
        (["--minutes", "1", "--stop-after", "-1"], "stop_after is -1"),
        (["--minutes", "1", "--precision", "fp7"], "precision is 'fp7'"),
        (["--minutes", "1", "--run-dir", "damaged"], "finished.json is not valid JSON"),
    ],
)
def test_bad_input_gets_one_sentence_and_exit_code_1(tmp_path, monkeypatch, arguments, sentence):
    monkeypatch.chdir(tmp_path)
    preset = tiny_preset(tmp_path / "tiny")
    Path("damaged").mkdir()
    Path("damaged/finished.json").write_text("{")
    result = CliRunner().invoke(app, ["train", "all", "--preset", str(preset.folder), *arguments])
    assert result.exit_code == 1
    assert sentence in result.stderr
    assert "Traceback" not in result.output
    assert len(result.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize(
    "content",
    ["[1]", "3", "null", '{"vqgan": 3}', '{"painter": {}}', '{"vqgan": {"step": "x"}}', "[" * 9999, "9" * 5000, "\\x"],
)
def test_a_damaged_list_of_finished_blocks_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "finished.json").write_text(content)
    with pytest.raises(TrainingError, match=r"finished\.json .*remove it and use --resume"):
        read_finished(tmp_path)


def test_settings_of_the_command_line_override_the_presets_and_reach_their_block(tmp_path, trained):
    given = ("bart.learning_rate=0.002", "bart.caption_dropout=0", "vqgan.batch_size=3")
    preset = tiny_preset(tmp_path / "tiny")
    list(train_everything(AllRequest(preset=str(preset.folder), run_dir=tmp_path / "run", steps=2, set=given)))
    reached = {request.block: request.set for request in trained if request.set}
    assert reached == {"vqgan": given[2:], "bart": given[:2]}
    settings = recipe_settings("bart", preset, given)
    assert isinstance(settings, BartSettings)
    assert (settings.learning_rate, settings.caption_dropout) == (0.002, 0)
    assert settings.batch_size == recipe_settings("bart", preset).batch_size
    assert recipe_settings("vqgan", preset, given).batch_size == 3
    assert recipe_settings("vqgan", preset, ["vqgan.distinct=null"]).distinct is None


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ("bart.learning_rate", "write BLOCK.SETTING=VALUE"),
        ("learning_rate=1", "write BLOCK.SETTING=VALUE"),
        ("bart.learning_rate=fast", "write BLOCK.SETTING=VALUE"),
        ("bert.learning_rate=1", "There is no block 'bert' with settings"),
        ("bart.learning_speed=1", "unknown key 'learning_speed'"),
        ("clip.learning_rate=-1", "learning_rate"),
        ("clip.batch_size=true", "batch_size is True"),
    ],
)
def test_an_invalid_setting_is_refused_before_anything_is_trained(tmp_path, trained, given, sentence):
    preset = tiny_preset(tmp_path / "tiny")
    with pytest.raises(TrainingError, match=sentence):
        list(train_everything(AllRequest(preset=str(preset.folder), run_dir=tmp_path / "run", steps=2, set=(given,))))
    assert not trained


def test_a_setting_of_another_block_is_refused():
    with pytest.raises(TrainingError, match="A setting of vqgan has no effect on the training of bart"):
        Request(block="bart", set=("vqgan.batch_size=3",))


def test_the_command_that_resumes_repeats_each_setting():
    request = Request(block="bart", steps=5, set=("bart.learning_rate=0.002", "bart.betas=[0.9, 0.99]"))
    words = shlex.split(resume_command("bart", request))
    assert [words[i + 1] for i, word in enumerate(words) if word == "--set"] == list(request.set)


def test_a_tracker_gets_every_line_of_the_metrics(tmp_path):
    preset = tiny_preset(tmp_path / "tiny")
    words = ["train", "classifier", "--preset", str(preset.folder), "--run-dir", str(tmp_path / "run")]
    result = CliRunner().invoke(app, [*words, "--steps", "2", "--precision", "no", "--track", "tensorboard"])
    assert result.exit_code == 0, result.output
    (events,) = (tmp_path / "run" / "classifier" / "atelier").glob("events*")
    content = events.read_bytes()
    metrics = read_metrics(tmp_path / "run" / "classifier" / METRICS_FILE)
    assert metrics
    assert all(name.encode() in content for line in metrics for name in line if name != "step")


@pytest.mark.parametrize(("name", "sentence"), [("notes", "There is no tracker 'notes'"), ("aim", "pip install aim")])
def test_a_tracker_that_cannot_be_used_is_refused(name, sentence):
    with pytest.raises(TrainingError, match=sentence):
        Request(block="bart", track=name)
