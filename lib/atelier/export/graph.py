"""What is exported as one ONNX file: a module, example inputs, and the axes whose lengths may vary."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor, nn


class Axis(NamedTuple):
    """An axis of varying length. Axes of the same name have the same length.

    Attributes:
        name: of the axis.
        most: its largest length; None if there is no limit.
    """

    name: str
    most: int | None = None


class GraphInput(NamedTuple):
    """An input of a graph.

    Attributes:
        example: a tensor of the right type and shape. Its axes of varying length should not have the length 0 or 1,
            which tracing would take for fixed.
        varying: the axes of varying length, by number.
    """

    example: Tensor
    varying: dict[int, Axis]


@dataclass(frozen=True)
class Graph:
    """A part of a preset that becomes one file.

    Attributes:
        name: of the file, without its ending.
        module: takes the inputs in their order, and returns the outputs.
        inputs: by name.
        outputs: names.
    """

    name: str
    module: nn.Module
    inputs: dict[str, GraphInput]
    outputs: tuple[str, ...]
