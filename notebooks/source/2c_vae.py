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
# # 2c · The variational autoencoder
#
# A variational autoencoder is an autoencoder with two changes: noise is added to every latent vector, and all latents
# are pulled towards 0. With these changes you can draw two random numbers, pass them to the decoder, and get a new
# picture that is not in the training data.

# %%
import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from atelier.blocks.autoencoder import AutoencoderConfig, ConvDecoder, ConvEncoder, map_to_numbers, numbers_to_map
from atelier.evaluation.intervals import difference_of_groups, mean
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
    curves,
    explore,
    figure,
    lesson_header,
    picture_grid,
    sheet,
    show,
    slider,
    verdict,
)
from atelier.teaching.experiments.lesson_2c import BETAS, LATENT_SIZE, latent_size_figure, normal_fit, quality, train
from atelier.teaching.figures import hide_axes, posterize
from atelier.weights.sprites import load_sprite_model, read_sprite_models
from atelier.world.sprites import sprites
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Circle, Ellipse, FancyArrowPatch, FancyBboxPatch
from torch import Tensor, nn
from torch.distributions import Normal
from torch.distributions import kl_divergence as reference_kl
from tqdm.auto import tqdm

# %% [markdown]
# ## 1 · Where we are

# %%
lesson_header("2c")

# %% [markdown]
# Lesson 2b built an autoencoder. Its encoder turns a picture into two numbers, a point of the latent space. Its decoder
# turns the point back into the picture. The decoder was trained only on the points of the training pictures. Between
# these points are gaps, and you cannot predict what the decoder draws there.
#
# So the autoencoder can store pictures, but not make new ones: you do not know which points give good pictures. The
# variational autoencoder ([Kingma and Welling 2014](https://arxiv.org/abs/1312.6114)) is trained so that you do know:
# you draw the points from a fixed, simple distribution. (Docstrings refer to the sections and appendices of this
# paper.)
#
# From the earlier lessons you need only three terms: encoder, decoder, latent space.

# %% [markdown]
# ## 2 · The idea
#
# An autoencoder maps a picture $x$ to one point. A variational autoencoder maps it to a normal distribution, which we
# picture as a cloud of points: the encoder outputs the cloud's centre $\mu$ and its width in each direction, $\sigma$.
# Then a point $z$ is drawn from the cloud at random, and the decoder has to reconstruct the picture from it.

# %% tags=["folded"]
flow, axis = figure(8.6, 2.3)
hide_axes(axis)
stations = {
    "$x$\npicture": (0.0, GREY),
    "encoder": (1.5, BLUE),
    "$\\mu$, $\\log \\sigma^2$\ncloud": (3.1, SKY),
    "$z = \\mu + \\sigma \\epsilon$\none point of it": (5.0, SKY),
    "decoder": (6.8, BLUE),
    "$\\hat x$\npicture": (8.3, GREY),
}
for words, (x, colour) in stations.items():
    half = 0.75 if colour == SKY else 0.5
    axis.add_patch(FancyBboxPatch((x - half, 0.6), 2 * half, 0.8, "round,pad=0.03", fc=colour, alpha=0.25, ec=colour))
    axis.text(x, 1.0, words, ha="center", va="center", fontsize=9.5)
for start, end in ((0.53, 0.97), (2.03, 2.32), (3.88, 4.22), (5.78, 6.27), (7.33, 7.77)):
    axis.add_patch(FancyArrowPatch((start, 1.0), (end, 1.0), arrowstyle="-|>", mutation_scale=11, color=INK))
axis.add_patch(FancyArrowPatch((5.0, 0.12), (5.0, 0.56), arrowstyle="-|>", mutation_scale=11, color=VERMILION))
axis.text(5.0, -0.02, "noise: $\\epsilon$ from N(0, I)", ha="center", va="center", color=VERMILION, fontsize=9.5)
axis.add_patch(FancyArrowPatch((3.1, 1.88), (3.1, 1.44), arrowstyle="-|>", mutation_scale=11, color=GREEN))
axis.text(3.1, 2.02, "the KL term pulls it towards N(0, I)", ha="center", va="center", color=GREEN, fontsize=9.5)
axis.set(xlim=(-0.7, 9.0), ylim=(-0.25, 2.25))
show(
    flow, "A picture goes through the encoder to a cloud, a random point of the cloud through the decoder to a picture."
)

# %% [markdown]
# This has two effects.
#
# - Every point of the cloud has to decode to the picture, not only its centre. So a whole neighbourhood now decodes to
#   the same picture, and the gaps become smaller.
# - With the reconstruction loss alone, the encoder would make its clouds as small as points again and move them far
#   apart. So a second term of the loss pulls every cloud towards the same one: centre 0, width 1. Clouds move closer
#   together, and where two overlap, the decoder has to draw something in between. (The sketch below exaggerates the
#   overlap; section 6 measures it.)

# %% tags=["folded"]
torch.manual_seed(3)
centres = torch.tensor([[-0.85, 0.6], [0.85, 0.7], [0.0, -0.85]])
idea, axes = figure(7.0, 3.3, columns=2)
versions = {"Autoencoder: points, and gaps": (2.6, 0.3, 0.12, 0.7), "VAE: clouds, a sketch": (1.0, 0.3, 1.0, 0.1)}
for axis, (title, (far, spread, radius, alpha)) in zip(axes, versions.items(), strict=True):
    for colour, centre in zip(COLOURS, centres, strict=False):
        for point in (far * centre + spread * torch.randn(6, 2)).tolist():
            axis.add_patch(Circle(point, radius, color=colour, alpha=alpha, linewidth=0))
    axis.add_patch(Circle((0, 0), 2.45, fill=False, color=GREY, linestyle="--"))
    axis.set(xlim=(-3.4, 3.4), ylim=(-3.4, 3.2), aspect="equal", xticks=[], yticks=[])
    axis.set_title(title)
axes[0].text(0, 0.1, "what is here?", ha="center", color=INK)
axes[1].text(0, -3.2, "dashed: the circle that holds 95 % of N(0, I)", ha="center", color=INK, fontsize=8.5)
show(idea, "Left, three groups of points with empty space between them; right, the same groups as clouds that overlap.")

