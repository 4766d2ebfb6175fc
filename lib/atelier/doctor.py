"""Is this machine ready for the course? A list of findings, each a sentence, and a remedy for each that is not good."""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import platform
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

LEAST_PYTHON = (3, 11)
PACKAGES = {  # distribution → the module that it brings
    "torch": "torch",
    "torchvision": "torchvision",
    "transformers": "transformers",
    "open_clip_torch": "open_clip",
    "accelerate": "accelerate",
    "tokenizers": "tokenizers",
    "safetensors": "safetensors",
    "matplotlib": "matplotlib",
}
PROMPT, SLOW = "the Eiffel tower landing on the moon", 60.0  # seconds for nine pictures beyond which lessons drag
GIGABYTE = 1e9
LEAST_DISK, LEAST_MEMORY, LEAST_GPU_MEMORY = 1.0, 2.0, 1.0  # gigabytes
PORTS = {8888: "JupyterLab", 7860: "the page"}
AGAIN = "Make the environment again: make clean setup (without make, see README.md, “Two commands”)."


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at: `what` it is, whether it is `good`, a sentence about it, and what to do if not."""

    what: str
    good: bool
    text: str
    remedy: str = ""

    def __str__(self) -> str:
        line = f"{'OK  ' if self.good else 'FAIL'}  {self.what:15} {self.text}"
        return line if self.good else f"{line}\n      {'':15} → {self.remedy}"


def examine() -> Iterator[Finding]:
    """Look at everything that the course needs, from Python to a drawing. Whatever fails is a finding, too."""
    for what, look in LOOKS.items():
        try:
            yield from look()
        except Exception as fault:  # whatever it is: finding it is what a doctor is for
            yield Finding(what, False, f"{type(fault).__name__}: {fault}".splitlines()[0], AGAIN)


def _python() -> Iterator[Finding]:
    least = ".".join(map(str, LEAST_PYTHON))
    remedy = f"Install Python {least} or newer, then: make clean setup PYTHON=python{least}."
    good = sys.version_info >= LEAST_PYTHON
    yield Finding("python", good, f"{platform.python_version()} on {platform.platform()}", remedy)


def _packages() -> Iterator[Finding]:
    for distribution, module in PACKAGES.items():
        try:
            version = importlib.metadata.version(distribution)
        except importlib.metadata.PackageNotFoundError:
            yield Finding(distribution, False, "is not installed", AGAIN)
            continue
        try:
            importlib.import_module(module)
        except Exception as fault:  # a broken build raises anything
            said = (str(fault) or type(fault).__name__).splitlines()[0]
            yield Finding(distribution, False, f"{version} is there, but cannot be imported: {said}", _mend(module))
        else:
            yield Finding(distribution, True, version)


def _mend(module: str) -> str:
    if module == "torchvision":
        return f"torch and torchvision must come from the same place and fit each other. {AGAIN}"
    return AGAIN


def _gpu() -> Iterator[Finding]:
    import torch

    if torch.cuda.is_available():
        free, whole = (number / GIGABYTE for number in torch.cuda.mem_get_info())
        text = f"{torch.cuda.get_device_name(0)}, {free:.0f} of {whole:.0f} GB free"
        remedy = "Another program holds the GPU's memory: end it, or restart the other notebooks' kernels."
        yield Finding("gpu", free > LEAST_GPU_MEMORY, text, remedy)
    elif _driver_sees_a_gpu():
        remedy = (
            "Update the NVIDIA driver, or install a build of torch for the driver that there is. "
            "Until then the lessons run on the CPU, more slowly."
        )
        yield Finding("gpu", False, "there is one, but torch cannot use it", remedy)
    else:
        yield Finding("gpu", True, f"none; {os.cpu_count()} CPU cores, {torch.get_num_threads()} threads")


def _driver_sees_a_gpu() -> bool:
    command = shutil.which("nvidia-smi")
    if command is None:
        return False
    seen = subprocess.run([command, "--list-gpus"], capture_output=True, text=True, timeout=30)
    return seen.returncode == 0 and "GPU 0" in seen.stdout


def _disk() -> Iterator[Finding]:
    free = shutil.disk_usage(Path(__file__)).free / GIGABYTE
    remedy = f"Free some space: the lessons want {LEAST_DISK:g} GB, the published weights up to 12 GB."
    yield Finding("disk", free > LEAST_DISK, f"{free:.1f} GB free", remedy)


def _memory() -> Iterator[Finding]:
    import psutil

    memory = psutil.virtual_memory()
    free, whole = memory.available / GIGABYTE, memory.total / GIGABYTE
    remedy = f"Close other programs and shut down notebooks that you do not use: a lesson wants {LEAST_MEMORY:g} GB."
    yield Finding("memory", free > LEAST_MEMORY, f"{free:.1f} of {whole:.1f} GB free", remedy)


def _weights() -> Iterator[Finding]:
    from atelier.weights.presets import PresetError, check_recorded, find_presets, load_preset
    from atelier.weights.sprites import MODELS_FILE, SPRITE_MODELS, read_sprite_models

    found = find_presets()
    if not found:
        yield Finding("weights", False, "there is no preset", "Get the course again: its folder data/ is missing.")
    for name, folder in found.items():
        try:
            preset = load_preset(folder)
            for file in preset.files:
                preset.check(file)
        except PresetError as fault:
            yield Finding("weights", False, str(fault), _restore(name))
        else:
            state = "complete, hashes right" if preset.complete else "not trained yet"
            yield Finding("weights", True, f"{name}: {preset.picture_size} pixels, {state}")
    try:
        sprites = read_sprite_models()
        for file in sprites.files:
            check_recorded(sprites.folder / file, sprites.files, MODELS_FILE)
    except PresetError as fault:
        yield Finding("weights", False, str(fault), _restore("sprites"))
    else:
        yield Finding("weights", True, f"sprites: {len(SPRITE_MODELS)} small models, hashes right")


def _restore(name: str) -> str:
    return f"Bring back what was shipped: git restore data/{name}. What was downloaded: atelier download {name}."


def _jupyter() -> Iterator[Finding]:
    from packaging.version import Version

    wanted = {"jupyterlab": "4.2", "ipywidgets": "7.7", "jupyterlab_widgets": "1.1", "ipykernel": "6"}
    found: dict[str, str] = {}
    for name in wanted:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "missing"
    bad = [name for name, least in wanted.items() if found[name] == "missing" or Version(found[name]) < Version(least)]
    text = ", ".join(f"{name} {version}" for name, version in found.items())
    remedy = f"Without {' and '.join(bad)} of a version of today no lesson's sliders move. {AGAIN}"
    yield Finding("jupyter", not bad, text, remedy)


def _kernel() -> Iterator[Finding]:
    """The kernel that JupyterLab starts must be this Python: another one has none of the course's packages."""
    from jupyter_client.kernelspec import KernelSpecManager

    starts = Path(KernelSpecManager().get_kernel_spec("python3").argv[0])
    here = Path(sys.executable).parent  # two environments may share one Python, but never a folder of scripts
    other = starts.is_absolute() and not starts.parent.samefile(here)
    text = "python3 is another Python than this one" if other else "python3 is this Python"
    remedy = f"Register this one: {Path(sys.executable).name} -m ipykernel install --sys-prefix."
    yield Finding("kernel", not other, text, remedy)


