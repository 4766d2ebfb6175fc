"""Training on several processes gives the same numbers as on one, and all use one clock."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from atelier.training.data import save_captioned
from atelier.weights.preset import load_preset
from atelier.world import small_world
from tiny_preset import tiny_preset

TESTS = Path(__file__).parent
STEPS = 6
BATCH = 8  # pictures in a batch of all processes together
# Whitening subtracts the mean, so the gradients of these are rounding errors, which Adam scales up. The averages have
# the whitening folded into their `quant_conv`.
WITHOUT_GRADIENT = {
    *("encoder.conv_out.bias", "quant_conv.0.bias"),
    *("averaged.encoder.conv_out.bias", "averaged.quant_conv.bias"),
}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    save_captioned(small_world().sample(64, seed=0), folder, 16)
    return folder


def run(folder: Path, processes: int, **options: Any) -> list[dict[str, Any]]:
    """Train in so many processes; return the step and the weights of each process at the end."""
    folder.mkdir(parents=True, exist_ok=True)
    request = folder / "request.json"
    request.write_text(json.dumps({"folder": str(folder), "batch_size": BATCH // processes, **options}))
    command = [sys.executable, str(TESTS / "process_run.py"), str(request)]
    if processes > 1:
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            port = unused.getsockname()[1]
        # With --cpu, accelerate leaves starting the processes to MPI; with --multi_gpu it starts them itself, and the
        # script's Accelerator(cpu=True) keeps them on the CPU.
        launch = ["-m", "accelerate.commands.launch", "--multi_gpu", "--num_machines", "1"]
        launch += ["--mixed_precision", "no", "--dynamo_backend", "no", "--num_processes", str(processes)]
        launch += ["--main_process_port", str(port)]
        command = [sys.executable, *launch, *command[1:]]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join([str(TESTS), *sys.path])}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    return [torch.load(folder / f"weights-{rank}.pt", weights_only=True) for rank in range(processes)]


def assert_alike(a: dict[str, Any], b: dict[str, Any], tolerance: float) -> None:
    assert a["step"] == b["step"]
    for name, tensor in a.items():
        if name != "step" and (tolerance == 0 or name not in WITHOUT_GRADIENT):
            assert torch.allclose(tensor, b[name], atol=tolerance, rtol=tolerance), name


@pytest.fixture(scope="module")
def in_two(tmp_path_factory, pictures) -> list[dict[str, Any]]:
    """The weights of two processes after a training that was not interrupted."""
    return run(tmp_path_factory.mktemp("two"), 2, data=str(pictures), steps=STEPS)


def test_two_processes_train_as_one_with_the_same_batches(tmp_path, pictures, in_two):
    """Weights, their averages, the codebook's statistics and whitening depend on the pictures of all processes."""
    (one,) = run(tmp_path / "one", 1, data=str(pictures), steps=STEPS)
    assert_alike(*in_two, tolerance=0.0)
    assert_alike(one, in_two[0], tolerance=2e-4)


def test_two_processes_resume_to_the_same_numbers(tmp_path, pictures, in_two):
    stopped, _ = run(tmp_path, 2, data=str(pictures), steps=STEPS, stop_after=1e-4)
    assert stopped["step"] < STEPS
    finished, _ = run(tmp_path, 2, data=str(pictures), steps=STEPS)
    assert_alike(in_two[0], finished, tolerance=0.0)


def test_processes_that_start_at_different_times_use_one_clock(tmp_path, pictures):
    """A budget of minutes sets the learning rate, so two clocks would give the processes different weights."""
    first, second = run(tmp_path, 2, data=str(pictures), minutes=0.03, skew=0.5)
    assert first["step"] > 1
    assert_alike(first, second, tolerance=0.0)


def test_two_processes_train_all_blocks_of_a_preset(tmp_path):
    """The first process alone makes the tokenizer and writes the preset; the other one waits for it."""
    preset = tiny_preset(tmp_path / "tiny")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "atelier"]
    command += ["train", "all", "--preset", str(preset.folder), "--run-dir", str(tmp_path / "run"), "--steps", "2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("is a preset to draw with") == 1
    assert load_preset(tmp_path / "run" / "preset").complete
