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
# # 1 · Building blocks
#
# Run the next three cells. The first two set things up. The third draws nine pictures of something that does not exist:
# the Eiffel tower landing on the moon. Then you follow this sentence all the way through the machine that drew them.

# %%
from typing import Any

import torch
from atelier import Pipeline
from atelier.drawing.attention import attention_to_words
from atelier.evaluation.evaluate import evaluation_world
from atelier.evaluation.intervals import difference, mean, share
from atelier.teaching import (
    BLUE,
    COLOURS,
    GREY,
    INK,
    ORANGE,
    SKY,
    VERMILION,
    check,
    choice,
    drawing_panel,
    explore,
    figure,
    lesson_header,
    picture_grid,
    sheet,
    show,
    slider,
    verdict,
)
from atelier.teaching.experiments.lesson_1 import BLOCKS, MACHINES, judge_candidates, sample_prompts
from atelier.teaching.figures import code_colours, draw_tiles, hide_axes, posterize
from atelier.weights.preset import load_preset
from atelier.weights.sprites import load_sprite_model
from atelier.world import sprites
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Rectangle
from PIL import Image
from torch import Tensor

# %%
PROMPT = "the Eiffel tower landing on the moon"
SEED = 1

studio = Pipeline.from_pretrained("studio")
show(
    studio.draw(PROMPT, n=9, seed=SEED).grid().quantize(256),
    f"Nine pictures, three by three, drawn for the words “{PROMPT}”.",
)

# %% [markdown]
# That last cell uses the whole machine: it loads it, gives it a sentence to draw, and shows the pictures. You need not
# understand more of the code than that. In all lessons the cells that only draw figures are folded, so that you see the
# code that matters. To read one of them, click on its three dots in JupyterLab, or on “Show code” in Colab.
#
# The pictures are sorted: the one to which the machine itself gives the highest score comes first. No GPU was needed
# and nothing was downloaded. The machine was trained on two ordinary processor cores, on pictures that are painted by
# the course's own code. These pictures include towers and moons, but never a tower on the moon.
#
# ## 1 · Where we are

# %%
lesson_header("1")

# %% [markdown]
# This course takes apart DALL·E Mini, a model from 2021 that draws what a sentence describes, and rebuilds each of its
# parts. The upper row of the map is the machine. The lower row shows the networks that you build on the way to one of
# its parts, the VQ-GAN. All parts are highlighted, because in this lesson you look at each of them once. From the next
# lesson on you build them.
#
# First, a few terms. The sentence that says what to draw is the **prompt**. During training each picture came with such
# a sentence, which is called its **caption**. Each part of the machine is a neural network: a long calculation with
# many numbers that are found by training, its **weights**. Several networks in a row, each working on the output of the
# one before it, form a **pipeline**. Finally, `SEED` in the cell that drew the nine pictures starts the random number
# generator: with the same **seed** you get the same pictures, with another seed different ones. Try it: change the 1,
# and run that cell again.
#
# The machine above is the preset *studio*: a set of weights, with the sizes of the networks. To look inside, you will
# use a smaller one, the preset *laptop*. It has the same parts. Its pictures have a quarter as many pixels, which makes
# them softer, but all that passes from part to part fits on the screen.

# %%
pipe = Pipeline.from_pretrained("laptop")
drawing = pipe.draw(PROMPT, n=9, seed=SEED)

# %% [markdown]
# Here is what lies ahead: one real result from each lesson.


# %% tags=["folded"]
@torch.no_grad()
def draw_road() -> Figure:
    """The nine lessons, each with a picture made by its network."""
    models: dict[str, Any] = {name: load_sprite_model(name) for name in ("gan", "autoencoder", "vae", "vqvae", "vqgan")}
    sprite = sprites(6, seed=7)[0][1:2]  # (1, 3, 32, 32)
    torch.manual_seed(3)
    noise = torch.randn(1, models["gan"].config.latent)
    made = {
        "2a": models["gan"](noise)[0],
        "2b": models["autoencoder"](sprite)[0],
        "2c": models["vae"].decode(models["vae"].encode(sprite).mean)[0],
        "2d": models["vqvae"](sprite)[0][0],
        "2e": models["vqgan"](sprite)[0][0],
    }
    strawberry = studio.draw("a stained glass window with an image of a blue strawberry", n=4, seed=0).pictures[0]
    codes = inks[drawing.codes[0].cpu()].permute(2, 0, 1)  # (3, 8, 8)
    pictures = [drawing.pictures[0], *made.values(), codes, drawing.pictures[1], strawberry]
    names = [
        "1\nthe machine",
        "2a\nGAN",
        "2b\nautoencoder",
        "2c\nVAE",
        "2d\nVQ-VAE",
        "2e\nVQ-GAN",
        "3\nBART",
        "4\nCLIP",
    ]
    adds = ["looks at it", "draws", "compresses", "fills gaps", "finds words", "sharpens", "translates", "ranks"]
    whole, axes = figure(9.6, 1.9, 1, 9)
    steps = zip(axes, pictures, [*names, "5\nall joined"], [*adds, "draws for you"], strict=True)
    for axis, pixels, name, what in steps:
        # `posterize` keeps 32 shades of each colour: you hardly see it, and the notebook's file stays small.
        axis.imshow(posterize(pixels).permute(1, 2, 0), interpolation="nearest")
        axis.set_title(name, loc="center", fontsize=9.5)
        axis.set_xlabel(what, fontsize=8.5)
        axis.set(xticks=[], yticks=[])
        axis.grid(False)
    axes[7].text(32, 33, f"{scores[1]:.0f}", color="white", fontsize=20, weight="bold", ha="center", va="center")
    return whole


inks = code_colours(pipe.decode, torch.arange(1024))  # (1024, 3): the colour of a grid filled with one code
scores = pipe.score(PROMPT, drawing.pictures)  # nine numbers, the highest first
show(
    draw_road(),
    "Nine small pictures in a row, one for each lesson: the tower on the moon; a sprite each from the GAN, the "
    "autoencoder, the VAE, the VQ-VAE and the VQ-GAN; a grid of coloured cells for BART; a picture with a score on it "
    "for CLIP; and a blue strawberry in stained glass for the whole pipeline.",
)

