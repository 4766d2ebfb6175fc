"""The experiment of lesson 5: what the settings of sampling do to the pictures."""

from __future__ import annotations

from typing import Any

import torch

from atelier.decoding import SamplingOptions
from atelier.drawing.pipeline import Pipeline
from atelier.evaluation.evaluate import correct_attributes
from atelier.teaching.experiments import Experiment
from atelier.weights.preset import load_preset
from atelier.world import caption, small_world

PROMPTS = 64  # for each seed; two pictures are drawn of each
SWEEPS: dict[str, list[SamplingOptions]] = {
    "guidance": [{"guidance": value, "temperature": 1.0} for value in (0.0, 0.5, 1.0, 1.5, 3.0, 6.0, 12.0)],
    "temperature": [{"temperature": value} for value in (0.0, 0.4, 0.8, 1.2, 1.6, 2.0, 2.5)],
    "top_k": [{"top_k": value, "temperature": 2.0} for value in (1, 4, 16, 64, 256, None)],
    "top_p": [{"top_p": value, "temperature": 2.0} for value in (0.2, 0.4, 0.6, 0.8, 0.95, 1.0)],
}


def arm_of(sweep: str, options: SamplingOptions) -> str:
    """The name of a setting's arm, such as "guidance 1.5"."""
    return f"{sweep} {dict(options)[sweep]}"


ARMS = {arm_of(sweep, options): options for sweep, settings in SWEEPS.items() for options in settings}


def draw_at_setting(arm: str, seed: int) -> dict[str, Any]:
    """Draw two pictures of each of 64 held-out captions at one setting.

    Args:
        arm: of ARMS.
        seed: of the captions and of the pictures.

    Returns:
        "right": one digit for each caption, how many of its two pictures show all four facts. "variety": the share of
        cells in which the two pictures of a caption have different codes, on average.
    """
    preset, world = load_preset("laptop"), small_world()
    pipe, judge = Pipeline.from_pretrained("laptop", device="cpu"), preset.load_classifier("judge")
    scenes = world.sample(PROMPTS, 5_000 + seed, held_out="only", complete=True)
    captions = [caption(scene, complete=True) for scene in scenes]
    drawings = pipe.draw(captions, n=2, seed=10_000 * (seed + 1), rank=False, **ARMS[arm])
    right = [
        correct_attributes(judge, world, drawing.pictures, [scene] * 2).all(1).sum().item()
        for drawing, scene in zip(drawings, scenes, strict=True)
    ]
    differ = [(drawing.codes[0] != drawing.codes[1]).float().mean() for drawing in drawings]
    return {"right": "".join(map(str, right)), "variety": torch.stack(differ).mean().item()}


def shares_right(arm: str) -> list[float]:
    """Read the share of right pictures of each caption, of all seeds."""
    return [int(digit) / 2 for result in SETTINGS.results()[arm] for digit in result["right"]]


SETTINGS = Experiment(
    "5-settings",
    "How many pictures are right, and how much do they vary, at each setting of sampling?",
    tuple(ARMS),
    (0, 1, 2),
    draw_at_setting,
    tuple(f"laptop/{block}.safetensors" for block in ("bart", "vqgan", "judge")),
)

EXPERIMENTS = (SETTINGS,)
