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
# # 2b · The autoencoder
#
# A sprite has 3,072 numbers. In this lesson a network compresses it to two numbers, and draws it again from those two.
# Two numbers are a point on a plane, so you can plot every sprite as a point on a map. Then you decode points on which
# no sprite lies, and see what the network draws there.

# %%
import math
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from atelier.evaluation.intervals import difference, difference_of_groups, share
from atelier.teaching import (
    BLUE,
    COLOURS,
    GREY,
    INK,
    ORANGE,
    SKY,
    check,
    explore,
    figure,
    lesson_header,
    picture_grid,
    show,
    slider,
    verdict,
)
from atelier.teaching.experiments.lesson_2c import latent_size_figure, normal_fit, train
from atelier.weights.sprites import load_sprite_model
from atelier.world import SPRITES, sprites
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, Polygon
from matplotlib.patheffects import withStroke
from torch import Tensor, nn
from tqdm.auto import tqdm

# %% [markdown]
# ## 1 · Where we are

# %%
lesson_header("2b")

# %% [markdown]
# In the last lesson a GAN learned to make pictures out of random numbers. But you cannot ask it for a particular
# picture: you do not know which latent vector gives a blue car. The GAN maps numbers to pictures, but not pictures to
# numbers.
#
# This lesson does both. One half of the network turns a picture into a few numbers, the other half turns the numbers
# back into the picture. There is no opponent: the training target is the input picture itself.
#
# These are the pictures: six kinds of object, each in up to five colours, with small changes in position and size.

# %%
pictures, kinds = sprites(1800, seed=0)  # (n, 3, 32, 32) from 0 to 1, and (n,): which of SPRITES each one shows
assert pictures.shape == (1800, 3, 32, 32)
show(
    picture_grid(pictures[:24], columns=12, inches=0.7),
    "24 sprites: strawberries, mushrooms, cars, houses, cats, stars",
)

# %% [markdown]
# ## 2 · The idea
#
# An **autoencoder** is a network that is trained to output its own input. That would be easy, and useless, if the
# network could simply copy the picture. So it has a **bottleneck**: a layer in the middle with only a few numbers. To
# reconstruct the picture, the network has to describe it in those few numbers.
#
# The half before the bottleneck is the **encoder**, the half behind it the **decoder**. Here is the slide's figure,
# drawn with a real sprite and its reconstruction by a trained autoencoder.

# %% tags=["folded"]
shipped = load_sprite_model("autoencoder").requires_grad_(False)


def draw_autoencoder(picture: Tensor, reconstruction: Tensor) -> None:
    """Draw the way of one picture (3, 32, 32) through encoder, latent and decoder."""
    drawn, axis = figure(9, 2.9)
    axis.set(xlim=(0, 9), ylim=(-0.55, 2.35), aspect="equal")
    axis.axis("off")
    for left, pixels in ((0.05, picture), (7.25, reconstruction)):
        axis.imshow(pixels.permute(1, 2, 0), extent=(left, left + 1.7, 0.4, 2.1))
    axis.add_patch(Polygon([(2.0, 0.3), (2.0, 2.2), (3.7, 1.6), (3.7, 0.9)], facecolor="#E8F1F8", edgecolor=BLUE))
    axis.add_patch(Polygon([(7.0, 0.3), (7.0, 2.2), (5.3, 1.6), (5.3, 0.9)], facecolor="#E8F1F8", edgecolor=BLUE))
    for height in (1.0, 1.5):
        axis.plot(4.5, height, "o", markersize=17, color=ORANGE, markeredgecolor=INK)
    for start in (3.75, 4.75):
        axis.add_patch(FancyArrowPatch((start, 1.25), (start + 0.5, 1.25), arrowstyle="-|>", mutation_scale=11))
    words = {2.75: "encoder $e_θ$", 6.25: "decoder $d_φ$"}
    for x, text in words.items():
        axis.text(x, 1.25, text, ha="center", va="center", fontsize=11)
    below = {0.9: "$x$: 3,072 numbers", 4.5: "$z$: 2 numbers", 8.1: "$\\hat{x}$: 3,072 numbers"}
    for x, text in below.items():
        axis.text(x, 0.22, text, ha="center", va="top", fontsize=10)
    axis.annotate("", (8.1, -0.2), (0.9, -0.2), arrowprops={"arrowstyle": "<->", "color": GREY})
    axis.text(4.5, -0.26, r"how far apart?  $\|x - \hat{x}\|_2$", ha="center", va="top", fontsize=11)
    show(drawn, "A strawberry enters an encoder, passes as two numbers, and a decoder draws it again, a little blurred")


draw_autoencoder(pictures[0], shipped(pictures[:1])[0])

# %% [markdown]
# The slide writes it in one line:
#
# $$loss = \|x - \hat{x}\|_2 = \|x - d_\phi(z)\|_2 = \|x - d_\phi(e_\theta(x))\|_2$$
#
# | symbol | what it is | shape |
# |---|---|---|
# | $x$ | the picture | (3, 32, 32), from 0 to 1 |
# | $e_\theta$ | the encoder, with its weights $\theta$ | (3, 32, 32) → (2,) |
# | $z = e_\theta(x)$ | the picture's latent vector, the output of the encoder | (2,) |
# | $d_\phi$ | the decoder, with its weights $\phi$ | (2,) → (3, 32, 32) |
# | $\hat{x} = d_\phi(z)$ | the **reconstruction**: the output of the decoder | (3, 32, 32), from 0 to 1 |
# | $\lVert\cdot\rVert_2$ | the length of a vector: the root of the sum of its squares | one number |
#
# The distance between picture and reconstruction is the **reconstruction loss**. Training changes $\theta$ and $\phi$
# together to make it small. No labels are needed: the training data do not say which picture shows a strawberry.
#
# The set of all values that $z$ can take is the **latent space**. Ours has two axes, so we can draw it. Larger models
# have hundreds of axes. What you will see on the plane happens there too, but it cannot be drawn.
#
# In 2006 [Hinton and Salakhutdinov](https://doi.org/10.1126/science.1127647) trained deep autoencoders and plotted
# pictures of digits as points on a plane, as you will do here with sprites.

# %% [markdown]
# ## 3 · Build it
#
# The first cell defines the shape of the network. The encoder halves the side of the picture several times. Each
# halving is a level.


