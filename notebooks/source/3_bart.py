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
# A sentence goes in, sixty-four numbers come out, and the numbers are a picture. In this lesson you build the machine
# that does this. You watch it mend broken sentences, and then you look over its shoulder while it writes.

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
# Part 2 ended with a network, the VQ-GAN, that writes pictures in words. Its encoder cuts a picture into a grid of
# cells and names each cell by a code, the number of a row in a codebook; the codebook is a learned table of vectors.
# Its decoder looks the rows up and draws the picture again. Such a grid is a sentence, in a language that has a
# dictionary of 1,024 words and no grammar book.
#
# Random codes give rubbish. Somebody has to know which sentences are pictures, and of what. This is a job for a network
# that translates between languages. DALL·E Mini took one from text processing: **BART**, published by Lewis and others
# in 2020. It reads your prompt, the sentence that says what is to be drawn, and writes codes.
#
# Here is the course's own translator at work, the one of the preset called *laptop*. Its pictures have 8 × 8 codes.
# During training it has seen strawberries, and blue things, but no blue strawberry.

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
    # `posterize` leaves 32 shades of each colour: hardly seen, and the notebook's file stays small.
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
# The translator has two halves. The encoder reads the whole prompt at once and makes a vector, a list of numbers, for
# each of its tokens. (The VQ-GAN had an encoder and a decoder as well; these are two other networks.) The decoder
# writes the codes, row by row from the upper left corner. Before each code it looks at two things: at the codes that it
# has written so far, and at the encoder's vectors. So it splits a hard question, which of $1024^{64}$ pictures, into
# sixty-four easier ones:
#
# $$p(k_1, \dots, k_s \mid \text{text}) = \prod_{i=1}^{s} p(k_i \mid k_1, \dots, k_{i-1}, \text{text}).$$
#
# A model that writes like this, each word depending on the ones before, is **autoregressive**.
#
# Looking is an operation of its own. It is called **attention**: each vector asks a question of a set of other vectors,
# and receives a mean of their answers, weighted by how well each of them fits the question. What it asks with is its
# **query**; each vector that can be looked at offers a **key**, which is compared with the query, and a **value**,
# which is what it has to say. A network whose layers look in this way is a **transformer**.
#
# $$\text{attention}(q, K, V) = \text{softmax}\!\left(\frac{q K^\top}{\sqrt{c}}\right) V.$$
#
# | symbol | meaning | shape |
# |---|---|---|
# | $s$, $t$ | tokens of the target (codes), tokens of the text | numbers: 64, and about 12 |
# | $d$ | length of the vectors between the layers | a number: 192 here, 1024 in DALL·E Mini |
# | $h$, $c = d / h$ | heads, and the width of each | numbers: 6 and 32 here, 16 and 64 |
# | $q$ | the queries, one for each vector that looks | (s, c) |
# | $K$, $V$ | the keys and the values of what is looked at | (t, c) each |
# | $q K^\top / \sqrt{c}$ | how well each key fits each query | (s, t) |
# | **softmax** | makes positive shares of each row, which sum to 1 | (s, t) |
# | $k_i$ | the code number $i$ of the picture | a whole number from 0 to 1023 |
#
# The next cell draws the slide's figure, “What BART does”, with the real numbers of the first picture above. A code has
# the colour that the VQ-GAN's decoder gives to it where nothing stands but this one.

# %%
inks = code_colours(pipe.decode, torch.arange(pipe.vqgan.config.codes))  # (1024, 3)


@torch.no_grad()
def draw_idea(picture: Tensor, codes: Tensor) -> Figure:
    """A prompt on its way through the translator: pieces, ids, the encoder's state, codes (8, 8), the picture."""
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
    axis.text(8.7, -0.88, "what is written is read again", ha="center", color=VERMILION, fontsize=8.5, va="center")
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
# You build the translator in eight steps. The code is the library's own.
#
# ### Step 1: attention on paper
#
# Three words can be looked at. Their keys say what kind of thing each is, here with two numbers: how much of a colour
# it is, and how much of a thing. Somebody who is about to write the strawberry's cells asks for a colour.

# %% tags=["checked"]
words = ["blue", "strawberry", "moon"]
keys = torch.tensor([[3.0, 0.0], [0.0, 3.0], [0.0, 2.0]])  # (t, c): colour, thing
values = torch.tensor([[0.1, 0.2, 0.9], [0.8, 0.1, 0.2], [0.6, 0.6, 0.6]])  # (t, 3): what each has to say
query = torch.tensor([[2.0, 0.5]])  # (s, c): mostly a question for a colour
weights = (query @ keys.T / 2**0.5).softmax(-1)  # (s, t)
found = weights @ values  # (s, 3)
for word, weight in zip(words, weights[0].tolist(), strict=True):
    print(f"{word:<10} {weight:.2f}")
print("what it finds:", [round(number, 2) for number in found[0].tolist()])
assert torch.allclose(weights.sum(-1), torch.ones(1))
assert torch.allclose(F.scaled_dot_product_attention(query, keys, values), found)

# %% [markdown]
# Nobody writes keys and queries by hand. They are linear functions of the vectors, and training finds them. The
# division by $\sqrt{c}$ keeps the products at the same size whatever the width: a sum of $c$ products of independent
# numbers of variance 1 has the variance $c$.
#
# ### Step 2: the config
#
# One class, two published models: which of them it is, is said by the config alone. Sizes come first. The fields from
# `normformer` on are what DALL·E Mini changed, and you will meet each of them in the code below.


