"""What the page's server answers, as JSON objects."""

from __future__ import annotations

from typing import Any

import torch

from atelier.drawing.attention import attention_to_words
from atelier.drawing.drawing import Drawing
from atelier.drawing.pipeline import Pipeline
from atelier.page.pictures import enlarged, file_name, jpeg_url, png, png_url
from atelier.page.requests import DrawRequest, LookRequest, SaveRequest


def drawing_reply(step: Drawing, request: DrawRequest) -> dict[str, Any]:
    """A drawing, or one of `Pipeline.stream`'s unfinished ones, with its pictures as data URLs.

    A finished drawing also has its codes, scores and remarks, and the settings with which it can be drawn again.
    """
    if step.progress < 1:
        return {"progress": step.progress, "pictures": [jpeg_url(image) for image in step.images]}
    return {
        "progress": 1,
        "pictures": [png_url(image) for image in step.images],
        "codes": step.codes.flatten(1).tolist(),
        "scores": None if step.scores is None else [round(score, 2) for score in step.scores],
        "remarks": step.remarks,
        "settings": request.settings(step.seed),
    }


def look_reply(pipeline: Pipeline, request: LookRequest) -> dict[str, Any]:
    """The words of a picture's prompt, and for each of its codes, row by row, its share of attention to each word."""
    codes = _grids(pipeline, (request.codes,))
    attention = attention_to_words(pipeline, request.prompt, codes)
    shares = (attention.shares[0].flatten(0, 1) * 1000).round().int()  # (grid · grid, words)
    return {"words": attention.words, "thousandths": shares.tolist()}


def save_reply(pipeline: Pipeline, request: SaveRequest) -> tuple[str, bytes]:
    """Pictures as one PNG file with their settings: its name and its content."""
    grids = _grids(pipeline, request.pictures)
    drawing = Drawing(request.settings["prompt"], pipeline.decode(grids), grids, None, 0)
    image = enlarged(drawing.images[0]) if len(grids) == 1 else drawing.grid()
    parts = [
        file_name(drawing.prompt),
        *(request.settings[key] for key in ("seed", "place") if key in request.settings),
    ]
    return "-".join(map(str, parts)) + ".png", png(image, request.settings)


def _grids(pipeline: Pipeline, pictures: tuple[tuple[int, ...], ...]) -> torch.Tensor:
    """The codes of pictures as (n, grid, grid)."""
    grid = pipeline.vqgan.config.grid
    return torch.tensor(pictures, dtype=torch.long).unflatten(1, (grid, grid))
