"""The autoencoder: it encodes a picture as a few numbers and reconstructs the picture from them.

Paper: Hinton and Salakhutdinov 2006, "Reducing the Dimensionality of Data with Neural Networks". vae.py and vq.py use
the same convolutional encoder and decoder with another latent between them.

In shapes, n is a batch, and (C, side, side) is the feature map between encoder and decoder, see `ConvConfig.map_shape`.
"""

import math
from dataclasses import dataclass
from itertools import pairwise

from torch import Tensor, nn


@dataclass(frozen=True)
class ConvConfig:
    """Sizes of a convolutional encoder and of the decoder that mirrors it.

    Raises:
        ValueError: if the size of the pictures cannot be halved that often.
    """

    size: int = 32  # height and width of the pictures, in pixels
    width: int = 32  # channels after the first level; after all others twice as many
    levels: int = 3  # how many times the encoder halves the picture

    def __post_init__(self):
        if self.size % 2**self.levels:
            raise ValueError(f"{self.size} pixels cannot be halved {self.levels} times: give fewer levels.")

    @property
    def widths(self) -> list[int]:
        """Channels of the feature map after each level, from the highest resolution to the lowest."""
        return [self.width] + [2 * self.width] * (self.levels - 1)

    @property
    def map_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of the feature map between encoder and decoder, (C, side, side)."""
        side = self.size // 2**self.levels
        return self.widths[-1], side, side


@dataclass(frozen=True)
class AutoencoderConfig(ConvConfig):
    """Sizes of an autoencoder: those of its encoder and decoder, and of its latent."""

    latent: int = 2  # numbers in the latent of a picture


class ConvEncoder(nn.Sequential):
    """Encodes pictures (n, 3, size, size), from 0 to 1, as feature maps (n, C, side, side)."""

    def __init__(self, config: ConvConfig):
        super().__init__()
        for inputs, outputs in pairwise([3, *config.widths]):
            self.append(nn.Conv2d(inputs, outputs, 4, stride=2, padding=1))  # halves height and width
            self.extend([nn.BatchNorm2d(outputs), nn.LeakyReLU(0.2)])


class ConvDecoder(nn.Sequential):
    """Decodes feature maps (n, C, side, side) to pictures (n, 3, size, size), from 0 to 1."""

    def __init__(self, config: ConvConfig):
        super().__init__()
        for inputs, outputs in pairwise([*reversed(config.widths), 3]):
            self.extend([nn.BatchNorm2d(inputs), nn.LeakyReLU(0.2)])
            self.append(nn.ConvTranspose2d(inputs, outputs, 4, stride=2, padding=1))  # doubles height and width
        self.append(nn.Sigmoid())


def map_to_numbers(config: ConvConfig, numbers: int) -> nn.Sequential:
    """A linear layer on feature maps.

    Args:
        config: the sizes of the encoder that makes the maps.
        numbers: how many numbers to compute from a map.

    Returns:
        A module that maps (n, C, side, side) to (n, numbers).
    """
    return nn.Sequential(nn.Flatten(), nn.Linear(math.prod(config.map_shape), numbers))


def numbers_to_map(config: ConvConfig, numbers: int, hidden: int = 64) -> nn.Sequential:
    """Two linear layers that end in a feature map.

    Without the hidden layer the map would be a linear function of the latent, and nearby latents would look alike.

    Args:
        config: the sizes of the decoder that reads the maps.
        numbers: how many numbers a latent has.
        hidden: width of the hidden layer.

    Returns:
        A module that maps (n, numbers) to (n, C, side, side).
    """
    unfold = nn.Linear(hidden, math.prod(config.map_shape))
    return nn.Sequential(nn.Linear(numbers, hidden), nn.ReLU(), unfold, nn.Unflatten(1, config.map_shape))


class Autoencoder(nn.Module):
    """An encoder e_θ and a decoder d_φ with a latent of a few numbers between them: x̂ = d_φ(e_θ(x))."""

    def __init__(self, config: AutoencoderConfig):
        super().__init__()
        self.config = config
        self.encoder = nn.Sequential(ConvEncoder(config), map_to_numbers(config, config.latent))
        self.decoder = nn.Sequential(numbers_to_map(config, config.latent), ConvDecoder(config))

    def encode(self, pictures: Tensor) -> Tensor:
        """Encodes pictures (n, 3, size, size), from 0 to 1, as latents z (n, latent)."""
        return self.encoder(pictures)

    def decode(self, z: Tensor) -> Tensor:
        """Decodes latents z (n, latent) to pictures (n, 3, size, size), from 0 to 1."""
        return self.decoder(z)

    def forward(self, pictures: Tensor) -> Tensor:
        """Reconstructs pictures: (n, 3, size, size) → (n, 3, size, size)."""
        return self.decode(self.encode(pictures))


def reconstruction_loss(pictures: Tensor, reconstructions: Tensor) -> Tensor:
    """The mean Euclidean distance ‖x − x̂‖₂ between pictures and their reconstructions.

    Args:
        pictures: x, (n, 3, H, W).
        reconstructions: x̂, (n, 3, H, W).

    Returns:
        A scalar, the mean over n.
    """
    return (pictures - reconstructions).flatten(1).norm(dim=1).mean()
