"""A simulated Apple GPU."""

from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_flatten, tree_map

MPS, CPU = torch.device("mps"), torch.device("cpu")


class AppleGPU(TorchFunctionMode):
    """Tensors report an Apple GPU as their device, except the results of `Tensor.cpu`; all are computed on the CPU.

    As on an Apple GPU, creating a float64 tensor raises a TypeError.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        tensors = [value for value in tree_flatten((args, kwargs))[0] if isinstance(value, Tensor)]
        fetched = bool(tensors) and getattr(tensors[0], "fetched", False)
        if func == Tensor.device.__get__:
            return CPU if fetched else MPS
        returned = any(_is_mps(value) for value in tree_flatten((args, kwargs))[0])
        args, kwargs = tree_map(lambda value: CPU if _is_mps(value) else value, (args, kwargs or {}))
        result = func(*args, **kwargs)
        if func == Tensor.cpu or (fetched and returned):
            result = result.clone()  # otherwise the result would be the tensor itself
        for made in tree_flatten(result)[0]:
            if isinstance(made, Tensor) and not (made is args[0] if args else False):
                self._set_device(made, func == Tensor.cpu or (fetched and not returned))
        return result

    def _set_device(self, made: Tensor, fetched: bool) -> None:
        if fetched:
            made.fetched = True  # ty: ignore[missing-attribute]
        elif made.dtype == torch.float64:
            raise TypeError("Cannot convert a MPS Tensor to float64 dtype: the MPS framework doesn't support it.")


def _is_mps(value: Any) -> bool:
    return isinstance(value, str | torch.device) and str(value) == "mps"
