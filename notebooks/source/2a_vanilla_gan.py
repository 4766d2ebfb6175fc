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
# # 2a · The vanilla GAN
#
# There is no formula for what makes a picture good, so you cannot write one down as a loss. In this lesson a network
# still learns to draw, because a second network learns to tell its pictures from real ones.

# %%
import math
from copy import deepcopy
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from atelier.teaching import (
    BLUE,
    GREY,
    INK,
    ORANGE,
    SKY,
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
from atelier.weights.sprites import load_sprite_model
from atelier.world import SPRITES, sprites
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm
from tqdm.auto import tqdm

device = "cuda" if torch.cuda.is_available() else "cpu"

# %% [markdown]
# ## 1 · Where we are
#
# The course rebuilds DALL·E Mini, whose pictures are made by a VQ-GAN. In part 2 you build five networks, from the
# vanilla GAN of this lesson to the VQ-GAN. Each solves a problem that the one before it leaves open.

# %%
lesson_header("2a")

# %% [markdown]
# The network learns to draw sprites: pictures of 32 × 32 pixels that show one big object on a plain background. There
# are six kinds of object, and in this lesson each kind has a single colour; house and star are both orange. All sprites
# differ a little in position, size and shape.

# %%
COLOUR_OF = {
    "strawberry": "red",
    "mushroom": "blue",
    "car": "green",
    "house": "orange",
    "cat": "purple",
    "star": "orange",
}


def paint(kind: str, number: int, seed: int) -> Tensor:
    return sprites(number, seed, subjects=(kind,), colours=(COLOUR_OF[kind],))[0]


pictures = torch.cat([paint(kind, 200, seed=0) for kind in SPRITES]).to(device)  # (1200, 3, 32, 32), from 0 to 1
shown = torch.cat([pictures[row::200] for row in range(2)])
show(
    picture_grid(shown, columns=6, titles=SPRITES),
    "Two rows of six sprites: strawberry, mushroom, car, house, cat and star.",
)

# %% [markdown]
# ## 2 · The idea
#
# Two networks play against each other. The **generator** $G$ turns random numbers into a picture. The **discriminator**
# $D$ gets a picture and says how likely it is that the picture is real. During training it gets real and generated
# pictures, half and half, and learns to tell them apart. We call the generated pictures *drawn*. The generator never
# sees a real picture. It learns only from the discriminator's output for its own pictures.

# %%
with torch.no_grad():
    drawn = load_sprite_model("gan")(torch.randn(1, 16, generator=torch.Generator().manual_seed(7)))[0]

made, axis = figure(8.8, 3.1)
axis.set_axis_off()
axis.set(xlim=(0, 11.4), ylim=(-0.75, 3.4), aspect="equal")
axis.imshow(pictures[0].permute(1, 2, 0).cpu(), extent=(4.7, 6.2, 1.85, 3.35))
axis.imshow(drawn.permute(1, 2, 0), extent=(4.7, 6.2, 0.05, 1.55))
for x, y, name, colour in ((2.9, 0.8, "generator", ORANGE), (8.3, 1.7, "discriminator", BLUE)):
    box = {"boxstyle": "round,pad=0.8", "linewidth": 0, "facecolor": colour}
    axis.text(x, y, name, color="white", weight="bold", fontsize=12, ha="center", va="center", bbox=box)
for x, y, words in (
    (0.6, 0.8, "random\nnumbers\n$z$"),
    (4.1, 2.6, "real\n$x$"),
    (4.1, 1.25, "drawn\n$G(z)$"),
    (10.8, 1.7, "real\nor drawn?"),
):
    axis.text(x, y, words, ha="center", va="center")
arrow = {"arrowstyle": "-|>", "color": GREY, "linewidth": 1.6}
for start, end in (((1.2, 0.8), (1.75, 0.8)), ((4.05, 0.8), (4.6, 0.8)), ((9.45, 1.7), (10.0, 1.7))):
    axis.annotate("", end, start, arrowprops=arrow)
for start, end in (((6.3, 2.6), (7.1, 2.1)), ((6.3, 0.8), (7.1, 1.3))):
    axis.annotate("", end, start, arrowprops=arrow)
back = arrow | {"color": VERMILION, "linestyle": "--", "connectionstyle": "arc3,rad=-0.36"}
axis.annotate("", (2.9, 0.25), (8.3, 1.15), arrowprops=back)
axis.text(8.0, -0.05, "the gradient: how to look more real", color=VERMILION, va="center", fontsize=9)
show(made, "Random numbers go into the generator, whose picture goes, like a real one, into the discriminator.")

# %% [markdown]
# The random numbers form the **latent vector** $z$. Here it has 16 numbers, each sampled from the normal distribution
# $\mathcal N(0, 1)$. Other numbers give another picture. [Goodfellow and others](https://arxiv.org/abs/1406.2661)
# described the game in 2014 with one formula, their equation 1. (Docstrings refer to the equations and sections of this
# paper.)
#
# $$\min_G \max_D V(D, G) = \mathbb E_{x \sim p_\text{data}}\big[\log D(x)\big] +
# \mathbb E_{z \sim \mathcal N(0, I)}\big[\log\big(1 - D(G(z))\big)\big]$$
#
# | symbol | what it is | shape |
# |---|---|---|
# | $x$ | a real picture, drawn from the data $p_\text{data}$ | (3, 32, 32) |
# | $z$ | a latent vector | (16,) |
# | $G(z)$ | the picture that the generator makes from it | (3, 32, 32) |
# | $D(x)$, $D(G(z))$ | the discriminator's probability that the picture is real | one number, 0 to 1 |
# | $\mathbb E$ | the mean, in practice over a batch | |
# | $V$ | the value of the game | one number, at most 0 |
#
# This is a **minimax game**: $D$ is trained to make $V$ as large as possible, $G$ to make it as small as possible. $V$
# comes close to its maximum, 0, when $D$ is confident and right about every picture. When $D$ can only guess, $D = ½$
# for all pictures and $V = -2 \log 2 \approx -1.386$. The paper proves that a perfect game ends there: the drawn
# pictures then have the same distribution as the real ones.
#
# A loss that is computed from the output of an opposing network is an **adversarial loss**.
#
# ### One change, and why
#
# The last layer of $D$ gives a **logit** $\ell$: any real number, whose sigmoid $\sigma(\ell) = 1 / (1 + e^{-\ell})$ is
# the probability. At the start of training the drawn pictures are very bad, $D$ recognises them with confidence, and
# $\ell$ is far below 0. There the generator's part of $V$ is flat. Its slope is
#
# $$\frac{\partial}{\partial \ell} \log\big(1 - \sigma(\ell)\big) = -\sigma(\ell) \approx 0,$$
#
# so the generator learns almost nothing at the time when it has most to learn. Section 3 of the paper gives a remedy,
# the **non-saturating loss** $-\log D(G(z))$. It also becomes smaller when $D$ takes the picture for real, but its
# slope there is $-(1 - \sigma(\ell)) \approx -1$.

# %%
logits = torch.linspace(-6, 6, 121)
losses = {"log(1 − D)": F.logsigmoid(-logits), "−log D": -F.logsigmoid(logits)}
slopes = {"log(1 − D)": -logits.sigmoid(), "−log D": logits.sigmoid() - 1}

made, axes = figure(8.6, 2.8, columns=2)
for axis, lines, title in zip(axes, (losses, slopes), ("What the generator minimises", "Its slope"), strict=True):
    axis.axvspan(-6, -3, color=VERMILION, alpha=0.09, linewidth=0)
    for (name, line), colour in zip(lines.items(), (BLUE, ORANGE), strict=True):
        axis.plot(logits, line, color=colour, label=name)
    axis.set(title=title, xlabel="logit of a drawn picture")
axes[0].legend(frameon=False)
axes[1].text(-5.8, -0.06, "flat: almost\nno gradient", fontsize=9, color=BLUE, va="top")
axes[1].text(-5.8, -0.93, "steep", fontsize=9, color=ORANGE, va="bottom")
show(made, "Where the logit is low, log(1 − D) is flat and −log D is steep; the red band marks bad pictures.")

# %% [markdown]
# ## 3 · Build it
#
# The code of this section is the library's file `atelier/blocks/gan.py`, cell by cell. The layers follow DCGAN
# ([Radford and others 2015](https://arxiv.org/abs/1511.06434)), a GAN made of convolutions. The first cell defines the
# sizes.


# %%
@dataclass(frozen=True)
class GANConfig:
    """Shape of a generator and its discriminator."""

    size: int = 32  # pixels along a side of the pictures, a power of two from 8
    latent: int = 16  # random numbers that a picture is made of
    width: int = 32  # channels of the generator at half the side; they double wherever the side halves

    def __post_init__(self):
        if self.size < 8 or self.size.bit_count() != 1:
            raise ValueError(f"size is {self.size}: give a power of two from 8, such as 32.")

    @property
    def widths(self) -> list[int]:
        """The generator's channels, from half the picture's side down to 4 × 4."""
        return [self.width * 2**level for level in range(self.size.bit_length() - 3)]


# %% tags=["checked"]
config = GANConfig()
print(f"maps of {config.widths} channels, on grids of side {[config.size >> n for n in range(1, 4)]}")

# %% [markdown]
# The generator has to get from 16 numbers to 32 × 32 pixels. It starts with a map of 4 × 4 cells and doubles its side
# three times. A simple way to double a map is to repeat every cell in both directions, and to smooth the result with a
# 3 × 3 convolution. The same numbers can be computed faster. A **transposed convolution** spreads each cell of a small
# map over several cells of a larger one; the sum over each 2 × 2 block of neighbours then fills the gaps evenly.
# (Without this sum more patches overlap on some pixels than on others, and the picture gets a checkerboard pattern.)
# PyTorch has no sum pooling, but average pooling with a divisor of 1 is a sum. The next cell compares the two ways.

# %% tags=["checked"]
spread = nn.ConvTranspose2d(8, 5, 3, stride=2, bias=False)
cells = torch.randn(2, 8, 4, 4)
fast = F.avg_pool2d(spread(cells), 2, stride=1, divisor_override=1)  # (2, 5, 8, 8); spread alone: (2, 5, 9, 9)

repeated = cells.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)  # (2, 8, 8, 8)
kernel = spread.weight.transpose(0, 1).flip(2, 3)  # a convolution stores its kernel the other way round
torch.testing.assert_close(fast, F.conv2d(repeated, kernel, padding=1), rtol=1e-4, atol=1e-5)
print(f"{tuple(cells.shape)} → {tuple(fast.shape)}, the same numbers both ways")

