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
# # 2d · The VQ-VAE
#
# In this lesson a picture becomes a sentence: sixty-four words, each from the same small dictionary. You build the
# layer that writes it, and afterwards you edit a picture by changing one word.

# %%
from dataclasses import dataclass
from math import log2
from typing import NamedTuple

import torch
import torch.nn.functional as F
from atelier.blocks.autoencoder import ConvConfig, ConvDecoder, ConvEncoder, reconstruction_loss
from atelier.teaching import (
    BLUE,
    COLOURS,
    GREEN,
    INK,
    VERMILION,
    check,
    choice,
    curves,
    explore,
    figure,
    lesson_header,
    picture_grid,
    show,
    slider,
    verdict,
)
from atelier.teaching.figures import code_colours, draw_tiles, hide_axes
from atelier.weights.sprites import load_sprite_model, read_sprite_models
from atelier.world import SPRITES, sprites
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, Polygon, Rectangle
from torch import Tensor, nn
from tqdm.auto import tqdm

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")

# %% [markdown]
# ## 1 · Where we are

# %%
lesson_header("2d")

# %% [markdown]
# An autoencoder sends a picture through a bottleneck, the few numbers in its middle (lesson 2b). The VAE made the space
# of these numbers smooth, so that any point in it can be drawn (lesson 2c). It paid for that: between two pictures lies
# a ghost of both.
#
# For DALL·E Mini smooth numbers have another fault. Its translator, BART, is a language model: it does not measure, it
# *chooses*, one word after the other, from a finite list. If it is to write pictures, then pictures must be written in
# words too. The **VQ-VAE**, [van den Oord's autoencoder of 2017](https://arxiv.org/abs/1711.00937) whose bottleneck is
# a grid of entries chosen from a learned list, makes such words. Nobody decides what the words mean. They are learned
# together with the network that reads and writes them.
#
# Below are the sprites that it learns in this lesson: six subjects in five colours, 32 pixels wide. Under each of them
# stands what comes back from a VQ-VAE that the course ships. It was trained for longer than the one that you train in
# section 4.

# %%
shipped = load_sprite_model("vqvae").to(DEVICE)
unseen, kinds = sprites(240, seed=7, device=DEVICE)
with torch.no_grad():
    through_words = shipped(unseen[:9])[0]
show(
    picture_grid(torch.cat([unseen[:9], through_words]), columns=9, rows=["sprites", "through 64 words"], inches=0.85),
    "Nine sprites, and under each of them what comes back from the shipped VQ-VAE: the same sprite, a little softer.",
)

# %% [markdown]
# ## 2 · The idea
#
# Take the autoencoder. Its encoder makes of the picture $x$ not a handful of numbers but a small map: a grid of $8
# \times 8$ cells with a vector $\mathbf{z}_e$ of 16 numbers in each. Before the decoder sees the map, put a layer in
# between. The layer owns a **codebook**, a learned table of $K = 64$ vectors $\mathbf{e}_1, \dots, \mathbf{e}_K$ of 16
# numbers each. A row of the table, and its number $k$ for short, is a **code**. Each cell's vector is replaced by the
# row that is nearest to it. Replacing a value by the nearest of a fixed list is **quantisation**, "vector quantisation"
# if the values are vectors: that is the VQ in the name.
#
# The slide writes the layer as a probability:
#
# $$q(\mathbf{z} = \mathbf{e}_k \mid x) = \begin{cases} 1 & \text{if } k = \arg\min_i \lVert \mathbf{z}_e(x) -
# \mathbf{e}_i \rVert_2 \\ 0 & \text{otherwise.} \end{cases}$$
#
# | symbol | meaning | shape |
# |---|---|---|
# | $x$ | a picture | (3, 32, 32) |
# | $\mathbf{z}_e(x)$ | what the encoder says in one cell | (16,), in each of 8 × 8 cells |
# | $\mathbf{e}_i$ | the codebook's row number $i$ | (16,); the whole table is (64, 16) |
# | $\arg\min_i$ | the number $i$ for which what follows is smallest | a whole number from 0 to 63 |
# | $\lVert \cdot \rVert_2$ | length of a vector | a number |
# | $q(\mathbf{z} = \mathbf{e}_k \mid x)$ | probability that a cell becomes code $k$ | (64,): one 1, the rest 0 |
#
# So $q$ plays the part of the VAE's posterior, the cloud that the encoder made of a picture. Here the cloud has shrunk
# to a single word, chosen with certainty. This is why it is still called *variational*: with a uniform prior over the
# $K$ words the KL divergence of each cell is $\log K$, whatever the picture. A constant has no gradient, so training
# leaves it out.
#
# The next cell draws the slide's figure, with real numbers in it. The colour of a vector is the one that the decoder
# gives to it where nothing stands but this vector.

# %%
inks = code_colours(shipped.decode, shipped.quantize.embedding.weight)  # (64, 3)


@torch.no_grad()
def draw_idea(picture: Tensor) -> Figure:
    """One picture (3, 32, 32) on its way through the shipped VQ-VAE."""
    indices = shipped.encode(picture[None]).indices  # (1, 8, 8)
    z_e = code_colours(shipped.decode, shipped.encoder(picture[None])[0].flatten(1).T).T.reshape(3, 8, 8)
    z_q, back = inks[indices[0].cpu()].permute(2, 0, 1), shipped.decode_codes(indices)[0]
    made, axis = figure(9.6, 3.0)
    hide_axes(axis)
    for x, pixels in {0: picture, 3.7: z_e, 9.9: z_q, 13.6: back}.items():
        axis.imshow(pixels.cpu().clamp(0, 1).permute(1, 2, 0), extent=(x, x + 2, 0, 2))
    draw_tiles(axis, indices[0], inks, 6.8, 0, 0.25, 4.6)
    draw_tiles(axis, torch.arange(64).reshape(4, 16), inks, 5.8, 2.95, 0.25, 4.6)
    for x, left, right, name in [(2.25, 1, 0.5, "encoder"), (12.15, 0.5, 1, "decoder")]:
        corners = [(x, 1 - left), (x, 1 + left), (x + 1.2, 1 + right), (x + 1.2, 1 - right)]
        axis.add_patch(Polygon(corners, facecolor="#E8F1F8", edgecolor=BLUE))
        axis.text(x + 0.6, 1, name, ha="center", va="center", fontsize=8)
    names = {1: "$x$", 4.7: r"$\mathbf{z}_e$", 7.8: "$k$", 10.9: r"$\mathbf{z}_q$", 14.6: r"$\hat{x}$"}
    for x, words in names.items():
        axis.text(x, 2.1, words, ha="center", fontsize=9.5)
    axis.text(5.65, 3.45, "the codebook:\n64 rows of 16", ha="right", va="center", fontsize=8.5)
    ways = [((5.75, 1), (6.75, 1)), ((8.85, 1), (9.85, 1)), ((7.8, 2.9), (7.8, 2.5)), ((9.85, 3.3), (10.9, 2.5))]
    for start, end in ways:
        axis.add_patch(FancyArrowPatch(start, end, arrowstyle="-|>", mutation_scale=10, color=INK))
    axis.add_patch(FancyArrowPatch((10.9, -0.3), (4.7, -0.3), arrowstyle="-|>", mutation_scale=10, color=VERMILION))
    axis.text(7.8, -0.65, "backwards: straight through", color=VERMILION, ha="center", va="center", fontsize=8.5)
    axis.set(xlim=(-0.1, 15.7), ylim=(-0.95, 4.05))
    return made


show(
    draw_idea(unseen[1]),
    "A mushroom passes an encoder and becomes a grid of 8 by 8 coloured cells, z_e. Each cell gets the number k of the "
    "nearest of 64 rows of a codebook. The rows, looked up, form the grid z_q, out of which a decoder draws the "
    "mushroom again. A red arrow leads from z_q straight back to z_e.",
)

# %% [markdown]
# Read it from left to right. The encoder's cells $\mathbf{z}_e$ may have any colour. The cells of $\mathbf{z}_q$ have
# only colours of the codebook. Between them stand 64 whole numbers, and they are all that the decoder gets to know:
# they *are* the picture now, as letters are a word.
#
# One difficulty is left, the red arrow. Choosing the nearest row has no slope. Move $\mathbf{z}_e$ a little, and either
# nothing changes or everything jumps. Backpropagation would stop here, and the encoder would learn nothing. How the
# paper gets round it is the second step of the next section.

