"""From the source of a lesson to its notebook, without executing it: set-up, folds, hints, solutions and quizzes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import jupytext
import nbformat
from atelier.errors import AtelierError
from atelier.teaching.lessons import NOTEBOOKS, Lesson
from folds import fold, only_imports
from nbformat import NotebookNode

REPOSITORY_FILE = "REPOSITORY"
TAGS = {"checked": "nbval-check-output", "ignored": "nbval-ignore-output"}
SOURCE_TAGS = {"stub", "hint", "solution", "quiz", "folded", "gpu", *TAGS}

SETUP_CELL = Path(__file__).with_name("setup_cell.py")  # the first code cell of every notebook
UNSTAMPED = 'REPOSITORY = ""'

BADGE = "[![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)]({address})"


class LessonError(AtelierError):
    """A lesson cannot be built; the message names the lesson and says what is wrong."""


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


def colab_address(repository: str, name: str) -> str:
    """The address at which Colab opens a notebook.

    Args:
        repository: "owner/name".
        name: the notebook's path inside notebooks/, without the ending.
    """
    return f"https://colab.research.google.com/github/{repository}/blob/main/notebooks/{name}.ipynb"


def assemble(lesson: Lesson, folder: Path = NOTEBOOKS) -> NotebookNode:
    """Make a lesson's notebook from its source, without executing it.

    Raises:
        LessonError: the source is missing, or has an unknown tag or a malformed quiz.
    """
    cells = list(folded_cells(lesson, read_source(lesson, folder).cells))
    return with_setup(cells, lesson.name, lesson.key, folder)


def with_setup(cells: list[NotebookNode], name: str, prefix: str, folder: Path = NOTEBOOKS) -> NotebookNode:
    """Make a notebook of cells, with the set-up before the first code cell, and a badge if the repository is known.

    Args:
        cells: the cells of the notebook.
        name: its path inside notebooks/, without the ending.
        prefix: what the ids of its cells begin with.
        folder: the folder of the notebooks.
    """
    owner_and_name = repository(folder)
    if owner_and_name:
        cells.insert(0, nbformat.v4.new_markdown_cell(BADGE.format(address=colab_address(owner_and_name, name))))
    first_code = next((place for place, cell in enumerate(cells) if cell.cell_type == "code"), len(cells))
    setup = nbformat.v4.new_code_cell(setup_source(owner_and_name))
    fold(setup)
    cells.insert(first_code, setup)
    for place, cell in enumerate(cells):
        cell.id = f"{prefix}-{place:03d}"
    metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
        "accelerator": "GPU",
        "colab": {"gpuType": "T4", "provenance": []},
    }
    return nbformat.v4.new_notebook(cells=cells, metadata=metadata)


def setup_source(repository: str) -> str:
    """The source of the set-up cell, with the course's "owner/name"; "" leaves the choice to the learner."""
    source = SETUP_CELL.read_text(encoding="utf-8").strip()
    return source.replace(UNSTAMPED, f'REPOSITORY = "{repository}"')


def folded_cells(lesson: Lesson, cells: list[NotebookNode]) -> Iterator[NotebookNode]:
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
            yield nbformat.v4.new_markdown_cell(details("Solution", f"```python\n{cell.source}\n```"))
        elif "quiz" in tags:
            yield nbformat.v4.new_markdown_cell(fold_quiz(cell.source))
        elif cell.cell_type == "markdown":
            yield nbformat.v4.new_markdown_cell(cell.source)
        else:
            kept = [TAGS[tag] for tag in sorted(tags & TAGS.keys())]
            made = nbformat.v4.new_code_cell(cell.source, metadata={"tags": kept} if kept else {})
            if "folded" in tags or only_imports(cell.source):
                fold(made)
            yield made


def fold_hints(hints: list[str]) -> str:
    """Hints as nested folds: each hint is nested inside the one before it."""
    folded = ""
    for number, hint in reversed(list(enumerate(hints, 1))):
        name = "Hint" if number == 1 else "Another hint"
        folded = details(name, f"{hint}\n\n{folded}" if folded else hint)
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
        details(option["option"], ("✓ Yes: " if option["right"] == "x" else "✗ No: ") + option["why"])
        for option in options
    ]
    return "\n".join(question).strip() + "\n\n" + "\n\n".join(folds)


def details(summary: str, content: str) -> str:
    """Text that is folded under a summary."""
    summary = re.sub(r"`([^`]+)`", r"<code>\1</code>", summary)  # Markdown is not read inside HTML
    return f"<details><summary>{summary}</summary>\n\n{content}\n\n</details>"
