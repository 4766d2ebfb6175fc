"""The loop, the recipes and the command: schedules, averages, interruptions, and what bad input gets."""

import json
import math
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from atelier.blocks.classifier import ClassifierConfig, PictureClassifier
from atelier.blocks.vq import MovingAverageQuantizer
from atelier.blocks.vqgan import VQGAN
from atelier.cli import app
from atelier.training.averages import AveragedWeights, Meter
from atelier.training.checkpoints import newest_checkpoint, training_lock
from atelier.training.codebook import Float32Quantizer
from atelier.training.codes import CodedBatch, encode_pictures
from atelier.training.data import Batch, PaintedPictures, save_captioned
from atelier.training.history import record_history
from atelier.training.loop import Budget, Intervals, Outcome, best_precision, learning_rate, train
from atelier.training.recipe import PartLoss, Recipe, Settings, TrainingError
from atelier.training.recipes.bart import BartRecipe, BartSettings, drop_captions
from atelier.training.recipes.classifier import ClassifierRecipe, ClassifierSettings
from atelier.training.recipes.pictures import grid, noisy, shifted, softened
from atelier.training.recipes.vqgan import VQGANRecipe, VQGANSettings
from atelier.training.run import Request, resume_command, run_folder, run_training, summary
from atelier.weights.preset import Preset, add_file, load_preset, save_preset, save_weights, update_preset
from atelier.weights.storage import PresetError
from atelier.weights.tokenizer import train_tokenizer
from atelier.world import caption, small_world
from tiny_preset import filled_preset, tiny_preset
from torch import nn
from typer.testing import CliRunner

STEPS = 30
OFTEN = Intervals(metrics_steps=1, checkpoint_seconds=0.2, sample_seconds=1e9)


pytestmark = pytest.mark.usefixtures("one_thread")


def tiny_run(folder: str | Path, resume: bool = False, pause: float = 0.0, steps: int = STEPS) -> Outcome:
    """Train a tiny VQ-GAN, the second half with its discriminator; a test also runs this in a process that it kills."""
    folder = Path(folder)
    preset = tiny_preset(folder / "preset")
    torch.manual_seed(0)
    world = small_world()
    perceptual = ClassifierRecipe(preset.classifier_config, world, ClassifierSettings()).classifier
    settings = VQGANSettings(**preset.recipes["vqgan"])
    recipe = VQGANRecipe(preset.vqgan, perceptual, settings)
    data = Slow(PaintedPictures(world, 16, 4, seed=0, paint_together=8), pause)
    accelerator = Accelerator(mixed_precision="no")
    return train(
        recipe,
        data,
        folder / "vqgan",
        Budget(steps=steps),
        accelerator=accelerator,
        resume=resume,
        intervals=OFTEN,
        show_progress=False,
    )


class Slow:
    """Batches with a pause before each, so that a kill falls between two steps and not after the end."""

    def __init__(self, data: PaintedPictures, pause: float) -> None:
        self.data, self.pause = data, pause

    def __getitem__(self, number: int) -> Batch:
        time.sleep(self.pause)
        return self.data[number]


def metrics_of(folder: Path) -> list[dict[str, float]]:
    """Read the lines of metrics of a run, without their seconds."""
    lines = [json.loads(line) for line in (folder / "vqgan" / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key != "seconds"} for line in lines]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory) -> Path:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("uninterrupted")
    assert tiny_run(folder).finished
    return folder


# ---------------------------------------------------------------------------------------------- interruptions


def test_a_run_killed_at_a_random_step_resumes_to_the_same_losses(tmp_path, uninterrupted):
    code = (
        "import torch; from test_training import tiny_run; "
        f"torch.set_num_threads(1); tiny_run({str(tmp_path)!r}, pause=0.1)"
    )
    here = Path(__file__).parent
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(here), *sys.path])}
    victim = subprocess.Popen([sys.executable, "-c", code], cwd=here, env=environment)
    metrics, kill_at = tmp_path / "vqgan" / "metrics.jsonl", random.randint(4, STEPS - 6)
    deadline = time.monotonic() + 120
    while not (metrics.exists() and len(metrics.read_text().splitlines()) >= kill_at):
        assert victim.poll() is None, "the run ended before it could be killed"
        assert time.monotonic() < deadline, "the run did not reach the step where it should be killed"
        time.sleep(0.01)
    victim.send_signal(signal.SIGKILL)
    assert victim.wait() == -signal.SIGKILL
    assert newest_checkpoint(tmp_path / "vqgan") is not None

    outcome = tiny_run(tmp_path, resume=True)
    assert outcome.finished
    assert outcome.step == STEPS
    assert metrics_of(tmp_path) == metrics_of(uninterrupted)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_run_with_a_checkpoint_and_it_resumes_to_the_same_losses(
    tmp_path, uninterrupted, monkeypatch, number
):
    original = Slow.__getitem__

    def interrupting(self: Slow, batch: int) -> Batch:
        if batch == 11:
            os.kill(os.getpid(), number)
        return original(self, batch)

    before = signal.getsignal(number)
    monkeypatch.setattr(Slow, "__getitem__", interrupting)
    outcome = tiny_run(tmp_path)
    assert (outcome.step, outcome.finished) == (12, False)
    assert signal.getsignal(number) is before
    assert newest_checkpoint(tmp_path / "vqgan") == tmp_path / "vqgan" / "checkpoint-00000012"

    monkeypatch.setattr(Slow, "__getitem__", original)
    assert tiny_run(tmp_path, resume=True).finished
    assert metrics_of(tmp_path) == metrics_of(uninterrupted)


def test_the_averaged_weights_survive_an_interruption(tmp_path, uninterrupted):
    tiny_run(tmp_path, steps=STEPS)
    again = tiny_run(tmp_path, resume=True)  # the budget is spent: the weights are those of the checkpoint
    assert again.step == STEPS
    fresh = tiny_run(tmp_path / "fresh").averaged.state_dict()
    for name, tensor in again.averaged.state_dict().items():
        assert torch.equal(tensor, fresh[name]), name


