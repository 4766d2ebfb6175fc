"""What `atelier train sprites` does: train the small models of part 2, and write them as they are shipped.

A run's folder RUN keeps one training for each model in RUN/<model>/ (see `loop`); what is finished goes to OUT, a
folder as `atelier.weights.sprites` reads it. A model that others need (everything is measured by the judge, the VQ-GAN
starts from the one without adversary) is trained before them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from atelier.blocks.autoencoder import Autoencoder, AutoencoderConfig
from atelier.blocks.classifier import ClassifierConfig
from atelier.blocks.gan import GANConfig
from atelier.blocks.vae import VAE
from atelier.blocks.vq import VQVAE, VQVAEConfig
from atelier.blocks.vqgan import VQGANConfig
from atelier.training.data import Batch, mixed_seed
from atelier.training.loop import Budget, Outcome, train
from atelier.training.recipe import Recipe, TrainingError
from atelier.training.recipes.autoencoder import (
    AutoencoderRecipe,
    AutoencoderSettings,
    ThroughClouds,
    ThroughCodes,
    ThroughPoints,
    VAESettings,
)
from atelier.training.recipes.classifier import ClassifierSettings
from atelier.training.recipes.gan import GANRecipe, GANSettings
from atelier.training.recipes.sprite_judge import KIND, NONE, SpriteJudgeRecipe
from atelier.training.recipes.vqgan import VQGANRecipe, VQGANSettings
from atelier.weights.sprites import (
    MODELS_FILE,
    SPRITE_MODELS,
    SpriteModel,
    load_sprite_model,
    read_sprite_models,
    save_sprite_model,
)
from atelier.world import SPRITES, sprites
from atelier.world.sprites import SPRITE_COLOURS

PAINTED = 4096


@dataclass(frozen=True)
class Plan:
    """How a model is made.

    config: its sizes, of its block's class. settings: of its recipe's class. steps: how long it trains.
    subjects, colours: of the sprites it sees. needs: the models that have to be there before.
    """

    config: Any
    settings: Any
    steps: int
    subjects: tuple[str, ...] = SPRITES
    colours: tuple[str, ...] = SPRITE_COLOURS
    needs: tuple[str, ...] = ("judge",)


JUDGE = ClassifierConfig({KIND: (*SPRITES, NONE)}, resolution=32, widths=(16, 32, 48))
JUDGING = ClassifierSettings(soft_share=0.2)
PLANE = AutoencoderConfig(width=24, latent=2)
GRID = VQGANConfig(
    resolution=32,
    channels=16,
    multipliers=(1, 1, 2, 2),
    residual_blocks=1,
    attention_resolutions=(),
    z_channels=32,
    codes=64,
    code_width=16,
    group_norm_groups=8,
)
WITHOUT_ADVERSARY = VQGANSettings(batch_size=32, learning_rate=2e-3, betas=(0.9, 0.99), discriminator_start=1.0)
WITH_ADVERSARY = VQGANSettings(
    batch_size=16,
    learning_rate=4e-4,
    discriminator_weight=0.8,
    discriminator_start=0.0,
    discriminator_ramp=0.2,  # the discriminator learns from the start, and by and by it is listened to
    discriminator_layers=1,
)

PLANS = {
    "judge": Plan(JUDGE, JUDGING, 800, needs=()),
    "perceptual": Plan(JUDGE, JUDGING, 800),
    "gan": Plan(GANConfig(), GANSettings(), 5000, colours=("red",)),
    "autoencoder": Plan(PLANE, AutoencoderSettings(), 2500),
    "vae": Plan(PLANE, VAESettings(beta=2.0), 2500),
    "vqvae": Plan(VQVAEConfig(), AutoencoderSettings(), 2000),
    "vqgan_without_adversary": Plan(GRID, WITHOUT_ADVERSARY, 1200, needs=("judge", "perceptual")),
    "vqgan": Plan(GRID, WITH_ADVERSARY, 600, needs=("judge", "perceptual", "vqgan_without_adversary")),
}


@dataclass(frozen=True)
class SpriteRequest:
    """What was asked for on the command line.

    only: one of SPRITE_MODELS, with what it needs and OUT does not have; None trains all. out: OUT; None: RUN/models.
    run_dir: RUN. steps, minutes: of each model, see `Budget`; with neither, as many steps as the shipped ones had.
    resume: go on from the checkpoints. seed: another one, other models.
    """

    only: str | None = None
    out: Path | None = None
    run_dir: Path = Path("runs") / "sprites"
    steps: int | None = None
    minutes: float | None = None
    resume: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        if self.only is not None and self.only not in SPRITE_MODELS:
            raise TrainingError(
                f"There is no sprite model called {self.only!r}; choose one of {', '.join(SPRITE_MODELS)}."
            )

    @property
    def folder(self) -> Path:
        """OUT: where the finished models go."""
        return self.out or self.run_dir / "models"

    def budget(self, plan: Plan) -> Budget:
        """How long a model is trained."""
        steps = plan.steps if self.steps is None and self.minutes is None else self.steps
        return Budget(steps, self.minutes)


class SpriteBatches:
    """Endless batches out of a few thousand sprites, painted once; a sprite's caption is its subject.

    plan: says which sprites. seed: other sprites, in another order. painted: how many there are.
    device: where they are painted and stay.
    """

    def __init__(self, plan: Plan, seed: int, painted: int, device: torch.device | str = "cpu") -> None:
        subjects, colours = plan.subjects, plan.colours
        self.pictures, kinds = sprites(painted, seed, subjects=subjects, colours=colours, device=device)
        self.subjects = [subjects[kind] for kind in kinds.tolist()]
        self.batch_size, self.seed = plan.settings.batch_size, seed

    def __getitem__(self, number: int) -> Batch:
        """Batch `number`."""
        dice = torch.Generator().manual_seed(mixed_seed(self.seed, number))
        chosen = torch.randint(len(self.subjects), (self.batch_size,), generator=dice)
        return Batch(self.pictures[chosen.to(self.pictures.device)], [self.subjects[i] for i in chosen.tolist()])


def train_sprites(request: SpriteRequest, written: Callable[[str, Path], None] = lambda *_: None) -> list[str]:
    """Train what is asked for. An interrupted training ends the run, and its weights so far are written.

    Args:
        request: what is asked for.
        written: called with a model's name and OUT when its weights are there, by the first process only; the command
            measures the model then.

    Returns:
        A sentence for each trained model.

    Raises:
        TrainingError, PresetError: with a sentence that says what is wrong and what to do.
    """
    accelerator = Accelerator(cpu=not torch.accelerator.is_available(), mixed_precision="no")  # quick enough as it is
    done = []
    for name in _order(request):
        outcome = _train_one(name, request, accelerator)
        if accelerator.is_main_process:
            written(name, request.folder)
        done.append(_summary(name, outcome, request))
        if not outcome.finished:
            break
    return done


def _order(request: SpriteRequest) -> list[str]:
    """The models to train, in an order in which each finds what it needs."""
    if request.only is None:
        return list(SPRITE_MODELS)
    there = read_sprite_models(request.folder).models if (request.folder / MODELS_FILE).is_file() else {}
    wanted = {request.only, *(need for need in PLANS[request.only].needs if need not in there)}
    return [name for name in SPRITE_MODELS if name in wanted]


def _train_one(name: str, request: SpriteRequest, accelerator: Accelerator) -> Outcome:
    """Train a model and write it."""
    plan, budget = PLANS[name], request.budget(PLANS[name])
    seed = mixed_seed(request.seed, "sprites", name)
    torch.manual_seed(seed)  # the weights that training starts from
    recipe = _recipe(name, plan, request.folder)
    data = SpriteBatches(plan, seed, PAINTED, accelerator.device)
    outcome = train(
        recipe, data, request.run_dir / name, budget, accelerator=accelerator, seed=seed, resume=request.resume
    )
    if accelerator.is_main_process:
        losses = {key: outcome.metrics[key] for key in recipe.main_metrics if key in outcome.metrics}
        trained = {"seed": request.seed, "steps": outcome.step, "minutes": outcome.seconds / 60, **losses}
        training = {key: round(value, 4) for key, value in trained.items()}
        model = SpriteModel(plan.config, plan.subjects, plan.colours, training)
        save_sprite_model(request.folder, name, outcome.averaged, model)
    accelerator.wait_for_everyone()
    return outcome


def _recipe(name: str, plan: Plan, folder: Path) -> Recipe:
    """The recipe of a model, with the networks that it needs from `folder`."""
    config, settings = plan.config, plan.settings
    match name:
        case "judge" | "perceptual":
            return SpriteJudgeRecipe(name, config, settings)
        case "gan":
            return GANRecipe(config, settings)
        case "autoencoder":
            return AutoencoderRecipe(name, ThroughPoints(Autoencoder(config)), settings)
        case "vae":
            return AutoencoderRecipe(name, ThroughClouds(VAE(config), settings.beta), settings)
        case "vqvae":
            return AutoencoderRecipe(name, ThroughCodes(VQVAE(config)), settings)
    recipe = VQGANRecipe(config, load_sprite_model("perceptual", folder), settings)
    if name == "vqgan":
        recipe.vqgan.load_state_dict(load_sprite_model("vqgan_without_adversary", folder).state_dict())
    return recipe


def _summary(name: str, outcome: Outcome, request: SpriteRequest) -> str:
    done = f"step {outcome.step}, after {outcome.seconds / 60:.1f} minutes of training"
    weights = request.folder / f"{name}.safetensors"
    if outcome.finished:
        return f"{name} finished at {done}; its weights are in {weights}."
    return f"{name} stopped at {done}; a preview of its weights is in {weights}, and the same with --resume goes on."
