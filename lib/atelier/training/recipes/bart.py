"""The recipe of the translator (Bart): predict the codes of a picture, one after the other, from its caption.

Dayma et al. 2021, "DALL·E Mini": cross-entropy on the codes that the VQ-GAN gives a picture. A share of the captions is
replaced by the empty caption, so that the model also learns codes without a caption, which guidance needs.

The way of a caption and its picture to the loss: `PaintedSource.portion` paints a scene and describes it in a caption;
`complete_store` encodes the picture and stores its codes with the caption; `StoredCodes` makes batches of both;
`BartRecipe.losses` converts the captions to token ids; and `BartWithLoss` predicts the codes from them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from torch import Tensor, nn

from atelier.blocks.bart import Bart, BartConfig
from atelier.blocks.vqgan import VQGAN
from atelier.decoding import Sampling, decode, uniform_numbers
from atelier.training.codes import CodedBatch, CodeStore, StoredCodes, StoreKey, complete_store
from atelier.training.data import PictureSource, derive_seed
from atelier.training.recipe import Inputs, PartLoss, Recipe, Settings, TrainingError
from atelier.training.recipes.pictures import grid
from atelier.weights.preset import TOKENIZER_FILE, VQGAN_FILE
from atelier.weights.tokenizer import Tokenizer


@dataclass(frozen=True)
class BartSettings(Settings):
    """The settings of the translator.

    Attributes:
        caption_dropout: the share of captions replaced by the empty caption.
        wordings: captions stored for each picture.
        distinct: the number of pictures whose codes are computed before the training.

    The other attributes are those of `Settings`.

    Raises:
        TrainingError: if a number is out of range.
    """

    batch_size: int = 64
    learning_rate: float = 1e-3
    weight_decay: float = 0.05
    warmup_steps: int = 300
    caption_dropout: float = 0.15
    wordings: int = 4
    distinct: int = 65536

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.caption_dropout < 1:
            raise TrainingError(f"caption_dropout was {self.caption_dropout}; it is a share, at least 0 and below 1.")
        for name in ("wordings", "distinct"):
            if getattr(self, name) < 1:
                raise TrainingError(f"{name} was {getattr(self, name)}; it must be at least 1.")


def drop_captions(text: Tensor, empty: Tensor, share: float) -> Tensor:
    """Replace a share of the captions by the empty caption.

    Args:
        text: (n, t) token ids.
        empty: (t,) token ids of the empty caption.
        share: the probability with which each caption is replaced.

    Returns:
        (n, t) token ids.
    """
    dropped = (torch.rand(len(text), 1) < share).to(text.device, non_blocking=True)
    return torch.where(dropped, empty, text)


class BartWithLoss(nn.Module):
    """The translator with its loss."""

    def __init__(self, bart: Bart) -> None:
        super().__init__()
        self.bart = bart

    def forward(self, text: Tensor, codes: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute the cross-entropy of the codes.

        Args:
            text: (n, t) token ids.
            codes: (n, s), codes of the pictures.

        Returns:
            The cross-entropy in nats per code (a scalar), and the metrics.
        """
        logits = self.bart(text, codes)  # (n, s, codes + 1)
        loss = F.cross_entropy(logits.flatten(0, 1).float(), codes.flatten())
        accuracy = (logits.argmax(-1) == codes).float().mean()
        return loss, {"loss": loss, "accuracy": accuracy}