# %% [markdown]
# | lesson | its question | what it adds |
# |---|---|---|
# | 1 Building blocks | what passes from block to block? | a look at everything |
# | 2a Vanilla GAN | how does a network learn to draw at all? | a generator, and a discriminator that trains it |
# | 2b Autoencoder | can two numbers describe a picture? | the way from a picture to a few numbers and back |
# | 2c VAE | what lies between two pictures? | a space of numbers without gaps, so that any point can be drawn |
# | 2d VQ-VAE | can a picture be written like a sentence? | a dictionary whose words make up pictures |
# | 2e VQ-GAN | what makes the pictures sharp? | the discriminator of 2a, applied to the pictures of 2d |
# | 3 BART | how does a sentence become the words of a picture? | the translator |
# | 4 CLIP | which picture fits best? | the ranker |
# | 5 Full pipeline | what has the model understood? | all parts together, and your own prompts |
#
# ### How to use it
#
# You can take each lesson by itself: it includes everything it needs, and a short reminder of the earlier lessons.
#
# - *By yourself*: read, run each cell with Shift and Enter, change something, run it again. You cannot break anything.
#   A laptop without a GPU and without a network connection is enough. If you have no Python at hand, just read: all
#   results are stored in the notebook.
# - *On Colab*: if the course is published on GitHub, a button at the top opens the lesson in Colab, and the first cell
#   installs the course. Choose a GPU runtime, and the training in later lessons takes seconds.
# - *In a workshop*: the lessons follow, part by part, the slides of the workshop session on which this course is based,
#   the *Illustrative Session on Image Generative Models with Dall.E Mini* by Karthik Desingu, Anirudh A and Karthik
#   Raja A (2023). When a lesson says "the slides", it means these. Each lesson ends with exercises that check your
#   answers, so everyone can work at their own pace.
#
# You should know a little Python. Everything else is explained when it comes up.
#
# ## 2 · The idea
#
# The slides name three building blocks:
#
# - *BART-based Encoder-Decoder: Encodes captions as embedding vectors*
# - *VQ-GAN: Decodes caption embeddings into Images*
# - *CLIP: Evaluates caption-image relevance*
#
# In plain words: a translator, a painter and a ranker. The translator, BART, reads the prompt and translates it into
# another language, whose words stand for small patches of a picture. A picture has 64 such words. They are called
# *codes*, and lesson 2d explains how they are made. The painter, the second half of the VQ-GAN, turns the codes into a
# picture. CLIP scores how well each picture matches the prompt. The next figure shows these steps with real data.


# %% tags=["folded"]
def draw_machine() -> Figure:
    """The prompt on its way through the three blocks."""
    made, axis = figure(9.6, 2.15)
    hide_axes(axis)
    axis.text(
        1.15, 1.5, "“the Eiffel\ntower landing\non the moon”", ha="center", va="center", fontsize=10, style="italic"
    )
    draw_tiles(axis, drawing.codes[0], inks, 5.2, 0, 3 / 8, 4.6)
    axis.imshow(posterize(drawing.pictures[0]).permute(1, 2, 0), extent=(11.2, 14.2, 0, 3), interpolation="nearest")
    axis.text(18.2, 1.5, f"{scores[0]:.1f}", ha="center", va="center", fontsize=20, weight="bold", color=BLUE)
    for x, name, words in [(2.9, "BART", "translates"), (8.9, "VQ-GAN", "paints"), (14.9, "CLIP", "ranks")]:
        box = FancyBboxPatch((x, 0.85), 1.7, 1.3, boxstyle="round,pad=0,rounding_size=0.15", facecolor=ORANGE, lw=0)
        axis.add_patch(box)
        axis.text(x + 0.85, 1.68, name, ha="center", va="center", fontsize=10, weight="bold")
        axis.text(x + 0.85, 1.25, words, ha="center", va="center", fontsize=8)
    for start, end in [(2.35, 2.85), (4.65, 5.15), (8.3, 8.85), (10.65, 11.15), (14.3, 14.85), (16.65, 17.2)]:
        axis.add_patch(FancyArrowPatch((start, 1.5), (end, 1.5), arrowstyle="-|>", mutation_scale=11, color=INK))
    for x, words in [(1.15, "prompt"), (6.7, "64 codes"), (12.7, "picture"), (18.2, "score")]:
        axis.text(x, 3.25, words, ha="center", fontsize=9.5)
    axis.set(xlim=(-0.1, 19.2), ylim=(-0.1, 3.7))
    return made


show(
    draw_machine(),
    "The prompt goes into BART. The output is a grid of 8 by 8 coloured tiles, the codes, with "
    "a dark sky and a light ground. The VQ-GAN turns them into the tower on the moon. CLIP gives a score.",
)

# %% [markdown]
# Each tile has the colour that the painter gives to its code when the whole grid is filled with that one code. Squint
# at the grid, and you already see the dark sky, the blue planet and the pale ground. The painter turns this grid into a
# picture.
#
# The whole machine can be written as three formulas. If you do not like formulas, you can skip them.
#
# $$c_i \sim p(c_i \mid \text{prompt}, c_1, \dots, c_{i-1}) \qquad\qquad x = D(\mathbf{e}_{c_1}, \dots,
# \mathbf{e}_{c_{64}}) \qquad\qquad s = 100 \cos(\mathbf{t}, \mathbf{v})$$
#
# | symbol | meaning | shape |
# |---|---|---|
# | $c_i$ | code number $i$, drawn at random from $p$ | a whole number from 0 to 1023; there are 64 of them |
# | $p$ | the probability that BART gives to each code, given the prompt and the codes before | (1024,) |
# | $\mathbf{e}_c$ | the dictionary's entry for code $c$ | (32,) |
# | $D$ | the VQ-GAN's painter | from (32, 8, 8) to (3, 64, 64) |
# | $x$ | the picture: red, green and blue, 64 × 64 pixels of each | (3, 64, 64) |
# | $\mathbf{t}$, $\mathbf{v}$ | CLIP's vectors for the prompt and for the picture | (128,) each |
# | $s$ | the score | one number |
#
# Look at the right column. Everything in this machine is a grid of numbers. A list of numbers is a **vector**. A grid
# of numbers with any number of axes is a **tensor**: a vector has one axis, a table has two, a coloured picture has
# three. The lengths of a tensor's axes are its **shape**. If you know the shapes, you know what passes from block to
# block.
#
# ## 3 · Look inside
#
# Now follow the prompt from station to station.
#
# ### Station 1: words become numbers
#
# A network calculates with numbers, so the words have to become numbers first. The tokenizer cuts the prompt into
# pieces from a fixed list, and looks up the number of each piece. A piece with a number of its own is a **token**.
# There are 32 places for tokens; the places that the prompt does not need are filled with a number that means "nothing
# here".

# %% tags=["checked"]
pieces = pipe.tokenizer.pieces(PROMPT)
ids = pipe.tokenizer.encode([PROMPT], 32)  # (1, 32)
print("pieces:", pieces)
print("ids:   ", ids[0].tolist())
print("an unknown word is cut into several pieces:", pipe.tokenizer.pieces("a giraffe"))


