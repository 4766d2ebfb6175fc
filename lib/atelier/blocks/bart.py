"""BART: an encoder reads the caption, and a decoder predicts the codes of the picture one after the other.

One class covers two published models, which differ only in their config:

* BART (Lewis et al. 2020, section 2): the sequence-to-sequence transformer of Vaswani et al. 2017 with GELU, learned
  position embeddings, and one weight matrix shared by text embedding, target embedding and output layer.
  LayerNorm follows each residual connection ("post-LN").
* DALL·E Mini (Dayma et al. 2021): the same structure with NormFormer's LayerNorms before and inside each sublayer
  (Shleifer et al. 2021, section 2), gated feed-forward layers (Shazeer 2020, equation 6), no biases in linear layers,
  and a separate target vocabulary, the codes of a VQ-GAN.

In the shapes, n is the batch size, p the number of prompts, t the number of text tokens, s the number of target tokens,
h the number of heads, d the width, and c = d / h the width of a head.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol, Self, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class BartConfig:
    """Sizes and architecture of a `Bart`. By default the architecture is that of DALL·E Mini.

    Args:
        text_vocabulary: rows of the text embedding.
        target_vocabulary: number of codes (or words) that can be predicted, without the start token.
        text_length: maximum number of text tokens.
        target_length: maximum number of target tokens: the codes of one picture.
        width: d, the dimension of the hidden states; a multiple of heads.
        heads: h, attention heads per layer.
        inner_width: dimension of the hidden layer of the feed-forward layers.
        encoder_layers: layers of the encoder.
        decoder_layers: layers of the decoder.
        start_token: the decoder's input before the first code. None: the row after the last code.
        pad_token: text id that pads short texts; attention to it is masked.
        normformer: if True, there are LayerNorms before each sublayer, after each attention and inside the feed-forward
            layer, but none after it, as in NormFormer. If False, there is a LayerNorm after each residual connection,
            as in BART.
        glu: whether the feed-forward layers are gated.
        bias: whether the linear layers have biases.
        shared_embedding: whether the text embedding, the target embedding and the output layer share one weight matrix.
            Text and target then have the same vocabulary.
        final_logits_bias: whether a constant from the weights file is added to the logits, as in published BARTs.
        position_offset: unused rows at the beginning of the position embeddings (2 in BART).
        dropout: probability of dropout in training, after the embeddings and after each sublayer.
        initial_std: standard deviation of the random initialisation.

    Raises:
        ValueError: if the width is not a multiple of the heads.
    """

    text_vocabulary: int
    target_vocabulary: int
    text_length: int
    target_length: int
    width: int
    heads: int
    inner_width: int
    encoder_layers: int
    decoder_layers: int
    start_token: int | None = None
    pad_token: int = 1
    normformer: bool = True
    glu: bool = True
    bias: bool = False
    shared_embedding: bool = False
    final_logits_bias: bool = False
    position_offset: int = 0
    dropout: float = 0.0
    initial_std: float = 0.02

    def __post_init__(self) -> None:
        if self.heads < 1 or self.width % self.heads:
            raise ValueError(f"width {self.width} cannot be split into {self.heads} heads; choose a multiple of heads.")

    @property
    def target_rows(self) -> int:
        """Rows of the target embedding and the output layer: unless shared, one per code and one for the start."""
        return self.text_vocabulary if self.shared_embedding else self.target_vocabulary + 1

    @property
    def decoder_start(self) -> int:
        """The start token: the decoder's input before the first code."""
        return self.target_rows - 1 if self.start_token is None else self.start_token

    @classmethod
    def dalle_mini(cls) -> Self:
        """DALL·E Mini's translator, 437.8 million parameters."""
        return cls(50264, 16384, 64, 256, width=1024, heads=16, inner_width=2730, encoder_layers=12, decoder_layers=12)

    @classmethod
    def dalle_mega(cls) -> Self:
        """DALL·E Mega's translator, 2587.5 million parameters. Rows after 16384 of its target embedding are unused."""
        sizes = cls(50272, 16415, 64, 256, width=2048, heads=32, inner_width=4096, encoder_layers=24, decoder_layers=24)
        return replace(sizes, start_token=16384)

    @classmethod
    def bart_base(cls) -> Self:
        """The original bart-base, a text-to-text model with 139.4 million parameters."""
        sizes = cls(50265, 50265, 1024, 1024, width=768, heads=12, inner_width=3072, encoder_layers=6, decoder_layers=6)
        plain = replace(sizes, normformer=False, glu=False, bias=True, start_token=2, position_offset=2, dropout=0.1)
        return replace(plain, shared_embedding=True, final_logits_bias=True)


