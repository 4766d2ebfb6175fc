"""DALL·E Mega at its full size with random weights: nine pictures, their time, and the share of the memory's bandwidth.

    python tests/gpu/mega.py FOLDER [--tiny]

Decoding one code after the other reads all weights of the decoder for each code, so the bandwidth of the memory limits
its speed. If min-dalle can be imported, its own code draws the same number of pictures with the same sizes in the same
run. The pictures of random weights show nothing; what counts are the times. FOLDER gets the pictures; the last line of
the output is a JSON object. `--tiny` is for a rehearsal on a CPU.
"""

from __future__ import annotations

import gc
import importlib.util
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import typer
from atelier import Pipeline
from atelier.blocks.bart import Bart, BartConfig
from atelier.blocks.vqgan import VQGAN, VQGANConfig
from atelier.decoding import Sampling
from atelier.drawing.packed import prepare_for_drawing
from atelier.weights.preset import load_preset
from atelier.weights.streams import on_meta_device
from torch import nn

PROMPT = "the Eiffel tower landing on the moon"
SAMPLING = Sampling(guidance=16.0, top_k=256)  # min-dalle's defaults
TINY_BART = BartConfig(1024, 64, 32, 16, width=32, heads=2, inner_width=44, encoder_layers=2, decoder_layers=2)
TINY_VQGAN = VQGANConfig(
    resolution=32,
    channels=32,
    multipliers=(1, 1, 2, 2),
    residual_blocks=1,
    attention_resolutions=(4,),
    z_channels=12,
    codes=64,
    code_width=8,
)
COPIED = 2**30  # bytes, to measure the bandwidth


def filled(build: Callable[[], nn.Module], device: torch.device, dtype: torch.dtype) -> Any:
    """A module with random weights, made on the device in a dtype, so that it never needs more memory than that."""
    module = on_meta_device(build).to(dtype).to_empty(device=device).eval().requires_grad_(False)
    torch.manual_seed(0)
    for name, parameter in module.named_parameters():
        if parameter.ndim > 1:
            parameter.normal_(0.0, 0.02)
        else:
            parameter.fill_(1.0 if name.endswith("weight") else 0.0)
    for buffer in module.buffers():
        buffer.zero_()
    return module


def waited(work: Callable[[], Any], device: torch.device) -> tuple[Any, float]:
    """The result of a function, and the seconds until the device has finished it."""
    start = time.perf_counter()
    result = work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return result, time.perf_counter() - start


def bandwidth(device: torch.device, size: int = COPIED) -> float:
    """Bytes per second that a copy within the memory reads and writes; the fastest of five."""
    source, target = (torch.empty(size, dtype=torch.uint8, device=device) for _ in range(2))
    return 2 * size / min(waited(lambda: target.copy_(source), device)[1] for _ in range(6))


