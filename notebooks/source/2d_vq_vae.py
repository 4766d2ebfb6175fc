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
# In this lesson a picture is written like a sentence: as 64 words from one small dictionary. You build the layer that
# chooses the words, and then you edit a picture by changing single words.

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
# An autoencoder passes a picture through a bottleneck of a few numbers (lesson 2b). The VAE made the space of these
# numbers smooth, so that any point in it can be decoded (lesson 2c). The disadvantage is that points between two
# pictures decode to a blurred mixture of both.
#
# For DALL·E Mini continuous latents have another disadvantage. Its translator, BART, is a language model: it *chooses*
# one word after the other from a finite list. For BART to produce pictures, pictures must be made of such words too.
# The **VQ-VAE** ([van den Oord and others 2017](https://arxiv.org/abs/1711.00937)) is an autoencoder whose bottleneck
# is a grid of entries chosen from a learned list. These entries are the words. Their meanings are learned together with
# the encoder and the decoder.
#
# Below are some sprites: six subjects in five colours, 32 pixels wide. Under each is its reconstruction by a VQ-VAE
# that comes with the course. It was trained for longer than the one that you train in section 4.

# %%
shipped = load_sprite_model("vqvae").to(DEVICE)
unseen, kinds = sprites(240, seed=7, device=DEVICE)
with torch.no_grad():
    through_words = shipped(unseen[:9])[0]
show(
    picture_grid(torch.cat([unseen[:9], through_words]), columns=9, rows=["sprites", "through 64 words"], inches=0.85),
    "Nine sprites, and under each its reconstruction by the shipped VQ-VAE: the same sprite, a little softer.",
)

# %% [markdown]
# ## 2 · The idea
#
# Start from the autoencoder. Here the encoder outputs a feature map instead of a single vector: a grid of $8 \times 8$
# cells with a vector $\mathbf{z}_e$ of 16 numbers in each. Between encoder and decoder comes a new layer. It has a
# **codebook**, a learned table of $K = 64$ vectors $\mathbf{e}_1, \dots, \mathbf{e}_K$ of 16 numbers each. A row of the
# table, or its number $k$ for short, is a **code**. These codes are the words. The layer replaces each cell's vector by
# the nearest row. To replace a value by the nearest one of a fixed list is called **quantisation**, or "vector
# quantisation" if the values are vectors: hence the VQ in the name.
#
# The slide writes the layer as a probability:
#
# $$q(\mathbf{z} = \mathbf{e}_k \mid x) = \begin{cases} 1 & \text{if } k = \arg\min_i \lVert \mathbf{z}_e(x) -
# \mathbf{e}_i \rVert_2 \\ 0 & \text{otherwise.} \end{cases}$$
#
# | symbol | meaning | shape |
# |---|---|---|
# | $x$ | a picture | (3, 32, 32) |
# | $\mathbf{z}_e(x)$ | the encoder's output in one cell | (16,), in each of 8 × 8 cells |
# | $\mathbf{e}_i$ | row number $i$ of the codebook | (16,); the whole table is (64, 16) |
# | $\arg\min_i$ | the number $i$ for which the expression is smallest | a whole number from 0 to 63 |
# | $\lVert \cdot \rVert_2$ | length of a vector | a number |
# | $q(\mathbf{z} = \mathbf{e}_k \mid x)$ | probability that a cell becomes code $k$ | (64,): one 1, the rest 0 |
#
# So $q$ corresponds to the VAE's posterior, but here it puts all probability on one code. With a uniform prior over the
# $K$ codes, the KL divergence of each cell is $\log K$ for every picture. A constant has no gradient, so the training
# loss leaves it out.
#
# The next cell draws the slide's figure with real data. The colour of a vector is the colour that the decoder draws
# when every cell holds this vector.

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
# The cells of $\mathbf{z}_e$ may have any colour. The cells of $\mathbf{z}_q$ have only colours of the codebook. So the
# 64 whole numbers between them contain everything that the decoder needs to draw the picture.
#
# There is one problem, and the red arrow shows its solution. If $\mathbf{z}_e$ changes a little, the nearest row either
# stays the same or changes abruptly. So the gradient is zero almost everywhere, and the encoder would learn nothing.
# Step 2 of the next section solves this.

