"""Whitening of a VQ-GAN's z_e during training, so that its codebook uses all of its dimensions.

Without it, quantisation suppresses the directions in which z_e varies least, and the commitment loss shrinks them
further, until a codebook of many dimensions uses two or three: dimensional collapse. Whitening z_e before it is
quantised keeps the variance of every direction. For export, the whitening is folded into `quant_conv`, so that the
exported weights have the form of the published ones.
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

    z = L⁻¹ (x − μ), where L Lᵀ is the Cholesky factorisation of the covariance: from each channel its linear prediction
    from the channels before it is subtracted, and the rest is standardised. In training μ and the covariance are those
    of the batch, as in batch normalisation (arXiv:1502.03167); in evaluation they are running averages.

    Attributes:
        mean: (width,), running average.
        covariance: (width, width), running average.
    """

    mean: Tensor
    covariance: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("covariance", torch.eye(width))

    def forward(self, x: Tensor) -> Tensor:
        """Whiten a map in float32: (n, width, h, w) → (n, width, h, w)."""
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
        """Compute L⁻¹ (width, width) of a covariance."""
        identity = torch.eye(len(covariance), device=covariance.device)
        factor = torch.linalg.cholesky(covariance + EPSILON * identity)
        return torch.linalg.solve_triangular(factor, identity, upper=False)

    @torch.no_grad()
    def folded_into(self, convolution: nn.Conv2d) -> nn.Conv2d:
        """Return a 1 × 1 convolution equal to `convolution` followed by this module in evaluation mode."""
        folded, matrix = deepcopy(convolution), self._matrix(self.covariance)
        assert folded.bias is not None
        folded.weight.copy_((matrix @ folded.weight.flatten(1)).view_as(folded.weight))
        folded.bias.copy_(matrix @ (folded.bias - self.mean))
        return folded


def mean_over_processes(tensor: Tensor) -> Tensor:
    """Average a tensor over all processes of the training; gradients flow back to each process."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return all_reduce(tensor) / torch.distributed.get_world_size()
    return tensor


def add_whitening(vqgan: VQGAN) -> None:
    """Append a `Whitening` to `quant_conv`, in place."""
    vqgan.quant_conv = nn.Sequential(vqgan.quant_conv, Whitening(vqgan.config.code_width))  # ty: ignore[invalid-assignment]


def fold_whitening(vqgan: VQGAN) -> VQGAN:
    """Copy a VQ-GAN with its whitening folded into `quant_conv`; without whitening, copy it as it is.

    Returns:
        A VQ-GAN with the same codes and pictures as the original in evaluation mode.
    """
    folded = deepcopy(vqgan)
    if isinstance(vqgan.quant_conv, nn.Sequential):
        convolution, whitening = vqgan.quant_conv
        assert isinstance(convolution, nn.Conv2d)
        assert isinstance(whitening, Whitening)
        folded.quant_conv = whitening.folded_into(convolution)
    return folded


def load_folded(vqgan: VQGAN, folded: VQGAN) -> None:
    """Load the weights of a VQ-GAN without whitening into one with or without, in place.

    Args:
        vqgan: the VQ-GAN in training. If it has a whitening, that starts as the identity.
        folded: a VQ-GAN of the same sizes, from `fold_whitening`.
    """
    for name, part in folded.named_children():
        own = getattr(vqgan, name)
        if isinstance(own, nn.Sequential) and isinstance(own[-1], Whitening):
            own = own[0]
        own.load_state_dict(part.state_dict())


def effective_dimensions(codebook: Tensor) -> float:
    """Compute how many dimensions a codebook uses: the exponential of the entropy of its covariance's spectrum.

    Args:
        codebook: (codes, width).

    Returns:
        A number from 1, if all codes lie on a line, to width, if they vary equally in all directions.
    """
    variances = torch.linalg.eigvalsh(codebook.cpu().double().mT.cov()).clamp(min=0)
    shares = variances / variances.sum()
    return float((-torch.special.xlogy(shares, shares).sum()).exp())
