"""The base classes of recipes: what is trained, with which settings, losses and data.

Each recipe has a file in `recipes/`. A recipe that trains a block of a preset is also listed in
`atelier.training.recipes.RECIPES`. Its class attributes determine the command, the block's share of the time, the
metrics in tables, and the model card.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, Generic, NamedTuple, TypeVar

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.optim import Optimizer

from atelier.errors import AtelierError
from atelier.training.data import Batches, PictureSource
from atelier.weights.preset import Preset, load_weights
from atelier.world import HeldOut, World

AnySettings = TypeVar("AnySettings", bound="Settings")
AnyModule = TypeVar("AnyModule", bound=nn.Module)


class TrainingError(AtelierError):
    """A training run cannot start or continue; the message says why and what to do."""


@dataclass(frozen=True)
class Settings:
    """The settings of the optimization, common to all recipes.

    Attributes:
        batch_size: pictures in a batch of one process.
        learning_rate: the peak of the schedule.
        betas: the betas of AdamW.
        weight_decay: the weight decay of AdamW, for matrices and kernels.
        warmup_steps: steps of the linear rise to the peak.
        final_share: the learning rate at the end of the cosine, as a share of the peak.
        clip_norm: gradients with a larger norm are scaled down to it.
        ema_decay: the decay of the averaged weights after its warm-up.
        distinct: the number of different painted pictures; None paints new ones all the time. See `PaintedPictures`.

    Raises:
        TrainingError: if a number is out of range.
    """

    batch_size: int
    learning_rate: float
    betas: tuple[float, float] = (0.9, 0.98)
    weight_decay: float = 0.0
    warmup_steps: int = 100
    final_share: float = 0.02
    clip_norm: float = 1.0
    ema_decay: float = 0.999
    distinct: int | None = None

    def __post_init__(self) -> None:
        ranges = {
            "batch_size": (1 <= self.batch_size <= 2**20, "a batch holds at least one picture, and at most a million"),
            "learning_rate": (0 < self.learning_rate < math.inf, "it must be above 0"),
            "betas": (all(0 <= beta < 1 for beta in self.betas), "both must be at least 0 and below 1"),
            "weight_decay": (0 <= self.weight_decay < math.inf, "it must be at least 0"),
            "warmup_steps": (self.warmup_steps >= 0, "it must be at least 0"),
            "final_share": (0 <= self.final_share <= 1, "it is a share, from 0 to 1"),
            "clip_norm": (0 < self.clip_norm < math.inf, "it must be above 0"),
            "ema_decay": (0 <= self.ema_decay < 1, "it must be at least 0 and below 1"),
            "distinct": (self.distinct is None or self.distinct >= 1, "it must be at least 1, or None"),
        }
        for name, (fits, expected) in ranges.items():
            if not fits:
                raise TrainingError(f"{name} was {getattr(self, name)}; {expected}.")

    def optimizer(self, module: nn.Module) -> Optimizer:
        """Make an AdamW (arXiv:1711.05101); weight decay applies to matrices and kernels, not to biases and norms."""
        trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
        groups = [
            {"params": [p for p in trained if p.ndim >= 2], "weight_decay": self.weight_decay},
            {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
        ]
        return torch.optim.AdamW([g for g in groups if g["params"]], lr=self.learning_rate, betas=self.betas)


class PartLoss(NamedTuple):
    """The loss of one trained part in a step: the loop computes its gradients and steps the part's optimizer.

    Attributes:
        part: the name of the part.
        loss: a scalar.
        metrics: scalars to report.
    """

    part: str
    loss: Tensor
    metrics: dict[str, Tensor]


@dataclass(frozen=True)
class Inputs:
    """What the recipe for a block of a preset is built from.

    Attributes:
        preset: the preset with the sizes of its blocks.
        files: for each file that `Recipe.needs` lists, by name, the preset that holds it.
        world: the painted world to learn from, or None for a folder of pictures.
    """

    preset: Preset
    files: Mapping[str, Preset]
    world: World | None

    def hashes(self, *files: str) -> dict[str, str]:
        """Return the SHA-256 of each of the files, by name."""
        return {file: self.files[file].files[file] for file in files}


class Recipe(ABC, Generic[AnySettings, AnyModule]):
    """What is trained and how; one subclass for each block.

    The last four attributes are declared only by a recipe that trains a block of a preset.

    Attributes:
        name: the name of the exported weights: NAME.safetensors.
        settings: the settings of the optimization.
        config: the sizes of the trained modules, stored in checkpoints.
        parts: the trained modules by name; each has its own optimizer, and its forward computes its loss.
        frozen: the modules that are used but not trained.
        exported: the module inside `parts` whose averaged weights are exported.
        main_metrics: the metrics in the progress bar.
        channels_last: whether to train in the channels-last memory layout on a GPU, in which convolutions are faster.
        trained_with: the SHA-256, by name, of the files that the exported weights depend on.
        settings_type: the class of the settings.
        share: the block's share of the minutes of `atelier train all`; relative to the shares of the other blocks.
        reported: the metrics in the table at the end of `atelier train all`.
        held_out: which held-out combinations the painted pictures may show; see `PaintedPictures`.
    """

    name: str
    settings: AnySettings
    config: dict[str, Any]
    parts: dict[str, nn.Module]
    frozen: dict[str, nn.Module]
    exported: AnyModule
    main_metrics: tuple[str, ...] = ("loss",)
    channels_last: bool = False
    trained_with: Mapping[str, str] = MappingProxyType({})

    settings_type: ClassVar[type[Settings]]
    share: ClassVar[float]
    reported: ClassVar[tuple[str, ...]] = ("loss",)
    held_out: ClassVar[HeldOut] = "never"

    @classmethod
    def needs(cls, settings: AnySettings) -> tuple[str, ...]:
        """List the names of the preset's files that training with these settings needs."""
        return ()

    @classmethod
    def build(cls, inputs: Inputs, settings: AnySettings) -> Recipe:
        """Build the recipe for a block of a preset.

        Raises:
            TrainingError: if the block cannot be trained from these inputs.
        """
        raise TrainingError(f"{cls.__name__} does not train a block of a preset.")

    def warm_start(self, preset: Preset) -> None:
        """Start from the trained weights of a preset instead of random ones.

        Raises:
            PresetError: if the preset lacks the weights, or if they have other sizes.
        """
        load_weights(preset, self.name, self.exported)

    def batches(
        self, source: PictureSource, folder: Path, accelerator: Accelerator, stop: Callable[[], bool]
    ) -> Batches | None:
        """Prepare the batches to learn from.

        Args:
            source: the source of the captioned pictures.
            folder: the folder of the training, for data on disk.
            accelerator: the accelerator of the training.
            stop: called at intervals during a long preparation; if it returns True, the preparation ends unfinished.

        Returns:
            The batches, or None if the preparation is unfinished; the next session continues it.
        """
        return source.batches(self.settings.batch_size, self.settings.distinct, self.held_out)

    @abstractmethod
    def losses(self, parts: dict[str, nn.Module], batch: Any, progress: float) -> Iterator[PartLoss]:
        """Compute the losses of one step. The loop steps a part's optimizer before it asks for the next part's loss.

        Args:
            parts: the trained modules, as wrapped by accelerate.
            batch: one of `batches`.
            progress: the share of the training done, in [0, 1].

        Yields:
            The loss of each part, in order.
        """

    def sample(self, averaged: AnyModule, batch: Any) -> Tensor | None:
        """Make a sample picture with the averaged weights.

        Args:
            averaged: `exported` with its averaged weights.
            batch: one of `batches`.

        Returns:
            (3, height, width) in [0, 1], or None for a recipe without sample pictures.
        """
        return None

    def for_export(self, averaged: AnyModule) -> nn.Module:
        """Return the averaged weights in the form in which they are stored, without what only training needs."""
        return averaged
