"""The claims of each lesson, for the poll.

They are read from the source files of `atelier.teaching.claims`. Importing these files would import PyTorch, which
takes seconds and hundreds of megabytes, and the room needs only the claims' words.
"""

from __future__ import annotations

import ast
from pathlib import Path

CLAIMS = Path(__file__).resolve().parents[1] / "teaching" / "claims"


def claims_by_lesson(folder: Path = CLAIMS) -> dict[str, list[str]]:
    """Key of a lesson, such as "2d" → the words of the claims that it measures, in the order of its file."""
    paths = sorted(folder.glob("lesson_*.py"))
    return {path.stem.removeprefix("lesson_"): _words(ast.parse(path.read_text(encoding="utf-8"))) for path in paths}


def _words(module: ast.Module) -> list[str]:
    """The first argument of every call of `Claim`, from top to bottom."""
    calls = [node for node in ast.walk(module) if isinstance(node, ast.Call)]
    claims = [call for call in calls if isinstance(call.func, ast.Name) and call.func.id == "Claim"]
    return [ast.literal_eval(call.args[0]) for call in sorted(claims, key=lambda call: call.lineno)]