# %% [markdown]
# ## 3 · Build it
#
# You build the network in seven small steps. The code is the library's own. Its docstrings refer to the sections,
# equations and appendices of the 2017 paper.
#
# ### Step 1: the nearest row
#
# The distances of all vectors to all rows need only one matrix product, because $\lVert \mathbf{z} - \mathbf{e}
# \rVert^2 = \lVert \mathbf{z} \rVert^2 - 2\, \mathbf{z} \cdot \mathbf{e} + \lVert \mathbf{e} \rVert^2$. The second
# function is the slide's $q$, with one row for each vector.


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
# Try it in two dimensions, with a codebook of five rows. It divides the plane into five regions with straight borders.
# An arrow leads from each of four vectors to the row of its region.

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
# The paper's solution is simple: the forward pass uses the row, and the backward pass treats the layer as the identity.
# This is the **straight-through estimator**: the gradient at $\mathbf{z}_q$ is copied to $\mathbf{z}_e$ unchanged,
# $\partial L / \partial \mathbf{z}_e := \partial L / \partial \mathbf{z}_q$. It is not the true gradient, but it is a
# good approximation as long as $\mathbf{z}_e$ is close to its row.
#
# In PyTorch this takes one line. `detach` returns a tensor's values as a constant without a gradient. So $\mathbf{z}_e
# - \text{detach} (\mathbf{z}_e)$ has the value zero, but the gradient of $\mathbf{z}_e$.


# %%
def straight_through(z_e: Tensor, z_q: Tensor) -> Tensor:
    """Exactly the values of z_q with exactly the gradient of z_e (section 3.2), which has the same shape."""
    return z_q.detach() + (z_e - z_e.detach())


# %% tags=["checked"]
z_e = dots.clone().requires_grad_()
z_q = straight_through(z_e, plane_book[nearest_codes(z_e, plane_book)])
arriving = torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0], [7.0, 8.0]])  # the gradient at z_q
(gradient,) = torch.autograd.grad((z_q * arriving).sum(), z_e)
print("z_q:", *[[round(number, 1) for number in row] for row in z_q.tolist()], sep="\n  ")
print("the gradient that reaches z_e:", *gradient.tolist(), sep="\n  ")
assert torch.equal(z_q, plane_book[nearest_codes(dots, plane_book)])
assert torch.equal(gradient, arriving)

# %% [markdown]
# ### Step 3: the loss
#
# The loss has three terms (eq. 3 of the paper), where $\text{sg}[\cdot]$, "stop gradient", is `detach`:
#
# $$L = \underbrace{\lVert x - \hat{x} \rVert}_{\text{reconstruction}} + \underbrace{\lVert
# \text{sg}[\mathbf{z}_e] - \mathbf{z}_q \rVert^2}_{\text{codebook}} + \beta\, \underbrace{\lVert \mathbf{z}_e -
# \text{sg}[\mathbf{z}_q] \rVert^2}_{\text{commitment}}$$
#
# Here $\mathbf{z}_q$ is the row itself, without step 2. The first term is the reconstruction loss. It trains encoder
# and decoder but not the codebook, because the straight-through gradient bypasses it. The second term moves the rows
# towards the vectors. The third, the **commitment loss**, keeps the encoder's vectors near their nearest rows, with the
# weight $\beta = 0.25$. Without it the vectors could move away faster than the codebook follows. The last two terms
# have the same value, but the second changes only the rows and the third only the encoder.
#
# The code differs from the paper in two points. The paper's first term is a log-likelihood; we use the distance of
# lesson 2b. And where the formula has sums of squares, the code takes the mean over all cells and numbers
# (`F.mse_loss`), which only changes the weights of the terms. The argument `learned` switches the second term on or
# off; step 6 works without it.


