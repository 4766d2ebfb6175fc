"""The experiments of lesson 2d: dead codes, collapsed dimensions, morphs at equal bits, and a prior over the codes."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from atelier.blocks.autoencoder import AutoencoderConfig, reconstruction_loss
from atelier.blocks.prior import CodePrior, PriorConfig, prior_loss
from atelier.blocks.vae import VAE, kl_divergence
from atelier.blocks.vq import VQVAE, MovingAverageQuantizer, VQVAEConfig, codebook_usage
from atelier.evaluation.sprites import predicted_kinds
from atelier.teaching.experiments import Experiment
from atelier.training.metrics import psnr
from atelier.training.recipes.normalization import Whitening, effective_dimensions
from atelier.weights.sprites import load_sprite_model
from atelier.world import SPRITES, sprites

STEPS, BATCH = 1200, 32
PAINTED = 1536  # sprites that a network is trained on
FRESH = 10_000  # added to a seed, it gives sprites that no training has seen
BETWEEN = slice(5, 16)  # of 21 steps from one sprite to another: from 25 to 75 % of the way

Model = TypeVar("Model", bound=nn.Module)


# ---------------------------------------------------------------------------------------------- training


def vq_objective(model: VQVAE, batch: Tensor) -> Tensor:
    """The loss of a VQ-VAE on pictures (n, 3, 32, 32): ‖x − x̂‖₂ plus the loss of its layer."""
    reconstructions, quantized = model(batch)
    return reconstruction_loss(batch, reconstructions) + quantized.loss


def vae_objective(bits: float) -> Callable[[VAE, Tensor], Tensor]:
    """The loss of a VAE that keeps its KL divergence at a given number of bits.

    It is ½ ‖x − x̂‖² + abs(KL − C) with C the bits in nats (Burgess et al. 2018, arXiv:1804.03599, equation 8, γ = 1).
    """

    def objective(model: VAE, batch: Tensor) -> Tensor:
        reconstructions, posterior = model(batch)
        squared_error = (batch - reconstructions).square().flatten(1).sum(1).mean()
        return squared_error / 2 + (kl_divergence(*posterior).mean() - bits * math.log(2)).abs()

    return objective


def fit(
    make: Callable[[], Model], objective: Callable[[Model, Tensor], Tensor], seed: int, steps: int = STEPS
) -> Model:
    """Train a network on sprites as section 4 of the lesson does.

    Args:
        make: a function that builds the network.
        objective: the loss of a batch.
        seed: the seed of the sprites, the initial weights and the batches.
        steps: how long to train.

    Returns:
        The network, in evaluation mode.
    """
    pictures, _ = sprites(PAINTED, seed)
    torch.manual_seed(seed)
    model = make().train()
    optimiser = torch.optim.Adam(model.parameters(), betas=(0.9, 0.99))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=4e-3, total_steps=steps)
    for _ in range(steps):
        batch = pictures[torch.randint(len(pictures), (BATCH,))]
        optimiser.zero_grad()
        objective(model, batch).backward()
        optimiser.step()
        schedule.step()
    return model.eval()


# ---------------------------------------------------------------------------------------------- dead codes


def run_restarts(arm: str, seed: int) -> dict[str, Any]:
    """Count the codes that each batch uses while a small VQ-VAE learns, with or without restarts."""
    in_use: list[int] = []

    def make() -> VQVAE:
        model = VQVAE(VQVAEConfig(width=16))
        model.quantize = MovingAverageQuantizer(64, 16, restart_below=0.05 if arm == "with restarts" else 0.0)
        model.quantize.counts.fill_(1.0)  # as if all had been in use, so that they do not start from the data
        model.quantize.sums.copy_(model.quantize.embedding.weight)
        return model

    def objective(model: VQVAE, batch: Tensor) -> Tensor:
        reconstructions, quantized = model(batch)
        in_use.append(len(quantized.indices.unique()))
        return reconstruction_loss(batch, reconstructions) + quantized.loss

    model = fit(make, objective, seed, steps=200)
    pictures, _ = sprites(240, FRESH + seed)
    with torch.no_grad():
        back = model(pictures)[0]
    return {"in use": in_use, "at the end": sum(in_use[-25:]) / 25, "psnr": psnr(pictures, back).mean().item()}


# ---------------------------------------------------------------------------------------------- collapsed dimensions


def spectrum(codebook: Tensor) -> Tensor:
    """The variance of a codebook (codes, width) along each principal axis, as shares that sum to 1, largest first."""
    variances = torch.linalg.eigvalsh(codebook.cpu().double().T.cov()).clamp(min=0).flip(0)  # (width,)
    return variances / variances.sum()


@torch.no_grad()
def run_collapse(arm: str, seed: int) -> dict[str, Any]:
    """Measure how many of its dimensions a codebook uses, with z_e as it is or whitened."""

    def make() -> VQVAE:
        model = VQVAE(VQVAEConfig())
        if arm == "whitened":
            model.encoder.append(Whitening(model.config.code_width))
        return model

    with torch.enable_grad():
        model = fit(make, vq_objective, seed)
    pictures, _ = sprites(600, FRESH + seed)
    back, quantized = model(pictures)
    codebook = model.quantize.embedding.weight
    counts = quantized.indices.flatten().bincount(minlength=len(codebook))
    return {
        "dimensions": effective_dimensions(codebook),
        "spectrum": spectrum(codebook).tolist(),
        "psnr": psnr(pictures, back).mean().item(),
        "perplexity": codebook_usage(counts).perplexity,
    }


# ---------------------------------------------------------------------------------------------- morphs


def pairs_of_kinds(pictures: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Pair sprites of different kinds, each sprite with one partner.

    Args:
        pictures: (2n, 3, h, w), painted by `sprites`, so that the kinds take turns; n is a multiple of 30.

    Returns:
        First and second pictures, (n, 3, h, w) each, and their kinds (n, 2). All ordered pairs of kinds are equally
        frequent.
    """
    kinds, number = len(SPRITES), len(pictures) // 2
    places = torch.arange(number)
    further = 1 + places // kinds % (kinds - 1)  # by how many kinds the second is further on than the first
    partners = places - places % kinds + (places + further) % kinds
    return pictures[:number], pictures[number:][partners], torch.stack([places % kinds, partners % kinds], 1)


