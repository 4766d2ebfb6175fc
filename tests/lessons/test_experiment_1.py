"""Lesson 1's experiment: the machines differ in one block, and everything else is the same."""

import pytest
import torch
from atelier import Pipeline
from atelier.teaching.experiments import lesson_1
from atelier.teaching.experiments.lesson_1 import MACHINES
from atelier.weights.preset import load_preset
from atelier.world import named_world


@pytest.fixture(scope="module")
def pipe() -> Pipeline:
    return Pipeline.from_pretrained("laptop", device="cpu")


@pytest.fixture(scope="module")
def drawn(pipe):
    """Three pictures of each of two prompts by each machine."""
    _, prompts, numbers = lesson_1.sample_prompts(named_world(load_preset("laptop").world), 2, seed=8)
    text = pipe.tokenizer.encode(prompts, pipe.bart.config.text_length)
    return text, numbers[:6], {name: machine(pipe, text, numbers[:6]) for name, machine in MACHINES.items()}


def test_the_whole_machine_is_the_pipeline(pipe):
    prompt = "a photo of a cat on the moon"
    text = pipe.tokenizer.encode([prompt], pipe.bart.config.text_length)
    numbers = lesson_1.uniform_numbers(4, 3, 64)
    drawing = pipe.draw(prompt, n=3, seed=4, rank=False)
    assert torch.equal(lesson_1.write_codes(pipe, text, numbers), drawing.codes)


def test_the_first_prompts_do_not_depend_on_how_many_there_are():
    world = named_world(load_preset("laptop").world)
    few, many = (lesson_1.sample_prompts(world, number, seed=8) for number in (2, 5))
    assert few[1] == many[1][:2]
    assert torch.equal(few[2], many[2][: 2 * lesson_1.CANDIDATES])


def test_a_machine_whose_bart_reads_nothing_does_not_depend_on_the_prompt(pipe, drawn):
    text, numbers, pictures = drawn
    assert torch.equal(MACHINES["BART reads nothing"](pipe, text.flip(0), numbers), pictures["BART reads nothing"])
    assert not torch.equal(pictures["BART reads nothing"], pictures["the whole machine"])


def test_flat_patches_have_one_colour_in_each_cell(pipe, drawn):
    _, _, pictures = drawn
    cells = pictures["no painter: flat patches"].unfold(2, 8, 8).unfold(3, 8, 8)  # (6, 3, 8, 8, 8, 8)
    assert torch.equal(cells.amin((4, 5)), cells.amax((4, 5)))
    assert all(picture.shape == (6, 3, 64, 64) for picture in pictures.values())


def test_preference_counts_pairs_of_a_right_and_a_wrong_picture():
    right = torch.tensor([True, False, True, False])
    assert lesson_1.preference(torch.tensor([4.0, 1.0, 3.0, 2.0]), right) == 1
    assert lesson_1.preference(torch.tensor([4.0, 1.0, 1.5, 2.0]), right) == 0.75
