"""CLIP: two transformers that map pictures and captions into one space, in which matching pairs are close.

Radford et al. 2021, "Learning Transferable Visual Models From Natural Language Supervision" (sections and figures below
are this paper's). A vision transformer (Dosovitskiy et al. 2021, equations 1 to 4) and a causal text transformer, the
two towers, each return a unit vector. They are trained so that among the pairs of a batch each picture is closest to
its caption and each caption to its picture (section 2.3, figure 3). The parameters' names are those of
open_clip, so its weights load strictly.

In shapes, n is the batch size, t the number of tokens, d a tower's width, and e the width of the common space.
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
        embed_dim: e, the width of the common space.
        image_size: height and width of the pictures, in pixels.
        patch_size: height and width of the patches, the vision tower's tokens, in pixels.
        vision_width: d of the vision tower.
        vision_layers: layers of the vision tower.
        vision_heads: attention heads of the vision tower.
        vocabulary: rows of the text embedding.
        context_length: the largest number of text tokens.
        text_width: d of the text tower.
        text_layers: layers of the text tower.
        text_heads: attention heads of the text tower.
        mlp_ratio: width inside the feed-forward layers, divided by the tower's width.
        quick_gelu: x · sigmoid(1.702 x) instead of GELU, as for OpenAI's weights.
        end_token: id of the end of a text, at which the text tower's output is read. None: the largest id of each row,
            as in OpenAI's vocabulary.
        pixel_mean: mean of red, green and blue; subtracted from the pixels, whose values are from 0 to 1.
        pixel_std: standard deviation of red, green and blue; the difference is divided by it.

    Raises:
        ValueError: if a tower's width is not a multiple of its heads.
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
    """Multi-head self-attention (Vaswani et al. 2017, section 3.2), with all three projections in one matrix.

    Args:
        width: d, of the input and the output.
        heads: how many heads; each has d / heads dimensions.
        causal: whether each token attends only to itself and the tokens before.
    """

    def __init__(self, width: int, heads: int, causal: bool) -> None:
        super().__init__()
        self.heads = heads
        self.causal = causal
        self.in_proj_weight = nn.Parameter(torch.randn(3 * width, width) * width**-0.5)
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """(n, t, d) → (n, t, d)."""
        x = F.linear(x, self.in_proj_weight, self.in_proj_bias)  # (n, t, 3 · d)
        q, k, v = x.unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)  # (n, heads, t, d / heads) each
        attended = F.scaled_dot_product_attention(q, k, v, is_causal=self.causal)  # (n, heads, t, d / heads)
        return self.out_proj(attended.transpose(1, 2).flatten(2))  # (n, t, d)


class MLP(nn.Module):
    """The feed-forward layer: a linear layer to `ratio` times the width, GELU, and a linear layer back."""

    def __init__(self, width: int, ratio: float, quick_gelu: bool) -> None:
        super().__init__()
        self.quick_gelu = quick_gelu
        self.c_fc = nn.Linear(width, int(width * ratio))
        self.c_proj = nn.Linear(int(width * ratio), width)

    def forward(self, x: Tensor) -> Tensor:
        """(n, t, d) → (n, t, d)."""
        x = self.c_fc(x)  # (n, t, ratio · d)
        return self.c_proj(x * torch.sigmoid(1.702 * x) if self.quick_gelu else F.gelu(x))


class ResidualBlock(nn.Module):
    """One layer of a tower: attention, then MLP, each applied after a LayerNorm and added to its input."""

    def __init__(self, width: int, heads: int, causal: bool, ratio: float, quick_gelu: bool) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(width)
        self.attn = SelfAttention(width, heads, causal)
        self.ln_2 = nn.LayerNorm(width)
        self.mlp = MLP(width, ratio, quick_gelu)

    def forward(self, x: Tensor) -> Tensor:
        """(n, t, d) → (n, t, d)."""
        x = x + self.attn(self.ln_1(x))
        return x + self.mlp(self.ln_2(x))


class Transformer(nn.Module):
    """The layers of a tower.

    Each layer adds to the residual stream. So the more layers there are, the smaller are the initial weights of the two
    output projections of a layer.
    """

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
        """(n, t, d) → (n, t, d)."""
        return self.resblocks(x)


class VisionTransformer(nn.Module):
    """The vision tower. Its tokens are the picture's patches and a class token, whose output represents the picture."""

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
        """Normalised pictures (n, 3, image_size, image_size) → vectors (n, e)."""
        x = self.conv1(x).flatten(2).transpose(1, 2)  # (n, patches, d)
        x = torch.cat([self.class_embedding.to(x.dtype).expand(len(x), 1, -1), x], dim=1)  # (n, 1 + patches, d)
        x = self.transformer(self.ln_pre(x + self.positional_embedding))
        return self.ln_post(x[:, 0]) @ self.proj  # (n, e)


