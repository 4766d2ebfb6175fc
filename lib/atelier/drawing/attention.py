"""Looking inside a drawing: which words each of its codes looked at."""

from __future__ import annotations

from typing import NamedTuple, cast

import torch
from torch import Tensor

from atelier.blocks.bart import Bart, DecoderLayer, KeysValues
from atelier.drawing.pipeline import Pipeline


class WordAttention(NamedTuple):
    """Where the translator looked while it wrote each code.

    Attributes:
        words: of the prompt, in their order.
        shares: (n, grid, grid, words), of the attention that went to words, each code's sum is 1. What went to the
            marks at the caption's ends is left out.
    """

    words: list[str]
    shares: Tensor


@torch.no_grad()
def cross_attention(bart: Bart, text: Tensor, codes: Tensor) -> Tensor:
    """Attention from target tokens to text tokens, in every decoder layer and head.

    Args:
        bart: the translator.
        text: (1, t) token ids of one prompt, without padding.
        codes: (n, s), what was written for it.

    Returns:
        (n, layers, heads, s, t), each row of t sums to 1 (Vaswani et al. 2017, eq. 1, without the values).
    """
    mask = bart.text_mask(text)
    embedding = bart.text_embedding if bart.config.shared_embedding else bart.target_embedding
    positions = torch.arange(codes.shape[1], device=codes.device)
    x = bart.decoder.start(embedding(bart.shift(codes)), positions)  # (n, s, d)
    found = []
    for part, seen in zip(bart.decoder.layers, bart.project(bart.encode(text, mask)), strict=True):
        layer = cast(DecoderLayer, part)
        found.append(_weights(layer, x, seen))
        x = layer(x, seen, mask[:, None, None, :], None, None)
    return torch.stack(found, dim=1)


def _weights(layer: DecoderLayer, x: Tensor, text: KeysValues) -> Tensor:
    """The cross-attention weights (n, heads, s, t) of one layer, for its input x (n, s, d).

    Other threads may draw with the same model, so it is only called: a hook would be called by their drawings as well.
    """
    h = layer.pre_self_attn_layer_norm(x)
    x = layer.join(x, layer.self_attn(h, layer.self_attn.project(h), causal=True), layer.self_attn_layer_norm)
    attention = layer.encoder_attn
    q = attention.split(attention.q_proj(layer.pre_encoder_attn_layer_norm(x)))  # (n, heads, s, c)
    return (q @ text.keys.transpose(-1, -2) / q.shape[-1] ** 0.5).softmax(-1)


def attention_to_words(pipeline: Pipeline, prompt: str, codes: Tensor) -> WordAttention:
    """Which words of its prompt each code of a drawing looked at, as the mean over layers and heads.

    Args:
        pipeline: that drew.
        prompt: what was asked for.
        codes: (n, grid, grid), of the drawing.
    """
    pieces = pipeline.tokenizer.pieces(prompt)[: pipeline.bart.config.text_length - 2]
    text = pipeline.tokenizer.encode([prompt], len(pieces) + 2).to(pipeline.device)  # (1, pieces + 2)
    attention = cross_attention(pipeline.bart, text, codes.flatten(1).to(pipeline.device)).mean((1, 2))  # (n, s, t)
    words, owner = _words(pieces)
    shares = attention.new_zeros(*attention.shape[:2], len(words))
    shares.index_add_(2, torch.tensor(owner, device=shares.device), attention[:, :, 1:-1])  # (n, s, words)
    shares = shares / shares.sum(2, keepdim=True)
    return WordAttention(words, shares.unflatten(1, codes.shape[1:]).cpu())


def _words(pieces: list[str]) -> tuple[list[str], list[int]]:
    """The words that a tokenizer's pieces make together, and for each piece the number of its word."""
    words: list[str] = []
    owner = []
    for piece in pieces:
        if piece.startswith(" ") or not words:
            words.append(piece.strip())
        else:
            words[-1] += piece
        owner.append(len(words) - 1)
    return words, owner
