"""The recipe of the picture classifier: predict the attributes of painted pictures.

It trains two networks, which differ in their data only. The perceptual network, whose features the loss of the VQ-GAN
compares, never sees the held-out combinations. The judge, which measures what the pipeline draws, sees all.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from atelier.blocks.classifier import ClassifierConfig, PictureClassifier
from atelier.training.data import Batch
from atelier.training.recipe import Inputs, PartLoss, Recipe, Settings, TrainingError
from atelier.training.recipes.pictures import noisy, shifted, softened
from atelier.world import ATTRIBUTES, World

NO_LABEL = -1


@dataclass(frozen=True)
class ClassifierSettings(Settings):
    """The settings of the classifier, with the strength of its data augmentation.

    Attributes:
        shift: the largest shift of a picture, in pixels.
        soft_share: the share of the pictures that are softened.
        noise: the largest standard deviation of the noise added to a picture.

    The other attributes are those of `Settings`.
    """

    batch_size: int = 64
    learning_rate: float = 2e-3
    betas: tuple[float, float] = (0.9, 0.99)
    weight_decay: float = 0.01
    shift: int = 2
    soft_share: float = 0.3
    noise: float = 0.05


class ClassifierWithLoss(nn.Module):
    """The classifier with its loss."""

    def __init__(self, classifier: PictureClassifier, settings: ClassifierSettings) -> None:
        super().__init__()
        self.classifier = classifier
        self.settings = settings

    def forward(self, pictures: Tensor, labels: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute the loss, the sum of the cross-entropies of all attributes.

        Args:
            pictures: (n, 3, h, w).
            labels: for each attribute (n,) int64, NO_LABEL where a picture does not have the attribute.

        Returns:
            The loss (a scalar), and the metrics with the accuracy of each attribute.
        """
        settings = self.settings
        augmented = noisy(softened(shifted(pictures, settings.shift), settings.soft_share), settings.noise)
        losses, metrics = [], {}
        for attribute, logits in self.classifier(augmented).items():
            targets = labels[attribute]
            known = (targets != NO_LABEL).sum().clamp(min=1)  # possibly no picture of the batch has the attribute
            losses.append(F.cross_entropy(logits.float(), targets, ignore_index=NO_LABEL, reduction="sum") / known)
            metrics[attribute] = (logits.argmax(1) == targets).sum() / known
        loss = torch.stack(losses).sum()
        return loss, {"loss": loss, **metrics}


class ClassifierRecipe(Recipe[ClassifierSettings, PictureClassifier]):
    """Trains the perceptual network, a classifier of a world's attributes.

    Args:
        config: the sizes of the classifier.
        world: the painted world, which labels the scenes.
        settings: the settings of the optimization.
    """

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
        self.parts = {"classifier": ClassifierWithLoss(self.classifier, settings)}
        self.frozen = {}
        self.exported = self.classifier
        self.main_metrics = ("loss", *config.attributes)

    @classmethod
    def build(cls, inputs: Inputs, settings: ClassifierSettings) -> ClassifierRecipe:
        """Build the recipe for the classifier of a preset."""
        if inputs.world is None:
            raise TrainingError("A classifier learns the attributes of painted scenes; train it without a data folder.")
        return cls(inputs.preset.classifier_config, inputs.world, settings)

    def losses(self, parts: dict[str, nn.Module], batch: Batch, progress: float) -> Iterator[PartLoss]:
        """Yield one loss: predict the attributes of the pictures."""
        loss, metrics = parts["classifier"](batch.pictures, self._labels(batch))
        yield PartLoss("classifier", loss, metrics)

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
    """Trains the judge, a classifier that also sees the held-out combinations."""

    name = "judge"
    share = 1.5
    held_out = "allowed"
