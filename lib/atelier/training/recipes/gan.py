"""How the vanilla GAN learns: two networks play against each other.

Goodfellow et al. 2014, "Generative Adversarial Networks", algorithm 1 with one step of the discriminator to a step of
the generator, and the generator's loss in the form that does not saturate (section 3).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from atelier.blocks.gan import Discriminator, GANConfig, Generator, discriminator_loss, generator_loss
from atelier.training.data import Batch
from atelier.training.recipe import Recipe, Settings, TrainingError, Turn
from atelier.training.recipes.pictures import grid

SHOWN = 32


@dataclass(frozen=True)
class GANSettings(Settings):
    """What every recipe needs, chosen for a game: little momentum (Radford et al. 2015), and almost no clipping.

    learning_rate: the generator's. discriminator_pace: the share of it with which the discriminator learns, which
    otherwise tells the few sprites apart long before they are drawn well. discriminator_width: the width in the config
    of the discriminator, which may be another than the generator's.
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
        """An optimizer for either player; the discriminator's slows down each learning rate that the loop sets."""
        made = super().optimizer(module)
        if isinstance(module, Telling):
            made.register_step_pre_hook(self._slow_down)
        return made

    def _slow_down(self, optimizer: Optimizer, *_: object) -> None:
        for group in optimizer.param_groups:
            group["lr"] *= self.discriminator_pace


class Drawing(nn.Module):
    """The generator with its loss."""

    def __init__(self, generator: Generator) -> None:
        super().__init__()
        self.generator = generator

    def forward(self, z: Tensor, discriminator: Discriminator) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """The loss (a scalar), the pictures without gradient (n, 3, h, w), and the metrics.

        z: (n, latent) noise. discriminator: not trained in this turn.
        """
        pictures = self.generator(z)
        loss = generator_loss(discriminator(pictures))
        return loss, pictures.detach(), {"generator": loss}


class Telling(nn.Module):
    """The discriminator with its loss."""

    def __init__(self, discriminator: Discriminator) -> None:
        super().__init__()
        self.discriminator = discriminator

    def forward(self, real: Tensor, drawn: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss (a scalar) on real and drawn pictures (n, 3, h, w), and the metrics.

        told_apart: the share of both that it takes for what they are; 0.5 when it can only guess.
        """
        real_logits, drawn_logits = self.discriminator(real), self.discriminator(drawn)  # (n,) each
        loss = discriminator_loss(real_logits, drawn_logits)
        right = torch.cat([real_logits > 0, drawn_logits < 0])  # (2n,)
        return loss, {"discriminator": loss, "told_apart": right.float().mean()}


class GANRecipe(Recipe[GANSettings, Generator]):
    """Trains a generator against a discriminator; only the generator is kept."""

    name = "gan"
    main_metrics = ("generator", "discriminator", "told_apart")

    def __init__(self, config: GANConfig, settings: GANSettings) -> None:
        self.settings = settings
        self.config = {"gan": asdict(config)}
        self.generator = Generator(config)
        self.discriminator = Discriminator(replace(config, width=settings.discriminator_width))
        self.parts = {"generator": Drawing(self.generator), "discriminator": Telling(self.discriminator)}
        self.frozen = {}
        self.exported = self.generator

    def turns(self, parts: dict[str, nn.Module], batch: Batch, progress: float) -> Iterator[Turn]:
        """The generator's turn, then the discriminator's on the same drawn pictures."""
        self.discriminator.requires_grad_(False)
        loss, drawn, metrics = parts["generator"](self._noise(len(batch.pictures), batch), self.discriminator)
        yield Turn("generator", loss, metrics)
        self.discriminator.requires_grad_(True)
        loss, metrics = parts["discriminator"](batch.pictures, drawn)
        yield Turn("discriminator", loss, metrics)

    def sample(self, averaged: Generator, batch: Batch) -> Tensor | None:
        """What the generator draws, from the same noise every time."""
        return grid(averaged(self._noise(SHOWN, batch)).float(), columns=8)

    def _noise(self, number: int, batch: Batch) -> Tensor:
        return torch.randn(number, self.generator.config.latent).to(batch.pictures.device)  # (number, latent)
