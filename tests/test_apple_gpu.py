"""Training and drawing need no float64, which Apple GPUs lack."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from apple_gpu import AppleGPU
from atelier.decoding import sample_codes
from atelier.drawing.pipeline import Pipeline
from atelier.evaluation.evaluate import CANDIDATE_COUNTS, best_of
from atelier.training.recipes.normalization import effective_dimensions
from atelier.training.run import Request, run_training
from atelier.world import caption, small_world
from atelier.world.painter import paint
from tiny_preset import filled_preset


def test_the_simulation_refuses_only_float64() -> None:
    with AppleGPU():
        tensor = torch.rand(3)
        assert tensor.device.type == "mps"
        for make in (tensor.double, lambda: tensor.to(torch.float64), lambda: torch.zeros(2, dtype=torch.float64)):
            with pytest.raises(TypeError, match="float64"):
                make()
        on_cpu = tensor.cpu().double()
        assert (on_cpu.dtype, on_cpu.device.type) == (torch.float64, "cpu")
        assert on_cpu.float().to(tensor.device).device.type == "mps"


def test_codes_are_sampled_as_on_the_cpu() -> None:
    probabilities, uniform = torch.rand(500, 64).pow(8), torch.rand(500)
    probabilities = probabilities / probabilities.sum(1, keepdim=True)
    expected = sample_codes(probabilities, uniform)
    with AppleGPU():
        picked = sample_codes(probabilities, uniform)
        assert picked.device.type == "mps"
        assert torch.equal(picked, expected)


def test_metrics_are_those_of_the_cpu() -> None:
    codebook, right = torch.rand(50, 4), torch.rand(20, max(CANDIDATE_COUNTS)).round()
    expected = effective_dimensions(codebook), best_of(right)
    with AppleGPU():
        assert (effective_dimensions(codebook), best_of(right)) == expected


def test_painting_needs_no_float64_and_gives_the_same_pictures() -> None:
    scenes = small_world().sample(64, seed=0)
    expected = paint(scenes, 32)
    with AppleGPU():
        assert torch.equal(paint(scenes, 32), expected)
        assert [caption(scene) for scene in scenes]


@pytest.mark.parametrize("block", ["vqgan", "bart", "clip", "classifier", "judge"])
def test_every_block_is_trained(tmp_path: Path, block: str) -> None:
    preset = filled_preset(tmp_path / "tiny")
    request = Request(block=block, preset=str(preset.folder), run_dir=tmp_path / "run", steps=2)
    if block == "vqgan":
        run_training(replace(request, block="classifier"))  # for the perceptual loss
    with AppleGPU():
        outcome = run_training(request)
    assert outcome is not None
    assert outcome.step == 2


def test_a_drawing_is_that_of_the_cpu(tmp_path: Path) -> None:
    pipe = Pipeline.from_pretrained(filled_preset(tmp_path).folder, device="cpu", dtype=torch.float32)
    expected = pipe.draw("a red cat on the moon", n=2, seed=0)
    with AppleGPU():
        drawing = pipe.draw("a red cat on the moon", n=2, seed=0)
    assert torch.equal(drawing.codes, expected.codes)
    assert torch.equal(drawing.pictures, expected.pictures)
