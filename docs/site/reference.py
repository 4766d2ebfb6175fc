"""The reference: a page for each module of the library, made from its docstrings, and a page that lists them."""

from __future__ import annotations

import ast
from importlib import import_module
from pathlib import Path

import atelier

SECTIONS = {  # package → heading, in the order of the page; the first is the library's top level
    "": "Atelier",
    "blocks": "Blocks: one a file, importing only torch",
    "world": "The painted world",
    "decoding": "Decoding: from a caption to codes",
    "drawing": "Drawing: from a prompt to ranked pictures",
    "training": "Training",
    "weights": "Weights: presets, tokenizer, the published formats",
    "export": "Export to ONNX",
    "evaluation": "Evaluation and model cards",
    "page": "The page with the DRAW button",
    "room": "The room of a workshop",
    "teaching": "What only lessons use",
}
INTRODUCTION = """\
# Reference

Everything public in the library, from its docstrings; each page links to the source. For most uses
{py:obj}`~atelier.drawing.pipeline.Pipeline` is all you need:

```python
from atelier import Pipeline

Pipeline.from_pretrained().draw("the Eiffel tower landing on the moon").grid().save("drawing.png")
```
"""
PACKAGE = "__init__.py"
LEFT_OUT = {  # what belongs to single lessons: their terms, exercises, pieces, claims and experiments
    "atelier.__main__",
    *(f"atelier.teaching.{package}" for package in ("terms", "exercises", "pieces", "claims", "experiments")),
}


def modules() -> dict[str, Path]:
    """Dotted name → file, for all modules that have a page."""
    root = Path(atelier.__path__[0])
    found = {}
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root.parent).with_suffix("").parts
        name = ".".join(parts[:-1] if path.name == PACKAGE else parts)
        if not any(f"{name}.".startswith(f"{out}.") for out in LEFT_OUT) and _has_content(path):
            found[name] = path
    return found


def _has_content(path: Path) -> bool:
    """Whether the module contains more than its docstring."""
    return len(ast.parse(path.read_text(encoding="utf-8")).body) > 1


def summary(path: Path) -> str:
    """The first paragraph of a module's docstring."""
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return " ".join(text.partition("\n\n")[0].split())


def reference_pages() -> dict[str, str]:
    """Name of a page → its Markdown, for each module and for "index"."""
    found = modules()
    sections = [
        _section(heading, {n: p for n, p in found.items() if section_of(n) == section})
        for section, heading in SECTIONS.items()
    ]
    pages = {name: _module_page(name, path) for name, path in found.items()}
    return pages | {"index": "\n".join([INTRODUCTION, *sections])}


def section_of(name: str) -> str:
    """The key of SECTIONS to which a module belongs: "blocks" for atelier.blocks.vq, "" for atelier.doctor."""
    section = name.partition(".")[2].partition(".")[0]
    return section if section in SECTIONS else ""


def _module_page(name: str, path: Path) -> str:
    if path.name != PACKAGE:
        return f"# {name}\n\n```{{eval-rst}}\n.. automodule:: {name}\n```\n"
    names = "\n".join(f"- {_exported(name, export)}" for export in import_module(name).__all__)
    head = f"```{{eval-rst}}\n.. automodule:: {name}\n   :no-members:\n```"
    return f"# {name}\n\n{head}\n\n`from {name} import` takes what its modules define:\n\n{names}\n"


def _exported(package: str, name: str) -> str:
    """A name that a package exports, as a link to its definition; numbers and strings have no page of their own."""
    home = getattr(getattr(import_module(package), name), "__module__", "")
    return f"{{py:obj}}`~{home}.{name}`" if home.startswith("atelier.") else f"`{name}`"


def _section(heading: str, here: dict[str, Path]) -> str:
    entries = "\n\n".join(f"[{name}]({name}.md)\n: {summary(path)}" for name, path in here.items())
    tree = "\n".join(here)
    return f"## {heading}\n\n{entries}\n\n```{{toctree}}\n:hidden:\n\n{tree}\n```\n"