# %% tags=["folded"]
def draw_tokens(words: list[str], numbers: list[int]) -> Figure:
    """Words as coloured tiles, and their numbers under them."""
    made, axis = figure(9.4, 1.35)
    hide_axes(axis)
    for place, (word, number) in enumerate(zip(words, numbers, strict=True)):
        mark = word.startswith("<")
        colour = "#E5E7EB" if mark else COLOURS[place % 6] + "55"
        axis.add_patch(
            FancyBboxPatch((place + 0.06, 1.1), 0.88, 0.6, boxstyle="round,pad=0,rounding_size=0.1", fc=colour, lw=0)
        )
        axis.text(place + 0.5, 1.4, word, ha="center", va="center", fontsize=11, color=GREY if mark else INK)
        axis.text(place + 0.5, 0.35, str(number), ha="center", va="center", fontsize=13, weight="bold")
        axis.add_patch(
            FancyArrowPatch((place + 0.5, 1.05), (place + 0.5, 0.6), arrowstyle="-|>", mutation_scale=9, color=GREY)
        )
    axis.set(xlim=(0, len(words)), ylim=(0, 1.8))
    return made


words = ["<start>", *(piece.strip() for piece in pieces), "<end>"]
show(
    draw_tokens(words, ids[0, : len(words)].tolist()),
    "Seven words as coloured tiles between a start mark and an end mark, each with an arrow to its number.",
)

# %% [markdown]
# The word "the" gets the same number both times, wherever it stands. The numbers are only labels: their size means
# nothing.
#
# ### Station 2: numbers become meaning
#
# A network cannot calculate with such labels. So BART's first half, its encoder, gives each token a vector of 192
# numbers that describe its meaning in this prompt. A vector that stands for something other than a number, such as a
# word, is an **embedding**. Here they are, one row of stripes for each token.

# %% tags=["folded"]
with torch.no_grad():
    state = pipe.bart.encode(ids.to(pipe.device))[0, : len(words)].cpu()  # (9, 192)
made, axis = figure(9.4, 2.9)
axis.imshow(state, cmap="PuOr", aspect="auto", vmin=-2.5, vmax=2.5, interpolation="nearest")
axis.set(yticks=range(len(words)), yticklabels=words, xlabel="192 numbers: violet above zero, orange below")
axis.grid(False)
axis.tick_params(length=0)
show(
    made, "Nine rows of violet and orange stripes, one row for each token of the prompt; each row has its own pattern."
)


# %% [markdown]
# The two rows of "the" are no longer the same. In the encoder each token's vector also depends on the other tokens, so
# the *the* before "Eiffel tower" differs from the *the* before "moon". How similar are the vectors of one word in three
# different prompts? Their similarity is 1 if they point in the same direction, and 0 if they are perpendicular.


# %%
@torch.no_grad()
def vector_of(word: str, sentence: str) -> Tensor:
    """The encoder's vector (192,) of a word in a sentence."""
    place = 1 + [piece.strip() for piece in pipe.tokenizer.pieces(sentence)].index(word)
    return pipe.bart.encode(pipe.tokenizer.encode([sentence], 32).to(pipe.device))[0, place]


here = vector_of("moon", PROMPT)
for word, sentence in [
    ("moon", "a photo of a cat on the moon"),
    ("moon", "the moon at night"),
    ("beach", "a cat on the beach"),
]:
    alike = torch.cosine_similarity(here, vector_of(word, sentence), dim=0)
    print(f"“moon” in the prompt and “{word}” in “{sentence}”: {alike:.2f}")

# %% [markdown]
# ### Station 3: meaning becomes 64 codes
#
# BART's second half, its decoder, writes the codes. From the vectors of the prompt and the codes written so far, it
# computes how likely each of the 1024 codes is to come next. One code is drawn at random with these probabilities. This
# is repeated 64 times, row by row, from the upper left to the lower right, as you write a page.

# %% tags=["folded"]
stages = list(pipe.stream(PROMPT, n=9, seed=SEED, rank=False))  # after each row of codes
best = next(i for i, codes in enumerate(stages[-1].codes) if torch.equal(codes, drawing.codes[0]))
show(
    picture_grid(
        posterize(torch.stack([stage.pictures[best] for stage in stages])),
        columns=8,
        titles=[f"{8 * row} codes" for row in range(1, 9)],
        inches=1.15,
    ),
    "One picture in eight stages. Unwritten parts are grey. The sky with the planet comes first, then the tip of "
    "the tower, its legs, and the ground last.",
)

# %% [markdown]
# After the second row, the place of the planet is decided. Everything that follows must fit to it, because a code is
# never changed once it is written.
#
# How sure is BART of a code? Choose a cell below. The bars show the ten most likely codes for it, given the prompt and
# all codes before. The tall bars often have nearly the same colour: several codes mean nearly the same, like synonyms
# in a language.

# %%
with torch.no_grad():
    logits = pipe.bart(ids.to(pipe.device), drawing.codes[0].flatten()[None])[0, :, :1024]  # (64, 1024)
    likely = logits.softmax(1).cpu()


def draw_choice(row: int, column: int) -> tuple[Figure, str]:
    """The grid of codes with a cell outlined, and the probabilities of its ten most likely codes."""
    top = likely[8 * row + column].topk(10)
    written = drawing.codes[0, row, column].item()
    made, (left, right) = figure(8.6, 2.9, 1, 2, width_ratios=(1, 1.9))
    hide_axes(left)
    draw_tiles(left, drawing.codes[0], inks, size=5.5)
    left.add_patch(Rectangle((column, 7 - row), 1, 1, fill=False, edgecolor=VERMILION, lw=2.5))
    left.set(xlim=(-0.05, 8.05), ylim=(-0.05, 8.05))
    edges = [VERMILION if code == written else GREY for code in top.indices.tolist()]
    bars = right.bar(range(10), top.values, color=inks[top.indices].tolist(), edgecolor=edges)
    for bar, edge in zip(bars, edges, strict=True):
        bar.set_linewidth(3 if edge == VERMILION else 1)
    right.set(
        xticks=range(10), xticklabels=top.indices.tolist(), ylabel="how likely", xlabel="code (red: the one written)"
    )
    right.grid(False)
    return (
        made,
        f"Left the codes with row {row}, column {column} outlined; right ten bars: how likely each code was there.",
    )


explore(draw_choice, row=slider(0, 7, 3, 1, "row"), column=slider(0, 7, 4, 1, "column"))

