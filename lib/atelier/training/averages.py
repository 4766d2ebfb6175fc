"""Averages in a training run: a moving average of the weights, and means of the metrics between two reports."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn


class AveragedWeights:
    """An exponential moving average of a module's weights.

    The decay of step t is min(decay, (1 + t) / (10 + t)), so that the first weights count little in a short training.
    Tensors without gradient, such as the codebook and the statistics of BatchNorm, are copied: they are moving averages
    already.

    Args:
        module: the module in training.
        decay: the share of the average that one step keeps, in [0, 1).

    Attributes:
        module: a copy of the module with the averaged weights.
        decay: as given.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.module = deepcopy(module).eval().requires_grad_(False)
        self.decay = decay
        # The tensors are looked up once: finding two hundred tensors by name takes about as long as a step of a small
        # network on a GPU.
        averages, current = self.module.state_dict(), module.state_dict()
        trained = {name for name, parameter in module.named_parameters() if parameter.requires_grad}
        self._trained = [(averages[name], current[name]) for name in current if name in trained]
        self._copied = [(averages[name], current[name]) for name in current if name not in trained]

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Update the average with the weights after step `step`, counted from 0."""
        decay = min(self.decay, (1 + step) / (10 + step))
        averages, current = zip(*self._trained, strict=True)
        torch._foreach_lerp_(averages, current, 1 - decay)
        for copy, tensor in self._copied:
            copy.copy_(tensor)


class Meter:
    """Running means of metrics between two reports."""

    def __init__(self) -> None:
        self.sums: dict[str, Tensor] = {}
        self.counts: dict[str, int] = {}

    def add(self, metrics: dict[str, Tensor]) -> None:
        """Add one value of each metric given; values stay on their device, so that the CPU does not wait for a GPU."""
        for name, value in metrics.items():
            value = value.detach().double() if value.device.type != "mps" else value.detach().float()
            self.sums[name] = self.sums[name] + value if name in self.sums else value
            self.counts[name] = self.counts.get(name, 0) + 1

    def means(self) -> dict[str, float]:
        """Compute the mean of each metric over the values added."""
        return {name: float(total) / self.counts[name] for name, total in self.sums.items()}

    def state(self) -> dict[str, Any]:
        """Return the state from which `restored` makes the meter again."""
        return {"sums": {name: total.cpu() for name, total in self.sums.items()}, "counts": dict(self.counts)}

    @classmethod
    def restored(cls, state: dict[str, Any], device: torch.device) -> Meter:
        """Make a meter from what `state` returned, with its sums on a device."""
        meter = cls()
        meter.sums = {name: total.to(device) for name, total in state["sums"].items()}
        meter.counts = dict(state["counts"])
        return meter
