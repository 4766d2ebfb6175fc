"""The JSON file of an export: all that a program needs besides the graphs, and the hashes of all files."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from atelier.decoding import Sampling
from atelier.weights.preset import CLIP_FILE, Preset
from atelier.weights.tokenizer import END, PAD, START

if TYPE_CHECKING:
    from onnx import ModelProto, ValueInfoProto

MANIFEST_FILE = "drawing.json"
FORMAT = 1  # raised when a change makes older programs fail


def preset_facts(preset: Preset, dtype: str) -> dict[str, Any]:
    """What a program that draws needs to know of a preset.

    Args:
        preset: what is exported.
        dtype: of the stored weights.

    Returns:
        A JSON object.
    """
    bart, clip = preset.bart, preset.clip if CLIP_FILE in preset.files else None
    return {
        "preset": preset.name,
        "weights": dtype,
        "sizes": {
            "text_length": bart.text_length,
            "codes": preset.vqgan.codes,
            "grid": preset.vqgan.grid,
            "picture_size": preset.picture_size,
            "decoder_layers": bart.decoder_layers,
            "heads": bart.heads,
            "head_width": bart.width // bart.heads,
            "clip_text_length": clip.context_length if clip else None,
            "clip_picture_size": clip.image_size if clip else None,
        },
        "tokens": {"start": START, "pad": PAD, "end": END, "first_code": bart.decoder_start},
        "sampling": asdict(Sampling(**preset.sampling)),
        "normalization": preset.normalization,
        "words": list(preset.words),
    }


def manifest(facts: Mapping[str, Any], models: Mapping[str, Any], files: Mapping[str, bytes]) -> Any:
    """List what is in a folder of graphs.

    Args:
        facts: what else a program needs to know, by name.
        models: what `described` gives for each graph, by name.
        files: the content of every file, by name.

    Returns:
        A JSON object.
    """
    return {
        "format": FORMAT,
        **facts,
        "graphs": dict(models),
        "files": {name: inventory(content) for name, content in files.items()},
    }


def inventory(content: bytes) -> dict[str, Any]:
    """The size of a file's content in bytes, and its SHA-256."""
    return {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def as_json(value: Any) -> bytes:
    """The content of a JSON file."""
    return (json.dumps(value, indent=1, ensure_ascii=False) + "\n").encode()


def described(model: ModelProto, file: str) -> dict[str, Any]:
    """Describe a model: its file, its version of ONNX's operators, and its inputs and outputs.

    Returns:
        A JSON object. The shape of an input or output is a list of lengths; a name stands for a length that varies.
    """
    return {
        "file": file,
        "opset": model.opset_import[0].version,
        "inputs": {value.name: _described(value) for value in model.graph.input},
        "outputs": {value.name: _described(value) for value in model.graph.output},
    }


def _described(value: ValueInfoProto) -> dict[str, Any]:
    from onnx import helper

    tensor = value.type.tensor_type
    shape = [axis.dim_param or axis.dim_value for axis in tensor.shape.dim]
    return {"dtype": helper.tensor_dtype_to_np_dtype(tensor.elem_type).name, "shape": shape}