# %% [markdown]
# Which words of the prompt matter for which part of the picture? For each code, the decoder divides its attention among
# the words of the prompt (lesson 3 explains how). Below, the picture is orange where a word gets its largest shares.

# %% tags=["folded"]
seen = attention_to_words(pipe, PROMPT, drawing.codes)
shares = seen.shares  # (9, 8, 8, words)


def lit(picture: Tensor, share: Tensor) -> Tensor:
    """A picture (3, 64, 64), orange where its codes gave a word a large share (8, 8)."""
    light = (share - share.min()) / (share.max() - share.min())
    large = torch.nn.functional.interpolate(light[None, None], (64, 64), mode="bilinear")[0]  # (1, 64, 64)
    orange = torch.tensor([0.98, 0.66, 0.1])[:, None, None]
    return torch.lerp(0.7 * picture.cpu(), orange, 0.8 * large)


show(
    picture_grid(
        posterize(torch.stack([lit(drawing.pictures[0], shares[0, :, :, place]) for place in range(len(seen.words))])),
        columns=len(seen.words),
        titles=[f"“{word}”" for word in seen.words],
        inches=1.3,
    ),
    "The picture seven times, once for each word of the prompt, orange where the attention to that word is large.",
)

# %% [markdown]
# Do not expect that each word marks exactly its own object. The shares are means over all layers, and small words often
# get shares that belong to their neighbours. Still, compare "eiffel" with "moon": the first marks the tower, the second
# the area around it. And "landing" marks the place where the tower meets the ground.
#
# ### Station 4: codes become vectors
#
# A code is the number of a row in a table, the VQ-GAN's *codebook*; this is the dictionary of section 2. Here the rows
# are only looked up: 64 numbers go in, 64 rows of 32 numbers come out. Equal codes give equal rows.

# %% tags=["folded"]
book = pipe.vqgan.quantize.embedding.weight.detach().cpu()  # (1024, 32)
codes = drawing.codes[0].cpu()  # (8, 8)
row, column = divmod(book[codes.flatten()].norm(dim=1).argmax().item(), 8)  # a cell whose row is easy to see
number = int(codes[row, column])
first = min(max(number - 6, 0), 1024 - 13)
made, axes = figure(9.4, 3.3, 1, 3, width_ratios=(1, 1, 1.1))
hide_axes(axes[0])
draw_tiles(axes[0], codes, inks, size=5.5)
axes[0].add_patch(Rectangle((column, 7 - row), 1, 1, fill=False, edgecolor=VERMILION, lw=2.5))
axes[0].set(xlim=(-0.05, 8.05), ylim=(-0.05, 8.05), title="64 codes")
limit = book.abs().max() / 2
axes[1].imshow(book[first : first + 13], cmap="PuOr", aspect="auto", vmin=-limit, vmax=limit, interpolation="nearest")
axes[1].add_patch(Rectangle((-0.5, number - first - 0.5), 32, 1, fill=False, edgecolor=VERMILION, lw=2.5))
axes[1].set(yticks=range(0, 13, 2), yticklabels=range(first, first + 13, 2), title="the book, 13 of 1024 rows")
axes[2].imshow(book[codes.flatten()], cmap="PuOr", aspect="auto", vmin=-limit, vmax=limit, interpolation="nearest")
axes[2].add_patch(Rectangle((-0.5, 8 * row + column - 0.5), 32, 1, fill=False, edgecolor=VERMILION, lw=2))
axes[2].set(title="64 rows of 32 numbers", ylabel="cell", xticks=[])
axes[1].set(xticks=[])
for axis in axes[1:]:
    axis.grid(False)
show(
    made,
    "Left the grid of codes with one cell outlined in red. In the middle thirteen rows of the codebook as stripes, the "
    "cell's row outlined. Right all 64 rows, in the order of the cells, with that row outlined again.",
)

# %% [markdown]
# ### Station 5: vectors become a picture
#
# The painter comes next. It is a stack of layers that double the side of the grid three times: 8, 16, 32, 64. In
# between, each cell has many more than three numbers. To show them, the next figure reduces them to three, drawn as
# red, green and blue. A single colour means nothing, but cells with similar colours have similar numbers.


# %%
def false_colours(numbers: Tensor) -> Tensor:
    """A map (c, h, w) as a picture (3, h, w): its three main directions as red, green and blue."""
    cells = numbers.flatten(1).T  # (h·w, c)
    centred = cells - cells.mean(0)
    main = centred @ torch.linalg.svd(centred, full_matrices=False).Vh[:3].T  # (h·w, 3)
    low, high = main.quantile(0.02, dim=0), main.quantile(0.98, dim=0)
    return ((main - low) / (high - low)).clamp(0, 1).T.unflatten(1, numbers.shape[1:])


with torch.no_grad():
    vectors = pipe.vqgan.quantize.lookup(drawing.codes[:1])  # (1, 32, 8, 8)
    painter = pipe.vqgan.decoder
    hidden = painter.mid(painter.conv_in(pipe.vqgan.post_quant_conv(vectors)))
    maps = [vectors[0].cpu()]
    for level in reversed(painter.up):
        hidden = level(hidden)
        maps.append(hidden[0].cpu())
pictures = [*(false_colours(numbers) for numbers in maps[:-1]), drawing.pictures[0].cpu()]
titles = ["the codes' vectors", *(f"{numbers.shape[0]} numbers a cell" for numbers in maps[1:-1]), "the picture"]
made, axes = figure(9.4, 2.25, 1, len(pictures))
for axis, pixels, title in zip(axes, pictures, titles, strict=True):
    hide_axes(axis)
    axis.imshow(pixels.permute(1, 2, 0), interpolation="nearest")
    axis.set_title(f"{title}\n{pixels.shape[1]} × {pixels.shape[2]}", loc="center", fontsize=9, fontweight="normal")
show(
    made,
    "The picture grows: a grid of 8 by 8 coloured cells, then finer ones in which the outline of the tower "
    "appears, and at last the finished picture of 64 by 64 pixels.",
)

# %% [markdown]
# ### Station 6: pictures become scores
#
# CLIP has two encoders. One turns the prompt into a vector, the other turns a picture into a vector. They are trained
# so that the two vectors point in the same direction when picture and words belong together. The **score** of a picture
# and a sentence is 100 times the cosine of the angle between their vectors: 100 if they point in the same direction, 0
# if they are perpendicular, and below 0 if they point away from each other.

