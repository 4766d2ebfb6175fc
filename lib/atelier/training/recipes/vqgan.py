"""How the VQ-GAN learns: to give back what it was shown, sharply.

Esser, Rombach and Ommer 2021, "Taming Transformers for High-Resolution Image Synthesis", section 3.1, equations 4 to 7.
Two parts take turns: the generator (the VQ-GAN itself) and, from a given share of the training on, the discriminator.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn

from atelier.blocks.classifier import PictureClassifier
from atelier.blocks.vq import MovingAverageQuantizer
from atelier.blocks.vqgan import (
    VQGAN,
    PatchDiscriminator,
    VQGANConfig,
    adaptive_weight,
    hinge_discriminator_loss,
    hinge_generator_loss,
    perceptual_distance,
)
from atelier.training.codebook import prepare_codebook
from atelier.training.data import Batch
from atelier.training.metrics import psnr
from atelier.training.recipe import Inputs, Recipe, Settings, Turn
from atelier.training.recipes.normalization import add_whitening, fold_whitening
from atelier.training.recipes.pictures import grid
from atelier.weights.presets import PERCEPTUAL_FILE


@dataclass(frozen=True)
class VQGANSettings(Settings):
    """The weights of the losses, besides what every recipe needs.

    mse_weight: of the squared error, beside an absolute error of weight 1.
    perceptual_weight: of the distance between a classifier's features.
    codebook_weight: of the codebook's own loss.
    discriminator_weight: of the adversarial loss, on top of the adaptive weight (equation 7).
    discriminator_start: the share of the training after which the discriminator takes part; 1 leaves it out.
    discriminator_ramp: the share of the training over which its weight then rises from 0.
    discriminator_width, discriminator_layers: its size.
    whiten: whether z_e is whitened before it is quantised, see `normalization`.
    """

    batch_size: int = 16
    learning_rate: float = 4e-4
    betas: tuple[float, float] = (0.5, 0.9)
    mse_weight: float = 1.0
    perceptual_weight: float = 0.1
    codebook_weight: float = 1.0
    discriminator_weight: float = 0.4
    discriminator_start: float = 0.5
    discriminator_ramp: float = 0.05
    discriminator_width: int = 32
    discriminator_layers: int = 2
    whiten: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.discriminator_start <= 1:
            raise ValueError(f"discriminator_start was {self.discriminator_start}; it is a share, from 0 to 1.")
        for name in ("mse_weight", "perceptual_weight", "codebook_weight", "discriminator_weight"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} was {getattr(self, name)}; a weight is at least 0.")

    def adversarial_weight(self, progress: float) -> float:
        """The discriminator's weight at a share of the training: 0 before its start, then rising to the full one."""
        if progress < self.discriminator_start or self.discriminator_start == 1:
            return 0.0
        risen = (progress - self.discriminator_start) / self.discriminator_ramp if self.discriminator_ramp > 0 else 1.0
        return self.discriminator_weight * min(1.0, risen)


class Generator(nn.Module):
    """The VQ-GAN with its loss."""

    def __init__(self, vqgan: VQGAN, settings: VQGANSettings) -> None:
        super().__init__()
        self.vqgan = vqgan
        self.settings = settings

    def forward(
        self,
        pictures: Tensor,
        perceptual: PictureClassifier,
        discriminator: PatchDiscriminator,
        adversarial_weight: float,
    ) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """The loss (a scalar), the reconstructions without gradient (n, 3, h, w), and the metrics.

        perceptual: frozen; its features are compared. discriminator: not trained in this turn.
        """
        settings = self.settings
        reconstructions, quantized = self.vqgan(pictures)
        error = reconstructions.float() - pictures
        absolute, squared = error.abs().mean(), error.square().mean()
        with torch.no_grad():
            seen = perceptual.features(pictures)
        distance = perceptual_distance(perceptual.features(reconstructions), seen).mean()
        nll = absolute + settings.mse_weight * squared + settings.perceptual_weight * distance
        loss = nll + settings.codebook_weight * quantized.loss
        metrics = {
            "loss": nll,
            "l1": absolute,
            "psnr": psnr(pictures, reconstructions).mean(),  # decibels
            "perceptual": distance,
            "codebook": quantized.loss,
        }
        if adversarial_weight > 0:
            adversarial = hinge_generator_loss(discriminator(reconstructions))
            pull = adaptive_weight(nll, adversarial, self.vqgan.last_layer)  # lambda of equation 7
            loss = loss + adversarial_weight * pull * adversarial
            metrics |= {"adversarial": adversarial, "adaptive_weight": pull}
        return loss, reconstructions.detach(), metrics


