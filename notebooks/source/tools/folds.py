"""Cells that only draw, import or set up are folded in the notebook itself, so that readers see the lesson's subject.

JupyterLab reads `jupyter.source_hidden` in the metadata of a cell, Colab `cellView`. The cells are tagged "folded" in
the source; the set-up and the first imports are always folded.
"""

from __future__ import annotations

import ast
import re

from nbformat import NotebookNode

LEAST_SHARE = 0.7  # of the lines of code that are not folded, so many must be about the lesson's subject

# Functions of the course that draw, and methods of matplotlib's axes and figures.
DRAWING_CALLS = {
    *("figure", "show", "picture_grid", "sheet", "curves", "hide_axes", "posterize", "explore", "slider", "choice"),
    *("imshow", "plot", "bar", "barh", "scatter", "text", "annotate", "legend", "set", "set_title", "set_xticks"),
    *("set_yticks", "add_patch", "axhline", "axvline", "axhspan", "axvspan", "fill_between", "hist", "errorbar"),
    *("tick_params", "set_axis_off", "set_visible", "colorbar", "pcolormesh", "contourf", "contour", "stairs", "step"),
    *("suptitle", "subplots", "invert_yaxis", "set_axisbelow", "margins", "grid", "set_aspect", "set_xlabel"),
}


def fold(cell: NotebookNode) -> None:
    """Fold a code cell, in place."""
    cell.metadata["jupyter"] = {"source_hidden": True}
    cell.metadata["cellView"] = "form"


def is_folded(cell: NotebookNode) -> bool:
    """Whether a cell is folded."""
    return bool(cell.metadata.get("jupyter", {}).get("source_hidden"))


def only_imports(source: str) -> bool:
    """Whether a cell has import statements only."""
    body = _parsed(source).body
    return bool(body) and all(isinstance(node, ast.Import | ast.ImportFrom) for node in body)


def subject_share(notebook: NotebookNode) -> float:
    """The share of the unfolded lines of code that are about the lesson's subject: they neither draw nor import."""
    lines = drawing = 0
    for cell in notebook.cells:
        if cell.cell_type == "code" and not is_folded(cell):
            own, drawn = count_lines(cell.source)
            lines, drawing = lines + own, drawing + drawn
    return 1 - drawing / lines if lines else 1.0


def count_lines(source: str) -> tuple[int, int]:
    """Count the lines of code of a cell, and those among them that draw or import.

    A statement draws if it calls one of DRAWING_CALLS, or if it is a loop or a function in which all other statements
    draw. Blank lines and comments are not counted.
    """
    return _count(_parsed(source).body)


def _count(body: list[ast.stmt]) -> tuple[int, int]:
    lines = drawing = 0
    for node in body:
        inner = [child for name in ("body", "orelse", "finalbody") for child in getattr(node, name, [])]
        if inner:
            own, drawn = _count(inner)
            header = 1
            lines += own + header
            drawing += own + header if drawn == own else drawn
        else:
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            lines += length
            drawing += length if _draws(node) else 0
    return lines, drawing


def _draws(node: ast.stmt) -> bool:
    if isinstance(node, ast.Import | ast.ImportFrom):
        return True
    calls = [child.func for child in ast.walk(node) if isinstance(child, ast.Call)]
    names = {
        call.id if isinstance(call, ast.Name) else call.attr
        for call in calls
        if isinstance(call, ast.Name | ast.Attribute)
    }
    return bool(names & DRAWING_CALLS)


def _parsed(source: str) -> ast.Module:
    magic = re.compile(r"^(\s*)[!%].*", re.MULTILINE)  # Jupyter's commands are not Python
    return ast.parse(magic.sub(r"\1pass", source))