# %% tags=["folded"]
made, axes = figure(9.6, 2.7, 2, 9, height_ratios=(1.2, 1), sharey="row")
shown = posterize(drawing.pictures).permute(0, 2, 3, 1)  # (9, 64, 64, 3)
for place, (picture, score) in enumerate(zip(shown, scores, strict=True)):
    above, below = axes[:, place]
    hide_axes(above)
    above.imshow(picture, interpolation="nearest")
    hide_axes(below)
    below.bar(0, score, width=0.7, color=ORANGE if place == 0 else SKY)
    below.text(0, score + 3, f"{score:.1f}", ha="center", fontsize=9.5, weight="bold" if place == 0 else "normal")
    below.set(xlim=(-0.6, 0.6), ylim=(0, 95))
show(made, "Nine pictures in a row, and under each a bar with its score; the bars fall from left to right.")

# %% [markdown]
# The pictures are sorted by these scores, the highest first. You need not agree with the order: CLIP is a network like
# the others, and its scores depend on its training data.
#
# The same scores can compare several sentences and several pictures. In each row of the next table, which picture has
# the highest score?

# %% tags=["folded"]
SENTENCES = [
    PROMPT,
    "sunset over a lake in the mountains",
    "a stained glass window with an image of a blue strawberry",
    "a photo of the food of china",
    "a cartoon of a green cat in a meadow",
]
bests = torch.cat([each.pictures[:1] for each in pipe.draw(SENTENCES, n=4, seed=1)])  # (5, 3, 64, 64)
table = torch.tensor([pipe.score(sentence, bests) for sentence in SENTENCES])  # (sentences, pictures)
made, axis = figure(9.0, 4.6)
axis.imshow(table, cmap="Blues", vmin=0, vmax=130, extent=(0, 5, 0, 5), interpolation="nearest")
for place, picture in enumerate(bests):
    axis.imshow(
        posterize(picture).permute(1, 2, 0), extent=(place + 0.03, place + 0.97, 5.06, 6.0), interpolation="nearest"
    )
    for line in range(5):
        weight = "bold" if table[line].argmax() == place else "normal"
        axis.text(
            place + 0.5, 4.5 - line, f"{table[line, place]:.0f}", ha="center", va="center", fontsize=13, weight=weight
        )
hide_axes(axis)
axis.set(xlim=(0, 5), ylim=(0, 6.02), yticks=[4.5, 3.5, 2.5, 1.5, 0.5])
axis.set_yticklabels([sentence.replace(" with", "\nwith").replace(" landing", "\nlanding") for sentence in SENTENCES])
axis.tick_params(length=0)
show(
    made,
    "A table: five pictures above, five sentences at the left, a score in each cell. In each row the highest score "
    "stands under the picture that was drawn for the sentence.",
)

# %% [markdown]
# ### Now you
#
# You have now seen every step: words, numbers, embeddings, codes, vectors, picture, score. Put a prompt together from
# the menus, and see what the larger machine draws for it. In a running notebook it draws again whenever you change
# something.


# %% tags=["folded"]
def draw_yours(style: str, colour: str, subject: str, place: str, seed: int) -> tuple[Image.Image, str]:
    """Three pictures of a prompt that is put together from menus."""
    noun = f"{colour} {subject}" if subject != "Eiffel tower" else subject
    article = "the" if subject == "Eiffel tower" else "an" if noun[0] in "aeiou" else "a"
    yours = f"{style} {article} {noun} {place}"
    return sheet(
        studio.draw(yours, n=3, seed=seed).pictures, columns=3, scale=2, gap=6
    ), f"Three pictures of “{yours}”."


explore(
    draw_yours,
    style=choice(
        ["a photo of", "a cartoon of", "a watercolour of", "a stained glass window of"], "a cartoon of", "style"
    ),
    colour=choice(["red", "orange", "yellow", "green", "blue", "purple", "brown", "white"], "orange", "colour"),
    subject=choice(["strawberry", "cat", "house", "car", "mushroom", "butterfly", "Eiffel tower"], "cat", "what"),
    place=choice(["on the moon", "in the snow", "in a forest", "on the beach", "in the city"], "on the moon", "where"),
    seed=slider(0, 20, 0, 1, "seed"),
)

# %% [markdown]
# Or write your own sentence, as on the session's first slide: type it, press DRAW, and watch how nine pictures are
# drawn.

# %%
drawing_panel(studio)

# %% [markdown]
# In code this takes one line. Change the words between the quotation marks, and run the cell.

# %%
my_prompt = "a giraffe on the moon"

mine = studio.draw(my_prompt, n=4, seed=0)
show(mine.grid(columns=4, zoom=1), f"Four pictures that the machine drew for “{my_prompt}”.")
for remark in mine.remarks:
    print(remark)

# %% [markdown]
# No giraffe was in the training data, so the model cannot draw one. It draws the part of the prompt that it knows, an
# empty moon. Most models of this kind do so without a warning; ours tells you which word it does not know. Its
# vocabulary covers a small world: twenty subjects, twelve places, ten colours, five styles.
#
# ## 4 · Break it
#
# Is each block needed? To find out, remove one and look at the result. Everything else must stay as it is: the prompts,
# the random numbers, the way of sampling, and CLIP's choice of one picture among nine. Otherwise you would not know
# what made the difference.
#
# Looking at many pictures by eye takes too long, so the course includes a **judge**: a classifier that says which
# subject, place, colour and style a picture shows. The judge was trained on painted pictures. It only measures, and has
# no part in drawing or ranking. The prompts name all four things, and a picture is right if the judge finds all four.
# To make the task hard, each prompt names a **held-out combination**: two things that never appeared together in
# training, such as the tower and the moon.
#
# A random guess gets all four right once in 2,560 times.

# %%
preset = load_preset("laptop")
judge, world = preset.load_classifier("judge").to(pipe.device), evaluation_world(preset)
scenes, prompts, numbers = sample_prompts(world, 30, seed=0)  # 30 prompts, nine rows of random numbers for each
print(*prompts[:4], sep="\n")

# %% [markdown]
# Four machines draw these 30 prompts, nine pictures each. In the second BART reads an empty caption in place of the
# prompt. In the third there is no BART: the same random numbers choose among all 1024 codes, which are equally likely.
# In the fourth there is no painter: BART's codes are shown as flat patches, each in the mean colour that the painter
# gives to its code. From each nine pictures CLIP then chooses the one with the highest score.

# %%
text = pipe.tokenizer.encode(prompts, 32)  # (30, 32)
nines = {name: machine(pipe, text, numbers).split(9) for name, machine in MACHINES.items()}  # 30 × (9, 3, 64, 64) each
scored = {
    name: torch.tensor([pipe.score(prompt, nine) for prompt, nine in zip(prompts, nines[name], strict=True)])
    for name in MACHINES
}  # (30, 9) each
chosen = {name: scored[name].argmax(1).tolist() for name in MACHINES}  # 30 numbers from 0 to 8 each
right = {name: judge_candidates(judge, world, torch.cat(nines[name]), scenes) for name in MACHINES}  # (30, 9) each

