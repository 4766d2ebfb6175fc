"""Building lessons: from source to notebook, and the checks of a built notebook."""

import re
import subprocess

import assembly
import build_lessons
import nbformat
import pytest
import typer
from assembly import LessonError
from atelier.teaching.lessons import LESSONS, Lesson
from folds import is_folded
from nbclient.exceptions import CellExecutionError
from nbformat import NotebookNode
from torch import nn
from typer.testing import CliRunner

LESSON = Lesson("9z", "9z_a_lesson", "A lesson", "Does it build?", (), {})
SOURCE = """\
# %% [markdown]
# # A lesson

# %%
x = 1

# %% [markdown]
# ### Exercise 9z.1 · Two (★☆☆, 1 minutes)

# %% tags=["stub"]
def two() -> int:
    raise NotImplementedError

# %% tags=["checked"]
print("○")

# %% [markdown] tags=["hint"]
# It is even.

# %% [markdown] tags=["hint"]
# It is prime.

# %% tags=["solution"]
def two() -> int:
    return 2

# %% [markdown] tags=["quiz"]
# **1.** What is it?
# - [ ] one — one is odd.
# - [x] the `two` — it is,
#   whatever you do.
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "source" / "tools").mkdir(parents=True)
    (tmp_path / "source" / "9z_a_lesson.py").write_text(SOURCE, encoding="utf-8")
    return tmp_path


def executed() -> NotebookNode:
    png = nbformat.v4.new_output(
        "display_data", data={"image/png": "iVBORw0="}, metadata={"image/png": {"alt": "a small red square"}}
    )
    source = "red = 1\nsquare = red * 4\ndrawn = square\nshow(drawn)"
    cell = nbformat.v4.new_code_cell(source, execution_count=1, outputs=[png])
    return nbformat.v4.new_notebook(cells=[cell])


def test_source_becomes_a_notebook(folder) -> None:
    cells = assembly.assemble(LESSON, folder).cells
    assert [cell.id for cell in cells] == [f"9z-{place:03d}" for place in range(len(cells))]
    assert [cell.cell_type for cell in cells] == [
        *("markdown", "code", "code", "markdown", "code", "code"),
        *("markdown", "markdown", "markdown"),
    ]
    assert cells[1].source == assembly.setup_source("")
    assert [is_folded(cell) for cell in cells if cell.cell_type == "code"] == [True, False, False, False]
    assert cells[5].metadata["tags"] == ["nbval-check-output"]
    hint, solution, quiz = (cell.source for cell in cells[6:])
    assert hint.index("Another hint") > hint.index("It is even.")
    assert hint.count("<details>") == hint.count("</details>") == 2
    assert "```python\ndef two() -> int:\n    return 2\n```" in solution
    assert "<summary>the <code>two</code></summary>\n\n✓ Yes: it is, whatever you do." in quiz
    assert "✗ No: one is odd." in quiz
    assert not any("badge" in cell.source for cell in cells)


def test_stamped_repository_brings_the_badge(folder) -> None:
    (folder / "REPOSITORY").write_text("ada/atelier\n")
    cells = assembly.assemble(LESSON, folder).cells
    assert "github/ada/atelier/blob/main/notebooks/9z_a_lesson.ipynb" in cells[0].source
    assert 'REPOSITORY = "ada/atelier"' in next(cell.source for cell in cells if cell.cell_type == "code")


@pytest.fixture
def command(folder, monkeypatch):
    """The command that builds lessons, in the folder and with one lesson."""
    monkeypatch.setattr(build_lessons, "NOTEBOOKS", folder)
    monkeypatch.setattr(build_lessons, "LESSONS", {LESSON.key: LESSON})
    monkeypatch.setattr(build_lessons, "build", lambda lesson, say: say(assembly.repository(folder)))
    app = typer.Typer()
    app.command()(build_lessons.main)
    return lambda *words: CliRunner().invoke(app, list(words))


def test_command_stamps_the_repository_and_keeps_the_stamp(command, folder) -> None:
    assert command("--repo", "ada/atelier").stdout == "ada/atelier\n"
    assert command("9z").stdout == "ada/atelier\n"
    assert command("--repo", "ada/other").stdout == "ada/other\n"
    assert (folder / "REPOSITORY").read_text() == "ada/other\n"


@pytest.mark.parametrize("repo", ["ada", "https://github.com/ada/atelier", "ada/atelier/lessons", 'ada/a"b'])
def test_command_refuses_an_invalid_repository(command, folder, repo: str) -> None:
    shown = command("--repo", repo)
    assert shown.exit_code == 2
    assert "give owner/name" in " ".join(re.sub(r"[│╭╰─╮╯]", " ", shown.stderr).split())
    assert not (folder / "REPOSITORY").exists()


def test_make_passes_the_repository_on() -> None:
    make = ["make", "--dry-run", "notebooks", "REPO=ada/atelier", "LESSON=2d"]
    shown = subprocess.run(make, cwd=build_lessons.NOTEBOOKS.parent, capture_output=True, text=True, check=True).stdout
    assert 'build_lessons.py 2d --repo "ada/atelier"' in shown


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ('tags=["stub"]', 'tags=["stubb"]', "tag stubb"),
        ("- [ ] one — one is odd.", "- [ ] one", "options of the form"),
        ("- [ ] one — one", "- [x] one — one", "exactly one"),
    ],
)
def test_faulty_source_is_refused(folder, before: str, after: str, words: str) -> None:
    path = folder / "source" / "9z_a_lesson.py"
    path.write_text(path.read_text(encoding="utf-8").replace(before, after), encoding="utf-8")
    with pytest.raises(LessonError, match=words):
        assembly.assemble(LESSON, folder)


def test_missing_source_is_named(tmp_path) -> None:
    with pytest.raises(LessonError, match=r"9z_a_lesson\.py is missing"):
        assembly.assemble(LESSON, tmp_path)


def test_an_executed_notebook_passes_the_checks(folder) -> None:
    notebook, seconds = build_lessons.execute(assembly.assemble(LESSON, folder), folder)
    assert seconds > 0
    assert build_lessons.faults(notebook, "9z") == []
    assert build_lessons.without_outputs(notebook) == build_lessons.without_outputs(assembly.assemble(LESSON, folder))


CONTROLS = """

