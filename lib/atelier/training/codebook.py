"""What a codebook needs in training besides its block: float32 under autocast, and one codebook in all processes."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from atelier.blocks.vq import MovingAverageQuantizer, Quantized, VectorQuantizer


class Float32Quantizer(VectorQuantizer):
    """Quantises in float32 under autocast: in bfloat16, distances to neighbouring codes are often equal."""

    def forward(self, z_e: Tensor) -> Quantized:
        """Quantises z_e (n, width, h, w), of any floating-point type; z_q and the loss are float32."""
        with torch.autocast(z_e.device.type, enabled=False):
            return super().forward(z_e.float())


class SharedQuantizer(Float32Quantizer, MovingAverageQuantizer):
    """A moving-average codebook in float32 that stays the same in all processes that train together."""

    def random_vectors(self, vectors: Tensor) -> Tensor:
        """The first process's random vectors (codes, width), in every process."""
        chosen = super().random_vectors(vectors)
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.broadcast(chosen, 0)
        return chosen

    def batch_statistics(self, vectors: Tensor, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Counts (codes,) and sums (codes, width) over the batches of all processes."""
        counts, sums = super().batch_statistics(vectors, indices)
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.all_reduce(counts)
            torch.distributed.all_reduce(sums)
        return counts, sums


def prepare_codebook(model: nn.Module) -> None:
    """Prepares every codebook inside a model for training with mixed precision and in several processes.

    A quantiser keeps its parameters, buffers and their names; only its class changes. With a single process and without
    autocast the results are exactly the same.

    Args:
        model: a quantiser, or a model with any number of them inside.
    """
    for part in model.modules():
        if isinstance(part, MovingAverageQuantizer):
            part.__class__ = SharedQuantizer
        elif isinstance(part, VectorQuantizer):
            part.__class__ = Float32Quantizer
