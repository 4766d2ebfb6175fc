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
# In this lesson a picture becomes a sentence of 64 words from one small dictionary. You build the layer that chooses
# the words, and you edit pictures by changing words. At the end a small network writes new sentences, and the decoder
# draws them.

# %% tags=["folded"]
from dataclasses import dataclass
from math import log, log2
from typing import NamedTuple

import torch
import torch.nn.functional as F
from atelier.blocks.autoencoder import ConvConfig, ConvDecoder, ConvEncoder, reconstruction_loss
from atelier.evaluation.intervals import Estimate, difference, mean
from atelier.evaluation.sprites import predicted_kinds
from atelier.teaching import (
    BLUE,
    COLOURS,
    GREEN,
    GREY,
    INK,
    ORANGE,
    SKY,
    VERMILION,
    check,
    choice,
    explore,
    figure,
    lesson_header,
    picture_grid,
    show,
    slider,
    verdict,
)
from atelier.teaching.experiments.lesson_2d import (
    COLLAPSE,
    FRESH,
    MORPHS,
    PRIOR,
    RESTARTS,
    frames_between,
    measure_morphs,
    nearest_grids,
    pairs_of_kinds,
    probability_table,
    run_restarts,
    sample_table,
)
from atelier.teaching.figures import code_colours, draw_tiles, hide_axes
from atelier.training.metrics import psnr
from atelier.weights.sprites import load_sprite_model
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
# DALL·E Mini's translator, BART, is a language model: it *chooses* one word after the other from a finite list. For
# BART to produce pictures, pictures must be made of such words. But the latents of lessons 2b and 2c are continuous.
#
# The **VQ-VAE** ([van den Oord and others 2017](https://arxiv.org/abs/1711.00937)) is an autoencoder whose bottleneck
# is a grid of entries chosen from a learned list. These entries are the words. Their meanings are learned with encoder
# and decoder.

# %% [markdown]
# ## 2 · The idea
#
# Here is a sprite on its way through a VQ-VAE that comes with the course. A vector is drawn in the colour that the
# decoder draws when every cell holds it.

# %% tags=["folded"]
shipped = load_sprite_model("vqvae").to(DEVICE)
unseen, kinds = sprites(240, seed=7, device=DEVICE)
inks = code_colours(shipped.decode, shipped.quantize.embedding.weight)  # (64, 3)


@torch.no_grad()
def draw_idea(picture: Tensor) -> Figure:
    """One picture (3, 32, 32) on its way through the shipped VQ-VAE."""
    indices = shipped.encode(picture[None]).indices  # (1, 8, 8)
    z_e = code_colours(shipped.decode, shipped.encoder(picture[None])[0].flatten(1).T).T.reshape(3, 8, 8)
    z_q, back = inks[indices[0].cpu()].permute(2, 0, 1), shipped.decode_codes(indices)[0]
    made, axis = figure(9.4, 4.0)
    hide_axes(axis)
    for x, pixels in {0: picture, 4.4: z_e, 11.4: z_q, 15.8: back}.items():
        axis.imshow(pixels.cpu().clamp(0, 1).permute(1, 2, 0), extent=(x, x + 2.4, 0.4, 2.8))
    draw_tiles(axis, indices[0], inks, 7.5, 0, 0.4, 6.5)
    draw_tiles(axis, torch.arange(64).reshape(4, 16), inks, 5.9, 5.0, 0.4, 6.5)
    for x, left, right, name in [(2.7, 1.2, 0.6, "encoder"), (14.1, 0.6, 1.2, "decoder")]:
        corners = [(x, 1.6 - left), (x, 1.6 + left), (x + 1.4, 1.6 + right), (x + 1.4, 1.6 - right)]
        axis.add_patch(Polygon(corners, facecolor="#E8F1F8", edgecolor=BLUE))
        axis.text(x + 0.7, 1.6, name, ha="center", va="center", fontsize=8.5)
    names = {1.2: "$x$", 5.6: r"$\mathbf{z}_e$", 9.1: "$k$", 12.6: r"$\mathbf{z}_q$", 17: r"$\hat{x}$"}
    for x, words in names.items():
        axis.text(x, 3.4 if words == "$k$" else 3.0, words, ha="center", fontsize=11)
    axis.text(5.6, 5.8, "the codebook:\n64 rows of 16 numbers", ha="right", va="center", fontsize=9)
    ways = [((6.9, 1.6), (7.4, 1.6)), ((10.8, 1.6), (11.3, 1.6)), ((9.1, 4.8), (9.1, 4.0)), ((11.8, 4.8), (11.8, 3.0))]
    for start, end in ways:
        axis.add_patch(
            FancyArrowPatch(start, end, arrowstyle="-|>", mutation_scale=12, color=INK, shrinkA=0, shrinkB=0)
        )
    axis.add_patch(FancyArrowPatch((12.6, -0.4), (5.6, -0.4), arrowstyle="-|>", mutation_scale=12, color=VERMILION))
    axis.text(9.1, -0.85, "backwards: straight through", color=VERMILION, ha="center", va="center", fontsize=9)
    axis.set(xlim=(-0.1, 18.3), ylim=(-1.2, 6.7))
    return made


show(
    draw_idea(unseen[1]),
    "A mushroom passes an encoder and becomes a grid of 8 by 8 coloured cells, z_e. Each cell gets the number k of the "
    "nearest of 64 rows of a codebook. The rows, looked up, form the grid z_q, out of which a decoder draws the "
    "mushroom again. A red arrow leads from z_q straight back to z_e.",
)

# %% [markdown]
# The encoder outputs a grid of 8 × 8 cells with a vector $\mathbf{z}_e$ of 16 numbers in each. The new layer has a
# **codebook**, a learned table of $K=64$ vectors of 16 numbers. A row $\mathbf{e}_k$, or its number $k$ for short, is a
# **code**. These codes are the words. The layer replaces each cell's vector by the nearest row, $\mathbf{z}_q$.
# Replacing a value by the nearest one of a fixed list is called **quantisation**; VQ stands for vector quantisation.
# The 64 numbers $k$ are all that the decoder needs.
#
# The slide writes the layer as a probability:
#
# $$q(\mathbf{z}=\mathbf{e}_k\mid x) =
# \begin{cases}1 & \text{if } k=\arg\min_i\lVert\mathbf{z}_e(x)-\mathbf{e}_i\rVert_2\\0 & \text{otherwise.}\end{cases}$$
#
# Here $x$ is a picture (3, 32, 32), $\mathbf{z}_e(x)$ the vector (16,) of one cell, $\mathbf{e}_i$ row $i$ (16,) of the
# codebook, and $\arg\min_i$ the $i$ for which the length $\lVert\cdot\rVert_2$ is smallest. So $q$ (64,) is one 1 and
# 63 zeros. It corresponds to the VAE's posterior. With a uniform prior its KL divergence is $\log K$, a constant that
# the loss leaves out. Section 6 learns a better prior.
#
# If $\mathbf{z}_e$ changes a little, the nearest row stays the same or changes abruptly. So the gradient is zero almost
# everywhere, and the encoder would learn nothing. The red arrow is the solution: see step 2.

