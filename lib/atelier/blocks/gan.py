"""The vanilla GAN: a generator draws pictures from noise, and a discriminator learns to tell them from real pictures.

Papers: Goodfellow et al. 2014, "Generative Adversarial Nets" (sections and equations below are this paper's); Radford
et al. 2015, "Unsupervised Representation Learning with Deep Convolutional GANs" (the layers); Miyato et al. 2018,
"Spectral Normalization for GANs".
"""

from dataclasses import dataclass
from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm


@dataclass(frozen=True)
class GANConfig:
    """Sizes of a generator and its discriminator.

    Raises:
        ValueError: if size is not a power of two, or is below 8.
    """

    size: int = 32  # height and width of the pictures in pixels; a power of two, at least 8
    latent: int = 16  # dimension of the noise z
    width: int = 32  # the generator's channels at half the size; they double with each halving of the resolution

    def __post_init__(self):
        if self.size < 8 or self.size.bit_count() != 1:
            raise ValueError(f"size is {self.size}: give a power of two from 8, such as 32.")

    @property
    def widths(self) -> list[int]:
        """The generator's channels at each resolution, from half the size down to 4 × 4 pixels."""
        return [self.width * 2**level for level in range(self.size.bit_length() - 3)]


class Generator(nn.Module):
    """Generates pictures (n, 3, size, size), from 0 to 1, from Gaussian noise z ~ N(0, I), (n, latent)."""

    def __init__(self, config: GANConfig):
        super().__init__()
        self.config = config
        widths = config.widths[::-1]
        self.layers = nn.Sequential(nn.Linear(config.latent, widths[0] * 4 * 4), nn.Unflatten(1, (widths[0], 4, 4)))
        for inputs, outputs in pairwise([*widths, 3]):
            # These two layers are equivalent to nearest-neighbour upsampling by 2 and a 3 × 3 convolution, but several
            # times faster. Summing over 2 × 2 pixels removes the checkerboard artefacts of the transposed convolution.
            double = [nn.ConvTranspose2d(inputs, outputs, 3, stride=2), nn.AvgPool2d(2, stride=1, divisor_override=1)]
            self.layers.extend([nn.BatchNorm2d(inputs), nn.ReLU(), *double])

    def forward(self, z: Tensor) -> Tensor:
        """Generates one picture for each row of z: (n, latent) → (n, 3, size, size)."""
        return self.layers(z).sigmoid()


class Discriminator(nn.Module):
    """Classifies pictures (n, 3, size, size), from 0 to 1, as real (logit above 0) or generated (below 0)."""

    def __init__(self, config: GANConfig):
        super().__init__()
        widths = [3, *(width // 2 for width in config.widths)]  # narrower than the generator, which has the harder task
        self.layers = nn.Sequential()
        for inputs, outputs in pairwise(widths):
            # Spectral normalisation bounds the Lipschitz constant of the layer. Without it, the generator produces
            # fewer kinds of sprites (lesson 2a).
            self.layers.extend([spectral_norm(nn.Conv2d(inputs, outputs, 4, stride=2, padding=1)), nn.LeakyReLU(0.2)])
        self.layers.extend([nn.Flatten(), spectral_norm(nn.Linear(widths[-1] * 4 * 4, 1))])

    def forward(self, pictures: Tensor) -> Tensor:
        """Returns the logits (n,) of pictures (n, 3, size, size)."""
        return self.layers(pictures * 2 - 1).squeeze(1)  # (n,)


def discriminator_loss(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """The discriminator's loss −E[log D(x)] − E[log(1 − D(G(z)))], the negative of eq. 1.

    D is the sigmoid of the logits.

    Args:
        real_logits: the logits of real pictures, (n,).
        fake_logits: the logits of generated pictures, (n,).

    Returns:
        A scalar in nats. Random guessing (all logits 0) gives 2 log 2 ≈ 1.386.
    """
    return F.softplus(-real_logits).mean() + F.softplus(fake_logits).mean()  # softplus(−x) = −log sigmoid(x)


def generator_loss(fake_logits: Tensor) -> Tensor:
    """The generator's loss −E[log D(G(z))], the non-saturating form of section 3.

    Unlike the form of eq. 1, it has a large gradient as long as the discriminator recognises the generated pictures.

    Args:
        fake_logits: the logits of generated pictures, (n,).

    Returns:
        A scalar in nats.
    """
    return F.softplus(-fake_logits).mean()
