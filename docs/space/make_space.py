"""Make the files of a Space of Hugging Face: `make space`. To publish it, push the folder to the Space's repository."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Annotated

import typer

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
BUILT = ROOT / "build" / "space"
OWN = ("app.py", "README.md", "Dockerfile", "requirements.txt")
UNUSED = shutil.ignore_patterns("__pycache__", "*.egg-info", ".lock", "judge.safetensors", "perceptual.safetensors")


def main(target: Annotated[Path, typer.Option(help="The folder to make. An earlier one is deleted.")] = BUILT) -> None:
    """Copy the library, the shipped preset and the Space's own files into TARGET."""
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    for name in OWN:
        shutil.copy(HERE / name, target)
    for name in ("LICENSE", "NOTICE"):
        shutil.copy(ROOT / name, target)
    shutil.copytree(ROOT / "LICENSES", target / "LICENSES")
    shutil.copytree(ROOT / "lib" / "atelier", target / "lib" / "atelier", ignore=UNUSED)
    shutil.copytree(ROOT / "data" / "studio", target / "data" / "studio", ignore=UNUSED)
    typer.echo(f"The Space is in {target}: push it to a Space whose SDK is Docker.")


if __name__ == "__main__":
    typer.run(main)
