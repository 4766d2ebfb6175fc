"""The recipe of CLIP: match each picture of a batch with its caption.

Radford et al. 2021, "Learning Transferable Visual Models From Natural Language Supervision", section 2.3 and figure 3.
The pipeline ranks pictures decoded by the VQ-GAN, so in training a share of the pictures is reconstructed by it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn

from atelier.blocks.clip import CLIP, CLIPConfig, contrastive_loss
from atelier.blocks.vqgan import VQGAN
from atelier.training.data import Batch
from atelier.training.recipe import Inputs, PartLoss, Recipe, Settings, TrainingError
from atelier.training.recipes.pictures import shifted
from atelier.weights.preset import TOKENIZER_FILE, VQGAN_FILE
from atelier.weights.tokenizer import Tokenizer

HIGHEST_SCALE = math.log(100)  # section 2.5: "clipped to prevent scaling the logits by more than 100"


@dataclass(frozen=True)
class CLIPSettings(Settings):
    """The settings of CLIP. Each picture is compared with all captions of its batch, so large batches train it better.

    Attributes:
        shift: the largest shift of a picture, in pixels.
        reconstructed_share: the share of the pictures that are replaced by their reconstructions.

    The other attributes are those of `Settings`.

    Raises:
        TrainingError: if a number is out of range.
    """

    batch_size: int = 128
    learning_rate: float = 1e-3
    weight_decay: float = 0.1
    warmup_steps: int = 200
    shift: int = 2
    reconstructed_share: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.batch_size < 2:
            raise TrainingError(f"batch_size was {self.batch_size}; CLIP compares pictures, so it must be at least 2.")
        if not 0 <= self.reconstructed_share <= 1:
            raise TrainingError(f"reconstructed_share was {self.reconstructed_share}; it is a share, from 0 to 1.")


class CLIPWithLoss(nn.Module):
    """CLIP with its loss."""

    def __init__(self, clip: CLIP) -> None:
        super().__init__()
        self.clip = clip

    def forward(self, pictures: Tensor, text: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute the contrastive loss.

        Args:
            pictures: (n, 3, h, w).
            text: (n, t) token ids of their captions.

        Returns:
            The loss (a scalar) and the metrics.
        """
        image, caption = self.clip.encode_image(pictures).float(), self.clip.encode_text(text).float()  # (n, e) each
        scale = self.clip.logit_scale.clamp(max=HIGHEST_SCALE).exp()
        loss = contrastive_loss(image, caption, scale)
        correct = (image @ caption.T).argmax(1) == torch.arange(len(image), device=image.device)
        return loss, {"loss": loss, "accuracy": correct.float().mean(), "scale": scale}


class CLIPRecipe(Recipe[CLIPSettings, CLIP]):
    """Trains a CLIP on pictures and their captions.

    Args:
        config: the sizes of CLIP.
        tokenizer: the tokenizer of the captions.
        settings: the settings of the optimization.
        vqgan: reconstructs a share of the pictures; None: no picture is reconstructed.
        trained_with: the hash of the tokenizer's file, by name; a training run with another hash is not resumed.
    """

    name = "clip"
    main_metrics = ("loss", "accuracy")
    settings_type = CLIPSettings
    share = 1.5
    reported = ("loss", "accuracy")

    def __init__(
        self,
        config: CLIPConfig,
        tokenizer: Tokenizer,
        settings: CLIPSettings,
        vqgan: VQGAN | None = None,
        trained_with: dict[str, str] | None = None,
    ) -> None:
        self.settings = settings
        self.trained_with = trained_with or {}
        self.config = {"clip": asdict(config), "trained_with": self.trained_with}
        self.tokenizer = tokenizer
        self.clip = CLIP(config)
        self.vqgan = vqgan.eval().requires_grad_(False) if vqgan is not None else None
        self.parts = {"clip": CLIPWithLoss(self.clip)}
        self.frozen = {"vqgan": self.vqgan} if self.vqgan is not None else {}
        self.exported = self.clip

    @classmethod
    def needs(cls, settings: CLIPSettings) -> tuple[str, ...]:
        """List the files of the tokenizer, and of the VQ-GAN if a share of the pictures is reconstructed."""
        return (TOKENIZER_FILE, *[VQGAN_FILE] * (settings.reconstructed_share > 0))

    @classmethod
    def build(cls, inputs: Inputs, settings: CLIPSettings) -> CLIPRecipe:
        """Build the recipe for the CLIP of a preset. It is not bound to the VQ-GAN, since it suits another one too."""
        vqgan = inputs.files[VQGAN_FILE].load_vqgan() if VQGAN_FILE in inputs.files else None
        tokenizer = inputs.files[TOKENIZER_FILE].load_tokenizer()
        return cls(inputs.preset.clip_config, tokenizer, settings, vqgan, inputs.hashes(TOKENIZER_FILE))

    def losses(self, parts: dict[str, nn.Module], batch: Batch, progress: float) -> Iterator[PartLoss]:
        """Yield one loss: match pictures and captions."""
        pictures = shifted(self._partly_reconstructed(batch.pictures), self.settings.shift)
        text = self.tokenizer.encode(batch.captions, self.clip.config.context_length)
        loss, metrics = parts["clip"](pictures, text.to(pictures.device, non_blocking=True))
        yield PartLoss("clip", loss, metrics)

    @torch.no_grad()
    def _partly_reconstructed(self, pictures: Tensor) -> Tensor:
        count = round(self.settings.reconstructed_share * len(pictures))
        if self.vqgan is None or count == 0:
            return pictures
        # The pictures of a batch are in random order, so the first ones are a random choice.
        reconstructions, _ = self.vqgan(pictures[:count])
        return torch.cat([reconstructions.clamp(0, 1), pictures[count:]])
