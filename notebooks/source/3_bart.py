# ---
# jupyter:
#   jupytext:
#     cell_metadata_filter: tags,-all
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 3 · BART, the translator
#
# A translator reads a sentence and writes sixty-four numbers, the codes of a picture. In this lesson you build it.
# First you train a small one to restore damaged sentences, and then you watch the course's own translator write codes.

# %%
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from textwrap import fill
from typing import NamedTuple, Protocol, Self, cast

import numpy as np
import torch
import torch.nn.functional as F
import transformers
from atelier import Pipeline
from atelier.drawing.attention import attention_to_words
from atelier.teaching import (
    BLUE,
    ORANGE,
    VERMILION,
    check,
    curves,
    explore,
    figure,
    lesson_header,
    picture_grid,
    show,
    slider,
    verdict,
)
from atelier.teaching.figures import code_colours, draw_tiles, hide_axes, posterize
from atelier.weights.preset import load_preset
from atelier.weights.tokenizer import END, PAD, START, UNKNOWN
from atelier.world import Scene, caption, paint, small_world
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, Polygon, Rectangle
from torch import Tensor, nn
from tqdm.auto import tqdm

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")

# %% [markdown]
# ## 1 · Where we are

# %%
lesson_header("3")

# %% [markdown]
# Part 2 ended with the VQ-GAN. Its encoder turns a picture into a grid of cells and gives each cell a code, the number
# of a row in a codebook; the codebook is a learned table of vectors. Its decoder looks the rows up and draws the
# picture again. You can think of such a grid as a sentence in a language of 1,024 words.
#
# Random codes do not give a picture of anything. To draw from a prompt, the sentence that describes the picture, you
# need a network that translates from one language to another. DALL·E Mini took one from text processing: **BART**,
# published by Lewis and others in 2020. It reads your prompt and writes codes.
#
# The pictures below are drawn with the course's own translator, from the preset called *laptop*. Each has 8 × 8 codes.
# The training data contained strawberries, and blue things, but no blue strawberry.

# %%
preset = load_preset("laptop")
pipe = Pipeline.from_pretrained("laptop", device=DEVICE)
translator = preset.load_bart().to(DEVICE).eval()
world = small_world()
PROMPT = "a photo of a blue strawberry on the moon"
OTHERS = [
    "a stained glass window with an image of a blue strawberry",
    "a watercolour of a purple house in a forest",
    "a cartoon of a red car in the snow at night",
]
drawings = pipe.draw([PROMPT, *OTHERS], n=4, seed=3)
drawing = drawings[0]
made, axes = figure(8.6, 2.65, 1, 4)
for axis, each in zip(axes, drawings, strict=True):
    hide_axes(axis)
    # `posterize` leaves 32 shades of each colour: hardly visible, and it keeps the notebook's file small.
    axis.imshow(posterize(each.pictures[0]).permute(1, 2, 0))
    axis.set_title(fill(each.prompt, 30), loc="center", fontsize=8, fontweight="normal")
show(
    made,
    "Four pictures with their prompts: a blue strawberry on the moon, a blue strawberry in stained glass, a purple "
    "house in a forest in watercolour, a cartoon of a red car in the snow at night.",
)

# %% [markdown]
# ## 2 · The idea
#
# The translator has two halves. The encoder reads the whole prompt at once and computes a vector, a list of numbers,
# for each of its tokens. (The VQ-GAN has an encoder and a decoder as well; these are two other networks.) The decoder
# writes the codes, row by row from the upper left corner. For each code it uses two inputs: the codes that it has
# written so far, and the encoder's vectors. So instead of choosing one of $1024^{64}$ pictures at once, it makes
# sixty-four easier choices:
#
# $$p(k_1, \dots, k_s \mid \text{text}) = \prod_{i=1}^{s} p(k_i \mid k_1, \dots, k_{i-1}, \text{text}).$$
#
# A model that writes in this way, each token depending on the ones before it, is **autoregressive**.
#
# The decoder reads these inputs by **attention**. From each vector that reads, a linear layer computes a **query**.
# From each vector that is read, two others compute a **key** and a **value**. Attention compares the query with all
# keys and returns a mean of the values, weighted by how well each key matches the query. A network built from such
# layers is a **transformer**.
#
# $$\text{attention}(q, K, V) = \text{softmax}\!\left(\frac{q K^\top}{\sqrt{c}}\right) V.$$
#
# | symbol | meaning | shape |
# |---|---|---|
# | $s$, $t$ | tokens of the target (codes), tokens of the text | numbers: 64, and about 12 |
# | $d$ | length of the vectors between the layers | a number: 192 here, 1024 in DALL·E Mini |
# | $h$, $c = d / h$ | heads, and the width of each | numbers: 6 and 32 here, 16 and 64 |
# | $q$ | the queries, one for each vector that reads | (s, c) |
# | $K$, $V$ | the keys and the values of the vectors that are read | (t, c) each |
# | $q K^\top / \sqrt{c}$ | how well each key matches each query | (s, t) |
# | **softmax** | turns each row into positive weights that sum to 1 | (s, t) |
# | $k_i$ | code number $i$ of the picture | a whole number from 0 to 1023 |
#
# The next cell draws the slide's figure, “What BART does”, with the real numbers of the first picture above. Each code
# is drawn in the colour that the VQ-GAN decodes from a grid that contains only this code.

# %%
inks = code_colours(pipe.decode, torch.arange(pipe.vqgan.config.codes))  # (1024, 3)


@torch.no_grad()
def draw_idea(picture: Tensor, codes: Tensor) -> Figure:
    """The steps from prompt to picture: pieces, ids, the encoder's state, codes (8, 8), the picture."""
    pieces = pipe.tokenizer.pieces(PROMPT)
    ids = pipe.tokenizer.encode([PROMPT], len(pieces) + 2)
    state = translator.encode(ids.to(DEVICE))[0, :, :64].cpu()  # (t, 64): the first third of each vector
    made, axis = figure(9.6, 3.1)
    hide_axes(axis)
    words = ["<s>", *pieces, "</s>"]
    for row, (word, number) in enumerate(zip(words, ids[0].tolist(), strict=True)):
        y = 4 - (row + 0.5) * 4 / len(words)
        axis.text(0.95, y, word.strip(), ha="right", va="center", fontsize=8.5)
        axis.text(1.55, y, str(number), ha="right", va="center", fontsize=8, color=BLUE)
    axis.imshow(state, extent=(3.6, 6.6, 0, 4), cmap="coolwarm", vmin=-2.5, vmax=2.5, aspect="auto")
    draw_tiles(axis, codes, inks, 8.65, 0, 0.5, 5.6)
    axis.imshow(posterize(picture).permute(1, 2, 0), extent=(14.65, 18.65, 0, 4))
    parts = [(1.95, 2.0, 1.5, "encoder"), (7.0, 1.5, 2.0, "decoder"), (13.0, 2.0, 2.0, "VQ-GAN’s\ndecoder")]
    for x, left, right, name in parts:
        corners = [(x, 2 - left), (x, 2 + left), (x + 1.25, 2 + right), (x + 1.25, 2 - right)]
        axis.add_patch(Polygon(corners, facecolor="#E8F1F8", edgecolor=BLUE))
        axis.text(x + 0.63, 2, name, ha="center", va="center", fontsize=8)
    for x, name in {0.8: "tokens", 5.1: "one vector for each", 10.65: "codes", 16.65: "picture"}.items():
        axis.text(x, 4.2, name, ha="center", fontsize=9.5)
    back = FancyArrowPatch((10.6, -0.15), (7.6, 0.2), arrowstyle="-|>", mutation_scale=11, color=VERMILION)
    back.set_connectionstyle("arc3", rad=-0.35)
    axis.add_patch(back)
    axis.text(8.7, -0.88, "the decoder reads its own codes", ha="center", color=VERMILION, fontsize=8.5, va="center")
    axis.set(xlim=(-0.6, 18.8), ylim=(-1.1, 4.75))
    return made


show(
    draw_idea(drawing.pictures[0], drawing.codes[0]),
    "Eleven tokens of a prompt with their numbers pass an encoder and become eleven rows of coloured numbers. A "
    "decoder turns these into a grid of 8 by 8 code numbers, each in its colour, and a red arrow leads from the codes "
    "back into the decoder. The VQ-GAN's decoder draws a blue strawberry on the moon from them.",
)

# %% [markdown]
# ## 3 · Build it
#
# You build the translator in eight steps. The code is the same as the library's.
#
# ### Step 1: attention with three words
#
# Take three words. Each key has two numbers: how much the word is a colour, and how much it is a thing. The query is
# that of a cell in the strawberry, and it asks mostly for a colour.

# %% tags=["checked"]
words = ["blue", "strawberry", "moon"]
keys = torch.tensor([[3.0, 0.0], [0.0, 3.0], [0.0, 2.0]])  # (t, c): colour, thing
values = torch.tensor([[0.1, 0.2, 0.9], [0.8, 0.1, 0.2], [0.6, 0.6, 0.6]])  # (t, 3): the content of each
query = torch.tensor([[2.0, 0.5]])  # (s, c): mostly a question for a colour
weights = (query @ keys.T / 2**0.5).softmax(-1)  # (s, t)
found = weights @ values  # (s, 3)
for word, weight in zip(words, weights[0].tolist(), strict=True):
    print(f"{word:<10} {weight:.2f}")
print("weighted mean of the values:", [round(number, 2) for number in found[0].tolist()])
assert torch.allclose(weights.sum(-1), torch.ones(1))
assert torch.allclose(F.scaled_dot_product_attention(query, keys, values), found)

