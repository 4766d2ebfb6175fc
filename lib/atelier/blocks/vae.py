"""The variational autoencoder: it encodes a picture as a normal distribution over latents instead of one latent.

Papers: Kingma and Welling 2014, "Auto-Encoding Variational Bayes" (sections, equations and appendices below are this
paper's); Higgins et al. 2017, "beta-VAE", for β.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from atelier.blocks.autoencoder import AutoencoderConfig, ConvDecoder, ConvEncoder, map_to_numbers, numbers_to_map


class Posterior(NamedTuple):
    """The normal distribution q(z|x) = N(μ, σ²) that the encoder assigns to a picture; its axes are independent."""

    mean: Tensor  # μ, (n, latent)
    log_variance: Tensor  # log σ², (n, latent)


def reparameterize(mean: Tensor, log_variance: Tensor) -> Tensor:
    """Samples from a posterior in a way that lets gradients reach μ and σ (section 2.4).

    Args:
        mean: μ, (n, latent).
        log_variance: log σ², (n, latent).

    Returns:
        One sample z = μ + σ·ε of each distribution, (n, latent), with ε from N(0, I).
    """
    return mean + (log_variance / 2).exp() * torch.randn_like(mean)


def kl_divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """The divergence KL(q(z|x) ‖ N(0, I)) of the posterior from the prior, in closed form (appendix B).

    Args:
        mean: μ, (n, latent).
        log_variance: log σ², (n, latent).

    Returns:
        The divergence of each distribution in nats, (n,).
    """
    return (mean.square() + log_variance.exp() - 1 - log_variance).sum(1) / 2


def vae_loss(pictures: Tensor, reconstructions: Tensor, posterior: Posterior, beta: float = 1.0) -> Tensor:
    """The loss ½ ‖x − x̂‖² + β KL.

    With β = 1 it equals, up to a constant, the negative of the bound of eq. 10 for pixels distributed as N(x̂, 1).

    Args:
        pictures: x, (n, 3, H, W).
        reconstructions: x̂, (n, 3, H, W), each decoded from a sample of the picture's posterior.
        posterior: the encoder's output for the pictures.
        beta: weight of the divergence.

    Returns:
        The mean over n, a scalar; in nats if β is 1.
    """
    squared_error = (pictures - reconstructions).square().flatten(1).sum(1)  # (n,)
    return (squared_error / 2 + beta * kl_divergence(*posterior)).mean()


class VAE(nn.Module):
    """The autoencoder of autoencoder.py, with an encoder that returns a distribution over latents."""

    def __init__(self, config: AutoencoderConfig):
        super().__init__()
        self.config = config
        self.encoder = nn.Sequential(ConvEncoder(config), map_to_numbers(config, 2 * config.latent))
        self.decoder = nn.Sequential(numbers_to_map(config, config.latent), ConvDecoder(config))

    def encode(self, pictures: Tensor) -> Posterior:
        """Encodes pictures (n, 3, size, size), from 0 to 1, as distributions over latents."""
        return Posterior(*self.encoder(pictures).chunk(2, dim=1))  # (n, latent) each

    def decode(self, z: Tensor) -> Tensor:
        """Decodes latents z (n, latent) to pictures (n, 3, size, size), from 0 to 1."""
        return self.decoder(z)

    def forward(self, pictures: Tensor) -> tuple[Tensor, Posterior]:
        """Reconstructs pictures (n, 3, size, size), each from one sample of its posterior.

        Returns:
            The reconstructions (n, 3, size, size), and the posterior.
        """
        posterior = self.encode(pictures)
        return self.decode(reparameterize(*posterior)), posterior