# %% [markdown]
# ### What is to be learned: a bound in five lines
#
# Suppose that pictures are generated in two steps. First $z$ is drawn from the **prior** $p(z)$, the distribution of
# latents before any picture is known; here it is N(0, I), the normal distribution with mean 0 and variance 1 in each
# direction. Then a decoder turns $z$ into a picture, with the distribution $p(x|z)$. We want to make the training
# pictures as probable as possible. That needs $\log p(x)$, an integral over all $z$ that cannot be computed. A second
# distribution helps: the **posterior** $q(z|x)$, the distribution of latents for a given picture. It is the encoder's
# cloud. (Strictly, it approximates the true posterior $p(z|x)$; hence the word "variational".)
#
# $$\begin{aligned}
# \log p(x) &= \log \int p(x|z)\, p(z)\, dz\\
# &= \log \int q(z|x)\, \frac{p(x|z)\, p(z)}{q(z|x)}\, dz\\
# &= \log\, \mathbb E_{q}\!\left[\frac{p(x|z)\, p(z)}{q(z|x)}\right]\\
# &\ge \mathbb E_{q}\!\left[\log p(x|z) + \log p(z) - \log q(z|x)\right]\\
# &= \mathbb E_{q}\!\left[\log p(x|z)\right] - \mathrm{KL}\big(q(z|x)\,\|\,p(z)\big)
# \end{aligned}$$
#
# The first line sums over all $z$ from which $x$ can be generated. The second multiplies by $q/q = 1$, and the third
# writes the integral as a mean over the cloud. The fourth moves the logarithm inside the mean: since the logarithm is
# concave, the result can only become smaller (Jensen's inequality). The last line is the **ELBO**, the evidence lower
# bound. It is never larger than $\log p(x)$, so training maximises it in place of $\log p(x)$. Its second part is a
# **KL divergence**, the mean of $\log q - \log p$ over samples of $q$. It measures how far $q$ is from $p$, and is 0
# only if they are the same. With natural logarithms its unit is the **nat**, a unit of information of $1/\ln 2 \approx
# 1.44$ bits.
#
# | symbol | shape | what it is |
# |---|---|---|
# | $x$, $\hat x$ | (n, 3, 32, 32) | pictures and their reconstructions |
# | $\mu$, $\log \sigma^2$ | (n, d) each | centre and log variance of each picture's cloud; here $d = 2$ |
# | $\epsilon$ | (n, d) | random numbers from N(0, I) |
# | $z = \mu + \sigma \epsilon$ | (n, d) | one point of each cloud |
# | $\beta$ | one number | weight of the KL term |
#
# Assume that each pixel is normally distributed around the decoder's output, with standard deviation $s$. Then $\log
# p(x|z) = -\lVert x - \hat x \rVert^2 / 2 s^2$ plus a constant. Multiply the negative ELBO by $s^2$, write $\beta$ for
# $s^2$, and the loss is
#
# $$\text{loss} = \tfrac12 \lVert x - \hat x \rVert_2^2 + \beta \cdot
# \tfrac12 \sum_{j=1}^{d} \left(\mu_j^2 + \sigma_j^2 - 1 - \log \sigma_j^2\right), \qquad \beta = s^2.$$
#
# The sum with its factor ½ is the KL divergence of the cloud from N(0, I), in closed form (appendix B of the paper). So
# $\beta$ is the expected squared error of a pixel. [Higgins and others
# (2017)](https://openreview.net/forum?id=Sy2fzU9gl) used $\beta$ as a hyperparameter that is chosen freely.

# %% [markdown]
# ## 3 · Build it
#
# The cells below are the library's own `atelier/blocks/vae.py`, piece by piece. The convolutions come from lesson 2b.
# The first cell defines the output of the encoder.


# %%
class Posterior(NamedTuple):
    """The cloud q(z|x) that the encoder makes of each picture: normal, its axes independent."""

    mean: Tensor
    log_variance: Tensor


# %% [markdown]
# Why the logarithm of the variance? A network's output can be any number, but a variance must be positive. The
# exponential of any number is positive, so every output is allowed. Here are three clouds, defined by hand.

# %% tags=["checked"]
clouds = Posterior(
    mean=torch.tensor([[-1.5, 0.0], [0.0, 0.0], [1.5, 0.5]]),
    log_variance=torch.tensor([[0.5, 0.5], [1.0, 1.0], [0.2, 1.2]]).square().log(),
)
print("mean", tuple(clouds.mean.shape), "· log variance", tuple(clouds.log_variance.shape))
print("standard deviations", [[round(s, 2) for s in row] for row in (clouds.log_variance / 2).exp().tolist()])

# %% [markdown]
# ### A random point with a gradient
#
# Drawing a random point is not a differentiable operation, so $\mu$ and $\sigma$ would get no gradient. The
# **reparameterisation** solves this: draw $\epsilon$ from a fixed distribution, and compute the point as $z = \mu +
# \sigma \epsilon$. The randomness is now an input, and $z$ is an ordinary, differentiable function of $\mu$ and
# $\sigma$.


# %%
def reparameterize(mean: Tensor, log_variance: Tensor) -> Tensor:
    """A sample z = μ + σ·ε, with ε from N(0, I) (section 2.4): chance stays outside, so μ and σ get gradients."""
    return mean + (log_variance / 2).exp() * torch.randn_like(mean)


# %% tags=["folded"]
torch.manual_seed(0)
many = Posterior(*(part[:, None].expand(3, 120, 2).clone().requires_grad_() for part in clouds))
samples = reparameterize(*many)  # (3, 120, 2)
to_mean, to_width = torch.autograd.grad(samples.sum(), many)
assert torch.equal(to_mean, torch.ones(3, 120, 2))  # moving the centre by 1 moves each point by 1
assert to_width.abs().min() > 0  # and the width gets a gradient too

drawn, axis = figure(6.4, 2.8)
for colour, centre, width, points in zip(COLOURS, *clouds, samples.detach(), strict=False):
    axis.scatter(*points.T, s=5, color=colour, alpha=0.5, linewidths=0)
    axis.add_patch(Ellipse(centre.tolist(), *(4 * (width / 2).exp()).tolist(), fill=False, color=colour, lw=2))
axis.set(xlim=(-4.2, 4.2), ylim=(-2.6, 3.0), aspect="equal", xlabel="$z_1$", ylabel="$z_2$")
axis.set_title("120 samples of each cloud; lines: two σ")
axis.set_axisbelow(True)
show(
    drawn,
    "Three clouds of points, one small and round, one large and round, one tall and narrow, each with its ellipse.",
)

# %% [markdown]
# ### What a cloud costs
#
# The KL divergence from N(0, I) is a sum over the axes. Each axis contributes two costs: one for a centre away from 0,
# and one for a width other than 1.


