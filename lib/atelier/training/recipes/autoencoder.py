"""The recipe of the autoencoders: reconstruct pictures through a bottleneck.

One recipe trains three kinds: the autoencoder (Hinton and Salakhutdinov 2006), the variational autoencoder (Kingma and
Welling 2014) and the VQ-VAE (van den Oord et al. 2017). They differ in their loss; each kind has a class with its loss.
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
from atelier.training.recipe import PartLoss, Recipe, Settings, TrainingError
from atelier.training.recipes.pictures import grid

AnyAutoencoder = TypeVar("AnyAutoencoder", Autoencoder, VAE, VQVAE)


@dataclass(frozen=True)
class AutoencoderSettings(Settings):
    """The settings common to all recipes, with defaults for autoencoders.

    The gradient of ‖x − x̂‖₂ has the same norm at any distance from the picture, so `clip_norm` is high and clips only
    outliers.
    """

    batch_size: int = 64
    learning_rate: float = 2e-3
    betas: tuple[float, float] = (0.9, 0.99)
    clip_norm: float = 20.0


@dataclass(frozen=True)
class VAESettings(AutoencoderSettings):
    """The settings of the VAE.

    Attributes:
        beta: the weight β of the KL divergence from N(0, I); the squared error, summed over the pixels, has weight ½.

    Raises:
        TrainingError: if a number is out of range.
    """

    beta: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.beta < 0:
            raise TrainingError(f"beta was {self.beta}; a weight is at least 0.")


class WithLoss(nn.Module, Generic[AnyAutoencoder]):
    """An autoencoder with its loss.

    Attributes:
        model: the autoencoder.
    """

    def __init__(self, model: AnyAutoencoder) -> None:
        super().__init__()
        self.model = model

    def forward(self, pictures: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute the loss on pictures.

        Args:
            pictures: (n, 3, h, w).

        Returns:
            The loss (a scalar) and the metrics.
        """
        raise NotImplementedError


class AutoencoderWithLoss(WithLoss[Autoencoder]):
    """The autoencoder with its loss, mean ‖x − x̂‖₂."""

    def forward(self, pictures: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute the loss on pictures (n, 3, h, w)."""
        reconstructions = self.model(pictures)
        loss = reconstruction_loss(pictures, reconstructions)
        return loss, {"loss": loss, "psnr": psnr(pictures, reconstructions).mean()}


class VAEWithLoss(WithLoss[VAE]):
    """The variational autoencoder with its loss, ½ ‖x − x̂‖² + β KL."""

    def __init__(self, model: VAE, beta: float) -> None:
        super().__init__(model)
        self.beta = beta

    def forward(self, pictures: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute the loss on pictures (n, 3, h, w)."""
        reconstructions, posterior = self.model(pictures)
        loss = vae_loss(pictures, reconstructions, posterior, self.beta)
        divergence = kl_divergence(*posterior).mean()  # nats
        return loss, {"loss": loss, "kl": divergence, "psnr": psnr(pictures, reconstructions).mean()}


class VQVAEWithLoss(WithLoss[VQVAE]):
    """The VQ-VAE with its loss, mean ‖x − x̂‖₂ plus the loss of the quantiser."""

    def forward(self, pictures: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute the loss on pictures (n, 3, h, w)."""
        reconstructions, quantized = self.model(pictures)
        loss = reconstruction_loss(pictures, reconstructions) + quantized.loss
        return loss, {"loss": loss, "codebook": quantized.loss, "psnr": psnr(pictures, reconstructions).mean()}


class AutoencoderRecipe(Recipe[AutoencoderSettings, AnyAutoencoder]):
    """Trains an autoencoder of any kind on pictures.

    Args:
        name: the name of the exported weights.
        module: an autoencoder with its loss.
        settings: the settings of the optimization.
    """

    main_metrics = ("loss", "psnr")

    def __init__(self, name: str, module: WithLoss[AnyAutoencoder], settings: AutoencoderSettings) -> None:
        self.name = name
        self.settings = settings
        self.config = {name: asdict(module.model.config)}
        prepare_codebook(module.model)
        self.parts = {"autoencoder": module}
        self.frozen = {}
        self.exported = module.model

    def losses(self, parts: dict[str, nn.Module], batch: Batch, progress: float) -> Iterator[PartLoss]:
        """Yield one loss: reconstruct the pictures."""
        yield PartLoss("autoencoder", *parts["autoencoder"](batch.pictures))

    def sample(self, averaged: AnyAutoencoder, batch: Batch) -> Tensor | None:
        """Lay out eight pictures and, below them, their reconstructions."""
        pictures = batch.pictures[:8]
        output = averaged(pictures)
        reconstructions = output[0] if isinstance(output, tuple) else output
        return grid(torch.cat([pictures, reconstructions.float()]), columns=len(pictures))
