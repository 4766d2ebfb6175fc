"""open_clip and our code load each other's CLIPs and compute the same scores, with relative differences below 1e-5.

Tested with random weights of ViT-B/32's full size, and with the shipped CLIP.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import open_clip
import pytest
import safetensors.torch
import torch
from atelier.blocks.clip import CLIP, CLIPConfig
from atelier.pictures import clip_square, seen_by_clip
from atelier.weights.preset import load_preset
from atelier.weights.published.openclip import (
    OpenClipTokenizer,
    config_from_open_clip,
    export_clip,
    open_clip_config,
    published_config,
    read_clip,
)
from atelier.weights.tokenizer import Tokenizer
from atelier.world import caption, paint, small_world
from PIL import Image
from torch import Tensor, nn

PROMPT = "sunset over a lake in the mountains"
NAME = "ViT-B-32"  # open_clip's description of this model does not mention QuickGELU
TEXTS = (
    PROMPT,
    "A photo, of the FOOD of China!",
    "it's 20 °C — 🦒 …",
    "&lt;b&gt;",
    "",
    "word " * 100,
    "“so”  and so\n",
)


def assert_same(ours: Tensor, theirs: Tensor) -> None:
    assert ours.shape == theirs.shape
    assert (ours - theirs).abs().max() <= 1e-5 * theirs.abs().max()


def images(size: int = 128, count: int = 3) -> list[Image.Image]:
    pixels = (paint(small_world().sample(count, seed=1), size) * 255).round().byte().permute(0, 2, 3, 1).numpy()
    return [Image.fromarray(picture) for picture in pixels]


@torch.no_grad()
def assert_same_scores(
    clip: CLIP, tokenizer: Any, reference: Any, transform: Any, tokenize: Any, texts: Sequence[str]
) -> None:
    """Compare embeddings and logits of images and texts, each side with its own preprocessing and tokenizer."""
    own_pixels = torch.stack([clip_square(image, clip.config.image_size) for image in images()]) / 255
    their_pixels = torch.stack([transform(image) for image in images()])
    own_ids, their_ids = tokenizer.encode(texts, clip.config.context_length), tokenize(texts)
    assert_same(clip.encode_image(own_pixels), reference.encode_image(their_pixels, normalize=True))
    assert_same(clip.encode_text(own_ids), reference.encode_text(their_ids, normalize=True))
    assert_same(clip(own_pixels, own_ids), reference.get_logits(their_pixels, their_ids)[0])


# ---------------------------------------------------------------------------------------------- the published model


@pytest.fixture(scope="module")
def published() -> Any:
    """open_clip's ViT-B/32 with QuickGELU, as for OpenAI's weights; no bias or norm has its initial value."""
    torch.manual_seed(0)
    reference = open_clip.create_model(NAME, force_quick_gelu=True).eval()
    with torch.no_grad():
        for parameter in reference.parameters():
            if parameter.ndim == 1:
                parameter.add_(torch.empty_like(parameter).normal_(std=0.1))
    return reference


@pytest.fixture(scope="module")
def file(published: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The weights in a file as on the hub."""
    path = tmp_path_factory.mktemp("published") / "open_clip_model.safetensors"
    safetensors.torch.save_file(published.state_dict(), path)
    yield path
    path.unlink()  # 600 MB


def test_a_published_file_gives_open_clips_numbers_and_can_be_exported(
    published: Any, file: Path, tmp_path: Path
) -> None:
    """Embeddings and logits of the loaded file are open_clip's, and the export has the same weights."""
    description = open_clip.get_model_config(NAME)
    config = published_config(NAME, description, open_clip.get_pretrained_cfg(NAME, "openai"))
    assert config == CLIPConfig.vit_b_32()
    clip = read_clip(file, config)
    transform, tokenize = open_clip.image_transform(224, is_train=False), open_clip.get_tokenizer(NAME)
    assert_same_scores(clip, OpenClipTokenizer(tokenize), published, transform, tokenize, TEXTS)
    folder = export_clip(clip, load_preset("laptop").load_clip_tokenizer(), tmp_path / "export")
    reference: Any = open_clip.create_model(f"local-dir:{folder}").eval()
    (folder / "open_clip_model.safetensors").unlink()
    ours, theirs = clip.state_dict(), reference.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    pixels, ids = torch.rand(2, 3, 224, 224), torch.tensor([[0, 300, 49407], [0, 49407, 0]])
    ids = torch.nn.functional.pad(ids, (0, 74))
    with torch.no_grad():
        normalised = open_clip.image_transform(224, is_train=False).transforms[-1](pixels)
        assert_same(clip(pixels, ids), reference.get_logits(normalised, ids)[0])


