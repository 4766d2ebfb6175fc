"""The VQ-GAN's decoder as a graph: from codes to pictures."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from atelier.blocks.vqgan import VQGAN
from atelier.export.graph import Axis, Graph, GraphInput


class PictureDecoder(nn.Module):
    """`VQGAN.decode_codes` without its check of the codes, which depends on their values and cannot be traced.

    Args:
        vqgan: the VQ-GAN.
    """

    def __init__(self, vqgan: VQGAN) -> None:
        super().__init__()
        self.vqgan = vqgan

    def forward(self, codes: Tensor) -> Tensor:
        """Decode codes (n, h, w), int64, to pictures (n, 3, H, W), from 0 to 1."""
        return self.vqgan.decode(self.vqgan.quantize.lookup(codes)).clamp(0, 1)


def picture_decoder(vqgan: VQGAN) -> Graph:
    """The graph of `PictureDecoder`."""
    grid = vqgan.config.grid
    codes = GraphInput(torch.zeros(2, grid, grid, dtype=torch.long), {0: Axis("pictures")})
    return Graph("picture_decoder", PictureDecoder(vqgan), {"codes": codes}, ("pictures",))