class CLIP(nn.Module):
    """Both towers, and a learned temperature that scales their cosine similarities to logits."""

    def __init__(self, config: CLIPConfig) -> None:
        super().__init__()
        self.config = config
        self.visual = VisionTransformer(config)
        self.token_embedding = nn.Embedding(config.vocabulary, config.text_width)
        self.positional_embedding = nn.Parameter(torch.randn(config.context_length, config.text_width) * 0.01)
        self.transformer = Transformer(config.text_width, config.text_layers, config.text_heads, True, config)
        self.ln_final = nn.LayerNorm(config.text_width)
        self.text_projection = nn.Parameter(torch.randn(config.text_width, config.embed_dim) * config.text_width**-0.5)
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))  # log of 1 / temperature, section 2.5
        nn.init.normal_(self.token_embedding.weight, std=0.02)

    def encode_image(self, pixels: Tensor) -> Tensor:
        """Maps pictures into the common space.

        Args:
            pixels: (n, 3, image_size, image_size), from 0 to 1, not normalised.

        Returns:
            Unit vectors (n, e).

        Raises:
            ValueError: if the pictures have another shape.
        """
        size = self.config.image_size
        if pixels.ndim != 4 or pixels.shape[1:] != (3, size, size):
            raise ValueError(f"pixels have shape {tuple(pixels.shape)}; this model takes (n, 3, {size}, {size}).")
        mean, std = pixels.new_tensor((self.config.pixel_mean, self.config.pixel_std)).view(2, 3, 1, 1)
        return F.normalize(self.visual((pixels - mean) / std), dim=-1)

    def encode_text(self, ids: Tensor) -> Tensor:
        """Maps captions into the common space.

        Args:
            ids: token ids (n, t), int64, t at most context_length. Ids after the end of a text have no influence.

        Returns:
            Unit vectors (n, e).

        Raises:
            ValueError: if ids have another shape, are too long, or a row has no end token.
        """
        longest = self.config.context_length
        if ids.ndim != 2 or not 1 <= ids.shape[1] <= longest:
            raise ValueError(f"ids have shape {tuple(ids.shape)}; give one row per caption, of 1 to {longest} ids.")
        x = self.token_embedding(ids) + self.positional_embedding[: ids.shape[1]]  # (n, t, d)
        x = self.ln_final(self.transformer(x))
        x = x[torch.arange(len(ids), device=ids.device), self.end_position(ids)]  # (n, d)
        return F.normalize(x @ self.text_projection, dim=-1)  # (n, e)

    def end_position(self, ids: Tensor) -> Tensor:
        """Finds the end of each text; the output at this position represents the whole text.

        Args:
            ids: token ids (n, t).

        Returns:
            The position (n,) of the first end token in each row. If the config has no end token, that of the highest
            id, which is the end token of OpenAI's models.

        Raises:
            ValueError: if the config has an end token, and a row does not.
        """
        if self.config.end_token is None:
            return ids.argmax(dim=-1)
        is_end = ids == self.config.end_token  # (n, t)
        if not is_end.any(dim=-1).all():
            raise ValueError(f"A row of ids has no end token {self.config.end_token}; close each caption with it.")
        return is_end.int().argmax(dim=-1)

    def forward(self, pixels: Tensor, ids: Tensor) -> Tensor:
        """Cosine similarities divided by the temperature.

        Args:
            pixels: as for `encode_image`.
            ids: as for `encode_text`; their number may differ from that of the pictures.

        Returns:
            Logits (pictures, captions).
        """
        return self.logit_scale.exp() * self.encode_image(pixels) @ self.encode_text(ids).T


def contrastive_loss(image: Tensor, text: Tensor, scale: Tensor | float) -> Tensor:
    """The symmetric cross-entropy of n pairs (figure 3): 0 for certain and correct matches, ln n for uniform ones.

    Args:
        image: the pictures' unit vectors, (n, e).
        text: the unit vectors of their captions, (n, e), in the same order.
        scale: the factor from cosine similarities to logits, `logit_scale.exp()`. Training keeps it at 100 or below
            (section 2.5).

    Returns:
        The mean of two cross-entropies in nats, of the captions given the pictures and vice versa, a scalar.

    Raises:
        ValueError: if the shapes of image and text differ.
    """
    if image.shape != text.shape:
        raise ValueError(f"image has shape {tuple(image.shape)}, text {tuple(text.shape)}; give pairs, (n, e) each.")
    logits = scale * image @ text.T  # (n, n)
    pairs = torch.arange(len(logits), device=logits.device)
    return (F.cross_entropy(logits, pairs) + F.cross_entropy(logits.T, pairs)) / 2