def test_tokens_are_open_clips_without_the_padding() -> None:
    tokenize = open_clip.get_tokenizer(NAME)
    ours, theirs = OpenClipTokenizer(tokenize).encode(TEXTS, 77), tokenize(TEXTS)
    assert torch.equal(ours, theirs[:, : ours.shape[1]])
    assert not theirs[:, ours.shape[1] :].any()
    assert ours.shape == theirs.shape  # one of the texts is longer than 77 tokens
    assert OpenClipTokenizer(tokenize).encode([PROMPT], 77).shape == (1, 9)
    assert OpenClipTokenizer(tokenize).encode(["lone \ud83e surrogate"], 77).shape[0] == 1


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "P"])
@pytest.mark.parametrize("size", [(224, 224), (256, 256), (300, 200), (97, 331), (225, 224), (7, 9)])
def test_pixels_are_those_of_open_clips_transform(mode: str, size: tuple[int, int]) -> None:
    image = images()[0].resize(size).convert(mode)
    transform = open_clip.image_transform(224, is_train=False)
    pixels = clip_square(image, 224)
    config = CLIPConfig.vit_b_32()
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (config.pixel_mean, config.pixel_std))
    theirs = transform(image)
    assert torch.equal(pixels, ((theirs * std + mean) * 255).round().byte())
    assert torch.equal((pixels / 255 - mean) / std, theirs)


def test_drawn_pictures_are_preprocessed_like_images() -> None:
    pictures = torch.stack([torch.rand(3, 64, 64), torch.zeros(3, 64, 64)])
    transform = open_clip.image_transform(224, is_train=False, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    pixels = (pictures * 255).round().byte().permute(0, 2, 3, 1).numpy()
    theirs = torch.stack([transform(Image.fromarray(picture)) for picture in pixels])
    assert torch.equal(seen_by_clip(pictures, 224), theirs)
    assert seen_by_clip(pictures, 64) is pictures


# ---------------------------------------------------------------------------------------------- ours


@pytest.fixture(scope="module")
def own() -> tuple[CLIP, Tokenizer]:
    preset = load_preset("laptop")
    return preset.load_clip(), preset.load_clip_tokenizer()


def test_open_clip_loads_our_export_and_gives_the_same_scores(own: tuple[CLIP, Tokenizer], tmp_path: Path) -> None:
    clip, tokenizer = own
    name = f"local-dir:{export_clip(clip, tokenizer, tmp_path / 'export')}"
    reference, _, transform = open_clip.create_model_and_transforms(name)
    tokenize = open_clip.get_tokenizer(name)
    texts = [caption(scene) for scene in small_world().sample(200, seed=2)]
    texts += [PROMPT, "Sunset,  over A LAKE!", "a " * 100, "</s> a cat <pad>", "été 🦒", ""]
    assert torch.equal(tokenize(texts), tokenizer.encode(texts, clip.config.context_length))
    assert_same_scores(clip, tokenizer, reference.eval(), transform, tokenize, texts)
    loaded = read_clip(tmp_path / "export" / "open_clip_model.safetensors", clip.config)
    assert all(torch.equal(value, loaded.state_dict()[name]) for name, value in clip.state_dict().items())


def test_an_exported_config_gives_the_same_sizes(own: tuple[CLIP, Tokenizer], tmp_path: Path) -> None:
    clip, tokenizer = own
    stored = json.loads((export_clip(clip, tokenizer, tmp_path) / "open_clip_config.json").read_text())
    assert stored == open_clip_config(clip.config)
    stored["model_cfg"]["text_cfg"].pop("hf_tokenizer_name")
    found = config_from_open_clip("ours", stored["model_cfg"])
    for name in ("embed_dim", "vision_heads", "text_layers", "end_token", "mlp_ratio", "context_length", "quick_gelu"):
        assert getattr(found, name) == getattr(clip.config, name)
