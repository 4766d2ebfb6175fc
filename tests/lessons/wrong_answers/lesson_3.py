"""Wrong answers to the exercises of lesson 3, each of which must be told what is wrong in it."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from atelier.blocks.bart import Attention, Bart, DecoderLayer, EncoderLayer, FeedForward, KeysValues
from torch import Tensor


def mask_inverted(known: int, new: int) -> Tensor:
    places = torch.arange(known + new)
    return places > places[known:, None]


def mask_without_itself(known: int, new: int) -> Tensor:
    places = torch.arange(known + new)
    return places < places[known:, None]


def mask_that_forgets_the_known(known: int, new: int) -> Tensor:
    return torch.ones(new, new).tril().bool()


def mask_from_the_corner(known: int, new: int) -> Tensor:
    return torch.ones(new, known + new).tril().bool()


def mask_of_everybody(known: int, new: int) -> Tensor:
    return torch.ones(known + new, known + new).tril().bool()


def mask_of_the_future(known: int, new: int) -> Tensor:
    places = torch.arange(known + new)
    return places >= places[known:, None]


def mask_of_ones(known: int, new: int) -> Tensor:
    return torch.ones(new, known + new).bool()


def mask_of_numbers(known: int, new: int) -> Tensor:
    places = torch.arange(known + new)
    return (places <= places[known:, None]).float()


def mask_on_its_side(known: int, new: int) -> Tensor:
    places = torch.arange(known + new)
    return (places <= places[known:, None]).T


def infilled_as_found(tokens: list[int], start: int, length: int, mask: int) -> list[int]:
    if length == 0:
        return tokens
    tokens[start : start + length - 1] = [mask] * length
    return tokens


def infilled_token_by_token(tokens: list[int], start: int, length: int, mask: int) -> list[int]:
    return [*tokens[:start], *[mask] * length, *tokens[start + length :]]


def infilled_too_short(tokens: list[int], start: int, length: int, mask: int) -> list[int]:
    return [*tokens[:start], mask, *tokens[start + length - 1 :]]


def infilled_too_long(tokens: list[int], start: int, length: int, mask: int) -> list[int]:
    return [*tokens[:start], mask, *tokens[start + length + 1 :]]


def infilled_without_mask(tokens: list[int], start: int, length: int, mask: int) -> list[int]:
    return [*tokens[:start], *tokens[start + length :]]


def infilled_unless_empty(tokens: list[int], start: int, length: int, mask: int) -> list[int]:
    return [*tokens[:start], *[mask][:length], *tokens[start + length :]]


def infilled_as_tuple(tokens: list[int], start: int, length: int, mask: int) -> tuple[int, ...]:
    return (*tokens[:start], mask, *tokens[start + length :])


def nucleus(shares: Tensor, top_p: float) -> Tensor:
    ranked, places = shares.sort(descending=True)
    kept = ranked.masked_fill(ranked.cumsum(0) - ranked >= top_p, 0.0)
    shares = torch.zeros_like(shares).scatter(0, places, kept)
    return shares / shares.sum()


def lot_the_wrong_way(conditional: Tensor, unconditional: Tensor, guidance: float, top_p: float) -> Tensor:
    return nucleus((conditional + guidance * (unconditional - conditional)).softmax(0), top_p)


def lot_from_the_conditional(conditional: Tensor, unconditional: Tensor, guidance: float, top_p: float) -> Tensor:
    return nucleus((conditional + guidance * (conditional - unconditional)).softmax(0), top_p)


def lot_of_guided_probabilities(conditional: Tensor, unconditional: Tensor, guidance: float, top_p: float) -> Tensor:
    asked, free = conditional.softmax(0), unconditional.softmax(0)
    return free + guidance * (asked - free)


def lot_of_logits(conditional: Tensor, unconditional: Tensor, guidance: float, top_p: float) -> Tensor:
    return unconditional + guidance * (conditional - unconditional)


def lot_of_all(conditional: Tensor, unconditional: Tensor, guidance: float, top_p: float) -> Tensor:
    return (unconditional + guidance * (conditional - unconditional)).softmax(0)


def lot_that_does_not_sum_to_one(conditional: Tensor, unconditional: Tensor, guidance: float, top_p: float) -> Tensor:
    shares = lot_of_all(conditional, unconditional, guidance, top_p)
    ranked, places = shares.sort(descending=True)
    return torch.zeros_like(shares).scatter(0, places, ranked.masked_fill(ranked.cumsum(0) - ranked >= top_p, 0.0))


def lot_without_the_last(conditional: Tensor, unconditional: Tensor, guidance: float, top_p: float) -> Tensor:
    shares = lot_of_all(conditional, unconditional, guidance, top_p)
    ranked, places = shares.sort(descending=True)
    kept = torch.zeros_like(shares).scatter(0, places, ranked.masked_fill(ranked.cumsum(0) > top_p + 1e-4, 0.0))
    return kept / kept.sum()


def lot_in_order_of_size(conditional: Tensor, unconditional: Tensor, guidance: float, top_p: float) -> Tensor:
    shares = lot_of_all(conditional, unconditional, guidance, top_p)
    return shares if top_p == 1 else nucleus(shares, top_p).sort(descending=True).values


def lot_unsorted(conditional: Tensor, unconditional: Tensor, guidance: float, top_p: float) -> Tensor:
    shares = lot_of_all(conditional, unconditional, guidance, top_p)
    kept = shares.masked_fill(shares.cumsum(0) - shares >= top_p, 0.0)
    return kept / kept.sum()


WRONG = {
    "3.1": [0.12, 0.33, 0.71, 0.40, 2.0, 4, 0.27, 0.31, "0.26", 0.9, 1.4],
    "3.2": [
        mask_inverted,
        mask_without_itself,
        mask_that_forgets_the_known,
        mask_from_the_corner,
        mask_of_everybody,
        mask_of_the_future,
        mask_of_ones,
        mask_of_numbers,
        mask_on_its_side,
    ],
    "3.3": [
        infilled_as_found,
        infilled_token_by_token,
        infilled_too_short,
        infilled_too_long,
        infilled_without_mask,
        infilled_unless_empty,
        infilled_as_tuple,
    ],
    "3.4": [
        lot_the_wrong_way,
        lot_from_the_conditional,
        lot_of_guided_probabilities,
        lot_of_logits,
        lot_of_all,
        lot_that_does_not_sum_to_one,
        lot_without_the_last,
        lot_in_order_of_size,
        lot_unsorted,
    ],
}


def split_by_reshape(self: Attention, x: Tensor) -> Tensor:
    return x.reshape(len(x), self.heads, x.shape[1], -1)


def split_without_transpose(self: Attention, x: Tensor) -> Tensor:
    return x.unflatten(-1, (self.heads, -1))


def split_interleaved(self: Attention, x: Tensor) -> Tensor:
    return x.unflatten(-1, (-1, self.heads)).permute(0, 3, 1, 2)


def attention_without_output(self, x, keys_values, mask=None, causal=False):
    q = self.split(self.q_proj(x))
    attended = F.scaled_dot_product_attention(q, *keys_values, attn_mask=mask, is_causal=causal)
    return attended.transpose(1, 2).flatten(2)


def attention_without_mask(self, x, keys_values, mask=None, causal=False):
    return Attention.forward(self, x, keys_values, None, causal)


def attention_never_causal(self, x, keys_values, mask=None, causal=False):
    return Attention.forward(self, x, keys_values, mask)


def attention_to_itself(self, x, keys_values, mask=None, causal=False):
    return Attention.forward(self, x, self.project(x), mask, causal)


def attention_joined_by_reshape(self, x, keys_values, mask=None, causal=False):
    q = self.split(self.q_proj(x))
    return self.out_proj(
        F.scaled_dot_product_attention(q, *keys_values, attn_mask=mask, is_causal=causal).reshape(x.shape)
    )


def attention_of_values(self, x, keys_values, mask=None, causal=False):
    return Attention.forward(self, x, KeysValues(keys_values.values, keys_values.keys), mask, causal)


def attention_by_hand(self, x, keys_values, mask, causal, axis=-1, filling=-torch.inf, turned=False):
    products = self.split(self.q_proj(x)) @ keys_values.keys.transpose(2, 3) / 2
    if causal:
        mask = torch.ones(products.shape[-2:]).tril().bool()
    if mask is not None:
        products = products.masked_fill(mask if turned else ~mask, filling)
    attended = products.softmax(axis).nan_to_num() @ keys_values.values
    return self.out_proj(attended.transpose(1, 2).flatten(2))


def attention_over_queries(self, x, keys_values, mask=None, causal=False):
    return attention_by_hand(self, x, keys_values, mask, causal, axis=-2)


def attention_masked_with_zero(self, x, keys_values, mask=None, causal=False):
    return attention_by_hand(self, x, keys_values, mask, causal, filling=0.0)


def attention_with_mask_inverted(self, x, keys_values, mask=None, causal=False):
    return attention_by_hand(self, x, keys_values, mask, causal, turned=True)


def attention_to_later_keys(self, x, keys_values, mask=None, causal=False):
    return Attention.forward(self, x, keys_values, torch.ones(5, 5).triu().bool() if causal else mask)


def feed_forward_with(self: FeedForward, x: Tensor, gate: Callable[[Tensor], Tensor]) -> Tensor:
    if not self.gated:
        return FeedForward.forward(self, x)
    x = self.ln0(x)
    return self.fc2(self.ln1(gate(self.fc0(x)) * self.fc1(x)))


def feed_forward_with_silu(self: FeedForward, x: Tensor) -> Tensor:
    return feed_forward_with(self, x, F.silu)


def feed_forward_with_sigmoid(self: FeedForward, x: Tensor) -> Tensor:
    return feed_forward_with(self, x, torch.sigmoid)


def feed_forward_with_approximation(self: FeedForward, x: Tensor) -> Tensor:
    return feed_forward_with(self, x, lambda numbers: F.gelu(numbers, approximate="tanh"))


def feed_forward_without_gate(self: FeedForward, x: Tensor) -> Tensor:
    return self.fc2(self.ln1(F.gelu(self.fc1(self.ln0(x)))))


def feed_forward_gate_reversed(self: FeedForward, x: Tensor) -> Tensor:
    x = self.ln0(x)
    return self.fc2(self.ln1(self.fc0(x) * F.gelu(self.fc1(x))))


def feed_forward_always_gated(self: FeedForward, x: Tensor) -> Tensor:
    x = self.ln0(x)
    return self.fc2(self.ln1(F.gelu(self.fc0(x)) * self.fc1(x)))


def feed_forward_with_sum(self: FeedForward, x: Tensor) -> Tensor:
    return x + FeedForward.forward(self, x)


def encoder_without_norm(self: EncoderLayer, x: Tensor, mask: Tensor) -> Tensor:
    x = self.add_residual(x, self.self_attn(x, self.self_attn.project(x), mask), self.self_attn_layer_norm)
    return self.add_residual(x, self.ffn(x), self.final_layer_norm)


def encoder_without_mask(self: EncoderLayer, x: Tensor, mask: Tensor) -> Tensor:
    return EncoderLayer.forward(self, x, torch.ones_like(mask))


def encoder_without_feed_forward(self: EncoderLayer, x: Tensor, mask: Tensor) -> Tensor:
    h = self.pre_self_attn_layer_norm(x)
    return self.add_residual(x, self.self_attn(h, self.self_attn.project(h), mask), self.self_attn_layer_norm)


def encoder_with_plain_sum(self: EncoderLayer, x: Tensor, mask: Tensor) -> Tensor:
    h = self.pre_self_attn_layer_norm(x)
    x = x + self.self_attn(h, self.self_attn.project(h), mask)
    return self.add_residual(x, self.ffn(x), self.final_layer_norm)


def encoder_right_in_one_config(self: EncoderLayer, x: Tensor, mask: Tensor) -> Tensor:
    h = self.pre_self_attn_layer_norm(x)
    x = x + self.self_attn_layer_norm(self.self_attn(h, self.self_attn.project(h), mask))
    return x + self.ffn(x)


def encoder_without_second_sum(self: EncoderLayer, x: Tensor, mask: Tensor) -> Tensor:
    return self.ffn(encoder_without_feed_forward(self, x, mask))


def encoder_with_sum_exchanged(self: EncoderLayer, x: Tensor, mask: Tensor) -> Tensor:
    h = self.pre_self_attn_layer_norm(x)
    x = self.add_residual(self.self_attn(h, self.self_attn.project(h), mask), x, self.self_attn_layer_norm)
    return self.add_residual(x, self.ffn(x), self.final_layer_norm)


def encoder_with_mask_inverted(self: EncoderLayer, x: Tensor, mask: Tensor) -> Tensor:
    return EncoderLayer.forward(self, x, ~mask)


def decoder_with_prompts_in_turn(self, x, text, text_mask, target_mask, cache):
    pictures = len(x) // len(text_mask)
    repeated = KeysValues(*(part.repeat(pictures, 1, 1, 1) for part in text))
    return DecoderLayer.forward(self, x, repeated, text_mask.repeat(pictures, 1, 1, 1), target_mask, cache)


def decoder_without_target_mask(self, x, text, text_mask, target_mask, cache):
    return DecoderLayer.forward(self, x, text, text_mask, None, cache)


def decoder_right_in_one_config(self, x, text, text_mask, target_mask, cache):
    if self.normformer:
        return DecoderLayer.forward(self, x, text, text_mask, target_mask, cache)
    return decoder(self, x, text, text_mask, target_mask, cache) + x


def decoder(self, x, text, text_mask, target_mask, cache, causal=True, fill=True, cross=True):
    h = self.pre_self_attn_layer_norm(x)
    keys_values = self.self_attn.project(h)
    if cache is not None and fill:
        keys_values = KeysValues(*cache.extend(*keys_values))
    attended = self.self_attn(h, keys_values, target_mask, causal=causal and cache is None)
    x = self.add_residual(x, attended, self.self_attn_layer_norm)
    if cross:
        h = self.pre_encoder_attn_layer_norm(x).reshape(len(text_mask), -1, x.shape[-1])
        x = self.add_residual(x, self.encoder_attn(h, text, text_mask).view_as(x), self.encoder_attn_layer_norm)
    return self.add_residual(x, self.ffn(x), self.final_layer_norm)


def decoder_not_causal(self, x, text, text_mask, target_mask, cache):
    return decoder(self, x, text, text_mask, target_mask, cache, causal=False)


def decoder_without_text(self, x, text, text_mask, target_mask, cache):
    return decoder(self, x, text, text_mask, target_mask, cache, cross=False)


def decoder_without_filling_the_cache(self, x, text, text_mask, target_mask, cache):
    return decoder(self, x, text, text_mask, target_mask, cache, fill=False)


def decoder_attending_to_padding(self, x, text, text_mask, target_mask, cache):
    return decoder(self, x, text, torch.ones_like(text_mask), target_mask, cache)


def shift_nothing(self: Bart, targets: Tensor) -> Tensor:
    return targets


def shift_by_rolling(self: Bart, targets: Tensor) -> Tensor:
    return targets.roll(1, 1)


def shift_too_long(self: Bart, targets: Tensor) -> Tensor:
    return F.pad(targets, (1, 0), value=self.config.decoder_start)


def shift_with_zero(self: Bart, targets: Tensor) -> Tensor:
    return F.pad(targets[:, :-1], (1, 0))


def shift_to_decimals(self: Bart, targets: Tensor) -> Tensor:
    return torch.cat([torch.full((len(targets), 1), float(self.config.decoder_start)), targets[:, :-1]], dim=1)


def shift_without_moving(self: Bart, targets: Tensor) -> Tensor:
    return F.pad(targets[:, 1:], (1, 0), value=self.config.decoder_start)


def shift_of_rows(self: Bart, targets: Tensor) -> Tensor:
    return F.pad(targets[:-1], (0, 0, 1, 0), value=self.config.decoder_start)


def shift_in_place(self: Bart, targets: Tensor) -> Tensor:
    targets[:, 1:] = targets[:, :-1].clone()
    targets[:, 0] = self.config.decoder_start
    return targets


def forward_without_shift(self: Bart, text: Tensor, targets: Tensor) -> Tensor:
    mask = self.text_mask(text)
    return self.decode(targets, self.encode(text, mask), mask)


def forward_with_padding(self: Bart, text: Tensor, targets: Tensor) -> Tensor:
    everything = torch.ones_like(self.text_mask(text))
    return self.decode(self.shift(targets), self.encode(text, everything), everything)


def forward_as_probabilities(self: Bart, text: Tensor, targets: Tensor) -> Tensor:
    return Bart.forward(self, text, targets).softmax(-1)


WRONG_PIECES = {
    "3.Attention.split": [split_by_reshape, split_without_transpose, split_interleaved],
    "3.Attention.forward": [
        attention_without_output,
        attention_without_mask,
        attention_never_causal,
        attention_to_itself,
        attention_joined_by_reshape,
        attention_of_values,
        attention_over_queries,
        attention_masked_with_zero,
        attention_with_mask_inverted,
        attention_to_later_keys,
    ],
    "3.FeedForward.forward": [
        feed_forward_without_gate,
        feed_forward_gate_reversed,
        feed_forward_always_gated,
        feed_forward_with_sum,
        feed_forward_with_silu,
        feed_forward_with_sigmoid,
        feed_forward_with_approximation,
    ],
    "3.EncoderLayer.forward": [
        encoder_without_norm,
        encoder_without_mask,
        encoder_without_feed_forward,
        encoder_with_plain_sum,
        encoder_right_in_one_config,
        encoder_without_second_sum,
        encoder_with_sum_exchanged,
        encoder_with_mask_inverted,
    ],
    "3.DecoderLayer.forward": [
        decoder_not_causal,
        decoder_without_text,
        decoder_without_filling_the_cache,
        decoder_attending_to_padding,
        decoder_with_prompts_in_turn,
        decoder_without_target_mask,
        decoder_right_in_one_config,
    ],
    "3.Bart.shift": [
        shift_nothing,
        shift_by_rolling,
        shift_too_long,
        shift_with_zero,
        shift_to_decimals,
        shift_without_moving,
        shift_of_rows,
        shift_in_place,
    ],
    "3.Bart.forward": [forward_without_shift, forward_with_padding, forward_as_probabilities],
}
