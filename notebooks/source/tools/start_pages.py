"""Where learners start: the page notebooks/README.md, and the notebook start.ipynb, which checks the machine.

Both list the lessons. The page is what JupyterLab opens first. The notebook is for Colab, Kaggle and rented servers,
where there is no JupyterLab of the course: it sets the course up, and says whether the machine can run the lessons.
"""

from __future__ import annotations

from pathlib import Path

import nbformat
from assembly import TAGS, colab_address, repository, with_setup
from atelier.teaching.lessons import LESSONS, NOTEBOOKS, Lesson, minutes
from atelier.teaching.pieces import pieces_of
from build_mode import FOLDER as BUILD_FOLDER
from nbformat import NotebookNode

CLAIMS_FILE = "CLAIMS.md"
START_FILE, START_NOTEBOOK = "README.md", "start.ipynb"
CHECK = """\
from atelier.doctor import examine

for finding in examine():
    print(finding)"""


def start_page(folder: Path = NOTEBOOKS) -> str:
    """The text of notebooks/README.md: the lessons in order, what each is about, and how long it takes."""
    names = [lesson.name for lesson in LESSONS.values()]
    return "\n".join(
        [
            "# The lessons",
            "",
            "Start with lesson 1 and read them in order: lesson 1 runs the finished model, lessons 2a to 4 build its",
            "blocks and their forerunners, and lesson 5 joins the blocks. Every lesson runs on a laptop without a GPU.",
            "Each has exercises whose answers are checked, with hints and a solution below them, and ends with a short",
            "quiz. `make lab` opens the lessons in JupyterLab.",
            "",
            "What you train in lessons 2e, 3 and 4 is saved in `runs/mine`, and lesson 5 joins it to a DALL·E Mini of",
            "your own. On Colab this folder lies in the clone and is deleted with the machine.",
            "",
            f"On Colab, Kaggle or a rented Jupyter server, open or upload [{START_NOTEBOOK}]({START_NOTEBOOK}), or the",
            "notebook of a lesson, and run its first cell: it fetches the course and installs what is missing. If it",
            "says that the course's address is not in the notebook, write your own fork, `owner/name`, or an archive",
            "of the course that you have uploaded, such as `course.zip`, into `COURSE` in this cell.",
            "",
            "If you would rather write the blocks yourself, open the build notebook of a lesson. The bodies of its",
            "important functions are empty, and each is checked as soon as you have written it.",
            "",
            *_table({name: f"{name}.ipynb" for name in names}, folder),
            "",
            f"[{CLAIMS_FILE}]({CLAIMS_FILE}) lists what the slides claim and what the lessons measure. The lessons",
            "and this page are built from [source/](source) by `make notebooks`; change them there.",
            "",
        ]
    )


def start_notebook(folder: Path = NOTEBOOKS) -> NotebookNode:
    """The notebook that sets the course up, checks the machine and lists the lessons; it is stored without outputs.

    Once the repository is known, the links open the lessons in Colab, where links to files of the clone do not work.
    """
    owner_and_name = repository(folder)
    names = [lesson.name for lesson in LESSONS.values()]
    addresses = {name: colab_address(owner_and_name, name) if owner_and_name else f"{name}.ipynb" for name in names}
    before = """\
# Start here

This notebook checks whether a machine can run the lessons. Run both cells below. On Colab, Kaggle or a rented server
the first one fetches the course and installs what is missing, which takes a few minutes. The second one examines the
machine: a line that begins with `FAIL` says what is wrong, and the line below it what to do."""
    after = "\n".join(
        [
            "## The lessons",
            "",
            "If all lines say `OK`, open lesson 1. Its first cell is the set-up cell above, as in every lesson: on a",
            "server where each notebook has its own machine it fetches the course again, elsewhere it does nothing.",
            "",
            *_table(addresses, folder),
        ]
    )
    check = nbformat.v4.new_code_cell(CHECK, metadata={"tags": [TAGS["ignored"]]})
    cells = [nbformat.v4.new_markdown_cell(before), check, nbformat.v4.new_markdown_cell(after)]
    return with_setup(cells, Path(START_NOTEBOOK).stem, "start", folder)


def _table(addresses: dict[str, str], folder: Path) -> list[str]:
    """The lines of a table of the lessons; `addresses` has the address of each lesson's notebook, by its name."""
    taken = minutes(folder)
    rows = [
        f"| [{lesson.key} {lesson.title}]({addresses[lesson.name]}) | {lesson.question} | "
        f"{taken.get(lesson.name, '')} | {_build_link(lesson, addresses[lesson.name])} |"
        for lesson in LESSONS.values()
    ]
    return ["| lesson | question | time | build it yourself |", "|---|---|---|---|", *rows]


def _build_link(lesson: Lesson, address: str) -> str:
    """The link to a lesson's build notebook, with its number of pieces and their minutes; "" for one without pieces."""
    pieces = pieces_of(lesson.key)
    if not pieces:
        return ""
    words = f"{len(pieces)} pieces" if len(pieces) > 1 else "1 piece"
    build = address.replace(f"{lesson.name}.ipynb", f"{BUILD_FOLDER}/{lesson.name}.ipynb")
    return f"[{words}, {sum(piece.minutes for piece in pieces)} minutes]({build})"
