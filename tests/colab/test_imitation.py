"""An imitation of Colab: the set-up cell changes no installed package, and lessons run afterwards.

The imitation is a virtual environment with the packages that Colab has, linked from this one, and a package
google.colab. In place of GitHub, git uses this checkout; in place of the registry, pip uses a folder of wheels, packed
from this environment. Some wheels must not be installed: a newer torch, and a newer open_clip that requires it.
"""

import importlib.metadata
import json
import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import assembly
import nbformat
import pytest
import start_pages
from atelier.teaching.lessons import LESSONS, NOTEBOOKS
from nbclient import NotebookClient
from packaging.requirements import Requirement
from test_house import committed_files

ROOT = Path(__file__).resolve().parents[2]
ON_COLAB = ("torch", "torchvision", "transformers", "numpy", "scipy", "matplotlib", "ipywidgets", "ipykernel")
LACKING = ("accelerate", "emoji", "ftfy", "open_clip_torch", "unidecode")  # other packages that lessons import
OWNER, KERNEL = "ada/atelier", "imitation"
LESSON_SECONDS = 600  # for one cell, on a busy machine


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def with_requirements(*names: str) -> set[str]:
    """The packages and their dependencies, as far as they are installed here."""
    found: set[tuple[str, str]] = set()  # a package, and an extra of it, or ""
    waiting = [(canonical(name), "") for name in names]
    while waiting:
        name, extra = waiting.pop()
        if (name, extra) in found:
            continue
        try:
            lines = importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:
            continue  # needed on other platforms
        found.add((name, extra))
        for need in map(Requirement, lines):
            if need.marker is None or need.marker.evaluate({"extra": extra}):
                waiting += [(canonical(need.name), each) for each in ("", *need.extras)]
    return {name for name, _ in found}


def own_files(name: str) -> list[tuple[str, Path]]:
    """Path within site-packages and absolute path of each file of an installed package, without its scripts."""
    files = importlib.metadata.files(name) or []
    return [(file.as_posix(), Path(str(file.locate()))) for file in files if ".." not in file.parts]


def link(names: set[str], folder: Path) -> None:
    """Link packages of this environment into the site-packages folder of another."""
    owners: dict[str, set[str]] = {}
    places: dict[str, Path] = {}
    for name in names:
        for place, path in own_files(name):
            top = place.split("/")[0]
            owners.setdefault(top, set()).add(name)
            places[top] = path.parents[place.count("/")] / top
    for top, by in owners.items():
        if top == "__pycache__":
            continue
        inside = sorted(places[top].iterdir()) if len(by) > 1 else []  # several packages share it: nvidia
        for path in inside or [places[top]]:
            target = folder / path.relative_to(places[top].parent)
            target.parent.mkdir(exist_ok=True)
            target.symlink_to(path)


def pack(name: str, folder: Path) -> None:
    """Pack an installed package as a wheel."""
    distribution = importlib.metadata.distribution(name)
    tag = re.findall(r"^Tag: (\S+)", distribution.read_text("WHEEL") or "", flags=re.MULTILINE)[-1]
    stem = f"{canonical(name).replace('-', '_')}-{distribution.version}"
    record = ""
    with zipfile.ZipFile(folder / f"{stem}-{tag}.whl", "w", zipfile.ZIP_STORED) as wheel:
        for place, path in own_files(name):
            folder_name, _, file_name = place.partition("/")
            if file_name == "RECORD" or "__pycache__" in place:
                continue
            if folder_name.endswith(".dist-info"):
                place = f"{stem}.dist-info/{file_name}"
            wheel.write(path, place)
            record += f"{place},,\n"
        wheel.writestr(f"{stem}.dist-info/RECORD", f"{record}{stem}.dist-info/RECORD,,\n")


def pack_bait(name: str, requires: str, folder: Path) -> None:
    """Make a wheel of a newer version that must not be installed: empty, with one requirement."""
    stem = f"{name}-99.0"
    with zipfile.ZipFile(folder / f"{stem}-py3-none-any.whl", "w") as wheel:
        needs = f"Requires-Dist: {requires}\n" if requires else ""
        wheel.writestr(f"{stem}.dist-info/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 99.0\n{needs}")
        wheel.writestr(f"{stem}.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{stem}.dist-info/RECORD", "")


def publish(folder: Path) -> None:
    """Make a repository in a folder from the files that are committed here, or would be."""

    def git(*words: str, text: str | None = None) -> None:
        name = ("-c", "user.name=Ada", "-c", "user.email=ada@example.org", "-c", "core.autocrlf=false")
        subprocess.run(["git", *name, *words], cwd=folder, input=text, text=True, check=True)

    folder.mkdir(parents=True)
    listed = "\n".join(path.relative_to(ROOT).as_posix() for path in committed_files(ROOT))
    git("init", "--quiet", "--initial-branch=main")
    git("--git-dir", str(folder / ".git"), "--work-tree", str(ROOT), "update-index", "--add", "--stdin", text=listed)
    git("commit", "--quiet", "--message", "The course as it is")