# %%
def vq_loss(z_e: Tensor, z_q: Tensor, beta: float, learned: bool) -> Tensor:
    """Terms 2 (only if the codebook is learned by gradient) and 3 of eq. 3: ‖sg[z_e] − z_q‖² + β ‖z_e − sg[z_q]‖²."""
    commitment = beta * F.mse_loss(z_e, z_q.detach())
    return F.mse_loss(z_q, z_e.detach()) + commitment if learned else commitment


# %% tags=["checked"]
z_e = torch.tensor([[1.0, 0.0]], requires_grad=True)  # one vector of two numbers
row = torch.tensor([[0.0, 0.0]], requires_grad=True)
for_row, for_vector = torch.autograd.grad(vq_loss(z_e, row, beta=0.25, learned=True), (row, z_e))
print("negative gradient of the row:   ", (0 - for_row[0]).tolist())
print("negative gradient of the vector:", (0 - for_vector[0]).tolist())
assert torch.equal(for_vector, -0.25 * for_row)

# %% [markdown]
# The row at 0 moves towards the vector at 1, and the vector towards the row, with a quarter of the gradient.
#
# ### Step 4: the layer
#
# The layer joins the three steps. It turns the encoder's map into a list of vectors, quantises them, and turns the list
# back into a map. The codebook is an `nn.Embedding`, a table of trainable vectors.
#
# `lookup` turns a grid of codes into a map of vectors. The decoder needs it later to draw the codes that BART writes.


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
# This is the complete layer of the paper's section 3. Note the last line: a row that is not the nearest one of any
# vector gets no gradient. Step 6 comes back to this.
#
# ### Step 5: how much of the codebook is in use?
#
# A codebook is useful only if many of its rows are used. Counting the used rows is not enough, because a row that is
# chosen once in a million times counts as much as any other. The usual measure is the **perplexity** of the codes, the
# number of equally frequent codes that would carry the same information. With $p_k$ the share of code $k$,
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
for name, counts in {"equal": [5, 5, 5, 5], "one dominates": [97, 1, 1, 1], "only one": [9, 0, 0, 0]}.items():
    usage = codebook_usage(torch.tensor(counts))
    print(f"{name}: share in use {usage.share:.2f}, perplexity {usage.perplexity:.2f}")

# %% [markdown]
# ### Step 6: a codebook that follows the data
#
# The codebook term of step 3 has a closed-form solution: the best position of a row is the mean of the vectors assigned
# to it, as in k-means. Appendix A.1 of the paper therefore replaces the term by a moving average of this mean. If $n_k$
# vectors of a batch are assigned to row $k$, and $\gamma = 0.99$ is the decay,
#
# $$N_k \leftarrow \gamma N_k + (1 - \gamma)\, n_k, \qquad \mathbf{m}_k \leftarrow \gamma\, \mathbf{m}_k + (1 - \gamma)
# \sum_{\mathbf{z} \text{ assigned to } k} \mathbf{z}, \qquad \mathbf{e}_k \leftarrow \mathbf{m}_k / N_k .$$
#
# The code smooths $N_k$ a little before it divides ($10^{-5}$ is added to each count, and all are scaled back to their
# old sum), so that an unused row does not cause a division by zero.
#
# One problem remains. A row without assigned vectors does not move, so it usually stays unused: it is a **dead code**.
# The remedy is to restart such rows ([Jukebox, 2020](https://arxiv.org/abs/2005.00341)): a row whose count has fallen
# below 5 % of the mean count is moved to a random vector of the batch, where it is the nearest row of at least that
# vector.
#
# The new layer inherits from the one of step 4. The buffers `counts` and `sums` hold $N_k$ and $\mathbf{m}_k$; they are
# stored with the weights, but have no gradient. On the first batch all rows count as dead, so all start at vectors of
# that batch. In evaluation mode the codebook does not change.


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
layer.eval()  # now the codebook does not change
assert torch.equal(layer(z_e).z_q, layer.lookup(layer(z_e).indices))

# %% [markdown]
# Here is an example in the plane. The data are three clouds. A codebook of eight rows starts in one corner and is
# updated for 400 batches, without restarts (left) and with restarts (right).


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
for axis, restart_below, name in zip(axes, (0.0, 0.05), ("dead rows stay dead", "dead rows restart"), strict=True):
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
# The network is the autoencoder of lesson 2b with two halvings instead of three, so that the map has $8 \times 8$
# cells.


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
print(f"a cell's vector and a row of the codebook have {config.code_width} numbers; there are {config.codes} rows")

