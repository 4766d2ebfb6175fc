"""Build the lessons: from notebooks/source/NAME.py to the executed notebooks/NAME.ipynb, and check the result.

A source is a percent script. The tags of its cells say what they become in the notebook:

    stub        where a learner writes the answer to an exercise; stays as it is
    hint        a markdown cell; the hints of an exercise are folded, the second nested inside the first
    solution    a code cell that answers the stub before it; becomes folded text, which is not run
    quiz        a markdown cell: a question, then its options as a list of "- [ ] option — why not" and one "- [x]"
    ignored     a code cell whose outputs vary; not compared when the notebook is validated
    checked     a code cell whose outputs are the same on every machine; compared
    gpu         a code cell that does its work only with a GPU; tests/lessons rehearses it on the CPU

The ids of the notebook's cells are their positions, so that rebuilding an unchanged lesson changes no id.
"""

from __future__ import annotations

import copy
import html
import json
import os
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import nbformat
import typer
from assembly import REPOSITORY_FILE, LessonError, assemble
from atelier.teaching.lessons import LESSONS, MINUTES_FILE, NOTEBOOKS, Lesson, question
from atelier.teaching.mine import DEFAULT_FOLDER, FOLDER_VARIABLE
from atelier.teaching.pieces import pieces_of
from build_mode import FOLDER as BUILD_FOLDER
from build_mode import assemble_build
from claims_page import claims_figure, claims_table
from folds import LEAST_SHARE, is_folded, subject_share
from nbclient import NotebookClient
from nbformat import NotebookNode
from palette import shrink_figures
from start_pages import CLAIMS_FILE, START_FILE, START_NOTEBOOK, start_notebook, start_page

CLAIMS_FIGURE = NOTEBOOKS.parent / "docs" / "claims.png"
TRY_CONTROLS = "from atelier.teaching.controls import try_controls\n\ntry_controls()"
MINE = NOTEBOOKS.parent / "build" / "mine"  # where executed lessons save their blocks: runs/mine is the learner's
MOST_BYTES = 2_000_000
MOST_LINES = 12  # of a cell's last value, shown as text; the tree of a network has more, too many to read
CELL_SECONDS = 600
START_SECONDS = 300  # until a kernel responds, on a busy machine
WORDS_A_MINUTE, CODE_LINES_A_MINUTE = 200, 40  # of a reader who takes time but skims code that draws figures

# ---------------------------------------------------------------------------------------------- execution


def execute(notebook: NotebookNode, folder: Path = NOTEBOOKS) -> tuple[NotebookNode, float]:
    """Execute a notebook, and then move each of its controls once.

    Returns:
        A copy of the notebook with outputs, and the seconds from the start of the kernel to the end of the last cell.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell raises an exception, or drawing after a control has moved does.
    """
    executed = copy.deepcopy(notebook)
    executed.cells.append(nbformat.v4.new_code_cell(TRY_CONTROLS))
    client = NotebookClient(
        executed,
        timeout=CELL_SECONDS,
        startup_timeout=START_SECONDS,
        kernel_name="python3",
        record_timing=False,
        store_widget_state=True,
        resources={"metadata": {"path": str(folder)}},
    )
    start = time.perf_counter()
    environment = {FOLDER_VARIABLE: str(MINE), **os.environ}
    client.execute(env=environment)
    seconds = time.perf_counter() - start
    executed.cells.pop()
    executed.metadata["language_info"] = notebook.metadata["language_info"]  # the kernel wrote its own version
    for cell in executed.cells:
        if cell.cell_type == "code":
            cell.outputs = _tidy(cell.outputs, environment[FOLDER_VARIABLE])
    _drop_display_state(executed)
    return executed, seconds


def _tidy(outputs: list[NotebookNode], mine: str) -> list[NotebookNode]:
    """The outputs without finished progress bars, which are on stderr, and with the learner's folder for `mine`."""
    kept = [output for output in outputs if output.get("name") != "stderr"]
    for output in kept:
        if output.output_type == "stream":
            output.text = output.text.replace(mine, DEFAULT_FOLDER)
    return kept


def _drop_display_state(notebook: NotebookNode) -> None:
    """Drop the stored state of widgets if no widget is shown: it then belongs to progress bars and varies."""
    shown = {
        data["model_id"]
        for cell in notebook.cells
        for output in cell.get("outputs", ())
        if (data := output.get("data", {}).get("application/vnd.jupyter.widget-view+json"))
    }
    states = notebook.metadata.get("widgets", {}).get("application/vnd.jupyter.widget-state+json", {}).get("state", {})
    if states and not shown:
        del notebook.metadata["widgets"]


def device(notebook: NotebookNode) -> str:
    """The name of the GPU on which the stored outputs were computed, or "" for a CPU."""
    return notebook.metadata.get("atelier", {}).get("gpu", "")


