"""The pieces of lesson 2b, the autoencoder."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from atelier.teaching.exercises import expect_close, expect_tensor
from atelier.teaching.pieces import piece


@piece(
    "2b.reconstruction_loss",
    "atelier.blocks.autoencoder",
    minutes=5,
    hints=(
        "‖x − x̂‖₂ is the square root of the sum of all squared differences of one picture. The loss is the mean over "
        "the pictures.",
        "`.flatten(1)` makes one row of each picture, and `.norm(dim=1)` takes the length of each row.",
    ),
)
def check_reconstruction_loss(loss: Callable[[Tensor, Tensor], Tensor]) -> None:
    """The mean over n of ‖x − x̂‖₂."""
    pictures, reconstructions = torch.rand(2, 4, 3, 5, 5)
    reconstructions[0] *= 3  # pictures at different distances
    away = (pictures - reconstructions).flatten(1)
    distances = away.norm(dim=1)
    expect_close(
        expect_tensor(loss(pictures, reconstructions), (), "reconstruction_loss"),
        distances.mean(),
        {
            "this is the mean of the squared distances: the square root is missing.": distances.square().mean(),
            "this is the mean squared error over all numbers.": away.square().mean(),
            "this is the square root of the mean squared error over all numbers.": away.square().mean().sqrt(),
            "this is one distance for the whole batch; each picture has its own.": away.norm(),
            "this is one distance for the whole batch, divided by n; take the distance of each picture.": (
                away.norm() / len(away)
            ),
            "this is the sum over the pictures; the loss is their mean.": distances.sum(),
            "these are absolute differences; the distance has squares.": away.abs().sum(1).mean(),
            "this is the mean absolute difference; the distance has squares.": away.abs().mean(),
        },
    )
