"""`atelier train sprites`: trains the small models of part 2 and writes them in the form in which they are shipped.

The folder RUN holds the training of each model in RUN/<model>/ (see `loop`). Trained models are written to the folder
OUT, which `atelier.weights.sprites` reads. Models that others need are trained first: the judge, which measures all
others, and the VQ-GAN without discriminator, from whose weights the VQ-GAN starts.
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
from atelier.training.checkpoints import training_lock
from atelier.training.data import Batch, derive_seed
from atelier.training.loop import Budget, Outcome, train
from atelier.training.recipe import Recipe, TrainingError
from atelier.training.recipes.autoencoder import (
    AutoencoderRecipe,
    AutoencoderSettings,
    AutoencoderWithLoss,
    VAESettings,
    VAEWithLoss,
    VQVAEWithLoss,
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

SPRITE_COUNT = 4096


@dataclass(frozen=True)
class Plan:
    """How a model is trained.

    Attributes:
        config: the sizes of its block.
        settings: the settings of its recipe.
        steps: how long it trains.
        subjects, colours: the subjects and colours of the sprites that it sees.
        needs: the models that must be trained before.
    """

    config: Any
    settings: Any
    steps: int
    subjects: tuple[str, ...] = SPRITES
    colours: tuple[str, ...] = SPRITE_COLOURS
    needs: tuple[str, ...] = ("judge",)


JUDGE_CONFIG = ClassifierConfig({KIND: (*SPRITES, NONE)}, resolution=32, widths=(16, 32, 48))
JUDGE_SETTINGS = ClassifierSettings(soft_share=0.2)
AUTOENCODER_CONFIG = AutoencoderConfig(width=24, latent=2)
VQGAN_CONFIG = VQGANConfig(
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
    discriminator_ramp=0.2,  # the discriminator trains from the start, while its weight rises slowly
    discriminator_layers=1,
)

PLANS = {
    "judge": Plan(JUDGE_CONFIG, JUDGE_SETTINGS, 800, needs=()),
    "perceptual": Plan(JUDGE_CONFIG, JUDGE_SETTINGS, 800),
    "gan": Plan(GANConfig(), GANSettings(), 5000, colours=("red",)),
    "autoencoder": Plan(AUTOENCODER_CONFIG, AutoencoderSettings(), 2500),
    "vae": Plan(AUTOENCODER_CONFIG, VAESettings(beta=2.0), 2500),
    "vqvae": Plan(VQVAEConfig(), AutoencoderSettings(), 2000),
    "vqgan_without_adversary": Plan(VQGAN_CONFIG, WITHOUT_ADVERSARY, 1200, needs=("judge", "perceptual")),
    "vqgan": Plan(VQGAN_CONFIG, WITH_ADVERSARY, 600, needs=("judge", "perceptual", "vqgan_without_adversary")),
}


@dataclass(frozen=True, kw_only=True)
class SpriteRequest:
    """The options of `atelier train sprites`.

    Attributes:
        only: one of SPRITE_MODELS, trained with those of its needs that OUT lacks; None trains all models.
        out: OUT; None: RUN/models.
        run_dir: RUN.
        steps, minutes: the budget of each model, see `Budget`; without both, the steps of the shipped model.
        resume: continue from the checkpoints.
        seed: the seed of the run; the seed of each model is derived from it.

    Raises:
        TrainingError: if the model is unknown.
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
        """OUT, the folder of the trained models."""
        return self.out or self.run_dir / "models"

    def budget(self, plan: Plan) -> Budget:
        """Return how long to train a model."""
        steps = plan.steps if self.steps is None and self.minutes is None else self.steps
        return Budget(steps, self.minutes)