# %% [markdown]
# ## 3 · Build it
#
# You build the network in seven steps. The docstrings refer to the 2017 paper.
#
# ### Step 1: the nearest row
#
# The distances of all vectors to all rows need only one matrix product, because
# $\lVert\mathbf{z}-\mathbf{e}\rVert^2=\lVert\mathbf{z}\rVert^2-2\,\mathbf{z}\cdot\mathbf{e}+\lVert\mathbf{e}\rVert^2$.
# The second function is the slide's $q$.


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
# Try it in a plane, with five rows and four vectors. In each region the same row is the nearest.

# %% tags=["checked"]
plane_book = torch.tensor([[-1.25, 0.75], [1.0, 1.0], [0.0, -0.25], [-0.75, -1.25], [1.25, -1.0]])
dots = torch.tensor([[-0.5, 1.0], [0.25, 0.25], [-0.25, -0.75], [1.5, 0.25]])
print("nearest row of each vector:", nearest_codes(dots, plane_book).tolist())
assert torch.equal(assignment(dots, plane_book) @ plane_book, plane_book[nearest_codes(dots, plane_book)])


# %% tags=["folded"]
def draw_plane(codebook: Tensor, axis: Axes, reach: float = 2.0) -> None:
    """The regions of a codebook (codes, 2) in a plane, with a star for each code."""
    steps = torch.linspace(-reach, reach, 400)
    grid = torch.cartesian_prod(steps.flip(0), steps).flip(1)  # rows from top to bottom, (x, y) each
    regions = nearest_codes(grid, codebook).reshape(400, 400) % len(COLOURS)
    shades = torch.tensor([[int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)] for colour in COLOURS])
    axis.imshow(0.72 + 0.28 * shades[regions], extent=(-reach, reach, -reach, reach))
    axis.scatter(*codebook.T, s=110, marker="*", color=VERMILION, edgecolor="white", linewidth=0.6, zorder=4)
    hide_axes(axis)
    axis.set(xlim=(-reach, reach), ylim=(-reach, reach))


made, (left, right) = figure(7.6, 3.6, 1, 2)
draw_plane(plane_book, left)
offsets = ((-0.42, -0.15), (0.1, 0.1), (0.14, -0.2), (0.1, 0.1), (0.1, 0.1))
for number, ((x, y), (right_by, up_by)) in enumerate(zip(plane_book.tolist(), offsets, strict=True)):
    left.text(x + right_by, y + up_by, rf"$\mathbf{{e}}_{number}$", fontsize=12)
for number, (vector, code) in enumerate(zip(dots, plane_book[nearest_codes(dots, plane_book)], strict=True)):
    ends = vector.tolist(), code.tolist()
    left.add_patch(FancyArrowPatch(*ends, arrowstyle="-|>", mutation_scale=10, color=INK, shrinkB=5))
    left.text(ends[0][0] + 0.1, ends[0][1] - 0.1, rf"$\mathbf{{z}}_{number}$", va="top", fontsize=12)
left.scatter(*dots.T, s=24, color=INK, zorder=3)
for row, line in enumerate(assignment(dots, plane_book).int().tolist()):
    for column, number in enumerate(line):
        shade, ink = (INK, "white") if number else ("#F3F4F6", INK)
        right.add_patch(Rectangle((column - 0.47, row - 0.47), 0.94, 0.94, facecolor=shade))
        right.text(column, row, number, ha="center", va="center", color=ink, fontsize=12)
hide_axes(right)
right.set_xticks(range(5), [rf"$\mathbf{{e}}_{number}$" for number in range(5)], fontsize=12)
right.set_yticks(range(4), [rf"$\mathbf{{z}}_{number}$" for number in range(4)], fontsize=12)
right.tick_params(length=0)
right.set(xlim=(-0.5, 4.5), ylim=(3.5, -0.5))
left.set_title("vectors and their nearest rows")
right.set_title(r"$q(\mathbf{z} = \mathbf{e}_k \mid x)$ of each vector")
show(
    made,
    "Left, a plane cut into five regions, each around a star, with four dots that have arrows to the star of their "
    "region. Right, a table of four rows and five columns, with one 1 in each row and 0 elsewhere.",
)

# %% [markdown]
# ### Step 2: the gradient, straight through
#
# Forwards the layer outputs the row $\mathbf{z}_q$. Backwards it is treated as the identity: the gradient at
# $\mathbf{z}_q$ is copied to $\mathbf{z}_e$ unchanged. This is the **straight-through estimator**. It takes one line of
# PyTorch: `detach` returns a tensor's values as a constant, so `z_e - z_e.detach()` has the value zero, but the
# gradient of `z_e`.


# %%
def straight_through(z_e: Tensor, z_q: Tensor) -> Tensor:
    """Exactly the values of z_q with exactly the gradient of z_e (section 3.2), which has the same shape."""
    return z_q.detach() + (z_e - z_e.detach())


# %% tags=["checked"]
z_e, arriving = dots.clone().requires_grad_(), torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0], [7.0, 8.0]])
z_q = straight_through(z_e, plane_book[nearest_codes(z_e, plane_book)])
(gradient,) = torch.autograd.grad((z_q * arriving).sum(), z_e)  # what arrives at z_q is (1, 2), (3, 4), …
print("values of z_q:  ", z_q.tolist())
print("gradient at z_e:", gradient.tolist())
assert torch.equal(gradient, arriving)

# %% [markdown]
# ### Step 3: the loss
#
# The loss has three terms (eq. 3 of the paper), where $\text{sg}[\cdot]$, "stop gradient", is `detach`:
#
# $$L = \underbrace{\lVert x-\hat{x}\rVert}_{\text{reconstruction}} +
# \underbrace{\lVert\text{sg}[\mathbf{z}_e]-\mathbf{z}_q\rVert^2}_{\text{codebook}} +
# \beta\,\underbrace{\lVert\mathbf{z}_e-\text{sg}[\mathbf{z}_q]\rVert^2}_{\text{commitment}}$$
#
# Here $\mathbf{z}_q$ is the row itself, without step 2. The first term trains encoder and decoder; the straight-through
# gradient bypasses the codebook. The second term moves the rows towards the vectors. The third, the **commitment
# loss**, moves the vectors towards their rows, with the weight $\beta=0.25$. Without it the vectors could move away
# faster than the rows follow.
#
# The first term is the distance of lesson 2b. `vq_loss` computes the two others, as means instead of sums. With
# `by_gradient=False` it leaves out the second (step 6).


# %%
def vq_loss(z_e: Tensor, z_q: Tensor, beta: float, by_gradient: bool) -> Tensor:
    """Terms 2 (only if the codebook is learned by gradient) and 3 of eq. 3: ‖sg[z_e] − z_q‖² + β ‖z_e − sg[z_q]‖²."""
    commitment = beta * F.mse_loss(z_e, z_q.detach())
    return F.mse_loss(z_q, z_e.detach()) + commitment if by_gradient else commitment