# %%
@dataclass(frozen=True)
class ConvConfig:
    """Shape of a convolutional encoder and of the decoder that mirrors it."""

    size: int = 32  # pixels along a side of the pictures
    width: int = 32  # channels of the first level; the others have twice as many
    levels: int = 3  # how many times the encoder halves the picture

    def __post_init__(self):
        if self.size % 2**self.levels:
            raise ValueError(f"{self.size} pixels cannot be halved {self.levels} times: give fewer levels.")

    @property
    def widths(self) -> list[int]:
        """Channels of each level, from half the picture's side down."""
        return [self.width] + [2 * self.width] * (self.levels - 1)

    @property
    def map_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of the map between encoder and decoder, (C, side, side)."""
        side = self.size // 2**self.levels
        return self.widths[-1], side, side


@dataclass(frozen=True)
class AutoencoderConfig(ConvConfig):
    """Shape of an autoencoder: a ConvConfig, and its bottleneck."""

    latent: int = 2  # how many numbers a picture has to pass through


# %% tags=["checked"]
config = AutoencoderConfig()
print("channels of the levels:", config.widths)
print("map after the last level:", config.map_shape)
try:
    AutoencoderConfig(size=36)
except ValueError as fault:
    print("error for a wrong size:", fault)

# %% [markdown]
# The next cell defines the encoder's convolutions. The output of a convolution is again a grid of cells, with more
# numbers in each cell than the three of a pixel. Such a grid is a **feature map**.
#
# A stride of 2 halves the sides of the map. Batch normalisation keeps the numbers of each channel at mean 0 and
# standard deviation 1 over the batch, which makes training faster. The leaky ReLU leaves positive numbers as they are
# and multiplies negative ones by 0.2.


# %%
class ConvEncoder(nn.Sequential):
    """Pictures (n, 3, size, size), from 0 to 1, to maps (n, C, side, side)."""

    def __init__(self, config: ConvConfig):
        super().__init__()
        for inputs, outputs in pairwise([3, *config.widths]):
            self.append(nn.Conv2d(inputs, outputs, 4, stride=2, padding=1))  # halves the map
            self.extend([nn.BatchNorm2d(outputs), nn.LeakyReLU(0.2)])


# %% tags=["checked"]
torch.manual_seed(0)
conv_encoder = ConvEncoder(config)
h = pictures[:8]
print(f"{'picture':<12}", tuple(h.shape))
for layer in conv_encoder:
    h = layer(h)
    if isinstance(layer, nn.Conv2d):
        print(f"{'convolution':<12}", tuple(h.shape))
assert h.shape[1:] == config.map_shape

# %% [markdown]
# The decoder does the reverse. A transposed convolution, as in the GAN, spreads each cell of a small map over several
# cells of a larger one, and doubles its sides. Its kernel of 4 is a multiple of its stride of 2, so the patches overlap
# evenly, and the cause of checkerboard patterns that lesson 2a names does not arise. At the end a sigmoid brings every
# number between 0 and 1.


# %%
class ConvDecoder(nn.Sequential):
    """Maps (n, C, side, side) to pictures (n, 3, size, size), from 0 to 1."""

    def __init__(self, config: ConvConfig):
        super().__init__()
        for inputs, outputs in pairwise([*reversed(config.widths), 3]):
            self.extend([nn.BatchNorm2d(inputs), nn.LeakyReLU(0.2)])
            self.append(nn.ConvTranspose2d(inputs, outputs, 4, stride=2, padding=1))  # doubles the map
        self.append(nn.Sigmoid())


# %% tags=["checked"]
conv_decoder = ConvDecoder(config)
drawn = conv_decoder(h)  # (8, 64, 4, 4) → (8, 3, 32, 32)
print(tuple(h.shape), "→", tuple(drawn.shape))
assert 0 < drawn.min() < drawn.max() < 1

# %% [markdown]
# The map between the two still has 64 · 4 · 4 = 1,024 numbers. The next two functions make the bottleneck: from the map
# to a few numbers, and from these to a map again.
#
# The first is one linear layer. The second has an additional hidden layer, which makes it nonlinear. So two points
# close to each other can become very different pictures. Section 5 shows how much the network uses this.


# %%
def map_to_numbers(config: ConvConfig, numbers: int) -> nn.Sequential:
    """A layer from maps (n, C, side, side) to (n, numbers)."""
    return nn.Sequential(nn.Flatten(), nn.Linear(math.prod(config.map_shape), numbers))


def numbers_to_map(config: ConvConfig, numbers: int, hidden: int = 64) -> nn.Sequential:
    """Layers from (n, numbers) to maps (n, C, side, side); the hidden one lets neighbours become different things."""
    unfold = nn.Linear(hidden, math.prod(config.map_shape))
    return nn.Sequential(nn.Linear(numbers, hidden), nn.ReLU(), unfold, nn.Unflatten(1, config.map_shape))


# %% tags=["checked"]
z = map_to_numbers(config, 2)(h)  # (8, 64, 4, 4) → (8, 2)
back = numbers_to_map(config, 2)(z)  # (8, 2) → (8, 64, 4, 4)
print(tuple(h.shape), "→", tuple(z.shape), "→", tuple(back.shape))

# %% [markdown]
# Together these parts make the whole autoencoder. `encode` is the slide's $e_\theta$, `decode` its $d_\phi$, and
# `forward` is $d_\phi(e_\theta(x))$.


# %%
class Autoencoder(nn.Module):
    """Encoder e_θ, a latent space of a few numbers, decoder d_φ: x̂ = d_φ(e_θ(x))."""

    def __init__(self, config: AutoencoderConfig):
        super().__init__()
        self.config = config
        self.encoder = nn.Sequential(ConvEncoder(config), map_to_numbers(config, config.latent))
        self.decoder = nn.Sequential(numbers_to_map(config, config.latent), ConvDecoder(config))

    def encode(self, pictures: Tensor) -> Tensor:
        """Pictures (n, 3, size, size), from 0 to 1, to their latents z (n, latent)."""
        return self.encoder(pictures)

    def decode(self, z: Tensor) -> Tensor:
        """Latents z (n, latent) to pictures (n, 3, size, size), from 0 to 1."""
        return self.decoder(z)

    def forward(self, pictures: Tensor) -> Tensor:
        """Pictures (n, 3, size, size) to their reconstructions."""
        return self.decode(self.encode(pictures))


# %% tags=["checked"]
untrained = Autoencoder(config)
x = pictures[:8]
z, x_hat = untrained.encode(x), untrained(x)
print("x", tuple(x.shape), "→ z", tuple(z.shape), "→ x̂", tuple(x_hat.shape))
print(f"{x[0].numel():,} numbers become {z[0].numel()}: one for every {x[0].numel() // z[0].numel():,}")
print(f"{sum(weights.numel() for weights in untrained.parameters()):,} weights")

# %% [markdown]
# The last part is the loss. Write a picture as one long vector, a point in a space with 3,072 axes. The loss of one
# picture is its distance to its reconstruction. The loss of a batch is the mean of these distances.


# %%
def reconstruction_loss(pictures: Tensor, reconstructions: Tensor) -> Tensor:
    """The mean over n of ‖x − x̂‖₂, the distance of two pictures (n, 3, H, W) as points in a space of 3·H·W axes."""
    return (pictures - reconstructions).flatten(1).norm(dim=1).mean()


# %% [markdown]
# For comparison: a black picture and a white one differ by 1 in each of 3,072 numbers. Their distance is $\sqrt{3072}
# \approx 55.4$, the largest possible.

# %% tags=["checked"]
black, white = torch.zeros(1, 3, 32, 32), torch.ones(1, 3, 32, 32)
print(f"black and white: {reconstruction_loss(black, white):.2f}")
print(f"black and mid-grey: {reconstruction_loss(black, white / 2):.2f}")
print(f"a picture and itself: {reconstruction_loss(white, white):.2f}")

# %% [markdown]
# The next cell makes three checks. PyTorch's own vector norm gives the same loss. The encoder's layers, written out as
# formulas with the same weights, give the same map. And the number of weights counted by hand is the number that
# PyTorch counts: a convolution has $16 \cdot in \cdot out$ weights and $out$ offsets, a batch normalisation $2\,out$.

# %% tags=["checked"]
assert torch.allclose(reconstruction_loss(x, x_hat), torch.linalg.vector_norm(x - x_hat, dim=(1, 2, 3)).mean())

by_hand = x
for layer in conv_encoder:
    if isinstance(layer, nn.Conv2d):
        by_hand = F.conv2d(by_hand, layer.weight, layer.bias, stride=2, padding=1)
    if isinstance(layer, nn.BatchNorm2d):
        mean = by_hand.mean((0, 2, 3), keepdim=True)  # (1, C, 1, 1): of each channel, over the batch and the map
        variance = (by_hand - mean).square().mean((0, 2, 3), keepdim=True)
        scale, offset = layer.weight[:, None, None], layer.bias[:, None, None]
        by_hand = (by_hand - mean) / (variance + layer.eps).sqrt() * scale + offset
    if isinstance(layer, nn.LeakyReLU):
        by_hand = torch.where(by_hand > 0, by_hand, 0.2 * by_hand)
assert torch.allclose(by_hand, conv_encoder(x), atol=1e-5)

counted = sum(16 * inputs * outputs + outputs + 2 * outputs for inputs, outputs in ((3, 32), (32, 64), (64, 64)))
assert counted == sum(weights.numel() for weights in conv_encoder.parameters())
print(f"the same loss, the same map, the same {counted:,} weights")

# %% [markdown]
# ## 4 · Train it
#
# The training loop is short: reconstruct a batch of pictures, compute the loss, take a step. We keep 600 sprites aside
# that are not used for training. After some of the steps we store their latents, to see where the encoder puts them on
# the plane.

# %% tags=["ignored"]
STEPS, BATCH = 700, 64
SNAPSHOTS = (10, 60, 200, 700)
device = "cuda" if torch.cuda.is_available() else "cpu"
fresh, fresh_kinds = sprites(600, seed=1)

torch.manual_seed(0)
live = Autoencoder(config).to(device)
optimiser = torch.optim.Adam(live.parameters())
schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=4e-3, total_steps=STEPS)
losses, planes = [], {}
for step in tqdm(range(1, STEPS + 1)):
    batch = pictures[torch.randint(len(pictures), (BATCH,))].to(device)
    loss = reconstruction_loss(batch, live(batch))
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()
    schedule.step()
    losses.append(loss.item())
    if step in SNAPSHOTS:
        live.eval()
        planes[step] = live.encode(fresh.to(device)).detach().cpu()  # (600, 2)
        live.train()
live = live.cpu().eval().requires_grad_(False)

# %% [markdown]
# Is this a good loss? Compare it with two simple baselines that also describe a picture with at most two numbers.
#
# - The mean picture, drawn for every sprite: it uses no numbers at all.
# - Principal component analysis, a *linear* encoder and decoder with two numbers (exercise 2b.4).

# %% tags=["folded"]
flat = pictures.flatten(1)  # (1800, 3072)
middle = flat.mean(0)
axes = torch.pca_lowrank(flat, q=2, niter=4)[2]  # (3072, 2)
linear = middle + (fresh.flatten(1) - middle) @ axes @ axes.T
rivals = {
    "the mean picture": reconstruction_loss(fresh, middle.view(3, 32, 32).expand_as(fresh)).item(),
    "two numbers, linear": reconstruction_loss(fresh, linear.view_as(fresh)).item(),
}
ours = reconstruction_loss(fresh, live(fresh)).item()
assert ours < 0.75 * min(rivals.values())

drawn, axis = figure(8, 2.8)
axis.plot(range(1, STEPS + 1), losses, color=BLUE, linewidth=1)
for name, distance in rivals.items():
    axis.axhline(distance, color=GREY, linestyle="--")
    axis.text(STEPS, distance + 0.15, f"{name}: {distance:.1f}", ha="right", va="bottom", color="#4B5563", fontsize=9)
axis.text(
    STEPS, losses[-1] - 0.7, f"two numbers, this network, new sprites: {ours:.1f}", ha="right", va="top", color=BLUE
)
axis.set(xlabel="step", ylabel="mean ‖x − x̂‖₂", ylim=(0, max(losses) + 1))
show(drawn, "The loss falls steeply at first and ends well below the mean picture's and the linear baseline's")

# %% [markdown]
# Now look at the plane at four moments of the training. Each dot is one of the 600 sprites that were kept aside. Its
# colour shows its kind, which was not used in training.


# %%
def draw_plane(axis: Axes, latents: Tensor, kinds: Tensor, size: float = 6, names: bool = True) -> None:
    """Latents (n, 2) as dots, one colour for each kind, named in the middle of its dots."""
    for kind, (name, colour) in enumerate(zip(SPRITES, COLOURS, strict=False)):
        mine = latents[kinds == kind]
        axis.scatter(mine[:, 0], mine[:, 1], s=size, color=colour, linewidths=0)
        if names:
            x, y = mine.mean(0).tolist()
            outline = [withStroke(linewidth=3, foreground="white")]
            axis.text(x, y, name, ha="center", va="center", weight="bold", fontsize=9, path_effects=outline)
    axis.set(xlabel="$z_1$", ylabel="$z_2$")


drawn, panels = figure(10.5, 2.9, columns=len(SNAPSHOTS))
for axis, (step, latents) in zip(panels, planes.items(), strict=True):
    draw_plane(axis, latents, fresh_kinds, size=3, names=step == STEPS)
    axis.set_title(f"after {step} steps", fontsize=10)
show(drawn, "The latent plane at four moments: a tangle of dots comes apart into six separate fans, one for each kind")

# %% [markdown]
# At first the kinds are mixed. Sprites that look alike can have almost the same numbers, sprites that look different
# cannot, so the kinds separate. A group of points that lie close to each other and away from the rest is a **cluster**.
# The loss does not ask for clusters. They appear because they are a good way to describe these pictures with two
# numbers.
#
# How good are the reconstructions? Below are sprites that were not used in training, and their reconstructions by your
# network and by the shipped one, which is a little narrower and was trained for longer.

# %%
some = fresh[:12]
rows = ["sprite", "yours", "shipped"]
show(
    picture_grid(torch.cat([some, live(some), shipped(some)]), columns=12, rows=rows, inches=0.75),
    "Twelve sprites, their reconstructions by the network just trained, and those by the shipped network",
)
print(f"yours {ours:.1f}, shipped {reconstruction_loss(fresh, shipped(fresh)):.1f} away on average")

# %% [markdown]
# The kind is nearly always right, the colour most of the time. The exact position and the finer detail are lost: two
# numbers for kind, colour, position and size leave no room for them. Where the two numbers do not determine the
# picture, the decoder draws an average of the possible pictures, and the average of several outlines is blurred. You
# will see this blur again in every lesson up to the VQ-GAN.

# %% [markdown]
# ## 5 · Look inside
#
# Until now the decoder got points from the encoder. But it can decode *any* two numbers. So decode the whole plane: one
# picture for each cell of a grid.
#
# From here on we use the shipped network, so that the text matches what you see.

# %%
fresh_z = shipped.encode(fresh)  # (600, 2)
low, high = fresh_z.amin(0), fresh_z.amax(0)
corner, far_corner = low - 0.08 * (high - low), high + 0.08 * (high - low)
TILES, PIXELS = 12, 24  # the grid of pictures, and the side to which each is shrunk


def lattice(start: Tensor, end: Tensor, side: int) -> Tensor:
    """The middles (side·side, 2) of the cells of a grid from start (2,) to end (2,), row by row from below."""
    across, up = (start[i] + (end[i] - start[i]) * (torch.arange(side) + 0.5) / side for i in (0, 1))
    return torch.stack([across.repeat(side), up.repeat_interleave(side)], dim=1)


tiles = shipped.decode(lattice(corner, far_corner, TILES))  # (144, 3, 32, 32)
tiles = F.interpolate(tiles, size=PIXELS, mode="area").view(TILES, TILES, 3, PIXELS, PIXELS).flip(0)  # rows from above
world = tiles.permute(0, 3, 1, 4, 2).reshape(TILES * PIXELS, TILES * PIXELS, 3)
extent = [corner[0].item(), far_corner[0].item(), corner[1].item(), far_corner[1].item()]

drawn, (left, right) = figure(10.5, 5.2, columns=2, sharex=True, sharey=True)
draw_plane(left, fresh_z, fresh_kinds)
right.imshow(world, extent=extent, aspect="auto", interpolation="nearest")
right.grid(False)
right.set(xlabel="$z_1$")
left.set_title("where the encoder puts the sprites", fontsize=10)
right.set_title("what the decoder draws there", fontsize=10)
show(drawn, "Left: the plane with six fans of dots. Right: the same plane as a sheet of 144 decoded pictures")

# %% [markdown]
# This is the most important figure of the lesson.
#
# - Each kind has a region of its own. Small steps inside the region of the houses still give houses.
# - Within a region the colours lie in stripes. Between two stripes the decoder mixes the colours: it draws an olive or
#   a yellow that no sprite has.
# - At the borders the pictures are mixtures, for example half a cat and half a car.
# - The loss does not determine where the regions lie. They are not round, and they differ in size. The point (0, 0)
#   lies near the place where all regions meet. If you had only the decoder, you would not know which numbers to give
#   it.
#
# Explore the plane yourself: move the two sliders. The judge, a small classifier for the six kinds and "none", says
# what the picture shows.

# %%
judge = load_sprite_model("judge").requires_grad_(False)
NAMES = (*SPRITES, "none")
assert judge.config.attributes["kind"] == NAMES


def walk_to(z_1: float, z_2: float) -> tuple[Figure, str]:
    """The plane with a point marked, and what the decoder draws there."""
    picture = shipped.decode(torch.tensor([[z_1, z_2]]))  # (1, 3, 32, 32)
    probability, kind = judge(picture)["kind"].softmax(1)[0].max(0)
    said = f"{NAMES[int(kind)]}, {probability:.0%} sure"
    drawn, (left, right) = figure(7.5, 3.5, columns=2)
    draw_plane(left, fresh_z, fresh_kinds, names=False)
    left.plot(z_1, z_2, "X", markersize=12, color=INK, markeredgecolor="white")
    right.imshow(picture[0].permute(1, 2, 0))
    right.axis("off")
    right.set_title(f"the judge: {said}", fontsize=10)
    return drawn, f"The latent plane with a mark at ({z_1:.1f}, {z_2:.1f}), and the picture decoded there: {said}"


(left_end, bottom), (right_end, top) = corner.tolist(), far_corner.tolist()
middle = fresh_z[fresh_kinds == 0].mean(0)  # of the strawberries
start = fresh_z[(fresh_z - middle).norm(dim=1).argmin()].tolist()
explore(
    walk_to,
    z_1=slider(math.floor(left_end), math.ceil(right_end), round(start[0], 1), 0.1, "z₁"),
    z_2=slider(math.floor(bottom), math.ceil(top), round(start[1], 1), 0.1, "z₂"),
)

# %% [markdown]
# ## 6 · Break it
#
# The slides say two things about the autoencoder. The first is a definition, the second is a claim that you can test.
#
# ### The loss
#
# > $loss = \|x - \hat{x}\|_2 = \|x - d_\phi(z)\|_2 = \|x - d_\phi(e_\theta(x))\|_2$
#
# These are three ways to write one number: $\hat{x}$ is defined as $d_\phi(z)$, and $z$ as $e_\theta(x)$. There is
# nothing to test. But it is worth seeing what the number means. Here are sprites from the best reconstructed to the
# worst, at equal intervals, with their distances.

# %%
x = fresh
distance = (x - shipped(x)).flatten(1).norm(dim=1)  # (600,)
order = distance.argsort()[torch.linspace(0, len(x) - 1, 10).long()]
trio = torch.cat([x[order], shipped(x[order]), (x - shipped(x))[order].abs()])
titles = [f"{one:.1f}" for one in distance[order]]
show(
    picture_grid(trio, columns=10, titles=titles, rows=["x", "x̂", "|x − x̂|"], inches=0.78),
    "Ten sprites from the best reconstructed to the worst, their reconstructions, and the absolute differences",
)
verdict(
    "ae-loss",
    figures=f"The mean distance of {len(x)} new sprites is {distance.mean():.2f}, the largest {distance.max():.2f}; "
    "black and white are 55.43 apart.",
)

# %% [markdown]
# Many autoencoders use the *squared* distance instead. What would change? Compare the *pull* of each picture on the
# network: the length of the gradient of the loss with respect to its reconstruction. The gradient of a distance has the
# length 1, however large the distance is. The gradient of a squared distance has twice the distance as its length.


# %% tags=["folded"]
def pulls(loss_of_each: Tensor, reconstructions: Tensor) -> Tensor:
    """The length (n,) of the gradient of each picture's loss with respect to its reconstruction."""
    (gradient,) = torch.autograd.grad(loss_of_each.sum(), reconstructions)
    return gradient.flatten(1).norm(dim=1)


