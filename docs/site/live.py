"""Controls that work on a lesson's page: they run in the browser, with the scripts of docs/site/drawing."""

from __future__ import annotations

import json
import re
from html import escape
from typing import Any

import code_swap
import planes
from atelier.export.graph import Graph
from gallery import prompts

EXPLORED = re.compile(r"^explore\(\s*(?P<function>\w+)", re.MULTILINE)
KNOBS = ("5_full_pipeline", "draw_knobs")  # the lesson and the function whose controls are guidance and its like
KNOBS_PICTURES = 4
FETCHED = (
    '<link rel="stylesheet" href="../_static/drawing/drawing.css">'
    '<script type="module" src="../_static/drawing/live.js"></script>'
)


def live_place(lesson: str, source: str, still: str) -> str | None:
    """The place of live controls, as HTML.

    Args:
        lesson: its name, "2b_autoencoder".
        source: of the cell, which calls `explore`.
        still: what is shown until the reader asks for the controls, as HTML.

    Returns:
        HTML; None if the page has no live controls for this cell.
    """
    called = EXPLORED.search(source)
    key = (lesson, called["function"] if called else "")
    if key in planes.PLANES:
        return planes.place(planes.PLANES[key], still) + FETCHED
    if key == code_swap.LESSON:
        return code_swap.place(still) + FETCHED
    if key == KNOBS:
        examples = escape(json.dumps(prompts()), quote=True)
        facts = f'data-live="draw" data-pictures="{KNOBS_PICTURES}" data-prompts="{examples}"'
        return f'<div class="live" {facts}>{still}</div>{FETCHED}'
    return None


def lesson_models() -> dict[str, tuple[dict[str, Any], Graph]]:
    """The models behind the controls of lessons 2b to 2d: folder → what its manifest says besides, and the graph."""
    of_planes = {plane.model: (planes.facts(), planes.graph(plane)) for plane in planes.PLANES.values()}
    return {**of_planes, code_swap.FOLDER: (code_swap.facts(), code_swap.graph())}
