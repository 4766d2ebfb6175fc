"""The keys and values that a translator's decoder has already computed, kept so that no step computes them again."""

from __future__ import annotations

import torch
from torch import Tensor

from atelier.blocks.bart import Bart


class Memory:
    """The keys and values of the tokens so far, for every decoder layer: allocated once and written in place.

    Attributes:
        layers: the memory of each decoder layer.
        places: (target_length,) the numbers of the places that tokens can stand at.
    """

    def __init__(self, bart: Bart, rows: int, device: torch.device, dtype: torch.dtype) -> None:
        c = bart.config
        shape = (2, rows, c.heads, c.target_length, c.width // c.heads)
        # Zeros, as a place may be looked at before it is filled: with weight 0, but 0 times rubbish can be no number.
        held = [torch.zeros(shape, device=device, dtype=dtype) for _ in range(c.decoder_layers)]
        self.layers = [LayerMemory(self, *keys_and_values) for keys_and_values in held]
        self.places = torch.arange(c.target_length, device=device)
        self.look_at(self.places[:1], 1)

    def look_at(self, positions: Tensor, shown: int | None) -> None:
        """Get ready for new tokens.

        Args:
            positions: (s,) int64, the places where they are going to stand.
            shown: how many places they look at: all that are filled, the new ones included. None: all there are, and a
                mask hides the empty ones, so that every step has the same shapes.
        """
        self.positions, self.shown = positions, shown

    def place(self, count: int) -> tuple[Tensor, Tensor | None]:
        """Positions (s,) of the new tokens, and which keys each may see (s, shown), None for all."""
        if count == 1 and self.shown is not None:
            return self.positions, None
        return self.positions, self.places[: self.shown] <= self.positions[:, None]


class LayerMemory:
    """One layer's share of a memory: keys and values (rows, heads, target_length, c)."""

    def __init__(self, memory: Memory, keys: Tensor, values: Tensor) -> None:
        self.memory, self.keys, self.values = memory, keys, values

    def extend(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Write the new keys and values (rows, heads, s, c); return those to look at, (rows, heads, shown, c) each."""
        self.keys.index_copy_(2, self.memory.positions, keys)
        self.values.index_copy_(2, self.memory.positions, values)
        return self.keys[:, :, : self.memory.shown], self.values[:, :, : self.memory.shown]