# %% [markdown]
# A 1 × 1 convolution reduces the channels to the width of the codebook. After the layer, a 3 × 3 convolution restores
# them and combines each cell with its neighbours.


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
# The codes need 384 bits instead of the picture's 24,576, one part in 64.
#
# ### The same numbers as the textbook
#
# To check the layer, we compare it with a slow and simple version: all distances by `torch.cdist`, and the moving
# average as a loop over the rows, in double precision. After one training step all codes must be equal and, up to
# rounding, the whole codebook. (`tests/parity/test_vq_parity.py` compares output, loss, gradients and three steps with
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
print("the same 128 codes, and the same codebook after the step")

# %% [markdown]
# ## 4 · Train it
#
# The training loop is that of the autoencoder, with the layer's loss added.

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
left.set(title="distance between picture and reconstruction", ylim=(0, 16))
right.set(title="perplexity of a batch's codes", ylim=(0, 64))
show(made, "Over the steps, the distance falls steeply, then slowly; the perplexity rises above forty of 64.")

# %% tags=["ignored"]
model.eval()  # from now on the codebook does not change
with torch.no_grad():
    live, longer = model(unseen[:9])[0], shipped(unseen[:9])[0]
show(
    picture_grid(torch.cat([unseen[:9], live, longer]), 9, rows=["not seen before", "yours", "shipped"], inches=0.85),
    "Nine sprites that neither model has seen; below them yours, recognisable but soft and speckled; below these the "
    "shipped model's, cleaner.",
)

# %% [markdown]
# You should recognise all six subjects, nearly in their colours. Many fine details are lost, such as a cat's eyes or
# the seeds of a strawberry. The shipped model keeps more of them, but both models are softer than the original. The
# next lesson improves that.
#
# Two measurements show the same. How far is each reconstruction from its original? And how often does the judge name
# its subject? The judge is a classifier for the six subjects that answers "none" for a blend, a blur or noise.


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
    print(f"{name}: {right_kind:.0%} named correctly, {decibels:.1f} dB")
print(f"the sprites themselves: {(judged(unseen).argmax(1) == kinds).float().mean():.0%} named correctly")

# %% [markdown]
# Decibels are logarithmic: 10 dB more mean a tenth of the squared error. Expect 22 to 25 dB for your model.
#
# ## 5 · Look inside
#
# What do the words mean? Fill a whole grid with one word and decode it. The figure shows the middle of this picture for
# all 64 words, sorted from dark to light.

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
# Some words are plain colours. Many are textures that no sprite contains, because in a real picture a word rarely has
# only copies of itself as neighbours. What the decoder draws for a word depends *on its neighbours*. A whole sentence
# is easier to read:

# %%
with torch.no_grad():
    sentence = shipped.encode(unseen[3:4]).indices[0].cpu()  # (8, 8)
    drawn = shipped.decode_codes(sentence[None].to(DEVICE))[0].cpu()
made, (left, right) = figure(6.8, 3.4, 1, 2)
for axis in (left, right):
    hide_axes(axis)
left.imshow(drawn.permute(1, 2, 0), extent=(0, 8, 0, 8))
draw_tiles(right, sentence, inks)
left.set_title("the decoded picture")
right.set_title("its words")
show(made, "Left a house, drawn by the decoder. Right its 8 by 8 numbered words, in their colours.")

# %% [markdown]
# Look for words that repeat: inside the roof, the wall and the ground. At edges, windows and corners most cells have a
# different word. Even the plain background uses several words that the decoder draws alike.
#
# Now edit a picture. Choose a sprite, a word, and the cells where it is written, one cell or a square block. Rows and
# columns count from the upper left.


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
# If you only read, look at this example: eight words are written into the middle of the house, in the upper row into
# one cell, in the lower row into 3 × 3 cells. The words differ as much as possible from the red wall and from each
# other. A word in one cell changes little, because the decoder also uses the neighbouring cells. In nine cells its
# colour appears clearly.

