"""Decoding: from a caption to the codes of a picture, one code at a time.

A step reads every weight of the decoder for one new code of each picture. So nothing is computed a second time: keys
and values of the text are computed once for each prompt, those of a code when it is written. On a GPU, which would
wait for Python between hundreds of small kernels, a step is recorded once and then launched as a whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor

from atelier.blocks.bart import Bart
from atelier.decoding.memory import Memory
from atelier.decoding.sampling import Sampling, pick, probabilities


class Step:
    """Writes one more code of each of m pictures for each of p prompts."""

    def __init__(self, bart: Bart, text: Tensor, empty: Tensor, pictures: int, sampling: Sampling, codes: int) -> None:
        """Read the prompts: all that can be computed before the first code, is.

        Args:
            bart, text, empty, sampling, codes: as for `decode`.
            pictures: p · m.
        """
        self.bart, self.sampling, self.codes = bart, sampling, codes
        self.guided = sampling.guidance != 1
        prompts = torch.cat([text, empty.expand_as(text)]) if self.guided else text  # (p or 2p, t)
        mask = bart.text_mask(prompts)
        longest = int(mask.sum(1).max())  # nothing looks at padding, so columns of nothing but padding can go
        prompts, self.mask = prompts[:, :longest], mask[:, :longest]
        self.seen = bart.project(bart.encode(prompts, self.mask))
        rows = pictures * (2 if self.guided else 1)
        self.memory = Memory(bart, rows, text.device, self.seen[0].keys.dtype)

    def __call__(self, tokens: Tensor, positions: Tensor, throws: Tensor, shown: int | None = None) -> Tensor:
        """Read the newest tokens and choose what follows the last of them.

        Args:
            tokens: (p · m, s), those that have not been read yet.
            positions, shown: where they stand and what they see, as for `Memory.look_at`.
            throws: (p · m,) uniform numbers.

        Returns:
            Codes (p · m, 1).
        """
        self.memory.look_at(positions, shown)
        rows = tokens.repeat(2, 1) if self.guided else tokens
        hidden = self.bart.hidden_states(rows, self.seen, self.mask, self.memory)[:, -1]
        if self.guided:
            # The output layer is linear: guided states give guided logits. It then has half the rows to work on, and
            # the rounding of its results in bfloat16 is not multiplied by the guidance.
            conditional, unconditional = hidden.chunk(2)
            hidden = unconditional.lerp(conditional, self.sampling.guidance)
        logits = self.bart.logits(hidden)[:, : self.codes]
        return pick(probabilities(logits, self.sampling), throws)[:, None]


def recorded(step: Step, *arguments: Tensor) -> Callable[[Tensor, Tensor, Tensor, int], Tensor]:
    """The same step as one CUDA graph, for arguments of these shapes. It looks at all places, filled or not.

    Recording runs it a few times. So the arguments have to be the next step's; its codes are not kept.
    """
    own = tuple(argument.clone() for argument in arguments)  # where the graph is going to find its arguments
    graph: Any = torch.cuda.make_graphed_callables(partial(step, shown=None), own)

    def launch(tokens: Tensor, positions: Tensor, throws: Tensor, shown: int) -> Tensor:
        return graph(tokens, positions, throws)

    return launch


@torch.no_grad()
def decode(
    bart: Bart,
    text: Tensor,
    empty: Tensor,
    sampling: Sampling,
    throws: Tensor,
    prefix: Tensor | None = None,
    codes: int | None = None,
) -> Iterator[Tensor]:
    """Write the codes of m pictures for each of p prompts.

    Args:
        bart: the translator, with `target_length` codes to a picture.
        text: (p, t) token ids.
        empty: (t,) token ids of the empty caption, which guidance pushes away from.
        sampling: how each code is chosen.
        throws: (p · m, target_length) uniform numbers from `dice`; prompt i owns rows i · m to i · m + m − 1.
        prefix: (p · m, k) codes that are given, k < target_length; writing goes on after them.
        codes: how many codes there are, where the translator's tables have rows for more; None: as many as rows.

    Yields:
        The codes so far, (p · m, k + 1) to (p · m, target_length), int64.
    """
    step = Step(bart, text, empty, len(throws), sampling, codes or bart.config.target_vocabulary)
    places = step.memory.places
    written = torch.empty_like(throws, dtype=torch.long)  # (p · m, target_length)
    given = 0 if prefix is None else prefix.shape[1]
    if prefix is not None:
        written[:, :given] = prefix
    start = torch.full_like(written[:, :1], bart.config.decoder_start)
    tokens, advance = torch.cat([start, written[:, :given]], dim=1), step
    for at in range(given, bart.config.target_length):
        positions = places[at + 1 - tokens.shape[1] : at + 1]  # all of the prefix first, then one code at a time
        if text.is_cuda and at == given + 1:  # the first of the steps that have all the same shapes
            advance = recorded(step, tokens, positions, throws[:, at])
        tokens = advance(tokens, positions, throws[:, at], at + 1)
        written[:, at] = tokens[:, 0]
        yield written[:, : at + 1]
