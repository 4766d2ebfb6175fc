"""The recipe of the VQ-GAN: reconstruct pictures with a perceptual and an adversarial loss.

Esser, Rombach and Ommer 2021, "Taming Transformers for High-Resolution Image Synthesis", section 3.1, equations 4 to 7.
Each step trains two parts, one after the other: the generator, which is the VQ-GAN itself, and, after a given share of
the training, the discriminator.
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
from atelier.training.recipe import Inputs, PartLoss, Recipe, Settings, TrainingError
from atelier.training.recipes.normalization import add_whitening, fold_whitening, load_folded
from atelier.training.recipes.pictures import grid
from atelier.weights.preset import PERCEPTUAL_FILE, Preset, load_weights


@dataclass(frozen=True)
class VQGANSettings(Settings):
    """The settings of the VQ-GAN, with the weights of its losses.

    Attributes:
        mse_weight: the weight of the squared error; the absolute error has weight 1.
        perceptual_weight: the weight of the distance between the features of a classifier.
        codebook_weight: the weight of the loss of the quantiser.
        discriminator_weight: the weight of the adversarial loss, multiplied by the adaptive weight (equation 7).
        discriminator_start: the share of the training after which the discriminator starts; with 1 it is not used.
        discriminator_ramp: the share of the training in which its weight then rises from 0.
        discriminator_width, discriminator_layers: the size of the discriminator.
        whiten: whether z_e is whitened before it is quantised, see `normalization`.

    The other attributes are those of `Settings`.

    Raises:
        TrainingError: if a number is out of range.
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
            raise TrainingError(f"discriminator_start was {self.discriminator_start}; it is a share, from 0 to 1.")
        for name in ("mse_weight", "perceptual_weight", "codebook_weight", "discriminator_weight"):
            if getattr(self, name) < 0:
                raise TrainingError(f"{name} was {getattr(self, name)}; a weight is at least 0.")

    def adversarial_weight(self, progress: float) -> float:
        """Compute the weight of the adversarial loss at a share of the training: 0 before the start, then rising."""
        if progress < self.discriminator_start or self.discriminator_start == 1:
            return 0.0
        risen = (progress - self.discriminator_start) / self.discriminator_ramp if self.discriminator_ramp > 0 else 1.0
        return self.discriminator_weight * min(1.0, risen)


class VQGANWithLoss(nn.Module):
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
        """Compute the loss of the VQ-GAN.

        Args:
            pictures: (n, 3, h, w).
            perceptual: the classifier whose features are compared; frozen.
            discriminator: not trained by this loss.
            adversarial_weight: the weight of the adversarial loss before the adaptive weight; 0 leaves it out.

        Returns:
            The loss (a scalar), the reconstructions (n, 3, h, w) without gradient, and the metrics.
        """
        settings = self.settings
        reconstructions, quantized = self.vqgan(pictures)
        error = reconstructions.float() - pictures
        absolute, squared = error.abs().mean(), error.square().mean()
        with torch.no_grad():
            features = perceptual.features(pictures)
        distance = perceptual_distance(perceptual.features(reconstructions), features).mean()
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
            adaptive = adaptive_weight(nll, adversarial, self.vqgan.last_layer)  # λ of equation 7
            loss = loss + adversarial_weight * adaptive * adversarial
            metrics |= {"adversarial": adversarial, "adaptive_weight": adaptive}
        return loss, reconstructions.detach(), metrics


class DiscriminatorWithLoss(nn.Module):
    """The patch discriminator with its loss."""

    def __init__(self, discriminator: PatchDiscriminator) -> None:
        super().__init__()
        self.discriminator = discriminator

    def forward(self, pictures: Tensor, reconstructions: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute the hinge loss of the discriminator.

        Args:
            pictures: (n, 3, h, w).
            reconstructions: (n, 3, h, w).

        Returns:
            The loss (a scalar), and the metrics. "told_apart" is 1 if the mean logit of the pictures is larger than
            that of the reconstructions, else 0.
        """
        real, fake = self.discriminator(pictures), self.discriminator(reconstructions)
        loss = hinge_discriminator_loss(real, fake)
        return loss, {"discriminator": loss, "told_apart": (real.mean() > fake.mean()).float()}


class VQGANRecipe(Recipe[VQGANSettings, VQGAN]):
    """Trains a VQ-GAN on pictures without their captions.

    Args:
        config: the sizes of the VQ-GAN.
        perceptual: the classifier of the perceptual loss.
        settings: the settings of the optimization.
    """

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
            "generator": VQGANWithLoss(self.vqgan, settings),
            "discriminator": DiscriminatorWithLoss(self.discriminator),
        }
        self.frozen = {"perceptual": self.perceptual}
        self.exported = self.vqgan

    @classmethod
    def needs(cls, settings: VQGANSettings) -> tuple[str, ...]:
        """List the file of the perceptual network."""
        return (PERCEPTUAL_FILE,)

    @classmethod
    def build(cls, inputs: Inputs, settings: VQGANSettings) -> VQGANRecipe:
        """Build the recipe for the VQ-GAN of a preset."""
        perceptual = inputs.files[PERCEPTUAL_FILE].load_classifier("perceptual")
        return cls(inputs.preset.vqgan, perceptual, settings)

    def warm_start(self, preset: Preset) -> None:
        """Start from the VQ-GAN of a preset; its whitening is part of its `quant_conv` and starts as the identity."""
        load_folded(self.vqgan, load_weights(preset, self.name, VQGAN(self.vqgan.config)))

    def for_export(self, averaged: VQGAN) -> VQGAN:
        """Return the averaged weights with the whitening folded into `quant_conv`."""
        return fold_whitening(averaged)

    def losses(self, parts: dict[str, nn.Module], batch: Batch, progress: float) -> Iterator[PartLoss]:
        """Yield the loss of the generator, then that of the discriminator on the same reconstructions."""
        weight = self.settings.adversarial_weight(progress)
        self.discriminator.requires_grad_(False)
        loss, reconstructions, metrics = parts["generator"](batch.pictures, self.perceptual, self.discriminator, weight)
        codebook = self.vqgan.quantize
        if isinstance(codebook, MovingAverageQuantizer):  # as its `usage()`, but stays on the GPU
            metrics["codes_used"] = (codebook.counts > 0.01 * codebook.counts.mean()).float().mean()
        yield PartLoss("generator", loss, metrics)
        if progress >= self.settings.discriminator_start and self.settings.discriminator_start < 1:
            self.discriminator.requires_grad_(True)
            loss, metrics = parts["discriminator"](batch.pictures, reconstructions)
            yield PartLoss("discriminator", loss, metrics)

    def sample(self, averaged: VQGAN, batch: Batch) -> Tensor | None:
        """Lay out eight pictures and, below them, their reconstructions."""
        pictures = batch.pictures[:8]
        return grid(torch.cat([pictures, averaged(pictures)[0].float().clamp(0, 1)]), columns=len(pictures))
