"""The list of models: complete presets only, and the sizes and hashes of all files."""

import gzip
import hashlib
import itertools
import json
import shutil
from pathlib import Path

import models
import pytest
from atelier.weights.preset import Preset
from tiny_preset import filled_preset


def test_presets_that_lack_weights_are_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = tmp_path / "data"
    data.mkdir()
    filled_preset(data / "whole")
    shutil.copytree(data / "whole", data / "half")
    config = json.loads((data / "half" / "config.json").read_text())
    del config["files"]["bart.safetensors"]
    (data / "half" / "config.json").write_text(json.dumps(config))
    monkeypatch.setattr(models, "ROOT", tmp_path)
    assert [preset.folder.name for preset in models.shipped_presets()] == ["whole"]


def exported(preset: Preset, folder: Path) -> dict[str, int]:
    """Stands for an export, which takes long: two files, and their sizes."""
    folder.mkdir()
    contents = {"code_writer.onnx": b"a graph", "drawing.json": b"{}"}
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    return {name: len(content) for name, content in contents.items()}


def test_the_list_has_the_sizes_and_hashes_of_all_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    filled_preset(tmp_path / "data" / "tiny")
    monkeypatch.setattr(models, "ROOT", tmp_path)
    monkeypatch.setattr(models, "lesson_models", dict)
    monkeypatch.setattr(models, "export_onnx", exported)
    dist, drawing = tmp_path / "dist", tmp_path / "drawing"
    for folder in (dist, drawing):
        folder.mkdir()
    for name in itertools.chain(*models.BUILDS.values()):
        (dist / name).write_bytes(name.encode() * 100)
    (drawing / "draw.js").write_text("draw();")
    models.write_models(tmp_path / "models", drawing, dist)
    listed = json.loads((tmp_path / "models" / models.LIST_FILE).read_text())
    assert listed["scripts"] == ["draw.js", "onnxruntime-wasm.mjs", "onnxruntime-webgpu.mjs"]
    packed = {name: (tmp_path / "models" / build["file"]).read_bytes() for name, build in listed["builds"].items()}
    for name, (script, assembly) in models.BUILDS.items():
        assert gzip.decompress(packed[name]) == (dist / assembly).read_bytes()
        assert (drawing / listed["builds"][name]["module"]).read_bytes() == (dist / script).read_bytes()
    facts = listed["folders"].popitem()[1]
    assert listed["folders"] == {}
    (folder,) = (path for path in (tmp_path / "models").iterdir() if path.is_dir())
    assert facts["bytes"] == sum(path.stat().st_size for path in folder.iterdir())
    assert facts["picture_size"] == 16
    entries = [(listed["builds"][name], content) for name, content in packed.items()]
    for entry, content in [*entries, (facts["manifest"], (folder / "drawing.json").read_bytes())]:
        assert (entry["bytes"], entry["sha256"]) == (len(content), hashlib.sha256(content).hexdigest())