# %% [markdown]
# The generator does this three times. Before each doubling, batch normalisation brings every channel to mean 0 and
# variance 1 over the batch, so that the numbers neither grow nor shrink from layer to layer. The sigmoid at the end
# gives numbers from 0 to 1: a picture.


# %%
class Generator(nn.Module):
    """Noise z (n, latent), from N(0, I), to pictures (n, 3, size, size), from 0 to 1."""

    def __init__(self, config: GANConfig):
        super().__init__()
        self.config = config
        widths = config.widths[::-1]
        self.layers = nn.Sequential(nn.Linear(config.latent, widths[0] * 4 * 4), nn.Unflatten(1, (widths[0], 4, 4)))
        for inputs, outputs in pairwise([*widths, 3]):
            # The two together are a 3 × 3 convolution of twice repeated pixels, several times as fast: no checkerboard.
            double = [nn.ConvTranspose2d(inputs, outputs, 3, stride=2), nn.AvgPool2d(2, stride=1, divisor_override=1)]
            self.layers.extend([nn.BatchNorm2d(inputs), nn.ReLU(), *double])

    def forward(self, z: Tensor) -> Tensor:
        """Draws a picture for each row of z."""
        return self.layers(z).sigmoid()


# %% tags=["checked"]
generator = Generator(config)
h = torch.randn(5, config.latent)
print(f"{'z':17s} {tuple(h.shape)}")
for layer in generator.layers:
    h = layer(h)
    if not isinstance(layer, nn.BatchNorm2d | nn.ReLU):
        print(f"{type(layer).__name__:15s} → {tuple(h.shape)}")