# %% [markdown]
# In a real network, keys and queries are linear functions of the vectors, and their weights are learned. A sum of $c$
# products of independent numbers of variance 1 has the variance $c$. Dividing by $\sqrt{c}$ keeps the variance at 1 for
# any width.
#
# ### Step 2: the config
#
# One class implements two published models, BART and DALL·E Mini's translator; the config selects one of them. The
# sizes come first. The fields from `normformer` on are mostly DALL·E Mini's changes, and each of them appears in the
# code below.


# %%
@dataclass(frozen=True)
class BartConfig:
    """Sizes and architecture of a `Bart`. The architecture's default is DALL·E Mini's."""

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
        """Rows of the target embedding and the output layer; unless shared, one for each code and the start token."""
        return self.text_vocabulary if self.shared_embedding else self.target_vocabulary + 1

    @property
    def decoder_start(self) -> int:
        """The token that is the decoder's input before the first code."""
        return self.target_rows - 1 if self.start_token is None else self.start_token

    @classmethod
    def dalle_mini(cls) -> Self:
        """DALL·E Mini's translator, 437.8 million parameters."""
        return cls(50264, 16384, 64, 256, width=1024, heads=16, inner_width=2730, encoder_layers=12, decoder_layers=12)

    @classmethod
    def dalle_mega(cls) -> Self:
        """DALL·E Mega's translator, 2587.5 million parameters."""
        sizes = cls(50272, 16415, 64, 256, width=2048, heads=32, inner_width=4096, encoder_layers=24, decoder_layers=24)
        return replace(sizes, start_token=16384)

    @classmethod
    def bart_base(cls) -> Self:
        """The original bart-base, from text to text, 139.4 million parameters."""
        sizes = cls(50265, 50265, 1024, 1024, width=768, heads=12, inner_width=3072, encoder_layers=6, decoder_layers=6)
        plain = replace(sizes, normformer=False, glu=False, bias=True, start_token=2, position_offset=2, dropout=0.1)
        return replace(plain, shared_embedding=True, final_logits_bias=True)


# %% tags=["checked"]
tiny = BartConfig(40, 50, 12, 16, width=24, heads=3, inner_width=32, encoder_layers=1, decoder_layers=2)
print("heads:", tiny.heads, "of width", tiny.width // tiny.heads)
print("rows of the code embedding:", tiny.target_rows, "— the last one is the start token,", tiny.decoder_start)

# %% [markdown]
# ### Step 3: heads
#
# A single softmax often puts most of its weight on one token. But a cell of the picture depends on several words at
# once: the thing, the colour, the style. So queries, keys and values of width $d$ are split into $h$ pieces, and
# attention is computed for each piece separately. Such a piece is a **head**. At the end the heads' results are
# concatenated and passed through one more linear layer.
#
# `project` computes keys and values, and `forward` computes queries and attention. They are two methods because keys
# and values often come from another sequence than the queries. PyTorch's `scaled_dot_product_attention` is the formula
# of step 1, computed without storing the whole (s, t) table.


# %%
class KeysValues(NamedTuple):
    """The keys and values of an attention layer, split into heads."""

    keys: Tensor  # (n, h, t, c)
    values: Tensor  # (n, h, t, c)


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
        """Split vectors (n, t, d) into heads (n, h, t, c)."""
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def project(self, state: Tensor) -> KeysValues:
        """The keys and values of a state (n, t, d)."""
        return KeysValues(self.split(self.k_proj(state)), self.split(self.v_proj(state)))

    def forward(self, x: Tensor, seen: KeysValues, mask: Tensor | None = None, causal: bool = False) -> Tensor:
        """Compute the attention of x (n, s, d) to `seen`, (n, s, d)."""
        q = self.split(self.q_proj(x))  # (n, h, s, c)
        found = F.scaled_dot_product_attention(q, seen.keys, seen.values, attn_mask=mask, is_causal=causal)
        return self.out_proj(found.transpose(1, 2).flatten(2))  # (n, s, d)


# %% tags=["checked"]
torch.manual_seed(0)
attention = Attention(tiny)
x, text = torch.randn(2, 4, 24), torch.randn(2, 7, 24)  # two sequences each: 4 vectors for queries, 7 for keys
seen = attention.project(text)
print("keys", tuple(seen.keys.shape), "values", tuple(seen.values.shape))
print("four queries, seven keys:", tuple(attention(x, seen).shape))
turned = torch.tensor([3, 1, 2, 0, 4, 6, 5])
assert torch.allclose(attention(x, attention.project(text[:, turned])), attention(x, seen), atol=1e-6)

# %% [markdown]
# Look at the last line of code. If you shuffle the vectors that are read, the result is the same: attention reads a
# *set*. For the order to matter, each vector must contain its position. That is why positions are added in step 7.
#
# An **attention mask** is a table that says which query may see which key; a masked key gets the weight 0. There are
# two masks here. The captions in a batch have different lengths, so the shorter ones are filled up with **padding**,
# and the first mask hides the padding. In training the decoder gets all codes of a picture at once. A **causal mask**
# hides the later codes from each code; otherwise the decoder would learn to copy the next code instead of predicting
# it.

# %%
asks, offers = torch.randn(2, 6, 8, generator=torch.Generator().manual_seed(4)) * 1.2  # (6, 8) each
scores = asks @ offers.T / 8**0.5  # (6, 6)
everything, pad, causal = torch.ones(6, 6).bool(), (torch.arange(6) < 4).expand(6, 6), torch.ones(6, 6).tril().bool()
made, axes = figure(8.4, 3.3, 1, 3)
for axis, mask, name in zip(axes, (everything, pad, causal), ("no mask", "padding", "causal"), strict=True):
    shares = scores.masked_fill(~mask, -torch.inf).softmax(-1)
    axis.imshow(shares, cmap="Blues", vmin=0, vmax=0.8)
    for row, column in (~mask).nonzero().tolist():
        axis.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, facecolor="#E5E7EB", edgecolor="white", hatch="//"))
    axis.set(xticks=range(6), yticks=range(6), xlabel="key", ylabel="query")
    axis.set_title(name)
    axis.grid(False)
show(
    made,
    "Three tables of 6 queries by 6 keys in shades of blue. Without a mask every cell has a weight. With padding the "
    "last two columns are hatched out. With the causal mask everything above the diagonal is hatched out. Each row's "
    "weights sum to one.",
)

# %% [markdown]
# ### Step 4: the feed-forward layer
#
# Attention moves information between positions. The **feed-forward layer** then processes each position separately,
# with two linear layers and a nonlinearity between them. BART's is $W_2\, \text{GELU}(W_1 x)$, where GELU is a smooth
# version of $\max(0, x)$. DALL·E Mini's is gated (Shazeer, 2020): $W_2\,(\text{GELU}(W_0 x) \cdot W_1 x)$, so the first
# factor scales each number of the second. It has three matrices instead of two. To keep the number of parameters the
# same, the inner width is two thirds as large: 2730 instead of 4096.
#
# A **layer normalisation** brings a vector's numbers to mean 0 and variance 1, and then applies a learned scale and
# shift to each of them. It makes deep networks easier to train. If a linear layer comes next, its weights can include
# the scale, so DALL·E Mini leaves the scale out. This is `ShiftNorm`.


# %%
class ShiftNorm(nn.Module):
    """A LayerNorm with a learned shift but no scale, since a linear layer follows that can contain the scale."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise the last dimension of x to mean 0 and variance 1, then add the shift: (…, d) → (…, d)."""
        return F.layer_norm(x, self.bias.shape, bias=self.bias.to(x.dtype))  # x may have a lower precision


class FeedForward(nn.Module):
    """The feed-forward layer, applied to each position: fc2(GELU(fc1 x)), or gated, fc2(GELU(fc0 x) · fc1 x)."""

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
        """Map x (n, t, d) to (n, t, d)."""
        x = self.ln0(x)
        x = F.gelu(self.fc0(x)) * self.fc1(x) if self.gated else F.gelu(self.fc1(x))  # (n, t, inner_width)
        return self.fc2(self.ln1(x))


# %% tags=["checked"]
gated = FeedForward(tiny)
plain_one = FeedForward(replace(tiny, glu=False, normformer=False, bias=True, inner_width=48))
count = {name: sum(p.numel() for p in layer.parameters()) for name, layer in {"g": gated, "p": plain_one}.items()}
print(f"gated, inner width 32: {count['g']} parameters; plain, inner width 48: {count['p']}")
assert torch.allclose(gated(x)[:, 2:3], gated(x[:, 2:3]), atol=1e-6)  # each position by itself
wild = ShiftNorm(24)(5 + 7 * x)
assert wild.mean(-1).abs().max() < 1e-5
assert (wild.var(-1, correction=0) - 1).abs().max() < 1e-4

# %% [markdown]
# ### Step 5: the encoder's layer
#
# A layer is attention followed by a feed-forward layer. Each of the two *adds* its result to its input instead of
# replacing it. The sum that runs through the whole network is called the **residual stream**. Gradients flow back along
# it without passing through the layers.
#
# Where does the normalisation go? BART normalises the sum, `norm(residual + x)`, so the residual stream is rescaled in
# every layer. NormFormer (Shleifer and others, 2021) does not normalise the stream. It normalises the input and the
# output of attention, `residual + norm(x)`, and the input and the hidden vector of the feed-forward layer. The method
# `join` implements both.
#
# If queries, keys and values come from the same sequence, attention is called **self-attention**. The encoder has no
# causal mask: the first word may attend to the last.


