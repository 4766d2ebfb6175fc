"""The pieces of the blocks that a learner writes in the notebooks of notebooks/build.

The module of a lesson registers a checker for each piece with `@piece`. In the notebook the body of the piece is empty,
and the next cell calls `built`: it checks what the learner wrote, and the cells after it use the learner's code if it
is right and the library's if it is not.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from importlib import import_module
from pkgutil import iter_modules
from typing import Any

import torch
from IPython.display import display
from torch import Tensor

from atelier.errors import AtelierError
from atelier.teaching.exercises import AnswerError, run_checker


@dataclass(frozen=True)
class Piece:
    """A function or a method of a block.

    Attributes:
        key: the key of its lesson and the name of the function or method: "2d.VectorQuantizer.forward".
        module: the module of the library that has it.
        minutes: the minutes that a learner needs for it.
        hints: two hints; the second says more than the first.
        checker: takes the learner's function, and raises AnswerError if it is wrong. A method takes `self` first.
    """

    key: str
    module: str
    minutes: int
    hints: tuple[str, str]
    checker: Callable[[Any], None]

    @property
    def name(self) -> str:
        """The name in the notebook."""
        return self.key.split(".", 1)[1]

    @property
    def original(self) -> Callable[..., Any]:
        """The library's function or method."""
        found: Any = import_module(self.module)
        for name in self.name.split("."):
            found = getattr(found, name)
        return found


PIECES: dict[str, Piece] = {}


def piece(
    key: str, module: str, minutes: int, hints: tuple[str, str]
) -> Callable[[Callable[[Any], None]], Callable[[Any], None]]:
    """Register the decorated checker; for the arguments see `Piece`."""

    def register(checker: Callable[[Any], None]) -> Callable[[Any], None]:
        PIECES[key] = Piece(key, module, minutes, hints, lambda answer: checker(_sparing_its_inputs(answer)))
        return checker

    return register


def _sparing_its_inputs(answer: Any) -> Any:
    """Let a function raise AnswerError if it changes a tensor that it gets; the checker still needs its numbers."""
    if not callable(answer):
        return answer

    @wraps(answer)
    def call(*inputs: Any, **options: Any) -> Any:
        tensors = [given for given in (*inputs, *options.values()) if isinstance(given, Tensor)]
        before = [tensor.detach().clone() for tensor in tensors]
        result = answer(*inputs, **options)
        if not all(map(torch.equal, tensors, before)):
            raise AnswerError("it changes a tensor that it gets; make a new one instead of writing into it.")
        return result

    return call


def pieces_of(lesson: str) -> list[Piece]:
    """List the pieces of a lesson in the order in which they are written; empty for a lesson without pieces."""
    if lesson in {module.name.removeprefix("lesson_") for module in iter_modules(__path__)}:
        import_module(f"{__name__}.lesson_{lesson}")
    return [item for item in PIECES.values() if item.key.split(".")[0] == lesson]


def built(key: str, answer: Callable[..., Any]) -> Callable[..., Any]:
    """Check a piece, display the result, and choose what the next cells use.

    Args:
        key: the key of the piece.
        answer: the learner's function or method.

    Returns:
        The learner's function if it is right, else the library's.

    Raises:
        AtelierError: if there is no such piece.
    """
    known = {item.key: item for item in pieces_of(key.split(".")[0])}
    if key not in known:
        raise AtelierError(f"There is no piece {key!r}; there are {', '.join(known) or 'none in this lesson'}.")
    result = run_checker(key, known[key].checker, answer)
    display(result)
    return answer if result.mark == "✓" else known[key].original
