"""What a training consists of: its settings, its losses, and what it needs and leaves behind.

A recipe is declared in one file of `recipes/`. One that trains a block of a preset is also listed in
`atelier.training.recipes.RECIPES`; commands, shares of time, tables and model cards follow from its declarations.
"""

from __future__ import annotations

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
from atelier.weights.preset import Preset
from atelier.world import HeldOut, World

AnySettings = TypeVar("AnySettings", bound="Settings")
AnyModule = TypeVar("AnyModule", bound=nn.Module)


class TrainingError(AtelierError):
    """A training cannot start or go on; the message says why and what to do."""


@dataclass(frozen=True)
class Settings:
    """What every recipe needs to know about its optimization.

    batch_size: pictures in a batch of one process. learning_rate: the peak of the schedule.
    warmup_steps: steps of the linear rise to it. final_share: the share of it left at the end of the cosine.
    clip_norm: the largest norm of a gradient. ema_decay: of the averaged weights, reached after a warm-up.
    distinct: painted pictures, after which the same ones come again; None for always new ones. See `PaintedPictures`.
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
        if self.batch_size < 1:
            raise TrainingError(f"batch_size was {self.batch_size}; a batch holds at least one picture.")
        if self.learning_rate <= 0:
            raise TrainingError(f"learning_rate was {self.learning_rate}; it must be above 0.")
        if not 0 <= self.ema_decay < 1:
            raise TrainingError(f"ema_decay was {self.ema_decay}; it must be at least 0 and below 1.")
        if self.clip_norm <= 0:
            raise TrainingError(f"clip_norm was {self.clip_norm}; it must be above 0.")

    def optimizer(self, module: nn.Module) -> Optimizer:
        """AdamW (arXiv:1711.05101); weight decay for matrices and kernels only, not for biases, norms and scales."""
        trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
        groups = [
            {"params": [p for p in trained if p.ndim >= 2], "weight_decay": self.weight_decay},
            {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
        ]
        return torch.optim.AdamW([g for g in groups if g["params"]], lr=self.learning_rate, betas=self.betas)


class Turn(NamedTuple):
    """One part's turn to learn: the loop steps the part's optimizer on this loss.

    part: the name of the trained part. loss: a scalar. metrics: what to report, scalars without gradient.
    """

    part: str
    loss: Tensor
    metrics: dict[str, Tensor]


@dataclass(frozen=True)
class Inputs:
    """What the recipe of a preset's block is built from.

    preset: sizes of the blocks. files: for each file of another block that the recipe needs, the preset that holds it.
    world: the painted world to learn from, or None for a folder of pictures.
    """

    preset: Preset
    files: Mapping[str, Preset]
    world: World | None

    def hashes(self, *files: str) -> dict[str, str]:
        """The SHA-256 of each of the files, by name."""
        return {file: self.files[file].files[file] for file in files}


class Recipe(ABC, Generic[AnySettings, AnyModule]):
    """What is trained and how; one subclass for each block.

    Attributes:
        name: of the exported weights: NAME.safetensors.
        settings: of the optimization.
        config: the sizes, as they go into a checkpoint.
        bound_to: the SHA-256 of each file without which the exported weights mean nothing, by the file's name.
        parts: the trained modules by name; each has its own optimizer, and its forward computes its loss.
        frozen: modules that help and do not learn.
        exported: the module inside `parts` whose averaged weights are kept.
        main_metrics: the metrics that the progress bar shows.
        channels_last: whether convolutions are most of the work.

    Declared by a recipe that trains a block of a preset:
        settings_type: the class of its settings.
        share: of the minutes when all blocks are trained, relative to the other blocks.
        reported: the metrics in the table at the end of such a training.
        held_out: which held-out combinations its painted pictures may show.
    """

    name: str
    settings: AnySettings
    config: dict[str, Any]
    parts: dict[str, nn.Module]
    frozen: dict[str, nn.Module]
    exported: AnyModule
    main_metrics: tuple[str, ...] = ("loss",)
    channels_last: bool = False
    bound_to: Mapping[str, str] = MappingProxyType({})

    settings_type: ClassVar[type[Settings]]
    share: ClassVar[float]
    reported: ClassVar[tuple[str, ...]] = ("loss",)
    held_out: ClassVar[HeldOut] = "never"

    @classmethod
    def needs(cls, settings: AnySettings) -> tuple[str, ...]:
        """The files of other blocks that a training with these settings needs."""
        return ()

    @classmethod
    def build(cls, inputs: Inputs, settings: AnySettings) -> Recipe:
        """The recipe for a preset's block.

        Raises:
            TrainingError: if the block cannot be trained from these inputs.
        """
        raise TrainingError(f"{cls.__name__} does not train a block of a preset.")

    def batches(
        self, source: PictureSource, folder: Path, accelerator: Accelerator, stop: Callable[[], bool]
    ) -> Batches | None:
        """What the recipe learns from.

        Args:
            source: of the captioned pictures.
            folder: of the training, for what has to be kept on disk.
            accelerator: of the training.
            stop: asked at intervals while something is prepared; if it says so, the preparation is left unfinished.

        Returns:
            The batches, or None if the preparation was interrupted; the next session continues it.
        """
        return source.batches(self.settings.batch_size, self.settings.distinct, self.held_out)

    @abstractmethod
    def turns(self, parts: dict[str, nn.Module], batch: Any, progress: float) -> Iterator[Turn]:
        """The losses of one step, in order. The loop has stepped a turn's part when it asks for the next turn.

        Args:
            parts: the trained modules, as accelerate wrapped them.
            batch: one of `batches`.
            progress: the share of the training done, in [0, 1].
        """

    def sample(self, averaged: AnyModule, batch: Any) -> Tensor | None:
        """A picture (3, height, width) in [0, 1] that shows how far the averaged weights are, if there is one."""
        return None

    def for_export(self, averaged: AnyModule) -> nn.Module:
        """The averaged weights in the form in which they are stored, without what only training needs."""
        return averaged
