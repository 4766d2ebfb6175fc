"""The pieces of lesson 2c, the variational autoencoder."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from atelier.blocks.autoencoder import AutoencoderConfig
from atelier.blocks.vae import VAE, Posterior
from atelier.teaching.exercises import AnswerError, expect_close, expect_tensor
from atelier.teaching.exercises.lesson_2c import check_sample
from atelier.teaching.pieces import piece

VAE_MODULE = "atelier.blocks.vae"


@piece(
    "2c.reparameterize",
    VAE_MODULE,
    minutes=10,
    hints=(
        "A sample of N(μ, σ²) is μ + σ·ε, where ε is a sample of N(0, 1). Only ε is random.",
        "`torch.randn_like(mean)` makes ε. σ is the exponential of half the log variance.",
    ),
)
def check_reparameterize(reparameterize: Callable[[Tensor, Tensor], Tensor]) -> None:
    """z = μ + σ·ε with independent noise and gradients to both."""
    check_sample(reparameterize)


@piece(
    "2c.kl_divergence",
    VAE_MODULE,
    minutes=10,
    hints=(
        "For one axis the divergence from N(0, 1) is ½ (μ² + σ² − 1 − log σ²). The axes are independent, so their "
        "divergences are added.",
        "`log_variance` is log σ², and its exponential is σ². Sum over dimension 1, and halve.",
    ),
)
def check_kl_divergence(kl_divergence: Callable[[Tensor, Tensor], Tensor]) -> None:
    """½ Σ (μ² + σ² − 1 − log σ²) of each picture."""
    mean, log_variance = torch.randn(5, 3), torch.randn(5, 3)
    result = expect_tensor(kl_divergence(mean, log_variance), (5,), "kl_divergence")
    square, variance = mean.square(), log_variance.exp()
    terms = (square + variance - 1 - log_variance) / 2  # (5, 3)
    expect_close(
        result,
        terms.sum(1),
        {
            "this is twice as much: the ½ is missing.": 2 * terms.sum(1),
            "this is the mean over the axes; the divergence is their sum.": terms.mean(1),
            "the sign is wrong: a divergence is never negative.": -terms.sum(1),
            "log σ² is used as σ²: take its exponential.": (square + log_variance - 1 - log_variance).sum(1) / 2,
            "the exponential of half the log variance is σ; the formula has σ².": (
                (square + (log_variance / 2).exp() - 1 - log_variance).sum(1) / 2
            ),
            "the logarithm is added; subtract it.": (square + variance - 1 + log_variance).sum(1) / 2,
            "μ is not squared.": (mean + variance - 1 - log_variance).sum(1) / 2,
            "the −1 is missing, so the divergence of N(0, I) from itself would not be 0.": (
                (square + variance - log_variance).sum(1) / 2
            ),
        },
    )


@piece(
    "2c.vae_loss",
    VAE_MODULE,
    minutes=10,
    hints=(
        "The first term is ½ ‖x − x̂‖²: the squared differences of a picture, summed over its numbers. The second is "
        "β times the divergence. The loss is the mean over the pictures.",
        "`.flatten(1).sum(1)` gives one sum for each picture. `kl_divergence(*posterior)` has the same shape, (n,).",
    ),
)
def check_vae_loss(vae_loss: Callable[[Tensor, Tensor, Posterior, float], Tensor]) -> None:
    """The mean over n of ½ ‖x − x̂‖² + β KL."""
    pictures, reconstructions = torch.rand(2, 4, 3, 2, 2)
    posterior, beta = Posterior(torch.randn(4, 3), torch.randn(4, 3)), 0.3
    result = expect_tensor(vae_loss(pictures, reconstructions, posterior, beta), (), "vae_loss")
    squares = (pictures - reconstructions).square()
    error = squares.flatten(1).sum(1)  # (4,)
    divergence = (posterior.mean.square() + posterior.log_variance.exp() - 1 - posterior.log_variance).sum(1) / 2
    expect_close(
        result,
        (error / 2 + beta * divergence).mean(),
        {
            "the ½ of the squared error is missing.": (error + beta * divergence).mean(),
            "β is missing.": (error / 2 + divergence).mean(),
            "β multiplies the squared error; it belongs to the divergence.": (beta * error / 2 + divergence).mean(),
            "this is the sum over the pictures; the loss is their mean.": (error / 2 + beta * divergence).sum(),
            "the squared error is a mean over the pixels here, which makes β much larger; it is a sum.": (
                (squares.flatten(1).mean(1) / 2 + beta * divergence).mean()
            ),
            "the divergence is subtracted; add it.": (error / 2 - beta * divergence).mean(),
            "the divergence is missing.": (error / 2).mean(),
            "the squared error is missing.": (beta * divergence).mean(),
            "this has the distance, not its square.": (error.sqrt() / 2 + beta * divergence).mean(),
        },
    )


@piece(
    "2c.VAE.forward",
    VAE_MODULE,
    minutes=5,
    hints=(
        "Encode the pictures, sample a latent from each posterior, and decode the latents.",
        "`self.encode(pictures)` is the posterior, and `reparameterize(*posterior)` the sample. Return both the "
        "reconstructions and the posterior, which the loss needs.",
    ),
)
def check_forward(forward: Callable[[VAE, Tensor], tuple[Tensor, Posterior]]) -> None:
    """The reconstructions from samples, and the posterior."""
    vae, pictures = VAE(AutoencoderConfig(width=4)), torch.rand(6, 3, 32, 32)
    with torch.no_grad():
        for weights in vae.parameters():
            weights.mul_(3)  # so that the pictures depend clearly on the latents
        posterior = vae.encode(pictures)
        result = forward(vae, pictures)
        if not isinstance(result, tuple) or len(result) != 2:
            raise AnswerError("forward returns two things, the reconstructions and the posterior.")
        reconstructions = expect_tensor(result[0], (6, 3, 32, 32), "forward, as the reconstructions,")
        if not isinstance(result[1], tuple) or len(result[1]) != 2:
            raise AnswerError("the second thing that forward returns is the posterior, with μ and log σ².")
        expect_close(torch.stack(list(result[1])), torch.stack(list(posterior)))
        if torch.allclose(reconstructions, vae.decode(posterior.mean), atol=1e-5):
            raise AnswerError("the centres are decoded: sample a latent from each posterior first.")
        if torch.allclose(reconstructions, vae.decode(posterior.log_variance), atol=1e-5):
            raise AnswerError("log σ² is decoded: sample a latent from each posterior first.")
        if torch.equal(reconstructions, forward(vae, pictures)[0]):
            raise AnswerError("two calls give the same pictures: nothing in them is random.")
        torch.manual_seed(1)
        wanted = vae(pictures)[0]
        torch.manual_seed(1)
        expect_close(forward(vae, pictures)[0], wanted)