# %%
@dataclass(frozen=True)
class BartConfig:
    """Sizes and architecture of a `Bart`. The defaults of the architecture are DALL·E Mini's."""

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
        """Rows of target embedding and output layer: one more than codes, for the start token, unless shared."""
        return self.text_vocabulary if self.shared_embedding else self.target_vocabulary + 1

    @property
    def decoder_start(self) -> int:
        """The token that the decoder sees before the first code."""
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
        """The classic: bart-base, text to text, 139.4 million parameters."""
        sizes = cls(50265, 50265, 1024, 1024, width=768, heads=12, inner_width=3072, encoder_layers=6, decoder_layers=6)
        plain = replace(sizes, normformer=False, glu=False, bias=True, start_token=2, position_offset=2, dropout=0.1)
        return replace(plain, shared_embedding=True, final_logits_bias=True)


# %% tags=["checked"]
tiny = BartConfig(40, 50, 12, 16, width=24, heads=3, inner_width=32, encoder_layers=1, decoder_layers=2)
print("heads:", tiny.heads, "of width", tiny.width // tiny.heads)
print("rows of the code table:", tiny.target_rows, "— the last one is the start token,", tiny.decoder_start)

# %% [markdown]
# ### Step 3: heads
#
# A single softmax mostly looks at one place. But a cell of the picture wants to know several things at once: which
# thing, which colour, which style. So the vector of width $d$ is cut into $h$ pieces. Each piece has queries, keys and
# values of its own and looks where it likes. Such a piece is a **head**. At the end the heads' findings are joined and
# mixed by one more linear layer.
#
# `project` makes keys and values, `forward` looks: two methods, because what is looked at is often another sequence
# than what looks. PyTorch's `scaled_dot_product_attention` is the formula of step 1, computed without ever storing the
# (s, t) table.


# %%
class KeysValues(NamedTuple):
    """What attention looks at: keys and values, split into heads."""

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
        """Cut vectors (n, t, d) into heads (n, h, t, c)."""
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def project(self, state: Tensor) -> KeysValues:
        """Keys and values of a state (n, t, d)."""
        return KeysValues(self.split(self.k_proj(state)), self.split(self.v_proj(state)))

    def forward(self, x: Tensor, seen: KeysValues, mask: Tensor | None = None, causal: bool = False) -> Tensor:
        """Let every vector of x (n, s, d) look at `seen` and return what it found, (n, s, d)."""
        q = self.split(self.q_proj(x))  # (n, h, s, c)
        found = F.scaled_dot_product_attention(q, seen.keys, seen.values, attn_mask=mask, is_causal=causal)
        return self.out_proj(found.transpose(1, 2).flatten(2))  # (n, s, d)


# %% tags=["checked"]
torch.manual_seed(0)
attention = Attention(tiny)
x, text = torch.randn(2, 4, 24), torch.randn(2, 7, 24)  # two sequences: 4 vectors that look, 7 that are looked at
seen = attention.project(text)
print("keys", tuple(seen.keys.shape), "values", tuple(seen.values.shape))
print("four vectors look at seven:", tuple(attention(x, seen).shape))
turned = torch.tensor([3, 1, 2, 0, 4, 6, 5])
assert torch.allclose(attention(x, attention.project(text[:, turned])), attention(x, seen), atol=1e-6)

# %% [markdown]
# Look at the last line of code. Shuffle what is looked at, and the result is the same: attention sees a *set*. If order
# is to matter, the vectors have to say themselves where they stand. That is why positions are added in step 7.
#
# Not everybody may look at everything. An **attention mask** is a table that says which query may see which key; what
# is masked gets the weight 0. There are two of them here. Captions in a batch have different lengths and are filled up
# with **padding**, which nobody may see. And while the decoder learns, the whole picture lies before it; a **causal
# mask** hides from each code the ones that come later, or it would learn to copy instead of to foresee.

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
    "Three tables of 6 queries by 6 keys in shades of blue. Without a mask every cell has a share. With padding the "
    "last two columns are hatched out. With the causal mask everything above the diagonal is hatched out. Each row's "
    "shares sum to one.",
)

# %% [markdown]
# ### Step 4: the feed-forward layer
#
# Attention carries things from place to place. What to make of them is computed at each place by itself, by two linear
# layers with a bend between them: the **feed-forward layer**. BART's is $W_2\, \text{GELU}(W_1 x)$, where GELU is a
# soft version of $\max(0, x)$. DALL·E Mini's is gated (Shazeer, 2020): $W_2\,(\text{GELU}(W_0 x) \cdot W_1 x)$, so that
# one half decides how much of the other half passes. Three matrices instead of two: to cost the same, the inner width
# shrinks to two thirds, and that is how 4096 became 2730.
#
# A **layer normalisation** brings a vector's numbers to mean 0 and variance 1, and then learns a scale and a shift for
# each of them. It keeps deep networks trainable. Where a linear layer comes next, that layer can hold the scale, so
# DALL·E Mini leaves it out. This is `ShiftNorm`.


# %%
class ShiftNorm(nn.Module):
    """LayerNorm that learns a shift but no scale, because a linear layer that could hold the scale comes next."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise the last dimension of x to mean 0 and variance 1, then shift it."""
        return F.layer_norm(x, self.bias.shape, bias=self.bias.to(x.dtype))  # under autocast x may be bfloat16


