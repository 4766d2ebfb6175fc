"""The moving averages of a codebook, which only training needs and which are not stored with the weights."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from atelier.blocks.vq import MovingAverageQuantizer


def moving_average_keys(module: nn.Module) -> set[str]:
    """Collect the keys, in a module's state dict, of the moving averages of its codebooks."""
    return {f"{prefix}{name}" for prefix in _codebook_prefixes(module) for name in ("counts", "sums")}


def with_moving_averages(module: nn.Module, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Add the moving averages that stored weights lack, so that the weights load strictly.

    Args:
        module: the model that the weights are for.
        weights: its state dict, with or without the moving averages of codebooks.

    Returns:
        The weights. Where the moving averages of a codebook are missing, each code has the count 1 and itself as its
        sum, so that training continues from exactly these codes.
    """
    completed = dict(weights)
    for prefix in _codebook_prefixes(module):
        codes = weights.get(f"{prefix}embedding.weight")
        if codes is not None and f"{prefix}counts" not in weights and f"{prefix}sums" not in weights:
            completed[f"{prefix}counts"] = torch.ones(len(codes), device=codes.device)
            completed[f"{prefix}sums"] = codes.detach().float().clone()
    return completed


def _codebook_prefixes(module: nn.Module) -> list[str]:
    """List the prefixes, in a module's state dict, of its moving-average codebooks."""
    parts = [name for name, part in module.named_modules() if isinstance(part, MovingAverageQuantizer)]
    return [f"{name}." if name else "" for name in parts]
