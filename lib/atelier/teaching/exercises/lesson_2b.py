"""Checkers of the exercises of lesson 2b, the autoencoder."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from atelier.blocks.autoencoder import Autoencoder, AutoencoderConfig, reconstruction_loss
from atelier.teaching.exercises import AnswerError, exercise, expect_close, expect_number, expect_tensor

STEPS = 5


@exercise("2b.1")
def check_empty_share(empty_share: Callable[[Tensor, Tensor, float], float]) -> None:
    """Share of points (m, 2) whose nearest latent (n, 2) is farther away than the radius."""
    random = torch.Generator().manual_seed(3300)  # points for which every mistake below gives another share
    latents, points, radius = 8 * torch.rand(7, 2, generator=random), 8 * torch.rand(29, 2, generator=random), 2.0
    table = torch.cdist(points, latents)
    result = torch.as_tensor(expect_number(empty_share(points, latents, radius), "what empty_share returns"))
    far = table.amin(1) > radius
    far_latents = table.amin(0) > radius
    expect_close(
        result,
        far.double().mean(),
        {
            "this is the share of points that have a latent within the radius; the gap is the other points.": (
                1 - far.double().mean()
            ),
            "this is the number of such points; return their share.": far.double().sum(),
            "a point counts here if any latent is far away; it must be far from all of them.": (
                (table.amax(1) > radius).double().mean()
            ),
            "the mean distance to all latents is compared with the radius; compare the smallest distance.": (
                (table.mean(1) > radius).double().mean()
            ),
            "the minimum runs over the points, which gives a distance for each latent; take it over the latents.": (
                far_latents.double().mean()
            ),
            "this is the share of pairs of a point and a latent; a point must be far from all latents at once.": (
                (table > radius).double().mean()
            ),
            "squared distances are compared with the radius: take the square root.": (
                (table.amin(1).square() > radius).double().mean()
            ),
        },
    )


@exercise("2b.2")
def check_walk(walk: Callable[[Autoencoder, Tensor, Tensor, int], Tensor]) -> None:
    """Decoded pictures (steps, 3, 32, 32) on the straight line between two pictures' latents."""
    model = _sensitive_autoencoder()
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
                "the walk stops one step before the end: the last picture should be that of the end.": (
                    decoded(torch.arange(STEPS) / STEPS)
                ),
                "the walk leaves out the start: the first picture should be that of the start.": (
                    decoded(torch.arange(1, STEPS + 1) / STEPS)
                ),
                "these are mixtures of the two pictures themselves; interpolate their latents and decode.": faded,
                "the pictures are mixed and then encoded; encode them first, and interpolate the latents.": model(
                    faded
                ),
                "these are mixtures of two decoded pictures; interpolate the latents and decode each.": (
                    torch.lerp(two[0], two[1], fractions[:, None, None, None])
                ),
            },
        )


def _sensitive_autoencoder() -> Autoencoder:
    """A small autoencoder whose random weights are so large that its outputs clearly depend on its inputs."""
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
    result = expect_tensor(_without_autograd(loss_gradient, x, x_hat), tuple(x.shape), "loss_gradient")
    away = x_hat - x
    distance = away.flatten(1).norm(dim=1)[:, None, None, None]
    expect_close(
        result,
        wanted,
        {
            "the sign is wrong: along the gradient the loss grows, so the gradient points away from x.": -wanted,
            "this is the gradient of the sum over the batch; the loss is the mean.": wanted * len(x),
            "the sign is wrong, and the mean over the batch is missing.": -wanted * len(x),
            "this is the gradient of the mean of the squared distances; the loss has the distances.": (
                2 * away / len(x)
            ),
            "this is the gradient of the sum of the squared distances; the loss has the mean of the distances.": (
                2 * away
            ),
            "this is only the difference: because of the root, divide it by each picture's distance.": away,
            "this is only the difference over n: because of the root, divide it by each picture's distance, too.": (
                away / len(x)
            ),
            "you divide by one distance for the whole batch; each picture has its own.": away / away.norm(),
            "you divide by n and by one distance for the whole batch; each picture has its own distance.": (
                away / away.norm() / len(x)
            ),
            "you divide by the squared distance, s; the chain rule gives its square root.": away / distance**2 / len(x),
            "this is half of the gradient: the 2 of the square's derivative cancels the ½ of the root's.": wanted / 2,
        },
    )


def _without_autograd(loss_gradient: Callable[[Tensor, Tensor], Tensor], *inputs: Tensor) -> Tensor:
    """Call an answer, and refuse it if autograd saves a tensor for a backward pass meanwhile."""
    saved: list[Tensor] = []

    def save(tensor: Tensor) -> Tensor:
        saved.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(save, lambda tensor: tensor):
        try:
            result = loss_gradient(*inputs)
        except RuntimeError as error:  # torch.func does not allow these hooks
            if "saved_tensors_hooks" not in str(error) and "saved tensor hooks" not in str(error):
                raise
            saved.append(inputs[0])
    if saved:
        raise AnswerError("this uses autograd; write the gradient's formula instead.")
    return result


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
            "the mean was subtracted and not added again.": centred @ axes.T @ axes,
            "the mean was not subtracted first, so the first direction points from 0 to the data.": (
                vectors @ raw.T @ raw
            ),
            "the directions are those of centred data, but the data that you encode are not centred.": (
                mean + vectors @ axes.T @ axes
            ),
            "these are the k directions of least variance; keep those of most variance.": mean
            + centred @ last.T @ last,
            "you used the columns of v; its rows are the directions.": mean + centred @ columns.T @ columns,
            "the mean is taken over the numbers of each vector; take the mean vector, over all n.": (
                vectors.mean(1, keepdim=True) + by_row @ by_row_axes.T @ by_row_axes
            ),
            "these are the vectors themselves: keep only k directions.": vectors,
        },
    )
