"""The vector-quantised layer: a grid of vectors goes in, the nearest words of a codebook come out; and the VQ-VAE.

Papers: van den Oord et al. 2017, "Neural Discrete Representation Learning" (appendix A.1: the codebook as a moving
average); Dhariwal et al. 2020, "Jukebox", section 3 (codes that nobody uses start again from the data).
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from atelier.blocks.autoencoder import ConvConfig, ConvDecoder, ConvEncoder

LAPLACE_EPSILON = 1e-5  # appendix A.1 divides by the counts: smoothing keeps an unused code from dividing by zero
USAGE_DECAY = 0.99  # of the usage counts, where the codebook itself is learned by gradient


class Quantized(NamedTuple):
    """What the layer gives back."""

    z_q: Tensor  # (n, width, h, w), the codebook's vectors; gradients pass straight through to z_e
    indices: Tensor  # (n, h, w), int64, which code each vector became
    loss: Tensor  # scalar, what the layer adds to the training loss


class Usage(NamedTuple):
    """How much of a codebook is in use."""

    share: float  # of the codes in use, from 0 to 1
    perplexity: float  # exp of the entropy: the number of equally frequent codes that would carry as much


def codebook_usage(counts: Tensor, above: float = 0.0) -> Usage:
    """Usage from counts (codes,), or moving averages of them; in use is a code above that many times the mean."""
    counts = counts.double()
    frequencies = counts / counts.sum().clamp(min=1e-30)
    entropy = -torch.special.xlogy(frequencies, frequencies).sum()
    return Usage((counts > above * counts.mean()).double().mean().item(), entropy.exp().item())


@torch.no_grad()
def nearest_codes(vectors: Tensor, codebook: Tensor) -> Tensor:
    """k = arg min_j ‖z_e − e_j‖; of equally near codes, the lowest: (m, width), (codes, width) → (m,), int64."""
    codebook = codebook.float()
    # ‖z‖² − 2 z·e + ‖e‖², without ‖z‖²: it is the same for every code, and only costs digits.
    distances = torch.addmm(codebook.square().sum(1), vectors.float(), codebook.T, alpha=-2)  # (m, codes)
    return distances.argmin(1)


def assignment(vectors: Tensor, codebook: Tensor) -> Tensor:
    """q(z = e_k | x), eq. 1: 1 for the nearest code, else 0: (m, width), (codes, width) → (m, codes)."""
    return F.one_hot(nearest_codes(vectors, codebook), len(codebook)).to(codebook.dtype)


def straight_through(z_e: Tensor, z_q: Tensor) -> Tensor:
    """Exactly the values of z_q with exactly the gradient of z_e (section 3.2), which has the same shape."""
    return z_q.detach() + (z_e - z_e.detach())


def vq_loss(z_e: Tensor, z_q: Tensor, beta: float, learned: bool) -> Tensor:
    """Second and third term of eq. 3, as means over all numbers: ‖sg[z_e] − z_q‖² + β ‖z_e − sg[z_q]‖².

    The second, which moves the codebook towards the vectors, is left out unless the codebook is learned by gradient.
    z_e and z_q have the same shape, whichever it is.
    """
    commitment = beta * F.mse_loss(z_e, z_q.detach())
    return F.mse_loss(z_q, z_e.detach()) + commitment if learned else commitment


class Codebook(nn.Module):
    """The words, and how often each was used; for the arguments see VectorQuantizer."""

    counts: Tensor
    sums: Tensor

    def __init__(self, codes: int, width: int, decay: float | None, restart_below: float):
        super().__init__()
        if codes < 1 or width < 1:
            raise ValueError(f"A codebook needs at least one code of at least one number, not {codes} of {width}.")
        if decay is not None and not 0 <= decay < 1:
            raise ValueError(f"decay is {decay}: give a number from 0 to below 1, or None to learn by gradient.")
        if not 0 <= restart_below < 1:
            raise ValueError(f"restart_below is {restart_below}: give a share of the mean count from 0 to below 1.")
        self.codes, self.width, self.decay, self.restart_below = codes, width, decay, restart_below
        self.embedding = nn.Embedding(codes, width)
        nn.init.uniform_(self.embedding.weight, -1 / codes, 1 / codes)
        self.embedding.weight.requires_grad_(decay is None)
        self.register_buffer("counts", torch.zeros(codes))  # N of appendix A.1
        self.register_buffer("sums", torch.zeros(codes, width))  # m of appendix A.1
        self.register_load_state_dict_pre_hook(fill_in_statistics)

    def nearest(self, vectors: Tensor) -> Tensor:
        """Indices (m,) of the codes nearest to vectors (m, width)."""
        return nearest_codes(vectors, self.embedding.weight)

    def lookup(self, indices: Tensor) -> Tensor:
        """The codes' vectors, (n, width, h, w), for indices (n, h, w)."""
        return self.embedding(indices).permute(0, 3, 1, 2).contiguous()

    def usage(self) -> Usage:
        """Usage over the last 1/(1 − decay) training batches or so; a code counts from 1 % of the mean use on."""
        return codebook_usage(self.counts, above=0.01)


