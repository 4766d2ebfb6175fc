"""Checkers of the exercises of lesson 2b, the autoencoder."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from atelier.blocks.autoencoder import Autoencoder, AutoencoderConfig, reconstruction_loss
from atelier.teaching.exercises import AnswerError, exercise, expect_close, expect_tensor

STEPS = 5


@exercise("2b.1")
def check_empty_share(empty_share: Callable[[Tensor, Tensor, float], float]) -> None:
    """Share of points (m, 2) whose nearest latent (n, 2) is further than the radius."""
    dice = torch.Generator().manual_seed(3300)  # points for which every mistake below gives another share
    latents, points, radius = 8 * torch.rand(7, 2, generator=dice), 8 * torch.rand(29, 2, generator=dice), 2.0
    table = torch.cdist(points, latents)
    result = torch.as_tensor(_number(empty_share(points, latents, radius), "empty_share"))
    far = table.amin(1) > radius
    from_each_latent = table.amin(0) > radius
    expect_close(
        result,
        far.double().mean(),
        {
            "this is the share of points that do have a latent within the radius: the gap is the rest.": (
                1 - far.double().mean()
            ),
            "this is the number of such points; wanted is their share.": far.double().sum(),
            "a point counts here as soon as some latent is far away; it must be far from every one.": (
                (table.amax(1) > radius).double().mean()
            ),
            "the mean distance to all latents is compared; it is the nearest one that counts.": (
                (table.mean(1) > radius).double().mean()
            ),
            "the minimum runs over the points, and so asks which latents are lonely; which points are, is asked.": (
                from_each_latent.double().mean()
            ),
            "this is the share of pairs of a point and a latent; a point has to be far from all latents at once.": (
                (table > radius).double().mean()
            ),
            "squared distances are compared with the radius: take the root.": (
                (table.amin(1).square() > radius).double().mean()
            ),
        },
    )


def _number(result: float | Tensor | None, called: str) -> float:
    """The result as a number; a tensor with one element will do."""
    if isinstance(result, Tensor) and result.numel() != 1:
        raise AnswerError(f"{called} returned the shape {tuple(result.shape)}, where one number is wanted.")
    if not isinstance(result, int | float | Tensor):
        raise AnswerError(f"{called} returned a {type(result).__name__}, where a number is wanted.")
    return float(result)


@exercise("2b.2")
def check_walk(walk: Callable[[Autoencoder, Tensor, Tensor, int], Tensor]) -> None:
    """Decoded pictures (steps, 3, 32, 32) on the straight line between two pictures' latents."""
    model = _lively_autoencoder()
    start, end = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        result = expect_tensor(walk(model, start, end, STEPS), (STEPS, 3, 32, 32), "walk")
        first, last = model.encode(torch.stack([start, end]))

        def decoded(fractions: Tensor) -> Tensor:
            return model.decode(first + fractions[:, None] * (last - first))

        fractions = torch.linspace(0, 1, STEPS)
        faded = torch.lerp(start, end, fractions[:, None, None, None])  # (STEPS, 3, 32, 32)
        two = model(torch.stack([start, end]))
        expect_close(
            result,
            decoded(fractions),
            {
                "the walk goes from the end to the start.": decoded(fractions.flip(0)),
                "it stops one step before the end: the last picture is to be the end's.": (
                    decoded(torch.arange(STEPS) / STEPS)
                ),
                "it leaves out the start: the first picture is to be the start's.": (
                    decoded(torch.arange(1, STEPS + 1) / STEPS)
                ),
                "these are the two pictures themselves, faded into each other: the walk goes through latents.": faded,
                "the pictures are mixed first and then encoded; mix the latents, on a straight line.": model(faded),
                "two decoded pictures are faded into each other; mix the latents and decode each mixture.": (
                    torch.lerp(two[0], two[1], fractions[:, None, None, None])
                ),
            },
        )


