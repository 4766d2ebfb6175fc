"""Both towers of a CLIP as graphs. The dot product of their vectors, times 100, is the score of a picture."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from atelier.blocks.clip import CLIP
from atelier.export.graph import Axis, Graph, GraphInput


class PictureTower(nn.Module):
    """`CLIP.encode_image`.

    Args:
        clip: the CLIP.
    """

    def __init__(self, clip: CLIP) -> None:
        super().__init__()
        self.clip = clip

    def forward(self, pictures: Tensor) -> Tensor:
        """Encode pictures (n, 3, image_size, image_size), from 0 to 1, as vectors (n, e) of length 1."""
        return self.clip.encode_image(pictures)


class TextTower(nn.Module):
    """`CLIP.encode_text` without its check for end tokens, which depends on the ids and cannot be traced.

    Args:
        clip: the CLIP.
    """

    def __init__(self, clip: CLIP) -> None:
        super().__init__()
        self.clip = clip

    def forward(self, ids: Tensor) -> Tensor:
        """Encode captions, as ids (n, t) with an end token in each row, as vectors (n, e) of length 1."""
        clip, end = self.clip, self.clip.config.end_token
        position = (ids if end is None else (ids == end).int()).argmax(dim=-1)  # (n,), of the first end token
        x = clip.token_embedding(ids) + clip.positional_embedding[: ids.shape[1]]  # (n, t, d)
        x = clip.ln_final(clip.transformer(x))
        x = x.gather(1, position[:, None, None].expand(-1, 1, x.shape[2]))[:, 0]  # (n, d)
        return F.normalize(x @ clip.text_projection, dim=-1)


def picture_tower(clip: CLIP) -> Graph:
    """The graph of `PictureTower`."""
    pictures = GraphInput(torch.zeros(2, 3, clip.config.image_size, clip.config.image_size), {0: Axis("pictures")})
    return Graph("picture_tower", PictureTower(clip), {"pictures": pictures}, ("vectors",))


def text_tower(clip: CLIP) -> Graph:
    """The graph of `TextTower`; its rows of ids have the length that the CLIP was trained with."""
    ids = torch.ones(2, clip.config.context_length, dtype=torch.long)
    return Graph("text_tower", TextTower(clip), {"ids": GraphInput(ids, {0: Axis("texts")})}, ("vectors",))