# %%
class Layer(nn.Module):
    """The common part of encoder and decoder layers: self-attention, the feed-forward layer, and the residual sum."""

    def __init__(self, config: BartConfig) -> None:
        super().__init__()
        self.normformer = config.normformer
        self.dropout = nn.Dropout(config.dropout)
        self.pre_self_attn_layer_norm = ShiftNorm(config.width) if config.normformer else nn.Identity()
        self.self_attn = Attention(config)
        self.self_attn_layer_norm = nn.LayerNorm(config.width)
        self.ffn = FeedForward(config)
        self.final_layer_norm = nn.Identity() if config.normformer else nn.LayerNorm(config.width)

    def join(self, residual: Tensor, x: Tensor, norm: nn.Module) -> Tensor:
        """Add a sublayer's output x to the residual, both (n, t, d). NormFormer normalises x, BART the sum."""
        x = self.dropout(x)
        return residual + norm(x) if self.normformer else norm(residual + x)


class EncoderLayer(Layer):
    """Self-attention over the whole text, then the feed-forward layer."""

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Map x (n, t, d) to (n, t, d); mask (n, 1, 1, t) is False at padding."""
        h = self.pre_self_attn_layer_norm(x)
        x = self.join(x, self.self_attn(h, self.self_attn.project(h), mask), self.self_attn_layer_norm)
        return self.join(x, self.ffn(x), self.final_layer_norm)


# %% tags=["checked"]
layer = EncoderLayer(tiny).eval()
mask = torch.tensor([[True] * 7, [True] * 5 + [False] * 2])[:, None, None, :]  # the second text has five tokens
changed = text.clone()
changed[1, 5:] = 99.0  # other vectors at the padding
print("in", tuple(text.shape), "out", tuple(layer(text, mask).shape))
assert torch.allclose(layer(text, mask)[1, :5], layer(changed, mask)[1, :5], atol=1e-6)  # the mask hides the padding

# %% [markdown]
# ### Step 6: the decoder's layer and its cache
#
# The decoder's layer has one more part. After causal self-attention to the earlier codes it attends to the text:
# queries come from the codes, keys and values from the encoder. This is **cross-attention**, and it is the only part of
# the decoder that uses the caption.
#
# The decoder writes one code at a time. The keys and values of earlier codes stay the same in every later step, because
# the causal mask hides later codes from them. So they are stored instead of being computed again. This memory of keys
# and values is called a **cache**. The block does not fix how a cache is stored. It only defines two protocols:
# `extend` adds the keys and values of new tokens and returns all of them, and `place` returns the positions of the new
# tokens and the mask of what each may see.


# %%
class LayerCache(Protocol):
    """The keys and values that one decoder layer has computed for earlier tokens."""

    def extend(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Add keys and values (n, h, s, c) of new tokens and return those of all tokens, (n, h, all, c) each."""
        ...


class DecoderCache(Protocol):
    """Keys and values of earlier tokens, so that `Bart.decode` does not compute them again."""

    @property
    def layers(self) -> Sequence[LayerCache]:
        """One cache per decoder layer."""
        ...

    def place(self, count: int) -> tuple[Tensor, Tensor | None]:
        """Positions (count,) of the next tokens, and which keys each may attend to, (count, all), or None for all."""
        ...


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
        """Map x (n, s, d) to (n, s, d); text (p, h, t, c) and text_mask (p, 1, 1, t) of p prompts; p divides n."""
        h = self.pre_self_attn_layer_norm(x)
        seen = self.self_attn.project(h)
        if cache is not None:
            seen = KeysValues(*cache.extend(*seen))
        h = self.self_attn(h, seen, target_mask, causal=cache is None)
        x = self.join(x, h, self.self_attn_layer_norm)

        # All pictures of a prompt attend to the same text. With their queries in one row, the keys need not be copied.
        h = self.pre_encoder_attn_layer_norm(x).reshape(len(text_mask), -1, x.shape[-1])  # (p, n / p · s, d)
        h = self.encoder_attn(h, text, text_mask).view_as(x)  # (n, s, d)
        x = self.join(x, h, self.encoder_attn_layer_norm)
        return self.join(x, self.ffn(x), self.final_layer_norm)


# %% tags=["checked"]
layer = DecoderLayer(tiny).eval()
codes_in = torch.randn(4, 5, 24)  # two pictures for each of two prompts, five codes each
both = layer.encoder_attn.project(text)
before = layer(codes_in, both, mask, None, None)
later = codes_in.clone()
later[:, 3:] += 1.0  # another fourth and fifth code
after = layer(later, both, mask, None, None)
print("in", tuple(codes_in.shape), "out", tuple(before.shape))
moved = (before - after).abs().amax((0, 2)) > 1e-5  # (5,)
print("positions that changed:", moved.nonzero().flatten().tolist())
assert moved.tolist() == [False, False, False, True, True]

# %% [markdown]
# Positions 0 to 2 did not change, because the causal mask hides the later codes from them.
#
# ### Step 7: positions, and the whole network
#
# `Stack` contains what both halves need around their layers: a learned vector for each position, which is added to the
# token's embedding, and a normalisation at both ends. `Bart` joins the two halves.
#
# `decode` turns the decoder's last vectors, `hidden_states`, into logits: scores that softmax turns into one
# probability for each code. Training calls `forward`. It gives the decoder the *right* codes, shifted by one position,
# so that the decoder predicts the next code at all positions at once. This is **teacher forcing**: after a wrong
# prediction the decoder still gets the right code as its next input.


# %%
def check_tokens(name: str, tokens: Tensor, longest: int) -> None:
    """Raise a ValueError unless tokens are (n, length) with a length from 1 to `longest`."""
    if tokens.ndim != 2:
        raise ValueError(f"{name} has shape {tuple(tokens.shape)}; give one row of ids per sequence, (n, length).")
    if not 1 <= tokens.shape[1] <= longest:
        raise ValueError(f"{name} has {tokens.shape[1]} tokens a row; this model takes 1 to {longest}.")


class Stack(nn.Module):
    """The common part of encoder and decoder: position embeddings, layers, and the norms before and after them."""

    def __init__(self, config: BartConfig, length: int, layers: Sequence[Layer]) -> None:
        super().__init__()
        self.position_offset = config.position_offset
        self.embed_positions = nn.Embedding(length + config.position_offset, config.width)
        self.layernorm_embedding = nn.LayerNorm(config.width)
        self.dropout = nn.Dropout(config.dropout)
        self.layers = nn.ModuleList(layers)
        self.final_ln = ShiftNorm(config.width) if config.normformer else nn.Identity()

    def start(self, x: Tensor, positions: Tensor) -> Tensor:
        """Add the embeddings of positions (t,), counted from 0, to embedded tokens x (n, t, d)."""
        x = x + self.embed_positions(positions + self.position_offset)
        return self.dropout(self.layernorm_embedding(x))


# %%
class Bart(nn.Module):
    """An encoder-decoder transformer that turns text ids into logits over target tokens."""

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
        """Run the encoder: text ids (n, t) to its state (n, t, d)."""
        check_tokens("text", text, self.config.text_length)
        mask = self.text_mask(text) if mask is None else mask
        positions = torch.arange(text.shape[1], device=text.device)
        x = self.encoder.start(self.text_embedding(text), positions)  # (n, t, d)
        for layer in self.encoder.layers:
            x = layer(x, mask[:, None, None, :])
        return self.encoder.final_ln(x)

    def project(self, state: Tensor) -> list[KeysValues]:
        """Each decoder layer's keys and values of an encoder state (p, t, d): computed once and used in every step."""
        return [cast(DecoderLayer, layer).encoder_attn.project(state) for layer in self.decoder.layers]

    def decode(
        self,
        tokens: Tensor,
        state: Tensor | Sequence[KeysValues],
        mask: Tensor,
        cache: DecoderCache | None = None,
    ) -> Tensor:
        """Logits (n, s, target_rows) for the token after each target token. For the arguments see `hidden_states`."""
        return self.logits(self.hidden_states(tokens, state, mask, cache))

    def hidden_states(
        self,
        tokens: Tensor,
        state: Tensor | Sequence[KeysValues],
        mask: Tensor,
        cache: DecoderCache | None = None,
    ) -> Tensor:
        """Run the decoder: tokens (n, s), the start token first, to its last vectors (n, s, d)."""
        check_tokens("tokens", tokens, self.config.target_length)
        if len(tokens) % len(mask):
            raise ValueError(f"{len(tokens)} target rows do not divide among {len(mask)} prompts; give each as many.")
        text = self.project(state) if isinstance(state, Tensor) else state
        if cache is None:
            positions, target_mask = torch.arange(tokens.shape[1], device=tokens.device), None
        else:
            positions, target_mask = cache.place(tokens.shape[1])
        x = self.decoder.start(self._embed_target(tokens), positions)  # (n, s, d)
        for i, layer in enumerate(self.decoder.layers):
            x = layer(x, text[i], mask[:, None, None, :], target_mask, None if cache is None else cache.layers[i])
        return self.decoder.final_ln(x)

    def logits(self, hidden: Tensor) -> Tensor:
        """The decoder's hidden states (…, d) to logits (…, target_rows)."""
        shared = self.config.shared_embedding
        logits = F.linear(hidden, self.text_embedding.weight) if shared else self.lm_head(hidden)
        return logits if self.final_logits_bias is None else logits + self.final_logits_bias

    def shift(self, targets: Tensor) -> Tensor:
        """The decoder's input in training, for targets (n, s): the start token and all targets but the last."""
        return F.pad(targets[:, :-1], (1, 0), value=self.config.decoder_start)

    def forward(self, text: Tensor, targets: Tensor) -> Tensor:
        """Predict each target from text (n, t) and earlier targets (teacher forcing): logits (n, s, target_rows)."""
        mask = self.text_mask(text)
        return self.decode(self.shift(targets), self.encode(text, mask), mask)

    def _embed_target(self, tokens: Tensor) -> Tensor:
        return self.text_embedding(tokens) if self.config.shared_embedding else self.target_embedding(tokens)


