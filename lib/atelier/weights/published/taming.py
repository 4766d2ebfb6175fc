"""The VQ-GANs that the taming-transformers project published: the last.ckpt that Lightning has written."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch

from atelier.blocks.vqgan import VQGAN, VQGANConfig
from atelier.weights.published.pickled import PickledFile
from atelier.weights.published.tensors import PublishedTensor, load_tensors
from atelier.weights.sizes import check_sizes


class ModelCheckpoint:
    """Takes the place of Lightning's class of this name, which Lightning's checkpoints refer to as a dict key."""


ALLOWED_CLASSES = [(ModelCheckpoint, "pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint")]
LOSS = "loss."  # the prefix of the discriminator and the perceptual network, which only training needs


def vqgan_tensors(path: Path) -> Iterator[PublishedTensor]:
    """List the tensors of the VQ-GAN; the names are those of our block.

    Raises:
        PublishedError: as for `PickledFile`.
    """
    file = PickledFile(path, key="state_dict", allowed_classes=ALLOWED_CLASSES)
    return (tensor for tensor in file.tensors() if not tensor.name.startswith(LOSS))


def load_vqgan(path: str | Path, config: VQGANConfig | None = None, dtype: torch.dtype = torch.float32) -> VQGAN:
    """Load the VQ-GAN of a last.ckpt.

    Args:
        path: the path of the file.
        config: the sizes, which the file does not contain; None for those of the ImageNet model with 16384 codes.
        dtype: the dtype of the weights.

    Returns:
        The model in evaluation mode.

    Raises:
        PublishedError: if the file is missing, damaged or of other sizes, or refers to other classes than Lightning's
            checkpoints do.
        ValueError: if the sizes in the config are impossible.
    """
    path, sizes = Path(path), config or VQGANConfig.f16_16384()
    check_sizes(sizes)
    return load_tensors(lambda: VQGAN(sizes), vqgan_tensors(path), path, dtype)
