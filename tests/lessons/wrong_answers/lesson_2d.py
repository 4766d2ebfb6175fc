"""Wrong answers to the exercises of lesson 2d, each of which must be told what is wrong in it."""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from atelier.blocks.vq import (
    LAPLACE_EPSILON,
    MovingAverageQuantizer,
    Quantized,
    Usage,
    VectorQuantizer,
    codebook_usage,
    nearest_codes,
    vq_loss,
)
from torch import Tensor


def bits_of_one_cell(side: int, codes: int) -> float:
    return math.log2(codes)


def bits_of_one_row(side: int, codes: int) -> float:
    return side * math.log2(codes)


def bits_in_nats(side: int, codes: int) -> float:
    return side**2 * math.log(codes)


def bits_without_logarithm(side: int, codes: int) -> float:
    return side**2 * codes


def bits_in_whole_numbers(side: int, codes: int) -> float:
    return side**2 * math.ceil(math.log2(codes))


def quantise_as_found(z_e: Tensor, codebook: Tensor) -> tuple[Tensor, Tensor]:
    n, c, h, w = z_e.shape
    indices = torch.cdist(z_e.reshape(-1, c), codebook).argmax(1)
    z_q = codebook[indices].reshape(n, h, w, c).permute(0, 3, 1, 2)
    return z_e + (z_q - z_e), indices.reshape(n, h, w)


def quantise_torn(z_e: Tensor, codebook: Tensor) -> tuple[Tensor, Tensor]:
    n, c, h, w = z_e.shape
    indices = torch.cdist(z_e.reshape(-1, c), codebook).argmin(1)
    z_q = codebook[indices].reshape(n, h, w, c).permute(0, 3, 1, 2)
    return z_q.detach() + (z_e - z_e.detach()), indices.reshape(n, h, w)


def rows_of(z_e: Tensor, codebook: Tensor) -> tuple[Tensor, Tensor]:
    n, c, h, w = z_e.shape
    indices = torch.cdist(z_e.permute(0, 2, 3, 1).reshape(-1, c), codebook).argmin(1)
    return codebook[indices].reshape(n, h, w, c).permute(0, 3, 1, 2), indices.reshape(n, h, w)


def quantise_farthest(z_e: Tensor, codebook: Tensor) -> tuple[Tensor, Tensor]:
    n, c, h, w = z_e.shape
    indices = torch.cdist(z_e.permute(0, 2, 3, 1).reshape(-1, c), codebook).argmax(1)
    z_q = codebook[indices].reshape(n, h, w, c).permute(0, 3, 1, 2)
    return z_q.detach() + (z_e - z_e.detach()), indices.reshape(n, h, w)


def quantise_without_gradient(z_e: Tensor, codebook: Tensor) -> tuple[Tensor, Tensor]:
    z_q, indices = rows_of(z_e, codebook)
    return z_q.detach(), indices


def quantise_nothing_detached(z_e: Tensor, codebook: Tensor) -> tuple[Tensor, Tensor]:
    z_q, indices = rows_of(z_e, codebook)
    return z_e + (z_q - z_e), indices


def quantise_nothing_subtracted(z_e: Tensor, codebook: Tensor) -> tuple[Tensor, Tensor]:
    z_q, indices = rows_of(z_e, codebook)
    return z_q.detach() + z_e, indices


def quantise_rows_not_detached(z_e: Tensor, codebook: Tensor) -> tuple[Tensor, Tensor]:
    z_q, indices = rows_of(z_e, codebook)
    return z_q + (z_e - z_e.detach()), indices


def quantise_z_q_only(z_e: Tensor, codebook: Tensor) -> Tensor:
    return rows_of(z_e, codebook)[0]


def twice_the_vectors(vectors: Tensor, first: Tensor, second: Tensor) -> Tensor:
    return first[nearest_codes(vectors, first)] + second[nearest_codes(vectors, second)]


def twice_the_row(vectors: Tensor, first: Tensor, second: Tensor) -> Tensor:
    roughly = first[nearest_codes(vectors, first)]
    return roughly + second[nearest_codes(roughly, second)]


def only_the_second(vectors: Tensor, first: Tensor, second: Tensor) -> Tensor:
    return second[nearest_codes(vectors - first[nearest_codes(vectors, first)], second)]


def wrong_sign(vectors: Tensor, first: Tensor, second: Tensor) -> Tensor:
    roughly = first[nearest_codes(vectors, first)]
    return roughly + second[nearest_codes(roughly - vectors, second)]


