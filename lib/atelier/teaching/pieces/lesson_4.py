"""The pieces of lesson 4, CLIP."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from atelier.blocks.clip import CLIP, CLIPConfig, SelfAttention, VisionTransformer
from atelier.teaching.exercises import AnswerError, expect_close, expect_tensor
from atelier.teaching.pieces import piece

MODULE = "atelier.blocks.clip"
SMALL = CLIPConfig(
    embed_dim=5, image_size=8, patch_size=4, vision_width=12, vision_layers=1, vision_heads=3, vocabulary=20,
    context_length=6, text_width=8, text_layers=1, text_heads=2, end_token=2, pixel_mean=(0.3, 0.5, 0.6),
    pixel_std=(0.2, 0.3, 0.4),
)  # fmt: skip


def _clip() -> CLIP:
    """A small CLIP with random numbers in all of its parameters, so that leaving one out changes the output."""
    torch.manual_seed(0)
    clip = CLIP(SMALL).eval()
    with torch.no_grad():
        for parameter in clip.parameters():
            if parameter.ndim > 0:
                parameter.copy_(torch.randn(parameter.shape) * 0.5)
    return clip


@piece(
    "4.SelfAttention.forward",
    MODULE,
    minutes=20,
    hints=(
        "Four steps: the projection to queries, keys and values, the split into heads, the attention, and the heads "
        "joined again for `out_proj`.",
        "`x.unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)` gives q, k and v, each (n, heads, t, d / "
        "heads). `F.scaled_dot_product_attention` has the argument `is_causal`.",
    ),
)
def check_attention(forward: Callable[[SelfAttention, Tensor], Tensor]) -> None:
    """Attention with several heads, causal and not."""
    for causal in (False, True):
        attention, x = SelfAttention(12, 3, causal), torch.randn(2, 5, 12)
        nn.init.normal_(attention.in_proj_bias)
        wanted = attention(x)
        result = expect_tensor(forward(attention, x), (2, 5, 12), "forward")
        expect_close(result, wanted, _attention_faults(attention, x))


def _attention_faults(attention: SelfAttention, x: Tensor) -> dict[str, Tensor]:
    q, k, v = F.linear(x, attention.in_proj_weight, attention.in_proj_bias).chunk(3, dim=-1)  # (n, t, d) each

    def attended(heads: int, scale: float | None = None, causal: bool = attention.causal) -> Tensor:
        split = [part.unflatten(-1, (heads, -1)).transpose(1, 2) for part in (q, k, v)]
        return F.scaled_dot_product_attention(*split, is_causal=causal, scale=scale)

    def joined(heads: Tensor) -> Tensor:
        return heads.transpose(1, 2).flatten(2)

    def of_parts(parts: tuple[Tensor, ...]) -> Tensor:
        split = [part.unflatten(-1, (3, -1)).transpose(1, 2) for part in parts]
        return attention.out_proj(joined(F.scaled_dot_product_attention(*split, is_causal=attention.causal)))

    read_q, read_k, read_v = (part.reshape(2, 3, 5, 4) for part in (q, k, v))
    right = joined(attended(3))
    other = "the mask for causal attention is missing." if attention.causal else "this attention should not be causal."
    untransposed = [part.unflatten(-1, (3, -1)) for part in (q, k, v)]  # (n, t, h, c) each
    over_heads = F.scaled_dot_product_attention(*untransposed, is_causal=attention.causal).flatten(2)
    faults = {
        "the output projection, `out_proj`, is missing.": right,
        "this is attention with a single head; split the vectors into heads first.": attention.out_proj(
            joined(attended(1))
        ),
        "the products are not divided by the square root of the heads' width.": attention.out_proj(
            joined(attended(3, scale=1.0))
        ),
        "heads and tokens are mixed up when the heads are joined: transpose them back before you flatten.": (
            attention.out_proj(attended(3).reshape(x.shape))
        ),
        "the bias of the projection is missing.": _without_bias(attention, x),
        "queries and keys are exchanged: the projection gives q, k and v in this order.": of_parts((k, q, v)),
        "the projection is read as v, k, q; it gives q, k and v in this order.": of_parts((v, k, q)),
        "the projection has first all queries, then all keys and all values; a head is a part of each.": of_parts(
            tuple(part.flatten(2) for part in _by_heads(torch.cat([q, k, v], -1)))
        ),
        "tokens and heads are mixed up when the vectors are split: transpose, do not reshape.": attention.out_proj(
            joined(F.scaled_dot_product_attention(read_q, read_k, read_v, is_causal=attention.causal))
        ),
        "the heads are divided by √d; each head has only d / heads numbers.": attention.out_proj(
            joined(attended(3, scale=12**-0.5))
        ),
        "the input is added; that happens outside this layer.": x + attention.out_proj(right),
        "the heads of a token attend to each other: put the heads before the tokens.": attention.out_proj(over_heads),
        other: attention.out_proj(joined(attended(3, causal=not attention.causal))),
    }
    if attention.causal:
        parts = [part.unflatten(-1, (3, -1)).transpose(1, 2) for part in (q, k, v)]
        later = joined(F.scaled_dot_product_attention(*parts, attn_mask=torch.ones(5, 5).triu().bool()))
        faults["a token attends to itself and later ones; it should attend to itself and earlier ones."] = (
            attention.out_proj(later)
        )
    return faults


def _by_heads(projected: Tensor) -> tuple[Tensor, ...]:
    """The parts of a projection (n, t, 3 d), read as if each head's q, k and v were together: (n, t, h, c) each."""
    return projected.unflatten(-1, (3, 3, -1)).unbind(-2)


