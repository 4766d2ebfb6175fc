"""Wrong answers to the exercises of lesson 2b, each of which must be told what is wrong in it."""

import torch
from torch import Tensor


def near_share(points, latents, radius):
    return (torch.cdist(points, latents).amin(1) <= radius).float().mean().item()


def far_count(points, latents, radius):
    return (torch.cdist(points, latents).amin(1) > radius).sum().item()


def far_from_some(points, latents, radius):
    return (torch.cdist(points, latents).amax(1) > radius).float().mean().item()


def far_on_average(points, latents, radius):
    return (torch.cdist(points, latents).mean(1) > radius).float().mean().item()


def wrong_axis(points, latents, radius):
    return (torch.cdist(points, latents).amin(0) > radius).float().mean().item()


def pairs(points, latents, radius):
    return (torch.cdist(points, latents) > radius).float().mean().item()


def squared_distances(points, latents, radius):
    squared = (points[:, None] - latents).square().sum(2)
    return (squared.amin(1) > radius).float().mean().item()


def one_for_each(points, latents, radius):
    return torch.cdist(points, latents).amin(1) > radius


def backwards(autoencoder, start, end, steps):
    return proper_walk(autoencoder, end, start, torch.linspace(0, 1, steps))


def short_of_the_end(autoencoder, start, end, steps):
    return proper_walk(autoencoder, start, end, torch.arange(steps) / steps)


def without_start(autoencoder, start, end, steps):
    return proper_walk(autoencoder, start, end, torch.arange(1, steps + 1) / steps)


def one_step_more(autoencoder, start, end, steps):
    return proper_walk(autoencoder, start, end, torch.linspace(0, 1, steps + 1))


def proper_walk(autoencoder, start, end, fractions):
    first, last = autoencoder.encode(torch.stack([start, end]))
    return autoencoder.decode(torch.lerp(first, last, fractions[:, None]))


def fade(autoencoder, start, end, steps):
    return torch.lerp(start, end, torch.linspace(0, 1, steps)[:, None, None, None])


def encoded_fade(autoencoder, start, end, steps):
    return autoencoder(fade(autoencoder, start, end, steps))


def decoded_fade(autoencoder, start, end, steps):
    first, last = autoencoder(torch.stack([start, end]))
    return fade(autoencoder, first, last, steps)


def not_a_batch(autoencoder, start, end, steps):
    return autoencoder.decode(autoencoder.encode(start))


def distances(x, x_hat):
    return (x_hat - x).flatten(1).norm(dim=1)[:, None, None, None]


def towards(x, x_hat):
    return (x - x_hat) / distances(x, x_hat) / len(x)


def of_the_sum(x, x_hat):
    return (x_hat - x) / distances(x, x_hat)


def of_the_square(x, x_hat):
    return 2 * (x_hat - x) / len(x)


def difference(x, x_hat):
    return x_hat - x


def one_distance(x, x_hat):
    return (x_hat - x) / (x_hat - x).norm()


def halved(x, x_hat):
    return (x_hat - x) / distances(x, x_hat) / len(x) / 2


def by_the_square(x, x_hat):
    return (x_hat - x) / distances(x, x_hat) ** 2 / len(x)


def directions(vectors):
    return torch.linalg.svd(vectors, full_matrices=False)[2]


def mean_lost(vectors, k):
    centred = vectors - vectors.mean(0)
    axes = directions(centred)[:k]
    return centred @ axes.T @ axes


def not_centred(vectors, k):
    axes = directions(vectors)[:k]
    return vectors @ axes.T @ axes


def encoded_uncentred(vectors, k):
    axes = directions(vectors - vectors.mean(0))[:k]
    return vectors.mean(0) + vectors @ axes.T @ axes


def narrowest(vectors, k):
    mean = vectors.mean(0)
    axes = directions(vectors - mean)[-k:]
    return mean + (vectors - mean) @ axes.T @ axes


def columns(vectors, k):
    mean = vectors.mean(0)
    axes = directions(vectors - mean)[:, :k]
    return mean + (vectors - mean) @ axes @ axes.T


def latents_only(vectors, k):
    mean = vectors.mean(0)
    return (vectors - mean) @ directions(vectors - mean)[:k].T


WRONG = {
    "2b.1": [
        near_share,
        far_count,
        far_from_some,
        far_on_average,
        wrong_axis,
        pairs,
        squared_distances,
        one_for_each,
    ],
    "2b.2": [
        backwards,
        short_of_the_end,
        without_start,
        one_step_more,
        fade,
        encoded_fade,
        decoded_fade,
        not_a_batch,
    ],
    "2b.3": [towards, of_the_sum, of_the_square, difference, one_distance, halved, by_the_square],
    "2b.4": [mean_lost, not_centred, encoded_uncentred, narrowest, columns, latents_only],
}


def squared_distances(x: Tensor, x_hat: Tensor) -> Tensor:
    return (x - x_hat).square().flatten(1).sum(1).mean()


def one_distance(x: Tensor, x_hat: Tensor) -> Tensor:
    return (x - x_hat).norm()


def distance_of_each(x: Tensor, x_hat: Tensor) -> Tensor:
    return (x - x_hat).flatten(1).norm(dim=1)


def mean_squared_error(x: Tensor, x_hat: Tensor) -> Tensor:
    return (x - x_hat).square().mean()


WRONG_PIECES = {
    "2b.reconstruction_loss": [squared_distances, one_distance, distance_of_each, mean_squared_error],
}
