"""The vanilla GAN: a generator makes pictures out of noise, a discriminator tells them from real ones.

Papers: Goodfellow et al. 2014, "Generative Adversarial Nets"; Radford et al. 2015, "Unsupervised Representation
Learning with Deep Convolutional GANs" (the layers); Miyato et al. 2018, "Spectral Normalization for GANs".
"""

from dataclasses import dataclass
from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm


@dataclass(frozen=True)
class GANConfig:
    """Shape of a generator and its discriminator; ValueError if a number is out of range."""

    size: int = 32  # pixels along a side of the pictures, a power of two from 8
    latent: int = 16  # random numbers that a picture is made of
    width: int = 32  # channels of the generator at half the side; they double wherever the side halves

    def __post_init__(self):
        if self.size < 8 or self.size.bit_count() != 1:
            raise ValueError(f"size is {self.size}: give a power of two from 8, such as 32.")

    @property
    def widths(self) -> list[int]:
        """The generator's channels, from half the picture's side down to 4 × 4."""
        return [self.width * 2**level for level in range(self.size.bit_length() - 3)]


class Generator(nn.Module):
    """Noise z (n, latent), from N(0, I), to pictures (n, 3, size, size), from 0 to 1."""

    def __init__(self, config: GANConfig):
        super().__init__()
        self.config = config
        widths = config.widths[::-1]
        self.layers = nn.Sequential(nn.Linear(config.latent, widths[0] * 4 * 4), nn.Unflatten(1, (widths[0], 4, 4)))
        for inputs, outputs in pairwise([*widths, 3]):
            # The two together are a 3 × 3 convolution of twice repeated pixels, several times as fast: no checkerboard.
            double = [nn.ConvTranspose2d(inputs, outputs, 3, stride=2), nn.AvgPool2d(2, stride=1, divisor_override=1)]
            self.layers.extend([nn.BatchNorm2d(inputs), nn.ReLU(), *double])

    def forward(self, z: Tensor) -> Tensor:
        """Draws a picture for each row of z."""
        return self.layers(z).sigmoid()


class Discriminator(nn.Module):
    """Pictures (n, 3, size, size), from 0 to 1, to logits (n,): above 0 for those it takes for real."""

    def __init__(self, config: GANConfig):
        super().__init__()
        widths = [3, *(width // 2 for width in config.widths)]  # as wide as the generator it would win too early
        self.layers = nn.Sequential()
        for inputs, outputs in pairwise(widths):
            # A bounded slope keeps its judgement graded, so that the generator always has a gradient to follow.
            self.layers.extend([spectral_norm(nn.Conv2d(inputs, outputs, 4, stride=2, padding=1)), nn.LeakyReLU(0.2)])
        self.layers.extend([nn.Flatten(), spectral_norm(nn.Linear(widths[-1] * 4 * 4, 1))])

    def forward(self, pictures: Tensor) -> Tensor:
        """Judges each picture by itself."""
        return self.layers(pictures * 2 - 1).squeeze(1)  # (n,)


def discriminator_loss(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """What the discriminator minimises: −E[log D(x)] − E[log(1 − D(G(z)))], the negative of eq. 1.

    D is the sigmoid of the logits (n,), E their mean, log the natural one. Coin tossing has 2 log 2 ≈ 1.386.
    """
    return F.softplus(-real_logits).mean() + F.softplus(fake_logits).mean()  # softplus(−x) = −log sigmoid(x)


def generator_loss(fake_logits: Tensor) -> Tensor:
    """What the generator minimises: −E[log D(G(z))], of logits (n,).

    The non-saturating form (section 3): unlike eq. 1's, its gradient is large while the pictures are bad.
    """
    return F.softplus(-fake_logits).mean()
