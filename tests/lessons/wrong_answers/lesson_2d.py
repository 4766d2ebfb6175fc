"""Wrong answers to the exercises of lesson 2d, each of which must be told what is wrong in it."""

import math

import torch
from atelier.blocks.vq import nearest_codes
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
