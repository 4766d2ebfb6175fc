"""The experiments' own functions: fair pairs, tables of frequencies, bits that are held."""

import math

import torch
from atelier.blocks.autoencoder import AutoencoderConfig
from atelier.blocks.vae import VAE, kl_divergence
from atelier.blocks.vq import VQVAE, VQVAEConfig
from atelier.teaching.experiments.lesson_2d import (
    frames_between,
    nearest_grids,
    pairs_of_kinds,
    probability_table,
    sample_table,
    spectrum,
    table_nats,
    vae_objective,
)
from atelier.training.recipes.normalization import effective_dimensions
from atelier.world import SPRITES, sprites


def test_every_sprite_is_in_one_pair_and_all_pairs_of_kinds_are_equally_frequent():
    _, kinds = sprites(120, seed=0)
    numbered = torch.arange(120.0).view(-1, 1, 1, 1)
    first, second, pairs = pairs_of_kinds(numbered)
    places = torch.cat([first, second]).flatten().long()
    assert sorted(places.tolist()) == list(range(120))
    assert torch.equal(torch.stack([kinds[first.flatten().long()], kinds[second.flatten().long()]], 1), pairs)
    assert (pairs[:, 0] != pairs[:, 1]).all()
    assert set(torch.unique(pairs, dim=0, return_counts=True)[1].tolist()) == {2}
    assert len(torch.unique(pairs, dim=0)) == len(SPRITES) * (len(SPRITES) - 1)


def test_frames_begin_and_end_with_the_reconstructions():
    torch.manual_seed(0)
    pictures, _ = sprites(4, seed=0)
    for model in (VAE(AutoencoderConfig(latent=3)).eval(), VQVAE(VQVAEConfig()).eval()):
        frames = frames_between(model, pictures[:2], pictures[2:], torch.linspace(0, 1, 5))
        assert frames.shape == (2, 5, 3, 32, 32)
        with torch.no_grad():
            back = model.decode(model.encode(pictures).mean) if isinstance(model, VAE) else model(pictures)[0]
        torch.testing.assert_close(torch.cat([frames[:, 0], frames[:, -1]]), back, rtol=1e-4, atol=1e-5)


def test_the_loss_is_least_at_the_wanted_bits():
    """The further the KL divergence is from the wanted one, on either side, the larger the loss."""
    torch.manual_seed(0)
    model, pictures = VAE(AutoencoderConfig(latent=3)).eval(), sprites(8, seed=0)[0]
    bits = kl_divergence(*model.encode(pictures)).mean().item() / math.log(2)
    losses = []
    for wanted in (bits, bits + 10, bits + 20, max(bits - 10, 0)):
        torch.manual_seed(0)
        losses.append(vae_objective(wanted)(model, pictures).item())
    assert losses[0] < losses[1] < losses[2]
    assert losses[0] < losses[3]


def test_tables_have_the_frequencies_of_their_codes():
    codes = torch.zeros(100, 64, dtype=torch.long)
    codes[:50, 1], codes[:50, 2] = 7, 9
    independent, chained = (probability_table(codes, depends=depends) for depends in (False, True))
    torch.testing.assert_close(independent.sum(2), torch.ones(64, 65))
    torch.testing.assert_close(chained.sum(2), torch.ones(64, 65))
    assert abs(independent[2, 0, 9] - 0.5) < 0.01
    assert chained[2, 7, 9] > 0.97
    assert chained[2, 0, 9] < 0.01
    assert table_nats(chained, codes) < table_nats(independent, codes) < math.log(64)
    drawn = sample_table(chained, 200).flatten(1)
    assert drawn.shape == (200, 64)
    assert ((drawn[:, 1] == 7) == (drawn[:, 2] == 9)).float().mean() > 0.95


def test_the_nearest_grid_differs_in_the_fewest_cells():
    known = torch.zeros(3, 8, 8, dtype=torch.long)
    known[1] += 1
    known[2, 0] = 5
    grid = known[2:].clone()
    grid[0, 7, 7] = 9
    unlike, index = nearest_grids(grid, known)
    assert (unlike.tolist(), index.tolist()) == ([1], [2])


def test_the_spectrum_belongs_to_the_effective_dimensions():
    codebook = torch.randn(64, 16, generator=torch.Generator().manual_seed(0))
    shares = spectrum(codebook)
    assert torch.equal(shares, shares.sort(descending=True).values)
    entropy = -(shares * shares.log()).sum()
    assert math.isclose(float(entropy.exp()), effective_dimensions(codebook), rel_tol=1e-6)