class SpriteBatches:
    """Endless batches of a few thousand sprites that are painted once; the caption of a sprite is its subject.

    Args:
        plan: the plan of the model, with subjects and colours.
        seed: the seed of the sprites and their order.
        painted: the number of sprites.
        device: where the sprites are painted and kept.
    """

    def __init__(self, plan: Plan, seed: int, painted: int, device: torch.device | str = "cpu") -> None:
        subjects, colours = plan.subjects, plan.colours
        self.pictures, kinds = sprites(painted, seed, subjects=subjects, colours=colours, device=device)
        self.subjects = [subjects[kind] for kind in kinds.tolist()]
        self.batch_size, self.seed = plan.settings.batch_size, seed

    def __getitem__(self, number: int) -> Batch:
        """Make batch `number`."""
        generator = torch.Generator().manual_seed(derive_seed(self.seed, number))
        chosen = torch.randint(len(self.subjects), (self.batch_size,), generator=generator)
        return Batch(self.pictures[chosen.to(self.pictures.device)], [self.subjects[i] for i in chosen.tolist()])


def train_sprites(request: SpriteRequest, written: Callable[[str, Path], None] = lambda *_: None) -> list[str]:
    """Train the models. An interruption ends the run after writing the current model's weights.

    Args:
        request: the options.
        written: called on the main process with a model's name and OUT once its weights are written; the command
            then measures the model.

    Returns:
        A sentence for each trained model.

    Raises:
        TrainingError: if a model cannot be trained as asked for.
        PresetError: if the weights of a needed model cannot be read.
    """
    accelerator = Accelerator(cpu=not torch.accelerator.is_available(), mixed_precision="no")  # fast enough in float32
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
    """List the models to train, each after those that it needs."""
    if request.only is None:
        return list(SPRITE_MODELS)
    present = read_sprite_models(request.folder).models if (request.folder / MODELS_FILE).is_file() else {}
    wanted = {request.only, *(need for need in PLANS[request.only].needs if need not in present)}
    return [name for name in SPRITE_MODELS if name in wanted]


def _train_one(name: str, request: SpriteRequest, accelerator: Accelerator) -> Outcome:
    """Train a model and write its weights."""
    plan, budget = PLANS[name], request.budget(PLANS[name])
    seed = derive_seed(request.seed, "sprites", name)
    torch.manual_seed(seed)  # for the initial weights
    recipe = _recipe(name, plan, request.folder)
    data = SpriteBatches(plan, seed, SPRITE_COUNT, accelerator.device)
    folder = request.run_dir / name
    with training_lock(folder, held=accelerator.is_main_process):
        outcome = train(recipe, data, folder, budget, accelerator=accelerator, seed=seed, resume=request.resume)
    if accelerator.is_main_process:
        losses = {key: outcome.metrics[key] for key in recipe.main_metrics if key in outcome.metrics}
        trained = {"seed": request.seed, "steps": outcome.step, "minutes": outcome.seconds / 60, **losses}
        training = {key: round(value, 4) for key, value in trained.items()}
        model = SpriteModel(plan.config, plan.subjects, plan.colours, training)
        save_sprite_model(request.folder, name, outcome.averaged, model)
    accelerator.wait_for_everyone()
    return outcome


def _recipe(name: str, plan: Plan, folder: Path) -> Recipe:
    """Build the recipe of a model, with the networks that it needs from `folder`."""
    config, settings = plan.config, plan.settings
    match name:
        case "judge" | "perceptual":
            return SpriteJudgeRecipe(name, config, settings)
        case "gan":
            return GANRecipe(config, settings)
        case "autoencoder":
            return AutoencoderRecipe(name, AutoencoderWithLoss(Autoencoder(config)), settings)
        case "vae":
            return AutoencoderRecipe(name, VAEWithLoss(VAE(config), settings.beta), settings)
        case "vqvae":
            return AutoencoderRecipe(name, VQVAEWithLoss(VQVAE(config)), settings)
    recipe = VQGANRecipe(config, load_sprite_model("perceptual", folder), settings)
    if name == "vqgan":
        recipe.vqgan.load_state_dict(load_sprite_model("vqgan_without_adversary", folder).state_dict())
    return recipe


def _summary(name: str, outcome: Outcome, request: SpriteRequest) -> str:
    weights = request.folder / f"{name}.safetensors"
    if outcome.finished:
        return f"{name} finished at {outcome.in_words}; its weights are in {weights}."
    return f"{name} stopped at {outcome.in_words}; a preview of its weights is in {weights}. Continue with --resume."
