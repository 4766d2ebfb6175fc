"""The experiments of lesson 3.

"3-denoising": what denoising teaches, and what DALL·E Mini's changes make of it. "3-sprites": how often a small
translator draws combinations rightly that it has seen in its training, and others.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from atelier.blocks.bart import Bart, BartConfig
from atelier.evaluation.sprites import correct_sprites, share
from atelier.teaching.experiments import Experiment
from atelier.teaching.sprite_translator import (
    coded_sprites,
    draw_sprites,
    train_translator,
    translator_config,
)
from atelier.weights.preset import load_preset
from atelier.weights.sprites import load_sprite_model
from atelier.weights.tokenizer import END, PAD, START, UNKNOWN, Tokenizer
from atelier.world import caption, small_world, sprite_requests

LENGTH = 32  # most tokens in a caption
STEPS, BATCH, RATE = 360, 48, 2e-3
INITIAL_STD = 0.06  # with the default 0.02, made for wide networks, the classic BART learns in one training of three
FRESH = 10_000  # added to a training's seed, it is the seed of the drawings
SMALL_WORDS = {"a", "an", "the", "of", "in", "on", "at", "by", "with"}

Noise = Callable[[list[int], np.random.Generator], list[int]]


def infill(tokens: list[int], dice: np.random.Generator) -> list[int]:
    """Remove 30 % of the tokens, in spans of random length, and write a single mask in place of each span."""
    lost, spans = round(0.3 * len(tokens)), list[int]()
    while sum(spans) < lost:
        spans.append(min(int(dice.poisson(3)), lost - sum(spans)))
    units = len(tokens) - lost + len(spans)  # the tokens that are kept, and the masks
    masked = set(dice.choice(units, len(spans), replace=False).tolist())
    result, place = [], 0
    for unit in range(units):
        result.append(UNKNOWN if unit in masked else tokens[place])
        place += spans.pop() if unit in masked else 1
    return result


def delete(tokens: list[int], dice: np.random.Generator) -> list[int]:
    """Remove each token with probability 0.15, but at least one."""
    gone = dice.random(len(tokens)) < 0.15
    gone[dice.integers(len(tokens))] = True
    return [token for token, is_gone in zip(tokens, gone, strict=True) if not is_gone]


def permute(tokens: list[int], dice: np.random.Generator) -> list[int]:
    """Shuffle the tokens."""
    return [tokens[place] for place in dice.permutation(len(tokens))]


NOISES: dict[str, Noise] = {"text infilling": infill, "token deletion": delete, "permutation": permute}


@cache
def _tokenizer() -> Tokenizer:
    return load_preset("laptop").load_tokenizer()


def ids_of(captions: Sequence[str]) -> list[list[int]]:
    """Each caption's token ids, without start token, end token and padding."""
    rows = _tokenizer().encode(captions, LENGTH).tolist()
    return [[token for token in row if token not in (START, END, PAD)] for row in rows]


def padded(rows: Sequence[list[int]]) -> Tensor:
    """Token ids of several texts as one padded tensor (n, t), with the start and the end token."""
    made = torch.full((len(rows), max(map(len, rows)) + 2), PAD)
    for line, row in zip(made, rows, strict=True):
        line[: len(row) + 2] = torch.tensor([START, *row, END])
    return made


@cache
def captions_of_training_and_test() -> tuple[list[list[int]], list[list[int]]]:
    """Different captions of the small world as token ids: those for training, and 600 others."""
    captions = list(dict.fromkeys(caption(scene) for scene in small_world().sample(40_000, seed=1)))
    order = np.random.default_rng(0).permutation(len(captions))
    rows = ids_of([captions[place] for place in order])
    return rows[600:], rows[:600]


def configs() -> dict[str, BartConfig]:
    """The classic BART, and the same size with DALL·E Mini's changes."""
    words = len(_tokenizer())
    changed = BartConfig(
        words, words, LENGTH, LENGTH, width=96, heads=4, inner_width=256, encoder_layers=2, decoder_layers=2,
        initial_std=INITIAL_STD,
    )  # fmt: skip
    classic = replace(
        changed, inner_width=384, start_token=END, position_offset=2, normformer=False, glu=False, bias=True,
        shared_embedding=True, final_logits_bias=True,
    )  # fmt: skip
    return {"classic BART": classic, "DALL·E Mini’s changes": changed}