def test_only_the_newest_checkpoint_is_kept_and_unfinished_ones_are_removed(tmp_path, uninterrupted):
    assert [path.name for path in (uninterrupted / "vqgan").glob("checkpoint-*")] == [f"checkpoint-{STEPS:08d}"]
    shutil.copytree(uninterrupted, tmp_path / "run")
    (tmp_path / "run" / "vqgan" / ".unfinished-00000099").mkdir()
    tiny_run(tmp_path / "run", resume=True, steps=STEPS + 2)
    assert [path.name for path in (tmp_path / "run" / "vqgan").glob("*-*")] == [f"checkpoint-{STEPS + 2:08d}"]
    assert not list((tmp_path / "run" / "vqgan").glob(".unfinished-*"))


def test_an_incomplete_line_of_metrics_is_dropped_on_resuming(tmp_path, uninterrupted):
    shutil.copytree(uninterrupted, tmp_path / "run")
    lines = tmp_path / "run" / "vqgan" / "metrics.jsonl"
    lines.write_text(lines.read_text() + '{"step": 31, "los')
    tiny_run(tmp_path / "run", resume=True)
    assert [line["step"] for line in metrics_of(tmp_path / "run")] == list(range(1, STEPS + 1))


def test_a_sample_picture_is_saved(uninterrupted):
    samples = list((uninterrupted / "vqgan" / "samples").glob("*.png"))
    assert [path.name for path in samples] == [f"{STEPS:08d}.png"]


def test_a_folder_with_a_training_is_not_overwritten(uninterrupted):
    with pytest.raises(TrainingError, match=f"already holds a training run, at step {STEPS}"):
        tiny_run(uninterrupted)


def test_a_damaged_checkpoint_is_named(tmp_path, uninterrupted):
    shutil.copytree(uninterrupted, tmp_path / "run")
    state = tmp_path / "run" / "vqgan" / f"checkpoint-{STEPS:08d}" / "state.pt"
    state.write_bytes(state.read_bytes()[:1000])
    with pytest.raises(TrainingError, match=r"state\.pt cannot be read"):
        tiny_run(tmp_path / "run", resume=True)


def with_copy(folder: Path, uninterrupted: Path, name: str) -> Path:
    """Copy a training run, and its checkpoint under another name."""
    shutil.copytree(uninterrupted, folder)
    return shutil.copytree(folder / "vqgan" / f"checkpoint-{STEPS:08d}", folder / "vqgan" / name)


@pytest.mark.parametrize(
    "name",
    ["checkpoint-00000007 (copy)", "checkpoint-best", "checkpoint-", "checkpoint-00000001"],
)
def test_files_of_the_user_beside_the_checkpoints_are_kept(tmp_path, uninterrupted, name):
    own = with_copy(tmp_path / "run", uninterrupted, name)
    (own.parent / "checkpoint-00000099").write_text("a note")
    assert tiny_run(tmp_path / "run", resume=True, steps=STEPS + 2).step == STEPS + 2
    assert (own / "state.pt").is_file()
    assert not (own.parent / f"checkpoint-{STEPS:08d}").exists()


@pytest.mark.parametrize("content", [None, b"", b"half"])
def test_an_older_sound_checkpoint_is_used_if_the_newest_is_damaged(tmp_path, uninterrupted, content):
    damaged = with_copy(tmp_path / "run", uninterrupted, f"checkpoint-{STEPS + 5:08d}") / "state.pt"
    damaged.unlink()
    if content is not None:
        damaged.write_bytes(content)
    assert tiny_run(tmp_path / "run", resume=True, steps=STEPS + 6).step == STEPS + 6
    assert (damaged.parents[1] / f"damaged-{STEPS + 5:08d}").is_dir()
    assert newest_checkpoint(tmp_path / "run" / "vqgan") == damaged.parents[1] / f"checkpoint-{STEPS + 6:08d}"


def test_a_checkpoint_that_a_kill_left_beside_its_successor_is_removed(tmp_path, monkeypatch):
    fit_line(tmp_path, Budget(steps=4))
    kept = shutil.copytree(tmp_path / "checkpoint-00000004", tmp_path.with_name("kept"))
    fit_line(tmp_path, Budget(steps=8), resume=True)
    shutil.move(kept, tmp_path / "checkpoint-00000004")
    fit_line(tmp_path, Budget(steps=8), resume=True)
    assert [path.name for path in tmp_path.glob("checkpoint-*")] == ["checkpoint-00000008"]


@pytest.mark.parametrize("fault", [OSError(28, "No space left"), RuntimeError("unexpected pos 90048 vs 90000")])
def test_a_disk_that_fills_up_leaves_the_last_checkpoint(tmp_path, monkeypatch, fault):
    fit_line(tmp_path, Budget(steps=4))

    def full(content: object, path: Path) -> None:
        path.write_bytes(b"half")
        raise fault

    with monkeypatch.context() as patch:
        patch.setattr("atelier.training.loop.torch.save", full)
        sentence = r"MB are free\)\. Free some space; --resume continues from checkpoint-00000004\."
        with pytest.raises(TrainingError, match=sentence):
            fit_line(tmp_path, Budget(steps=8), resume=True)
    assert not list(tmp_path.glob(".unfinished*"))
    assert fit_line(tmp_path, Budget(steps=8), resume=True).step == 8


def test_an_old_checkpoint_that_cannot_be_removed_does_not_end_the_run(tmp_path, monkeypatch, caplog):
    fit_line(tmp_path, Budget(steps=4))
    remove = shutil.rmtree

    def held_open(path: Path, ignore_errors: bool = False) -> None:
        if Path(path).name.startswith("checkpoint-"):
            raise PermissionError(13, "Permission denied")
        remove(path, ignore_errors)

    with monkeypatch.context() as patch:
        patch.setattr("atelier.training.loop.shutil.rmtree", held_open)
        assert fit_line(tmp_path, Budget(steps=8), resume=True).step == 8
    assert "The old checkpoint" in caplog.text
    assert newest_checkpoint(tmp_path) == tmp_path / "checkpoint-00000008"
    assert fit_line(tmp_path, Budget(steps=12), resume=True).step == 12