def numbers_of_rows(vectors: Tensor, first: Tensor, second: Tensor) -> Tensor:
    numbers = nearest_codes(vectors, first)
    return torch.stack([numbers, nearest_codes(vectors - first[numbers], second)])


WRONG = {
    "2d.1": [bits_of_one_cell, bits_of_one_row, bits_in_nats, bits_without_logarithm, bits_in_whole_numbers],
    "2d.2": [4, 8, 1.75, 1.2130, math.exp(1.75), 2.909, "3.36", 3.2, 0.5],
    "2d.3": [
        quantise_as_found,
        quantise_torn,
        quantise_farthest,
        quantise_without_gradient,
        quantise_nothing_detached,
        quantise_nothing_subtracted,
        quantise_rows_not_detached,
        quantise_z_q_only,
    ],
    "2d.4": [twice_the_vectors, twice_the_row, only_the_second, wrong_sign, numbers_of_rows],
}


def smallest_angle(vectors: Tensor, codebook: Tensor) -> Tensor:
    return (vectors @ F.normalize(codebook, dim=1).T).argmax(1)


def most_similar(vectors: Tensor, codebook: Tensor) -> Tensor:
    return (vectors @ codebook.T).argmax(1)


def product_once(vectors: Tensor, codebook: Tensor) -> Tensor:
    return (codebook.square().sum(1) - vectors @ codebook.T).argmin(1)


def farthest(vectors: Tensor, codebook: Tensor) -> Tensor:
    return torch.cdist(vectors, codebook).argmax(1)


def nearest_vectors(vectors: Tensor, codebook: Tensor) -> Tensor:
    return torch.cdist(vectors, codebook).argmin(0)


def without_detach(z_e: Tensor, z_q: Tensor) -> Tensor:
    return z_q + (z_e - z_e.detach())


def nothing_but_values(z_e: Tensor, z_q: Tensor) -> Tensor:
    return z_q.detach()


def all_detached(z_e: Tensor, z_q: Tensor) -> Tensor:
    return z_e + z_q.detach()


def gradient_backwards(z_e: Tensor, z_q: Tensor) -> Tensor:
    return z_q.detach() - (z_e - z_e.detach())


def nothing_detached(z_e: Tensor, z_q: Tensor) -> Tensor:
    return z_e + (z_q - z_e)


def gradient_alone(z_e: Tensor, z_q: Tensor) -> Tensor:
    return z_e - z_e.detach()


def lengths_without_squares(z_e: Tensor, z_q: Tensor, beta: float, by_gradient: bool) -> Tensor:
    return (z_q - z_e.detach()).norm() * by_gradient + beta * (z_e - z_q.detach()).norm()


def fixed_beta(z_e: Tensor, z_q: Tensor, beta: float, by_gradient: bool) -> Tensor:
    return vq_loss(z_e, z_q, 0.25, by_gradient)


def beta_in_both_alone(z_e: Tensor, z_q: Tensor, beta: float, by_gradient: bool) -> Tensor:
    return vq_loss(z_e, z_q, beta if by_gradient else 1.0, by_gradient)


def attached_loss(z_e: Tensor, z_q: Tensor, beta: float, by_gradient: bool) -> Tensor:
    error = (z_e - z_q).square().mean()
    return (1 + beta) * error if by_gradient else beta * (z_e - z_q.detach()).square().mean()


def swapped_detach(z_e: Tensor, z_q: Tensor, beta: float, by_gradient: bool) -> Tensor:
    commitment = beta * (z_e.detach() - z_q).square().mean()
    return (z_e - z_q.detach()).square().mean() + commitment if by_gradient else commitment


def always_both(z_e: Tensor, z_q: Tensor, beta: float, by_gradient: bool) -> Tensor:
    return (z_q - z_e.detach()).square().mean() + beta * (z_e - z_q.detach()).square().mean()


def without_beta(z_e: Tensor, z_q: Tensor, beta: float, by_gradient: bool) -> Tensor:
    return 2 * (z_e - z_q).square().mean()


def quantizer_with_reshape(self: VectorQuantizer, z_e: Tensor) -> Quantized:
    n, c, h, w = z_e.shape
    vectors = z_e.reshape(-1, c)
    indices = nearest_codes(vectors, self.embedding.weight)
    return Quantized(self.embedding(indices).reshape(z_e.shape), indices.reshape(n, h, w), torch.tensor(0.0))