@torch.no_grad()
def frames_between(model: Any, first: Tensor, second: Tensor, shares: Tensor) -> Tensor:
    """Decode mixtures of the latents of two sprites.

    Args:
        model: a VAE, whose means μ are mixed, or a VQ-VAE, the library's or a lesson's, whose z_e are mixed and then
            quantised.
        first, second: (n, 3, 32, 32).
        shares: the share of the second one in each mixture, (m,).

    Returns:
        Frames (n, m, 3, 32, 32).
    """
    if isinstance(model, VAE):
        start, end = model.encode(first).mean, model.encode(second).mean  # (n, latent)
        frames = model.decode(torch.lerp(start[:, None], end[:, None], shares[:, None]).flatten(0, 1))
    else:
        start, end = model.encoder(first), model.encoder(second)  # (n, width, side, side)
        mixed = torch.lerp(start[:, None], end[:, None], shares[:, None, None, None]).flatten(0, 1)
        frames = torch.cat([model.decode(model.quantize(some).z_q) for some in mixed.split(256)])
    return frames.unflatten(0, (len(first), len(shares)))


def fit_with_bits(arm: str, seed: int) -> VAE | VQVAE:
    """Train the network of an arm such as "VAE, 96 bits"."""
    kind, bits = arm.removesuffix(" bits").split(", ")
    cells = int(bits) // 6  # a code out of 64 is 6 bits
    if kind == "VAE":
        return fit(lambda: VAE(AutoencoderConfig(latent=cells)), vae_objective(int(bits)), seed)
    return fit(lambda: VQVAE(VQVAEConfig(levels=2 if cells == 64 else 3)), vq_objective, seed)


def run_morphs(arm: str, seed: int) -> dict[str, Any]:
    """Train the network of an arm, and measure what lies between two sprites."""
    return measure_morphs(fit_with_bits(arm, seed), seed)


@torch.no_grad()
def measure_morphs(model: Any, seed: int) -> dict[str, Any]:
    """Ask the judge what it sees on the way from one sprite to another.

    Args:
        model: a VAE or a VQ-VAE, as for `frames_between`, in evaluation mode.
        seed: the seed of the sprites, which no network was trained on.

    Returns:
        The bits of a latent; the reconstruction in dB; the number of pairs whose ends the judge names rightly; the
        share of frames from 25 to 75 % of the way called none, and of those named after one of the two ends; and the
        share called none in each of the 21 steps.
    """
    device = next(model.parameters()).device
    judge = load_sprite_model("judge").to(device)
    pictures, _ = sprites(240, FRESH + seed, device=device)
    first, second, kinds = pairs_of_kinds(pictures)
    frames = frames_between(model, first, second, torch.linspace(0, 1, 21, device=device))
    seen = predicted_kinds(judge, frames.flatten(0, 1)).view(frames.shape[:2]).cpu()  # (pairs, 21)
    sound = (seen[:, [0, -1]] == kinds).all(1)
    seen, kinds = seen[sound], kinds[sound]
    none, of_the_two = seen == len(SPRITES), (seen[:, :, None] == kinds[:, None]).any(2)
    if isinstance(model, VAE):
        posterior = model.encode(pictures)
        bits, back = kl_divergence(*posterior).mean().item() / math.log(2), model.decode(posterior.mean)
    else:
        back, quantized = model(pictures)
        bits = quantized.indices[0].numel() * math.log2(model.config.codes)
    return {
        "bits": bits,
        "psnr": psnr(pictures, back).mean().item(),
        "pairs": len(seen),
        "none": none[:, BETWEEN].float().mean().item(),
        "of the two": of_the_two[:, BETWEEN].float().mean().item(),
        "none along the way": none.float().mean(0).tolist(),
    }