# %%
strong = (inks.amax(1) - inks.amin(1)).argsort()[-32:]  # the half of the words with the strongest colours
unlike = torch.cdist(inks[strong], torch.tensor([[0.9, 0.1, 0.1]])).amin(1)  # how far from the wall's red
words = []
for _ in range(8):  # always the one farthest from the wall and from those chosen before
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
# How large is the area that a word changes? The map shows the mean change of each pixel, over all words and 24 sprites,
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
print(f"a word changes {high} × {wide} pixels; {inside:.0%} of the change is in its own 4 × 4")
assert max(high, wide) <= 18

# %% [markdown]
# If all pixels in this area changed equally, the cell's own pixels would have 5 % of the change. So a word describes a
# patch, not an object. There is no word for "house", and a word cannot change more than its surroundings, because the
# receptive field of the decoder's three convolutions is at most 18 pixels wide. To draw a house from words, a model
# must know which words occur together.

# %% [markdown]
# ## 6 · Break it
#
# ### Without restarts
#
# First test the restarts. Two small VQ-VAEs start from the same 64 small random rows, as in the 2017 paper, and are
# trained on the same batches, one with restarts and one without.


# %%
def usage_while_learning(restart_below: float, steps: int = 200) -> tuple[list[float], list[float]]:
    """How many codes each batch uses, and its loss, while a small VQ-VAE is trained from random codebook rows."""
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
# Rows that become dead in the first steps, when the encoder's vectors are still close together, rarely come into use
# again without restarts. The model then describes pictures with fewer words than it could.
#
# ### Claim 1: “The latent space is discrete.”
#
# If it is discrete, two things are true without exception. Each vector that the decoder gets is exactly a row of the
# codebook. And any mixture of two rows becomes exactly a row after the layer. We test all 240 sprites, and all 2,016
# pairs of rows with 21 mixtures each. The verdict is “holds” only if both shares are exactly 100 %. For information we
# also count how often the mixture becomes a third row instead of one of the two mixed rows.

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
# The figure mixes two words in nine steps, and decodes each mixture as a grid filled with it. In the upper row the
# mixtures go directly to the decoder. In the lower row they pass through the layer first.

# %%
colourful = (inks.amax(1) - inks.amin(1)).argsort()[-12:]
one = int(colourful[-1])
other = int(colourful[torch.cdist(inks[[one]], inks[colourful]).argmax()])  # as different from it as possible
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
# `assignment` is the formula as code. We test it on the cells of all 240 sprites in three ways. Every row must have one
# 1 and 63 zeros. Its entropy, which is 0 for a certain choice and $\log 64 = 4.16$ for a uniform one, must be exactly
# 0. And the 1 must be at the smallest distance, computed in double precision. If two rows are almost equally far,
# rounding decides, so we allow one different cell in ten thousand.

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
axes[0].set(title=r"distance of each cell to each row of the codebook: dark is far, light is near", ylabel="cell")
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
# Count the numbers. A row of the codebook has a width, and a cell of the latent has the same width. But the latent of a
# picture is a grid of such cells. The verdict is “holds” if the latent of a whole picture has as many numbers as a row
# of the codebook, “not quite” if this is true only for each of its cells, and “does not hold” otherwise.

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
# The two tables have the same size only because our grid has as many cells as our codebook has rows. DALL·E Mini has
# $16 \times 16$ cells and a codebook of 16,384 rows of 256 numbers. Only the width must agree.
#
# ### Claim 4: “No ‘morphed’ outputs.”
#
# A *morph* is a picture between two subjects that is neither of them. The VAE of lesson 2c draws morphs. Does the
# VQ-VAE draw them too? Take pairs of sprites of different subjects, mix the encoder's outputs in 21 steps from the
# first to the second, and decode each step, with the shipped VAE and with the shipped VQ-VAE, whose mixtures pass
# through the layer. We count the frames from 25 % to 75 % of the way for which the judge answers “none”.
#
# The rule was fixed before the run. The claim holds if the judge answers “none” for at most 5 % of the VQ-VAE's frames,
# and less often than for the VAE's. It is “not quite” if all frames consist of rows of the codebook, but the frames do
# not meet this condition. The sprites have kinds and colours that both models were trained on, and only pairs count
# whose two ends the judge names correctly.


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
# So the slide is right about single words, but not about whole pictures. A cell never holds a mixture of two words.
# Therefore the VQ-VAE stays close to each end for longer than the VAE does. But in the middle some cells already hold
# words of the second sprite while others still hold words of the first. Such a picture is a patchwork, and the judge
# rightly does not recognise it. The VAE behaves differently: other subjects lie between the two on its plane, so the
# path often passes through a third subject.
#
# In DALL·E Mini such mixtures are not needed: a second network chooses the words, and it has learned which combinations
# are likely. Here are pictures whose words are chosen at random instead.

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
# Random codes do not make a picture. A VAE can sample from its prior; the VQ-VAE needs another model that knows which
# of the $2^{384}$ possible sentences are pictures. In DALL·E Mini this model is BART.
#
# ## 7 · Your turn
#
# Write your answer in the cell above each check, run it, then run the check. Open the hints if you need them.