class FeedForward(nn.Module):
    """The layer that treats every position by itself: fc2(GELU(fc1 x)), or gated, fc2(GELU(fc0 x) · fc1 x)."""

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
print(f"gated, 32 inside: {count['g']} numbers; plain, 48 inside: {count['p']}")
assert torch.allclose(gated(x)[:, 2:3], gated(x[:, 2:3]), atol=1e-6)  # each place by itself
wild = ShiftNorm(24)(5 + 7 * x)
assert wild.mean(-1).abs().max() < 1e-5
assert (wild.var(-1, correction=0) - 1).abs().max() < 1e-4

# %% [markdown]
# ### Step 5: the encoder's layer
#
# A layer is one round of looking and one of thinking. Neither replaces its input; each *adds* its result to it. The
# sums run through the whole network like a stream into which every layer pours something, and so they are called the
# **residual stream**. Gradients run back along it without passing through anything.
#
# Where does the normalisation go? BART puts it on the sum: `norm(residual + x)`, so that the stream itself is squeezed
# in every layer. NormFormer (Shleifer and others, 2021) leaves the stream alone and normalises what goes into attention
# and what comes out of it, `residual + norm(x)`, and the feed-forward layer before and in its middle. This is `join`.
#
# When the vectors of a sequence look at each other, this is **self-attention**. The encoder has no causal mask: the
# first word may look at the last.


# %%
class Layer(nn.Module):
    """What encoder and decoder layers share: self-attention, a feed-forward layer, and how both join the residual."""

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
        """Add a sublayer's output x to the residual stream: NormFormer normalises x, BART the sum."""
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
changed[1, 5:] = 99.0  # rubbish where there is padding
print("in", tuple(text.shape), "out", tuple(layer(text, mask).shape))
assert torch.allclose(layer(text, mask)[1, :5], layer(changed, mask)[1, :5], atol=1e-6)  # nobody has seen it

# %% [markdown]
# ### Step 6: the decoder's layer, and what it remembers
#
# The decoder's layer has one part more. After looking at the codes before (causal self-attention), it looks at the
# text: queries come from the codes, keys and values from the encoder. This is **cross-attention**, and it is the only
# place where the caption enters the picture.
#
# Writing goes one code at a time. But the keys and values of the codes before stay the same in every later step, for
# they may not look at what comes after them. So they are kept. A memory of keys and values is called a **cache**. The
# block does not say how it is stored. It only says what it wants to ask, in two protocols: `extend` takes in the keys
# and values of new tokens and returns all of them, `place` says where the new tokens stand and what each may see.


