"""The doctor: on a sound machine no check fails, and each fault has its own remedy."""

import importlib
import importlib.metadata
import json
import shutil
import socket
from collections import namedtuple
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
import torch
from atelier import doctor
from atelier.cli import app
from atelier.drawing.pipeline import Pipeline
from jupyter_client.kernelspec import KernelSpecManager
from tiny_preset import filled_preset
from typer.testing import CliRunner

DATA = Path(__file__).parents[1] / "data"


def free_port() -> int:
    """A port that no other process uses; a fixed one would be shared by tests that run at the same time."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return unused.getsockname()[1]


FREE_PORT = free_port()


@pytest.fixture(autouse=True)
def sound(tmp_path, monkeypatch) -> Path:
    """Make all checks succeed, with a preset that draws quickly. Returns the preset's folder."""
    monkeypatch.setenv("ATELIER_DATA", str(tmp_path))
    monkeypatch.setattr(doctor, "PORTS", {FREE_PORT: "a test"})
    monkeypatch.setattr(doctor, "_driver_sees_a_gpu", lambda: False)
    return filled_preset(tmp_path / "tiny").folder


def failures() -> list[doctor.Finding]:
    return [finding for finding in doctor.examine() if not finding.good]


def test_a_sound_machine_has_no_failures():
    findings = list(doctor.examine())
    assert [str(finding) for finding in findings if not finding.good] == []
    seen = {finding.what for finding in findings}
    assert seen >= {"python", "torch", "torchvision", "transformers", "open_clip_torch", "gpu", "disk", "memory"}
    assert seen >= {"weights", "jupyter", "kernel", "port", "drawing"}


def without(name: str):
    """A version look-up that does not find a package."""
    version = importlib.metadata.version

    def lookup(asked: str) -> str:
        if asked == name:
            raise importlib.metadata.PackageNotFoundError(name)
        return version(asked)

    return lookup


def broken(name: str):
    """An import function that fails for a module."""
    load = importlib.import_module

    def loaded(asked: str):
        if asked == name:
            raise RuntimeError("operator torchvision::nms does not exist")
        return load(asked)

    return loaded


Usage = namedtuple("Usage", "total used free")


def old_python(patch, folder):
    patch.setattr(doctor.sys, "version_info", (3, 10, 4))


def no_open_clip(patch, folder):
    patch.setattr(importlib.metadata, "version", without("open_clip_torch"))


def foreign_torchvision(patch, folder):
    patch.setattr(importlib, "import_module", broken("torchvision"))


def old_driver(patch, folder):
    patch.setattr(doctor, "_driver_sees_a_gpu", lambda: True)
    patch.setattr(torch.cuda, "is_available", lambda: False)


def full_gpu(patch, folder):
    patch.setattr(torch.cuda, "is_available", lambda: True)
    patch.setattr(torch.cuda, "mem_get_info", lambda: (0.2e9, 16e9))
    patch.setattr(torch.cuda, "get_device_name", lambda _: "a GPU")
    patch.setattr(torch.cuda, "is_bf16_supported", lambda **_: False)
    patch.setattr(doctor, "CHECKS", {"gpu": doctor._gpu})


def full_disk(patch, folder):
    patch.setattr(shutil, "disk_usage", lambda _: Usage(100, 99, 10_000_000))


def little_memory(patch, folder):
    patch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=5e8, total=4e9))


def altered_weights(patch, folder):
    file = folder / "clip.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"\0")
    patch.setattr(doctor, "CHECKS", {"weights": doctor._weights})


def no_widgets(patch, folder):
    patch.setattr(importlib.metadata, "version", without("jupyterlab_widgets"))


def foreign_kernel(patch, folder):
    other = folder / "python"
    other.touch()
    patch.setattr(KernelSpecManager, "get_kernel_spec", lambda *_: SimpleNamespace(argv=[str(other)]))


def slow_drawing(patch, folder):
    patch.setattr(doctor, "MOST_SECONDS", 0.0)


def no_drawing(patch, folder):
    def fail(*_: object, **__: object) -> None:
        raise MemoryError("no room")

    patch.setattr(Pipeline, "draw", fail)


