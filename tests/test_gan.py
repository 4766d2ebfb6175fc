"""The vanilla GAN: shapes, what its layers are equal to, its losses by hand, that both players learn, bad input."""

import math

import pytest
import torch
import torch.nn.functional as F
from atelier.blocks.gan import Discriminator, GANConfig, Generator, discriminator_loss, generator_loss
from atelier.weights.sizes import check_sizes
from atelier.world import sprites
from torch import nn

TINY = GANConfig(size=16, latent=8, width=4)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.mark.parametrize("config", [GANConfig(), TINY, GANConfig(size=8, latent=1, width=2), GANConfig(size=64)])
def test_noise_becomes_pictures_and_pictures_logits(config: GANConfig):
    pictures = Generator(config)(torch.randn(3, config.latent))
    assert pictures.shape == (3, 3, config.size, config.size)
    assert 0 < pictures.min() < pictures.max() < 1
    assert Discriminator(config)(pictures).shape == (3,)


def test_channels_double_where_the_side_halves():
    assert GANConfig(size=32, width=24).widths == [24, 48, 96]
    assert GANConfig(size=8, width=24).widths == [24]


def test_the_default_size_is_small_enough_to_ship():
    assert sum(weights.numel() for weights in Generator(GANConfig()).parameters()) < 350_000


def test_doubling_is_nearest_upsampling_and_a_convolution():
    transposed, pool = list(Generator(TINY).layers)[-2:]
    assert isinstance(transposed, nn.ConvTranspose2d)
    x = torch.randn(2, transposed.in_channels, 5, 7)
    kernel = transposed.weight.transpose(0, 1).flip(2, 3)
    repeated = x.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
    bias = 4 * transposed.get_parameter("bias")  # four neighbours are added, each with the bias
    assert torch.allclose(pool(transposed(x)), F.conv2d(repeated, kernel, bias, padding=1), atol=1e-5)


def test_each_picture_is_drawn_and_judged_by_itself():
    generator, discriminator = Generator(TINY).eval(), Discriminator(TINY).eval()
    z = torch.randn(5, 8)
    pictures = generator(z)
    assert torch.allclose(generator(z[2:3]), pictures[2:3], atol=1e-6)
    assert torch.allclose(discriminator(pictures[2:3]), discriminator(pictures)[2:3], atol=1e-6)


def test_the_discriminators_slope_is_bounded():
    discriminator = Discriminator(TINY)
    with torch.no_grad():
        for weights in discriminator.parameters():
            weights.mul_(50)  # without spectral normalisation the logits would grow by millions
    for _ in range(30):
        discriminator(torch.rand(4, 3, 16, 16))
    discriminator.eval()
    for layer in discriminator.layers:
        if isinstance(layer, nn.Conv2d | nn.Linear):
            assert torch.linalg.matrix_norm(layer.weight.flatten(1), 2).item() == pytest.approx(1, abs=0.02)


def test_losses_by_hand():
    real, fake = torch.tensor([2.0, -1.0]), torch.tensor([0.5, 0.0])
    d_real, d_fake = ([1 / (1 + math.exp(-x)) for x in logits.tolist()] for logits in (real, fake))
    by_hand = -sum(map(math.log, d_real)) / 2 - sum(math.log(1 - d) for d in d_fake) / 2
    assert discriminator_loss(real, fake).item() == pytest.approx(by_hand, abs=1e-6)
    assert generator_loss(fake).item() == pytest.approx(-sum(map(math.log, d_fake)) / 2, abs=1e-6)
    assert discriminator_loss(torch.zeros(4), torch.zeros(4)).item() == pytest.approx(2 * math.log(2))


def test_losses_are_binary_cross_entropy_with_logits():
    real, fake = torch.randn(64) * 20, torch.randn(64) * 20
    ones, zeros = torch.ones(64), torch.zeros(64)
    cross_entropy = F.binary_cross_entropy_with_logits
    expected = cross_entropy(real, ones) + cross_entropy(fake, zeros)
    assert discriminator_loss(real, fake).item() == pytest.approx(expected.item(), rel=1e-6)
    assert generator_loss(fake).item() == pytest.approx(cross_entropy(fake, ones).item(), rel=1e-6)


def test_the_generators_loss_does_not_saturate_where_the_pictures_are_bad():
    logits = torch.tensor([-20.0], requires_grad=True)
    (slope,) = torch.autograd.grad(generator_loss(logits), logits)
    (saturated,) = torch.autograd.grad(-F.softplus(logits).mean(), logits)  # eq. 1's, log(1 − D)
    assert slope.item() == pytest.approx(-1, abs=1e-6)
    assert abs(saturated.item()) < 1e-6


def test_the_discriminator_learns_to_tell_sprites_from_a_fresh_generators_pictures():
    config = GANConfig(width=8)
    generator, discriminator = Generator(config), Discriminator(config)
    pictures, _ = sprites(24, seed=0)
    drawn = generator(torch.randn(24, config.latent)).detach()
    optimiser = torch.optim.Adam(discriminator.parameters(), lr=5e-3, betas=(0.5, 0.99))
    for _ in range(40):
        optimiser.zero_grad()
        discriminator_loss(discriminator(pictures), discriminator(drawn)).backward()
        optimiser.step()
    assert (discriminator(pictures) > 0).float().mean() > 0.95
    assert (discriminator(drawn) < 0).float().mean() > 0.95


def test_the_game_moves_the_generator_towards_the_data():
    config = GANConfig(latent=8, width=8)
    generator, discriminator = Generator(config), Discriminator(config)
    pictures, _ = sprites(32, seed=0, subjects=("strawberry",), colours=("red",))
    players = (generator, discriminator)
    g_step, d_step = (torch.optim.Adam(player.parameters(), lr=3e-3, betas=(0.5, 0.99)) for player in players)

    def distance() -> float:
        """Between the mean picture drawn and the mean picture painted."""
        with torch.no_grad():
            return (generator(torch.randn(64, 8)).mean(0) - pictures.mean(0)).square().mean().sqrt().item()

    before = distance()
    for _ in range(120):
        drawn = generator(torch.randn(16, 8))
        d_step.zero_grad()
        discriminator_loss(discriminator(pictures[torch.randint(32, (16,))]), discriminator(drawn.detach())).backward()
        d_step.step()
        g_step.zero_grad()
        generator_loss(discriminator(drawn)).backward()
        g_step.step()
    assert distance() < before / 2


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"size": 24}, "size is 24: give a power of two"),
        ({"size": 4}, "size is 4: give a power of two"),
        ({"latent": 0}, "latent is 0, width 32"),
        ({"width": 7}, "width 7: give .* an even number"),
    ],
)
def test_impossible_sizes_are_refused(arguments: dict, sentence: str):
    with pytest.raises(ValueError, match=sentence):
        check_sizes(GANConfig(**arguments))
