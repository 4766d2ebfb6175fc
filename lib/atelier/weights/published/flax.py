"""What the DALL·E Mini project published: its translator and its VQ-GAN, as folders that Flax has written.

    config.json, flax_model.msgpack     and, for the translator, vocab.json and merges.txt, see `text`

Flax stores the kernels of linear layers as [in, out], those of convolutions as [height, width, in, out]. The layers of
the translator are stacked on the first axis ("scanned"), or stand one by one in older files. Its norms without scale
have no entry for one; in our `Bart` there is nothing to fill there either.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from atelier.blocks.bart import Bart, BartConfig
from atelier.blocks.vqgan import VQGAN, VQGANConfig
from atelier.weights.published.msgpack import Array, read_msgpack
from atelier.weights.published.pieces import Piece, PublishedError, fill
from atelier.weights.sizes import check_sizes

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "flax_model.msgpack"

# ---------------------------------------------------------------------------------------------- the translator

# Variants that the project's code has, each with the only value that our `Bart` computes and the published models have.
ONLY = {
    "activation_function": "gelu",
    "ln_type": "layernorm",
    "ln_positions": "normformer",
    "use_glu": True,
    "use_bias": False,
    "use_head_scale": False,
    "use_cosine_attention": False,
    "use_absolute_position_embeddings": True,
    "use_swin_position_embeddings": False,
    "use_deepnet_scaling": False,
    "use_alibi": False,
    "use_final_ln_encoder": True,
    "use_final_ln_decoder": True,
    "force_ln_scale": False,
    "scale_embedding": False,
    "tie_word_embeddings": False,
    "sinkhorn_iters": 1,
}
SIZES = {
    "encoder_vocab_size": "text_vocabulary",
    "image_vocab_size": "target_vocabulary",
    "max_text_length": "text_length",
    "image_length": "target_length",
    "d_model": "width",
    "encoder_attention_heads": "heads",
    "encoder_ffn_dim": "inner_width",
    "encoder_layers": "encoder_layers",
    "decoder_layers": "decoder_layers",
}
SAME_IN_BOTH = {"encoder_attention_heads": "decoder_attention_heads", "encoder_ffn_dim": "decoder_ffn_dim"}

LAYER = re.compile(r"model/(encoder|decoder)/layers/FlaxBart(?:En|De)coderLayer(s|_\d+)/(.+)/(\w+)")
OUTSIDE = {
    "lm_head": "lm_head",
    "model/encoder/embed_tokens": "text_embedding",
    "model/decoder/embed_tokens": "target_embedding",
    **{
        f"model/{stack}/{part}": f"{stack}.{part}"
        for stack in ("encoder", "decoder")
        for part in ("embed_positions", "layernorm_embedding", "final_ln")
    },
}
FEED_FORWARD = {
    "GLU_0/LayerNorm_0": "ffn.ln0",
    "GLU_0/LayerNorm_1": "ffn.ln1",
    "GLU_0/Dense_0": "ffn.fc0",
    "GLU_0/Dense_1": "ffn.fc1",
    "GLU_0/Dense_2": "ffn.fc2",
}


def _attention(number: int, name: str) -> dict[str, str]:
    """Their names of an attention and the norms around it, and ours."""
    projections = {
        f"FlaxBartAttention_{number}/{part}": f"{name}.{part}" for part in ("q_proj", "k_proj", "v_proj", "out_proj")
    }
    return {
        f"LayerNorm_{2 * number}": f"pre_{name}_layer_norm",
        f"LayerNorm_{2 * number + 1}": f"{name}_layer_norm",
        **projections,
    }


INSIDE = {
    "encoder": {**_attention(0, "self_attn"), **FEED_FORWARD},
    "decoder": {**_attention(0, "self_attn"), **_attention(1, "encoder_attn"), **FEED_FORWARD},
}


def bart_config(folder: Path) -> BartConfig:
    """The translator's sizes. Raises PublishedError when config.json is missing, damaged or of another architecture."""
    values = _config(folder)
    _refuse(folder, {key: (values[key], value) for key, value in ONLY.items() if values.get(key, value) != value})
    pairs = ((encoder, decoder) for encoder, decoder in SAME_IN_BOTH.items() if decoder in values)
    _refuse(folder, {b: (values[b], values.get(a)) for a, b in pairs if values[b] != values.get(a)})
    start = values.get("decoder_start_token_id")
    sizes = _only(folder, values, SIZES)
    try:
        config = BartConfig(**sizes, start_token=None if start == sizes["target_vocabulary"] else start)
        check_sizes(config)
    except (TypeError, ValueError) as fault:
        raise PublishedError(f"{folder / CONFIG_FILE} does not describe a DALL·E Mini: {fault}") from fault
    return config


def normalizes_text(folder: Path) -> bool:
    """Whether the model expects texts that are normalised first. Raises PublishedError as `bart_config` does."""
    return bool(_config(folder).get("normalize_text", False))


