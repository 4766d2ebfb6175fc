"""Measure how often a pipeline draws sprites rightly: of combinations that it has seen, and of held-out ones.

The judge of sprites names the subject, and the colour is that of most pixels (`evaluation.sprites.correct_sprites`).
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from atelier.blocks.classifier import PictureClassifier
from atelier.drawing.pipeline import Pipeline
from atelier.evaluation.intervals import Estimate, difference, mean
from atelier.evaluation.sprites import correct_sprites
from atelier.training.recipes.sprite_judge import KIND
from atelier.weights.preset import Preset
from atelier.world import SPRITE_COLOURS, SPRITES, paint_sprites, sprite_requests, sprite_scene

CANDIDATES = 9
SEED = 30_000_000  # far from the seeds of all training runs


def draws_sprites(preset: Preset) -> bool:
    """Whether a preset has a judge of sprites, so that its drawings of sprites can be measured."""
    return (
        "judge.safetensors" in preset.files and preset.classifier is not None and KIND in preset.classifier.attributes
    )


@torch.no_grad()
def right_drawings(
    pipeline: Pipeline, judge: PictureClassifier, requests: int, held_out: bool, candidates: int = CANDIDATES
) -> Tensor:
    """Draw sprites and judge the drawings.

    Args:
        pipeline: draws.
        judge: the judge of sprites.
        requests: how many captions are drawn.
        held_out: whether they name the combinations of HELD_OUT_SPRITES, or others.
        candidates: pictures of each caption.

    Returns:
        (requests, candidates) bool: whether subject and colour are right; in each row the pictures have CLIP's order.
    """
    scenes, captions = sprite_requests(requests, SEED, held_out)
    rows = []
    for drawing, scene in zip(pipeline.draw(captions, n=candidates, seed=SEED), scenes, strict=True):
        rows.append(correct_sprites(judge, drawing.pictures.to(pipeline.device), [scene] * candidates).all(1).cpu())
    return torch.stack(rows)


def measure_drawings(pipeline: Pipeline, judge: PictureClassifier, requests: int = 120) -> dict[str, Estimate]:
    """Measure the shares of right drawings, in per cent, with 95 % intervals over captions.

    Args:
        pipeline: a pipeline that draws sprites, with a CLIP.
        judge: the judge of sprites.
        requests: captions of each kind.

    Returns:
        For seen and for held-out combinations: a random picture, CLIP's best of nine, and the difference of both.
    """
    found: dict[str, Estimate] = {}
    for name, held_out in (("seen", False), ("held-out", True)):
        right = 100 * right_drawings(pipeline, judge, requests, held_out).double()
        one, best = right.mean(1), right[:, 0]
        found[f"right drawings of {name} combinations, %"] = mean(one, "captions")
        found[f"CLIP’s best of nine, {name} combinations, %"] = mean(best, "captions")
        found[f"gained by ranking, {name} combinations, points"] = difference(best, one, "captions")
    return found


@torch.no_grad()
def reproduced(vqgan: nn.Module, judge: PictureClassifier, each: int = 8) -> dict[tuple[str, str], float]:
    """Measure which sprites survive the way through the codes of a VQ-GAN: what it cannot reproduce, no caption draws.

    Args:
        vqgan: a VQ-GAN of sprites.
        judge: the judge of sprites.
        each: painted sprites of each combination.

    Returns:
        (subject, colour) → the share of its sprites whose reconstruction shows this subject in this colour.
    """
    device = next(vqgan.parameters()).device
    scenes = [sprite_scene(*kind, seed=SEED + number) for kind in _combinations() for number in range(each)]
    drawn = torch.cat([vqgan(part)[0].clamp(0, 1) for part in paint_sprites(scenes, 32, device).split(256)])
    right = correct_sprites(judge, drawn, scenes).all(1).view(-1, each).float().mean(1)
    return dict(zip(_combinations(), right.tolist(), strict=True))


def lost(shares: dict[tuple[str, str], float]) -> list[str]:
    """Name the combinations of `reproduced` of which at least half of the sprites are lost, as "blue strawberry"."""
    return [f"{colour} {subject}" for (subject, colour), share in shares.items() if share <= 0.5]


def _combinations() -> Iterator[tuple[str, str]]:
    return ((subject, colour) for subject in SPRITES for colour in SPRITE_COLOURS)


def evaluate_sprites(preset: Preset, requests: int) -> dict[str, Estimate]:
    """Measure a preset that draws sprites: `measure_drawings`, with the preset's own judge."""
    pipeline = Pipeline.from_pretrained(preset)
    return measure_drawings(pipeline, preset.load_classifier("judge").to(pipeline.device), requests)


def sprite_table(found: dict[str, Estimate]) -> str:
    """Format measurements as a Markdown table, with 95 % intervals in brackets."""
    rows = [f"| {name} | {each.value:.1f} ({each.low:.1f} to {each.high:.1f}) |" for name, each in found.items()]
    return "\n".join(["| what is measured | value |", "|---|---|", *rows])
