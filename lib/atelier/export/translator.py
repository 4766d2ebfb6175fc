"""The translator as two graphs: one reads a caption, the other writes one code.

A program runs the first once for each prompt, and the second once for each code. In shapes, p are prompts, m the
pictures of each, t text tokens, k codes written so far, L the decoder's layers, h heads and c the width of a head.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from atelier.blocks.bart import Bart, KeysValues
from atelier.export.graph import Axis, Graph, GraphInput

PROMPTS, PICTURES, WRITTEN = Axis("prompts"), Axis("pictures"), Axis("written")


class CaptionReader(nn.Module):
    """The encoder, and the keys and values into which the decoder's layers project its state.

    Args:
        bart: the translator.
    """

    def __init__(self, bart: Bart) -> None:
        super().__init__()
        self.bart = bart

    def forward(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Read captions.

        Args:
            ids: (p, t) int64.

        Returns:
            The keys and values of every decoder layer, (L, 2, p, h, t, c), and the mask (p, t) bool, False at padding.
        """
        mask = self.bart.text_mask(ids)
        projected = self.bart.project(self.bart.encode(ids, mask))
        return torch.stack([torch.stack(layer) for layer in projected]), mask


class GrowingLayerCache:
    """The cache of one decoder layer; it is a `LayerCache` of `atelier.blocks.bart`.

    Args:
        past: the keys and values of the codes written so far, (2, n, h, k, c).
    """

    def __init__(self, past: Tensor) -> None:
        self.past = past
        self.added = past[..., :0, :]

    def extend(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Append keys and values (n, h, 1, c), and return those of all codes, (n, h, k + 1, c) each."""
        self.added = torch.stack([keys, values])  # (2, n, h, 1, c)
        keys, values = torch.cat([self.past, self.added], dim=3)
        return keys, values


class GrowingCache:
    """The cache of all decoder layers for one step; it is a `DecoderCache` of `atelier.blocks.bart`.

    Args:
        past: the keys and values of the codes written so far, (L, 2, n, h, k, c).
        position: of the newest code, (1,) int64.
    """

    def __init__(self, past: Tensor, position: Tensor) -> None:
        self.layers = [GrowingLayerCache(layer) for layer in past]
        self.position = position

    def positions_and_mask(self, count: int) -> tuple[Tensor, None]:
        """Give the position of the newest code; it attends to all codes, so there is no mask."""
        return self.position, None


class CodeWriter(nn.Module):
    """One step of the decoder.

    Args:
        bart: the translator.
        codes: logits are given for codes below this number.
    """

    def __init__(self, bart: Bart, codes: int) -> None:
        super().__init__()
        self.bart, self.codes = bart, codes

    def forward(
        self, newest: Tensor, position: Tensor, memory: Tensor, mask: Tensor, cache: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Read the newest code of each picture.

        Args:
            newest: (p, m) int64, the codes that were chosen last; in the first step the start token.
            position: (1,) int64, the number of codes before them: k.
            memory, mask: the outputs of `CaptionReader`.
            cache: (k, L, 2, p, m, h, c), the outputs `added` of all earlier steps, one after the other. The axis of the
                codes comes first, so that a program only has to append.

        Returns:
            The logits of the next code, (p, m, codes), and what this step adds to the cache, (1, L, 2, p, m, h, c).
        """
        shape = newest.shape
        past = cache.flatten(3, 4).permute(1, 2, 3, 4, 0, 5)  # (L, 2, p · m, h, k, c)
        grown = GrowingCache(past, position)
        text = [KeysValues(*layer) for layer in memory]
        hidden = self.bart.hidden_states(newest.flatten()[:, None], text, mask, grown)  # (p · m, 1, d)
        logits = self.bart.logits(hidden[:, 0])[:, : self.codes]
        added = torch.stack([layer.added for layer in grown.layers])  # (L, 2, p · m, h, 1, c)
        return logits.unflatten(0, shape), added.permute(4, 0, 1, 2, 3, 5).unflatten(3, shape)


def caption_reader(bart: Bart) -> Graph:
    """The graph of `CaptionReader`."""
    ids = torch.full((2, 5), bart.config.pad_token + 1)
    inputs = {"ids": GraphInput(ids, {0: PROMPTS, 1: _tokens(bart)})}
    return Graph("caption_reader", CaptionReader(bart), inputs, ("memory", "mask"))


def code_writer(bart: Bart, codes: int) -> Graph:
    """The graph of `CodeWriter`; for its arguments see there."""
    c, layers, width = bart.config, bart.config.decoder_layers, bart.config.width // bart.config.heads
    p, m, t, k = 2, 3, 5, 4
    tokens = _tokens(bart)
    inputs = {
        "newest": GraphInput(torch.zeros(p, m, dtype=torch.long), {0: PROMPTS, 1: PICTURES}),
        "position": GraphInput(torch.tensor([k]), {}),
        "memory": GraphInput(torch.zeros(layers, 2, p, c.heads, t, width), {2: PROMPTS, 4: tokens}),
        "mask": GraphInput(torch.ones(p, t, dtype=torch.bool), {0: PROMPTS, 1: tokens}),
        "cache": GraphInput(torch.zeros(k, layers, 2, p, m, c.heads, width), {0: WRITTEN, 3: PROMPTS, 4: PICTURES}),
    }
    return Graph("code_writer", CodeWriter(bart, codes), inputs, ("logits", "added"))


def _tokens(bart: Bart) -> Axis:
    return Axis("tokens", bart.config.text_length)