class Discriminator(nn.Module):
    """The patch discriminator with its loss."""

    def __init__(self, discriminator: PatchDiscriminator) -> None:
        super().__init__()
        self.discriminator = discriminator

    def forward(self, pictures: Tensor, reconstructions: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The hinge loss (a scalar) on pictures and their reconstructions, and the metrics."""
        real, fake = self.discriminator(pictures), self.discriminator(reconstructions)
        loss = hinge_discriminator_loss(real, fake)
        return loss, {"discriminator": loss, "told_apart": (real.mean() > fake.mean()).float()}


class VQGANRecipe(Recipe[VQGANSettings, VQGAN]):
    """Trains a VQ-GAN on pictures; captions are not looked at."""

    name = "vqgan"
    channels_last = True
    main_metrics = ("loss", "psnr", "perceptual", "codes_used", "discriminator")
    settings_type = VQGANSettings
    share = 5.0
    reported = ("psnr", "perceptual", "codes_used")

    def __init__(self, config: VQGANConfig, perceptual: PictureClassifier, settings: VQGANSettings) -> None:
        self.settings = settings
        self.config = {"vqgan": asdict(config), "whiten": settings.whiten}
        self.vqgan = VQGAN(config)
        prepare_codebook(self.vqgan)
        if settings.whiten:
            add_whitening(self.vqgan)
        self.perceptual = perceptual.eval().requires_grad_(False)
        self.discriminator = PatchDiscriminator(
            width=settings.discriminator_width, layers=settings.discriminator_layers
        )
        self.parts = {
            "generator": Generator(self.vqgan, settings),
            "discriminator": Discriminator(self.discriminator),
        }
        self.frozen = {"perceptual": self.perceptual}
        self.exported = self.vqgan

    @classmethod
    def needs(cls, settings: VQGANSettings) -> tuple[str, ...]:
        """The perceptual network."""
        return (PERCEPTUAL_FILE,)

    @classmethod
    def build(cls, inputs: Inputs, settings: VQGANSettings) -> VQGANRecipe:
        """The recipe for a preset's VQ-GAN."""
        perceptual = inputs.files[PERCEPTUAL_FILE].load_classifier("perceptual")
        return cls(inputs.preset.vqgan, perceptual, settings)

    def for_export(self, averaged: VQGAN) -> VQGAN:
        """The averaged weights with the whitening folded into `quant_conv`."""
        return fold_whitening(averaged)

    def turns(self, parts: dict[str, nn.Module], batch: Batch, progress: float) -> Iterator[Turn]:
        """The generator's turn, then the discriminator's on the same reconstructions."""
        weight = self.settings.adversarial_weight(progress)
        self.discriminator.requires_grad_(False)
        loss, reconstructions, metrics = parts["generator"](batch.pictures, self.perceptual, self.discriminator, weight)
        codebook = self.vqgan.quantize
        if isinstance(codebook, MovingAverageQuantizer):  # as its `usage()`, but without waiting for a GPU
            metrics["codes_used"] = (codebook.counts > 0.01 * codebook.counts.mean()).float().mean()
        yield Turn("generator", loss, metrics)
        if progress >= self.settings.discriminator_start and self.settings.discriminator_start < 1:
            self.discriminator.requires_grad_(True)
            loss, metrics = parts["discriminator"](batch.pictures, reconstructions)
            yield Turn("discriminator", loss, metrics)

    def sample(self, averaged: VQGAN, batch: Batch) -> Tensor | None:
        """Eight pictures, and below them their reconstructions."""
        pictures = batch.pictures[:8]
        return grid(torch.cat([pictures, averaged(pictures)[0].float().clamp(0, 1)]), columns=len(pictures))
