"""The experiments of lesson 2a: which parts of the game matter, and whether a generator copies what it was shown.

Every training is that of the lesson: 1,200 steps on sprites of six kinds, each kind in one colour.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized, remove_parametrizations

from atelier.blocks.classifier import PictureClassifier
from atelier.blocks.gan import Discriminator, GANConfig, Generator, discriminator_loss, generator_loss
from atelier.teaching.experiments import Experiment
from atelier.teaching.figures import posterize, sheet
from atelier.weights.sprites import load_sprite_model
from atelier.world import SPRITES, sprites

COLOUR_OF = {
    "strawberry": "red",
    "mushroom": "blue",
    "car": "green",
    "house": "orange",
    "cat": "purple",
    "star": "orange",
}
EACH = 200  # training sprites of each kind
STEPS, BATCH = 1200, 32
DRAWN = 600  # pictures by which a generator is judged
PERIOD = 100  # steps over which gradients and probabilities are averaged
CONFIDENT = 0.9  # the judge's confidence from which a picture counts as recognised
LEAST_SHARE = 0.01  # of the pictures, from which a kind counts as drawn
SHOWN = 9  # of these pictures, the first ones, which are stored
OTHER_SEEDS = 100_000  # apart from the seeds of trainings
CONTROL_SETS = 5  # sets of new sprites with which the training sprites are compared


def coloured_sprites(each: int, seed: int) -> Tensor:
    """Paint sprites of all six kinds, each kind in one colour.

    Args:
        each: how many of each kind.
        seed: the same seed gives the same sprites.

    Returns:
        (6 · each, 3, 32, 32), from 0 to 1, kind after kind in the order of SPRITES.
    """
    return torch.cat([sprites(each, seed, subjects=(kind,), colours=(COLOUR_OF[kind],))[0] for kind in SPRITES])


# ---------------------------------------------------------------------------------------------- the game


def remove_spectral_norm(discriminator: Discriminator) -> Discriminator:
    """Remove the spectral normalisation of a discriminator's layers, in place; the weights start as they are stored."""
    for layer in discriminator.layers:
        if is_parametrized(layer):
            remove_parametrizations(layer, "weight", leave_parametrized=False)
    return discriminator


def saturating_loss(fake_logits: Tensor) -> Tensor:
    """The generator's loss of eq. 1, E[log(1 − D(G(z)))], a scalar, of the logits (n,) for generated pictures."""
    return F.logsigmoid(-fake_logits).mean()


@dataclass(frozen=True)
class Game:
    """What an arm changes in the lesson's training.

    Attributes:
        loss: the generator's loss, of the logits for its pictures.
        normalised: whether the discriminator has spectral normalisation.
        opposed: whether the discriminator is trained; otherwise it keeps its random weights.
    """

    loss: Callable[[Tensor], Tensor] = generator_loss
    normalised: bool = True
    opposed: bool = True


class Played(NamedTuple):
    """The result of a training.

    Attributes:
        generator: after the training, in evaluation mode.
        gradients: the norm of the generator's gradient, a mean over each PERIOD of steps.
        fooled: the probability D(G(z)) that the discriminator gives to the generator's pictures, likewise.
    """

    generator: Generator
    gradients: list[float]
    fooled: list[float]


def train(game: Game, seed: int, pictures: Tensor) -> Played:
    """Train a generator as the lesson does.

    Args:
        game: what is changed.
        seed: of the weights, the batches and the noise.
        pictures: real sprites, (n, 3, 32, 32).

    Returns:
        The generator, its gradients and how well it fooled the discriminator.
    """
    gradients, fooled = [], []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        generator, discriminator = Generator(GANConfig(width=24)), Discriminator(GANConfig(width=48))
        if not game.normalised:
            remove_spectral_norm(discriminator)
        draws, tells = adam(generator, 4e-3), adam(discriminator, 1e-3)
        schedules = [settling(optimizer) for optimizer in ((draws, tells) if game.opposed else (draws,))]
        torch.randn(DRAWN, generator.config.latent)  # the lesson draws its watched latent vectors here
        for _ in range(STEPS):
            real = pictures[torch.randint(len(pictures), (BATCH,))]
            noise = torch.randn(2, BATCH, generator.config.latent)
            if game.opposed:
                tells.zero_grad()
                discriminator_loss(discriminator(real), discriminator(generator(noise[0]).detach())).backward()
                tells.step()
            logits = discriminator(generator(noise[1]))
            draws.zero_grad()
            game.loss(logits).backward()
            draws.step()
            for schedule in schedules:
                schedule.step()
            gradients.append(gradient_norm(generator))
            fooled.append(logits.sigmoid().mean().item())
    return Played(generator.eval(), period_means(gradients), period_means(fooled))


def adam(module: nn.Module, learning_rate: float) -> torch.optim.Optimizer:
    """Make the optimizer of a network, with the little momentum of Radford et al. 2015."""
    return torch.optim.Adam(module.parameters(), lr=learning_rate, betas=(0.5, 0.99))


def settling(optimizer: torch.optim.Optimizer) -> torch.optim.lr_scheduler.LRScheduler:
    """Make the schedule of the learning rate, which falls in the second half."""
    return torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1, 2 * (1 - step / STEPS) + 0.05))


def gradient_norm(module: nn.Module) -> float:
    """The length of the gradient of all weights together."""
    return torch.stack([weight.grad.norm() for weight in module.parameters() if weight.grad is not None]).norm().item()


def period_means(values: list[float]) -> list[float]:
    """The mean of each PERIOD of values."""
    return torch.tensor(values).view(-1, PERIOD).mean(dim=1).tolist()


# ---------------------------------------------------------------------------------------------- measuring