def bytes_per_drawing(bart: Bart, pictures: int) -> int:
    """Bytes that decoding must read: for each code the decoder's weights, and the keys and values of earlier codes.

    The keys and values of the text are computed once, and the projections that compute them are not read again.
    """
    read_once = ("encoder_attn.k_proj", "encoder_attn.v_proj", "embed")
    weights = sum(
        parameter.nbytes
        for name, parameter in bart.named_parameters()
        if name.startswith(("decoder", "lm_head")) and not any(part in name for part in read_once)
    )
    size, item = bart.config, next(bart.parameters()).element_size()
    cache = 2 * size.decoder_layers * 2 * pictures * size.target_length * size.width * item
    return size.target_length * (weights + cache // 2)  # the cache is half full on average


def ours(bart_config: BartConfig, vqgan_config: VQGANConfig, device: torch.device, pictures: int, folder: Path) -> dict:
    """Draw twice, and measure the second time, as for a person who draws again."""
    half = torch.float16 if device.type == "cuda" else torch.float32
    bart = prepare_for_drawing(filled(lambda: Bart(bart_config), device, half), device)
    vqgan = filled(lambda: VQGAN(vqgan_config), device, torch.float32)
    tokenizer = load_preset("laptop").load_tokenizer()
    dtype, needed = next(bart.parameters()).dtype, bytes_per_drawing(bart, pictures)
    pipe = Pipeline(vqgan, bart, None, tokenizer, name="random", sampling=SAMPLING, device=device)
    _, first = waited(lambda: pipe.draw(PROMPT, n=pictures, seed=0), device)
    drawing, seconds = waited(lambda: pipe.draw(PROMPT, n=pictures, seed=1), device)
    _, decoding = waited(lambda: pipe.decode(drawing.codes), device)
    rate = bandwidth(device, COPIED if device.type == "cuda" else 2**26)
    drawing.grid().save(folder / "mega_random.png")
    peak = torch.cuda.max_memory_allocated(device) / 1e9 if device.type == "cuda" else None
    return {
        "pictures": pictures,
        "dtype": str(dtype).removeprefix("torch."),
        "seconds_first": round(first, 3),
        "seconds": round(seconds, 3),
        "seconds_of_vqgan": round(decoding, 3),
        "gigabytes_read_for_codes": round(needed / 1e9, 3),
        "bandwidth_gigabytes_per_second": round(rate / 1e9, 1),
        "share_of_bandwidth_limit": round(needed / rate / max(seconds - decoding, 1e-9), 3),
        "peak_gigabytes": None if peak is None else round(peak, 2),
    }


def theirs(config: BartConfig, device: torch.device, side: int) -> dict:
    """Draw side² pictures twice with min-dalle's own code and random weights of the same sizes."""
    threads = torch.get_num_threads()
    with torch.enable_grad():  # importing min-dalle disables gradients
        from min_dalle import MinDalle
        from min_dalle.models import DalleBartDecoder, DalleBartEncoder, VQGanDetokenizer
    torch.set_num_threads(threads)  # and takes all processors
    half, where = (torch.float16 if device.type == "cuda" else torch.float32), str(device)
    sizes = {"attention_head_count": config.heads, "embed_count": config.width, "glu_embed_count": config.inner_width}
    model: Any = MinDalle.__new__(MinDalle)  # without reading files of weights
    model.device, model.dtype, model.is_reusable, model.text_token_count = where, half, True, 64
    model.layer_count, model.embed_count = config.decoder_layers, config.width
    encoder = {"text_vocab_count": config.text_vocabulary, "layer_count": config.encoder_layers, "text_token_count": 64}
    decoder = {"image_vocab_count": max(config.target_vocabulary, 2**14), "layer_count": config.decoder_layers}
    model.encoder = filled(lambda: DalleBartEncoder(**sizes, **encoder, device=where), device, half)
    model.decoder = filled(lambda: DalleBartDecoder(**sizes, **decoder, device=where), device, half)
    model.detokenizer = filled(VQGanDetokenizer, device, torch.float32)
    for module in (model.encoder, model.decoder):
        restore_indices(module, device)
    model.tokenizer = type("Ids", (), {"tokenize": lambda *_, **__: [0, *range(10, 20), 2]})()

    def draw() -> list[torch.Tensor]:
        return list(model.generate_raw_image_stream(PROMPT, seed=1, grid_size=side, supercondition_factor=16))

    with torch.no_grad():
        _, first = waited(draw, device)
        _, seconds = waited(draw, device)
    return {"pictures": side**2, "seconds_first": round(first, 3), "seconds": round(seconds, 3)}


def restore_indices(module: nn.Module, device: torch.device) -> None:
    """Make the index tensors of min-dalle's modules again: they are plain attributes, made on the meta device."""
    for part in module.modules():
        for name, value in list(vars(part).items()):
            if isinstance(value, torch.Tensor):
                setattr(part, name, torch.arange(value.shape[-1], device=device).expand(value.shape))


@torch.no_grad()
def measure(folder: Path, tiny: bool = False) -> dict[str, Any]:
    """Measure both; the pictures are saved in a folder."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    sizes = (TINY_BART, TINY_VQGAN) if tiny else (BartConfig.dalle_mega(), VQGANConfig.f16_16384())
    found: dict[str, Any] = {"ours": ours(*sizes, device, 2 if tiny else 9, folder)}
    if importlib.util.find_spec("min_dalle") is None:
        return found | {"min-dalle": "is not installed"}
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
    found["min-dalle"] = theirs(sizes[0], device, 1 if tiny else 3)
    if not tiny:  # its VQ-GAN has the full size always
        found["min-dalle seconds / ours"] = round(found["min-dalle"]["seconds"] / found["ours"]["seconds"], 2)
    return found


if __name__ == "__main__":
    typer.echo(json.dumps(measure(Path(sys.argv[1]), "--tiny" in sys.argv)))