# %%
class LayerCache(Protocol):
    """The keys and values that one decoder layer has made of the tokens before."""

    def extend(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Take in keys and values (n, h, s, c) of new tokens; return those of all tokens, (n, h, all, c) each."""
        ...


class DecoderCache(Protocol):
    """What `Bart.decode` must know of earlier tokens, so that it need not read them again."""

    @property
    def layers(self) -> Sequence[LayerCache]:
        """One memory per decoder layer."""
        ...

    def place(self, count: int) -> tuple[Tensor, Tensor | None]:
        """Where the next `count` tokens stand, (count,), and which keys each may see, (count, all), None for all."""
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

        # All pictures of one prompt look at the same text, so their queries stand in one row: keys are never copied.
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
print("places that noticed:", moved.nonzero().flatten().tolist())
assert moved.tolist() == [False, False, False, True, True]

# %% [markdown]
# The places 0 to 2 noticed nothing. That is the causal mask at work.
#
# ### Step 7: positions, and the whole
#
# `Stack` is what both halves need around their layers: a learned vector for each position, added to the token's own,
# and the normalisations at both ends. `Bart` joins the halves.
#
# Read `decode` from its end. The last vectors, `hidden_states`, become logits: a logit is a score that softmax turns
# into a probability, one for each code. `forward` is what training calls. It gives the decoder the *right* codes, moved
# one place to the right, and asks for the next one at all places at once. This is **teacher forcing**: however badly it
# guesses, it always goes on from the truth.


# %%
def check_tokens(name: str, tokens: Tensor, longest: int) -> None:
    """Raise a ValueError unless tokens are (n, length) with a length from 1 to `longest`."""
    if tokens.ndim != 2:
        raise ValueError(f"{name} has shape {tuple(tokens.shape)}; give one row of ids per sequence, (n, length).")
    if not 1 <= tokens.shape[1] <= longest:
        raise ValueError(f"{name} has {tokens.shape[1]} tokens a row; this model takes 1 to {longest}.")


class Stack(nn.Module):
    """What encoder and decoder share besides their layers: positions, and the norms at both ends."""

    def __init__(self, config: BartConfig, length: int, layers: Sequence[Layer]) -> None:
        super().__init__()
        self.position_offset = config.position_offset
        self.embed_positions = nn.Embedding(length + config.position_offset, config.width)
        self.layernorm_embedding = nn.LayerNorm(config.width)
        self.dropout = nn.Dropout(config.dropout)
        self.layers = nn.ModuleList(layers)
        self.final_ln = ShiftNorm(config.width) if config.normformer else nn.Identity()

    def start(self, x: Tensor, positions: Tensor) -> Tensor:
        """Tell embedded tokens x (n, t, d) where they stand; positions (t,) count from 0."""
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
        """True where text (n, t) holds a token, False where it is padding."""
        return text != self.config.pad_token

    def encode(self, text: Tensor, mask: Tensor | None = None) -> Tensor:
        """Read text: ids (n, t) to the encoder's state (n, t, d)."""
        check_tokens("text", text, self.config.text_length)
        mask = self.text_mask(text) if mask is None else mask
        positions = torch.arange(text.shape[1], device=text.device)
        x = self.encoder.start(self.text_embedding(text), positions)  # (n, t, d)
        for layer in self.encoder.layers:
            x = layer(x, mask[:, None, None, :])
        return self.encoder.final_ln(x)

    def project(self, state: Tensor) -> list[KeysValues]:
        """Every decoder layer's keys and values of an encoder state (p, t, d): made once per prompt, used each step."""
        return [cast(DecoderLayer, layer).encoder_attn.project(state) for layer in self.decoder.layers]

    def decode(
        self,
        tokens: Tensor,
        state: Tensor | Sequence[KeysValues],
        mask: Tensor,
        cache: DecoderCache | None = None,
    ) -> Tensor:
        """Predict the token after each target token: logits (n, s, target_rows). For arguments see `hidden_states`."""
        return self.logits(self.hidden_states(tokens, state, mask, cache))

    def hidden_states(
        self,
        tokens: Tensor,
        state: Tensor | Sequence[KeysValues],
        mask: Tensor,
        cache: DecoderCache | None = None,
    ) -> Tensor:
        """Run the decoder over tokens (n, s), the start token first: what it knows after each of them, (n, s, d)."""
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
        """What the decoder sees while it learns to write targets (n, s): the start token, then all but the last."""
        return F.pad(targets[:, :-1], (1, 0), value=self.config.decoder_start)

    def forward(self, text: Tensor, targets: Tensor) -> Tensor:
        """Teacher forcing: logits (n, s, target_rows) for each target, given text (n, t) and the targets before it."""
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
print("what the decoder sees:", bart.shift(targets)[0, :5].tolist(), "while it is to write", targets[0, :5].tolist())

# %% [markdown]
# The smallest cache that works grows by concatenation. The next cell writes sixteen codes twice: once reading
# everything again at each step, once with the cache. What comes out is the same. What it costs is not.


# %%
class GrowingLayer:
    """A layer's keys and values, joined with each new token's."""

    def __init__(self) -> None:
        self.kept: list[tuple[Tensor, Tensor]] = []

    def extend(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        self.kept.append((keys, values))
        return torch.cat([k for k, _ in self.kept], dim=2), torch.cat([v for _, v in self.kept], dim=2)


class GrowingCache:
    """A memory for one new token at a time, which may see everything before it."""

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
# For DALL·E Mini's 256 codes it is 32,896 tokens against 256.
#
# ### The same numbers as the reference
#
# With its classic config this class is BART. To prove it, draw random weights in the reference, Hugging Face's
# `BartForConditionalGeneration`, give the same weights to ours, and compare logits. Converting is renaming: their table
# of embeddings is called `shared`, and their feed-forward layers have no module of their own.

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
    assert torch.equal(theirs.pop(copy), table)  # listed four times, one table
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
# The tests in `tests/parity` compare the other config with *min-dalle*, the best-known port of DALL·E Mini.
#
# ### Step 8: what DALL·E Mini changed
#
# BART-large and DALL·E Mini have the same frame. The rest is a handful of switches:
#
# | | BART-large | DALL·E Mini | field of the config |
# |---|---|---|---|
# | frame | 12 + 12 layers, 16 heads, $d = 1024$ | the same | `encoder_layers`, … |
# | what it writes | the 50,265 tokens that it also reads | 16,384 codes, its own vocabulary | `target_vocabulary` |
# | tables | one, for text, target and output | three, each its own | `shared_embedding` |
# | normalisation | on each sum | before and after attention, before and inside the feed-forward layer | `normformer` |
# | feed-forward | GELU, 4096 inside | gated, 2730 inside | `glu`, `inner_width` |
# | biases in linear layers | yes | no; so no constant on the logits either | `bias`, `final_logits_bias` |
# | before the first code | `</s>` | a row of its own behind the last code | `start_token` |
# | positions | 1024, behind two unused rows | 64 of text, 256 of codes | `text_length`, `position_offset`, … |
# | dropout | a tenth | none | `dropout` |
#
# The next cell builds both, as shapes without numbers, and compares.

# %% tags=["checked"]
large = replace(BartConfig.bart_base(), width=1024, heads=16, inner_width=4096, encoder_layers=12, decoder_layers=12)
mini = BartConfig.dalle_mini()
with torch.device("meta"):
    shapes = [{name: p.shape for name, p in Bart(config).named_parameters()} for config in (large, mini)]
sizes = [sum(shape.numel() for shape in each.values()) / 1e6 for each in shapes]
print(f"BART-large {sizes[0]:.1f} million numbers, DALL·E Mini {sizes[1]:.1f} million")
print("fields that differ:", ", ".join(name for name in asdict(mini) if asdict(mini)[name] != asdict(large)[name]))
fitting = sum(shapes[0].get(name) == shape for name, shape in shapes[1].items())
print(f"of DALL·E Mini's {len(shapes[1])} tensors, {fitting} have the name and shape of one of BART-large's")

# %% [markdown]
# So BART's weights cannot be poured into DALL·E Mini: even the tables of text have another number of rows. What it took
# over is the plan.
#
# ## 4 · Train it
#
# BART was not made for pictures. It was made to mend text, and what it learned by that was then used for other tasks.
# Training on a task that is only a pretext, because its data cost nothing, is called **pre-training**. BART's pretext
# is **denoising**: break a text on purpose, show the broken one to the encoder, and let the decoder write the sound
# one. Any text will do, for you make question and answer yourself.
#
# The paper (section 2.2) tries several ways of breaking. Here are three of them, for lists of token ids:
#
# - First, **text infilling** replaces a run of tokens by a single mask, a token that says “something is missing here”.
#   The length of the run is drawn from a Poisson distribution with the mean 3. It may be 0; then the mask hides
#   nothing. So the network has to find out how much is missing, too.
# - Second, token deletion takes tokens away and leaves no trace of where they stood.
# - Third, permutation shuffles. BART shuffles the *sentences* of a document, and trains on whole documents, of news,
#   books and web pages, 160 gigabytes of them. Our captions have one sentence, so we shuffle its tokens.
#
# The course's tokenizer has a token that it never uses, `<unk>` for unknown text. It serves as the mask.


# %%
def infill(tokens: list[int], dice: np.random.Generator) -> list[int]:
    """Replace one run of tokens, of random length and at a random place, by a single mask."""
    length = min(int(dice.poisson(3)), len(tokens) - 1)
    start = int(dice.integers(len(tokens) - length + 1))
    return [*tokens[:start], UNKNOWN, *tokens[start + length :]]


def delete(tokens: list[int], dice: np.random.Generator) -> list[int]:
    """Take away each token with probability 0.15, but at least one."""
    gone = dice.random(len(tokens)) < 0.15
    gone[dice.integers(len(tokens))] = True
    return [token for token, is_gone in zip(tokens, gone, strict=True) if not is_gone]


def permute(tokens: list[int], dice: np.random.Generator) -> list[int]:
    """Shuffle the tokens."""
    return [tokens[place] for place in dice.permutation(len(tokens))]


NOISES = {"text infilling": infill, "token deletion": delete, "permutation": permute}


# %% [markdown]
# The data are captions of the painted world. 600 of them are kept for the test and never trained on.


# %%
LENGTH = 32  # most tokens in a caption


def ids_of(captions: Sequence[str]) -> list[list[int]]:
    """Each caption's token ids, without the marks at its ends and without padding."""
    rows = pipe.tokenizer.encode(captions, LENGTH).tolist()
    return [[token for token in row if token not in (START, END, PAD)] for row in rows]


def padded(rows: Sequence[list[int]]) -> Tensor:
    """Token ids of several texts as one tensor (n, t), with the marks <s> and </s>."""
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
print(f"{len(learned)} captions to learn from, {len(kept)} for the test; for instance:")
for name, noise in NOISES.items():
    print(f"  {name:<15} {words_of(noise(kept[7], dice))}")
print(f"  {'what was said':<15} {words_of(kept[7])}")

# %% [markdown]
# Two networks learn it at the same time, from the same batches: the class of step 7 with the classic config, and with
# DALL·E Mini's changes. All else is the same for both, but that the gated layer is two thirds as wide inside. The loss
# is the cross-entropy, the mean of $-\log p$ of the right token in nats.

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
    print(f"{name}: {numbers / 1e6:.2f} million numbers")

# %% tags=["ignored"]
dice = np.random.default_rng(1)
losses: dict[str, list[float]] = {name: [] for name in menders}
for _ in tqdm(range(STEPS), desc="mending captions"):
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
made = curves(smooth, xlabel="step", ylabel="nats per token", title="Two BARTs learn to mend captions", log=True)
show(
    made,
    "Two falling curves of the loss over 360 steps on a logarithmic axis. The one with DALL·E Mini's changes falls "
    "sooner and ends lower.",
)

# %% [markdown]
# The network with DALL·E Mini's changes is ahead early and stays ahead. Do not read too much into it: several things
# differ, and the run is short.
#
# Now let the classic one mend captions that it has never seen. Greedy writing, always the likeliest token, is enough
# here.


# %%
@torch.no_grad()
def mended(bart: Bart, broken: Sequence[list[int]]) -> list[list[int]]:
    """What a network makes of broken captions."""
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
# A cross marks what is not word for word the caption that was broken, with the caption behind it. Mostly its sentence
# is a good one, and only not *that* one. Where the noise took the colour away, no network can know it. What such a
# model writes where it cannot know is not the truth but the usual.
#
# ## 5 · Look inside
#
# Now take the translator that the course ships: the same class, with 2 layers that read, 4 that write, 192 wide,
# trained for an hour and a half on two CPU cores. It was taught captions and the codes of their pictures, with teacher
# forcing.
#
# ### A picture, half-way
#
# The codes are written row by row, and each is drawn by lot, with the probabilities that the decoder gives. So two
# pictures of one prompt are two pictures. What has been written can be decoded at any time.

# %%
steps = [step.pictures[0] for step in pipe.stream(PROMPT, n=1, seed=3, rank=False)]
show(
    picture_grid(posterize(torch.stack(steps)), 8, titles=[f"{8 * (row + 1)} codes" for row in range(8)], inches=1.0),
    "A picture of a blue strawberry on the moon in eight steps: row by row the codes appear from the top.",
)

# %% [markdown]
# The night sky stands before there is a strawberry in it. When the decoder writes the first leaf, in the third row, it
# has decided where the fruit will be, how big and from where it is lit. Everything below has to agree with that. An
# autoregressive model cannot take anything back.
#
# ### Which words did a code look at?
#
# Cross-attention can be watched. For each code, each layer and each head it says how much of the looking went to which
# word. Below is the mean over all layers and heads, a map for each word.

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
# The word “strawberry” is looked at where the strawberry is, and “blue” where its blue is. Nobody told the translator
# where anything is: it saw captions and numbers. The marks at both ends of the caption, which are left out here, get
# nearly a third of the looking. After two layers of self-attention every word's vector knows something of its
# neighbours, so a look at “the” need not be a look at the word “the”. Attention says where information was fetched, not
# what it was.
#
# Choose a cell yourself.


# %%
def draw_cell(row: int, column: int) -> tuple[Figure, str]:
    """One cell of the picture, and the words that its code looked at."""
    made, (left, right) = figure(8.0, 2.9, 1, 2, width_ratios=(1, 1.7))
    hide_axes(left)
    left.imshow(posterize(drawing.pictures[0]).permute(1, 2, 0), extent=(0.5, 8.5, 8.5, 0.5))
    left.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, fill=False, edgecolor="white", linewidth=4))
    left.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, fill=False, edgecolor=VERMILION, linewidth=2))
    looked = shares[row - 1, column - 1].tolist()
    colours = [ORANGE if share == max(looked) else BLUE for share in looked]
    right.barh(range(len(looked)), looked, color=colours)
    right.set(yticks=range(len(looked)), yticklabels=attended.words, xlim=(0, float(shares.max())), xlabel="share")
    right.invert_yaxis()
    right.grid(axis="y", visible=False)
    right.set_axisbelow(True)
    right.set_title(f"code {drawing.codes[0, row - 1, column - 1].item()} looked at")
    best = attended.words[looked.index(max(looked))]
    return made, f"The cell in row {row}, column {column} is framed. Its code looked most at the word {best}."