# %%
def kl_divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL(q(z|x) ‖ N(0, I)) of each picture, in nats, in closed form (appendix B)."""
    return (mean.square() + log_variance.exp() - 1 - log_variance).sum(1) / 2


# %% tags=["folded"]
steps = torch.linspace(-3, 3, 121)[:, None]
widths = torch.linspace(0.05, 3, 121)[:, None]
off_centre = kl_divergence(steps, torch.zeros_like(steps))
off_width = kl_divergence(torch.zeros_like(widths), 2 * widths.log())
assert torch.allclose(kl_divergence(*clouds), torch.tensor([1.761, 0.0, 2.417]), atol=1e-3)

costs, axes = figure(7.2, 2.4, columns=2, sharey=True)
axes[0].plot(steps[:, 0], off_centre, color=BLUE)
axes[0].set(xlabel="centre $\\mu$, with $\\sigma = 1$", ylabel="nats", title="A centre away from 0 costs $\\mu^2/2$")
axes[1].plot(widths[:, 0], off_width, color=ORANGE)
axes[1].set(xlabel="width $\\sigma$, with $\\mu = 0$")
axes[1].set_title("A width costs $(\\sigma^2 - 1) / 2 - \\log \\sigma$")
show(
    costs,
    "Two curves of cost in nats: a parabola over the centre, and a curve over the width that falls to 0 at width 1.",
)

# %% [markdown]
# The right curve keeps the clouds wide: the cost goes to infinity as a cloud shrinks to a point.
#
# ### The loss
#
# Both terms are sums over their axes (3,072 pixel values in the first, $d$ latents in the second) and then means over
# the n pictures. If you take the mean over pixels in the first term but the sum over latents in the second, you have
# changed $\beta$ by a factor of 3,072. This is a common mistake. The loss is in nats only if $\beta = 1$; the KL
# divergence alone always is.


# %%
def vae_loss(pictures: Tensor, reconstructions: Tensor, posterior: Posterior, beta: float = 1.0) -> Tensor:
    """The mean over n of ½ ‖x − x̂‖² + β KL; in nats if β is 1."""
    squared_error = (pictures - reconstructions).square().flatten(1).sum(1)  # (n,)
    return (squared_error / 2 + beta * kl_divergence(*posterior)).mean()


# %% tags=["checked"]
black, grey = torch.zeros(3, 3, 32, 32), torch.full((3, 3, 32, 32), 0.5)
print(f"pictures half as bright as they should be: {vae_loss(grey, black, clouds, beta=0):.0f}")
print(f"only the three clouds above:               {vae_loss(black, black, clouds):.3f}")
print(f"both, the clouds with weight 2:            {vae_loss(grey, black, clouds, beta=2):.3f}")

# %% [markdown]
# ### The whole
#
# There are only two differences from lesson 2b: the encoder outputs $2d$ numbers instead of $d$, and `reparameterize`
# comes between encoder and decoder.


# %%
class VAE(nn.Module):
    """The autoencoder's encoder and decoder, with a cloud between them instead of a point."""

    def __init__(self, config: AutoencoderConfig):
        super().__init__()
        self.config = config
        self.encoder = nn.Sequential(ConvEncoder(config), map_to_numbers(config, 2 * config.latent))
        self.decoder = nn.Sequential(numbers_to_map(config, config.latent), ConvDecoder(config))

    def encode(self, pictures: Tensor) -> Posterior:
        """Pictures (n, 3, size, size), from 0 to 1, to their clouds."""
        return Posterior(*self.encoder(pictures).chunk(2, dim=1))  # (n, latent) each

    def decode(self, z: Tensor) -> Tensor:
        """Latents z (n, latent) to pictures (n, 3, size, size), from 0 to 1."""
        return self.decoder(z)

    def forward(self, pictures: Tensor) -> tuple[Tensor, Posterior]:
        """Pictures (n, 3, size, size) to reconstructions, each from one sample of its cloud, and the clouds."""
        posterior = self.encode(pictures)
        return self.decode(reparameterize(*posterior)), posterior


# %% tags=["checked"]
torch.manual_seed(0)
untrained = VAE(AutoencoderConfig(width=24))
few, _ = sprites(8, seed=0)
reconstructions, posterior = untrained(few)
print("pictures", tuple(few.shape), "→ centres", tuple(posterior.mean.shape), "and as many log variances")
print("→ one point of each cloud → reconstructions", tuple(reconstructions.shape))
again, _ = untrained(few)
assert not torch.equal(reconstructions, again)  # other random numbers give another picture

# %% [markdown]
# ### Does it agree with the reference?
#
# `torch.distributions` provides normal distributions, samples from them with a gradient, and their KL divergence. Our
# functions must give the same numbers and the same gradients. The loss with $\beta = 1$ must be the negative ELBO, up
# to a constant: $-\log p(x|z)$ for pixels of variance 1, plus the KL divergence.

# %% tags=["checked"]
reference = Normal(posterior.mean, (posterior.log_variance / 2).exp())
standard = Normal(torch.zeros(8, 2), torch.ones(8, 2))
torch.testing.assert_close(kl_divergence(*posterior), reference_kl(reference, standard).sum(1), rtol=1e-5, atol=1e-6)

torch.manual_seed(1)
ours = torch.autograd.grad(reparameterize(*posterior).square().sum(), posterior, retain_graph=True)
torch.manual_seed(1)
theirs = torch.autograd.grad(reference.rsample().square().sum(), posterior, retain_graph=True)
torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)

pixels = Normal(reconstructions, 1.0)
constant = -pixels.log_prob(reconstructions).flatten(1).sum(1)  # what a perfect reconstruction would have
negative_elbo = -pixels.log_prob(few).flatten(1).sum(1) + reference_kl(reference, standard).sum(1) - constant
torch.testing.assert_close(vae_loss(few, reconstructions, posterior), negative_elbo.mean(), rtol=1e-4, atol=1e-3)
print("KL, samples, their gradients and the loss: the same as torch.distributions")

# %% [markdown]
# ## 4 · Train it
#
# The pictures are sprites: one big object on a plain background, six subjects in five colours. Three combinations are
# left out, because later lessons test on them: blue strawberries, green cats and purple mushrooms. That leaves 27.

# %%
shipped = read_sprite_models()["vae"]
subjects = shipped.subjects
pictures, kinds = sprites(1500, seed=0, subjects=subjects, colours=shipped.colours)
show(sheet(pictures[:24], columns=12), "Sprites, one in each picture: " + ", ".join(subjects) + ".")

# %% [markdown]
# Which $\beta$? The pixels of good reconstructions are off by about 0.1, which suggests $\beta = 0.01$; but then the
# clouds become so small that the network is almost an ordinary autoencoder. We use 2. As a model of pixels this is
# wrong: it expects errors of 1.4, and pixels are between 0 and 1. But it works as a weight: a picture has 3,072 pixel
# values and a cloud only two axes, and with $\beta = 2$ both terms influence the training. Section 6 shows the effect
# of a $\beta$ a hundred times smaller, and of one a hundred times larger.


# %%
STEPS, BATCH = 1000, 32


def fit(beta: float) -> tuple[VAE, dict[str, list[float]]]:
    """Train a VAE on the sprites: the model, and the history of the two terms of its loss."""
    torch.manual_seed(0)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    shown, vae = pictures.to(device), VAE(AutoencoderConfig(width=16)).to(device)
    optimizer = torch.optim.Adam(vae.parameters(), betas=(0.9, 0.99))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=1e-2, total_steps=STEPS)
    history = {"½ squared error": [], "KL": []}
    for _ in tqdm(range(STEPS), desc=f"β = {beta:g}"):
        batch = shown[torch.randint(len(shown), (BATCH,), device=device)]
        reconstructions, posterior = vae(batch)
        loss = vae_loss(batch, reconstructions, posterior, beta)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        divergence = kl_divergence(*posterior).mean()
        history["KL"].append(divergence.item())
        history["½ squared error"].append((loss - beta * divergence).item())
    return vae.cpu().eval().requires_grad_(False), history


# %% tags=["ignored"]
live, history = fit(beta=2.0)

# %%
ends = {name: sum(values[-50:]) / 50 for name, values in history.items()}
assert ends["½ squared error"] < history["½ squared error"][0] / 5
assert ends["KL"] > 1
smooth = {
    "KL, in nats" if name == "KL" else name: [sum(values[at - 20 : at]) / 20 for at in range(20, len(values) + 1, 10)]
    for name, values in history.items()
}
steps = list(range(20, len(history["KL"]) + 1, 10))
show(
    curves(smooth, steps, title="The two terms during training", log=True),
    "Two curves over the steps: half the squared error falls steadily, the KL divergence settles.",
)

# %% [markdown]
# Half the squared error falls to between 13 and 20, the KL divergence settles at 4 to 6 nats. The KL divergence is an
# upper bound on the information that the latents carry about a picture; section 6 measures the information itself. To
# name one of 27 combinations takes $\ln 27 \approx 3.3$ nats. The rest can describe position and size.
#
# Here are reconstructions.


# %%
def plane(decode: Callable[[Tensor], Tensor], side: int, reach: float = 2.4) -> Tensor:
    """The decoded latent plane, side × side points from -reach to reach: (side², 3, 32, 32), the top row first."""
    ticks = torch.linspace(-reach, reach, side)
    return decode(torch.cartesian_prod(ticks.flip(0), ticks).flip(1))  # z_2 falls from row to row, z_1 rises


