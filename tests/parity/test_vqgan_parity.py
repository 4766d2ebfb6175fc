"""The VQ-GAN and the discriminator compared with taming-transformers, with the same weights."""

import importlib
import sys
from dataclasses import replace
from types import ModuleType
from typing import Any

import pytest
import torch
from atelier.blocks.vqgan import (
    VQGAN,
    PatchDiscriminator,
    VQGANConfig,
    adaptive_weight,
    hinge_discriminator_loss,
    hinge_generator_loss,
)
from torch import Tensor, nn

SMALL = VQGANConfig(
    resolution=32,
    channels=32,
    multipliers=(1, 2, 2),
    residual_blocks=2,
    attention_resolutions=(16, 8),
    z_channels=24,
    codes=64,
    code_width=16,
    decay=None,
    restart_below=0.0,
)


class Taming:
    """taming-transformers' modules, with substitutes for Lightning and for the LPIPS network that they download."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch):
        lightning: Any = ModuleType("pytorch_lightning")
        main: Any = ModuleType("taming.main")
        lpips: Any = ModuleType("taming.modules.losses.lpips")
        lightning.LightningModule = nn.Module
        lpips.LPIPS = nn.Identity
        monkeypatch.setitem(sys.modules, lightning.__name__, lightning)
        main.instantiate_from_config = lambda config: nn.Identity()
        monkeypatch.setitem(sys.modules, main.__name__, main)
        monkeypatch.setitem(sys.modules, lpips.__name__, lpips)
        self.vqgan = importlib.import_module("taming.models.vqgan")
        self.losses = importlib.import_module("taming.modules.losses.vqperceptual")
        self.discriminator = importlib.import_module("taming.modules.discriminator.model")

    def model(self, config: VQGANConfig) -> Any:
        """Build their model of our config, with random weights such that every layer affects the output."""
        shape = {
            "double_z": False,
            "z_channels": config.z_channels,
            "resolution": config.resolution,
            "in_channels": 3,
            "out_ch": 3,
            "ch": config.channels,
            "ch_mult": list(config.multipliers),
            "num_res_blocks": config.residual_blocks,
            "attn_resolutions": list(config.attention_resolutions),
            "dropout": 0.0,
        }
        torch.manual_seed(0)
        model = self.vqgan.VQModel(shape, None, config.codes, config.code_width, sane_index_shape=True).eval()
        with torch.no_grad():
            for name, weight in model.named_parameters():
                if "norm" in name:
                    weight.add_(0.2 * torch.randn_like(weight))
            model.quantize.embedding.weight.normal_(0, 0.3)
        return model


@pytest.fixture
def taming(monkeypatch: pytest.MonkeyPatch) -> Taming:
    return Taming(monkeypatch)


def relative(ours: Any, theirs: Any) -> float:
    """The largest difference, relative to the largest value."""
    return ((ours - theirs).abs().max() / theirs.abs().max()).item()


def compare(ours: VQGAN, theirs: Any, pictures: Tensor) -> None:
    """Compare encoder, codes, decoder, reconstruction and decoded pictures, for pictures from 0 to 1."""
    with torch.no_grad():
        x = pictures * 2 - 1
        assert relative(ours.encoder(x), theirs.encoder(x)) < 1e-4
        quantized, (z_q, _, (_, _, indices)) = ours.encode(pictures), theirs.encode(x)
        assert torch.equal(quantized.indices, indices)
        assert relative(quantized.z_q, z_q) < 1e-4
        decoded = theirs.decode(z_q)
        assert relative(ours.decode(z_q), (decoded + 1) / 2) < 1e-4
        assert relative(ours(pictures)[0] * 2 - 1, theirs(x)[0]) < 1e-4
        assert relative(ours.decode_codes(indices), ((decoded + 1) / 2).clamp(0, 1)) < 1e-4


def published(model: nn.Module) -> dict[str, Tensor]:
    """Copy a state dict, as a published checkpoint has it."""
    return {name: value.clone() for name, value in model.state_dict().items()}


def test_a_small_model_gives_the_same_numbers(taming: Taming):
    theirs = taming.model(SMALL)
    ours = VQGAN(SMALL).eval()
    ours.load_state_dict(published(theirs))
    compare(ours, theirs, torch.rand(3, 3, 32, 32))
    compare(ours, theirs, torch.rand(1, 3, 48, 16))


def test_the_whole_published_model_gives_the_same_numbers(taming: Taming):
    config = VQGANConfig.f16_16384()
    theirs = taming.model(config)
    ours = VQGAN(config).eval()
    ours.load_state_dict(published(theirs), assign=True)
    compare(ours, theirs, torch.rand(1, 3, 64, 64))


def test_gradients_are_the_same_with_beta_on_the_commitment_term(taming: Taming):
    theirs = taming.model(SMALL)
    theirs.quantize.legacy = False
    ours = VQGAN(SMALL)
    ours.load_state_dict(published(theirs))
    pictures = torch.rand(2, 3, 32, 32)
    reconstruction, quantized = ours(pictures)
    expected, expected_loss = theirs(pictures * 2 - 1)
    assert quantized.loss.item() == pytest.approx(expected_loss.item(), rel=1e-4)
    (reconstruction.square().mean() + quantized.loss).backward()
    (((expected + 1) / 2).square().mean() + expected_loss).backward()
    gradients = dict(ours.named_parameters())
    assert set(gradients) == {name for name, _ in theirs.named_parameters()}
    for name, weight in theirs.named_parameters():
        # The gradient of a bias before a norm is zero up to rounding errors.
        if weight.grad.abs().max() > 1e-6:
            assert relative(gradients[name].grad, weight.grad) < 1e-3, name


@pytest.mark.parametrize("layers", [2, 3, 4])
def test_the_discriminator_gives_the_same_logits(taming: Taming, layers: int):
    theirs = taming.discriminator.NLayerDiscriminator(3, 12, layers)
    ours = PatchDiscriminator(3, 12, layers)
    ours.load_state_dict(published(theirs))
    pictures = torch.rand(2, 3, 64, 64)
    assert relative(ours(pictures), theirs(pictures * 2 - 1)) < 1e-4
    assert relative(ours.eval()(pictures), theirs.eval()(pictures * 2 - 1)) < 1e-4


def test_the_adversarial_losses_are_the_same(taming: Taming):
    real, fake = torch.randn(2, 1, 6, 6), torch.randn(2, 1, 6, 6)
    assert torch.equal(hinge_discriminator_loss(real, fake), taming.losses.hinge_d_loss(real, fake))
    layer = nn.Conv2d(4, 3, 3)
    pictures, target = layer(torch.randn(1, 4, 8, 8)), torch.randn(1, 3, 6, 6)
    nll, generator = (pictures - target).abs().mean(), hinge_generator_loss(pictures.square())
    reference = taming.losses.VQLPIPSWithDiscriminator(disc_start=0, disc_weight=1.0)
    expected = reference.calculate_adaptive_weight(nll, generator, layer.weight)
    assert torch.equal(adaptive_weight(nll, generator, layer.weight), expected)


def test_another_eps_is_another_model(taming: Taming):
    theirs = taming.model(SMALL)
    ours = VQGAN(replace(SMALL, group_norm_eps=1e-1)).eval()
    ours.load_state_dict(published(theirs))
    x = torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        assert relative(ours.encoder(x), theirs.encoder(x)) > 1e-3
