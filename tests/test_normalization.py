"""Whitening of z_e: its statistics and gradient, folding for export, and the effective dimensions."""

from __future__ import annotations

import pytest
import torch
from atelier.blocks.vqgan import VQGAN
from atelier.training.recipes.normalization import (
    Whitening,
    add_whitening,
    effective_dimensions,
    fold_whitening,
    load_folded,
)
from tiny_preset import tiny_preset
from torch import Tensor, nn


def correlated(n: int = 64, width: int = 4) -> Tensor:
    """Make maps (n, width, 5, 5) with correlated channels of different scales and a mean of 2."""
    mixing = torch.randn(width, width) * torch.tensor([3.0, 1.0, 0.3, 0.1])[:, None]
    return torch.einsum("ij,njhw->nihw", mixing, torch.randn(n, width, 5, 5)) + 2.0


def covariance(maps: Tensor) -> Tensor:
    return maps.movedim(1, 0).flatten(1).cov(correction=0)


def test_a_batch_is_whitened_in_training():
    torch.manual_seed(0)
    white = Whitening(4).train()(correlated())
    assert torch.allclose(covariance(white), torch.eye(4), atol=5e-3)
    assert white.mean((0, 2, 3)).abs().max() < 1e-4


def test_evaluation_uses_running_statistics_of_about_fifty_batches():
    torch.manual_seed(0)
    whitening, maps = Whitening(4).train(), correlated(512)
    for _ in range(600):
        whitening(maps[torch.randperm(512)[:64]])
    white = whitening.eval()(maps)
    assert torch.allclose(covariance(white), torch.eye(4), atol=0.05)
    before = whitening.covariance.clone()
    whitening(correlated())
    assert torch.equal(whitening.covariance, before)


def test_the_gradient_agrees_with_finite_differences():
    torch.manual_seed(0)
    whitening, maps = Whitening(3).train(), torch.randn(2, 3, 4, 4)
    weights = torch.randn_like(maps)

    def loss(x: Tensor) -> Tensor:
        return (whitening(x) * weights).sum()

    maps.requires_grad_(True)
    (analytic,) = torch.autograd.grad(loss(maps), maps)
    step = torch.zeros_like(maps)
    step[1, 2, 0, 1] = 1e-2
    numeric = (loss(maps + step) - loss(maps - step)) / 2e-2
    assert analytic[1, 2, 0, 1].item() == pytest.approx(numeric.item(), rel=2e-2)


def test_folding_keeps_codes_and_pictures_and_the_published_names(tmp_path):
    torch.manual_seed(0)
    vqgan = VQGAN(tiny_preset(tmp_path).vqgan)
    names = list(vqgan.state_dict())
    add_whitening(vqgan)
    for _ in range(80):
        vqgan.train()(torch.rand(4, 3, 16, 16))
    vqgan.eval()
    folded = fold_whitening(vqgan)
    assert list(folded.state_dict()) == names
    assert isinstance(folded.quant_conv, nn.Conv2d)
    pictures = torch.rand(8, 3, 16, 16)
    (a, before), (b, after) = vqgan(pictures), folded(pictures)
    assert (before.indices == after.indices).float().mean() > 0.99
    same = (before.indices == after.indices).flatten(1).all(1)
    assert torch.allclose(a[same], b[same], atol=1e-4)
    assert isinstance(vqgan.quant_conv, nn.Sequential), "the module in training was changed"
    unchanged = fold_whitening(folded)
    assert all(
        torch.equal(x, y) for x, y in zip(unchanged.state_dict().values(), folded.state_dict().values(), strict=True)
    )


def test_an_exported_vqgan_is_loaded_with_its_whitening_as_the_identity(tmp_path):
    torch.manual_seed(0)
    config = tiny_preset(tmp_path).vqgan
    exported, plain, whitened = VQGAN(config).eval(), VQGAN(config).eval(), VQGAN(config).eval()
    add_whitening(whitened)
    pictures, codes = torch.rand(8, 3, 16, 16), torch.randint(config.codes, (8, config.grid, config.grid))
    for vqgan in (plain, whitened):
        load_folded(vqgan.eval(), exported)
        assert torch.allclose(
            vqgan.quant_conv(vqgan.encoder(pictures)), exported.quant_conv(exported.encoder(pictures)), atol=1e-4
        )
        assert torch.equal(vqgan.decode_codes(codes), exported.decode_codes(codes))


def test_effective_dimensions_count_directions():
    torch.manual_seed(0)
    assert effective_dimensions(torch.randn(20000, 8)) == pytest.approx(8, abs=0.05)
    line = torch.randn(1000, 1) * torch.randn(1, 8)
    assert effective_dimensions(line) == pytest.approx(1, abs=1e-6)
    plane = torch.randn(20000, 2) @ torch.linalg.qr(torch.randn(8, 8))[0][:2]
    assert effective_dimensions(plane + 3) == pytest.approx(2, abs=0.01)
