"""The VAE: its divergence against torch.distributions, its samples' moments and gradients, its loss, that it learns."""

import math

import pytest
import torch
from atelier.blocks.autoencoder import AutoencoderConfig, reconstruction_loss
from atelier.blocks.vae import VAE, Posterior, kl_divergence, reparameterize, vae_loss
from atelier.world import sprites
from torch.distributions import Independent, Normal
from torch.distributions import kl_divergence as reference_divergence


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def clouds(n: int, latent: int) -> Posterior:
    return Posterior(torch.randn(n, latent) * 2, torch.randn(n, latent))


def test_shapes():
    model = VAE(AutoencoderConfig(width=4, latent=5))
    pictures = torch.rand(3, 3, 32, 32)
    reconstructions, posterior = model(pictures)
    assert reconstructions.shape == pictures.shape
    assert posterior.mean.shape == posterior.log_variance.shape == (3, 5)
    assert 0 < reconstructions.min() < reconstructions.max() < 1
    assert model.decode(torch.randn(7, 5)).shape == (7, 3, 32, 32)


def test_two_passes_draw_two_samples_of_one_cloud():
    model = VAE(AutoencoderConfig(width=4)).eval()
    pictures = torch.rand(2, 3, 32, 32)
    (first, cloud), (second, same_cloud) = model(pictures), model(pictures)
    assert torch.equal(cloud.mean, same_cloud.mean)
    assert not torch.equal(first, second)


@pytest.mark.parametrize("latent", [1, 2, 16])
def test_the_divergence_is_that_of_torch_distributions(latent: int):
    mean, log_variance = (values.double() for values in clouds(50, latent))
    ours = kl_divergence(mean, log_variance)
    cloud = Independent(Normal(mean, (log_variance / 2).exp()), 1)
    prior = Independent(Normal(torch.zeros_like(mean), torch.ones_like(mean)), 1)
    assert ours.shape == (50,)
    assert (ours - reference_divergence(cloud, prior)).abs().max() < 1e-6


def test_the_divergence_by_hand():
    assert kl_divergence(torch.zeros(1, 3), torch.zeros(1, 3)).item() == 0
    assert kl_divergence(torch.tensor([[2.0, 0.0]]), torch.zeros(1, 2)).item() == pytest.approx(2.0)
    one = kl_divergence(torch.tensor([[1.0]]), torch.tensor([[math.log(4)]])).item()
    assert one == pytest.approx((1 + 4 - 1 - math.log(4)) / 2)


def test_samples_have_the_clouds_moments():
    mean, log_variance = torch.tensor([[1.0, -3.0]]), torch.tensor([[0.0, math.log(0.25)]])
    z = reparameterize(mean.expand(200_000, 2), log_variance.expand(200_000, 2))
    assert torch.allclose(z.mean(0), mean[0], atol=0.02)
    assert torch.allclose(z.std(0), torch.tensor([1.0, 0.5]), atol=0.01)
    assert abs(torch.corrcoef(z.T)[0, 1].item()) < 0.01


def test_gradients_pass_through_the_sample():
    mean, log_variance = (values.requires_grad_() for values in clouds(4, 3))
    z = reparameterize(mean, log_variance)
    mean_gradient, log_variance_gradient = torch.autograd.grad(z.sum(), (mean, log_variance))
    assert torch.equal(mean_gradient, torch.ones(4, 3))
    assert torch.allclose(log_variance_gradient, (z - mean) / 2, atol=1e-6)  # ∂σ·ε/∂log σ² = σ·ε / 2


def test_the_loss_by_hand():
    pictures, reconstructions, posterior = torch.rand(3, 3, 4, 4), torch.rand(3, 3, 4, 4), clouds(3, 2)
    squared = [float(((x - y) ** 2).sum()) for x, y in zip(pictures, reconstructions, strict=True)]
    divergences = kl_divergence(*posterior).tolist()
    for beta in (0.0, 1.0, 4.0):
        expected = sum(s / 2 + beta * d for s, d in zip(squared, divergences, strict=True)) / 3
        assert vae_loss(pictures, reconstructions, posterior, beta).item() == pytest.approx(expected, rel=1e-5)


def test_the_loss_is_the_negative_bound_up_to_a_constant():
    """Two reconstructions differ in loss by as much as they do in log p(x|z), x ~ N(x̂, 1)."""
    x, posterior = torch.rand(5, 3, 4, 4).double(), clouds(5, 2)
    first, second = (torch.rand(5, 3, 4, 4).double() for _ in range(2))
    likelihoods = [Normal(x_hat, 1.0).log_prob(x).sum((1, 2, 3)).mean() for x_hat in (first, second)]
    losses = [vae_loss(x, x_hat, posterior) for x_hat in (first, second)]
    assert (losses[0] - losses[1]).item() == pytest.approx((likelihoods[1] - likelihoods[0]).item())


def test_it_learns_sprites_and_keeps_its_clouds_near_the_unit_normal():
    pictures, _ = sprites(16, seed=0, subjects=("strawberry", "car", "house", "cat"), colours=("red",))
    model = VAE(AutoencoderConfig(width=16))
    optimiser = torch.optim.Adam(model.parameters(), lr=5e-3)
    blank = reconstruction_loss(pictures, pictures.mean(0, keepdim=True).expand_as(pictures)).item()
    for _ in range(150):
        optimiser.zero_grad()
        reconstructions, posterior = model(pictures)
        vae_loss(pictures, reconstructions, posterior).backward()
        optimiser.step()
    reconstructions, posterior = model(pictures)
    assert reconstruction_loss(pictures, reconstructions).item() < blank / 2
    spread = posterior.mean.var(0) + posterior.log_variance.exp().mean(0)  # of all the clouds together
    assert 0.3 < spread.min().item() <= spread.max().item() < 3
    assert posterior.mean.mean(0).abs().max().item() < 1


def test_a_heavy_beta_makes_every_cloud_the_unit_normal():
    pictures, _ = sprites(8, seed=0)
    model = VAE(AutoencoderConfig(width=4))
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(100):
        optimiser.zero_grad()
        reconstructions, posterior = model(pictures)
        vae_loss(pictures, reconstructions, posterior, beta=1000.0).backward()
        optimiser.step()
    assert kl_divergence(*posterior).mean().item() < 0.05