# %% tags=["checked"]
vector, row = torch.tensor([1.0], requires_grad=True), torch.tensor([0.0], requires_grad=True)
loss = vq_loss(vector, row, beta=0.25, by_gradient=True)
to_vector, to_row = torch.autograd.grad(loss, (vector, row))
print(f"negative gradient: {-to_row.item():+} for the row at 0, {-to_vector.item():+} for the vector at 1")
assert torch.equal(to_vector, -0.25 * to_row)

# %% [markdown]
# ### Step 4: the layer
#
# The layer turns the encoder's map into a list of vectors (`vectors_of`), quantises them, and turns the list back into
# a map. The codebook is an `nn.Embedding`, a table of trainable vectors. With `lookup` you will draw codes that a
# network has written.


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
layer, z_e = VectorQuantizer(codes=32, width=4), torch.randn(2, 4, 8, 8)
quantized = layer(z_e)
print({name: tuple(value.shape) for name, value in quantized._asdict().items()})
(for_rows,) = torch.autograd.grad(quantized.loss, layer.embedding.weight)  # (32, 4)
pulled = for_rows.any(dim=1).nonzero().flatten()
print(f"rows chosen by a vector: {len(quantized.indices.unique())} of 32, rows with a gradient: {len(pulled)}")
assert torch.equal(pulled, quantized.indices.unique())

# %% [markdown]
# This is the paper's complete layer. Note the last line: a row that no vector chooses gets no gradient.
#
# ### Step 5: how much of the codebook is in use?
#
# A row that is chosen once in a million times counts as used, but hardly matters. So the usual measure is the
# **perplexity**, the number of equally frequent codes that would carry the same information. With $p_k$ the share of
# code $k$,
#
# $$\text{perplexity} = \exp\Big(-\sum_k p_k\log p_k\Big), \qquad 1\le\text{perplexity}\le K.$$


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
# The best position of a row is the mean of the vectors assigned to it, as in k-means. Appendix A.1 of the paper
# therefore replaces the codebook term by a moving average of this mean. If $n_k$ vectors of a batch are assigned to row
# $k$, and $\gamma=0.99$ is the decay,
#
# $$N_k \leftarrow \gamma N_k+(1-\gamma)\,n_k, \qquad
# \mathbf{m}_k \leftarrow \gamma\,\mathbf{m}_k+(1-\gamma)\sum_{\mathbf{z}\text{ assigned to }k}\mathbf{z}, \qquad
# \mathbf{e}_k \leftarrow \mathbf{m}_k/N_k.$$
#
# So that no row is divided by 0, a small number (`LAPLACE_EPSILON`) is first added to all counts, which are then scaled
# back to their old sum.
#
# A row without assigned vectors does not move, so it usually stays unused: it is a **dead code**. The remedy is to
# restart it ([Jukebox, 2020](https://arxiv.org/abs/2005.00341)): a row whose count has fallen below 5 % of the mean
# count is moved to a random vector of the batch. On the first batch this happens to all rows.
#
# The buffers `counts` and `sums` hold $N_k$ and $\mathbf{m}_k$; they are stored with the weights, but have no gradient.
# In evaluation mode nothing changes.


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
        self.update_codebook(vectors, quantized.indices.flatten())
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
    def update_codebook(self, vectors: Tensor, indices: Tensor) -> None:
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
layer(z_e)
print("state:", {name: tuple(tensor.shape) for name, tensor in layer.state_dict().items()})
print(f"rows in use after the first batch: {layer.usage().share:.0%}")

# %% [markdown]
# An example in the plane: eight rows start in the upper right corner and follow three clouds of data for 400 batches.


# %% tags=["folded"]
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
        book.update_codebook(vectors, nearest_codes(vectors, book.embedding.weight))
    return book.embedding.weight.detach()


torch.manual_seed(0)
clouds = torch.tensor([[-1.1, -0.9], [1.2, -0.7], [0.1, 1.2]]).repeat(60, 1) + 0.28 * torch.randn(180, 2)
made, axes = figure(7.6, 4.1, 1, 2)
for axis, restart_below, name in zip(axes, (0.0, 0.05), ("without restarts", "with restarts"), strict=True):
    moved = moved_book(restart_below)
    draw_plane(moved, axis)
    axis.scatter(*clouds.T, s=6, color=INK)
    axis.set_title(f"{name}: {len(nearest_codes(clouds, moved).unique())} of 8 rows in use")
show(
    made,
    "Three clouds of points in a plane. Left, without restarts, a few stars sit in the clouds and the others lie "
    "unused in a heap in the corner. Right, with restarts, all stars lie in the clouds and share their points.",
)

# %% [markdown]
# ### Step 7: the network around it
#
# The network is the autoencoder of lesson 2b with two halvings, so that the map has 8 × 8 cells. Before the layer, a 1
# × 1 convolution makes vectors of 16 numbers. After it, a 3 × 3 convolution combines each cell with its neighbours.


# %%
@dataclass(frozen=True)
class VQVAEConfig(ConvConfig):
    """Shape of a VQ-VAE."""

    levels: int = 2
    codes: int = 64  # codes in the codebook
    code_width: int = 16  # length of a code


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
        """Encodes pictures (n, 3, size, size) to z_q, indices (n, side, side), and the commitment loss."""
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
network = VQVAE(VQVAEConfig()).eval()
batch = torch.rand(5, 3, 32, 32)
reconstructions, quantized = network(batch)
assert torch.equal(network.decode_codes(quantized.indices), reconstructions)
print("z_e", tuple(network.encoder(batch).shape), "→ z_q", tuple(quantized.z_q.shape))
print("codes", tuple(quantized.indices.shape), "→ pictures", tuple(reconstructions.shape))
print(f"bits of a picture: {3 * 32 * 32 * 8}, of its codes: {8 * 8 * log2(64):.0f}")

# %% [markdown]
# The codes need 384 bits, one part in 64 of the picture's.
#
# ### The same numbers as the textbook
#
# Compare the layer with a slow and simple version in double precision. (`tests/parity/test_vq_parity.py` compares it
# with the package vector-quantize-pytorch.)

# %% tags=["checked"]
torch.manual_seed(0)
layer = MovingAverageQuantizer(codes=32, width=4, restart_below=0.0).train()
layer.counts.uniform_(1, 5)
layer.sums.copy_(layer.embedding.weight.normal_() * layer.counts[:, None])
rows, N, m = (tensor.detach().double().clone() for tensor in (layer.embedding.weight, layer.counts, layer.sums))
vectors = z_e.double().permute(0, 2, 3, 1).reshape(-1, 4)  # (128, 4)
chosen = torch.cdist(vectors, rows).argmin(1)  # (128,)
for k in range(32):
    mine = vectors[chosen == k]  # (n, 4)
    rows[k] = (0.99 * m[k] + 0.01 * mine.sum(0)) / (0.99 * N[k] + 0.01 * len(mine))
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
distances, perplexities = [], []
for _ in tqdm(range(STEPS)):
    batch = pictures[torch.randint(len(pictures), (BATCH,))]
    reconstructions, quantized = model(batch)
    distance = reconstruction_loss(batch, reconstructions)
    optimiser.zero_grad()
    (distance + quantized.loss).backward()
    optimiser.step()
    schedule.step()
    distances.append(distance.item())
    perplexities.append(codebook_usage(quantized.indices.flatten().bincount(minlength=64)).perplexity)