x_hat = shipped(x).requires_grad_()
distance = (x - x_hat).flatten(1).norm(dim=1)  # now with a gradient
plain_pull, squared_pull = pulls(distance, x_hat), pulls((x - x_hat).square().sum((1, 2, 3)), x_hat)
worst = distance.argsort()[-60:]  # the worst tenth
shares = [100 * (pull[worst].sum() / pull.sum()).item() for pull in (plain_pull, squared_pull)]
assert torch.allclose(plain_pull, torch.ones(len(x)), atol=1e-4)

drawn, axis = figure(7, 2.6)
distances = distance.detach()
axis.scatter(distances, squared_pull, s=8, color=ORANGE)
axis.scatter(distances, plain_pull, s=8, color=BLUE)
edge = distances.max().item() * 1.02
axis.text(
    edge, squared_pull.max(), f"‖x − x̂‖²: worst tenth, {shares[1]:.0f} % of the pull", color="#9A6700", va="center"
)
axis.text(edge, 1, f"‖x − x̂‖: worst tenth, {shares[0]:.0f} % of the pull", color=BLUE, va="center")
axis.set(xlabel="distance of a reconstruction from its sprite", ylabel="length of the gradient", ylim=(0, None))
axis.set(xlim=(0, edge * 1.75))
show(
    drawn, "The pull of the plain distance is 1 for every sprite; that of the squared distance grows with the distance"
)

