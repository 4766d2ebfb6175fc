"""The experiment of lesson 2e: what the discriminator changes, at the same rate and after the same training.

`Setting`, `Run`, `redraw`, `descend`, `study` and `sharpen` are also cells of the lesson.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from atelier.blocks.classifier import PictureClassifier
from atelier.blocks.vqgan import (
    VQGAN,
    PatchDiscriminator,
    adaptive_weight,
    hinge_discriminator_loss,
    hinge_generator_loss,
    perceptual_distance,
)
from atelier.evaluation.sprites import features, fine_energy, frechet_distance
from atelier.teaching.experiments import Experiment
from atelier.training.metrics import psnr
from atelier.weights.sprites import load_sprite_model
from atelier.world import sprites

STUDY_STEPS, STEPS = 100, 240
PAINTED = 3072  # sprites that the decoder is trained on; as many are measured
FRESH = 10_000  # added to a seed, it gives sprites that no training has seen


class Setting(NamedTuple):
    """What all trainings of a comparison have in common."""

    blurred: VQGAN  # the network that they start from
    eyes: PictureClassifier  # for the perceptual loss
    pictures: Tensor  # (n, 3, 32, 32), painted
    codes: Tensor  # (n, h, w), their codes
    shown: Tensor  # (m, 3, 32, 32), reconstructed now and then to watch the training


class Run(NamedTuple):
    """The result of a training: both networks, the losses of each step, and reconstructions during training."""

    model: VQGAN
    critic: PatchDiscriminator
    history: dict[str, list[float]]
    snapshots: dict[int, Tensor]


def redraw(model: nn.Module, pictures: Tensor) -> Tensor:
    """Reconstruct pictures (n, 3, H, W) from their codes, from 0 to 1."""
    with torch.no_grad():
        return torch.cat([model(batch)[0].clamp(0, 1) for batch in pictures.split(256)])


def descend(optimizer: torch.optim.Optimizer, loss: Tensor) -> float:
    """Take one optimizer step, and return the loss before it."""
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()


def study(setting: Setting, steps: int, seed: int = 0) -> PatchDiscriminator:
    """Train a discriminator to tell painted pictures from the blurred network's reconstructions of them."""
    torch.manual_seed(seed)
    pictures, drawn = setting.pictures, redraw(setting.blurred, setting.pictures)
    critic = PatchDiscriminator(width=24, layers=1).to(pictures.device)
    adam = torch.optim.Adam(critic.parameters(), 1e-3, betas=(0.5, 0.9))
    for _ in tqdm(range(steps), desc="training the discriminator"):
        chosen = torch.randint(len(pictures), (16,)).to(pictures.device)
        descend(adam, hinge_discriminator_loss(critic(pictures[chosen]), critic(drawn[chosen])))
    return critic


def sharpen(
    setting: Setting, studied: PatchDiscriminator, weight: float, steps: int, seed: int = 0, keep: Sequence[int] = ()
) -> Run:
    """Train the blurred network's decoder further, against a copy of the trained discriminator.

    Args:
        setting: network, classifier and pictures.
        studied: the discriminator, from `study`.
        weight: of the adversarial loss, before the adaptive weight.
        steps: how long to train.
        seed: of the batches.
        keep: the steps after which `setting.shown` is reconstructed.
    """
    torch.manual_seed(seed)
    model, critic = copy.deepcopy(setting.blurred), copy.deepcopy(studied)
    learning = [*model.decoder.parameters(), *model.post_quant_conv.parameters()]
    decoder_adam = torch.optim.Adam(learning, 3e-4, betas=(0.5, 0.9))
    schedule = torch.optim.lr_scheduler.OneCycleLR(decoder_adam, 3e-4, steps, pct_start=0.1, cycle_momentum=False)
    critic_adam = torch.optim.Adam(critic.parameters(), 1e-3, betas=(0.5, 0.9))
    history: dict[str, list[float]] = {"reconstruction": [], "discriminator": []}
    snapshots = {0: redraw(model, setting.shown)}
    for step in tqdm(range(1, steps + 1), desc=f"weight {weight:g}"):
        chosen = torch.randint(len(setting.pictures), (16,)).to(setting.pictures.device)
        painted, drawn = setting.pictures[chosen], model.decode(model.quantize.lookup(setting.codes[chosen]))
        perception = perceptual_distance(setting.eyes.features(drawn), setting.eyes.features(painted)).mean()
        nll = (drawn - painted).abs().mean() + 0.1 * perception
        adversarial = hinge_generator_loss(critic(drawn))
        balance = adaptive_weight(nll, adversarial, model.last_layer)
        descend(decoder_adam, nll + weight * balance * adversarial)
        schedule.step()
        told = descend(critic_adam, hinge_discriminator_loss(critic(painted), critic(drawn.detach())))
        history["reconstruction"].append(nll.item())
        history["discriminator"].append(told)
        if step in keep:
            snapshots[step] = redraw(model, setting.shown)
    return Run(model, critic, history, snapshots)


def prepare(seed: int) -> Setting:
    """Load the shipped networks, and paint and encode sprites."""
    blurred = load_sprite_model("vqgan_without_adversary")
    pictures, _ = sprites(PAINTED, seed + 1)
    with torch.no_grad():
        codes = torch.cat([blurred.encode(batch).indices for batch in pictures.split(256)])
    eyes = load_sprite_model("perceptual").requires_grad_(False)
    return Setting(blurred, eyes, pictures, codes, pictures[:0])


def run_sharper(arm: str, seed: int) -> dict[str, Any]:
    """Train the decoder with the adversarial weight of the arm, and measure its reconstructions of fresh sprites."""
    setting = prepare(seed)
    run = sharpen(setting, study(setting, STUDY_STEPS, seed), float(arm), STEPS, seed)
    judge = load_sprite_model("judge").requires_grad_(False)
    fresh, others = (sprites(PAINTED, start + seed)[0] for start in (FRESH, 2 * FRESH))
    drawn = redraw(run.model, fresh)
    return {
        "fine": fine_energy(drawn) / fine_energy(fresh),
        "distance": frechet_distance(features(judge, drawn), features(judge, others)),
        "floor": frechet_distance(features(judge, fresh), features(judge, others)),
        "psnr": psnr(fresh, drawn).mean().item(),
        **{name: torch.tensor(losses).view(-1, 10).mean(1).tolist() for name, losses in run.history.items()},
    }


SHARPER = Experiment(
    "2e-sharper",
    "What does the weight of the adversarial loss change, from the same start, with the same codes and steps?",
    arms=("0", "0.4", "0.8", "8"),
    seeds=(0, 1, 2, 3),
    run=run_sharper,
    files=(
        "sprites/vqgan_without_adversary.safetensors", "sprites/perceptual.safetensors", "sprites/judge.safetensors",
    ),
)  # fmt: skip
EXPERIMENTS = (SHARPER,)
