"""Vector quantisation and the VQ-VAE: each vector of a feature map is replaced by the nearest vector of a codebook.

Papers: van den Oord et al. 2017, "Neural Discrete Representation Learning" (sections and equations below are this
paper's); Dhariwal et al. 2020, "Jukebox", section 3 (the restart of dead codes).
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from atelier.blocks.autoencoder import ConvConfig, ConvDecoder, ConvEncoder

LAPLACE_EPSILON = 1e-5  # added to the counts, so that the sum of a code without assignments is not divided by zero


class Quantized(NamedTuple):
    """The output of a vector quantiser."""

    z_q: Tensor  # (n, width, h, w), the code vectors; gradients pass straight through to z_e
    indices: Tensor  # (n, h, w), int64, the code of each vector
    loss: Tensor  # scalar, a term of the training loss


@torch.no_grad()
def nearest_codes(vectors: Tensor, codebook: Tensor) -> Tensor:
    """Finds the nearest code of each vector: k = arg min_j ‖z_e − e_j‖ (eq. 1).

    Args:
        vectors: z_e, (m, width).
        codebook: the codes e_j, (codes, width).

    Returns:
        Indices (m,), int64. Of equally near codes, the lowest index.
    """
    # ‖z − e‖² = ‖z‖² − 2 z·e + ‖e‖². The first term is the same for all code vectors, so it can be left out.
    distances = torch.addmm(codebook.square().sum(1), vectors, codebook.T, alpha=-2)  # (m, codes)
    return distances.argmin(1)


def assignment(vectors: Tensor, codebook: Tensor) -> Tensor:
    """The posterior q(z = e_k | x) of eq. 1: 1 for the nearest code vector, 0 for all others.

    Args:
        vectors: z_e, (m, width).
        codebook: the code vectors e_j, (codes, width).

    Returns:
        Probabilities (m, codes), with the dtype of the codebook.
    """
    return F.one_hot(nearest_codes(vectors, codebook), len(codebook)).to(codebook.dtype)


def straight_through(z_e: Tensor, z_q: Tensor) -> Tensor:
    """The values of z_q with the gradient of z_e (section 3.2).

    Args:
        z_e: the encoder's vectors, of any shape.
        z_q: their codes, of the same shape.

    Returns:
        A tensor that equals z_q. In the backward pass its gradient goes unchanged to z_e; z_q gets none.
    """
    return z_q.detach() + (z_e - z_e.detach())


def vq_loss(z_e: Tensor, z_q: Tensor, beta: float, by_gradient: bool) -> Tensor:
    """The second and third term of eq. 3, as means over all elements: ‖sg[z_e] − z_q‖² + β ‖z_e − sg[z_q]‖².

    Args:
        z_e: the encoder's vectors, of any shape.
        z_q: their codes, of the same shape, before `straight_through`.
        beta: weight of the commitment term, the third of eq. 3.
        by_gradient: whether the codebook is learned by gradient. If not, the second term, which moves it, is left out.

    Returns:
        The loss, a scalar.
    """
    commitment = beta * F.mse_loss(z_e, z_q.detach())
    return F.mse_loss(z_q, z_e.detach()) + commitment if by_gradient else commitment


class VectorQuantizer(nn.Module):
    """Replaces each vector of a feature map by the nearest code vector, learned by gradient descent (section 3).

    Args:
        codes: K, the number of code vectors in the codebook.
        width: D, the dimension of a code vector.
        beta: weight of the commitment loss (eq. 3).
    """

    learned_by_gradient = True

    def __init__(self, codes: int, width: int, beta: float = 0.25):
        super().__init__()
        self.codes, self.width, self.beta = codes, width, beta
        self.embedding = nn.Embedding(codes, width)
        nn.init.uniform_(self.embedding.weight, -1 / codes, 1 / codes)

    def forward(self, z_e: Tensor) -> Quantized:
        """Quantises a feature map.

        Args:
            z_e: the encoder's output, (n, width, h, w).

        Returns:
            z_q (n, width, h, w), indices (n, h, w), and the loss, see `vq_loss`.

        Raises:
            ValueError: if z_e has another shape.
        """
        vectors = self.vectors_of(z_e)  # (n·h·w, c)
        n, c, h, w = z_e.shape
        indices = nearest_codes(vectors, self.embedding.weight)  # (n·h·w,)
        codes = self.embedding(indices)  # (n·h·w, c)
        loss = vq_loss(vectors, codes, self.beta, self.learned_by_gradient)
        z_q = straight_through(vectors, codes).reshape(n, h, w, c).permute(0, 3, 1, 2)  # (n, c, h, w)
        return Quantized(z_q.contiguous(), indices.reshape(n, h, w), loss)

    def vectors_of(self, z_e: Tensor) -> Tensor:
        """Reshapes a feature map (n, width, h, w) to its vectors (n·h·w, width).

        Raises:
            ValueError: if z_e has another shape.
        """
        if z_e.ndim != 4 or z_e.shape[1] != self.width:
            raise ValueError(f"The codebook quantises maps (n, {self.width}, h, w), but got {tuple(z_e.shape)}.")
        return z_e.permute(0, 2, 3, 1).reshape(-1, self.width)

    def lookup(self, indices: Tensor) -> Tensor:
        """The codes' vectors (n, width, h, w) for their indices (n, h, w)."""
        return self.embedding(indices).permute(0, 3, 1, 2).contiguous()


