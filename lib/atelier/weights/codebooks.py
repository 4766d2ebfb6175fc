"""Weights of models with a codebook, which are stored without the moving averages that only training needs."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from atelier.blocks.vq import MovingAverageQuantizer


def learning_only(module: nn.Module) -> set[str]:
    """The names, in a module's state dict, of the codebooks' moving averages. Stored weights leave them out."""
    return {f"{book}{statistic}" for book in _moving_averages(module) for statistic in ("counts", "sums")}


def with_statistics(module: nn.Module, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Completes weights that hold only the codes of a moving-average codebook, so that they load strictly.

    Args:
        module: the model that the weights are for.
        weights: its state dict, with or without the codebooks' moving averages.

    Returns:
        The weights. Where a codebook's moving averages are missing, each code has the count 1 and itself as its sum,
        so that training goes on from exactly these codes.
    """
    completed = dict(weights)
    for book in _moving_averages(module):
        codes = weights.get(f"{book}embedding.weight")
        if codes is not None and f"{book}counts" not in weights and f"{book}sums" not in weights:
            completed[f"{book}counts"] = torch.ones(len(codes), device=codes.device)
            completed[f"{book}sums"] = codes.detach().float().clone()
    return completed


def _moving_averages(module: nn.Module) -> list[str]:
    """The prefixes, in a module's state dict, of its moving-average codebooks."""
    parts = [name for name, part in module.named_modules() if isinstance(part, MovingAverageQuantizer)]
    return [f"{name}." if name else "" for name in parts]