# %% [markdown]
# ### Exercise 2d.1 · The length of a sentence (★☆☆, 3 minutes)
#
# How many bits does it take to store the codes of a picture? Write the function for a grid of `side` × `side` cells and
# a codebook of `codes` rows. Then compare our 8 × 8 cells with 64 codes to DALL·E Mini's 16 × 16 cells with 16,384
# codes.


# %% tags=["stub"]
def sentence_bits(side: int, codes: int) -> float:
    """Bits that it takes to write down a grid of codes."""
    raise NotImplementedError


# %% tags=["checked"]
check("2d.1", sentence_bits)

# %% [markdown] tags=["hint"]
# With two codes, one cell takes one bit; with four codes it takes two. How many bits does it take with 64 codes?

# %% [markdown] tags=["hint"]
# `log2` of the `math` module is imported. How many cells are there?


# %% tags=["solution"]
def sentence_bits(side: int, codes: int) -> float:
    """Bits that it takes to write down a grid of codes."""
    return side**2 * log2(codes)


# %% [markdown]
# ### Exercise 2d.2 · How many words is that worth? (★★☆, 5 minutes)
#
# A codebook has eight rows. Over many pictures, the first is chosen half of the time, the second a quarter of the time,
# the third and the fourth an eighth of the time each. The others are dead. First guess the perplexity: is it nearer to
# 2, 4 or 8? Then compute it, by hand or with one line of code, to two decimals.

# %% tags=["stub"]
perplexity = None

# %% tags=["checked"]
check("2d.2", perplexity)

# %% [markdown] tags=["hint"]
# The dead rows have $p = 0$ and add nothing. Write the sum of step 5 with the four others.

# %% [markdown] tags=["hint"]
# With logarithms to base 2 the entropy is $\frac12 \cdot 1 + \frac14 \cdot 2 + 2 \cdot \frac18 \cdot 3$ bits. The last
# step is the exponential, with the same base.

# %% tags=["solution"]
perplexity = 2 ** (1 / 2 * 1 + 1 / 4 * 2 + 2 * 1 / 8 * 3)  # 2^1.75 = 3.36

# %% [markdown]
# ### Exercise 2d.3 · Mend the layer (★★☆, 8 minutes)
#
# A colleague rewrote the layer. It runs and the shapes are right, but the network learns nothing. The function has
# three mistakes. Write it without them.
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
# Look at one line at a time. Does the first row of `vectors` hold the numbers of one cell? Which row of the codebook
# should a cell get? And what is the derivative of `z_e + (z_q - z_e)` with respect to `z_e`?

# %% [markdown] tags=["hint"]
# `reshape` does not change the order of the numbers, so first make the channels the last axis: `permute(0, 2, 3, 1)`.
# In the last line the difference `z_q - z_e` must be a constant for the gradient.


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
# In a codebook of 4,096 rows many rows tend to stay unused. Two codebooks of 64 rows have as many combinations, if each
# cell uses one row of each: the first approximates the vector, and the second approximates *the remainder*. Write this
# function: quantise the vectors with the first codebook, quantise the remainder with the second, and return the sum of
# both rows.