def _gpu_name() -> str:
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else ""


def reading_minutes(notebook: NotebookNode) -> float:
    """The minutes to read a notebook, to half a minute: 200 words of prose or 40 lines of unfolded code a minute."""
    words = sum(len(cell.source.split()) for cell in notebook.cells if cell.cell_type == "markdown")
    lines = sum(
        len(cell.source.splitlines()) for cell in notebook.cells if cell.cell_type == "code" and not is_folded(cell)
    )
    return round(2 * (words / WORDS_A_MINUTE + lines / CODE_LINES_A_MINUTE)) / 2


# ---------------------------------------------------------------------------------------------- checks

FORBIDDEN_OUTPUT = {
    "names a path of this machine": re.compile(r"(?<![\w.:/-])/(?:[a-z]\w*/)+[\w.-]+|[A-Z]:\\\\?\w+"),
    "names a host": re.compile(r"https?://(?!(?:www\.)?(?:arxiv|doi|jfly)\b)[\w.-]+"),
}


def faults(notebook: NotebookNode, name: str) -> list[str]:
    """Check an executed notebook.

    Args:
        notebook: executed.
        name: of the lesson, for the sentences.

    Returns:
        A sentence for each reason why it must not be committed.
    """
    found = [
        f"{name}, cell {place}: {fault}" for place, cell in enumerate(notebook.cells) for fault in _cell_faults(cell)
    ]
    counts = [cell.execution_count for cell in notebook.cells if cell.cell_type == "code"]
    if counts != list(range(1, len(counts) + 1)):
        found.append(f"{name}: its cells were not executed once each from top to bottom, but {counts}.")
    views = any("application/vnd.jupyter.widget-view+json" in output.get("data", {}) for output in _outputs(notebook))
    widgets = notebook.metadata.get("widgets")
    if views and not widgets:
        found.append(f"{name}: it shows widgets, but their state is not stored.")
    if widgets is not None and not widgets.get("application/vnd.jupyter.widget-state+json", {}).get("state"):
        found.append(f"{name}: metadata.widgets has no state.")
    share = subject_share(notebook)
    if share < LEAST_SHARE:
        found.append(
            f"{name}: {share:.0%} of the code that is not folded is about its subject, less than {LEAST_SHARE:.0%}; "
            "tag cells that only draw with “folded”."
        )
    size = len(nbformat.writes(notebook).encode())
    if size > MOST_BYTES:
        found.append(f"{name}: it has {size:,} bytes, more than {MOST_BYTES:,}.")
    return found


PLACEHOLDER = re.compile(r"@@|\b(?:TODO|FIXME|TBD)\b")


def _cell_faults(cell: NotebookNode) -> Iterator[str]:
    if found := PLACEHOLDER.search(cell.source):
        yield f"a placeholder, {found.group()!r}."
    for output in cell.get("outputs", ()):
        if output.output_type == "error":
            yield f"a stored error, {output.ename}: {output.evalue}"
        if output.get("name") == "stderr":
            yield f"a stored message of stderr: {output.text[:80]!r}"
        lines = str(output.get("data", {}).get("text/plain", "")).splitlines()
        if output.output_type == "execute_result" and len(lines) > MOST_LINES:
            yield f"a last value of {len(lines)} lines, {lines[0]!r} …: show what matters of it, or end the line with ;"
        for kind, data in output.get("data", {}).items():
            if kind == "image/png" and len(output.metadata.get(kind, {}).get("alt", "").split()) < 3:
                yield "a figure without alternative text."
            if kind == "text/html" and re.search(r"<img(?![^>]*\balt=\"[^\"]{9})", str(data)):
                yield "a picture in HTML without alternative text."
        for text in _texts(output):
            for fault, pattern in FORBIDDEN_OUTPUT.items():
                if found := pattern.search(re.sub(r"data:image/\w+;base64,[\w+/=]+", "", text)):
                    yield f"an output {fault}: {found.group()!r}"


def _texts(output: NotebookNode) -> Iterator[str]:
    if "text" in output:
        yield output.text
    for kind, data in output.get("data", {}).items():
        if kind.startswith("text/"):
            yield str(data)


def _outputs(notebook: NotebookNode) -> Iterator[NotebookNode]:
    for cell in notebook.cells:
        yield from cell.get("outputs", ())


def without_outputs(notebook: NotebookNode) -> dict[str, Any]:
    """A notebook without outputs, execution counts and state of widgets, to be compared with a newly assembled one."""
    bare = json.loads(nbformat.writes(notebook))
    for cell in bare["cells"]:
        if cell["cell_type"] == "code":
            cell["outputs"], cell["execution_count"] = [], None
    bare["metadata"] = {key: value for key, value in bare["metadata"].items() if key not in ("widgets", "atelier")}
    return bare


# ---------------------------------------------------------------------------------------------- the command