# One step further: a codebook that is updated by exponential moving averages instead of gradients.


class Usage(NamedTuple):
    """How much of a codebook is used."""

    share: float  # the share of the codes that are in use, from 0 to 1
    perplexity: float  # exp of the entropy of the codes: K equally frequent codes have the perplexity K


def codebook_usage(counts: Tensor, above: float = 0.0) -> Usage:
    """Measures how evenly codes are used.

    Args:
        counts: how often each code was used, or moving averages of that, (codes,).
        above: a code is in use if its count is above this multiple of the mean count.

    Returns:
        The share of codes in use, and the perplexity of their frequencies.
    """
    counts = counts.double()
    frequencies = counts / counts.sum().clamp(min=1e-30)
    entropy = -torch.special.xlogy(frequencies, frequencies).sum()
    return Usage((counts > above * counts.mean()).double().mean().item(), entropy.exp().item())


class MovingAverageQuantizer(VectorQuantizer):
    """A vector quantiser whose code vectors are moving averages of the vectors assigned to them (appendix A.1).

    The moving averages replace the codebook loss. In training, rarely used codes are restarted: each of their code
    vectors is replaced by a random vector of the batch (Jukebox, section 3). Before the first training batch all counts
    are 0, so this batch initialises the whole codebook.

    Args:
        codes: K, the number of code vectors in the codebook.
        width: D, the dimension of a code vector.
        beta: weight of the commitment loss (eq. 3).
        decay: γ, the decay of the moving averages, at least 0 and below 1.
        restart_below: a code is restarted if its count is below this share of the mean count; 0: no restarts after the
            first batch.
    """

    learned_by_gradient = False
    counts: Tensor
    sums: Tensor

    def __init__(self, codes: int, width: int, beta: float = 0.25, decay: float = 0.99, restart_below: float = 0.05):
        super().__init__(codes, width, beta)
        self.decay, self.restart_below = decay, restart_below
        self.embedding.weight.requires_grad_(False)
        self.register_buffer("counts", torch.zeros(codes))  # N of appendix A.1
        self.register_buffer("sums", torch.zeros(codes, width))  # m of appendix A.1

    def forward(self, z_e: Tensor) -> Quantized:
        """Quantises like `VectorQuantizer.forward`; in training, also restarts dead codes and updates the codebook."""
        if not self.training:
            return super().forward(z_e)
        vectors = self.vectors_of(z_e.detach())  # (n·h·w, width)
        self.restart_dead_codes(vectors)
        quantized = super().forward(z_e)
        self.update_codebook(vectors, quantized.indices.flatten())
        return quantized

    @torch.no_grad()
    def restart_dead_codes(self, vectors: Tensor) -> None:
        """Replaces the code vector of each rarely used code by a random one of the batch's vectors (m, width)."""
        total = self.counts.sum()
        mean_count = torch.where(total > 0, total / self.codes, 1.0)
        dead = (self.counts < self.restart_below * mean_count) | (total == 0)  # (codes,)
        candidates = self.random_vectors(vectors)  # (codes, width)
        self.embedding.weight.copy_(torch.where(dead[:, None], candidates, self.embedding.weight))
        # A restarted code gets the mean count, so it is not restarted again before vectors can be assigned to it.
        self.counts.copy_(torch.where(dead, mean_count, self.counts))
        self.sums.copy_(torch.where(dead[:, None], candidates * mean_count, self.sums))

    @torch.no_grad()
    def update_codebook(self, vectors: Tensor, indices: Tensor) -> None:
        """Updates the moving averages and the codebook (appendix A.1).

        Before the division, LAPLACE_EPSILON is added to the N of every code, and all N are scaled back to their sum.

        Args:
            vectors: z_e of the batch, (m, width).
            indices: the code that each vector is assigned to, (m,).
        """
        counts, sums = self.batch_statistics(vectors, indices)
        self.counts.lerp_(counts, 1 - self.decay)  # γ N + (1 − γ) n
        self.sums.lerp_(sums, 1 - self.decay)
        total = self.counts.sum()
        smoothed = (self.counts + LAPLACE_EPSILON) / (total + self.codes * LAPLACE_EPSILON) * total
        self.embedding.weight.copy_(self.sums / smoothed[:, None])

    def random_vectors(self, vectors: Tensor) -> Tensor:
        """Draws a random vector for each code: (m, width) → (codes, width); without repetition if m ≥ codes."""
        if len(vectors) >= self.codes:
            return vectors[torch.randperm(len(vectors), device=vectors.device)[: self.codes]]
        return vectors[torch.randint(len(vectors), (self.codes,), device=vectors.device)]

    def batch_statistics(self, vectors: Tensor, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Counts the vectors (m, width) assigned to each code, (codes,), and sums them, (codes, width)."""
        counts = torch.zeros_like(self.counts).index_add_(0, indices, torch.ones_like(vectors[:, 0]))
        sums = torch.zeros_like(self.sums).index_add_(0, indices, vectors)
        return counts, sums

    def usage(self) -> Usage:
        """Usage over about the last 1 / (1 − decay) training batches; a code is in use above 1 % of the mean count."""
        return codebook_usage(self.counts, above=0.01)


@dataclass(frozen=True)
class VQVAEConfig(ConvConfig):
    """Sizes of a VQ-VAE: those of its encoder and decoder (`ConvConfig`), and of its codebook."""

    levels: int = 2
    codes: int = 64  # code vectors in the codebook
    code_width: int = 16  # dimension of a code vector


class VQVAE(nn.Module):
    """An autoencoder whose latent is a map of codes (section 3). Pictures have values from 0 to 1."""

    def __init__(self, config: VQVAEConfig):
        super().__init__()
        self.config = config
        channels = config.widths[-1]
        self.encoder = nn.Sequential(ConvEncoder(config), nn.Conv2d(channels, config.code_width, 1))
        self.quantize = MovingAverageQuantizer(config.codes, config.code_width)
        self.decoder = nn.Sequential(nn.Conv2d(config.code_width, channels, 3, padding=1), ConvDecoder(config))

    def encode(self, pictures: Tensor) -> Quantized:
        """Encodes pictures (n, 3, size, size).

        Returns:
            z_q (n, code_width, side, side), indices (n, side, side), and the commitment loss.
        """
        return self.quantize(self.encoder(pictures))

    def decode(self, z_q: Tensor) -> Tensor:
        """Decodes code vectors (n, code_width, side, side) to pictures (n, 3, size, size)."""
        return self.decoder(z_q)

    def decode_codes(self, indices: Tensor) -> Tensor:
        """Decodes indices (n, side, side), each from 0 to codes − 1, to pictures (n, 3, size, size)."""
        return self.decode(self.quantize.lookup(indices))

    def forward(self, pictures: Tensor) -> tuple[Tensor, Quantized]:
        """Reconstructs pictures (n, 3, size, size); returns the reconstructions and what `encode` returns."""
        quantized = self.encode(pictures)
        return self.decode(quantized.z_q), quantized
