"""The weights that the DALL·E Mini project published: its translator and its VQ-GAN, as folders written by Flax.

    config.json, flax_model.msgpack     and, for the translator, vocab.json and merges.txt, see `tokenizer`

Flax stores the kernel of a linear layer as [in, out], that of a convolution as [height, width, in, out]. The layers of
the translator are stacked along the first axis ("scanned"); in older files they are separate. Layer norms without scale
have no entry for it, and neither have those of our `Bart`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from atelier.blocks.bart import Bart, BartConfig
from atelier.blocks.vqgan import VQGAN, VQGANConfig
from atelier.weights.fields import from_json
from atelier.weights.published.msgpack import Array, read_msgpack
from atelier.weights.published.tensors import (
    PublishedError,
    PublishedTensor,
    check_supported,
    load_tensors,
    same_in_both_stacks,
)
from atelier.weights.storage import PresetError, read_json

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "flax_model.msgpack"

# ---------------------------------------------------------------------------------------------- the translator

# Settings of the project's code, with the only value that our `Bart` supports; the published models have this value.
SUPPORTED = {
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
LAYER = re.compile(r"model/(encoder|decoder)/layers/FlaxBart(?:En|De)coderLayer(s|_\d+)/(.+)/(\w+)")
MODULES = {
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
    """Map Flax's names of an attention and the layer norms around it to ours."""
    projections = {
        f"FlaxBartAttention_{number}/{part}": f"{name}.{part}" for part in ("q_proj", "k_proj", "v_proj", "out_proj")
    }
    return {
        f"LayerNorm_{2 * number}": f"pre_{name}_layer_norm",
        f"LayerNorm_{2 * number + 1}": f"{name}_layer_norm",
        **projections,
    }


LAYER_MODULES = {
    "encoder": {**_attention(0, "self_attn"), **FEED_FORWARD},
    "decoder": {**_attention(0, "self_attn"), **_attention(1, "encoder_attn"), **FEED_FORWARD},
}


def bart_config(folder: Path) -> BartConfig:
    """Read the sizes of the translator.

    Raises:
        PublishedError: if config.json is missing, damaged, or describes an architecture that our `Bart` does not
            support.
    """
    values = _read_config(folder)
    check_supported(folder / CONFIG_FILE, values, SUPPORTED | same_in_both_stacks(values))
    start = values.get("decoder_start_token_id")
    sizes = _sizes(folder, values, SIZES)
    try:
        start = None if start == sizes["target_vocabulary"] else start
        config = from_json(BartConfig, {**sizes, "start_token": start}, "the config")
    except (TypeError, ValueError) as fault:
        raise PublishedError(f"{folder / CONFIG_FILE} does not describe a DALL·E Mini: {fault}") from fault
    return config


def normalizes_text(folder: Path) -> bool:
    """Read whether texts are normalised before they are tokenized.

    Raises:
        PublishedError: if config.json is missing or damaged.
    """
    return bool(_read_config(folder).get("normalize_text", False))


def bart_tensors(folder: Path, config: BartConfig) -> Iterator[PublishedTensor]:
    """List the tensors of the translator.

    Raises:
        PublishedError: as for `read_msgpack`, or if a name is unknown.
    """
    path = folder / WEIGHTS_FILE
    layers = {"encoder": config.encoder_layers, "decoder": config.decoder_layers}
    for name, array in read_msgpack(path).items():
        module, _, parameter = name.rpartition("/")
        found = LAYER.fullmatch(name)
        if module in MODULES:
            yield _tensor(name, array, MODULES[module], parameter)
        elif found and found[3] in LAYER_MODULES[found[1]]:
            stack, which, inner, parameter = found.groups()
            inner = LAYER_MODULES[stack][inner]
            if which != "s":
                yield _tensor(name, array, f"{stack}.layers.{which[1:]}.{inner}", parameter)
                continue
            if array.shape[:1] != (layers[stack],):
                raise PublishedError(f"{path} has {name} of shape {array.shape}, but {layers[stack]} layers in all.")
            for i in range(layers[stack]):
                yield _tensor(f"{name}[{i}]", array[i], f"{stack}.layers.{i}.{inner}", parameter)
        else:
            raise PublishedError(f"{path} has {name}, which this model does not have; it is another model.")