explore(draw_cell, row=slider(1, 8, 4, 1, "row"), column=slider(1, 8, 4, 1, "column"))

# %% [markdown]
# ### Pushing away from no caption
#
# In training, 15 % of the captions were replaced by an empty one. So the translator also knows what pictures look like
# *in general*. When it draws, it is asked twice at each step, with the caption and without one, and the difference is
# exaggerated:
#
# $$\ell = \ell_\text{without} + g\,(\ell_\text{with} - \ell_\text{without}),$$
#
# where $\ell$ are logits, 1,024 numbers each, and $g$ is a number. Pushing the choice of each code away from what would
# be written without the caption is called **guidance**; DALL·E Mini's authors call it **super-conditioning**. With $g =
# 0$ the caption counts for nothing, with $g = 1$ it counts as in training, and above that more than it ever did. Here
# are the same prompt and the same dice in every row:

# %%
GUIDANCE = (0.0, 1.0, 1.5, 3.0)
house = "a watercolour of a purple house in a forest"
rows = [pipe.draw(house, n=6, seed=5, rank=False, guidance=g, temperature=1.0).pictures for g in GUIDANCE]
show(
    picture_grid(
        posterize(torch.cat(rows)), 6, rows=[f"guidance {g:g}" for g in GUIDANCE], title=f"“{house}”", inches=0.95
    ),
    "Four rows of six pictures. Guidance 0: anything at all, a car, a tree, houses. Guidance 1 and 1.5: purple "
    "houses in forests. Guidance 3: purple houses whose skies are blotched.",
)

