"""What all published formats have in common: named tensors that must fill a block, each exactly once.

A file is read tensor by tensor, and each takes its final type before the next one is read, so a block is never in
memory twice. Nothing is read before all names and shapes have been compared.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn

from atelier.errors import AtelierError
from atelier.weights.codebooks import learning_only, with_statistics
from atelier.weights.streams import Source, checked, described

AnyModule = TypeVar("AnyModule", bound=nn.Module)


class PublishedError(AtelierError):
    """Published files that cannot be used; the message names the file and the reason."""


@dataclass(frozen=True)
class Piece:
    """One tensor of a published file.

    Attributes:
        name: as the file has it.
        place: as our block has it.
        shape: as our block has it.
        read: the tensor, in the file's own type.
    """

    name: str
    place: str
    shape: tuple[int, ...]
    read: Callable[[], Tensor]


def matched(pieces: Iterable[Piece], module: nn.Module, path: Path) -> dict[str, Piece]:
    """The piece for each of a module's places, the largest first.

    path: of the file or the folder that they come from.

    Raises PublishedError naming the first piece without a place, place without a piece, or other shape.
    """
    found: dict[str, Piece] = {}
    idle = learning_only(module)
    places = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items() if name not in idle}
    for piece in pieces:
        if piece.place not in places:
            raise PublishedError(f"{path} has {piece.name}, for which this model has no place; it is of another kind.")
        if piece.place in found:
            raise PublishedError(
                f"{path} has both {found[piece.place].name} and {piece.name} for {piece.place}; one is too many."
            )
        if piece.shape != places[piece.place]:
            raise PublishedError(
                f"{path} has {piece.name} of a shape that becomes {piece.shape} here, but {piece.place} has the shape "
                f"{places[piece.place]}; it is of another size."
            )
        found[piece.place] = piece
    missing = sorted(places.keys() - found.keys())
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise PublishedError(f"{path} has nothing for {missing[0]}{more}; it is not complete, or of another kind.")
    # Converting one takes room for it twice: the largest come while there is still room.
    return dict(sorted(found.items(), key=lambda item: -math.prod(item[1].shape)))


def sources(pieces: dict[str, Piece], dtype: torch.dtype, path: Path) -> dict[str, Source]:
    """Matched pieces as they are to be stored or computed with. Reading raises PublishedError naming the piece."""

    def reader(piece: Piece) -> Callable[[], Tensor]:
        return lambda: _read(piece, dtype, path)

    return {place: Source(piece.shape, reader(piece)) for place, piece in pieces.items()}


def fill(
    build: Callable[[], AnyModule], pieces: Iterable[Piece], path: Path, dtype: torch.dtype = torch.float32
) -> AnyModule:
    """A block with a published file's numbers, in evaluation mode. Raises PublishedError; nothing is then half filled.

    build: makes the block. path: of the file or the folder that the pieces come from. dtype: of the block's numbers.
    """
    module = described(build)
    waiting = sources(matched(pieces, module, path), dtype, path)
    weights = {place: source.read() for place, source in waiting.items()}
    module.load_state_dict(with_statistics(module, weights), strict=True, assign=True)
    return module.eval()


def _read(piece: Piece, dtype: torch.dtype, path: Path) -> Tensor:
    # Room for the result first: what is read for a moment then lies behind it, and leaves no gap when it goes.
    result = torch.empty(piece.shape, dtype=dtype)
    try:
        return checked(result.copy_(piece.read()))
    except (ValueError, OSError, RuntimeError) as fault:
        raise PublishedError(f"{path} cannot be used: {piece.name}, {fault}.") from fault