centres = live.encode(pictures[:12]).mean
pairs = torch.cat([pictures[:12], live.decode(centres)])
show(  # with 32 shades of each colour, which you hardly see and which keeps the notebook's file small
    picture_grid(posterize(pairs), 12, rows=["input", "output"]),
    "Twelve sprites, and under each its softer reconstruction.",
)

# %% [markdown]
# The next figure shows the decoder's pictures on a grid over the whole plane, also at points where no sprite was
# encoded.

# %%
show(
    sheet(posterize(plane(live.decode, side=7)), columns=7),
    "The latent plane of the network just trained, as seven rows of seven pictures.",
)

# %% [markdown]
# All 49 pictures show something. Every subject has a region of its own. Inside a region the colour changes gradually,
# and at the borders one subject turns into the next.
#
# But the reconstructions are soft, some have the colour of a neighbouring sprite, and small details such as eyes and
# windows are lost: two noisy numbers cannot hold more information.
#
# From here on we use a shipped VAE of the same design that was trained for longer, so that the results do not depend on
# your machine.

# %%
vae = load_sprite_model("vae").requires_grad_(False)
torch.manual_seed(0)
z = torch.randn(24, 2)  # two numbers from N(0, I) for each picture are the only input
show(sheet(posterize(vae.decode(z)), columns=12), "Twenty-four pictures that the shipped VAE made of random numbers.")

# %% [markdown]
# These are new pictures, decoded from 24 random points. Most of them are good, some are a mixture of two things.
# Section 6 counts them.

# %% [markdown]
# ## 5 · Look inside
#
# On the left are the clouds of 120 new sprites, coloured by subject; on the right is what the decoder draws in the same
# part of the plane.


# %% tags=["folded"]
def draw_clouds(axis: Axes, posterior: Posterior, kinds: Tensor, reach: float = 2.8) -> None:
    """Each cloud as an ellipse of two standard deviations to each side, and its centre as a dot."""
    means, widths = posterior.mean.tolist(), (4 * (posterior.log_variance / 2).exp()).tolist()
    for centre, size, kind in zip(means, widths, kinds.tolist(), strict=True):
        axis.add_patch(Ellipse(centre, *size, color=COLOURS[kind], alpha=0.18, linewidth=0))
    for kind, (name, colour) in enumerate(zip(subjects, COLOURS, strict=False)):
        axis.scatter(*posterior.mean[kinds == kind].T, color=colour, label=name, s=4)
    axis.set(xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal", xlabel="$z_1$", ylabel="$z_2$")
    axis.set_axisbelow(True)


fresh, fresh_kinds = sprites(1200, seed=1_000_002, subjects=subjects, colours=shipped.colours)  # not used in training
posterior = Posterior(*vae.encode(fresh))
decoded = sheet(posterize(plane(vae.decode, side=7, reach=2.4)), columns=7, scale=1, gap=0)
both, axes = figure(6.8, 3.4, columns=2, sharey=True)
draw_clouds(axes[0], Posterior(*(part[:120] for part in posterior)), fresh_kinds[:120])
axes[1].imshow(decoded, extent=(-2.8, 2.8, -2.8, 2.8), interpolation="nearest")
axes[1].set(xlabel="$z_1$")
axes[1].grid(False)
both.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=len(subjects), markerscale=3)
show(
    both,
    "Left, the clouds of 120 sprites, a region for each subject; right, the pictures that the decoder draws there.",
)

# %% [markdown]
# Now explore the plane. The cross marks the point you choose, the picture is what the decoder draws there, and the bars
# show the probabilities that a judge gives to each class. The judge is a small classifier for the six subjects, with a
# class "none" that was trained on blends, halves and noise.

# %%
judge = load_sprite_model("judge").requires_grad_(False)
classes = judge.config.attributes["kind"]
none = classes.index("none")


def walk(z_1: float, z_2: float) -> tuple[Figure, str]:
    """The plane with a cross at z, the picture there, and the judge's opinion of it."""
    picture = vae.decode(torch.tensor([[z_1, z_2]]))
    opinion = judge(picture)["kind"].softmax(1)[0].tolist()
    drawn, axes = figure(8.6, 3.0, columns=3, width_ratios=[1.1, 1, 1])
    draw_clouds(axes[0], Posterior(*(part[:90] for part in posterior)), fresh_kinds[:90])
    axes[0].plot(z_1, z_2, marker="+", color=INK, markersize=16, markeredgewidth=2.5)
    axes[1].imshow(picture[0].permute(1, 2, 0), interpolation="nearest")
    hide_axes(axes[1])
    axes[2].barh(classes, opinion, color=[GREY if name == "none" else BLUE for name in classes])
    axes[2].set(xlim=(0, 1), title="the judge's answer")
    axes[2].invert_yaxis()
    axes[2].grid(False)
    best = classes[opinion.index(max(opinion))]
    return (
        drawn,
        f"The latent plane with a cross at {z_1:.1f}, {z_2:.1f}, and the picture there: the judge sees {best}.",
    )


explore(walk, z_1=slider(-2.8, 2.8, 0.6, 0.1, "z₁"), z_2=slider(-2.8, 2.8, 0.4, 0.1, "z₂"))

# %% [markdown]
# ## 6 · Break it
#
# ### "The latent space is more cohesive – resembles the unit norm."
#
# By "unit norm" the slide means the unit normal distribution, N(0, I). (Not vectors of length 1: in two dimensions a
# point of N(0, I) has a mean length of 1.25.) All clouds together make one distribution, the **aggregate posterior**
# $q(z) = \frac1n \sum_i q(z|x_i)$, the mixture of the clouds of all pictures. Does it resemble N(0, I)?
#
# Its mean is the mean of the centres. Its covariance is the covariance of the centres plus the mean of the clouds' own
# variances. These two define its normal fit, the normal distribution with the same mean and covariance, whose KL
# divergence has a closed form. An autoencoder's points are clouds of width 0, so the same formulas apply to it.


# %%
def moments(posterior: Posterior) -> tuple[Tensor, Tensor]:
    """Mean (d,) and covariance (d, d) of the mixture of all clouds."""
    own = posterior.log_variance.exp().mean(0).diag()
    return posterior.mean.mean(0), posterior.mean.T.cov(correction=0) + own


def fit_kl(mean: Tensor, covariance: Tensor) -> float:
    """KL(N(mean, covariance) ‖ N(0, I)), in nats."""
    return (covariance.trace() + mean.square().sum() - len(mean) - covariance.logdet()).item() / 2


def log_densities(z: Tensor, posterior: Posterior) -> Tensor:
    """Log density of each cloud at each point: z (m, d) → (m, n)."""
    return Normal(posterior.mean, (posterior.log_variance / 2).exp()).log_prob(z[:, None]).sum(2)


autoencoder = load_sprite_model("autoencoder").requires_grad_(False)
points = Posterior(autoencoder.encode(fresh), torch.full((len(fresh), 2), -torch.inf))
assert read_sprite_models()["autoencoder"].subjects == subjects  # both were trained on the same sprites
assert moments(posterior)[1].shape == (2, 2)

# %% [markdown]
# Look at the two planes first, drawn on the same scale. The dashed circle, of radius 2.45, holds 95 % of N(0, I).

