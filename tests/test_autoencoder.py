"""The autoencoder: shapes, the slide's loss by hand, that it learns sprites by heart, bad input."""

import math

import pytest
import torch
from atelier.blocks.autoencoder import (
    Autoencoder,
    AutoencoderConfig,
    ConvConfig,
    ConvDecoder,
    ConvEncoder,
    reconstruction_loss,
)
from atelier.weights.sizes import check_sizes
from atelier.world import sprites


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.mark.parametrize(
    ("config", "map_shape"),
    [
        (ConvConfig(), (64, 4, 4)),
        (ConvConfig(size=32, width=6, levels=1), (6, 16, 16)),
        (ConvConfig(size=24, width=4, levels=3), (8, 3, 3)),
    ],
)
def test_encoder_and_decoder_mirror_each_other(config: ConvConfig, map_shape: tuple[int, ...]):
    assert config.map_shape == map_shape
    mapped = ConvEncoder(config)(torch.rand(2, 3, config.size, config.size))
    assert mapped.shape == (2, *map_shape)
    drawn = ConvDecoder(config)(mapped)
    assert drawn.shape == (2, 3, config.size, config.size)
    assert 0 < drawn.min() < drawn.max() < 1


@pytest.mark.parametrize("latent", [1, 2, 16])
def test_a_picture_passes_through_latent_numbers(latent: int):
    model = Autoencoder(AutoencoderConfig(width=4, latent=latent)).eval()
    pictures = torch.rand(3, 3, 32, 32)
    z = model.encode(pictures)
    assert z.shape == (3, latent)
    assert model.decode(z).shape == pictures.shape
    assert torch.equal(model(pictures), model.decode(z))


def test_the_default_size_is_small():
    assert sum(weights.numel() for weights in Autoencoder(AutoencoderConfig()).parameters()) < 300_000


def test_the_loss_is_the_mean_of_the_distances():
    pictures, reconstructions = torch.rand(3, 3, 8, 8), torch.rand(3, 3, 8, 8)
    by_hand = [
        math.sqrt(sum((a - b) ** 2 for a, b in zip(x.flatten().tolist(), y.flatten().tolist(), strict=True)))
        for x, y in zip(pictures, reconstructions, strict=True)
    ]
    assert reconstruction_loss(pictures, reconstructions).item() == pytest.approx(sum(by_hand) / 3, rel=1e-6)
    norms = torch.linalg.vector_norm(pictures - reconstructions, dim=(1, 2, 3))
    assert reconstruction_loss(pictures, reconstructions).item() == pytest.approx(norms.mean().item(), rel=1e-6)
    black, white = torch.zeros(2, 3, 32, 32), torch.ones(2, 3, 32, 32)
    assert reconstruction_loss(black, white).item() == pytest.approx(math.sqrt(3 * 32 * 32))


def test_a_perfect_reconstruction_has_loss_and_gradient_zero():
    pictures = torch.rand(2, 3, 8, 8)
    reconstructions = pictures.clone().requires_grad_()
    loss = reconstruction_loss(pictures, reconstructions)
    (gradient,) = torch.autograd.grad(loss, reconstructions)
    assert loss.item() == 0
    assert gradient.abs().max() == 0  # not NaN, though the root has no slope there


def test_it_learns_sixteen_sprites_by_heart_through_two_numbers():
    pictures, _ = sprites(16, seed=0, subjects=("strawberry", "car", "house", "cat"), colours=("red",))
    model = Autoencoder(AutoencoderConfig(width=16))
    optimiser = torch.optim.Adam(model.parameters(), lr=5e-3)
    blank = reconstruction_loss(pictures, pictures.mean(0, keepdim=True).expand_as(pictures)).item()
    for _ in range(150):
        optimiser.zero_grad()
        reconstruction_loss(pictures, model(pictures)).backward()
        optimiser.step()
    assert reconstruction_loss(pictures, model(pictures)).item() < blank / 4
    assert reconstruction_loss(pictures, model.eval()(pictures)).item() < blank / 2


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"width": 0}, "width=0.* has a number below 1"),
        ({"latent": 0}, "latent=0.* has a number below 1"),
        ({"size": 20}, "20 pixels cannot be halved 3 times"),
    ],
)
def test_impossible_sizes_are_refused(arguments: dict, sentence: str):
    with pytest.raises(ValueError, match=sentence):
        check_sizes(AutoencoderConfig(**arguments))