def test_a_second_training_in_a_folder_is_refused_at_its_start(tmp_path):
    preset = tiny_preset(tmp_path / "tiny")
    request = Request(block="judge", preset=str(preset.folder), run_dir=tmp_path / "run", steps=1, precision="no")
    with training_lock(tmp_path / "run" / "judge"):
        (tmp_path / "run" / "judge" / ".data.json.1.2.partial").touch()
        for block in ("judge", "tokenizer"):
            with training_lock(tmp_path / "run" / "tokenizer"), pytest.raises(TrainingError, match="Another training"):
                run_training(replace(request, block=block))
        assert not (tmp_path / "run" / "preset").exists()
    run_training(request)
    assert not list((tmp_path / "run").rglob("*.partial"))


def test_damaged_lines_of_metrics_are_left_out(tmp_path):
    fit_line(tmp_path, Budget(steps=4))
    lines = tmp_path / "metrics.jsonl"
    whole = lines.read_bytes()
    lines.write_bytes(b'{"step": 1}\n[1, 2]\n\xff\n' + b"[" * 9999 + b"\n" + whole + b'{"step": "x", "seconds": 1}\n')
    fit_line(tmp_path, Budget(steps=4), resume=True)
    assert lines.read_bytes() == whole


def test_a_first_loss_that_is_not_finite_does_not_promise_a_checkpoint(tmp_path):
    recipe = LineRecipe(Settings(batch_size=4, learning_rate=1e30, warmup_steps=0, clip_norm=1e30))
    with pytest.raises(TrainingError, match="Start again with a smaller learning rate"):
        fit_line(tmp_path, Budget(steps=50), recipe)


# ---------------------------------------------------------------------------------------------- a recipe of one layer