# %% tags=["folded"]
torch.manual_seed(0)
dots = {
    "Autoencoder: a point of each sprite": points.mean,
    "VAE: a random point of each cloud": reparameterize(*posterior),
}
planes, axes = figure(7.6, 4.0, columns=2, sharex=True, sharey=True)
for axis, (title, places) in zip(axes, dots.items(), strict=True):
    for kind, (name, colour) in enumerate(zip(subjects, COLOURS, strict=False)):
        axis.scatter(*places[fresh_kinds == kind].T, s=4, color=colour, label=name, linewidths=0)
    axis.add_patch(Circle((0, 0), 2.45, fill=False, color=INK, linestyle="--"))
    axis.set(title=title, aspect="equal", xlabel="$z_1$")
planes.legend(*axes[1].get_legend_handles_labels(), loc="outside upper center", ncols=len(subjects), markerscale=3)
show(
    planes,
    "Left, the autoencoder's points, scattered far and wide; right, on the same scale, the VAE's fill one circle.",
)

# %% [markdown]
# How far is the normal fit of the clouds from N(0, I), and what do the decoders draw from random points? The
# autoencoder's points are drawn from N(0, I) and, as the fair comparison, from its own normal fit. `quality` returns
# the share of 1,000 pictures in which the judge recognises a subject, and how many of the six subjects are kept: those
# that each make up at least 3 % of the pictures.

# %%
torch.manual_seed(0)
dice = torch.randn(1000, 2)
(vae_mean, vae_cov), (ae_mean, ae_cov) = moments(posterior), moments(points)
vae_kl, ae_kl = fit_kl(vae_mean, vae_cov), fit_kl(ae_mean, ae_cov)
print(f"VAE: mean ({vae_mean[0]:.2f}, {vae_mean[1]:.2f}), variances {vae_cov[0, 0]:.2f} and {vae_cov[1, 1]:.2f}")
print(f"KL divergence of the normal fit from N(0, I): VAE {vae_kl:.2f} nats, autoencoder {ae_kl:.1f}")
drawings = {
    "VAE, N(0, I)": vae.decode(dice),
    "AE, N(0, I)": autoencoder.decode(dice),
    "AE, own fit": autoencoder.decode(ae_mean + dice @ torch.linalg.cholesky(ae_cov).T),
}
for name, drawn in drawings.items():
    recognised, kept = quality(drawn)
    print(f"{name}: {recognised:.0%} recognised, {kept} subjects kept")
show(
    picture_grid(posterize(torch.cat([drawn[:7] for drawn in drawings.values()])), 7, rows=list(drawings), inches=0.8),
    "Three rows of seven pictures from random points: the VAE's, and the autoencoder's from N(0, I) and from its fit.",
)

# %% [markdown]
# The resemblance is good: mean and variances of the VAE's clouds are nearly those of N(0, I). From N(0, I) the
# autoencoder draws mostly unrecognisable pictures, because the latents of its sprites lie elsewhere. But from its own
# fit it does almost as well as the VAE. 27 combinations that share a plane leave little of it empty, whatever the loss.
# So two numbers show what the VAE changes, but they cannot decide whether the change helps.
#
# Mean and covariance do not describe a distribution completely. Between the clouds of two kinds the density of the
# mixture is still low. The KL divergence of the mixture itself, instead of its normal fit, takes this into account. It
# has no closed form, so you draw points of the mixture and take the mean of $\log q(z) - \log p(z)$:

# %% tags=["folded"]
torch.manual_seed(0)
z = reparameterize(*(part.repeat(5, 1) for part in posterior))  # five points of each cloud: a sample of the mixture
log_q = log_densities(z, posterior).logsumexp(1) - math.log(len(fresh))
log_p = Normal(0.0, 1.0).log_prob(z).sum(1)
whole, told = (log_q - log_p).mean().item(), kl_divergence(*posterior).mean().item()
assert whole < told
assert vae_kl < ae_kl
bars, axis = figure(7.0, 1.7)
axis.barh(["normal fit of the mixture", "mixture of all clouds", "mean of the single clouds"], [vae_kl, whole, told])
for row, nats in enumerate((vae_kl, whole, told)):
    axis.text(nats + 0.05, row, f"{nats:.2f}", va="center")
axis.set(xlabel="KL divergence from N(0, I), nats", xlim=(0, 1.15 * told))
axis.grid(False)
show(
    bars, "Bars of nats: the single clouds are far from N(0, I), their mixture is near it, its normal fit still nearer."
)

# %% [markdown]
# Read the bars from top to bottom. A single cloud is far from N(0, I), and it has to be: otherwise the latents would
# carry no information about the picture. All clouds together are much nearer, and their mean and covariance are almost
# exactly right. The middle bar is not 0, because the density is low along the borders between kinds: at two standard
# deviations the clouds of different kinds hardly touch. The difference between the two upper bars is how many nats $z$
# tells about which picture it came from.
#
# ### Sixteen numbers
#
# With more numbers there is more room between the latents. So the claim is tested with 16 numbers, by three rules.
#
# - *Resembles N(0, I).* A small network is trained to tell the latents of new sprites, one random point of each cloud,
#   from random points of N(0, I). If both had the same distribution, it would be right in 50 % of all cases.
#   "Resembles" requires that it is right in less than 75 %.
# - *More cohesive.* In random pictures of the VAE, from N(0, I), the judge has to recognise a subject at least ten
#   percentage points more often than in those of the autoencoder from its own normal fit.
# - *No subject lost.* The VAE must not keep fewer of the six subjects than the autoencoder, so that it cannot win by
#   drawing one subject again and again.
#
# Five trainings of each are stored. They differ in nothing but the noise and the KL term: the same 1,000 batches, the
# same channels, the same squared error. The next cell repeats one training of each and decodes random points.

# %% tags=["ignored"]
(plain, learned), (variational, _) = train("AE 16", seed=0), train("VAE 16", seed=0)
mean_16, factor_16 = normal_fit(plain.encode(learned))
torch.manual_seed(0)
dice = torch.randn(1000, 16)
drawings = {
    "VAE, N(0, I)": variational.decode(dice),
    "AE, N(0, I)": plain.decode(dice),
    "AE, own fit": plain.decode(mean_16 + dice @ factor_16.T),
}
for name, drawn in drawings.items():
    recognised, kept = quality(drawn)
    print(f"{name}: {recognised:.0%} recognised, {kept} subjects kept")
show(
    picture_grid(
        posterize(torch.cat([drawn[:12] for drawn in drawings.values()])), 12, rows=list(drawings), inches=0.68
    ),
    "Three rows of twelve pictures from random points with sixteen numbers: the VAE's, and the autoencoder's from "
    "N(0, I) and from its own fit.",
)

# %%
show(
    latent_size_figure(),
    "Three panels for latents of 2 to 64 numbers: distance of the reconstructions over bits, share of random pictures "
    "recognised, and kinds kept, each for autoencoder, VAE and VQ-VAE.",
)
by_vae, by_ae = LATENT_SIZE.results()["VAE 16"], LATENT_SIZE.results()["AE 16"]


def column(rows: list[dict[str, float]], name: str) -> list[float]:
    return [row[name] for row in rows]