# %% [markdown]
# With the slide's loss every picture has the same pull, also the worst ones. With the squared loss the worst pictures
# have the largest pull, so the training improves them most. Neither loss is wrong. With the slide's loss a few unusual
# pictures cannot dominate the training. The squared loss is the negative logarithm of a probability, up to a factor and
# a constant, as you will see in the next lesson.

# %% [markdown]
# ### The gaps
#
# > The latent space is discontinuous and has significant “gaps”.
#
# First, what is a gap? Most latents have another latent close by. For 99 of 100 of them the nearest neighbour lies
# within a certain distance, the radius. A point that is further than the radius from *every* latent lies in a **gap**.
#
# Any sample of points leaves some places empty, so you need a control: a measurement under the same conditions, in
# which the thing to be shown cannot occur. Here it is a sample of as many points from a normal distribution with the
# same mean and covariance as the latents. It has the same centre and spread but no gaps, except by chance. It gets its
# own radius.
#
# Three measurements test the claim. All three have to pass, and for each the whole 95 % interval has to.
#
# - *Significant gaps.* Draw random points from the same normal distribution. Count those that lie in a gap: the share
#   has to be at least 25 percentage points larger for the latents than for the control.
# - *Discontinuous.* Taken literally this is wrong: the decoder consists of continuous functions, so a small enough step
#   always makes a small change. But the region that the latents occupy can consist of separate parts. Draw straight
#   lines between pairs of latents, and count those that cross a gap: the share has to be at least 50 points larger
#   than for pairs of points of the control.
# - *The gaps matter.* Decode the random points. The judge has to recognise a kind at least 25 points more often
#   outside the gaps than in them. (It was trained on sprites and, as "none", on blends of two sprites, halves, blurs,
#   blanks and noise.)