# %% [markdown]
# Without the caption you get what is usual, with it purple houses. For our painted world guidance 1 is almost enough,
# since its captions are never wrong, and 3 is too much: the skies get blotches, for the codes are pushed to where no
# picture has been. Captions from the web say little about their pictures, and DALL·E Mini, which learned from those,
# needs a guidance of about 10. Lesson 5 lets you turn it.

# %% [markdown]
# ## 6 · Break it
#
# Four sentences of the slides. Each has a rule, which stands before the numbers.
#
# ### Claim 1: “A BART model is pre-trained to ‘clean’ text captions.”
#
# Every caption of the test is broken three times, once in each way, and both networks of section 4 mend it. We count
# repairs that are right word for word. Where a word that matters has gone, nobody can be right except by luck. So we
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
kinds = [*NOISES, "nothing that matters is lost"]
shares_right = {name: [*right[name].values(), sum(knowable[name]) / len(knowable[name])] for name in menders}
made, axis = figure(7.6, 2.7)
for offset, (name, values), colour in zip((-0.21, 0.21), shares_right.items(), (BLUE, ORANGE), strict=True):
    bars = axis.bar(np.arange(4) + offset, values, 0.4, color=colour, label=name)
    axis.bar_label(bars, [f"{value:.0%}" for value in values], fontsize=9)
