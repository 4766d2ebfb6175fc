"""The glossary: all terms of the course, each with the lesson that introduces it."""

from __future__ import annotations

import html
from dataclasses import dataclass
from importlib import import_module
from pkgutil import iter_modules

from IPython.display import HTML, display

from atelier.teaching import terms


@dataclass(frozen=True)
class Term:
    """A term of the glossary.

    Attributes:
        meaning: in a sentence.
        lesson: key of the lesson that introduces the term, in bold.
    """

    meaning: str
    lesson: str


def _all_terms() -> dict[str, Term]:
    """The terms of all lessons, from the modules in `terms`."""
    joined: dict[str, Term] = {}
    for module in iter_modules(terms.__path__):
        introduced = import_module(f"{terms.__name__}.{module.name}").TERMS
        joined |= {name: Term(meaning, module.name.removeprefix("lesson_")) for name, meaning in introduced.items()}
    return joined


TERMS: dict[str, Term] = _all_terms()


def glossary() -> None:
    """Display all terms in alphabetical order, with the lessons that introduce them."""
    rows = "".join(
        f"<tr><td><b>{html.escape(name)}</b></td><td>{html.escape(term.meaning)}</td><td>{term.lesson}</td></tr>"
        for name, term in sorted(TERMS.items(), key=lambda item: item[0].lower())
    )
    display(HTML(f"<table><tr><th>term</th><th>meaning</th><th>lesson</th></tr>{rows}</table>"))
