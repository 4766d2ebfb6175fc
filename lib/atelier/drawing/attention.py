"""The cross-attention of a drawing: which words of the prompt each code attends to."""

from __future__ import annotations

from typing import NamedTuple, cast

import torch
from torch import Tensor

from atelier.blocks.bart import Bart, DecoderLayer, KeysValues
from atelier.drawing.pipeline import Pipeline


class WordAttention(NamedTuple):
    """The translator's attention to the words of the prompt.

    Attributes:
        words: the words of the prompt, in order.
        shares: (n, grid, grid, words), for each code the share of its attention to each word; the shares of a code sum
            to 1. The attention to the start and end tokens is left out.
    """

    words: list[str]
    shares: Tensor


@torch.no_grad()
def cross_attention(bart: Bart, text: Tensor, codes: Tensor) -> Tensor:
    """Compute the attention of each code to the text tokens, in every decoder layer and head.

    Args:
        bart: the translator.
        text: (1, t) token ids of one prompt, without padding.
        codes: (n, s) codes of pictures of this prompt.

    Returns:
        (n, layers, heads, s, t), which sums to 1 over t: the softmax of Vaswani et al. 2017, eq. 1.
    """
    mask = bart.text_mask(text)
    embedding = bart.text_embedding if bart.config.shared_embedding else bart.target_embedding
    positions = torch.arange(codes.shape[1], device=codes.device)
    x = bart.decoder.embed(embedding(bart.shift(codes)), positions)  # (n, s, d)
    weights = []
    for part, text_kv in zip(bart.decoder.layers, bart.project(bart.encode(text, mask)), strict=True):
        layer = cast(DecoderLayer, part)
        weights.append(_layer_attention(layer, x, text_kv))
        x = layer(x, text_kv, mask[:, None, None, :], None, None)
    return torch.stack(weights, dim=1)


def _layer_attention(layer: DecoderLayer, x: Tensor, text: KeysValues) -> Tensor:
    """Compute the cross-attention weights (n, heads, s, t) of one layer for its input x (n, s, d).

    The computation is repeated here instead of being recorded by a hook, because other threads may draw with the same
    model and would run the hook as well.
    """
    h = layer.pre_self_attn_layer_norm(x)
    x = layer.add_residual(x, layer.self_attn(h, layer.self_attn.project(h), causal=True), layer.self_attn_layer_norm)
    attention = layer.encoder_attn
    q = attention.split(attention.q_proj(layer.pre_encoder_attn_layer_norm(x)))  # (n, heads, s, c)
    return (q @ text.keys.transpose(-1, -2) / q.shape[-1] ** 0.5).softmax(-1)


def attention_to_words(pipeline: Pipeline, prompt: str, codes: Tensor) -> WordAttention:
    """Compute which words of its prompt each code of a drawing attends to, averaged over layers and heads.

    Args:
        pipeline: that made the drawing.
        prompt: the prompt of the drawing.
        codes: (n, grid, grid), of the drawing.

    Returns:
        The words and the shares of attention.
    """
    pieces = pipeline.tokenizer.pieces(prompt)[: pipeline.bart.config.text_length - 2]
    text = pipeline.tokenizer.encode([prompt], len(pieces) + 2).to(pipeline.device)  # (1, pieces + 2)
    attention = cross_attention(pipeline.bart, text, codes.flatten(1).to(pipeline.device)).mean((1, 2))  # (n, s, t)
    words, word_of_piece = _words(pieces)
    shares = attention.new_zeros(*attention.shape[:2], len(words))
    shares.index_add_(2, torch.tensor(word_of_piece, device=shares.device), attention[:, :, 1:-1])  # (n, s, words)
    shares = shares / shares.sum(2, keepdim=True)
    return WordAttention(words, shares.unflatten(1, codes.shape[1:]).cpu())


def _words(pieces: list[str]) -> tuple[list[str], list[int]]:
    """Join a tokenizer's pieces to words.

    Returns:
        The words, and for each piece the index of its word.
    """
    words: list[str] = []
    word_of_piece = []
    for piece in pieces:
        if piece.startswith(" ") or not words:
            words.append(piece.strip())
        else:
            words[-1] += piece
        word_of_piece.append(len(words) - 1)
    return words, word_of_piece
