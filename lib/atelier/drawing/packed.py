"""Linear layers with packed float16 weights, for drawing on a CPU.

They take half the memory. A translator of the published size draws about twice as fast with them, one of laptop's size
about as fast as without (`make bench`).

A step of decoding multiplies a few rows by every weight of the decoder, so reading the weights takes much of its time.
Presets store weights in float16. A packed layer keeps them in float16, in the order in which the matrix kernel reads
them, and the kernel converts them to float32 in registers. Activations, products and sums are float32, so the output
equals that of nn.Linear in float32, up to the order of the sums. The kernel is FBGEMM's, a part of PyTorch on x86
processors.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from atelier.weights.streams import AnyModule

ENGINES = ("x86", "fbgemm")  # PyTorch's names of the backends that use FBGEMM
LARGE = 100_000_000  # parameters; for smaller models on a GPU, launching kernels costs more than reading weights


class PackedLinear(nn.Module):
    """A linear layer with float16 weights that computes in float32. It cannot be trained.

    Args:
        linear: the layer with its weights.
    """

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        bias = None if linear.bias is None else linear.bias.detach().float()
        self.packed = torch.ops.quantized.linear_prepack_fp16(linear.weight.detach().float(), bias)

    def forward(self, x: Tensor) -> Tensor:
        """Map x (…, in_features), float32, to (…, out_features)."""
        return torch.ops.quantized.linear_dynamic_fp16(x, self.packed)


def pack_linear_layers(module: AnyModule) -> AnyModule:
    """Pack the float16 linear layers of a module on the CPU, in place, and freeze the module.

    Linear layers of other types are not changed. Without FBGEMM no layer is changed.

    Returns:
        The module.
    """
    module.requires_grad_(False)
    if torch.backends.quantized.engine in ENGINES:
        for parent in [part for part in module.modules() if not isinstance(part, nn.Linear)]:
            for name, child in parent.named_children():
                if isinstance(child, nn.Linear) and child.weight.dtype == torch.float16:
                    setattr(parent, name, PackedLinear(child))
    return module


def drawing_dtype(device: torch.device, parameters: int) -> torch.dtype:
    """Choose the dtype in which a translator draws.

    The authors of DALL·E Mini draw in float16. It has few exponents, so bfloat16 is better where the GPU has it; a
    drawing whose numbers are too large for float16 is refused, see `DecodingStep.check`. Small models gain nothing, and
    a VQ-GAN, which takes a small part of the time, always draws in float32, as theirs.

    Args:
        device: where to compute.
        parameters: the translator's number of parameters.

    Returns:
        float32; on a GPU and from LARGE parameters bfloat16, or float16 if the GPU has no bfloat16 arithmetic, as
        Colab's T4.
    """
    if device.type != "cuda" or parameters < LARGE:
        return torch.float32
    return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16


def prepare_for_drawing(module: AnyModule, device: torch.device, dtype: torch.dtype | None = None) -> AnyModule:
    """Move a module to a device and convert it to the type in which it draws; it can no longer be trained.

    Args:
        module: with its weights in the type in which they are stored.
        device: where to compute.
        dtype: the type to compute in; None: see `drawing_dtype`. float32 on a CPU is packed.

    Returns:
        The module.
    """
    dtype = dtype or drawing_dtype(device, sum(parameter.numel() for parameter in module.parameters()))
    if (device.type, dtype) == ("cpu", torch.float32):
        pack_linear_layers(module)
    return module.requires_grad_(False).to(device, dtype)
