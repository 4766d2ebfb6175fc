"""The latent-size study of lessons 2b to 2d, and the experiment on β of lesson 2c.

The study trains autoencoders, VAEs and VQ-VAEs whose latents hold about the same information. Batches, steps, optimizer
and channels are the same for all. The loss is ½ ‖x − x̂‖² plus what the family adds to it: the KL divergence of the VAE
times 2, or the loss of the VQ-VAE's codebook. How the bits of a picture are counted:

- A number of an autoencoder's latent counts 6 bits. Before it is decoded it is rounded to one of 64 levels, evenly
  spaced over the range of the training pictures; `distance_unrounded` shows how little that changes.
- A VAE's latent counts the mean KL divergence from N(0, I), in bits. It is decoded from a random point of its cloud.
- A code of a VQ-VAE counts log₂ K bits. Maps and codebooks are such that a picture has as many bits as with the
  autoencoder of the same column: 2 × 2 codes of 8, 4 × 4 of 8, 4 × 4 of 64, 8 × 8 of 64. The encoder halves the picture
  until the map has its size, so the VQ-VAE with 8 × 8 codes has one level of convolutions less than the autoencoder,
  and the one with 2 × 2 codes has one more.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator
from torch import Tensor, nn

from atelier.blocks.autoencoder import Autoencoder, AutoencoderConfig, reconstruction_loss
from atelier.blocks.vae import VAE, kl_divergence, reparameterize, vae_loss
from atelier.blocks.vq import VQVAE, VQVAEConfig, codebook_usage
from atelier.evaluation import intervals
from atelier.evaluation.sprites import predicted_kinds, share
from atelier.teaching.experiments import Experiment
from atelier.teaching.figures import BLUE, GREEN, ORANGE, SKY, figure
from atelier.training.metrics import psnr
from atelier.weights.sprites import load_sprite_model
from atelier.world import SPRITES, sprites

FAMILIES = ("AE", "VAE", "VQ-VAE")
SIZES = (2, 8, 16, 64)  # numbers of a latent; a VQ-VAE has as many bits as an autoencoder of the size
BITS_A_NUMBER = 6
GRIDS = {2: (2, 8), 8: (4, 8), 16: (4, 64), 64: (8, 64)}  # side of the VQ-VAE's map, and codes in its codebook
BETA = 2.0  # of the VAE, as in the lesson
CODEBOOK_WEIGHT = 100.0  # the codebook's loss is a mean over numbers, the squared error a sum over pixels
STEPS, BATCH, WIDTH, LEARNING_RATE = 1000, 32, 16, 1e-2
PICTURES, RANDOM_POINTS = 2000, 1000
FRESH_SEED = 1_000_100  # of sprites that no training sees; the seed of the run is added
KEPT_SHARE = 0.03  # a kind is kept if it makes up at least this share of the pictures

Model = Autoencoder | VAE | VQVAE


# ---------------------------------------------------------------------------------------------- training


def build(family: str, size: int) -> Model:
    """Make an untrained model of the study.

    Args:
        family: one of FAMILIES.
        size: one of SIZES.
    """
    if family == "VQ-VAE":
        side, codes = GRIDS[size]
        return VQVAE(VQVAEConfig(width=WIDTH, levels=round(math.log2(32 / side)), codes=codes))
    config = AutoencoderConfig(width=WIDTH, latent=size)
    return VAE(config) if family == "VAE" else Autoencoder(config)


def loss_of(model: Model, pictures: Tensor, beta: float = BETA) -> Tensor:
    """Compute the training loss of a model on pictures (n, 3, 32, 32): ½ ‖x − x̂‖², and what its family adds."""
    if isinstance(model, VAE):
        return vae_loss(pictures, *model(pictures), beta)
    if isinstance(model, VQVAE):
        reconstructions, quantized = model(pictures)
        return squared_error(pictures, reconstructions) / 2 + CODEBOOK_WEIGHT * quantized.loss
    return squared_error(pictures, model(pictures)) / 2


def squared_error(pictures: Tensor, reconstructions: Tensor) -> Tensor:
    """The mean over n of ‖x − x̂‖², of (n, 3, 32, 32) each."""
    return (pictures - reconstructions).square().flatten(1).sum(1).mean()


def fit(model: Model, pictures: Tensor, seed: int, beta: float = BETA) -> Model:
    """Train a model as every model of the study is trained.

    Args:
        model: trained in place.
        pictures: (n, 3, 32, 32).
        seed: of the batches.
        beta: weight of the KL divergence, for a VAE.

    Returns:
        The model, in evaluation mode and without gradients.
    """
    batches = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(model.parameters(), betas=(0.9, 0.99))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=LEARNING_RATE, total_steps=STEPS)
    for _ in range(STEPS):
        loss = loss_of(model, pictures[torch.randint(len(pictures), (BATCH,), generator=batches)], beta)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return model.eval().requires_grad_(False)


def train(arm: str, seed: int) -> tuple[Any, Tensor]:
    """Train the model of an arm of LATENT_SIZE, such as "VAE 16".

    Args:
        arm: the family and the size.
        seed: of the pictures, the initial weights, the batches and the noise.

    Returns:
        The model of the arm's family, and the pictures (2000, 3, 32, 32) that it was trained on.
    """
    family, size = arm.split()
    pictures, _ = sprites(PICTURES, seed)
    torch.manual_seed(seed)
    return fit(build(family, int(size)), pictures, seed), pictures


# ---------------------------------------------------------------------------------------------- measuring


def normal_fit(latents: Tensor) -> tuple[Tensor, Tensor]:
    """Fit a normal distribution to latents (n, d): its mean (d,), and the Cholesky factor (d, d) of its covariance."""
    return latents.mean(0), torch.linalg.cholesky(latents.double().T.cov()).float()


def rounded(latents: Tensor, known: Tensor, bits: int = BITS_A_NUMBER) -> Tensor:
    """Round latents (n, d) to 2^bits levels on each axis, evenly spaced over the range of known latents (m, d)."""
    low, high = known.amin(0), known.amax(0)
    step = (high - low) / (2**bits - 1)
    return low + ((latents - low) / step).round().clamp(0, 2**bits - 1) * step


def shuffled_codes(indices: Tensor, n: int) -> Tensor:
    """Draw codes (n, h, w), each independently from those of its position in indices (m, h, w)."""
    flat = indices.flatten(1)  # (m, h·w)
    rows = torch.randint(len(flat), (n, flat.shape[1]))
    return flat.gather(0, rows).unflatten(1, indices.shape[1:])


def told_apart(latents: Tensor, points: Tensor) -> float:
    """How well a small network tells latents from random points, after training on the first half of each.

    Args:
        latents, points: (n, d) each.

    Returns:
        The share of the second halves that it classifies rightly; 0.5 if they have the same distribution.
    """
    both = torch.stack([latents, points], dim=1)  # (n, 2, d)
    labels = torch.tensor([0.0, 1.0]).expand(len(both), 2)
    half = len(both) // 2
    hidden = [nn.Linear(latents.shape[1], 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU()]
    classifier = nn.Sequential(*hidden, nn.Linear(64, 1), nn.Flatten(1))
    optimizer = torch.optim.Adam(classifier.parameters(), lr=3e-3, weight_decay=1e-3)
    for _ in range(300):
        loss = nn.functional.binary_cross_entropy_with_logits(classifier(both[:half]), labels[:half])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return share((classifier(both[half:]).detach() > 0) == (labels[half:] > 0.5))


def quality(pictures: Tensor) -> tuple[float, int]:
    """Judge random pictures.

    Args:
        pictures: (n, 3, 32, 32).

    Returns:
        The share in which the judge recognises a kind, and how many kinds make up at least 3 % of the pictures each.
    """
    kinds = predicted_kinds(load_sprite_model("judge").requires_grad_(False), pictures)
    shares = kinds.bincount(minlength=len(SPRITES) + 1)[: len(SPRITES)] / len(kinds)
    return shares.sum().item(), int((shares >= KEPT_SHARE).sum())


def reconstruction(pictures: Tensor, reconstructions: Tensor) -> dict[str, float]:
    """Measure the mean distance ‖x − x̂‖₂ and the peak signal-to-noise ratio in dB, of (n, 3, 32, 32) each."""
    return {
        "distance": reconstruction_loss(pictures, reconstructions).item(),
        "psnr": psnr(pictures, reconstructions).mean().item(),
    }


def measure_autoencoder(model: Autoencoder, pictures: Tensor, fresh: Tensor) -> dict[str, float]:
    """Measure an autoencoder. Its random points come from the normal fit of its latents, and from N(0, I)."""
    known, z = model.encode(pictures), model.encode(fresh)
    mean, factor = normal_fit(known)
    dice = torch.randn(RANDOM_POINTS, known.shape[1])
    recognised, kinds = quality(model.decode(mean + dice @ factor.T))
    recognised_unit, kinds_unit = quality(model.decode(dice))
    return {
        "bits": BITS_A_NUMBER * z.shape[1],
        **reconstruction(fresh, model.decode(rounded(z, known))),
        "distance_unrounded": reconstruction_loss(fresh, model.decode(z)).item(),
        "recognised": recognised,
        "kinds": kinds,
        "recognised_unit": recognised_unit,
        "kinds_unit": kinds_unit,
        "told_apart": told_apart(
            torch.linalg.solve_triangular(factor, (z - mean).T, upper=False).T, torch.randn_like(z)
        ),
    }


def measure_vae(model: VAE, fresh: Tensor) -> dict[str, float]:
    """Measure a VAE. Its random points come from N(0, I)."""
    posterior = model.encode(fresh)
    z = reparameterize(*posterior)
    recognised, kinds = quality(model.decode(torch.randn(RANDOM_POINTS, z.shape[1])))
    return {
        "bits": kl_divergence(*posterior).mean().item() / math.log(2),
        **reconstruction(fresh, model.decode(z)),
        "recognised": recognised,
        "kinds": kinds,
        "told_apart": told_apart(z, torch.randn_like(z)),
    }


def measure_vqvae(model: VQVAE, pictures: Tensor, fresh: Tensor) -> dict[str, float]:
    """Measure a VQ-VAE. Its random codes are independent; each position has its own frequencies."""
    known, (reconstructions, quantized) = model.encode(pictures).indices, model(fresh)
    recognised, kinds = quality(model.decode_codes(shuffled_codes(known, RANDOM_POINTS)))
    usage = codebook_usage(quantized.indices.flatten().bincount(minlength=model.config.codes))
    return {
        "bits": known[0].numel() * math.log2(model.config.codes),
        **reconstruction(fresh, reconstructions),
        "recognised": recognised,
        "kinds": kinds,
        "codes_used": usage.share,
        "perplexity": usage.perplexity,
    }


def measure(model: Model, pictures: Tensor, seed: int) -> dict[str, float]:
    """Measure a model of the study on sprites that were not in its training.

    Args:
        model: a trained model.
        pictures: those that it was trained on, (n, 3, 32, 32).
        seed: of the fresh sprites and of the random points.

    Returns:
        bits of a latent; distance and psnr of the reconstructions; recognised and kinds of the random pictures, see
        `quality`; and what only one family has.
    """
    fresh, _ = sprites(PICTURES, FRESH_SEED + seed)
    torch.manual_seed(seed)
    if isinstance(model, VAE):
        return measure_vae(model, fresh)
    return (
        measure_vqvae(model, pictures, fresh)
        if isinstance(model, VQVAE)
        else measure_autoencoder(model, pictures, fresh)
    )


def run_latent_size(arm: str, seed: int) -> dict[str, float]:
    """Train and measure an arm of LATENT_SIZE."""
    return measure(*train(arm, seed), seed)


LATENT_SIZE = Experiment(
    "2c-latent-size",
    "How do the reconstructions and the random pictures of autoencoders, VAEs and VQ-VAEs depend on the size of the "
    "latent?",
    tuple(f"{family} {size}" for family in FAMILIES for size in SIZES),
    (0, 1, 2, 3, 4),
    run_latent_size,
    ("sprites/judge.safetensors",),
)


# ---------------------------------------------------------------------------------------------- what β does


def run_beta(arm: str, seed: int) -> dict[str, float]:
    """Train and measure a VAE with 16 numbers and another β, as an arm of BETAS."""
    pictures, _ = sprites(PICTURES, seed)
    torch.manual_seed(seed)
    return measure(fit(build("VAE", 16), pictures, seed, beta=float(arm)), pictures, seed)


BETAS = Experiment(
    "2c-beta",
    "What does β change in a VAE with 16 latent numbers? (β = 2 is an arm of 2c-latent-size.)",
    ("0.02", "0.2", "20", "200"),
    (0, 1, 2),
    run_beta,
    ("sprites/judge.safetensors",),
)

EXPERIMENTS = (LATENT_SIZE, BETAS)


# ---------------------------------------------------------------------------------------------- the figure of the study

LINES = {  # name → family, columns of share and kinds, colour, style
    "autoencoder, own normal fit": ("AE", "recognised", "kinds", BLUE, "o-"),
    "autoencoder, N(0, I)": ("AE", "recognised_unit", "kinds_unit", SKY, "s--"),
    "VAE, N(0, I)": ("VAE", "recognised", "kinds", ORANGE, "D-"),
    "VQ-VAE, independent codes": ("VQ-VAE", "recognised", "kinds", GREEN, "^-"),
}


def latent_size_figure(families: Sequence[str] = FAMILIES) -> Figure:
    """Draw the results of LATENT_SIZE: means over the seeds, with 95 % intervals.

    Args:
        families: which to show, of FAMILIES.

    Returns:
        A figure with three panels: distance of the reconstructions over the bits of a latent, share of random pictures
        that the judge recognises, and kinds kept, both over the size of the latent.

    Raises:
        ExperimentError: if results are missing.
    """
    made, (rate, shares, kinds) = figure(10.5, 3.5, columns=3, width_ratios=(1.2, 1, 1))
    lines = {name: line for name, line in LINES.items() if line[0] in families}
    for number, (name, (family, share_column, kinds_column, colour, style)) in enumerate(lines.items()):
        places = [column + 0.07 * (number - (len(lines) - 1) / 2) for column in range(len(SIZES))]
        look = {"color": colour, "fmt": style, "markersize": 5, "capsize": 2.5, "label": name}
        _errorbar(shares, places, family, share_column, 100.0, look)
        _errorbar(kinds, places, family, kinds_column, 1.0, look)
        if not share_column.endswith("unit"):
            bits = [_seeds(family, size, "bits").value for size in SIZES]
            _errorbar(rate, bits, family, "distance", 1.0, look)
    rate.set_xscale("log")
    rate.xaxis.set_major_locator(FixedLocator([10, 30, 100, 300]))
    rate.xaxis.set_major_formatter("{x:.0f}")
    rate.xaxis.set_minor_locator(NullLocator())
    rate.set(xlabel="bits of a latent", ylabel="mean distance ‖x − x̂‖₂", ylim=(0, None))
    rate.set_title("reconstructions", fontsize=10)
    for axis, title, top in ((shares, "random pictures recognised, %", 104), (kinds, "kinds kept, of six", 6.3)):
        axis.set(xticks=range(len(SIZES)), xlabel="numbers of a latent", ylim=(-0.03 * top, top))
        axis.set_title(title, fontsize=10)
        axis.set_xticklabels([str(size) for size in SIZES])
    made.legend(*shares.get_legend_handles_labels(), loc="outside upper center", ncols=len(lines), fontsize=9)
    return made


def _seeds(family: str, size: int, column: str) -> intervals.Estimate:
    return intervals.mean(LATENT_SIZE.column(f"{family} {size}", column), "seeds")


def _errorbar(axis: Axes, x: Sequence[float], family: str, column: str, scale: float, look: dict[str, Any]) -> None:
    """Draw a column for all sizes, times `scale`, with its intervals."""
    found = [_seeds(family, size, column) for size in SIZES]
    values = [scale * estimate.value for estimate in found]
    reach = [
        [scale * (estimate.value - estimate.low) for estimate in found],
        [scale * (estimate.high - estimate.value) for estimate in found],
    ]
    axis.errorbar(x, values, reach, **look)
