"""`atelier push`: a preset is uploaded whole, with a card in the hub's form, or refused with one sentence."""

from collections.abc import Iterator
from pathlib import Path

import published_files as files
import pytest
import yaml
from atelier.cli import app
from atelier.weights.preset import Preset, load_preset, update_preset
from atelier.weights.published.push import PushError, push
from atelier.weights.storage import PresetError
from tiny_preset import filled_preset, tiny_preset
from typer.testing import CliRunner


@pytest.fixture
def preset(tmp_path: Path) -> Preset:
    return filled_preset(tmp_path / "tiny")


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[files.Hub]:
    with files.serve(tmp_path / "hub") as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        monkeypatch.setenv("HF_TOKEN", server.token)
        yield server


def test_a_pushed_preset_is_the_same_preset_with_a_card_for_the_hub(hub: files.Hub, preset: Preset) -> None:
    (preset.folder / "README.md").write_text("# tiny\n\nDraws tiny pictures.\n", encoding="utf-8")
    result = CliRunner().invoke(app, ["push", "somebody/tiny", "--preset", str(preset.folder)])
    assert result.exit_code == 0, result.output
    assert f"{hub.url}/somebody/tiny" in result.stdout
    uploaded = load_preset(hub.root / "somebody" / "tiny")
    assert uploaded.files == preset.files
    uploaded.check_pipeline()
    card = (hub.root / "somebody" / "tiny" / "README.md").read_text(encoding="utf-8")
    _, header, text = card.split("---\n", 2)
    assert yaml.safe_load(header)["license"] == "mit"
    assert "Draws tiny pictures." in text
    assert "hf download somebody/tiny" in text


def test_a_wrong_token_says_how_to_log_in(hub: files.Hub, preset: Preset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    with pytest.raises(PushError, match=r"refused somebody/tiny \(HTTP 401\). Log in with `hf auth login`"):
        push(preset, "somebody/tiny")
    assert not (hub.root / "somebody").exists()


def test_a_preset_that_cannot_draw_is_not_uploaded(hub: files.Hub, tmp_path: Path) -> None:
    with pytest.raises(PushError, match="The preset tiny lacks blocks"):
        push(tiny_preset(tmp_path / "untrained"), "somebody/tiny")
    assert not hub.requests


def test_an_altered_file_is_not_uploaded(hub: files.Hub, preset: Preset) -> None:
    altered = update_preset(preset, files={"bart.safetensors": "0" * 64})
    with pytest.raises(PresetError, match=r"bart\.safetensors"):
        push(altered, "somebody/tiny")
    assert not hub.requests


@pytest.mark.parametrize("repository", ["tiny", "a/b/c", "some body/tiny", ""])
def test_a_repository_has_an_owner_and_a_name(preset: Preset, repository: str) -> None:
    with pytest.raises(PushError, match="give OWNER/NAME"):
        push(preset, repository)


def test_no_connection_gets_one_sentence(preset: Preset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(PushError, match="The hub cannot be reached"):
        push(preset, "somebody/tiny")