# %% tags=["checked"]
torch.manual_seed(0)
bart = Bart(tiny).eval()
ids = torch.tensor([[0, 17, 25, 9, 2, 1, 1], [0, 30, 12, 8, 33, 21, 2]])  # <s> … </s>, the first with padding
targets = torch.randint(50, (2, 16))
print("the encoder's state:", tuple(bart.encode(ids).shape))
print("logits:", tuple(bart(ids, targets).shape), "— one row for each code, one number for each possible code")
print("the decoder's input:", bart.shift(targets)[0, :5].tolist(), "and its targets:", targets[0, :5].tolist())

# %% [markdown]
# The simplest cache appends new keys and values by concatenation. The next cell writes sixteen codes twice: once
# without a cache, reading everything again at each step, and once with it. The codes are the same, but with the cache
# the decoder processes far fewer tokens.


# %%
class GrowingLayer:
    """A layer's keys and values, to which each new token's are appended."""

    def __init__(self) -> None:
        self.kept: list[tuple[Tensor, Tensor]] = []

    def extend(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        self.kept.append((keys, values))
        return torch.cat([k for k, _ in self.kept], dim=2), torch.cat([v for _, v in self.kept], dim=2)


class GrowingCache:
    """A cache for one new token at a time, which may see all earlier tokens."""

    def __init__(self, layers: int, device: torch.device | None = None) -> None:
        self.layers, self.length, self.device = [GrowingLayer() for _ in range(layers)], 0, device

    def place(self, count: int) -> tuple[Tensor, Tensor | None]:
        assert count == 1
        self.length += 1
        return torch.tensor([self.length - 1], device=self.device), None


# %% tags=["checked"]
with torch.no_grad():
    mask, seen, cache = bart.text_mask(ids), bart.project(bart.encode(ids)), GrowingCache(tiny.decoder_layers)
    slow = quick = torch.full((2, 1), tiny.decoder_start)
    read = {"without": 0, "with a cache": 0}
    for _ in range(16):
        read["without"] += slow.shape[1]
        slow = torch.cat([slow, bart.decode(slow, seen, mask)[:, -1:, :50].argmax(-1)], dim=1)
        read["with a cache"] += 1
        quick = torch.cat([quick, bart.decode(quick[:, -1:], seen, mask, cache)[..., :50].argmax(-1)], dim=1)
print("tokens that went through the decoder:", read)
assert torch.equal(slow, quick)

# %% [markdown]
# For DALL·E Mini's 256 codes it is 32,896 tokens without a cache and 256 with it.
#
# ### The same numbers as the reference
#
# With the classic config this class is BART. To check this, you initialise the reference, Hugging Face's
# `BartForConditionalGeneration`, with random weights, load the same weights into your class, and compare the logits.
# Only the names have to be converted: their embedding table is called `shared`, and their feed-forward layers are not
# modules of their own.

# %% tags=["checked"]
classic_sizes = BartConfig(60, 60, 20, 20, width=32, heads=4, inner_width=48, encoder_layers=2, decoder_layers=3)
classic = replace(classic_sizes, normformer=False, glu=False, bias=True, start_token=2, position_offset=2)
classic = replace(classic, shared_embedding=True, final_logits_bias=True)
torch.manual_seed(0)
reference = transformers.BartForConditionalGeneration(
    transformers.BartConfig(
        vocab_size=60, max_position_embeddings=20, d_model=32, encoder_layers=2, decoder_layers=3,
        encoder_attention_heads=4, decoder_attention_heads=4, encoder_ffn_dim=48, decoder_ffn_dim=48,
    )
).eval()  # fmt: skip
for parameter in reference.parameters():
    nn.init.normal_(parameter, std=0.3)
theirs = {name.removeprefix("model."): tensor for name, tensor in reference.state_dict().items()}
table = theirs.pop("shared.weight")
for copy in ("encoder.embed_tokens.weight", "decoder.embed_tokens.weight", "lm_head.weight"):
    assert torch.equal(theirs.pop(copy), table)  # one table under four names
renamed = {name.replace(".fc1.", ".ffn.fc1.").replace(".fc2.", ".ffn.fc2."): theirs[name] for name in theirs}
ours = Bart(classic).eval()
ours.load_state_dict(renamed | {"text_embedding.weight": table})

words_in, words_out = torch.tensor([[0, 33, 21, 2, 1, 1], [0, 17, 44, 5, 9, 2]]), torch.randint(4, 60, (2, 9))
with torch.no_grad():
    wanted = reference(words_in, attention_mask=(words_in != 1).long(), labels=words_out).logits
    difference = (ours(words_in, words_out) - wanted).abs().max() / wanted.abs().max()
assert difference < 1e-5
print("logits", tuple(wanted.shape), "agree with the reference's to five digits")

# %% [markdown]
# The tests in `tests/parity` compare DALL·E Mini's config with *min-dalle*, the best-known port of DALL·E Mini.
#
# ### Step 8: what DALL·E Mini changed
#
# BART-large and DALL·E Mini have the same basic sizes. The table lists what differs:
#
# | | BART-large | DALL·E Mini | field of the config |
# |---|---|---|---|
# | basic sizes | 12 + 12 layers, 16 heads, $d = 1024$ | the same | `encoder_layers`, … |
# | output vocabulary | the 50,265 tokens that it also reads | 16,384 codes | `target_vocabulary` |
# | embedding tables | one shared by text, target and output | three separate ones | `shared_embedding` |
# | normalisation | on each sum | before and after attention, before and inside the feed-forward layer | `normformer` |
# | feed-forward | GELU, inner width 4096 | gated, inner width 2730 | `glu`, `inner_width` |
# | biases in linear layers and logits | yes | no | `bias`, `final_logits_bias` |
# | start token | `</s>` | an extra token after the last code | `start_token` |
# | positions | 1024, after two unused rows | 64 of text, 256 of codes | `text_length`, `position_offset`, … |
# | dropout | 0.1 | 0 | `dropout` |
#
# The next cell builds both on the meta device, where tensors have shapes but no data, and compares them.

# %% tags=["checked"]
large = replace(BartConfig.bart_base(), width=1024, heads=16, inner_width=4096, encoder_layers=12, decoder_layers=12)
mini = BartConfig.dalle_mini()
with torch.device("meta"):
    shapes = [{name: p.shape for name, p in Bart(config).named_parameters()} for config in (large, mini)]
sizes = [sum(shape.numel() for shape in each.values()) / 1e6 for each in shapes]
print(f"BART-large {sizes[0]:.1f} million parameters, DALL·E Mini {sizes[1]:.1f} million")
print("fields that differ:", ", ".join(name for name in asdict(mini) if asdict(mini)[name] != asdict(large)[name]))
fitting = sum(shapes[0].get(name) == shape for name, shape in shapes[1].items())
print(f"of DALL·E Mini's {len(shapes[1])} tensors, {fitting} have the same name and shape in BART-large")

# %% [markdown]
# So BART's weights do not fit DALL·E Mini: even the text embeddings have different numbers of rows. DALL·E Mini took
# over the architecture, not the weights.
#
# ## 4 · Train it
#
# BART was not made for pictures. It was first trained to restore damaged text and then trained further for other tasks.
# Training first on another task for which data are plentiful is called **pre-training**. BART's task is **denoising**:
# you damage a text on purpose, give the damaged text to the encoder, and train the decoder to write the original. Any
# text can be used, because the original is the target and needs no labels.
#
# The paper (section 2.2) tries several kinds of noise. Here are three of them, for lists of token ids:
#
# - First, **text infilling** replaces a span of consecutive tokens by a single mask token, which means “something may
#   be missing here”. The length of the span is drawn from a Poisson distribution with mean 3. It may be 0; then a mask
#   is inserted and no token is lost. So the network also has to find out how many tokens are missing.
# - Second, token deletion removes tokens without marking their positions.
# - Third, permutation changes the order. BART was trained on whole documents, 160 gigabytes of news, books and web
#   pages, and permutes the *sentences* of a document. Our captions have one sentence, so we shuffle its tokens.
#
# The course's tokenizer has a token `<unk>` for unknown text, which it never uses. It serves as the mask here.


# %%
def infill(tokens: list[int], dice: np.random.Generator) -> list[int]:
    """Replace one span of tokens, of random length and at a random position, by a single mask."""
    length = min(int(dice.poisson(3)), len(tokens) - 1)
    start = int(dice.integers(len(tokens) - length + 1))
    return [*tokens[:start], UNKNOWN, *tokens[start + length :]]


def delete(tokens: list[int], dice: np.random.Generator) -> list[int]:
    """Remove each token with probability 0.15, but at least one."""
    gone = dice.random(len(tokens)) < 0.15
    gone[dice.integers(len(tokens))] = True
    return [token for token, is_gone in zip(tokens, gone, strict=True) if not is_gone]


def permute(tokens: list[int], dice: np.random.Generator) -> list[int]:
    """Shuffle the tokens."""
    return [tokens[place] for place in dice.permutation(len(tokens))]


NOISES = {"text infilling": infill, "token deletion": delete, "permutation": permute}


# %% [markdown]
# The data are captions of the painted world. 600 of them are reserved for the test.


# %%
LENGTH = 32  # most tokens in a caption


def ids_of(captions: Sequence[str]) -> list[list[int]]:
    """Each caption's token ids, without start token, end token and padding."""
    rows = pipe.tokenizer.encode(captions, LENGTH).tolist()
    return [[token for token in row if token not in (START, END, PAD)] for row in rows]


def padded(rows: Sequence[list[int]]) -> Tensor:
    """Token ids of several texts as one padded tensor (n, t), with <s> and </s>."""
    made = torch.full((len(rows), max(map(len, rows)) + 2), PAD)
    for line, row in zip(made, rows, strict=True):
        line[: len(row) + 2] = torch.tensor([START, *row, END])
    return made.to(DEVICE)


def words_of(row: list[int]) -> str:
    """Token ids as text; the mask shows as ▁."""
    runs: list[list[int]] = [[]]
    for token in row:
        if token == UNKNOWN:
            runs.append([])
        else:
            runs[-1].append(token)
    return " ▁ ".join(pipe.tokenizer.decode(torch.tensor([run]))[0] if run else "" for run in runs).strip()


dice = np.random.default_rng(0)
captions = list(dict.fromkeys(caption(scene) for scene in world.sample(40_000, seed=1)))  # each once
everything = ids_of([captions[place] for place in dice.permutation(len(captions))])
kept, learned = everything[:600], everything[600:]
print(f"{len(learned)} captions for training, {len(kept)} for the test; an example:")
for name, noise in NOISES.items():
    print(f"  {name:<15} {words_of(noise(kept[7], dice))}")
print(f"  {'original':<15} {words_of(kept[7])}")

# %% [markdown]
# You train two networks on the same batches: the class of step 7 with the classic config, and with DALL·E Mini's
# changes. Apart from these changes, only the inner width differs: that of the gated layer is two thirds as large. The
# loss is the cross-entropy, the mean of $-\log p$ of the right token. With the natural logarithm its unit is the nat.

# %%
frame = BartConfig(
    text_vocabulary=len(pipe.tokenizer),
    target_vocabulary=len(pipe.tokenizer),
    text_length=LENGTH,
    target_length=LENGTH,
    width=96,
    heads=4,
    inner_width=256,
    encoder_layers=2,
    decoder_layers=2,
)
switches = {"normformer": False, "glu": False, "bias": True, "shared_embedding": True, "final_logits_bias": True}
configs = {
    "classic BART": replace(frame, inner_width=384, start_token=END, position_offset=2, **switches),
    "DALL·E Mini’s changes": frame,
}
STEPS, BATCH, RATE = 360, 48, 2e-3
menders, turns = {}, {}
for name, config in configs.items():
    torch.manual_seed(0)
    menders[name] = Bart(config).to(DEVICE)
    adam = torch.optim.AdamW(menders[name].parameters(), betas=(0.9, 0.98), weight_decay=0.01)
    turns[name] = adam, torch.optim.lr_scheduler.OneCycleLR(adam, RATE, total_steps=STEPS, pct_start=0.15)
    numbers = sum(parameter.numel() for parameter in menders[name].parameters())
    print(f"{name}: {numbers / 1e6:.2f} million parameters")

# %% tags=["ignored"]
dice = np.random.default_rng(1)
losses: dict[str, list[float]] = {name: [] for name in menders}
for _ in tqdm(range(STEPS), desc="denoising captions"):
    sound = [learned[place] for place in dice.integers(len(learned), size=BATCH)]
    broken = [list(NOISES.values())[dice.integers(3)](row, dice) for row in sound]
    text, wanted = padded(broken), padded(sound)[:, 1:]  # the decoder need not write <s>
    for name, bart in menders.items():
        adam, schedule = turns[name]
        loss = F.cross_entropy(bart(text, wanted).flatten(0, 1), wanted.flatten(), ignore_index=PAD)
        adam.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(bart.parameters(), 1.0)
        adam.step()
        schedule.step()
        losses[name].append(loss.item())

# %%
smooth = {name: np.convolve(line, np.ones(10) / 10, "valid").tolist() for name, line in losses.items()}
made = curves(smooth, xlabel="step", ylabel="nats per token", title="Two BARTs learn to restore captions", log=True)
show(
    made,
    "Two falling curves of the loss over 360 steps on a logarithmic axis. The one with DALL·E Mini's changes falls "
    "sooner and ends lower.",
)

# %% [markdown]
# The loss of the network with DALL·E Mini's changes falls sooner and stays lower. Do not read too much into this:
# several things differ, and the run is short.
#
# Now the classic network restores captions from the test set. Greedy decoding, which always takes the likeliest token,
# is enough here.


# %%
@torch.no_grad()
def mended(bart: Bart, broken: Sequence[list[int]]) -> list[list[int]]:
    """Captions that a network restores from damaged ones."""
    bart.eval()
    text = padded(broken)
    mask, seen = bart.text_mask(text), bart.project(bart.encode(text))
    cache = GrowingCache(len(bart.decoder.layers), DEVICE)
    written = torch.full((len(broken), 1), bart.config.decoder_start, device=DEVICE)
    for _ in range(LENGTH):
        written = torch.cat([written, bart.decode(written[:, -1:], seen, mask, cache).argmax(-1)], dim=1)
    rows = written[:, 1:].tolist()
    return [row[: row.index(END)] if END in row else row for row in rows]


dice = np.random.default_rng(2)
examples = kept[20:23]
for name, noise in NOISES.items():
    print(name)
    damaged = [noise(row, dice) for row in examples]
    for before, after, truth in zip(damaged, mended(menders["classic BART"], damaged), examples, strict=True):
        print(f"  {words_of(before)}\n   → {words_of(after)}{'' if after == truth else '   ✗ ' + words_of(truth)}")

# %% [markdown]
# A cross marks results that differ from the original, which is printed after the cross. Most of them are correct
# sentences, just not the *original* one. If the noise removed the colour, no network can know it. The model then writes
# a likely colour, which need not be the right one.
#
# ## 5 · Look inside
#
# Now take the translator that the course ships. It is the same class, with 2 encoder layers, 4 decoder layers and width
# 192, trained for an hour and a half on two CPU cores. It was trained with teacher forcing on captions and the codes of
# their pictures.
#
# ### A picture after each row of codes
#
# The codes are written row by row, and each is sampled from the probabilities that the decoder gives. So two pictures
# of the same prompt differ. You can decode the codes written so far at any time.

# %%
steps = [step.pictures[0] for step in pipe.stream(PROMPT, n=1, seed=3, rank=False)]
show(
    picture_grid(posterize(torch.stack(steps)), 8, titles=[f"{8 * (row + 1)} codes" for row in range(8)], inches=1.0),
    "A picture of a blue strawberry on the moon in eight steps: row by row the codes appear from the top.",
)

# %% [markdown]
# The night sky is written before the strawberry. With the first leaf, in the third row, the position, the size and the
# lighting of the fruit are fixed, and all later codes have to agree with them. An autoregressive model cannot change a
# code once it is written.
#
# ### Which words does a code attend to?
#
# You can plot the weights of the cross-attention. For each code, each layer and each head they say how much weight each
# word gets. Below is the mean over all layers and heads, one map for each word.

# %%
attended = attention_to_words(pipe, PROMPT, drawing.codes)
shares = attended.shares[0].float()  # (8, 8, words)
made, axes = figure(9.6, 1.2, 1, len(attended.words) + 1)
for axis, name in zip(axes, ["the picture", *attended.words], strict=True):
    hide_axes(axis)
    axis.set_title(name, loc="center", fontsize=9, fontweight="normal", pad=3)
axes[0].imshow(posterize(drawing.pictures[0]).permute(1, 2, 0))
for number, axis in enumerate(axes[1:]):
    axis.imshow(shares[:, :, number], cmap="magma", vmin=0, vmax=shares.max())
show(
    made,
    "A blue strawberry on the moon, and nine maps of 8 by 8 cells, one for each word of the prompt. The maps of blue "
    "and strawberry are bright where the strawberry is, the others are darker and bright around it.",
)

# %% [markdown]
# The word “strawberry” gets much weight at the cells of the strawberry, and “blue” at its blue cells. The training data
# do not say where anything is: they contain only captions and codes. The start and end tokens of the caption, which are
# left out here, get nearly a third of the weight. After two layers of self-attention every word's vector also contains
# information about the other words, so weight on “the” need not mean that the word “the” matters. Attention weights
# show from which token information came, not which information it was.
#
# Choose a cell yourself.


# %%
def draw_cell(row: int, column: int) -> tuple[Figure, str]:
    """One cell of the picture, and the attention of its code to each word."""
    made, (left, right) = figure(8.0, 2.9, 1, 2, width_ratios=(1, 1.7))
    hide_axes(left)
    left.imshow(posterize(drawing.pictures[0]).permute(1, 2, 0), extent=(0.5, 8.5, 8.5, 0.5))
    left.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, fill=False, edgecolor="white", linewidth=4))
    left.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, fill=False, edgecolor=VERMILION, linewidth=2))
    looked = shares[row - 1, column - 1].tolist()
    colours = [ORANGE if share == max(looked) else BLUE for share in looked]
    right.barh(range(len(looked)), looked, color=colours)
    right.set(yticks=range(len(looked)), yticklabels=attended.words, xlim=(0, float(shares.max())), xlabel="weight")
    right.invert_yaxis()
    right.grid(axis="y", visible=False)
    right.set_axisbelow(True)
    right.set_title(f"attention of code {drawing.codes[0, row - 1, column - 1].item()}")
    best = attended.words[looked.index(max(looked))]
    return made, f"The cell in row {row}, column {column} is framed. Its code gives most weight to the word {best}."


