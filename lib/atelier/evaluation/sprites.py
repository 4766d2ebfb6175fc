"""Measure the sprite models on sprites that no training has seen, and write their model card."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from atelier.blocks.classifier import PictureClassifier
from atelier.blocks.vae import VAE, kl_divergence
from atelier.blocks.vq import codebook_usage
from atelier.training.metrics import psnr
from atelier.training.recipes.sprite_judge import KIND, NONE, blended, negative_pictures, partners_of_other_kinds
from atelier.weights.sprites import (
    MODEL_CLASSES,
    SpriteModel,
    SpriteModels,
    load_sprite_model,
    read_sprite_models,
    save_sprite_model,
)
from atelier.weights.storage import replace_file
from atelier.world import SPRITE_COLOURS, Scene, sprites
from atelier.world.inks import INKS
from atelier.world.subjects import COLOURS

CARD_FILE = "README.md"
FRESH_SEED, OTHER_SEED = 1_000_000, 1_000_001  # seeds of sprites that no training has seen
FRESH_SPRITES = 1200
FEW_SPRITES = 200
COLOUR_REACH = 0.35  # a pixel counts for a colour if the distance of their RGB values is smaller
FINE_FREQUENCY = 8  # cycles per picture: a wave of four pixels, so details of two pixels and less

TABLES = {
    ("judge", "perceptual"): {
        "named": "sprites named rightly",
        "blends": "blends called none",
        "nothing": "blends, halves, blurs, blanks and noise called none",
    },
    ("gan",): {
        "recognised": "pictures that show a subject",
        "kinds": f"subjects among {FEW_SPRITES} pictures",
        "rarest": "share of the rarest subject",
    },
    ("autoencoder", "vae"): {
        "psnr": "reconstruction, dB",
        "named": "reconstructions named rightly",
        "drawn": "decoded random points that show a subject",
        "kl": "KL from N(0, I), nats",
    },
    ("vqvae", "vqgan_without_adversary", "vqgan"): {
        "psnr": "reconstruction, dB",
        "named": "reconstructions named rightly",
        "codes_used": "codes in use",
        "perplexity": "perplexity of the codes",
        "fine": "fine detail, sprites = 1",
        "feature_distance": "Fréchet distance of the judge's features",
    },
}
NOT_SHARES = ("psnr", "kinds", "kl", "perplexity", "fine", "feature_distance")  # all other measurements are shares


# ---------------------------------------------------------------------------------------------- measuring


@torch.no_grad()
def measure(name: str, folder: Path) -> dict[str, float]:
    """Measure a model, with the judge of the same folder. Repeating it gives the same numbers.

    Args:
        name: the name of the model.
        folder: the folder of the sprite models.

    Returns:
        Name of the measurement → its value, rounded to four decimals.
    """
    model, judge = load_sprite_model(name, folder), load_sprite_model("judge", folder)
    known = read_sprite_models(folder)[name]
    fresh = sprites(FRESH_SPRITES, FRESH_SEED, subjects=known.subjects, colours=known.colours)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(FRESH_SEED)
        found = MEASURES[name](model, judge, *fresh)
    return {key: round(value, 4) for key, value in found.items()}


def predicted_kinds(judge: PictureClassifier, pictures: Tensor) -> Tensor:
    """The classes (n,) that a judge predicts for pictures (n, 3, h, w)."""
    return torch.cat([judge(some.clamp(0, 1))[KIND].argmax(1) for some in pictures.split(256)])


def predicted_colours(pictures: Tensor) -> Tensor:
    """The colours (n,) of sprites (n, 3, h, w), as indices into SPRITE_COLOURS: those of most pixels.

    Each pixel counts for the nearest colour in which sprites are painted, if there is one within COLOUR_REACH.
    """
    rgb = torch.tensor([COLOURS[name] for name in SPRITE_COLOURS], device=pictures.device)[..., None, None]
    painted = INKS["cartoon"].tone(rgb, near=True)  # (colours, 3, 1, 1)
    distances, nearest = (pictures[:, None] - painted).norm(dim=2).min(1)  # (n, h, w) each
    votes = F.one_hot(nearest, len(SPRITE_COLOURS)) * (distances < COLOUR_REACH)[..., None]  # (n, h, w, colours)
    return votes.sum((1, 2)).argmax(1)


def correct_sprites(judge: PictureClassifier, pictures: Tensor, scenes: Sequence[Scene]) -> Tensor:
    """Whether pictures show the sprites that they should.

    Args:
        judge: the judge of sprites.
        pictures: (n, 3, h, w).
        scenes: n sprites, with subjects and colours.

    Returns:
        (n, 2) bool: whether the subject is right by the judge, and whether the colour is right by `predicted_colours`.
    """
    classes = judge.config.attributes[KIND]
    kinds = torch.tensor([classes.index(str(scene.subject)) for scene in scenes], device=pictures.device)
    colours = torch.tensor([SPRITE_COLOURS.index(scene.colour) for scene in scenes], device=pictures.device)
    return torch.stack([predicted_kinds(judge, pictures) == kinds, predicted_colours(pictures) == colours], dim=1)


def share_recognised(judge: PictureClassifier, pictures: Tensor) -> float:
    """The share of pictures (n, 3, h, w) in which the judge recognises any subject."""
    return share(predicted_kinds(judge, pictures) != judge.config.attributes[KIND].index(NONE))


def share(flags: Tensor) -> float:
    """The share of flags (n,) that are set."""
    return flags.float().mean().item()


def measure_classifier(
    model: PictureClassifier, judge: PictureClassifier, pictures: Tensor, kinds: Tensor
) -> dict[str, float]:
    """How often a classifier names sprites rightly, and how often it says that there is none where there is none."""
    others = pictures[partners_of_other_kinds(kinds)]
    return {
        "named": share(predicted_kinds(model, pictures) == kinds),
        "blends": 1 - share_recognised(model, blended(pictures, others)),
        "nothing": 1 - share_recognised(model, negative_pictures(pictures, others)),
    }


def measure_generator(model: Any, judge: PictureClassifier, pictures: Tensor, kinds: Tensor) -> dict[str, float]:
    """How many of a generator's pictures show a subject, and how many different subjects they show."""
    generated = predicted_kinds(judge, model(torch.randn(len(pictures), model.config.latent)))
    none = judge.config.attributes[KIND].index(NONE)
    counts = generated.bincount(minlength=none + 1)[:none]
    return {
        "recognised": share(generated != none),
        "kinds": float((generated[:FEW_SPRITES].bincount(minlength=none + 1)[:none] > 0).sum()),
        "rarest": counts.min().item() / len(generated),
    }


