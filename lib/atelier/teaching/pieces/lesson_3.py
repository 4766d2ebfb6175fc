"""The pieces of lesson 3, BART."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from atelier.blocks.bart import Attention, Bart, BartConfig, DecoderLayer, EncoderLayer, FeedForward, KeysValues
from atelier.teaching.exercises import AnswerError, expect_close, expect_tensor
from atelier.teaching.pieces import piece

MODULE = "atelier.blocks.bart"
SMALL = BartConfig(
    text_vocabulary=30, target_vocabulary=20, text_length=8, target_length=6, width=12, heads=3, inner_width=16,
    encoder_layers=1, decoder_layers=1, initial_std=0.4,
)  # fmt: skip


CLASSIC = dataclasses.replace(SMALL, normformer=False, glu=False, bias=True)


def _bart(config: BartConfig = SMALL) -> Bart:
    """A small BART in which every norm has random parameters, so that none can be left out or exchanged unnoticed."""
    torch.manual_seed(0)
    bart = Bart(config).eval()
    with torch.no_grad():
        for name, parameter in bart.named_parameters():
            if "norm" in name or ".ln" in name:
                parameter.add_(0.5 * torch.randn_like(parameter))
    return bart


def _encoder_layer(config: BartConfig = SMALL) -> EncoderLayer:
    return cast(EncoderLayer, _bart(config).encoder.layers[0])


def _decoder_layer(config: BartConfig = SMALL) -> DecoderLayer:
    return cast(DecoderLayer, _bart(config).decoder.layers[0])


def _expect_right_without_normformer(result: Any, wanted: Tensor) -> None:
    """A sum in place of add_residual can be right in DALL·E Mini's config, but not in BART's."""
    try:
        expect_close(expect_tensor(result, tuple(wanted.shape), "forward"), wanted)
    except AnswerError as error:
        raise AnswerError(
            "right with normformer=True, but not with normformer=False: add every result with self.add_residual and "
            "the norm of its sublayer."
        ) from error


@piece(
    "3.Attention.split",
    MODULE,
    minutes=5,
    hints=(
        "The width d is h heads of c numbers each. First split the last dimension, then put the heads before the "
        "tokens.",
        "`x.unflatten(-1, (self.heads, -1))` is (n, t, h, c). `transpose(1, 2)` exchanges tokens and heads.",
    ),
)
def check_split(split: Callable[[Attention, Tensor], Tensor]) -> None:
    """(n, t, d) → (n, h, t, c)."""
    attention, x = _encoder_layer().self_attn, torch.randn(2, 5, 12)
    result = split(attention, x)
    if isinstance(result, Tensor) and result.shape == (2, 5, 3, 4):
        raise AnswerError("the tokens come before the heads; exchange the two dimensions.")
    expect_close(
        expect_tensor(result, (2, 3, 5, 4), "split"),
        x.unflatten(-1, (3, 4)).transpose(1, 2),
        {
            "the shape is right, but tokens and heads are mixed up: use transpose, not reshape.": x.reshape(2, 3, 5, 4),
            "a head has every third number here; it has neighbouring numbers.": (
                x.unflatten(-1, (4, 3)).permute(0, 3, 1, 2)
            ),
        },
    )


@piece(
    "3.Attention.forward",
    MODULE,
    minutes=20,
    hints=(
        "Make the queries of x, split them into heads, let them attend to the keys and values, join the heads, and "
        "apply the output projection.",
        "`F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=causal)` is (n, h, s, c). "
        "`.transpose(1, 2).flatten(2)` joins the heads.",
    ),
)
def check_attention(forward: Callable[..., Tensor]) -> None:
    """Attention with a mask, causal attention, and attention to another sequence."""
    attention = _encoder_layer().self_attn
    x, other = torch.randn(2, 5, 12), attention.project(torch.randn(2, 5, 12))
    mask = torch.tensor([[True, True, True, False, False], [True, True, True, True, False]])[:, None, None, :]
    cases: tuple[tuple[str, dict[str, Any]], ...] = (
        ("", {}),
        ("with a mask, ", {"mask": mask}),
        ("with causal=True, ", {"causal": True}),
    )
    for name, options in cases:
        result = expect_tensor(forward(attention, x, other, **options), (2, 5, 12), "forward")
        expect_close(result, attention(x, other, **options), _attention_faults(name, attention, x, other, options))


def _attention_faults(
    name: str, attention: Attention, x: Tensor, other: KeysValues, options: dict[str, Any]
) -> dict[str, Tensor]:
    mask, causal = options.get("mask"), options.get("causal", False)

    def attended(q: Tensor, scale: float | None = None) -> Tensor:
        return F.scaled_dot_product_attention(
            q, other.keys, other.values, attn_mask=mask, is_causal=causal, scale=scale
        )

    def finished(weights: Tensor, values: Tensor) -> Tensor:
        return attention.out_proj((weights @ values).transpose(1, 2).flatten(2))

    q = attention.split(attention.q_proj(x))
    products = q @ other.keys.transpose(2, 3) / 2  # (n, h, s, t), divided by √c
    allowed = torch.ones(5, 5).tril().bool() if causal else torch.tensor(True) if mask is None else mask
    joined = attended(q).transpose(1, 2).flatten(2)
    faults = {
        "the output projection, `out_proj`, is missing.": joined,
        "x itself is used as the queries: `q_proj` is missing.": attention.out_proj(
            attended(attention.split(x)).transpose(1, 2).flatten(2)
        ),
        "x attends to itself; it should attend to the keys and values that are given.": attention(
            x, attention.project(x), mask, causal
        ),
        "heads and tokens are mixed up when the heads are joined: transpose first.": attention.out_proj(
            attended(q).reshape(x.shape)
        ),
        "the products are not divided by √c.": attention.out_proj(attended(q, 1.0).transpose(1, 2).flatten(2)),
        "the heads are divided by √d; each head has only c numbers.": attention.out_proj(
            attended(q, 12**-0.5).transpose(1, 2).flatten(2)
        ),
        "keys and values are exchanged.": attention(x, KeysValues(other.values, other.keys), mask, causal),
        "the softmax is over the queries; the weights of each query sum to 1 over the keys.": finished(
            products.masked_fill(~allowed, -torch.inf).softmax(2).nan_to_num(), other.values
        ),
    }
    if mask is not None or causal:
        faults["masked products are set to 0, which still has a weight after the softmax; set them to −∞."] = finished(
            products.masked_fill(~allowed, 0.0).softmax(3), other.values
        )
        turned = finished(products.masked_fill(allowed, -torch.inf).softmax(3), other.values)
        faults["the mask is inverted: a query attends to just the keys that it must not see."] = turned
    if mask is not None:
        faults["the mask has no effect."] = attention(x, other)
    if causal:
        faults["a query attends to later keys too."] = attention(x, other)
        later = torch.ones(5, 5).triu().bool()
        faults["a query attends to its own and later keys; it should attend to its own and earlier ones."] = attention(
            x, other, later
        )
    return {name + message: numbers for message, numbers in faults.items()}


@piece(
    "3.FeedForward.forward",
    MODULE,
    minutes=10,
    hints=(
        "Normalise x with ln0. Gated: GELU(fc0 x) times fc1 x. Not gated: GELU(fc1 x). Then ln1 and fc2.",
        "`F.gelu(self.fc0(x)) * self.fc1(x)` if `self.gated`, else `F.gelu(self.fc1(x))`. Without NormFormer ln0 and "
        "ln1 do nothing, so you can always apply them.",
    ),
)
def check_feed_forward(forward: Callable[[FeedForward, Tensor], Tensor]) -> None:
    """The feed-forward layer, gated and not."""
    layer, x = _encoder_layer().ffn, torch.randn(2, 5, 12)
    normed = layer.ln0(x)
    gate, values = F.gelu(layer.fc0(normed)), layer.fc1(normed)
    expect_close(
        expect_tensor(forward(layer, x), (2, 5, 12), "forward"),
        layer.fc2(layer.ln1(gate * values)),
        {
            "`ln0` is missing.": layer.fc2(layer.ln1(F.gelu(layer.fc0(x)) * layer.fc1(x))),
            "`ln1` is missing.": layer.fc2(gate * values),
            "the gate is missing: GELU(fc0 x) multiplies fc1 x.": layer.fc2(layer.ln1(F.gelu(values))),
            "GELU is applied to fc1 x; it belongs to fc0 x.": layer.fc2(layer.ln1(layer.fc0(normed) * F.gelu(values))),
            "the two are added; the gate multiplies.": layer.fc2(layer.ln1(gate + values)),
            "GELU is missing.": layer.fc2(layer.ln1(layer.fc0(normed) * values)),
            "this has ReLU in place of GELU.": layer.fc2(layer.ln1(F.relu(layer.fc0(normed)) * values)),
            "this has SiLU in place of GELU.": layer.fc2(layer.ln1(F.silu(layer.fc0(normed)) * values)),
            "this has the sigmoid in place of GELU.": layer.fc2(layer.ln1(layer.fc0(normed).sigmoid() * values)),
            "this is the approximation of GELU by tanh; the layer has the exact one.": layer.fc2(
                layer.ln1(F.gelu(layer.fc0(normed), approximate="tanh") * values)
            ),
            "GELU is applied to the product; it is applied to fc0 x, and then comes the product.": layer.fc2(
                layer.ln1(F.gelu(layer.fc0(normed) * values))
            ),
            "`ln1` comes after the product.": layer.fc2(F.gelu(layer.ln1(layer.fc0(normed))) * values),
            "the input is added; that happens outside this layer.": x + layer.fc2(layer.ln1(gate * values)),
        },
        tolerance=1e-5,  # GELU and its approximation differ little
    )
    plain = FeedForward(BartConfig(10, 10, 4, 4, 12, 3, 16, 1, 1, glu=False, normformer=False))
    try:
        result = forward(plain, x)
    except AttributeError as error:
        raise AnswerError("right with a gate, but without one there is no fc0: look at self.gated.") from error
    expect_close(result, plain.fc2(F.gelu(plain.fc1(x))))


@piece(
    "3.EncoderLayer.forward",
    MODULE,
    minutes=10,
    hints=(
        "Two sublayers, each added to the residual by `self.add_residual`: self-attention of the normalised x, and the "
        "feed-forward layer.",
        "Queries, keys and values all come from h = self.pre_self_attn_layer_norm(x): "
        "`self.self_attn(h, self.self_attn.project(h), mask)`. The feed-forward layer normalises its input itself.",
    ),
)
def check_encoder_layer(forward: Callable[[EncoderLayer, Tensor, Tensor], Tensor]) -> None:
    """Self-attention and feed-forward layer, with their residual sums."""
    layer, x = _encoder_layer(), torch.randn(2, 5, 12)
    mask = torch.tensor([[True, True, True, False, False], [True, True, True, True, False]])[:, None, None, :]
    h = layer.pre_self_attn_layer_norm(x)
    attended = layer.self_attn(h, layer.self_attn.project(h), mask)
    middle = layer.add_residual(x, attended, layer.self_attn_layer_norm)

    def finished(middle: Tensor) -> Tensor:
        return layer.add_residual(middle, layer.ffn(middle), layer.final_layer_norm)

    raw = layer.self_attn(x, layer.self_attn.project(x), mask)
    unmasked = layer.self_attn(h, layer.self_attn.project(h))
    expect_close(
        expect_tensor(forward(layer, x, mask), (2, 5, 12), "forward"),
        finished(middle),
        {
            "the feed-forward layer is missing.": middle,
            "the self-attention is missing.": finished(x),
            "the mask has no effect: padding is attended to.": finished(
                layer.add_residual(x, unmasked, layer.self_attn_layer_norm)
            ),
            "the norm before the attention is missing.": finished(
                layer.add_residual(x, raw, layer.self_attn_layer_norm)
            ),
            "keys and values come from x; they come from the normalised x, like the queries.": finished(
                layer.add_residual(x, layer.self_attn(h, layer.self_attn.project(x), mask), layer.self_attn_layer_norm)
            ),
            "the residual of the attention is the normalised x; it is x.": finished(
                layer.add_residual(h, attended, layer.self_attn_layer_norm)
            ),
            "both sublayers read x; the second reads the output of the first.": layer.add_residual(
                middle, layer.ffn(x), layer.final_layer_norm
            ),
            "the norm after the attention is missing.": finished(x + attended),
            "the result of the attention is not added to x.": finished(layer.self_attn_layer_norm(attended)),
            "the result of the feed-forward layer is not added to its input.": layer.ffn(middle),
            "the arguments of add_residual are exchanged: the residual comes first.": finished(
                layer.add_residual(attended, x, layer.self_attn_layer_norm)
            ),
            "the mask is inverted: only padding is attended to.": finished(
                layer.add_residual(x, layer.self_attn(h, layer.self_attn.project(h), ~mask), layer.self_attn_layer_norm)
            ),
        },
    )
    classic = _encoder_layer(CLASSIC)
    _expect_right_without_normformer(forward(classic, x, mask), classic(x, mask))


@piece(
    "3.DecoderLayer.forward",
    MODULE,
    minutes=25,
    hints=(
        "Three sublayers, each added to the residual: causal self-attention, attention to the text, the feed-forward "
        "layer. With a cache, the new keys and values are added to it, and the attention is no longer causal but has "
        "the target mask.",
        "For the text: `h.reshape(len(text_mask), -1, width)` puts the queries of all pictures of a prompt in one row, "
        "and `.view_as(x)` undoes it. `cache.extend(*keys_values)` returns the keys and values of all tokens.",
    ),
)
def check_decoder_layer(forward: Callable[..., Tensor]) -> None:
    """Self-attention, cross-attention and feed-forward layer; several pictures of a prompt; a cache."""
    layer = _decoder_layer()
    x = torch.randn(4, 5, 12)  # two pictures for each of two prompts
    text = layer.encoder_attn.project(torch.randn(2, 6, 12))
    text_mask = torch.tensor([[True] * 6, [True, True, True, False, False, False]])[:, None, None, :]
    result = expect_tensor(forward(layer, x, text, text_mask, None, None), (4, 5, 12), "forward")
    expect_close(result, layer(x, text, text_mask, None, None), _decoder_faults(layer, x, text, text_mask))
    _check_with_cache(forward, layer, x, text, text_mask)
    _check_target_mask(forward, layer, x, text, text_mask)
    classic = _decoder_layer(CLASSIC)
    wanted = classic(x, text, text_mask, None, None)
    _expect_right_without_normformer(forward(classic, x, text, text_mask, None, None), wanted)


def _decoder_faults(layer: DecoderLayer, x: Tensor, text: KeysValues, text_mask: Tensor) -> dict[str, Tensor]:
    h = layer.pre_self_attn_layer_norm(x)
    causal = layer.self_attn(h, layer.self_attn.project(h), causal=True)
    middle = layer.add_residual(x, causal, layer.self_attn_layer_norm)
    full = layer.add_residual(x, layer.self_attn(h, layer.self_attn.project(h)), layer.self_attn_layer_norm)

    def with_turns(x: Tensor) -> Tensor:  # the prompts in turn: 0, 1, 0, 1
        h = layer.pre_encoder_attn_layer_norm(x)
        keys_values = KeysValues(*(part.repeat(2, 1, 1, 1) for part in text))
        h = layer.encoder_attn(h, keys_values, text_mask.repeat(2, 1, 1, 1))
        return layer.add_residual(x, h, layer.encoder_attn_layer_norm)

    def crossed(x: Tensor, mask: Tensor | None = text_mask, norm: nn.Module | None = None) -> Tensor:
        h = (norm or layer.pre_encoder_attn_layer_norm)(x).reshape(2, -1, 12)
        return layer.add_residual(x, layer.encoder_attn(h, text, mask).view_as(x), layer.encoder_attn_layer_norm)

    def finished(x: Tensor) -> Tensor:
        return layer.add_residual(x, layer.ffn(x), layer.final_layer_norm)

    return {
        "the attention to the text is missing.": finished(middle),
        "the prompts are given to the rows in turn; the rows of a prompt are next to each other.": finished(
            with_turns(middle)
        ),
        "the self-attention is missing.": finished(crossed(x)),
        "the feed-forward layer is missing.": crossed(middle),
        "without a cache the self-attention must be causal: a code must not see later codes.": finished(crossed(full)),
        "the padding of the text is attended to: the text mask has no effect.": finished(crossed(middle, None)),
        "the norm before the attention to the text is missing.": finished(crossed(middle, norm=nn.Identity())),
        "the text is attended to before the self-attention; it is the other way round.": finished(
            layer.add_residual(
                crossed(x),
                layer.self_attn(
                    layer.pre_self_attn_layer_norm(crossed(x)),
                    layer.self_attn.project(layer.pre_self_attn_layer_norm(crossed(x))),
                    causal=True,
                ),
                layer.self_attn_layer_norm,
            )
        ),
    }


class _Growing:
    """A cache that keeps the keys and values of all tokens so far."""

    def __init__(self) -> None:
        self.keys: list[Tensor] = []
        self.values: list[Tensor] = []

    def extend(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Add new keys and values, and return all."""
        self.keys.append(keys)
        self.values.append(values)
        return torch.cat(self.keys, dim=2), torch.cat(self.values, dim=2)


