"""Averages over a training: of the weights, and of the metrics between two reports."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn


class AveragedWeights:
    """An exponential moving average of a module's weights.

    The decay is warmed up as min(decay, (1 + t) / (10 + t)), so that a short training does not end with an average of
    its beginning. What gradients do not train is copied: a codebook and a BatchNorm's statistics are moving averages
    already.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.module = deepcopy(module).eval().requires_grad_(False)
        self.decay = decay
        # Looked up once: a small network's step on a GPU is hardly longer than finding two hundred tensors by name.
        kept, seen = self.module.state_dict(), module.state_dict()
        trained = {name for name, parameter in module.named_parameters() if parameter.requires_grad}
        self._trained = [(kept[name], seen[name]) for name in seen if name in trained]
        self._copied = [(kept[name], seen[name]) for name in seen if name not in trained]

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the module's weights after step `step` (from 0)."""
        decay = min(self.decay, (1 + step) / (10 + step))
        kept, seen = zip(*self._trained, strict=True)
        torch._foreach_lerp_(kept, seen, 1 - decay)
        for kept, seen in self._copied:
            kept.copy_(seen)


class Meter:
    """Running means of metrics between two reports."""

    def __init__(self) -> None:
        self.sums: dict[str, Tensor] = {}
        self.counts: dict[str, int] = {}

    def add(self, metrics: dict[str, Tensor]) -> None:
        """Add one value to each metric named; they stay on their device, so that nothing waits for them."""
        for name, value in metrics.items():
            value = value.detach().double() if value.device.type != "mps" else value.detach().float()
            self.sums[name] = self.sums[name] + value if name in self.sums else value
            self.counts[name] = self.counts.get(name, 0) + 1

    def means(self) -> dict[str, float]:
        """The mean of each metric over the values added."""
        return {name: float(total) / self.counts[name] for name, total in self.sums.items()}

    def state(self) -> dict[str, Any]:
        """What `restored` needs."""
        return {"sums": {name: total.cpu() for name, total in self.sums.items()}, "counts": dict(self.counts)}

    @classmethod
    def restored(cls, state: dict[str, Any], device: torch.device) -> Meter:
        """A meter as it was when `state` was taken."""
        meter = cls()
        meter.sums = {name: total.to(device) for name, total in state["sums"].items()}
        meter.counts = dict(state["counts"])
        return meter