class BartRecipe(Recipe[BartSettings, Bart]):
    """Trains a translator on captions and the codes that a trained VQ-GAN gives to their pictures.

    Args:
        config: the sizes of the translator.
        vqgan: the trained VQ-GAN.
        tokenizer: the tokenizer of the captions.
        settings: the settings of the optimization.
        trained_with: the hashes of the files of the VQ-GAN and the tokenizer, by name; a run with other hashes is not
            resumed.
    """

    name = "bart"
    main_metrics = ("loss", "accuracy")
    settings_type = BartSettings
    share = 7.0
    reported = ("loss", "accuracy")

    def __init__(
        self,
        config: BartConfig,
        vqgan: VQGAN,
        tokenizer: Tokenizer,
        settings: BartSettings,
        trained_with: dict[str, str] | None = None,
    ) -> None:
        self.settings = settings
        self.trained_with = trained_with or {}
        self.config = {"bart": asdict(config), "trained_with": self.trained_with}
        self.tokenizer = tokenizer
        self.bart = Bart(config)
        self.vqgan = vqgan.eval().requires_grad_(False)
        self.parts = {"bart": BartWithLoss(self.bart)}
        self.frozen = {"vqgan": self.vqgan}
        self.exported = self.bart

    @classmethod
    def needs(cls, settings: BartSettings) -> tuple[str, ...]:
        """List the files of the VQ-GAN, which gives the codes, and of the tokenizer."""
        return (VQGAN_FILE, TOKENIZER_FILE)

    @classmethod
    def build(cls, inputs: Inputs, settings: BartSettings) -> BartRecipe:
        """Build the recipe for the translator of a preset."""
        vqgan, tokenizer = inputs.files[VQGAN_FILE].load_vqgan(), inputs.files[TOKENIZER_FILE].load_tokenizer()
        return cls(inputs.preset.bart, vqgan, tokenizer, settings, inputs.hashes(VQGAN_FILE, TOKENIZER_FILE))

    def batches(
        self, source: PictureSource, folder: Path, accelerator: Accelerator, stop: Callable[[], bool]
    ) -> StoredCodes | None:
        """Complete the store of codes in the folder and make batches from it; None if the store is incomplete."""
        key = StoreKey(
            vqgan=self.trained_with.get(VQGAN_FILE, ""),
            source=source.identity,
            pictures=source.count(self.settings.distinct),
            captions=self.settings.wordings,
        )
        store = CodeStore(folder / "codes", key)
        if not complete_store(store, self.vqgan, source, accelerator, stop):
            return None
        return StoredCodes(store, self.settings.batch_size, derive_seed(source.identity, "batches"))

    def losses(self, parts: dict[str, nn.Module], batch: CodedBatch, progress: float) -> Iterator[PartLoss]:
        """Yield one loss: predict the codes of the pictures."""
        text, empty = self._ids(batch.captions, batch.codes.device)
        loss, metrics = parts["bart"](drop_captions(text, empty, self.settings.caption_dropout), batch.codes)
        yield PartLoss("bart", loss, metrics)

    def _ids(self, captions: list[str], device: torch.device) -> tuple[Tensor, Tensor]:
        """Encode captions to ids (n, t) and the empty caption to (t,); columns of padding alone are cut off."""
        length = self.bart.config.text_length
        ids, empty = self.tokenizer.encode(captions, length), self.tokenizer.empty_caption(length)
        longest = int(self.bart.text_mask(ids).sum(1).max())  # on the CPU, so that there is no wait for a GPU
        ids, empty = ids[:, :longest], empty[:longest]
        return ids.to(device, non_blocking=True), empty.to(device, non_blocking=True)

    def sample(self, averaged: Bart, batch: CodedBatch) -> Tensor | None:
        """Lay out eight pictures, decoded from their codes, and below them drawings of their captions."""
        codes, captions = batch.codes[:8], batch.captions[:8]
        text, empty = self._ids(captions, codes.device)
        uniforms = uniform_numbers(0, len(captions), averaged.config.target_length).to(codes.device)
        sampling, c = Sampling(guidance=3.0, top_k=64), self.vqgan.config
        *_, drawn = decode(averaged, text, empty, sampling, uniforms, code_count=c.codes)  # (n, s)
        shown = torch.cat([codes, drawn]).unflatten(1, (c.grid, c.grid))
        return grid(self.vqgan.decode_codes(shown).float(), columns=len(captions))
