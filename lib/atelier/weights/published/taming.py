"""What the taming-transformers project published: its VQ-GANs, as the last.ckpt that Lightning has written."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch

from atelier.blocks.vqgan import VQGAN, VQGANConfig
from atelier.weights.published.pickled import PickledFile
from atelier.weights.published.pieces import Piece, fill
from atelier.weights.sizes import check_sizes


class ModelCheckpoint:
    """Stands in for Lightning's class, whose name is a key in its checkpoints: the name is all that is there of it."""


STAND_INS = [(ModelCheckpoint, "pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint")]
LOSS = "loss."  # discriminator and perceptual network, which only training needs


def vqgan_pieces(path: Path) -> Iterator[Piece]:
    """The VQ-GAN's tensors, under their own names. Raises PublishedError as `PickledFile` does."""
    file = PickledFile(path, inside="state_dict", stand_ins=STAND_INS)
    for name, shape in file.shapes.items():
        if not name.startswith(LOSS):
            yield Piece(name, name, shape, lambda name=name: file.read(name))


def load_vqgan(path: str | Path, config: VQGANConfig | None = None, dtype: torch.dtype = torch.float32) -> VQGAN:
    """The VQ-GAN of a last.ckpt.

    config: its sizes, which the file does not say; by default those of the ImageNet model with 16384 codes.

    Raises PublishedError naming the file when it is missing, damaged, of other sizes, or holds other classes than
    Lightning's checkpoints do; ValueError when the config's sizes are impossible.
    """
    path, sizes = Path(path), config or VQGANConfig.f16_16384()
    check_sizes(sizes)
    return fill(lambda: VQGAN(sizes), vqgan_pieces(path), path, dtype)
