"""DALL·E Mini at its full size compared with min-dalle: the same weights, one thread, float32.

The weights are random values that float16 represents exactly, as the published ones are. Times are CPU times; with one
thread they equal the wall time on an idle machine and hardly depend on its load. Short measurements alternate with
those of min-dalle. The long ones, a whole `draw` with its peak memory, run in a process each; that of min-dalle takes
most of the time of the benchmarks.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any
from unittest.mock import patch

import published_files as files
import pytest
import torch
from atelier import Pipeline
from atelier.blocks.bart import Bart, BartConfig
from atelier.blocks.vqgan import VQGAN
from atelier.decoding import Sampling
from atelier.decoding.step import DecodingStep, encode_prompts
from atelier.weights.preset import Preset, add_file, save_preset, save_weights
from atelier.weights.published.mindalle import detoker_config
from atelier.weights.published.tokenizer import read_tokenizer

PEER = "min-dalle 0.4.11"
PROMPT = "the Eiffel tower landing on the moon"
THREADS, NINE = 1, 9
SAMPLING = Sampling(guidance=16.0, top_k=256)  # min-dalle's defaults
# Our steps attend to the codes so far, theirs always to 256 positions.
POSITIONS = (0, 16, 48, 80, 112, 144, 176, 208, 240, 255)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Use one thread in the tests of this file."""
    before = torch.get_num_threads()
    torch.set_num_threads(THREADS)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Iterator[Path]:
    """A folder with the same random weights as a preset of ours and as min-dalle's files."""
    folder = tmp_path_factory.mktemp("mini")
    torch.manual_seed(0)
    bart = Bart(BartConfig.dalle_mini()).eval().half().float()
    vqgan = VQGAN(detoker_config()).eval().half().float()
    theirs = files.write_min_dalle(folder / "dalle_bart_mini", bart, vqgan, suffix="")
    (folder / "vqgan").mkdir()
    (theirs / "detoker.pt").rename(folder / "vqgan" / "detoker.pt")
    preset = Preset("mini", "", 256, vqgan.config, bart.config, None, None, folder=folder / "preset")
    preset = save_preset(replace(preset, normalization="min-dalle"), preset.folder)
    for name, block in (("vqgan", vqgan), ("bart", bart)):
        preset = save_weights(preset, name, block)
    tokenizer = read_tokenizer(theirs, bart.config.text_vocabulary, split_at_blanks=True)
    add_file(preset, "tokenizer.json", tokenizer.content())
    del bart, vqgan
    yield folder
    for path in folder.rglob("*.*"):
        path.unlink()  # 2.6 GB


def our_pipeline(folder: Path, dtype: torch.dtype = torch.float32) -> Pipeline:
    return Pipeline.from_pretrained(folder / "preset", device="cpu", dtype=dtype)


def their_model(folder: Path) -> Any:
    """Load min-dalle's model, without the config.json that it would request from the network."""
    with torch.enable_grad():  # importing min-dalle disables gradients; they are enabled again after this block
        from min_dalle import MinDalle
    torch.set_num_threads(THREADS)  # importing min-dalle sets it to the number of cores
    with patch("requests.get"):
        return MinDalle(str(folder), torch.float32, "cpu", is_mega=False, is_reusable=True, is_verbose=False)


