"""Decoding: from a caption to the codes of a picture, one code at a time.

A step reads every weight of the decoder to write one code of each picture, so nothing is computed twice: the keys and
values of the text are computed once per prompt, those of a code once it is written. On a GPU, launching hundreds of
small kernels from Python takes longer than running them, so a step is captured as a CUDA graph and launched as a whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor

from atelier.blocks.bart import Bart
from atelier.decoding.cache import StaticCache
from atelier.decoding.sampling import Sampling, pick, probabilities


class Step:
    """One step of decoding: writes the next code of each of m pictures for each of p prompts.

    Args:
        bart, text, empty, sampling, codes: as for `decode`.
        pictures: p · m.
    """

    def __init__(self, bart: Bart, text: Tensor, empty: Tensor, pictures: int, sampling: Sampling, codes: int) -> None:
        self.bart, self.sampling, self.codes = bart, sampling, codes
        self.guided = sampling.guidance != 1
        prompts = torch.cat([text, empty.expand_as(text)]) if self.guided else text  # (p or 2p, t)
        mask = bart.text_mask(prompts)
        longest = int(mask.sum(1).max())  # attention masks padding, so columns of padding alone are cut off
        prompts, self.mask = prompts[:, :longest], mask[:, :longest]
        self.text = bart.project(bart.encode(prompts, self.mask))
        rows = pictures * (2 if self.guided else 1)
        self.cache = StaticCache(bart, rows, text.device, self.text[0].keys.dtype)

    def __call__(self, tokens: Tensor, positions: Tensor, uniforms: Tensor, length: int | None = None) -> Tensor:
        """Read the newest tokens and choose the code that follows the last of them.

        Args:
            tokens: (p · m, s), the tokens that are not in the cache yet.
            positions, length: as for `StaticCache.set_positions`.
            uniforms: (p · m,) uniform numbers in [0, 1).

        Returns:
            Codes (p · m, 1).
        """
        self.cache.set_positions(positions, length)
        rows = tokens.repeat(2, 1) if self.guided else tokens
        hidden = self.bart.hidden_states(rows, self.text, self.mask, self.cache)[:, -1]
        if self.guided:
            # The output layer is linear, so guided states give guided logits. Guiding the states halves its rows, and
            # guidance does not multiply the rounding errors of bfloat16 logits.
            conditional, unconditional = hidden.chunk(2)
            hidden = unconditional.lerp(conditional, self.sampling.guidance)
        logits = self.bart.logits(hidden)[:, : self.codes]
        return pick(probabilities(logits, self.sampling), uniforms)[:, None]


def as_cuda_graph(step: Step, *arguments: Tensor) -> Callable[[Tensor, Tensor, Tensor, int], Tensor]:
    """Capture a step as one CUDA graph.

    The graph always attends to the whole cache, since its shapes are fixed.

    Args:
        step: the step to capture.
        *arguments: tokens, positions and uniforms of the next step. Capturing runs the step a few times, which writes
            its keys and values to the cache; the codes are discarded.

    Returns:
        A function with the arguments of `Step.__call__`, for tensors of the same shapes.
    """
    static = tuple(argument.clone() for argument in arguments)  # the graph reads its arguments from this memory
    graph: Any = torch.cuda.make_graphed_callables(partial(step, length=None), static)

    def launch(tokens: Tensor, positions: Tensor, uniforms: Tensor, length: int) -> Tensor:
        return graph(tokens, positions, uniforms)

    return launch


@torch.no_grad()
def decode(
    bart: Bart,
    text: Tensor,
    empty: Tensor,
    sampling: Sampling,
    uniforms: Tensor,
    prefix: Tensor | None = None,
    codes: int | None = None,
) -> Iterator[Tensor]:
    """Write the codes of m pictures for each of p prompts.

    Args:
        bart: the translator; a picture has `target_length` codes.
        text: (p, t) token ids.
        empty: (t,) token ids of the empty caption, from which guidance pushes the logits away.
        sampling: how each code is chosen.
        uniforms: (p · m, target_length) from `uniform_numbers`; prompt i has the rows i · m to i · m + m − 1.
        prefix: (p · m, k) codes to begin with, k < target_length; None begins with the first code.
        codes: the number of codes, if the translator's output layer has more rows than that; None: one for each row.

    Yields:
        The codes so far, (p · m, k + 1) to (p · m, target_length), int64.
    """
    step = Step(bart, text, empty, len(uniforms), sampling, codes or bart.config.target_vocabulary)
    all_positions = step.cache.all_positions
    written = torch.empty_like(uniforms, dtype=torch.long)  # (p · m, target_length)
    given = 0 if prefix is None else prefix.shape[1]
    if prefix is not None:
        written[:, :given] = prefix
    start = torch.full_like(written[:, :1], bart.config.decoder_start)
    tokens, advance = torch.cat([start, written[:, :given]], dim=1), step
    for at in range(given, bart.config.target_length):
        positions = all_positions[at + 1 - tokens.shape[1] : at + 1]  # the whole prefix first, then one code at a time
        if text.is_cuda and at == given + 1:  # from this step on all shapes are the same
            advance = as_cuda_graph(step, tokens, positions, uniforms[:, at])
        tokens = advance(tokens, positions, uniforms[:, at], at + 1)
        written[:, at] = tokens[:, 0]
        yield written[:, : at + 1]
