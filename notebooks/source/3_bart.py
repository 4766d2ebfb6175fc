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
# A translator reads a sentence and writes the codes of a picture. In this lesson you build one and train it twice: to
# restore damaged sentences, and to draw sprites. Then you watch the course's own translator write codes.

# %% tags=["folded"]
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from textwrap import fill
from typing import NamedTuple, Protocol, Self, cast

import numpy as np
import torch
import torch.nn.functional as F
import transformers
from atelier import Pipeline
from atelier.blocks.vqgan import VQGAN
from atelier.decoding import Sampling, decode, uniform_numbers
from atelier.drawing.attention import attention_to_words
from atelier.evaluation.evaluate import correct_attributes, distinct_scenes
from atelier.evaluation.intervals import difference, mean, share
from atelier.evaluation.sprites import correct_sprites
from atelier.teaching import (
    BLUE,
    GREEN,
    GREY,
    INK,
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
from atelier.teaching.experiments.lesson_3 import DENOISING, TRANSLATING
from atelier.teaching.figures import code_colours, draw_estimates, draw_tiles, hide_axes, posterize
from atelier.teaching.mine import per_cent, read_mine, save_block, vqgan_of_mine
from atelier.teaching.sprite_translator import CodedSprites, coded_sprites, translator_config
from atelier.weights.preset import load_preset
from atelier.weights.sprites import load_sprite_model
from atelier.weights.tokenizer import END, PAD, START, UNKNOWN, Tokenizer, train_tokenizer
from atelier.world import Scene, caption, paint, paint_sprites, small_world, sprite_requests
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
# Part 2 ended with the VQ-GAN. Its encoder turns a picture into a grid of codes, each the number of a row in a
# codebook, which is a learned table of vectors. Its decoder draws the picture again. You can think of such a grid as a
# sentence in a language of 1,024 words.
#
# Random codes do not give a picture of anything. To draw from a prompt, the sentence that describes the picture, you
# need a translator. DALL·E Mini took one from text processing: **BART**, published by Lewis and others in 2020.
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

# %% tags=["folded"]
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
# for each of its tokens. (The VQ-GAN's encoder and decoder are two other networks.) The decoder writes the codes, row
# by row from the upper left corner. For each code it uses the codes that it has written so far, and the encoder's
# vectors. So instead of choosing one of $1024^{64}$ pictures at once, it makes sixty-four easier choices, one code
# $k_i$ after the other:
#
# $$p(k_1, \dots, k_s \mid \text{text}) = \prod_{i=1}^{s} p(k_i \mid k_1, \dots, k_{i-1}, \text{text}).$$
#
# A model that writes in this way, each token depending on the ones before it, is **autoregressive**.
#
# The decoder reads these inputs by **attention**. From each vector that reads, a linear layer computes a **query**.
# From each vector that is read, two others compute a **key** and a **value**. Attention returns a mean of the values,
# weighted by how well each key matches the query. A network built from such layers is a **transformer**.
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
#
# Here is the slide's figure, “What BART does”, with the real numbers of the first picture above. Each code has the
# colour that the VQ-GAN decodes from a grid of this code only.

# %% tags=["folded"]
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
# You build the translator in nine steps. The code of steps 3 to 8 is the same as the library's.
#
# ### Step 1: tokens
#
# Which pieces of words become tokens is learned from text, by **byte-pair encoding** (Sennrich and others, 2016). Start
# with single characters; the blank before a word, shown as ␣, belongs to it. Count all pairs of neighbouring tokens,
# join the most frequent pair into one token everywhere, and repeat.


# %%
def merged(tokens: list[str], pair: tuple[str, str]) -> list[str]:
    """Join a pair of neighbouring tokens wherever it occurs."""
    result: list[str] = []
    for token in tokens:
        if result and (result[-1], token) == pair:
            result[-1] += token
        else:
            result.append(token)
    return result


# %% tags=["checked"]
toy = [f"a red {thing}" for thing in ("car", "cart", "car", "cat", "card", "car")] + ["a blue car", "a blue cat"]
words = Counter(f" {word}" for text in toy for word in text.split())
splits = {word: list(word) for word in words}
merges: list[tuple[str, str]] = []
while len(merges) < 7:
    pairs: Counter[tuple[str, str]] = Counter()
    for word, times in words.items():
        for pair in pairwise(splits[word]):
            pairs[pair] += times
    merges.append(pairs.most_common(1)[0][0])
    splits = {word: merged(tokens, merges[-1]) for word, tokens in splits.items()}
    line = ["+".join(merges[-1]), *("·".join(tokens) for tokens in splits.values())]
    print(*(f"{text.replace(' ', '␣'):<10}" for text in line))
library = train_tokenizer(toy, vocabulary=4 + 256 + len(merges))  # special tokens, bytes, merges
assert all(library.pieces(word) == tokens for word, tokens in splits.items())
print("the course's tokenizer:", *(pipe.tokenizer.pieces(word) for word in ("strawberry", "starfish")))

# %% [markdown]
# “cat” and “car” share the token “␣ca”, and a rare word falls into small pieces. Trained on the same captions, the
# library's tokenizer learns the same merges; it begins with bytes instead of characters, so that it can split any text.
# The course's own has learned 208 merges from captions of the painted world. “strawberry” is one token there;
# “starfish”, which it does not know, is six.
#
# ### Step 2: attention with three words
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
# A sum of $c$ products of independent numbers of variance 1 has the variance $c$. Dividing by $\sqrt{c}$ keeps the
# variance at 1 for any width.
#
# ### Step 3: the config
#
# One class implements two published models, BART and DALL·E Mini's translator; the config selects one of them. The
# fields from `normformer` on are mostly DALL·E Mini's changes, and each of them appears in the code below.


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
print("rows of the code embedding:", tiny.target_rows, "— the last one is the start token,", tiny.decoder_start)

# %% [markdown]
# ### Step 4: heads
#
# A single softmax often puts most of its weight on one token. But a cell of the picture depends on several words at
# once: the thing, the colour, the style. So queries, keys and values of width $d$ are split into $h$ pieces, and
# attention is computed for each piece separately. Such a piece is a **head**. The heads' results are concatenated and
# passed through one more linear layer.
#
# `project` computes keys and values, which often come from another sequence than the queries; `forward` computes
# queries and attention. PyTorch's `scaled_dot_product_attention` is the formula of step 2, computed without storing the
# whole (s, t) table.


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

    def forward(self, x: Tensor, keys_values: KeysValues, mask: Tensor | None = None, causal: bool = False) -> Tensor:
        """Compute the attention of x (n, s, d) to `seen`, (n, s, d)."""
        q = self.split(self.q_proj(x))  # (n, h, s, c)
        attended = F.scaled_dot_product_attention(
            q, keys_values.keys, keys_values.values, attn_mask=mask, is_causal=causal
        )
        return self.out_proj(attended.transpose(1, 2).flatten(2))  # (n, s, d)


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
# *set*. For the order to matter, each vector must contain its position. That is why positions are added in step 8.
#
# An **attention mask** is a table that says which query may see which key; a masked key gets the weight 0. Shorter
# captions in a batch are filled up with **padding**, and the first mask hides it. In training the decoder gets all
# codes of a picture at once. A **causal mask** hides the later codes from each code; otherwise the decoder would learn
# to copy the next code instead of predicting it.

# %% tags=["folded"]
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
# ### Step 5: the feed-forward layer
#
# Attention moves information between positions. The **feed-forward layer** then processes each position separately,
# with two linear layers and a nonlinearity between them. BART's is $W_2\, \text{GELU}(W_1 x)$, where GELU is a smooth
# version of $\max(0, x)$. DALL·E Mini's is gated (Shazeer, 2020): $W_2\,(\text{GELU}(W_0 x) \cdot W_1 x)$, so the first
# factor scales each number of the second. It has three matrices instead of two, so the inner width is two thirds as
# large, 2730 instead of 4096: this keeps the number of parameters the same.
#
# A **layer normalisation** brings a vector's numbers to mean 0 and variance 1, and then applies a learned scale and
# shift to each of them. If a linear layer comes next, its weights can include the scale, so DALL·E Mini leaves the
# scale out. This is `ShiftNorm`.


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
# ### Step 6: the encoder's layer
#
# A layer is attention followed by a feed-forward layer. Each of the two *adds* its result to its input. The sum that
# runs through the whole network is called the **residual stream**. Gradients flow back along it without passing through
# the layers.
#
# Where does the normalisation go? BART normalises the sum, `norm(residual + x)`. NormFormer (Shleifer and others, 2021)
# does not normalise the residual stream, but the input and the output of attention, `residual + norm(x)`, and the input
# and the hidden vector of the feed-forward layer. The method `add_residual` implements both.
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

    def add_residual(self, residual: Tensor, x: Tensor, norm: nn.Module) -> Tensor:
        """Add a sublayer's output x to the residual, both (n, t, d). NormFormer normalises x, BART the sum."""
        x = self.dropout(x)
        return residual + norm(x) if self.normformer else norm(residual + x)


class EncoderLayer(Layer):
    """Self-attention over the whole text, then the feed-forward layer."""

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Map x (n, t, d) to (n, t, d); mask (n, 1, 1, t) is False at padding."""
        h = self.pre_self_attn_layer_norm(x)
        x = self.add_residual(x, self.self_attn(h, self.self_attn.project(h), mask), self.self_attn_layer_norm)
        return self.add_residual(x, self.ffn(x), self.final_layer_norm)


# %% tags=["checked"]
layer = EncoderLayer(tiny).eval()
mask = torch.tensor([[True] * 7, [True] * 5 + [False] * 2])[:, None, None, :]  # the second text has five tokens
changed = text.clone()
changed[1, 5:] = 99.0  # other vectors at the padding
print("in", tuple(text.shape), "out", tuple(layer(text, mask).shape))
assert torch.allclose(layer(text, mask)[1, :5], layer(changed, mask)[1, :5], atol=1e-6)  # the mask hides the padding

# %% [markdown]
# ### Step 7: the decoder's layer and its cache
#
# The decoder's layer has one more part. After causal self-attention to the earlier codes it attends to the text:
# queries come from the codes, keys and values from the encoder. This is **cross-attention**, and it is the only part of
# the decoder that uses the caption. Several pictures of a prompt can be drawn at once. The keys and values of the
# prompt are then stored only once, and the codes of its pictures are consecutive rows of the batch.
#
# The decoder writes one code at a time. The keys and values of earlier codes stay the same in every later step, because
# the causal mask hides later codes from them. So they are stored; this memory is called a **cache**. The block only
# defines two protocols for it: `extend` adds the keys and values of new tokens and returns all of them, and
# `positions_and_mask` returns the positions of the new tokens and the mask of what each may see.


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

    def positions_and_mask(self, count: int) -> tuple[Tensor, Tensor | None]:
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
        keys_values = self.self_attn.project(h)
        if cache is not None:
            keys_values = KeysValues(*cache.extend(*keys_values))
        h = self.self_attn(h, keys_values, target_mask, causal=cache is None)
        x = self.add_residual(x, h, self.self_attn_layer_norm)

        # All pictures of a prompt attend to the same text. With their queries in one row, the keys need not be copied.
        h = self.pre_encoder_attn_layer_norm(x).reshape(len(text_mask), -1, x.shape[-1])  # (p, n / p · s, d)
        h = self.encoder_attn(h, text, text_mask).view_as(x)  # (n, s, d)
        x = self.add_residual(x, h, self.encoder_attn_layer_norm)
        return self.add_residual(x, self.ffn(x), self.final_layer_norm)


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
# ### Step 8: positions, and the whole network
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

    def embed(self, x: Tensor, positions: Tensor) -> Tensor:
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
        x = self.encoder.embed(self.text_embedding(text), positions)  # (n, t, d)
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
# The simplest cache appends new keys and values by concatenation. The next cell writes sixteen codes twice, without and
# with it. The codes are the same, but with the cache the decoder processes far fewer tokens.


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

    def positions_and_mask(self, count: int) -> tuple[Tensor, Tensor | None]:
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
# For DALL·E Mini's 256 codes it would be 32,896 tokens or 256.
#
# ### The same numbers as the reference
#
# With the classic config this class is BART. To check this, you initialise the reference, Hugging Face's
# `BartForConditionalGeneration`, with random weights, load the same weights into your class, and compare the logits.
# Only some names differ.

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
    error = (ours(words_in, words_out) - wanted).abs().max() / wanted.abs().max()
assert error < 1e-5
print("logits", tuple(wanted.shape), "agree with the reference's to five digits")

# %% [markdown]
# The tests in `tests/parity` compare DALL·E Mini's config with *min-dalle*, a port of DALL·E Mini.
#
# ### Step 9: what DALL·E Mini changed
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
# So DALL·E Mini took over the architecture of BART, not its weights: they do not fit.
#
# ## 4 · Train it
#
# ### Restore captions
#
# BART was not made for pictures. It was first trained to restore damaged text, then for other tasks. Training first on
# a task for which data are plentiful is called **pre-training**. BART's task is **denoising**: you damage a text on
# purpose, give the damaged text to the encoder, and train the decoder to write the original. Any text can be used,
# because the original is the target.
#
# The paper (section 2.2) tries several kinds of noise. Here are three of them, for lists of token ids:
#
# - First, **text infilling** replaces spans of consecutive tokens, each by a single mask token, which means “something
#   may be missing here”. Their lengths are drawn from a Poisson distribution with mean 3. A length may be 0; then a
#   mask is inserted and no token is lost. So the network also has to find out how many tokens are missing. As in the
#   paper, 30 % of the tokens are removed.
# - Second, token deletion removes tokens without marking their positions.
# - Third, permutation changes the order. BART was trained on documents, 160 gigabytes of news, books and web pages, and
#   permutes their *sentences*. Our captions have one sentence, so we shuffle its tokens.
#
# The course's tokenizer has a token `<unk>` for unknown text, which it never uses. It serves as the mask here.


# %%
def infill(tokens: list[int], dice: np.random.Generator) -> list[int]:
    """Remove 30 % of the tokens, in spans of random length, and write a single mask in place of each span."""
    lost, spans = round(0.3 * len(tokens)), list[int]()
    while sum(spans) < lost:
        spans.append(min(int(dice.poisson(3)), lost - sum(spans)))
    units = len(tokens) - lost + len(spans)  # the tokens that are kept, and the masks
    masked = set(dice.choice(units, len(spans), replace=False).tolist())
    result, place = [], 0
    for unit in range(units):
        result.append(UNKNOWN if unit in masked else tokens[place])
        place += spans.pop() if unit in masked else 1
    return result


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
    texts = [pipe.tokenizer.decode(torch.tensor([run]))[0] if run else "" for run in runs]
    return " ".join(" ▁ ".join(texts).split())


dice = np.random.default_rng(0)
captions = list(dict.fromkeys(caption(scene) for scene in world.sample(40_000, seed=1)))  # each once
everything = ids_of([captions[place] for place in dice.permutation(len(captions))])
kept, learned = everything[:600], everything[600:]
print(f"{len(learned)} captions for training, {len(kept)} for the test; an example:")
for name, noise in NOISES.items():
    print(f"  {name:<15} {words_of(noise(kept[7], dice))}")
print(f"  {'original':<15} {words_of(kept[7])}")

# %% [markdown]
# You train the classic BART of step 9, only much smaller. The loss is the cross-entropy, the mean of $-\log p$ of the
# right token. With the natural logarithm its unit is the nat.

# %% tags=["ignored"]
STEPS, BATCH, RATE = 360, 48, 2e-3
config = replace(BartConfig.bart_base(), text_length=LENGTH, target_length=LENGTH, width=96, heads=4, inner_width=384)
config = replace(config, text_vocabulary=len(pipe.tokenizer), target_vocabulary=len(pipe.tokenizer), dropout=0.0)
torch.manual_seed(0)
mender = Bart(replace(config, encoder_layers=2, decoder_layers=2, initial_std=0.06)).to(DEVICE)
adam = torch.optim.AdamW(mender.parameters(), betas=(0.9, 0.98), weight_decay=0.01)
schedule = torch.optim.lr_scheduler.OneCycleLR(adam, RATE, total_steps=STEPS, pct_start=0.15)
dice = np.random.default_rng(1)
for _ in tqdm(range(STEPS), desc="restoring captions"):
    sound = [learned[place] for place in dice.integers(len(learned), size=BATCH)]
    broken = [list(NOISES.values())[dice.integers(3)](row, dice) for row in sound]
    text, wanted = padded(broken), padded(sound)[:, 1:]  # the decoder need not write <s>
    loss = F.cross_entropy(mender(text, wanted).flatten(0, 1), wanted.flatten(), ignore_index=PAD)
    adam.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(mender.parameters(), 1.0)
    adam.step()
    schedule.step()

# %% [markdown]
# Now it restores captions from the test set. Greedy decoding, which always takes the likeliest token, is enough here.


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
examples = kept[20:22]
for name, noise in NOISES.items():
    print(name)
    damaged = [noise(row, dice) for row in examples]
    for before, after, truth in zip(damaged, mended(mender, damaged), examples, strict=True):
        print(f"  {words_of(before)}\n   → {words_of(after)}{'' if after == truth else '   ✗ ' + words_of(truth)}")

# %% [markdown]
# A cross marks a result that differs from the original, which is printed after it. Most of these are correct sentences
# all the same. If the noise removed the colour or the setting, no network can know it, and this one writes a likely
# one.
#
# ### Translate captions into codes
#
# Now you train the same class, with DALL·E Mini's changes, to write codes instead of words. The pictures are sprites.
# The VQ-GAN of lesson 2e turns each into 4 × 4 codes out of 64: yours if you saved one, else the course's. The captions
# name subject and colour in five wordings. Six combinations are held out, one for each subject: in training there is no
# green strawberry, orange mushroom, purple car, red house, blue cat or red star, but each of these words occurs in
# other captions.
#
# In 15 % of the examples the caption is replaced by an empty one, which section 5 explains. And half of the codes that
# the decoder reads are swapped for those of another sprite. So it cannot just continue what it reads; it has to use the
# caption.

# %%
mine = read_mine()
own_vqgan = vqgan_of_mine(mine)
vqgan = (own_vqgan or load_sprite_model("vqgan")).to(DEVICE)
sprites = coded_sprites(vqgan, pipe.tokenizer)
print(f"{len(sprites.codes)} sprites, encoded by {'your own' if own_vqgan else 'the course’s'} VQ-GAN, for example:")
print(*pipe.tokenizer.decode(sprites.texts[:, 0]), sprites.codes[0].tolist(), sep="\n")


# %%
def train_translator(
    bart: Bart, data: CodedSprites, steps: int = 600, seed: int = 0, dropped: float = 0.15, swapped: float = 0.5
) -> list[float]:
    """Train a translator by teacher forcing, and return the loss of each batch in nats per code."""
    batch, rate = 64, 2e-3
    torch.manual_seed(seed)
    adam = torch.optim.AdamW(bart.parameters(), betas=(0.9, 0.98), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(adam, rate, total_steps=steps, pct_start=0.15)
    losses = []
    for _ in tqdm(range(steps), desc="translating captions"):
        sprite, wording = torch.randint(len(data.codes), (batch,)), torch.randint(len(data.texts), (batch,))
        text, codes = data.texts[wording, sprite], data.codes[sprite]  # (n, t), (n, s)
        text = torch.where(torch.rand(batch, 1, device=text.device) < dropped, data.empty, text)
        swap = torch.rand(codes.shape, device=codes.device) < swapped
        read = torch.where(swap, codes.roll(1, 0), codes)  # `roll` gives each sprite the codes of another one
        mask = bart.text_mask(text)
        logits = bart.decode(bart.shift(read), bart.encode(text, mask), mask)  # (n, s, target_rows)
        loss = F.cross_entropy(logits.flatten(0, 1), codes.flatten())
        adam.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(bart.parameters(), 1.0)
        adam.step()
        schedule.step()
        losses.append(loss.item())
    return losses


# %% tags=["ignored"]
torch.manual_seed(0)
painter = Bart(BartConfig(**asdict(translator_config(vqgan.config, pipe.tokenizer)))).to(DEVICE)
losses = train_translator(painter, sprites)

# %% tags=["folded"]
smooth = np.convolve(losses, np.ones(10) / 10, "valid").tolist()
show(
    curves({"your translator": smooth}, ylabel="nats per code", title="A BART learns to write the codes of sprites"),
    "A curve of the loss over 600 steps. It falls steeply at first, from 4 nats per code, and then ever more slowly to "
    "about 2.",
)

# %% [markdown]
# At first all 64 codes are about equally likely, which costs $\ln 64 = 4.2$ nats per code. Now it draws: it samples one
# code after the other, and the VQ-GAN decodes them. `decode` is the library's loop with a cache; you write its sampling
# step in exercise 3.4.


# %%
@torch.no_grad()
def draw_sprites(
    bart: Bart, vqgan: VQGAN, tokenizer: Tokenizer, captions: list[str], guidance: float = 1.0, seed: int = 0
) -> Tensor:
    """Draw one picture of each caption: pictures (n, 3, h, w), from 0 to 1."""
    device, length = next(bart.parameters()).device, bart.config.text_length
    text, empty = tokenizer.encode(captions, length).to(device), tokenizer.empty_caption(length).to(device)
    uniforms = uniform_numbers(seed, len(captions), bart.config.target_length).to(device)
    *_, codes = decode(bart, text, empty, Sampling(guidance), uniforms)  # (n, s)  # ty: ignore[invalid-argument-type]
    return vqgan.decode_codes(codes.unflatten(1, (vqgan.config.grid, vqgan.config.grid)))


requests = {"seen": sprite_requests(180, 1, held_out=False), "held out": sprite_requests(180, 1, held_out=True)}

# %% tags=["folded"]
show(
    picture_grid(
        posterize(draw_sprites(painter, vqgan, pipe.tokenizer, requests["seen"][1])[:12]), 12,
        titles=[fill(words.removeprefix("a drawing of "), 11) for words in requests["seen"][1][:12]], inches=0.85,
        title="The first twelve requests for combinations that it has seen",
    ),
    "Twelve sprites that the translator has drawn, with their captions: nearly all show the subject and the colour of "
    "their caption.",
)  # fmt: skip

# %% [markdown]
# ## 5 · Look inside
#
# ### Guidance
#
# Because of the empty captions in its training, your translator can also predict codes *without* a caption. When it
# draws, each step computes logits with the caption and without one, and multiplies the difference by a factor:
#
# $$\ell = \ell_\text{without} + g\,(\ell_\text{with} - \ell_\text{without}),$$
#
# where $\ell$ are the logits of all codes. This is called **guidance**; DALL·E Mini's authors call it
# **super-conditioning**. With $g = 0$ the caption has no effect, with $g = 1$ it has the same effect as in training,
# and with a larger $g$ a stronger one.
#
# You draw the seen combinations and the held-out ones, both with $g = 1$ and $g = 4$. The judge of part 2 names the
# subject. The colour is measured: each pixel counts for the nearest of the five colours, if it is near to one, and the
# colour with most pixels wins. On painted sprites both are always right, also on held-out ones.

# %%
sprite_judge = load_sprite_model("judge").to(DEVICE)
drawn, yours = {}, {}
for name, (scenes, captions) in requests.items():
    assert correct_sprites(sprite_judge, paint_sprites(scenes).to(DEVICE), scenes).all()
    for g in (1, 4):
        drawn[name, g] = draw_sprites(painter, vqgan, pipe.tokenizer, captions, guidance=g)
        correct = correct_sprites(sprite_judge, drawn[name, g], scenes)  # (180, 2)
        yours[name, g] = share(correct.all(1).tolist(), "drawings")
        subject, colour = correct.float().mean(0).tolist()
        print(f"{name}, guidance {g}: subject {subject:.0%}, colour {colour:.0%}, both {yours[name, g].value:.0%}")

# %% tags=["folded"]
show(
    picture_grid(
        posterize(torch.cat([drawn["held out", g][:12] for g in (1, 4)])), 12,
        titles=[fill(words.removeprefix("a drawing of "), 11) for words in requests["held out"][1][:12]],
        rows=["guidance 1", "guidance 4"], inches=0.85, title="The first twelve requests for held-out combinations",
    ),
    "Two rows of twelve sprites, drawn with guidance 1 and 4 from the captions of held-out combinations. Nearly all "
    "subjects are as asked. At guidance 1 several have another colour, at guidance 4 fewer.",
)  # fmt: skip
made, (left, right) = figure(9.6, 2.9, 1, 2, width_ratios=(1, 1.7), sharey=True)
for name, colour in {"seen": GREY, "held out": BLUE}.items():
    draw_estimates(left, (1, 4), [yours[name, g] for g in (1, 4)], 100, color=colour, label=name)
for arm, colour in zip(TRANSLATING.arms, (BLUE, ORANGE, VERMILION), strict=True):
    columns = [np.array(TRANSLATING.column(arm, f"held out {g}")) * 100 for g in (1, 2, 4, 8)]
    right.plot((1, 2, 4, 8), [column.mean() for column in columns], color=colour, label=arm)
    right.scatter(np.repeat((1, 2, 4, 8), 3), np.concatenate(columns), s=12, color=colour)
for axis, title in ((left, "Your translator"), (right, "Held-out combinations, three trainings each")):
    axis.set(xscale="log", xticks=(1, 2, 4, 8), xticklabels=(1, 2, 4, 8), xlabel="guidance", ylim=(0, 104))
    axis.minorticks_off()
    axis.set_title(title)
    axis.legend(fontsize=8.5, loc="lower left")
left.set(xlim=(0.8, 5), ylabel="right, %")
right.legend(fontsize=8.5, loc="upper left", bbox_to_anchor=(1.0, 0.8))
show(
    made,
    "Shares of right drawings. Left, your translator with 95 % intervals: seen combinations are nearly always right; "
    "held-out ones are about half right at guidance 1, and more often at guidance 4. Right, held-out combinations at "
    "guidance 1, 2, 4 and 8, a dot for each training and a line through the means. Trained as in the lesson the share "
    "rises with guidance; without empty captions it falls from guidance 2 on; without swapped codes it is by far the "
    "lowest.",
)

# %%
as_here, *others = (TRANSLATING.column(arm, "held out 4") for arm in TRANSLATING.arms)
for arm, other in zip(TRANSLATING.arms[1:], others, strict=True):
    lead = difference(as_here, other, "pairs of trainings")
    low, value, high = (100 * number for number in (lead.low, lead.value, lead.high))
    print(f"guidance 4, as in the lesson minus {arm}: {value:.0f} points ({low:.0f} to {high:.0f})")

# %% [markdown]
# Seen combinations are nearly always right. Of the new ones about half are right, and with guidance more. Without
# guidance most mistakes are in the colour.
#
# On the right are three trainings of each kind. Without empty captions in the training, guidance does not help: the
# logits without a caption were never learned. Without swapped codes most new combinations fail. The decoder then relies
# on the codes that it reads, and these lead it back to a sprite that it knows. (All settings were chosen with six other
# combinations held out.)
#
# DALL·E Mini learned from captions of the web, which say little about their pictures, and draws with a guidance of 10.
#
# Keep your translator for lesson 5, beside your VQ-GAN in `runs/mine`:

# %% tags=["ignored"]
measured = {f"right drawings of {name} combinations, %": per_cent(yours[name, 4]) for name in requests}
print(save_block(mine, "bart", painter, measured))

# %% [markdown]
# ### A picture after each row of codes
#
# Now take the translator that the course ships. It is the same class, with 2 encoder layers, 4 decoder layers and width
# 192, trained for an hour and a half on two CPU cores on captions and the codes of their pictures.
#
# At any time you can decode the codes so far.

# %%
steps = [step.pictures[0] for step in pipe.stream(PROMPT, n=1, seed=3, rank=False)]
show(
    picture_grid(posterize(torch.stack(steps)), 4, titles=[f"{8 * (row + 1)} codes" for row in range(8)], inches=1.6),
    "A picture of a blue strawberry on the moon in eight steps: row by row the codes appear from the top.",
)

# %% [markdown]
# The night sky is written before the strawberry. With the first leaf, in the third row, the position, the size and the
# lighting of the fruit are fixed, and all later codes have to agree with them. An autoregressive model cannot change a
# code once it is written.
#
# ### Which words does a code attend to?
#
# You can plot the weights of the cross-attention. They say how much weight each code gives to each word. Below is the
# mean over all layers and heads, one map for each word. The brighter a cell, the more weight; the scale is the same in
# all maps.

# %% tags=["folded"]
attended = attention_to_words(pipe, PROMPT, drawing.codes)
shares = attended.shares[0].float()  # (8, 8, words)
made, axes = figure(9.2, 4.0, 2, 5)
places = axes.flatten()
for axis, name in zip(places, ["the picture", *attended.words], strict=True):
    hide_axes(axis)
    axis.set_title(name, loc="center", fontsize=10, fontweight="normal", pad=4)
places[0].imshow(posterize(drawing.pictures[0]).permute(1, 2, 0))
for number, axis in enumerate(places[1:]):
    axis.imshow(shares[:, :, number], cmap="magma", vmin=0, vmax=shares.max())
show(
    made,
    "A blue strawberry on the moon, and nine maps of 8 by 8 cells, one for each word of the prompt. The maps of blue "
    "and strawberry are bright where the strawberry is, the others are darker and bright around it.",
)

# %% [markdown]
# The word “strawberry” gets much weight at the cells of the strawberry, and “blue” at its blue cells, although the
# training data do not say where anything is. The start and end tokens, which are left out here, get nearly a third of
# the weight. After two layers of self-attention every word's vector also contains information about the other words, so
# weight on “the” need not mean that the word “the” matters. Attention weights show from which token information came,
# not which information it was.
#
# Choose a cell yourself.


# %% tags=["folded"]
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
# ## 6 · Break it
#
# Here you test four sentences of the slides. For each, the rule was fixed before the measurement: a quantity, mostly a
# difference to a control, and a threshold. What you measure is a sample, of captions or of trainings, so each result
# has a 95 % interval (lesson 1). A claim holds if the whole interval lies on the right side of the threshold, and fails
# if it lies on the wrong side. Otherwise it is undecided.
#
# ### Claim 1: “A BART model is pre-trained to ‘clean’ text captions.”
#
# Every caption of the test is damaged three times, once with each kind of noise. We count the captions that a network
# restores word for word. If an important word is lost, it can only guess. So we also count those that have lost
# nothing, or only small words such as “of” and “the”.
#
# Is it the denoising that teaches this? The control is the same network, trained for as many steps on the same captions
# without any damage. It learns to copy. Each training was repeated beforehand with three seeds; the next cell only
# tests the network that you have just trained.
#
# The rule: the claim holds if the training on damaged captions restores at least 50 points more of the captions that
# lost no important word.

# %%
SMALL_WORDS = {"a", "an", "the", "of", "in", "on", "at", "by", "with"}
small = {row[0] for row in ids_of(sorted(SMALL_WORDS))}
dice = np.random.default_rng(3)
knowable = []
for noise in NOISES.values():
    damaged = [noise(row, dice) for row in kept]
    lost = [Counter(row) - Counter(broken) for row, broken in zip(kept, damaged, strict=True)]
    hits = [after == row for after, row in zip(mended(mender, damaged), kept, strict=True)]
    knowable += [hit for hit, gone in zip(hits, lost, strict=True) if gone.keys() <= small]
print(f"your network restores {sum(knowable) / len(knowable):.0%} of {len(knowable)} that lost no important word")

# %% tags=["folded"]
kinds = [*NOISES, "no important word"]
made, axis = figure(8.2, 2.9)
for offset, arm, colour in zip((-0.27, 0.0, 0.27), DENOISING.arms, (BLUE, GREY, ORANGE), strict=True):
    columns = [DENOISING.column(arm, kind) for kind in kinds]
    places = np.arange(4) + offset
    axis.bar(places, [sum(column) / 3 for column in columns], 0.25, color=colour, label=arm)
    for place, column in zip(places, columns, strict=True):
        axis.scatter([place] * 3, column, s=9, color=INK, zorder=3)
        axis.text(place, max(column) + 0.025, f"{sum(column) / 3:.0%}", ha="center", fontsize=9)
axis.set(xticks=range(4), ylim=(0, 1.16), ylabel="restored exactly")
axis.set_xticklabels([*NOISES, "no important word lost"])
axis.grid(axis="x", visible=False)
axis.set_axisbelow(True)
axis.legend(loc="upper left", fontsize=8.5)
show(
    made,
    "Bars of the share of captions restored exactly, with a dot for each of three trainings, for three networks: the "
    "classic BART, the same trained on sound captions, which restores hardly any, and the one with DALL·E Mini's "
    "changes. Most are restored after a permutation and where no important word is lost.",
)

# %%
verdict(
    "bart-cleans",
    difference(
        DENOISING.column("classic BART", "no important word"),
        DENOISING.column("classic BART on sound captions", "no important word"),
        "pairs of trainings",
    ),
    figures="The published BART was pre-trained on documents, not on captions (Lewis and others, 2020).",
)

# %% [markdown]
# The damage makes the difference. Trained on sound captions the network reaches a smaller loss, but it only copies.
# Trained on damaged ones it restores nearly all that lost no important word, and some in which it guesses the lost
# word. With DALL·E Mini's changes the results are about the same.
#
# ### Claim 2: “Encodes captions as embedding vectors”
#
# The encoder computes a vector for each token. Are these vectors useful? We test this in two ways, each with two
# controls: three encoders of the same architecture with random weights, and the token embeddings alone, before any
# layer.
#
# First: what can you predict from a *single* vector, the one at the subject's noun? A **linear probe** is a linear
# classifier that is trained on a network's vectors, here to predict the subject, the setting, the colour and the style
# of the scene. It is trained on 30, 120 or 720 captions and tested on 240 others; once also on shuffled labels.


# %%
def linear_map(inputs: Tensor, outputs: Tensor, strength: float = 10.0) -> Callable[[Tensor], Tensor]:
    """The linear map of inputs (m, a) to outputs (m, b) with least squares, and a small penalty on its size."""
    mean, spread, centre = inputs.mean(0), inputs.std(0) + 1e-6, outputs.mean(0)
    scaled = (inputs - mean) / spread  # (m, a)
    penalty = strength * torch.eye(inputs.shape[1], device=inputs.device)
    solution = torch.linalg.solve(scaled.T @ scaled + penalty, scaled.T @ (outputs - centre))  # (a, b)
    return lambda new: (new - mean) / spread @ solution + centre


def probe_hits(vectors: Tensor, labels: Tensor, learned: int) -> Tensor:
    """Whether a linear probe, fitted on the first `learned` of 720 vectors, predicts the labels of the last 240."""
    probe = linear_map(vectors[:learned], F.one_hot(labels[:720]).float()[:learned])
    return (probe(vectors[720:]).argmax(1) == labels[720:]).float()


def mean_state(state: Tensor, text: Tensor) -> Tensor:
    """One vector (n, d) for each caption: the mean of its tokens' states (n, t, d), padding left out."""
    mask = (text != PAD)[..., None]
    return (state * mask).sum(1) / mask.sum(1)


def random_encoder(seed: int) -> Callable[[Tensor], Tensor]:
    """The encoder of a network like the shipped one, but with random weights."""
    torch.manual_seed(seed)
    return Bart(BartConfig(**asdict(translator.config))).to(DEVICE).eval().encode


readers: dict[str, list[Callable[[Tensor], Tensor]]] = {
    "the shipped encoder": [translator.encode],
    "random encoders": [random_encoder(seed) for seed in range(3)],
    "the table alone": [translator.text_embedding],
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
LEARNED = (30, 120, 720)
shuffled = {
    name: values[torch.randperm(960, generator=torch.Generator().manual_seed(0))] for name, values in labels.items()
}
found: dict[str, list[list[float]]] = {}  # for each reader and size, the share of each caption's four facts
with torch.no_grad():
    at_noun = {
        name: [read(text)[torch.arange(len(text)), nouns].cpu() for read in some] for name, some in readers.items()
    }
for name, truth in [*((name, labels) for name in readers), ("shuffled labels", shuffled)]:
    vectors = at_noun.get(name, at_noun["the shipped encoder"])
    found[name] = [
        torch.stack([probe_hits(each, values, size) for each in vectors for values in truth.values()]).mean(0).tolist()
        for size in LEARNED
    ]

# %% tags=["folded"]
made, axis = figure(7.4, 2.7)
for (name, columns), colour in zip(found.items(), (BLUE, ORANGE, GREEN, GREY), strict=True):
    draw_estimates(axis, LEARNED, [mean(column, "captions") for column in columns], color=colour, label=name)
axis.set(xscale="log", xticks=LEARNED, ylim=(0, 1.05), xlabel="captions for the probe", ylabel="facts right")
axis.set_xticklabels(LEARNED)
axis.minorticks_off()
axis.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
show(
    made,
    "Four lines over the number of captions for the probe, with 95 % intervals. From top to bottom: random "
    "encoders, the shipped encoder, the table alone, shuffled labels.",
)

# %%
probe_gains = [
    difference(*(found[name][place] for name in ("the shipped encoder", "random encoders")), "captions")
    for place in range(3)
]
for size, gain in zip(LEARNED, probe_gains, strict=True):
    print(
        f"facts right with {size} captions, shipped encoder minus random ones: {100 * gain.value:+.1f} points "
        f"({100 * gain.low:+.1f} to {100 * gain.high:+.1f})"
    )

# %% [markdown]
# In the embedding table the vector of “cat” only contains that it is a cat, and at most which colour cats usually have.
# After the encoder it also contains the setting, the colour and the style. But the line of the random encoders is the
# highest. Attention with random weights puts something of every token into each vector, and a probe can separate the
# parts again. So a probe tells whether information is there, not whether training put it there.
#
# So the second test is about meaning, which an encoder can only learn by training. There are 400 scenes, each with a
# caption A, a caption B that says the same in other words, and a caption C that differs from A in one fact. If the
# vectors represent meaning, B must be nearer to A than C is. We compare the means of the captions' vectors.
#
# The rule: the claim holds if B is nearer more often by the shipped encoder than by both controls.


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
tokens = [pipe.tokenizer.encode(column, LENGTH).to(DEVICE) for column in zip(*triples, strict=True)]


@torch.no_grad()
def is_nearer(read: Callable[[Tensor], Tensor]) -> Tensor:
    """Whether B is nearer to A than C is, for each of the 400 scenes: (400,), 1 or 0."""
    a, b, c = (mean_state(read(each), each) for each in tokens)  # (400, d) each
    return ((a - b).norm(dim=1) < (a - c).norm(dim=1)).float()


nearer = {name: torch.stack([is_nearer(read) for read in some]).mean(0).tolist() for name, some in readers.items()}
print(*(f"{letter}: {words}" for letter, words in zip("ABC", triples[1], strict=True)), sep="\n")
for name, values in nearer.items():
    print(f"B is nearer, {name}: {sum(values) / len(values):.0%}")

# %%
few, _, many = probe_gains
verdict(
    "bart-embeds",
    difference(nearer["the shipped encoder"], nearer["random encoders"], "captions"),
    difference(nearer["the shipped encoder"], nearer["the table alone"], "captions"),
    figures=f"A probe on single vectors reads {100 * many.value:+.1f} points ({100 * many.low:+.1f} to "
    f"{100 * many.high:+.1f}) more facts off the trained weights than off random ones if it is trained on 720 "
    f"captions, {100 * few.value:+.1f} points ({100 * few.low:+.1f} to {100 * few.high:+.1f}) with 30.",
)

# %% [markdown]
# The training data do not say which captions mean the same. A likely reason why the encoder learned it: such captions
# belong to pictures with similar codes.
#
# ### Claim 3: “The BART model translates captions into the codebook vocabulary.”
#
# Every number that it writes is in that vocabulary by construction: the decoder has one logit for each of the 1,024
# codes. But is it a *translation*: does the picture show what the caption says? The shipped translator draws 64
# captions, each with a combination that was held out of training. The judge is a classifier that was trained on all
# combinations. As a control it looks for the same facts in the drawing of the next caption. We also measure how much
# the caption helps: the cross-entropy of a painted picture's codes with its own caption, without one, and with the
# caption of another picture.
#
# The rule: the claim holds if the judge finds all four facts in the captions' own drawings at least 50 points more
# often than in the control's, and a code costs less with its caption than without one.


# %%
@torch.no_grad()
def cost_of(prompts: Sequence[str], codes: Tensor) -> list[float]:
    """The cross-entropy of each picture's codes (n, 8, 8), in nats per code, given its prompt; "" is no caption."""
    nothing = pipe.tokenizer.empty_caption(LENGTH)
    rows = [pipe.tokenizer.encode([prompt], LENGTH)[0] if prompt else nothing for prompt in prompts]
    logits = translator(torch.stack(rows).to(DEVICE), codes.flatten(1))[..., : pipe.vqgan.config.codes]
    return F.cross_entropy(logits.transpose(1, 2), codes.flatten(1), reduction="none").mean(1).tolist()


@torch.no_grad()
def judged(pictures: Tensor, scenes: Sequence[Scene]) -> list[float]:
    """Whether the judge finds all of each scene's subject, setting, colour and style in its picture: 1 or 0."""
    return correct_attributes(judge, world, pictures.to(DEVICE), scenes).all(1).float().tolist()


judge = preset.load_classifier("judge").to(DEVICE).eval()
novel = world.sample(64, seed=31, held_out="only")
novel_captions = [caption(scene, complete=True) for scene in novel]
drawn = pipe.draw(novel_captions, n=1, seed=0, rank=False)
pictures = torch.cat([each.pictures for each in drawn])
painted = paint(novel, 64).to(DEVICE)
with torch.no_grad():
    true_codes = pipe.vqgan.encode(painted).indices  # (64, 8, 8)
nats = {
    "its own caption": cost_of(novel_captions, true_codes),
    "no caption": cost_of([""] * 64, true_codes),
    "another caption": cost_of([*novel_captions[1:], novel_captions[0]], true_codes),
}

# %% tags=["folded"]
short = [fill(f"{scene.colour} {scene.subject}, {scene.setting}, {scene.style}", 14) for scene in novel[:8]]
show(
    picture_grid(
        posterize(torch.cat([painted[:8], pictures[:8].to(DEVICE)])), 8, short, rows=["painted", "translated"],
        inches=1.1, title="The first eight captions of the test, in short, as painted and as translated",
    ),
    "Two rows of eight pictures, above as the painter paints the captions, below as the translator draws them: mostly "
    "the same subjects, settings, colours and styles. The short captions: "
    + "; ".join(words.replace("\n", " ") for words in short) + ".",
)  # fmt: skip

# %%
for name, values in nats.items():
    print(f"nats per code, given {name}: {sum(values) / len(values):.2f}")
facts, facts_of_next = judged(pictures, novel), judged(pictures.roll(1, 0), novel)
verdict(
    "bart-translates",
    difference(facts, facts_of_next, "captions"),
    difference(nats["no caption"], nats["its own caption"], "captions"),
    figures=f"All four facts are in {sum(facts) / 64:.0%} of the drawings.",
)

# %% [markdown]
# A wrong caption is worse than no caption, because the translator predicts the wrong picture.
#
# ### Claim 4: “The codebook of VQ-GAN, in effect, maps text embeddings to image embeddings.”
#
# Taken literally this is false: the codebook's input is a *code*, not a text embedding. But the chain from text to
# picture may be such a map, with the codebook as its last link. You can test both.
#
# *The chain.* The text embedding is the mean vector of a caption, as in claim 2. The image embedding is the picture's
# grid of codebook vectors, 8 × 8 × 32 numbers. Fit a linear map from text to image embeddings on painted scenes. For a
# new caption, is its prediction nearer to the picture that the translator draws from this caption than to 255 others?
# Similar captions have words in common, so even the vectors of a random encoder are good for something. The map is
# fitted on 96 scenes only, because with many scenes random encoders find nearly all pictures too.
#
# *The link.* Shuffle the rows of the codebook. BART writes the same codes as before, but each code now stands for
# another vector.
#
# The rule: the claim holds if the map finds more drawings from the vectors of the shipped encoder than from those of
# random ones, and if the judge finds all facts at least 50 points more often with the right codebook than with the
# shuffled one.

# %%
learned_scenes = world.sample(96, seed=21, complete=True)
asked_scenes = distinct_scenes(world.sample(600, seed=22, complete=True))[:256]
pair_captions = [caption(scene, complete=True) for scene in [*learned_scenes, *asked_scenes]]
pair_text = pipe.tokenizer.encode(pair_captions, LENGTH).to(DEVICE)
book = pipe.vqgan.quantize.embedding.weight.detach().float()  # (1024, 32)
with torch.no_grad():
    seen_codes = pipe.vqgan.encode(paint(learned_scenes, 64).to(DEVICE)).indices
fresh = pipe.draw(pair_captions[96:], n=1, seed=0, rank=False)
fresh_pictures, fresh_codes = (
    torch.cat(part) for part in zip(*((each.pictures, each.codes) for each in fresh), strict=True)
)
image_embeddings, wanted = book[seen_codes].flatten(1), book[fresh_codes].flatten(1)  # (96, 2048), (256, 2048)


@torch.no_grad()
def predicted(read: Callable[[Tensor], Tensor], order: Tensor | None = None) -> Tensor:
    """The image embeddings (256, 2048) of new captions; `order` shuffles the pairs on which the map is fitted."""
    vectors = mean_state(read(pair_text), pair_text)  # (352, 192)
    images = image_embeddings if order is None else image_embeddings[order]
    return linear_map(vectors[:96], images)(vectors[96:])


def hits(predictions: Tensor) -> Tensor:
    """Whether each prediction is nearer to its own caption's drawing than to the 255 others: (256,), 1 or 0."""
    own = torch.arange(256, device=predictions.device)
    return (torch.cdist(predictions, wanted).argmin(1) == own).float()


chain = {name: torch.stack([hits(predicted(read)) for read in some]).mean(0).tolist() for name, some in readers.items()}
order = torch.randperm(96, generator=torch.Generator().manual_seed(0)).to(DEVICE)
chain["shuffled pairs"] = hits(predicted(translator.encode, order)).tolist()
for name, values in chain.items():
    print(f"found among 256, {name}: {sum(values) / len(values):.0%}")

shuffled_rows = torch.randperm(len(book), generator=torch.Generator().manual_seed(0)).to(DEVICE)
garbled = pipe.decode(shuffled_rows[fresh_codes])
link, broken_link = judged(fresh_pictures, asked_scenes), judged(garbled, asked_scenes)

# %% tags=["folded"]
short_cuts = []
with torch.no_grad():
    for read in (translator.encode, readers["random encoders"][0]):
        grids = predicted(read)[:7].reshape(7, 8, 8, -1).permute(0, 3, 1, 2).contiguous()  # (7, 32, 8, 8)
        short_cuts.append(pipe.vqgan.decode(grids).float())
rows = ["BART writes", "linear map", "the same,\nrandom encoder", "other book"]
show(
    picture_grid(posterize(torch.cat([fresh_pictures[:7], *short_cuts, garbled[:7]])), 7, rows=rows, inches=1.05),
    "Four rows of seven pictures. First, as the translator draws them. Second, what a linear map predicts from the "
    "caption's vector: similar, but blurred. Third, the same with a random encoder. Last, the same codes as in the "
    "first row with a shuffled codebook: coloured noise.",
)

# %%
verdict(
    "bart-codebook-maps",
    difference(chain["the shipped encoder"], chain["random encoders"], "captions"),
    difference(link, broken_link, "captions"),
    figures=f"Found with the embedding table alone: {sum(chain['the table alone']) / 256:.0%}, by the shipped encoder: "
    f"{sum(chain['the shipped encoder']) / 256:.0%}. The codebook itself maps numbers; the text decides which.",
)

# %% [markdown]
# With the shipped encoder's vectors the map finds many more drawings than with random ones. And without their codebook
# the codes lose their meaning: the judge finds almost nothing in the last row.
#
# The second row takes the slide's sentence literally: a linear map turns the caption's vector into an image embedding,
# and the VQ-GAN's decoder draws it, without choosing any code. Most subjects can be recognised, but they are blurred,
# because the result is the mean of all pictures that fit the caption. To get one picture, you have to choose one code
# after the other, each consistent with those before, as BART's decoder does.
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
# `new` more tokens at once. Write the mask that `positions_and_mask` has to return: True where a new token may see a
# key. A new token sees all known tokens, itself, and the new tokens before it.


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
# - With another config the same class is the BART that restores text.
# - The caption affects the codes only through cross-attention, and guidance strengthens its effect.
# - The pictures show what the caption says, mostly even for combinations that were not in the training data.
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