@torch.no_grad()
def recognised(judge: PictureClassifier, drawn: Tensor) -> Tensor:
    """Which kinds a judge recognises.

    Args:
        judge: of the sprite models.
        drawn: pictures (n, 3, 32, 32).

    Returns:
        (n,) int64, indices into SPRITES, or −1 where the judge is less than CONFIDENT or says "none", its last class.
    """
    confidence, kind = judge(drawn)["kind"].softmax(dim=1).max(dim=1)
    return torch.where((confidence >= CONFIDENT) & (kind < len(SPRITES)), kind, -1)


def kind_shares(kinds: Tensor) -> list[float]:
    """The share of pictures that are recognised as each kind, of the kinds (n,) that `recognised` returns."""
    return [(kinds == kind).float().mean().item() for kind in range(len(SPRITES))]


def fine_detail(pictures: Tensor) -> float:
    """The mean squared difference between pictures (n, 3, h, w) and their 3 × 3 blur."""
    blurred = F.avg_pool2d(pictures, 3, stride=1, padding=1, count_include_pad=False)
    return (pictures - blurred).square().mean().item()


def nearest(pictures: Tensor, among: Tensor) -> tuple[Tensor, Tensor]:
    """Find the most similar picture, by the distance of the pixels ‖x − y‖₂.

    Args:
        pictures: (n, 3, h, w).
        among: (m, 3, h, w).

    Returns:
        The distance (n,) of each picture to the nearest one, and its index (n,).
    """
    found = torch.cdist(pictures.flatten(1), among.flatten(1)).min(dim=1)
    return found.values, found.indices


@torch.no_grad()
def drawn_by(generator: Generator, seed: int) -> Tensor:
    """The DRAWN pictures (DRAWN, 3, 32, 32) by which a generator is judged."""
    return generator(torch.randn(DRAWN, generator.config.latent, generator=torch.Generator().manual_seed(seed)))


def as_text(pictures: Tensor) -> str:
    """Store pictures (n, 3, h, w) in a results file: a PNG of one row, in base64."""
    file = io.BytesIO()
    sheet(posterize(pictures), columns=len(pictures), scale=1, gap=0).save(file, format="png", optimize=True)
    return base64.b64encode(file.getvalue()).decode()


def from_text(text: str) -> Tensor:
    """Read the pictures (n, 3, h, h) that `as_text` stored."""
    pixels = torch.from_numpy(np.array(Image.open(io.BytesIO(base64.b64decode(text)))))  # (h, n · h, 3)
    return torch.stack(pixels.float().div(255).permute(2, 0, 1).split(pixels.shape[0], dim=2))


# ---------------------------------------------------------------------------------------------- the experiments

GAMES = {
    "−log D, spectral norm": Game(),
    "−log D, plain": Game(normalised=False),
    "log(1 − D), spectral norm": Game(loss=saturating_loss),
    "log(1 − D), plain": Game(loss=saturating_loss, normalised=False),
    "D never learns": Game(opposed=False),
}


def ablate(arm: str, seed: int) -> dict[str, Any]:
    """Train with one of GAMES.

    Returns:
        The share recognised, the number of kinds drawn, the fine detail relative to that of the sprites, the share of
        each kind, the gradients and probabilities of `Played`, and the first pictures (see `from_text`).
    """
    pictures = coloured_sprites(EACH, seed=0)
    played = train(GAMES[arm], seed, pictures)
    drawn = drawn_by(played.generator, seed)
    shares = kind_shares(recognised(load_sprite_model("judge"), drawn))
    return {
        "recognised": sum(shares),
        "kinds": sum(share >= LEAST_SHARE for share in shares),
        "detail": fine_detail(drawn) / fine_detail(pictures),
        "shares": shares,
        "gradients": [round(value, 4) for value in played.gradients],
        "fooled": [round(value, 4) for value in played.fooled],
        "pictures": as_text(drawn[:SHOWN]),
    }


SIZES = {"5 of each kind": 5, "200 of each kind": EACH}


def share_nearer(pictures: Tensor, first: Tensor, others: list[Tensor]) -> float:
    """The share of pictures that are nearer to the first set than to another set, a mean over the other sets."""
    to_first, _ = nearest(pictures, first)
    return torch.stack([to_first < nearest(pictures, other)[0] for other in others]).float().mean().item()


def compare_copies(arm: str, seed: int) -> dict[str, Any]:
    """Train on few or many sprites, and compare the drawn pictures with them and with as many new sprites.

    Returns:
        The share of drawn pictures that are nearer to the training sprites than to new ones ("nearer"), and the same
        for real sprites that were not in the training ("control"): about half, if the training sprites are spread as
        usual.
    """
    each = SIZES[arm]
    pictures = coloured_sprites(each, seed)
    drawn = drawn_by(train(Game(), seed, pictures).generator, seed)
    real = coloured_sprites(DRAWN // len(SPRITES), seed + OTHER_SEEDS)
    others = [coloured_sprites(each, seed + number * OTHER_SEEDS) for number in range(2, 2 + CONTROL_SETS)]
    return {"nearer": share_nearer(drawn, pictures, others), "control": share_nearer(real, pictures, others)}


JUDGE = ("sprites/judge.safetensors",)
ABLATION = Experiment(
    "2a-ablation",
    "Do the non-saturating loss and spectral normalisation matter, and does the discriminator have to learn?",
    tuple(GAMES),
    (2014, 2015, 2016, 2017),
    ablate,
    JUDGE,
)
COPIES = Experiment(
    "2a-copies",
    "Are the generator's pictures nearer to the sprites that it was trained on than to as many new ones?",
    tuple(SIZES),
    (2014, 2015, 2016),
    compare_copies,
)
EXPERIMENTS = (ABLATION, COPIES)
