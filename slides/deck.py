"""Fill the deck with its figures and numbers, and build it: the second half of `make slides`.

session.md is Marp's Markdown with {{macros in double braces}}, which this module replaces by pictures, the map, numbers
of a model card, or measurements of a lesson: no measurement is typed by hand. The built deck needs no other files:
pictures and fonts are part of it as data, and formulas are rendered here, not in the reader's browser.
"""

from __future__ import annotations

import base64
import html
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

from atelier.teaching.claims import CLAIMS, LESSON_OF
from atelier.teaching.lessons import LESSONS
from atelier.teaching.pipeline_map import LINEAGE, PIPELINE, PLACES
from chromium import chromium
from listing import ListingError, listing
from PIL import Image
from reasons import reason

HERE = Path(__file__).parent
ROOT = HERE.parent
SOURCE, THEME = HERE / "session.md", HERE / "theme.css"
PALETTE = ROOT / "lib" / "atelier" / "page" / "static" / "palette.css"  # the page's colours are the deck's
FIGURES, SCRATCH, BUILT = HERE / "figures", HERE / "scratch", HERE / "built"
NUMBERS, CLAIMS_TABLE = FIGURES / "numbers.json", ROOT / "notebooks" / "CLAIMS.md"
COVERAGE = HERE / "COVERAGE.md"
FONT_FILES = HERE / "node_modules" / "@fontsource"
MARP = HERE / "node_modules" / ".bin" / "marp"

DENSITY, FILM_EDGE = 1.5, 2  # as in canvas.py: stored pixels for one of the slide; pixels around a film's frame
FONTS = (  # family, folder, weight, style
    ("Atkinson Hyperlegible Next", "atkinson-hyperlegible-next", 400, "normal"),
    ("Atkinson Hyperlegible Next", "atkinson-hyperlegible-next", 400, "italic"),
    ("Atkinson Hyperlegible Next", "atkinson-hyperlegible-next", 700, "normal"),
    ("Atkinson Hyperlegible Next", "atkinson-hyperlegible-next", 800, "normal"),
    ("Atkinson Hyperlegible Mono", "atkinson-hyperlegible-mono", 400, "normal"),
)
PARTS = {  # number → name, and the key of its first lesson
    "1": ("Building blocks", "1"),
    "2": ("From GAN to VQ-GAN", "2a"),
    "3": ("BART, the translator", "3"),
    "4": ("CLIP, the critic", "4"),
    "5": ("All blocks joined", "5"),
}
BREAK, NOTES = "\n---\n", re.compile(r"<!--(?! *_)(.*?)-->", re.DOTALL)
MACRO = re.compile(r"\{\{(\w+)(?:\s+((?:(?!\{\{|\}\}).)*))?\}\}", re.DOTALL)  # matches the innermost first


class DeckError(ValueError):
    """A macro in session.md cannot be replaced; the message says which, and on which slide."""


@dataclass(frozen=True)
class Slide:
    """A slide of session.md.

    Attributes:
        number: from 1.
        source: its Markdown, with the notes.
        title: its heading.
        part: "0" for the opening, then "1" to "5".
        facts: the first lines of the notes, such as "Minutes: 2": name → values of all lines with this name.
        say: the rest of the notes, the text to be spoken.
    """

    number: int
    source: str
    title: str
    part: str
    facts: dict[str, list[str]] = field(default_factory=dict)
    say: str = ""

    @property
    def minutes(self) -> float:
        """The minutes that its notes state, or 0."""
        return float(self.facts["Minutes"][0]) if "Minutes" in self.facts else 0.0


def slides(source: str) -> list[Slide]:
    """The slides of a deck's Markdown, without the settings at its beginning."""
    found, part = [], "0"
    for number, text in enumerate(source.split("---\n", 2)[2].split(BREAK), 1):
        heading = re.search(r"^# (.+)$", text, re.MULTILINE)
        opened = re.search(r'class="digit">(\d)<', text)
        part = opened[1] if opened else part
        facts, say = notes(text)
        found.append(Slide(number, text, heading[1] if heading else "", part, facts, say))
    return found


def notes(text: str) -> tuple[dict[str, list[str]], str]:
    """The facts and the spoken text of a slide's notes; see `Slide`."""
    comments = NOTES.findall(text)
    if not comments:
        return {}, ""
    head, _, say = comments[-1].strip().partition("\n\n")
    facts: dict[str, list[str]] = {}
    for line in head.splitlines():
        name, _, value = line.partition(": ")
        facts.setdefault(name, []).append(value)
    return facts, say.strip()


