"""The gallery: the best four of nine pictures that the shipped model draws for each prompt of data/prompts.txt."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from itertools import groupby
from pathlib import Path

from atelier import Pipeline
from atelier.drawing.drawing import Drawing
from PIL import Image

PROMPTS = Path(__file__).resolve().parents[2] / "data" / "prompts.txt"
SHOWN, CANDIDATES, SIDE, SEED = 4, 9, 256, 1
FRONT_PROMPT = "a stained glass window with an image of a blue strawberry"  # what the front page shows
INTRODUCTION = f"""\
# Gallery

What the shipped model draws: the first four of nine pictures in CLIP's order, under each its score. All
were drawn when this page was built, with seed {SEED}; nothing was picked by hand. `make draw` and `make serve` draw
more."""
WORLD = """\
## The painted world

What `atelier.world` can paint. The shipped model learned a part of it, with twenty of these subjects.

![A contact sheet: every subject, setting, style, time of day and colour of the painted world](docs/world.jpg)"""


def sections(text: str) -> Iterator[tuple[str, list[str]]]:
    """The headings of a file of prompts, and the prompts under each."""
    lines = [line.strip() for line in text.splitlines()]
    for filled, block in groupby(lines, bool):
        if filled:
            heading, *prompts = block
            yield heading.removeprefix("#").strip(), prompts


def prompts() -> list[str]:
    """All prompts of data/prompts.txt, in order."""
    return [prompt for _, block in sections(PROMPTS.read_text(encoding="utf-8")) for prompt in block]


def front_pictures(pipe: Pipeline, figures: Path) -> str:
    """The front page's nine pictures, as HTML."""
    return _drawing_html(pipe.draw(FRONT_PROMPT, n=CANDIDATES, seed=SEED), "front", figures, CANDIDATES)


def gallery_page(pipe: Pipeline, figures: Path) -> str:
    """The text of the gallery.

    Args:
        pipe: draws the pictures. Sections with words that it does not know are left out.
        figures: folder to write the pictures to.
    """
    parts = [INTRODUCTION]
    for heading, prompts in sections(PROMPTS.read_text(encoding="utf-8")):
        drawings = pipe.draw(prompts, n=CANDIDATES, seed=SEED) if prompts else []
        if drawings and not any(drawing.remarks for drawing in drawings):  # the model knows all words
            names = [f"drawn-{len(parts)}-{number}" for number in range(len(drawings))]
            shown = [_drawing_html(drawing, name, figures) for drawing, name in zip(drawings, names, strict=True)]
            title, _, more = heading.partition(": ")
            parts += [f"## {title.rstrip('.')}", more.capitalize(), *shown]
    return "\n\n".join([*parts, WORLD]) + "\n"


def _drawing_html(drawing: Drawing, name: str, figures: Path, number: int = SHOWN) -> str:
    """A prompt and its best pictures, as HTML; writes the pictures into the folder `figures`."""
    cells = []
    for place in range(number):
        file = f"{name}-{place}.webp"
        drawing.images[place].resize((SIDE, SIDE), Image.Resampling.BICUBIC).save(figures / file, quality=90)
        score = f"{drawing.scores[place]:.1f}" if drawing.scores else ""
        cells.append(
            f'<div><img src="_figures/{file}" width="{SIDE}" height="{SIDE}" loading="lazy" '
            f'alt="{escape(drawing.prompt, quote=True)}, picture {place + 1}"><small>{score}</small></div>'
        )
    return (
        f'<figure class="drawn"><figcaption>“{escape(drawing.prompt)}”</figcaption>'
        f'<div class="best of-{number}">{"".join(cells)}</div></figure>'
    )