# %% tags=["stub"]
def quantise_twice(vectors: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """Vectors (m, width) as a row of `first` and a row of `second`, both (codes, width), together: (m, width)."""
    raise NotImplementedError


# %% tags=["checked"]
check("2d.4", quantise_twice)

# %% [markdown] tags=["hint"]
# `nearest_codes(vectors, first)` gives numbers; `first[numbers]` gives the rows. What is the remainder of the vectors?

# %% [markdown] tags=["hint"]
# The remainder is `vectors` minus the rows of the first codebook. The result is the sum of the two rows.


# %% tags=["solution"]
def quantise_twice(vectors: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """Vectors (m, width) as a row of `first` and a row of `second`, both (codes, width), together: (m, width)."""
    roughly = first[nearest_codes(vectors, first)]  # (m, width)
    remainder = vectors - roughly
    return roughly + second[nearest_codes(remainder, second)]


# %% [markdown]
# ## 8 · What we have, what is missing
#
# - A picture is now a sentence: 64 words from a learned codebook of 64 rows, 384 bits instead of 24,576.
# - The layer chooses the nearest row and copies the gradient straight through. The codebook follows the data as a
#   moving average, and unused rows are restarted.
# - A word describes a patch and depends on its neighbours; it does not stand for an object. Words cannot be mixed.
# - What is missing: a model that chooses sensible sentences. Lesson 3 builds it.
# - The pictures are soft. The loss compares pixel by pixel, and where 64 words do not determine a pixel, the average
#   has the smallest loss. The next lesson adds a discriminator as in lesson 2a, which recognises blurred pictures.
#
# Five questions help you check what you remember.

# %% [markdown] tags=["quiz"]
# **1.** Why does the layer need a trick for its gradient?
# - [ ] The codebook is too large for backpropagation — its size does not matter: a codebook of two rows has the same
#   problem.
# - [x] A small step of the vector leaves its nearest row the same, so the true gradient is zero almost everywhere — and
#   with it the encoder would never learn.
# - [ ] The arg min needs the square root, whose slope is infinite at zero — the code leaves the root out, and it would
#   make no difference: the problem is the choice itself.

# %% [markdown] tags=["quiz"]
# **2.** What does the commitment loss do?
# - [x] It moves the encoder's vectors towards their nearest rows — the stop-gradient keeps the rows fixed.
# - [ ] It moves the rows towards the vectors — that is the codebook term, or the moving average in its place.
# - [ ] It makes all rows equally frequent — the loss does not ask for that; restarts bring unused rows back into use.

# %% [markdown] tags=["quiz"]
# **3.** A codebook has 1,024 rows, all of them are in use, and the perplexity is 40. What follows?
# - [ ] 984 rows are dead — all are in use; a dead row is never chosen.
# - [ ] The decoder draws only 40 different pictures — a picture has many cells, and they have far more combinations.
# - [x] A few rows are used most of the time: the codes carry as much information as 40 equally frequent ones — most
#   rows are rare.

# %% [markdown] tags=["quiz"]
# **4.** Why does a row without assigned vectors stay where it is?
# - [x] Both the moving average and the codebook term move a row only by the vectors assigned to it — it has no such
#   vectors.
# - [ ] The decay changes its position — the decay shrinks counts and sums by the same factor, so their quotient stays
#   the same.
# - [ ] The straight-through gradient points away from it — that gradient does not reach the codebook.

# %% [markdown] tags=["quiz"]
# **5.** What does the decoder draw half-way between two pictures?
# - [ ] One of the two pictures, since the layer chooses one row — every cell chooses by itself, so cells of both
#   pictures are mixed.
# - [ ] A cross-fade, both half transparent — mixing the pixels would give that, but a cell never holds half a word.
# - [x] A patchwork: in each cell a word of the first, of the second, or a third word — each cell holds one whole word,
#   but the cells do not fit together.
