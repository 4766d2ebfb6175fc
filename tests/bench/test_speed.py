"""The time that the shipped presets and the painter take: part of `make bench`."""

import time
from collections.abc import Callable
from functools import partial
from statistics import median

import pytest
import torch
from atelier import Pipeline
from atelier.training.run import PAINT_TOGETHER_ON_GPU
from atelier.weights.preset import load_preset
from atelier.world import full_world, paint

PROMPT = "a stained glass window with an image of a blue strawberry"


def seconds(work: Callable[[], object], times: int = 5) -> float:
    """Measure the median time of a function, after one call to warm up."""
    work()
    taken = []
    for _ in range(times):
        start = time.perf_counter()
        work()
        taken.append(time.perf_counter() - start)
    return median(taken)


@pytest.mark.parametrize(("name", "most"), [("laptop", 3), ("studio", 4)])
def test_nine_pictures_of_a_prompt(note, name: str, most: float) -> None:
    """Warm: the median of five drawings after a first one. Cold: a new pipeline is loaded, and draws once."""
    pipe = Pipeline.from_pretrained(name, device="cpu")
    taken = seconds(lambda: pipe.draw(PROMPT, n=9, seed=0))
    note(f"Pipeline.draw, nine pictures, {name}, warm, CPU", taken)
    assert taken <= most
    cold = seconds(lambda: Pipeline.from_pretrained(name, device="cpu").draw(PROMPT, n=9, seed=0), 3)
    note(f"loading, and nine pictures, {name}, CPU", cold)


def test_packed_layers_pay_at_laptops_size(note) -> None:
    """In turns in one run, with one thread; the packed weights also take half the memory."""
    packed, plain = (Pipeline.from_pretrained("laptop", device="cpu") for _ in range(2))
    plain.bart = load_preset("laptop").load_bart()
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    turns = []
    for seed in range(6):
        turns.append([seconds(partial(pipe.draw, PROMPT, n=9, seed=seed, rank=False), 1) for pipe in (packed, plain)])
    torch.set_num_threads(before)
    ours, theirs = (median(taken) for taken in zip(*turns, strict=True))
    note("nine pictures, laptop, packed float16 layers", ours, "plain float32 layers", theirs)
    assert ours < 1.05 * theirs


@pytest.mark.hardware
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_nine_pictures_of_a_prompt_on_a_gpu(note) -> None:
    pipe = Pipeline.from_pretrained()
    taken = seconds(lambda: pipe.draw(PROMPT, n=9, seed=0))
    note(f"Pipeline.draw, nine pictures, {pipe.name}, warm, {torch.cuda.get_device_name()}", taken)
    assert taken <= 1


@pytest.mark.hardware
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_painting_on_a_gpu(note) -> None:
    scenes = full_world().sample(PAINT_TOGETHER_ON_GPU, seed=0)
    taken = seconds(lambda: paint(scenes, 128, "cuda")[0, 0, 0, 0].item(), times=3) * 1000 / len(scenes)
    note(f"painting 1000 pictures of the full world at 128×128, {torch.cuda.get_device_name()}", taken)


@pytest.mark.parametrize("name", ["laptop", "studio"])
def test_loading_the_preset(note, name: str) -> None:
    note(f"Pipeline.from_pretrained, {name}, CPU", seconds(lambda: Pipeline.from_pretrained(name, device="cpu")))


@pytest.mark.parametrize("size", [64, 128])
def test_painting(note, size: int) -> None:
    scenes = full_world().sample(1024 if size == 64 else 256, seed=0)
    taken = seconds(lambda: paint(scenes, size), times=3) * 1000 / len(scenes)
    note(f"painting 1000 pictures of the full world at {size}×{size}, {torch.get_num_threads()} threads", taken)
    assert size > 64 or taken <= 1.43
