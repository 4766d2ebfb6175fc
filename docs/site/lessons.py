"""From an executed lesson to a page: the same cells, without those that are needed only to run it."""

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
    r"\b(?:axis|axes|figure|made|panel|hide_axes|show|imshow|plot|bar|scatter|text|titles?|legend|annotate|set|set_title|"
    r"curves|picture_grid|sheet|add_patch|Rectangle|Polygon|fontsize|color|xlim|ylim|linewidth|inches)\b|^\s*f?\""
)
FOLD_LINES = 10  # cells with fewer lines of code are never folded
WIDE_PIXELS, WIDE_RATIO = 600, 1.5  # the least width, and ratio of width to height, of a figure that counts as wide
BAR = re.compile(r"\d%\|")
GLOSSARY = "<table><tr><th>term</th>"
STATIC_NOTE = '<p class="still">On this page nothing moves: these controls work where Python runs, in {places}.</p>'
HOW_TO_RUN = (
    '<p class="lesson-links">You are reading the stored results of a run. To run it yourself, '
    '<a href="../README.html">set the course up</a> and type <code>make lab</code>{colab}. The '
    '<a href="{name}.ipynb" download>notebook alone</a> lacks the library.</p>'
)


def lesson_page(notebook: NotebookNode, name: str, figures: Path) -> NotebookNode:
    """The notebook as the site shows it.

    Figures become files, which a browser fetches when they come into view, with their alternative texts. The set-up
    cell and finished progress bars are removed, imports and code that only draws are folded, and the cell that measures
    a claim gets an anchor.

    Args:
        notebook: executed.
        name: of the lesson, "2d_vq_vae".
        figures: folder to write the pictures to, which is ../_figures for pages.
    """
    page = copy.deepcopy(notebook)
    claims = {cell for cell, _ in verdicts(page).values()}
    colab = _colab(notebook)
    page.cells = [
        _page_cell(cell, figures, cell.id in claims, bool(colab)) for cell in page.cells if not _is_setup(cell)
    ]
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


def _page_cell(cell: NotebookNode, figures: Path, is_claim: bool, on_colab: bool) -> NotebookNode:
    if cell.cell_type != "code":
        return cell
    if not is_claim and _only_draws(cell.source):
        _fold(cell, "the code that draws this")
    still = STATIC_NOTE.format(places="JupyterLab and on Colab" if on_colab else "JupyterLab")
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
    """Whether at least half of the lines of a long cell are about axes, colours and labels."""
    lines = [line for line in source.splitlines() if line.strip()]
    return len(lines) >= FOLD_LINES and sum(bool(DRAWING.search(line)) for line in lines) >= len(lines) / 2


def _output(output: NotebookNode, name: str, figures: Path, still: str) -> Iterator[NotebookNode]:
    data = output.get("data", {})
    if "image/png" in data:
        facts, png = output.metadata["image/png"], base64.b64decode(data["image/png"])
        (figures / f"{name}.png").write_bytes(png)
        yield _html(  # phones show it small, so a tap opens it alone
            f'<a href="../_figures/{name}.png"><img class="figure{" wide" if is_wide(png, facts["width"]) else ""}" '
            f'src="../_figures/{name}.png" alt="{escape(facts["alt"], quote=True)}" width="{facts["width"]}" '
            'loading="lazy"></a>'
        )
    elif VIEW in data and BAR.search(str(data.get("text/plain", ""))):
        return  # a finished progress bar has no information for a reader
    elif VIEW in data:  # controls; the widget manager shows them
        yield new_output("display_data", {VIEW: data[VIEW], "text/plain": "controls"})
        yield _html(still)
    elif str(data.get("text/html", "")).startswith(GLOSSARY):
        yield _html('<p>The site has <a href="../glossary.html">a page for it</a>.</p>')
    else:
        yield output


def is_wide(png: bytes, width: int) -> bool:
    """Whether a figure is so wide that its text would be too small on a phone, which then lets it scroll sideways."""
    with Image.open(io.BytesIO(png)) as picture:
        return width >= WIDE_PIXELS and picture.width >= WIDE_RATIO * picture.height


def _html(text: str) -> NotebookNode:
    return new_output("display_data", {"text/html": text})
