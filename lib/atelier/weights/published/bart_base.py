"""The classic BART, such as facebook/bart-base, through transformers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor

from atelier.blocks.bart import Bart, BartConfig
from atelier.weights.published.pieces import Piece, PublishedError, matched
from atelier.weights.sizes import check_sizes
from atelier.weights.streams import described

ONLY = {"activation_function": "gelu", "scale_embedding": False, "tie_word_embeddings": True}
SAME_IN_BOTH = {"encoder_attention_heads": "decoder_attention_heads", "encoder_ffn_dim": "decoder_ffn_dim"}

# One table embeds text and target and is the output layer as well; transformers lists it four times.
TABLE = "model.shared.weight"
COPIES = ("model.encoder.embed_tokens.weight", "model.decoder.embed_tokens.weight", "lm_head.weight")


def bart_config(config: transformers.BartConfig) -> BartConfig:
    """The sizes. Raises PublishedError for a variant that our `Bart` does not compute."""
    for key, expected in ONLY.items():
        if getattr(config, key, expected) != expected:
            raise PublishedError(f"This BART has {getattr(config, key)!r} for {key}; only {expected!r} can be read.")
    for encoder, decoder in SAME_IN_BOTH.items():
        if getattr(config, encoder) != getattr(config, decoder):
            raise PublishedError(f"This BART has different {encoder} and {decoder}; they must be the same.")
    sizes: dict[str, Any] = config.to_dict()
    ours = BartConfig(
        text_vocabulary=sizes["vocab_size"],
        target_vocabulary=sizes["vocab_size"],
        text_length=sizes["max_position_embeddings"],
        target_length=sizes["max_position_embeddings"],
        width=sizes["d_model"],
        heads=sizes["encoder_attention_heads"],
        inner_width=sizes["encoder_ffn_dim"],
        encoder_layers=sizes["encoder_layers"],
        decoder_layers=sizes["decoder_layers"],
        start_token=sizes["decoder_start_token_id"],
        pad_token=sizes["pad_token_id"],
        normformer=False,
        glu=False,
        bias=True,
        shared_embedding=True,
        final_logits_bias=True,
        position_offset=2,
        dropout=sizes["dropout"],
    )
    check_sizes(ours)
    return ours


def bart_pieces(model: transformers.BartForConditionalGeneration) -> Iterator[Piece]:
    """The tensors of a model of transformers. Raises PublishedError when its tables are not one."""
    weights: dict[str, Tensor] = model.state_dict()
    for name, tensor in weights.items():
        if name in COPIES:
            if tensor.data_ptr() != weights[TABLE].data_ptr():
                raise PublishedError(f"This BART has a table of its own in {name}; only one shared table can be read.")
            continue
        place = "text_embedding.weight" if name == TABLE else name.removeprefix("model.")
        for layer in (".fc1.", ".fc2."):
            place = place.replace(layer, f".ffn{layer}")
        yield Piece(name, place, tuple(tensor.shape), lambda tensor=tensor: tensor)


def load_bart(name_or_folder: str | Path = "facebook/bart-base", dtype: torch.dtype = torch.float32) -> Bart:
    """A classic BART: by its name on the hub, or from a folder that transformers has written.

    Raises PublishedError when there is no such model, or when it is damaged or a variant of another kind.
    """
    try:
        model = transformers.BartForConditionalGeneration.from_pretrained(str(name_or_folder), torch_dtype=dtype)
    except Exception as fault:  # transformers' readers raise what their libraries raise
        reason = (str(fault).strip() or type(fault).__name__).splitlines()[0].rstrip(".")
        raise PublishedError(f"There is no BART to be had from {name_or_folder}: {reason}.") from fault
    config = bart_config(model.config)
    module = described(lambda: Bart(config))
    pieces = matched(bart_pieces(model), module, Path(name_or_folder))
    # The numbers are in memory already: they change hands.
    module.load_state_dict({place: piece.read() for place, piece in pieces.items()}, strict=True, assign=True)
    return module.eval()
