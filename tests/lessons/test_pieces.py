"""Build mode: every piece can be written by a learner, is checked, and is told apart from plausible mistakes."""

import ast
import copy
import re

import assembly
import nbformat
import pytest
from atelier.errors import AtelierError
from atelier.teaching.exercises import run_checker
from atelier.teaching.lessons import LESSONS, NOTEBOOKS, Lesson
from atelier.teaching.pieces import Piece, built, pieces_of
from build_lessons import execute, without_outputs
from build_mode import FOLDER, assemble_build, defined_names, emptied
from test_lessons import wrong_answers

BUILT = [lesson for lesson in LESSONS.values() if pieces_of(lesson.key)]
PIECES = [piece for lesson in BUILT for piece in pieces_of(lesson.key)]
EVERY_PIECE = pytest.mark.parametrize("piece", PIECES, ids=lambda piece: piece.key)
EVERY_LESSON = pytest.mark.parametrize("lesson", BUILT, ids=lambda lesson: lesson.key)


def lesson_of(piece: Piece) -> Lesson:
    return LESSONS[piece.key.split(".")[0]]


@EVERY_PIECE
def test_the_library_passes_and_an_empty_body_is_not_tried_yet(piece: Piece) -> None:
    assert str(run_checker(piece.key, piece.checker, piece.original)) == f"✓ {piece.key}: right."

    def untouched(*_: object, **__: object) -> None:
        raise NotImplementedError

    assert run_checker(piece.key, piece.checker, untouched).mark == "○"


@EVERY_PIECE
def test_each_wrong_answer_has_a_message_of_its_own(piece: Piece) -> None:
    answers = wrong_answers(lesson_of(piece)).WRONG_PIECES[piece.key]
    results = [run_checker(piece.key, piece.checker, answer) for answer in answers]
    assert [result.mark for result in results] == ["✗"] * len(answers), [str(result) for result in results]
    assert len({result.message for result in results}) == len(answers) >= 3, [str(result) for result in results]


@EVERY_PIECE
def test_a_piece_takes_five_to_thirty_minutes_and_its_stub_gives_the_shapes(piece: Piece) -> None:
    assert 5 <= piece.minutes <= 30
    (source,) = [
        cell.source for cell in assembly.read_source(lesson_of(piece)).cells if piece.name in defined_names(cell)
    ]
    stub = emptied(source, [piece])
    assert "raise NotImplementedError" in stub
    assert re.search(r"\([a-z0-9 ·]+,|shape|scalar", piece.original.__doc__ or ""), "its docstring gives no shapes"
    compile(stub, piece.key, "exec")


@EVERY_LESSON
def test_the_committed_notebook_is_generated_from_the_source(lesson: Lesson) -> None:
    stored = nbformat.read(NOTEBOOKS / FOLDER / f"{lesson.name}.ipynb", as_version=4)
    assert without_outputs(stored) == without_outputs(assemble_build(lesson))
    assert not any(cell.get("outputs") for cell in stored.cells)


SHORTER = 8  # times


class ShorterTrainings(ast.NodeTransformer):
    """Divides what says how long a notebook trains: STEPS, SNAPSHOTS, and the arguments steps and keep.

    Less is learned in less time, so assertions that one value is greater than another are removed.
    """

    def visit_Assign(self, node: ast.Assign) -> ast.Assign:
        names = [item.id for target in node.targets for item in ast.walk(target) if isinstance(item, ast.Name)]
        if names[0] in ("STEPS", "SNAPSHOTS"):
            # Of "STEPS, BATCH = 1200, 32" only the first number is divided.
            together = len(names) > 1 and isinstance(node.value, ast.Tuple)
            divide(node.value.elts[0] if together else node.value)
        return node

    def visit_keyword(self, node: ast.keyword) -> ast.keyword:
        self.generic_visit(node)
        if node.arg in ("steps", "keep"):
            divide(node.value)
        return node

    def visit_Assert(self, node: ast.Assert) -> ast.Assert | ast.Pass:
        orders = (ast.Lt, ast.LtE, ast.Gt, ast.GtE)
        compares = isinstance(node.test, ast.Compare) and all(isinstance(each, orders) for each in node.test.ops)
        return ast.Pass() if compares else node


def divide(expression: ast.expr) -> None:
    for node in ast.walk(expression):
        if isinstance(node, ast.Constant) and type(node.value) is int:
            node.value = max(1, node.value // SHORTER)


def shortened(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Replace the code of the cells that train by the same code with fewer steps."""
    for cell in notebook.cells:
        if cell.cell_type == "code" and not re.search(r"^\s*[%!]", cell.source, re.MULTILINE):
            tree = ast.parse(cell.source)
            before = ast.dump(tree)
            if ast.dump(ShorterTrainings().visit(tree)) != before:
                cell.source = ast.unparse(tree)
    return notebook


def test_trainings_are_shortened() -> None:
    cell = nbformat.v4.new_code_cell(
        "STEPS, BATCH = 1200, 32\nSNAPSHOTS = (1, 600)\nfit(steps=40, seed=40)\nassert right >= 0.8\nassert found == 3"
    )
    short = shortened(nbformat.v4.new_notebook(cells=[cell])).cells[0].source
    assert short == "STEPS, BATCH = (150, 32)\nSNAPSHOTS = (1, 75)\nfit(steps=5, seed=40)\npass\nassert found == 3"


@EVERY_LESSON
def test_the_untouched_notebook_runs_to_its_end(lesson: Lesson) -> None:
    """`make notebooks` and nbval run the whole trainings, in the lessons; here a few of their steps are enough."""
    assert set(marks_of(shortened(assemble_build(lesson)), lesson)) == {"○"}


@EVERY_LESSON
def test_every_piece_of_the_solved_notebook_is_right(lesson: Lesson) -> None:
    """Up to the last check: the cells after it use the same code, whether it is the learner's or the library's."""
    notebook = assemble_build(lesson, solved=True)
    last = max(place for place, cell in enumerate(notebook.cells) if is_check(cell))
    del notebook.cells[last + 1 :]
    assert marks_of(shortened(notebook), lesson) == ["✓"] * len(pieces_of(lesson.key))


def is_check(cell: nbformat.NotebookNode) -> bool:
    return cell.cell_type == "code" and " = built(" in cell.source


def marks_of(notebook: nbformat.NotebookNode, lesson: Lesson) -> list[str]:
    """Execute a notebook and return the mark of each piece: ○, ✗ or ✓."""
    executed, _ = execute(notebook, NOTEBOOKS / FOLDER)
    shown = [
        output.data["text/plain"]
        for cell in filter(is_check, executed.cells)
        for output in copy.copy(cell.outputs)
        if "text/plain" in output.get("data", {})
    ]
    assert [text.split()[1].rstrip(":") for text in shown] == [piece.key for piece in pieces_of(lesson.key)]
    return [text[0] for text in shown]


def test_the_next_cells_use_right_code_and_otherwise_the_librarys(capsys: pytest.CaptureFixture[str]) -> None:
    piece = PIECES[0]
    assert built(piece.key, piece.original) is piece.original

    def wrong(*_: object) -> int:
        return 7

    assert built(piece.key, wrong) is piece.original
    with pytest.raises(AtelierError, match=r"no piece '2c\.nothing'; there are 2c"):
        built("2c.nothing", wrong)
    assert len(capsys.readouterr().out.splitlines()) == 2
