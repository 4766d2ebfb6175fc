"""How the translator learns: to write a picture's codes, one after the other, given its caption.

Dayma et al. 2021, "DALL·E Mini": cross-entropy on the codes that the VQ-GAN gives a picture. Some captions are dropped,
so that the model also learns what pictures look like without one, which guidance needs at drawing time.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from atelier.blocks.bart import Bart, BartConfig
from atelier.blocks.vqgan import VQGAN
from atelier.decoding import Sampling, decode, dice
from atelier.training.data import Batch
from atelier.training.loop import Recipe, Settings, Turn
from atelier.training.recipes.pictures import grid
from atelier.weights.tokenizer import Tokenizer


@dataclass(frozen=True)
class BartSettings(Settings):
    """caption_dropout: the share of captions replaced by the empty one. The rest is what every recipe needs."""

    batch_size: int = 64
    learning_rate: float = 1e-3
    weight_decay: float = 0.05
    warmup_steps: int = 300
    caption_dropout: float = 0.15

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.caption_dropout < 1:
            raise ValueError(f"caption_dropout was {self.caption_dropout}; it is a share, at least 0 and below 1.")


def drop_captions(text: Tensor, empty: Tensor, share: float) -> Tensor:
    """Replace each row of token ids (n, t), with probability `share`, by the empty caption's ids (t,)."""
    dropped = (torch.rand(len(text), 1) < share).to(text.device, non_blocking=True)
    return torch.where(dropped, empty, text)


class Translation(nn.Module):
    """The translator with its loss."""

    def __init__(self, bart: Bart) -> None:
        super().__init__()
        self.bart = bart

    def forward(self, text: Tensor, codes: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The cross-entropy in nats per code (a scalar), and the metrics.

        text: (n, t) token ids. codes: (n, s) codes of the pictures.
        """
        logits = self.bart(text, codes)  # (n, s, codes + 1)
        loss = F.cross_entropy(logits.flatten(0, 1).float(), codes.flatten())
        accuracy = (logits.argmax(-1) == codes).float().mean()
        return loss, {"loss": loss, "accuracy": accuracy}


class BartRecipe(Recipe[BartSettings, Bart]):
    """Trains a translator on captions and the codes that a finished VQ-GAN gives their pictures.

    bound_to: what the codes and tokens depend on (the hashes of the VQ-GAN's and the tokenizer's files). A training
    is not resumed with others.
    """

    name = "bart"
    main_metrics = ("loss", "accuracy")

    def __init__(
        self,
        config: BartConfig,
        vqgan: VQGAN,
        tokenizer: Tokenizer,
        settings: BartSettings,
        bound_to: dict[str, str] | None = None,
    ) -> None:
        self.settings = settings
        self.bound_to = bound_to or {}
        self.config = {"bart": asdict(config), "bound_to": self.bound_to}
        self.tokenizer = tokenizer
        self.bart = Bart(config)
        self.vqgan = vqgan.eval().requires_grad_(False)
        self.parts = {"bart": Translation(self.bart)}
        self.frozen = {"vqgan": self.vqgan}
        self.exported = self.bart

    def turns(self, parts: dict[str, nn.Module], batch: Batch, progress: float) -> Iterator[Turn]:
        """One turn: write the codes of the pictures."""
        with torch.no_grad():
            codes = self.vqgan.encode(batch.pictures).indices.flatten(1)  # (n, s)
        text, empty = self._ids(batch.captions, batch.pictures.device)
        loss, metrics = parts["bart"](drop_captions(text, empty, self.settings.caption_dropout), codes)
        yield Turn("bart", loss, metrics)

    def _ids(self, captions: list[str], device: torch.device) -> tuple[Tensor, Tensor]:
        """Ids (n, t) of captions and (t,) of the empty one. Nothing looks at padding, so what all rows share goes."""
        ids = self.tokenizer.encode([*captions, ""], self.bart.config.text_length)
        longest = int(self.bart.text_mask(ids).sum(1).max())  # here, where no device has to be waited for
        ids = ids[:, :longest].to(device, non_blocking=True)
        return ids[:-1], ids[-1]

    def sample(self, averaged: Bart, batch: Batch) -> Tensor | None:
        """Eight captions' pictures, and below them what the translator draws for the captions."""
        pictures = batch.pictures[:8]
        text, empty = self._ids(batch.captions[: len(pictures)], pictures.device)
        throws = dice(0, len(pictures), averaged.config.target_length).to(pictures.device)
        sampling, c = Sampling(guidance=3.0, top_k=64), self.vqgan.config
        *_, codes = decode(averaged, text, empty, sampling, throws, codes=c.codes)  # (n, s)
        drawn = self.vqgan.decode_codes(codes.unflatten(1, (c.grid, c.grid))).float()
        return grid(torch.cat([pictures, drawn]), columns=len(pictures))