# %% [markdown]
# ## 3 · Build it
#
# You build the layer in seven small steps. The code is the library's own. Sections, equations and appendices that its
# docstrings name are those of the paper of 2017.
#
# ### Step 1: the nearest row
#
# The distance of a vector to all rows is one matrix product, because $\lVert \mathbf{z} - \mathbf{e} \rVert^2 = \lVert
# \mathbf{z} \rVert^2 - 2\, \mathbf{z} \cdot \mathbf{e} + \lVert \mathbf{e} \rVert^2$. The second function is the
# slide's $q$, with one row for each vector.


# %%
@torch.no_grad()
def nearest_codes(vectors: Tensor, codebook: Tensor) -> Tensor:
    """k = arg min_j ‖z_e − e_j‖, eq. 1: (m, width), (codes, width) → (m,)."""
    # ‖z − e‖² = ‖z‖² − 2 z·e + ‖e‖². The first term is the same for every code, so it can be left out.
    distances = torch.addmm(codebook.square().sum(1), vectors, codebook.T, alpha=-2)  # (m, codes)
    return distances.argmin(1)


def assignment(vectors: Tensor, codebook: Tensor) -> Tensor:
    """q(z = e_k | x), eq. 1: 1 for the nearest code, else 0: (m, width), (codes, width) → (m, codes)."""
    return F.one_hot(nearest_codes(vectors, codebook), len(codebook)).to(codebook.dtype)


# %% [markdown]
# Try it where you can see it: a codebook of five rows in a plane. Every point belongs to the row that is nearest, so
# the codebook cuts the plane into five regions with straight borders. Four vectors are drawn as dots, and each is
# pulled to the row of its region.

# %% tags=["checked"]
plane_book = torch.tensor([[-1.2, 0.8], [0.9, 1.1], [0.1, -0.2], [-0.8, -1.1], [1.3, -0.9]])
dots = torch.tensor([[-0.5, 0.9], [0.5, 0.4], [-0.3, -0.6], [1.5, 0.2]])
print("nearest row of each dot:", nearest_codes(dots, plane_book).tolist())
print("q(z = e_k | x), a row for each dot:", *assignment(dots, plane_book).int().tolist(), sep="\n")
assert torch.equal(assignment(dots, plane_book) @ plane_book, plane_book[nearest_codes(dots, plane_book)])


# %%
def draw_plane(vectors: Tensor, codebook: Tensor, axis: Axes, reach: float = 2.0) -> None:
    """The regions of a codebook (codes, 2) in a plane, and vectors (m, 2) with lines to their codes."""
    steps = torch.linspace(-reach, reach, 300)
    grid = torch.cartesian_prod(steps.flip(0), steps).flip(1)  # rows from top to bottom, (x, y) each
    regions = nearest_codes(grid, codebook).reshape(300, 300) % len(COLOURS)
    shades = torch.tensor([[int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)] for colour in COLOURS])
    axis.imshow(0.72 + 0.28 * shades[regions], extent=(-reach, reach, -reach, reach))
    for vector, code in zip(vectors, codebook[nearest_codes(vectors, codebook)], strict=True):
        ends = vector.tolist(), code.tolist()
        axis.add_patch(FancyArrowPatch(*ends, arrowstyle="-|>", mutation_scale=9, color=INK, shrinkB=4))
    axis.scatter(*vectors.T, s=22, color=INK, zorder=3)
    axis.scatter(*codebook.T, s=90, marker="*", color=VERMILION, edgecolor="white", linewidth=0.6, zorder=4)
    axis.set(xlim=(-reach, reach), ylim=(-reach, reach), xticks=[], yticks=[])


made, axis = figure(3.4, 3.4)
draw_plane(dots, plane_book, axis)
for number, (x, y) in enumerate(plane_book.tolist()):
    axis.text(x + 0.12, y + 0.1, f"$e_{number}$", fontsize=11)
show(made, "A plane cut into five regions, each around a star. Four dots have arrows to the star of their region.")

# %% [markdown]
# ### Step 2: the gradient, straight through
#
# The paper's answer to the missing slope is bold and simple: forwards use the row, backwards behave as if nothing had
# been replaced. This is the **straight-through estimator**: the gradient of a step that has none is replaced by that of
# the identity, so what arrives at $\mathbf{z}_q$ is handed to $\mathbf{z}_e$ unchanged, $\partial L / \partial
# \mathbf{z}_e := \partial L / \partial \mathbf{z}_q$. It is not the true gradient, which is zero almost everywhere. It
# is a good guess as long as $\mathbf{z}_e$ is close to its row.
#
# In PyTorch it takes one line. `detach` gives a tensor's values without its history; $\mathbf{z}_e - \text{detach}
# (\mathbf{z}_e)$ is exactly zero, and yet has the gradient of $\mathbf{z}_e$.


# %%
def straight_through(z_e: Tensor, z_q: Tensor) -> Tensor:
    """Exactly the values of z_q with exactly the gradient of z_e (section 3.2), which has the same shape."""
    return z_q.detach() + (z_e - z_e.detach())


# %% tags=["checked"]
z_e = dots.clone().requires_grad_()
z_q = straight_through(z_e, plane_book[nearest_codes(z_e, plane_book)])
arriving = torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0], [7.0, 8.0]])  # what the decoder sends back to z_q
(gradient,) = torch.autograd.grad((z_q * arriving).sum(), z_e)
print("z_q:", *[[round(number, 1) for number in row] for row in z_q.tolist()], sep="\n  ")
print("the gradient that reaches z_e:", *gradient.tolist(), sep="\n  ")
assert torch.equal(z_q, plane_book[nearest_codes(dots, plane_book)])
assert torch.equal(gradient, arriving)

# %% [markdown]
# ### Step 3: the loss
#
# The whole loss has three terms (eq. 3 of the paper), where $\text{sg}[\cdot]$, "stop gradient", is `detach`:
#
# $$L = \underbrace{\lVert x - \hat{x} \rVert}_{\text{give the picture back}} + \underbrace{\lVert
# \text{sg}[\mathbf{z}_e]
# - \mathbf{z}_q \rVert^2}_{\text{rows, come to the vectors}} + \beta\, \underbrace{\lVert \mathbf{z}_e -
# \text{sg}[\mathbf{z}_q] \rVert^2}_{\text{vectors, stay with your rows}}$$
#
# Here $\mathbf{z}_q$ is the row itself, without the trick of step 2. The first term is the reconstruction loss, the
# distance between a picture and what comes back. It trains encoder and decoder, but never the codebook: the straight
# way leads past it. The second term moves the rows. The third, the **commitment loss**, keeps the encoder's vectors
# near the rows that they chose, weighted by $\beta = 0.25$. Without it the encoder could run away from a codebook that
# follows too slowly.
#
# The last two terms have the same value. They differ only in who may move.
#
# Two remarks for those who compare. The paper's first term is a log-likelihood, of which a distance is the simplest
# case. And where the formula has sums of squares, the code takes the mean over all cells and numbers (`F.mse_loss`),
# which only rescales the terms against the first.
#
# The argument `learned` says whether the second term is there. In step 6 the rows move in another way, without it.


# %%
def vq_loss(z_e: Tensor, z_q: Tensor, beta: float, learned: bool) -> Tensor:
    """Terms 2 (only if the codebook is learned by gradient) and 3 of eq. 3: ‖sg[z_e] − z_q‖² + β ‖z_e − sg[z_q]‖²."""
    commitment = beta * F.mse_loss(z_e, z_q.detach())
    return F.mse_loss(z_q, z_e.detach()) + commitment if learned else commitment


# %% tags=["checked"]
z_e = torch.tensor([[1.0, 0.0]], requires_grad=True)  # one vector of two numbers
row = torch.tensor([[0.0, 0.0]], requires_grad=True)
for_row, for_vector = torch.autograd.grad(vq_loss(z_e, row, beta=0.25, learned=True), (row, z_e))
print("downhill for the row:   ", (0 - for_row[0]).tolist())
print("downhill for the vector:", (0 - for_vector[0]).tolist())
assert torch.equal(for_vector, -0.25 * for_row)

# %% [markdown]
# The row at 0 wants to go to the vector at 1. The vector wants to come as well, with a quarter of the force.
#
# ### Step 4: the layer
#
# Now join the three steps. The layer takes the encoder's map, lays out its cells as a list of vectors, and finds the
# nearest row of each. Then it computes the loss, lets the gradient pass straight through, and folds the list into a map
# again. The codebook is an `nn.Embedding`, a table with a gradient. Its rows start as small random numbers.
#
# `lookup` is for later: it turns a grid of numbers into a map of vectors. This is all that a decoder needs in order to
# draw what BART has written.