class MovingCodebook(Codebook):
    """A codebook that follows the data."""

    @torch.no_grad()
    def restart_dead_codes(self, vectors: Tensor) -> None:
        """Puts random vectors (m, width) of the batch in the place of codes that hardly anyone uses."""
        total = self.counts.sum()
        mean_count = torch.where(total > 0, total / self.codes, 1.0)
        dead = (self.counts < self.restart_below * mean_count) | (total == 0)  # (codes,)
        newborn = over_processes(random_rows(vectors, self.codes), summed=False)  # (codes, width)
        self.embedding.weight.copy_(torch.where(dead[:, None], newborn, self.embedding.weight))
        # A newborn code counts as an average one, which gives it time to find its place.
        self.counts.copy_(torch.where(dead, mean_count, self.counts))
        self.sums.copy_(torch.where(dead[:, None], newborn * mean_count, self.sums))

    @torch.no_grad()
    def move(self, vectors: Tensor, indices: Tensor) -> None:
        """Moves counts, sums and, unless learned by gradient, the codebook (appendix A.1) to vectors (m, width)."""
        counts = torch.zeros_like(self.counts).index_add_(0, indices, torch.ones_like(vectors[:, 0]))
        self.counts.lerp_(over_processes(counts, summed=True), 1 - (USAGE_DECAY if self.decay is None else self.decay))
        if self.decay is None:
            return
        sums = torch.zeros_like(self.sums).index_add_(0, indices, vectors)
        self.sums.lerp_(over_processes(sums, summed=True), 1 - self.decay)
        total = self.counts.sum()
        smoothed = (self.counts + LAPLACE_EPSILON) / (total + self.codes * LAPLACE_EPSILON) * total
        self.embedding.weight.copy_(self.sums / smoothed[:, None])