# %%
from atelier.teaching import explore, figure, slider

height = 1.0


def draw(share: float):
    made, axis = figure(2, 1)
    axis.plot([0, share * height])
    return made, "a line that rises from the left"


explore(draw, share=slider(0.0, 1.0, 0.5))
"""


@pytest.mark.parametrize("later", ["", "\n# %%\nheight = None\n"])
def test_controls_are_moved_after_the_last_cell(folder, later: str) -> None:
    (folder / "source" / "9z_a_lesson.py").write_text(SOURCE + CONTROLS + later, encoding="utf-8")
    assembled = assembly.assemble(LESSON, folder)
    if later:
        with pytest.raises(CellExecutionError, match="NoneType"):
            build_lessons.execute(assembled, folder)
    else:
        notebook, _ = build_lessons.execute(assembled, folder)
        assert len(notebook.cells) == len(assembled.cells)
        assert notebook.cells[-1].outputs[0].data["text/html"].startswith('<img alt="a line that rises')


@pytest.mark.parametrize("later", ["", "\nDEVICE = 'cpu'"], ids=["alone", "with a line after it"])
def test_header_has_the_newest_minutes(later: str, folder) -> None:
    lesson = LESSONS["2b"]
    header = nbformat.v4.new_code_cell('lesson_header("2b")' + later)
    header.outputs = [nbformat.v4.new_output("display_data", data={"text/html": "<p>11 to run</p>"})]
    notebook = nbformat.v4.new_notebook(cells=[header])
    build_lessons.record_minutes(lesson, 20, 100, "", folder)
    build_lessons.update_header(notebook, lesson, folder)
    assert "20 minutes to read, 1.5 to run on two CPU cores" in header.outputs[0].data["text/html"]


def test_a_sound_notebook_has_no_faults() -> None:
    assert build_lessons.faults(executed(), "9z") == []


def test_a_last_value_may_have_twelve_lines_but_not_thirteen() -> None:
    notebook = executed()
    notebook.cells[0].outputs = [result(nn.Sequential(*(nn.Linear(2, 2) for _ in range(10))))]  # and two more lines
    assert build_lessons.faults(notebook, "9z") == []
    spoil_network(notebook)
    assert build_lessons.faults(notebook, "9z") == [
        "9z, cell 0: a last value of 13 lines, 'Sequential(' …: show what matters of it, or end the line with ;"
    ]


def spoil_count(notebook: NotebookNode) -> None:
    notebook.cells[0].execution_count = 2


def spoil_unrun(notebook: NotebookNode) -> None:
    notebook.cells[0].execution_count = None


def spoil_error(notebook: NotebookNode) -> None:
    notebook.cells[0].outputs = [nbformat.v4.new_output("error", ename="ValueError", evalue="no", traceback=[])]


def spoil_path(notebook: NotebookNode) -> None:
    notebook.cells[0].outputs = [nbformat.v4.new_output("stream", name="stdout", text="saved /ho" + "me/ada/x.png")]


def spoil_host(notebook: NotebookNode) -> None:
    notebook.cells[0].outputs = [nbformat.v4.new_output("stream", name="stdout", text="http://localhost:8888/lab")]


def spoil_stderr(notebook: NotebookNode) -> None:
    notebook.cells[0].outputs = [nbformat.v4.new_output("stream", name="stderr", text="UserWarning: hm")]


def spoil_alt(notebook: NotebookNode) -> None:
    notebook.cells[0].outputs[0].metadata = {}


def spoil_html_alt(notebook: NotebookNode) -> None:
    data = {"text/html": '<img src="data:image/png;base64,aa">'}
    notebook.cells[0].outputs = [nbformat.v4.new_output("display_data", data=data)]


def result(value: object) -> NotebookNode:
    """A cell's last value as its text, which is what a kernel outputs for a value without a richer form."""
    return nbformat.v4.new_output("execute_result", data={"text/plain": repr(value)}, execution_count=1)