# %% [markdown]
# Thirty prompts are few. The same four machines have drawn 600 prompts before, three times 200, and the results are
# stored with the course. Your 30 prompts are the first 30 of these, so you can compare:

# %%
for name in MACHINES:
    here = right[name][range(30), chosen[name]].float().mean().item()
    before = sum(BLOCKS.column(name, "chosen")[0][:30]) / 30
    print(f"{name}: {here:.0%} of your 30 pictures are right, {before:.0%} of the stored ones")


# %% [markdown]
# In the next figure each column is one prompt; its title says what was asked for, without the style. Each row is one
# machine. The last row is the whole machine again, but without CLIP: it shows the first of the nine pictures in place
# of CLIP's choice. The bar at the right is the share of right pictures over all 600 prompts; without CLIP it counts all
# nine, which is what a random choice gets on average. The prompts are a sample, so the share is only an estimate. The
# black line at the end of a bar is its **95 % interval**: with other prompts, drawn in the same way, such an interval
# contains the true share in 95 of 100 cases.


# %% tags=["folded"]
def each_prompt(machine: str, name: str) -> list[float]:
    """One stored number for each of the 600 prompts."""
    return [number for seed in BLOCKS.column(machine, name) for number in seed]


WHOLE, UNREAD, _, FLAT = MACHINES
rows = {name: [nine[best] for nine, best in zip(nines[name], chosen[name], strict=True)] for name in MACHINES} | {
    "no CLIP: the first of nine": [nine[0] for nine in nines[WHOLE]]
}
bars = [share(each_prompt(name, "chosen"), "prompts") for name in MACHINES]
bars.append(mean(each_prompt(WHOLE, "share"), "prompts"))

made, axes = figure(9.6, 6.3, 5, 7, width_ratios=[1] * 6 + [1.9])
for axis, scene in zip(axes[0, :6], scenes, strict=False):
    axis.set_title(f"{scene.colour} {scene.subject},\n{scene.setting}", loc="center", fontsize=9, fontweight="normal")
for line, (name, pictures), bar in zip(axes, rows.items(), bars, strict=True):
    for axis, picture in zip(line[:6], pictures, strict=False):
        hide_axes(axis)
        axis.imshow(posterize(picture).permute(1, 2, 0), interpolation="nearest")
    hide_axes(line[6])
    reach = [[bar.value - bar.low], [bar.high - bar.value]]
    line[6].barh(0, bar.value, height=0.35, color=ORANGE if name == WHOLE else SKY, xerr=reach, ecolor=INK)
    line[6].text(0, 0.38, name, fontsize=9.5, weight="bold")
    line[6].text(bar.high + 0.03, 0, f"{bar.value:.1%}", va="center", fontsize=10)
    line[6].set(xlim=(0, 1.35), ylim=(-0.6, 0.75))
show(
    made,
    "Five rows of six pictures with a bar each. The whole machine draws what was asked for. Where BART reads nothing "
    "there are pictures of other things; with random codes there are coloured scraps; without a painter there are "
    "coloured squares; without CLIP there are nearly as many right pictures as with it.",
)

# %% [markdown]
# Look at the second row. Some of these are good pictures. Without the prompt, BART still writes codes that make a
# plausible picture, but not the one you want. The prompt decides which picture it is. In the third row CLIP had nine
# pictures to choose from as well, but it can only choose among what is drawn.
#
# The slide says that BART "encodes captions as embedding vectors". Its encoder does; lesson 3 measures that. But these
# vectors stay inside BART. Its output consists of whole numbers:

# %% tags=["checked"]
print("BART's output:", tuple(drawing.codes[0].shape), drawing.codes.dtype)

# %% [markdown]
# ### How a claim is judged
#
# In each lesson the sentences of the slides are put to the test, in their own words. For each there is a rule, written
# down before the measurement: a quantity, and a threshold that it must pass. The verdict follows from the quantity's
# 95 % interval. If the whole interval lies beyond the threshold, the claim *holds*; if the whole interval lies on the
# other side, it *does not hold*; if the threshold lies inside, it is *undecided*. A claim with several rules holds if
# all of them hold. A sentence that cannot be tested here, such as a heading or another group's result, gets its source
# in place of a verdict.
#
# ### Claim 1: “VQ-GAN: Decodes caption embeddings into Images”
#
# The sentence says two things. The VQ-GAN makes the pictures: then its painter is needed, and without it more than half
# of the pictures are no longer right. And its input is the caption's embeddings. We watch what goes into the painter
# while the machine draws, and compare it with the painter's own codebook.

# %%
heard: list[Tensor] = []
watch = pipe.vqgan.post_quant_conv.register_forward_pre_hook(lambda _, inputs: heard.append(inputs[0]))
pipe.draw(prompts, n=1, seed=0)
watch.remove()
inputs = torch.cat(heard).permute(0, 2, 3, 1).flatten(1, 2)  # (30, 64, 32): what the painter got, cell by cell
table = pipe.vqgan.quantize.embedding.weight  # (1024, 32)
foreign = [not (cells[:, None] == table).all(2).any(1).all().item() for cells in inputs]

verdict(
    "blocks-vqgan",
    difference(each_prompt(WHOLE, "chosen"), each_prompt(FLAT, "chosen"), "prompts"),
    share(foreign, "prompts"),
    figures=f"A vector in the painter's input has {inputs.shape[2]} numbers. The vectors into which BART encodes the "
    f"caption have {state.shape[1]}, so they would not even fit.",
)

# %% [markdown]
# The first half is true, the second is not. The painter never sees the caption: it gets rows of its own codebook, equal
# to the last digit. The picture depends on the prompt only through the row numbers that BART writes. This has an
# advantage: each block can be trained by itself, because only a list of whole numbers passes between them.
#
# ### Claim 2: “CLIP: Evaluates caption-image relevance”
#
# Take a right and a wrong picture of the same prompt. Does the right one get the higher score? Guessing is right in
# 50 % of all such pairs, and the claim needs more than 75 %. But perhaps CLIP only prefers clean pictures to spoilt
# ones, whatever the caption says. The control: the same pairs, scored with another prompt. The claim also needs that
# the own prompt does better than the other one.

# %%
preferred, by_another = each_prompt(WHOLE, "preferred"), each_prompt(WHOLE, "other")
verdict(
    "blocks-clip",
    mean(preferred, "prompts with right and wrong pictures"),
    difference(preferred, by_another, "prompts with right and wrong pictures"),
    figures=f"Scored with another prompt, the right picture is preferred in {sum(by_another) / len(by_another):.0%} of "
    "the pairs.",
)