# ---------------------------------------------------------------------------------------------- measurements


@cache
def measured(table: Path = CLAIMS_TABLE) -> dict[str, tuple[str, str]]:
    """Key of a claim → its measurement and verdict; claims of lessons that are not built yet are left out."""
    by_words = {claim.words: key for key, claim in CLAIMS.items()}
    found = {}
    for line in table.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        if len(cells) == 5 and cells[0] in by_words:
            found[by_words[cells[0]]] = (cells[3], cells[4])
    return found


@cache
def numbers() -> dict[str, str]:
    """The numbers that figures.py has written: name → text."""
    return json.loads(NUMBERS.read_text(encoding="utf-8"))


@cache
def read_json(name: str) -> Any:
    """A JSON file of data/ or of notebooks/."""
    return json.loads((ROOT / name).read_text(encoding="utf-8"))


# ---------------------------------------------------------------------------------------------- macros


def data_url(path: Path) -> str:
    """A picture or a font as a data URL."""
    kind = {".png": "image/png", ".woff2": "font/woff2"}[path.suffix]
    return f"data:{kind};base64,{base64.b64encode(path.read_bytes()).decode()}"


def claim(key: str) -> str:
    """A claim's words, as HTML."""
    return html.escape(claim_words(key), quote=False)


def claim_words(key: str) -> str:
    """A claim's words.

    Raises:
        DeckError: there is no such claim.
    """
    if key not in CLAIMS:
        raise DeckError(f"There is no claim {key!r}; there are {', '.join(CLAIMS)}.")
    return CLAIMS[key].words


STEP = "data-marpit-fragment"  # what appears with the next key; Marp writes this for the items of "*" lists, too


def verdict(key: str) -> str:
    """The verdict on a claim, as a small label that appears with the next key: the room can vote first."""
    claim_words(key)
    if key not in measured():
        return f'<span class="verdict open" {STEP}>lesson {LESSON_OF[key]} measures it</span>'
    outcome = measured()[key][1]
    return f'<span class="verdict {outcome.replace(" ", "-")}" {STEP}>{outcome}</span>'


def why(key: str) -> str:
    """The reason for a verdict other than "holds", which appears with its label; "" if there is none."""
    claim_words(key)
    said = reason(key, *measured()[key]) if key in measured() else ""
    return f'<span class="why">{html.escape(said, quote=False)}</span>' if said else ""


def claims(keys: str) -> str:
    """Claims, one below the other, each with its verdict and the reason for it.

    Args:
        keys: of the claims, with commas between them.
    """
    rows = [f"<p>{claim(key)}{why(key)}</p>{verdict(key)}" for key in _names(keys)]
    return f'<div class="claims">{"".join(rows)}</div>'


def vote(keys: str) -> str:
    """Claims without verdicts, numbered, for a vote of the room.

    Args:
        keys: of the claims, with commas between them.
    """
    rows = [f"<b>{place}</b><p>{claim(key)}</p>" for place, key in enumerate(_names(keys), 1)]
    return f'<div class="vote">{"".join(rows)}</div>'


def _names(arguments: str) -> list[str]:
    return [name.strip() for name in arguments.split(",") if name.strip()]


def number(name: str) -> str:
    """A number of figures.py.

    Raises:
        DeckError: there is no such number.
    """
    if name not in numbers():
        raise DeckError(f"figures.py has no number {name!r}; it has {', '.join(numbers())}.")
    return html.escape(numbers()[name], quote=False)


def json_value(arguments: str) -> str:
    """A number of a JSON file; the arguments are the file, the keys with dots between them, and a format."""
    file, keys, how = arguments.split()
    value = read_json(file)
    for key in keys.split("."):
        value = value[key]
    return format(value, how)


def lesson_minutes(name: str) -> str:
    """The time that a lesson takes to run, from notebooks/source/tools/minutes.json."""
    table = read_json("notebooks/source/tools/minutes.json")
    if name not in table:
        return "a few minutes"
    return f"{table[name]['cpu']:g} minutes on two CPU cores"


def question(key: str) -> str:
    """The question that a lesson answers."""
    return html.escape(LESSONS[key].question, quote=False)


