"""Set-up on Colab, Kaggle or a rented server, called by the first cell of every notebook.

It installs the packages that are missing, without changing those that are installed, such as torch, and provides the
course and its command `atelier`. A second call finds that all is there.
"""

import importlib
import importlib.metadata
import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

ROOT = Path(__file__).resolve().parents[3]
EXTRAS = ("lessons", "published")  # of pyproject.toml: what the lessons need
NOT_ON_COLAB = {"jupyterlab", "jupytext", "nbval"}  # the server shows notebooks; they are not built or tested there
SHOWN = ("Downloading", "Installing collected packages")  # how the lines of pip begin that are printed


def installed(path: list[str] | None = None) -> dict[str, str]:
    """Name → version of the installed packages. If a package is installed twice, the first on the path counts."""
    found: dict[str, str] = {}
    for distribution in importlib.metadata.distributions(path=sys.path if path is None else path):
        name = distribution.metadata["Name"]
        if name:  # a package that was removed only in part has no name
            found.setdefault(canonicalize_name(name), distribution.version)
    return found


def missing(versions: dict[str, str]) -> list[str]:
    """The course's requirements that are not among the installed packages, name → version, in any version."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [*project["dependencies"], *(line for extra in EXTRAS for line in project["optional-dependencies"][extra])]
    return [line for line in wanted if _name(line) not in {*versions, *NOT_ON_COLAB}]


def _name(requirement: str) -> str:
    return canonicalize_name(Requirement(requirement).name)


def constraints(versions: dict[str, str]) -> list[str]:
    """A constraint for pip for each installed package, name → version: keep this version."""
    return [f"{name}=={version}" for name, version in versions.items() if _is_version(version)]


def _is_version(text: str) -> bool:
    """Whether pip can read a version; a single constraint that it cannot read makes pip fail."""
    try:
        Version(text)
    except (InvalidVersion, TypeError):
        return False
    return True


class SetupError(Exception):
    """The set-up fails; the message is a sentence, which IPython shows instead of the traceback."""

    def _render_traceback_(self) -> list[str]:
        return [str(self)]


def install(requirements: list[str], versions: dict[str, str]) -> None:
    """Install the requirements without changing the version of any installed package.

    The installed packages may contradict one another: Colab has had CUDA libraries that did not fit its own torch. Then
    pip finds no solution, and the missing packages are installed without regard to the versions that they ask for.

    Args:
        requirements: for pip.
        versions: name → version of the installed packages.

    Raises:
        SetupError: pip fails at that as well.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "constraints.txt"
        path.write_text("\n".join(constraints(versions)) + "\n", encoding="utf-8")
        failure = _pip("--constraint", str(path), *requirements)
    waiting = requirements if failure else []
    while waiting:
        if failure := _pip("--no-deps", *waiting):
            raise SetupError(f"{failure}\npip could not install {', '.join(waiting)}: {_advice(failure)}")
        versions = installed()
        waiting = [need for line in waiting for need in _dependencies(line) if _name(need) not in versions]


def _advice(failure: str) -> str:
    """What to do if pip has failed with this output."""
    if "No space left" in failure:
        return "the disk is full. Free some space, and run this cell again."
    if "NewConnectionError" in failure or "name resolution" in failure:
        return (
            "there is no network. On Kaggle, switch on Internet in the notebook's settings. Then run this cell again."
        )
    return (
        "its messages are above. Start with a new machine (Colab: Disconnect and delete runtime), then run this cell."
    )


def _pip(*arguments: str) -> str:
    """Run pip install, and print a line for each package that it downloads.

    Returns:
        What pip printed if it failed, else "".
    """
    command = [sys.executable, "-m", "pip", "install", "--progress-bar", "off", "--disable-pip-version-check"]
    process = subprocess.Popen(
        [*command, *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8", errors="replace"
    )
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if line.strip().startswith(SHOWN):
            print("  " + line.strip()[:100], flush=True)
    return ("".join(lines) or "pip said nothing.") if process.wait() else ""


def _dependencies(requirement: str) -> list[str]:
    """The requirements of an installed package on this machine."""
    lines = importlib.metadata.requires(_name(requirement)) or []
    markers = {line: Requirement(line).marker for line in lines}
    return [line for line, marker in markers.items() if marker is None or marker.evaluate({"extra": ""})]


def provide_command(folder: Path) -> bool:
    """Write the command `atelier` into a folder, for `!atelier …` and for terminals.

    Returns:
        Whether it was not there yet.
    """
    library = shlex.quote(str(ROOT / "lib"))
    text = (
        f'#!/bin/sh\nPYTHONPATH={library}"${{PYTHONPATH:+:$PYTHONPATH}}" '
        f'exec {shlex.quote(sys.executable)} -m atelier "$@"\n'
    )
    path = folder / "atelier"
    if path.is_file() and path.read_text(encoding="utf-8", errors="replace") == text:
        return False
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    path.chmod(0o755)
    return True


def command_folder() -> Path:
    """The folder for the command: that of Python's commands if it can be written to, else the user's."""
    scripts = Path(sysconfig.get_path("scripts"))
    return scripts if os.access(scripts, os.W_OK) else Path.home() / ".local" / "bin"


def set_up() -> None:
    """Install what is missing, one printed line for each step, and let this process import the course.

    Raises:
        SetupError: pip fails.
    """
    present = installed()
    if needed := missing(present):
        print(f"Installing what is missing: {', '.join(map(_name, needed))}. It can take a few minutes.", flush=True)
        install(needed, present)
        importlib.invalidate_caches()
    folder = command_folder()
    if provide_command(folder):
        print(f"The command atelier is in {folder}.")
    if shutil.which("atelier") is None:
        os.environ["PATH"] = f"{folder}{os.pathsep}{os.environ.get('PATH', '')}"
    if str(ROOT / "lib") not in sys.path:
        sys.path.insert(0, str(ROOT / "lib"))
    now = installed() if needed else present
    changed = [name for name, version in present.items() if now.get(name) != version]
    kept = f"with other versions of {', '.join(changed)}" if changed else f"with torch {now['torch']}"
    print(f"All is there, {kept}. To check this machine: !atelier doctor")