def measure_autoencoder(model: Any, judge: PictureClassifier, pictures: Tensor, kinds: Tensor) -> dict[str, float]:
    """How well an autoencoder or a VAE reconstructs pictures, and what it decodes from random latents.

    The random latents come from N(0, I) for a VAE. An autoencoder has no prior, so its random latents come from the
    normal distribution with the mean and covariance of its latents.
    """
    random = torch.randn(len(pictures), model.config.latent)
    extra = {}
    if isinstance(model, VAE):
        posterior = model.encode(pictures)
        z, latents = posterior.mean, random
        extra["kl"] = kl_divergence(*posterior).mean().item()
    else:
        z = model.encode(pictures)
        latents = z.mean(0) + random @ torch.linalg.cholesky(z.T.cov()).T
    reconstructions = model.decode(z)
    return {
        "psnr": psnr(pictures, reconstructions).mean().item(),
        "named": share(predicted_kinds(judge, reconstructions) == kinds),
        "drawn": share_recognised(judge, model.decode(latents)),
        **extra,
    }


def measure_vq_autoencoder(model: Any, judge: PictureClassifier, pictures: Tensor, kinds: Tensor) -> dict[str, float]:
    """How well a VQ-VAE or VQ-GAN reconstructs pictures, how many codes it uses, and how sharp the pictures are."""
    outputs = [model(some) for some in pictures.split(256)]
    reconstructions = torch.cat([picture for picture, _ in outputs]).clamp(0, 1)
    counts = torch.cat([quantized.indices for _, quantized in outputs]).flatten().bincount(minlength=model.config.codes)
    usage = codebook_usage(counts.cpu())
    others, _ = sprites(len(pictures), OTHER_SEED)
    return {
        "psnr": psnr(pictures, reconstructions).mean().item(),
        "named": share(predicted_kinds(judge, reconstructions) == kinds),
        "codes_used": usage.share,
        "perplexity": usage.perplexity,
        "fine": fine_energy(reconstructions) / fine_energy(pictures),
        "feature_distance": frechet_distance(features(judge, reconstructions), features(judge, others)),
    }


MEASURES: dict[str, Callable[[Any, PictureClassifier, Tensor, Tensor], dict[str, float]]] = {
    "judge": measure_classifier,
    "perceptual": measure_classifier,
    "gan": measure_generator,
    "autoencoder": measure_autoencoder,
    "vae": measure_autoencoder,
    "vqvae": measure_vq_autoencoder,
    "vqgan_without_adversary": measure_vq_autoencoder,
    "vqgan": measure_vq_autoencoder,
}


def fine_energy(pictures: Tensor) -> float:
    """The energy in waves no longer than an eighth of the picture, as a mean over pictures (n, 3, h, w) and colours."""
    energy = torch.fft.fft2(pictures, norm="ortho").abs().square().mean((0, 1))  # (h, w)
    height, width = energy.shape
    down, across = torch.fft.fftfreq(height) * height, torch.fft.fftfreq(width) * width
    return energy[torch.hypot(down[:, None], across) >= FINE_FREQUENCY].sum().item()


