"""Set-up on Colab and other servers, in small: the cell and what it calls. tests/colab runs the whole."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import assembly
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
    ftfy, open_clip = colab.missing(there)
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert re.fullmatch(r"ftfy>=[\d.]+", ftfy)
    assert re.fullmatch(r"open_clip_torch>=[\d.]+", open_clip)
    assert all(f'"{line}"' in project for line in (ftfy, open_clip))


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
    with pytest.raises(colab.SetupError, match=r"no network\npip could not install ftfy>=6\.1: its messages are above"):
        colab.install(["ftfy>=6.1"], {"torch": "2.11.0"})


@pytest.mark.parametrize(
    ("output", "words"),
    [
        ("ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device", "the disk is full"),
        ("WARNING: Retrying after connection broken by 'NewConnectionError('…')'", "there is no network"),
    ],
)
def test_a_full_disk_and_a_missing_network_are_named(
    colab: ModuleType, monkeypatch: pytest.MonkeyPatch, output: str, words: str
) -> None:
    monkeypatch.setattr(colab, "_pip", Pip(output, output))
    with pytest.raises(colab.SetupError, match=f"could not install ftfy>=6.1: {words}"):
        colab.install(["ftfy>=6.1"], {"torch": "2.11.0"})


def test_pip_prints_a_line_for_each_download(
    colab: ModuleType, capsys: pytest.CaptureFixture[str], monkeypatch
) -> None:
    script = "print('Collecting a'); print('  Downloading a-1.whl (2 MB)'); print('Installing collected packages: a')"
    real = subprocess.Popen
    monkeypatch.setattr(subprocess, "Popen", lambda command, **how: real([sys.executable, "-c", script], **how))
    assert colab._pip("a") == ""
    assert capsys.readouterr().out == "  Downloading a-1.whl (2 MB)\n  Installing collected packages: a\n"


def test_pip_says_why_it_failed(colab: ModuleType, capfd: pytest.CaptureFixture[str]) -> None:
    assert colab._pip("--no-index", "--no-deps", "packaging") == ""
    assert "packaging<0" in colab._pip("--no-index", "--no-deps", "packaging<0")
    assert capfd.readouterr() == ("", "")


def test_the_second_set_up_finds_all_and_changes_nothing(
    colab: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(colab, "command_folder", lambda: tmp_path / "bin")
    monkeypatch.setattr(colab, "_pip", pip := Pip())
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    monkeypatch.setattr(sys, "path", [place for place in sys.path if place != str(ROOT / "lib")])
    colab.set_up()
    first, *_ = capsys.readouterr().out.splitlines()
    assert first == f"The command atelier is in {tmp_path / 'bin'}."
    before = (tmp_path / "bin" / "atelier").stat().st_mtime_ns, os.environ["PATH"], list(sys.path)
    colab.set_up()
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith(f"All is there, with torch {colab.installed()['torch']}.")
    assert ((tmp_path / "bin" / "atelier").stat().st_mtime_ns, os.environ["PATH"], sys.path) == before
    assert pip.asked == []
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    run = subprocess.run("atelier --version", shell=True, capture_output=True, text=True, check=True, env=environment)
    assert run.stdout.startswith("atelier ")


# ---------------------------------------------------------------------------------------------- the cell

TOOL = "notebooks/source/tools/colab.py"
SAYS = "def set_up():\n    print('set up')\n"


@pytest.fixture
def run_cell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """A function that runs the set-up cell on a server without the course; its arguments replace constants."""
    server = tmp_path / "server"
    server.mkdir()
    monkeypatch.chdir(server)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)

    def run(repository: str = "", course: str = "") -> None:
        source = assembly.setup_source(repository).replace('COURSE = ""', f"COURSE = {course!r}")
        exec(compile(source, "cell", "exec"), {"__name__": "__main__"})

    return run


def own_git(folder: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the cell find a git that runs a script."""
    folder.mkdir()
    (folder / "git").write_text(f"#!/bin/sh\n{script}\n")
    (folder / "git").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")


def test_the_cell_is_short_and_does_nothing_where_the_course_is_installed(capsys: pytest.CaptureFixture[str]) -> None:
    source = assembly.setup_source("")
    assert len(source.splitlines()) <= 60
    exec(compile(source, "cell", "exec"), {"__name__": "__main__"})
    assert capsys.readouterr().out == ""


