"""From an executed lesson to a page: the same cells, without those that are needed only to run it."""

from __future__ import annotations

import base64
import copy
import io
import re
from collections.abc import Iterator
from html import escape
from pathlib import Path

from assembly import setup_source
from atelier.teaching.controls import VIEW
from claims_page import verdicts
from folds import is_folded, only_imports
from live import live_place
from nbformat import NotebookNode
from nbformat.v4 import new_output
from PIL import Image

SETUP_BEGINS = setup_source("").partition("\n")[0]
BADGE = re.compile(r"^\[!\[Open in Colab\]\([^)]*\)\]\((?P<link>[^)]*/github/(?P<home>[^/)]+/[^/)]+)/[^)]*)\)$")
WIDE_PIXELS, WIDE_RATIO = 600, 1.5  # the least width, and ratio of width to height, of a figure that counts as wide
BAR = re.compile(r"\d%\|")
GLOSSARY = "<table><tr><th>term</th>"
STATIC_NOTE = '<p class="still">On this page nothing moves: these controls work where Python runs, in {places}.</p>'
HOW_TO_RUN = (
    '<p class="lesson-links">You are reading the stored results of a run. To run it yourself, '
    '<a href="../README.html">set the course up</a> and type <code>make lab</code>{elsewhere}. The '
    '<a href="{name}.ipynb" download>notebook alone</a> lacks the library.</p>{buttons}'
)
BINDER = "https://mybinder.org/v2/gh/{home}/HEAD?urlpath=lab/tree/notebooks/{name}.ipynb"


def lesson_page(notebook: NotebookNode, name: str, figures: Path) -> NotebookNode:
    """The notebook as the site shows it.

    Figures become files, which a browser fetches when they come into view, with their alternative texts. The set-up
    cell and finished progress bars are removed, and a cell that measures a claim gets an anchor. Cells that are folded
    in the notebook are folded on the page.

    Args:
        notebook: executed.
        name: of the lesson, "2d_vq_vae".
        figures: folder to write the pictures to, which is ../_figures for pages.
    """
    page = copy.deepcopy(notebook)
    claims = {cell for cell, _ in verdicts(page).values()}
    buttons = _buttons(notebook, name)
    page.cells = [
        _page_cell(cell, name, figures, cell.id in claims, bool(buttons)) for cell in page.cells if not _is_setup(cell)
    ]
    title = next(cell for cell in page.cells if cell.cell_type == "markdown" and cell.source.startswith("# "))
    heading, _, text = title.source.partition("\n")
    elsewhere = ", or run it on another computer" if buttons else ""
    title.source = f"{heading}\n\n{HOW_TO_RUN.format(name=name, elsewhere=elsewhere, buttons=buttons)}\n{text}"
    return page


def _is_setup(cell: NotebookNode) -> bool:
    return cell.source.startswith(SETUP_BEGINS) or bool(BADGE.match(cell.source))


def _buttons(notebook: NotebookNode, name: str) -> str:
    """Buttons that open the lesson in Colab and on Binder, if the notebook has the badge of a known repository."""
    links = [found for cell in notebook.cells if (found := BADGE.match(cell.source))]
    if not links:
        return ""
    places = {"Colab": links[0]["link"], "Binder": BINDER.format(home=links[0]["home"], name=name)}
    buttons = [f'<a href="{escape(link)}">Open in {place}</a>' for place, link in places.items()]
    return f'<p class="doors">{"".join(buttons)}</p>'


def _page_cell(cell: NotebookNode, lesson: str, figures: Path, is_claim: bool, on_colab: bool) -> NotebookNode:
    if cell.cell_type != "code":
        return cell
    if is_folded(cell):
        _fold(cell, "the imports" if only_imports(cell.source) else "the code that draws this")
    still = STATIC_NOTE.format(places="JupyterLab and on Colab" if on_colab else "JupyterLab")
    cell.outputs = [
        shown
        for number, output in enumerate(cell.outputs)
        for shown in _live_output(output, lesson, cell.source) or _output(output, f"{cell.id}-{number}", figures, still)
    ]
    if is_claim:
        cell.outputs.insert(0, _html(f'<span id="claim-{cell.id}"></span>'))
    return cell


def _fold(cell: NotebookNode, what: str) -> None:
    cell.metadata["tags"] = [*cell.metadata.get("tags", ()), "hide-input"]
    cell.metadata["mystnb"] = {"code_prompt_show": f"+ Show {what}", "code_prompt_hide": f"− Hide {what}"}


def _live_output(output: NotebookNode, lesson: str, source: str) -> list[NotebookNode]:
    """The controls that work on the page, in place of a cell's widgets; empty if there are none."""
    data = output.get("data", {})
    place = live_place(lesson, source, data["text/html"]) if VIEW in data and "text/html" in data else None
    return [_html(place)] if place else []


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
