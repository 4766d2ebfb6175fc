"""Set-up on Colab: install what the course needs and Colab lacks. What is there, torch above all, stays as it is."""

import importlib.metadata
import re
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def missing() -> list[str]:
    """The course's requirements of which no version is installed."""
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["dependencies"]
    installed = {_canonical(it.metadata["Name"]) for it in importlib.metadata.distributions() if it.metadata["Name"]}
    return [line for line in wanted if _canonical(re.split(r"[^\w.-]", line)[0]) not in installed]


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def install(requirements: list[str]) -> None:
    """Install the requirements beside what is there, none of which may change its version."""
    kept = [f"{it.metadata['Name']}=={it.version}" for it in importlib.metadata.distributions() if it.metadata["Name"]]
    with tempfile.TemporaryDirectory() as folder:
        constraints = Path(folder) / "constraints.txt"
        constraints.write_text("\n".join(kept) + "\n", encoding="utf-8")
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--constraint", str(constraints), *requirements]
        subprocess.run(command, check=True)


if __name__ == "__main__":
    if needed := missing():
        install(needed)
    if str(ROOT / "lib") not in sys.path:
        sys.path.insert(0, str(ROOT / "lib"))
