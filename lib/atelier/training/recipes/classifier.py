"""How the picture classifier learns: to name what a painted picture shows.

Two networks come of this recipe, and only the data differ: the perceptual network, whose features the VQ-GAN's loss
compares, never sees the held-out combinations; the judge, which measures what the pipeline draws, sees all of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from atelier.blocks.classifier import ClassifierConfig, PictureClassifier
from atelier.training.data import Batch
from atelier.training.recipe import Inputs, Recipe, Settings, TrainingError, Turn
from atelier.training.recipes.pictures import noisy, shifted, softened
from atelier.world import ATTRIBUTES, World

NO_LABEL = -1


@dataclass(frozen=True)
class ClassifierSettings(Settings):
    """How much harder the pictures are made, besides what every recipe needs.

    shift: pixels a picture is moved by, at most. soft_share: share of the pictures that are softened.
    noise: the largest standard deviation of the noise added to a picture.
    """

    batch_size: int = 64
    learning_rate: float = 2e-3
    betas: tuple[float, float] = (0.9, 0.99)
    weight_decay: float = 0.01
    shift: int = 2
    soft_share: float = 0.3
    noise: float = 0.05


class Classification(nn.Module):
    """The classifier with its loss."""

    def __init__(self, classifier: PictureClassifier, settings: ClassifierSettings) -> None:
        super().__init__()
        self.classifier = classifier
        self.settings = settings

    def forward(self, pictures: Tensor, labels: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss (a scalar), cross-entropies summed over the attributes, and each attribute's accuracy.

        pictures: (n, 3, h, w). labels: for each attribute (n,) int64, -1 where a picture has none.
        """
        settings = self.settings
        harder = noisy(softened(shifted(pictures, settings.shift), settings.soft_share), settings.noise)
        losses, metrics = [], {}
        for attribute, logits in self.classifier(harder).items():
            told = labels[attribute]
            known = (told != NO_LABEL).sum().clamp(min=1)  # a batch may have no label of an attribute at all
            losses.append(F.cross_entropy(logits.float(), told, ignore_index=NO_LABEL, reduction="sum") / known)
            metrics[attribute] = (logits.argmax(1) == told).sum() / known
        loss = torch.stack(losses).sum()
        return loss, {"loss": loss, **metrics}


class ClassifierRecipe(Recipe[ClassifierSettings, PictureClassifier]):
    """Trains a classifier of a world's attributes; by itself, the perceptual network."""

    name = "perceptual"
    channels_last = True
    settings_type = ClassifierSettings
    share = 1.0
    reported = ATTRIBUTES

    def __init__(self, config: ClassifierConfig, world: World, settings: ClassifierSettings) -> None:
        self.world = world
        self.settings = settings
        self.config = {"classifier": asdict(config)}
        self.classifier = PictureClassifier(config)
        self.parts = {"classifier": Classification(self.classifier, settings)}
        self.frozen = {}
        self.exported = self.classifier
        self.main_metrics = ("loss", *config.attributes)

    @classmethod
    def build(cls, inputs: Inputs, settings: ClassifierSettings) -> ClassifierRecipe:
        """The recipe for a preset's classifier."""
        if inputs.world is None:
            raise TrainingError("A classifier learns the attributes of painted scenes; train it without a data folder.")
        return cls(inputs.preset.classifier_sizes, inputs.world, settings)

    def turns(self, parts: dict[str, nn.Module], batch: Batch, progress: float) -> Iterator[Turn]:
        """One turn: name what is in the pictures."""
        loss, metrics = parts["classifier"](batch.pictures, self._labels(batch))
        yield Turn("classifier", loss, metrics)

    def _labels(self, batch: Batch) -> dict[str, Tensor]:
        if batch.scenes is None:
            raise TrainingError(
                "A classifier learns the attributes of painted scenes, which a folder of pictures does not have; "
                "train it without a data folder."
            )
        rows = [self.world.labels(scene) for scene in batch.scenes]
        return {
            name: torch.tensor([row[name] for row in rows]).to(batch.pictures.device, non_blocking=True)
            for name in self.classifier.config.attributes
        }


class JudgeRecipe(ClassifierRecipe):
    """Trains the judge, which sees all combinations, the held-out ones included."""

    name = "judge"
    share = 1.5
    held_out = "allowed"
