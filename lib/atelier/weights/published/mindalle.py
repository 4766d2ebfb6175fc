"""What the min-dalle project published: the same translators as `flax`'s, and the decoding half of the same VQ-GAN.

    encoder.pt, decoder.pt, detoker.pt     and, for the texts, vocab.json and merges.txt, see `text`

The translators are in float16, and their norms without scale have no entry for one. The files do not say their sizes:
`BartConfig.dalle_mini()` and `dalle_mega()` do. Their start token is the row after the last code, as in the original;
min-dalle's own code begins with 16383, a code like any other. `dataclasses.replace(config, start_token=16383)` does as
it does.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch

from atelier.blocks.bart import Bart, BartConfig
from atelier.blocks.vqgan import VQGAN, VQGANConfig
from atelier.weights.published.pickled import PickledFile
from atelier.weights.published.pieces import Piece, fill

OUTSIDE = {
    "encoder.embed_tokens.weight": "text_embedding.weight",
    "decoder.embed_tokens.weight": "target_embedding.weight",
    "decoder.lm_head.weight": "lm_head.weight",
}


def detoker_config() -> VQGANConfig:
    """Sizes of detoker.pt: pixels from 0 to 1, and the eps that PyTorch gives a GroupNorm nobody gives another."""
    published = VQGANConfig.f16_16384()
    return replace(published, pixel_range="[0,1]", group_norm_eps=1e-5, decoder_only=True)


def bart_pieces(encoder: Path, decoder: Path) -> Iterator[Piece]:
    """The translator's tensors. Raises PublishedError as `PickledFile` does."""
    for stack, path in (("encoder", encoder), ("decoder", decoder)):
        file = PickledFile(path)
        for name, shape in file.shapes.items():
            place = f"{stack}.{name}".replace(".glu.", ".ffn.")
            yield _piece(file, name, OUTSIDE.get(place, place), shape)


def load_bart(encoder: str | Path, decoder: str | Path, config: BartConfig, dtype: torch.dtype = torch.float32) -> Bart:
    """The translator of an encoder.pt and a decoder.pt.

    Raises PublishedError naming the file when something is missing, damaged, or of another size.
    """
    encoder, decoder = Path(encoder), Path(decoder)
    return fill(lambda: Bart(config), bart_pieces(encoder, decoder), decoder.parent, dtype)


def detoker_pieces(path: Path) -> Iterator[Piece]:
    """The VQ-GAN's tensors. Raises PublishedError as `PickledFile` does."""
    file = PickledFile(path)
    for name, shape in file.shapes.items():
        yield _piece(file, name, f"quantize.{name}" if name.startswith("embedding.") else name, shape)


def load_detoker(path: str | Path, config: VQGANConfig | None = None, dtype: torch.dtype = torch.float32) -> VQGAN:
    """The VQ-GAN of a detoker.pt, which can decode only. Raises PublishedError as `load_bart` does."""
    path, sizes = Path(path), config or detoker_config()
    return fill(lambda: VQGAN(sizes), detoker_pieces(path), path, dtype)


def _piece(file: PickledFile, name: str, place: str, shape: tuple[int, ...]) -> Piece:
    return Piece(name, place, shape, lambda: file.read(name))
