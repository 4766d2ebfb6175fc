"""Put the sources of the site's pages into a folder, arranged as in the repository, so that links between them work."""

from __future__ import annotations

import json
import re
import shutil
from html import escape
from pathlib import Path

import nbformat
from assembly import repository
from atelier import Pipeline
from atelier.evaluation.card import EVALUATION_FILE
from atelier.teaching.claims import OUTCOMES
from atelier.teaching.glossary import TERMS
from atelier.teaching.lessons import LESSONS, MINUTES_FILE, Lesson, minutes
from claims_page import verdicts
from gallery import front_pictures, gallery_page, prompts
from lessons import lesson_page
from reference import reference_pages

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
PAGES = (  # pages, and the files that they link to
    "CONTRIBUTING.md",
    "CITATION.cff",
    "NOTICE",
    "data/README.md",
    "data/prompts.txt",
    "data/laptop/README.md",
    "data/laptop/curves.png",
    "data/studio/README.md",
    "data/studio/curves.png",
    "data/sprites/README.md",
    "docs/*.jpg",
    "docs/*.png",
    "docs/REPRODUCIBLE.md",
    "slides/INSTRUCTOR.md",
    "slides/TEACH_A_PART.md",
    "slides/ROOM.md",
    "slides/COVERAGE.md",
)
DOWNLOADS = ("slides/built/session.html", "slides/built/session.pdf", "notebooks/*.ipynb")
CARD_FIGURES = {  # key of a lesson → the deck's figure on its card
    "1": "machine",
    "2a": "gan-1",
    "2b": "ae-plane",
    "2c": "vae-plane",
    "2d": "sentence",
    "2e": "vqgan-machine",
    "3": "translation",
    "4": "matrix",
    "5": "pipeline",
}


def stage(target: Path) -> None:
    """Write pages, figures and downloads into the folder `target`, which must be empty or missing."""
    figures = target / "_extra" / "_figures"
    figures.mkdir(parents=True)
    _copy(PAGES, target)
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    _write(target / "README.md", set_up_page(readme, repository()))
    _copy(DOWNLOADS, target / "_extra")
    for name in CARD_FIGURES.values():
        shutil.copy(ROOT / "slides" / "figures" / f"{name}.png", figures)
    places = {}
    for lesson in LESSONS.values():
        notebook = nbformat.read(ROOT / "notebooks" / f"{lesson.name}.ipynb", as_version=4)
        places |= {cell: lesson.name for cell, _ in verdicts(notebook).values()}
        page = target / "notebooks" / f"{lesson.name}.ipynb"
        page.parent.mkdir(exist_ok=True)
        nbformat.write(lesson_page(notebook, lesson.name, figures), page)
    claims = (ROOT / "notebooks" / "CLAIMS.md").read_text(encoding="utf-8")
    _write(target / "notebooks" / "CLAIMS.md", linked_claims(claims, places))
    pipe = Pipeline.from_pretrained("studio")
    _write(target / "index.md", front_page(claims, front_pictures(pipe, figures)))
    for name in ("conf.py", "deck.md"):
        shutil.copy(HERE / name, target)
    shutil.copy(HERE / "drawing" / "service-worker.js", target / "_extra")
    _write(target / "draw.md", draw_page())
    _write(target / "glossary.md", glossary_page())
    _write(target / "gallery.md", gallery_page(pipe, figures))
    for name, text in reference_pages().items():
        _write(target / "api" / f"{name}.md", text)


def _copy(patterns: tuple[str, ...], target: Path) -> None:
    for pattern in patterns:
        for path in ROOT.glob(pattern):
            place = target / path.relative_to(ROOT)
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, place)


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def set_up_page(readme: str, home: str) -> str:
    """README.md as a page.

    Args:
        readme: its text.
        home: the course's "owner/name", or ""; if given, the page says how to clone the repository.
    """
    page = re.sub("^# .*", "# Set it up, use it", readme)
    if home:
        page = page.replace("cd atelier ", f"git clone https://github.com/{home} atelier\ncd atelier ", 1)
    return page


