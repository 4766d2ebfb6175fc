"""The VQ-GAN: shapes, pixel ranges, names, losses, learning, bad input."""

import json
from dataclasses import asdict, replace

import pytest
import torch
from atelier.blocks.vq import MovingAverageQuantizer, VectorQuantizer
from atelier.blocks.vqgan import (
    VQGAN,
    PatchDiscriminator,
    VQGANConfig,
    adaptive_weight,
    hinge_discriminator_loss,
    hinge_generator_loss,
    perceptual_distance,
)
from atelier.weights.codebooks import with_moving_averages
from atelier.weights.fields import from_json
from atelier.weights.sizes import check_sizes

TINY = VQGANConfig(
    resolution=16,
    channels=8,
    multipliers=(1, 2, 2),
    residual_blocks=1,
    attention_resolutions=(8,),
    z_channels=12,
    codes=24,
    code_width=6,
    group_norm_groups=4,
)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def test_pictures_become_a_grid_of_codes_and_pictures_again():
    model = VQGAN(TINY)
    reconstruction, quantized = model(torch.rand(3, 3, 16, 16))
    assert TINY.factor == 4
    assert TINY.grid == 4
    assert quantized.z_q.shape == (3, 6, 4, 4)
    assert quantized.indices.shape == (3, 4, 4)
    assert quantized.loss.shape == ()
    assert reconstruction.shape == (3, 3, 16, 16)


def test_pictures_of_another_size_and_shape_work_too():
    reconstruction, quantized = VQGAN(TINY).eval()(torch.rand(1, 3, 8, 24))
    assert quantized.indices.shape == (1, 2, 6)
    assert reconstruction.shape == (1, 3, 8, 24)


def test_decoding_codes_is_decoding_their_vectors_clamped():
    model = VQGAN(TINY)
    model(torch.rand(4, 3, 16, 16))
    model.eval()
    with torch.no_grad():
        model.decoder.conv_out.weight.mul_(30)
        reconstruction, quantized = model(torch.rand(2, 3, 16, 16))
    pictures = model.decode_codes(quantized.indices)
    assert reconstruction.min() < 0
    assert reconstruction.max() > 1
    assert torch.equal(pictures, reconstruction.clamp(0, 1))


def test_the_pixel_range_belongs_to_the_weights():
    inside_01, inside_11 = VQGAN(replace(TINY, pixel_range="[0,1]")).eval(), VQGAN(TINY).eval()
    inside_01.load_state_dict(inside_11.state_dict())
    pictures = torch.rand(1, 3, 16, 16)
    assert torch.equal(inside_11.encoder(pictures * 2 - 1), inside_01.encoder(pictures * 2 - 1))
    assert torch.equal(inside_11.encode(pictures).z_q, inside_01.encode(pictures * 2 - 1).z_q)
    z_q = torch.randn(1, 6, 4, 4)
    assert torch.allclose(inside_11.decode(z_q), (inside_01.decode(z_q) + 1) / 2)


def test_the_published_model_is_one_config():
    config = VQGANConfig.f16_16384()
    with torch.device("meta"):
        model = VQGAN(config)
    assert (config.factor, config.grid) == (16, 16)
    published = model.state_dict()
    assert len(published) == 343
    assert published["encoder.down.0.block.0.norm1.weight"].shape == (128,)
    assert published["encoder.down.4.attn.1.proj_out.weight"].shape == (512, 512, 1, 1)
    assert published["decoder.up.4.block.2.conv2.weight"].shape == (512, 512, 3, 3)
    assert published["decoder.up.4.upsample.conv.weight"].shape == (512, 512, 3, 3)
    assert published["quantize.embedding.weight"].shape == (16384, 256)
    assert model.last_layer is model.decoder.conv_out.weight


def test_weights_without_training_statistics_load_strictly_and_others_do_not():
    source, target = VQGAN(TINY), VQGAN(TINY)
    published = {name: value for name, value in source.state_dict().items() if not name.endswith(("counts", "sums"))}
    target.load_state_dict(with_moving_averages(target, published))
    codes = torch.randint(24, (2, 4, 4))
    assert torch.equal(source.eval().decode_codes(codes), target.eval().decode_codes(codes))
    with pytest.raises(RuntimeError, match="Unexpected key"):
        target.load_state_dict(with_moving_averages(target, published | {"loss.discriminator.weight": torch.zeros(1)}))
    del published["post_quant_conv.bias"]
    with pytest.raises(RuntimeError, match="Missing key"):
        target.load_state_dict(with_moving_averages(target, published))


def test_it_learns_two_pictures_by_heart():
    model = VQGAN(replace(TINY, decay=0.8))
    pictures = torch.zeros(2, 3, 16, 16)
    pictures[0, 0, :, :8] = 1
    pictures[1, 2, 8:] = 1
    optimizer = torch.optim.Adam([weight for weight in model.parameters() if weight.requires_grad], 2e-3)
    for _ in range(100):
        reconstruction, quantized = model(pictures)
        optimizer.zero_grad()
        (torch.nn.functional.l1_loss(reconstruction, pictures) + quantized.loss).backward()
        optimizer.step()
    assert (model.eval()(pictures)[0] - pictures).abs().mean() < 0.06


def test_without_a_decay_the_codebook_is_the_plain_one():
    assert type(VQGAN(replace(TINY, decay=None)).quantize) is VectorQuantizer
    moving = VQGAN(replace(TINY, beta=0.5, decay=0.9, restart_below=0.1)).quantize
    assert isinstance(moving, MovingAverageQuantizer)
    assert (moving.beta, moving.decay, moving.restart_below) == (0.5, 0.9, 0.1)