def pictures(arguments: str) -> str:
    """Pictures name-1.png, name-2.png, … in a grid.

    Args:
        arguments: three parts with bars between them, "tower 3 150 best | nine towers | label; label; …". The first
            part is the name, the columns, the side in pixels, and CSS classes; the second the alternative text; the
            third, which may be left out, a label for each picture.

    Raises:
        DeckError: there are no such pictures, or not as many labels as pictures.
    """
    how, alt, *labels = [part.strip() for part in arguments.split("|")]
    name, columns, side, *classes = how.split()
    files = sorted(FIGURES.glob(f"{name}-[0-9]*.png"), key=lambda path: int(path.stem.rpartition("-")[2]))
    if not files:
        raise DeckError(f"There are no pictures {name}-1.png, … in {FIGURES.name}.")
    under = [label.strip() for label in labels[0].split(";")] if labels else []
    if under and len(under) != len(files):
        raise DeckError(f"{len(under)} labels for {len(files)} pictures {name!r}.")
    figures = []
    for place, file in enumerate(files):
        words = f"{alt}, {place + 1} of {len(files)}" if len(files) > 1 else alt
        caption = f"<figcaption>{under[place]}</figcaption>" if under else ""
        figures.append(f'<figure><img alt="{html.escape(words)}" src="{data_url(file)}">{caption}</figure>')
    kind = " ".join(["pictures", *classes])
    return f'<div class="{kind}" style="--columns: {columns}; --side: {side}px">{"".join(figures)}</div>'


def film(arguments: str) -> str:
    """A film on the screen; on paper, and for readers who want no motion, its last frame.

    Args:
        arguments: two parts with a bar between them, "writing 290 14 | a picture that is being written". The first part
            is the film's name, the side in pixels, the seconds, and CSS classes; the second the alternative text.

    Raises:
        DeckError: there is no such film.
    """
    how, alt = [part.strip() for part in arguments.split("|")]
    name, side, seconds, *classes = how.split()
    path = FIGURES / f"film-{name}.png"
    if not path.is_file():
        raise DeckError(f"There is no film-{name}.png in {FIGURES.name}.")
    with Image.open(path) as opened:
        frames, stored = opened.width // opened.height, opened.height
    unit = float(side) / (stored - 2 * FILM_EDGE)  # pixels of the slide for a stored one
    start, end = -FILM_EDGE * unit, -((frames - 1) * stored + FILM_EDGE) * unit
    places = (
        f"--first: {start:.2f}px; --last: {end:.2f}px; --size: {frames * stored * unit:.2f}px {stored * unit:.2f}px"
    )
    style = f"--side: {side}px; --steps: {frames - 1}; --seconds: {seconds}s; {places}"
    kind = " ".join(["film", *classes])
    url = data_url(path)
    return f'<div class="{kind}" role="img" aria-label="{html.escape(alt)}" style="{style}; --strip: url({url})"></div>'


def map_row(names: tuple[str, ...], lit: set[str]) -> str:
    """A row of the pipeline map, with some of its stations highlighted."""
    cells = []
    for before, name in pairwise(("", *names)):
        classes = " ".join(kind for kind, is_so in (("computes", PLACES[name].computes), ("lit", name in lit)) if is_so)
        cells.append(f'{"<i></i>" if before else ""}<span class="{classes}">{name}</span>')
    return f'<div class="map">{"".join(cells)}</div>'


def pipeline_map(size: str, lit: str) -> str:
    """The pipeline map with some stations highlighted, and with the networks of part 2 if one of them is.

    Args:
        size: "mark" or "large", a CSS class; a large map always has the networks of part 2.
        lit: names of stations, with commas between them.

    Raises:
        DeckError: a name is not on the map.
    """
    names = set(_names(lit))
    unknown = sorted(names - PLACES.keys())
    if unknown:
        raise DeckError(f"{', '.join(unknown)} is not on the map; it has {', '.join(PLACES)}.")
    rows = [map_row(PIPELINE, names)] + [map_row(LINEAGE, names)] * bool(size == "large" or names & set(LINEAGE))
    here = f"Where we are: {', '.join(sorted(names))}" if names else "The map of the machine"
    return f'<nav class="{size}" aria-label="{here}">{"".join(rows)}</nav>'


def halves(minutes: float) -> str:
    """Minutes to the half: 10.5 → 10½."""
    return f"{int(minutes)}{'½' if minutes % 1 else ''}"