verdict(
    "vae-unit-normal",
    mean(column(by_vae, "told_apart"), "trainings"),
    difference_of_groups(column(by_vae, "recognised"), column(by_ae, "recognised"), "trainings"),
    difference_of_groups(column(by_vae, "kinds"), column(by_ae, "kinds"), "trainings"),
    figures=f"Mean distance of the reconstructions: {mean(column(by_vae, 'distance'), 'trainings').value:.1f} with the "
    f"VAE, {mean(column(by_ae, 'distance'), 'trainings').value:.1f} with the autoencoder.",
)

# %% [markdown]
# With 16 numbers the claim holds by all three rules. The classifier is hardly better than chance at telling the VAE's
# latents from N(0, I), but it recognises the autoencoder's latents almost always, even those that were scaled by their
# own fit. More than half of the VAE's random pictures show a subject, and all six subjects occur. The autoencoder's own
# fit gives one picture in six and loses most of the subjects, and N(0, I) gives none. With two numbers the two networks
# are nearly equal, so two numbers cannot decide the question.
#
# The price is in the left panel. All VAEs from 8 numbers on have about nine bits, however many numbers they could use:
# the KL term leaves the others at N(0, I), where they cost nothing and say nothing. With these few bits the
# reconstructions are much further from the sprites than the autoencoder's.
#
# And the VQ-VAE? Its latents are grids of codes, which you build in lesson 2d. Here each code was drawn independently,
# by how often it occurs in its cell. With four codes this works for half of the pictures. With sixteen or more it fails
# completely, because neighbouring codes depend on each other. A grid of codes can be reconstructed well, but to
# *generate* one you need a network that knows which codes go together. Lesson 2d ends with such a network, and the
# translator of lesson 3 is one, too.
#
# ### "Overlapping regions produce “morphed” images."
#
# Where do regions overlap? You can compute this from the clouds alone, without decoding. At a point $z$, add up the
# densities of the clouds of each kind. If one kind has more than 90 % of the total, the point is clear; if not, it lies
# in an overlap. A **morph** is a picture between two things that has features of both. The judge was not trained on
# morphs, but it was trained to answer "none" for blends.
#
# There are two tests, with thresholds fixed before the run, on 2,000 random points of N(0, I). The control is the clear
# points.
#
# - *Not one thing.* The judge recognises a subject at least 25 percentage points less often in the overlaps than at the
#   clear points.
# - *Between two things.* At each point, take the two kinds with the largest densities, and for each kind the mean of
#   its pictures, weighted by the densities of their clouds there. How far is the decoded picture on the way from one
#   mean picture to the other? It counts as between them from 10 to 90 % of the way. In the overlaps this has to happen
#   at least 50 percentage points more often.


# %%
def kind_shares(z: Tensor) -> Tensor:
    """p(kind | z), computed from the clouds: z (m, d) → (m, kinds)."""
    densities = log_densities(z, posterior)  # (m, n)
    return torch.stack([densities[:, fresh_kinds == kind].logsumexp(1) for kind in range(len(subjects))], 1).softmax(1)


def path(decode: Callable[[Tensor], Tensor], start: Tensor, end: Tensor, frames: int) -> Tensor:
    """Pictures on the straight line from start to end, (m, d) each: (m, frames, 3, 32, 32)."""
    way = torch.linspace(0, 1, frames)[:, None, None]
    return decode(torch.lerp(start, end, way).flatten(0, 1)).unflatten(0, (frames, -1)).transpose(0, 1)


def way_between(z: Tensor, decoded: Tensor) -> Tensor:
    """How far pictures decoded at z (m, d) are on the way from the mean picture of one kind to that of another: (m,).

    The kinds are the two with the largest densities at z; the means are weighted by the clouds' densities there.
    """
    densities = log_densities(z, posterior)  # (m, n)
    means = torch.stack(
        [densities[:, fresh_kinds == kind].softmax(1) @ fresh[fresh_kinds == kind].flatten(1) for kind in range(6)], 1
    )  # (m, 6, 3072)
    one, other = means[torch.arange(len(z)), kind_shares(z).topk(2, dim=1).indices.T]  # (m, 3072) each
    return ((decoded.flatten(1) - one) * (other - one)).sum(1) / (other - one).square().sum(1)


torch.manual_seed(1)
dice = torch.randn(2000, 2)
overlap = kind_shares(dice).amax(1) < 0.9  # (2000,) bool
decoded = vae.decode(dice)
way = way_between(dice, decoded)  # (2000,)
between = (way > 0.1) & (way < 0.9)
clear = judge(decoded)["kind"].argmax(1) != none  # the judge recognises a subject

# %% [markdown]
# Compare two maps of the plane. The left one uses only the encoder: it shows whose clouds have the largest density at
# each point. The right one uses only the decoder: it shows the judge's answer for each decoded point.

# %% tags=["folded"]
side = 85
ticks = torch.linspace(-2.8, 2.8, side)
net = torch.cartesian_prod(ticks.flip(0), ticks).flip(1)  # (85², 2), the top row first
leading = torch.tensor([classes.index(name) for name in subjects])[kind_shares(net).argmax(1)]
panels = {
    "largest density of the clouds": leading,
    "the judge's answer": judge(vae.decode(net))["kind"].argmax(1),
}
inks = [INK if name == "none" else COLOURS[subjects.index(name)] for name in classes]
maps, axes = figure(7.6, 4.0, columns=2, sharey=True)
for axis, (title, seen) in zip(axes, panels.items(), strict=True):
    square = seen.reshape(side, side)
    axis.imshow(
        square,
        ListedColormap(inks),
        extent=(-2.8, 2.8, -2.8, 2.8),
        interpolation="nearest",
        vmin=0,
        vmax=len(classes) - 1,
    )
    axis.set(title=title, xlabel="$z_1$")
    axis.grid(False)
for name, colour in zip(classes, inks, strict=True):
    axes[0].scatter([], [], color=colour, label=name, marker="s")
maps.legend(loc="outside upper center", ncols=len(classes), fontsize=9)
show(
    maps, "Two maps of the plane with the same six regions; on the judge's, dark bands of none run along their borders."
)

# %% tags=["folded"]
torch.manual_seed(2)
first, second = torch.randint(len(fresh), (2, 400))
different = fresh_kinds[first] != fresh_kinds[second]
first, second = first[different][:100], second[different][:100]
walks = path(vae.decode, posterior.mean[first], posterior.mean[second], frames=25)  # (100, 25, 3, 32, 32)
opinions = judge(walks.flatten(0, 1))["kind"].softmax(1).unflatten(0, (-1, 25))  # (100, 25, classes)
seen = opinions.argmax(2)
direct = [
    row for row in range(len(seen)) if set(seen[row].tolist()) - {none} == set(seen[row, [0, -1]].tolist()) - {none}
]

strips, axes = figure(6.8, 3.7, rows=5, height_ratios=[1, 0.9, 1, 0.9, 1])
for place, row in enumerate(direct[:2]):
    axes[2 * place].imshow(sheet(posterize(walks[row, ::2]), columns=13, scale=1), interpolation="nearest")
    named = {
        name: opinions[row, :, number] for number, name in enumerate(classes) if opinions[row, :, number].max() > 0.3
    }
    colours = [dict(zip(subjects, COLOURS, strict=False)).get(name, GREY) for name in named]
    axes[2 * place + 1].stackplot(range(25), *named.values(), labels=list(named), colors=colours)
    axes[2 * place + 1].set(xlim=(-1, 25), ylim=(0, 1), xticks=[], yticks=[0, 1])
    axes[2 * place + 1].legend(loc="center left", bbox_to_anchor=(1, 0.5), fontsize=8)
