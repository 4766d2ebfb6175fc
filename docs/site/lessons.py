"""From an executed lesson to a page: the same cells, without what only somebody who runs them needs."""

from __future__ import annotations

import base64
import copy
import re
from collections.abc import Iterator
from html import escape
from pathlib import Path

from atelier.teaching.controls import VIEW
from atelier.teaching.workshop import SETUP, verdicts
from nbformat import NotebookNode
from nbformat.v4 import new_output

SETUP_BEGINS = SETUP.partition("\n")[0]
BADGE = re.compile(r"^\[!\[Open in Colab\]\([^)]*\)\]\((?P<link>[^)]*)\)$")
DRAWING = re.compile(r"\b(?:axis|axes|show|figure|made|panel|plain|curves|picture_grid|add_patch|fontsize)\b|^\s*f?\"")
LONG = 10  # lines of code; shorter cells are never folded
STILL = (
    '<p class="still">On this page the picture stands still: the controls move it in JupyterLab and on Colab, where '
    "Python runs.</p>"
)


def lesson_page(notebook: NotebookNode, name: str, figures: Path) -> NotebookNode:
    """The notebook as the site shows it.

    Figures become files that a browser fetches when they come into view, with their alternative texts. The set-up cell
    and finished progress bars go, imports and code that only draws are folded, and each claim's measurement can be
    linked to.

    Args:
        notebook: executed.
        name: of the lesson, "2d_vq_vae".
        figures: the folder to write the pictures to; pages find it as ../_figures.
    """
    page = copy.deepcopy(notebook)
    claims = {cell for cell, _ in verdicts(page).values()}
    page.cells = [_shown(cell, figures, cell.id in claims) for cell in page.cells if not _is_setup(cell)]
    links = f'<p class="lesson-links"><a href="{name}.ipynb" download>Download this notebook</a>{_colab(notebook)}</p>'
    title = next(cell for cell in page.cells if cell.cell_type == "markdown" and cell.source.startswith("# "))
    heading, _, text = title.source.partition("\n")
    title.source = f"{heading}\n\n{links}\n{text}"
    return page


def _is_setup(cell: NotebookNode) -> bool:
    return cell.source.startswith(SETUP_BEGINS) or bool(BADGE.match(cell.source))


def _colab(notebook: NotebookNode) -> str:
    links = [found["link"] for cell in notebook.cells if (found := BADGE.match(cell.source))]
    return "".join(f' · <a href="{escape(link)}">Open in Colab</a>' for link in links)


def _shown(cell: NotebookNode, figures: Path, is_claim: bool) -> NotebookNode:
    if cell.cell_type != "code":
        return cell
    if re.match(r"(?:from|import) ", cell.source) and "DEVICE" in cell.source:
        _fold(cell, "the imports")
    elif not is_claim and _only_draws(cell.source):
        _fold(cell, "the code that draws this")
    cell.outputs = [
        shown for number, output in enumerate(cell.outputs) for shown in _output(output, f"{cell.id}-{number}", figures)
    ]
    if is_claim:
        cell.outputs.insert(0, _html(f'<span id="claim-{cell.id}"></span>'))
    return cell


def _fold(cell: NotebookNode, what: str) -> None:
    cell.metadata["tags"] = [*cell.metadata.get("tags", ()), "hide-input"]
    cell.metadata["mystnb"] = {"code_prompt_show": f"Show {what}", "code_prompt_hide": f"Hide {what}"}


def _only_draws(source: str) -> bool:
    """Whether most lines of a long cell are about axes, colours and labels: whoever reads is here for the figure."""
    lines = [line for line in source.splitlines() if line.strip()]
    return len(lines) >= LONG and sum(bool(DRAWING.search(line)) for line in lines) >= len(lines) / 2


def _output(output: NotebookNode, name: str, figures: Path) -> Iterator[NotebookNode]:
    data = output.get("data", {})
    if "image/png" in data:
        facts = output.metadata["image/png"]
        (figures / f"{name}.png").write_bytes(base64.b64decode(data["image/png"]))
        yield _html(  # a phone shows it small: a tap opens it alone
            f'<a href="../_figures/{name}.png"><img class="figure" src="../_figures/{name}.png" '
            f'alt="{escape(facts["alt"], quote=True)}" width="{facts["width"]}" loading="lazy"></a>'
        )
    elif VIEW in data and "text/html" in data:  # controls; the widget manager shows them
        yield new_output("display_data", {VIEW: data[VIEW], "text/plain": data["text/plain"]})
        yield _html(STILL)
    elif VIEW not in data:  # what else has a view is a progress bar, and tells a reader nothing
        yield output


def _html(text: str) -> NotebookNode:
    return new_output("display_data", {"text/html": text})