def load_bart(folder: str | Path, dtype: torch.dtype = torch.float32) -> Bart:
    """Load the translator of a folder such as dalle-mini/dalle-mini's.

    Args:
        folder: with config.json and flax_model.msgpack.
        dtype: the dtype of the weights.

    Returns:
        The model in evaluation mode.

    Raises:
        PublishedError: if a file is missing, damaged, or of another architecture.
    """
    folder = Path(folder)
    config = bart_config(folder)
    return load_tensors(lambda: Bart(config), bart_tensors(folder, config), folder / WEIGHTS_FILE, dtype)


# ---------------------------------------------------------------------------------------------- the VQ-GAN

VQGAN_SUPPORTED = {"double_z": False, "in_channels": 3, "out_ch": 3, "resamp_with_conv": True, "give_pre_end": False}
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
    """Read the sizes of the VQ-GAN. It is taming's VQ-GAN, trained further with pixels from 0 to 1.

    Raises:
        PublishedError: if config.json is missing, damaged, or describes an architecture that our `VQGAN` does not
            support.
    """
    values = _read_config(folder)
    check_supported(folder / CONFIG_FILE, values, VQGAN_SUPPORTED)
    try:
        sizes = _sizes(folder, values, VQGAN_SIZES)
        more = {"pixel_range": "[0,1]", "decay": None, "restart_below": 0.0}
        config = from_json(VQGANConfig, {**sizes, **more}, "the config")
    except (TypeError, ValueError) as fault:
        raise PublishedError(f"{folder / CONFIG_FILE} does not describe a VQ-GAN: {fault}") from fault
    return config


def vqgan_tensors(folder: Path) -> Iterator[PublishedTensor]:
    """List the tensors of the VQ-GAN. The names are taming's, with "up_0/block_1" for "up.0.block.1".

    Raises:
        PublishedError: as for `read_msgpack`.
    """
    for name, array in read_msgpack(folder / WEIGHTS_FILE).items():
        module, _, parameter = name.rpartition("/")
        if not module.startswith(("encoder/mid/", "decoder/mid/")):  # there block_1 is one name in taming's files, too
            module = re.sub(r"(up|down|block|attn)_(\d+)", r"\1.\2", module)
        yield _tensor(name, array, module.replace("/", "."), parameter)


def load_vqgan(folder: str | Path, dtype: torch.dtype = torch.float32) -> VQGAN:
    """Load the VQ-GAN of a folder such as dalle-mini/vqgan_imagenet_f16_16384's.

    Args:
        folder: with config.json and flax_model.msgpack.
        dtype: the dtype of the weights.

    Returns:
        The model in evaluation mode.

    Raises:
        PublishedError: if a file is missing, damaged, or of another architecture.
    """
    folder = Path(folder)
    config = vqgan_config(folder)
    return load_tensors(lambda: VQGAN(config), vqgan_tensors(folder), folder / WEIGHTS_FILE, dtype)


# ---------------------------------------------------------------------------------------------- both

KERNEL_ORDER: dict[int, tuple[int, ...]] = {2: (1, 0), 4: (3, 2, 0, 1)}  # PyTorch's order of a kernel's dimensions
PARAMETER_NAMES = {"kernel": "weight", "embedding": "weight", "scale": "weight"}


def _tensor(name: str, array: Array, module: str, parameter: str) -> PublishedTensor:
    """Describe an array as a tensor of our block.

    Args:
        name: the name of the array in the file.
        array: Flax's.
        module: our name of the module that has the parameter.
        parameter: Flax's name of the parameter.
    """
    dimensions = len(array.shape)
    order = KERNEL_ORDER.get(dimensions) if parameter == "kernel" else None
    order = order or tuple(range(dimensions))
    shape = tuple(array.shape[dimension] for dimension in order)
    key = f"{module}.{PARAMETER_NAMES.get(parameter, parameter)}"
    return PublishedTensor(name, key, shape, lambda: array.read().permute(order))


def _read_config(folder: Path) -> dict[str, Any]:
    path = folder / CONFIG_FILE
    try:
        values = read_json(path)
    except PresetError as fault:
        raise PublishedError(str(fault)) from fault
    if not isinstance(values, dict):
        raise PublishedError(f"{path} holds a {type(values).__name__}, not an object.")
    return values


def _sizes(folder: Path, values: dict[str, Any], names: dict[str, str]) -> dict[str, Any]:
    """Select the sizes from a config and give them our names; `names` maps the project's names to ours."""
    missing = [theirs for theirs in names if theirs not in values]
    if missing:
        raise PublishedError(f"{folder / CONFIG_FILE} lacks {', '.join(missing)}.")
    return {ours: values[theirs] for theirs, ours in names.items()}