def features(judge: PictureClassifier, pictures: Tensor) -> Tensor:
    """Means and maxima of the judge's last feature maps: pictures (n, 3, h, w) → (n, 2·widths[-1]), float64, CPU."""
    maps = torch.cat([judge.features(some)[-1] for some in pictures.split(256)])
    return torch.cat([maps.mean((2, 3)), maps.amax((2, 3))], dim=1).cpu().double()


def frechet_distance(a: Tensor, b: Tensor) -> float:
    """The squared Fréchet distance of two sets of features, (n, d) and (m, d), each taken for a normal distribution.

    Heusel et al. 2017, "GANs Trained by a Two Time-Scale Update Rule…", section 4, with another network's features.
    """
    cov_a, cov_b = a.T.cov(), b.T.cov()  # (d, d)
    # The trace of the square root of the product of two covariances, whose eigenvalues are real and not negative.
    root = torch.linalg.eigvals(cov_a @ cov_b).real.clamp(min=0).sqrt().sum()
    distance = (a.mean(0) - b.mean(0)).square().sum() + cov_a.trace() + cov_b.trace() - 2 * root
    return distance.clamp(min=0).item()


# ---------------------------------------------------------------------------------------------- the card


def record_measurements(name: str, folder: Path) -> None:
    """Measure a model as it is stored, in float16, and write the measurements into models.json and the card.

    Args:
        name: the name of the model.
        folder: the folder of the sprite models.
    """
    model = replace(read_sprite_models(folder)[name], measured=measure(name, folder))
    write_sprite_card(save_sprite_model(folder, name, load_sprite_model(name, folder), model))


def write_sprite_card(kept: SpriteModels) -> None:
    """Write README.md into the folder of sprite models."""
    replace_file(kept.folder / CARD_FILE, card_text(kept).encode())


def card_text(kept: SpriteModels) -> str:
    """The text of the model card."""
    rows = [_training_row(name, model) for name, model in kept.models.items()]
    tables = [_table(kept, names, meanings) for names, meanings in TABLES.items()]
    return f"""# Sprite models

The small models of part 2, trained on `atelier.world.sprites`: one thing on plain paper, 32×32 pixels. \
`atelier.weights.sprites.load_sprite_model(NAME)` loads one. All were trained from scratch, on painted pictures; \
nothing was downloaded. Licence: MIT, as the code.

| model | parameters | sprites | steps | minutes | seed | at the end |
|---|---|---|---|---|---|---|
{chr(10).join(rows)}

The `judge` names the subject of a picture or says `{NONE}`; it measures and is used for nothing else. `perceptual` is \
its twin of another seed, whose features the VQ-GAN's loss compares. `vqgan` begins as `vqgan_without_adversary` and \
goes on with its discriminator. Make them all again with `atelier train sprites`.

## What was measured

By the judge, on {FRESH_SPRITES} sprites that no training has seen (seed {FRESH_SEED}), with the weights as they are \
stored.

{chr(10).join(filter(None, tables))}
## What they cannot do

They know six subjects in five colours and have seen nothing else: no setting, no second thing, no photograph.
"""


def _training_row(name: str, model: SpriteModel) -> str:
    """The row of a model in the table of trainings."""
    _, build = MODEL_CLASSES[name]
    size = sum(parameter.numel() for parameter in build(model.config).parameters())
    seen = f"{len(model.subjects)} subjects, {', '.join(model.colours)}"
    trained = dict(model.training)
    steps, minutes, seed = (trained.pop(key) for key in ("steps", "minutes", "seed"))
    losses = ", ".join(f"{key} {value:.3g}" for key, value in trained.items())
    return _row(name, f"{size:,}", seen, steps, f"{minutes:.0f}", seed, losses)


def _table(kept: SpriteModels, names: tuple[str, ...], meanings: dict[str, str]) -> str:
    """The measurements of models of one kind, side by side; "" if the folder has no such model."""
    columns = {name: kept.models[name].measured for name in names if name in kept.models}
    lines = [_row("", *columns), "|---" * (len(columns) + 1) + "|"]
    for key, meaning in meanings.items():
        lines.append(_row(meaning, *(_number(key, found[key]) if key in found else "" for found in columns.values())))
    return "\n".join(lines) + "\n" if columns else ""


def _number(key: str, value: float) -> str:
    if key == "kinds":
        return f"{value:.0f}"
    return f"{value:.2f}" if key in NOT_SHARES else f"{100 * value:.1f} %"


def _row(*cells: object) -> str:
    return "| " + " | ".join(map(str, cells)) + " |"
