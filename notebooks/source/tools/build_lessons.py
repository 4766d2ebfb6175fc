"""Build the lessons: from notebooks/source/NAME.py to the executed notebooks/NAME.ipynb, and check the result.

A source is a percent script. The tags of its cells say what they become in the notebook:

    stub        where a learner writes the answer to an exercise; stays as it is
    hint        a markdown cell; the hints of an exercise are folded, the second nested inside the first
    solution    a code cell that answers the stub before it; becomes folded text, which is not run
    quiz        a markdown cell: a question, then its options as a list of "- [ ] option — why not" and one "- [x]"
    ignored     a code cell whose outputs vary; not compared when the notebook is validated
    checked     a code cell whose outputs are the same on every machine; compared

The ids of the notebook's cells are their positions, so that rebuilding an unchanged lesson changes no id.
"""

from __future__ import annotations

import copy
import html
import json
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import jupytext
import nbformat
import typer
from atelier.errors import AtelierError
from atelier.teaching.claims import CLAIMS, METADATA
from atelier.teaching.lessons import LESSONS, MINUTES_FILE, NOTEBOOKS, Lesson, minutes, question
from nbclient import NotebookClient
from nbformat import NotebookNode
from palette import shrink_figures

CLAIMS_FILE = "CLAIMS.md"
START_FILE = "README.md"
TRY_CONTROLS = "from atelier.teaching.controls import try_controls\n\ntry_controls()"
REPOSITORY_FILE = "REPOSITORY"
TAGS = {"checked": "nbval-check-output", "ignored": "nbval-ignore-output"}
SOURCE_TAGS = {"stub", "hint", "solution", "quiz", *TAGS}
MOST_BYTES = 2_000_000
MOST_LINES = 12  # of a cell's last value, shown as text; the tree of a network has more, too many to read
CELL_SECONDS = 600
WORDS_A_MINUTE, CODE_LINES_A_MINUTE = 200, 40  # of a reader who takes time but skims code that draws figures

SETUP = """\
# On Colab this fetches the course and installs what Colab lacks, leaving its torch alone. Elsewhere it does nothing.
import importlib.util

REPOSITORY = "{repository}"
if importlib.util.find_spec("google") and importlib.util.find_spec("google.colab"):
    !git clone --quiet --depth 1 https://github.com/{{REPOSITORY}} atelier
    %run atelier/notebooks/source/tools/colab.py"""

BADGE = (
    "[![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)]"
    "(https://colab.research.google.com/github/{repository}/blob/main/notebooks/{name}.ipynb)"
)


class LessonError(AtelierError):
    """A lesson cannot be built; the message names the lesson and says what is wrong."""


# ---------------------------------------------------------------------------------------------- from source to notebook


def read_source(lesson: Lesson, folder: Path = NOTEBOOKS) -> NotebookNode:
    """Read a lesson's source as a notebook without outputs, with the tags of the source.

    Raises:
        LessonError: the source is missing.
    """
    path = folder / "source" / f"{lesson.name}.py"
    if not path.is_file():
        raise LessonError(f"The lesson {lesson.key} has no source: notebooks/source/{path.name} is missing.")
    return jupytext.read(path, fmt="py:percent")


def repository(folder: Path = NOTEBOOKS) -> str:
    """The course's "owner/name", for badges and set-up; "" until `make notebooks REPO=owner/name` has recorded it."""
    path = folder / REPOSITORY_FILE
    return path.read_text(encoding="utf-8").strip() if path.is_file() else ""


