"""Wrong answers to the exercises of lesson 4, each of which must be told what is wrong in it."""

import math

import torch
import torch.nn.functional as F
from atelier.blocks.clip import CLIP, SelfAttention, VisionTransformer, contrastive_loss
from torch import Tensor


def loss_of_pictures(similarities: Tensor, scale: float) -> Tensor:
    return -(scale * similarities).log_softmax(1).diagonal().mean()


def loss_of_captions(similarities: Tensor, scale: float) -> Tensor:
    return -(scale * similarities).log_softmax(0).diagonal().mean()


def loss_without_scale(similarities: Tensor, scale: float) -> Tensor:
    return (loss_of_pictures(similarities, 1) + loss_of_captions(similarities, 1)) / 2


def loss_with_wrong_sign(similarities: Tensor, scale: float) -> Tensor:
    return -(loss_of_pictures(similarities, scale) + loss_of_captions(similarities, scale)) / 2


def loss_summed(similarities: Tensor, scale: float) -> Tensor:
    return loss_of_pictures(similarities, scale) + loss_of_captions(similarities, scale)


def loss_of_each(similarities: Tensor, scale: float) -> Tensor:
    logits = scale * similarities
    return -(logits.log_softmax(1).diagonal() + logits.log_softmax(0).diagonal()) / 2


def loss_divided(similarities: Tensor, scale: float) -> Tensor:
    return (loss_of_pictures(similarities, 1 / scale) + loss_of_captions(similarities, 1 / scale)) / 2


def loss_of_all_cells(similarities: Tensor, scale: float) -> Tensor:
    logits = scale * similarities
    return -(logits.log_softmax(1).mean() + logits.log_softmax(0).mean()) / 2


def by_short_means(images: Tensor, sentences: Tensor) -> Tensor:
    return (images @ sentences.mean(1).T).argmax(1)


def by_the_farthest(images: Tensor, sentences: Tensor) -> Tensor:
    return (images @ F.normalize(sentences.mean(1), dim=-1).T).argmin(1)


def by_the_first_sentence(images: Tensor, sentences: Tensor) -> Tensor:
    return (images @ sentences[:, 0].T).argmax(1)


def by_the_nearest_sentence(images: Tensor, sentences: Tensor) -> Tensor:
    return (images @ sentences.flatten(0, 1).T).view(len(images), len(sentences), -1).amax(2).argmax(1)


def similarities_only(images: Tensor, sentences: Tensor) -> Tensor:
    return images @ F.normalize(sentences.mean(1), dim=-1).T


def labels_for_labels(images: Tensor, sentences: Tensor) -> Tensor:
    return (images @ F.normalize(sentences.mean(1), dim=-1).T).argmax(0)


def share_of_the_first(right: list[bool], k: int) -> float:
    return sum(right[:k]) / k


def any_is_right(right: list[bool], k: int) -> float:
    return 1 - math.comb(len(right) - sum(right), k) / math.comb(len(right), k)


def with_putting_back(right: list[bool], k: int) -> float:
    n = len(right)
    return sum(((n - place) ** k - (n - 1 - place) ** k) / n**k for place, fine in enumerate(right) if fine)


def a_random_pick(right: list[bool], k: int) -> float:
    return sum(right) / len(right)


def the_worst(right: list[bool], k: int) -> float:
    n = len(right)
    return sum(math.comb(place, k - 1) / math.comb(n, k) for place, fine in enumerate(right) if fine)


def the_first(right: list[bool], k: int) -> float:
    return float(right[0])


def undivided(right: list[bool], k: int) -> float:
    return float(sum(math.comb(len(right) - 1 - place, k - 1) for place, fine in enumerate(right) if fine))


WRONG = {
    "4.1": [15, 4.515, 20.79, -10.4, 4.852, 32768, 1 / 32768, 10.3, "10.40"],
    "4.2": [
        loss_of_pictures,
        loss_of_captions,
        loss_without_scale,
        loss_with_wrong_sign,
        loss_summed,
        loss_of_each,
        loss_divided,
        loss_of_all_cells,
    ],
    "4.3": [
        by_short_means,
        by_the_farthest,
        by_the_first_sentence,
        by_the_nearest_sentence,
        similarities_only,
        labels_for_labels,
    ],
    "4.4": [share_of_the_first, any_is_right, with_putting_back, a_random_pick, the_worst, the_first, undivided],
}