# %%
class Quantized(NamedTuple):
    """What the layer returns."""

    z_q: Tensor  # (n, width, h, w), the codes' vectors; gradients pass straight through to z_e
    indices: Tensor  # (n, h, w), int64, the number of the code that each vector became
    loss: Tensor  # scalar, to be added to the training loss


# %%
class VectorQuantizer(nn.Module):
    """Replaces each vector of a map by the nearest code of a codebook that is learned by gradient (section 3)."""

    learned_by_gradient = True

    def __init__(self, codes: int, width: int, beta: float = 0.25):
        super().__init__()
        self.codes, self.width, self.beta = codes, width, beta
        self.embedding = nn.Embedding(codes, width)
        nn.init.uniform_(self.embedding.weight, -1 / codes, 1 / codes)

    def forward(self, z_e: Tensor) -> Quantized:
        """Quantises a map (n, width, h, w)."""
        vectors = self.vectors_of(z_e)  # (n·h·w, c)
        n, c, h, w = z_e.shape
        indices = nearest_codes(vectors, self.embedding.weight)  # (n·h·w,)
        codes = self.embedding(indices)  # (n·h·w, c)
        loss = vq_loss(vectors, codes, self.beta, self.learned_by_gradient)
        z_q = straight_through(vectors, codes).reshape(n, h, w, c).permute(0, 3, 1, 2)  # (n, c, h, w)
        return Quantized(z_q.contiguous(), indices.reshape(n, h, w), loss)

    def vectors_of(self, z_e: Tensor) -> Tensor:
        """The vectors (n·h·w, width) of a map (n, width, h, w)."""
        if z_e.ndim != 4 or z_e.shape[1] != self.width:
            raise ValueError(f"The codebook quantises maps (n, {self.width}, h, w), but got {tuple(z_e.shape)}.")
        return z_e.permute(0, 2, 3, 1).reshape(-1, self.width)

    def lookup(self, indices: Tensor) -> Tensor:
        """The codes' vectors (n, width, h, w) for their indices (n, h, w)."""
        return self.embedding(indices).permute(0, 3, 1, 2).contiguous()


# %% tags=["checked"]
torch.manual_seed(0)
layer = VectorQuantizer(codes=32, width=4)
z_e = torch.randn(2, 4, 8, 8)
quantized = layer(z_e)
print({name: tuple(value.shape) for name, value in quantized._asdict().items()})
assert torch.equal(quantized.z_q, layer.lookup(quantized.indices))
(for_rows,) = torch.autograd.grad(quantized.loss, layer.embedding.weight)  # (32, 4)
pulled = for_rows.any(dim=1).nonzero().flatten()
print(f"rows chosen by a vector: {len(quantized.indices.unique())} of 32, rows with a gradient: {len(pulled)}")
assert torch.equal(pulled, quantized.indices.unique())

# %% [markdown]
# This is the whole layer of the paper's section 3. Remember the last line: a row that no vector chooses gets no
# gradient. You will meet it again in step 6.
#
# ### Step 5: how much of the book is in use?
#
# A codebook of 64 rows of which three are ever chosen is a codebook of three. Counting the rows in use is not enough: a
# row chosen once in a million counts as much as any other. So the field reports the **perplexity** of the codes, the
# number of equally frequent codes that would carry as much information. With $p_k$ the share of code $k$,
#
# $$\text{perplexity} = \exp\Big(-\sum_{k} p_k \log p_k\Big), \qquad 1 \le \text{perplexity} \le K.$$


# %%
class Usage(NamedTuple):
    """How much of a codebook is in use."""

    share: float  # of the codes that are in use, from 0 to 1
    perplexity: float  # exp of the entropy: the number of equally frequent codes that would carry as much information


def codebook_usage(counts: Tensor, above: float = 0.0) -> Usage:
    """Usage from how often each code was chosen, counts (codes,); in use is a code above this multiple of the mean."""
    counts = counts.double()
    frequencies = counts / counts.sum().clamp(min=1e-30)
    entropy = -torch.special.xlogy(frequencies, frequencies).sum()
    return Usage((counts > above * counts.mean()).double().mean().item(), entropy.exp().item())


# %% tags=["checked"]
for name, counts in {"all alike": [5, 5, 5, 5], "one rules": [97, 1, 1, 1], "one alone": [9, 0, 0, 0]}.items():
    usage = codebook_usage(torch.tensor(counts))
    print(f"{name}: share in use {usage.share:.2f}, perplexity {usage.perplexity:.2f}")

# %% [markdown]
# ### Step 6: a book that follows the data
#
# The codebook term of step 3 has a closed solution: the best place of a row is the mean of the vectors that chose it,
# as in k-means. Appendix A.1 of the paper therefore leaves the term out and keeps a moving average of that mean. In
# every batch, with $n_k$ vectors having chosen row $k$, and $\gamma = 0.99$ as the decay,
#
# $$N_k \leftarrow \gamma N_k + (1 - \gamma)\, n_k, \qquad \mathbf{m}_k \leftarrow \gamma\, \mathbf{m}_k + (1 - \gamma)
# \sum_{\mathbf{z} \text{ chose } k} \mathbf{z}, \qquad \mathbf{e}_k \leftarrow \mathbf{m}_k / N_k .$$
#
# The code divides by $N_k$ smoothed a little ($10^{-5}$ is added to each count, and all are scaled back to their old
# sum), so that a row which nobody chose does not divide by zero.
#
# There is a catch. A row that nobody chooses gets no vectors, so it never moves, so nobody will ever choose it: it is a
# **dead code**, a row of the codebook that takes no part any more. The cure is blunt. A row whose count has fallen
# below five per cent of the mean count is put down again at a random vector of the batch (Jukebox, 2020). There it is
# sure to be somebody's nearest.
#
# The new layer inherits everything from the one of step 4. It keeps $N_k$ and $\mathbf{m}_k$ of each row in `counts`
# and `sums`. They are buffers: stored with the weights, but without a gradient, and so are the rows now. In training
# `forward` first restarts dead rows, then quantises as before, then moves the book. On the first batch no row has been
# used, so all of them count as dead, and all start at vectors of that batch. In evaluation the book stands still.


# %%
LAPLACE_EPSILON = 1e-5  # added to the counts, so that the moving average does not divide by zero for an unused code


class MovingAverageQuantizer(VectorQuantizer):
    """A vector quantiser whose codes are moving averages of the vectors assigned to them (appendix A.1)."""

    learned_by_gradient = False
    counts: Tensor
    sums: Tensor

    def __init__(self, codes: int, width: int, beta: float = 0.25, decay: float = 0.99, restart_below: float = 0.05):
        super().__init__(codes, width, beta)
        self.decay, self.restart_below = decay, restart_below
        self.embedding.weight.requires_grad_(False)
        self.register_buffer("counts", torch.zeros(codes))  # N of appendix A.1
        self.register_buffer("sums", torch.zeros(codes, width))  # m of appendix A.1

    def forward(self, z_e: Tensor) -> Quantized:
        """Quantises a map as `VectorQuantizer` does; in training, also restarts dead codes and moves the codebook."""
        if not self.training:
            return super().forward(z_e)
        vectors = self.vectors_of(z_e.detach())  # (n·h·w, width)
        self.restart_dead_codes(vectors)
        quantized = super().forward(z_e)
        self.move(vectors, quantized.indices.flatten())
        return quantized

    @torch.no_grad()
    def restart_dead_codes(self, vectors: Tensor) -> None:
        """Replaces codes that are hardly used by random vectors of the batch, vectors (m, width)."""
        total = self.counts.sum()
        mean_count = torch.where(total > 0, total / self.codes, 1.0)
        dead = (self.counts < self.restart_below * mean_count) | (total == 0)  # (codes,)
        candidates = self.random_vectors(vectors)  # (codes, width)
        self.embedding.weight.copy_(torch.where(dead[:, None], candidates, self.embedding.weight))
        # A restarted code gets the mean count, so that it is not restarted again before it had time to be used.
        self.counts.copy_(torch.where(dead, mean_count, self.counts))
        self.sums.copy_(torch.where(dead[:, None], candidates * mean_count, self.sums))

    @torch.no_grad()
    def move(self, vectors: Tensor, indices: Tensor) -> None:
        """Updates the averages and the codebook with vectors (m, width), assigned to codes with these indices (m,)."""
        counts, sums = self.batch_statistics(vectors, indices)
        self.counts.lerp_(counts, 1 - self.decay)  # γ N + (1 − γ) n
        self.sums.lerp_(sums, 1 - self.decay)
        total = self.counts.sum()
        smoothed = (self.counts + LAPLACE_EPSILON) / (total + self.codes * LAPLACE_EPSILON) * total
        self.embedding.weight.copy_(self.sums / smoothed[:, None])

    def random_vectors(self, vectors: Tensor) -> Tensor:
        """One random row of vectors (m, width) for each code, (codes, width); without repetition if m is enough."""
        if len(vectors) >= self.codes:
            return vectors[torch.randperm(len(vectors), device=vectors.device)[: self.codes]]
        return vectors[torch.randint(len(vectors), (self.codes,), device=vectors.device)]

    def batch_statistics(self, vectors: Tensor, indices: Tensor) -> tuple[Tensor, Tensor]:
        """How many vectors (m, width) are assigned to each code, (codes,), and their sum, (codes, width)."""
        counts = torch.zeros_like(self.counts).index_add_(0, indices, torch.ones_like(vectors[:, 0]))
        sums = torch.zeros_like(self.sums).index_add_(0, indices, vectors)
        return counts, sums

    def usage(self) -> Usage:
        """Usage over about the last 1 / (1 − decay) training batches; in use is a code above 1 % of the mean count."""
        return codebook_usage(self.counts, above=0.01)


