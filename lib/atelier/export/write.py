"""Writing graphs as ONNX files into a folder."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from atelier.errors import AtelierError
from atelier.export.graph import Graph
from atelier.export.manifest import MANIFEST_FILE, as_json, described, manifest
from atelier.export.trace import check_packages, trace
from atelier.export.weights import DTYPES, store_weights
from atelier.weights.storage import replace_file


def write_folder(
    folder: Path,
    facts: Mapping[str, Any],
    others: Iterable[tuple[str, bytes]],
    graphs: Iterable[Graph],
    dtype: str = "float16",
    progress: Callable[[str], None] = lambda _: None,
) -> dict[str, int]:
    """Write graphs, other files, and the manifest, which comes last.

    A folder with a manifest is complete. An older export in the folder is replaced.

    Args:
        folder: is created if necessary.
        facts: what the manifest says besides.
        others: the names and contents of the other files.
        graphs: one after the other, so that only one needs to be in memory.
        dtype: of the stored weights, one of `DTYPES`.
        progress: called with the name of each graph before it is traced, which takes seconds.

    Returns:
        The size of each file in bytes, by name.

    Raises:
        AtelierError: if a package is missing, there is no such dtype, or a graph is too large.
        OSError: if the folder cannot be written.
    """
    check_packages()
    if dtype not in DTYPES:
        raise AtelierError(f"There is no dtype {dtype!r}; choose one of {', '.join(DTYPES)}.")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MANIFEST_FILE).unlink(missing_ok=True)
    files: dict[str, bytes] = {}
    models: dict[str, dict[str, Any]] = {}

    def write(name: str, content: bytes) -> None:
        files[name] = content
        replace_file(folder / name, content)

    for name, content in others:
        write(name, content)
    for graph in graphs:
        progress(graph.name)
        model, file = store_weights(trace(graph), dtype), f"{graph.name}.onnx"
        models[graph.name] = described(model, file)
        write(file, model.SerializeToString(deterministic=True))
    write(MANIFEST_FILE, as_json(manifest(facts, models, files)))
    return {name: len(content) for name, content in files.items()}
