"""A drawing as HTML: its pictures with their scores, and what is inside one of them. The page and notebooks show it.

Everything is in the markup itself, as data: nothing has to be written to a disk or fetched from a server to see it.
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
COUNTS = (1, 4, 9)  # how many pictures the page and the panel offer: each makes a square
LEAST_PIXELS = 256  # a picture is enlarged, by a whole factor, to at least this side
GOLDEN = 0.618034  # steps of the golden ratio keep the hues of neighbouring numbers apart

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
    """What draws the same pictures again: prompt, seed, and whatever `more` says."""
    return {"prompt": drawing.prompt, "seed": drawing.seed, **more}


def png(image: Image.Image, facts: dict[str, Any]) -> bytes:
    """An image as a PNG file that says how it was made, in a text chunk called “atelier”.

    Args:
        image: of Pillow.
        facts: what JSON can hold.
    """
    told = PngInfo()
    told.add_itxt(SETTINGS_KEY, json.dumps(facts, ensure_ascii=False))
    file = io.BytesIO()
    image.save(file, format="png", pnginfo=told)
    return file.getvalue()


def pictures_html(drawing: Drawing, facts: dict[str, Any] | None = None) -> str:
    """A drawing's pictures in a grid, each with its place and score and, when it is finished, a link that saves it.

    Args:
        drawing: finished, or one of `Pipeline.stream`'s.
        facts: settings that are written into what is saved; see `settings`.
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
    data = _data(png(image, {**facts, "place": place + 1}) if finished else _jpeg(image), "png" if finished else "jpeg")
    shown = f'<img alt="{alt}" src="{data}">'
    if not finished:
        return f"<figure>{shown}</figure>"
    score = f"{drawing.scores[place]:.2f}" if drawing.scores else ""
    name = f"{file_name(drawing.prompt)}-{drawing.seed}-{place + 1}.png"
    link = f'<a download="{name}" href="{data}">save</a>'
    return f"<figure>{shown}<figcaption><span>{score}</span>{link}</figcaption></figure>"


def grid_link(drawing: Drawing, facts: dict[str, Any]) -> str:
    """A link that saves the grid of a finished drawing as one PNG with its settings."""
    name = f"{file_name(drawing.prompt)}-{drawing.seed}.png"
    return f'<a download="{name}" href="{_data(png(drawing.grid(), facts), "png")}">Save the grid</a>'


def file_name(prompt: str, most: int = 40) -> str:
    """A prompt as a file's name: letters and digits of any language, the rest dashes."""
    return re.sub(r"[\W_]+", "-", prompt.lower()).strip("-")[:most].strip("-") or "drawing"


# ---------------------------------------------------------------------------------------------- inside


def inside_html(drawing: Drawing, seen: WordAttention, place: int = 0) -> str:
    """What is inside one picture: its codes as a coloured table, and for each word where the codes looked at it.

    Args:
        drawing: finished.
        seen: of `attention_to_words`, of the same drawing.
        place: which picture, from 0, the best.
    """
    codes, shares = drawing.codes[place], seen.shares[place]  # (grid, grid), (grid, grid, words)
    maps = "".join(_map(drawing.images[place], shares[:, :, number], word) for number, word in enumerate(seen.words))
    return (
        f"{STYLE}<p>{codes.numel()} codes, row by row; the same colour is the same word of the codebook. "
        f"Rest the pointer on one to see which words it looked at.</p>"
        f'<div class="atelier-scroll">{_codes(codes, seen, place)}</div>'
        f"<p>Where each word was looked at: bright where a code’s attention went to it.</p>"
        f'<div class="atelier-maps">{maps}</div>'
    )


def _codes(codes: Tensor, seen: WordAttention, place: int) -> str:
    rows = []
    for y, row in enumerate(codes.tolist()):
        cells = []
        for x, code in enumerate(row):
            title = html.escape(_looked_at(seen.words, seen.shares[place, y, x]), quote=True)
            cells.append(f'<td style="background: {code_colour(code)}; color: #111" title="{title}">{code}</td>')
        rows.append(f"<tr>{''.join(cells)}</tr>")
    return f'<table class="atelier-codes"><tbody>{"".join(rows)}</tbody></table>'


def _looked_at(words: list[str], shares: Tensor, most: int = 3) -> str:
    """The words that shares (words,) say were looked at most: "blue 41%, strawberry 30%"."""
    top = shares.topk(min(most, len(words)))
    return ", ".join(f"{words[i]} {share:.0%}" for share, i in zip(*(t.tolist() for t in top), strict=True))


def code_colour(code: int) -> str:
    """A light colour of its own for each code, as #rrggbb."""
    red, green, blue = colorsys.hls_to_rgb(code * GOLDEN % 1, 0.72 + 0.10 * (code % 3 - 1), 0.65)
    return f"#{round(255 * red):02x}{round(255 * green):02x}{round(255 * blue):02x}"


def _map(image: Image.Image, share: Tensor, word: str) -> str:
    """A picture, dark where its codes (grid, grid) hardly looked at a word."""
    relative = (share / share.max().clamp(min=1e-9)).float()
    size = (image.height, image.width)
    light = F.interpolate(relative[None, None], size, mode="bilinear", align_corners=False)[0, 0]
    veil = Image.fromarray((40 + 215 * light).clamp(0, 255).to(torch.uint8).numpy())
    lit = Image.composite(image, Image.new("RGB", image.size, (14, 16, 30)), veil)
    alt = html.escape(f"Where the codes looked at “{word}”", quote=True)
    data = _data(_jpeg(_enlarged(lit, 128)), "jpeg")
    return f'<figure><img alt="{alt}" src="{data}"><figcaption>{html.escape(word)}</figcaption></figure>'


def _enlarged(image: Image.Image, least: int = LEAST_PIXELS) -> Image.Image:
    factor = max(1, -(-least // image.width))
    return image.resize((image.width * factor, image.height * factor), Image.Resampling.BICUBIC)


def _jpeg(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, format="jpeg", quality=88)
    return file.getvalue()


def _data(content: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