def measure_draw(who: str, folder: Path) -> dict[str, float]:
    """Draw nine pictures in a new process; returns its seconds and its peak memory in bytes."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": str(THREADS)}
    command = [sys.executable, "-W", "ignore", __file__, who, str(folder)]
    result = subprocess.run(command, capture_output=True, encoding="utf8", env=environment)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout.splitlines()[-1])


@torch.no_grad()
def draw(who: str, folder: Path) -> dict[str, float]:
    """Do the work of the process that `measure_draw` starts."""
    torch.set_num_threads(THREADS)
    if who == "ours":
        pipe = our_pipeline(folder)
        start = time.process_time()
        pictures = pipe.draw(PROMPT, n=NINE, seed=1, rank=False, **vars(SAMPLING)).pictures
    else:
        model = their_model(folder)
        start = time.process_time()
        pictures = model.generate_images(
            PROMPT,
            seed=1,
            grid_size=3,
            is_seamless=False,
            temperature=SAMPLING.temperature,
            top_k=SAMPLING.top_k,
            supercondition_factor=SAMPLING.guidance,
        )
    seconds = time.process_time() - start
    assert len(pictures) == NINE
    peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:"))
    return {"seconds": seconds, "bytes": 1024 * int(peak.split()[1])}


def test_from_prompt_to_nine_pictures(note, folder: Path) -> None:
    """This is the first test, because later ones load both models into this process and leave too little memory."""
    ours, theirs = measure_draw("ours", folder), measure_draw("theirs", folder)
    work = f"{NINE} pictures of a prompt, whole, float32, models loaded"
    ratio = note(work, ours["seconds"], PEER, theirs["seconds"])
    peaks = [who["bytes"] / 1e9 for who in (ours, theirs)]
    note(f"{NINE} pictures of a prompt, peak memory from loading to drawing", peaks[0], PEER, peaks[1], unit="gb")
    assert ratio >= 4.5
    assert peaks[0] <= 3


@pytest.fixture(scope="module")
def pipe(folder: Path) -> Pipeline:
    return our_pipeline(folder)


@pytest.fixture(scope="module")
def model(folder: Path) -> Any:
    return their_model(folder)


def medians(*works: Callable[[int], object]) -> list[float]:
    """Measure the median seconds of several functions, alternating, over the positions of a picture."""
    taken: list[list[float]] = [[] for _ in works]
    with torch.no_grad():
        for at in POSITIONS:
            for work, times in zip(works, taken, strict=True):
                start = time.process_time()
                work(at)
                times.append(time.process_time() - start)
    return [median(times) for times in taken]


def our_step(pipe: Pipeline, pictures: int) -> Callable[[int], object]:
    """Make a function that samples the code at a position for several pictures of a prompt."""
    length = pipe.bart.config.text_length
    text, nothing = pipe.tokenizer.encode([PROMPT], length), pipe.tokenizer.empty_caption(length)
    with torch.no_grad():
        prompts = encode_prompts(pipe.bart, text, nothing, SAMPLING.guided)
        step = DecodingStep(pipe.bart, prompts, pictures, SAMPLING, 2**14)
    tokens, uniforms = torch.randint(2**14, (pictures, 1)), torch.rand(pictures)
    return lambda at: step(tokens, step.cache.all_positions[at : at + 1], uniforms, at + 1)


def their_step(model: Any, pictures: int) -> Callable[[int], object]:
    """Make a function that does what min-dalle's `generate_raw_image_stream` does for each code."""
    ids = model.tokenizer.tokenize(PROMPT)
    text = torch.ones(2, 64, dtype=torch.long)
    text[0, :2], text[1, : len(ids)] = torch.tensor([ids[0], ids[-1]]), torch.tensor(ids)
    rows = [0] * pictures + [1] * pictures
    with torch.no_grad():
        state = model.encoder(text)[rows]
    mask = text[rows].not_equal(1)[:, None, None]
    memory = torch.zeros(12, 4 * pictures, 256, 1024)
    settings = torch.tensor([SAMPLING.temperature, SAMPLING.top_k, SAMPLING.guidance])
    tokens = torch.randint(2**14, (pictures, 1))
    return lambda at: model.decoder.sample_tokens(
        settings=settings,
        attention_mask=mask,
        encoder_state=state,
        attention_state=memory,
        prev_tokens=tokens,
        token_index=torch.tensor([at]),
    )


@pytest.mark.parametrize(("pictures", "target"), [(1, 2.5), (NINE, 8.0)])
def test_a_step(note, pipe: Pipeline, model: Any, pictures: int, target: float) -> None:
    ours, theirs = medians(our_step(pipe, pictures), their_step(model, pictures))
    ratio = note(f"one step of decoding, {pictures} pictures, with guidance, float32", ours, PEER, theirs)
    assert ratio >= target


def test_a_step_in_bfloat16(note, folder: Path, model: Any) -> None:
    half = our_pipeline(folder, torch.bfloat16)
    ours, theirs = medians(our_step(half, NINE), their_step(model, NINE))
    note(f"one step of decoding, {NINE} pictures, with guidance, ours bfloat16, theirs float32", ours, PEER, theirs)


def test_codes_to_pictures(note, pipe: Pipeline, model: Any) -> None:
    codes = torch.randint(2**14, (NINE, 16, 16))
    pictures: list[torch.Tensor] = []
    works = (
        lambda: pictures.append(pipe.decode(codes)),
        lambda: pictures.append(model.detokenizer(False, codes.flatten(1))),
    )
    taken = []
    for work in works:
        start = time.process_time()
        with torch.no_grad():
            work()
        taken.append(time.process_time() - start)
    columns = pictures[1].view(3, 256, 3, 256, 3).permute(2, 0, 4, 1, 3)  # their grid is filled column by column
    assert (255 * pictures[0] - columns.flatten(0, 1)).abs().max() < 1
    assert note(f"decoding {NINE} pictures of 256×256 by the VQ-GAN, float32", taken[0], PEER, taken[1]) >= 1


if __name__ == "__main__":
    print(json.dumps(draw(sys.argv[1], Path(sys.argv[2]))))