def bart_pieces(folder: Path, config: BartConfig) -> Iterator[Piece]:
    """The translator's tensors. Raises PublishedError as `read_msgpack` does, or for a name that is unknown."""
    path = folder / WEIGHTS_FILE
    layers = {"encoder": config.encoder_layers, "decoder": config.decoder_layers}
    for name, array in read_msgpack(path).items():
        owner, _, leaf = name.rpartition("/")
        found = LAYER.fullmatch(name)
        if owner in OUTSIDE:
            yield _piece(name, array, f"{OUTSIDE[owner]}.{_leaf(leaf)}", leaf)
        elif found and found[3] in INSIDE[found[1]]:
            stack, which, inner, leaf = found.groups()
            place = f"{INSIDE[stack][inner]}.{_leaf(leaf)}"
            if which != "s":
                yield _piece(name, array, f"{stack}.layers.{which[1:]}.{place}", leaf)
                continue
            if array.shape[:1] != (layers[stack],):
                raise PublishedError(f"{path} has {name} of shape {array.shape}, but {layers[stack]} layers in all.")
            for i in range(layers[stack]):
                yield _piece(f"{name}[{i}]", array[i], f"{stack}.layers.{i}.{place}", leaf)
        else:
            raise PublishedError(f"{path} has {name}, for which this model has no place; it is of another kind.")


def load_bart(folder: str | Path, dtype: torch.dtype = torch.float32) -> Bart:
    """The translator of a folder such as dalle-mini/dalle-mini's.

    Raises PublishedError naming the file when something is missing, damaged, or of another architecture.
    """
    folder = Path(folder)
    config = bart_config(folder)
    return fill(lambda: Bart(config), bart_pieces(folder, config), folder / WEIGHTS_FILE, dtype)


# ---------------------------------------------------------------------------------------------- the VQ-GAN

VQGAN_ONLY = {"double_z": False, "in_channels": 3, "out_ch": 3, "resamp_with_conv": True, "give_pre_end": False}
VQGAN_SIZES = {
    "resolution": "resolution",
    "ch": "channels",
    "ch_mult": "multipliers",
    "num_res_blocks": "residual_blocks",
    "attn_resolutions": "attention_resolutions",
    "z_channels": "z_channels",
    "n_embed": "codes",
    "embed_dim": "code_width",
}


def vqgan_config(folder: Path) -> VQGANConfig:
    """The VQ-GAN's sizes. Raises PublishedError when config.json is missing, damaged or of another architecture.

    This copy of taming's VQ-GAN was trained on with pixels from 0 to 1.
    """
    values = _config(folder)
    _refuse(folder, {key: (values[key], value) for key, value in VQGAN_ONLY.items() if values.get(key, value) != value})
    try:
        sizes = _only(folder, values, VQGAN_SIZES)
        config = VQGANConfig(**sizes, pixel_range="[0,1]", decay=None, restart_below=0.0)
        check_sizes(config)
    except (TypeError, ValueError) as fault:
        raise PublishedError(f"{folder / CONFIG_FILE} does not describe a VQ-GAN: {fault}") from fault
    return config


def vqgan_pieces(folder: Path) -> Iterator[Piece]:
    """The VQ-GAN's tensors: taming's names, with "up_0/block_1" for "up.0.block.1"."""
    for name, array in read_msgpack(folder / WEIGHTS_FILE).items():
        owner, _, leaf = name.rpartition("/")
        if owner.startswith(("encoder/mid/", "decoder/mid/")):
            place = owner.replace("/", ".")  # block_1 is a name there, not a number
        else:
            place = re.sub(r"(up|down|block|attn)_(\d+)", r"\1.\2", owner).replace("/", ".")
        yield _piece(name, array, f"{place}.{_leaf(leaf)}", leaf)


def load_vqgan(folder: str | Path, dtype: torch.dtype = torch.float32) -> VQGAN:
    """The VQ-GAN of a folder such as dalle-mini/vqgan_imagenet_f16_16384's. Raises PublishedError as `load_bart`."""
    folder = Path(folder)
    config = vqgan_config(folder)
    return fill(lambda: VQGAN(config), vqgan_pieces(folder), folder / WEIGHTS_FILE, dtype)


# ---------------------------------------------------------------------------------------------- both

TO_OURS: dict[int, tuple[int, ...]] = {2: (1, 0), 4: (3, 2, 0, 1)}  # how the sides of a kernel are put in our order


def _piece(name: str, array: Array, place: str, leaf: str) -> Piece:
    order = TO_OURS.get(len(array.shape)) if leaf == "kernel" else None
    if order is None:
        return Piece(name, place, array.shape, array.read)
    shape = tuple(array.shape[side] for side in order)
    return Piece(name, place, shape, _turned(array, order))


def _turned(array: Array, order: tuple[int, ...]) -> Callable[[], Tensor]:
    return lambda: array.read().permute(order)


def _leaf(leaf: str) -> str:
    return "weight" if leaf in ("kernel", "embedding", "scale") else leaf


def _config(folder: Path) -> dict[str, Any]:
    path = folder / CONFIG_FILE
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except OSError as fault:
        raise PublishedError(f"{path} cannot be read: {fault.strerror}.") from fault
    except ValueError as fault:
        raise PublishedError(f"{path} is not valid JSON ({fault}).") from fault
    if not isinstance(values, dict):
        raise PublishedError(f"{path} holds a {type(values).__name__}, not an object.")
    return values


def _only(folder: Path, values: dict[str, Any], names: dict[str, str]) -> dict[str, Any]:
    missing = [theirs for theirs in names if theirs not in values]
    if missing:
        raise PublishedError(f"{folder / CONFIG_FILE} lacks {', '.join(missing)}.")
    found = {ours: values[theirs] for theirs, ours in names.items()}
    return {name: tuple(value) if isinstance(value, list) else value for name, value in found.items()}


def _refuse(folder: Path, differing: dict[str, tuple[Any, Any]]) -> None:
    for key, (found, expected) in differing.items():
        raise PublishedError(
            f"{folder / CONFIG_FILE} has {found!r} for {key}; only models with {expected!r} can be read."
        )