def assemble(lesson: Lesson, folder: Path = NOTEBOOKS) -> NotebookNode:
    """Make a lesson's notebook from its source, without executing it.

    Raises:
        LessonError: the source is missing, or has an unknown tag or a malformed quiz.
    """
    cells = list(_folded(lesson, read_source(lesson, folder).cells))
    owner_and_name = repository(folder)
    if owner_and_name:
        cells.insert(0, nbformat.v4.new_markdown_cell(BADGE.format(repository=owner_and_name, name=lesson.name)))
    first_code = next((place for place, cell in enumerate(cells) if cell.cell_type == "code"), len(cells))
    cells.insert(first_code, nbformat.v4.new_code_cell(SETUP.format(repository=owner_and_name)))
    for place, cell in enumerate(cells):
        cell.id = f"{lesson.key}-{place:03d}"
    metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
        "accelerator": "GPU",
        "colab": {"gpuType": "T4", "provenance": []},
    }
    return nbformat.v4.new_notebook(cells=cells, metadata=metadata)


def _folded(lesson: Lesson, cells: list[NotebookNode]) -> Iterator[NotebookNode]:
    """The cells of the notebook: hints, solutions and quizzes are folded, and tags become those of nbval."""
    hints: list[str] = []
    for cell in cells:
        tags = set(cell.metadata.get("tags", ()))
        if tags - SOURCE_TAGS:
            unknown, known = ", ".join(sorted(tags - SOURCE_TAGS)), ", ".join(sorted(SOURCE_TAGS))
            raise LessonError(f"{lesson.name} has a cell with the tag {unknown}; the known tags are {known}.")
        if "hint" in tags:
            hints.append(cell.source)
            continue
        if hints:
            yield nbformat.v4.new_markdown_cell(fold_hints(hints))
            hints = []
        if "solution" in tags:
            yield nbformat.v4.new_markdown_cell(_details("Solution", f"```python\n{cell.source}\n```"))
        elif "quiz" in tags:
            yield nbformat.v4.new_markdown_cell(fold_quiz(cell.source))
        elif cell.cell_type == "markdown":
            yield nbformat.v4.new_markdown_cell(cell.source)
        else:
            kept = [TAGS[tag] for tag in sorted(tags & TAGS.keys())]
            yield nbformat.v4.new_code_cell(cell.source, metadata={"tags": kept} if kept else {})


def fold_hints(hints: list[str]) -> str:
    """Hints as nested folds: each hint is nested inside the one before it."""
    folded = ""
    for number, hint in reversed(list(enumerate(hints, 1))):
        name = "Hint" if number == 1 else "Another hint"
        folded = _details(name, f"{hint}\n\n{folded}" if folded else hint)
    return folded


OPTION = re.compile(r"^- \[(?P<right>[ x])\] (?P<option>.+?) — (?P<why>.+)$")


def fold_quiz(source: str) -> str:
    """A question with its options, each a fold that says whether it is right, and why.

    Raises:
        LessonError: an option has no reason, or not exactly one option is right.
    """
    joined = re.sub(r"\n {2,}", " ", source)  # an option may continue on the next line, indented
    question = [line for line in joined.splitlines() if not line.startswith("- [")]
    lines = [line for line in joined.splitlines() if line.startswith("- [")]
    options = [found for line in lines if (found := OPTION.match(line))]
    if len(options) < len(lines) or sum(option["right"] == "x" for option in options) != 1:
        raise LessonError(
            f"The quiz {question[0] if question else source!r} needs options of the form “- [ ] option — why not”, "
            "exactly one of them with an x."
        )
    folds = [
        _details(option["option"], ("✓ Yes: " if option["right"] == "x" else "✗ No: ") + option["why"])
        for option in options
    ]
    return "\n".join(question).strip() + "\n\n" + "\n\n".join(folds)


def _details(summary: str, content: str) -> str:
    summary = re.sub(r"`([^`]+)`", r"<code>\1</code>", summary)  # Markdown is not read inside HTML
    return f"<details><summary>{summary}</summary>\n\n{content}\n\n</details>"


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
        kernel_name="python3",
        record_timing=False,
        store_widget_state=True,
        resources={"metadata": {"path": str(folder)}},
    )
    start = time.perf_counter()
    client.execute()
    seconds = time.perf_counter() - start
    executed.cells.pop()
    executed.metadata["language_info"] = notebook.metadata["language_info"]  # the kernel wrote its own version
    for cell in executed.cells:
        if cell.cell_type == "code":
            cell.outputs = _tidy(cell.outputs)
    _drop_display_state(executed)
    return executed, seconds


