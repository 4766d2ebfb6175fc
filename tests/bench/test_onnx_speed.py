"""Drawing with an export to ONNX in onnxruntime, side by side with the library."""

import time
from pathlib import Path
from statistics import median

import torch
from atelier import Pipeline
from atelier.decoding import uniform_numbers
from atelier.export.preset import export_onnx
from atelier.weights.preset import load_preset
from onnx_engine import OnnxEngine

PROMPT = "a stained glass window with an image of a blue strawberry"


def test_nine_pictures_in_onnxruntime_and_in_the_library(note, tmp_path: Path) -> None:
    threads = torch.get_num_threads()
    export_onnx(load_preset("laptop"), tmp_path)
    engine, pipe = OnnxEngine(tmp_path, threads), Pipeline.from_pretrained("laptop", device="cpu")
    uniforms = uniform_numbers(0, 9, 64).numpy()
    draw = {
        "ours": lambda: pipe.draw(PROMPT, n=9, seed=0),
        "theirs": lambda: engine.draw(PROMPT, uniforms),
    }
    taken: dict[str, list[float]] = {name: [] for name in draw}
    for _ in range(8):  # in turns, so that other work on the machine slows both
        for name, work in draw.items():
            start = time.perf_counter()
            work()
            taken[name].append(time.perf_counter() - start)
    ours, theirs = (median(times[1:]) for times in taken.values())  # the first one warms up
    note(f"Pipeline.draw, nine pictures, laptop, CPU, {threads} threads", ours, "our export in onnxruntime", theirs)
    assert theirs <= 2 * ours
