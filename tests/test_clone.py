"""A clone with the line endings of Git for Windows has the same bytes, and draws."""

import shutil
import subprocess
from pathlib import Path

from atelier import Pipeline

ROOT = Path(__file__).resolve().parents[1]
TEXT = ("data/laptop", "requirements.txt", "requirements-dev.txt", "postBuild", "Makefile", "lib/atelier/cli.py")


def git(folder: Path, *words: str) -> None:
    identity = ("-c", "user.name=test", "-c", "user.email=test@example.org")
    subprocess.run(["git", *identity, *words], cwd=folder, check=True, capture_output=True)


def test_a_clone_with_windows_line_endings_draws(tmp_path: Path) -> None:
    origin, clone = tmp_path / "origin", tmp_path / "clone"
    origin.mkdir()
    for name in (".gitattributes", *TEXT):
        target = origin / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, target, ignore=shutil.ignore_patterns(".lock"))
        else:
            shutil.copy(ROOT / name, target)
    git(origin, "init", "--quiet")
    git(origin, "add", "--all")
    git(origin, "commit", "--quiet", "--message", "everything")
    git(tmp_path, "clone", "--quiet", "-c", "core.autocrlf=true", str(origin), str(clone))
    for path in origin.rglob("*"):
        if path.is_file() and ".git" not in path.relative_to(origin).parts:
            assert (clone / path.relative_to(origin)).read_bytes() == path.read_bytes(), path.name
    pipe = Pipeline.from_pretrained(clone / "data" / "laptop", device="cpu")
    assert len(pipe.draw("a red cat on the moon", n=1, seed=0).pictures) == 1
