"""The original BART (Lewis et al. 2019), such as facebook/bart-base, loaded with transformers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor

from atelier.blocks.bart import Bart, BartConfig
from atelier.weights.published.tensors import (
    PublishedError,
    PublishedTensor,
    check_supported,
    match_tensors,
    same_in_both_stacks,
)
from atelier.weights.sizes import check_sizes
from atelier.weights.streams import on_meta_device

SUPPORTED = {"activation_function": "gelu", "scale_embedding": False, "tie_word_embeddings": True}

# One tensor is the text embedding, the target embedding and the output layer; transformers lists it four times.
SHARED = "model.shared.weight"
ALIASES = ("model.encoder.embed_tokens.weight", "model.decoder.embed_tokens.weight", "lm_head.weight")


def bart_config(config: transformers.BartConfig) -> BartConfig:
    """Translate a config of transformers.

    Raises:
        PublishedError: if our `Bart` does not support this variant.
        ValueError: if the sizes are impossible.
    """
    values: dict[str, Any] = config.to_dict()
    check_supported("This BART", values, SUPPORTED | same_in_both_stacks(values))
    ours = BartConfig(
        text_vocabulary=values["vocab_size"],
        target_vocabulary=values["vocab_size"],
        text_length=values["max_position_embeddings"],
        target_length=values["max_position_embeddings"],
        width=values["d_model"],
        heads=values["encoder_attention_heads"],
        inner_width=values["encoder_ffn_dim"],
        encoder_layers=values["encoder_layers"],
        decoder_layers=values["decoder_layers"],
        start_token=values["decoder_start_token_id"],
        pad_token=values["pad_token_id"],
        normformer=False,
        glu=False,
        bias=True,
        shared_embedding=True,
        final_logits_bias=True,
        position_offset=2,
        dropout=values["dropout"],
    )
    check_sizes(ours)
    return ours


def bart_tensors(model: transformers.BartForConditionalGeneration) -> Iterator[PublishedTensor]:
    """List the tensors of a model of transformers.

    Raises:
        PublishedError: if embeddings and output layer are not one shared tensor.
    """
    weights: dict[str, Tensor] = model.state_dict()
    for name, tensor in weights.items():
        if name in ALIASES:
            if tensor.data_ptr() != weights[SHARED].data_ptr():
                raise PublishedError(f"This BART has a separate tensor {name}; only one shared tensor is supported.")
            continue
        key = "text_embedding.weight" if name == SHARED else name.removeprefix("model.")
        for layer in (".fc1.", ".fc2."):
            key = key.replace(layer, f".ffn{layer}")
        yield PublishedTensor(name, key, tuple(tensor.shape), lambda tensor=tensor: tensor)


def load_bart(name_or_folder: str | Path = "facebook/bart-base", dtype: torch.dtype = torch.float32) -> Bart:
    """Load an original BART.

    Args:
        name_or_folder: its name on the hub, or a folder that transformers has written.
        dtype: the dtype of the weights.

    Returns:
        The model in evaluation mode.

    Raises:
        PublishedError: if there is no such model, or if it is damaged or a variant that our `Bart` does not support.
    """
    try:
        model = transformers.BartForConditionalGeneration.from_pretrained(str(name_or_folder), torch_dtype=dtype)
    except Exception as fault:  # transformers passes on the exceptions of the libraries it reads files with
        reason = (str(fault).strip() or type(fault).__name__).splitlines()[0].rstrip(".")
        raise PublishedError(f"No BART could be loaded from {name_or_folder}: {reason}.") from fault
    config = bart_config(model.config)
    module = on_meta_device(lambda: Bart(config))
    tensors = match_tensors(bart_tensors(model), module, Path(name_or_folder))
    # The tensors are in memory already, so they are assigned without a copy.
    module.load_state_dict({key: tensor.read() for key, tensor in tensors.items()}, strict=True, assign=True)
    return module.eval()
