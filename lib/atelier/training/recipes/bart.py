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
    dropped = (torch.rand(len(text), 1) < share).to(text.device)
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
        self.config = {"bart": asdict(config), "bound_to": bound_to or {}}
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
        device = batch.pictures.device
        text, empty = self._ids(batch.captions, device), self._ids([""], device)[0]
        loss, metrics = parts["bart"](drop_captions(text, empty, self.settings.caption_dropout), codes)
        yield Turn("bart", loss, metrics)

    def _ids(self, captions: list[str], device: torch.device) -> Tensor:
        return self.tokenizer.encode(captions, self.bart.config.text_length).to(device)  # (n, t)

    def sample(self, averaged: Bart, batch: Batch) -> Tensor | None:
        """Eight captions' pictures, and below them what the translator draws for the captions."""
        pictures = batch.pictures[:8]
        text = self._ids(batch.captions[: len(pictures)], pictures.device)
        empty = self._ids([""], pictures.device).expand_as(text)
        codes = draw_codes(averaged, text, empty, guidance=3.0, top_k=64)
        side = self.vqgan.config.grid
        drawn = self.vqgan.decode_codes(codes.unflatten(1, (side, side))).float()
        return grid(torch.cat([pictures, drawn]), columns=len(pictures))


@torch.no_grad()
def draw_codes(bart: Bart, text: Tensor, empty: Tensor, guidance: float, top_k: int) -> Tensor:
    """Codes (n, target_length) drawn for captions (n, t), without caches: for a few pictures during training.

    Guidance moves the logits away from those of the empty captions (n, t), as DALL·E Mini's super-conditioning does.
    """
    mask = torch.cat([bart.text_mask(text), bart.text_mask(empty)])  # (2n, t)
    state = bart.encode(torch.cat([text, empty]), mask)  # (2n, t, d)
    tokens = torch.full((len(text), 1), bart.config.decoder_start, device=text.device)
    for _ in range(bart.config.target_length):
        logits = bart.decode(tokens.repeat(2, 1), state, mask)[:, -1, : bart.config.target_vocabulary].float()
        conditional, unconditional = logits.chunk(2)
        best = (unconditional + guidance * (conditional - unconditional)).topk(min(top_k, logits.shape[-1]))
        choice = torch.multinomial(best.values.softmax(-1), 1)
        tokens = torch.cat([tokens, best.indices.gather(1, choice)], dim=1)
    return tokens[:, 1:]
