"""The version, the change log and the workflows agree with one another and with pyproject.toml."""

import re
import sys
import tomllib
from pathlib import Path
from typing import Any

import matrix
import pytest
import yaml
from atelier import __version__
from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).resolve().parents[1]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def jobs(name: str) -> dict[str, Any]:
    return yaml.safe_load((ROOT / ".github" / "workflows" / name).read_text(encoding="utf-8"))["jobs"]


def commands(job: dict[str, Any]) -> list[str]:
    return [step["run"] for step in job["steps"] if "run" in step]


def test_the_newest_entry_of_the_change_log_is_this_version() -> None:
    log = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.findall(r"^## (\S+)$", log, flags=re.MULTILINE)[0] == __version__


def test_the_citation_is_of_this_version() -> None:
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))["version"] == __version__


def test_the_matrix_has_every_platform_and_every_python() -> None:
    matrix = jobs("test.yml")["platforms"]["strategy"]["matrix"]
    classifiers = " ".join(PROJECT["project"]["classifiers"])
    assert matrix["python"] == re.findall(r"Python :: (3\.\d+)", classifiers)
    assert all(python in SpecifierSet(PROJECT["project"]["requires-python"]) for python in matrix["python"])
    assert {system.split("-")[0] for system in matrix["os"]} == {"ubuntu", "macos", "windows"}
    assert matrix["include"] == [{"os": "ubuntu-latest", "python": "3.11", "resolution": "lowest-direct"}]


def test_the_matrix_installs_every_extra() -> None:
    (install,) = [line for line in commands(jobs("test.yml")["platforms"]) if "--resolution" in line]
    assert re.findall(r"\[([a-z,]+)\]", install) == [",".join(sorted(PROJECT["project"]["optional-dependencies"]))]
    assert "--group dev" in install


def test_the_linux_legs_of_the_matrix_can_be_run_here() -> None:
    job = matrix.read_job()
    legs = matrix.linux_legs(job)
    assert list(legs) == [*(f"3.{minor}-highest" for minor in (11, 12, 13, 14)), "3.11-lowest-direct"]
    install, test = matrix.commands(job, legs["3.11-lowest-direct"], Path("/env/bin/python"), has_browser=True)
    assert install[:6] == [sys.executable, "-m", "uv", "pip", "install", "--python"]
    assert install[6:9] == ["/env/bin/python", "--resolution", "lowest-direct"]
    assert ".[lessons,onnx,page,published]" in install
    assert "--system" not in install
    assert test == ["/env/bin/python", "-m", "pytest", "-n", "2"]
    _, fetch, _ = matrix.commands(job, legs["3.11-highest"], Path("/env/bin/python"), has_browser=False)
    assert fetch == ["/env/bin/python", "-m", "playwright", "install", "chromium"]


def test_a_leg_without_its_python_is_not_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(matrix, "ENVIRONMENTS", tmp_path)
    monkeypatch.setenv("UV_PYTHON_DOWNLOADS", "never")
    outcome = matrix.run_leg("old", {"os": "ubuntu-latest", "python": "3.99", "resolution": "highest"}, [])
    assert outcome == "not run: there is no Python 3.99 here"


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_workflows_run_only_commands_that_exist(path: Path) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for job in jobs(path.name).values():
        for line in commands(job):
            first, *rest = line.split()
            if first == "make":
                assert re.search(rf"^{rest[0]}:", makefile, flags=re.MULTILINE), line
            if first.startswith(".ci/"):
                assert (ROOT / first).is_file(), line


def test_a_release_is_tested_first_and_has_the_version_of_its_tag() -> None:
    lines = commands(jobs("release.yml")["release"])
    assert lines[0] == ".ci/run"
    assert "atelier --version" in lines[1]
    for attached in re.findall(r"slides/\S+", lines[-1]):
        assert (ROOT / attached).is_file()


def test_a_report_of_a_fault_asks_for_the_output_of_doctor() -> None:
    templates = sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"))
    forms = {path.stem: yaml.safe_load(path.read_text(encoding="utf-8")) for path in templates}
    assert {"fault", "lesson"} <= forms.keys()
    for form in forms.values():
        assert {"name", "description", "body"} <= form.keys()
    (doctor,) = [field for field in forms["fault"]["body"] if field["id"] == "doctor"]
    assert "atelier doctor" in doctor["attributes"]["label"]
    assert doctor["validations"]["required"]


def test_the_hook_before_a_commit_runs_make_check() -> None:
    (repository,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"]
    (hook,) = repository["hooks"]
    assert hook["entry"] == "make check"
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert re.search(r"^check: develop", makefile, flags=re.MULTILINE)