# ---------------------------------------------------------------------------------------------- a prior


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


def probability_table(codes: Tensor, depends: bool) -> Tensor:
    """Count how often each code occurs in each cell, after each code of the cell before it.

    Args:
        codes: (n, cells), int64, from 0 to 63.
        depends: whether the code of the cell before matters; if not, all rows of a cell are equal.

    Returns:
        Probabilities (cells, 64 + 1, 64): of each code in each cell, for each code before it; row 64 is for the first
        cell, which has none before it. 1/64 is added to every count, so that no probability is zero.
    """
    number, cells = codes.shape
    counts = torch.zeros(cells, 65, 64)
    before = torch.cat([torch.full((number, 1), 64), codes[:, :-1]], 1)
    cell = torch.arange(cells).expand(number, cells)
    counts.index_put_((cell, before, codes), torch.ones(()), accumulate=True)
    if not depends:
        counts = counts.sum(1, keepdim=True).expand(cells, 65, 64)
    table = counts + 1 / 64
    return table / table.sum(2, keepdim=True)


def sample_table(table: Tensor, n: int) -> Tensor:
    """Draw n grids (n, 8, 8) from a table of `probability_table`, cell by cell."""
    codes = [torch.full((n,), 64)]
    for cell in table:
        codes.append(cell[codes[-1]].multinomial(1)[:, 0])
    return torch.stack(codes[1:], 1).view(n, 8, 8)


def table_nats(table: Tensor, codes: Tensor) -> float:
    """The mean of −log p of codes (n, cells) under a table, per code."""
    before = torch.cat([torch.full((len(codes), 1), 64), codes[:, :-1]], 1)
    return -table[torch.arange(codes.shape[1]), before, codes].log().mean().item()


@torch.no_grad()
def run_prior(arm: str, seed: int, samples: int = 480) -> dict[str, Any]:
    """Draw codes from a model of them, decode them, and ask the judge what it sees."""
    model, judge = load_sprite_model("vqvae"), load_sprite_model("judge")
    known, fresh = (
        torch.cat([model.encode(some).indices for some in sprites(number, start + seed)[0].split(256)])
        for number, start in ((4096, 0), (960, FRESH))
    )
    torch.manual_seed(seed)
    if arm == "a prior":
        with torch.enable_grad():
            prior, _ = fit_prior(known)
        nats, drawn = prior_loss(prior, fresh).item(), prior.sample(samples)
    else:
        table = torch.full((64, 65, 64), 1 / 64)
        if arm != "all codes equally likely":
            table = probability_table(known.flatten(1), depends=arm == "one code before")
        nats, drawn = table_nats(table, fresh.flatten(1)), sample_table(table, samples)
    kinds = predicted_kinds(judge, model.decode_codes(drawn)).bincount(minlength=len(SPRITES) + 1)
    recognised = kinds[: len(SPRITES)]
    return {
        "bits": 64 * nats / math.log(2),
        "recognised": recognised.sum().item() / samples,
        "kinds": codebook_usage(recognised).perplexity if recognised.any() else 0.0,
        "cells unlike the nearest": nearest_grids(drawn, known)[0].float().median().item(),
        "of unseen sprites": nearest_grids(fresh, known)[0].float().median().item(),
    }


def nearest_grids(grids: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
    """Find the known grid (m, 8, 8) that is most similar to each of some grids (n, 8, 8).

    Returns:
        In how many cells it differs, and its index; (n,) each.
    """
    differ = torch.stack([(grid != known).sum((1, 2)) for grid in grids])  # (n, m)
    return differ.min(1).values, differ.argmin(1)


# ---------------------------------------------------------------------------------------------- all

RESTARTS = Experiment(
    "2d-restarts",
    "How many codes does a batch use while a small VQ-VAE learns, with and without restarts of dead codes?",
    arms=("with restarts", "without"),
    seeds=(0, 1, 2, 3, 4),
    run=run_restarts,
)
COLLAPSE = Experiment(
    "2d-collapse",
    "How many dimensions does a codebook of width 16 use, with z_e as it is and with z_e whitened?",
    arms=("as it is", "whitened"),
    seeds=(0, 1, 2),
    run=run_collapse,
)
MORPHS = Experiment(
    "2d-morphs",
    "What does the judge see between two sprites, for a VAE and a VQ-VAE with equally many bits?",
    arms=("VAE, 96 bits", "VQ-VAE, 96 bits", "VAE, 384 bits", "VQ-VAE, 384 bits"),
    seeds=(0, 1, 2, 3),
    run=run_morphs,
    files=("sprites/judge.safetensors",),
)
PRIOR = Experiment(
    "2d-prior",
    "Which model of the codes draws sprites that the judge recognises?",
    arms=("all codes equally likely", "frequencies of each cell", "one code before", "a prior"),
    seeds=(0, 1, 2),
    run=run_prior,
    files=("sprites/vqvae.safetensors", "sprites/judge.safetensors"),
)
EXPERIMENTS = (RESTARTS, COLLAPSE, MORPHS, PRIOR)