def attention_with_one_head(self: SelfAttention, x: Tensor) -> Tensor:
    q, k, v = F.linear(x, self.in_proj_weight, self.in_proj_bias).chunk(3, dim=-1)
    return self.out_proj(F.scaled_dot_product_attention(q, k, v, is_causal=self.causal))


def split_heads(self: SelfAttention, x: Tensor) -> Tensor:
    x = F.linear(x, self.in_proj_weight, self.in_proj_bias)
    return x.unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)


def attention_never_causal(self: SelfAttention, x: Tensor) -> Tensor:
    q, k, v = (
        F.linear(x, self.in_proj_weight, self.in_proj_bias).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
    )
    return self.out_proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


def attention_joined_by_reshape(self: SelfAttention, x: Tensor) -> Tensor:
    q, k, v = (
        F.linear(x, self.in_proj_weight, self.in_proj_bias).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
    )
    return self.out_proj(F.scaled_dot_product_attention(q, k, v, is_causal=self.causal).reshape(x.shape))


def attention_without_projection(self: SelfAttention, x: Tensor) -> Tensor:
    q, k, v = (
        F.linear(x, self.in_proj_weight, self.in_proj_bias).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
    )
    return F.scaled_dot_product_attention(q, k, v, is_causal=self.causal).transpose(1, 2).flatten(2)


def attention_of(self: SelfAttention, parts: tuple[Tensor, ...]) -> Tensor:
    """Attention with queries, keys and values (n, h, t, c)."""
    q, k, v = parts
    return self.out_proj(F.scaled_dot_product_attention(q, k, v, is_causal=self.causal).transpose(1, 2).flatten(2))


def attention_with_keys_first(self: SelfAttention, x: Tensor) -> Tensor:
    k, q, v = split_heads(self, x)
    return attention_of(self, (q, k, v))


def attention_with_values_first(self: SelfAttention, x: Tensor) -> Tensor:
    v, k, q = split_heads(self, x)
    return attention_of(self, (q, k, v))


def attention_split_by_heads_first(self: SelfAttention, x: Tensor) -> Tensor:
    x = F.linear(x, self.in_proj_weight, self.in_proj_bias)
    return attention_of(self, x.unflatten(-1, (self.heads, 3, -1)).permute(3, 0, 2, 1, 4))


def attention_split_by_reshape(self: SelfAttention, x: Tensor) -> Tensor:
    parts = F.linear(x, self.in_proj_weight, self.in_proj_bias).chunk(3, dim=-1)
    return attention_of(self, tuple(part.reshape(len(x), self.heads, x.shape[1], -1) for part in parts))


def attention_over_heads(self: SelfAttention, x: Tensor) -> Tensor:
    parts = split_heads(self, x).transpose(2, 3)
    return self.out_proj(F.scaled_dot_product_attention(*parts, is_causal=self.causal).flatten(2))


def attention_divided_by_the_width(self: SelfAttention, x: Tensor) -> Tensor:
    q, k, v = split_heads(self, x)
    return attention_of(self, (q * self.heads**-0.5, k, v))


def attention_with_residual(self: SelfAttention, x: Tensor) -> Tensor:
    return x + SelfAttention.forward(self, x)


def attention_to_later_tokens(self: SelfAttention, x: Tensor) -> Tensor:
    mask = torch.ones(x.shape[1], x.shape[1]).triu().bool() if self.causal else None
    attended = F.scaled_dot_product_attention(*split_heads(self, x), attn_mask=mask)
    return self.out_proj(attended.transpose(1, 2).flatten(2))


def vision_tokens(self: VisionTransformer, x: Tensor) -> Tensor:
    x = self.conv1(x).flatten(2).transpose(1, 2)
    return torch.cat([self.class_embedding.expand(len(x), 1, -1), x], dim=1)


def vision_without_positions(self: VisionTransformer, x: Tensor) -> Tensor:
    return self.ln_post(self.transformer(self.ln_pre(vision_tokens(self, x)))[:, 0]) @ self.proj