# %% tags=["folded"]
made, (left, right) = figure(8.6, 2.7, 1, 2)
for axis, values, colour in [(left, distances, BLUE), (right, perplexities, GREEN)]:
    axis.plot(values, color=colour, alpha=0.25, linewidth=0.8)
    axis.plot(range(12, STEPS - 12), torch.tensor(values).unfold(0, 25, 1).mean(1), color=colour)
    axis.set(xlabel="step", ylim=(0, None), xticks=range(0, STEPS + 1, 300))
left.set_title("Distance to the picture")
right.set_title("Perplexity of a batch's codes")
right.set(ylim=(0, 64), yticks=(0, 16, 32, 48, 64))
show(made, "Over the steps, the distance falls steeply, then slowly; the perplexity rises above forty of 64.")

# %% tags=["ignored", "folded"]
model.eval()  # from now on the codebook does not change
with torch.no_grad():
    live, longer = model(unseen[:9])[0], shipped(unseen[:9])[0]
show(
    picture_grid(torch.cat([unseen[:9], live, longer]), 9, rows=["not seen before", "yours", "shipped"], inches=0.9),
    "Nine sprites that neither model has seen; below them yours, recognisable but soft and speckled; below these the "
    "shipped model's, cleaner.",
)

# %% [markdown]
# You should recognise all six subjects. Fine details are lost, such as a cat's eyes or the seeds of a strawberry. The
# shipped model, which was trained for longer, keeps more of them.
#
# How often does the judge name the subject? It is a classifier that answers "none" for a blend, a blur or noise. And
# how small is the squared error, in decibels? 10 dB more mean a tenth of it.

# %%
judge = load_sprite_model("judge").to(DEVICE)
for name, network in {"yours": model, "shipped": shipped}.items():
    with torch.no_grad():
        back = network(unseen)[0]
    named = (predicted_kinds(judge, back) == kinds).float().mean().item()
    print(f"{name}: {named:.0%} named correctly, {psnr(unseen, back).mean().item():.1f} dB")

# %% [markdown]
# Expect 23 to 24 dB for yours.

# %% [markdown]
# ## 5 · Look inside
#
# What do the words mean? Fill a whole grid with one word and decode it. Here is the middle of this picture for all 64
# words, from dark to light.

# %% tags=["folded"]
with torch.no_grad():
    alone = shipped.decode_codes(torch.arange(64, device=DEVICE)[:, None, None].expand(-1, 8, 8))[:, :, 8:24, 8:24]
order = inks.mean(1).argsort()
names = [str(number) for number in order.tolist()]
show(
    picture_grid(alone[order.to(DEVICE)], 16, titles=names, inches=0.55),
    "The 64 words of the codebook as small patches from dark to light: plain colours, edges, textures.",
)

# %% [markdown]
# Some words are plain colours, others are textures. What the decoder draws for a word depends on its neighbours, here
# copies of itself.
#
# Now edit a picture: write a word into 2 × 2 cells of a sprite. Look also for words that repeat, as in the roof of the
# house.


# %% tags=["folded"]
@torch.no_grad()
def swapped(subject: str, row: int, column: int, code: int) -> tuple[Figure, str]:
    """A sprite's sentence with a word written into 2 × 2 cells, as tiles and as the decoder draws it."""
    codes = shipped.encode(unseen[SPRITES.index(subject)][None]).indices  # (1, 8, 8)
    edited = codes.clone()
    edited[0, row : row + 2, column : column + 2] = code
    before, after = shipped.decode_codes(torch.cat([codes, edited])).cpu()
    made, axes = figure(9.0, 3.4, 1, 3)
    draw_tiles(axes[0], edited[0], inks, size=7.5)
    for axis, pixels in zip(axes[1:], (before, after), strict=True):
        axis.imshow(pixels.permute(1, 2, 0), extent=(0, 8, 0, 8))
    for axis, title in zip(axes, ("its words, edited", "before", "after"), strict=True):
        hide_axes(axis)
        axis.set(xlim=(0, 8), ylim=(0, 8))
        axis.set_title(title)
        axis.add_patch(Rectangle((column, 6 - row), 2, 2, fill=False, edgecolor=VERMILION, linewidth=1.8))
    where = f"2 by 2 cells from row {row}, column {column}"
    return made, f"The words of a {subject}, and the {subject} before and after word {code} was written into {where}."


explore(
    swapped,
    subject=choice(SPRITES, "house", "sprite"),
    row=slider(0, 6, 4, 1, "row"),
    column=slider(0, 6, 2, 1, "column"),
    code=slider(0, 63, 13, 1, "word"),
)

# %% [markdown]
# How far does a word reach? Write each of the 64 words into one cell of 24 sprites, and measure how much each pixel
# changes on average.

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
print(f"a word changes {high} × {wide} pixels; {inside:.0%} of the change is in its own 4 × 4")
assert max(high, wide) <= 18  # the receptive field of the decoder

# %% tags=["folded"]
strong = (inks.amax(1) - inks.amin(1)).argsort()[-32:]  # the half of the words with the strongest colours
unlike = torch.cdist(inks[strong], torch.tensor([[0.9, 0.1, 0.1]])).amin(1)  # how far from the wall's red
words = []
for _ in range(5):  # always the one farthest from the wall and from those chosen before
    words.append(strong[unlike.argmax()])
    unlike = torch.minimum(unlike, (inks[strong] - inks[words[-1]]).norm(dim=1))
with torch.no_grad():
    houses = shipped.encode(unseen[3:4]).indices.repeat(10, 1, 1)  # (10, 8, 8)
    houses[:5, 4, 3] = torch.stack(words).to(DEVICE)
    houses[5:, 3:6, 2:5] = torch.stack(words).to(DEVICE)[:, None, None]
    drawn = shipped.decode_codes(houses).cpu()
made, axes = figure(9.2, 2.75, 2, 6, width_ratios=(1, 1, 1, 1, 1, 2.2))
for axis, pixels in zip(axes[:, :5].flat, drawn, strict=True):
    axis.imshow(pixels.permute(1, 2, 0))
for axis, word in zip(axes[0], words, strict=False):
    axis.set_title(f"word {word}", fontsize=9, fontweight="normal", loc="center")
for axis, name in zip(axes[:, 0], ("one cell", "nine cells"), strict=True):
    axis.set_ylabel(name)
for axis in axes.flat:
    hide_axes(axis)
right = made.add_subplot(axes[0, 5].get_gridspec()[:, 5])
for axis in axes[:, 5]:
    axis.remove()