def plan(deck: list[Slide]) -> str:
    """The parts with their minutes, as bars."""
    spent = {part: sum(slide.minutes for slide in deck if slide.part == part) for part in PARTS}
    longest = max(spent.values())
    lines = [
        f"<b>{part}</b><span>{name}</span><i style='width: {100 * spent[part] / longest:.0f}%'></i>"
        f"<em>{halves(spent[part])}′</em>"
        for part, (name, _) in PARTS.items()
    ]
    return f'<div class="plan">{"".join(lines)}</div>'


def macros(deck: list[Slide]) -> dict[str, Callable[[str], str]]:
    """Name of a macro → function of its arguments, which returns HTML."""
    return {
        "claim": claim,
        "verdict": verdict,
        "why": why,
        "claims": claims,
        "vote": vote,
        "code": listing,
        "film": film,
        "number": number,
        "data": json_value,
        "takes": lesson_minutes,
        "question": question,
        "pictures": pictures,
        "mark": lambda lit: pipeline_map("mark", lit),
        "map": lambda lit: pipeline_map("large", lit),
        "plan": lambda _: plan(deck),
    }


# ---------------------------------------------------------------------------------------------- filling


def filled(source: str) -> str:
    """The deck for Marp: macros replaced, pictures as data URLs, clock and measurements added to the notes.

    Raises:
        DeckError: a macro cannot be replaced.
    """
    deck = slides(source)
    known_macros = macros(deck)
    head = source.split("---\n", 2)[1]
    begun: dict[str, float] = {}  # part → the minute at which it begins
    made = []
    for slide, start in zip(deck, starts(deck), strict=True):
        made.append(_fill_slide(slide, (start, begun.setdefault(slide.part, start)), known_macros))
    return f"---\n{head}---\n{BREAK.join(made)}"


def starts(deck: list[Slide]) -> list[float]:
    """The minute at which each slide should be reached, from the beginning of the session."""
    return list(accumulate((slide.minutes for slide in deck[:-1]), initial=0.0))


def clock(minutes: float) -> str:
    """A time since the beginning as the presenter's window shows it: 7.5 → 0:07:30."""
    seconds = round(60 * minutes)
    return f"{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}"


def _fill_slide(slide: Slide, times: tuple[float, float], known_macros: dict[str, Callable[[str], str]]) -> str:
    def replace(match: re.Match[str]) -> str:
        if match[1] not in known_macros:
            raise DeckError(f"There is no {match[1]!r}; there are {', '.join(known_macros)}.")
        return known_macros[match[1]](match[2] or "")

    try:
        text = NOTES.sub(lambda _: f"<!--\n{spoken(slide, *times)}\n-->", slide.source)
        while MACRO.search(text):
            text = MACRO.sub(replace, text)
        return _inline_pictures(text)
    except (DeckError, ListingError, KeyError, OSError) as fault:
        raise DeckError(f"Slide {slide.number}, “{slide.title}”: {fault}") from fault


def spoken(slide: Slide, start: float, part_start: float) -> str:
    """The notes as the presenter's window shows them: clock, measurements, what to say, and where it comes from.

    Args:
        slide: the slide.
        start: the minute at which it should be reached.
        part_start: the minute at which its part begins.
    """
    parts = [f"{clock(start)} to {clock(start + slide.minutes)}"]
    if slide.part != "0":
        since = start - part_start
        parts[0] += f"; in part {slide.part}, {clock(since)} to {clock(since + slide.minutes)}"
    parts += [
        f"Measured, “{claim_words(key)}”: {measured()[key][0]} → {measured()[key][1]}"
        for key in slide.facts.get("Claim", ())
        if key in measured()
    ]
    parts.append(slide.say)
    sources = [f"{name}: {'; '.join(slide.facts[name])}" for name in ("Lesson", "Session") if name in slide.facts]
    parts.append("\n".join(sources))
    return "\n\n".join(part for part in parts if part)


def _inline_pictures(text: str) -> str:
    """Markdown whose pictures are data URLs, each figure with the width in which it was drawn."""

    def background(match: re.Match[str]) -> str:
        return f"![{match[1]}]({data_url(HERE / match[2])})"

    def picture(match: re.Match[str]) -> str:
        path = HERE / match[2]
        with Image.open(path) as opened:
            width = round(opened.width / DENSITY)
        return f'<img alt="{html.escape(match[1])}" width="{width}" src="{data_url(path)}">'

    text = re.sub(r"!\[(bg[^\]]*)\]\((figures/[^)]+)\)", background, text)
    return re.sub(r"!\[([^\]]*)\]\((figures/[^)]+)\)", picture, text)


