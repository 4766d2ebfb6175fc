"""The weights that the min-dalle project published: the translators of DALL·E Mini and the decoder of its VQ-GAN.

    encoder.pt, decoder.pt, detoker.pt     and the tokenizer's vocab.json and merges.txt, see `tokenizer`

The translators are in float16, and layer norms without scale have no entry for it. The files do not contain sizes:
`BartConfig.dalle_mini()` and `dalle_mega()` have them. Their start token is the row after the last code, as in the
original. min-dalle's own code starts with 16383 instead, which is also a code;
`dataclasses.replace(config, start_token=16383)` reproduces this.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch

from atelier.blocks.bart import Bart, BartConfig
from atelier.blocks.vqgan import VQGAN, VQGANConfig
from atelier.weights.published.pickled import PickledFile
from atelier.weights.published.tensors import PublishedTensor, load_tensors

RENAMED = {
    "encoder.embed_tokens.weight": "text_embedding.weight",
    "decoder.embed_tokens.weight": "target_embedding.weight",
    "decoder.lm_head.weight": "lm_head.weight",
}


def detoker_config() -> VQGANConfig:
    """The sizes of detoker.pt. Pixels are from 0 to 1, and its GroupNorms have PyTorch's default eps."""
    published = VQGANConfig.f16_16384()
    return replace(published, pixel_range="[0,1]", group_norm_eps=1e-5, decoder_only=True)


def bart_tensors(encoder: Path, decoder: Path) -> Iterator[PublishedTensor]:
    """List the tensors of the translator.

    Raises:
        PublishedError: as for `PickledFile`.
    """
    yield from PickledFile(encoder).tensors(lambda name: _bart_key(f"encoder.{name}"))
    yield from PickledFile(decoder).tensors(lambda name: _bart_key(f"decoder.{name}"))


def _bart_key(name: str) -> str:
    return RENAMED.get(name, name.replace(".glu.", ".ffn."))


def load_bart(encoder: str | Path, decoder: str | Path, config: BartConfig, dtype: torch.dtype = torch.float32) -> Bart:
    """Load the translator of an encoder.pt and a decoder.pt.

    Args:
        encoder: path of the encoder's file.
        decoder: path of the decoder's file.
        config: the sizes, which the files do not contain.
        dtype: the dtype of the weights.

    Returns:
        The model in evaluation mode.

    Raises:
        PublishedError: if a file is missing, damaged, or of other sizes.
    """
    encoder, decoder = Path(encoder), Path(decoder)
    return load_tensors(lambda: Bart(config), bart_tensors(encoder, decoder), decoder.parent, dtype)


def detoker_tensors(path: Path) -> Iterator[PublishedTensor]:
    """List the tensors of the VQ-GAN's decoder and codebook.

    Raises:
        PublishedError: as for `PickledFile`.
    """
    return PickledFile(path).tensors(lambda name: f"quantize.{name}" if name.startswith("embedding.") else name)


def load_detoker(path: str | Path, config: VQGANConfig | None = None, dtype: torch.dtype = torch.float32) -> VQGAN:
    """Load the VQ-GAN of a detoker.pt, which can decode only.

    Args:
        path: the path of the file.
        config: the sizes; None for those of the published file.
        dtype: the dtype of the weights.

    Returns:
        The model in evaluation mode.

    Raises:
        PublishedError: if the file is missing, damaged, or of other sizes.
    """
    path, sizes = Path(path), config or detoker_config()
    return load_tensors(lambda: VQGAN(sizes), detoker_tensors(path), path, dtype)
