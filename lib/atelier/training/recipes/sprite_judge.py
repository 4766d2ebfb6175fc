"""The recipe of the sprite judge: a classifier of the subject of a sprite, with a class "none" for other pictures.

The judge has to tell sprites from what lies between them in a latent space. So half of its pictures are negatives,
which show no sprite: two sprites blended, halves of two sprites, a blur, a blank background, noise.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from atelier.blocks.classifier import ClassifierConfig, PictureClassifier
from atelier.training.data import Batch
from atelier.training.recipe import PartLoss, Recipe, TrainingError
from atelier.training.recipes.classifier import ClassifierSettings, ClassifierWithLoss

KIND, NONE = "kind", "none"
BLEND = (0.3, 0.7)  # with a share of the second picture in this range, a blend counts as "none"
TRACE = 0.12  # up to this share of a second picture, a blend counts as the first one
BLURRED_SIDE = 4


class SpriteJudgeRecipe(Recipe[ClassifierSettings, PictureClassifier]):
    """Trains a classifier with the one attribute "kind", whose last class is "none".

    The captions of its batches are the subjects of the sprites, which are the other classes.

    Args:
        name: the name of the exported weights.
        config: the sizes of the classifier, with its attribute.
        settings: the settings of the optimization.

    Raises:
        TrainingError: if the config has other attributes.
    """

    main_metrics = ("loss", KIND)

    def __init__(self, name: str, config: ClassifierConfig, settings: ClassifierSettings) -> None:
        if set(config.attributes) != {KIND} or config.attributes[KIND][-1] != NONE:
            raise TrainingError(
                f"A judge of sprites has the one attribute {KIND!r}, and its last class is {NONE!r}; "
                f"the attributes given were {config.attributes}."
            )
        self.name = name
        self.settings = settings
        self.config = {"classifier": asdict(config)}
        self.kinds = config.attributes[KIND]
        self.classifier = PictureClassifier(config)
        self.parts = {"classifier": ClassifierWithLoss(self.classifier, settings)}
        self.frozen = {}
        self.exported = self.classifier

    def losses(self, parts: dict[str, nn.Module], batch: Batch, progress: float) -> Iterator[PartLoss]:
        """Yield one loss: classify one half of the batch as sprites and the other, made into negatives, as "none"."""
        kinds = torch.tensor([self.kinds.index(caption) for caption in batch.captions], device=batch.pictures.device)
        others = batch.pictures[partners_of_other_kinds(kinds)]
        half = len(kinds) // 2  # the pictures of a batch are in random order
        share = TRACE * torch.rand(half, 1, 1, 1).to(others.device)
        pictures = torch.cat(
            [
                torch.lerp(batch.pictures[:half], others[:half], share),
                negative_pictures(batch.pictures[half:], others[half:]),
            ]
        )
        kinds[half:] = len(self.kinds) - 1
        yield PartLoss("classifier", *parts["classifier"](pictures, {KIND: kinds}))


def partners_of_other_kinds(kinds: Tensor) -> Tensor:
    """Choose for each picture a random one of another kind, or any picture if all are of one kind.

    Args:
        kinds: (n,), the class of each picture.

    Returns:
        The indices of the chosen pictures, (n,).
    """
    different = (kinds[:, None] != kinds).float() + 1e-9  # (n, n)
    return different.cpu().multinomial(1)[:, 0].to(kinds.device)


def negative_pictures(pictures: Tensor, others: Tensor) -> Tensor:
    """Make pictures that show no sprite: half of them are blends, an eighth each halves, blurs, blanks and noise.

    Args:
        pictures: (n, 3, h, w).
        others: (n, 3, h, w), for each picture one of another kind.

    Returns:
        (n, 3, h, w).
    """
    versions = torch.stack(
        [blended(pictures, others), halved(pictures, others), blurred(pictures), blank(pictures), noise(pictures)]
    )  # (5, n, 3, h, w)
    which = torch.tensor([0, 0, 0, 0, 1, 2, 3, 4])[torch.randint(8, (len(pictures),))].to(pictures.device)
    return versions[which, torch.arange(len(pictures), device=pictures.device)]


def blended(pictures: Tensor, others: Tensor) -> Tensor:
    """Blend each picture with its other one, pixel by pixel, in about equal shares: all (n, 3, h, w)."""
    low, high = BLEND
    share = (low + (high - low) * torch.rand(len(pictures), 1, 1, 1)).to(pictures.device)
    return torch.lerp(pictures, others, share)


def halved(pictures: Tensor, others: Tensor) -> Tensor:
    """Join the left or upper half of each picture with the remaining half of its other one: all (n, 3, h, w)."""
    height, width = pictures.shape[-2:]
    left = (torch.arange(width, device=pictures.device) < width // 2).expand(height, width)
    upper = (torch.arange(height, device=pictures.device) < height // 2)[:, None].expand(height, width)
    upright = (torch.rand(len(pictures), 1, 1, 1) < 0.5).to(pictures.device)
    return torch.where(torch.where(upright, left, upper), pictures, others)


def blurred(pictures: Tensor) -> Tensor:
    """Shrink each picture (n, 3, h, w) to 4 × 4 pixels and enlarge it again."""
    coarse = F.interpolate(pictures, (BLURRED_SIDE, BLURRED_SIDE), mode="area")
    return F.interpolate(coarse, pictures.shape[-2:], mode="bilinear", align_corners=False)


def blank(pictures: Tensor) -> Tensor:
    """Fill each picture (n, 3, h, w) with its background, the colour of its corner, slightly changed."""
    tint = 0.1 * (torch.rand(len(pictures), 3, 1, 1) - 0.5).to(pictures.device)
    return (pictures[:, :, :1, :1] + tint).expand_as(pictures).clamp(0, 1)


def noise(pictures: Tensor) -> Tensor:
    """Make noise of the shape of pictures (n, 3, h, w), each with a grain of one pixel or of eight."""
    fine = torch.rand_like(pictures)
    coarse = F.interpolate(fine[:, :, ::8, ::8], pictures.shape[-2:], mode="bilinear", align_corners=False)
    rough = (torch.rand(len(pictures), 1, 1, 1) < 0.5).to(pictures.device)
    return torch.where(rough, fine, coarse)
