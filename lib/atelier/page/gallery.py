"""A drawing as HTML, for the page and for notebooks: its pictures with their scores, and one picture's codes.

Images are part of the markup, as data URLs, so that no files are written or fetched.
"""

from __future__ import annotations

import base64
import colorsys
import html
import io
import json
import re
from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from atelier.drawing.attention import WordAttention
from atelier.drawing.pipeline import Drawing

SETTINGS_KEY = "atelier"  # of the PNG's text chunk that holds a drawing's settings, as JSON
COUNTS = (1, 4, 9)  # how many pictures the page and the panel offer: those that form a square
LEAST_PIXELS = 256  # a picture is enlarged, by a whole factor, to at least this width
GOLDEN_RATIO = 0.618034  # steps of this size keep the hues of neighbouring numbers apart

STYLE = """
<style>
.atelier-grid { display: grid; grid-template-columns: repeat(var(--columns), minmax(0, 1fr)); gap: 10px;
  max-width: 720px; margin: 0 auto; }
.atelier-grid figure, .atelier-maps figure { margin: 0; position: relative; }
.atelier-grid img, .atelier-maps img { width: 100%; height: auto; display: block; border-radius: 8px; }
.atelier-grid figcaption { display: flex; justify-content: space-between; font-size: .85rem; padding: 3px 2px;
  font-variant-numeric: tabular-nums; }
.atelier-grid a { color: inherit; }
.atelier-grid figure:first-child img { outline: 3px solid #E69F00; outline-offset: 1px; }
.atelier-grid.unfinished figure:first-child img { outline: none; }
.atelier-maps { display: grid; grid-template-columns: repeat(auto-fill, minmax(110px, 1fr)); gap: 10px; }
.atelier-maps figcaption { font-size: .85rem; text-align: center; padding-top: 2px; }
.atelier-codes { border-collapse: collapse; margin: .4rem 0 1rem; }
.atelier-codes td { width: 2.6rem; height: 2.1rem; text-align: center; font-size: .72rem; border: 1px solid #fff;
  font-variant-numeric: tabular-nums; }
.atelier-scroll { overflow-x: auto; }
</style>
"""


def settings(drawing: Drawing, **more: Any) -> dict[str, Any]:
    """The settings with which the same pictures can be drawn again: prompt, seed, and those in `more`."""
    return {"prompt": drawing.prompt, "seed": drawing.seed, **more}


def png(image: Image.Image, facts: dict[str, Any]) -> bytes:
    """An image as a PNG file, with the settings that made it in a text chunk called “atelier”.

    Args:
        image: the image.
        facts: the settings, which must fit into JSON.
    """
    chunks = PngInfo()
    chunks.add_itxt(SETTINGS_KEY, json.dumps(facts, ensure_ascii=False))
    file = io.BytesIO()
    image.save(file, format="png", pnginfo=chunks)
    return file.getvalue()


def pictures_html(drawing: Drawing, facts: dict[str, Any] | None = None) -> str:
    """A drawing's pictures in a grid, each with its place and score and, when it is finished, a link that saves it.

    Args:
        drawing: finished, or one of `Pipeline.stream`'s.
        facts: settings that are written into the files; see `settings`.
    """
    finished = drawing.progress >= 1
    columns = {1: 1, 2: 2, 4: 2}.get(len(drawing.pictures), 3)
    figures = [
        _figure(_enlarged(image), place, drawing, facts or settings(drawing), finished)
        for place, image in enumerate(drawing.images)
    ]
    kind = "atelier-grid" if finished else "atelier-grid unfinished"
    return f'{STYLE}<div class="{kind}" style="--columns: {columns}">{"".join(figures)}</div>'


def _figure(image: Image.Image, place: int, drawing: Drawing, facts: dict[str, Any], finished: bool) -> str:
    alt = html.escape(f"Picture {place + 1} of “{drawing.prompt}”", quote=True)
    content, kind = (png(image, {**facts, "place": place + 1}), "png") if finished else (_jpeg(image), "jpeg")
    data = _data_url(content, kind)
    markup = f'<img alt="{alt}" src="{data}">'
    if not finished:
        return f"<figure>{markup}</figure>"
    score = f"{drawing.scores[place]:.2f}" if drawing.scores else ""
    name = f"{file_name(drawing.prompt)}-{drawing.seed}-{place + 1}.png"
    link = f'<a download="{name}" href="{data}">save</a>'
    return f"<figure>{markup}<figcaption><span>{score}</span>{link}</figcaption></figure>"


