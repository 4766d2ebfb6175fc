"""Check whether this machine is ready for the course: a finding for each check, with a remedy where it failed."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
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

from atelier.errors import OPTIONAL_PACKAGES
from atelier.folders import checkout_folder, shipped_folder

LEAST_PYTHON = (3, 11)
PACKAGES = {  # distribution → the module to import
    "torch": "torch",
    "torchvision": "torchvision",
    "transformers": "transformers",
    "open_clip_torch": "open_clip",
    "accelerate": "accelerate",
    "tokenizers": "tokenizers",
    "safetensors": "safetensors",
    "matplotlib": "matplotlib",
}
PROMPT = "the Eiffel tower landing on the moon"
MOST_SECONDS = 60.0  # for nine pictures; on a slower machine the lessons take too long
GIGABYTE = 1e9
PUBLISHED = ("dalle-mini", "dalle-mega")
LESSONS_ONLY = ("jupyter", "kernel")  # checks that an installed package, which has no lessons, does not need
OWN_JUPYTER_ONLY = ("jupyter", "kernel", "port")  # checks that Colab and Kaggle, which bring their Jupyter, do not need
LEAST_DISK, LEAST_MEMORY, LEAST_GPU_MEMORY = 1.0, 2.0, 1.0  # gigabytes
PORTS = {8888: "JupyterLab", 7860: "the page"}


@dataclass(frozen=True)
class Finding:
    """The result of one check.

    Attributes:
        what: what was checked.
        good: whether it is as it should be.
        text: what was found.
        remedy: what to do if it is not good.
    """

    what: str
    good: bool
    text: str
    remedy: str = ""

    def __str__(self) -> str:
        line = f"{'OK  ' if self.good else 'FAIL'}  {self.what:15} {self.text}"
        return line if self.good else f"{line}\n      {'':15} → {self.remedy}"


def examine() -> Iterator[Finding]:
    """Run all checks, from Python to a drawing. A check that raises an exception yields a finding, too."""
    for what, check in CHECKS.items():
        if (what in LESSONS_ONLY and not checkout_folder()) or (what in OWN_JUPYTER_ONLY and _is_hosted()):
            continue
        try:
            yield from check()
        except Exception as error:  # a broken installation may raise any exception, and the other checks should run
            yield Finding(what, False, f"{type(error).__name__}: {error}".splitlines()[0], _install_again())


def _is_hosted() -> bool:
    """Whether this is a machine of Colab or Kaggle."""
    if "KAGGLE_KERNEL_RUN_TYPE" in os.environ:
        return True
    return bool(importlib.util.find_spec("google") and importlib.util.find_spec("google.colab"))


def _install_again() -> str:
    """What to do if packages are missing or broken."""
    if _is_hosted():
        return "Run the first cell of the notebook again; if that does not help, start a new machine."
    if checkout_folder():
        return "Make the environment again: make clean setup (without make, see README.md, “Two commands”)."
    return "Install the course again, into a new environment: python -m venv NAME, then pip install as the first time."


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
            spared = not checkout_folder() and distribution in OPTIONAL_PACKAGES.values()  # lessons need all of them
            text = f"is not installed{'; drawing does not need it' if spared else ''}"
            yield Finding(distribution, spared, text, _install_again())
            continue
        try:
            importlib.import_module(module)
        except Exception as error:  # a broken build may raise any exception
            message = (str(error) or type(error).__name__).splitlines()[0]
            text = f"{version} is installed, but cannot be imported: {message}"
            yield Finding(distribution, False, text, _import_remedy(module))
        else:
            yield Finding(distribution, True, version)


def _import_remedy(module: str) -> str:
    if module == "torchvision":
        return f"torch and torchvision must come from the same place, in versions that fit together. {_install_again()}"
    return _install_again()


def _gpu() -> Iterator[Finding]:
    import torch

    from atelier.drawing.packed import LARGE, drawing_dtype

    if torch.cuda.is_available():
        free, whole = (number / GIGABYTE for number in torch.cuda.mem_get_info())
        dtype = str(drawing_dtype(torch.device("cuda"), LARGE)).removeprefix("torch.")
        text = f"{torch.cuda.get_device_name(0)}, {free:.0f} of {whole:.0f} GB free; DALL·E Mini draws in {dtype}"
        remedy = "Another program holds the GPU's memory: end it, or restart the kernels of other notebooks."
        yield Finding("gpu", free > LEAST_GPU_MEMORY, text, remedy)
    elif _driver_sees_a_gpu():
        remedy = (
            "Update the NVIDIA driver, or install a build of torch for the installed driver. "
            "Until then the lessons run on the CPU, more slowly."
        )
        yield Finding("gpu", False, "there is a GPU, but torch cannot use it", remedy)
    else:
        yield Finding("gpu", True, f"no GPU; {os.cpu_count()} CPU cores, {torch.get_num_threads()} threads")


def _driver_sees_a_gpu() -> bool:
    command = shutil.which("nvidia-smi")
    if command is None:
        return False
    listed = subprocess.run([command, "--list-gpus"], capture_output=True, text=True, timeout=30)
    return listed.returncode == 0 and "GPU 0" in listed.stdout


def _disk() -> Iterator[Finding]:
    free = shutil.disk_usage(Path(__file__)).free / GIGABYTE
    remedy = f"Free some space: the lessons need {LEAST_DISK:g} GB, the published weights up to 12 GB."
    yield Finding("disk", free > LEAST_DISK, f"{free:.1f} GB free", remedy)


def _memory() -> Iterator[Finding]:
    import psutil

    memory = psutil.virtual_memory()
    free, whole = memory.available / GIGABYTE, memory.total / GIGABYTE
    remedy = f"Close other programs and shut down notebooks that you do not use: a lesson needs {LEAST_MEMORY:g} GB."
    yield Finding("memory", free > LEAST_MEMORY, f"{free:.1f} of {whole:.1f} GB free", remedy)


def _weights() -> Iterator[Finding]:
    from atelier.weights.preset import find_presets, load_preset
    from atelier.weights.sprites import MODELS_FILE, SPRITE_MODELS, read_sprite_models, sprites_folder
    from atelier.weights.storage import PresetError, check_hash

    found = find_presets()
    if not found:
        yield Finding("weights", False, "there is no preset", _install_again())
    for name, folder in found.items():
        try:
            preset = load_preset(folder)
            for file in preset.files:
                preset.check(file)
        except PresetError as error:
            yield Finding("weights", False, str(error), _restore(folder))
        else:
            state = "complete, hashes right" if preset.complete else "not trained yet"
            yield Finding("weights", True, f"{name}: {preset.picture_size} pixels, {state}")
    try:
        sprites = read_sprite_models()
        for file in sprites.files:
            check_hash(sprites.folder / file, sprites.files, MODELS_FILE)
    except PresetError as error:
        yield Finding("weights", False, str(error), _restore(sprites_folder()))
    else:
        yield Finding("weights", True, f"sprites: {len(SPRITE_MODELS)} small models, hashes right")


def _restore(folder: Path) -> str:
    """What to do if the preset or the sprite models in a folder are damaged."""
    if folder.name in PUBLISHED:
        return f"Download it again: atelier download {folder.name}."
    if folder.parent == shipped_folder():
        return f"Get it again: git restore data/{folder.name}." if checkout_folder() else _install_again()
    return f"Copy or train it again, or remove {folder}."


def _jupyter() -> Iterator[Finding]:
    from packaging.version import Version

    needed = {"jupyterlab": "4.2", "ipywidgets": "7.7", "jupyterlab_widgets": "1.1", "ipykernel": "6"}
    found: dict[str, str] = {}
    for name in needed:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "missing"
    bad = [name for name, least in needed.items() if found[name] == "missing" or Version(found[name]) < Version(least)]
    text = ", ".join(f"{name} {version}" for name, version in found.items())
    remedy = f"The sliders of the lessons need a newer {' and '.join(bad)}. {_install_again()}"
    yield Finding("jupyter", not bad, text, remedy)


def _kernel() -> Iterator[Finding]:
    """The kernel that JupyterLab starts must be this Python, since another Python lacks the course's packages."""
    from jupyter_client.kernelspec import KernelSpecManager

    starts = Path(KernelSpecManager().get_kernel_spec("python3").argv[0])
    here = Path(sys.executable).parent  # two environments may share one Python, but each has its own folder of scripts
    other = starts.is_absolute() and not starts.parent.samefile(here)
    text = "python3 is another Python than this one" if other else "python3 is this Python"
    remedy = f"Register this Python: {Path(sys.executable).name} -m ipykernel install --sys-prefix."
    yield Finding("kernel", not other, text, remedy)


def _ports() -> Iterator[Finding]:
    for port, user in PORTS.items():
        with socket.socket() as connection:
            taken = connection.connect_ex(("127.0.0.1", port)) == 0
        text = f"{port}, for {user}, is {'taken' if taken else 'free'}"
        remedy = f"Another program uses the port: end it, or choose another port, --port {port + 1}."
        yield Finding("port", not taken, text, remedy)


def _drawing() -> Iterator[Finding]:
    from atelier.drawing.pipeline import Pipeline

    start = time.perf_counter()
    pipeline = Pipeline.from_pretrained()
    loaded = time.perf_counter()
    pipeline.draw(PROMPT, seed=0)
    seconds = time.perf_counter() - loaded
    text = f"nine pictures in {seconds:.1f} s with {pipeline.name}, loaded in {loaded - start:.1f} s"
    remedy = "Close other programs; if it is still as slow, use Colab, or draw fewer pictures: --n 1."
    yield Finding("drawing", seconds < MOST_SECONDS, text, remedy)


CHECKS: dict[str, Callable[[], Iterator[Finding]]] = {
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
