"""Pictures per second in the training of the translator and of the VQ-GAN: part of `make bench`."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest
import torch
from accelerate import Accelerator
from atelier.training.codes import CodedBatch, encode_pictures
from atelier.training.data import PaintedPictures, PaintedSource
from atelier.training.loop import best_precision
from atelier.training.recipe import Inputs
from atelier.training.recipes.bart import BartRecipe, BartSettings
from atelier.training.recipes.vqgan import VQGANRecipe, VQGANSettings
from atelier.weights.preset import PERCEPTUAL_FILE, TOKENIZER_FILE, VQGAN_FILE, load_preset
from atelier.world import named_world, small_world

STEPS = 6
VQGAN_STEPS = 6


def test_stored_codes_against_codes_computed_in_every_step(note, tmp_path) -> None:
    """Compare both at the size of the laptop preset, alternating, with all threads."""
    preset = load_preset("laptop")
    settings = replace(BartSettings(**preset.recipes["bart"]), distinct=1024)
    recipe = BartRecipe.build(Inputs(preset, {VQGAN_FILE: preset, TOKENIZER_FILE: preset}, small_world()), settings)
    source = PaintedSource(small_world(), preset.picture_size, 0, torch.device("cpu"))
    stored = recipe.batches(source, tmp_path, Accelerator(cpu=True), lambda: False)
    assert stored is not None
    # Pictures are painted in groups of 256, so steps are measured in whole groups, as in a long training.
    painted = PaintedPictures(small_world(), preset.picture_size, settings.batch_size, 0)
    optimizer = settings.optimizer(recipe.parts["bart"])

    def step(batch: CodedBatch) -> None:
        (part_loss,) = recipe.losses(recipe.parts, batch, 0.0)
        optimizer.zero_grad()
        part_loss.loss.backward()
        optimizer.step()

    def from_store(number: int) -> None:
        step(stored[number])

    def computed(number: int) -> None:
        batch = painted[number]
        step(CodedBatch(encode_pictures(recipe.vqgan, batch.pictures), batch.captions))

    taken = {from_store: 0.0, computed: 0.0}
    group = 256 // settings.batch_size
    for number in range(group * max(1, STEPS // group) + 1):
        for way in taken:
            start = time.perf_counter()
            way(number + group - 1 if way is computed else number)
            taken[way] += (time.perf_counter() - start) * (number > 0)  # the first step warms up
    steps = group * max(1, STEPS // group)
    pairs = {way: settings.batch_size * steps / seconds for way, seconds in taken.items()}
    what = f"pairs per second, translator, laptop's sizes, {torch.get_num_threads()} threads"
    ratio = note(what, pairs[from_store], "codes computed in every step", pairs[computed], unit="pairs/s")
    assert ratio is not None
    assert 1 / ratio >= 3


@pytest.mark.parametrize("name", ["laptop", "studio"])
def test_vqgan_in_the_precision_of_this_cpu_against_float32(note, name: str) -> None:
    """Compare steps of the whole recipe, with painting and discriminator, alternating, with all threads."""
    preset = load_preset(name)
    settings = VQGANSettings(**preset.recipes["vqgan"])
    painted = PaintedPictures(
        named_world(preset.world), preset.picture_size, settings.batch_size, 0, paint_together=settings.batch_size
    )
    taken = {best_precision("cpu"): 0.0, "no": 0.0}
    recipes = {
        precision: VQGANRecipe.build(Inputs(preset, {PERCEPTUAL_FILE: preset}, None), settings) for precision in taken
    }
    for number in range(VQGAN_STEPS + 1):
        for precision, recipe in recipes.items():
            optimizers = {part: settings.optimizer(module) for part, module in recipe.parts.items()}
            start = time.perf_counter()
            with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
                for part_loss in recipe.losses(recipe.parts, painted[number], progress=1.0):
                    optimizers[part_loss.part].zero_grad()
                    part_loss.loss.backward()
                    optimizers[part_loss.part].step()
            taken[precision] += (time.perf_counter() - start) * (number > 0)  # the first step warms up
    pace = {precision: settings.batch_size * VQGAN_STEPS / seconds for precision, seconds in taken.items()}
    what = f"pictures per second, training the VQ-GAN, {name}'s sizes, {torch.get_num_threads()} threads"
    note(what, pace[best_precision("cpu")], "in float32", pace["no"], unit="pictures/s")