# %%
def something(pictures: Tensor) -> Tensor:
    """The judge's probability that pictures (n, 3, 32, 32) show any of the six kinds: (n,) from 0 to 1."""
    return 1 - judge(pictures)["kind"].softmax(1)[:, -1]


def to_nearest(points: Tensor, known: Tensor) -> Tensor:
    """The distance (n,) of each of the points (n, d) to the nearest of known points (m, d)."""
    return torch.cdist(points, known, compute_mode="donot_use_mm_for_euclid_dist").amin(1)


def radius_of(known: Tensor) -> Tensor:
    """The distance within which 99 of 100 known points (m, d) have a neighbour."""
    return torch.cdist(known, known).fill_diagonal_(torch.inf).amin(1).quantile(0.99)


def in_gap(points: Tensor, known: Tensor) -> Tensor:
    """Which of the points (n, d) are further than the radius from all known points (m, d): (n,) bool."""
    return to_nearest(points, known) > radius_of(known)


def crosses_gap(start: Tensor, end: Tensor, known: Tensor) -> Tensor:
    """Which of the straight lines from start to end, (n, d) each, cross a gap between known points: (n,) bool."""
    way = torch.linspace(0, 1, 101)[:, None, None]
    line = torch.lerp(start, end, way)  # (101, n, d)
    return in_gap(line.flatten(0, 1), known).view(101, -1).any(0)