explore(draw_cell, row=slider(1, 8, 4, 1, "row"), column=slider(1, 8, 4, 1, "column"))

# %% [markdown]
# ### Guidance
#
# In training, 15 % of the captions were replaced by an empty one. So the translator can also predict codes *without* a
# caption. When it draws, each step computes logits twice, with the caption and without one, and the difference is
# multiplied by a factor:
#
# $$\ell = \ell_\text{without} + g\,(\ell_\text{with} - \ell_\text{without}),$$
#
# where $\ell$ are logits, 1,024 numbers each, and $g$ is a number. This is called **guidance**; DALL·E Mini's authors
# call it **super-conditioning**. With $g = 0$ the caption has no effect, with $g = 1$ it has the same effect as in
# training, and with a larger $g$ a stronger one. All rows below use the same prompt and the same random seed:

# %%
GUIDANCE = (0.0, 1.0, 1.5, 3.0)
house = "a watercolour of a purple house in a forest"
rows = [pipe.draw(house, n=6, seed=5, rank=False, guidance=g, temperature=1.0).pictures for g in GUIDANCE]
show(
    picture_grid(
        posterize(torch.cat(rows)), 6, rows=[f"guidance {g:g}" for g in GUIDANCE], title=f"“{house}”", inches=0.95
    ),
    "Four rows of six pictures. Guidance 0: all sorts of things, a car, a tree, houses. Guidance 1 and 1.5: purple "
    "houses in forests. Guidance 3: purple houses whose skies are blotched.",
)

