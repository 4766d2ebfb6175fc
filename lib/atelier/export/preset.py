"""Writing a preset as ONNX files into a folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from atelier.export.clip_towers import picture_tower, text_tower
from atelier.export.graph import Graph
from atelier.export.manifest import preset_facts
from atelier.export.picture_decoder import picture_decoder
from atelier.export.translator import caption_reader, code_writer
from atelier.export.write import write_folder
from atelier.weights.preset import CLIP_FILE, CLIP_TOKENIZER_FILE, TOKENIZER_FILE, Preset


def export_onnx(
    preset: Preset, folder: Path, dtype: str = "float16", progress: Callable[[str], None] = lambda _: None
) -> dict[str, int]:
    """Write what a program needs to draw with a preset: graphs, tokenizers, and the manifest, which comes last.

    A folder with a manifest is complete. An older export in the folder is replaced.

    Args:
        preset: with all blocks that draw; a CLIP that is missing or not trained is left out.
        folder: is created if necessary.
        dtype: of the stored weights, one of `DTYPES`.
        progress: called with the name of each graph before it is traced, which takes seconds.

    Returns:
        The size of each file in bytes, by name.

    Raises:
        AtelierError: if a package is missing, there is no such dtype, or the preset is too large.
        PresetError: if one of the preset's files is missing, truncated or altered.
        OSError: if the folder cannot be written.
    """
    tokenizers = (name for name in (TOKENIZER_FILE, CLIP_TOKENIZER_FILE) if name in preset.files)
    others = ((name, preset.read(name)) for name in tokenizers)
    return write_folder(folder, preset_facts(preset, dtype), others, graphs_of(preset), dtype, progress)


def graphs_of(preset: Preset) -> Iterator[Graph]:
    """The graphs of a preset; each block is loaded, in float32, when its graphs are asked for.

    Raises:
        PresetError: if the preset lacks a block, or a file of it is damaged.
    """
    bart = preset.load_bart()
    yield caption_reader(bart)
    yield code_writer(bart, preset.vqgan.codes)
    yield picture_decoder(preset.load_vqgan())
    if preset.clip is not None and CLIP_FILE in preset.files:
        clip = preset.load_clip()
        yield picture_tower(clip)
        yield text_tower(clip)
