"""Cells that only draw are folded, and most of the code that is not folded is about the lesson's subject."""

import nbformat
import pytest
from folds import count_lines, fold, is_folded, only_imports, subject_share


@pytest.mark.parametrize(
    ("source", "lines", "drawing"),
    [
        ("x = 1\n\n# a comment\ny = x + 1", 2, 0),
        ("import torch\nfrom torch import nn", 2, 2),
        ("made, axis = figure(3, 2)\naxis.plot(\n    [1, 2],\n    [3, 4],\n)\nx = 1", 6, 5),
        ("for axis in axes:\n    axis.plot([1])\n    axis.set(title='x')", 3, 3),
        ("for axis in axes:\n    loss = train()\n    axis.plot([loss])", 3, 1),
        ("def forward(x):\n    return x + 1", 2, 0),
        ("if True:\n    %run x.py\n!ls", 3, 0),
    ],
)
def test_lines_that_draw_or_import_are_counted(source: str, lines: int, drawing: int) -> None:
    assert count_lines(source) == (lines, drawing)


def test_only_imports() -> None:
    assert only_imports("import torch\n\nfrom torch import nn")
    assert not only_imports("import torch\nx = 1")
    assert not only_imports("")


def test_folded_cells_do_not_count() -> None:
    drawn, subject = nbformat.v4.new_code_cell("show(figure(1, 1))"), nbformat.v4.new_code_cell("x = 1\ny = 2\nz = 3")
    notebook = nbformat.v4.new_notebook(cells=[drawn, subject, nbformat.v4.new_markdown_cell("Words.")])
    assert subject_share(notebook) == 0.75
    fold(drawn)
    assert is_folded(drawn)
    assert drawn.metadata == {"jupyter": {"source_hidden": True}, "cellView": "form"}
    assert subject_share(notebook) == 1