# %% [markdown]
# How much is this worth? The next figure counts, for each of the 600 prompts, how many of its nine pictures are right.
# A choice can only help where some are right and some are wrong. The dark part of a bar shows the prompts for which
# CLIP's choice is right; the dash shows how high it would be on average if one of the nine was chosen at random. The
# right half compares the two choices, over all prompts and over those where there is something to choose.

# %% tags=["folded"]
counts = torch.tensor(each_prompt(WHOLE, "share")).mul(9).round().long()  # (600,): right pictures among nine
picked = torch.tensor(each_prompt(WHOLE, "chosen"))  # (600,): 1 where CLIP's choice is right
sizes = torch.bincount(counts, minlength=10)
hits = torch.bincount(counts, weights=picked, minlength=10)
mixed = (counts > 0) & (counts < 9)

made, (left, middle) = figure(9.4, 2.9, 1, 2, width_ratios=(1.6, 1))
left.bar(range(9), sizes[:9], color=SKY, label="CLIP's choice is wrong")
left.bar(range(9), hits[:9], color=BLUE, label="CLIP's choice is right")
left.hlines(sizes[:9] * torch.arange(9) / 9, torch.arange(9) - 0.4, torch.arange(9) + 0.4, color=INK, linewidth=2)
left.set(xticks=range(9), xlabel="right pictures among nine", ylabel="prompts", title="Prompts with wrong pictures")
left.legend(fontsize=9, loc="upper left")
left.set_axisbelow(True)
for line, some in enumerate((counts >= 0, mixed)):
    for shift, colour, who, values in ((-0.17, BLUE, "CLIP", picked[some]), (0.17, GREY, "chance", counts[some] / 9)):
        found = mean((100 * values).tolist(), "prompts")
        reach = [[found.value - found.low], [found.high - found.value]]
        middle.errorbar(found.value, line + shift, xerr=reach, fmt="o", color=colour, capsize=3)
        middle.text(found.low - 2, line + shift, f"{who} {found.value:.0f} %", va="center", ha="right", fontsize=9)
middle.set(yticks=[0, 1], yticklabels=["all 600", f"the {int(mixed.sum())} with\na choice"], ylim=(1.5, -0.5))
middle.set(title="CLIP's choice and a random one", xlabel="% right", xlim=(40, 102))
show(
    made,
    "Left, bars: most prompts with wrong pictures have one or two of them. Right: the share right by CLIP's choice and "
    "by chance, over all prompts and over those with right and wrong pictures; CLIP's choice is better in both.",
)
print(f"all nine right: {sizes[9]} of {len(counts)} prompts; all nine wrong: {sizes[0]}")

# %% [markdown]
# For most prompts all nine pictures are right, and CLIP has nothing to add. Its value comes from the others: where some
# of the nine are right and some are wrong, its choice is much better than a random one. Where all nine are wrong, no
# choice helps.
#
# Here are nine pictures of one prompt in CLIP's order, with their scores. It is the first of your 30 prompts for which
# the number of right pictures comes nearest to half of nine. A red score stands over a picture that the judge finds
# wrong.

# %% tags=["folded"]
most_mixed = int((right[WHOLE].sum(1) - 4.5).abs().argmin())
order = scored[WHOLE][most_mixed].argsort(descending=True).tolist()
made, axes = figure(9.4, 1.5, 1, 9)
for axis, place in zip(axes, order, strict=True):
    hide_axes(axis)
    axis.imshow(posterize(nines[WHOLE][most_mixed][place]).permute(1, 2, 0), interpolation="nearest")
    colour = INK if right[WHOLE][most_mixed][place] else VERMILION
    axis.set_title(f"{scored[WHOLE][most_mixed][place]:.1f}", loc="center", fontsize=10, color=colour)
show(made, f"Nine pictures of “{prompts[most_mixed]}”, the highest score first.")
print(f"the prompt was: {prompts[most_mixed]}")

# %% [markdown]
# ### Claim 3: “Building Blocks of Dall.E Mini: BART-based Encoder-Decoder, VQ-GAN, CLIP”
#
# A list of blocks can be wrong in one way only: a block is not needed. We call BART and the VQ-GAN needed if the share
# of right pictures falls by more than 50 points without them, and CLIP if its choice is right more often than a random
# choice of the same nine pictures.

# %%
verdict(
    "blocks-three",
    difference(each_prompt(WHOLE, "chosen"), each_prompt(UNREAD, "chosen"), "prompts"),
    difference(each_prompt(WHOLE, "chosen"), each_prompt(FLAT, "chosen"), "prompts"),
    difference(each_prompt(WHOLE, "chosen"), each_prompt(WHOLE, "share"), "prompts"),
)

# %% [markdown]
# The three blocks are not equally necessary. Without BART the pictures do not show what you asked for. Without the
# VQ-GAN there are no pictures. Without CLIP the machine still draws, and for most prompts just as well; CLIP is needed
# for the rest.
#
# ## 5 · Your turn
#
# There are four small exercises. Write your answer in the cell above each check, run it, then run the check. If you
# need help, open the two hints or the solution.

# %% [markdown]
# ### Exercise 1.1 · Shapes along the way (★☆☆, 5 minutes)
#
# You draw *nine* pictures of one prompt. Which shapes do the tensors have on the way? The prompt is encoded once for
# all nine. Write each shape as a tuple, such as `(3, 64, 64)`. You can find all the numbers you need in this lesson.

# %% tags=["stub"]
shapes = None  # {"ids": (…), "states": (…), "codes": (…), "vectors": (…), "pictures": (…), "scores": (…)}

# %% tags=["checked"]
check("1.1", shapes)

# %% [markdown] tags=["hint"]
# Each of the 32 places gets a number, and then a vector of 192 numbers. There is one prompt, so both shapes begin with
# a 1.

# %% [markdown] tags=["hint"]
# From the codes on, there are nine of everything. The shape of the vectors names the 32 numbers of a cell before its
# row and column: (pictures, 32, rows, columns).

# %% tags=["solution"]
shapes = {
    "ids": (1, 32),
    "states": (1, 32, 192),
    "codes": (9, 8, 8),
    "vectors": (9, 32, 8, 8),
    "pictures": (9, 3, 64, 64),
    "scores": (9,),
}

# %% [markdown]
# ### Exercise 1.2 · The best first (★☆☆, 4 minutes)
#
# You get pictures and their scores, not sorted. Sort the pictures so that the one with the highest score comes first.


