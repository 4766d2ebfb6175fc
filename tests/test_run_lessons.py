"""The command that runs lessons one after the other: it measures, stops each kernel, and changes no notebook."""

import json
from pathlib import Path

import nbformat
import psutil
import pytest
import run_lessons
from atelier.teaching.lessons import LESSONS
from typer.testing import CliRunner

FIRST, SECOND = (LESSONS[key].name for key in ("2a", "2b"))
NAMES_ITS_KERNEL = "import os\nfrom pathlib import Path\nPath('kernels').open('a').write(f'{os.getpid()}\\n')"


def write(folder: Path, name: str, *sources: str) -> None:
    cells = [nbformat.v4.new_code_cell(source) for source in sources]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), folder / f"{name}.ipynb")


def test_a_failing_lesson_does_not_stop_the_next_and_no_kernel_is_left(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path, FIRST, NAMES_ITS_KERNEL, "1 / 0")
    write(tmp_path, SECOND, NAMES_ITS_KERNEL, "numbers = bytearray(200_000_000)")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert not run_lessons.run_all(["2a", "2b"], recorded=True, folder=tmp_path)
    failed, passed = capsys.readouterr().out.splitlines()
    assert failed.startswith(f"FAIL  {FIRST}: ")
    assert failed.endswith("ZeroDivisionError: division by zero")
    assert passed.startswith(f"OK    {SECOND}: ")
    recorded = json.loads((tmp_path / run_lessons.MEMORY_FILE).read_text())
    assert recorded.keys() == {SECOND}
    assert 200 < recorded[SECOND] < 600
    assert f"{recorded[SECOND]} MB" in passed
    kernels = [int(line) for line in (tmp_path / "kernels").read_text().splitlines()]
    assert len(set(kernels)) == 2
    assert not any(psutil.pid_exists(kernel) for kernel in kernels)
    assert {name: (tmp_path / name).read_bytes() for name in before} == before


def test_recording_keeps_the_other_lessons_in_their_order(tmp_path: Path) -> None:
    assert run_lessons.memory(tmp_path) == {}
    for name, megabytes in ((SECOND, 900), (FIRST, 700), (SECOND, 800)):
        run_lessons.record(name, megabytes, tmp_path)
    assert list(run_lessons.memory(tmp_path).items()) == [(FIRST, 700), (SECOND, 800)]


def test_peak_memory_is_at_least_what_is_held_now() -> None:
    assert run_lessons.peak_memory() >= psutil.Process().memory_info().rss * 0.9


def test_a_wrong_lesson_is_named() -> None:
    app = run_lessons.typer.Typer()
    app.command()(run_lessons.main)
    result = CliRunner().invoke(app, ["2a", "9"])
    assert result.exit_code == 2
    assert "there is no lesson 9" in " ".join(result.output.replace("│", " ").split())