right.imshow(change, cmap="cividis", extent=(0, 8, 0, 8))
right.add_patch(Rectangle((column, 7 - row), 1, 1, fill=False, edgecolor="white", linewidth=1.5))
hide_axes(right)
right.set_title("mean change of a pixel", fontsize=10)
show(
    made,
    "A house ten times. Above, another word in one cell each time leaves a small stain; below, the word in nine cells "
    "makes a large patch of its colour. Right, a map of change: bright in the outlined cell, weaker in the cells "
    "around it, zero beyond.",
)

# %% [markdown]
# The receptive field of the decoder is at most 18 pixels wide. So a word describes a patch, not an object: there is no
# word for "house". To draw one, a model must know which words occur together.

# %% [markdown]
# ## 6 · Break it
#
# The following experiments train several networks each. Their results are stored (`make claims` measures them again),
# and the lesson repeats one training of each. Brackets contain 95 % intervals.
#
# ### Without restarts
#
# Small VQ-VAEs start from 64 small random rows, as in the paper, and are trained for 200 steps, five with restarts and
# five without. The dotted curve is one of these trainings, repeated now.


# %% tags=["folded"]
def with_interval(estimate: Estimate, digits: int = 0) -> str:
    """An estimate with its interval."""
    value, low, high = (f"{number:.{digits}f}" for number in (estimate.value, estimate.low, estimate.high))
    return f"{value} ({low} to {high})"


again = run_restarts("without", seed=0)  # the stored rows were measured by the same function
made, axis = figure(8.4, 2.8)
for (arm, rows), colour in zip(RESTARTS.results().items(), (BLUE, ORANGE), strict=True):
    for row in rows:
        axis.plot(row["in use"], color=colour, alpha=0.5, linewidth=0.9)
    last = sum(row["in use"][-1] for row in rows) / len(rows)
    axis.annotate(arm, (199, last), (6, 0), textcoords="offset points", color=colour, va="center")
axis.plot(again["in use"], color=INK, linewidth=1.2, linestyle=":")
axis.set(xlabel="step", xlim=(0, 199), ylim=(0, 66), yticks=(0, 16, 32, 48, 64))
axis.set_title("Codes that a batch uses, of 64")
show(
    made,
    "Ten curves of the number of codes that a batch uses, over 200 steps: five with restarts and five without, and a "
    "dotted one that was measured just now without restarts.",
)
for arm in RESTARTS.arms:
    in_use, decibels = (mean(RESTARTS.column(arm, name), "seeds") for name in ("at the end", "psnr"))
    print(f"{arm}: {with_interval(in_use)} of 64 codes in use, {with_interval(decibels, 1)} dB on unseen sprites")

# %% [markdown]
# At first about half of the codebook is dead in all trainings, and without restarts it stays so. After about 50 steps
# the counts of the dead rows are low enough for restarts. These bring most rows into use, and the reconstruction is a
# little better.
#
# ### Claims 1 to 3: true by construction
#
# *“The latent space is discrete.”* The layer outputs nothing but rows of its codebook. Here two words are mixed in nine
# steps and decoded, above directly, below through the layer.

# %% tags=["folded"]
book = shipped.quantize.embedding.weight.detach()  # (64, 16)
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
    picture_grid(strips, 9, titles=titles, rows=["mixed", "through the layer"], inches=0.85),
    "Above, a patch of one colour turns into another one in nine even steps. Below, only few different patches "
    "occur, with jumps between them.",
)

# %%
first, second = torch.combinations(torch.arange(64, device=DEVICE)).T  # (2016,) each, all pairs of words
shares = torch.linspace(0, 1, 21, device=DEVICE)[:, None, None]
mixtures = torch.lerp(book[first], book[second], shares)  # (21, 2016, 16)
nearest = nearest_codes(mixtures.flatten(0, 1), book).view(21, 2016)
third = ((nearest != first) & (nearest != second)).double().mean().item()
verdict("vq-discrete", figures=f"Of 42,336 mixtures of two rows, {third:.0%} become a third row.")

# %% [markdown]
# *The formula $q(\mathbf{z}=\mathbf{e}_k\mid x)$* is the definition of the layer.

# %%
verdict("vq-posterior")

# %% [markdown]
# *“Latent space has same dimensions as codebook.”* A cell of the latent *is* a row of the codebook, so it has as many
# numbers. But a picture's latent is a grid of such cells.

# %%
with torch.no_grad():
    latent = shipped.encode(unseen[3:4]).z_q[0]  # (16, 8, 8), of the house
verdict(
    "vq-dimensions",
    figures=f"A cell's vector has {latent.shape[0]} numbers, a row of the codebook {book.shape[1]}. A picture's latent "
    f"has 8 × 8 × 16 = {latent.numel()} numbers. The house uses {len(latent.flatten(1).T.unique(dim=0))} of 64 rows.",
)

# %% [markdown]
# ### How many of the 16 dimensions are used?
#
# Do the rows differ from each other in all 16 directions? The **spectrum** of the codebook is the share of variance
# along each of 16 perpendicular axes, those of a principal component analysis. The perplexity of these shares is the
# *effective* number of dimensions.


# %%
def spectrum(codebook: Tensor) -> Tensor:
    """The variance of a codebook (codes, width) along each principal axis, as shares that sum to 1, largest first."""
    variances = torch.linalg.eigvalsh(codebook.cpu().double().T.cov()).clamp(min=0).flip(0)  # (width,)
    return variances / variances.sum()


for name, rows in {"random rows": torch.randn(64, 16), "yours": model.quantize.embedding.weight}.items():
    print(f"{name}: {codebook_usage(spectrum(rows)).perplexity:.1f} effective dimensions of 16")

# %% [markdown]
# A codebook that uses few of its dimensions shows **dimensional collapse**. One explanation: small differences between
# the encoder's vectors do not change the nearest row. So the decoder never sees them, and the commitment loss shrinks
# them further.
#
# A remedy is to normalise $\mathbf{z}_e$ before the layer, for example by **whitening**: subtract the mean of the
# batch, and multiply by a matrix that makes the variance 1 in every direction. The experiment trains your network with
# and without it, with three seeds.

# %% tags=["folded"]
made, (left, right) = figure(9.0, 3.2, 1, 2, width_ratios=(5, 4))
for (arm, rows), colour in zip(COLLAPSE.results().items(), (ORANGE, BLUE), strict=True):
    for number, row in enumerate(rows):
        label = f"$\\mathbf{{z}}_e$ {arm}" if number == 0 else None
        left.plot(range(1, 17), [100 * share for share in row["spectrum"]], color=colour, linewidth=1.3, label=label)
    right.plot([row["dimensions"] for row in rows], [row["psnr"] for row in rows], "o", color=colour, alpha=0.8)
    lowest = min(row["psnr"] for row in rows), mean([row["dimensions"] for row in rows], "seeds").value
    right.annotate(arm, lowest[::-1], (0, -17), textcoords="offset points", color=colour, ha="center")
