"""The time of ranking compared with open_clip: part of `make bench`."""

import time
from collections.abc import Callable
from statistics import median
from typing import Any

import open_clip
import torch
from atelier.blocks.clip import CLIP, CLIPConfig
from atelier.weights.published.openclip import OpenClipTokenizer

PROMPT = "sunset over a lake in the mountains"
PAIRS = 7


def seconds(work: Callable[[], object]) -> float:
    """Measure the wall time of a function."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


@torch.no_grad()
def test_ranking_nine_pictures_at_vit_b_32_size(note) -> None:
    """Nine pictures of 224 pixels and one text, from tokenizer to scores, with the same weights, alternating."""
    torch.manual_seed(0)
    reference: Any = open_clip.create_model("ViT-B-32-quickgelu").eval()
    clip = CLIP(CLIPConfig.vit_b_32()).eval()
    clip.load_state_dict(reference.state_dict())
    tokenize, normalise = (
        open_clip.get_tokenizer("ViT-B-32"),
        open_clip.image_transform(224, is_train=False).transforms[-1],
    )
    pixels, tokenizer = torch.rand(9, 3, 224, 224), OpenClipTokenizer(tokenize)

    def ours() -> torch.Tensor:
        ids = tokenizer.encode([PROMPT], clip.config.context_length)
        return 100 * clip.encode_image(pixels) @ clip.encode_text(ids)[0]

    def theirs() -> torch.Tensor:
        text = reference.encode_text(tokenize([PROMPT]), normalize=True)
        return 100 * reference.encode_image(normalise(pixels), normalize=True) @ text[0]

    torch.testing.assert_close(ours(), theirs(), rtol=1e-4, atol=1e-4)
    pairs = [(seconds(ours), seconds(theirs)) for _ in range(PAIRS)]
    own, other = (median(times) for times in zip(*pairs, strict=True))
    note(f"ranking nine 224-pixel pictures, ViT-B/32, {torch.get_num_threads()} threads", own, "open_clip", other)
    assert median(b / a for a, b in pairs) >= 1