# %% [markdown]
# The next cell takes the measurements: 1,800 latents and a control of as many points, 1,000 random points, and 300
# lines between pairs of latents or points, in which each one is used once.

# %%
torch.manual_seed(0)
reference, reference_kinds = sprites(1800, seed=2)
z = shipped.encode(reference)  # (1800, 2)
normal = torch.distributions.MultivariateNormal(z.mean(0), z.T.cov())
control, points = normal.sample((1800,)), normal.sample((1000,))
gaps, gaps_by_chance = in_gap(points, z), in_gap(points, control)  # (1000,) bool each
pairs = shipped.encode(sprites(600, seed=3)[0])[torch.randperm(600)].view(2, 300, 2)
crossing, crossing_by_chance = crosses_gap(*pairs, z), crosses_gap(*normal.sample((2, 300)), control)
decoded = shipped.decode(points)
sure = something(decoded) > 0.5  # (1000,) bool
assert (something(reference) > 0.5).float().mean() > 0.95, "the judge must know real sprites"

# %% tags=["folded"]
side = 80
low, high = torch.cat([z, points]).quantile(0.005, 0), torch.cat([z, points]).quantile(0.995, 0)
start, end = low - 0.1 * (high - low), high + 0.1 * (high - low)
heat = something(shipped.decode(lattice(start, end, side))).view(side, side)
extent = [start[0].item(), end[0].item(), start[1].item(), end[1].item()]

drawn, (left, middle, right) = figure(10.5, 3.7, columns=3, sharex=True, sharey=True)
image = left.imshow(heat, origin="lower", extent=extent, aspect="auto", cmap="magma", vmin=0, vmax=1)
left.scatter(*z.T, s=1.5, color=SKY, linewidths=0)
left.set_title("the judge's probability of any kind", fontsize=10)
drawn.colorbar(image, ax=left, shrink=0.8, location="left")
for axis, known, lost, title in (
    (middle, z, gaps, "random points and latents"),
    (right, control, gaps_by_chance, "random points and control"),
):
    axis.scatter(*known.T, s=1.5, color=GREY, linewidths=0)
    axis.scatter(*points[~lost].T, s=5, color=BLUE, linewidths=0, label="not in a gap")
    axis.scatter(*points[lost].T, s=5, color=ORANGE, linewidths=0, label="in a gap")
    axis.set_title(title, fontsize=10)
for axis in (left, middle, right):
    axis.grid(False)
    axis.set(xlim=extent[:2], ylim=extent[2:], xticks=[], yticks=[])
drawn.legend(*middle.get_legend_handles_labels(), loc="outside lower right", ncols=2, markerscale=2.5, fontsize=9)
show(
    drawn,
    "Left, the plane: bright where the judge recognises the decoded picture, with the latents as dots. Middle, random "
    "points among the latents, most of them in gaps. Right, the same random points among those of the control.",
)

# %%
groups = {
    "random points in a gap": {"latents": gaps, "control": gaps_by_chance},
    "lines that cross a gap": {"latents": crossing, "control": crossing_by_chance},
    "recognised when decoded": {"not in\ngaps": sure[~gaps], "in\ngaps": sure[gaps]},
}
drawn, panels = figure(8.4, 2.6, columns=3, sharey=True)
for axis, (title, bars) in zip(panels, groups.items(), strict=True):
    for place, (flags, colour) in enumerate(zip(bars.values(), (ORANGE, GREY), strict=True)):
        found = share(flags.tolist(), "points")
        reach = [[100 * (found.value - found.low)], [100 * (found.high - found.value)]]
        axis.bar(place, 100 * found.value, 0.6, color=colour, yerr=reach, capsize=4)
        axis.text(place + 0.1, 100 * found.high + 2, f"{100 * found.value:.0f} %", fontsize=9)
    axis.set(xticks=range(2), ylim=(0, 115), xlim=(-0.6, 1.7))
    axis.set_xticklabels(list(bars))
    axis.grid(False)
    axis.set_title(title, fontsize=10)
show(drawn, "Three pairs of bars with intervals: points in gaps, lines that cross gaps, and pictures recognised")

# %% [markdown]
# Here are the pictures of the first ten random points in gaps, and of the first ten that are in none. Above each is the
# judge's answer.

# %%
both = torch.cat([decoded[gaps][:10], decoded[~gaps][:10]])
said = [NAMES[int(kind)] for kind in judge(both)["kind"].argmax(1)]
show(
    picture_grid(both, columns=10, titles=said, rows=["in gaps", "not in gaps"], inches=0.85),
    f"Twenty pictures of random points, ten in gaps and ten in none. The judge says of them: {', '.join(said)}",
)

# %% [markdown]
# Look closely, because the judge is stricter than you are. Sometimes you recognise a cat in a colour that no sprite
# has, and the judge says "none". So the figures below also contain a measure without the judge: how far a decoded
# picture is from the nearest of 1,800 real sprites.

# %%
rectangle = lattice(z.amin(0), z.amax(0), 60)
away = to_nearest(decoded.flatten(1), reference.flatten(1))  # (1000,)
verdict(
    "ae-gaps",
    difference(gaps.tolist(), gaps_by_chance.tolist(), "random points"),
    difference_of_groups(crossing.tolist(), crossing_by_chance.tolist(), "lines"),
    difference_of_groups(sure[~gaps].tolist(), sure[gaps].tolist(), "random points"),
    figures=f"{100 * in_gap(rectangle, z).float().mean():.0f} % of the plane, in the rectangle around the latents, is "
    f"gap. The real sprite nearest to a decoded picture is {away[~gaps].median():.1f} away outside gaps and "
    f"{away[gaps].median():.1f} in gaps (medians).",
)

# %% [markdown]
# What does a line that crosses a gap look like? For each kind take the sprite in the middle of its latents. The figure
# follows the line from the strawberry to the nearest of the other five, and measures how much the picture changes with
# each of 100 equal steps.