def grid_link(drawing: Drawing, facts: dict[str, Any]) -> str:
    """A link that saves the grid of a finished drawing as one PNG with its settings."""
    name = f"{file_name(drawing.prompt)}-{drawing.seed}.png"
    return f'<a download="{name}" href="{_data_url(png(drawing.grid(), facts), "png")}">Save the grid</a>'


def file_name(prompt: str, most: int = 40) -> str:
    """A prompt as a file name: letters and digits of any language, with dashes between words."""
    return re.sub(r"[\W_]+", "-", prompt.lower()).strip("-")[:most].strip("-") or "drawing"


# ---------------------------------------------------------------------------------------------- inside


def inside_html(drawing: Drawing, attention: WordAttention, place: int = 0) -> str:
    """One picture's codes as a coloured table, and an attention map for each word.

    Args:
        drawing: finished.
        attention: of `attention_to_words`, of the same drawing.
        place: which picture; 0 is the best.
    """
    codes, shares = drawing.codes[place], attention.shares[place]  # (grid, grid), (grid, grid, words)
    image = drawing.images[place]
    maps = "".join(_attention_map(image, shares[:, :, number], word) for number, word in enumerate(attention.words))
    return (
        f"{STYLE}<p>{codes.numel()} codes, row by row; equal codes have the same colour. "
        f"Rest the pointer on a code to see which words it looked at.</p>"
        f'<div class="atelier-scroll">{_code_table(codes, attention, place)}</div>'
        f"<p>Attention to each word: a code’s cell is bright if the code looked at the word.</p>"
        f'<div class="atelier-maps">{maps}</div>'
    )


def _code_table(codes: Tensor, attention: WordAttention, place: int) -> str:
    """A picture's codes (grid, grid) as a table; a cell's title names the words that it attended to most."""
    rows = []
    for y, row in enumerate(codes.tolist()):
        cells = []
        for x, code in enumerate(row):
            title = html.escape(_most_attended(attention.words, attention.shares[place, y, x]), quote=True)
            cells.append(f'<td style="background: {code_colour(code)}; color: #111" title="{title}">{code}</td>')
        rows.append(f"<tr>{''.join(cells)}</tr>")
    return f'<table class="atelier-codes"><tbody>{"".join(rows)}</tbody></table>'


def _most_attended(words: list[str], shares: Tensor, most: int = 3) -> str:
    """The words with the largest shares (words,) of the attention: "blue 41%, strawberry 30%"."""
    top = shares.topk(min(most, len(words)))
    return ", ".join(f"{words[i]} {share:.0%}" for share, i in zip(*(t.tolist() for t in top), strict=True))


def code_colour(code: int) -> str:
    """A light colour for a code, as #rrggbb; codes with neighbouring numbers get different hues."""
    red, green, blue = colorsys.hls_to_rgb(code * GOLDEN_RATIO % 1, 0.72 + 0.10 * (code % 3 - 1), 0.65)
    return f"#{round(255 * red):02x}{round(255 * green):02x}{round(255 * blue):02x}"


def _attention_map(image: Image.Image, share: Tensor, word: str) -> str:
    """A picture whose brightness shows how much each of its codes (grid, grid) attended to a word."""
    relative = (share / share.max().clamp(min=1e-9)).float()
    size = (image.height, image.width)
    brightness = F.interpolate(relative[None, None], size, mode="bilinear", align_corners=False)[0, 0]
    mask = Image.fromarray((40 + 215 * brightness).clamp(0, 255).to(torch.uint8).numpy())
    lit = Image.composite(image, Image.new("RGB", image.size, (14, 16, 30)), mask)
    alt = html.escape(f"Where the codes looked at “{word}”", quote=True)
    data = _data_url(_jpeg(_enlarged(lit, 128)), "jpeg")
    return f'<figure><img alt="{alt}" src="{data}"><figcaption>{html.escape(word)}</figcaption></figure>'


def _enlarged(image: Image.Image, least: int = LEAST_PIXELS) -> Image.Image:
    factor = max(1, -(-least // image.width))
    return image.resize((image.width * factor, image.height * factor), Image.Resampling.BICUBIC)


def _jpeg(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, format="jpeg", quality=88)
    return file.getvalue()


def _data_url(content: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
