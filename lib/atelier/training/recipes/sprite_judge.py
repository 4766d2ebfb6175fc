"""How the judge of sprites learns: to name the subject of a picture, or to say that there is none.

It is to tell sprites from what lies between them, so half of what it sees is nothing: two sprites blended, halves of
two, a blur, plain paper, noise.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from atelier.blocks.classifier import ClassifierConfig, PictureClassifier
from atelier.training.data import Batch
from atelier.training.recipe import Recipe, Turn
from atelier.training.recipes.classifier import Classification, ClassifierSettings

KIND, NONE = "kind", "none"
BLEND = (0.3, 0.7)  # shares of the second picture between which a blend shows neither
TRACE = 0.12  # up to this share of a second picture the first one is still what it is
BLURRED_SIDE = 4


class SpriteJudgeRecipe(Recipe[ClassifierSettings, PictureClassifier]):
    """Trains a classifier with the one attribute "kind", whose last class is "none".

    A batch's captions are the sprites' subjects, each one of the other classes.
    """

    main_metrics = ("loss", KIND)

    def __init__(self, name: str, config: ClassifierConfig, settings: ClassifierSettings) -> None:
        if set(config.attributes) != {KIND} or config.attributes[KIND][-1] != NONE:
            raise ValueError(
                f"A judge of sprites has the one attribute {KIND!r}, and its last class is {NONE!r}; "
                f"the attributes given were {config.attributes}."
            )
        self.name = name
        self.settings = settings
        self.config = {"classifier": asdict(config)}
        self.kinds = config.attributes[KIND]
        self.classifier = PictureClassifier(config)
        self.parts = {"classifier": Classification(self.classifier, settings)}
        self.frozen = {}
        self.exported = self.classifier

    def turns(self, parts: dict[str, nn.Module], batch: Batch, progress: float) -> Iterator[Turn]:
        """One turn: name the sprites of one half of the batch, and see that there are none in the other."""
        kinds = torch.tensor([self.kinds.index(caption) for caption in batch.captions], device=batch.pictures.device)
        others = batch.pictures[others_of_other_kinds(kinds)]
        whole = len(kinds) // 2  # batches are in no order
        share = TRACE * torch.rand(whole, 1, 1, 1).to(others.device)
        pictures = torch.cat(
            [
                torch.lerp(batch.pictures[:whole], others[:whole], share),
                negative_pictures(batch.pictures[whole:], others[whole:]),
            ]
        )
        kinds[whole:] = len(self.kinds) - 1
        yield Turn("classifier", *parts["classifier"](pictures, {KIND: kinds}))


def others_of_other_kinds(kinds: Tensor) -> Tensor:
    """For each of n pictures, the number of a random one of another kind: kinds (n,) → (n,).

    Where all are of one kind, of any picture.
    """
    different = (kinds[:, None] != kinds).float() + 1e-9  # (n, n)
    return different.cpu().multinomial(1)[:, 0].to(kinds.device)


def negative_pictures(pictures: Tensor, others: Tensor) -> Tensor:
    """Pictures (n, 3, h, w) of nothing, made of pictures and others, both (n, 3, h, w), pairwise of different kinds.

    Four in eight are blends, and one each of halves, blurs, blanks and noise.
    """
    versions = torch.stack(
        [blended(pictures, others), halved(pictures, others), blurred(pictures), blank(pictures), noise(pictures)]
    )  # (5, n, 3, h, w)
    which = torch.tensor([0, 0, 0, 0, 1, 2, 3, 4])[torch.randint(8, (len(pictures),))].to(pictures.device)
    return versions[which, torch.arange(len(pictures), device=pictures.device)]


def blended(pictures: Tensor, others: Tensor) -> Tensor:
    """Each picture mixed with its other one, pixel by pixel, so that neither wins: (n, 3, h, w) twice → the same."""
    low, high = BLEND
    share = (low + (high - low) * torch.rand(len(pictures), 1, 1, 1)).to(pictures.device)
    return torch.lerp(pictures, others, share)


def halved(pictures: Tensor, others: Tensor) -> Tensor:
    """One half of each picture beside, or above, the other half of its other one: (n, 3, h, w) twice → the same."""
    height, width = pictures.shape[-2:]
    left = (torch.arange(width, device=pictures.device) < width // 2).expand(height, width)
    upper = (torch.arange(height, device=pictures.device) < height // 2)[:, None].expand(height, width)
    upright = (torch.rand(len(pictures), 1, 1, 1) < 0.5).to(pictures.device)
    return torch.where(torch.where(upright, left, upper), pictures, others)


def blurred(pictures: Tensor) -> Tensor:
    """Each picture (n, 3, h, w) as if it had been stored at 4 × 4 pixels."""
    coarse = F.interpolate(pictures, (BLURRED_SIDE, BLURRED_SIDE), mode="area")
    return F.interpolate(coarse, pictures.shape[-2:], mode="bilinear", align_corners=False)


def blank(pictures: Tensor) -> Tensor:
    """Plain pictures: the paper of each (n, 3, h, w), its corner's colour, a little lighter or darker."""
    tint = 0.1 * (torch.rand(len(pictures), 3, 1, 1) - 0.5).to(pictures.device)
    return (pictures[:, :, :1, :1] + tint).expand_as(pictures).clamp(0, 1)


def noise(pictures: Tensor) -> Tensor:
    """Noise of the shape of pictures (n, 3, h, w), its grain of one pixel or of eight."""
    fine = torch.rand_like(pictures)
    coarse = F.interpolate(fine[:, :, ::8, ::8], pictures.shape[-2:], mode="bilinear", align_corners=False)
    rough = (torch.rand(len(pictures), 1, 1, 1) < 0.5).to(pictures.device)
    return torch.where(rough, fine, coarse)