def spoil_network(notebook: NotebookNode) -> None:
    notebook.cells[0].outputs = [result(nn.Sequential(*(nn.Linear(2, 2) for _ in range(11))))]


def spoil_widget(notebook: NotebookNode) -> None:
    data = {"application/vnd.jupyter.widget-view+json": {"model_id": "a"}}
    notebook.cells[0].outputs = [nbformat.v4.new_output("display_data", data=data)]


def spoil_state(notebook: NotebookNode) -> None:
    notebook.metadata["widgets"] = {"application/vnd.jupyter.widget-state+json": {"state": {}}}


def spoil_drawing(notebook: NotebookNode) -> None:
    notebook.cells[0].source = "made, axis = figure(1, 1)\naxis.plot([1, 2])\nx = 1"


def spoil_placeholder(notebook: NotebookNode) -> None:
    notebook.cells[0].source = "x = 1  # TO" + "DO"


def spoil_size(notebook: NotebookNode) -> None:
    notebook.cells[0].source = "#" * 2_100_000


SPOILERS = [value for name, value in list(globals().items()) if name.startswith("spoil_")]


@pytest.mark.parametrize("spoil", SPOILERS, ids=lambda spoil: spoil.__name__)
def test_each_fault_is_found(spoil) -> None:
    notebook = executed()
    spoil(notebook)
    assert len(build_lessons.faults(notebook, "9z")) == 1