# %% tags=["checked"]
layer = MovingAverageQuantizer(codes=32, width=4).train()
quantized = layer(z_e)
print("state:", {name: tuple(tensor.shape) for name, tensor in layer.state_dict().items()})
print(f"rows in use after the first batch: {layer.usage().share:.0%}")
layer.eval()  # now the book stands still
assert torch.equal(layer(z_e).z_q, layer.lookup(layer(z_e).indices))

# %% [markdown]
# Watch it in the plane. The data are three clouds. A book of eight rows starts as a heap in the corner. It moves for
# 400 batches, first without restarts, then with them.


# %%
def moved_book(restart_below: float) -> Tensor:
    """A plane's codebook (8, 2) after 400 batches from three clouds."""
    torch.manual_seed(0)
    book = MovingAverageQuantizer(codes=8, width=2, restart_below=restart_below)
    book.embedding.weight.add_(1.5)  # from the middle into the upper right corner
    book.counts.fill_(1.0)
    book.sums.copy_(book.embedding.weight)
    for _ in range(400):
        vectors = clouds[torch.randint(len(clouds), (64,))]
        book.restart_dead_codes(vectors)
        book.move(vectors, nearest_codes(vectors, book.embedding.weight))
    return book.embedding.weight.detach()


torch.manual_seed(0)
clouds = torch.tensor([[-1.1, -0.9], [1.2, -0.7], [0.1, 1.2]]).repeat(60, 1) + 0.28 * torch.randn(180, 2)
made, axes = figure(7.6, 3.9, 1, 2)
for axis, restart_below, name in zip(axes, (0.0, 0.05), ("dead rows stay dead", "dead rows start again"), strict=True):
    plane_book = moved_book(restart_below)
    draw_plane(clouds[:0], plane_book, axis)
    axis.scatter(*clouds.T, s=5, color=INK)
    in_use = len(nearest_codes(clouds, plane_book).unique())
    axis.set_title(f"{name}: {in_use} of 8 in use")
show(
    made,
    "Three clouds of points in a plane. Left, without restarts, a few stars sit in the clouds and the others lie "
    "unused in a heap in the corner. Right, with restarts, all stars lie in the clouds and share their points.",
)

# %% [markdown]
# ### Step 7: the network around it
#
# The network is the autoencoder of lesson 2b, halved twice instead of three times so that a map of $8 \times 8$
# remains. The config says so much.


# %%
@dataclass(frozen=True)
class VQVAEConfig(ConvConfig):
    """Shape of a VQ-VAE."""

    levels: int = 2
    codes: int = 64  # codes in the codebook
    code_width: int = 16  # length of a code


# %% tags=["checked"]
config = VQVAEConfig()
channels, height, width = config.map_shape
print(f"the convolutions make a map of {height} × {width} cells with {channels} channels")
print(f"a cell's vector and a row of the book have {config.code_width} numbers; the book has {config.codes} rows")

# %% [markdown]
# A convolution of one pixel brings the channels down to the codebook's width. A second one, of three pixels, brings
# them back and lets each cell hear of its neighbours.


# %%
class VQVAE(nn.Module):
    """An autoencoder whose latent is a map of codes (section 3). Pictures have values from 0 to 1."""

    def __init__(self, config: VQVAEConfig):
        super().__init__()
        self.config = config
        channels = config.widths[-1]
        self.encoder = nn.Sequential(ConvEncoder(config), nn.Conv2d(channels, config.code_width, 1))
        self.quantize = MovingAverageQuantizer(config.codes, config.code_width)
        self.decoder = nn.Sequential(nn.Conv2d(config.code_width, channels, 3, padding=1), ConvDecoder(config))

    def encode(self, pictures: Tensor) -> Quantized:
        """Encodes pictures (n, 3, size, size) to z_q, indices (n, side, side), and the codebook's loss."""
        return self.quantize(self.encoder(pictures))

    def decode(self, z_q: Tensor) -> Tensor:
        """Decodes codes' vectors (n, code_width, side, side) to pictures (n, 3, size, size)."""
        return self.decoder(z_q)

    def decode_codes(self, indices: Tensor) -> Tensor:
        """Decodes indices (n, side, side), each from 0 to codes − 1, to pictures (n, 3, size, size)."""
        return self.decode(self.quantize.lookup(indices))

    def forward(self, pictures: Tensor) -> tuple[Tensor, Quantized]:
        """Reconstructs pictures (n, 3, size, size); returns the reconstructions and what `encode` returns."""
        quantized = self.encode(pictures)
        return self.decode(quantized.z_q), quantized


# %% tags=["checked"]
network = VQVAE(config).eval()
batch = torch.rand(5, 3, 32, 32)
reconstructions, quantized = network(batch)
print("z_e", tuple(network.encoder(batch).shape), "→ z_q", tuple(quantized.z_q.shape))
print("codes", tuple(quantized.indices.shape), "→ pictures", tuple(reconstructions.shape))
print(f"bits of a picture: {3 * 32 * 32 * 8}, of its codes: {8 * 8 * log2(64):.0f}")
assert torch.equal(network.decode_codes(quantized.indices), reconstructions)

# %% [markdown]
# A picture of 24,576 bits has become 384 bits, one part in sixty-four.
#
# ### The same numbers as the textbook
#
# Is it right? Here is the layer as you would write it with no thought for speed: all distances by `torch.cdist`, and
# the moving average as a loop over the rows, in double precision. One training step must agree in every code and, up to
# rounding, in the whole book. (`tests/parity/test_vq_parity.py` compares output, loss, gradients and three steps with
# the package vector-quantize-pytorch.)

# %% tags=["checked"]
torch.manual_seed(0)
layer = MovingAverageQuantizer(codes=32, width=4, restart_below=0.0).train()
layer.counts.uniform_(1, 5)
layer.sums.copy_(layer.embedding.weight.normal_() * layer.counts[:, None])
rows, N, m = (tensor.detach().double().clone() for tensor in (layer.embedding.weight, layer.counts, layer.sums))
vectors = z_e.double().permute(0, 2, 3, 1).reshape(-1, 4)  # (128, 4)
chosen = torch.cdist(vectors, rows).argmin(1)  # (128,)
for k in range(32):
    N[k] = 0.99 * N[k] + 0.01 * (chosen == k).sum()
    m[k] = 0.99 * m[k] + 0.01 * vectors[chosen == k].sum(0)
    rows[k] = m[k] / N[k]
quantized = layer(z_e)
assert torch.equal(quantized.indices.flatten(), chosen)
assert torch.allclose(layer.embedding.weight.double(), rows, rtol=1e-4, atol=1e-5)
print("the same 128 codes, and the same book after the step")

# %% [markdown]
# ## 4 · Train it
#
# The loop is the autoencoder's. Only the layer's own loss is added. The learning rate rises and falls again
# (`OneCycleLR`), which helps when there is little time.

