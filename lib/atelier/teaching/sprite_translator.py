"""A translator that is trained within a minute: from captions of sprites to the codes of a VQ-GAN (lesson 3).

`train_translator` and `draw_sprites` are also cells of the lesson.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm.auto import tqdm

from atelier.blocks.bart import Bart, BartConfig
from atelier.blocks.vqgan import VQGAN, VQGANConfig
from atelier.decoding import Sampling, decode, uniform_numbers
from atelier.training.codes import encode_pictures
from atelier.weights.tokenizer import Tokenizer
from atelier.world import HELD_OUT_SPRITES, SPRITE_WORDINGS, paint_sprites, sprite_caption, sprite_scenes

CAPTION_LENGTH = 16  # most tokens in a caption
TRAINING_SPRITES = 4096


class CodedSprites(NamedTuple):
    """Sprites as a translator is trained on them: captions as token ids, pictures as codes."""

    texts: Tensor  # (wordings, n, t): the caption of each sprite in every wording
    empty: Tensor  # (t,): the empty caption
    codes: Tensor  # (n, s)


def coded_sprites(
    vqgan: VQGAN, tokenizer: Tokenizer, n: int = TRAINING_SPRITES, seed: int = 0, length: int = CAPTION_LENGTH
) -> CodedSprites:
    """Paint sprites without the combinations of HELD_OUT_SPRITES, and encode their captions and pictures.

    Args:
        vqgan: a trained VQ-GAN of sprites, in evaluation mode.
        tokenizer: for the captions.
        n: how many.
        seed: of the sprites.
        length: most tokens in a caption.

    Returns:
        The token ids and codes, on the device of the VQ-GAN.
    """
    device = next(vqgan.parameters()).device
    scenes = sprite_scenes(n, seed, left_out=HELD_OUT_SPRITES)
    texts = [
        tokenizer.encode([sprite_caption(scene, wording) for scene in scenes], length)
        for wording in range(len(SPRITE_WORDINGS))
    ]
    codes = encode_pictures(vqgan, paint_sprites(scenes, vqgan.config.resolution, device))
    return CodedSprites(torch.stack(texts).to(device), tokenizer.empty_caption(length).to(device), codes)


def translator_config(vqgan: VQGANConfig, tokenizer: Tokenizer, length: int = CAPTION_LENGTH) -> BartConfig:
    """The sizes of a small translator from a tokenizer's captions to the codes of a VQ-GAN."""
    return BartConfig(
        len(tokenizer), vqgan.codes, length, vqgan.grid**2, width=64, heads=4, inner_width=170,
        encoder_layers=1, decoder_layers=2, initial_std=0.06,
    )  # fmt: skip


def train_translator(
    bart: Bart, data: CodedSprites, steps: int = 600, seed: int = 0, dropped: float = 0.15, swapped: float = 0.5
) -> list[float]:
    """Train a translator by teacher forcing.

    Args:
        bart: a new translator.
        data: sprites.
        steps: how many batches.
        seed: of the batches.
        dropped: the share of captions that are replaced by the empty one, for guidance.
        swapped: the share of the codes read by the decoder that are replaced by those of another sprite, so that
            the decoder cannot rely on them and has to use the caption.

    Returns:
        The cross-entropy of each batch, in nats per code.
    """
    batch, rate = 64, 2e-3
    torch.manual_seed(seed)
    adam = torch.optim.AdamW(bart.parameters(), betas=(0.9, 0.98), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(adam, rate, total_steps=steps, pct_start=0.15)
    losses = []
    for _ in tqdm(range(steps), desc="translating captions"):
        sprite, wording = torch.randint(len(data.codes), (batch,)), torch.randint(len(data.texts), (batch,))
        text, codes = data.texts[wording, sprite], data.codes[sprite]  # (n, t), (n, s)
        text = torch.where(torch.rand(batch, 1, device=text.device) < dropped, data.empty, text)
        swap = torch.rand(codes.shape, device=codes.device) < swapped
        read = torch.where(swap, codes.roll(1, 0), codes)  # `roll` gives each sprite the codes of another one
        mask = bart.text_mask(text)
        logits = bart.decode(bart.shift(read), bart.encode(text, mask), mask)  # (n, s, target_rows)
        loss = F.cross_entropy(logits.flatten(0, 1), codes.flatten())
        adam.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(bart.parameters(), 1.0)
        adam.step()
        schedule.step()
        losses.append(loss.item())
    return losses


@torch.no_grad()
def draw_sprites(
    bart: Bart, vqgan: VQGAN, tokenizer: Tokenizer, captions: list[str], guidance: float = 1.0, seed: int = 0
) -> Tensor:
    """Draw one picture of each caption: pictures (n, 3, h, w), from 0 to 1.

    Args:
        bart: a translator from the tokenizer's ids to the VQ-GAN's codes.
        vqgan: decodes the codes.
        tokenizer: encodes the captions.
        captions: any texts.
        guidance: see `Sampling`.
        seed: the same seed gives the same pictures.
    """
    device, length = next(bart.parameters()).device, bart.config.text_length
    text, empty = tokenizer.encode(captions, length).to(device), tokenizer.empty_caption(length).to(device)
    uniforms = uniform_numbers(seed, len(captions), bart.config.target_length).to(device)
    *_, codes = decode(bart, text, empty, Sampling(guidance), uniforms)  # (n, s)
    return vqgan.decode_codes(codes.unflatten(1, (vqgan.config.grid, vqgan.config.grid)))
