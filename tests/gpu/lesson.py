"""Execute lesson 5 and write it with its outputs: python tests/gpu/lesson.py NOTEBOOK [CELLS]

NOTEBOOK is the file to write, outside the repository's notebooks, so that these stay as they are. CELLS is the number
of cells to execute, from the first one, for a rehearsal. The last line of the output is a JSON object.
"""

from __future__ import annotations

import base64
import json
import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "lib"), str(ROOT / "notebooks" / "source" / "tools")]

import build_lessons  # noqa: E402
import nbformat  # noqa: E402
import typer  # noqa: E402
from assembly import assemble  # noqa: E402
from atelier.teaching.lessons import LESSONS, NOTEBOOKS  # noqa: E402
from atelier.teaching.mine import FOLDER_VARIABLE  # noqa: E402


def execute(target: Path, cells: int | None) -> dict[str, object]:
    """Execute the lesson, write it, and save its figures beside it; returns what was found."""
    os.environ.setdefault(FOLDER_VARIABLE, str(target.parent / "mine"))  # not the learner's blocks
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT / "lib"), os.environ.get("PYTHONPATH", "")]))
    lesson = assemble(LESSONS["5"])
    lesson.cells = lesson.cells[:cells]
    notebook, seconds = build_lessons.execute(lesson, NOTEBOOKS)
    nbformat.write(notebook, target)
    figures = [
        output.data["image/png"]
        for cell in notebook.cells
        for output in cell.get("outputs", ())
        if "image/png" in output.get("data", {})
    ]
    for number, png in enumerate(figures):
        target.with_name(f"lesson_5_{number:02d}.png").write_bytes(base64.b64decode(png))
    faults = [] if cells else build_lessons.faults(notebook, "5_full_pipeline")
    return {"seconds": round(seconds), "cells": len(notebook.cells), "figures": len(figures), "faults": faults}


if __name__ == "__main__":
    typer.echo(json.dumps(execute(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else None)))
