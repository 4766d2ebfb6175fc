"""The latent-size study of lessons 2b to 2d: its models, how it counts bits, and what its measurements mean."""

import math

import pytest
import torch
from atelier.blocks.vq import VQVAE
from atelier.teaching.experiments.lesson_2c import (
    BITS_A_NUMBER,
    FAMILIES,
    LATENT_SIZE,
    SIZES,
    build,
    fit,
    latent_size_figure,
    loss_of,
    measure,
    normal_fit,
    quality,
    rounded,
    shuffled_codes,
    told_apart,
)
from atelier.world import sprites


def test_a_vq_vae_has_as_many_bits_as_the_autoencoder_of_its_column():
    for size in SIZES:
        model = build("VQ-VAE", size).eval()
        assert isinstance(model, VQVAE)
        codes = model.encode(torch.rand(2, 3, 32, 32)).indices[0]
        assert codes.numel() * math.log2(model.config.codes) == BITS_A_NUMBER * size


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_is_trained_and_measured(family, monkeypatch):
    monkeypatch.setattr("atelier.teaching.experiments.lesson_2c.STEPS", 4)
    monkeypatch.setattr("atelier.teaching.experiments.lesson_2c.PICTURES", 60)
    monkeypatch.setattr("atelier.teaching.experiments.lesson_2c.RANDOM_POINTS", 20)
    pictures, _ = sprites(60, 0)
    torch.manual_seed(0)
    model = build(family, 2)
    before = loss_of(model, pictures).item()
    measured = measure(fit(model, pictures, 0), pictures, 0)
    assert loss_of(model, pictures).item() < before
    assert {"bits", "distance", "psnr", "recognised", "kinds"} <= measured.keys()
    assert all(math.isfinite(value) for value in measured.values())


def test_rounded_latents_have_at_most_64_levels_and_stay_close():
    latents = torch.randn(500, 3)
    near = rounded(latents, latents)
    assert all(len(axis.unique()) <= 2**BITS_A_NUMBER for axis in near.T)
    step = (latents.amax(0) - latents.amin(0)) / (2**BITS_A_NUMBER - 1)
    assert ((near - latents).abs() <= step / 2 + 1e-5).all()


def test_the_normal_fit_has_the_latents_mean_and_covariance():
    latents = torch.randn(2000, 3) @ torch.randn(3, 3) + 5
    mean, factor = normal_fit(latents)
    torch.testing.assert_close(mean, latents.mean(0))
    torch.testing.assert_close(factor @ factor.T, latents.T.cov(), rtol=1e-4, atol=1e-4)


def test_shuffled_codes_come_from_their_own_positions():
    known = torch.arange(8).reshape(2, 2, 2)  # each position has two codes of its own
    drawn = shuffled_codes(known, 400)
    assert drawn.shape == (400, 2, 2)
    for row in range(2):
        for column in range(2):
            assert set(drawn[:, row, column].tolist()) == set(known[:, row, column].tolist())
    assert len(drawn.flatten(1).unique(dim=0)) == 16  # the positions are independent


def test_latents_are_told_from_other_points_but_not_from_equal_ones():
    torch.manual_seed(0)
    first, second = torch.randn(1000, 4), torch.randn(1000, 4)
    assert told_apart(first, second) < 0.58
    assert told_apart(first + 3, second) > 0.95
    clusters = first.sign() + 0.1 * second  # the same mean and variance, another shape
    assert told_apart(clusters, torch.randn(1000, 4)) > 0.9


def test_quality_counts_kinds_that_are_kept():
    pictures, kinds = sprites(120, 5)
    assert quality(pictures)[0] > 0.95
    assert quality(pictures)[1] == 6
    assert quality(pictures[kinds == 0])[1] == 1


def test_the_figure_shows_the_families_asked_for():
    assert len(latent_size_figure(["AE"]).axes[1].containers) == 2
    assert len(latent_size_figure().axes[1].containers) == 4
    assert set(LATENT_SIZE.arms) == {f"{family} {size}" for family in FAMILIES for size in SIZES}
