"""A CLIP that is trained within seconds on sprites and their captions (lessons 4 and 5)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from tqdm.auto import tqdm

from atelier.blocks.clip import CLIPConfig, contrastive_loss
from atelier.teaching.sprite_translator import CAPTION_LENGTH
from atelier.weights.tokenizer import END, Tokenizer
from atelier.world import (
    HELD_OUT_SPRITES,
    SPRITE_COLOURS,
    SPRITE_WORDINGS,
    SPRITES,
    Scene,
    paint_sprites,
    sprite_caption,
    sprite_scene,
    sprite_scenes,
)

Pairs = tuple[Tensor, Tensor]  # pictures (n, 3, s, s), and the token ids (n, t) of their captions


def ranker_config(tokenizer: Tokenizer) -> CLIPConfig:
    """The sizes of a small CLIP for sprites of 32 × 32 pixels and the captions of a tokenizer."""
    return CLIPConfig(
        embed_dim=64, image_size=32, patch_size=8, vision_width=64, vision_layers=2, vision_heads=4,
        vocabulary=len(tokenizer), context_length=CAPTION_LENGTH, text_width=64, text_layers=2, text_heads=4,
        end_token=END, pixel_mean=(0.5, 0.5, 0.5), pixel_std=(0.25, 0.25, 0.25),
    )  # fmt: skip


def sprite_pairs(
    tokenizer: Tokenizer, n: int = 2048, batch: int = 64, seed: int = 0, device: torch.device | str = "cpu"
) -> Iterator[Pairs]:
    """Make endless batches of sprites and captions, without the combinations of HELD_OUT_SPRITES.

    Args:
        tokenizer: for the captions.
        n: how many sprites are painted.
        batch: pairs in a batch.
        seed: of the sprites and of the batches.
        device: of the batches.
    """
    scenes = sprite_scenes(n, seed, left_out=HELD_OUT_SPRITES)
    pictures = paint_sprites(scenes, 32, device)
    texts = torch.stack(
        [
            tokenizer.encode([sprite_caption(scene, wording) for scene in scenes], CAPTION_LENGTH)
            for wording in range(len(SPRITE_WORDINGS))
        ]
    ).to(device)  # (wordings, n, t)
    generator = torch.Generator().manual_seed(seed)
    while True:
        sprite = torch.randint(n, (batch,), generator=generator)
        wording = torch.randint(len(texts), (batch,), generator=generator)
        yield pictures[sprite], texts[wording, sprite]


def train_clip(clip: Any, batches: Iterator[Pairs], steps: int, rate: float = 2e-3) -> list[float]:
    """Train a CLIP with the contrastive loss.

    Args:
        clip: the CLIP; afterwards it is in evaluation mode and its weights are fixed.
        batches: pictures and captions.
        steps: how many batches.
        rate: the highest learning rate.

    Returns:
        The loss of each batch, in nats.
    """
    adam = torch.optim.AdamW(clip.parameters(), lr=rate, weight_decay=0.1, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.OneCycleLR(adam, rate, total_steps=steps, pct_start=0.1)
    losses = []
    for _ in tqdm(range(steps), desc="training CLIP"):
        pictures, texts = next(batches)
        image, text = clip.encode_image(pictures), clip.encode_text(texts)  # (n, e) each
        loss = contrastive_loss(image, text, clip.logit_scale.clamp(max=math.log(100)).exp())
        adam.zero_grad()
        loss.backward()
        adam.step()
        schedule.step()
        losses.append(loss.item())
    clip.eval().requires_grad_(False)
    return losses


@torch.no_grad()
def finds_captions(clip: Any, tokenizer: Tokenizer, scenes: Sequence[Scene]) -> list[bool]:
    """Whether a CLIP finds the caption of each sprite among those of all subjects in all colours.

    Args:
        clip: the CLIP.
        tokenizer: its tokenizer.
        scenes: n sprites.

    Returns:
        n truth values.
    """
    device = clip.logit_scale.device
    kinds = [(subject, colour) for subject in SPRITES for colour in SPRITE_COLOURS]
    captions = [sprite_caption(sprite_scene(*kind), 0) for kind in kinds]
    texts = clip.encode_text(tokenizer.encode(captions, CAPTION_LENGTH).to(device))  # (kinds, e)
    images = clip.encode_image(paint_sprites(scenes, 32, device))  # (n, e)
    chosen = (images @ texts.T).argmax(1).tolist()
    return [kinds[choice] == (scene.subject, scene.colour) for choice, scene in zip(chosen, scenes, strict=True)]
