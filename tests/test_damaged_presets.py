"""A damaged or unreadable preset does not prevent the use of the others, and one sentence names it and the reason."""

import io
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from atelier import doctor
from atelier.cli import app as shell
from atelier.drawing.pipeline import Pipeline
from atelier.page.presets import Presets
from atelier.weights.preset import best_preset, find_presets
from atelier.weights.storage import PresetError
from tiny_preset import filled_preset
from typer.testing import CliRunner

Damage = Callable[[Path, pytest.MonkeyPatch], str]


def config_cut_off(folder: Path, _: pytest.MonkeyPatch) -> str:
    path = folder / "config.json"
    path.write_bytes(path.read_bytes()[:-20])
    return f"{path} is not valid JSON"


def weights_truncated(folder: Path, _: pytest.MonkeyPatch) -> str:
    path = folder / "bart.safetensors"
    path.write_bytes(path.read_bytes()[:-7])
    return f"{path} was truncated or altered"


def folder_closed(folder: Path, patch: pytest.MonkeyPatch) -> str:
    """Imitate a folder without permissions. Real permissions have no effect if the tests run as root."""
    for module, name in ((os, "stat"), (io, "open")):
        patch.setattr(module, name, refusing(getattr(module, name), folder))
    return f"{folder / 'config.json'} cannot be read: Permission denied"


def refusing(function: Callable[..., Any], folder: Path) -> Callable[..., Any]:
    def call(path: Any, *arguments: Any, **options: Any) -> Any:
        if isinstance(path, str | Path) and folder in Path(path).parents:
            raise PermissionError(13, "Permission denied", str(path))
        return function(path, *arguments, **options)

    return call


def config_leads_nowhere(folder: Path, _: pytest.MonkeyPatch) -> str:
    path = folder / "config.json"
    path.unlink()
    path.symlink_to(path)
    return f"{path} cannot be read"


DAMAGES = [config_cut_off, weights_truncated, folder_closed, config_leads_nowhere]


@pytest.fixture(params=DAMAGES)
def fault(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Write two presets and damage the one that is preferred; returns the expected error."""
    data = tmp_path / "data"
    filled_preset(data / "sound")
    damaged = filled_preset(data / "damaged").folder
    monkeypatch.setattr("atelier.weights.preset.preset_folders", lambda: [data])
    monkeypatch.chdir(tmp_path)
    assert best_preset().folder.name == "damaged"
    return request.param(damaged, monkeypatch)


def skipped(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "atelier.weights.preset"]


def test_the_best_of_the_others_is_used(fault: str, caplog: pytest.LogCaptureFixture) -> None:
    assert best_preset().folder.name == "sound"
    (sentence,) = skipped(caplog)
    assert sentence.startswith(f"The preset damaged is skipped: {fault}")
    assert Pipeline.from_pretrained().draw("a red cat", n=1, seed=0).pictures.shape[0] == 1


def test_the_damaged_one_is_refused_by_name_with_the_reason(fault: str) -> None:
    with pytest.raises(PresetError) as caught:
        Pipeline.from_pretrained("damaged")
    assert str(caught.value).startswith(fault)


def test_the_page_starts_and_draws(fault: str, caplog: pytest.LogCaptureFixture) -> None:
    presets = Presets()
    assert len(skipped(caplog)) == 1
    assert presets.first == "sound"
    assert presets.pipeline("sound").draw("a red cat", n=1, seed=0).pictures.shape[0] == 1


def test_the_page_starts_with_a_named_preset(fault: str) -> None:
    assert Presets("sound").first == "sound"


@pytest.mark.parametrize("words", [["words"], ["draw", "a red cat", "--n", "1"], ["export-clip", "exported"]])
def test_every_command_uses_the_other(words: list[str], fault: str, caplog: pytest.LogCaptureFixture) -> None:
    assert_run(words, fault, caplog)


@pytest.mark.parametrize("fault", [weights_truncated], indirect=True)
def test_evaluate_uses_the_other(fault: str, caplog: pytest.LogCaptureFixture) -> None:
    assert_run(["evaluate", "--prompts", "2", "--pictures", "4"], fault, caplog)


def assert_run(words: list[str], fault: str, caplog: pytest.LogCaptureFixture) -> None:
    result = CliRunner().invoke(shell, words)
    assert result.exit_code == 0, result.output
    assert all(sentence.startswith(f"The preset damaged is skipped: {fault}") for sentence in skipped(caplog))
    assert skipped(caplog)


def test_the_doctor_checks_both(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "CHECKS", {"weights": doctor._weights, "drawing": doctor._drawing})
    findings = [finding for finding in doctor.examine() if "sprites" not in finding.text]
    assert next(finding.text for finding in findings if not finding.good).startswith(fault)
    assert [finding.what for finding in findings if finding.good] == ["weights", "drawing"]


def test_without_a_sound_preset_the_damaged_ones_are_named(fault: str, tmp_path: Path) -> None:
    (tmp_path / "data" / "sound" / "config.json").unlink()
    assert list(find_presets()) == ["damaged"]
    with pytest.raises(PresetError, match="No preset with weights was found") as caught:
        best_preset()
    assert fault in str(caught.value)


def test_the_shell_prints_the_sentence(tmp_path: Path) -> None:
    fault = config_cut_off(filled_preset(tmp_path / "damaged").folder, pytest.MonkeyPatch())
    command = [sys.executable, "-m", "atelier", "words"]
    shown = subprocess.run(
        command, env={**os.environ, "ATELIER_DATA": str(tmp_path)}, capture_output=True, text=True, check=True
    )
    (line,) = [line for line in shown.stderr.splitlines() if "skipped" in line]
    assert line.startswith(f"The preset damaged is skipped: {fault}")
    assert "Traceback" not in shown.stderr
