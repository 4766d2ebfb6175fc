"""The models that pages run in the browser: exported to ONNX, with the runtime and a list of all files."""

from __future__ import annotations

import gzip
import shutil
from pathlib import Path
from typing import Any

from atelier.export.manifest import MANIFEST_FILE, as_json, inventory
from atelier.export.preset import export_onnx
from atelier.export.write import write_folder
from atelier.weights.preset import CONFIG_FILE, Preset, read_preset
from live import lesson_models

ROOT = Path(__file__).resolve().parents[2]
DIST = Path(__file__).resolve().parent / "node_modules" / "onnxruntime-web" / "dist"
# The builds of onnxruntime-web: for each its script, and its WebAssembly, which the script takes from the page. The
# one with WebGPU needs a browser with JSPI (WebAssembly's promises).
BUILDS = {
    "wasm": ("ort.wasm.bundle.min.mjs", "ort-wasm-simd-threaded.wasm"),
    "webgpu": ("ort.jspi.bundle.min.mjs", "ort-wasm-simd-threaded.jspi.wasm"),
}
LIST_FILE = "models.json"


def write_models(target: Path, drawing: Path, dist: Path = DIST) -> None:
    """Export the complete presets of data/ and the models of lessons, and write the list of models.

    The scripts of docs/site/drawing read the list first. It has the script and the file of each build of
    onnxruntime-web, and for each folder the size of all its files, its manifest, and for presets the pixels of a
    picture. Every file comes with its size and hash.

    Args:
        target: the folder models/ of the site.
        drawing: the folder of the scripts, to which those of the builds are added. Pages keep the scripts for visits
            without a network.
        dist: the folder of the builds.
    """
    target.mkdir(parents=True)
    builds = {name: _build(name, target, drawing, dist) for name in BUILDS}
    folders: dict[str, Any] = {}
    for preset in shipped_presets():
        sizes = export_onnx(preset, target / preset.name)
        folders[preset.name] = {"picture_size": preset.picture_size, **_listed(target / preset.name, sizes)}
    for name, (facts, graph) in lesson_models().items():
        sizes = write_folder(target / name, facts, (), [graph])
        folders[name] = _listed(target / name, sizes)
    scripts = sorted(path.name for path in drawing.iterdir())
    entry = {"builds": builds, "folders": folders, "scripts": scripts}
    (target / LIST_FILE).write_bytes(as_json(entry))


def _build(name: str, target: Path, drawing: Path, dist: Path) -> dict[str, Any]:
    """Copy the files of a build, and return its entry in the list."""
    script, assembly = BUILDS[name]
    module = f"onnxruntime-{name}.mjs"
    shutil.copy(dist / script, drawing / module)
    file = f"onnxruntime-{name}.bin"  # not ….gz, which some servers unpack and others do not
    packed = gzip.compress((dist / assembly).read_bytes(), mtime=0)  # equal files for equal input
    (target / file).write_bytes(packed)
    return {"module": module, "file": file, **inventory(packed)}


def shipped_presets() -> list[Preset]:
    """The complete presets of data/, those with the smallest pictures first."""
    presets = [read_preset(path.parent) for path in (ROOT / "data").glob(f"*/{CONFIG_FILE}")]
    return sorted((preset for preset in presets if preset.complete), key=lambda preset: preset.picture_size)


def _listed(folder: Path, sizes: dict[str, int]) -> dict[str, Any]:
    return {"bytes": sum(sizes.values()), "manifest": inventory((folder / MANIFEST_FILE).read_bytes())}
