"""The autoencoder: a picture through a bottleneck of a few numbers, and back.

Paper: Hinton and Salakhutdinov 2006, "Reducing the Dimensionality of Data with Neural Networks". vae.py and vq.py use
the same encoder and decoder: what differs is what stands between them.
"""

import math
from dataclasses import dataclass
from itertools import pairwise

from torch import Tensor, nn


@dataclass(frozen=True)
class ConvConfig:
    """Shape of a convolutional encoder and of the decoder that mirrors it; ValueError if the numbers do not fit."""

    size: int = 32  # pixels along a side of the pictures
    width: int = 32  # channels of the first level; the others have twice as many
    levels: int = 3  # how many times the encoder halves the picture

    def __post_init__(self):
        if self.size % 2**self.levels:
            raise ValueError(f"{self.size} pixels cannot be halved {self.levels} times: give fewer levels.")

    @property
    def widths(self) -> list[int]:
        """Channels of each level, from half the picture's side down."""
        return [self.width] + [2 * self.width] * (self.levels - 1)

    @property
    def map_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of the map between encoder and decoder, (C, side, side)."""
        side = self.size // 2**self.levels
        return self.widths[-1], side, side


@dataclass(frozen=True)
class AutoencoderConfig(ConvConfig):
    """Shape of an autoencoder: a ConvConfig, and its bottleneck."""

    latent: int = 2  # how many numbers a picture has to pass through


class ConvEncoder(nn.Sequential):
    """Pictures (n, 3, size, size), from 0 to 1, to maps (n, C, side, side)."""

    def __init__(self, config: ConvConfig):
        super().__init__()
        for inputs, outputs in pairwise([3, *config.widths]):
            self.append(nn.Conv2d(inputs, outputs, 4, stride=2, padding=1))  # halves the map
            self.extend([nn.BatchNorm2d(outputs), nn.LeakyReLU(0.2)])


class ConvDecoder(nn.Sequential):
    """Maps (n, C, side, side) to pictures (n, 3, size, size), from 0 to 1."""

    def __init__(self, config: ConvConfig):
        super().__init__()
        for inputs, outputs in pairwise([*reversed(config.widths), 3]):
            self.extend([nn.BatchNorm2d(inputs), nn.LeakyReLU(0.2)])
            self.append(nn.ConvTranspose2d(inputs, outputs, 4, stride=2, padding=1))  # doubles the map
        self.append(nn.Sigmoid())


def map_to_numbers(config: ConvConfig, numbers: int) -> nn.Sequential:
    """A layer from maps (n, C, side, side) to (n, numbers)."""
    return nn.Sequential(nn.Flatten(), nn.Linear(math.prod(config.map_shape), numbers))


def numbers_to_map(config: ConvConfig, numbers: int, hidden: int = 64) -> nn.Sequential:
    """Layers from (n, numbers) to maps (n, C, side, side); the hidden one lets neighbours become different things."""
    unfold = nn.Linear(hidden, math.prod(config.map_shape))
    return nn.Sequential(nn.Linear(numbers, hidden), nn.ReLU(), unfold, nn.Unflatten(1, config.map_shape))


class Autoencoder(nn.Module):
    """Encoder e_θ, a latent space of a few numbers, decoder d_φ: x̂ = d_φ(e_θ(x))."""

    def __init__(self, config: AutoencoderConfig):
        super().__init__()
        self.config = config
        self.encoder = nn.Sequential(ConvEncoder(config), map_to_numbers(config, config.latent))
        self.decoder = nn.Sequential(numbers_to_map(config, config.latent), ConvDecoder(config))

    def encode(self, pictures: Tensor) -> Tensor:
        """Pictures (n, 3, size, size), from 0 to 1, to their latents z (n, latent)."""
        return self.encoder(pictures)

    def decode(self, z: Tensor) -> Tensor:
        """Latents z (n, latent) to pictures (n, 3, size, size), from 0 to 1."""
        return self.decoder(z)

    def forward(self, pictures: Tensor) -> Tensor:
        """Pictures (n, 3, size, size) to their reconstructions."""
        return self.decode(self.encode(pictures))


def reconstruction_loss(pictures: Tensor, reconstructions: Tensor) -> Tensor:
    """The mean over n of ‖x − x̂‖₂, the distance of two pictures (n, 3, H, W) as points in a space of 3·H·W axes."""
    return (pictures - reconstructions).flatten(1).norm(dim=1).mean()
