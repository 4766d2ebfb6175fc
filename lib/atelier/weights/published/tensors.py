"""The tensors of published files: what all formats share.

Every reader lists the tensors of a file with the names that our blocks give them. The list has to fill a block exactly:
each entry of its state dict once. Names and shapes are compared before any tensor is read. Tensors are then read one at
a time, and each is converted to its final dtype before the next one is read, so a block is never in memory twice.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from atelier.arguments import shown
from atelier.errors import AtelierError
from atelier.weights.codebooks import moving_average_keys, with_moving_averages
from atelier.weights.streams import AnyModule, LazyTensor, check_finite, on_meta_device


class PublishedError(AtelierError):
    """Published files that cannot be used; the message names the file and the reason."""


@dataclass(frozen=True)
class PublishedTensor:
    """One tensor of a published file.

    Attributes:
        name: its name in the file.
        key: its name in the state dict of our block.
        shape: its shape in our block.
        read: returns the tensor, in the dtype of the file.
    """

    name: str
    key: str
    shape: tuple[int, ...]
    read: Callable[[], Tensor]


def match_tensors(tensors: Iterable[PublishedTensor], module: nn.Module, path: Path) -> dict[str, PublishedTensor]:
    """Find the published tensor for each entry of a module's state dict.

    Args:
        tensors: all tensors of the file.
        module: the model to be filled.
        path: the path of the file or folder that the tensors come from, for error messages.

    Returns:
        The tensors by key, the largest first.

    Raises:
        PublishedError: if a key is unknown, missing or given twice, or if a shape differs.
    """
    found: dict[str, PublishedTensor] = {}
    not_stored = moving_average_keys(module)
    shapes = {key: tuple(tensor.shape) for key, tensor in module.state_dict().items() if key not in not_stored}
    for tensor in tensors:
        if tensor.key not in shapes:
            raise PublishedError(f"{path} has {tensor.name}, which this model does not have; it is another model.")
        if tensor.key in found:
            raise PublishedError(
                f"{path} has both {found[tensor.key].name} and {tensor.name} for {tensor.key}; expected only one."
            )
        if tensor.shape != shapes[tensor.key]:
            raise PublishedError(
                f"{path} has {tensor.name}, which has the shape {tensor.shape} in this model's layout, but "
                f"{tensor.key} has the shape {shapes[tensor.key]}; it is a model of another size."
            )
        found[tensor.key] = tensor
    missing = sorted(shapes.keys() - found.keys())
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise PublishedError(f"{path} lacks {missing[0]}{more}; it is incomplete, or another model.")
    # While a tensor is converted it is in memory twice, so the largest are converted while memory is still free.
    return dict(sorted(found.items(), key=lambda item: -math.prod(item[1].shape)))


def converted(tensors: Mapping[str, PublishedTensor], dtype: torch.dtype, path: Path) -> dict[str, LazyTensor]:
    """Convert matched tensors to a dtype when they are read.

    Args:
        tensors: by key, see `match_tensors`.
        dtype: the dtype of the tensors that are read.
        path: the path of the file or folder that the tensors come from, for error messages.

    Returns:
        The tensors by key. Reading one raises PublishedError if the file is cut off, or if a value is not finite in
        the dtype.
    """
    return {key: LazyTensor(tensor.shape, partial(_read, tensor, dtype, path)) for key, tensor in tensors.items()}


def load_tensors(
    build: Callable[[], AnyModule],
    tensors: Iterable[PublishedTensor],
    path: Path,
    dtype: torch.dtype = torch.float32,
) -> AnyModule:
    """Build a model with the weights of a published file.

    Args:
        build: constructs the model.
        tensors: all tensors of the file.
        path: the path of the file or folder that the tensors come from, for error messages.
        dtype: the dtype of the model's weights.

    Returns:
        The model in evaluation mode.

    Raises:
        PublishedError: as for `match_tensors` and `converted`.
    """
    module = on_meta_device(build)
    lazy = converted(match_tensors(tensors, module, path), dtype, path)
    weights = {key: tensor.read() for key, tensor in lazy.items()}
    module.load_state_dict(with_moving_averages(module, weights), strict=True, assign=True)
    return module.eval()


def check_supported(owner: object, values: Mapping[str, Any], supported: Mapping[str, Any]) -> None:
    """Check the settings of a published model that our block supports only with one value.

    Args:
        owner: the model or its config file, for error messages.
        values: the published settings. A setting that is absent has the supported value.
        supported: the supported value of each setting.

    Raises:
        PublishedError: if a setting has another value.
    """
    for key, expected in supported.items():
        if values.get(key, expected) != expected:
            raise PublishedError(
                f"{owner} has {shown(values[key])} for {key}; only models with {expected!r} are supported."
            )


def same_in_both_stacks(values: Mapping[str, Any]) -> dict[str, Any]:
    """The decoder's settings of a BART that have to equal the encoder's, with the encoder's values."""
    return {f"decoder_{name}": values.get(f"encoder_{name}") for name in ("attention_heads", "ffn_dim")}


def _read(tensor: PublishedTensor, dtype: torch.dtype, path: Path) -> Tensor:
    # The result is allocated before the file is read: a temporary allocated first would leave a gap below the result.
    result = torch.empty(tensor.shape, dtype=dtype)
    try:
        return check_finite(result.copy_(tensor.read()))
    except (ValueError, OSError, RuntimeError) as fault:
        raise PublishedError(f"{path} cannot be used: {tensor.name}: {fault}.") from fault
