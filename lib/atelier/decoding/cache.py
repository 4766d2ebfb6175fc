"""A key-value cache of fixed size, in which Bart's decoder keeps the keys and values of the codes written so far."""

from __future__ import annotations

import torch
from torch import Tensor

from atelier.blocks.bart import Bart


class StaticCache:
    """The keys and values of the target tokens so far, for every decoder layer: allocated once and written in place.

    It is a `DecoderCache` of `atelier.blocks.bart`.

    Args:
        bart: the translator.
        rows: target rows in a batch.
        device: where the cache is allocated.
        dtype: of the keys and values.

    Attributes:
        layers: the cache of each decoder layer.
        all_positions: (target_length,) int64, 0, 1, 2, ...
    """

    def __init__(self, bart: Bart, rows: int, device: torch.device, dtype: torch.dtype) -> None:
        c = bart.config
        shape = (2, rows, c.heads, c.target_length, c.width // c.heads)
        # Attention may read an entry before it is written. Its weight is then 0, but 0 · NaN is NaN, so uninitialised
        # memory must be zeroed.
        tensors = [torch.zeros(shape, device=device, dtype=dtype) for _ in range(c.decoder_layers)]
        self.layers = [StaticLayerCache(self, *keys_and_values) for keys_and_values in tensors]
        self.all_positions = torch.arange(c.target_length, device=device)
        self.set_positions(self.all_positions[:1], 1)

    def set_positions(self, positions: Tensor, length: int | None) -> None:
        """Set where the next tokens are written and how much of the cache they attend to.

        Args:
            positions: (s,) int64, the positions of the next tokens.
            length: the number of positions to attend to: those written so far and the new ones. None: the whole cache,
                with a mask that hides the entries not yet written, so that all steps have the same shapes.
        """
        self.positions, self.length = positions, length

    def place(self, count: int) -> tuple[Tensor, Tensor | None]:
        """Give the positions of the next tokens and their mask.

        Args:
            count: the number of next tokens.

        Returns:
            The positions (s,), and which keys each token may attend to, (s, length) bool, or None for all of them.
        """
        if count == 1 and self.length is not None:
            return self.positions, None
        return self.positions, self.all_positions[: self.length] <= self.positions[:, None]


class StaticLayerCache:
    """The cache of one decoder layer.

    Args:
        cache: the cache that the layer belongs to; it holds the positions.
        keys: (rows, heads, target_length, c).
        values: (rows, heads, target_length, c).
    """

    def __init__(self, cache: StaticCache, keys: Tensor, values: Tensor) -> None:
        self.cache, self.keys, self.values = cache, keys, values

    def extend(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Write the keys and values of the next tokens.

        Args:
            keys: (rows, heads, s, c).
            values: (rows, heads, s, c).

        Returns:
            The keys and values to attend to, (rows, heads, length, c) each.
        """
        self.keys.index_copy_(2, self.cache.positions, keys)
        self.values.index_copy_(2, self.cache.positions, values)
        return self.keys[:, :, : self.cache.length], self.values[:, :, : self.cache.length]
