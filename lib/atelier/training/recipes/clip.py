"""How the critic learns: of a batch of pictures and captions, to find out which belong together.

Radford et al. 2021, "Learning Transferable Visual Models From Natural Language Supervision", section 2.3 and figure 3.
The critic will rank pictures that went through the VQ-GAN, so a share of its pictures goes through it in training too.
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
from atelier.training.recipe import Inputs, Recipe, Settings, TrainingError, Turn
from atelier.training.recipes.pictures import shifted
from atelier.weights.preset import TOKENIZER_FILE, VQGAN_FILE
from atelier.weights.tokenizer import Tokenizer

HIGHEST_SCALE = math.log(100)  # section 2.5: "clipped to prevent scaling the logits by more than 100"


@dataclass(frozen=True)
class CLIPSettings(Settings):
    """shift: pixels a picture is moved by, at most. reconstructed_share: share of the pictures seen as the VQ-GAN
    gives them back. The rest is what every recipe needs; every picture of a batch is compared with all its captions,
    so a large batch makes a harder and better task.
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
            raise TrainingError("batch_size was 1; with one picture there is no other caption to tell it from.")
        if not 0 <= self.reconstructed_share <= 1:
            raise TrainingError(f"reconstructed_share was {self.reconstructed_share}; it is a share, from 0 to 1.")


class Matching(nn.Module):
    """The critic with its loss."""

    def __init__(self, clip: CLIP) -> None:
        super().__init__()
        self.clip = clip

    def forward(self, pictures: Tensor, text: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The contrastive loss (a scalar) of pictures (n, 3, h, w) and captions (n, t), and the metrics."""
        image, caption = self.clip.encode_image(pictures).float(), self.clip.encode_text(text).float()  # (n, e) each
        scale = self.clip.logit_scale.clamp(max=HIGHEST_SCALE).exp()
        loss = contrastive_loss(image, caption, scale)
        found = (image @ caption.T).argmax(1) == torch.arange(len(image), device=image.device)
        return loss, {"loss": loss, "accuracy": found.float().mean(), "scale": scale}


class CLIPRecipe(Recipe[CLIPSettings, CLIP]):
    """Trains a CLIP on pictures and their captions.

    vqgan: gives back a share of the pictures; None leaves all of them as they are.
    bound_to: the hash of the tokenizer's file. A training is not resumed with another.
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
        bound_to: dict[str, str] | None = None,
    ) -> None:
        self.settings = settings
        self.bound_to = bound_to or {}
        self.config = {"clip": asdict(config), "bound_to": self.bound_to}
        self.tokenizer = tokenizer
        self.clip = CLIP(config)
        self.vqgan = vqgan.eval().requires_grad_(False) if vqgan is not None else None
        self.parts = {"clip": Matching(self.clip)}
        self.frozen = {"vqgan": self.vqgan} if self.vqgan is not None else {}
        self.exported = self.clip

    @classmethod
    def needs(cls, settings: CLIPSettings) -> tuple[str, ...]:
        """The tokenizer, and the VQ-GAN where reconstructions are shown."""
        return (TOKENIZER_FILE, *[VQGAN_FILE] * (settings.reconstructed_share > 0))

    @classmethod
    def build(cls, inputs: Inputs, settings: CLIPSettings) -> CLIPRecipe:
        """The recipe for a preset's CLIP. It is not bound to the VQ-GAN: another's pictures would do nearly as well."""
        vqgan = inputs.files[VQGAN_FILE].load_vqgan() if VQGAN_FILE in inputs.files else None
        tokenizer = inputs.files[TOKENIZER_FILE].load_tokenizer()
        return cls(inputs.preset.clip_sizes, tokenizer, settings, vqgan, inputs.hashes(TOKENIZER_FILE))

    def turns(self, parts: dict[str, nn.Module], batch: Batch, progress: float) -> Iterator[Turn]:
        """One turn: match pictures and captions."""
        pictures = shifted(self._partly_reconstructed(batch.pictures), self.settings.shift)
        text = self.tokenizer.encode(batch.captions, self.clip.config.context_length)
        loss, metrics = parts["clip"](pictures, text.to(pictures.device, non_blocking=True))
        yield Turn("clip", loss, metrics)

    @torch.no_grad()
    def _partly_reconstructed(self, pictures: Tensor) -> Tensor:
        count = round(self.settings.reconstructed_share * len(pictures))
        if self.vqgan is None or count == 0:
            return pictures
        # Batches are in no order, so the first ones are as good a choice as any.
        reconstructions, _ = self.vqgan(pictures[:count])
        return torch.cat([reconstructions.clamp(0, 1), pictures[count:]])