# %% tags=["ignored"]
STEPS, BATCH = 1200, 32
pictures, _ = sprites(1536, seed=0, device=DEVICE)
torch.manual_seed(0)
model = VQVAE(VQVAEConfig()).to(DEVICE).train()
optimiser = torch.optim.Adam(model.parameters(), betas=(0.9, 0.99))
schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=4e-3, total_steps=STEPS)
losses, perplexities = [], []
for _ in tqdm(range(STEPS)):
    batch = pictures[torch.randint(len(pictures), (BATCH,))]
    reconstructions, quantized = model(batch)
    distance = reconstruction_loss(batch, reconstructions)
    optimiser.zero_grad()
    (distance + quantized.loss).backward()
    optimiser.step()
    schedule.step()
    losses.append(distance.item())
    perplexities.append(codebook_usage(quantized.indices.flatten().bincount(minlength=64)).perplexity)

# %%
made, (left, right) = figure(8.2, 2.6, 1, 2)
for axis, values, colour in [(left, losses, BLUE), (right, perplexities, GREEN)]:
    axis.plot(values, color=colour, alpha=0.25, linewidth=0.8)
    axis.plot(range(12, STEPS - 12), torch.tensor(values).unfold(0, 25, 1).mean(1), color=colour)
    axis.set(xlabel="step")
left.set(title="distance of a picture and what comes back", ylim=(0, 16))
right.set(title="perplexity of a batch's codes", ylim=(0, 64))
show(made, "Over the steps, the distance falls steeply, then slowly; the perplexity rises above forty of 64.")

# %% tags=["ignored"]
model.eval()  # the book stands still from now on
with torch.no_grad():
    live, longer = model(unseen[:9])[0], shipped(unseen[:9])[0]
show(
    picture_grid(torch.cat([unseen[:9], live, longer]), 9, rows=["not seen before", "yours", "shipped"], inches=0.85),
    "Nine sprites that neither model has seen; below them yours, recognisable but soft and speckled; below these the "
    "shipped model's, cleaner.",
)

# %% [markdown]
# You should recognise all six subjects, each nearly in its colour. Much of what is fine has gone: a cat's eyes, the
# seeds of a strawberry. The shipped model, trained for longer, brings part of it back, and both are softer
# than the original. What else is missing is the next lesson's business.
#
# Two judgements in numbers. How far is each picture from its original? And what does a judge say, a classifier trained
# to name the six subjects or to answer "none" when it sees a blend, a blur or noise?


# %%
@torch.no_grad()
def judged(pictures: Tensor) -> Tensor:
    """The judge's probabilities (n, 7): six subjects, and last "none"."""
    return judge(pictures)["kind"].softmax(1)


judge = load_sprite_model("judge").to(DEVICE)
for name, network in {"yours": model, "shipped": shipped}.items():
    with torch.no_grad():
        back = network(unseen)[0]
    right_kind = (judged(back).argmax(1) == kinds).float().mean().item()
    decibels = -10 * (back - unseen).square().mean((1, 2, 3)).log10().mean().item()
    print(f"{name}: {right_kind:.0%} named rightly, {decibels:.1f} dB")
print(f"the sprites themselves: {(judged(unseen).argmax(1) == kinds).float().mean():.0%} named rightly")

# %% [markdown]
# Decibels are logarithmic: ten more mean a tenth of the squared error. Expect 22 to 25 for yours.
#
# ## 5 · Look inside
#
# What do the words mean? Fill a whole grid with one word and decode it: that is what the word looks like among its own
# kind. Here are all 64, each the middle of such a picture, sorted from dark to light.

# %%
with torch.no_grad():
    alone = shipped.decode_codes(torch.arange(64, device=DEVICE)[:, None, None].expand(-1, 8, 8))[:, :, 8:24, 8:24]
order = inks.mean(1).argsort()
names = [str(number) for number in order.tolist()]
show(
    picture_grid(alone[order.to(DEVICE)], 16, titles=names, inches=0.5),
    "The 64 words of the codebook as small patches from dark to light: plain colours, edges, textures.",
)

# %% [markdown]
# Some words are plain colours. Many are textures that no sprite contains, because a word seldom stands among its own
# kind: it means what it means *beside its neighbours*, as words do. A sentence is easier to read:

# %%
with torch.no_grad():
    sentence = shipped.encode(unseen[3:4]).indices[0].cpu()  # (8, 8)
    drawn = shipped.decode_codes(sentence[None].to(DEVICE))[0].cpu()
made, (left, right) = figure(6.8, 3.4, 1, 2)
for axis in (left, right):
    hide_axes(axis)
left.imshow(drawn.permute(1, 2, 0), extent=(0, 8, 0, 8))
draw_tiles(right, sentence, inks)
left.set_title("what the decoder draws")
right.set_title("what it read")
show(made, "Left a house, drawn by the decoder. Right the 8 by 8 numbered words that it read, in their colours.")

# %% [markdown]
# Look for words that repeat: the inside of the roof, the wall, the ground. Where something happens, at edges, windows
# and corners, each cell needs a word of its own. Even the plain paper takes several words that the decoder draws alike;
# they tell their neighbours where the house begins.
#
# Now write yourself. Choose a sprite, a word, and where it is to stand: in one cell or in a block of several. Cells
# count from the upper left.


# %%
@torch.no_grad()
def swapped(subject: str, row: int, column: int, side: int, code: int) -> tuple[Figure, str]:
    """A sprite's sentence with a word written into side × side cells, as tiles and as the decoder draws it."""
    codes = shipped.encode(unseen[SPRITES.index(subject)][None]).indices  # (1, 8, 8)
    edited = codes.clone()
    edited[0, row : row + side, column : column + side] = code
    before, after = shipped.decode_codes(torch.cat([codes, edited])).cpu()
    made, axes = figure(8.4, 2.9, 1, 3)
    for axis, pixels, title in zip(axes, (before, after), ("before", "after"), strict=False):
        axis.imshow(pixels.permute(1, 2, 0), extent=(0, 8, 0, 8))
        axis.set_title(title)
    draw_tiles(axes[2], edited[0], inks, size=6)
    axes[2].set_title("its words")
    for axis in axes:
        hide_axes(axis)
        axis.set(xlim=(0, 8), ylim=(0, 8))
        box = Rectangle((column, 8 - row - side), side, side, fill=False, edgecolor=VERMILION, linewidth=1.6)
        axis.add_patch(box)
    where = f"{side} by {side} cells from row {row}, column {column}"
    return made, f"A {subject} before and after word {code} was written into {where}; and its words."


explore(
    swapped,
    subject=choice(SPRITES, "house", "sprite"),
    row=slider(0, 7, 4, 1, "row"),
    column=slider(0, 7, 2, 1, "column"),
    side=slider(1, 4, 2, 1, "cells wide"),
    code=slider(0, 63, 20, 1, "word"),
)

# %% [markdown]
# For those who only read: the house with eight words written into its middle, chosen to be as unlike the red wall and
# each other as can be. Above each stands in one cell only, below in a block of three by three. One word alone does
# little, because its neighbours contradict it. Nine of them together are believed.

# %%
strong = (inks.amax(1) - inks.amin(1)).argsort()[-32:]  # the half of the words with the strongest colours
unlike = torch.cdist(inks[strong], torch.tensor([[0.9, 0.1, 0.1]])).amin(1)  # how far from the wall's red
words = []
for _ in range(8):  # always the one farthest from the wall and from those taken before
    words.append(strong[unlike.argmax()])
    unlike = torch.minimum(unlike, (inks[strong] - inks[words[-1]]).norm(dim=1))
words = torch.stack(words).to(DEVICE)
with torch.no_grad():
    houses = shipped.encode(unseen[3:4]).indices.repeat(16, 1, 1)  # (16, 8, 8)
    houses[:8, 5, 3] = words
    houses[8:, 4:7, 2:5] = words[:, None, None]
    drawn = shipped.decode_codes(houses)
titles = [f"word {word}" for word in words.tolist()]
show(
    picture_grid(drawn, 8, titles=titles, rows=["one cell", "nine cells"], inches=1.0),
    "A house sixteen times. Above, another word in one cell each time leaves a small stain. Below, the word in nine "
    "cells makes a large patch of its colour.",
)

# %% [markdown]
# How far does a word reach? The map shows by how much each pixel changes, on average over all words and 24 sprites,
# when the word in the outlined cell changes.

# %%
row, column = 4, 3
with torch.no_grad():
    codes = shipped.encode(unseen[:24]).indices  # (24, 8, 8)
    edited = codes[:, None].repeat(1, 64, 1, 1)  # (24, 64, 8, 8)
    edited[:, :, row, column] = torch.arange(64, device=DEVICE)
    every = shipped.decode_codes(edited.flatten(0, 1)).unflatten(0, (24, 64))  # (24, 64, 3, 32, 32)
    change = (every - shipped.decode_codes(codes)[:, None]).abs().mean((0, 1, 2)).cpu()  # (32, 32)