class Line(nn.Module):
    """The line y = a x + b, fitted to y = 2 x with a little noise."""

    def __init__(self) -> None:
        super().__init__()
        self.line = nn.Linear(1, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Compute the mean squared error."""
        return (self.line(x) - 2 * x - 0.01 * torch.randn_like(x)).square().mean()


class LineRecipe(Recipe[Settings, Line]):
    name = "line"

    def __init__(self, settings: Settings, broken_at: float = 2.0, size: int = 1) -> None:
        self.settings, self.config, self.broken_at = settings, {"size": size}, broken_at
        self.exported = Line()
        self.parts = {"line": self.exported}
        self.frozen = {}

    def losses(self, parts: dict[str, nn.Module], batch: Batch, progress: float) -> Iterator[PartLoss]:
        loss = parts["line"](batch.pictures.flatten()[:, None])
        loss = loss * math.nan if progress >= self.broken_at else loss
        yield PartLoss("line", loss, {"loss": loss})


class Numbers:
    """Batches of random numbers instead of pictures; one of them sends SIGTERM to the process."""

    def __init__(self, interrupted_at: int = -1) -> None:
        self.interrupted_at = interrupted_at

    def __getitem__(self, number: int) -> Batch:
        if number == self.interrupted_at:
            os.kill(os.getpid(), signal.SIGTERM)
        pictures = torch.randn(4, 1, 1, 1, generator=torch.Generator().manual_seed(number))
        return Batch(pictures, ["a number"] * 4)


def fit_line(folder: Path, budget: Budget, recipe: LineRecipe | None = None, resume: bool = False) -> Outcome:
    recipe = recipe or LineRecipe(Settings(batch_size=4, learning_rate=0.1, warmup_steps=5))
    accelerator = Accelerator(mixed_precision="no")
    return train(
        recipe, Numbers(), folder, budget, accelerator=accelerator, resume=resume, intervals=OFTEN, show_progress=False
    )


def test_the_loop_learns(tmp_path):
    outcome = fit_line(tmp_path, Budget(steps=200))
    assert outcome.averaged.state_dict()["line.weight"].item() == pytest.approx(2, abs=0.05)
    assert outcome.metrics["loss"] < 1e-3


def test_random_numbers_and_running_means_continue_on_resuming(tmp_path):
    def run(folder: Path, interrupted_at: int = -1, resume: bool = False) -> list[float]:
        train(
            LineRecipe(Settings(batch_size=4, learning_rate=0.1)),
            Numbers(interrupted_at),
            folder,
            Budget(steps=16),
            accelerator=Accelerator(mixed_precision="no"),
            resume=resume,
            intervals=Intervals(metrics_steps=4),
            show_progress=False,
        )
        return [json.loads(line)["loss"] for line in (folder / "metrics.jsonl").read_text().splitlines()]

    torch.manual_seed(0)
    whole = run(tmp_path / "whole")
    torch.manual_seed(0)
    assert run(tmp_path / "halved", interrupted_at=9) == whole[:2]
    torch.manual_seed(0)
    assert run(tmp_path / "halved", resume=True) == whole


def test_minutes_end_a_run_and_a_larger_budget_continues_it(tmp_path):
    first = fit_line(tmp_path, Budget(minutes=0.005))
    assert first.finished
    assert first.seconds == pytest.approx(0.3, abs=0.25)
    second = fit_line(tmp_path, Budget(minutes=0.01), resume=True)
    assert second.step > first.step
    assert second.seconds == pytest.approx(0.6, abs=0.25)


def test_stop_after_leaves_a_checkpoint_that_can_be_resumed(tmp_path):
    outcome = fit_line(tmp_path, Budget(steps=100_000, stop_after=0.002))
    assert not outcome.finished
    assert 0 < outcome.step < 100_000
    assert fit_line(tmp_path, Budget(steps=outcome.step + 5), resume=True).finished


def test_a_loss_that_is_not_finite_stops_the_run_before_a_checkpoint_is_written(tmp_path):
    settings = Settings(batch_size=4, learning_rate=0.1)
    with pytest.raises(TrainingError, match="became NaN or infinite before step"):
        fit_line(tmp_path, Budget(steps=20), LineRecipe(settings, broken_at=0.5))
    checkpoint = newest_checkpoint(tmp_path)
    assert checkpoint is None or int(checkpoint.name.split("-")[1]) <= 10


def test_a_checkpoint_of_other_sizes_is_refused(tmp_path):
    settings = Settings(batch_size=4, learning_rate=0.1)
    fit_line(tmp_path, Budget(steps=3), LineRecipe(settings))
    with pytest.raises(TrainingError, match="other sizes"):
        fit_line(tmp_path, Budget(steps=6), LineRecipe(settings, size=2), resume=True)


def test_changed_settings_apply_from_resuming_on(tmp_path):
    fit_line(tmp_path, Budget(steps=3), LineRecipe(Settings(batch_size=4, learning_rate=0.1, betas=(0.9, 0.99))))
    gentler = LineRecipe(Settings(batch_size=4, learning_rate=0.01, betas=(0.5, 0.6), warmup_steps=1, final_share=1.0))
    chosen = []
    original = gentler.losses

    def recording(parts: dict[str, nn.Module], batch: Batch, progress: float) -> Iterator[PartLoss]:
        for turn in original(parts, batch, progress):
            yield turn
            chosen.append(dict(optimizers[-1].param_groups[0]))

    optimizers = []
    make = gentler.settings.optimizer
    object.__setattr__(gentler.settings, "optimizer", lambda part: optimizers.append(make(part)) or optimizers[-1])
    gentler.losses = recording
    assert fit_line(tmp_path, Budget(steps=6), gentler, resume=True).step == 6
    assert [(group["lr"], tuple(group["betas"])) for group in chosen] == [(0.01, (0.5, 0.6))] * 3
    state = next(iter(optimizers[-1].state.values()))
    assert state["step"] == 6  # the moments were loaded


def test_a_checkpoint_that_does_not_fit_the_recipe_gets_a_sentence(tmp_path):
    settings = Settings(batch_size=4, learning_rate=0.1)
    fit_line(tmp_path, Budget(steps=3), LineRecipe(settings))
    wider = LineRecipe(settings)
    wider.parts["line"].line = nn.Linear(2, 1)
    with pytest.raises(TrainingError, match=r"does not fit the modules and optimizers .*size mismatch") as caught:
        fit_line(tmp_path, Budget(steps=6), wider, resume=True)
    assert "\n" not in str(caught.value)
    more = LineRecipe(settings)
    more.parts["another"] = Line()
    with pytest.raises(TrainingError, match="KeyError: 'another'"):
        fit_line(tmp_path, Budget(steps=6), more, resume=True)


def test_sample_pictures_do_not_make_their_batch_again(tmp_path):
    asked = []

    class Counted(Numbers):
        def __getitem__(self, number: int) -> Batch:
            asked.append(number)
            return super().__getitem__(number)

    train(
        LineRecipe(Settings(batch_size=4, learning_rate=0.1)),
        Counted(),
        tmp_path,
        Budget(steps=5),
        accelerator=Accelerator(mixed_precision="no"),
        intervals=Intervals(sample_seconds=0.0),
        show_progress=False,
    )
    assert asked == [0, 0, 1, 2, 3, 4]


def test_frozen_blocks_run_in_mixed_precision_and_samples_do_not_cache_casts(tmp_path):
    seen = []

    class Watched(LineRecipe):
        def losses(self, parts: dict[str, nn.Module], batch: Batch, progress: float) -> Iterator[PartLoss]:
            frozen = torch.ones(4, 4) @ torch.ones(4, 4)
            seen.append((frozen.dtype, torch.is_autocast_cache_enabled()))
            yield from super().losses(parts, batch, progress)

        def sample(self, averaged: Line, batch: Batch) -> None:
            seen.append(((torch.ones(4, 4) @ torch.ones(4, 4)).dtype, torch.is_autocast_cache_enabled()))

    train(
        Watched(Settings(batch_size=4, learning_rate=0.1)),
        Numbers(),
        tmp_path,
        Budget(steps=1),
        accelerator=Accelerator(mixed_precision="bf16", cpu=True),
        show_progress=False,
    )
    assert seen == [(torch.bfloat16, True), (torch.bfloat16, False)]
    assert not torch.is_autocast_enabled("cpu")


# ---------------------------------------------------------------------------------------------- schedule and averages


def test_the_learning_rate_rises_linearly_and_falls_as_a_cosine():
    settings = Settings(batch_size=1, learning_rate=2.0, warmup_steps=10, final_share=0.1)
    assert [learning_rate(settings, step, 0.0) for step in (0, 4, 9, 500)] == pytest.approx([0.2, 1.0, 2.0, 2.0])
    assert learning_rate(settings, 500, 0.5) == pytest.approx(2.0 * (0.1 + 0.9 * 0.5))
    assert learning_rate(settings, 500, 1.0) == pytest.approx(0.2)
    falling = [learning_rate(settings, 500, share / 20) for share in range(21)]
    assert falling == sorted(falling, reverse=True)


def test_progress_is_that_of_the_budget_that_ends_first():
    assert Budget(steps=100).progress(25, 1e6) == 0.25
    assert Budget(minutes=2).progress(10**6, 30) == 0.25
    both = Budget(steps=100, minutes=2)
    assert both.progress(25, 60) == 0.5
    assert both.progress(75, 60) == 0.75
    assert both.progress(500, 0) == 1.0


@pytest.mark.parametrize("wrong", [{}, {"steps": 0}, {"minutes": -1.0}, {"steps": 5, "stop_after": 0.0}])
def test_an_invalid_budget_is_refused(wrong):
    with pytest.raises(TrainingError):
        Budget(**wrong)


@pytest.mark.parametrize(
    "wrong",
    [
        {"batch_size": 0},
        {"learning_rate": 0.0},
        {"learning_rate": math.nan},
        {"learning_rate": math.inf},
        {"ema_decay": 1.0},
        {"ema_decay": math.nan},
        {"clip_norm": 0.0},
        {"clip_norm": math.nan},
        {"warmup_steps": -1},
        {"weight_decay": math.nan},
        {"final_share": -0.1},
        {"betas": (0.9, 1.0)},
        {"distinct": 0},
    ],
)
def test_invalid_settings_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        replace(Settings(batch_size=1, learning_rate=1.0), **wrong)


def test_averaged_weights_follow_the_formula_and_copy_integers():
    torch.manual_seed(0)
    module = nn.BatchNorm1d(3)
    averaged = AveragedWeights(module, decay=0.5)
    expected = module.weight.detach().clone()
    for step in range(12):
        with torch.no_grad():
            module.weight.normal_()
            module.state_dict()["num_batches_tracked"].add_(1)
        averaged.update(step)
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * module.weight.detach()
    kept = averaged.module.state_dict()
    assert torch.allclose(kept["weight"], expected, atol=1e-6)
    assert kept["num_batches_tracked"].item() == 12
    assert not any(parameter.requires_grad for parameter in averaged.module.parameters())
    assert not averaged.module.training


def test_a_restored_meter_continues_with_the_same_means():
    meter = Meter()
    meter.add({"loss": torch.tensor(1.0), "rare": torch.tensor(8.0)})
    again = Meter.restored(meter.state(), torch.device("cpu"))
    again.add({"loss": torch.tensor(4.0)})
    assert again.means() == {"loss": 2.5, "rare": 8.0}


def test_weight_decay_does_not_apply_to_biases_and_norms():
    module = nn.Sequential(nn.Linear(3, 3), nn.LayerNorm(3))
    optimizer = Settings(batch_size=1, learning_rate=1.0, weight_decay=0.3).optimizer(module)
    decays = {tuple(p.shape): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    assert decays == {(3, 3): 0.3, (3,): 0.0}


def test_bf16_is_chosen_only_for_devices_that_support_it(monkeypatch):
    for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        monkeypatch.setattr(torch.cpu, name, lambda: False, raising=False)
    assert best_precision("cpu") == "no"
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True, raising=False)
    assert best_precision("cpu") == "bf16"


# ---------------------------------------------------------------------------------------------- recipes


def test_the_share_of_dropped_captions():
    torch.manual_seed(0)
    text, empty = torch.full((20_000, 5), 7), torch.tensor([0, 2, 1, 1, 1])
    dropped = drop_captions(text, empty, 0.15)
    gone = (dropped == empty).all(1)
    assert gone.float().mean().item() == pytest.approx(0.15, abs=0.01)
    assert (dropped[~gone] == 7).all()
    assert torch.equal(drop_captions(text, empty, 0.0), text)


def test_the_weight_of_the_discriminator_rises_from_its_start():
    settings = VQGANSettings(discriminator_start=0.5, discriminator_ramp=0.1, discriminator_weight=0.8)
    weights = [settings.adversarial_weight(progress) for progress in (0.0, 0.49, 0.55, 0.6, 1.0)]
    assert weights == pytest.approx([0, 0, 0.4, 0.8, 0.8])
    assert VQGANSettings(discriminator_start=1.0).adversarial_weight(1.0) == 0


def test_the_discriminator_has_turns_only_after_its_start(uninterrupted):
    lines = metrics_of(uninterrupted)
    assert all("discriminator" not in line for line in lines[: STEPS // 2])
    assert all("discriminator" in line for line in lines[STEPS // 2 :])


def test_missing_labels_add_nothing_to_the_loss():
    world = small_world()
    scenes = world.sample(40, seed=0)
    without_subject = [scene for scene in world.sample(400, seed=1) if scene.subject is None][:4]
    assert len(without_subject) == 4
    config = ClassifierConfig(world.attributes, resolution=16, widths=(4, 4))
    recipe = ClassifierRecipe(config, world, ClassifierSettings())
    for chosen in (scenes, without_subject):
        batch = Batch(torch.rand(len(chosen), 3, 16, 16), list(map(caption, chosen)), chosen)
        (turn,) = recipe.losses(recipe.parts, batch, 0.0)
        assert torch.isfinite(turn.loss)
    assert turn.metrics["subject"] == 0
    with pytest.raises(TrainingError, match="folder of pictures"):
        next(recipe.losses(recipe.parts, Batch(torch.rand(1, 3, 16, 16), ["a cat"]), 0.0))


def test_augmentations_shift_soften_and_add_noise():
    torch.manual_seed(0)
    pictures = torch.rand(6, 3, 16, 16)
    assert torch.equal(shifted(pictures, 0), pictures)
    moved = shifted(pictures, 2)
    assert moved.shape == pictures.shape
    places = [
        any(torch.equal(moved[i, :, 4:12, 4:12], pictures[i, :, 4 + y : 12 + y, 4 + x : 12 + x])
            for y in range(-2, 3) for x in range(-2, 3))
        for i in range(6)
    ]  # fmt: skip
    assert all(places)
    assert torch.equal(softened(pictures, 0.0), pictures)
    assert softened(pictures, 1.0).std() < pictures.std()
    assert torch.equal(noisy(pictures, 0.0), pictures)
    assert 0 < (noisy(pictures, 0.1) - pictures).std() < 0.1


def test_the_grid_reads_from_left_to_right():
    pictures = torch.arange(6.0)[:, None, None, None].expand(6, 3, 2, 2)
    assert grid(pictures, columns=3)[0, ::2, ::2].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert grid(pictures, columns=4)[0, ::2, ::2].tolist() == [[0, 1, 2, 3], [4, 5, 1, 1]]


def test_codes_used_agrees_with_the_usage_of_the_quantizer(uninterrupted, tmp_path):
    preset = tiny_preset(tmp_path)
    perceptual = ClassifierRecipe(preset.classifier_config, small_world(), ClassifierSettings()).classifier
    recipe = VQGANRecipe(preset.vqgan, perceptual, VQGANSettings())
    codebook, data = recipe.vqgan.quantize, PaintedPictures(small_world(), 16, 4, seed=0, paint_together=4)
    assert isinstance(codebook, MovingAverageQuantizer)
    turn = next(recipe.losses(recipe.parts, data[0], 0.0))
    assert turn.metrics["codes_used"].item() == pytest.approx(codebook.usage().share)
    counts = codebook.counts.copy_(torch.tensor([100.0, 50.0, 0.001] + [0.0] * 13))
    assert (counts > 0.01 * counts.mean()).float().mean().item() == codebook.usage().share == 2 / 16


def test_a_codebook_learned_by_gradient_is_prepared_and_trains(tmp_path):
    preset = tiny_preset(tmp_path)
    perceptual = ClassifierRecipe(preset.classifier_config, small_world(), ClassifierSettings()).classifier
    recipe = VQGANRecipe(replace(preset.vqgan, decay=None), perceptual, VQGANSettings())
    assert type(recipe.vqgan.quantize) is Float32Quantizer
    data = PaintedPictures(small_world(), 16, 4, seed=0, paint_together=4)
    with torch.autocast("cpu", torch.bfloat16):
        turn = next(recipe.losses(recipe.parts, data[0], 0.0))
    turn.loss.backward()
    assert recipe.vqgan.quantize.embedding.weight.grad is not None
    assert "codes_used" not in turn.metrics


def test_the_translator_learns_and_draws_codes_in_range(tmp_path):
    preset = tiny_preset(tmp_path)
    torch.manual_seed(0)
    data = PaintedPictures(small_world(), 16, 4, seed=0, paint_together=4)
    tokenizer = train_tokenizer(data[0].captions, vocabulary=preset.bart.text_vocabulary)
    vqgan = VQGAN(preset.vqgan).eval()
    torch.nn.init.normal_(vqgan.quantize.embedding.weight)
    recipe = BartRecipe(preset.bart, vqgan, tokenizer, BartSettings(caption_dropout=0.0))
    batch = CodedBatch(encode_pictures(vqgan, data[0].pictures), data[0].captions)
    optimizer = torch.optim.Adam(recipe.bart.parameters(), lr=1e-2)
    losses = []
    for _ in range(30):
        (turn,) = recipe.losses(recipe.parts, batch, 0.0)
        optimizer.zero_grad()
        turn.loss.backward()
        optimizer.step()
        losses.append(turn.loss.item())
    assert losses[0] == pytest.approx(math.log(17), abs=0.3)
    assert losses[-1] < 0.7 * losses[0]
    with torch.autocast("cpu", torch.bfloat16):
        picture = recipe.sample(recipe.bart.eval(), batch)
    assert picture is not None
    assert picture.shape == (3, 2 * 16, 4 * 16)
    reconstructions = vqgan(data[0].pictures)[0].clamp(0, 1)
    assert torch.allclose(picture[:, :16], grid(reconstructions, columns=4), atol=0.02)


# ---------------------------------------------------------------------------------------------- the command


def test_every_block_is_trained_and_the_preset_of_the_run_is_complete(tmp_path):
    preset, run_dir = tiny_preset(tmp_path / "tiny"), tmp_path / "run"
    for block in ("tokenizer", "classifier", "judge", "vqgan", "bart", "clip"):
        run_training(Request(block=block, preset=str(preset.folder), run_dir=run_dir, steps=2, precision="no"))
    made = load_preset(run_dir / "preset")
    assert made.complete
    for module in (made.load_vqgan(), made.load_bart(), made.load_clip(), made.load_classifier("judge")):
        assert all(torch.isfinite(tensor).all() for tensor in module.state_dict().values())
    assert made.load_tokenizer().encode(["a cat"], 8).shape == (1, 8)

    assert made.words
    assert made.trained_with == {
        "bart": {file: made.files[file] for file in ("vqgan.safetensors", "tokenizer.json")},
        "clip": {"tokenizer.json": made.files["tokenizer.json"]},
    }
    assert json.loads((made.folder / "history.json").read_text()).keys() == {
        "classifier", "judge", "vqgan", "bart", "clip",
    }  # fmt: skip

    # The next run takes the files that it needs from the finished preset.
    request = Request(block="bart", preset=str(made.folder), run_dir=tmp_path / "next", steps=1, precision="no")
    run_training(request)
    following = load_preset(tmp_path / "next" / "preset")
    assert following.files["vqgan.safetensors"] == made.files["vqgan.safetensors"]
    assert following.words == made.words

    # A translator can be used only with the VQ-GAN with which it was trained.
    request = Request(block="vqgan", preset=str(made.folder), run_dir=run_dir, steps=3, precision="no", resume=True)
    run_training(request)
    again = load_preset(made.folder)
    assert again.load_clip()
    with pytest.raises(PresetError, match=r"bart\.safetensors was trained with another vqgan\.safetensors"):
        again.load_bart()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["vqgan", "--preset", "no-such-preset", "--steps", "1"], "no preset 'no-such-preset'"),
        (["painter", "--steps", "1"], "no block 'painter' to train"),
        (["vqgan", "--steps", "1"], "atelier train classifier"),
        (["bart", "--steps", "1"], "atelier train vqgan"),
        (["clip", "--steps", "1"], "atelier train tokenizer"),
        (["judge"], "needs a limit"),
        (["judge", "--steps", "-3"], "steps is -3"),
        (["judge", "--steps", "1", "--precision", "fp7"], "precision is 'fp7'"),
        (["judge", "--steps", "1", "--batch-size", "0"], "batch_size was 0"),
        (["judge", "--steps", "1", "--data", "."], "without a data folder"),
        (["judge", "--steps", "1", "--warm-start"], "judge.safetensors"),
        (["tokenizer", "--warm-start"], "always trained from scratch"),
        (["tokenizer", "--data", "no-such-folder"], "no folder no-such-folder"),
        (["tokenizer", "--data", "."], "holds no captions.csv"),
    ],
)
def test_bad_input_gets_one_sentence_and_exit_code_1(tmp_path, monkeypatch, arguments, sentence):
    monkeypatch.chdir(tmp_path)
    preset = tiny_preset(tmp_path / "tiny")
    if "--preset" not in arguments:
        arguments = [*arguments, "--preset", str(preset.folder)]
    result = CliRunner().invoke(app, ["train", *arguments, "--run-dir", str(tmp_path / "run")])
    assert result.exit_code == 1
    assert sentence in result.output
    assert "Traceback" not in result.output
    assert len(result.output.strip().splitlines()) == 1


def replace_training(monkeypatch, meanwhile=lambda: None) -> dict[str, tuple[Recipe, PaintedPictures]]:
    """Replace the training loop by a function that only records its recipe and data, by the name of the block."""
    given = {}

    def fake_train(recipe: Recipe, data: PaintedPictures, folder: Path, *_: object, **__: object) -> Outcome:
        given[folder.name] = (recipe, data)
        meanwhile()
        return Outcome(1, 60.0, True, {}, recipe.exported)

    monkeypatch.setattr("atelier.training.run.train", fake_train)
    return given


def test_judge_and_perceptual_network_differ_in_weights_and_scenes(tmp_path, monkeypatch):
    preset, given = tiny_preset(tmp_path / "tiny"), replace_training(monkeypatch)
    for block in ("classifier", "judge"):
        run_training(Request(block=block, preset=str(preset.folder), run_dir=tmp_path / "run", steps=1, precision="no"))
    (perceptual, its_data), (judge, data) = given["classifier"], given["judge"]
    assert not torch.equal(perceptual.exported.stem.weight, judge.exported.stem.weight)
    assert not {str(scene) for scene in its_data[0].scenes or []} & {str(scene) for scene in data[0].scenes or []}
    first = judge.exported.stem.weight
    run_training(Request(block="judge", preset=str(preset.folder), run_dir=tmp_path / "again", steps=1, precision="no"))
    assert torch.equal(given["judge"][0].exported.stem.weight, first)


def test_files_that_another_training_writes_meanwhile_are_kept(tmp_path, monkeypatch):
    preset, run = tiny_preset(tmp_path / "tiny"), tmp_path / "run"
    request = Request(block="judge", preset=str(preset.folder), run_dir=run, steps=1, precision="no")
    replace_training(monkeypatch, meanwhile=lambda: run_training(replace(request, block="tokenizer")))
    run_training(request)
    made = load_preset(run / "preset")
    assert made.files.keys() == {"tokenizer.json", "judge.safetensors"}
    assert "moon" in made.words


@pytest.mark.parametrize(
    ("change", "different"),
    [
        (lambda preset: replace(preset, name="other"), "in name"),
        (lambda preset: replace(preset, bart=replace(preset.bart, width=32)), "in bart"),
        (lambda preset: replace(preset, world="full_world"), "in world, classifier"),
    ],
)
def test_a_run_of_another_preset_is_not_overwritten(tmp_path, change, different):
    preset, run = tiny_preset(tmp_path / "tiny"), tmp_path / "run"
    save_preset(change(preset), tmp_path / "other")
    run_training(Request(block="tokenizer", preset=str(preset.folder), run_dir=run))
    before = (run / "preset" / "config.json").read_bytes()
    with pytest.raises(TrainingError, match=f"belongs to another run.*{different}"):
        run_training(Request(block="judge", preset=str(tmp_path / "other"), run_dir=run, steps=1, precision="no"))
    assert (run / "preset" / "config.json").read_bytes() == before


def test_a_recipe_that_cannot_be_built_leaves_no_preset(tmp_path):
    preset = filled_preset(tmp_path / "tiny")
    update_preset(preset, recipes={"bart": {"batch_size": 0}})
    with pytest.raises(TrainingError, match="batch_size was 0"):
        run_training(
            Request(block="bart", preset=str(preset.folder), run_dir=tmp_path / "run", steps=1, precision="no")
        )
    assert not (tmp_path / "run").exists()


def test_a_run_uses_the_current_recipe_of_the_preset(tmp_path, monkeypatch):
    preset, given = tiny_preset(tmp_path / "tiny"), replace_training(monkeypatch)
    request = Request(block="judge", preset=str(preset.folder), run_dir=tmp_path / "run", steps=1, precision="no")
    run_training(request)
    update_preset(preset, recipes={**preset.recipes, "judge": {"batch_size": 4, "learning_rate": 0.5}})
    run_training(request)
    assert given["judge"][0].settings.learning_rate == 0.5
    assert load_preset(tmp_path / "run" / "preset").recipes["judge"]["learning_rate"] == 0.5


def test_a_run_on_a_folder_of_pictures_belongs_to_no_world(tmp_path):
    preset = filled_preset(tmp_path / "tiny")
    save_captioned(small_world().sample(6, seed=0), tmp_path / "pictures", 16)
    request = Request(block="clip", preset=str(preset.folder), run_dir=tmp_path / "run", steps=1, precision="no")
    run_training(replace(request, data=tmp_path / "pictures"))
    made = load_preset(tmp_path / "run" / "preset")
    assert (made.world, made.words) == ("", ())
    with pytest.raises(TrainingError, match=r"trained on a folder of pictures\. It differs .* in world"):
        run_training(request)
    with pytest.raises(TrainingError, match="no painted world; give a folder"):
        run_training(Request(block="judge", steps=1, preset=str(made.folder), run_dir=tmp_path / "next"))


def test_a_training_is_not_resumed_with_other_data_or_another_seed(tmp_path):
    preset = filled_preset(tmp_path / "tiny")
    request = Request(block="clip", preset=str(preset.folder), run_dir=tmp_path / "run", steps=1, precision="no")
    run_training(request)
    checkpoint = newest_checkpoint(tmp_path / "run" / "clip")
    assert checkpoint is not None
    before = (checkpoint / "state.pt").read_bytes()
    with pytest.raises(TrainingError, match=r"small world, 16 pixels, seed \d+ and seed 0, but now .* the seed is 1\."):
        run_training(replace(request, seed=1, steps=2, resume=True))
    assert (checkpoint / "state.pt").read_bytes() == before
    assert run_training(replace(request, steps=2, resume=True)).step == 2  # ty: ignore[missing-union-attribute]


def test_a_world_that_does_not_exist_gets_a_sentence(tmp_path):
    preset = save_preset(replace(tiny_preset(tmp_path / "tiny"), world="mars"), tmp_path / "tiny")
    with pytest.raises(TrainingError, match="no world 'mars'; there are full_world, small_world"):
        run_training(Request(block="judge", preset=str(preset.folder), run_dir=tmp_path / "run", steps=1))


@pytest.mark.parametrize("number", [0, 1, 99, 100, 101, 199, 200, 950])
def test_the_history_keeps_about_a_hundred_lines_and_the_last(tmp_path, number):
    metrics, history = tmp_path / "metrics.jsonl", tmp_path / "history.json"
    metrics.write_text("".join(f'{{"step": {step}, "seconds": {step}.5}}\n' for step in range(number)))
    history.write_text('{"half": [')
    record_history(history, "judge", [], metrics)
    steps = [line["step"] for line in json.loads(history.read_text())["judge"]]
    assert len(steps) <= 101
    assert len(steps) >= min(number, 50)
    assert steps[-1:] == list(range(number))[-1:]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["history.json", "metrics.jsonl"]


def test_a_warm_start_continues_from_the_trained_weights(tmp_path):
    preset = filled_preset(tmp_path / "tiny")
    whitened = {**preset.recipes, "vqgan": {**preset.recipes["vqgan"], "whiten": True, "learning_rate": 1e-9}}
    preset = save_preset(replace(preset, recipes=whitened), preset.folder)
    preset = save_weights(preset, "perceptual", PictureClassifier(preset.classifier_config))
    preset = add_file(preset, "history.json", b'{"clip": [{"step": 40, "seconds": 2.0, "loss": 3.0}]}')
    for block, load in (("clip", Preset.load_clip), ("vqgan", Preset.load_vqgan)):
        request = Request(
            block=block, preset=str(preset.folder), run_dir=tmp_path / "run", steps=1, precision="no", warm_start=True
        )
        run_training(replace(request, run_dir=tmp_path / "cold", warm_start=False))
        run_training(request)
        trained = dict(load(preset).named_parameters())
        warm, cold = (dict(load(load_preset(tmp_path / run / "preset")).named_parameters()) for run in ("run", "cold"))
        for name, weights in trained.items():
            if "quant" in name:  # the codebook moves with the data, and the whitening with their statistics
                continue
            assert torch.allclose(warm[name], weights, atol=2e-3, rtol=2e-3), name
        assert any(not torch.allclose(cold[name], weights, atol=0.02) for name, weights in trained.items())
    history = json.loads((tmp_path / "run" / "preset" / "history.json").read_text())
    assert [line["step"] for line in history["clip"]] == [40, 41]
    assert history["clip"][1]["seconds"] >= 2.0
    assert "--warm-start --resume" in resume_command("clip", request)


def test_a_session_that_ends_while_the_data_are_prepared_promises_no_weights(tmp_path):
    preset = filled_preset(tmp_path / "tiny")
    request = Request(block="bart", preset=str(preset.folder), run_dir=tmp_path / "run", steps=1, precision="no")
    brief = replace(request, stop_after=1e-6)
    outcome = run_training(brief)
    assert outcome is not None
    assert (outcome.step, outcome.finished, outcome.prepared) == (0, False, False)
    assert "bart.safetensors" not in load_preset(tmp_path / "run" / "preset").files
    sentence = summary(outcome, brief, tmp_path / "run")
    assert sentence.startswith("bart stopped before its first step, while its data were being prepared. Continue with")
    assert "--resume" in sentence
    resumed = run_training(replace(request, resume=True))
    assert resumed is not None
    assert resumed.finished
    assert resumed.prepared


def test_the_summary_says_where_the_weights_are_and_how_to_go_on(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tiny: Preset = tiny_preset(tmp_path / "a folder")
    request = Request(block="classifier", preset=str(tiny.folder), minutes=30.0, batch_size=8)
    folder = run_folder(request)
    assert folder == Path("runs/tiny")
    stopped = summary(Outcome(70, 90.0, False, {}, nn.Identity()), request, folder)
    weights = folder / "preset" / "perceptual.safetensors"
    assert f"stopped at step 70, after 1.5 minutes of training; a preview of its weights is in {weights}" in stopped
    again = f"atelier train classifier --preset '{tiny.folder}' --minutes 30 --batch-size 8 --resume"
    assert f"Continue with `{again}`" in stopped
    unprepared = summary(Outcome(0, 0.0, False, {}, nn.Identity(), prepared=False), request, folder)
    assert "classifier stopped before its first step, while its data were being prepared" in unprepared
    assert "preview" not in unprepared
    assert f"Continue with `{again}`" in unprepared
    finished = summary(Outcome(900, 1800.0, True, {}, nn.Identity()), request, folder)
    assert f"finished at step 900, after 30.0 minutes of training; its weights are in {weights}" in finished
    assert "tokenizer.json" in summary(None, replace(request, block="tokenizer"), folder)
