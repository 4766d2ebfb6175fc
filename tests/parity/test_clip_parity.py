"""With the same random weights `CLIP` and open_clip compute the same; open_clip's state dict loads strictly."""

from dataclasses import replace

import open_clip
import pytest
import torch
from atelier.blocks.clip import CLIP, CLIPConfig, contrastive_loss
from torch import Tensor, nn

TINY = CLIPConfig(
    embed_dim=12,
    image_size=16,
    patch_size=4,
    vision_width=128,
    vision_layers=2,
    vision_heads=2,
    vocabulary=30,
    context_length=7,
    text_width=16,
    text_layers=3,
    text_heads=2,
    quick_gelu=True,
)


def reference_for(config: CLIPConfig) -> open_clip.CLIP:
    """Build open_clip's model of these sizes; its biases and norms are not at their initial values."""
    torch.manual_seed(0)
    reference = open_clip.CLIP(
        embed_dim=config.embed_dim,
        vision_cfg=open_clip.CLIPVisionCfg(
            image_size=config.image_size,
            patch_size=config.patch_size,
            width=config.vision_width,
            layers=config.vision_layers,
            head_width=config.vision_width // config.vision_heads,
        ),
        text_cfg=open_clip.CLIPTextCfg(
            context_length=config.context_length,
            vocab_size=config.vocabulary,
            width=config.text_width,
            heads=config.text_heads,
            layers=config.text_layers,
            pool_type="argmax" if config.end_token is None else "eos",
            eos_id=config.end_token or 0,
        ),
        quick_gelu=config.quick_gelu,
    ).eval()
    with torch.no_grad():
        for parameter in reference.parameters():
            if parameter.ndim == 1:  # matrices are initialised at random already
                parameter.add_(torch.empty_like(parameter).normal_(std=0.1))
    return reference


def pair(config: CLIPConfig) -> tuple[CLIP, open_clip.CLIP]:
    reference = reference_for(config)
    with torch.device("meta"):
        clip = CLIP(config).eval()
    clip.load_state_dict(reference.state_dict(), assign=True)
    return clip, reference


def normalised(config: CLIPConfig, pixels: Tensor) -> Tensor:
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (config.pixel_mean, config.pixel_std))
    return (pixels - mean) / std


def assert_same(ours: Tensor, theirs: Tensor) -> None:
    assert ours.shape == theirs.shape
    assert (ours - theirs).abs().max() <= 1e-5 * theirs.abs().max()


@torch.no_grad()
def assert_same_outputs(config: CLIPConfig, ids: Tensor) -> None:
    clip, reference = pair(config)
    pixels = torch.rand(len(ids), 3, config.image_size, config.image_size)
    theirs_image = reference.encode_image(normalised(config, pixels), normalize=True)
    theirs_text = reference.encode_text(ids, normalize=True)
    assert_same(clip.encode_image(pixels), theirs_image)
    assert_same(clip.encode_text(ids), theirs_text)
    assert_same(clip(pixels, ids), reference.get_logits(normalised(config, pixels), ids)[0])
    scale = reference.logit_scale.exp()
    theirs_loss = open_clip.ClipLoss()(theirs_image, theirs_text, scale)
    assert_same(contrastive_loss(theirs_image, theirs_text, scale), theirs_loss)


def tiny_ids() -> Tensor:
    return torch.tensor([[0, 9, 29, 2, 1, 1, 1], [0, 8, 7, 6, 5, 28, 2], [0, 27, 2, 1, 1, 1, 1]])


@pytest.mark.parametrize("quick_gelu", [True, False])
@pytest.mark.parametrize("end_token", [None, 2])
def test_tiny(quick_gelu, end_token):
    assert_same_outputs(replace(TINY, quick_gelu=quick_gelu, end_token=end_token), tiny_ids())


def test_vit_b_32():
    config = CLIPConfig.vit_b_32()
    ids = torch.zeros(2, 77, dtype=torch.int64)
    for row, words in enumerate(([320, 1125, 539], [518, 40000, 9000, 17, 5])):
        ids[row, : len(words) + 2] = torch.tensor([49406, *words, 49407])
    assert_same_outputs(config, ids)


def test_gradients_are_the_same():
    reference = reference_for(TINY)
    clip = CLIP(TINY)
    clip.load_state_dict(reference.state_dict())
    pixels, ids = torch.rand(3, 3, 16, 16), tiny_ids()
    contrastive_loss(clip.encode_image(pixels), clip.encode_text(ids), clip.logit_scale.exp()).backward()
    theirs_image = reference.encode_image(normalised(TINY, pixels), normalize=True)
    theirs_text = reference.encode_text(ids, normalize=True)
    open_clip.ClipLoss()(theirs_image, theirs_text, reference.logit_scale.exp()).backward()
    ours, theirs = gradients(clip), gradients(reference)
    assert ours.keys() == theirs.keys()
    largest = max(gradient.abs().max() for gradient in theirs.values())
    assert max((ours[name] - theirs[name]).abs().max() for name in theirs) <= 1e-5 * largest


def gradients(model: nn.Module) -> dict[str, Tensor]:
    return {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}


def test_the_published_model_has_these_sizes():
    """The state dicts of `vit_b_32` and of open_clip's ViT-B-32-quickgelu have the same names and shapes."""
    with torch.device("meta"):
        clip = CLIP(CLIPConfig.vit_b_32())
        published = open_clip.get_model_config("ViT-B-32-quickgelu")
        reference: nn.Module = open_clip.CLIP(**published)
    assert published["quick_gelu"]
    assert {name: value.shape for name, value in clip.state_dict().items()} == {
        name: value.shape for name, value in reference.state_dict().items()
    }