@dataclass(frozen=True)
class Imitation:
    """The imitation of Colab.

    Attributes:
        python: its interpreter.
        site: the folder of its packages.
        wheels: the folder of packages that pip can install.
        content: the folder in which notebooks run.
    """

    python: Path
    site: Path
    wheels: Path
    content: Path

    def versions(self) -> dict[str, str]:
        """Name → version of the packages installed in it."""
        command = [str(self.python), "-m", "pip", "list", "--format=json", "--disable-pip-version-check"]
        listed = json.loads(subprocess.run(command, capture_output=True, check=True, text=True).stdout)
        return {canonical(each["name"]): each["version"] for each in listed}

    def run(self, notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
        """Execute a notebook in it.

        Raises:
            nbclient.exceptions.CellExecutionError: a cell raises an exception.
        """
        resources = {"metadata": {"path": str(self.content)}}
        client = NotebookClient(notebook, timeout=LESSON_SECONDS, kernel_name=KERNEL, resources=resources)
        return client.execute()

    def set_up(self, stamped: Path) -> tuple[dict[str, str], dict[str, str], list[nbformat.NotebookNode]]:
        """Run a lesson's set-up cell, a cell that imports the course, the set-up again, and the command `atelier`.

        Args:
            stamped: a folder of lessons that knows the repository.

        Returns:
            The versions of the packages before and after, and the executed cells.
        """
        first = next(cell for cell in assembly.assemble(LESSONS["1"], stamped).cells if cell.cell_type == "code")
        asked = nbformat.v4.new_code_cell(
            "import atelier, open_clip, torch\nprint(atelier.__file__, torch.__version__)"
        )
        again, command = nbformat.from_dict(first), nbformat.v4.new_code_cell("!atelier --version")
        again.id = "again"
        before = self.versions()
        run = self.run(nbformat.v4.new_notebook(cells=[first, asked, again, command]))
        return before, self.versions(), run.cells


@pytest.fixture(scope="module")
def imitation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Imitation]:
    place = tmp_path_factory.mktemp("colab")
    home, content, wheels = place / "python", place / "content", place / "wheels"
    subprocess.run([sys.executable, "-m", "venv", str(home)], check=True)
    python = home / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    asked = [str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
    site = Path(subprocess.run(asked, capture_output=True, check=True, text=True).stdout.strip())

    there = with_requirements(*ON_COLAB)
    own = [str(python), "-m", "pip", "uninstall", "--quiet", "--yes", "setuptools"]
    subprocess.run(own, check=True, capture_output=True)  # a new environment may have one, and torch ask for another
    link(there - {"pip"}, site)
    (site / "google" / "colab").mkdir(parents=True)
    (site / "google" / "colab" / "__init__.py").touch()

    for folder in (content, wheels):
        folder.mkdir()
    for name in with_requirements(*LACKING) - there:
        pack(name, wheels)
    pack_bait("torch", "", wheels)
    pack_bait("numpy", "", wheels)
    pack_bait("open_clip_torch", "torch>=99", wheels)
    publish(place / "github" / OWNER)

    environment = {
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": str(wheels),
        "PIP_CONFIG_FILE": os.devnull,
        "GIT_CONFIG_COUNT": "2",
        "GIT_CONFIG_KEY_0": f"url.{(place / 'github').as_uri()}/.insteadOf",
        "GIT_CONFIG_VALUE_0": "https://github.com/",
        "GIT_CONFIG_KEY_1": "safe.directory",
        "GIT_CONFIG_VALUE_1": "*",
    }
    kernel = place / "jupyter" / "kernels" / KERNEL / "kernel.json"
    kernel.parent.mkdir(parents=True)
    argv = [str(python), "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    kernel.write_text(json.dumps({"argv": argv, "display_name": KERNEL, "language": "python", "env": environment}))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JUPYTER_PATH", str(place / "jupyter"))
        for name in ("ATELIER_DATA", "PYTHONPATH", "VIRTUAL_ENV"):
            patch.delenv(name, raising=False)
        yield Imitation(python, site, wheels, content)


@pytest.fixture(scope="module")
def stamped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of lessons that knows the repository."""
    folder = tmp_path_factory.mktemp("stamped")
    (folder / "source").symlink_to(NOTEBOOKS / "source")
    (folder / assembly.REPOSITORY_FILE).write_text(OWNER)
    return folder


@pytest.fixture(scope="module")
def set_up(imitation: Imitation, stamped: Path) -> tuple[dict[str, str], dict[str, str], list[nbformat.NotebookNode]]:
    """The imitation, set up for the first time."""
    return imitation.set_up(stamped)


def test_set_up_changes_no_version(set_up) -> None:
    before, after, _ = set_up
    assert before.keys() >= set(ON_COLAB)
    assert "open-clip-torch" not in before
    assert {name: after.get(name) for name in before} == before


def test_set_up_installs_what_is_missing_and_nothing_that_requires_another_torch(set_up, imitation: Imitation) -> None:
    before, after, _ = set_up
    added = after.keys() - before.keys()
    assert {"open-clip-torch", "ftfy"} <= added
    assert not added & {"jupyterlab", "jupytext"}
    assert after["open-clip-torch"] == importlib.metadata.version("open_clip_torch")
    subprocess.run([str(imitation.python), "-m", "pip", "check"], check=True, stdout=subprocess.DEVNULL)


def test_the_course_is_imported_from_the_clone(set_up, imitation: Imitation) -> None:
    before, _, (cell, asked, *_) = set_up
    assert not any(output.output_type == "error" for output in cell.outputs)
    file, version = asked.outputs[0].text.split()
    assert Path(file) == imitation.content / "atelier" / "lib" / "atelier" / "__init__.py"
    assert version.split("+")[0] == before["torch"].split("+")[0]


def test_the_set_up_names_its_steps_and_does_nothing_the_second_time(set_up, imitation: Imitation) -> None:
    before, _, (first, _, again, command) = set_up
    lines = printed(first).splitlines()
    assert lines[0] == f"Fetching the course, {OWNER} …"
    assert lines[1].startswith("Installing what is missing: ")
    assert "open-clip-torch" in lines[1]
    assert lines[-2] == f"The command atelier is in {imitation.python.parent}."
    assert lines[-1].startswith(f"All is there, with torch {before['torch']}")
    assert printed(again) == lines[-1] + "\n"
    assert printed(command).startswith("atelier ")


@pytest.mark.parametrize("key", ["1", "2d", "5"])
@pytest.mark.usefixtures("set_up")
def test_lesson_runs(imitation: Imitation, stamped: Path, key: str) -> None:
    """The set-up cell runs for the second time, as after a restart of the runtime."""
    lesson = assembly.assemble(LESSONS[key], stamped)
    badge, *cells = imitation.run(lesson).cells
    assert f"github/{OWNER}/blob/main/notebooks/{LESSONS[key].name}.ipynb" in badge.source
    stored = nbformat.read(NOTEBOOKS / f"{LESSONS[key].name}.ipynb", as_version=4).cells
    checked = [cell for cell in cells if assembly.TAGS["checked"] in cell.metadata.get("tags", ())]
    expected = {cell.source: printed(cell) for cell in stored if cell.cell_type == "code"}
    assert len(checked) >= 4
    for cell in checked:
        assert printed(cell) == expected[cell.source]


@pytest.mark.usefixtures("set_up")
def test_the_start_notebook_finds_the_machine_ready(imitation: Imitation, stamped: Path) -> None:
    """Except the disk, which may be small, the ports, and the speed: this machine may be busy with other tests."""
    check = next(
        cell for cell in imitation.run(start_pages.start_notebook(stamped)).cells if cell.source == start_pages.CHECK
    )
    lines = printed(check).splitlines()
    failed = {line.split()[1] for line in lines if line.startswith("FAIL")}
    assert failed <= {"disk", "memory", "port", "drawing"}
    assert any(line.startswith("OK    weights         studio: ") for line in lines)


def printed(cell: nbformat.NotebookNode) -> str:
    return "".join(output.get("text", "") for output in cell.outputs if output.get("name") == "stdout")


def test_set_up_works_where_installed_packages_contradict_one_another(
    set_up, imitation: Imitation, stamped: Path
) -> None:
    """The installed torch requires a newer sympy than is installed: pip would fail, or replace it."""
    before, after, _ = set_up
    added = sorted(after.keys() - before.keys())
    subprocess.run([str(imitation.python), "-m", "pip", "uninstall", "--quiet", "--yes", *added], check=True)
    next(imitation.site.glob("sympy-*.dist-info")).unlink()
    old = imitation.site / "sympy-1.0.dist-info" / "METADATA"
    old.parent.mkdir()
    old.write_text("Metadata-Version: 2.1\nName: sympy\nVersion: 1.0\n")
    for bait in imitation.wheels.glob("*-99.0-*"):
        bait.unlink()

    was, now, (cell, asked, *_) = imitation.set_up(stamped)
    assert was["sympy"] == "1.0"
    assert {name: now.get(name) for name in was} == was
    assert sorted(now.keys() - was.keys()) == added
    assert not any(output.output_type == "error" for output in cell.outputs)
    assert asked.outputs[0].name == "stdout"
