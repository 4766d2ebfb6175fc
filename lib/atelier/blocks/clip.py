"""The critic: two towers that put pictures and captions into one space, where what belongs together is close.

CLIP (Radford et al. 2021): a vision transformer (Dosovitskiy et al. 2021, equations 1 to 4) and a causal text
transformer, each ending in one vector of length 1, trained so that in a batch of pairs every picture finds its caption
and every caption its picture (section 2.3, figure 3). Parameter names are open_clip's, so its weights load strictly.

In shapes, n is a batch, t the tokens of one sequence, d a tower's width, e the width of the common space.
"""

import math
from dataclasses import dataclass
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class CLIPConfig:
    """Sizes and variants of a `CLIP`.

    Args:
        embed_dim: e, width of the space that both towers share.
        image_size: height and width of the pictures, in pixels.
        patch_size: height and width of the patches that the vision tower reads as its tokens.
        vision_width: d of the vision tower.
        vision_layers: its layers.
        vision_heads: its attention heads.
        vocabulary: rows of the text embedding.
        context_length: most text tokens.
        text_width: d of the text tower.
        text_layers: its layers.
        text_heads: its attention heads.
        mlp_ratio: how many times wider than the tower its feed-forward layers are inside.
        quick_gelu: x · sigmoid(1.702 x) in place of GELU. OpenAI's weights were trained with it and need it.
        end_token: the text tower's answer is read at the first token with this id; None reads it at the largest id of
            each row, which is where OpenAI's vocabulary has its end of text.
        pixel_mean: what is subtracted from red, green and blue (each in [0, 1]).
        pixel_std: what they are divided by then.

    Raises:
        ValueError: a size that is not positive, or sizes that do not fit together.
    """

    embed_dim: int
    image_size: int
    patch_size: int
    vision_width: int
    vision_layers: int
    vision_heads: int
    vocabulary: int
    context_length: int
    text_width: int
    text_layers: int
    text_heads: int
    mlp_ratio: float = 4.0
    quick_gelu: bool = False
    end_token: int | None = None
    pixel_mean: tuple[float, float, float] = (0.48145466, 0.4578275, 0.40821073)
    pixel_std: tuple[float, float, float] = (0.26862954, 0.26130258, 0.27577711)

    def __post_init__(self) -> None:
        for width, heads in ((self.vision_width, self.vision_heads), (self.text_width, self.text_heads)):
            if heads < 1 or width % heads:
                raise ValueError(f"width {width} cannot be split into {heads} heads; choose a multiple of the heads.")

    @classmethod
    def vit_b_32(cls) -> Self:
        """OpenAI's ViT-B/32, 151.3 million parameters."""
        return cls(
            embed_dim=512,
            image_size=224,
            patch_size=32,
            vision_width=768,
            vision_layers=12,
            vision_heads=12,
            vocabulary=49408,
            context_length=77,
            text_width=512,
            text_layers=12,
            text_heads=8,
            quick_gelu=True,
        )