# %% tags=["stub"]
def best_first(pictures: Tensor, scores: Tensor) -> Tensor:
    """Pictures (n, 3, h, w) in the order of their scores (n,), the highest first."""
    raise NotImplementedError


# %% tags=["checked"]
check("1.2", best_first)

# %% [markdown] tags=["hint"]
# `scores.argsort()` gives the indices of the scores, from the lowest score to the highest.

# %% [markdown] tags=["hint"]
# With `descending=True` it is the other way round. `pictures[indices]` returns the pictures in the order of the
# indices.


# %% tags=["solution"]
def best_first(pictures: Tensor, scores: Tensor) -> Tensor:
    """Pictures (n, 3, h, w) in the order of their scores (n,), the highest first."""
    return pictures[scores.argsort(descending=True)]


# %% [markdown]
# ### Exercise 1.3 · Two halves (★☆☆, 5 minutes)
#
# A picture is a grid of codes. So you can cut two grids in half and join the upper half of one to the lower half of the
# other. The first grid is the tower on the moon. The next cell draws a second one. Write the function that joins them.

# %%
other = pipe.draw("sunset over a lake in the mountains", n=4, seed=1)
above, below = drawing.codes[0].cpu(), other.codes[0].cpu()  # (8, 8) each
pair = torch.stack([drawing.pictures[0], other.pictures[0]])
show(
    picture_grid(posterize(pair), columns=2, titles=["above", "below"], inches=1.4),
    "Two pictures: the tower on the moon, and a lake in the mountains at sunset.",
)


# %% tags=["stub"]
def glued(above: Tensor, below: Tensor) -> Tensor:
    """The upper half of one grid of codes over the lower half of another one, both (8, 8)."""
    raise NotImplementedError


# %% tags=["checked"]
check("1.3", glued)

# %% [markdown] tags=["hint"]
# `above[:4]` is the first four rows of a grid. Which rows do you need from the other one?

# %% [markdown] tags=["hint"]
# `torch.cat([first, second])` puts one tensor under another.


# %% tags=["solution"]
def glued(above: Tensor, below: Tensor) -> Tensor:
    """The upper half of one grid of codes over the lower half of another one, both (8, 8)."""
    return torch.cat([above[:4], below[4:]])


# %% [markdown]
# This is what the painter makes of the joined grid. It blends the two halves at the seam. To decode your own, use
# `pipe.decode(glued(above, below)[None])`.

# %%
page = above.clone()
page[4:] = below[4:]
show(
    picture_grid(posterize(pipe.decode(page[None].to(pipe.device))), columns=1, inches=1.8),
    "One picture: above, the night sky with the blue planet and a trace of the tower; below, the lake at sunset.",
)


# %% [markdown]
# ### Exercise 1.4 · A score by hand (★★☆, 8 minutes)
#
# CLIP's score is 100 times the cosine between the sentence's vector $\mathbf{t}$ and a picture's vector $\mathbf{v}$:
#
# $$s = 100 \cdot \frac{\mathbf{t} \cdot \mathbf{v}}{\lVert \mathbf{t} \rVert \, \lVert \mathbf{v} \rVert}$$
#
# The numerator is the dot product, the sum of the products of their numbers; the denominator is the product of their
# lengths. Write this for one sentence and $n$ pictures. The vectors that you get may have any length.


# %% tags=["stub"]
def score(text: Tensor, pictures: Tensor) -> Tensor:
    """Scores (n,) of a sentence's vector (e,) and the vectors of n pictures (n, e)."""
    raise NotImplementedError


# %% tags=["checked"]
check("1.4", score)

# %% [markdown] tags=["hint"]
# `pictures @ text` gives all $n$ dot products at once, shape (n,). `text.norm()` is the length of a vector.

# %% [markdown] tags=["hint"]
# Each picture has a length of its own: `pictures.norm(dim=1)` has the shape (n,).


# %% tags=["solution"]
def score(text: Tensor, pictures: Tensor) -> Tensor:
    """Scores (n,) of a sentence's vector (e,) and the vectors of n pictures (n, e)."""
    return 100 * (pictures @ text) / (pictures.norm(dim=1) * text.norm())


# %% [markdown]
# ## 6 · What we have, what is missing
#
# - A prompt becomes tokens, the tokens become vectors, the vectors become 64 codes: that is BART.
# - Each code selects a row of a codebook, and the painter turns these rows into a picture: that is half of a VQ-GAN.
# - CLIP compares each picture with the prompt, and the highest score comes first.
# - Only whole numbers and pictures pass between the blocks. So each block can be studied by itself.
# - You have *used* the machine, but not built anything yet. How does a network learn to draw at all? The next lesson,
#   on the GAN, answers that.
#
# Five questions help you check what you remember.

# %% [markdown] tags=["quiz"]
# **1.** What does the painter get from BART?
# - [ ] The words of the prompt — the painter does not read words.
# - [x] 64 whole numbers, each the number of a row in the codebook — nothing else passes between the two.
# - [ ] A small blurred picture that the painter sharpens — the coloured grid only shows the codes; what the painter
#   gets is their numbers.

# %% [markdown] tags=["quiz"]
# **2.** You draw the nine pictures again, with `seed=2`. What changes?
# - [ ] Nothing, because the prompt is the same — the codes are drawn at random, and the seed decides which are drawn.
# - [x] Other random numbers are drawn, so other codes are written and you get nine other pictures — of the same prompt,
#   with the same weights.
# - [ ] The machine learns something new — the weights stay as they are; nothing was trained in this lesson.

# %% [markdown] tags=["quiz"]
# **3.** Why are there good pictures in the row "BART reads nothing"?
# - [ ] CLIP chose them — it chose in the row with random codes as well, where there are only scraps to choose from.
# - [ ] The painter corrects nonsense — in the row with random codes it got nonsense, and painted scraps.
# - [x] BART knows which codes go together even without a caption — so it writes a picture, just not the one you asked
#   for.

# %% [markdown] tags=["quiz"]
# **4.** What does a score of 75 mean?
# - [x] The vectors of sentence and picture point in similar directions, with a cosine of 0.75 — compared with other
#   scores, this tells you which picture fits better.
# - [ ] The picture is right with a probability of 75 % — a score is not a probability.
# - [ ] Three quarters of the pixels are right — CLIP compares vectors, and there is no right picture to compare pixels
#   with.

# %% [markdown] tags=["quiz"]
# **5.** Which block could you leave out and still get pictures of what you asked for?
# - [ ] BART — then the codes would be random, and the prompt would not be read.
# - [x] CLIP — all nine pictures are drawn before CLIP scores them; without it you choose the best one yourself.
# - [ ] The VQ-GAN — then there are codes, but no pictures.