def test_the_cell_clones_once_and_runs_the_set_up(run_cell, tmp_path, monkeypatch, capsys) -> None:
    script = f'test "$4" = https://github.com/ada/atelier; mkdir -p "$5/{TOOL[:-9]}"; printf "{SAYS}" > "$5/{TOOL}"'
    own_git(tmp_path / "bin", script, monkeypatch)
    run_cell("ada/atelier")
    assert capsys.readouterr().out == "Fetching the course, ada/atelier …\nset up\n"
    (tmp_path / "bin" / "git").unlink()
    run_cell("ada/atelier")
    assert capsys.readouterr().out == "set up\n"
    assert [path.name for path in Path.cwd().iterdir()] == ["atelier"]


@pytest.mark.parametrize("kind", ["zip", "gztar"])
def test_an_uploaded_archive_is_unpacked(run_cell, tmp_path, capsys, kind: str) -> None:
    tool = tmp_path / "packed" / "course-main" / TOOL
    tool.parent.mkdir(parents=True)
    tool.write_text(SAYS)
    archive = Path(shutil.make_archive("course", kind, tmp_path / "packed"))
    run_cell(course=archive.name)
    assert capsys.readouterr().out == f"Fetching the course, {archive.name} …\nset up\n"
    assert (Path("atelier") / TOOL).is_file()


@pytest.mark.parametrize(
    ("script", "repository", "course", "sentence"),
    [
        ("", "", "", "^The address of the course is not in this notebook: write .* into COURSE"),
        ("", "", "course.zip", r"^course\.zip is missing here: install or upload it"),
        ("", "", "broken.zip", r"^broken\.zip cannot be fetched: broken\.zip is not a zip file"),
        ("rm $0", "ada/atelier", "", "ada/atelier is not the course: it has no file notebooks/source/tools/colab.py"),
        (
            "echo 'fatal: unable to access: Could not resolve host: github.com' >&2; exit 128",
            *("ada/atelier", ""),
            r"git cannot fetch ada/atelier: fatal: .*resolve host: github.com\nCheck the address and the network",
        ),
        (
            "echo 'fatal: write error: No space left on device' >&2; exit 128",
            *("ada/atelier", "eve/atelier"),
            "git cannot fetch eve/atelier: fatal: write error: No space left on device",
        ),
    ],
)
def test_each_failure_of_the_cell_is_a_sentence(
    run_cell, tmp_path, monkeypatch, script: str, repository: str, course: str, sentence: str
) -> None:
    own_git(tmp_path / "bin", script or "exit 1", monkeypatch)
    Path("broken.zip").write_bytes(b"no archive")
    with pytest.raises(Exception, match=sentence) as caught:
        run_cell(repository, course)
    assert caught.type.__name__ == "SetupError"
    fault: Any = caught.value
    (shown,) = fault._render_traceback_()  # what IPython prints
    assert shown == str(caught.value)
    assert not Path("atelier").exists()


def test_the_cell_names_a_missing_git(run_cell, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Exception, match=r"^git is missing here: install or upload it"):
        run_cell("ada/atelier")


def test_beside_the_course_the_cell_says_how_to_install_it(run_cell, tmp_path, monkeypatch) -> None:
    (tmp_path / "lib" / "atelier").mkdir(parents=True)
    with pytest.raises(Exception, match="The course is here, but this kernel cannot import it") as caught:
        run_cell("ada/atelier")
    assert f'pip install --editable "{tmp_path}[lessons,published]"' in str(caught.value)


def test_controls_are_shown_by_the_widgets_of_colab(monkeypatch: pytest.MonkeyPatch) -> None:
    """Colab has ipywidgets 7, whose widgets cannot say themselves how they are shown."""
    shown: list[dict] = []
    monkeypatch.delattr(ipywidgets.Widget, "_repr_mimebundle_")
    monkeypatch.setattr(controls, "display", lambda bundle, raw: shown.append(bundle))
    controls.explore(lambda share: (plt.figure(), f"a sheet, {share} of it"), share=controls.slider(0.0, 1.0, 0.5))
    (bundle,) = shown
    assert bundle[controls.VIEW].keys() == {"version_major", "version_minor", "model_id"}
    assert "a sheet, 0.5 of it" in bundle["text/html"]