assert generator(torch.randn(5, config.latent)).shape == (5, 3, 32, 32)

# %% [markdown]
# The discriminator goes the other way: convolutions of stride 2 halve the map until it is 4 × 4, and a linear layer
# makes one number of it. It has half the channels that the config names. It also uses **spectral normalisation**
# ([Miyato and others 2018](https://arxiv.org/abs/1802.05957)), which divides the weights of a layer by their largest
# singular value, the largest factor by which they can lengthen a vector. Then a layer can hardly stretch its input, and
# similar pictures get similar logits. Without such a bound the discriminator soon becomes so confident that the
# generator's gradient vanishes.


# %%
class Discriminator(nn.Module):
    """Pictures (n, 3, size, size), from 0 to 1, to logits (n,): above 0 for those it takes for real."""

    def __init__(self, config: GANConfig):
        super().__init__()
        widths = [3, *(width // 2 for width in config.widths)]  # as wide as the generator it would win too early
        self.layers = nn.Sequential()
        for inputs, outputs in pairwise(widths):
            # A bounded slope keeps its judgement graded, so that the generator always has a gradient to follow.
            self.layers.extend([spectral_norm(nn.Conv2d(inputs, outputs, 4, stride=2, padding=1)), nn.LeakyReLU(0.2)])
        self.layers.extend([nn.Flatten(), spectral_norm(nn.Linear(widths[-1] * 4 * 4, 1))])

    def forward(self, pictures: Tensor) -> Tensor:
        """Judges each picture by itself."""
        return self.layers(pictures * 2 - 1).squeeze(1)  # (n,)


# %% tags=["checked"]
discriminator = Discriminator(config)
print(f"pictures (5, 3, 32, 32) → logits {tuple(discriminator(generator(torch.randn(5, 16))).shape)}")
for _ in range(20):  # each pass in training mode improves the estimate of the largest singular value
    discriminator(torch.rand(2, 3, 32, 32))
layers = [layer for layer in discriminator.layers if isinstance(layer, nn.Conv2d | nn.Linear)]
stretch = [torch.linalg.matrix_norm(layer.weight.flatten(1), 2).item() for layer in layers]
assert len(stretch) == 4
assert all(abs(value - 1) < 0.1 for value in stretch)
print("largest singular value of every layer: 1")

# %% [markdown]
# The last part is the two losses. Each network minimises one of them: the discriminator $-V$, the generator the
# non-saturating loss. `softplus(x)` is $\log(1 + e^x)$, so `softplus(-x)` is $-\log\sigma(x)$. It is computed without
# the sigmoid itself, which could be rounded to 0.


# %%
def discriminator_loss(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """−E[log D(x)] − E[log(1 − D(G(z)))], the negative of eq. 1, of logits (n,): 2 log 2 for a tossed coin."""
    return F.softplus(-real_logits).mean() + F.softplus(fake_logits).mean()  # softplus(−x) = −log sigmoid(x)


def generator_loss(fake_logits: Tensor) -> Tensor:
    """−E[log D(G(z))] of logits (n,), not eq. 1's E[log(1 − D(G(z)))], which saturates early on (section 3)."""
    return F.softplus(-fake_logits).mean()


# %% tags=["checked"]
clueless, sure = torch.zeros(8), torch.full((8,), 9.0)
for name, real, fake in (("D only guesses", clueless, clueless), ("D is sure and right", sure, -sure)):
    print(f"{name:20s} D's loss {discriminator_loss(real, fake):.3f}, G's loss {generator_loss(fake):.3f}")

# %% [markdown]
# ### The same numbers as the reference
#
# To tell real from drawn is a binary classification, with the label 1 for real and 0 for drawn. PyTorch's cross-entropy
# for logits must therefore give the same losses and the same gradients, also for logits so large that their sigmoid is
# rounded.

# %% tags=["checked"]
real_logits = torch.tensor([-40.0, -2.0, 0.0, 0.5, 30.0], requires_grad=True)
fake_logits = torch.tensor([-35.0, -1.0, 0.1, 2.0, 45.0], requires_grad=True)
cross_entropy = F.binary_cross_entropy_with_logits
one, zero = torch.ones(5), torch.zeros(5)
references = {
    "discriminator": (
        discriminator_loss(real_logits, fake_logits),
        cross_entropy(real_logits, one) + cross_entropy(fake_logits, zero),
    ),
    "generator": (generator_loss(fake_logits), cross_entropy(fake_logits, one)),
}
for name, (ours, reference) in references.items():
    torch.testing.assert_close(ours, reference)
    gradients = [torch.autograd.grad(loss, fake_logits, retain_graph=True)[0] for loss in (ours, reference)]
    torch.testing.assert_close(*gradients)
    print(f"{name}: the same loss and the same gradient as the cross-entropy")

# %% [markdown]
# ## 4 · Train it
#
# A step has two turns. First the discriminator is trained on a batch of real sprites and a batch of drawn ones. The
# drawn pictures are passed through `detach`, so that this turn changes only the discriminator. Then the generator is
# trained. Its gradient flows *through* the discriminator back to the picture, and says for every pixel in which
# direction it should change.


# %%
def play(
    generator: Generator,
    discriminator: Discriminator,
    optimisers: tuple[torch.optim.Optimizer, torch.optim.Optimizer],
    real: Tensor,
    generator_turns: int = 1,
) -> tuple[float, float]:
    """One step of the game on real pictures (n, 3, 32, 32); the losses of D and of G."""
    draws, tells = optimisers
    noise = torch.randn(1 + generator_turns, len(real), generator.config.latent, device=real.device)

    loss_d = discriminator_loss(discriminator(real), discriminator(generator(noise[0]).detach()))
    tells.zero_grad()
    loss_d.backward()
    tells.step()

    for z in noise[1:]:
        loss_g = generator_loss(discriminator(generator(z)))
        draws.zero_grad()
        loss_g.backward()
        draws.step()
    return loss_d.item(), loss_g.item()


def adam(module: nn.Module, learning_rate: float) -> torch.optim.Optimizer:
    # Less momentum than usual: the other network changes too, so old gradients are soon out of date.
    return torch.optim.Adam(module.parameters(), lr=learning_rate, betas=(0.5, 0.99))


# %% [markdown]
# The generator is narrower than the library's default, so that training takes about a minute on two CPU cores. The
# discriminator has half the channels of its config, so `width=48` makes it as wide as the generator. At that width it
# would win too early, as the comment in its code says, because it has the easier task. To balance this, the generator's
# learning rate is four times as large. In the second half both learning rates fall, so that the game settles. At a few
# steps the same latent vectors are drawn again, so that you can see how each picture develops.

# %% tags=["ignored"]
STEPS, BATCH = 1200, 32
SNAPSHOTS = (1, 50, 150, 300, 600, 900, 1200)

torch.manual_seed(2014)
small = GANConfig(width=24)
generator = Generator(small).to(device)
discriminator = Discriminator(GANConfig(width=48)).to(device)  # it uses half of this, so it is as wide as the generator
optimisers = adam(generator, 4e-3), adam(discriminator, 1e-3)
settling = [
    torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: min(1, 2 * (1 - step / STEPS) + 0.05))
    for optimiser in optimisers
]
watched = torch.randn(600, small.latent, device=device)  # the first 9 of them are shown
history: list[tuple[float, float]] = []
snapshots: dict[int, Tensor] = {}

for step in tqdm(range(1, STEPS + 1)):
    real = pictures[torch.randint(len(pictures), (BATCH,), device=device)]
    history.append(play(generator, discriminator, optimisers, real))
    for schedule in settling:
        schedule.step()
    if step in SNAPSHOTS:
        generator.eval()  # batch normalisation uses its running statistics instead of this batch's
        with torch.no_grad():
            snapshots[step] = generator(watched)
        generator.train()

# %% [markdown]
# The losses do not fall steadily, and they need not: each is measured against an opponent that improves as well. They
# show a balance. The discriminator's loss stays below 1.386, the value of guessing, and well above 0.

# %%
smooth = torch.tensor(history).unfold(0, 25, 1).mean(dim=2)  # a running mean over 25 steps
made = curves({"D": smooth[:, 0].tolist(), "G": smooth[:, 1].tolist()}, title="The two losses", ylabel="loss")
made.axes[0].axhline(2 * math.log(2), color=GREY, linestyle=":")
made.axes[0].text(STEPS, 1.4, "D only guesses", color=GREY, fontsize=9, ha="right", va="bottom")
show(made, "Two noisy curves; the discriminator's stays below the line for guessing and above 0.")

# %%
strip = torch.cat([snapshots[step][:9] for step in SNAPSHOTS])
names = [f"step {step}" for step in SNAPSHOTS]
show(
    picture_grid(strip, columns=9, rows=names, title="One latent vector per column", inches=0.95),
    "Rows of drawn pictures at growing steps: even haze, then blots, then sprites that you can name.",
)

# %% [markdown]
# Read a column from top to bottom. First there is haze, then a blot in the middle, where the sprites are, then a shape
# that often still turns from one kind into another, then a sprite. The generator was never given the six kinds, or a
# rule for what an edge is.

# %%
show(
    picture_grid(snapshots[STEPS][9:27], columns=9, title="Drawn by your generator, not selected", inches=0.95),
    "Eighteen more pictures by the generator after its last step: many clear sprites, some a mixture of two.",
)

# %% [markdown]
# Some pictures are a mixture of two kinds, and details are rough.
#
# The course also includes a generator of the library's default size that was trained for 5,000 steps. Its task was
# harder in one way: all six kinds were red, so colour does not tell them apart. Most of its pictures are clear. A few
# are a mixture of two kinds, because the map from $z$ to pictures is continuous: on the way from a star to a cat it has
# to pass through pictures in between.

# %%
shipped = load_sprite_model("gan").to(device)
with torch.no_grad():
    gallery = shipped(torch.randn(27, shipped.config.latent, generator=torch.Generator().manual_seed(1)).to(device))
show(
    picture_grid(gallery, columns=9, title="Drawn by the shipped generator, not selected", inches=0.95),
    "Twenty-seven drawn sprites in red, most of them clear, a few a mixture of two.",
)

# %% [markdown]
# ## 5 · Look inside
#
# The generator is a smooth map from vectors to pictures: a small step in $z$ changes the picture only a little. So you
# can walk from one picture to another. Take two latent vectors $a$ and $b$, and draw the points between them, $(1 -
# t)\,a + t\,b$ for $t$ from 0 to 1.


# %%
def latent(seed: int) -> Tensor:
    return torch.randn(shipped.config.latent, generator=torch.Generator().manual_seed(seed)).to(device)


shares = torch.linspace(0, 1, 9, device=device)
with torch.no_grad():
    paths = [torch.lerp(latent(a), latent(b), shares[:, None]) for a, b in ((7, 8), (2, 11), (15, 14))]  # (9, 16) each
    steps = shipped(torch.cat(paths))
titles = [f"t = {share:.2f}" for share in shares.tolist()]
show(
    picture_grid(steps, columns=9, titles=titles, inches=0.85),
    "Three rows, each a walk from one drawn sprite to another in nine steps.",
)

# %% [markdown]
# On the way one sprite turns into another, and sometimes the picture in the middle is neither. One reason is the
# straight line. A latent vector of 16 numbers has a length of about $\sqrt{16} = 4$, but the midpoint between two of
# them has only about 2.8. In training only one in twenty latent vectors was that short. Exercise 2a.4 shows a better
# path.
#
# Now walk yourself. Choose two vectors by their seeds, and move $t$. Below 0 and above 1 the line continues beyond $a$
# and $b$.


# %%
def walked(a: int, b: int, t: float):
    z = torch.lerp(latent(a), latent(b), t)
    with torch.no_grad():
        drawn = shipped(torch.stack([latent(a), z, latent(b)]))
    words = (f"a, seed {a}", f"t = {t:.2f}, length {z.norm().item():.1f}", f"b, seed {b}")
    return picture_grid(drawn, columns=3, titles=words, inches=1.9), f"The picture at t = {t:.2f}, between a and b."


explore(
    walked,
    a=slider(0, 99, 7, step=1, label="a"),
    b=slider(0, 99, 8, step=1, label="b"),
    t=slider(-0.5, 1.5, 0.5, step=0.05, label="t"),
)

# %% [markdown]
# ## 6 · Break it
#
# To classify thousands of pictures, the course includes a judge, a small classifier. It names the kind of a sprite, or
# answers “none”. It was also trained on blends, blurs and noise, labelled “none”. A picture counts as recognised if the
# judge names a kind with a confidence of at least 0.9.

# %%
judge = load_sprite_model("judge").to(device)
CONFIDENT = 0.9


@torch.no_grad()
def recognised(drawn: Tensor) -> Tensor:
    """For pictures (n, 3, 32, 32) the number of the kind (n,) in SPRITES, or −1 where no kind is recognised."""
    confidence, kind = judge(drawn)["kind"].softmax(dim=1).max(dim=1)  # the last class is "none"
    return torch.where((confidence >= CONFIDENT) & (kind < len(SPRITES)), kind, -1)


fresh = torch.cat([paint(kind, 40, seed=1) for kind in SPRITES]).to(device)  # sprites that no network was trained on
truth = torch.arange(len(SPRITES), device=device).repeat_interleave(40)
right = (recognised(fresh) == truth).float().mean().item()
assert right > 0.9
print(f"of {len(fresh)} new real sprites the judge recognises {right:.0%} correctly")

# %% [markdown]
# ### Does the game teach the generator to draw?
#
# We compute two numbers for each snapshot of your run, over 600 drawn pictures. The first is the share of recognised
# pictures. The second is the fine detail: the mean squared difference between a picture and its 3 × 3 blur, divided by
# the same number for the real sprites. Haze gives a value below 1, speckle a value above 1; the target is 1.
#
# The rule was fixed before the run. The claim holds if at least half of the last snapshot is recognised, at most one in
# fifty of the first, and if the detail of the last snapshot is within a factor of 1.5 of that of the data. The figure
# shows the shipped generator at the right; its detail is compared with that of red sprites. (The judge can be wrong: it
# was trained on sprites and on mixtures of them, not on every possible picture, so it may take a blot for a sprite.)


# %%
def fine_detail(drawn: Tensor) -> float:
    blurred = F.avg_pool2d(drawn, 3, stride=1, padding=1, count_include_pad=False)
    return (drawn - blurred).square().mean().item()


shares = {step: (recognised(drawn) >= 0).float().mean().item() for step, drawn in snapshots.items()}
details = {step: fine_detail(drawn) / fine_detail(pictures) for step, drawn in snapshots.items()}

with torch.no_grad():
    many = shipped(torch.randn(600, shipped.config.latent, device=device))
red = sprites(600, seed=2, colours=("red",))[0]
longer = {"share": (recognised(many) >= 0).float().mean().item(), "detail": fine_detail(many) / fine_detail(red)}

made, axes = figure(8.6, 2.6, columns=2)
for axis, numbers, better, title in zip(
    axes, (shares, details), longer.values(), ("Share recognised", "Fine detail"), strict=True
):
    axis.plot(list(numbers), list(numbers.values()), "o-", color=BLUE)
    axis.plot(1.08 * STEPS, better, "D", color=ORANGE)
    axis.annotate("shipped", (1.08 * STEPS, better), (8, -17), textcoords="offset points", color=ORANGE, ha="right")
    axis.set(title=title, xlabel="step", ylim=(0, 1.12 * max(1.0, better, *numbers.values())))
    axis.axhline(1, color=GREY, linestyle=":")
    axis.text(0, 1.02, "real sprites", color=GREY, va="bottom", fontsize=9)
show(made, "Over the steps the share of recognised pictures climbs, and the fine detail nears that of real sprites.")

first, last = SNAPSHOTS[0], SNAPSHOTS[-1]
drawn_well = shares[last] >= 1 / 2 and shares[first] <= 1 / 50 and 1 / 1.5 <= details[last] <= 1.5
verdict(
    "gan-sharpens",
    "holds" if drawn_well else "not quite",
    f"Recognised: {shares[first]:.0%} of the pictures at step {first}, {shares[last]:.0%} at step {last}. "
    f"Fine detail: {details[first]:.2f} and {details[last]:.2f} of the real sprites'. "
    f"The shipped generator: {longer['share']:.0%} and {longer['detail']:.2f}.",
)

# %% [markdown]
# ### Mode collapse
#
# A data set forms groups: all stars are similar, and so are all cats. Such a group is a **mode** of the distribution.
# The generator's loss asks only that its pictures fool the discriminator; it does not ask for variety. If one star
# fools the discriminator, drawing this star for every $z$ gives a low loss. That is **mode collapse**. In a balanced
# game the discriminator prevents it: it gets too many stars, learns that a star is probably drawn, and the generator is
# better off with other kinds.
#
# To see mode collapse, weaken this reaction. Copy your two networks after training and continue the game with other
# settings: the generator gets twenty turns for each turn of the discriminator, and a larger learning rate. What does it
# draw now, round by round, from the same latent vectors as before?

# %% tags=["ignored"]
TURNS, ROUNDS = 20, 14
LOOKS = (0, 1, 2, 4, 10, 14)

collapsed, opponent = deepcopy(generator), deepcopy(discriminator)
optimisers = adam(collapsed, 1.5e-2), adam(opponent, 1e-3)
looks: dict[int, Tensor] = {0: snapshots[STEPS]}

for turn in tqdm(range(1, ROUNDS + 1)):
    real = pictures[torch.randint(len(pictures), (BATCH,), device=device)]
    play(collapsed, opponent, optimisers, real, generator_turns=TURNS)
    if turn in LOOKS:
        collapsed.eval()
        with torch.no_grad():
            looks[turn] = collapsed(watched)
        collapsed.train()

# %%
strip = torch.cat([looks[turn][:9] for turn in LOOKS])
names = [f"round {turn}" for turn in LOOKS]
show(
    picture_grid(strip, columns=9, rows=names, title="Twenty turns against one", inches=0.95),
    "Row by row the nine pictures become alike, and all of them change together from one round to the next.",
)

# %% [markdown]
# Look at round 2. For most latent vectors the picture is now the same; in the stored run it is a house in all nine
# columns. That is mode collapse. In the following rounds the picture changes in all columns at once: the discriminator
# learns to recognise the picture, and the generator changes to another one. It does not return to several kinds. After
# that the pictures themselves get worse: a discriminator that is trained so rarely can also be fooled by pictures that
# are not sprites, and in the end by speckle. The paper warns of this in its section 6.
#
# Now count the kinds, for all networks in the same way. For each of 600 pictures, the judge says which of the six kinds
# it is most like. The answer “none” is left out here, because rough pictures count too. A kind is kept if at least 3 in
# 100 pictures are most like it; an equal share would be 17. The second number is the spread: how much the pictures
# differ from each other, measured as the standard deviation of a pixel over the 600 pictures, relative to that of the
# data. The twenty-to-one game is measured twice: after round 2, and at its end. For speckle the judge's choice of a
# kind means little, so rely on the spread there.
#
# The rule was fixed before the run: the claim holds if the twenty-to-one game ends with at most half of the kinds,
# three, and at most half of the spread, while your network before this game and the shipped one keep all six kinds. In
# the figure the dark part of a bar shows the pictures that the judge also recognises.


# %%
@torch.no_grad()
def kinds_of(drawn: Tensor) -> tuple[Tensor, Tensor]:
    """The shares (6,) of pictures (n, 3, 32, 32) that are most like each kind, and of those recognised as it too."""
    most_like = judge(drawn)["kind"][:, : len(SPRITES)].argmax(dim=1)
    clear = most_like[recognised(drawn) >= 0]
    counts = [torch.bincount(kinds, minlength=len(SPRITES)).cpu() for kinds in (most_like, clear)]
    return counts[0] / len(drawn), counts[1] / len(drawn)


crowds = {"your network": snapshots[STEPS], "round 2": looks[2], "the end": looks[ROUNDS], "shipped": many}
found = {name: kinds_of(drawn) for name, drawn in crowds.items()}
kept = {name: int((like >= 0.03).sum()) for name, (like, _) in found.items()}
spread = {name: (crowds[name].std(dim=0).mean() / pictures.std(dim=0).mean()).item() for name in ("round 2", "the end")}

made, axes = figure(9.4, 2.5, columns=4, sharey=True)
for axis, (name, (like, clear)) in zip(axes, found.items(), strict=True):
    axis.barh(SPRITES, like * 100, color=SKY)
    axis.barh(SPRITES, clear * 100, color=BLUE)
    axis.axvline(100 / 6, color=INK, linestyle=":")
    axis.set_axisbelow(True)
    axis.set(title=f"{name}: {kept[name]} of 6", xlabel="% of the pictures", xlim=(0, 105))
axes[0].invert_yaxis()
show(made, "Bars of the six kinds' shares: all kinds for two of the networks, one or few in the twenty-to-one game.")

collapse = kept["the end"] <= 3 and spread["the end"] <= 0.5
rarest = found["shipped"][1].min().item()
verdict(
    "gan-collapses",
    "holds" if collapse and kept["your network"] == kept["shipped"] == len(SPRITES) else "not quite",
    f"Kinds kept, of six: with twenty turns of the generator for one of the discriminator, {kept['round 2']} after two "
    f"rounds and {kept['the end']} at the end; {kept['your network']} with one for one, "
    f"{kept['shipped']} by the shipped network. The spread of the pictures is {spread['round 2']:.2f} of the "
    f"data's after two rounds, {spread['the end']:.2f} at the end. "
    f"The shipped network's rarest kind, clearly drawn: {rarest:.1%} of its pictures.",
)

# %% [markdown]
# The losses do not show mode collapse; you have to look at the pictures. It is the best-known weakness of GANs, and one
# reason why the networks of later lessons are also trained to reconstruct a given picture. There is a milder form, too.
# The shipped network was trained with one turn each, and it still draws far too few cars: its loss does not say how
# often each kind should appear.
#
# The collapse needed rather extreme settings, though. At five turns against one, with the learning rate unchanged, a
# network like yours kept all six kinds.
#
# ### Nothing can be asked of it
#
# Suppose you want a car. None of the 16 numbers of the latent vector stands for "car", so you can only draw pictures
# until a car appears. Here are the shipped generator's first twenty pictures, with the judge's answer for each.

# %%
with torch.no_grad():
    lottery = shipped(torch.randn(400, shipped.config.latent, generator=torch.Generator().manual_seed(11)).to(device))
names = [SPRITES[kind] if kind >= 0 else "–" for kind in recognised(lottery).tolist()]
show(
    picture_grid(lottery[:20], columns=10, titles=names[:20], inches=0.85),
    "Twenty drawn sprites in no order, each with the kind that the judge sees in it.",
)
waits = {kind: names.index(kind) + 1 if kind in names else None for kind in SPRITES}
print("pictures drawn until the first one came:", ", ".join(f"{kind} {wait}" for kind, wait in waits.items()))

# %% [markdown]
# A dash means that the judge is not confident enough to name a kind. It is too strict with cars: the sixth picture
# clearly shows one, but has no name. So the judge finds the first car at picture 45, and you find it at picture 6.
#
# The opposite direction is missing as well. There is no network that computes the $z$ of a picture, so you cannot take
# an existing sprite and change it. The next lesson builds this missing half.
#
# ## 7 · Your turn
#
# Each exercise has a cell for your answer and a check that tells you what is wrong with it. Later cells do not need
# your answers.
#
# ### Exercise 2a.1 · The value of the game (★☆☆, 5 minutes)
#
# Write $V(D, G)$ of equation 1 as a function of the logits of real and of drawn pictures. It must stay finite for a
# logit of −200 as well, where a sigmoid is rounded to 0.


# %% tags=["stub"]
def game_value(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """V of equation 1, a scalar, of logits (n,) and (m,)."""
    raise NotImplementedError


# %% tags=["checked"]
check("2a.1", game_value)

# %% [markdown] tags=["hint"]
# $D$ is the sigmoid of the logit, and $1 - \sigma(\ell) = \sigma(-\ell)$.

# %% [markdown] tags=["hint"]
# `F.logsigmoid` computes sigmoid and logarithm in one step, so it never takes the logarithm of 0.


# %% tags=["solution"]
def game_value(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """V of equation 1, a scalar, of logits (n,) and (m,)."""
    return F.logsigmoid(real_logits).mean() + F.logsigmoid(-fake_logits).mean()


# %% [markdown]
# ### Exercise 2a.2 · How flat is flat? (★☆☆, 5 minutes)
#
# A drawn picture has the logit −5: the discriminator is almost sure. How many times as steep as $\log(1 - D)$ is the
# non-saturating loss $-\log D$ there? Work it out with pen and paper, or let Python compute it. Give the answer to
# three digits.

# %% tags=["stub"]
ratio = None  # the slope of −log D, divided by the slope of log(1 − D), at a logit of −5

# %% tags=["checked"]
check("2a.2", ratio)

# %% [markdown] tags=["hint"]
# Section 2 has both slopes, as functions of $\sigma(\ell)$.

# %% [markdown] tags=["hint"]
# The ratio is $(1 - \sigma(\ell)) / \sigma(\ell)$. Insert $\sigma(\ell) = 1 / (1 + e^{-\ell})$ and simplify.

# %% tags=["solution"]
ratio = math.exp(5)  # (1 − σ(ℓ)) / σ(ℓ) = e^(−ℓ), about 148

# %% [markdown]
# ### Exercise 2a.3 · Through, and not into (★★☆, 10 minutes)
#
# In the generator's turn the gradient passes through the discriminator. In `play` it is also added to the gradients of
# the discriminator's weights, where it is not needed, until `zero_grad` removes it. Write the turn so that this does
# not happen: return the generator's loss so that, after `backward`, the generator's weights have their gradient and the
# discriminator's weights have no gradient. After your function returns, the discriminator must still be trainable in
# its own turn.


# %% tags=["stub"]
def generator_turn(generator: nn.Module, discriminator: nn.Module, z: Tensor) -> Tensor:
    """The generator's non-saturating loss, a scalar, of z (n, latent); its gradient is the generator's alone."""
    raise NotImplementedError


# %% tags=["checked"]
check("2a.3", generator_turn)

# %% [markdown] tags=["hint"]
# `detach` does not help here: it would also stop the gradient that the generator needs. Only the gradients of the
# discriminator's weights should be switched off.

# %% [markdown] tags=["hint"]
# `discriminator.requires_grad_(False)` switches off the gradients of all its weights while the loss is computed. Do not
# forget to switch them on again.


# %% tags=["solution"]
def generator_turn(generator: nn.Module, discriminator: nn.Module, z: Tensor) -> Tensor:
    """The generator's non-saturating loss, a scalar, of z (n, latent); its gradient is the generator's alone."""
    discriminator.requires_grad_(False)
    loss = F.softplus(-discriminator(generator(z))).mean()
    discriminator.requires_grad_(True)
    return loss


# %% [markdown]
# ### Exercise 2a.4 · Walk on the sphere (★★★, 10 minutes)
#
# Latent vectors of many normal numbers all have about the same length, so they lie near a sphere. Walk from $a$ to $b$
# along this sphere instead of on the straight line. At the fraction $t$ of the way,
#
# $$z(t) = \frac{\sin((1 - t)\,\theta)\;a + \sin(t\,\theta)\;b}{\sin\theta},$$
#
# where $\theta$ is the angle between $a$ and $b$. Return the points for all fractions at once. When your function is
# right, use it in section 5 instead of `torch.lerp`, and compare the middles of the walks.


# %% tags=["stub"]
def walk(start: Tensor, end: Tensor, shares: Tensor) -> Tensor:
    """Points (n, d) on the arc from start (d,) to end (d,), at shares (n,) of the way."""
    raise NotImplementedError


# %% tags=["checked"]
check("2a.4", walk)

# %% [markdown] tags=["hint"]
# The cosine of the angle is the dot product of the two vectors, divided by both lengths: `F.cosine_similarity(…,
# dim=0)`.

# %% [markdown] tags=["hint"]
# `shares[:, None]` has the shape (n, 1). Multiplied by a vector (d,) it gives (n, d).


# %% tags=["solution"]
def walk(start: Tensor, end: Tensor, shares: Tensor) -> Tensor:
    """Points (n, d) on the arc from start (d,) to end (d,), at shares (n,) of the way."""
    angle = torch.acos(F.cosine_similarity(start, end, dim=0))
    share = shares[:, None]  # (n, 1)
    return (torch.sin((1 - share) * angle) * start + torch.sin(share * angle) * end) / torch.sin(angle)


# %% [markdown]
# ## 8 · What we have, what is missing
#
# - A generator that makes pictures out of random numbers, trained without a formula for what a picture is.
# - A discriminator, which serves as a learned loss. The last lesson of this part uses one again, to make the pictures
#   of the VQ-GAN sharp.
# - A game between two networks: the losses do not tell how good the pictures are, so you look at them or count with a
#   judge.
# - A weakness, mode collapse: the loss does not ask for variety.
# - What is missing: a picture cannot be turned into its latent vector, and you cannot ask for a particular picture.

# %% [markdown] tags=["quiz"]
# **1.** The generator never sees a real picture. How does it learn what a cat looks like?
#
# - [ ] From the latent vectors, which are made from the sprites. — They are random numbers and contain nothing of the
#   data.
# - [x] From the gradient that flows back through the discriminator. — The discriminator was trained on cats, and its
#   gradient at each pixel says how to make the picture look more real.
# - [ ] From the discriminator's weights, which it copies. — The two networks have different layers and share no weight.

# %% [markdown] tags=["quiz"]
# **2.** After long training $D(x) = ½$ for real and for drawn pictures alike. What may have happened?
#
# - [x] The drawn pictures have become so good that the discriminator can only guess. — The paper's perfect game ends
#   there, with a discriminator loss of 2 log 2.
# - [ ] The generator has collapsed to one picture. — The discriminator would get that picture again and again, and
#   learn that it is drawn.
# - [ ] The discriminator has won. — Then it would say nearly 1 for the real ones and nearly 0 for the drawn ones.

# %% [markdown] tags=["quiz"]
# **3.** Why does the generator not simply minimise $\log(1 - D(G(z)))$?
#
# - [ ] Because its minimum is elsewhere. — Both losses fall as the logit rises, so they push the generator in the same
#   direction.
# - [ ] Because the logarithm of a probability may be infinite. — Computed from logits both stay finite.
# - [x] Because its slope is nearly 0 while the pictures are bad. — At a logit of −5 it is about 150 times as flat as
#   −log D.

# %% [markdown] tags=["quiz"]
# **4.** What would happen in `play` without `detach`?
#
# - [ ] The discriminator would learn nothing. — Its own gradient would stay the same.
# - [x] The first `backward` would also compute a gradient for the generator, one that makes its pictures easier to
#   recognise as drawn. — Here `zero_grad` removes it before the generator's step, so it only costs time.
# - [ ] PyTorch would raise an error. — It would run without an error message, which is why such mistakes are hard to
#   find.

# %% [markdown] tags=["quiz"]
# **5.** Your generator draws perfect stars and nothing else. What do its losses tell you?
#
# - [ ] The generator's loss is 0, since the stars are perfect. — The discriminator has learned that a star is probably
#   drawn, so the loss is not small.
# - [x] Little: they only compare the two networks at the moment, and do not show which kinds are missing. — That is why
#   you count the modes, or look at the pictures.
# - [ ] The discriminator's loss is infinite. — It still tells many pictures apart, and its loss is an ordinary number.