touched = (change > 1e-6).nonzero()
high, wide = (touched.amax(0) - touched.amin(0) + 1).tolist()
inside = (change[4 * row : 4 * row + 4, 4 * column : 4 * column + 4].sum() / change.sum()).item()
made, axis = figure(3.0, 2.9)
axis.imshow(change, cmap="cividis", extent=(0, 8, 0, 8))
axis.add_patch(Rectangle((column, 7 - row), 1, 1, fill=False, edgecolor="white", linewidth=1.5))
hide_axes(axis)
show(made, "A map of change: bright in the outlined cell, weaker in the cells around it, zero beyond.")
print(f"a word reaches {high} × {wide} pixels; {inside:.0%} of the change falls into its own 4 × 4")
assert max(high, wide) <= 18

# %% [markdown]
# If all pixels in reach changed alike, the cell's own would have 5 %. One word is a patch, not a thing. No word says
# "house", and none can change more than its own surroundings: the decoder's three convolutions reach 18 pixels at the
# most, and zero beyond. To make a house of words takes somebody who knows which words follow each other.

# %% [markdown]
# ## 6 · Break it
#
# ### Without restarts
#
# First break the codebook. Two small VQ-VAEs start from the same heap of 64 short random rows, as in the paper of 2017.
# They see the same batches. One of them may put dead rows down again, the other may not.


# %%
def usage_while_learning(restart_below: float, steps: int = 200) -> tuple[list[float], list[float]]:
    """How many codes each batch uses, and its loss, while a small VQ-VAE learns from a book of random rows."""
    torch.manual_seed(0)
    learner = VQVAE(VQVAEConfig(width=16))
    learner.quantize = MovingAverageQuantizer(64, 16, restart_below=restart_below)
    learner.quantize.counts.fill_(1.0)  # as if all had been in use, so that they do not start from the data
    learner.quantize.sums.copy_(learner.quantize.embedding.weight)
    learner.to(DEVICE).train()
    optimiser = torch.optim.Adam(learner.parameters(), lr=2e-3, betas=(0.9, 0.99))
    in_use, losses = [], []
    for _ in range(steps):
        batch = pictures[torch.randint(len(pictures), (BATCH,))]
        reconstructions, quantized = learner(batch)
        distance = reconstruction_loss(batch, reconstructions)
        optimiser.zero_grad()
        (distance + quantized.loss).backward()
        optimiser.step()
        in_use.append(len(quantized.indices.unique()))
        losses.append(distance.item())
    return in_use, losses


# %%
without, with_restarts = usage_while_learning(0.0), usage_while_learning(0.05)
show(
    curves(
        {"with restarts": with_restarts[0], "without": without[0]},
        ylabel="codes used, of 64",
        title="How many words a batch uses",
    ),
    "Two curves that begin together. Without restarts fewer than half of the 64 codes stay in use; with them the curve "
    "jumps up after some dozens of steps and stays high.",
)
mean_of_last = {name: sum(run[0][-25:]) / 25 for name, run in {"with": with_restarts, "without": without}.items()}
for name, codes_in_use in mean_of_last.items():
    print(f"{name} restarts: {codes_in_use:.0f} of 64 codes in use")
assert mean_of_last["with"] > mean_of_last["without"]

# %% [markdown]
# What died in the first steps, when the encoder's vectors were still close together, hardly comes back by itself. The
# pictures of so short a run do not show it much. Over hours they would: words not in use are capacity that you pay for
# and do not get.
#
# ### Claim 1: “The latent space is discrete.”
#
# If it is, two things hold without exception. Each vector that the encoder side hands to the decoder is a row of the
# codebook, digit by digit. And any mixture of two rows, once it has passed the layer, is a row again. We try all 240
# sprites, and all 2,016 pairs of rows with 21 mixtures each. The verdict is “holds” only if both shares are exactly 100
# %. A third number is there to learn from: how often does the mixture become neither of its two parents, but a third
# row that lies between them?

# %%
book = shipped.quantize.embedding.weight  # (64, 16)
with torch.no_grad():
    z_q = shipped.encode(unseen).z_q.permute(0, 2, 3, 1).reshape(-1, 16)  # (15360, 16)
    exact = (z_q[:, None] == book).all(2).any(1).double().mean().item()
    first, second = torch.combinations(torch.arange(64, device=DEVICE)).T  # (2016,) each
    shares = torch.linspace(0, 1, 21, device=DEVICE)[:, None, None]
    mixtures = torch.lerp(book[first], book[second], shares)  # (21, 2016, 16)
    snapped = shipped.quantize(mixtures.permute(1, 2, 0)[:, :, None])  # maps (2016, 16, 1, 21)
    rows = snapped.z_q.permute(0, 2, 3, 1).reshape(-1, 16)
    exact_mixtures = (rows[:, None] == book).all(2).any(1).double().mean().item()
    nearest = snapped.indices[:, 0]  # (2016, 21)
    third = ((nearest != first[:, None]) & (nearest != second[:, None])).double().mean().item()

# %% [markdown]
# The picture: one word becomes another in nine steps, each mixture drawn as a whole picture of itself. Above, the
# mixtures go to the decoder as they are. Below, they pass the layer first.

# %%
colourful = (inks.amax(1) - inks.amin(1)).argsort()[-12:]
one = int(colourful[-1])
other = int(colourful[torch.cdist(inks[[one]], inks[colourful]).argmax()])  # as different from it as can be
with torch.no_grad():
    steps = torch.linspace(0, 1, 9, device=DEVICE)[:, None]
    mixed = torch.lerp(book[one], book[other], steps)[:, :, None, None].expand(-1, -1, 8, 8)  # (9, 16, 8, 8)
    quantized = shipped.quantize(mixed)
    strips = shipped.decode(torch.cat([mixed, quantized.z_q]))[:, :, 8:24, 8:24]
chosen = quantized.indices[:, 0, 0].tolist()
titles = [f"{step:.0%}" for step in steps.flatten().tolist()] + [f"word {code}" for code in chosen]
show(
    picture_grid(strips, 9, titles=titles, rows=["mixed", "through the layer"], inches=0.75),
    "Above, a patch of one colour turns into another one in nine even steps. Below, only few different patches "
    "occur, with jumps between them.",
)
verdict(
    "vq-discrete",
    "holds" if exact == exact_mixtures == 1 else "does not hold",
    f"{exact:.0%} of 15,360 latent vectors are rows of the codebook, digit by digit, and so are {exact_mixtures:.0%} "
    f"of 42,336 mixtures of two rows after the layer ({third:.0%} of them a third row that lies between the two).",
)

# %% [markdown]
# ### Claim 2: the formula $q(\mathbf{z} = \mathbf{e}_k \mid x)$
#
# `assignment` is the formula as code. We put it to three tests on the cells of all 240 sprites. Every row must hold one
# 1 and 63 zeros. Its entropy, which is 0 for a choice without doubt and $\log 64 = 4.16$ for a blind guess, must be
# exactly 0. And the 1 must stand where a search in double precision, distance by distance, finds the smallest. Two rows
# may be almost equally far, and then rounding decides: we allow one cell in ten thousand.

# %%
with torch.no_grad():
    vectors = shipped.encoder(unseen).permute(0, 2, 3, 1).reshape(-1, 16)  # (15360, 16)
    q = assignment(vectors, book)  # (15360, 64)
one_hot = bool(((q == 1).sum(1) == 1).all() and ((q == 0).sum(1) == 63).all())
entropy = -torch.special.xlogy(q, q).sum(1).max().item()
distances = torch.cdist(vectors.double(), book.double())  # (15360, 64)
agree = (distances.argmin(1) == q.argmax(1)).double().mean().item()
made, axes = figure(8.2, 3.3, 2, 1, sharex=True)
some = slice(3 * 64 + 24, 3 * 64 + 32)  # the fourth row of cells of the house
axes[0].imshow(distances[some].detach().cpu(), cmap="cividis_r", aspect="auto")
axes[1].imshow(q[some].cpu(), cmap="Greys", aspect="auto")
axes[0].set(title=r"distance of each cell to each row of the book: dark is far, light is near", ylabel="cell")
axes[1].set(title="$q$: one 1 for each cell, where the distance is smallest", xlabel="code", ylabel="cell")
for axis in axes:
    axis.grid(False)