fading = torch.lerp(walks[direct[0], 0], walks[direct[0], -1], torch.linspace(0, 1, 13)[:, None, None, None])
axes[4].imshow(sheet(posterize(fading), columns=13, scale=1), interpolation="nearest")
for axis in axes[::2]:
    hide_axes(axis)
axes[0].set_title("along a line in the latent plane, and the judge's answers on the way")
axes[4].set_title("for comparison: the ends of the first path, cross-faded")
show(
    strips,
    "Two subjects turn into two others in thirteen pictures each, the judge's opinion below; last, a plain fade.",
)

# %% [markdown]
# The figure shows the first two paths on which the judge names only the subjects of the two ends, and "none". On other
# paths a third subject appears, because the straight line passes through its region.

# %%
some = torch.cat([decoded[~overlap][:8], decoded[overlap][:8]])
says = [classes[kind] for kind in judge(some)["kind"].argmax(1).tolist()]
show(
    picture_grid(posterize(some), columns=8, titles=says, rows=["clear points", "overlaps"]),
    "Above, the pictures at the first eight clear points; below, those at the first eight points in overlaps, most of "
    "them mixtures; over each the judge's answer.",
)
verdict(
    "vae-morphs",
    difference_of_groups(clear[~overlap].tolist(), clear[overlap].tolist(), "random points"),
    difference_of_groups(between[overlap].tolist(), between[~overlap].tolist(), "random points"),
    figures=f"{overlap.float().mean():.0%} of N(0, I) lies in overlaps. The judge recognises a subject at "
    f"{clear[~overlap].float().mean():.0%} of the clear points and {clear[overlap].float().mean():.0%} of those in "
    f"overlaps; {between[~overlap].float().mean():.0%} and {between[overlap].float().mean():.0%} of their pictures are "
    "between two kinds.",
)

# %% [markdown]
# So a VAE does produce morphs, and the changes are smooth. But look again at the two rows. A morph between a cat and a
# house is not a cat-like house. It looks almost like both pictures laid over each other: where clouds overlap, the mean
# of their pictures has the smallest squared error, and the decoder learns to draw that mean. This is the blur for which
# VAEs are known. If each picture should show one clear thing, you need latents that cannot take values in between.
# Lesson 2d builds them.
#
# ### What β does
#
# Now change $\beta$ until the VAE fails. The next cell trains two more VAEs like the one of section 4, one with a
# $\beta$ a hundred times smaller, one with a $\beta$ a hundred times larger. Nothing else differs.

# %% tags=["ignored"]
small, _ = fit(beta=0.02)
large, _ = fit(beta=200.0)

# %%
models = {"β = 0.02": small, "β = 2": live, "β = 200": large}
spent = {}
dials, axes = figure(8.2, 3.0, columns=3)
for axis, (name, model) in zip(axes, models.items(), strict=True):
    latents = Posterior(*model.encode(fresh[:48]))
    spent[name] = kl_divergence(*latents).mean().item()
    draw_clouds(axis, latents, fresh_kinds[:48], max(2.8, 1.1 * latents.mean.abs().max().item()))
    axis.add_patch(Circle((0, 0), 2.45, fill=False, color=INK, linestyle="--"))
    axis.set(title=f"{name}: KL {spent[name]:.1f} nats", ylabel="")
assert spent["β = 0.02"] > spent["β = 2"] > spent["β = 200"]
show(dials, "Three planes: tiny clouds far apart, clouds side by side, and clouds that all lie on top of each other.")
torch.manual_seed(5)
dice = torch.randn(7, 2)
drawn = torch.cat([model.decode(dice) for model in models.values()])
show(
    picture_grid(posterize(drawn), 7, rows=list(models), inches=0.8),
    "The same seven random points, decoded by each of the three.",
)

# %% [markdown]
# - With a small $\beta$ the clouds are tiny and spread far beyond the dashed circle: the network is almost an ordinary
#   autoencoder. Few random points of N(0, I) fall near a cloud.
# - With a large $\beta$ every picture gets the same cloud, N(0, I) itself. It costs 0 nats and carries no information.
#   This is **posterior collapse**: the posterior has become the prior, and the decoder, which gets no information about
#   the picture, draws the mean of all pictures.
#
# Is the $\beta$ in between the best of both? The next figure shows VAEs with 16 numbers: the stored results of three
# trainings for each $\beta$ (five for $\beta = 2$), with 95 % intervals. The dashed lines are the autoencoder's
# results, with random points from its own normal fit.

# %% tags=["folded"]
by_beta = {**BETAS.results(), "2": by_vae}
betas = sorted(by_beta, key=float)
titles = {"bits": "KL divergence, bits", "distance": "distance ‖x − x̂‖₂", "recognised": "random pictures recognised"}
trade, axes = figure(8.6, 2.7, columns=3)
for axis, (name, title) in zip(axes, titles.items(), strict=True):
    found = [mean(column(by_beta[beta], name), "trainings") for beta in betas]
    reach = [[one.value - one.low for one in found], [one.high - one.value for one in found]]
    axis.errorbar([float(beta) for beta in betas], [one.value for one in found], reach, fmt="o-", color=BLUE, capsize=3)
    if name != "bits":
        axis.axhline(mean(column(by_ae, name), "trainings").value, color=INK, linestyle="--", linewidth=1.2)
    axis.set(xscale="log", xlabel="β", ylim=(0, 1.05 if name == "recognised" else None))
    axis.set_title(title, fontsize=10)
show(
    trade,
    "Three curves over β from 0.02 to 200: the KL divergence falls to 0, the distance rises, and the share of random "
    "pictures recognised rises and falls again.",
)

# %% [markdown]
# No: $\beta$ is a compromise. Reconstructions get worse with every step to the right. Random pictures are best at
# $\beta = 2$. To the left of it the latents leave N(0, I), and the random points miss them. To the right the posterior
# collapses, and there is only the mean picture left to draw.

# %% [markdown]
# ## 7 · Your turn

# %% [markdown]
# ### Exercise 2c.1 · What does a cloud cost? (★☆☆, 3 minutes)
#
# Without running code, predict the KL divergence from N(0, I) of three clouds with two axes each, in nats, to two
# decimals:
#
# - A: $\mu = (0, 0)$, $\sigma = (1, 1)$
# - B: $\mu = (3, 4)$, $\sigma = (1, 1)$
# - C: $\mu = (0, 0)$, $\sigma = (e^{-1}, e^{-1})$, where $e^{-2} \approx 0.135$

# %% tags=["stub"]
nats = None  # a list of three numbers: A, B, C

# %% tags=["checked"]
check("2c.1", nats)

# %% [markdown] tags=["hint"]
# Use the formula of section 2, one axis at a time: half of $\mu^2 + \sigma^2 - 1 - \log \sigma^2$. Then add the two
# axes.

# %% [markdown] tags=["hint"]
# For C, $\log \sigma^2 = 2 \log \sigma = -2$.

# %% tags=["solution"]
nats = [0.0, 12.5, 1.14]

# %% [markdown]
# ### Exercise 2c.2 · Mend the sampler (★★☆, 6 minutes)
#
# This sampler runs without an error, but a VAE that uses it learns badly. It has three faults. Write a version without
# them.
#
# ```python
# def sample(mean, log_variance):
#     sigma = log_variance.exp()
#     epsilon = torch.randn(mean.shape[1])
#     return (mean + sigma * epsilon).detach()
# ```


