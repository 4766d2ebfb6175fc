"""A key-value cache of fixed size for Bart's decoder: the keys and values of the tokens so far."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from atelier.blocks.bart import Bart


@dataclass
class Window:
    """The positions to write and read, shared by all layers; a reference to the whole cache would be a cycle.

    Attributes:
        positions, length: see `StaticCache.set_positions`.
    """

    positions: Tensor
    length: int | None


class StaticCache:
    """The keys and values of the target tokens so far, for all decoder layers; allocated once and updated in place.

    It implements the protocol `DecoderCache` of `atelier.blocks.bart`.

    Args:
        bart: the translator.
        rows: the number of target sequences in a batch.
        device: the device of the cache.
        dtype: the dtype of the keys and values.

    Attributes:
        layers: the cache of each decoder layer.
        dtype: that of the keys and values.
        all_positions: (target_length,) int64: 0, 1, 2, ...
        window: the positions to write and read, see `set_positions`.
    """

    def __init__(self, bart: Bart, rows: int, device: torch.device, dtype: torch.dtype) -> None:
        c, self.dtype = bart.config, dtype
        shape = (2, rows, c.heads, c.target_length, c.width // c.heads)
        # Attention gives masked entries, which are not yet written, the weight 0. But 0 · NaN is NaN, so the memory
        # must be zeroed: here, and in `clear`.
        tensors = [torch.zeros(shape, device=device, dtype=dtype) for _ in range(c.decoder_layers)]
        self.all_positions = torch.arange(c.target_length, device=device)
        self.window = Window(self.all_positions[:1], 1)
        self.layers = [StaticLayerCache(self.window, *keys_and_values) for keys_and_values in tensors]

    def clear(self) -> None:
        """Forget all tokens, for another drawing."""
        for layer in self.layers:
            layer.keys.zero_()
            layer.values.zero_()

    def set_positions(self, positions: Tensor, length: int | None) -> None:
        """Set the positions of the next tokens and the number of positions that they attend to.

        Args:
            positions: (s,) int64, the positions of the next tokens.
            length: the number of positions to attend to, including those of the next tokens. None: the whole cache,
                with a mask for the entries that are not yet written, so that all steps have the same shapes.
        """
        self.window.positions, self.window.length = positions, length

    def positions_and_mask(self, count: int) -> tuple[Tensor, Tensor | None]:
        """Return the positions of the next tokens and their attention mask.

        Args:
            count: s, the number of next tokens.

        Returns:
            The positions (s,), and a mask (s, length), True where a token may attend to a key; None: everywhere.
        """
        positions, length = self.window.positions, self.window.length
        if count == 1 and length is not None:
            return positions, None
        return positions, self.all_positions[:length] <= positions[:, None]


class StaticLayerCache:
    """The cache of one decoder layer.

    Args:
        window: the positions to write and read.
        keys: (rows, heads, target_length, c).
        values: (rows, heads, target_length, c).
    """

    def __init__(self, window: Window, keys: Tensor, values: Tensor) -> None:
        self.window, self.keys, self.values = window, keys, values

    def extend(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Write the keys and values of the next tokens.

        Args:
            keys: (rows, heads, s, c).
            values: (rows, heads, s, c).

        Returns:
            The keys and values to attend to, (rows, heads, length, c) each.
        """
        self.keys.index_copy_(2, self.window.positions, keys)
        self.values.index_copy_(2, self.window.positions, values)
        return self.keys[:, :, : self.window.length], self.values[:, :, : self.window.length]