# %% [markdown]
# Without the caption you get typical pictures of the painted world, with it purple houses. For this world guidance 1 is
# almost enough, because its captions are never wrong. 3 is too much: the skies get blotches, because the guided
# probabilities favour combinations of codes that no training picture has. DALL·E Mini learned from captions of the web,
# which say little about their pictures, and needs a guidance of about 10. In lesson 5 you can change it.

# %% [markdown]
# ## 6 · Break it
#
# Here you test four sentences of the slides. For each, the rule was fixed before the measurement.
#
# ### Claim 1: “A BART model is pre-trained to ‘clean’ text captions.”
#
# Every caption of the test is damaged three times, once with each kind of noise, and both networks of section 4 restore
# it. We count results that are right word for word. If an important word is lost, a network can only guess it. So we
# also count the captions that have lost nothing, or only small words such as “of” and “the”.
#
# The rule: the claim holds if the classic BART mends at least 75 % of these completely; it is “not quite” from 25 % on.

# %%
SMALL_WORDS = {"a", "an", "the", "of", "in", "on", "at", "by", "with"}
small = {row[0] for row in ids_of(sorted(SMALL_WORDS))}
dice = np.random.default_rng(3)
right: dict[str, dict[str, float]] = {name: {} for name in menders}
knowable: dict[str, list[bool]] = {name: [] for name in menders}
for kind, noise in NOISES.items():
    damaged = [noise(row, dice) for row in kept]
    lost = [Counter(row) - Counter(broken) for row, broken in zip(kept, damaged, strict=True)]
    for name, bart in menders.items():
        hits = [after == row for after, row in zip(mended(bart, damaged), kept, strict=True)]
        right[name][kind] = sum(hits) / len(hits)
        knowable[name] += [hit for hit, gone in zip(hits, lost, strict=True) if gone.keys() <= small]

# %%
kinds = [*NOISES, "no important word is lost"]
shares_right = {name: [*right[name].values(), sum(knowable[name]) / len(knowable[name])] for name in menders}
made, axis = figure(7.6, 2.7)
for offset, (name, values), colour in zip((-0.21, 0.21), shares_right.items(), (BLUE, ORANGE), strict=True):
    bars = axis.bar(np.arange(4) + offset, values, 0.4, color=colour, label=name)
    axis.bar_label(bars, [f"{value:.0%}" for value in values], fontsize=9)
axis.set(xticks=range(4), xticklabels=[fill(kind, 18) for kind in kinds], ylim=(0, 1.12), ylabel="restored exactly")
axis.grid(axis="x", visible=False)
axis.set_axisbelow(True)
axis.legend(loc="upper left")
show(
    made,
    "Bars of the share of captions restored exactly, for both networks: lowest for text infilling, middling for token "
    "deletion, highest for permutation and for captions that have lost no important word.",
)
score, changed = shares_right["classic BART"], shares_right["DALL·E Mini’s changes"]
verdict(
    "bart-cleans",
    "holds" if score[3] >= 0.75 else "not quite" if score[3] >= 0.25 else "does not hold",
    f"Of 600 captions it never saw the classic BART mends {score[0]:.0%} after text infilling, {score[1]:.0%} after "
    f"token deletion, {score[2]:.0%} after permutation; {score[3]:.0%} where nothing that matters is lost "
    f"({len(knowable['classic BART'])} cases). With DALL·E Mini’s changes the last share is {changed[3]:.0%}.",
)

# %% [markdown]
# So a BART learns to clean text by denoising, and a minute of training is enough for a small one in a small world. But
# the published BART was trained on documents, not on captions. And DALL·E Mini took over its architecture, not its
# weights (step 8): its translator had to learn the meaning of words from scratch, from captions and codes.
#
# ### Claim 2: “Encodes captions as embedding vectors”
#
# The encoder computes a vector for each token, so the plural is right. But are these vectors useful? We test this in
# two ways, each time with two controls: the token embeddings alone, before any layer, and an encoder of the same
# architecture with random weights.
#
# First: what can you predict from a *single* vector, the one at the subject's noun? A **linear probe** is a linear
# classifier that is trained on a network's vectors, here to predict the subject, the setting, the colour and the style
# of the scene. It is simple on purpose: it can only use information that is linearly readable in the vectors. It is
# trained on 720 captions and tested on 240 others. As a further control it is also trained on shuffled labels.


# %%
def linear_map(inputs: Tensor, outputs: Tensor, strength: float = 10.0) -> Callable[[Tensor], Tensor]:
    """The linear map of inputs (m, a) to outputs (m, b) with least squares, and a small penalty on its size."""
    mean, spread, centre = inputs.mean(0), inputs.std(0) + 1e-6, outputs.mean(0)
    scaled = (inputs - mean) / spread  # (m, a)
    penalty = strength * torch.eye(inputs.shape[1], device=inputs.device)
    solution = torch.linalg.solve(scaled.T @ scaled + penalty, scaled.T @ (outputs - centre))  # (a, b)
    return lambda new: (new - mean) / spread @ solution + centre


def probe_accuracy(vectors: Tensor, labels: Tensor, learned: int) -> float:
    """Share of labels (m,) that a linear probe, fitted on the first `learned`, predicts from the other vectors."""
    probe = linear_map(vectors[:learned], F.one_hot(labels[:learned]).float())
    return (probe(vectors[learned:]).argmax(1) == labels[learned:]).float().mean().item()


def mean_state(state: Tensor, text: Tensor) -> Tensor:
    """One vector (n, d) for each caption: the mean of its tokens' states (n, t, d), padding left out."""
    mask = (text != PAD)[..., None]
    return (state * mask).sum(1) / mask.sum(1)


torch.manual_seed(0)
readers = {
    "the shipped encoder": translator.encode,
    "random weights": Bart(BartConfig(**asdict(translator.config))).to(DEVICE).eval().encode,
    "the table alone": translator.text_embedding,
}
scenes = world.sample(960, seed=11, complete=True)  # every caption states all four
said = [caption(scene, complete=True) for scene in scenes]
text = pipe.tokenizer.encode(said, LENGTH).to(DEVICE)
labels = {name: torch.tensor([world.labels(scene)[name] for scene in scenes]) for name in world.attributes}

# %%
last_word = {name: name.lower().replace("hot-air ", "").replace("food of ", "").split()[-1] for name in world.subjects}
nouns = []
for scene, words in zip(scenes, said, strict=True):
    pieces = [piece.strip() for piece in pipe.tokenizer.pieces(words)]
    nouns.append(pieces.index(last_word[str(scene.subject)]) + 1)  # behind <s>
found = {}
with torch.no_grad():
    for name, read in readers.items():
        at_noun = read(text)[torch.arange(len(text)), nouns].cpu()  # (n, d)
        found[name] = [probe_accuracy(at_noun, values, 720) for values in labels.values()]
        if name == "the shipped encoder":
            order = torch.randperm(len(text))
            found["shuffled labels"] = [probe_accuracy(at_noun, values[order], 720) for values in labels.values()]
print(f"{'predicted from the noun’s vector:':<34}", *(f"{name:>8}" for name in labels))
for name, values in found.items():
    print(f"{name:<34}", *(f"{value:>8.0%}" for value in values))

# %% [markdown]
# In the embedding table the vector of “cat” only contains that it is a cat, and at most which colour cats usually have.
# After the encoder it also contains the setting, the colour and the style. But look at the row of the random weights.
# There the probe predicts everything just as well! Attention with random weights also mixes some of every word into
# each vector, and that is enough for the probe. So a successful probe does not show that the network has learned
# anything.
#
# So the second test is about meaning, which an encoder can only learn by training. There are 400 scenes, each with a
# caption A, a caption B that says the same in other words, and a caption C that differs from A in one fact. If the
# vectors represent meaning, B must be nearer to A than C is. We compare captions by the distance between the means of
# their tokens' vectors.
#
# The rule: the claim holds if the probe reads all four off the shipped encoder's vectors at least 90 % of the time, and
# B is nearer in at least 90 % of the cases and more often than with both controls. It is “not quite” if only the probe
# succeeds.


# %%
def other_wording(scene: Scene, dice: np.random.Generator) -> str:
    """A caption of the same scene in other words."""
    first = caption(scene, complete=True)
    ways = (caption(replace(scene, seed=int(dice.integers(2**31))), complete=True) for _ in range(100))
    return next(words for words in ways if words != first)


