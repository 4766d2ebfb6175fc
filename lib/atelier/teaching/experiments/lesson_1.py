"""The experiment of lesson 1: remove one block of the machine at a time, and change nothing else.

Each machine draws nine pictures of a prompt with the same random numbers and the preset's own way of sampling, and CLIP
chooses one of the nine.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from atelier import Pipeline
from atelier.blocks.classifier import PictureClassifier
from atelier.decoding import decode, uniform_numbers
from atelier.evaluation.evaluate import correct_attributes, evaluation_world
from atelier.teaching.experiments import Experiment
from atelier.teaching.figures import code_colours
from atelier.weights.preset import load_preset
from atelier.world import Scene, World, caption

PROMPTS = 200  # with each seed
CANDIDATES = 9  # pictures of a prompt, among which CLIP chooses
GROUP = 20  # prompts drawn at once


# ---------------------------------------------------------------------------------------------- the machines


@torch.no_grad()
def write_codes(pipe: Pipeline, text: Tensor, uniforms: Tensor) -> Tensor:
    """Let BART write codes with the preset's own way of sampling.

    Args:
        pipe: the pipeline.
        text: token ids (p, t) of p prompts.
        uniforms: random numbers (p · m, h · w); m pictures are written for each prompt.

    Returns:
        Codes (p · m, h, w), prompt after prompt.
    """
    empty = pipe.tokenizer.empty_caption(text.shape[1]).to(pipe.device)
    steps = decode(
        pipe.bart,
        text.to(pipe.device),
        empty,
        pipe.sampling,
        uniforms.to(pipe.device),
        code_count=pipe.vqgan.config.codes,
    )
    *_, codes = steps
    grid = pipe.vqgan.config.grid
    return codes.unflatten(1, (grid, grid))


def whole(pipe: Pipeline, text: Tensor, uniforms: Tensor) -> Tensor:
    """BART reads the prompts, and the VQ-GAN paints its codes: pictures (p · m, 3, s, s)."""
    return pipe.decode(write_codes(pipe, text, uniforms))


def unread(pipe: Pipeline, text: Tensor, uniforms: Tensor) -> Tensor:
    """BART reads an empty caption instead of each prompt."""
    nothing = pipe.tokenizer.empty_caption(text.shape[1])  # (t,)
    return pipe.decode(write_codes(pipe, nothing.expand_as(text), uniforms))


def random_codes(pipe: Pipeline, text: Tensor, uniforms: Tensor) -> Tensor:
    """No BART: the same random numbers choose among all codes, which are equally likely."""
    grid, codes = pipe.vqgan.config.grid, pipe.vqgan.config.codes
    return pipe.decode((uniforms * codes).long().unflatten(1, (grid, grid)))


def flat_patches(pipe: Pipeline, text: Tensor, uniforms: Tensor) -> Tensor:
    """No painter: each of BART's codes becomes a square in the code's mean colour."""
    colours = code_colours(pipe.decode, torch.arange(pipe.vqgan.config.codes)).to(pipe.device)  # (codes, 3)
    flat = colours[write_codes(pipe, text, uniforms)].permute(0, 3, 1, 2)  # (p · m, 3, h, w)
    return torch.nn.functional.interpolate(flat, scale_factor=float(pipe.vqgan.config.factor))


MACHINES: dict[str, Callable[[Pipeline, Tensor, Tensor], Tensor]] = {
    "the whole machine": whole,
    "BART reads nothing": unread,
    "no BART: random codes": random_codes,
    "no painter: flat patches": flat_patches,
}


# ---------------------------------------------------------------------------------------------- measuring


def sample_prompts(world: World, number: int, seed: int) -> tuple[list[Scene], list[str], Tensor]:
    """Sample prompts that name four things, and the random numbers to draw them with.

    Args:
        world: of the preset.
        number: of prompts; the first ones do not depend on it.
        seed: of the prompts and of the random numbers.

    Returns:
        The scenes, each with a held-out combination; their captions; and random numbers (number · CANDIDATES, 64).
    """
    scenes = world.sample(number, seed, held_out="only", complete=True)
    prompts = [caption(scene, complete=True) for scene in scenes]
    return scenes, prompts, uniform_numbers(seed, number * CANDIDATES, 64)


@torch.no_grad()
def judge_candidates(judge: PictureClassifier, world: World, pictures: Tensor, scenes: list[Scene]) -> Tensor:
    """Whether the judge finds all four things in pictures (p · m, 3, s, s), m of each scene: (p, m) bool on the CPU."""
    each = len(pictures) // len(scenes)
    repeated = [scene for scene in scenes for _ in range(each)]
    return correct_attributes(judge, world, pictures, repeated).all(1).view(len(scenes), each).cpu()


def preference(scores: Tensor, right: Tensor) -> float:
    """The share of pairs of a right and a wrong picture in which the right one has the higher score.

    Args:
        scores: (m,).
        right: (m,) bool, some of each.
    """
    return (scores[right, None] > scores[None, ~right]).float().mean().item()


def measure_machine(arm: str, seed: int) -> dict[str, Any]:
    """Let one of MACHINES draw PROMPTS prompts.

    Returns:
        For each prompt whether CLIP's choice is right ("chosen"), and the share of the nine that is ("share"); for each
        prompt with right and wrong pictures the `preference` by the scores with the prompt ("preferred") and with the
        next prompt of the list ("other").
    """
    preset = load_preset("laptop")
    pipe, world = Pipeline.from_pretrained("laptop", device="cpu"), evaluation_world(preset)
    judge = preset.load_classifier("judge")
    scenes, prompts, uniforms = sample_prompts(world, PROMPTS, seed)
    found: dict[str, list[float]] = {"chosen": [], "share": [], "preferred": [], "other": []}
    for start in range(0, PROMPTS, GROUP):
        some = slice(start, start + GROUP)
        text = pipe.tokenizer.encode(prompts[some], pipe.bart.config.text_length)
        pictures = MACHINES[arm](pipe, text, uniforms[start * CANDIDATES : (start + GROUP) * CANDIDATES])
        correct = judge_candidates(judge, world, pictures, scenes[some])  # (GROUP, CANDIDATES)
        for place, (nine, right) in enumerate(zip(pictures.split(CANDIDATES), correct, strict=True), start):
            scores = torch.tensor(pipe.score(prompts[place], nine))
            found["chosen"].append(float(right[scores.argmax()]))
            found["share"].append(round(right.float().mean().item(), 4))
            if 0 < right.sum() < CANDIDATES:
                others = torch.tensor(pipe.score(prompts[(place + 1) % PROMPTS], nine))
                found["preferred"].append(round(preference(scores, right), 4))
                found["other"].append(round(preference(others, right), 4))
    return found


BLOCKS = Experiment(
    "1-blocks",
    "How many pictures are right if one block is removed and nothing else changes?",
    tuple(MACHINES),
    (0, 1, 2),
    measure_machine,
    tuple(f"laptop/{name}.safetensors" for name in ("bart", "clip", "judge", "vqgan")),
)
EXPERIMENTS = (BLOCKS,)