class SelfAttention(nn.Module):
    """Multi-head self-attention, its three projections in one matrix (Vaswani et al. 2017, section 3.2)."""

    def __init__(self, width: int, heads: int, causal: bool) -> None:
        super().__init__()
        self.heads = heads
        self.causal = causal
        self.in_proj_weight = nn.Parameter(torch.randn(3 * width, width) * width**-0.5)
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Map x (n, t, d) to (n, t, d); if causal, each token sees itself and those before."""
        x = F.linear(x, self.in_proj_weight, self.in_proj_bias)  # (n, t, 3 · d)
        q, k, v = x.unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)  # (n, heads, t, d / heads) each
        found = F.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        return self.out_proj(found.transpose(1, 2).flatten(2))  # (n, t, d)


class MLP(nn.Module):
    """The feed-forward layer: widen, GELU, narrow."""

    def __init__(self, width: int, ratio: float, quick_gelu: bool) -> None:
        super().__init__()
        self.quick_gelu = quick_gelu
        self.c_fc = nn.Linear(width, int(width * ratio))
        self.c_proj = nn.Linear(int(width * ratio), width)

    def forward(self, x: Tensor) -> Tensor:
        """Map x (n, t, d) to (n, t, d)."""
        x = self.c_fc(x)  # (n, t, ratio · d)
        return self.c_proj(x * torch.sigmoid(1.702 * x) if self.quick_gelu else F.gelu(x))


class ResidualBlock(nn.Module):
    """One layer of a tower: attention, then MLP, each behind a LayerNorm and added to what came in."""

    def __init__(self, width: int, heads: int, causal: bool, ratio: float, quick_gelu: bool) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(width)
        self.attn = SelfAttention(width, heads, causal)
        self.ln_2 = nn.LayerNorm(width)
        self.mlp = MLP(width, ratio, quick_gelu)

    def forward(self, x: Tensor) -> Tensor:
        """Map x (n, t, d) to (n, t, d)."""
        x = x + self.attn(self.ln_1(x))
        return x + self.mlp(self.ln_2(x))


class Transformer(nn.Module):
    """The layers of a tower. Their outputs start small, the smaller the more of them are summed."""

    def __init__(self, width: int, layers: int, heads: int, causal: bool, config: CLIPConfig) -> None:
        super().__init__()
        self.resblocks = nn.Sequential(
            *(ResidualBlock(width, heads, causal, config.mlp_ratio, config.quick_gelu) for _ in range(layers))
        )
        output_std = width**-0.5 * (2 * layers) ** -0.5
        for name, parameter in self.named_parameters():
            if name.endswith(("out_proj.weight", "c_proj.weight")):
                nn.init.normal_(parameter, std=output_std)
            elif name.endswith("c_fc.weight"):
                nn.init.normal_(parameter, std=(2 * width) ** -0.5)
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)

    def forward(self, x: Tensor) -> Tensor:
        """Map x (n, t, d) to (n, t, d)."""
        return self.resblocks(x)


class VisionTransformer(nn.Module):
    """The picture's tower: patches as tokens, with one token more that collects what the picture is about."""

    def __init__(self, config: CLIPConfig) -> None:
        super().__init__()
        width = config.vision_width
        patches = (config.image_size // config.patch_size) ** 2
        self.conv1 = nn.Conv2d(3, width, config.patch_size, stride=config.patch_size, bias=False)
        self.class_embedding = nn.Parameter(torch.randn(width) * width**-0.5)
        self.positional_embedding = nn.Parameter(torch.randn(patches + 1, width) * width**-0.5)
        self.ln_pre = nn.LayerNorm(width)
        self.transformer = Transformer(width, config.vision_layers, config.vision_heads, causal=False, config=config)
        self.ln_post = nn.LayerNorm(width)
        self.proj = nn.Parameter(torch.randn(width, config.embed_dim) * width**-0.5)

    def forward(self, x: Tensor) -> Tensor:
        """Map normalised pictures (n, 3, image_size, image_size) to vectors (n, e)."""
        x = self.conv1(x).flatten(2).transpose(1, 2)  # (n, patches, d)
        x = torch.cat([self.class_embedding.to(x.dtype).expand(len(x), 1, -1), x], dim=1)  # (n, 1 + patches, d)
        x = self.transformer(self.ln_pre(x + self.positional_embedding))
        return self.ln_post(x[:, 0]) @ self.proj  # (n, e)


class CLIP(nn.Module):
    """Both towers, and the temperature that turns cosines into logits."""

    def __init__(self, config: CLIPConfig) -> None:
        super().__init__()
        self.config = config
        self.visual = VisionTransformer(config)
        self.token_embedding = nn.Embedding(config.vocabulary, config.text_width)
        self.positional_embedding = nn.Parameter(torch.randn(config.context_length, config.text_width) * 0.01)
        self.transformer = Transformer(config.text_width, config.text_layers, config.text_heads, True, config)
        self.ln_final = nn.LayerNorm(config.text_width)
        self.text_projection = nn.Parameter(torch.randn(config.text_width, config.embed_dim) * config.text_width**-0.5)
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))  # a logarithm; section 2.5
        nn.init.normal_(self.token_embedding.weight, std=0.02)

    def encode_image(self, pixels: Tensor) -> Tensor:
        """Give each picture its place in the common space.

        Args:
            pixels: (n, 3, image_size, image_size) in [0, 1]; they are normalised in here.

        Returns:
            Vectors of length 1, (n, e).

        Raises:
            ValueError: the pictures have another shape.
        """
        size = self.config.image_size
        if pixels.ndim != 4 or pixels.shape[1:] != (3, size, size):
            raise ValueError(f"pixels have shape {tuple(pixels.shape)}; this model takes (n, 3, {size}, {size}).")
        mean, std = pixels.new_tensor((self.config.pixel_mean, self.config.pixel_std)).view(2, 3, 1, 1)
        return F.normalize(self.visual((pixels - mean) / std), dim=-1)

    def encode_text(self, ids: Tensor) -> Tensor:
        """Give each caption its place in the common space.

        Args:
            ids: (n, t), int64, t at most context_length; what follows the end of a text has no influence.

        Returns:
            Vectors of length 1, (n, e).

        Raises:
            ValueError: ids have another shape, are too long, or a row has no end.
        """
        longest = self.config.context_length
        if ids.ndim != 2 or not 1 <= ids.shape[1] <= longest:
            raise ValueError(f"ids have shape {tuple(ids.shape)}; give one row per caption, of 1 to {longest} ids.")
        x = self.token_embedding(ids) + self.positional_embedding[: ids.shape[1]]  # (n, t, d)
        x = self.ln_final(self.transformer(x))
        x = x[torch.arange(len(ids), device=ids.device), self.end_position(ids)]  # (n, d)
        return F.normalize(x @ self.text_projection, dim=-1)  # (n, e)

    def end_position(self, ids: Tensor) -> Tensor:
        """Where each row of ids (n, t) has its end of text, (n,): only there has the causal tower seen all of it."""
        if self.config.end_token is None:
            return ids.argmax(dim=-1)
        is_end = ids == self.config.end_token  # (n, t)
        if not is_end.any(dim=-1).all():
            raise ValueError(f"A row of ids has no end token {self.config.end_token}; close each caption with it.")
        return is_end.int().argmax(dim=-1)

    def forward(self, pixels: Tensor, ids: Tensor) -> Tensor:
        """Logits (pictures, captions): how well each picture goes with each caption, in units of the temperature."""
        return self.logit_scale.exp() * self.encode_image(pixels) @ self.encode_text(ids).T


def contrastive_loss(image: Tensor, text: Tensor, scale: Tensor | float) -> Tensor:
    """How badly n pictures and n captions find each other (figure 3): 0 when each is sure, ln n when none has a clue.

    Args:
        image: vectors of length 1, (n, e).
        text: the vectors of their captions, (n, e), in the same order.
        scale: what cosines are multiplied with to become logits, `logit_scale.exp()`. Training keeps it at 100 or
            below, as section 2.5 has it.

    Returns:
        The mean of both cross-entropies, captions given the picture and pictures given the caption, in nats.

    Raises:
        ValueError: there is not one caption to each picture.
    """
    if image.shape != text.shape:
        raise ValueError(f"image has shape {tuple(image.shape)}, text {tuple(text.shape)}; give pairs, (n, e) each.")
    logits = scale * image @ text.T  # (n, n)
    pairs = torch.arange(len(logits), device=logits.device)
    return (F.cross_entropy(logits, pairs) + F.cross_entropy(logits.T, pairs)) / 2
