"""A small residual network that classifies the subject, setting, colour and style of a painted picture.

It is used as the judge of drawn pictures and, trained without the held-out combinations, as the feature network of the
VQ-GAN's perceptual loss. Normalisation and activation come before each convolution, as in He et al. 2016, "Identity
Mappings in Deep Residual Networks".
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, cat, nn


@dataclass(frozen=True)
class ClassifierConfig:
    """Sizes of a picture classifier.

    Attributes:
        attributes: the class names of each attribute, by its name; a class's index is its label.
        resolution: side in pixels to which pictures are resized first.
        widths: channels of each stage. The feature map of stage i has the side resolution / 2^(i + 1).
        depth: residual blocks per stage.

    Raises:
        ValueError: if a size is impossible, or if the sizes do not fit together.
    """

    attributes: dict[str, tuple[str, ...]]
    resolution: int = 64
    widths: tuple[int, ...] = (32, 64, 128, 160)
    depth: int = 1

    def __post_init__(self):
        object.__setattr__(self, "widths", tuple(self.widths))  # a config read from JSON has a list here
        if not self.attributes:
            raise ValueError("attributes is empty: give at least one attribute, with the names of its classes.")
        for name, classes in self.attributes.items():
            if isinstance(classes, str) or not isinstance(classes, Sequence) or len(set(classes)) < 2:
                raise ValueError(f"attributes has {classes!r} for {name}: give the names of at least two classes.")
            if len(set(classes)) < len(classes):
                raise ValueError(f"attributes names a class of {name} twice: {', '.join(map(str, classes))}.")
        named = {name: tuple(map(str, classes)) for name, classes in self.attributes.items()}
        object.__setattr__(self, "attributes", named)
        if not self.widths or min(self.widths) < 1 or self.depth < 1:
            raise ValueError(f"widths is {self.widths} and depth {self.depth}: give whole numbers from 1.")
        if self.resolution < 1 or self.resolution % 2 ** len(self.widths):
            raise ValueError(
                f"A picture of {self.resolution} pixels cannot be halved {len(self.widths)} times: "
                f"give a resolution that {2 ** len(self.widths)} divides, or fewer widths."
            )


class PreActivationBlock(nn.Module):
    """Shortcut + conv(relu(norm(conv(relu(norm(x)))))): (n, inputs, h, w) → (n, outputs, h/stride, w/stride)."""

    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.norm1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        fits = inputs == outputs and stride == 1
        self.shortcut = nn.Identity() if fits else nn.Conv2d(inputs, outputs, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the block to x, (n, inputs, h, w)."""
        h = F.relu(self.norm1(x))
        # If the shape changes, the shortcut starts after the first activation, as in the paper's figure 5.
        shortcut = x if isinstance(self.shortcut, nn.Identity) else self.shortcut(h)
        return shortcut + self.conv2(F.relu(self.norm2(self.conv1(h))))


class PictureClassifier(nn.Module):
    """Maps pictures (n, 3, H, W), from 0 to 1, to logits for each attribute.

    Args:
        config: the sizes.
    """

    def __init__(self, config: ClassifierConfig):
        super().__init__()
        self.config = config
        widths = config.widths
        self.stem = nn.Conv2d(3, widths[0], 3, stride=2, padding=1, bias=False)
        self.stages = nn.ModuleList(
            nn.Sequential(
                PreActivationBlock(inputs, outputs, stride=1 if number == 0 else 2),
                *(PreActivationBlock(outputs, outputs, stride=1) for _ in range(config.depth - 1)),
            )
            for number, (inputs, outputs) in enumerate(zip((widths[0], *widths), widths, strict=False))
        )
        self.norm = nn.BatchNorm2d(widths[-1])
        self.heads = nn.ModuleDict(
            {name: nn.Linear(2 * widths[-1], len(classes)) for name, classes in config.attributes.items()}
        )

    def features(self, pictures: Tensor) -> list[Tensor]:
        """Compute the feature map of each stage, from the shallowest to the deepest.

        Args:
            pictures: (n, 3, H, W), from 0 to 1.

        Returns:
            For stage i a map (n, widths[i], side, side), with side = resolution / 2^(i + 1).

        Raises:
            ValueError: if the pictures are not (n, 3, H, W).
        """
        if pictures.ndim != 4 or pictures.shape[1] != 3:
            raise ValueError(f"The classifier takes pictures of shape (n, 3, H, W), but got {tuple(pictures.shape)}.")
        h = self.stem(resize(pictures, self.config.resolution) * 2 - 1)
        maps = []
        for stage in self.stages:
            h = stage(h)
            maps.append(h)
        return maps

    def forward(self, pictures: Tensor) -> dict[str, Tensor]:
        """Compute the logits (n, classes) of each attribute, by name, for pictures (n, 3, H, W)."""
        h = F.relu(self.norm(self.features(pictures)[-1]))
        # The mean measures how much of a feature there is; the maximum detects even a small one.
        pooled = cat([h.mean((2, 3)), h.amax((2, 3))], dim=1)  # (n, 2·widths[-1])
        return {name: head(pooled) for name, head in self.heads.items()}


def resize(pictures: Tensor, side: int) -> Tensor:
    """Resize pictures (n, 3, H, W) to (n, 3, side, side): area averaging to shrink, else bilinear interpolation."""
    height, width = pictures.shape[-2:]
    if (height, width) == (side, side):
        return pictures
    if min(height, width) >= side:
        return F.interpolate(pictures, (side, side), mode="area")
    return F.interpolate(pictures, (side, side), mode="bilinear", align_corners=False)