def _without_bias(attention: SelfAttention, x: Tensor) -> Tensor:
    bias = attention.in_proj_bias.detach().clone()
    with torch.no_grad():
        attention.in_proj_bias.zero_()
        result = attention(x)
        attention.in_proj_bias.copy_(bias)
    return result


@piece(
    "4.VisionTransformer.forward",
    MODULE,
    minutes=20,
    hints=(
        "`conv1` makes one vector for each patch. They become a row of tokens, the class token is put before them, and "
        "the positions are added. After the layers, the class token's vector represents the picture.",
        "`self.conv1(x).flatten(2).transpose(1, 2)` is (n, patches, d). `self.class_embedding.expand(len(x), 1, -1)` "
        "is the class token of each picture. `ln_pre` comes before the layers, `ln_post` before `proj`.",
    ),
)
def check_vision(forward: Callable[[VisionTransformer, Tensor], Tensor]) -> None:
    """Patches, class token, positions, layers, projection."""
    vision, x = _clip().visual, torch.randn(3, 3, 8, 8)
    result = forward(vision, x)
    if isinstance(result, Tensor) and result.shape == (3, 12):
        raise AnswerError("the last projection, `proj`, is missing: the vectors have the width of the tower.")
    if isinstance(result, Tensor) and result.shape == (3, 5, 5):
        raise AnswerError("these are vectors of all tokens; take that of the class token.")
    patches = vision.conv1(x).flatten(2).transpose(1, 2)
    first = vision.class_embedding.expand(len(x), 1, -1)

    def finished(tokens: Tensor, place: int = 0) -> Tensor:
        return vision.ln_post(vision.transformer(tokens)[:, place]) @ vision.proj

    positions = vision.positional_embedding
    tokens = torch.cat([first, patches], dim=1)
    mixed = torch.cat([first, vision.conv1(x).reshape(3, 4, 12)], dim=1)
    expect_close(
        expect_tensor(result, (3, 5), "forward"),
        finished(vision.ln_pre(tokens + positions)),
        {
            "the positions are missing.": finished(vision.ln_pre(tokens)),
            "`ln_pre` is missing.": finished(tokens + positions),
            "`ln_pre` comes after the positions, not before.": finished(vision.ln_pre(tokens) + positions),
            "the class token is the last one here; it is the first.": finished(
                vision.ln_pre(torch.cat([patches, first], dim=1) + positions), -1
            ),
            "this is the vector of the last patch; take that of the class token, the first.": finished(
                vision.ln_pre(tokens + positions), -1
            ),
            "`ln_post` is missing.": vision.transformer(vision.ln_pre(tokens + positions))[:, 0] @ vision.proj,
            "this is the mean over all tokens; take the class token's vector.": (
                vision.ln_post(vision.transformer(vision.ln_pre(tokens + positions)).mean(1)) @ vision.proj
            ),
            "the class token has no position; it has the first one.": finished(
                vision.ln_pre(torch.cat([first, patches + positions[1:]], dim=1))
            ),
            "reshape mixes numbers of several patches; flatten the rows and columns, then transpose.": finished(
                vision.ln_pre(mixed + positions)
            ),
            "the vectors are scaled to length 1; that happens in encode_image.": F.normalize(
                finished(vision.ln_pre(tokens + positions)), dim=-1
            ),
        },
    )