left.axhline(100 / 16, color=INK, linestyle="--", linewidth=1)
left.text(16, 100 / 16 + 0.7, "if all were equal", ha="right", fontsize=9)
left.set(xlabel="axis, from the largest variance", ylim=(0, None), xticks=(1, 4, 8, 12, 16))
left.set_title("Share of the codebook's variance, %")
left.legend()
right.set(xlabel="effective dimensions of the codebook", xlim=(0, 18), xticks=(0, 4, 8, 12, 16), ylim=(21.9, 24))
right.set_title("Reconstruction, dB")
show(
    made,
    "Left, the share of variance along 16 axes for three codebooks of each kind, with a dashed line where all shares "
    "would be equal. Right, the reconstruction of unseen sprites in decibels over the effective dimensions: the "
    "whitened codebooks have more dimensions and a worse reconstruction.",
)

# %%
plain, whitened = (COLLAPSE.column(arm, "dimensions") for arm in COLLAPSE.arms)
decibels = difference(COLLAPSE.column("whitened", "psnr"), COLLAPSE.column("as it is", "psnr"), "seeds")
verdict(
    "vq-collapse",
    mean(plain, "seeds"),
    difference(plain, whitened, "seeds"),
    figures=f"Reconstruction of unseen sprites, whitened minus as it is: {with_interval(decibels, 2)} dB.",
)

# %% [markdown]
# Without whitening two axes have more than half of the variance, and the last eight about 1 %. With it, the codebook
# uses all sixteen, but the reconstruction is *worse*. A likely reason: 64 rows can lie close to all vectors that vary
# in six directions, but not in sixteen.
#
# ### Claim 4: “No ‘morphed’ outputs.”
#
# A *morph* is a picture between two subjects that is neither of them. The test: mix the encoder's outputs for two
# sprites of different subjects in 21 steps, and decode each mixture; in the VQ-VAE it passes through the layer first.
# Count the frames from 25 % to 75 % of the way that the judge calls “none”.
#
# A fair comparison needs equal numbers of bits. So the experiment trains a VAE with 64 numbers and keeps its KL
# divergence at $C=384$ bits, by the loss $\frac12\lVert x-\hat{x}\rVert^2+\lvert\text{KL}-C\rvert$ ([Burgess and others
# 2018](https://arxiv.org/abs/1804.03599)). A second pair of networks has 96 bits: 4 × 4 codes, and 16 numbers. Each of
# four seeds has 120 pairs of unseen sprites.
#
# First your own network:

# %%
mine, stored = measure_morphs(model, seed=0), MORPHS.column("VQ-VAE, 384 bits", "none")
print(f"called none: {mine['none']:.0%} of your frames; stored for the first seed: {stored[0]:.0%}")
first, second, _ = pairs_of_kinds(sprites(240, seed=FRESH, device=DEVICE)[0])
with torch.no_grad():
    ends = [model.encoder(some) for some in (first, second)]
    half, *words = (model.quantize(z_e).indices for z_e in (torch.lerp(*ends, 0.5), *ends))  # (120, 8, 8) each
third = ((half != words[0]) & (half != words[1])).float().mean().item()
print(f"half-way, {1 - third:.0%} of the cells hold a word of one of the two sprites, {third:.0%} hold a third word")

# %% tags=["folded"]
few = [0, 7, 14]  # pairs of different subjects
frames = frames_between(model, first[few], second[few], torch.linspace(0, 1, 9, device=DEVICE)).flatten(0, 1)
says = [(*SPRITES, "none")[number] for number in predicted_kinds(judge, frames).tolist()]
show(
    picture_grid(frames, 9, titles=says, inches=0.95),
    "Three rows of nine frames, each from one sprite to another through your VQ-VAE, with the judge's answer above "
    "each. In the middle of each row are mixtures of both.",
)

# %% tags=["folded"]
made, axes = figure(8.6, 2.9, 1, 2, sharey=True)
steps = torch.linspace(0, 100, 21).tolist()
for axis, bits in zip(axes, (96, 384), strict=True):
    for kind, colour in (("VAE", BLUE), ("VQ-VAE", VERMILION)):
        rows = [row["none along the way"] for row in MORPHS.results()[f"{kind}, {bits} bits"]]
        for row in rows:
            axis.plot(steps, [100 * share for share in row], color=colour, alpha=0.35, linewidth=0.9)
        axis.plot(steps, (100 * torch.tensor(rows).mean(0)).tolist(), color=colour, label=kind)
    axis.axvspan(25, 75, color="#E5E7EB", alpha=0.5, zorder=0)
    axis.set(xlabel="share of the second sprite, %", ylim=(-3, 103))
    axis.set_title(f"{bits} bits: frames called none, %")
axes[0].legend(loc="upper left")
show(
    made,
    "The share of frames that the judge calls none, on the way from one sprite to another, for VAE and VQ-VAE, left "
    "with 96 bits and right with 384 bits: thin lines for each of four seeds, thick ones for their mean.",
)

# %%
none = {arm: MORPHS.column(arm, "none") for arm in MORPHS.arms}
verdict(
    "vq-no-morphs",
    mean(none["VQ-VAE, 384 bits"], "seeds"),
    *(difference(none[f"VQ-VAE, {bits} bits"], none[f"VAE, {bits} bits"], "seeds") for bits in (384, 96)),
)

# %% [markdown]
# So the slide is right about words, but not about pictures. No cell holds a mixture of two words. But half-way most
# cells hold a third word, which neither sprite has there: the picture is a patchwork. With 384 bits the VQ-VAE even has
# more such frames than the VAE; with 96 bits the experiment shows no difference.
#
# ### Words drawn at random
#
# In DALL·E Mini a second network chooses the words. What does it have to know? Draw them at random first: all equally
# likely; as frequent as in this cell of 4,096 training sprites; or as frequent as after the word before.

# %%
with torch.no_grad():
    known = torch.cat([shipped.encode(some).indices for some in sprites(4096, seed=0, device=DEVICE)[0].split(256)])
torch.manual_seed(0)
tables = {
    "all words\nequally likely": torch.full((64, 65, 64), 1 / 64),
    "as frequent as\nin this cell": probability_table(known.flatten(1).cpu(), depends=False),
    "as frequent after\nthe word before": probability_table(known.flatten(1).cpu(), depends=True),
}
gibberish = torch.cat([sample_table(table, 9) for table in tables.values()]).to(DEVICE)  # (27, 8, 8)

# %% tags=["folded"]
show(
    picture_grid(shipped.decode_codes(gibberish).detach(), 9, rows=list(tables), inches=0.85),
    "Three rows of nine pictures from random words. Above, scraps of all colours everywhere. In the middle, scraps in "
    "the middle on plain paper. Below, larger pieces of one colour and of outlines, which do not fit together.",
)

