"""The latent planes of lessons 2b and 2c, which a reader explores in the browser."""

from __future__ import annotations

import json
from dataclasses import dataclass
from html import escape
from typing import Any, Literal

import torch
from atelier.blocks.autoencoder import Autoencoder
from atelier.blocks.classifier import PictureClassifier
from atelier.blocks.vae import VAE
from atelier.export.graph import Graph, GraphInput
from atelier.teaching import COLOURS
from atelier.weights.sprites import load_sprite_model, read_sprite_models
from atelier.world import sprites
from torch import Tensor, nn


@dataclass(frozen=True)
class Plane:
    """A plane of a lesson.

    Attributes:
        model: the sprite model whose plane it is; its folder has this name, too.
        seed, dots: of the sprites that are encoded and shown as dots, as in the lesson.
    """

    model: Literal["autoencoder", "vae"]
    seed: int
    dots: int


PLANES = {  # lesson and the function that its `explore` calls → the plane
    ("2b_autoencoder", "walk_to"): Plane("autoencoder", seed=1, dots=600),
    ("2c_vae", "walk"): Plane("vae", seed=1_000_002, dots=400),
}


class Point(nn.Module):
    """What the decoder draws at a point of the plane, and what the judge says of the picture.

    Args:
        model: has the decoder.
        judge: a classifier of sprites.
    """

    def __init__(self, model: Autoencoder | VAE, judge: PictureClassifier) -> None:
        super().__init__()
        self.model, self.judge = model, judge

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Decode z (1, 2) to a picture (1, 3, 32, 32), and give the judge's probabilities (1, classes)."""
        picture = self.model.decode(z)
        return picture, self.judge(picture)["kind"].softmax(1)


def network(plane: Plane) -> Autoencoder | VAE:
    """The sprite model of a plane."""
    return load_sprite_model("vae") if plane.model == "vae" else load_sprite_model("autoencoder")


def graph(plane: Plane) -> Graph:
    """The graph of `Point`."""
    point = Point(network(plane), load_sprite_model("judge"))
    return Graph("point", point, {"z": GraphInput(torch.zeros(1, 2), {})}, ("picture", "shares"))


def facts() -> dict[str, Any]:
    """What the manifest says besides: the names of the judge's classes."""
    return {"classes": load_sprite_model("judge").config.attributes["kind"]}


@torch.no_grad()
def place(plane: Plane, still: str) -> str:
    """The place of a plane on its page, as HTML.

    Args:
        plane: the plane.
        still: what is shown until the reader asks for the plane.
    """
    known = read_sprite_models()[plane.model]
    pictures, kinds = sprites(plane.dots, seed=plane.seed, subjects=known.subjects, colours=known.colours)
    encoded = network(plane).encode(pictures)
    latents = encoded if isinstance(encoded, Tensor) else encoded.mean  # of the VAE's clouds
    low, high = latents.amin(0), latents.amax(0)
    edge = 0.08 * (high - low)
    middle = latents[kinds == 0].mean(0)
    start = latents[(latents - middle).norm(dim=1).argmin()]  # a dot in the midst of the first subject's
    shown = {
        "low": _rounded(low - edge),
        "high": _rounded(high + edge),
        "start": _rounded(start),
        "subjects": known.subjects,
        "colours": COLOURS[: len(known.subjects)],
        "dots": [[*_rounded(z), kind] for z, kind in zip(latents, kinds.tolist(), strict=True)],
    }
    data = escape(json.dumps(shown, separators=(",", ":")), quote=True)
    return f'<div class="live" data-live="plane" data-folder="{plane.model}" data-plane="{data}">{still}</div>'


def _rounded(numbers: Tensor) -> list[float]:
    return [round(number, 2) for number in numbers.tolist()]
