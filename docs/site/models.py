"""The models that pages run in the browser: exported to ONNX, with the runtime and a list of all files."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

from atelier.export.manifest import MANIFEST_FILE, as_json, inventory
from atelier.export.preset import export_onnx
from atelier.export.write import write_folder
from atelier.weights.preset import CONFIG_FILE, Preset, read_preset
from live import lesson_models

ROOT = Path(__file__).resolve().parents[2]
RUNTIME_FILE = "onnxruntime.bin"  # not ….gz, which some servers unpack and others do not
LIST_FILE = "models.json"


def write_models(target: Path, runtime: Path, scripts: list[str]) -> None:
    """Export the complete presets of data/ and the models of lessons, and write the list of models.

    The scripts of docs/site/drawing read the list first. It has the runtime's file, and for each folder the size of all
    its files, its manifest, and for presets the pixels of a picture. Every file comes with its size and hash.

    Args:
        target: the folder models/ of the site.
        runtime: the WebAssembly file of onnxruntime-web.
        scripts: the names of the scripts, which pages keep for visits without a network.
    """
    target.mkdir(parents=True)
    packed = gzip.compress(runtime.read_bytes(), mtime=0)  # equal files for equal input
    (target / RUNTIME_FILE).write_bytes(packed)
    folders: dict[str, Any] = {}
    for preset in shipped_presets():
        sizes = export_onnx(preset, target / preset.name)
        folders[preset.name] = {"picture_size": preset.picture_size, **_listed(target / preset.name, sizes)}
    for name, (facts, graph) in lesson_models().items():
        sizes = write_folder(target / name, facts, (), [graph])
        folders[name] = _listed(target / name, sizes)
    entry = {"runtime": {"file": RUNTIME_FILE, **inventory(packed)}, "folders": folders, "scripts": scripts}
    (target / LIST_FILE).write_bytes(as_json(entry))


def shipped_presets() -> list[Preset]:
    """The complete presets of data/, those with the smallest pictures first."""
    presets = [read_preset(path.parent) for path in (ROOT / "data").glob(f"*/{CONFIG_FILE}")]
    return sorted((preset for preset in presets if preset.complete), key=lambda preset: preset.picture_size)


def _listed(folder: Path, sizes: dict[str, int]) -> dict[str, Any]:
    return {"bytes": sum(sizes.values()), "manifest": inventory((folder / MANIFEST_FILE).read_bytes())}