@piece(
    "4.CLIP.encode_image",
    MODULE,
    minutes=10,
    hints=(
        "From each colour its mean is subtracted, and the rest is divided by its standard deviation. The tower maps "
        "that to vectors, and these are scaled to length 1.",
        "Means and deviations are in `self.config`, as three numbers each; give them the shape (3, 1, 1). "
        "`F.normalize(..., dim=-1)` makes the length 1. Keep the check of the shape.",
    ),
)
def check_encode_image(encode_image: Callable[[CLIP, Tensor], Tensor]) -> None:
    """Normalised pixels, the tower, and length 1."""
    clip, pixels = _clip(), torch.rand(4, 3, 8, 8)
    mean, std = torch.tensor((SMALL.pixel_mean, SMALL.pixel_std)).view(2, 3, 1, 1)
    result = expect_tensor(encode_image(clip, pixels), (4, 5), "encode_image")
    vectors = clip.visual((pixels - mean) / std)
    expect_close(
        result,
        F.normalize(vectors, dim=-1),
        {
            "the vectors do not have the length 1.": vectors,
            "the pixels are not normalised.": F.normalize(clip.visual(pixels), dim=-1),
            "the mean is subtracted, but the division by the standard deviation is missing.": F.normalize(
                clip.visual(pixels - mean), dim=-1
            ),
            "the mean is not subtracted.": F.normalize(clip.visual(pixels / std), dim=-1),
            "the pixels are multiplied by the standard deviation; divide by it.": F.normalize(
                clip.visual((pixels - mean) * std), dim=-1
            ),
            "the lengths are taken over the batch; each vector has its own.": F.normalize(vectors, dim=0),
        },
    )
    _expect_value_error(lambda: encode_image(clip, torch.rand(4, 3, 9, 9)), "pictures of another size")


def _expect_value_error(call: Callable[[], Tensor], given: str) -> None:
    try:
        call()
    except ValueError:
        return
    except Exception as error:
        raise AnswerError(
            f"right, but {given} end in a {type(error).__name__} from deep inside: raise a ValueError that says what "
            "was expected."
        ) from error
    raise AnswerError(f"right, but {given} are accepted: raise a ValueError.")


@piece(
    "4.CLIP.encode_text",
    MODULE,
    minutes=15,
    hints=(
        "The ids become vectors, and positions are added. After the layers and `ln_final`, the vector at the end token "
        "represents the text. It is projected, and scaled to length 1.",
        "`x[torch.arange(len(ids)), self.end_position(ids)]` takes one vector of each row. Texts may be shorter than "
        "context_length, so take as many positions as there are ids.",
    ),
)
def check_encode_text(encode_text: Callable[[CLIP, Tensor], Tensor]) -> None:
    """Embeddings, positions, layers, the end token's vector, projection, length 1."""
    clip = _clip()
    ids = torch.tensor([[0, 9, 7, 2, 1], [0, 5, 2, 1, 1], [0, 4, 4, 5, 2]])
    result = expect_tensor(encode_text(clip, ids), (3, 5), "encode_text")
    embedded, positions = clip.token_embedding(ids), clip.positional_embedding[:5]
    rows, ends = torch.arange(3), clip.end_position(ids)

    def finished(x: Tensor, places: Tensor = ends) -> Tensor:
        return F.normalize(clip.ln_final(clip.transformer(x))[rows, places] @ clip.text_projection, dim=-1)

    x = embedded + positions
    expect_close(
        result,
        finished(x),
        {
            "the vectors do not have the length 1.": clip.ln_final(clip.transformer(x))[rows, ends]
            @ clip.text_projection,
            "the positions are missing.": finished(embedded),
            "this is the vector of the first token; attention is causal, so it has seen nothing of the text.": finished(
                x, torch.zeros_like(ends)
            ),
            "this is the vector of the last position, which is padding in shorter texts.": finished(
                x, torch.full_like(ends, 4)
            ),
            "this is the mean over all positions; take the vector at the end of the text.": F.normalize(
                clip.ln_final(clip.transformer(x)).mean(1) @ clip.text_projection, dim=-1
            ),
            "`ln_final` is missing.": F.normalize(clip.transformer(x)[rows, ends] @ clip.text_projection, dim=-1),
            "this is the vector of the token before the end token.": finished(x, ends - 1),
            "this is the vector of the highest id; use self.end_position.": finished(x, ids.argmax(1)),
        },
    )
    _expect_value_error(lambda: encode_text(clip, torch.tensor([[0, 7, 9, 5, 4, 3, 2]])), "ids that are too long")
    _expect_value_error(lambda: encode_text(clip, torch.tensor([0, 7, 2])), "ids without rows")


