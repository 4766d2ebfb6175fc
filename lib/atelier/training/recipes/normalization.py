"""Normalisation of a VQ-GAN's z_e while it trains, so that its codebook uses all of its dimensions.

Quantisation suppresses the directions in which z_e varies least, and the commitment loss then shrinks them further, so
that a codebook of many dimensions ends up using two or three: dimensional collapse. Here z_e is normalised before it is
quantised, so no direction can shrink. Afterwards mean and scale are folded into `quant_conv`, and the exported weights
have exactly the published form.
"""

from __future__ import annotations

from copy import deepcopy

import torch
from torch import Tensor, nn
from torch.distributed.nn.functional import all_reduce

from atelier.blocks.vqgan import VQGAN

MOMENTUM = 0.02  # of the running statistics: an average over about 50 batches
EPSILON = 1e-5  # added to the variances


class Whitening(nn.Module):
    """Maps (n, width, h, w) to zero mean and unit covariance over the batch and all positions.

    z = L⁻¹ (x − μ), where L Lᵀ is the Cholesky factorisation of the covariance: each channel is standardised after
    what the channels before it predict of it has been subtracted. In training μ and the covariance are the batch's, as
    in batch normalisation (arXiv:1502.03167); in evaluation they are running averages.
    """

    mean: Tensor
    covariance: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("covariance", torch.eye(width))

    def forward(self, x: Tensor) -> Tensor:
        """The whitened map, in float32: (n, width, h, w) → (n, width, h, w)."""
        with torch.autocast(x.device.type, enabled=False):
            vectors = x.float().movedim(1, -1)  # (n, h, w, width)
            mean, covariance = self._batch_statistics(vectors) if self.training else (self.mean, self.covariance)
            return ((vectors - mean) @ self._matrix(covariance).mT).movedim(-1, 1).contiguous()

    def _batch_statistics(self, vectors: Tensor) -> tuple[Tensor, Tensor]:
        flat = vectors.flatten(0, 2)  # (n·h·w, width)
        mean = mean_over_processes(flat.mean(0))
        covariance = mean_over_processes((flat - mean).mT @ (flat - mean) / len(flat))
        with torch.no_grad():
            self.mean.lerp_(mean, MOMENTUM)
            self.covariance.lerp_(covariance, MOMENTUM)
        return mean, covariance

    @staticmethod
    def _matrix(covariance: Tensor) -> Tensor:
        """L⁻¹ (width, width) of a covariance."""
        identity = torch.eye(len(covariance), device=covariance.device)
        factor = torch.linalg.cholesky(covariance + EPSILON * identity)
        return torch.linalg.solve_triangular(factor, identity, upper=False)

    @torch.no_grad()
    def folded_into(self, convolution: nn.Conv2d) -> nn.Conv2d:
        """A 1 × 1 convolution that does what `convolution`, followed by this module in evaluation, does."""
        folded, matrix = deepcopy(convolution), self._matrix(self.covariance)
        assert folded.bias is not None
        folded.weight.copy_((matrix @ folded.weight.flatten(1)).view_as(folded.weight))
        folded.bias.copy_(matrix @ (folded.bias - self.mean))
        return folded


def mean_over_processes(tensor: Tensor) -> Tensor:
    """The mean of a tensor over all processes that train together; gradients flow back to each of them."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return all_reduce(tensor) / torch.distributed.get_world_size()
    return tensor


def add_whitening(vqgan: VQGAN) -> None:
    """Whiten z_e from now on: `quant_conv` becomes itself followed by `Whitening`."""
    vqgan.quant_conv = nn.Sequential(vqgan.quant_conv, Whitening(vqgan.config.code_width))  # ty: ignore[invalid-assignment]


def fold_whitening(vqgan: VQGAN) -> VQGAN:
    """A copy of a VQ-GAN with its whitening, if it has one, folded into `quant_conv`; codes and pictures are the same
    as in evaluation before.
    """
    folded = deepcopy(vqgan)
    if isinstance(vqgan.quant_conv, nn.Sequential):
        convolution, whitening = vqgan.quant_conv
        assert isinstance(convolution, nn.Conv2d)
        assert isinstance(whitening, Whitening)
        folded.quant_conv = whitening.folded_into(convolution)
    return folded


def effective_dimensions(codebook: Tensor) -> float:
    """How many directions a codebook (codes, width) uses: the exponential of the entropy of its covariance's spectrum.

    From 1, when all codes lie on a line, to width, when they vary equally in all directions.
    """
    variances = torch.linalg.eigvalsh(codebook.cpu().double().mT.cov()).clamp(min=0)
    shares = variances / variances.sum()
    return float((-torch.special.xlogy(shares, shares).sum()).exp())