def linked_claims(table: str, places: dict[str, str]) -> str:
    """The table of claims with a link to each cell, and verdicts that have a class for their colour.

    Args:
        table: the text of CLAIMS.md.
        places: id of a cell → name of its lesson.
    """
    table = table.replace("\n| claim", "\n{.claims}\n| claim", 1)  # for the style sheet
    table = re.sub(
        r"\| (?P<cell>\d\w?-\d{3}) \|",
        lambda found: f'| <a href="{places[found["cell"]]}.html#claim-{found["cell"]}">{found["cell"]}</a> |',
        table,
    )
    return re.sub(
        rf"\| ({'|'.join(OUTCOMES)}) \|$",
        lambda found: f'| <span class="verdict {found[1].replace(" ", "-")}">{found[1]}</span> |',
        table,
        flags=re.MULTILINE,
    )


def front_page(claims: str, drawn: str) -> str:
    """The text of the front page: front.md with pictures, the lessons' cards and measured numbers.

    Args:
        claims: the text of CLAIMS.md.
        drawn: the pictures, as HTML.
    """
    parts = {
        "drawn": drawn,
        "lessons": '<div class="lessons">\n' + "\n".join(map(_card, LESSONS.values())) + "\n</div>",
        "facts": _facts(claims),
        "lesson_names": "\n".join(f"notebooks/{lesson.name}" for lesson in LESSONS.values()),
    }
    text = (HERE / "front.md").read_text(encoding="utf-8")
    return re.sub(r"\{\{(\w+)\}\}", lambda found: parts[found[1]], text)


def _card(lesson: Lesson) -> str:
    takes = minutes(ROOT / "notebooks").get(lesson.name)
    if takes is None:
        raise FileNotFoundError(
            f"notebooks/{MINUTES_FILE} has no minutes for {lesson.name}; `make notebooks` measures them."
        )
    return (
        f'<a href="notebooks/{lesson.name}.html">'
        f'<span class="look"><img src="_figures/{CARD_FIGURES[lesson.key]}.png" alt="" loading="lazy"></span>'
        f'<span class="words"><b>{lesson.key} · {escape(lesson.title)}</b> <span>{escape(lesson.question)}</span> '
        f"<small>{takes}</small></span></a>"
    )


def _facts(claims: str) -> str:
    """Four numbers about the course, as HTML, from the table of claims and the shipped preset's evaluation."""
    verdict = re.findall(r"\| ([\w ]+) \|$", claims, re.MULTILINE)[1:]  # the first match is the table's header
    evaluation = json.loads((ROOT / "data" / "studio" / EVALUATION_FILE).read_text(encoding="utf-8"))
    held_out = evaluation["held_out"]["all_best_of_9"]
    longest = max(takes.cpu or 0 for takes in minutes(ROOT / "notebooks").values())
    facts = [
        (str(len(verdict)), f"claims of the slides, each measured in a cell; {verdict.count('holds')} of them hold"),
        (
            f"{held_out:.0%}",
            "of the best of nine show all that was asked for, where training never showed the combination",
        ),
        (str(len(LESSONS)), f"lessons that run on two CPU cores, none longer than {longest:g} minutes"),
        ("0", "weights to download: all were trained on painted pictures, and are in the repository"),
    ]
    return '<div class="facts">\n' + "\n".join(f"<div><b>{big}</b>{words}</div>" for big, words in facts) + "\n</div>"


def draw_page() -> str:
    """The text of the page that draws: draw.md with all prompts of data/prompts.txt."""
    text = (HERE / "draw.md").read_text(encoding="utf-8")
    return text.replace("{{prompts}}", escape(json.dumps(prompts()), quote=True))


def glossary_page() -> str:
    """The text of the glossary: all terms, each with its meaning and the lesson that introduces it."""
    entries = "\n\n".join(
        f"{name}\n  {term.meaning} *Lesson [{term.lesson}](notebooks/{LESSONS[term.lesson].name}.ipynb)*"
        for name, term in sorted(TERMS.items(), key=lambda item: item[0].lower())
    )
    return f"# Glossary\n\nEvery term of the course, in a sentence.\n\n:::{{glossary}}\n{entries}\n:::\n"