# %% [markdown]
# No row shows a sprite. A word depends on more than the word before: the edge of a roof continues in the row below,
# eight words later.
#
# ### A prior over the codes
#
# In lesson 2c the prior was fixed, and the encoder adapted to it. Here encoder, codebook and decoder are finished, and
# a network learns to be the prior of their codes. It predicts each code from all codes before it, row by row:
#
# $$p(k_1,\dots,k_{64}) = \prod_{i=1}^{64} p(k_i\mid k_1,\dots,k_{i-1}).$$
#
# It is a small transformer, made of PyTorch's layers; lesson 3 builds them. Each cell collects information from the
# cells before it, and a mask hides those after it. The input is shifted by one: a cell gets the code *before* it, and
# the first cell a number for "no code yet".


# %%
@dataclass(frozen=True)
class PriorConfig:
    """Sizes of a prior."""

    codes: int = 64  # codes in the codebook
    side: int = 8  # cells along each side of the grid
    width: int = 96  # length of the vector that a cell has between the layers
    heads: int = 4  # attentions side by side in a layer
    layers: int = 2


# %%
class CodePrior(nn.Module):
    """A causal transformer: the probabilities of each code, given the codes of the cells before it, row by row."""

    def __init__(self, config: PriorConfig):
        super().__init__()
        self.config = config
        self.embed_codes = nn.Embedding(config.codes + 1, config.width)  # the last row stands for "no code yet"
        self.embed_cells = nn.Embedding(config.side**2, config.width)
        layer = nn.TransformerEncoderLayer(
            config.width, config.heads, 4 * config.width, dropout=0.0, activation="gelu", batch_first=True,
            norm_first=True,
        )  # fmt: skip
        self.layers = nn.TransformerEncoder(
            layer, config.layers, nn.LayerNorm(config.width), enable_nested_tensor=False
        )
        self.to_logits = nn.Linear(config.width, config.codes)

    def forward(self, codes: Tensor) -> Tensor:
        """Logits (n, s, codes) of the first s codes of n pictures, (n, s), each from the codes before it."""
        before = F.pad(codes[:, :-1], (1, 0), value=self.config.codes)  # each cell sees the code before it
        length = codes.shape[1]
        x = self.embed_codes(before) + self.embed_cells.weight[:length]  # (n, s, width)
        later = nn.Transformer.generate_square_subsequent_mask(length, device=codes.device)  # (s, s), −∞ above
        return self.to_logits(self.layers(x, later, is_causal=True))

    @torch.no_grad()
    def sample(self, n: int) -> Tensor:
        """Draws n grids (n, side, side), cell by cell, each code with the probability that the prior gives it."""
        side, device = self.config.side, self.to_logits.weight.device
        codes = torch.zeros(n, side**2, dtype=torch.long, device=device)
        for cell in range(side**2):
            logits = self(codes[:, : cell + 1])[:, cell]  # (n, codes)
            codes[:, cell] = logits.softmax(1).multinomial(1)[:, 0]
        return codes.reshape(n, side, side)


def prior_loss(prior: CodePrior, codes: Tensor) -> Tensor:
    """The mean of −log p(code | codes before it), in nats, over all cells of grids (n, side, side)."""
    rows = codes.flatten(1)  # (n, side²)
    return F.cross_entropy(prior(rows).flatten(0, 1), rows.flatten())


# %% [markdown]
# No cell may look ahead: if code 20 changes, the logits up to cell 20 must stay the same.

# %% tags=["checked"]
torch.manual_seed(0)
untrained, sentence = CodePrior(PriorConfig()).eval(), torch.randint(64, (1, 64))
changed = sentence.clone()
changed[0, 20] = (changed[0, 20] + 1) % 64
differ = (untrained(sentence) - untrained(changed)).abs().amax(2)[0] > 1e-6  # (64,)
print("first cell whose logits change:", int(differ.nonzero()[0]))
assert not differ[:21].any()

# %% [markdown]
# It is trained as a classifier: the right answer for each cell is its code.


