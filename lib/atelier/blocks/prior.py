"""A prior over grids of codes: a small transformer that writes the codes of a picture one after the other.

Papers: van den Oord et al. 2017, "Neural Discrete Representation Learning", section 3.3 (a prior is trained on the
codes once encoder, codebook and decoder are finished); Esser, Rombach and Ommer 2021, "Taming Transformers for
High-Resolution Image Synthesis", section 3.2 (the prior is a transformer).
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class PriorConfig:
    """Sizes of a prior."""

    codes: int = 64  # codes in the codebook
    side: int = 8  # cells along each side of the grid
    width: int = 96  # length of the vector that a cell has between the layers
    heads: int = 4  # attentions side by side in a layer
    layers: int = 2


class CodePrior(nn.Module):
    """A causal transformer: the probabilities of each code, given the codes of the cells before it, row by row."""

    def __init__(self, config: PriorConfig):
        super().__init__()
        self.config = config
        self.embed_codes = nn.Embedding(config.codes + 1, config.width)  # the last row stands for "no code yet"
        self.embed_cells = nn.Embedding(config.side**2, config.width)
        layer = nn.TransformerEncoderLayer(
            config.width, config.heads, 4 * config.width, dropout=0.0, activation="gelu", batch_first=True,
            norm_first=True,
        )  # fmt: skip
        self.layers = nn.TransformerEncoder(
            layer, config.layers, nn.LayerNorm(config.width), enable_nested_tensor=False
        )
        self.to_logits = nn.Linear(config.width, config.codes)

    def forward(self, codes: Tensor) -> Tensor:
        """Predicts each code from those before it.

        Args:
            codes: the first s codes of n pictures, row by row, (n, s), int64.

        Returns:
            Logits (n, s, codes). Those at cell i depend on the codes of the cells before i only.
        """
        before = F.pad(codes[:, :-1], (1, 0), value=self.config.codes)  # each cell sees the code before it
        length = codes.shape[1]
        x = self.embed_codes(before) + self.embed_cells.weight[:length]  # (n, s, width)
        later = nn.Transformer.generate_square_subsequent_mask(length, device=codes.device)  # (s, s), −∞ above
        return self.to_logits(self.layers(x, later, is_causal=True))

    @torch.no_grad()
    def sample(self, n: int) -> Tensor:
        """Draws n grids (n, side, side), cell by cell, each code with the probability that the prior gives it."""
        side, device = self.config.side, self.to_logits.weight.device
        codes = torch.zeros(n, side**2, dtype=torch.long, device=device)
        for cell in range(side**2):
            logits = self(codes[:, : cell + 1])[:, cell]  # (n, codes)
            codes[:, cell] = logits.softmax(1).multinomial(1)[:, 0]
        return codes.reshape(n, side, side)


def prior_loss(prior: CodePrior, codes: Tensor) -> Tensor:
    """The mean of −log p(code | codes before it), in nats.

    Args:
        prior: the model p.
        codes: grids (n, side, side), int64.

    Returns:
        A scalar, the mean over all cells.
    """
    rows = codes.flatten(1)  # (n, side²)
    return F.cross_entropy(prior(rows).flatten(0, 1), rows.flatten())
