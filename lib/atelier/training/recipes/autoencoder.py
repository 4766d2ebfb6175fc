"""How the autoencoders learn: to give back what they were shown, through three kinds of bottleneck.

A few numbers (Hinton and Salakhutdinov 2006), a cloud (Kingma and Welling 2014), a grid of codes (van den Oord et al.
2017). One recipe trains all three: they differ in their loss, and each kind's loss stands in a class of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

from atelier.blocks.autoencoder import Autoencoder, reconstruction_loss
from atelier.blocks.vae import VAE, kl_divergence, vae_loss
from atelier.blocks.vq import VQVAE
from atelier.training.codebook import prepare_codebook
from atelier.training.data import Batch
from atelier.training.metrics import psnr
from atelier.training.recipe import Recipe, Settings, TrainingError, Turn
from atelier.training.recipes.pictures import grid

AnyAutoencoder = TypeVar("AnyAutoencoder", Autoencoder, VAE, VQVAE)


@dataclass(frozen=True)
class AutoencoderSettings(Settings):
    """What every recipe needs. clip_norm: ‖x − x̂‖₂ has a gradient as long far from the picture as near it, so only
    what is out of all proportion is clipped.
    """

    batch_size: int = 64
    learning_rate: float = 2e-3
    betas: tuple[float, float] = (0.9, 0.99)
    clip_norm: float = 20.0


@dataclass(frozen=True)
class VAESettings(AutoencoderSettings):
    """beta: the weight of the divergence from N(0, I) beside the squared error of all pixels."""

    beta: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.beta < 0:
            raise TrainingError(f"beta was {self.beta}; a weight is at least 0.")


class Reconstruction(nn.Module, Generic[AnyAutoencoder]):
    """An autoencoder with its loss. Its forward gives the loss (a scalar) and the metrics for pictures (n, 3, h, w)."""

    def __init__(self, model: AnyAutoencoder) -> None:
        super().__init__()
        self.model = model

    def forward(self, pictures: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """To be said by each kind."""
        raise NotImplementedError


class ThroughPoints(Reconstruction[Autoencoder]):
    """The autoencoder: mean ‖x − x̂‖₂."""

    def forward(self, pictures: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss and the metrics."""
        reconstructions = self.model(pictures)
        loss = reconstruction_loss(pictures, reconstructions)
        return loss, {"loss": loss, "psnr": psnr(pictures, reconstructions).mean()}


class ThroughClouds(Reconstruction[VAE]):
    """The variational autoencoder: ½ ‖x − x̂‖² + β KL."""

    def __init__(self, model: VAE, beta: float) -> None:
        super().__init__(model)
        self.beta = beta

    def forward(self, pictures: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss and the metrics."""
        reconstructions, posterior = self.model(pictures)
        loss = vae_loss(pictures, reconstructions, posterior, self.beta)
        divergence = kl_divergence(*posterior).mean()  # nats
        return loss, {"loss": loss, "kl": divergence, "psnr": psnr(pictures, reconstructions).mean()}


class ThroughCodes(Reconstruction[VQVAE]):
    """The vector-quantised autoencoder: mean ‖x − x̂‖₂ and the codebook's own loss."""

    def forward(self, pictures: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss and the metrics."""
        reconstructions, quantized = self.model(pictures)
        loss = reconstruction_loss(pictures, reconstructions) + quantized.loss
        return loss, {"loss": loss, "codebook": quantized.loss, "psnr": psnr(pictures, reconstructions).mean()}


class AutoencoderRecipe(Recipe[AutoencoderSettings, AnyAutoencoder]):
    """Trains an autoencoder of any kind on pictures. name: of the exported weights."""

    main_metrics = ("loss", "psnr")

    def __init__(self, name: str, learner: Reconstruction[AnyAutoencoder], settings: AutoencoderSettings) -> None:
        self.name = name
        self.settings = settings
        self.config = {name: asdict(learner.model.config)}
        prepare_codebook(learner.model)
        self.parts = {"autoencoder": learner}
        self.frozen = {}
        self.exported = learner.model

    def turns(self, parts: dict[str, nn.Module], batch: Batch, progress: float) -> Iterator[Turn]:
        """One turn: give back the pictures."""
        yield Turn("autoencoder", *parts["autoencoder"](batch.pictures))

    def sample(self, averaged: AnyAutoencoder, batch: Batch) -> Tensor | None:
        """Eight pictures, and below them their reconstructions."""
        pictures = batch.pictures[:8]
        given = averaged(pictures)
        reconstructions = given[0] if isinstance(given, tuple) else given
        return grid(torch.cat([pictures, reconstructions.float()]), columns=len(pictures))