# %% tags=["folded"]
of_kind = [z[reference_kinds == kind] for kind in range(len(SPRITES))]
central = torch.stack([mine[(mine - mine.mean(0)).norm(dim=1).argmin()] for mine in of_kind])  # (6, 2)
other = int(torch.cdist(central, central).fill_diagonal_(torch.inf)[0].argmin())
fractions = torch.linspace(0, 1, 101)[:, None]  # (101, 1)
line = torch.lerp(central[0], central[other], fractions)  # (101, 2)
frames = shipped.decode(line)  # (101, 3, 32, 32)
change = (frames[1:] - frames[:-1]).flatten(1).norm(dim=1)  # (100,)
way = f"{SPRITES[0]} to {SPRITES[other]}"

drawn, (top, middle, bottom) = figure(9, 3.9, rows=3, height_ratios=(1.25, 1, 1))
top.imshow(frames[::10].permute(2, 0, 3, 1).reshape(32, -1, 3), extent=(-0.05, 1.05, 0, 0.1), aspect="auto")
top.axis("off")
middle.fill_between(fractions[:, 0], 0, 1, where=in_gap(line, z), color=GREY, alpha=0.3, linewidth=0, label="gap")
middle.plot(fractions, something(frames), color=ORANGE)
middle.set(xlim=(-0.05, 1.05), ylim=(-0.05, 1.1), xticklabels=[], ylabel="judge:\nany kind")
middle.legend(loc="lower left", fontsize=9)
bottom.plot(fractions[1:], change / change.mean(), color=BLUE)
bottom.set(xlim=(-0.05, 1.05), ylim=(0, None), xlabel=f"share of the way from {way}", ylabel="change\n(mean: 1)")
show(
    drawn,
    f"A straight line from {way}: the pictures, the judge's probability of any kind with the gaps shaded, and the "
    "change per step",
)

# %% [markdown]
# No step is a jump: the largest changes the picture about twice as much as the mean step. But more than half of the
# line is gap. In a part of it the picture shows no object that the judge knows. In the rest it draws strawberries or
# houses all the same. A gap is a place where the decoder was never trained, so what it draws there may be good or bad.
#
# ### More numbers
#
# Two numbers can be plotted, but they hold little. What happens with 8, 16 or 64? Here is an autoencoder with 16
# numbers, trained as those of all sizes: 1,000 steps with the squared distance. The two lower rows are decoded from
# random points: of a normal distribution with the mean and covariance of the latents (its **normal fit**), and of
# N(0, I), the normal distribution with mean 0 and variance 1 on each axis.

# %% tags=["folded"]
sixteen, learned = train("AE 16", seed=0)
mean, factor = normal_fit(sixteen.encode(learned))
torch.manual_seed(0)
dice = torch.randn(11, 16)
drawings = [fresh[:11], sixteen(fresh[:11]), sixteen.decode(mean + dice @ factor.T), sixteen.decode(dice)]
show(
    picture_grid(
        torch.cat(drawings),
        columns=11,
        rows=["sprite", "16 numbers", "random: normal fit", "random: N(0, I)"],
        inches=0.72,
    ),
    "Eleven sprites and their good reconstructions from 16 numbers; below, eleven pictures from random points of the "
    "normal fit and eleven from N(0, I), most of which show no object",
)

# %% [markdown]
# This was one training. The next figure shows the stored results of five for each size (`make claims` repeats them),
# with 95 % intervals. To count bits, each number is rounded to one of 64 levels, which takes 6 bits and hardly changes
# the reconstructions. A kind is kept if it makes up at least 3 % of the random pictures.

# %% tags=["folded"]
show(
    latent_size_figure(["AE"]),
    "Three panels for latents of 2, 8, 16 and 64 numbers: the distance of the reconstructions falls, and so do the "
    "share of random pictures recognised and the number of kinds kept",
)

# %% [markdown]
# With more numbers the reconstructions get better, and the random pictures get worse. From two numbers to eight the
# distance falls by more than a third; after that it hardly changes. But with two numbers the judge recognises most of
# the random pictures, with eight about one in five, and with 64 only one or two of the six kinds are left. Points from
# N(0, I) give almost nothing from eight numbers on.
#
# The reason is the space between the latents. The decoder has only learned what to draw near the latents of sprites. In
# two dimensions they lie close together. In sixteen dimensions the same 2,000 points are far apart, and a normal
# distribution puts nearly all of its points where no sprite is near. So an autoencoder that reconstructs well is not
# yet a generator: it lacks a way to choose good latents. The VAE of lesson 2c changes the latents so that a simple
# choice is good enough. Lesson 2d keeps good latents and learns how to choose them.

# %% [markdown]
# ## 7 · Your turn
#
# ### Exercise 2b.1 · Empty land (★☆☆, 5 minutes)
#
# How much of the plane is gap? Section 6 computed this; now write it as a function. It gets points on the plane, the
# latents of the sprites, and a radius. It returns the share of the points that are further than the radius from *every*
# latent, a number from 0 to 1.


# %% tags=["stub"]
def empty_share(points: Tensor, latents: Tensor, radius: float) -> float:
    """The share of the points (m, 2) that are further than radius from every latent (n, 2)."""
    raise NotImplementedError


# %% tags=["checked"]
check("2b.1", empty_share)

# %% [markdown] tags=["hint"]
# `torch.cdist(points, latents)` is the table of all distances, (m, n).

# %% [markdown] tags=["hint"]
# A point is further than the radius from every latent if it is further than the radius from the nearest one. Which
# reduction over which axis of the table gives the distance to the nearest latent?


# %% tags=["solution"]
def empty_share(points: Tensor, latents: Tensor, radius: float) -> float:
    nearest = torch.cdist(points, latents).amin(1)  # (m,)
    return (nearest > radius).float().mean().item()


# %% [markdown]
# ### Exercise 2b.2 · A walk (★★☆, 5 minutes)
#
# Make the pictures of a walk through the latent space. It starts at one picture's latent, ends at another's, and goes
# in a straight line in equal steps. Return the decoded pictures, including the first and the last.


# %% tags=["stub"]
def walk(autoencoder: Autoencoder, start: Tensor, end: Tensor, steps: int) -> Tensor:
    """Pictures (steps, 3, 32, 32) decoded on the way from a picture start (3, 32, 32) to a picture end (3, 32, 32)."""
    raise NotImplementedError


# %% tags=["checked"]
check("2b.2", walk)

# %% [markdown] tags=["hint"]
# `encode` takes a batch: `torch.stack([start, end])` makes one, (2, 3, 32, 32).