show(made, "Above, distances of eight cells to 64 codes in shades; below, one black square in each cell's white row.")
verdict(
    "vq-posterior",
    "holds" if one_hot and entropy == 0 and agree >= 0.9999 else "not quite",
    f"All rows one-hot: {'yes' if one_hot else 'no'}; greatest entropy {abs(entropy):g}; same code as a search in "
    f"double precision in {agree:.2%} of 15,360 cells.",
)

# %% [markdown]
# ### Claim 3: “Latent space has same dimensions as codebook.”
#
# Dimensions of what? Count. A row of the codebook has a width. A cell of the latent has one too, and the layer refuses
# any other. But the latent of a picture is a grid of such cells. The verdict is “holds” if a whole picture's latent has
# as many numbers as a row of the book, “not quite” if only each of its cells has, and “does not hold” otherwise.

# %%
with torch.no_grad():
    latent = shipped.encode(unseen[3:4]).z_q[0]  # (16, 8, 8)
whole, cell, width = latent.numel(), latent.shape[0], book.shape[1]
made, (left, right) = figure(7.6, 4.2, 1, 2)
left.imshow(book.detach().cpu(), cmap="PuOr", aspect="auto", vmin=-book.abs().max(), vmax=book.abs().max())
right.imshow(latent.flatten(1).T.cpu(), cmap="PuOr", aspect="auto", vmin=-book.abs().max(), vmax=book.abs().max())
left.set(title="the codebook", ylabel="code", xlabel="16 numbers")
right.set(title="the latent of one house", ylabel="cell of the grid", xlabel="16 numbers")
for axis in (left, right):
    axis.set_xticks(range(0, 16, 5))
    axis.grid(False)
show(
    made,
    "Two tables of 64 rows and 16 columns in shades. Left the codebook, every row different. Right a house's 64 cells: "
    "all its rows are rows of the left table, and many of them are the same.",
)
distinct = len(latent.flatten(1).T.unique(dim=0))
verdict(
    "vq-dimensions",
    "holds" if whole == width else "not quite" if cell == width else "does not hold",
    f"A cell's vector has {cell} numbers, a row of the codebook {width}. A picture's latent is a grid of 8 × 8 such "
    f"vectors, {whole} numbers; this one uses {distinct} different rows. Possible sentences: 64⁶⁴, or 2³⁸⁴.",
)

# %% [markdown]
# The two tables look alike because our grid happens to have as many cells as our book has rows. DALL·E Mini's has $16
# \times 16$ cells and a book of 16,384 rows of 256 numbers. What must agree is the width, nothing else.
#
# ### Claim 4: “No ‘morphed’ outputs.”
#
# A *morph* is a picture between two subjects that is neither. The VAE of lesson 2c draws them. Does the VQ-VAE refuse?
# Take pairs of sprites of different subjects. Mix what the encoder makes of them, from all of the one to all of the
# other in 21 steps, and draw each step, by the shipped VAE and by the shipped VQ-VAE, whose mixtures pass the layer.
# The judge looks at every frame. We count the frames between the ends, from 25 % to 75 %, in which its answer is
# “none”.
#
# The rule, fixed beforehand: the claim holds if the judge says “none” to at most 5 % of the VQ-VAE's frames, and less
# often than to the VAE's. It is “not quite” if the codes of all frames are rows of the book, but the frames fail.
# Sprites are of kinds and colours that both models know, and only pairs count whose ends the judge names rightly.


# %%
@torch.no_grad()
def vae_path(start: Tensor, end: Tensor, shares: Tensor) -> Tensor:
    """Frames (len(shares), 3, 32, 32) between two pictures, by mixing the centres of the VAE's clouds."""
    first, second = vae.encode(torch.stack([start, end])).mean
    return vae.decode(torch.lerp(first, second, shares[:, None]))


@torch.no_grad()
def vq_path(start: Tensor, end: Tensor, shares: Tensor) -> tuple[Tensor, Tensor]:
    """Frames between two pictures, by mixing z_e and quantising the mixture; and their codes (len(shares), 8, 8)."""
    first, second = shipped.encoder(torch.stack([start, end]))
    quantized = shipped.quantize(torch.lerp(first, second, shares[:, None, None, None]))
    return shipped.decode(quantized.z_q), quantized.indices


vae = load_sprite_model("vae").to(DEVICE)
known = read_sprite_models()["vae"]
subjects = tuple(subject for subject in SPRITES if subject in known.subjects)
ends, end_kinds = sprites(8 * len(subjects), seed=8, subjects=subjects, colours=tuple(known.colours), device=DEVICE)
shares = torch.linspace(0, 1, 21, device=DEVICE)
pairs = [(a, b) for a in range(len(ends)) for b in range(a + 1, len(ends)) if end_kinds[a] != end_kinds[b]][::13]
by_vae = torch.stack([judged(vae_path(ends[a], ends[b], shares)) for a, b in pairs]).cpu()  # (pairs, 21, 7)
by_vq = torch.stack([judged(vq_path(ends[a], ends[b], shares)[0]) for a, b in pairs]).cpu()
wanted = torch.tensor([[SPRITES.index(subjects[end_kinds[place]]) for place in pair] for pair in pairs])
sound = torch.stack([(by[:, [0, -1]].argmax(2) == wanted).all(1) for by in (by_vae, by_vq)]).all(0)  # (pairs,)

assert sound.sum() >= 20

# %%
none = {
    name: (by[sound].argmax(2) == len(SPRITES)).double().mean(0).tolist()
    for name, by in {"VAE": by_vae, "VQ-VAE": by_vq}.items()
}
made, axis = figure(6.4, 2.4)
for (name, values), colour in zip(none.items(), (BLUE, VERMILION), strict=True):
    axis.plot((100 * shares).tolist(), values, color=colour, label=name)
axis.axvspan(25, 75, color="#E5E7EB", alpha=0.5, zorder=0)
axis.set(xlabel="share of the second sprite in the mixture, %", ylabel="share called none", ylim=(-0.03, 1.03))
axis.legend()
show(
    made,
    "The share of frames that the judge calls none, on the way from one sprite to another, for VAE and VQ-VAE.",
)
start, end = ends[1], ends[-2]
frames = torch.cat([vae_path(start, end, shares[::2]), vq_path(start, end, shares[::2])[0]])
says = [(*SPRITES, "none")[number] for number in judged(frames).argmax(1).tolist()]
show(
    picture_grid(frames, 11, titles=says, rows=["VAE", "VQ-VAE"], inches=0.75),
    f"From a {subjects[1]} to a {subjects[-2]} in eleven frames, above by the VAE, below by the VQ-VAE, each with the "
    "judge's answer.",
)
between = slice(5, 16)
vae_none, vq_none = (sum(values[between]) / 11 for values in none.values())
verdict(
    "vq-no-morphs",
    "holds" if vq_none <= 0.05 and vq_none < vae_none else "not quite" if exact_mixtures == 1 else "does not hold",
    f"Of the frames between two sprites the judge calls {vq_none:.0%} none for the VQ-VAE, {vae_none:.0%} for the VAE "
    f"({int(sound.sum())} pairs). No code is morphed: every cell holds a row of the codebook.",
)

# %% [markdown]
# So the slide is right about words and wrong about sentences. A cell never holds half of one word and half of another.
# Therefore the VQ-VAE stays with each end for longer than the VAE does. But in the middle some cells already speak of
# one subject and others still of the other. Such a sentence is a patchwork, and the judge is right not to recognise it.
# The VAE's way is another one: on its plane other subjects lie in between, so it often passes through a third one.
#
# Why is "no morphs" said so often, then? Because nobody walks such paths. In the full machine a second network writes
# the words, and it writes sentences that it has learned to be likely.
#
# What happens without it? Here are sentences whose words are drawn by lot.

# %%
generator = torch.Generator().manual_seed(0)
by_lot = torch.randint(64, (240, 8, 8), generator=generator).to(DEVICE)
with torch.no_grad():
    gibberish = shipped.decode_codes(by_lot)
show(
    picture_grid(gibberish[:9], 9, inches=0.85),
    "Nine pictures decoded from random words: patchworks of coloured scraps in which there is nothing to recognise.",
)
print(f"called none by the judge: {(judged(gibberish).argmax(1) == len(SPRITES)).float().mean():.0%} of 240")

# %% [markdown]
# Random letters are no sentence, and random codes are no picture. A VAE draws samples out of its prior; the VQ-VAE has
# nobody yet who knows which of the $2^{384}$ sentences are pictures. In DALL·E Mini this somebody is BART.
#
# ## 7 · Your turn
#
# Write your answer where the stub is, run its cell, then run the check. The hints fold open.