def _lively_autoencoder() -> Autoencoder:
    """A small one with random weights, made so large that different pictures and latents give different ones."""
    torch.manual_seed(0)
    model = Autoencoder(AutoencoderConfig(width=4)).eval()
    with torch.no_grad():
        for weights in model.parameters():
            weights.mul_(3)
    return model


@exercise("2b.3")
def check_loss_gradient(loss_gradient: Callable[[Tensor, Tensor], Tensor]) -> None:
    """The gradient (n, 3, H, W) of the mean over n of ‖x − x̂‖₂ with respect to x̂."""
    x, x_hat = torch.rand(2, 4, 3, 2, 2)
    x_hat[0] *= 3  # pictures at different distances
    tracked = x_hat.clone().requires_grad_()
    (wanted,) = torch.autograd.grad(reconstruction_loss(x, tracked), tracked)
    result = expect_tensor(loss_gradient(x, x_hat), tuple(x.shape), "loss_gradient")
    away = x_hat - x
    distance = away.flatten(1).norm(dim=1)[:, None, None, None]
    expect_close(
        result,
        wanted,
        {
            "the sign is wrong: going along the gradient makes the loss larger, so it points away from x.": -wanted,
            "this is the gradient of the sum over the batch; the loss is the mean.": wanted * len(x),
            "the sign is wrong, and the mean over the batch is missing.": -wanted * len(x),
            "this is the gradient of the mean squared distance; of the distance itself it has length 1 per picture.": (
                2 * away / len(x)
            ),
            "this is the gradient of the squared distance; of the distance itself it has length 1 per picture.": (
                2 * away
            ),
            "this is only the difference: the root in the loss divides it by each picture's distance.": away,
            "this is only the difference over n: the root in the loss divides it by each picture's distance, too.": (
                away / len(x)
            ),
            "one distance is taken over the whole batch; each picture has its own.": away / away.norm(),
            "one distance is taken over the whole batch, then divided by n; each picture has its own.": (
                away / away.norm() / len(x)
            ),
            "you divide by the squared distance, s; the chain rule leaves its root.": away / distance**2 / len(x),
            "there is a factor of ½ too many: the derivative of the square has a 2 that cancels it.": wanted / 2,
        },
    )


@exercise("2b.4")
def check_linear_autoencoder(linear_autoencoder: Callable[[Tensor, int], Tensor]) -> None:
    """The reconstructions (n, d) of vectors (n, d) by their k principal components."""
    number, width, k = 12, 6, 2
    vectors = torch.randn(number, width) * torch.tensor([4.0, 2.5, 1.5, 1.0, 0.6, 0.3]) + torch.linspace(1, 3, width)
    result = expect_tensor(linear_autoencoder(vectors.clone(), k), (number, width), "linear_autoencoder")
    mean = vectors.mean(0)
    centred = vectors - mean
    rows = torch.linalg.svd(centred, full_matrices=False)[2]
    raw = torch.linalg.svd(vectors, full_matrices=False)[2][:k]
    axes, columns, last = rows[:k], rows[:, :k].T, rows[-k:]
    by_row = vectors - vectors.mean(1, keepdim=True)
    by_row_axes = torch.linalg.svd(by_row, full_matrices=False)[2][:k]
    expect_close(
        result,
        mean + centred @ axes.T @ axes,
        {
            "the mean was taken away and never put back.": centred @ axes.T @ axes,
            "the mean was not taken away first: the directions then go from 0 to the data instead of along them.": (
                vectors @ raw.T @ raw
            ),
            "the directions belong to centred data, but the data that you encode were not centred.": (
                mean + vectors @ axes.T @ axes
            ),
            "these are the k narrowest directions; keep the widest ones.": mean + centred @ last.T @ last,
            "the columns of v were taken; its rows are the directions.": mean + centred @ columns.T @ columns,
            "the mean runs over the numbers of each vector; wanted is the mean vector, over all n.": (
                vectors.mean(1, keepdim=True) + by_row @ by_row_axes.T @ by_row_axes
            ),
            "nothing was left out: these are the vectors themselves.": vectors,
        },
    )