def vision_of_all_tokens(self: VisionTransformer, x: Tensor) -> Tensor:
    x = vision_tokens(self, x) + self.positional_embedding
    return self.ln_post(self.transformer(self.ln_pre(x))) @ self.proj


def vision_without_projection(self: VisionTransformer, x: Tensor) -> Tensor:
    x = vision_tokens(self, x) + self.positional_embedding
    return self.ln_post(self.transformer(self.ln_pre(x))[:, 0])


def vision_as_mean(self: VisionTransformer, x: Tensor) -> Tensor:
    x = vision_tokens(self, x) + self.positional_embedding
    return self.ln_post(self.transformer(self.ln_pre(x)).mean(1)) @ self.proj


def vision_with_patches_mixed(self: VisionTransformer, x: Tensor) -> Tensor:
    x = self.conv1(x).reshape(len(x), -1, len(self.class_embedding))
    x = torch.cat([self.class_embedding.expand(len(x), 1, -1), x], dim=1) + self.positional_embedding
    return self.ln_post(self.transformer(self.ln_pre(x))[:, 0]) @ self.proj


def vision_with_class_token_unplaced(self: VisionTransformer, x: Tensor) -> Tensor:
    x = vision_tokens(self, x)
    x = torch.cat([x[:, :1], x[:, 1:] + self.positional_embedding[1:]], dim=1)
    return self.ln_post(self.transformer(self.ln_pre(x))[:, 0]) @ self.proj


def vision_of_length_one(self: VisionTransformer, x: Tensor) -> Tensor:
    return F.normalize(VisionTransformer.forward(self, x), dim=-1)


def image_not_normalised(self: CLIP, pixels: Tensor) -> Tensor:
    return F.normalize(self.visual(pixels), dim=-1)


def image_of_any_length(self: CLIP, pixels: Tensor) -> Tensor:
    mean, std = torch.tensor((self.config.pixel_mean, self.config.pixel_std)).view(2, 3, 1, 1)
    return self.visual((pixels - mean) / std)


def image_of_any_size(self: CLIP, pixels: Tensor) -> Tensor:
    mean, std = torch.tensor((self.config.pixel_mean, self.config.pixel_std)).view(2, 3, 1, 1)
    return F.normalize(self.visual((pixels - mean) / std), dim=-1)


def image_without_mean(self: CLIP, pixels: Tensor) -> Tensor:
    return F.normalize(self.visual(pixels / torch.tensor(self.config.pixel_std).view(3, 1, 1)), dim=-1)


def end_as_highest_id(self: CLIP, ids: Tensor) -> Tensor:
    return ids.argmax(-1)


def end_as_last(self: CLIP, ids: Tensor) -> Tensor:
    return ids.shape[1] - 1 - ids.eq(2).flip(1).int().argmax(1)


def end_as_length(self: CLIP, ids: Tensor) -> Tensor:
    return (ids != 1).sum(1)


def end_without_check(self: CLIP, ids: Tensor) -> Tensor:
    if self.config.end_token is None:
        return ids.argmax(-1)
    return (ids == self.config.end_token).int().argmax(1)


def end_for_our_config_alone(self: CLIP, ids: Tensor) -> Tensor:
    is_end = ids.eq(2)
    if not is_end.any(1).all():
        raise ValueError("no end token")
    return is_end.int().argmax(1)


def end_of_booleans(self: CLIP, ids: Tensor) -> Tensor:
    return ids.eq(2).argmax(1)


def end_before_padding(self: CLIP, ids: Tensor) -> Tensor:
    return (ids != 1).sum(1) - 1


def text_states(self: CLIP, ids: Tensor) -> Tensor:
    return self.ln_final(self.transformer(self.token_embedding(ids) + self.positional_embedding[: ids.shape[1]]))


def text_at_the_first_token(self: CLIP, ids: Tensor) -> Tensor:
    return F.normalize(text_states(self, ids)[:, 0] @ self.text_projection, dim=-1)


def text_at_the_last_position(self: CLIP, ids: Tensor) -> Tensor:
    return F.normalize(text_states(self, ids)[:, -1] @ self.text_projection, dim=-1)