def other_fact(scene: Scene, dice: np.random.Generator) -> str:
    """The scene's caption with one of its four facts changed."""
    fact = str(dice.choice(list(world.attributes)))
    values = [value for value in world.attributes[fact] if value != getattr(scene, fact)]
    return caption(replace(scene, **{fact: str(dice.choice(values))}), complete=True)


dice = np.random.default_rng(4)
triples = [
    (words, other_wording(scene, dice), other_fact(scene, dice)) for scene, words in zip(scenes, said, strict=True)
][:400]
nearer = {}
with torch.no_grad():
    for name, read in readers.items():
        tokens = [pipe.tokenizer.encode(column, LENGTH).to(DEVICE) for column in zip(*triples, strict=True)]
        a, b, c = (mean_state(read(each), each) for each in tokens)  # (400, d) each
        nearer[name] = ((a - b).norm(dim=1) < (a - c).norm(dim=1)).float().mean().item()
print(*(f"{letter}: {words}" for letter, words in zip("ABC", triples[1], strict=True)), sep="\n")
for name, value in nearer.items():
    print(f"B is nearer, {name}: {value:.0%}")

# %%
everything_read = min(found["the shipped encoder"])
controls = max(nearer["random weights"], nearer["the table alone"])
read_off, by_meaning = everything_read >= 0.9, 0.9 <= nearer["the shipped encoder"] > controls
verdict(
    "bart-embeds",
    "holds" if read_off and by_meaning else "not quite" if read_off else "does not hold",
    f"Off one vector a probe reads every fact in at least {everything_read:.0%} of 240 captions (shuffled labels: at "
    f"most {max(found['shuffled labels']):.0%}). Other words for the same are nearer than one other fact in "
    f"{nearer['the shipped encoder']:.0%} of 400 cases (table alone {nearer['the table alone']:.0%}, random weights "
    f"{nearer['random weights']:.0%}). It is one vector for each token, not one for a caption.",
)  # fmt: skip

# %% [markdown]
# The training data do not say which captions mean the same. The encoder learned it because such captions have similar
# codes.
#
# ### Claim 3: “The BART model translates captions into the codebook vocabulary.”
#
# Is every number that it writes in that vocabulary? And is it a *translation*: does the picture show what the caption
# says? We draw 64 captions, each of which names a combination that was held out of training. A judge looks at the
# pictures. It is a classifier that was trained on all combinations and is used neither in training the translator nor
# in drawing. As a control it looks for the same facts in the picture of the next caption. We also measure how much the
# caption helps the translator: the cross-entropy for each code of a painted picture, in nats, with its own caption,
# without one, and with the caption of another picture.
#
# The rule: the claim holds if all numbers are codes of the book, the judge finds all four facts in at least 80 % of the
# drawings and in at most 10 % of the control's, and the right caption is the cheapest of the three. It is “not quite”
# if all are codes and the judge finds the facts in more than 25 % of the drawings, but one of the others fails.


# %%
@torch.no_grad()
def logits_of(prompts: Sequence[str], codes: Tensor) -> Tensor:
    """The shipped translator's logits (n, 64, 1024) at each code (n, 8, 8), for one prompt each; "" is no caption."""
    nothing = pipe.tokenizer.nothing(LENGTH)
    rows = [pipe.tokenizer.encode([prompt], LENGTH)[0] if prompt else nothing for prompt in prompts]
    text = torch.stack(rows).to(DEVICE)
    return translator(text, codes.flatten(1).to(DEVICE))[..., : pipe.vqgan.config.codes]


@torch.no_grad()
def judged(pictures: Tensor, scenes: Sequence[Scene]) -> Tensor:
    """Whether the judge finds each scene's subject, setting, colour and style in its picture, (n, 4) bool."""
    answers = judge(pictures.to(DEVICE))
    wanted = [world.labels(scene) for scene in scenes]
    columns = [answers[name].argmax(1).cpu() == torch.tensor([each[name] for each in wanted]) for name in answers]
    return torch.stack(columns, dim=1)


judge = preset.load_classifier("judge").to(DEVICE).eval()
novel = world.sample(64, seed=31, held_out="only")
novel_captions = [caption(scene, complete=True) for scene in novel]
drawn = pipe.draw(novel_captions, n=1, seed=0, rank=False)
pictures, codes = torch.cat([each.pictures for each in drawn]), torch.cat([each.codes for each in drawn])
painted = paint(novel, 64).to(DEVICE)
with torch.no_grad():
    true_codes = pipe.vqgan.encode(painted).indices  # (64, 8, 8)
    wordings = {"its own caption": novel_captions, "no caption": [""] * 64}
    wordings["another caption"] = [*novel_captions[1:], novel_captions[0]]
    nats = {
        name: F.cross_entropy(logits_of(words, true_codes).flatten(0, 1), true_codes.flatten()).item()
        for name, words in wordings.items()
    }

# %%
short = [fill(f"{scene.colour} {scene.subject}, {scene.setting}, {scene.style}", 14) for scene in novel[:8]]
show(
    picture_grid(
        posterize(torch.cat([painted[:8], pictures[:8].to(DEVICE)])), 8, short, rows=["painted", "translated"],
        inches=1.1, title="Eight captions the translator has never seen, in short, as painted and as translated",
    ),
    "Two rows of eight pictures, above as the painter paints the captions, below as the translator draws them: the "
    "same subjects, settings, colours and styles. The short captions: "
    + "; ".join(words.replace("\n", " ") for words in short) + ".",
)  # fmt: skip
facts, swapped = judged(pictures, novel).all(1).float().mean(), judged(pictures.roll(1, 0), novel).all(1).float().mean()
in_book = bool(((codes >= 0) & (codes < pipe.vqgan.config.codes)).all())
for name, value in nats.items():
    print(f"nats per code, given {name}: {value:.2f}")
cheapest = nats["its own caption"] == min(nats.values())
good = in_book and facts >= 0.8 and swapped <= 0.1 and cheapest
verdict(
    "bart-translates",
    "holds" if good else "not quite" if in_book and facts > 0.25 else "does not hold",
    f"{'All' if in_book else 'Not all'} of {codes.numel()} numbers are codes of the book. The judge finds subject, "
    f"setting, colour and style of held-out captions in {facts:.0%} of 64 drawings (next caption: {swapped:.0%}). "
    f"A code costs {nats['its own caption']:.2f} nats with its caption, {nats['no caption']:.2f} without, "
    f"{nats['another caption']:.2f} with another one.",
)

# %% [markdown]
# A wrong caption is worse than no caption, because the translator predicts the wrong picture. For comparison: if all
# 1,024 codes were equally likely, the cross-entropy would be $\ln 1024 = 6.93$ nats.
#
# ### Claim 4: “The codebook of VQ-GAN, in effect, maps text embeddings to image embeddings.”
#
# Taken literally this is false: the codebook's input is a *code*, not a text embedding. “In effect” means that the
# chain from text to picture is such a map, and that the codebook is its last link. You can test both.
#
# *The chain.* The text embedding is the mean vector of a caption, as in claim 2. The image embedding is the picture's
# grid of codebook vectors, 8 × 8 × 32 numbers. Fit a linear map from text to image embeddings on 576 painted scenes.
# For a new caption, is its prediction nearer to the picture that the translator draws from this caption than to 63
# others?
#
# *The link.* Shuffle the rows of the codebook. BART writes the same codes as before, but each code now stands for
# another vector.
#
# The rule: the claim holds if the map finds at least half of the pictures among 64, with shuffled pairs at most 10 %,
# and the judge finds all facts in at least 80 % of the drawings with the right book, and at most 10 % with the shuffled
# one. It is “not quite” if only one of the two parts succeeds.

# %%
pairs = world.sample(640, seed=21, complete=True)
pair_captions = [caption(scene, complete=True) for scene in pairs]
pair_text = pipe.tokenizer.encode(pair_captions, LENGTH).to(DEVICE)
book = pipe.vqgan.quantize.embedding.weight.detach().float()  # (1024, 32)
with torch.no_grad():
    text_embeddings = mean_state(translator.encode(pair_text), pair_text)  # (640, 192)
    seen_codes = torch.cat([pipe.vqgan.encode(part).indices for part in paint(pairs[:576], 64).to(DEVICE).split(64)])
fresh = pipe.draw(pair_captions[576:], n=1, seed=0, rank=False)
fresh_pictures, fresh_codes = (
    torch.cat(part) for part in zip(*((each.pictures, each.codes) for each in fresh), strict=True)
)
image_embeddings, wanted = book[seen_codes].flatten(1), book[fresh_codes].flatten(1)  # (576, 2048), (64, 2048)

order = torch.randperm(576, generator=torch.Generator().manual_seed(0)).to(DEVICE)
predicted = linear_map(text_embeddings[:576], image_embeddings)(text_embeddings[576:])  # (64, 2048)
by_chance = linear_map(text_embeddings[:576], image_embeddings[order])(text_embeddings[576:])
own = torch.arange(64, device=DEVICE)
chain, chain_by_chance = ((torch.cdist(p, wanted).argmin(1) == own).float().mean() for p in (predicted, by_chance))

shuffled_rows = torch.randperm(len(book), generator=torch.Generator().manual_seed(0)).to(DEVICE)
garbled = pipe.decode(shuffled_rows[fresh_codes])
link, broken_link = (judged(each, pairs[576:]).all(1).float().mean() for each in (fresh_pictures, garbled))

# %%
with torch.no_grad():
    grids = predicted.reshape(64, 8, 8, -1).permute(0, 3, 1, 2).contiguous()  # (64, 32, 8, 8)
    short_cut = pipe.vqgan.decode(grids[:7]).float()