def train(bart: Bart, dice: np.random.Generator, damaged: bool) -> list[float]:
    """Train a network to write sound captions, given damaged ones or the sound ones themselves; return the losses."""
    learned, _ = captions_of_training_and_test()
    adam = torch.optim.AdamW(bart.parameters(), betas=(0.9, 0.98), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(adam, RATE, total_steps=STEPS, pct_start=0.15)
    losses = []
    for _ in range(STEPS):
        sound = [learned[place] for place in dice.integers(len(learned), size=BATCH)]
        broken = [list(NOISES.values())[dice.integers(3)](row, dice) for row in sound]
        text, wanted = padded(broken if damaged else sound), padded(sound)[:, 1:]  # the decoder need not write <s>
        loss = F.cross_entropy(bart(text, wanted).flatten(0, 1), wanted.flatten(), ignore_index=PAD)
        adam.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(bart.parameters(), 1.0)
        adam.step()
        schedule.step()
        losses.append(loss.item())
    return losses


@torch.no_grad()
def restored(bart: Bart, broken: Sequence[list[int]]) -> list[list[int]]:
    """What a network writes for damaged captions; it always takes the likeliest token."""
    text = padded(broken)
    mask, seen = bart.text_mask(text), bart.project(bart.encode(text))
    written = torch.full((len(broken), 1), bart.config.decoder_start)
    for _ in range(LENGTH):
        written = torch.cat([written, bart.decode(written, seen, mask)[:, -1:].argmax(-1)], dim=1)
    rows = written[:, 1:].tolist()
    return [row[: row.index(END)] if END in row else row for row in rows]


def train_and_restore(arm: str, seed: int) -> dict[str, float]:
    """Train a BART, and let it restore 600 captions that were not in its training data.

    Args:
        arm: the network, with "on sound captions" after it if it is trained to copy captions that are not damaged.
        seed: of the weights at the beginning, of the batches and of the damage.

    Returns:
        The share of captions restored exactly, for each kind of damage and, under "no important word", for those of
        all kinds that lost nothing, or only words of SMALL_WORDS; and the mean loss of the last 20 batches, in nats
        per token.
    """
    name, _, sound = arm.partition(" on ")
    torch.manual_seed(seed)
    bart = Bart(configs()[name])
    losses = train(bart, np.random.default_rng(100 + seed), damaged=not sound)
    _, kept = captions_of_training_and_test()
    small = {row[0] for row in ids_of(sorted(SMALL_WORDS))}
    dice, result, knowable = np.random.default_rng(200 + seed), {}, []
    bart.eval()
    for kind, noise in NOISES.items():
        damaged = [noise(row, dice) for row in kept]
        hits = [after == row for after, row in zip(restored(bart, damaged), kept, strict=True)]
        result[kind] = sum(hits) / len(hits)
        lost = [Counter(row) - Counter(broken) for row, broken in zip(kept, damaged, strict=True)]
        knowable += [hit for hit, gone in zip(hits, lost, strict=True) if gone.keys() <= small]
    return {**result, "no important word": sum(knowable) / len(knowable), "loss": sum(losses[-20:]) / 20}


DENOISING = Experiment(
    "3-denoising",
    "Does a BART that is trained on damaged captions restore new ones?",
    ("classic BART", "classic BART on sound captions", "DALL·E Mini’s changes"),
    (0, 1, 2),
    train_and_restore,
    ("laptop/tokenizer.json",),
)

# ---------------------------------------------------------------------------------------------- sprites

TRAININGS = {  # the shares of captions dropped and of codes swapped, see `train_translator`
    "as in the lesson": (0.15, 0.5),
    "no empty captions": (0.0, 0.5),
    "no swapped codes": (0.15, 0.0),
}
GUIDANCE = (1.0, 2.0, 4.0, 8.0)
DRAWN = 180  # pictures of seen combinations, and as many of held-out ones, for each guidance


def translate_sprites(arm: str, seed: int) -> dict[str, float]:
    """Train a small translator, and let it draw sprites.

    Args:
        arm: of TRAININGS.
        seed: of the weights at the beginning, of the sprites and batches, and of the drawings.

    Returns:
        The share of drawings whose subject and colour are right, under "seen 1", "held out 1", "seen 2", …, where the
        number is the guidance; and the mean loss of the last 20 batches, in nats per code.
    """
    vqgan, judge, tokenizer = load_sprite_model("vqgan"), load_sprite_model("judge"), _tokenizer()
    data = coded_sprites(vqgan, tokenizer, seed=seed)
    torch.manual_seed(seed)
    bart = Bart(translator_config(vqgan.config, tokenizer))
    dropped, swapped = TRAININGS[arm]
    losses = train_translator(bart, data, seed=seed, dropped=dropped, swapped=swapped)
    result = {"loss": sum(losses[-20:]) / 20}
    for name, held_out in (("seen", False), ("held out", True)):
        scenes, captions = sprite_requests(DRAWN, FRESH + seed, held_out)
        for guidance in GUIDANCE:
            pictures = draw_sprites(bart, vqgan, tokenizer, captions, guidance, FRESH + seed)
            result[f"{name} {guidance:g}"] = share(correct_sprites(judge, pictures, scenes).all(1))
    return result


TRANSLATING = Experiment(
    "3-sprites",
    "How often does a small translator draw a sprite rightly, of combinations that it has seen and that it has not?",
    tuple(TRAININGS),
    (0, 1, 2),
    translate_sprites,
    ("laptop/tokenizer.json", "sprites/vqgan.safetensors", "sprites/judge.safetensors"),
)

EXPERIMENTS = (DENOISING, TRANSLATING)
