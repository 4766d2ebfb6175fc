"""The codes of a sprite in lesson 2d, which a reader replaces by others in the browser."""

from __future__ import annotations

import json
from html import escape
from typing import Any

import torch
from atelier.blocks.classifier import PictureClassifier
from atelier.blocks.vq import VQVAE
from atelier.export.graph import Axis, Graph, GraphInput
from atelier.teaching.figures import code_colours
from atelier.weights.sprites import load_sprite_model
from atelier.world import SPRITES, sprites
from torch import Tensor, nn

LESSON = ("2d_vq_vae", "swapped")  # and the function that its `explore` calls
FOLDER = "vqvae"  # of the exported model
SEED, PICTURES = 7, 240  # of the sprites that the lesson shows


class CodesToPicture(nn.Module):
    """What the decoder draws for grids of codes, and what the judge says of the pictures.

    Args:
        model: has the decoder and the codebook.
        judge: a classifier of sprites.
    """

    def __init__(self, model: VQVAE, judge: PictureClassifier) -> None:
        super().__init__()
        self.model, self.judge = model, judge

    def forward(self, codes: Tensor) -> tuple[Tensor, Tensor]:
        """Decode codes (n, 8, 8) to pictures (n, 3, 32, 32), and give the judge's probabilities (n, classes)."""
        pictures = self.model.decode(self.model.quantize.lookup(codes))
        return pictures, self.judge(pictures)["kind"].softmax(1)


def graph() -> Graph:
    """The graph of `CodesToPicture`."""
    module = CodesToPicture(load_sprite_model("vqvae"), load_sprite_model("judge"))
    codes = GraphInput(torch.zeros(2, 8, 8, dtype=torch.long), {0: Axis("pictures")})
    return Graph("pictures", module, {"codes": codes}, ("pictures", "shares"))


def facts() -> dict[str, Any]:
    """What the manifest says besides: the names of the judge's classes."""
    return {"classes": load_sprite_model("judge").config.attributes["kind"]}


@torch.no_grad()
def place(still: str) -> str:
    """The place of the grid on its page, as HTML.

    Args:
        still: what is shown until the reader asks for the grid.
    """
    model = load_sprite_model("vqvae")
    pictures, _ = sprites(PICTURES, seed=SEED)
    codes = model.encode(pictures[: len(SPRITES)]).indices.flatten(1)  # one of each subject, in the order of SPRITES
    colours = code_colours(model.decode, model.quantize.embedding.weight)
    shown = {
        "subjects": dict(zip(SPRITES, codes.tolist(), strict=True)),
        "start": "house",
        "colours": ["#" + bytes((255 * colour).round().to(torch.uint8).tolist()).hex() for colour in colours],
    }
    data = escape(json.dumps(shown, separators=(",", ":")), quote=True)
    return f'<div class="live" data-live="swap" data-folder="{FOLDER}" data-swap="{data}">{still}</div>'