def text_as_mean(self: CLIP, ids: Tensor) -> Tensor:
    return F.normalize(text_states(self, ids).mean(1) @ self.text_projection, dim=-1)


def text_of_any_length(self: CLIP, ids: Tensor) -> Tensor:
    return text_states(self, ids)[torch.arange(len(ids)), self.end_position(ids)] @ self.text_projection


def text_without_check(self: CLIP, ids: Tensor) -> Tensor:
    x = text_states(self, ids)[torch.arange(len(ids)), self.end_position(ids)]
    return F.normalize(x @ self.text_projection, dim=-1)


def text_at_the_highest_id(self: CLIP, ids: Tensor) -> Tensor:
    return F.normalize(text_states(self, ids)[torch.arange(len(ids)), ids.argmax(1)] @ self.text_projection, dim=-1)


def loss_of_probabilities(image: Tensor, text: Tensor, scale: float) -> Tensor:
    logits, pairs = scale * image @ text.T, torch.arange(len(image))
    return (F.cross_entropy(logits.softmax(1), pairs) + F.cross_entropy(logits.T.softmax(1), pairs)) / 2


def loss_with_exponential(image: Tensor, text: Tensor, scale: float) -> Tensor:
    return contrastive_loss(image, text, math.exp(scale))


def loss_summed_over_pairs(image: Tensor, text: Tensor, scale: float) -> Tensor:
    return len(image) * contrastive_loss(image, text, scale)


def loss_of_cells(image: Tensor, text: Tensor, scale: float) -> Tensor:
    return F.binary_cross_entropy_with_logits(scale * image @ text.T, torch.eye(len(image)))


def loss_with_first_caption(image: Tensor, text: Tensor, scale: float) -> Tensor:
    logits, first = scale * image @ text.T, torch.zeros(len(image)).long()
    return (F.cross_entropy(logits, first) + F.cross_entropy(logits.T, first)) / 2


def loss_of_rows(image: Tensor, text: Tensor, scale: float) -> Tensor:
    return F.cross_entropy(scale * image @ text.T, torch.arange(len(image)))


def loss_without_scale(image: Tensor, text: Tensor, scale: float) -> Tensor:
    return contrastive_loss(image, text, 1.0)


def loss_of_the_diagonal(image: Tensor, text: Tensor, scale: float) -> Tensor:
    return -(scale * image @ text.T).diagonal().mean()


def loss_without_check(image: Tensor, text: Tensor, scale: float) -> Tensor:
    logits = scale * image @ text.T
    pairs = torch.arange(len(logits))
    return (F.cross_entropy(logits, pairs) + F.cross_entropy(logits.T, pairs[: logits.shape[1]])) / 2


WRONG_PIECES = {
    "4.SelfAttention.forward": [
        attention_with_one_head,
        attention_never_causal,
        attention_joined_by_reshape,
        attention_without_projection,
        attention_with_keys_first,
        attention_with_values_first,
        attention_split_by_heads_first,
        attention_split_by_reshape,
        attention_over_heads,
        attention_divided_by_the_width,
        attention_with_residual,
        attention_to_later_tokens,
    ],
    "4.VisionTransformer.forward": [
        vision_without_positions,
        vision_of_all_tokens,
        vision_without_projection,
        vision_as_mean,
        vision_with_patches_mixed,
        vision_with_class_token_unplaced,
        vision_of_length_one,
    ],
    "4.CLIP.encode_image": [image_not_normalised, image_of_any_length, image_of_any_size, image_without_mean],
    "4.CLIP.end_position": [
        end_as_highest_id,
        end_as_last,
        end_as_length,
        end_without_check,
        end_for_our_config_alone,
        end_of_booleans,
        end_before_padding,
    ],
    "4.CLIP.encode_text": [
        text_at_the_first_token,
        text_at_the_last_position,
        text_as_mean,
        text_of_any_length,
        text_without_check,
        text_at_the_highest_id,
    ],
    "4.contrastive_loss": [
        loss_of_rows,
        loss_without_scale,
        loss_of_the_diagonal,
        loss_without_check,
        loss_of_probabilities,
        loss_with_exponential,
        loss_summed_over_pairs,
        loss_of_cells,
        loss_with_first_caption,
    ],
}