class KeysValues(NamedTuple):
    """The keys and values of an attention layer, split into heads."""

    keys: Tensor  # (n, h, t, c)
    values: Tensor  # (n, h, t, c)


class LayerCache(Protocol):
    """The keys and values that one decoder layer has computed for earlier tokens."""

    def extend(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Adds keys and values (n, h, s, c) of new tokens and returns those of all tokens, (n, h, all, c) each."""
        ...


class DecoderCache(Protocol):
    """Keys and values of earlier tokens, so that `Bart.decode` does not compute them again.

    This is only an interface. An implementation can concatenate the keys and values, or write them to tensors of fixed
    size, as captured CUDA graphs require.
    """

    @property
    def layers(self) -> Sequence[LayerCache]:
        """One cache per decoder layer."""
        ...

    def positions_and_mask(self, count: int) -> tuple[Tensor, Tensor | None]:
        """Returns the positions of the next tokens and their attention mask.

        Args:
            count: the number of next tokens.

        Returns:
            Positions (count,), and a mask (count, all), True where a token may attend to a key. The mask is None if
            every token may attend to every key, for example a single token if the cache has no unused entries.
        """
        ...


class ShiftNorm(nn.Module):
    """A LayerNorm with a learned shift but without a learned scale, which the following linear layer can include.

    The published files have only a `bias` for these norms.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        """Normalises the last dimension of x to mean 0 and variance 1, then adds the shift: (…, d) → (…, d)."""
        return F.layer_norm(x, self.bias.shape, bias=self.bias.to(x.dtype))  # x may have a lower precision


class Attention(nn.Module):
    """Multi-head attention, softmax(q kᵀ / √c) v (Vaswani et al. 2017, section 3.2)."""

    def __init__(self, config: BartConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.q_proj = nn.Linear(config.width, config.width, bias=config.bias)
        self.k_proj = nn.Linear(config.width, config.width, bias=config.bias)
        self.v_proj = nn.Linear(config.width, config.width, bias=config.bias)
        self.out_proj = nn.Linear(config.width, config.width, bias=config.bias)

    def split(self, x: Tensor) -> Tensor:
        """Splits vectors into heads: (n, t, d) → (n, h, t, c)."""
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def project(self, state: Tensor) -> KeysValues:
        """Computes the keys and values of vectors (n, t, d), split into heads."""
        return KeysValues(self.split(self.k_proj(state)), self.split(self.v_proj(state)))

    def forward(self, x: Tensor, keys_values: KeysValues, mask: Tensor | None = None, causal: bool = False) -> Tensor:
        """Computes the attention of x to keys and values.

        Args:
            x: the vectors that the queries are computed from, (n, s, d).
            keys_values: keys and values of n sequences, (n, h, t, c) each.
            mask: True where a query may attend to a key; of any shape that broadcasts to (n, h, s, t).
            causal: whether query i attends to keys 0 to i only; for s = t.

        Returns:
            (n, s, d).
        """
        q = self.split(self.q_proj(x))  # (n, h, s, c)
        attended = F.scaled_dot_product_attention(
            q, keys_values.keys, keys_values.values, attn_mask=mask, is_causal=causal
        )
        return self.out_proj(attended.transpose(1, 2).flatten(2))  # (n, s, d)


class FeedForward(nn.Module):
    """The position-wise feed-forward layer: fc2(GELU(fc1 x)), or gated: fc2(GELU(fc0 x) · fc1 x).

    In a NormFormer, there is a LayerNorm before the layer (ln0) and one before fc2 (ln1).
    """

    def __init__(self, config: BartConfig) -> None:
        super().__init__()
        self.ln0 = ShiftNorm(config.width) if config.normformer else nn.Identity()
        if config.glu:
            self.fc0 = nn.Linear(config.width, config.inner_width, bias=config.bias)
        self.fc1 = nn.Linear(config.width, config.inner_width, bias=config.bias)
        self.ln1 = ShiftNorm(config.inner_width) if config.normformer else nn.Identity()
        self.fc2 = nn.Linear(config.inner_width, config.width, bias=config.bias)
        self.gated = config.glu

    def forward(self, x: Tensor) -> Tensor:
        """(n, t, d) → (n, t, d)."""
        x = self.ln0(x)
        x = F.gelu(self.fc0(x)) * self.fc1(x) if self.gated else F.gelu(self.fc1(x))  # (n, t, inner_width)
        return self.fc2(self.ln1(x))


class Layer(nn.Module):
    """The base class of encoder and decoder layers: self-attention, feed-forward layer and residual connections."""

    def __init__(self, config: BartConfig) -> None:
        super().__init__()
        self.normformer = config.normformer
        self.dropout = nn.Dropout(config.dropout)
        self.pre_self_attn_layer_norm = ShiftNorm(config.width) if config.normformer else nn.Identity()
        self.self_attn = Attention(config)
        self.self_attn_layer_norm = nn.LayerNorm(config.width)
        self.ffn = FeedForward(config)
        self.final_layer_norm = nn.Identity() if config.normformer else nn.LayerNorm(config.width)

    def add_residual(self, residual: Tensor, x: Tensor, norm: nn.Module) -> Tensor:
        """Adds a sublayer's output x to the residual, both (n, t, d). NormFormer normalises x; BART, the sum."""
        x = self.dropout(x)
        return residual + norm(x) if self.normformer else norm(residual + x)


class EncoderLayer(Layer):
    """Self-attention over the whole text, then the feed-forward layer."""

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """(n, t, d) → (n, t, d); mask (n, 1, 1, t) is False at padding."""
        h = self.pre_self_attn_layer_norm(x)
        x = self.add_residual(x, self.self_attn(h, self.self_attn.project(h), mask), self.self_attn_layer_norm)
        return self.add_residual(x, self.ffn(x), self.final_layer_norm)


class DecoderLayer(Layer):
    """Causal self-attention over the target, cross-attention to the text, then the feed-forward layer."""

    def __init__(self, config: BartConfig) -> None:
        super().__init__(config)
        self.pre_encoder_attn_layer_norm = ShiftNorm(config.width) if config.normformer else nn.Identity()
        self.encoder_attn = Attention(config)
        self.encoder_attn_layer_norm = nn.LayerNorm(config.width)

    def forward(
        self, x: Tensor, text: KeysValues, text_mask: Tensor, target_mask: Tensor | None, cache: LayerCache | None
    ) -> Tensor:
        """Applies the layer.

        Args:
            x: vectors of n target sequences, (n, s, d). The first n / p belong to the first prompt, and so on.
            text: keys and values of p prompts, (p, h, t, c) each; p divides n.
            text_mask: (p, 1, 1, t), False at padding.
            target_mask: the target tokens that each token may attend to, (s, all), if there is a cache.
            cache: keys and values of earlier tokens. Without a cache, x is the whole target and attention is causal.

        Returns:
            (n, s, d).
        """
        h = self.pre_self_attn_layer_norm(x)
        keys_values = self.self_attn.project(h)
        if cache is not None:
            keys_values = KeysValues(*cache.extend(*keys_values))
        h = self.self_attn(h, keys_values, target_mask, causal=cache is None)
        x = self.add_residual(x, h, self.self_attn_layer_norm)

        # All pictures of a prompt attend to the same text. Concatenating their queries to one sequence avoids copying
        # the prompt's keys and values for each picture.
        h = self.pre_encoder_attn_layer_norm(x).reshape(len(text_mask), -1, x.shape[-1])  # (p, n / p · s, d)
        h = self.encoder_attn(h, text, text_mask).view_as(x)  # (n, s, d)
        x = self.add_residual(x, h, self.encoder_attn_layer_norm)
        return self.add_residual(x, self.ffn(x), self.final_layer_norm)


class Stack(nn.Module):
    """An encoder or a decoder: position embeddings, layers, and the norms before and after the layers."""

    def __init__(self, config: BartConfig, length: int, layers: Sequence[Layer]) -> None:
        super().__init__()
        self.position_offset = config.position_offset
        self.embed_positions = nn.Embedding(length + config.position_offset, config.width)
        self.layernorm_embedding = nn.LayerNorm(config.width)
        self.dropout = nn.Dropout(config.dropout)
        self.layers = nn.ModuleList(layers)
        self.final_ln = ShiftNorm(config.width) if config.normformer else nn.Identity()

    def embed(self, x: Tensor, positions: Tensor) -> Tensor:
        """Adds position embeddings to the token embeddings x (n, t, d); positions (t,) are counted from 0."""
        x = x + self.embed_positions(positions + self.position_offset)
        return self.dropout(self.layernorm_embedding(x))


class Bart(nn.Module):
    """An encoder-decoder transformer that turns text ids into logits over target tokens.

    The parameters have the names of the published PyTorch BARTs and of min-dalle, except for a few prefixes, so that
    their files are easily converted.
    """

    final_logits_bias: Tensor | None

    def __init__(self, config: BartConfig) -> None:
        super().__init__()
        self.config = config
        self.text_embedding = nn.Embedding(config.text_vocabulary, config.width)
        if not config.shared_embedding:
            self.target_embedding = nn.Embedding(config.target_rows, config.width)
            self.lm_head = nn.Linear(config.width, config.target_rows, bias=False)
        self.encoder = Stack(config, config.text_length, [EncoderLayer(config) for _ in range(config.encoder_layers)])
        self.decoder = Stack(config, config.target_length, [DecoderLayer(config) for _ in range(config.decoder_layers)])
        bias = torch.zeros(1, config.target_rows) if config.final_logits_bias else None
        self.register_buffer("final_logits_bias", bias)
        self.apply(self._initialise)

    def _initialise(self, module: nn.Module) -> None:
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, std=self.config.initial_std)
        if isinstance(module, nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)

    def text_mask(self, text: Tensor) -> Tensor:
        """True where text (n, t) has a token, False where it is padding."""
        return text != self.config.pad_token

    def encode(self, text: Tensor, mask: Tensor | None = None) -> Tensor:
        """Runs the encoder.

        Args:
            text: ids (n, t), int64, t at most `text_length`.
            mask: (n, t) bool, True at tokens; each row must have at least one token. Default: `text_mask`.

        Returns:
            The encoder's output (n, t, d). Its vectors at padding are meaningless and must be masked.

        Raises:
            ValueError: if text is not two-dimensional or is too long.
        """
        check_tokens("text", text, self.config.text_length)
        mask = self.text_mask(text) if mask is None else mask
        positions = torch.arange(text.shape[1], device=text.device)
        x = self.encoder.embed(self.text_embedding(text), positions)  # (n, t, d)
        for layer in self.encoder.layers:
            x = layer(x, mask[:, None, None, :])
        return self.encoder.final_ln(x)

    def project(self, state: Tensor) -> list[KeysValues]:
        """Computes the cross-attention keys and values of each decoder layer from the encoder's output (p, t, d).

        They are the same in all decoding steps.
        """
        return [cast(DecoderLayer, layer).encoder_attn.project(state) for layer in self.decoder.layers]

    def decode(
        self,
        tokens: Tensor,
        state: Tensor | Sequence[KeysValues],
        mask: Tensor,
        cache: DecoderCache | None = None,
    ) -> Tensor:
        """Returns logits (n, s, target_rows) of the token after each target token. Arguments: see `hidden_states`."""
        return self.logits(self.hidden_states(tokens, state, mask, cache))

    def hidden_states(
        self,
        tokens: Tensor,
        state: Tensor | Sequence[KeysValues],
        mask: Tensor,
        cache: DecoderCache | None = None,
    ) -> Tensor:
        """Runs the decoder.

        Args:
            tokens: (n, s), int64, beginning with the start token; with a cache, only the tokens that are not in it yet.
            state: the encoder's output (p, t, d), or its keys and values from `project`. p divides n: with n = p · m,
                prompt i belongs to rows i · m to i · m + m - 1, so the m pictures of a prompt share keys and values.
            mask: `text_mask` of the prompts, (p, t) bool.
            cache: keys and values of earlier tokens; those of the new tokens are added to it.

        Returns:
            Hidden states (n, s, d), the input of `logits`.

        Raises:
            ValueError: if tokens is not two-dimensional, if there are too many tokens, or if p does not divide n.
        """
        check_tokens("tokens", tokens, self.config.target_length)
        if len(tokens) % len(mask):
            raise ValueError(
                f"{len(tokens)} target rows do not divide among {len(mask)} prompts; each needs the same number."
            )
        text = self.project(state) if isinstance(state, Tensor) else state
        if cache is None:
            positions, target_mask = torch.arange(tokens.shape[1], device=tokens.device), None
        else:
            positions, target_mask = cache.positions_and_mask(tokens.shape[1])
        x = self.decoder.embed(self._embed_target(tokens), positions)  # (n, s, d)
        for i, layer in enumerate(self.decoder.layers):
            x = layer(x, text[i], mask[:, None, None, :], target_mask, None if cache is None else cache.layers[i])
        return self.decoder.final_ln(x)

    def logits(self, hidden: Tensor) -> Tensor:
        """Applies the output layer: the decoder's hidden states (…, d) → logits (…, target_rows)."""
        shared = self.config.shared_embedding
        logits = F.linear(hidden, self.text_embedding.weight) if shared else self.lm_head(hidden)
        return logits if self.final_logits_bias is None else logits + self.final_logits_bias

    def shift(self, targets: Tensor) -> Tensor:
        """The decoder's input in training, for targets (n, s): the start token and all targets but the last, (n, s)."""
        return F.pad(targets[:, :-1], (1, 0), value=self.config.decoder_start)

    def forward(self, text: Tensor, targets: Tensor) -> Tensor:
        """Predicts each target from the text and the targets before it (teacher forcing).

        Args:
            text: ids (n, t), int64.
            targets: codes (n, s), int64, without the start token.

        Returns:
            Logits (n, s, target_rows).
        """
        mask = self.text_mask(text)
        return self.decode(self.shift(targets), self.encode(text, mask), mask)

    def _embed_target(self, tokens: Tensor) -> Tensor:
        return self.text_embedding(tokens) if self.config.shared_embedding else self.target_embedding(tokens)


def check_tokens(name: str, tokens: Tensor, longest: int) -> None:
    """Raises ValueError unless tokens have the shape (n, length), with a length from 1 to `longest`."""
    if tokens.ndim != 2:
        raise ValueError(f"{name} has shape {tuple(tokens.shape)}; give one row of ids per sequence, (n, length).")
    if not 1 <= tokens.shape[1] <= longest:
        raise ValueError(f"{name} has {tokens.shape[1]} tokens a row; this model takes 1 to {longest}.")
