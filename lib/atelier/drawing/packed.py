"""Linear layers packed for drawing on a CPU: half the memory, and about twice the speed.

A step of decoding multiplies a few rows by every weight of the decoder, so much of its time goes by with reading them.
Presets store them in float16 but compute in float32, in which they take twice the room. A packed layer keeps them as
they are stored, in the order in which the processor's matrix kernel reads them, and the kernel widens them in its
registers. Activations, products and sums are float32: what comes out is what nn.Linear computes from the same numbers,
up to the order of the sums. The kernel is FBGEMM's, a part of PyTorch on x86 processors.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from atelier.weights.streams import AnyModule

ENGINES = ("x86", "fbgemm")  # PyTorch's names for what brings FBGEMM along
LARGE = 100_000_000  # parameters; reading fewer takes a GPU less time than being told what to do


class PackedLinear(nn.Module):
    """A linear layer with float16 weights that computes in float32. It draws but cannot learn."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        bias = None if linear.bias is None else linear.bias.detach().float()
        self.packed = torch.ops.quantized.linear_prepack_fp16(linear.weight.detach().float(), bias)

    def forward(self, x: Tensor) -> Tensor:
        """Map x (…, in_features), float32, to (…, out_features)."""
        return torch.ops.quantized.linear_dynamic_fp16(x, self.packed)


def packed(module: AnyModule) -> AnyModule:
    """Pack the linear layers of a module on the CPU, in place, and keep it from learning.

    Packed are those with float16 weights, which are freed. The others stay, and where the processor has no kernel for
    packed ones, all do.
    """
    module.requires_grad_(False)
    if torch.backends.quantized.engine in ENGINES:
        for parent in [part for part in module.modules() if not isinstance(part, nn.Linear)]:
            for name, child in parent.named_children():
                if isinstance(child, nn.Linear) and child.weight.dtype == torch.float16:
                    setattr(parent, name, PackedLinear(child))
    return module


def ready_to_draw(module: AnyModule, device: torch.device, dtype: torch.dtype | None = None) -> AnyModule:
    """Bring a module whose numbers are as they are stored to a device, to compute with but not to learn.

    dtype: of its numbers. None: float32, packed on a CPU; for a LARGE module on a GPU bfloat16, or float16 where the
        GPU has no arithmetic for that, as Colab's T4.
    """
    if dtype is None and device.type == "cuda" and sum(number.numel() for number in module.parameters()) >= LARGE:
        dtype = torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    dtype = dtype or torch.float32
    if (device.type, dtype) == ("cpu", torch.float32):
        packed(module)
    return module.requires_grad_(False).to(device, dtype)