@piece(
    "4.CLIP.end_position",
    MODULE,
    minutes=10,
    hints=(
        "Compare the ids with the end token. The position of the first match in each row is asked for. A config "
        "without an end token stands for published models, where the end token has the highest id.",
        "`argmax` of whole numbers gives the first position of the largest one: `(ids == end).int().argmax(dim=-1)`.",
    ),
)
def check_end_position(end_position: Callable[[CLIP, Tensor], Tensor]) -> None:
    """The first end token of each row; without an end token, the highest id."""
    clip = _clip()
    ids = torch.tensor([[0, 7, 9, 2, 1, 1], [0, 2, 2, 2, 3, 1], [0, 19, 4, 4, 5, 2]])
    result = expect_tensor(end_position(clip, ids), (3,), "end_position")
    expect_close(
        result,
        torch.tensor([3, 1, 5]),
        {
            "these are the positions of the highest ids; the end token is in the config.": ids.argmax(-1),
            "these are the positions of the last tokens before padding; find the first end token.": (
                torch.tensor([3, 4, 5])
            ),
            "these are the last end tokens; take the first of each row.": torch.tensor([3, 3, 5]),
            "these are the numbers of tokens before padding; find the first end token.": torch.tensor([4, 5, 6]),
            "these are the positions before the end token.": torch.tensor([2, 0, 4]),
            "these are the positions after the end token.": torch.tensor([4, 2, 6]),
        },
    )
    published = _clip()
    published.config = dataclasses.replace(SMALL, end_token=None)
    highest = torch.tensor([[0, 7, 19, 0, 0, 0], [3, 19, 0, 0, 0, 0]])
    try:
        expect_close(expect_tensor(end_position(published, highest), (2,), "end_position"), torch.tensor([2, 1]))
    except Exception as error:
        raise AnswerError(
            "right with an end token in the config, but not if end_token is None: then the highest id of each row is "
            "its end token."
        ) from error
    try:
        end_position(clip, torch.tensor([[0, 5, 6, 7, 8, 9]]))
    except ValueError:
        return
    raise AnswerError("right, but a row without an end token is accepted: raise a ValueError.")


@piece(
    "4.contrastive_loss",
    MODULE,
    minutes=15,
    hints=(
        "All similarities times the scale are a matrix of logits, (n, n). In row i the right answer is number i. The "
        "same holds for the columns.",
        "`F.cross_entropy(logits, torch.arange(n))` is the loss of the rows; that of `logits.T` is the loss of the "
        "columns. Return their mean.",
    ),
)
def check_contrastive_loss(contrastive_loss: Callable[[Tensor, Tensor, float], Tensor]) -> None:
    """The mean of both cross-entropies."""
    image, text = F.normalize(torch.randn(2, 6, 4), dim=-1)
    scale, pairs = 3.0, torch.arange(6)
    logits = scale * image @ text.T
    rows, columns = F.cross_entropy(logits, pairs), F.cross_entropy(logits.T, pairs)
    alone = image @ text.T
    expect_close(
        expect_tensor(contrastive_loss(image, text, scale), (), "contrastive_loss"),
        (rows + columns) / 2,
        {
            "this is the loss of finding a picture's caption; the other direction is missing.": rows,
            "this is the loss of finding a caption's picture; the other direction is missing.": columns,
            "this is the sum of both directions; the loss is their mean.": rows + columns,
            "the scale is missing.": (F.cross_entropy(alone, pairs) + F.cross_entropy(alone.T, pairs)) / 2,
            "the similarities are divided by the scale; multiply by it.": (
                (F.cross_entropy(alone / scale, pairs) + F.cross_entropy(alone.T / scale, pairs)) / 2
            ),
            "this is minus the mean logit of the pairs; the cross-entropy compares it with the other logits.": (
                -logits.diagonal().mean()
            ),
            "the sign is wrong.": -(rows + columns) / 2,
            "these are sums over the pairs; a cross-entropy is the mean.": 6 * (rows + columns) / 2,
            "F.cross_entropy takes logits and applies the softmax itself: the softmax is applied twice here.": (
                F.cross_entropy(logits.softmax(1), pairs) + F.cross_entropy(logits.T.softmax(1), pairs)
            )
            / 2,
            "scale is the factor itself, the exponential is already taken.": (
                F.cross_entropy(alone * math.exp(scale), pairs) + F.cross_entropy(alone.T * math.exp(scale), pairs)
            )
            / 2,
            "the right answer of row i is number i, not 0.": (
                F.cross_entropy(logits, 0 * pairs) + F.cross_entropy(logits.T, 0 * pairs)
            )
            / 2,
            "each cell is a yes-or-no question here; the loss classifies each row and each column.": (
                F.binary_cross_entropy_with_logits(logits, torch.eye(6))
            ),
        },
    )
    try:
        contrastive_loss(image, text[:4], scale)
    except ValueError:
        return
    except Exception as error:
        raise AnswerError(
            f"right, but without a caption for each picture it stops with {type(error).__name__}: raise a ValueError."
        ) from error
    raise AnswerError("right, but four captions for six pictures are accepted: raise a ValueError.")
