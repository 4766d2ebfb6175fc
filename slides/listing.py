"""Code for the slides, taken from the library while the deck is built, so that a slide cannot show old code.

A listing is a function, a class, a method or a part of one, without docstrings and without the lines that are comments
only. Comments at the ends of lines, which have the shapes, stay unless the line is too wide for a slide.
"""

from __future__ import annotations

import ast
import html
import importlib
import inspect
import io
import keyword
import re
import textwrap
import token
import tokenize

WIDEST = 86  # characters of a line on a slide


class ListingError(ValueError):
    """There is no such code, or it does not fit; the message says which."""


def source_of(name: str) -> str:
    """The source of a piece of the library, as a slide shows it.

    Args:
        name: a module and a name in it, such as "atelier.blocks.vq:VectorQuantizer.forward"; with "@for" at its end,
            the first loop of that function, with "@body" all of it but its head.

    Raises:
        ListingError: there is no such code, or a line of it is too long for a slide.
    """
    whole, _, part_of = name.partition("@")
    module, _, path = whole.partition(":")
    try:
        found = importlib.import_module(module)
        for attribute in path.split("."):
            found = getattr(found, attribute)
    except (ImportError, AttributeError) as error:
        raise ListingError(f"The library has no {whole!r}.") from error
    source = textwrap.dedent(inspect.getsource(found))
    if part_of:
        source = part(source, part_of)
    return fitted(without_comment_lines(without_docstrings(source)))


def part(source: str, which: str) -> str:
    """The first loop of a function's source ("for"), or its statements without the head ("body").

    Raises:
        ListingError: there is no such part.
    """
    lines = source.splitlines()
    for node in ast.walk(ast.parse(source)):
        if which == "for" and isinstance(node, ast.For):
            return textwrap.dedent("\n".join(lines[node.lineno - 1 : node.end_lineno]))
        if which == "body" and isinstance(node, ast.FunctionDef):
            first = node.body[ast.get_docstring(node) is not None]
            return textwrap.dedent("\n".join(lines[first.lineno - 1 : node.end_lineno]))
    raise ListingError(f"A function has no part {which!r} here; there are for and body.")


def without_docstrings(source: str) -> str:
    """Code without its docstrings and empty lines."""
    lines = source.splitlines()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and ast.get_docstring(node) is not None:
            first, end = node.body[0].lineno, node.body[0].end_lineno or node.body[0].lineno
            lines[first - 1 : end] = [""] * (end - first + 1)
    return "\n".join(line for line in lines if line.strip())


def without_comment_lines(source: str) -> str:
    """Code without the lines that consist of a comment."""
    return "\n".join(line for line in source.splitlines() if not line.lstrip().startswith("#"))


def fitted(source: str) -> str:
    """Code in which no line is longer than `WIDEST`.

    The head of a function is wrapped; another long line loses its comment.

    Raises:
        ListingError: a line is still too long.
    """
    lines: list[str] = []
    for line in source.splitlines():
        indent = line[: len(line) - len(line.lstrip())]
        if len(line) <= WIDEST:
            lines.append(line)
        elif line.lstrip().startswith("def "):
            lines += wrapped(line, indent + 8 * " ")
        elif "  # " in line:
            lines.append(line.rpartition("  # ")[0])
        else:
            lines.append(line)
    long = [line.strip() for line in lines if len(line) > WIDEST]
    if long:
        raise ListingError(f"This line has more than {WIDEST} characters: {long[0]}")
    return "\n".join(lines)


def wrapped(line: str, indent: str) -> list[str]:
    """A line that is broken behind commas, with an indent before all lines but the first."""
    lines = [""]
    for part in re.split(r"(?<=, )", line):
        if len(lines[-1] + part.rstrip()) > WIDEST:
            lines.append(indent)
        lines[-1] += part
    return [each.rstrip() for each in lines]


def coloured(source: str) -> str:
    """Code as HTML, with keywords, comments, strings and the names of definitions in spans."""
    lines = source.splitlines()
    marks: list[tuple[int, int, int, str]] = []  # line, from, to, class
    defined = False
    for each in tokenize.generate_tokens(io.StringIO(source).readline):
        kind = ""
        if each.type == token.NAME:
            kind = "defined" if defined else "keyword" if keyword.iskeyword(each.string) else ""
            defined = each.string in ("def", "class")
        elif each.type == token.STRING:
            kind = "string"
        elif each.type == tokenize.COMMENT:
            kind = "comment"
        if kind and each.start[0] == each.end[0]:
            marks.append((each.start[0] - 1, each.start[1], each.end[1], kind))
    for line, start, end, kind in reversed(marks):  # from the end, so that earlier places stay right
        text = lines[line]
        lines[line] = f"{text[:start]}\0{kind}\1{text[start:end]}\2{text[end:]}"
    escaped = html.escape("\n".join(lines), quote=False)
    return escaped.replace("\0", '<span class="').replace("\1", '">').replace("\2", "</span>")


def listing(names: str) -> str:
    """Code as HTML for a slide, with the files that it is from.

    Args:
        names: as for `source_of`, with spaces between them; they are shown one below the other.

    Raises:
        ListingError: there is no such code, or a line of it is too long.
    """
    parts = [coloured(source_of(name)) for name in names.split()]
    shown: dict[str, list[str]] = {}  # file → the names in it
    for name in names.split():
        module, _, path = name.partition("@")[0].partition(":")
        shown.setdefault(f"lib/{module.replace('.', '/')}.py", []).append(path)
    where = "; ".join(f"{file}: {', '.join(dict.fromkeys(paths))}" for file, paths in shown.items())
    code = "\n\n".join(parts).replace("\n", "&#10;")  # one line of HTML, so that Marp does not read it as Markdown
    return f'<div class="listing"><pre>{code}</pre><p>{where}</p></div>'
