"""The vector-quantised layer: a grid of vectors goes in, the nearest words of a codebook come out.

Papers: van den Oord et al. 2017, "Neural Discrete Representation Learning" (the layer, its loss, and in appendix A.1
the codebook as a moving average); Dhariwal et al. 2020, "Jukebox", section 3 (codes that nobody uses start again from
the data).
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LAPLACE_EPSILON = 1e-5  # appendix A.1 divides by the counts: smoothing keeps an unused code from dividing by zero
USAGE_DECAY = 0.99  # of the usage counts, where the codebook itself is learned by gradient


class Quantized(NamedTuple):
    """What the layer gives back.

    Attributes:
        z_q: (n, width, h, w), the codebook's vectors. Gradients pass straight through to z_e.
        indices: (n, h, w), int64, which code each vector became.
        loss: scalar, what the layer adds to the training loss.
    """

    z_q: Tensor
    indices: Tensor
    loss: Tensor


class Usage(NamedTuple):
    """How much of a codebook is in use.

    Attributes:
        share: part of the codes in use, from 0 to 1.
        perplexity: exp of the entropy of the codes' frequencies: the number of equally frequent codes that would carry
            as much, from 1 to the size of the codebook.
    """

    share: float
    perplexity: float


def codebook_usage(counts: Tensor, above: float = 0.0) -> Usage:
    """Usage from how often each code was chosen.

    Args:
        counts: (codes,), counts or moving averages of counts.
        above: a code is in use if its count exceeds this many times the mean count.
    """
    counts = counts.double()
    frequencies = counts / counts.sum().clamp(min=1e-30)
    entropy = -torch.special.xlogy(frequencies, frequencies).sum()
    return Usage((counts > above * counts.mean()).double().mean().item(), entropy.exp().item())


class VectorQuantizer(nn.Module):
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
            random vector of the batch. 0: codes never start again. Unlike Jukebox's absolute count, the share does
            not depend on batch size, picture size and codebook size.

    Raises:
        ValueError: if an argument is out of range.
    """

    counts: Tensor
    sums: Tensor

    def __init__(
        self, codes: int, width: int, beta: float = 0.25, decay: float | None = 0.99, restart_below: float = 0.05
    ):
        super().__init__()
        if codes < 1 or width < 1:
            raise ValueError(f"A codebook needs at least one code of at least one number, not {codes} of {width}.")
        if decay is not None and not 0 <= decay < 1:
            raise ValueError(f"decay is {decay}: give a number from 0 to below 1, or None to learn by gradient.")
        if beta < 0:
            raise ValueError(f"beta is {beta}: give 0 or more.")
        if not 0 <= restart_below < 1:
            raise ValueError(f"restart_below is {restart_below}: give a share of the mean count from 0 to below 1.")
        self.codes, self.width = codes, width
        self.beta, self.decay, self.restart_below = beta, decay, restart_below
        self.embedding = nn.Embedding(codes, width)
        nn.init.uniform_(self.embedding.weight, -1 / codes, 1 / codes)
        self.embedding.weight.requires_grad_(decay is None)
        self.register_buffer("counts", torch.zeros(codes))  # N of appendix A.1
        self.register_buffer("sums", torch.zeros(codes, width))  # m of appendix A.1
        self.register_load_state_dict_pre_hook(_fill_in_statistics)

    def forward(self, z_e: Tensor) -> Quantized:
        """Quantises; in training also moves the codebook.

        Args:
            z_e: (n, width, h, w), of any floating type. The arithmetic is float32, under autocast too: in bfloat16
                neighbouring codes have the same distance.
        """
        if z_e.ndim != 4 or z_e.shape[1] != self.width:
            raise ValueError(
                f"The codebook quantises maps of shape (n, {self.width}, h, w), but got {tuple(z_e.shape)}."
            )
        n, c, h, w = z_e.shape
        with torch.autocast(z_e.device.type, enabled=False):
            vectors = z_e.float().permute(0, 2, 3, 1).reshape(-1, c)  # (n·h·w, c)
            if self.training:
                self._restart_dead_codes(vectors.detach())
            indices = self.nearest(vectors)  # (n·h·w,)
            nearest = self.embedding(indices).float()  # (n·h·w, c)
            loss = self._loss(vectors, nearest)
            if self.training:
                self._count(vectors.detach(), indices)
            # Straight through: the value is exactly the code, the gradient is exactly that of z_e.
            quantized = nearest.detach() + (vectors - vectors.detach())
        z_q = quantized.reshape(n, h, w, c).permute(0, 3, 1, 2).contiguous()  # (n, c, h, w)
        return Quantized(z_q, indices.reshape(n, h, w), loss)

    @torch.no_grad()
    def nearest(self, vectors: Tensor) -> Tensor:
        """Indices (m,) of the codes nearest to vectors (m, width); of equally near ones, the lowest."""
        codebook = self.embedding.weight.float()
        # ‖z‖² − 2 z·e + ‖e‖², without ‖z‖²: it is the same for every code, and only costs digits.
        distances = torch.addmm(codebook.square().sum(1), vectors.float(), codebook.T, alpha=-2)  # (m, codes)
        return distances.argmin(1)

    def lookup(self, indices: Tensor) -> Tensor:
        """The codes' vectors, (n, width, h, w), for indices (n, h, w)."""
        return self.embedding(indices).permute(0, 3, 1, 2).contiguous()

    def usage(self) -> Usage:
        """Usage over the last 1/(1 − decay) training batches or so; a code counts from 1 % of the mean use on."""
        return codebook_usage(self.counts, above=0.01)

    def _loss(self, z_e: Tensor, code: Tensor) -> Tensor:
        """Second and third term of eq. 3, as means over all numbers: ‖sg[z_e] − e‖² + β ‖z_e − sg[e]‖²."""
        commitment = self.beta * F.mse_loss(z_e, code.detach())
        return commitment if self.decay is not None else F.mse_loss(code, z_e.detach()) + commitment

    @torch.no_grad()
    def _restart_dead_codes(self, vectors: Tensor) -> None:
        """Puts random vectors (m, width) of the batch in the place of codes that hardly anyone uses."""
        total = self.counts.sum()
        mean_count = torch.where(total > 0, total / self.codes, 1.0)
        dead = (self.counts < self.restart_below * mean_count) | (total == 0)  # (codes,)
        newborn = self._broadcast(_draw(vectors, self.codes))  # (codes, width)
        weight = self.embedding.weight
        weight.copy_(torch.where(dead[:, None], newborn, weight))
        # A newborn code counts as an average one, which gives it time to find its place.
        self.counts.copy_(torch.where(dead, mean_count, self.counts))
        self.sums.copy_(torch.where(dead[:, None], newborn * mean_count, self.sums))

    @torch.no_grad()
    def _count(self, vectors: Tensor, indices: Tensor) -> None:
        """Moves counts, sums and, unless it is learned by gradient, the codebook (appendix A.1)."""
        counts = torch.zeros_like(self.counts).index_add_(0, indices, torch.ones_like(vectors[:, 0]))
        self.counts.lerp_(self._all_reduce(counts), 1 - (USAGE_DECAY if self.decay is None else self.decay))
        if self.decay is None:
            return
        sums = torch.zeros_like(self.sums).index_add_(0, indices, vectors)
        self.sums.lerp_(self._all_reduce(sums), 1 - self.decay)
        total = self.counts.sum()
        smoothed = (self.counts + LAPLACE_EPSILON) / (total + self.codes * LAPLACE_EPSILON) * total
        self.embedding.weight.copy_(self.sums / smoothed[:, None])

    @staticmethod
    def _all_reduce(tensor: Tensor) -> Tensor:
        """The sum over all processes, so that every one of them keeps the same codebook."""
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.all_reduce(tensor)
        return tensor

    @staticmethod
    def _broadcast(tensor: Tensor) -> Tensor:
        """The first process's tensor, in every process."""
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.broadcast(tensor, 0)
        return tensor


def _draw(vectors: Tensor, number: int) -> Tensor:
    """Random rows (number, width) of vectors (m, width), without repetition if there are enough."""
    available = vectors.shape[0]
    if available >= number:
        return vectors[torch.randperm(available, device=vectors.device)[:number]]
    return vectors[torch.randint(available, (number,), device=vectors.device)]


def _fill_in_statistics(module: nn.Module, state: dict, prefix: str, *_: object) -> None:
    """Lets a codebook load strictly from weights that hold only `embedding.weight`, as the published ones do."""
    weight = state.get(prefix + "embedding.weight")
    if weight is not None and prefix + "counts" not in state and prefix + "sums" not in state:
        state[prefix + "counts"] = torch.ones(weight.shape[0], device=weight.device)
        state[prefix + "sums"] = weight.detach().float().clone()