def _tidy(outputs: list[NotebookNode]) -> list[NotebookNode]:
    """The outputs without those on stderr, which are finished progress bars."""
    return [output for output in outputs if output.get("name") != "stderr"]


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
    """The minutes to read a notebook, to half a minute: 200 words of prose or 40 lines of code a minute."""
    words = sum(len(cell.source.split()) for cell in notebook.cells if cell.cell_type == "markdown")
    lines = sum(len(cell.source.splitlines()) for cell in notebook.cells if cell.cell_type == "code")
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
    size = len(nbformat.writes(notebook).encode())
    if size > MOST_BYTES:
        found.append(f"{name}: it has {size:,} bytes, more than {MOST_BYTES:,}.")
    return found


def _cell_faults(cell: NotebookNode) -> Iterator[str]:
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


# ---------------------------------------------------------------------------------------------- claims


def verdicts(notebook: NotebookNode) -> dict[str, tuple[str, dict[str, str]]]:
    """Key of a claim → id of the cell that measured it, and its verdict: the keys claim, outcome and figures."""
    found = {}
    for cell in notebook.cells:
        for output in cell.get("outputs", ()):
            facts = output.get("metadata", {}).get(METADATA)
            if facts:
                found[facts["claim"]] = (cell.id, dict(facts))
    return found


def claims_table(folder: Path = NOTEBOOKS) -> str:
    """The text of notebooks/CLAIMS.md: each claim of the slides with its lesson, its cell, measurement and verdict."""
    lines = [
        "# What the slides claim, and what the lessons measure",
        "",
        "Made by `make notebooks` out of the lessons' outputs.",
        "",
        "| claim, in the slides’ words | lesson | cell | measured | verdict |",
        "|---|---|---|---|---|",
    ]
    for key, claim in CLAIMS.items():
        lesson = LESSONS[claim.lesson]
        stored = nbformat.read(folder / f"{lesson.name}.ipynb", as_version=4)
        cell, facts = verdicts(stored)[key]
        row = (claim.words, f"[{claim.lesson}]({lesson.name}.ipynb)", cell, facts["figures"], facts["outcome"])
        lines.append("| " + " | ".join(text.replace("|", "\\|") for text in row) + " |")
    return "\n".join(lines) + "\n"


def start_page(folder: Path = NOTEBOOKS) -> str:
    """The text of notebooks/README.md: the lessons in order, what each is about, and how long it takes."""
    taken = minutes(folder)
    rows = [
        f"| [{lesson.key} {lesson.title}]({lesson.name}.ipynb) | {lesson.question} | {taken.get(lesson.name, '')} |"
        for lesson in LESSONS.values()
    ]
    return "\n".join(
        [
            "# The lessons",
            "",
            "Start with lesson 1 and read them in order: each builds one block of DALL·E Mini, and lesson 5 joins",
            "them. Every lesson runs on a laptop without a GPU. Each has exercises whose answers are checked, with",
            "hints and a solution below them, and ends with a short quiz.",
            "",
            "| lesson | question | minutes |",
            "|---|---|---|",
            *rows,
            "",
            f"[{CLAIMS_FILE}]({CLAIMS_FILE}) lists what the slides claim and what the lessons measure. The lessons",
            "and this page are built from [source/](source) by `make notebooks`; change them there.",
            "",
        ]
    )


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
        if cell.source == f'lesson_header("{lesson.key}")':
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
            (NOTEBOOKS / CLAIMS_FILE).write_text(claims_table(), encoding="utf-8")
            (NOTEBOOKS / START_FILE).write_text(start_page(), encoding="utf-8")
    except LessonError as error:
        typer.echo(html.unescape(str(error)), err=True)
        raise typer.Exit(2) from error


if __name__ == "__main__":
    typer.run(main)
