"""A drawing as HTML, for notebooks: its pictures in a grid, with their scores.

Images are part of the markup, as data URLs, so that no files are written or fetched.
"""

from __future__ import annotations

import html

from PIL import Image

from atelier.drawing.pipeline import Drawing
from atelier.page.pictures import data_url, enlarged, file_name, jpeg_url, png

COUNTS = (1, 4, 9)  # how many pictures the page and the panel offer: those that form a square

STYLE = """
<style>
.atelier-grid { display: grid; grid-template-columns: repeat(var(--columns), minmax(0, 1fr)); gap: 10px;
  max-width: 720px; margin: 0 auto; }
.atelier-grid figure { margin: 0; position: relative; }
.atelier-grid img { width: 100%; height: auto; display: block; border-radius: 8px; }
.atelier-grid figcaption { display: flex; justify-content: space-between; font-size: .85rem; padding: 3px 2px;
  font-variant-numeric: tabular-nums; }
.atelier-grid a { color: inherit; }
.atelier-grid .best img { outline: 3px solid #E69F00; outline-offset: 1px; }
</style>
"""


def pictures_html(drawing: Drawing) -> str:
    """A drawing's pictures in a grid, each with its place and score and, when it is finished, a link that saves it.

    Args:
        drawing: finished, or one of `Pipeline.stream`'s.
    """
    columns = {1: 1, 2: 2, 4: 2}.get(len(drawing.pictures), 3)
    figures = [_figure(enlarged(image), number, drawing) for number, image in enumerate(drawing.images)]
    return f'{STYLE}<div class="atelier-grid" style="--columns: {columns}">{"".join(figures)}</div>'


def _figure(image: Image.Image, number: int, drawing: Drawing) -> str:
    """One picture of the grid; `number` counts from 0 in the order of the grid."""
    alt = html.escape(f"Picture {number + 1} of “{drawing.prompt}”", quote=True)
    if drawing.progress < 1:
        return f'<figure><img alt="{alt}" src="{jpeg_url(image)}"></figure>'
    data = data_url(png(image, drawing.record(drawing.places[number])), "png")
    score = f"{drawing.scores[number]:.2f}" if drawing.scores else ""
    name = f"{file_name(drawing.prompt)}-{drawing.seed}-{number + 1}.png"
    return (
        f'<figure{_mark(drawing, number)}><img alt="{alt}" src="{data}">'
        f'<figcaption><span>{score}</span><a download="{name}" href="{data}">save</a></figcaption></figure>'
    )


def _mark(drawing: Drawing, number: int) -> str:
    """The class of the best picture; a drawing whose scores are all below 0 fits its prompt nowhere and has none."""
    return ' class="best"' if number == 0 and drawing.scores and drawing.scores[0] > 0 else ""