def _ports() -> Iterator[Finding]:
    for port, user in PORTS.items():
        with socket.socket() as asked:
            taken = asked.connect_ex(("127.0.0.1", port)) == 0
        text = f"{port}, for {user}, is {'taken' if taken else 'free'}"
        remedy = f"Another program listens there: end it, or name another port, --port {port + 1}."
        yield Finding("port", not taken, text, remedy)


def _drawing() -> Iterator[Finding]:
    from atelier.drawing.pipeline import Pipeline

    start = time.perf_counter()
    pipeline = Pipeline.from_pretrained()
    loaded = time.perf_counter()
    pipeline.draw(PROMPT, seed=0)
    seconds = time.perf_counter() - loaded
    text = f"nine pictures in {seconds:.1f} s with {pipeline.name}, loaded in {loaded - start:.1f} s"
    remedy = "Close other programs; on a machine as slow as this, take Colab, or fewer pictures: --n 1."
    yield Finding("drawing", seconds < SLOW, text, remedy)


LOOKS: dict[str, Callable[[], Iterator[Finding]]] = {
    "python": _python,
    "packages": _packages,
    "gpu": _gpu,
    "disk": _disk,
    "memory": _memory,
    "weights": _weights,
    "jupyter": _jupyter,
    "kernel": _kernel,
    "port": _ports,
    "drawing": _drawing,
}