def quantizer_channels_last(self: VectorQuantizer, z_e: Tensor) -> Quantized:
    quantized = VectorQuantizer.forward(self, z_e)
    return quantized._replace(z_q=quantized.z_q.permute(0, 2, 3, 1))


def quantizer_without_gradient(self: VectorQuantizer, z_e: Tensor) -> Quantized:
    quantized = VectorQuantizer.forward(self, z_e)
    return quantized._replace(z_q=quantized.z_q.detach())


def quantizer_with_late_loss(self: VectorQuantizer, z_e: Tensor) -> Quantized:
    quantized = VectorQuantizer.forward(self, z_e)
    return quantized._replace(loss=0 * quantized.loss)


def quantizer_with_indices_in_a_row(self: VectorQuantizer, z_e: Tensor) -> Quantized:
    quantized = VectorQuantizer.forward(self, z_e)
    return quantized._replace(indices=quantized.indices.flatten())


def quantizer_as_plain_tuple(self: VectorQuantizer, z_e: Tensor) -> tuple:
    return tuple(VectorQuantizer.forward(self, z_e))


def quantizer_with(self: VectorQuantizer, z_e: Tensor, loss: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Quantized:
    """A right z_q and right indices with a loss of z_e, the codes, and z_q after straight_through."""
    quantized = VectorQuantizer.forward(self, z_e)
    return quantized._replace(loss=loss(z_e, self.lookup(quantized.indices), quantized.z_q))


def quantizer_with_loss_of_z_q(self: VectorQuantizer, z_e: Tensor) -> Quantized:
    return quantizer_with(self, z_e, lambda z_e, _, z_q: vq_loss(z_e, z_q, self.beta, self.learned_by_gradient))


def quantizer_with_codes_first(self: VectorQuantizer, z_e: Tensor) -> Quantized:
    return quantizer_with(self, z_e, lambda z_e, codes, _: vq_loss(codes, z_e, self.beta, self.learned_by_gradient))


def quantizer_with_fixed_beta(self: VectorQuantizer, z_e: Tensor) -> Quantized:
    return quantizer_with(self, z_e, lambda z_e, codes, _: vq_loss(z_e, codes, 0.25, self.learned_by_gradient))


def quantizer_always_by_gradient(self: VectorQuantizer, z_e: Tensor) -> Quantized:
    return quantizer_with(self, z_e, lambda z_e, codes, _: vq_loss(z_e, codes, self.beta, True))


def lookup_without_gradient(self: VectorQuantizer, indices: Tensor) -> Tensor:
    return self.embedding.weight.detach()[indices].permute(0, 3, 1, 2)


def lookup_channels_last(self: VectorQuantizer, indices: Tensor) -> Tensor:
    return self.embedding(indices)


def lookup_with_reshape(self: VectorQuantizer, indices: Tensor) -> Tensor:
    n, h, w = indices.shape
    return self.embedding(indices).reshape(n, self.width, h, w)


def lookup_transposed(self: VectorQuantizer, indices: Tensor) -> Tensor:
    return self.embedding(indices).permute(0, 3, 2, 1)


def usage_as_entropy(counts: Tensor, above: float = 0.0) -> Usage:
    return codebook_usage(counts, above)._replace(perplexity=math.log(codebook_usage(counts).perplexity))


def usage_with_number(counts: Tensor, above: float = 0.0) -> Usage:
    return codebook_usage(counts, above)._replace(share=(counts > above * counts.mean()).sum().item())


def usage_without_above(counts: Tensor, above: float = 0.0) -> Usage:
    return codebook_usage(counts)


def usage_with_nan(counts: Tensor, above: float = 0.0) -> Usage:
    p = counts / counts.sum()
    return codebook_usage(counts, above)._replace(perplexity=(-(p * p.log()).sum()).exp().item())


def usage_as_plain_tuple(counts: Tensor, above: float = 0.0) -> tuple:
    return tuple(codebook_usage(counts, above))


def usage_above_counts(counts: Tensor, above: float = 0.0) -> Usage:
    return codebook_usage(counts)._replace(share=(counts > above).float().mean().item())


def usage_above_frequencies(counts: Tensor, above: float = 0.0) -> Usage:
    return codebook_usage(counts)._replace(share=(counts / counts.sum() > above).float().mean().item())


def usage_of_decimals(counts: Tensor, above: float = 0.0) -> Usage:
    return codebook_usage(counts)._replace(share=(counts > above * counts.mean()).float().mean().item())


def usage_from_zero(counts: Tensor, above: float = 0.0) -> Usage:
    return codebook_usage(counts)._replace(share=(counts >= above * counts.float().mean()).float().mean().item())


def statistics_added_once(self: MovingAverageQuantizer, vectors: Tensor, indices: Tensor) -> tuple:
    counts, sums = torch.zeros_like(self.counts), torch.zeros_like(self.sums)
    counts[indices] += 1
    sums[indices] += vectors
    return counts, sums


def statistics_as_means(self: MovingAverageQuantizer, vectors: Tensor, indices: Tensor) -> tuple:
    counts, sums = MovingAverageQuantizer.batch_statistics(self, vectors, indices)
    return counts, sums / counts.clamp(min=1)[:, None]


def statistics_without_empty_codes(self: MovingAverageQuantizer, vectors: Tensor, indices: Tensor) -> tuple:
    chosen = F.one_hot(indices).to(vectors.dtype)
    return chosen.sum(0), chosen.T @ vectors


def statistics_on_top(self: MovingAverageQuantizer, vectors: Tensor, indices: Tensor) -> tuple:
    counts, sums = MovingAverageQuantizer.batch_statistics(self, vectors, indices)
    return self.counts + counts, self.sums + sums


def update_swapped(self: MovingAverageQuantizer, vectors: Tensor, indices: Tensor) -> None:
    counts, sums = self.batch_statistics(vectors, indices)
    self.counts.lerp_(counts, self.decay)
    self.sums.lerp_(sums, self.decay)


def update_without_codes(self: MovingAverageQuantizer, vectors: Tensor, indices: Tensor) -> None:
    counts, sums = self.batch_statistics(vectors, indices)
    self.counts.lerp_(counts, 1 - self.decay)
    self.sums.lerp_(sums, 1 - self.decay)


def update_without_smoothing(self: MovingAverageQuantizer, vectors: Tensor, indices: Tensor) -> None:
    update_without_codes(self, vectors, indices)
    self.embedding.weight.data.copy_(self.sums / self.counts[:, None])


def update_with_smoothing_alone(self: MovingAverageQuantizer, vectors: Tensor, indices: Tensor) -> None:
    update_without_codes(self, vectors, indices)
    self.embedding.weight.data.copy_(self.sums / (self.counts + LAPLACE_EPSILON)[:, None])


def update_nothing(self: MovingAverageQuantizer, vectors: Tensor, indices: Tensor) -> None:
    self.batch_statistics(vectors, indices)


WRONG_PIECES = {
    "2d.nearest_codes": [most_similar, product_once, farthest, nearest_vectors, smallest_angle],
    "2d.straight_through": [
        without_detach,
        nothing_but_values,
        all_detached,
        gradient_backwards,
        nothing_detached,
        gradient_alone,
    ],
    "2d.vq_loss": [
        attached_loss,
        swapped_detach,
        always_both,
        without_beta,
        lengths_without_squares,
        fixed_beta,
        beta_in_both_alone,
    ],
    "2d.VectorQuantizer.forward": [
        quantizer_with_reshape,
        quantizer_channels_last,
        quantizer_without_gradient,
        quantizer_with_late_loss,
        quantizer_with_indices_in_a_row,
        quantizer_as_plain_tuple,
        quantizer_with_loss_of_z_q,
        quantizer_with_codes_first,
        quantizer_with_fixed_beta,
        quantizer_always_by_gradient,
    ],
    "2d.VectorQuantizer.lookup": [
        lookup_channels_last,
        lookup_with_reshape,
        lookup_transposed,
        lookup_without_gradient,
    ],
    "2d.codebook_usage": [
        usage_as_entropy,
        usage_with_number,
        usage_without_above,
        usage_with_nan,
        usage_as_plain_tuple,
        usage_above_counts,
        usage_above_frequencies,
        usage_of_decimals,
        usage_from_zero,
    ],
    "2d.MovingAverageQuantizer.batch_statistics": [
        statistics_added_once,
        statistics_as_means,
        statistics_on_top,
        statistics_without_empty_codes,
    ],
    "2d.MovingAverageQuantizer.update_codebook": [
        update_swapped,
        update_without_codes,
        update_without_smoothing,
        update_with_smoothing_alone,
        update_nothing,
    ],
}
