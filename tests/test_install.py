"""Every way to install the course gives an `atelier` that draws, trains and examines itself, outside a checkout.

The package is really built and installed, each time into an environment of its own. The environments borrow the
packages that the course needs from the one that runs the tests, so that nothing is downloaded.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ("pyproject.toml", "README.md", "LICENSE", "NOTICE", "CITATION.cff", "LICENSES", "lib")
PRESETS = ("full", "laptop", "sprites", "studio")
MOST_BYTES = 45e6


def run(*words: str | Path, folder: Path, **environment: str) -> str:
    """Run a command in a folder without the settings of this process; fail with its output if it fails."""
    kept = {name: text for name, text in os.environ.items() if name not in {"PYTHONPATH", "ATELIER_DATA"}}
    done = subprocess.run(
        [str(word) for word in words], cwd=folder, env={**kept, **environment}, capture_output=True, text=True
    )
    assert done.returncode == 0, f"{words}\n{done.stdout}{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with the files from which the package is built."""
    folder = tmp_path_factory.mktemp("source")
    ignored = shutil.ignore_patterns("__pycache__", ".lock", "*.egg-info")
    for name in PACKAGE:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=ignored)
        else:
            shutil.copy(ROOT / name, folder / name)
    for name in PRESETS:
        shutil.copytree(ROOT / "data" / name, folder / "data" / name, ignore=ignored)
    run("git", "init", "--quiet", folder=folder)
    run("git", "add", "--all", folder=folder)
    identity = ("-c", "user.name=test", "-c", "user.email=test@example.org")
    run("git", *identity, "commit", "--quiet", "--message", "everything", folder=folder)
    return folder


@pytest.fixture(scope="module")
def built(source: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The source archive, and the wheel that is built from it."""
    folder = tmp_path_factory.mktemp("built")
    run(sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-d", folder, folder=source)
    (archive,) = folder.glob("*.tar.gz")
    with tarfile.open(archive) as content:
        content.extractall(folder, filter="data")
    unpacked = folder / archive.name.removesuffix(".tar.gz")
    run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder, folder=unpacked)
    (wheel,) = folder.glob("*.whl")
    return {"sdist": archive, "wheel": wheel}


def test_the_archives_contain_what_they_need_and_no_more(built: dict[str, Path]) -> None:
    with zipfile.ZipFile(built["wheel"]) as wheel:
        names = set(wheel.namelist())
    assert {"atelier/py.typed", "atelier/data/laptop/config.json", "atelier/data/sprites/models.json"} <= names
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"atelier"}
    with tarfile.open(built["sdist"]) as sdist:
        folders = {name.split("/")[1] for name in sdist.getnames() if "/" in name}
    assert folders <= {*PACKAGE, "data", "PKG-INFO", ".gitignore"}
    assert all(path.stat().st_size < MOST_BYTES for path in built.values())


def environment(folder: Path) -> Path:
    """Make an environment that sees the packages of this one but not this course, and return its Python."""
    run(sys.executable, "-m", "venv", "--without-pip", folder, folder=folder.parent)
    python = next(folder.glob("*/python"), folder / "Scripts" / "python.exe")
    packages = run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", folder=folder).strip()
    (Path(packages) / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    return python


WAYS: dict[str, Callable[[Path, dict[str, Path]], Sequence[str | Path]]] = {
    "wheel": lambda source, built: [built["wheel"]],
    "sdist": lambda source, built: [built["sdist"]],
    "git": lambda source, built: [f"git+{source.as_uri()}"],
    "folder": lambda source, built: [source],
    "editable": lambda source, built: ["--editable", source],
}


def install(way: str, source: Path, built: dict[str, Path], folder: Path) -> tuple[Path, Path]:
    """Install the course in one way into an environment of its own; return its Python and the folder of `atelier`."""
    python = environment(folder / "environment")
    offline = ("--offline", "--no-deps", "--no-build-isolation", "--no-cache")
    command = (sys.executable, "-m", "uv", "pip", "install", "--python", python, *offline)
    run(*command, *WAYS[way](source, built), folder=folder)
    where = run(python, "-c", "import atelier; print(atelier.__file__)", folder=folder)
    return python, Path(where.strip()).parent


def examine(python: Path, folder: Path) -> None:
    """Run the doctor, which draws and names its remedies for this kind of install."""
    found = run(python.with_name("atelier"), "doctor", folder=folder, XDG_CACHE_HOME=str(folder / "cache"))
    assert "laptop: 64 pixels, complete" in found
    assert "drawing" in found


@pytest.mark.parametrize("way", ["wheel", "editable"])
def test_an_installed_course_draws_trains_and_examines_itself(
    way: str, source: Path, built: dict[str, Path], tmp_path: Path
) -> None:
    python, package = install(way, source, built, tmp_path)
    assert package.is_relative_to(source if way == "editable" else tmp_path)
    atelier = python.with_name("atelier")
    run(atelier, "draw", "a red house on the beach", "--n", "1", folder=tmp_path)
    assert (tmp_path / "drawing.png").stat().st_size > 0
    options = ("--preset", "laptop", "--run-dir", "run", "--steps", "2", "--batch-size", "2")
    run(atelier, "train", "classifier", *options, folder=tmp_path)
    examine(python, tmp_path)


@pytest.mark.parametrize("way", ["sdist", "git", "folder"])
def test_other_ways_install_the_files_of_the_wheel(
    way: str, source: Path, built: dict[str, Path], tmp_path: Path
) -> None:
    python, package = install(way, source, built, tmp_path)
    assert package.is_relative_to(tmp_path)
    installed = {
        path.relative_to(package.parent).as_posix(): path.read_bytes()
        for path in package.rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }
    with zipfile.ZipFile(built["wheel"]) as wheel:
        assert installed == {name: wheel.read(name) for name in wheel.namelist() if name.startswith("atelier/")}
    examine(python, tmp_path)
