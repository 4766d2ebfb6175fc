"""The recipe of the vanilla GAN: generator and discriminator are trained in turn.

Goodfellow et al. 2014, "Generative Adversarial Networks", algorithm 1 with one step of the discriminator for each step
of the generator, and the non-saturating loss of the generator (section 3).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from atelier.blocks.gan import Discriminator, GANConfig, Generator, discriminator_loss, generator_loss
from atelier.training.data import Batch
from atelier.training.recipe import PartLoss, Recipe, Settings, TrainingError
from atelier.training.recipes.pictures import grid

SAMPLES = 32


@dataclass(frozen=True)
class GANSettings(Settings):
    """The settings of the GAN, with little momentum (Radford et al. 2015) and almost no clipping.

    Attributes:
        learning_rate: the learning rate of the generator.
        discriminator_pace: the learning rate of the discriminator, as a share of the generator's. With the same rate
            the discriminator wins long before the generator draws well, since there are few different sprites.
        discriminator_width: the width of the discriminator.

    The other attributes are those of `Settings`.

    Raises:
        TrainingError: if a number is out of range.
    """

    batch_size: int = 32
    learning_rate: float = 2e-3
    betas: tuple[float, float] = (0.5, 0.99)
    clip_norm: float = 10.0
    discriminator_pace: float = 0.25
    discriminator_width: int = 64

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.discriminator_pace <= 0:
            raise TrainingError(f"discriminator_pace was {self.discriminator_pace}; it must be above 0.")

    def optimizer(self, module: nn.Module) -> Optimizer:
        """Make the optimizer of a part; the discriminator's multiplies each learning rate by `discriminator_pace`."""
        optimizer = super().optimizer(module)
        if isinstance(module, DiscriminatorWithLoss):
            optimizer.register_step_pre_hook(self._slow_down)
        return optimizer

    def _slow_down(self, optimizer: Optimizer, *_: object) -> None:
        for group in optimizer.param_groups:
            group["lr"] *= self.discriminator_pace


class GeneratorWithLoss(nn.Module):
    """The generator with its loss."""

    def __init__(self, generator: Generator) -> None:
        super().__init__()
        self.generator = generator

    def forward(self, z: Tensor, discriminator: Discriminator) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Compute the loss of the generator.

        Args:
            z: (n, latent) noise.
            discriminator: not trained by this loss.

        Returns:
            The loss (a scalar), the pictures (n, 3, h, w) without gradient, and the metrics.
        """
        pictures = self.generator(z)
        loss = generator_loss(discriminator(pictures))
        return loss, pictures.detach(), {"generator": loss}


class DiscriminatorWithLoss(nn.Module):
    """The discriminator with its loss."""

    def __init__(self, discriminator: Discriminator) -> None:
        super().__init__()
        self.discriminator = discriminator

    def forward(self, real: Tensor, drawn: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute the loss of the discriminator.

        Args:
            real: (n, 3, h, w).
            drawn: (n, 3, h, w), pictures of the generator.

        Returns:
            The loss (a scalar), and the metrics. "told_apart" is the accuracy, 0.5 for a discriminator that guesses.
        """
        real_logits, drawn_logits = self.discriminator(real), self.discriminator(drawn)  # (n,) each
        loss = discriminator_loss(real_logits, drawn_logits)
        correct = torch.cat([real_logits > 0, drawn_logits < 0])  # (2n,)
        return loss, {"discriminator": loss, "told_apart": correct.float().mean()}


class GANRecipe(Recipe[GANSettings, Generator]):
    """Trains a generator against a discriminator; only the generator is exported.

    Args:
        config: the sizes of the generator.
        settings: the settings of the optimization.
    """

    name = "gan"
    main_metrics = ("generator", "discriminator", "told_apart")

    def __init__(self, config: GANConfig, settings: GANSettings) -> None:
        self.settings = settings
        self.config = {"gan": asdict(config)}
        self.generator = Generator(config)
        self.discriminator = Discriminator(replace(config, width=settings.discriminator_width))
        self.parts = {
            "generator": GeneratorWithLoss(self.generator),
            "discriminator": DiscriminatorWithLoss(self.discriminator),
        }
        self.frozen = {}
        self.exported = self.generator

    def losses(self, parts: dict[str, nn.Module], batch: Batch, progress: float) -> Iterator[PartLoss]:
        """Yield the loss of the generator, then that of the discriminator on the same generated pictures."""
        self.discriminator.requires_grad_(False)
        loss, drawn, metrics = parts["generator"](self._noise(len(batch.pictures), batch), self.discriminator)
        yield PartLoss("generator", loss, metrics)
        self.discriminator.requires_grad_(True)
        loss, metrics = parts["discriminator"](batch.pictures, drawn)
        yield PartLoss("discriminator", loss, metrics)

    def sample(self, averaged: Generator, batch: Batch) -> Tensor | None:
        """Lay out pictures of the generator, from the same noise every time."""
        return grid(averaged(self._noise(SAMPLES, batch)).float(), columns=8)

    def _noise(self, number: int, batch: Batch) -> Tensor:
        return torch.randn(number, self.generator.config.latent).to(batch.pictures.device)  # (number, latent)