# %% [markdown]
# ### Exercise 2d.1 · The length of a sentence (★☆☆, 3 minutes)
#
# How many bits does it take to write down which codes a picture became? Write the function for a grid of `side` ×
# `side` cells and a codebook of `codes` rows. Then you can compare our 8 × 8 of 64 with DALL·E Mini's 16 × 16 of
# 16,384.


# %% tags=["stub"]
def sentence_bits(side: int, codes: int) -> float:
    """Bits that it takes to write down a grid of codes."""
    raise NotImplementedError


# %% tags=["checked"]
check("2d.1", sentence_bits)

# %% [markdown] tags=["hint"]
# With two codes, one cell takes one bit; with four codes it takes two. What takes one of 64?

# %% [markdown] tags=["hint"]
# `log2` of the `math` module is imported. How many cells are there?


# %% tags=["solution"]
def sentence_bits(side: int, codes: int) -> float:
    """Bits that it takes to write down a grid of codes."""
    return side**2 * log2(codes)


# %% [markdown]
# ### Exercise 2d.2 · How many words is that worth? (★★☆, 5 minutes)
#
# A book has eight rows. Over many pictures, the first is chosen half of the time, the second a quarter of the time, the
# third and the fourth an eighth of the time each. The others are dead. Predict the perplexity before you compute
# anything: is it nearer to 2, 4 or 8? Then work it out, by hand or with one line of code, to two decimals.

# %% tags=["stub"]
perplexity = None

# %% tags=["checked"]
check("2d.2", perplexity)

# %% [markdown] tags=["hint"]
# The dead rows have $p = 0$ and add nothing. Write the sum of step 5 with the four others.

# %% [markdown] tags=["hint"]
# With logarithms to base 2 the entropy is $\frac12 \cdot 1 + \frac14 \cdot 2 + 2 \cdot \frac18 \cdot 3$ bits. One
# exponential is still missing, and it must have the same base.

# %% tags=["solution"]
perplexity = 2 ** (1 / 2 * 1 + 1 / 4 * 2 + 2 * 1 / 8 * 3)  # 2^1.75 = 3.36

# %% [markdown]
# ### Exercise 2d.3 · Mend the layer (★★☆, 8 minutes)
#
# A colleague wrote the layer anew. It runs, the shapes are right, and the network learns nothing. There are three
# mistakes in it. Write the function without them.
#
# ```python
# def quantise(z_e: Tensor, codebook: Tensor) -> tuple[Tensor, Tensor]:
#     n, c, h, w = z_e.shape
#     vectors = z_e.reshape(-1, c)
#     indices = torch.cdist(vectors, codebook).argmax(1)
#     z_q = codebook[indices].reshape(n, h, w, c).permute(0, 3, 1, 2)
#     return z_e + (z_q - z_e), indices.reshape(n, h, w)
# ```


# %% tags=["stub"]
def quantise(z_e: Tensor, codebook: Tensor) -> tuple[Tensor, Tensor]:
    """Maps z_e (n, c, h, w) and a codebook (codes, c) to z_q (n, c, h, w), straight through, and indices (n, h, w)."""
    raise NotImplementedError


# %% tags=["checked"]
check("2d.3", quantise)

# %% [markdown] tags=["hint"]
# Take the lines one by one. Which numbers stand in the first row of `vectors`: those of one cell? Which row of the book
# should a cell get? And what is the derivative of `z_e + (z_q - z_e)` with respect to `z_e`?

# %% [markdown] tags=["hint"]
# `reshape` never moves numbers, so the channels have to become the last axis first: `permute(0, 2, 3, 1)`. In the last
# line one thing must be a constant for the gradient.


# %% tags=["solution"]
def quantise(z_e: Tensor, codebook: Tensor) -> tuple[Tensor, Tensor]:
    """Maps z_e (n, c, h, w) and a codebook (codes, c) to z_q (n, c, h, w), straight through, and indices (n, h, w)."""
    n, c, h, w = z_e.shape
    vectors = z_e.permute(0, 2, 3, 1).reshape(-1, c)  # (n·h·w, c)
    indices = torch.cdist(vectors, codebook).argmin(1)  # (n·h·w,)
    z_q = codebook[indices].reshape(n, h, w, c).permute(0, 3, 1, 2)  # (n, c, h, w)
    return z_q.detach() + (z_e - z_e.detach()), indices.reshape(n, h, w)


# %% [markdown]
# ### Exercise 2d.4 · Two words for a cell (★★★, 10 minutes)
#
# One book of 4,096 rows is hard to fill. Two books of 64 rows name as many things, if each cell may use one word of
# each: the first says roughly what is there, the second names *what the first left over*. Write it: quantise the
# vectors with the first book, quantise the remainder with the second, and give back what both words say together.


# %% tags=["stub"]
def quantise_twice(vectors: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """Vectors (m, width) as a row of `first` and a row of `second`, both (codes, width), together: (m, width)."""
    raise NotImplementedError


# %% tags=["checked"]
check("2d.4", quantise_twice)

# %% [markdown] tags=["hint"]
# `nearest_codes(vectors, first)` gives numbers; `first[numbers]` gives the rows. What is left of the vectors then?

# %% [markdown] tags=["hint"]
# The remainder is `vectors` minus the rows of the first book. What both words say together is the sum of the two rows.


# %% tags=["solution"]
def quantise_twice(vectors: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """Vectors (m, width) as a row of `first` and a row of `second`, both (codes, width), together: (m, width)."""
    roughly = first[nearest_codes(vectors, first)]  # (m, width)
    remainder = vectors - roughly
    return roughly + second[nearest_codes(remainder, second)]


# %% [markdown]
# ## 8 · What we have, what is missing
#
# - A picture is a sentence now: 64 words of a learned book of 64, 384 bits instead of 24,576.
# - The layer chooses the nearest row and lets the gradient pass straight through. The book follows the data as a moving
#   average, and rows that nobody uses start again.
# - A word is a patch that means something beside its neighbours, never a thing. No word is ever half another.
# - Sentences can still be nonsense or half of two pictures. Who writes good ones is the question of lesson 3.
# - The pictures are soft. The loss compares pixel by pixel, and where 64 words do not say what is there, the safest
#   answer is the average. The next lesson adds a discriminator, the opponent of lesson 2a, that does not let a blur
#   pass.
#
# Five questions to see what has stayed.

# %% [markdown] tags=["quiz"]
# **1.** Why does the layer need a trick for its gradient?
# - [ ] The codebook is too large for backpropagation — its size does not matter: a book of two rows has the same
#   problem.
# - [x] A small step of the vector leaves its nearest row the same, so the true gradient is zero almost everywhere — and
#   with it the encoder would never learn.
# - [ ] The arg min needs the square root, whose slope is infinite at zero — the root is left out, and it makes no
#   difference: the choice itself is what has no slope.

# %% [markdown] tags=["quiz"]
# **2.** What does the commitment loss do?
# - [x] It moves the encoder's vectors towards the rows that they chose — the rows stand behind a stop-gradient.
# - [ ] It moves the rows towards the vectors — that is the codebook term, or the moving average in its place.
# - [ ] It makes all rows equally frequent — nothing in the loss asks for that; restarts care for the unused ones.

# %% [markdown] tags=["quiz"]
# **3.** A book has 1,024 rows, all of them are in use, and the perplexity is 40. What follows?
# - [ ] 984 rows are dead — all are in use; a dead row is never chosen.
# - [ ] The decoder draws only 40 different pictures — a picture has many cells, and their combinations are countless.
# - [x] A few rows do most of the work: the codes carry as much as 40 equally frequent ones — most rows are rare.

# %% [markdown] tags=["quiz"]
# **4.** Why does a row that nobody chooses stay where it is?
# - [x] Both the moving average and the codebook term move a row only by the vectors that chose it — no vector, no pull.
# - [ ] The decay makes it forget its place — it shrinks counts and sums alike, so that their quotient stays.
# - [ ] The straight-through gradient points away from it — that gradient passes the codebook by.

# %% [markdown] tags=["quiz"]
# **5.** Half-way between two sentences, what does the decoder draw?
# - [ ] One of the two pictures, since the layer snaps — every cell snaps by itself, and they do not agree on a picture.
# - [ ] A cross-fade, both half transparent — that is what mixing the pixels gives; no cell holds half a word.
# - [x] A patchwork: in each cell a word of the one, of the other, or a third — the words are whole, the picture is not.
