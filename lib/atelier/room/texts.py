"""Texts from participants, before they are shown."""

from __future__ import annotations

import unicodedata
from typing import Any

from atelier.page.faults import PageError

JOINER = "\u200d"  # joins the parts of one emoji, so it is kept although it is a format character
REMOVED = {"Cc", "Cf", "Cs", "Co", "Cn"}  # categories of Unicode: control and format characters, surrogates, unassigned


def shown_text(value: Any, most: int, called: str) -> str:
    """Clean a text: on one line, without control characters and characters that change the direction of writing.

    The browser's pages insert texts as text, never as HTML, so nothing needs to be escaped here.

    Args:
        value: the text, from a request.
        most: characters after which it is cut.
        called: what it is, for the error.

    Raises:
        PageError: if it is not text.
    """
    if not isinstance(value, str):
        raise PageError(f"{called} is not text.")
    value = value[: 20 * most]  # whatever is longer is cut below, too
    kept = "".join(
        " " if each.isspace() else each
        for each in value
        if each.isspace() or each == JOINER or unicodedata.category(each) not in REMOVED
    )
    text = " ".join(kept.split())
    return text if len(text) <= most else text[: most - 1].rstrip() + "…"