axis.set(xticks=range(4), xticklabels=[fill(kind, 18) for kind in kinds], ylim=(0, 1.12), ylabel="mended exactly")
axis.grid(axis="x", visible=False)
axis.set_axisbelow(True)
axis.legend(loc="upper left")
show(
    made,
    "Bars of the share of captions mended exactly, for both networks: lowest for text infilling, middling for token "
    "deletion, highest for permutation and for captions that have lost nothing that matters.",
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
# So a BART learns to clean by denoising, and a minute is enough for a small one in a small world. But the published
# BART was trained on documents, not on captions. And DALL·E Mini took over its plan, not its numbers (step 8): what its
# translator knows of words, it had to learn anew, from captions and codes.
#
# ### Claim 2: “Encodes captions as embedding vectors”
#
# The encoder makes a vector for each token, so the plural is right. But are these vectors any good? We ask twice, and
# both times beside two others: the plain table of token vectors, which no layer has touched, and an encoder of the same
# build with random weights.
#
# First: what can be read off a *single* vector, the one at the subject's noun? A **linear probe** is a linear map that
# is fitted to read something off vectors, here the subject, the setting, the colour and the style of the scene. It is
# simple on purpose: what it finds must lie open in the vectors. It learns from 720 captions and is tested on 240
# others. As a control it also learns from shuffled labels.


# %%
def linear_map(inputs: Tensor, outputs: Tensor, strength: float = 10.0) -> Callable[[Tensor], Tensor]:
    """The linear map of inputs (m, a) to outputs (m, b) with least squares, and a small penalty on its size."""
    mean, spread, centre = inputs.mean(0), inputs.std(0) + 1e-6, outputs.mean(0)
    scaled = (inputs - mean) / spread  # (m, a)
    penalty = strength * torch.eye(inputs.shape[1], device=inputs.device)
    solution = torch.linalg.solve(scaled.T @ scaled + penalty, scaled.T @ (outputs - centre))  # (a, b)
    return lambda new: (new - mean) / spread @ solution + centre


def probe_accuracy(vectors: Tensor, labels: Tensor, learned: int) -> float:
    """Share of labels (m,) that a linear probe, fitted on the first `learned`, reads off the other vectors (m, d)."""
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
print(f"{'read off the vector at the noun:':<34}", *(f"{name:>8}" for name in labels))
for name, values in found.items():
    print(f"{name:<34}", *(f"{value:>8.0%}" for value in values))

# %% [markdown]
# In the table the vector of “cat” knows that it is a cat, and at most which colour cats usually have. Behind the
# encoder it knows where the cat is, its colour and its style. But look at the row of the random weights. There the
# probe reads everything just as well! Attention with random weights also carries a little of each word to every other,
# and a probe finds it. That something *can be read* off a vector does not show that the network has learned anything.
#
# So ask, second, for what only learning can give: meaning. Say a scene in other words, and then say another scene in
# almost the same words. Which of the two is nearer? There are 400 scenes, each with a caption A, a caption B that says
# the same in another wording, and a caption C that differs from A in one fact. For an encoder of meaning it must be B.
# We compare the means of the tokens' vectors by their distance.
#
# The rule: the claim holds if the probe reads all four off the shipped encoder's vectors at least 90 % of the time, and
# B is nearer in at least 90 % of the cases and more often than with both controls. It is “not quite” if only the probe
# succeeds.


# %%
def other_wording(scene: Scene, dice: np.random.Generator) -> str:
    """The scene in words other than those of its own caption."""
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
# Nobody ever told the encoder which captions mean the same. It had to find out, because they lead to the same codes.
#
# ### Claim 3: “The BART model translates captions into the codebook vocabulary.”
#
# Is everything that it writes a word of that vocabulary? And is it a *translation*: does the picture say what the
# caption says? 64 captions are drawn, each of which names a combination that was held out of training. A judge looks at
# the pictures, a classifier that knows all combinations and took no part in training or drawing. As a control it looks
# for the same facts in the picture of the next caption. And we measure what the caption is worth in the translator's
# own terms: how many nats a code of a painted picture costs with its caption, without one, and with a caption of
# another picture.
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
    print(f"nats for a code, given {name}: {value:.2f}")
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
# A wrong caption is worse than none: the translator believes it. And 1,024 codes that were all equally likely would
# cost $\ln 1024 = 6.93$ nats.
#
# ### Claim 4: “The codebook of VQ-GAN, in effect, maps text embeddings to image embeddings.”
#
# Taken at its word this cannot be: the codebook's input is a *number*. “In effect” says that the chain as a whole is
# such a map, and that the codebook is its last link. Both can be tested.
#
# *The chain.* Take the mean vector of each caption, as in claim 2, for a text embedding, and the picture's grid of
# codebook vectors, 8 × 8 × 32 numbers, for an image embedding. Fit a linear map from the one to the other on 576
# painted scenes. Is its prediction for a new caption nearer to that caption's picture, as the translator draws it, than
# to 63 others?
#
# *The link.* Shuffle the rows of the codebook. BART writes the same numbers as before; only the book is another.
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
    "caption's vector: much the same, but muddled. At the bottom the same codes with a shuffled codebook: rubbish.",
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
# The second row is the slide's sentence made literal: a caption's vector, a linear map, the VQ-GAN's decoder, no word
# chosen anywhere. The subject and its place are there, and mostly the colour. But it is the mean of all pictures that
# the caption fits. Nobody has decided on which side the moon stands, so there may be two of them, both pale. To get one
# picture out of many, somebody has to choose, code after code, and stay with the choice. That is what the decoder of
# BART is for.
#
# The third row shows what the codebook is for: in another book the same numbers mean nothing.
#
# ## 7 · Your turn
#
# Write your answer where the stub is, run its cell, then run the check. The hints fold open.

# %% [markdown]
# ### Exercise 3.1 · One head by hand (★☆☆, 4 minutes)
#
# A head has the width $c = 4$. Its query is $(2, 0, 1, 1)$. It looks at three keys: $(1, 1, 1, 1)$, $(2, 0, 1, 1)$ and
# $(0, 3, 0, 0)$. Which share of the looking goes to the *first* key? Work it out to two decimals.

# %% tags=["stub"]
share_of_first = None

# %% tags=["checked"]
check("3.1", share_of_first)

# %% [markdown] tags=["hint"]
# Three products first: how well does each key fit the query? Then the division, then the softmax.

# %% [markdown] tags=["hint"]
# The products are 4, 6 and 0, and $\sqrt{4} = 2$. The softmax of $(2, 3, 0)$ has $e^2$ above the line and a sum of
# three below.

# %% tags=["solution"]
share_of_first = torch.tensor([2.0, 3.0, 0.0]).softmax(0)[0]  # e² / (e² + e³ + 1) = 0.26

# %% [markdown]
# ### Exercise 3.2 · Who may see whom (★★☆, 6 minutes)
#
# A decoder goes on with a picture whose first codes are given. Its cache holds the keys of `known` tokens; now `new`
# tokens come at once. Write the mask that `place` has to return: True where a new token may see a key. A new token sees
# all known ones, itself, and those new ones that stand before it.


# %% tags=["stub"]
def decoder_mask(known: int, new: int) -> Tensor:
    """Which of all keys, known and new, each new token may see: (new, known + new), bool."""
    raise NotImplementedError


# %% tags=["checked"]
check("3.2", decoder_mask)

# %% [markdown] tags=["hint"]
# Number the places from 0. Where does the first of the new tokens stand? A token at place $i$ may see the keys at the
# places $j \le i$.

# %% [markdown] tags=["hint"]
# `torch.arange(known + new)` are the keys' places. The new tokens' places are the last `new` of them; `[:, None]`
# stands them up as a column, and a comparison of a column with a row is a table.


# %% tags=["solution"]
def decoder_mask(known: int, new: int) -> Tensor:
    """Which of all keys, known and new, each new token may see: (new, known + new), bool."""
    places = torch.arange(known + new)
    return places <= places[known:, None]


# %% [markdown]
# ### Exercise 3.3 · Mend the noise (★★☆, 7 minutes)
#
# This function should do text infilling with a given run. It was written in a hurry, and there are four mistakes in
# it. Write it without them. The list that is handed in must stay as it was.
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
    """Tokens with the run of `length` tokens from `start` on replaced by a single mask, as a new list."""
    raise NotImplementedError


# %% tags=["checked"]
check("3.3", infilled)

# %% [markdown] tags=["hint"]
# How many masks stand for a run of three? And what does a run of length 0 do, according to section 4?

# %% [markdown] tags=["hint"]
# A run of `length` tokens from `start` on ends before `start + length`. What is in front of it, one mask, and what is
# behind it make a new list.


# %% tags=["solution"]
def infilled(tokens: list[int], start: int, length: int, mask: int) -> list[int]:
    """Tokens with the run of `length` tokens from `start` on replaced by a single mask, as a new list."""
    return [*tokens[:start], mask, *tokens[start + length :]]


# %% [markdown]
# ### Exercise 3.4 · From two logits to one lot (★★★, 10 minutes)
#
# Join the last steps before a code is drawn. First guide: push the conditional logits away from the unconditional ones,
# as in section 5. Then make probabilities of them. Then keep only the likeliest codes that *together* reach the
# probability `top_p`: sorted from the likeliest down, a code stays if what is likelier than it has not reached `top_p`
# yet. The others get 0, and the rest sums to 1 again.


# %% tags=["stub"]
def lot(conditional: Tensor, unconditional: Tensor, guidance: float, top_p: float) -> Tensor:
    """Logits with and without a caption, (codes,) each, to the probabilities (codes,) of the next code."""
    raise NotImplementedError


# %% tags=["checked"]
check("3.4", lot)

# %% [markdown] tags=["hint"]
# `probabilities.sort(descending=True)` gives the sorted values and the places they came from. The sum of all likelier
# ones is the cumulated sum minus the value itself.

# %% [markdown] tags=["hint"]
# Put a 0 where that sum has reached `top_p`. Then back to the old places: `torch.zeros_like(p).scatter(0, places,
# kept)`. And divide by the sum.


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
# - A transformer with two halves reads a prompt and writes codes, each with all earlier ones and all words in view.
# - The same class, with other switches, is the BART that mends text. DALL·E Mini kept its plan and changed its layers.
# - The caption enters by cross-attention alone, and guidance makes it count for more.
# - What is drawn is what was asked for, even for combinations that training never showed, in our small world.
# - Some drawings are better than others, and the translator itself does not know which. The next lesson builds CLIP,
#   which looks at a picture and a sentence and says how well they go together.
#
# Five questions to see what has stayed.

# %% [markdown] tags=["quiz"]
# **1.** You shuffle the text tokens' vectors before the decoder looks at them, keys and values alike. What changes?
# - [ ] The picture is of another scene, for the order of words carries meaning — the order is in the vectors already,
#   since the encoder added positions.
# - [x] Nothing — attention sees a set: each value comes with its own key, wherever they stand.
# - [ ] The decoder fails, for its causal mask no longer fits — the causal mask is for codes; all words may be seen.

# %% [markdown] tags=["quiz"]
# **2.** What would go wrong in training without the causal mask?
# - [ ] The gradients would vanish — they would be there, and of no use.
# - [ ] Training would be slower, as more has to be computed — the mask saves nothing; hidden products are computed too.
# - [x] The decoder would copy the next code instead of learning to foresee it — and could not write, where there is
#   nothing to copy from.

# %% [markdown] tags=["quiz"]
# **3.** After text infilling the network writes “a red car” where “a blue house” stood. What does this show?
# - [x] It fills in what is usual where the text does not say — the information is gone, so a likely guess is all there
#   is.
# - [ ] It has not been trained for long enough — no training brings back what is not in the input.
# - [ ] It has learned its captions by heart — then it would be right on those and write nonsense on new ones.

# %% [markdown] tags=["quiz"]
# **4.** A cache holds the keys and values of earlier codes. Why is there no need for their queries?
# - [ ] Queries are the same as keys — they are made by another layer.
# - [x] A query is used once, when its token looks — later tokens look at earlier keys and values, never at queries.
# - [ ] Queries would take up too much memory — as much as keys; they are simply not needed.

# %% [markdown] tags=["quiz"]
# **5.** A probe reads the colour off an encoder's vectors with 97 %. What follows?
# - [ ] The encoder has learned what colours are — an encoder with random weights passes the same test.
# - [ ] The decoder uses the colour — that it could be read does not say that anybody reads it.
# - [x] The colour lies open in these vectors — no more: what it is worth shows in a comparison with controls.
