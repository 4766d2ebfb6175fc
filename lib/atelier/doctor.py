"""Is this machine ready for the course? A list of findings, each a sentence; the same on every machine."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PACKAGES = ("torch", "torchvision", "transformers", "open_clip_torch", "accelerate", "tokenizers", "jupyterlab")
PROMPT, SLOW = "the Eiffel tower landing on the moon", 60.0  # seconds for nine pictures beyond which lessons drag


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at: `what` it is, whether it is `good`, and a sentence about it."""

    what: str
    good: bool
    text: str


def examine() -> Iterator[Finding]:
    """Look at Python, packages, device, disk, presets, and draw once."""
    yield Finding("python", sys.version_info >= (3, 11), f"{platform.python_version()} on {platform.platform()}")
    yield _packages()
    yield _device()
    free = shutil.disk_usage(Path(__file__)).free / 1e9
    yield Finding("disk", free > 1, f"{free:.0f} GB free")
    yield from _presets()
    yield _drawing()


def _packages() -> Finding:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "missing"
    good = "missing" not in found.values()
    return Finding("packages", good, ", ".join(f"{name} {version}" for name, version in found.items()))


def _device() -> Finding:
    import torch

    if torch.cuda.is_available():
        memory = torch.cuda.get_device_properties(0).total_memory / 1e9
        return Finding("device", True, f"{torch.cuda.get_device_name(0)}, {memory:.0f} GB")
    return Finding("device", True, f"no GPU; {os.cpu_count()} CPU cores, {torch.get_num_threads()} threads")


def _presets() -> Iterator[Finding]:
    from atelier.weights.presets import PresetError, find_presets, load_preset

    for name, folder in find_presets().items():
        try:
            preset = load_preset(folder)
            for file in preset.files:
                preset.check(file)
        except PresetError as fault:
            yield Finding("preset", False, str(fault))
        else:
            state = "complete" if preset.complete else "not trained yet"
            yield Finding("preset", True, f"{name}: {preset.picture_size} pixels, {state}")


def _drawing() -> Finding:
    try:
        from atelier.pipeline import Pipeline

        start = time.perf_counter()
        pipeline = Pipeline.from_pretrained()
        loaded = time.perf_counter()
        pipeline.draw(PROMPT, seed=0)
        drawn = time.perf_counter()
    except Exception as fault:  # whatever it is: finding it is what a doctor is for
        return Finding("drawing", False, f"{type(fault).__name__}: {fault}")
    text = f"nine pictures in {drawn - loaded:.1f} s with {pipeline.name}, loaded in {loaded - start:.1f} s"
    return Finding("drawing", drawn - loaded < SLOW, text)