def build(lesson: Lesson, folder: Path = NOTEBOOKS, say: Callable[[str], None] = lambda _: None) -> NotebookNode:
    """Assemble, execute, check and write a lesson, and record the minutes it took.

    Args:
        lesson: the lesson.
        folder: of the notebooks.
        say: called with a line about what was built.

    Raises:
        LessonError: the executed notebook has a fault; nothing is written then.
    """
    notebook, seconds = execute(assemble(lesson, folder), folder)
    gpu = _gpu_name()
    if gpu:
        notebook.metadata["atelier"] = {"gpu": gpu}
    shrink_figures(notebook)
    wrong = faults(notebook, lesson.name)
    if wrong:
        raise LessonError("\n".join(wrong))
    record_minutes(lesson, reading_minutes(notebook), seconds, gpu, folder)
    update_header(notebook, lesson, folder)
    nbformat.write(notebook, folder / f"{lesson.name}.ipynb")
    say(f"{lesson.name}: {seconds:.0f} s{f' on {gpu}' if gpu else ''}")
    return notebook


def record_minutes(lesson: Lesson, read: float, seconds: float, gpu: str, folder: Path = NOTEBOOKS) -> None:
    """Write the minutes of a lesson into minutes.json, and keep those measured on the other kind of device.

    Args:
        lesson: the lesson.
        read: minutes to read it.
        seconds: to run it; stored as minutes, rounded to halves, at least half a minute.
        gpu: the name of the GPU it ran on, or "" for a CPU.
        folder: of the notebooks.
    """
    table = folder / MINUTES_FILE
    known = json.loads(table.read_text(encoding="utf-8")) if table.is_file() else {}
    row = known.get(lesson.name, {}) | {"read": read, "gpu" if gpu else "cpu": max(0.5, round(seconds / 30) / 2)}
    order = [each.name for each in LESSONS.values()]
    known = {name: row for name, row in {**known, lesson.name: row}.items() if name in order}
    table.parent.mkdir(parents=True, exist_ok=True)
    table.write_text(json.dumps(dict(sorted(known.items(), key=lambda item: order.index(item[0]))), indent=1) + "\n")


def update_header(notebook: NotebookNode, lesson: Lesson, folder: Path = NOTEBOOKS) -> None:
    """Replace the minutes in the output of the lesson's header: it was made before this run was measured."""
    for cell in notebook.cells:
        if cell.source.startswith(f'lesson_header("{lesson.key}")'):  # lines may follow it
            for output in cell.outputs:
                if "text/html" in output.get("data", {}):
                    output.data["text/html"] = question(lesson, folder)


def main(
    lessons: Annotated[list[str] | None, typer.Argument(help="Keys or names of lessons. Default: all.")] = None,
    repo: Annotated[str, typer.Option(help="owner/name, for badges and Colab's set-up.")] = "",
) -> None:
    """Build and execute lessons, one after the other."""
    if repo:
        if not re.fullmatch(r"[\w.-]+/[\w.-]+", repo):
            raise typer.BadParameter(f"{repo!r} is not a repository: give owner/name.")
        (NOTEBOOKS / REPOSITORY_FILE).write_text(repo + "\n", encoding="utf-8")
    chosen = [lesson for lesson in LESSONS.values() if not lessons or {lesson.key, lesson.name} & set(lessons)]
    if not chosen:
        raise typer.BadParameter(f"There is no lesson {', '.join(lessons or ())}; there are {', '.join(LESSONS)}.")
    try:
        for lesson in chosen:
            stored = NOTEBOOKS / f"{lesson.name}.ipynb"
            if not lessons and stored.is_file() and not _gpu_name() and device(nbformat.read(stored, as_version=4)):
                typer.echo(f"{lesson.name}: kept, because its outputs come from a GPU; name it to rebuild it here.")
                continue
            build(lesson, say=typer.echo)
        if all((NOTEBOOKS / f"{lesson.name}.ipynb").is_file() for lesson in LESSONS.values()):
            (NOTEBOOKS / CLAIMS_FILE).write_text(claims_table(NOTEBOOKS), encoding="utf-8")
            CLAIMS_FIGURE.write_bytes(claims_figure(NOTEBOOKS))
        for lesson in filter(lambda lesson: pieces_of(lesson.key), LESSONS.values()):
            (NOTEBOOKS / BUILD_FOLDER).mkdir(exist_ok=True)
            nbformat.write(assemble_build(lesson), NOTEBOOKS / BUILD_FOLDER / f"{lesson.name}.ipynb")
        (NOTEBOOKS / START_FILE).write_text(start_page(), encoding="utf-8")
        nbformat.write(start_notebook(), NOTEBOOKS / START_NOTEBOOK)
    except LessonError as error:
        typer.echo(html.unescape(str(error)), err=True)
        raise typer.Exit(2) from error


if __name__ == "__main__":
    typer.run(main)
