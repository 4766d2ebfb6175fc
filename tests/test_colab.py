"""Set-up on Colab, in small: what it finds, what it leaves out, what it forbids pip. tests/colab runs the whole."""

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import ipywidgets
import matplotlib.pyplot as plt
import pytest
from atelier.teaching import controls

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def colab() -> ModuleType:
    spec = importlib.util.spec_from_file_location("colab", ROOT / "notebooks/source/tools/colab.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def put(folder: Path, name: str, version: str) -> None:
    metadata = folder / f"{name}-{version}.dist-info" / "METADATA"
    metadata.parent.mkdir(parents=True)
    metadata.write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")


def test_the_first_on_the_path_counts(colab: ModuleType, tmp_path: Path) -> None:
    put(tmp_path / "first", "Typing_Extensions", "4.16.0")
    put(tmp_path / "second", "typing-extensions", "3.10")
    (tmp_path / "second" / "half_removed.dist-info").mkdir()
    assert colab.installed([str(tmp_path / "first"), str(tmp_path / "second")]) == {"typing-extensions": "4.16.0"}


def test_nothing_is_missing_where_all_is_there(colab: ModuleType) -> None:
    assert colab.missing(colab.installed()) == []


def test_what_is_missing_is_named_with_its_range(colab: ModuleType) -> None:
    there = colab.installed()
    del there["ftfy"], there["open-clip-torch"], there["jupyterlab"], there["jupytext"]
    assert colab.missing(there) == ["ftfy>=6.1", "open_clip_torch>=2.30"]


def test_lessons_need_nothing_that_colab_is_not_given(colab: ModuleType) -> None:
    hidden = "; ".join(f"sys.modules[{name!r}] = None" for name in sorted(colab.NOT_ON_COLAB))
    command = f"import sys; {hidden}; import atelier.teaching, atelier.teaching.exercises"
    subprocess.run([sys.executable, "-c", command], check=True)
    for source in (ROOT / "notebooks" / "source").glob("*.py"):
        assert not [name for name in colab.NOT_ON_COLAB if f"import {name}" in source.read_text(encoding="utf-8")]


def test_constraints_keep_each_version_that_pip_can_read(colab: ModuleType) -> None:
    there = {"torch": "2.11.0+cu126", "numpy": "2.0.2", "odd": "1.0-git-abc", "none": None}
    assert colab.constraints(there) == ["torch==2.11.0+cu126", "numpy==2.0.2"]


class Pip:
    """Notes what it is asked; fails as often as it is told to."""

    def __init__(self, *failures: str) -> None:
        self.failures, self.asked = list(failures), []

    def __call__(self, *words: str) -> str:
        if words[0] == "--constraint":
            words = (Path(words[1]).read_text(encoding="utf-8"), *words[2:])
        self.asked.append(words)
        return self.failures.pop(0) if self.failures else ""


def test_pip_is_asked_once_where_all_agrees(colab: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(colab, "_pip", pip := Pip())
    colab.install(["ftfy>=6.1"], {"torch": "2.11.0"})
    assert pip.asked == [("torch==2.11.0\n", "ftfy>=6.1")]


def test_only_what_is_missing_is_installed_where_versions_are_at_odds(
    colab: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = colab.installed()
    del there["wcwidth"]  # which ftfy needs
    monkeypatch.setattr(colab, "installed", lambda: there)
    monkeypatch.setattr(colab, "_pip", pip := Pip("torch needs another nvidia-cublas"))
    colab.install(["ftfy>=6.1"], {"torch": "2.11.0"})
    assert pip.asked[1] == ("--no-deps", "ftfy>=6.1")
    (again,) = pip.asked[2:]
    assert again[0] == "--no-deps"
    assert [line[:7] for line in again[1:]] == ["wcwidth"]


def test_failure_is_a_sentence(colab: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(colab, "_pip", Pip("at odds", "no network"))
    with pytest.raises(SystemExit, match=r"no network\npip could not install ftfy>=6\.1"):
        colab.install(["ftfy>=6.1"], {"torch": "2.11.0"})


def test_pip_is_silent_unless_it_fails(colab: ModuleType, capfd: pytest.CaptureFixture[str]) -> None:
    assert colab._pip("--no-index", "--no-deps", "packaging") == ""
    assert "packaging<0" in colab._pip("--no-index", "--no-deps", "packaging<0")
    assert capfd.readouterr() == ("", "")


def test_controls_are_shown_by_the_widgets_of_colab(monkeypatch: pytest.MonkeyPatch) -> None:
    """Colab has ipywidgets 7, whose widgets cannot say themselves how they are shown."""
    shown: list[dict] = []
    monkeypatch.delattr(ipywidgets.Widget, "_repr_mimebundle_")
    monkeypatch.setattr(controls, "display", lambda bundle, raw: shown.append(bundle))
    controls.explore(lambda share: (plt.figure(), f"a sheet, {share} of it"), share=controls.slider(0.0, 1.0, 0.5))
    (bundle,) = shown
    assert bundle[controls.VIEW].keys() == {"version_major", "version_minor", "model_id"}
    assert "a sheet, 0.5 of it" in bundle["text/html"]