def _check_with_cache(
    forward: Callable[..., Tensor], layer: DecoderLayer, x: Tensor, text: KeysValues, text_mask: Tensor
) -> None:
    whole, cache = layer(x, text, text_mask, None, None), _Growing()
    for at in range(x.shape[1]):
        step = forward(layer, x[:, at : at + 1], text, text_mask, None, cache)
        if len(cache.keys) != at + 1:
            raise AnswerError("right without a cache, but the cache does not get the keys and values of new tokens.")
        try:
            expect_close(expect_tensor(step, (4, 1, 12), "forward with a cache"), whole[:, at : at + 1])
        except AnswerError as error:
            raise AnswerError(
                "right without a cache, but token by token with a cache the result is another: attend to all keys and "
                "values that cache.extend returns, with target_mask, and not causally."
            ) from error


class _Reserved:
    """A cache with room for five tokens, of which two were written before, and two are new."""

    def extend(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """The keys and values of two earlier tokens, those of the new ones, and an unused place."""
        numbers = torch.Generator().manual_seed(2)
        before, unused = (torch.randn(4, 3, count, 4, generator=numbers) for count in (2, 1))
        return torch.cat([before, keys, unused], dim=2), torch.cat([before, values, unused], dim=2)


def _check_target_mask(
    forward: Callable[..., Tensor], layer: DecoderLayer, x: Tensor, text: KeysValues, text_mask: Tensor
) -> None:
    allowed = torch.tensor([[True, True, True, False, False], [True, True, True, True, False]])
    expect_close(
        forward(layer, x[:, :2], text, text_mask, allowed, _Reserved()),
        layer(x[:, :2], text, text_mask, allowed, _Reserved()),
        {
            "right without a cache, but with one the target mask has no effect.": layer(
                x[:, :2], text, text_mask, None, _Reserved()
            ),
        },
    )


@piece(
    "3.Bart.shift",
    MODULE,
    minutes=5,
    hints=(
        "To predict code i the decoder reads the codes before it. So its input is the start token, then all targets "
        "but the last.",
        "`F.pad(targets[:, :-1], (1, 0), value=self.config.decoder_start)` puts one token before each row.",
    ),
)
def check_shift(shift: Callable[[Bart, Tensor], Tensor]) -> None:
    """The start token and all targets but the last."""
    bart, targets = _bart(), torch.randint(19, (3, 6))
    start = bart.config.decoder_start
    result = shift(bart, targets)
    if isinstance(result, Tensor) and result.shape == (3, 7):
        raise AnswerError("the rows are one longer than the targets: the last target is not read.")
    if isinstance(result, Tensor) and result.shape == (3, 5):
        raise AnswerError("the last targets are left out, but the start token is missing.")
    first = torch.full((3, 1), start)
    if expect_tensor(result, (3, 6), "shift").is_floating_point():
        raise AnswerError(f"the tokens have the type {result.dtype}; they should be whole numbers.")
    expect_close(
        result,
        torch.cat([first, targets[:, :-1]], dim=1),
        {
            "these are the targets themselves: the decoder would read the code that it has to predict.": targets,
            "the rows are shifted the wrong way: the start token comes first.": torch.cat(
                [targets[:, 1:], first], dim=1
            ),
            "the start token is 0 here; it is in self.config.decoder_start.": torch.cat(
                [torch.zeros_like(first), targets[:, :-1]], dim=1
            ),
            "the last target comes first: roll does not put the start token there.": targets.roll(1, 1),
            "the first target is replaced; all targets but the last move by one place.": torch.cat(
                [first, targets[:, 1:]], dim=1
            ),
            "the rows are shifted, not the tokens of each row.": torch.cat(
                [torch.full((1, 6), start), targets[:-1]], dim=0
            ),
        },
    )


@piece(
    "3.Bart.forward",
    MODULE,
    minutes=10,
    hints=(
        "Encode the text, shift the targets, and decode. Both encoder and decoder need the mask of the text.",
        "`mask = self.text_mask(text)`; the state is `self.encode(text, mask)`; return "
        "`self.decode(self.shift(targets), state, mask)`.",
    ),
)
def check_forward(forward: Callable[[Bart, Tensor, Tensor], Tensor]) -> None:
    """The logits of all targets by teacher forcing."""
    bart, targets = _bart(), torch.randint(19, (3, 6))
    text = torch.tensor([[0, 5, 9, 2, 1, 1], [0, 7, 7, 8, 3, 2], [0, 4, 2, 1, 1, 1]])
    mask = bart.text_mask(text)
    everything = torch.ones_like(mask)
    state = bart.encode(text, mask)
    expect_close(
        expect_tensor(forward(bart, text, targets), (3, 6, 21), "forward"),
        bart.decode(bart.shift(targets), state, mask),
        {
            "the targets are not shifted: the decoder reads the code that it has to predict.": bart.decode(
                targets, state, mask
            ),
            "the decoder attends to padding: give it the mask of the text.": bart.decode(
                bart.shift(targets), state, everything
            ),
            "the encoder attends to padding: give it the mask.": bart.decode(
                bart.shift(targets), bart.encode(text, everything), mask
            ),
            "neither encoder nor decoder has the mask.": bart.decode(
                bart.shift(targets), bart.encode(text, everything), everything
            ),
            "these are probabilities; return the logits.": bart.decode(bart.shift(targets), state, mask).softmax(-1),
        },
    )