# %% tags=["ignored"]
def fit_prior(codes: Tensor, steps: int = 600) -> tuple[CodePrior, list[float]]:
    """Train a prior on grids of codes (n, 8, 8); returns it in evaluation mode, and the loss of each step."""
    prior = CodePrior(PriorConfig()).to(codes.device)
    optimiser = torch.optim.AdamW(prior.parameters(), betas=(0.9, 0.98), weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=3e-3, total_steps=steps)
    losses = []
    for _ in tqdm(range(steps), desc="the prior"):
        loss = prior_loss(prior, codes[torch.randint(len(codes), (32,))])
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(prior.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        losses.append(loss.item())
    return prior.eval(), losses


torch.manual_seed(0)
prior, losses = fit_prior(known)

# %% tags=["folded"]
made, axis = figure(8.6, 3.0)
axis.plot([loss / log(2) for loss in losses], color=VERMILION)
bits = {arm: mean(PRIOR.column(arm, "bits"), "seeds").value / 64 for arm in PRIOR.arms}
for arm, colour in zip(PRIOR.arms[:3], (GREY, SKY, BLUE), strict=True):
    axis.axhline(bits[arm], color=colour, linestyle="--", linewidth=1.4)
    axis.text(598, bits[arm] + 0.12, arm, ha="right", color=INK, fontsize=9)
axis.text(598, losses[-1] / log(2) + 0.3, "the prior, while it learns", ha="right", color=VERMILION, fontsize=9)
axis.set(xlabel="step", xlim=(0, 600), ylim=(0, 6.9))
axis.set_title("Bits that a code costs")
show(
    made,
    "A falling curve: the loss of the prior begins above 6 bits a code and ends below one bit. Dashed lines mark the "
    "random tables: 6 bits if all codes are equally likely, between 3 and 4 with the frequencies of each cell, below 2 "
    "with one code before.",
)

# %% [markdown]
# The dashed lines are the stored costs of unseen sprites under the three random choices. If all codes are equally
# likely, a code takes $\log_2 64=6$ bits. Under the prior it takes less than one, because most codes can be predicted
# from those before.

# %% tags=["ignored"]
written_codes = prior.sample(240)  # (240, 8, 8)
with torch.no_grad():
    generated = shipped.decode_codes(written_codes)
seen = predicted_kinds(judge, generated)
print(f"the judge recognises a subject in {(seen != len(SPRITES)).float().mean():.0%} of 240")

# %% tags=["ignored", "folded"]
unlike, closest = nearest_grids(written_codes[:10].cpu(), known.cpu())
with torch.no_grad():
    similar = shipped.decode_codes(known[closest.to(DEVICE)])
show(
    picture_grid(
        torch.cat([generated[10:30], generated[:10], similar]), 10,
        titles=[""] * 30 + [f"{number} differ" for number in unlike.tolist()],
        rows=["", "generated", "", "most similar\nin training"], inches=0.82,
    ),
    "Thirty pictures from codes that the prior has written: cars, stars, mushrooms, houses, strawberries and cats in "
    "five colours, most of them whole, some with parts of two things. Under the last ten, the training sprites with "
    "the most similar codes, and in how many of the 64 cells they differ.",
)  # fmt: skip

# %% [markdown]
# All six kinds occur. Many pictures are whole, others combine colours or parts of two subjects: after an unlikely code,
# the following ones have to continue from there.
#
# ### Claim 5: the prior generates
#
# The experiment has three seeds with 480 samples each. The rule was fixed before: the judge must recognise more than
# half of the prior's samples, and more than with the frequencies of each cell; and the effective number of kinds (their
# perplexity) must be above five of six.

# %%
recognised = {arm: PRIOR.column(arm, "recognised") for arm in PRIOR.arms}
median = {name: mean(PRIOR.column("a prior", name), "seeds").value for name in PRIOR.results()["a prior"][0]}
verdict(
    "vq-prior",
    mean(recognised["a prior"], "seeds"),
    difference(recognised["a prior"], recognised["frequencies of each cell"], "seeds"),
    mean(PRIOR.column("a prior", "kinds"), "seeds"),
    figures=f"Recognised with one code before: {100 * mean(recognised['one code before'], 'seeds').value:.1f} %. Bits "
    f"of an unseen sprite's codes: {with_interval(mean(PRIOR.column('a prior', 'bits'), 'seeds'))}. Cells of 64 unlike "
    f"the most similar training sprite, median: {median['cells unlike the nearest']:.0f} for the samples, "
    f"{median['of unseen sprites']:.0f} for sprites that are not in the training.",
)

# %% [markdown]
# The generated sprites are not copies. Painted sprites outside the training are even *closer* to it, because sprites of
# one kind and colour are all alike.
#
# In DALL·E Mini the network that writes the codes also reads your prompt. It is BART, which lesson 3 builds.

# %% [markdown]
# ## 7 · Your turn
#
# Write your answer above each check, run it, then run the check.

# %% [markdown]
# ### Exercise 2d.1 · The length of a sentence (★☆☆, 3 minutes)
#
# How many bits does it take to store the codes of a picture, for a grid of `side` × `side` cells and a codebook of
# `codes` rows? Compare our 8 × 8 cells with 64 codes to DALL·E Mini's 16 × 16 cells with 16,384 codes.


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
    return side**2 * log2(codes)


# %% [markdown]
# ### Exercise 2d.2 · How many words is that worth? (★★☆, 5 minutes)
#
# Of eight rows, the first is chosen half of the time, the second a quarter, the third and the fourth an eighth each.
# The others are dead. Guess the perplexity: is it nearer to 2, 4 or 8? Then compute it to two decimals.

# %% tags=["stub"]
perplexity = None

# %% tags=["checked"]
check("2d.2", perplexity)

# %% [markdown] tags=["hint"]
# The dead rows have $p=0$ and add nothing. Write the sum of step 5 with the four others.

# %% [markdown] tags=["hint"]
# With logarithms to base 2 the entropy is $\frac12\cdot1+\frac14\cdot2+2\cdot\frac18\cdot3$ bits. The last step is the
# exponential, with the same base.

# %% tags=["solution"]
perplexity = 2 ** (1 / 2 * 1 + 1 / 4 * 2 + 2 * 1 / 8 * 3)  # 2^1.75 = 3.36

# %% [markdown]
# ### Exercise 2d.3 · Mend the layer (★★☆, 8 minutes)
#
# A colleague rewrote the layer. It runs and the shapes are right, but the network learns nothing. Write the function
# without its three mistakes.
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
# Does the first row of `vectors` hold the numbers of one cell? Which row of the codebook should a cell get? And what is
# the derivative of `z_e + (z_q - z_e)` with respect to `z_e`?

# %% [markdown] tags=["hint"]
# `reshape` does not change the order of the numbers, so first make the channels the last axis: `permute(0, 2, 3, 1)`.
# In the last line the difference `z_q - z_e` must be a constant for the gradient.


# %% tags=["solution"]
def quantise(z_e: Tensor, codebook: Tensor) -> tuple[Tensor, Tensor]:
    n, c, h, w = z_e.shape
    vectors = z_e.permute(0, 2, 3, 1).reshape(-1, c)  # (n·h·w, c)
    indices = torch.cdist(vectors, codebook).argmin(1)  # (n·h·w,)
    z_q = codebook[indices].reshape(n, h, w, c).permute(0, 3, 1, 2)  # (n, c, h, w)
    return z_q.detach() + (z_e - z_e.detach()), indices.reshape(n, h, w)


# %% [markdown]
# ### Exercise 2d.4 · Two words for a cell (★★★, 10 minutes)
#
# Two codebooks of 64 rows have as many combinations as one of 4,096. Quantise vectors with the first codebook and *the
# remainder* with the second, and return the sum of both rows.


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
    roughly = first[nearest_codes(vectors, first)]  # (m, width)
    remainder = vectors - roughly
    return roughly + second[nearest_codes(remainder, second)]


# %% [markdown]
# ## 8 · What we have, what is missing
#
# - A picture is now a sentence: 64 words from a codebook of 64 rows.
# - The layer chooses the nearest row and copies the gradient straight through. The codebook is a moving average; unused
#   rows are restarted.
# - A word describes a patch, not an object, and depends on its neighbours.
# - A prior, trained on the finished codes, writes new sentences. Lesson 3 builds one that reads a caption.
# - What is missing: sharp pictures. Where 64 words do not determine a pixel, the average has the smallest loss. The
#   next lesson adds a discriminator.

# %% [markdown] tags=["quiz"]
# **1.** Why does the layer need a trick for its gradient?
# - [ ] The codebook is too large for backpropagation — with two rows the problem is the same.
# - [x] A small step of the vector leaves its nearest row the same — so the true gradient is zero almost everywhere.
# - [ ] The root in the distance has an infinite slope at zero — the code leaves it out.

# %% [markdown] tags=["quiz"]
# **2.** What does the commitment loss do?
# - [x] It moves the encoder's vectors towards their nearest rows — the stop-gradient keeps the rows fixed.
# - [ ] It moves the rows towards the vectors — that is the codebook term, or the moving average.
# - [ ] It makes all rows equally frequent — the loss does not ask for that.

# %% [markdown] tags=["quiz"]
# **3.** A codebook has 1,024 rows, all are in use, and the perplexity is 40. What follows?
# - [ ] 984 rows are dead — a dead row is never chosen.
# - [ ] The decoder draws only 40 different pictures — the many cells of a picture have far more combinations.
# - [x] The codes carry as much information as 40 equally frequent ones — a few rows are used most of the time.

# %% [markdown] tags=["quiz"]
# **4.** Why does a row without assigned vectors stay where it is?
# - [x] Only its assigned vectors move a row — in the moving average as in the codebook term.
# - [ ] The decay keeps it there — count and sum shrink by the same factor; their quotient stays the same.
# - [ ] The straight-through gradient points away from it — that gradient does not reach the codebook.

# %% [markdown] tags=["quiz"]
# **5.** Each cell gets a word with the frequencies that words have there. Why does the decoder draw no sprite?
# - [ ] It has not been trained on these words — all of them occur there in training sprites.
# - [x] The words are drawn independently — in a sprite, as in the prior's sentences, they depend on each other.
# - [ ] 64 words are too few — they draw every sprite of this lesson.