class VectorQuantizer(MovingCodebook):
    """Replaces every vector by its nearest code: z_q = e_k, k = arg min_j ‖z_e − e_j‖ (eqs. 1 and 2).

    The codebook starts as vectors of the first training batch: until then no code has been used, so all of them are
    dead, and dead codes start again from the data.

    Args:
        codes: size of the codebook.
        width: length of its vectors.
        beta: weight of the commitment term (eq. 3).
        decay: of the moving averages that are the codebook (appendix A.1). None: learned by gradient, and the loss has
            the codebook term of eq. 3 as well.
        restart_below: in training, a code used less than this many times as often as the mean code is replaced by a
            random vector of the batch; 0: never. A share, unlike Jukebox's count, does not depend on the batch's size.

    Raises:
        ValueError: if an argument is out of range.
    """

    def __init__(
        self, codes: int, width: int, beta: float = 0.25, decay: float | None = 0.99, restart_below: float = 0.05
    ):
        super().__init__(codes, width, decay, restart_below)
        if beta < 0:
            raise ValueError(f"beta is {beta}: give 0 or more.")
        self.beta = beta

    def forward(self, z_e: Tensor) -> Quantized:
        """Quantises z_e, (n, width, h, w), of any floating type, in float32; in training also moves the codebook."""
        if z_e.ndim != 4 or z_e.shape[1] != self.width:
            raise ValueError(f"The codebook quantises maps (n, {self.width}, h, w), but got {tuple(z_e.shape)}.")
        n, c, h, w = z_e.shape
        with torch.autocast(z_e.device.type, enabled=False):  # in bfloat16 neighbouring codes have the same distance
            vectors = z_e.float().permute(0, 2, 3, 1).reshape(-1, c)  # (n·h·w, c)
            if self.training:
                self.restart_dead_codes(vectors.detach())
            indices = self.nearest(vectors)  # (n·h·w,)
            codes = self.embedding(indices).float()  # (n·h·w, c)
            loss = vq_loss(vectors, codes, self.beta, learned=self.decay is None)
            if self.training:
                self.move(vectors.detach(), indices)
            z_q = straight_through(vectors, codes).reshape(n, h, w, c).permute(0, 3, 1, 2)  # (n, c, h, w)
        return Quantized(z_q.contiguous(), indices.reshape(n, h, w), loss)


def random_rows(vectors: Tensor, number: int) -> Tensor:
    """Random rows (number, width) of vectors (m, width), without repetition if there are enough."""
    if len(vectors) >= number:
        return vectors[torch.randperm(len(vectors), device=vectors.device)[:number]]
    return vectors[torch.randint(len(vectors), (number,), device=vectors.device)]


def over_processes(tensor: Tensor, summed: bool) -> Tensor:
    """The sum over all processes, or the first one's tensor, so that every one of them keeps the same codebook."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.all_reduce(tensor) if summed else torch.distributed.broadcast(tensor, 0)
    return tensor


def fill_in_statistics(module: nn.Module, state: dict, prefix: str, *_: object) -> None:
    """Lets a codebook load strictly from weights that hold only `embedding.weight`, as the published ones do."""
    weight = state.get(prefix + "embedding.weight")
    if weight is not None and prefix + "counts" not in state and prefix + "sums" not in state:
        state[prefix + "counts"] = torch.ones(weight.shape[0], device=weight.device)
        state[prefix + "sums"] = weight.detach().float().clone()


@dataclass(frozen=True)
class VQVAEConfig(ConvConfig):
    """Shape of a VQ-VAE: a ConvConfig, and its codebook."""

    levels: int = 2
    codes: int = 64  # words in the codebook
    code_width: int = 16  # length of their vectors


class VQVAE(nn.Module):
    """An autoencoder whose map (n, code_width, side, side) goes through a codebook. Pictures are from 0 to 1."""

    def __init__(self, config: VQVAEConfig):
        super().__init__()
        self.config = config
        channels = config.widths[-1]
        self.encoder = nn.Sequential(ConvEncoder(config), nn.Conv2d(channels, config.code_width, 1))
        self.quantize = VectorQuantizer(config.codes, config.code_width)
        self.decoder = nn.Sequential(nn.Conv2d(config.code_width, channels, 3, padding=1), ConvDecoder(config))

    def encode(self, pictures: Tensor) -> Quantized:
        """Pictures (n, 3, size, size) to z_q, indices (n, side, side) and the codebook's loss."""
        return self.quantize(self.encoder(pictures))

    def decode(self, z_q: Tensor) -> Tensor:
        """The codebook's vectors (n, code_width, side, side) to pictures."""
        return self.decoder(z_q)

    def decode_codes(self, indices: Tensor) -> Tensor:
        """Codes (n, side, side), each from 0 to codes − 1, to pictures."""
        return self.decode(self.quantize.lookup(indices))

    def forward(self, pictures: Tensor) -> tuple[Tensor, Quantized]:
        """Pictures to their reconstructions, and what the codebook gave on the way."""
        quantized = self.encode(pictures)
        return self.decode(quantized.z_q), quantized