# %% [markdown] tags=["hint"]
# `torch.linspace(0, 1, steps)` includes both ends. Add a second axis, so that (steps, 1) times (2,) gives (steps, 2).


# %% tags=["solution"]
def walk(autoencoder: Autoencoder, start: Tensor, end: Tensor, steps: int) -> Tensor:
    first, last = autoencoder.encode(torch.stack([start, end]))  # (2,) each
    fractions = torch.linspace(0, 1, steps)[:, None]  # (steps, 1)
    return autoencoder.decode(first + fractions * (last - first))


# %% [markdown]
# ### Exercise 2b.3 · The pull of a distance (★★☆, 10 minutes)
#
# Section 6 measured the length of each picture's gradient. Now compute the gradient itself: without autograd, return
# the gradient of `reconstruction_loss(x, x_hat)` with respect to `x_hat`.


# %% tags=["stub"]
def loss_gradient(x: Tensor, x_hat: Tensor) -> Tensor:
    """The gradient (n, 3, H, W) of the mean over n of ‖x − x̂‖₂ with respect to x̂; no x̂ equals its x."""
    raise NotImplementedError


# %% tags=["checked"]
check("2b.3", loss_gradient)

# %% [markdown] tags=["hint"]
# Begin with one picture and write $\|x - \hat{x}\|_2 = \sqrt{s}$ with $s = \sum_i (x_i - \hat{x}_i)^2$. The chain rule
# gives $\frac{1}{2\sqrt{s}} \cdot \frac{\partial s}{\partial \hat{x}_i}$.

# %% [markdown] tags=["hint"]
# For one picture the gradient is a vector of length 1. Does it point from the picture to the reconstruction, or the
# other way? And how does the mean over the batch change its length?


# %% tags=["solution"]
def loss_gradient(x: Tensor, x_hat: Tensor) -> Tensor:
    away = x_hat - x
    distance = away.flatten(1).norm(dim=1)[:, None, None, None]  # (n, 1, 1, 1)
    return away / distance / len(x)


# %% [markdown]
# ### Exercise 2b.4 · The linear rival (★★★, 15 minutes)
#
# If encoder and decoder are linear, the best autoencoder can be computed without training. With a squared loss it is
# principal component analysis ([Baldi and Hornik 1989](https://doi.org/10.1016/0893-6080(89)90014-2)): subtract the
# mean of the data, keep the $k$ directions in which they vary most, drop the rest, and add the mean again.
#
# Write it with `torch.linalg.svd`. The pictures are given as vectors, (n, d). Return their reconstructions.


# %% tags=["stub"]
def linear_autoencoder(vectors: Tensor, k: int) -> Tensor:
    """The reconstructions (n, d) of vectors (n, d) by their k principal components."""
    raise NotImplementedError


# %% tags=["checked"]
check("2b.4", linear_autoencoder)

# %% [markdown] tags=["hint"]
# `torch.linalg.svd(centred, full_matrices=False)` returns `u, s, v`. The *rows* of `v` are directions in the space of
# pictures, sorted from the largest variation to the smallest.

# %% [markdown] tags=["hint"]
# With `axes = v[:k]`, (k, d), the encoder is `centred @ axes.T`, (n, k). What is the decoder, and what do you have to
# add after it?


# %% tags=["solution"]
def linear_autoencoder(vectors: Tensor, k: int) -> Tensor:
    mean = vectors.mean(0)  # (d,)
    axes = torch.linalg.svd(vectors - mean, full_matrices=False)[2][:k]  # (k, d)
    latents = (vectors - mean) @ axes.T  # (n, k)
    return mean + latents @ axes


# %% [markdown]
# ## 8 · What we have, what is missing
#
# - An encoder and a decoder with a bottleneck between them, trained with $\|x - \hat{x}\|_2$ as the only loss.
# - A latent space in which similar pictures lie close together, learned without labels.
# - Two numbers for a sprite, and a reconstruction that is right in kind and blurred in detail.
# - Gaps: most of the plane is far from every sprite, and in a large part of it the decoder draws no recognisable
#   object.
# - What is missing: a way to choose a point and be sure that it decodes to a good picture. In the next lesson, the
#   variational autoencoder fills the plane.

# %% [markdown] tags=["quiz"]
# **1.** Why does an autoencoder need a bottleneck?
#
# - [ ] To make training faster — it does save some arithmetic, but that is not its purpose.
# - [x] Without one it could copy the picture and would learn nothing about pictures — with room for every pixel, the
#   identity is a perfect solution.
# - [ ] To keep the decoder's output between 0 and 1 — the sigmoid at the decoder's end does that.

# %% [markdown] tags=["quiz"]
# **2.** The kinds ended up in separate clusters. How did the network know which sprite is of which kind?
#
# - [ ] From the labels that `sprites` returns — they were not used in training, only in the figures.
# - [ ] From the judge — the judge was used only after training.
# - [x] It did not know; pictures that look alike can be described by nearly the same numbers — the loss alone led to
#   the clusters.

# %% [markdown] tags=["quiz"]
# **3.** You have only the trained decoder and want a picture of a sprite. Why is a random point a poor choice?
#
# - [x] The loss does not say where on the plane the sprites should lie, or that they should fill it — it depends only
#   on points that the encoder outputs.
# - [ ] The decoder fails with an error on points it has not seen — it decodes any two numbers, but the picture may show
#   nothing you recognise.
# - [ ] A random point always gives a blend of all sprites — with some luck it gives a perfect sprite.

# %% [markdown] tags=["quiz"]
# **4.** A reconstruction is blurred along its outline. What is the best explanation?
#
# - [ ] The learning rate was too high — then the loss would not settle, and the whole picture would be worse.
# - [x] Two numbers cannot say exactly where the sprite stands, and the average of all possible outlines has about the
#   smallest mean distance — so a blur gives the smallest loss.
# - [ ] Convolutions can only draw smooth pictures — the same decoder can draw sharp edges where it knows their place.

# %% [markdown] tags=["quiz"]
# **5.** You train with the squared distance instead of the distance. Which pictures gain influence?
#
# - [ ] All equally — that is how the plain distance behaves: each gradient has the length 1.
# - [ ] Those that are already reconstructed well — their gradients become smaller, because the gradient is twice the
#   distance.
# - [x] Those that are reconstructed worst — the gradient is twice the distance, so the worst have the most influence.