@pytest.mark.parametrize(
    ("fault", "what", "remedy"),
    [
        (old_python, "python", "Install Python 3.11"),
        (no_open_clip, "open_clip_torch", "make clean setup"),
        (foreign_torchvision, "torchvision", "torch and torchvision must come from the same place"),
        (old_driver, "gpu", "Update the NVIDIA driver"),
        (full_gpu, "gpu", "Another program holds the GPU's memory"),
        (full_disk, "disk", "Free some space"),
        (little_memory, "memory", "Close other programs"),
        (altered_weights, "weights", "Copy or train it again, or remove"),
        (no_widgets, "jupyter", "jupyterlab_widgets"),
        (foreign_kernel, "kernel", "ipykernel install --sys-prefix"),
        (slow_drawing, "drawing", "Colab"),
        (no_drawing, "drawing", "make clean setup"),
    ],
)
def test_each_fault_has_its_remedy(fault, what, remedy, monkeypatch, sound):
    fault(monkeypatch, sound)
    if what != "drawing":
        monkeypatch.delitem(
            doctor.CHECKS, "drawing", raising=False
        )  # the slowest check, tested by the faults of drawing
    (failure,) = failures()
    assert failure.what == what
    assert remedy in failure.remedy
    assert str(failure).startswith("FAIL")


def test_a_taken_port_is_named():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", FREE_PORT))
        taken.listen()
        (failure,) = failures()
    assert (failure.what, str(FREE_PORT) in failure.text) == ("port", True)
    assert f"--port {FREE_PORT + 1}" in failure.remedy


def test_damaged_sprites_are_named(tmp_path, monkeypatch):
    shutil.copytree(DATA / "sprites", tmp_path / "sprites")
    (tmp_path / "sprites" / "vae.safetensors").write_bytes(b"")
    monkeypatch.delitem(doctor.CHECKS, "drawing")
    (failure,) = failures()
    assert "vae.safetensors" in failure.text
    assert f"remove {tmp_path / 'sprites'}" in failure.remedy


def test_the_remedy_for_a_damaged_preset_depends_on_where_it_came_from(tmp_path, monkeypatch):
    remedy = doctor._restore
    assert remedy(doctor.shipped_folder() / "laptop") == "Get it again: git restore data/laptop."
    assert remedy(tmp_path / "dalle-mini") == "Download it again: atelier download dalle-mini."
    assert remedy(tmp_path / "mine") == f"Copy or train it again, or remove {tmp_path / 'mine'}."
    monkeypatch.setattr("atelier.folders.checkout_folder", lambda: None)
    monkeypatch.setattr(doctor, "checkout_folder", lambda: None)
    assert "Install the course again" in remedy(doctor.shipped_folder() / "laptop")


def test_an_installed_package_needs_no_lessons(monkeypatch):
    monkeypatch.setattr(doctor, "checkout_folder", lambda: None)
    no_open_clip(monkeypatch, None)
    assert failures() == []
    assert {finding.what for finding in doctor.examine()}.isdisjoint(doctor.LESSONS_ONLY)


def test_colab_and_kaggle_bring_their_own_jupyter(monkeypatch):
    kept = {what: doctor.CHECKS[what] for what in ("disk", *doctor.OWN_JUPYTER_ONLY)}
    monkeypatch.setattr(doctor, "CHECKS", kept)
    monkeypatch.setenv("KAGGLE_KERNEL_RUN_TYPE", "Interactive")
    no_widgets(monkeypatch, None)
    assert {finding.what for finding in doctor.examine()} == {"disk"}
    assert doctor._install_again().startswith("Run the first cell of the notebook again")
    monkeypatch.delenv("KAGGLE_KERNEL_RUN_TYPE")
    assert {finding.what for finding in doctor.examine()} == kept.keys()


def test_command_prints_lines_or_json_and_fails_where_something_fails(monkeypatch):
    shown = CliRunner().invoke(app, ["doctor"])
    assert shown.exit_code == 0, shown.output
    assert all(line.startswith("OK ") for line in shown.stdout.splitlines())
    monkeypatch.setattr(doctor, "MOST_SECONDS", 0.0)
    shown = CliRunner().invoke(app, ["doctor"])
    assert shown.exit_code == 1
    assert "FAIL  drawing" in shown.stdout
    shown = CliRunner().invoke(app, ["doctor", "--json"])
    assert shown.exit_code == 1
    (failure,) = (finding for finding in json.loads(shown.stdout) if not finding["good"])
    assert failure.keys() == {"what", "good", "text", "remedy"}


@pytest.mark.parametrize(("supported", "dtype"), [(True, "bfloat16"), (False, "float16")])
def test_the_type_in_which_a_gpu_draws_is_told(supported: bool, dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    full_gpu(monkeypatch, None)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: supported)
    (finding,) = doctor.CHECKS["gpu"]()
    assert finding.text == f"a GPU, 0 of 16 GB free; DALL·E Mini draws in {dtype}"
