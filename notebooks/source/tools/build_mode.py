"""The notebooks of notebooks/build: a lesson up to its experiments, with the bodies of its pieces left to the learner.

They are generated from the same sources as the lessons. The body of a piece (see `atelier.teaching.pieces`) is replaced
by its docstring and `raise NotImplementedError`; a check, two hints and the solution follow it.
"""

from __future__ import annotations

import ast
import inspect
import re
import textwrap

import nbformat
from assembly import LessonError, details, fold_hints, folded_cells, read_source, with_setup
from atelier.teaching.lessons import Lesson
from atelier.teaching.pieces import Piece, pieces_of
from nbformat import NotebookNode

FOLDER = "build"
ENDS_BEFORE = re.compile(r"^## \d+ · Break it", re.MULTILINE)
INTRODUCTION = """\
> **Build it yourself.** This notebook is lesson {key} without the code of its pieces: you write them, about {minutes}
> minutes in all. Each piece says what it takes and returns. The cell after it checks your code and tells you what is
> wrong; the cells after that use your code if it is right, and the library's if it is not, so you can run everything at
> any time. Hints and a solution are folded below each check. The experiments, the exercises and the quiz, sections 6 to
> 8, are in the lesson itself."""


def assemble_build(lesson: Lesson, solved: bool = False) -> NotebookNode:
    """Make the build notebook of a lesson, without executing it.

    Args:
        lesson: a lesson with pieces.
        solved: keep the bodies of the pieces.

    Raises:
        LessonError: if a piece is not in the lesson's source, or if its cell calls functions.
    """
    pieces = {piece.name: piece for piece in pieces_of(lesson.key)}
    cells: list[NotebookNode] = []
    for cell in read_source(lesson).cells:
        if cell.cell_type == "markdown" and ENDS_BEFORE.search(cell.source):
            break
        tags = set(cell.metadata.get("tags", ())) - {"checked", "ignored"}
        cell.metadata["tags"] = sorted(tags)
        own = [pieces.pop(name) for name in defined_names(cell) if name in pieces]
        if not own:
            cells += folded_cells(lesson, [cell])
        else:
            cells += _piece_cells(lesson, cell, own, solved)
    if pieces:
        raise LessonError(f"{lesson.name} does not define its pieces {', '.join(pieces)} before its experiments.")
    minutes = sum(piece.minutes for piece in pieces_of(lesson.key))
    cells.insert(1, nbformat.v4.new_markdown_cell(INTRODUCTION.format(key=lesson.key, minutes=minutes)))
    first = next(place for place, cell in enumerate(cells) if cell.cell_type == "code")
    imports = nbformat.v4.new_code_cell("from atelier.teaching.pieces import built")
    cells.insert(first + 1, imports)
    return with_setup(cells, f"{FOLDER}/{lesson.name}", f"build-{lesson.key}")


def defined_names(cell: NotebookNode) -> list[str]:
    """List the functions that a code cell defines, and the methods of its classes as "Class.method"."""
    if cell.cell_type != "code" or cell.source.lstrip().startswith(("%", "!")):
        return []
    names = []
    for node in ast.parse(cell.source).body:
        if isinstance(node, ast.FunctionDef):
            names.append(node.name)
        elif isinstance(node, ast.ClassDef):
            names += [f"{node.name}.{part.name}" for part in node.body if isinstance(part, ast.FunctionDef)]
    return names


def _piece_cells(lesson: Lesson, cell: NotebookNode, pieces: list[Piece], solved: bool) -> list[NotebookNode]:
    """The cells for one with pieces: a heading, the code with empty bodies, and for each piece its check and helps."""
    if any(isinstance(node, ast.Call) for item in ast.parse(cell.source).body for node in _outside_functions(item)):
        raise LessonError(f"{lesson.name}: the cell of the piece {pieces[0].name} calls functions; it may only define.")
    heading = " · ".join(f"`{piece.name}` ({piece.minutes} minutes)" for piece in pieces)
    source = cell.source if solved else emptied(cell.source, pieces)
    cells = [nbformat.v4.new_markdown_cell(f"#### Write {heading}"), nbformat.v4.new_code_cell(source)]
    for piece in pieces:
        cells.append(nbformat.v4.new_code_cell(f'{piece.name} = built("{piece.key}", {piece.name})'))
        helps = fold_hints(list(piece.hints))
        code = textwrap.dedent(ast.get_source_segment(cell.source, find(cell.source, piece.name), padded=True) or "")
        cells.append(nbformat.v4.new_markdown_cell(f"{helps}\n\n" + details("Solution", f"```python\n{code}\n```")))
    return cells


def _outside_functions(statement: ast.stmt) -> list[ast.AST]:
    """List what a statement at the top of a cell executes at once: nothing of a function or a class."""
    return [] if isinstance(statement, ast.FunctionDef | ast.ClassDef) else list(ast.walk(statement))


def find(source: str, name: str) -> ast.FunctionDef:
    """Find a function, or a method given as "Class.method", in the source of a cell."""
    body: list[ast.stmt] = ast.parse(source).body
    node: ast.stmt | None = None
    for part in name.split("."):
        node = next(item for item in body if isinstance(item, ast.FunctionDef | ast.ClassDef) and item.name == part)
        body = node.body
    assert isinstance(node, ast.FunctionDef)
    return node


def emptied(source: str, pieces: list[Piece]) -> str:
    """Replace the bodies of pieces by the library's docstrings, which give all shapes, and NotImplementedError."""
    lines = source.splitlines()
    nodes = [(find(source, piece.name), piece) for piece in pieces]
    for node, piece in sorted(nodes, key=lambda pair: -pair[0].lineno):
        first, last = node.body[0].lineno - 1, node.body[-1].end_lineno
        indent = " " * node.body[0].col_offset
        words = inspect.getdoc(piece.original) or ""
        text = f'"""{words}"""' if "\n" not in words else f'"""{words}\n"""'
        lines[first:last] = textwrap.indent(f"{text}\nraise NotImplementedError", indent).splitlines()
    return "\n".join(lines)
