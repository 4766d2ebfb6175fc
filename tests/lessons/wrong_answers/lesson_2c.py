"""Wrong answers to lesson 2c's exercises, as learners give them: each must be told what is wrong in it."""

import torch
from atelier.blocks.vae import VAE, reparameterize, vae_loss
from torch import Tensor
from torch.distributions import Normal


def variance_for_width(mean: Tensor, log_variance: Tensor) -> Tensor:
    return mean + log_variance.exp() * torch.randn_like(mean)


def one_roll_for_all(mean: Tensor, log_variance: Tensor) -> Tensor:
    return mean + (log_variance / 2).exp() * torch.randn(mean.shape[1])


def one_roll_for_both_axes(mean: Tensor, log_variance: Tensor) -> Tensor:
    return mean + (log_variance / 2).exp() * torch.randn(len(mean), 1)


def detached(mean: Tensor, log_variance: Tensor) -> Tensor:
    return Normal(mean, (log_variance / 2).exp()).sample()


def width_detached(mean: Tensor, log_variance: Tensor) -> Tensor:
    return mean + (log_variance / 2).exp().detach() * torch.randn_like(mean)


def uniform_noise(mean: Tensor, log_variance: Tensor) -> Tensor:
    return mean + (log_variance / 2).exp() * torch.rand_like(mean)


def nothing_mended(mean: Tensor, log_variance: Tensor) -> Tensor:
    return (mean + log_variance * torch.randn_like(mean)).detach()


def old_prior(mean: Tensor, log_variance: Tensor, s: float) -> Tensor:
    return (mean.square() + log_variance.exp() - 1 - log_variance).sum(1) / 2


def s_as_variance(mean: Tensor, log_variance: Tensor, s: float) -> Tensor:
    ratio = log_variance - torch.tensor(s).log()
    return (mean.square() / s + ratio.exp() - 1 - ratio).sum(1) / 2


def centre_forgotten(mean: Tensor, log_variance: Tensor, s: float) -> Tensor:
    ratio = log_variance - torch.tensor(s**2).log()
    return (mean.square() + ratio.exp() - 1 - ratio).sum(1) / 2


def over_the_batch(mean: Tensor, log_variance: Tensor, s: float) -> Tensor:
    ratio = log_variance - torch.tensor(s**2).log()
    return (mean.square() / s**2 + ratio.exp() - 1 - ratio).sum(0) / 2


def mean_over_axes(mean: Tensor, log_variance: Tensor, s: float) -> Tensor:
    ratio = log_variance - torch.tensor(s**2).log()
    return (mean.square() / s**2 + ratio.exp() - 1 - ratio).mean(1) / 2


def wrong_way_round(mean: Tensor, log_variance: Tensor, s: float) -> Tensor:
    prior = Normal(torch.zeros_like(mean), s)
    return torch.distributions.kl_divergence(prior, Normal(mean, (log_variance / 2).exp())).sum(1)


WRONG = {
    "2c.1": [
        [0.0, 25.0, 2.27],
        [0.0, 12.5, 0.57],
        [1.0, 12.5, 1.14],
        [0.0, 12.5, 0.14],
        [0.0, 6.25, 1.14],
        [0.0, 12.5],
    ],
    "2c.2": [
        variance_for_width,
        one_roll_for_all,
        one_roll_for_both_axes,
        detached,
        width_detached,
        uniform_noise,
        nothing_mended,
    ],
    "2c.3": [old_prior, s_as_variance, centre_forgotten, over_the_batch, mean_over_axes, wrong_way_round],
    "2c.4": [
        lambda w, beta: (beta / (beta + w.square())).sqrt(),
        lambda w, beta: (beta + w.square()) / beta,
        lambda w, beta: 1 / (1 + w.square()),
        lambda w, beta: 1 / (1 + beta * w.square()),
        lambda w, beta: beta / w.square(),
        lambda w, beta: w / (beta + w),
    ],
}


def divergence_without_half(mean: Tensor, log_variance: Tensor) -> Tensor:
    return (mean.square() + log_variance.exp() - 1 - log_variance).sum(1)


def divergence_of_each_axis(mean: Tensor, log_variance: Tensor) -> Tensor:
    return (mean.square() + log_variance.exp() - 1 - log_variance) / 2


def divergence_with_deviation(mean: Tensor, log_variance: Tensor) -> Tensor:
    return (mean.square() + (log_variance / 2).exp() - 1 - log_variance).sum(1) / 2


def divergence_as_mean(mean: Tensor, log_variance: Tensor) -> Tensor:
    return (mean.square() + log_variance.exp() - 1 - log_variance).mean(1) / 2


def loss_with_mean_over_pixels(pictures: Tensor, reconstructions: Tensor, posterior, beta: float = 1.0) -> Tensor:
    error = (pictures - reconstructions).square().mean((1, 2, 3)) / 2
    return (error + beta * divergence_without_half(*posterior) / 2).mean()


def loss_without_half(pictures: Tensor, reconstructions: Tensor, posterior, beta: float = 1.0) -> Tensor:
    error = (pictures - reconstructions).square().flatten(1).sum(1)
    return (error + beta * divergence_without_half(*posterior) / 2).mean()


def loss_without_beta(pictures: Tensor, reconstructions: Tensor, posterior, beta: float = 1.0) -> Tensor:
    return vae_loss(pictures, reconstructions, posterior)


def loss_of_each_picture(pictures: Tensor, reconstructions: Tensor, posterior, beta: float = 1.0) -> Tensor:
    error = (pictures - reconstructions).square().flatten(1).sum(1)
    return error / 2 + beta * divergence_without_half(*posterior) / 2


def forward_of_centres(self: VAE, pictures: Tensor) -> tuple:
    posterior = self.encode(pictures)
    return self.decode(posterior.mean), posterior


def forward_without_posterior(self: VAE, pictures: Tensor) -> Tensor:
    return VAE.forward(self, pictures)[0]


def forward_with_sample(self: VAE, pictures: Tensor) -> tuple:
    posterior = self.encode(pictures)
    z = reparameterize(*posterior)
    return self.decode(z), z


def forward_of_noise(self: VAE, pictures: Tensor) -> tuple:
    posterior = self.encode(pictures)
    return self.decode(torch.randn_like(posterior.mean)), posterior


WRONG_PIECES = {
    "2c.VAE.forward": [forward_of_centres, forward_without_posterior, forward_with_sample, forward_of_noise],
    "2c.reparameterize": [variance_for_width, one_roll_for_all, detached, uniform_noise],
    "2c.kl_divergence": [
        divergence_without_half,
        divergence_of_each_axis,
        divergence_with_deviation,
        divergence_as_mean,
    ],
    "2c.vae_loss": [loss_with_mean_over_pixels, loss_without_half, loss_without_beta, loss_of_each_picture],
}
