"""From a graph to an ONNX model, by PyTorch's exporter."""

from __future__ import annotations

import warnings
from importlib.util import find_spec
from typing import TYPE_CHECKING

import torch

from atelier.errors import AtelierError
from atelier.export.graph import Graph

if TYPE_CHECKING:
    from onnx import ModelProto

OPSET = 20  # of ONNX's operators; the first with Gelu as one operator
PACKAGES = ("onnx", "onnxscript")  # what PyTorch's exporter needs
MOST_BYTES = 2**31  # a model in one file cannot be larger


def check_packages() -> None:
    """Check that the exporter's packages are installed.

    Raises:
        AtelierError: if one of them is missing.
    """
    missing = [name for name in PACKAGES if find_spec(name) is None]
    if missing:
        named = " ".join(missing)
        raise AtelierError(f"The export to ONNX needs the packages {' and '.join(PACKAGES)}: pip install {named}.")


def trace(graph: Graph) -> ModelProto:
    """Trace a graph.

    Args:
        graph: its module is in evaluation mode and in float32, on the CPU.

    Returns:
        The model, with its weights in float32.

    Raises:
        AtelierError: if the weights are too large for one file.
    """
    size = sum(tensor.nbytes for tensor in graph.module.state_dict().values())
    if size >= MOST_BYTES:
        raise AtelierError(
            f"The {graph.name.replace('_', ' ')} has {size / 1e9:.1f} GB of weights in float32, and an ONNX file can "
            "hold 2 GB; export a smaller preset."
        )
    examples = tuple(one.example for one in graph.inputs.values())
    axes = {axis for one in graph.inputs.values() for axis in one.varying.values()}
    lengths = {axis: torch.export.Dim(axis.name, max=axis.most) for axis in axes}
    varying = tuple({place: lengths[axis] for place, axis in one.varying.items()} for one in graph.inputs.values())
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about axes that share a name, and about PyTorch's own deprecated calls
        # Unless it is strict, tracing takes the `len` of a tensor for fixed.
        traced = torch.export.export(graph.module, examples, dynamic_shapes=varying, strict=True)
        program = torch.onnx.export(
            traced,
            dynamo=True,
            verbose=False,
            opset_version=OPSET,
            input_names=list(graph.inputs),
            output_names=list(graph.outputs),
            dynamic_shapes=varying,
        )
    if program is None:
        raise RuntimeError(f"PyTorch returned no program for {graph.name}.")
    return without_remarks(program.model_proto)


def without_remarks(model: ModelProto) -> ModelProto:
    """Remove the exporter's remarks: the source lines of every node, with the paths of this machine, and shapes."""
    del model.metadata_props[:], model.graph.metadata_props[:], model.graph.value_info[:]
    for part in (*model.graph.node, *model.graph.initializer, *model.graph.input, *model.graph.output):
        del part.metadata_props[:]
        part.doc_string = ""
    return model
