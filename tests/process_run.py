"""A small training, run by tests/test_processes.py in one process or several: python process_run.py REQUEST.json."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import torch
from accelerate import Accelerator
from atelier.blocks.vq import MovingAverageQuantizer
from atelier.training.data import CaptionedFolder
from atelier.training.loop import Budget, Intervals, train
from atelier.training.recipes.classifier import ClassifierRecipe, ClassifierSettings
from atelier.training.recipes.vqgan import VQGANRecipe, VQGANSettings
from atelier.world import small_world
from tiny_preset import tiny_preset


def main(options: dict) -> None:
    """Train a tiny VQ-GAN on a folder of pictures, and write the step, weights and averaged weights of each process."""
    torch.set_num_threads(1)
    accelerator = Accelerator(cpu=True, mixed_precision="no")
    rank, folder = accelerator.process_index, Path(options["folder"])
    preset = tiny_preset(folder / f"preset-{rank}")
    torch.manual_seed(0)
    perceptual = ClassifierRecipe(preset.classifier_config, small_world(), ClassifierSettings()).classifier
    settings = VQGANSettings(batch_size=options["batch_size"], warmup_steps=2, discriminator_start=1.0, whiten=True)
    recipe = VQGANRecipe(preset.vqgan, perceptual, settings)
    codebook = recipe.vqgan.quantize
    assert isinstance(codebook, MovingAverageQuantizer)
    torch.nn.init.normal_(codebook.embedding.weight)
    codebook.counts.fill_(1.0)  # all codes are in use, so none restarts at a random vector
    codebook.sums.copy_(codebook.embedding.weight)
    codebook.restart_below = 0.0
    data = CaptionedFolder(options["data"], 16, options["batch_size"])
    time.sleep(options.get("skew", 0.0) * rank)
    outcome = train(
        recipe,
        data,
        folder / "vqgan",
        Budget(steps=options.get("steps"), minutes=options.get("minutes"), stop_after=options.get("stop_after")),
        accelerator=accelerator,
        resume=True,
        intervals=Intervals(metrics_steps=1, checkpoint_seconds=1e9, sample_seconds=1e9),
        show_progress=False,
    )
    averaged = {f"averaged.{name}": tensor for name, tensor in outcome.averaged.state_dict().items()}
    torch.save({"step": outcome.step, **recipe.vqgan.state_dict(), **averaged}, folder / f"weights-{rank}.pt")


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text()))