def test_every_trained_weight_gets_a_gradient():
    model = VQGAN(replace(TINY, decay=None))
    reconstruction, quantized = model(torch.rand(2, 3, 16, 16))
    (reconstruction.square().mean() + quantized.loss).backward()
    assert [name for name, weight in model.named_parameters() if weight.grad is None] == []


def test_channels_last_and_autocast_draw_the_same_picture():
    model = VQGAN(replace(TINY, channels=16)).eval()
    codes = torch.randint(24, (2, 4, 4))
    expected = model.decode_codes(codes)
    model.to(memory_format=torch.channels_last)
    assert torch.allclose(model.decode_codes(codes), expected, atol=1e-5)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.allclose(model.decode_codes(codes).float(), expected, atol=0.05)


def test_the_discriminator_judges_patches_and_learns_to_tell_two_kinds():
    discriminator = PatchDiscriminator(width=8, layers=2)
    smooth, rough = torch.full((4, 3, 32, 32), 0.5), torch.rand(4, 3, 32, 32)
    assert discriminator(rough).shape == (4, 1, 6, 6)
    assert PatchDiscriminator()(torch.rand(2, 3, 64, 64)).shape == (2, 1, 6, 6)
    optimizer = torch.optim.Adam(discriminator.parameters(), 2e-3)
    for _ in range(40):
        loss = hinge_discriminator_loss(discriminator(rough), discriminator(smooth))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.3


def test_hinge_losses_by_hand():
    real, fake = torch.tensor([2.0, 0.5]), torch.tensor([-3.0, 1.0])
    assert hinge_discriminator_loss(real, fake).item() == pytest.approx(((0 + 0.5) / 2 + (0 + 2) / 2) / 2)
    assert hinge_generator_loss(fake).item() == pytest.approx(1.0)


def test_the_adaptive_weight_is_the_ratio_of_the_gradients():
    layer = torch.tensor([1.0, 2.0], requires_grad=True)
    nll, generator = (layer * torch.tensor([3.0, 4.0])).sum(), (layer * torch.tensor([0.0, 0.5])).sum()
    weight = adaptive_weight(nll, generator, layer)
    assert weight.item() == pytest.approx(5 / (0.5 + 1e-4))
    assert not weight.requires_grad
    assert layer.grad is None
    assert adaptive_weight(nll * 1e6, generator, layer).item() == 1e4
    (nll + weight * generator).backward()  # the graph is still there


def test_the_perceptual_distance_compares_directions():
    a = torch.zeros(2, 4, 3, 3)
    a[:, 0] = 5
    other = torch.zeros(2, 4, 3, 3)
    other[0, 0], other[1, 1] = 100, 7
    assert perceptual_distance([a], [a]).tolist() == [0, 0]
    assert perceptual_distance([a], [other]).tolist() == pytest.approx([0, 2], abs=1e-4)
    assert perceptual_distance([a], [-a]).tolist() == pytest.approx([4, 4], abs=1e-4)
    assert perceptual_distance([a, a], [other, a])[1].item() == pytest.approx(1, abs=1e-4)


def test_the_perceptual_distance_has_a_gradient_where_a_network_sees_nothing():
    nothing = torch.zeros(1, 4, 2, 2, requires_grad=True)
    perceptual_distance([nothing], [torch.rand(1, 4, 2, 2)]).sum().backward()
    assert nothing.grad is not None
    assert nothing.grad.isfinite().all()
    assert nothing.grad.abs().max() < 1e3


def test_maps_of_different_shapes_cannot_be_compared():
    with pytest.raises(ValueError, match="same shapes"):
        perceptual_distance([torch.rand(1, 4, 2, 2)], [torch.rand(1, 4, 3, 3)])


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"multipliers": ()}, "at least one level"),
        ({"codes": 0}, "codes is 0"),
        ({"resolution": 18}, "cannot be halved 2 times"),
        ({"group_norm_groups": 3}, "do not divide 8 channels"),
        ({"pixel_range": "[0,255]"}, "pixel_range is"),
        ({"beta": -1.0}, "beta is -1.0"),
        ({"decay": 1.0}, "decay is 1.0"),
        ({"restart_below": 1.5}, "restart_below is 1.5"),
    ],
)
def test_impossible_configs_are_refused(changes: dict, sentence: str):
    with pytest.raises(ValueError, match=sentence):
        check_sizes(replace(TINY, **changes))


def test_a_config_from_lists_is_the_same_config():
    assert from_json(VQGANConfig, json.loads(json.dumps(asdict(TINY))), "vqgan") == TINY


@pytest.mark.parametrize("shape", [(3, 16, 16), (1, 1, 16, 16), (1, 3, 16, 18)])
def test_pictures_that_do_not_fit_are_refused(shape: tuple[int, ...]):
    with pytest.raises(ValueError, match=r"\(n, 3, H, W\) with sides that 4 divides, but got"):
        VQGAN(TINY).encode(torch.zeros(shape))


@pytest.mark.parametrize(
    "codes", [torch.zeros(1, 16, dtype=torch.long), torch.full((1, 4, 4), 24), -torch.ones(1, 4, 4, dtype=torch.long)]
)
def test_codes_that_do_not_fit_are_refused(codes: torch.Tensor):
    with pytest.raises(ValueError, match=r"codes of shape \(n, h, w\)|codes 0 to 23"):
        VQGAN(TINY).decode_codes(codes)
