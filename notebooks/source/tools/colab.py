"""Set-up on Colab: install what the course needs and Colab lacks. What is there, torch above all, stays as it is."""

import importlib.metadata
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

ROOT = Path(__file__).resolve().parents[3]
NOT_HERE = {"jupyterlab", "jupytext"}  # Colab is the laboratory, and nobody builds lessons there


def installed(path: list[str] | None = None) -> dict[str, str]:
    """Name → version of what can be imported. Where a package is there twice, the first on the path counts."""
    found: dict[str, str] = {}
    for distribution in importlib.metadata.distributions(path=sys.path if path is None else path):
        name = distribution.metadata["Name"]
        if name:  # a folder left half removed has none
            found.setdefault(canonicalize_name(name), distribution.version)
    return found


def missing(there: dict[str, str]) -> list[str]:
    """The course's requirements of which no version is installed."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return [line for line in project["dependencies"] if _name(line) not in {*there, *NOT_HERE}]


def _name(requirement: str) -> str:
    return canonicalize_name(Requirement(requirement).name)


def constraints(there: dict[str, str]) -> list[str]:
    """A line for pip about each package that is there: this version and no other."""
    return [f"{name}=={version}" for name, version in there.items() if _is_version(version)]


def _is_version(text: str) -> bool:
    """Whether pip can read it: at a single line that it cannot read it would give up altogether."""
    try:
        Version(text)
    except (InvalidVersion, TypeError):
        return False
    return True


def install(requirements: list[str], there: dict[str, str]) -> None:
    """Install the requirements beside what is there, none of which may change its version.

    What is there does not always agree with itself: Colab has had CUDA libraries that its own torch did not ask for.
    Then pip finds no answer, and only what is missing is installed, with no thought for the versions of the rest.

    Raises:
        SystemExit: if pip cannot do that, either.
    """
    with tempfile.TemporaryDirectory() as folder:
        kept = Path(folder) / "constraints.txt"
        kept.write_text("\n".join(constraints(there)) + "\n", encoding="utf-8")
        failure = _pip("--constraint", str(kept), *requirements)
    waiting = requirements if failure else []
    while waiting:
        if failure := _pip("--no-deps", *waiting):
            raise SystemExit(
                f"{failure}\npip could not install {', '.join(waiting)}; its words stand above. "
                "Choose Runtime, then “Disconnect and delete runtime”, and run this cell again."
            )
        there = installed()
        waiting = [need for line in waiting for need in _needs(line) if _name(need) not in there]


def _pip(*words: str) -> str:
    """Run pip install; what it said if it failed, else ""."""
    command = [sys.executable, "-m", "pip", "install", "--quiet", *words]
    run = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    return (run.stdout or "pip said nothing.") if run.returncode else ""


def _needs(requirement: str) -> list[str]:
    """What an installed package needs on this machine."""
    lines = importlib.metadata.requires(_name(requirement)) or []
    markers = {line: Requirement(line).marker for line in lines}
    return [line for line, marker in markers.items() if marker is None or marker.evaluate({"extra": ""})]


if __name__ == "__main__":
    if needed := missing(there := installed()):
        install(needed, there)
    if str(ROOT / "lib") not in sys.path:
        sys.path.insert(0, str(ROOT / "lib"))