# %% tags=["stub"]
def sample(mean: torch.Tensor, log_variance: torch.Tensor) -> torch.Tensor:
    """One sample of each cloud, (n, latent), from centres and log variances (n, latent), with gradients to both."""
    raise NotImplementedError


# %% tags=["checked"]
check("2c.2", sample)

# %% [markdown] tags=["hint"]
# Look at one line at a time. What is the exponential of a log variance? How many random numbers do n clouds need? Which
# gradient does the encoder get through the last line?

# %% [markdown] tags=["hint"]
# $\sigma = \sqrt{\sigma^2} = \exp(\tfrac12 \log \sigma^2)$, and each number of `mean` needs its own random number.


# %% tags=["solution"]
def sample(mean: torch.Tensor, log_variance: torch.Tensor) -> torch.Tensor:
    sigma = (log_variance / 2).exp()
    epsilon = torch.randn_like(mean)
    return mean + sigma * epsilon


# %% [markdown]
# ### Exercise 2c.3 · Another prior (★★☆, 6 minutes)
#
# The prior need not have variance 1. Write the KL divergence of each cloud from a prior $N(0, s^2 I)$, in closed form,
# in nats. With $s = 1$ it must agree with `kl_divergence`.


# %% tags=["stub"]
def kl_from_wide(mean: torch.Tensor, log_variance: torch.Tensor, s: float) -> torch.Tensor:
    """KL(N(μ, σ²) ‖ N(0, s² I)) of each cloud, (n,), from centres and log variances (n, latent)."""
    raise NotImplementedError


# %% tags=["checked"]
check("2c.3", kl_from_wide)

# %% [markdown] tags=["hint"]
# Divide the whole latent space by $s$: the prior then becomes N(0, I). A KL divergence does not change when both
# distributions are scaled in the same way.

# %% [markdown] tags=["hint"]
# After the division the centre is $\mu / s$, and the log variance is $\log \sigma^2 - \log s^2$.


# %% tags=["solution"]
def kl_from_wide(mean: torch.Tensor, log_variance: torch.Tensor, s: float) -> torch.Tensor:
    prior_variance = torch.tensor(s**2)
    ratio = log_variance - prior_variance.log()  # log(σ² / s²)
    return (mean.square() / prior_variance + ratio.exp() - 1 - ratio).sum(1) / 2


# %% [markdown]
# ### Exercise 2c.4 · How wide will the cloud be? (★★★, 10 minutes)
#
# Consider the smallest possible VAE: a picture of one pixel $x$, a latent of one number, and a decoder $\hat x = w z$
# that only multiplies. The cloud is $N(\mu, \sigma^2)$, and the loss is the mean over the cloud of $\tfrac12 (x - w
# z)^2 + \beta \cdot \tfrac12 (\mu^2 + \sigma^2 - 1 - \log \sigma^2)$. Which $\sigma^2$ minimises the loss? Write it as
# a function of $w$ and $\beta$. Then use your function to see what happens to an axis that the decoder does not use ($w
# = 0$), and to every axis when $\beta$ is very small. Compare with the three planes of section 6.


# %% tags=["stub"]
def best_variance(w: torch.Tensor, beta: float) -> torch.Tensor:
    """The variance σ² that a trained encoder gives its cloud, (k,), for k decoders with the weights w (k,)."""
    raise NotImplementedError


# %% tags=["checked"]
check("2c.4", best_variance)

# %% [markdown] tags=["hint"]
# With $z = \mu + \sigma \epsilon$, the mean over the cloud of $(x - wz)^2$ is $(x - w\mu)^2 + w^2 \sigma^2$. Collect
# the terms with $\sigma^2$ in them.

# %% [markdown] tags=["hint"]
# You have to minimise half of $w^2 \sigma^2 + \beta (\sigma^2 - \log \sigma^2)$. Its derivative with respect to
# $\sigma^2$ is half of $w^2 + \beta - \beta / \sigma^2$. Where is that 0?


# %% tags=["solution"]
def best_variance(w: torch.Tensor, beta: float) -> torch.Tensor:
    return beta / (beta + w.square())  # 1 for an axis that is not used (collapse), near 0 when beta is very small


# %% [markdown]
# ## 8 · What we have, what is missing
#
# - The encoder maps each picture to a cloud; the decoder has to reconstruct the picture from any point of it.
# - The reparameterisation $z = \mu + \sigma\epsilon$ makes a random point a differentiable function of $\mu$ and
#   $\sigma$.
# - The loss is the negative ELBO: squared error, and $\beta$ times the KL divergence from N(0, I).
# - All clouds together resemble N(0, I), so most random points decode to recognisable pictures. Points where clouds
#   overlap decode to morphs.
# - What is missing: the pictures are soft, two numbers hold little information, and morphs are rarely useful. And
#   DALL·E Mini needs pictures as words of a vocabulary, which a language model can write. Lesson 2d makes the latents
#   discrete.

# %% [markdown] tags=["quiz"]
# **1.** Why does the loss use the KL divergence of each picture's cloud, and not that of all clouds together?
#
# - [ ] It makes all clouds equal, and that is the aim — equal clouds would carry no information about the pictures; the
#   squared error keeps them apart.
# - [x] That is what the bound on log p(x) contains, and each cloud's cost has a closed form — the mixture of all
#   clouds has none; pulling each one towards N(0, I) pulls the mixture with it.
# - [ ] The two are the same number — they differ by what z tells about the picture, several nats in section 6.

# %% [markdown] tags=["quiz"]
# **2.** You replace `reparameterize` by `Normal(mean, sigma).sample()`. What happens?
#
# - [ ] Nothing, the samples have the same distribution — they do, but no gradient flows through `sample`.
# - [x] The decoder still learns, the encoder gets no gradient from the squared error — only the KL term reaches it,
#   and that alone makes all clouds N(0, I).
# - [ ] PyTorch raises an error — the loss still has a gradient through the KL term and the decoder, so nothing is
#   raised.

# %% [markdown] tags=["quiz"]
# **3.** A friend takes the mean over all pixels for the squared error, and the sum over latents for the KL term. What
# comes out?
#
# - [x] Collapse: all clouds become N(0, I) — the squared error counts 3,072 times less, as if β were 3,072 times
#   larger.
# - [ ] The same, only the learning rate has to be larger — the learning rate scales both terms; their ratio has
#   changed.
# - [ ] An autoencoder — that would need a weaker KL term, and this one has become stronger.

# %% [markdown] tags=["quiz"]
# **4.** In a trained VAE one axis has μ ≈ 0 and σ ≈ 1 for every picture. What do you know?
#
# - [ ] The axis is the most important one, it matches the prior exactly — it matches the prior because it carries no
#   information.
# - [ ] The training has not converged — this is a cheap and stable state, and longer training seldom leaves it.
# - [x] The decoder does not use it — its KL divergence is 0, and for the decoder it is pure noise.

# %% [markdown] tags=["quiz"]
# **5.** Why are pictures from the borders between two kinds blurred, and not cleanly one or the other?
#
# - [x] Clouds of both kinds reach there, and the mean of both pictures has the smallest squared error — the decoder
#   gets only z, and z does not say which kind it came from.
# - [ ] The decoder has too few parameters — a larger one could make the band narrower, but where both kinds are
#   possible, the mean still has the smallest error.
# - [ ] The judge was not trained on them — the judge does not take part in drawing.
