"""The variational autoencoder: an autoencoder whose latents are clouds instead of points.

Papers: Kingma and Welling 2014, "Auto-Encoding Variational Bayes"; Higgins et al. 2017, "beta-VAE", for β.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from atelier.blocks.autoencoder import AutoencoderConfig, ConvDecoder, ConvEncoder, map_to_numbers, numbers_to_map


class Posterior(NamedTuple):
    """The normal cloud q(z|x) = N(μ, σ²) that a picture becomes: its mean μ and log σ², (n, latent) each."""

    mean: Tensor
    log_variance: Tensor


def reparameterize(mean: Tensor, log_variance: Tensor) -> Tensor:
    """A sample z = μ + σ·ε, ε from N(0, I), of each cloud (n, latent): μ and σ get gradients (section 2.4)."""
    return mean + (log_variance / 2).exp() * torch.randn_like(mean)


def kl_divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL(q(z|x) ‖ N(0, I)) in nats, in closed form (appendix B): (n, latent), (n, latent) → (n,)."""
    return (mean.square() + log_variance.exp() - 1 - log_variance).sum(1) / 2


def vae_loss(pictures: Tensor, reconstructions: Tensor, posterior: Posterior, beta: float = 1.0) -> Tensor:
    """The mean over n of ½ ‖x − x̂‖² + β KL, in nats, for pictures (n, 3, H, W).

    With β = 1 it is, but for a constant, the negative of the bound of eq. 10 for pixels distributed as N(x̂, 1).
    """
    squared_error = (pictures - reconstructions).square().flatten(1).sum(1)  # (n,)
    return (squared_error / 2 + beta * kl_divergence(*posterior)).mean()


class VAE(nn.Module):
    """The autoencoder's encoder and decoder with a cloud between them."""

    def __init__(self, config: AutoencoderConfig):
        super().__init__()
        self.config = config
        self.encoder = nn.Sequential(ConvEncoder(config), map_to_numbers(config, 2 * config.latent))
        self.decoder = nn.Sequential(numbers_to_map(config, config.latent), ConvDecoder(config))

    def encode(self, pictures: Tensor) -> Posterior:
        """Pictures (n, 3, size, size), from 0 to 1, to their clouds."""
        return Posterior(*self.encoder(pictures).chunk(2, dim=1))  # (n, latent) each

    def decode(self, z: Tensor) -> Tensor:
        """Latents z (n, latent) to pictures (n, 3, size, size), from 0 to 1."""
        return self.decoder(z)

    def forward(self, pictures: Tensor) -> tuple[Tensor, Posterior]:
        """Pictures (n, 3, size, size) to reconstructions, each from a sample of its cloud, and the clouds."""
        posterior = self.encode(pictures)
        return self.decode(reparameterize(*posterior)), posterior