def complete(theme: str) -> str:
    """The theme with its fonts, as data URLs, and the palette."""
    faces = []
    for family, folder, weight, style in FONTS:
        file = FONT_FILES / folder / "files" / f"{folder}-latin-{weight}-{style}.woff2"
        faces.append(
            f'@font-face {{ font-family: "{family}"; font-weight: {weight}; font-style: {style}; '
            f'src: url("{data_url(file)}") format("woff2"); }}'
        )
    theme = theme.replace("/* {{fonts}} */", "\n".join(faces))
    return theme.replace("/* {{palette}} */", PALETTE.read_text(encoding="utf-8"))


# ---------------------------------------------------------------------------------------------- the table


def coverage(deck: list[Slide]) -> str:
    """The text of COVERAGE.md: for each slide the points of the session, the lesson, the claims and the verdicts."""
    lines = [
        "# What the slides cover",
        "",
        "Made by `make slides` out of the slides’ notes. A point of the session, the slide that makes it, the lesson",
        "that builds it, the claim that the lesson measures, and the verdict.",
        "",
        "| slide | reached at | minutes | its heading | the session’s point | lesson, section | claim | verdict |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for slide, start in zip(deck, starts(deck), strict=True):
        lessons = "; ".join(slide.facts.get("Lesson", ["–"]))
        keys = slide.facts.get("Claim", [])
        verdicts = [measured()[key][1] if key in measured() else "to be measured" for key in keys]
        session = "; ".join(slide.facts.get("Session", ["–"]))
        cells = (
            str(slide.number),
            clock(start),
            f"{slide.minutes:g}",
            slide.title,
            session,
            lessons,
            ", ".join(f"`{key}`" for key in keys) or "–",
            ", ".join(verdicts) or "–",
        )
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    total = sum(slide.minutes for slide in deck)
    return "\n".join([*lines, "", f"{len(deck)} slides, {total:g} minutes.", ""])


# ---------------------------------------------------------------------------------------------- building


def browser() -> str:
    """The path of Chromium.

    Raises:
        DeckError: it is not installed.
    """
    path = chromium()
    if path is None:
        raise DeckError(
            "The PDF and the PPTX need Chromium. Install it, or set its path: CHROME_PATH=/path/to/chromium."
        )
    return path


def marp(*options: str) -> None:
    """Run Marp on the filled deck.

    Raises:
        DeckError: Marp or Chromium is not installed.
    """
    if not MARP.is_file():
        raise DeckError("Marp is not installed: run npm ci in slides/, or `make slides`, which does.")
    environment = os.environ | {"CHROME_PATH": browser(), "CHROME_NO_SANDBOX": "1"}
    command = [str(MARP), "--config-file", "marp.config.mjs", "--no-stdin", "scratch/session.md", *options]
    subprocess.run(command, cwd=HERE, env=environment, check=True)


def write_filled() -> None:
    """Write the filled deck and the theme into scratch/."""
    SCRATCH.mkdir(exist_ok=True)
    (SCRATCH / "session.md").write_text(filled(SOURCE.read_text(encoding="utf-8")), encoding="utf-8")
    (SCRATCH / "theme.css").write_text(complete(THEME.read_text(encoding="utf-8")), encoding="utf-8")


def formats(names: list[str]) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield the file and Marp's options for each of the named formats, or for all if there is no name.

    Raises:
        DeckError: there is no such format.
    """
    options = {"html": (), "pdf": ("--pdf", "--pdf-outlines"), "pptx": ("--pptx",)}
    for name in names or options:
        if name not in options:
            raise DeckError(f"There is no format {name!r}; there are {', '.join(options)}.")
        yield f"session.{name}", options[name]


def main(names: list[str]) -> int:
    """Build the named formats, or all of them. Returns the exit status.

    Each file is built in scratch/ and then moved, so an interruption leaves the earlier files as they were.
    """
    try:
        wanted = list(formats(names))
        write_filled()
        for file, options in wanted:
            marp(*options, "--output", f"scratch/{file}")
        BUILT.mkdir(exist_ok=True)
        for file, _ in wanted:
            (SCRATCH / file).replace(BUILT / file)
        COVERAGE.write_text(coverage(slides(SOURCE.read_text(encoding="utf-8"))), encoding="utf-8")
    except DeckError as fault:
        sys.stderr.write(f"{fault}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