rows = ["BART writes", "linear map", "other book"]
show(
    picture_grid(posterize(torch.cat([fresh_pictures[:7], short_cut, garbled[:7]])), 7, rows=rows, inches=1.05),
    "Three rows of seven pictures. Above, as the translator draws them. Below, what a linear map predicts from the "
    "caption's vector: similar, but blurred. At the bottom the same codes with a shuffled codebook: coloured noise.",
)
both_parts = [bool(chain >= 0.5 and chain_by_chance <= 0.1), bool(link >= 0.8 and broken_link <= 0.1)]
verdict(
    "bart-codebook-maps",
    "holds" if all(both_parts) else "not quite" if any(both_parts) else "does not hold",
    f"A linear map from text to image embeddings finds {chain:.0%} of 64 drawn pictures (shuffled pairs: "
    f"{chain_by_chance:.0%}). The judge finds all facts in {link:.0%} of the drawings, with shuffled rows of the "
    f"codebook in {broken_link:.0%}. The codebook itself maps numbers; the text decides which.",
)

# %% [markdown]
# The second row takes the slide's sentence literally: a linear map turns the caption's vector into an image embedding,
# and the VQ-GAN's decoder draws it, without choosing any code. The subject and the setting are there, and mostly the
# colour. But the result is the mean of all pictures that fit the caption. If the moon can be on the left or on the
# right, the mean may have two pale moons. To get one picture out of many, you have to choose one code after the other,
# each consistent with those before. That is what the decoder of BART does.
#
# The third row shows that codes only have a meaning together with the codebook that they were trained with.
#
# ## 7 · Your turn
#
# Write your answer in the stub's cell, run it, then run the check. Click on a hint to open it.

# %% [markdown]
# ### Exercise 3.1 · One head by hand (★☆☆, 4 minutes)
#
# A head has the width $c = 4$. Its query is $(2, 0, 1, 1)$, and there are three keys: $(1, 1, 1, 1)$, $(2, 0, 1, 1)$
# and $(0, 3, 0, 0)$. Which attention weight does the *first* key get? Compute it to two decimals.

# %% tags=["stub"]
share_of_first = None

# %% tags=["checked"]
check("3.1", share_of_first)

# %% [markdown] tags=["hint"]
# First compute the dot product of the query with each key. Then divide, then apply the softmax.

# %% [markdown] tags=["hint"]
# The products are 4, 6 and 0, and $\sqrt{4} = 2$. The first weight of the softmax of $(2, 3, 0)$ is $e^2$ divided by a
# sum of three exponentials.

# %% tags=["solution"]
share_of_first = torch.tensor([2.0, 3.0, 0.0]).softmax(0)[0]  # e² / (e² + e³ + 1) = 0.26

# %% [markdown]
# ### Exercise 3.2 · The decoder's mask (★★☆, 6 minutes)
#
# A decoder continues a picture whose first codes are given. Its cache holds the keys of `known` tokens; now it gets
# `new` more tokens at once. Write the mask that `place` has to return: True where a new token may see a key. A new
# token sees all known tokens, itself, and the new tokens before it.


# %% tags=["stub"]
def decoder_mask(known: int, new: int) -> Tensor:
    """Which of all keys, known and new, each new token may see: (new, known + new), bool."""
    raise NotImplementedError


# %% tags=["checked"]
check("3.2", decoder_mask)

# %% [markdown] tags=["hint"]
# Number the positions from 0. What is the position of the first new token? A token at position $i$ may see the keys at
# positions $j \le i$.

# %% [markdown] tags=["hint"]
# `torch.arange(known + new)` gives the keys' positions. The new tokens' positions are the last `new` of them.
# `[:, None]` turns them into a column, and comparing a column with a row gives a table.


# %% tags=["solution"]
def decoder_mask(known: int, new: int) -> Tensor:
    """Which of all keys, known and new, each new token may see: (new, known + new), bool."""
    places = torch.arange(known + new)
    return places <= places[known:, None]


# %% [markdown]
# ### Exercise 3.3 · Correct the infilling (★★☆, 7 minutes)
#
# This function should do text infilling for a given span. It has four mistakes. Write it correctly. The input list must
# not be changed.
#
# ```python
# def infilled(tokens: list[int], start: int, length: int, mask: int) -> list[int]:
#     if length == 0:
#         return tokens
#     tokens[start : start + length - 1] = [mask] * length
#     return tokens
# ```


# %% tags=["stub"]
def infilled(tokens: list[int], start: int, length: int, mask: int) -> list[int]:
    """Tokens with the span of `length` tokens from `start` on replaced by a single mask, as a new list."""
    raise NotImplementedError


# %% tags=["checked"]
check("3.3", infilled)

# %% [markdown] tags=["hint"]
# How many masks replace a span of three tokens? And what happens with a span of length 0, according to section 4?

# %% [markdown] tags=["hint"]
# A span of `length` tokens from `start` on ends before `start + length`. The new list has the tokens before the span,
# one mask, and the tokens after the span.


# %% tags=["solution"]
def infilled(tokens: list[int], start: int, length: int, mask: int) -> list[int]:
    """Tokens with the span of `length` tokens from `start` on replaced by a single mask, as a new list."""
    return [*tokens[:start], mask, *tokens[start + length :]]


# %% [markdown]
# ### Exercise 3.4 · From two logits to one lot (★★★, 10 minutes)
#
# Write the last steps before a code is sampled. First apply guidance to the two sets of logits, as in section 5. Then
# compute probabilities from them. Then keep only the likeliest codes that *together* reach the probability `top_p`:
# sort the codes by probability, the likeliest first, and keep a code if the sum of all codes before it is less than
# `top_p`. The other codes get 0, and the kept ones are rescaled to sum to 1.


# %% tags=["stub"]
def lot(conditional: Tensor, unconditional: Tensor, guidance: float, top_p: float) -> Tensor:
    """Logits with and without a caption, (codes,) each, to the probabilities (codes,) of the next code."""
    raise NotImplementedError


# %% tags=["checked"]
check("3.4", lot)

# %% [markdown] tags=["hint"]
# `probabilities.sort(descending=True)` gives the sorted values and their original positions. The sum of all likelier
# ones is the cumulative sum minus the value itself.

# %% [markdown] tags=["hint"]
# Put a 0 where that sum has reached `top_p`. Then move the values back to their original positions:
# `torch.zeros_like(p).scatter(0, places, kept)`. Finally divide by the sum.


# %% tags=["solution"]
def lot(conditional: Tensor, unconditional: Tensor, guidance: float, top_p: float) -> Tensor:
    """Logits with and without a caption, (codes,) each, to the probabilities (codes,) of the next code."""
    shares = (unconditional + guidance * (conditional - unconditional)).softmax(0)
    ranked, places = shares.sort(descending=True)
    kept = ranked.masked_fill(ranked.cumsum(0) - ranked >= top_p, 0.0)
    shares = torch.zeros_like(shares).scatter(0, places, kept)
    return shares / shares.sum()


# %% [markdown]
# ## 8 · What we have, what is missing
#
# - A transformer with two halves reads a prompt and writes codes. Each code depends on all earlier codes and on all
#   words.
# - The same class with another config is the BART that restores text. DALL·E Mini kept the encoder-decoder architecture
#   and changed its layers.
# - The caption affects the codes only through cross-attention, and guidance strengthens its effect.
# - In our small world the pictures show what the caption says, even for combinations that were not in the training
#   data.
# - What is missing: some drawings are better than others, and the translator does not rank them. The next lesson builds
#   CLIP, which scores how well a picture and a sentence match.
#
# Five questions to check what you remember.

# %% [markdown] tags=["quiz"]
# **1.** You shuffle the encoder's vectors before the decoder's cross-attention, keys and values in the same way. What
# changes?
# - [ ] The picture shows another scene, because the order of words carries meaning — the vectors already contain the
#   order, since the encoder added positions.
# - [x] Nothing — attention reads a set: each value has its own key, in any order.
# - [ ] The decoder fails, because its causal mask no longer fits — the causal mask is for codes; all words may be seen.

# %% [markdown] tags=["quiz"]
# **2.** What would go wrong in training without the causal mask?
# - [ ] The gradients would vanish — they would not, but they would teach the decoder the wrong thing.
# - [ ] Training would be slower, because more has to be computed — the amount of computation hardly changes; what
#   matters is what the decoder learns.
# - [x] The decoder would copy the next code instead of learning to predict it — and it could not draw, because then
#   there is no next code to copy.

# %% [markdown] tags=["quiz"]
# **3.** After text infilling the network writes “a red car” where “a blue house” stood. What does this show?
# - [x] Where the text does not say, it writes something likely — the information is lost, so it can only guess.
# - [ ] It has not been trained for long enough — training cannot restore information that is not in the input.
# - [ ] It has memorised its training captions — then it would be right on those and write nonsense on new ones.

# %% [markdown] tags=["quiz"]
# **4.** A cache holds the keys and values of earlier codes. Why is there no need for their queries?
# - [ ] Queries are the same as keys — another linear layer computes them.
# - [x] A query is used only once, for its own token — later tokens use earlier keys and values, but not earlier
#   queries.
# - [ ] Queries would take too much memory — they would take as much as keys; they are just not needed.

# %% [markdown] tags=["quiz"]
# **5.** A probe predicts the colour from an encoder's vectors with 97 % accuracy. What follows?
# - [ ] The encoder has learned what colours are — an encoder with random weights passes the same test.
# - [ ] The decoder uses the colour — the probe shows that the vectors contain it, not that the decoder uses it.
# - [x] The colour is linearly readable in these vectors — no more than that: only a comparison with controls shows
#   whether it was learned.
