"""Set-up on Colab: install the packages that Colab lacks, without changing those that are installed, such as torch."""

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
EXTRAS = ("lessons", "published")  # of pyproject.toml: what the lessons need
NOT_ON_COLAB = {"jupyterlab", "jupytext", "nbval"}  # Colab shows notebooks itself; they are not built or tested there


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


def install(requirements: list[str], versions: dict[str, str]) -> None:
    """Install the requirements without changing the version of any installed package.

    The installed packages may contradict one another: Colab has had CUDA libraries that did not fit its own torch. Then
    pip finds no solution, and the missing packages are installed without regard to the versions that they ask for.

    Args:
        requirements: for pip.
        versions: name → version of the installed packages.

    Raises:
        SystemExit: pip fails at that as well.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "constraints.txt"
        path.write_text("\n".join(constraints(versions)) + "\n", encoding="utf-8")
        failure = _pip("--constraint", str(path), *requirements)
    waiting = requirements if failure else []
    while waiting:
        if failure := _pip("--no-deps", *waiting):
            raise SystemExit(
                f"{failure}\npip could not install {', '.join(waiting)}; its messages are above. "
                "Choose Runtime, then “Disconnect and delete runtime”, and run this cell again."
            )
        versions = installed()
        waiting = [need for line in waiting for need in _dependencies(line) if _name(need) not in versions]


def _pip(*arguments: str) -> str:
    """Run pip install.

    Returns:
        What pip printed if it failed, else "".
    """
    command = [sys.executable, "-m", "pip", "install", "--quiet", *arguments]
    run = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    return (run.stdout or "pip said nothing.") if run.returncode else ""


def _dependencies(requirement: str) -> list[str]:
    """The requirements of an installed package on this machine."""
    lines = importlib.metadata.requires(_name(requirement)) or []
    markers = {line: Requirement(line).marker for line in lines}
    return [line for line, marker in markers.items() if marker is None or marker.evaluate({"extra": ""})]


if __name__ == "__main__":
    if needed := missing(present := installed()):
        install(needed, present)
    if str(ROOT / "lib") not in sys.path:
        sys.path.insert(0, str(ROOT / "lib"))
