"""How the weights of an ONNX model are stored: with 32, 16 or 8 bits.

The arithmetic is float32 in all cases. A program that loads a model converts stored weights to float32 once, because
the operators that do so have constant inputs. So fewer bits make a smaller file, but neither slower nor faster steps.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto, TensorProto

DTYPES = ("float32", "float16", "int8")
LEAST_ELEMENTS = 64  # smaller tensors stay in float32
LARGEST_INT8 = 127


class Int8(NamedTuple):
    """A tensor in 8 bits, numbers · scales.

    Attributes:
        numbers: whole numbers from −127 to 127, in the tensor's shape.
        scales: float32; of length 1 along all axes but one.
    """

    numbers: NDArray[np.int8]
    scales: NDArray[np.float32]


def store_weights(model: ModelProto, dtype: str) -> ModelProto:
    """Convert the weights of a model, in place.

    Args:
        model: with its weights in float32.
        dtype: one of DTYPES. Presets store float16, so this loses nothing; a tensor with values beyond the range of
            float16 stays in float32. In int8, tensors with a single axis are stored in float16.

    Returns:
        The model.
    """
    from onnx import numpy_helper

    kept: list[TensorProto] = []
    nodes: list[NodeProto] = []
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor)
        if dtype == "float32" or values.dtype != np.float32 or values.size < LEAST_ELEMENTS:
            kept.append(tensor)
        elif dtype == "int8" and values.ndim > 1:
            _add_int8(kept, nodes, tensor.name, to_int8(values))
        elif np.abs(values).max() > np.finfo(np.float16).max:
            kept.append(tensor)
        else:
            kept.append(numpy_helper.from_array(values.astype(np.float16), f"{tensor.name}.stored"))
            nodes.append(_cast(f"{tensor.name}.stored", tensor.name))
    nodes += model.graph.node
    del model.graph.initializer[:], model.graph.node[:]
    model.graph.initializer.extend(kept)
    model.graph.node.extend(nodes)
    return model


def to_int8(values: NDArray[np.float32]) -> Int8:
    """Round a tensor to 8 bits, with a scale for each position along its first or its last axis.

    The axis with the smaller squared error is chosen: the rows of some matrices differ more in size than their columns.
    """
    candidates = [_rounded(values, axis) for axis in (0, values.ndim - 1)]
    errors = [np.square(numbers * scales - values).sum() for numbers, scales in candidates]
    return candidates[int(np.argmin(errors))]


def _rounded(values: NDArray[np.float32], axis: int) -> Int8:
    others = tuple(number for number in range(values.ndim) if number != axis)
    largest = np.abs(values).max(axis=others, keepdims=True)
    scales = np.where(largest > 0, largest / LARGEST_INT8, 1).astype(np.float32)
    return Int8(np.round(values / scales).astype(np.int8), scales)


def _add_int8(kept: list[TensorProto], nodes: list[NodeProto], name: str, stored: Int8) -> None:
    from onnx import helper, numpy_helper

    kept += [
        numpy_helper.from_array(stored.numbers, f"{name}.stored"),
        numpy_helper.from_array(stored.scales, f"{name}.scales"),
    ]
    nodes += [
        _cast(f"{name}.stored", f"{name}.numbers"),
        helper.make_node("Mul", [f"{name}.numbers", f"{name}.scales"], [name], name=f"{name}.scaled"),
    ]


def _cast(source: str, target: str) -> NodeProto:
    """A node that converts a tensor to float32."""
    from onnx import TensorProto, helper

    return helper.make_node("Cast", [source], [target], name=f"{target}.as_float32", to=TensorProto.FLOAT)
