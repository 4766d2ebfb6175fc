"""Packed layers: the same numbers in half the memory, computed with in float32."""

from types import SimpleNamespace

import pytest
import torch
from atelier.blocks.bart import Bart, BartConfig
from atelier.decoding import Sampling, decode, dice
from atelier.drawing.packed import PackedLinear, packed, ready_to_draw
from torch import nn

PACKS = torch.backends.quantized.engine in ("x86", "fbgemm")


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("shape", [(1, 1000), (18, 1000), (18, 1, 1000), (2, 3, 4, 1000)])
def test_a_packed_layer_computes_in_float32(bias, shape):
    torch.manual_seed(0)
    layer, x = nn.Linear(1000, 37, bias=bias).half(), torch.randn(shape)
    ours = packed(nn.Sequential(layer)).float()
    assert isinstance(ours[0], PackedLinear) == PACKS
    expected = layer.double()(x.double())
    assert (ours(x) - expected).abs().max() < 3e-6  # sums of 1000 products; in float16 they would be 1e-3 away


def test_extreme_numbers_of_float16_stay_as_they_are():
    layer = nn.Linear(4, 1, bias=False).half()
    layer.weight.data = torch.tensor([[2.0**-24, -65504.0, 1 + 2.0**-10, -0.0]]).half()
    ours = packed(nn.Sequential(layer)).float()
    assert torch.equal(ours(torch.eye(4)), layer.float()(torch.eye(4)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_layers_of_other_types_stay(dtype):
    model = nn.Sequential(nn.Linear(3, 3, dtype=dtype), nn.Linear(3, 3).half())
    kept = model[0]
    assert packed(model)[0] is kept
    assert isinstance(model[1], PackedLinear) == PACKS


def test_without_a_kernel_everything_stays(monkeypatch):
    monkeypatch.setattr(torch.backends, "quantized", SimpleNamespace(engine="qnnpack"))
    assert isinstance(packed(nn.Sequential(nn.Linear(3, 3).half()))[0], nn.Linear)


def test_a_packed_translator_writes_the_same_codes_and_does_not_learn():
    torch.manual_seed(0)
    bart = Bart(BartConfig(40, 24, 10, 12, 16, 2, 24, 2, 2, initial_std=0.4)).eval().half().float()
    text, empty = torch.tensor([[0, 9, 8, 7, 2, 1]]), torch.tensor([0, 2, 1, 1, 1, 1])
    before = [*decode(bart, text, empty, Sampling(top_k=8), dice(0, 5, 12))][-1]
    linear = [name for name, module in bart.named_modules() if isinstance(module, nn.Linear)]
    assert {"lm_head", "encoder.layers.1.ffn.fc2", "decoder.layers.0.encoder_attn.k_proj"} <= set(linear)
    assert packed(bart.half()).float() is bart
    after = [*decode(bart, text, empty, Sampling(top_k=8), dice(0, 5, 12))][-1]
    assert torch.equal(before, after)
    assert all(isinstance(bart.get_submodule(name), PackedLinear) == PACKS for name in linear)
    assert not any(parameter.requires_grad for parameter in bart.parameters())
    assert not bart(text, before[:1]).requires_grad


def test_the_device_decides_on_the_type(monkeypatch):
    def made_for(device: str, dtype: torch.dtype | None = None) -> nn.Sequential:
        with monkeypatch.context() as patch:  # there need not be such a device
            patch.setattr(nn.Module, "to", lambda self, device, dtype: self._apply(lambda x: x.to(dtype)))
            return ready_to_draw(nn.Sequential(nn.Linear(3, 3), nn.LayerNorm(3)).half(), torch.device(device), dtype)

    on_cpu = made_for("cpu")
    assert isinstance(on_cpu[0], PackedLinear) == PACKS
    assert on_cpu.get_parameter("1.weight").dtype == torch.float32
    assert made_for("cpu", torch.bfloat16).get_parameter("0.weight").dtype == torch.bfloat16
    assert made_for("mps").get_parameter("0.weight").dtype == torch.float32
    assert made_for("cuda").get_parameter("0.weight").dtype == torch.float32
    monkeypatch.setattr("atelier.drawing.packed.LARGE", 18)
    for supported, dtype in ((True, torch.bfloat16), (False, torch.float16)):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation, found=supported: found)
        assert made_for("cuda").get_parameter("0.weight").dtype == dtype
        assert made_for("cuda", torch.float32).get_parameter("0.weight").dtype == torch.float32
        assert not made_for("cuda").get_parameter("0.weight").requires_grad
