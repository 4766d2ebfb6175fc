"""From an executed lesson to a page: the same cells, without what only somebody who runs them needs."""

from __future__ import annotations

import base64
import copy
import io
import re
from collections.abc import Iterator
from html import escape
from pathlib import Path

from atelier.teaching.controls import VIEW
from build_lessons import SETUP, verdicts
from nbformat import NotebookNode
from nbformat.v4 import new_output
from PIL import Image

SETUP_BEGINS = SETUP.partition("\n")[0]
BADGE = re.compile(r"^\[!\[Open in Colab\]\([^)]*\)\]\((?P<link>[^)]*)\)$")
DRAWING = re.compile(
    r"\b(?:axis|axes|figure|made|panel|plain|show|imshow|plot|bar|scatter|text|titles?|legend|annotate|set|set_title|"
    r"curves|picture_grid|sheet|add_patch|Rectangle|Polygon|fontsize|color|xlim|ylim|linewidth|inches)\b|^\s*f?\""
)
LONG = 10  # lines of code; shorter cells are never folded
WIDE, FLAT = 600, 1.5  # pixels, and pixels of width to one of height
BAR = re.compile(r"\d%\|")
GLOSSARY = "<table><tr><th>term</th>"
STILL = '<p class="still">On this page nothing moves: these controls work where Python runs, in {places}.</p>'
HOW_TO_RUN = (
    '<p class="lesson-links">You are reading the stored results of a run. To run it yourself, '
    '<a href="../README.html">set the course up</a> and type <code>make lab</code>{colab}. The '
    '<a href="{name}.ipynb" download>notebook alone</a> lacks the library.</p>'
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
    colab = _colab(notebook)
    page.cells = [_shown(cell, figures, cell.id in claims, bool(colab)) for cell in page.cells if not _is_setup(cell)]
    title = next(cell for cell in page.cells if cell.cell_type == "markdown" and cell.source.startswith("# "))
    heading, _, text = title.source.partition("\n")
    title.source = f"{heading}\n\n{HOW_TO_RUN.format(name=name, colab=colab)}\n{text}"
    imports = next(cell for cell in page.cells if cell.cell_type == "code")
    if re.match(r"(?:from|import) ", imports.source):
        _fold(imports, "the imports")
    return page


def _is_setup(cell: NotebookNode) -> bool:
    return cell.source.startswith(SETUP_BEGINS) or bool(BADGE.match(cell.source))


def _colab(notebook: NotebookNode) -> str:
    links = [found["link"] for cell in notebook.cells if (found := BADGE.match(cell.source))]
    return "".join(f', or <a href="{escape(link)}">open it in Colab</a>' for link in links)


def _shown(cell: NotebookNode, figures: Path, is_claim: bool, on_colab: bool) -> NotebookNode:
    if cell.cell_type != "code":
        return cell
    if not is_claim and _only_draws(cell.source):
        _fold(cell, "the code that draws this")
    still = STILL.format(places="JupyterLab and on Colab" if on_colab else "JupyterLab")
    cell.outputs = [
        shown
        for number, output in enumerate(cell.outputs)
        for shown in _output(output, f"{cell.id}-{number}", figures, still)
    ]
    if is_claim:
        cell.outputs.insert(0, _html(f'<span id="claim-{cell.id}"></span>'))
    return cell


def _fold(cell: NotebookNode, what: str) -> None:
    cell.metadata["tags"] = [*cell.metadata.get("tags", ()), "hide-input"]
    cell.metadata["mystnb"] = {"code_prompt_show": f"+ Show {what}", "code_prompt_hide": f"− Hide {what}"}


def _only_draws(source: str) -> bool:
    """Whether most lines of a long cell are about axes, colours and labels: whoever reads is here for the figure."""
    lines = [line for line in source.splitlines() if line.strip()]
    return len(lines) >= LONG and sum(bool(DRAWING.search(line)) for line in lines) >= len(lines) / 2


def _output(output: NotebookNode, name: str, figures: Path, still: str) -> Iterator[NotebookNode]:
    data = output.get("data", {})
    if "image/png" in data:
        facts, png = output.metadata["image/png"], base64.b64decode(data["image/png"])
        (figures / f"{name}.png").write_bytes(png)
        yield _html(  # a phone shows it small: a tap opens it alone
            f'<a href="../_figures/{name}.png"><img class="figure{" wide" if is_wide(png, facts["width"]) else ""}" '
            f'src="../_figures/{name}.png" alt="{escape(facts["alt"], quote=True)}" width="{facts["width"]}" '
            'loading="lazy"></a>'
        )
    elif VIEW in data and BAR.search(str(data.get("text/plain", ""))):
        return  # a finished progress bar tells a reader nothing
    elif VIEW in data:  # controls; the widget manager shows them
        yield new_output("display_data", {VIEW: data[VIEW], "text/plain": "controls"})
        yield _html(still)
    elif str(data.get("text/html", "")).startswith(GLOSSARY):
        yield _html('<p>The site has <a href="../glossary.html">a page for it</a>.</p>')
    else:
        yield output


def is_wide(png: bytes, width: int) -> bool:
    """Whether a phone shows the figure larger than itself, scrolled sideways; else nobody could read its words."""
    with Image.open(io.BytesIO(png)) as picture:
        return width >= WIDE and picture.width >= FLAT * picture.height


def _html(text: str) -> NotebookNode:
    return new_output("display_data", {"text/html": text})
