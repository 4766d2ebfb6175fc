"""Decoding: from a caption to the codes of a picture, one code at a time.

Each step runs the decoder only for the newest code: the keys and values of the text are computed once per prompt, and
those of earlier codes are cached. On a GPU, launching hundreds of small kernels from Python takes longer than running
them, so a step is captured as a CUDA graph and launched as a whole.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor

from atelier.blocks.bart import Bart
from atelier.decoding.cache import StaticCache
from atelier.decoding.sampling import Sampling, probabilities, sample_codes

Advance = Callable[[Tensor, Tensor, Tensor, int], Tensor]  # with the arguments of `DecodingStep.__call__`

logger = logging.getLogger(__name__)


class DecodingStep:
    """One step of decoding: samples the next code of each of m pictures of each of p prompts.

    Args:
        bart, text, empty, sampling, code_count: as for `decode`.
        pictures: the number of pictures, p · m.
    """

    def __init__(
        self, bart: Bart, text: Tensor, empty: Tensor, pictures: int, sampling: Sampling, code_count: int
    ) -> None:
        self.bart, self.sampling, self.code_count = bart, sampling, code_count
        self.guided = sampling.guidance != 1
        prompts = torch.cat([text, empty.expand_as(text)]) if self.guided else text  # (p or 2p, t)
        mask = bart.text_mask(prompts)
        longest = int(mask.sum(1).max())  # columns that are padding in all rows are cut off
        prompts, self.mask = prompts[:, :longest], mask[:, :longest]
        self.text = bart.project(bart.encode(prompts, self.mask))
        rows = pictures * (2 if self.guided else 1)
        self.cache = StaticCache(bart, rows, text.device, self.text[0].keys.dtype)

    def __call__(self, tokens: Tensor, positions: Tensor, uniforms: Tensor, length: int | None = None) -> Tensor:
        """Run the decoder for the newest tokens and sample the code after the last one.

        Args:
            tokens: (p · m, s), the tokens that are not in the cache yet.
            positions, length: as for `StaticCache.set_positions`.
            uniforms: (p · m,), random numbers, uniform in [0, 1).

        Returns:
            Codes (p · m, 1).
        """
        self.cache.set_positions(positions, length)
        rows = tokens.repeat(2, 1) if self.guided else tokens
        hidden = self.bart.hidden_states(rows, self.text, self.mask, self.cache)[:, -1]
        if self.guided:
            # The output layer is affine, and the weights of the two states sum to 1, so guidance is applied to the
            # hidden states instead of the logits. The input of the output layer then has half as many rows, and
            # guidance does not amplify the rounding errors of the logits.
            conditional, unconditional = hidden.chunk(2)
            hidden = unconditional.lerp(conditional, self.sampling.guidance)
        logits = self.bart.logits(hidden)[:, : self.code_count]
        return sample_codes(probabilities(logits, self.sampling), uniforms)[:, None]


def as_cuda_graph(step: DecodingStep, *arguments: Tensor) -> Advance:
    """Capture a step as a CUDA graph.

    The shapes in a graph are fixed, so the step always attends to the whole cache.

    Args:
        step: the step to capture.
        *arguments: the tokens, positions and uniforms of the next step. Capturing runs the step a few times: its keys
            and values are written to the cache, and its codes are discarded.

    Returns:
        A function with the arguments of `DecodingStep.__call__`, for tensors of the same shapes.
    """
    static = tuple(argument.clone() for argument in arguments)  # the graph reads its arguments from these tensors
    graph: Any = torch.cuda.make_graphed_callables(partial(step, length=None), static)

    def launch(tokens: Tensor, positions: Tensor, uniforms: Tensor, length: int) -> Tensor:
        return graph(tokens, positions, uniforms)

    return launch


def captured(step: DecodingStep, *arguments: Tensor) -> Advance:
    """Capture a step with `as_cuda_graph`; if this fails, log a warning and return the step itself."""
    try:
        return as_cuda_graph(step, *arguments)
    except RuntimeError as fault:  # includes torch's accelerator errors and out-of-memory errors
        logger.warning("Decoding without a CUDA graph, which is slower, since capturing one failed: %s", fault)
        return step


@torch.no_grad()
def decode(
    bart: Bart,
    text: Tensor,
    empty: Tensor,
    sampling: Sampling,
    uniforms: Tensor,
    prefix: Tensor | None = None,
    code_count: int | None = None,
) -> Iterator[Tensor]:
    """Generate the codes of m pictures for each of p prompts.

    Args:
        bart: the translator; a picture has `target_length` codes.
        text: (p, t) token ids.
        empty: (t,) token ids of the empty caption, for guidance.
        sampling: the options of sampling.
        uniforms: (p · m, target_length) from `uniform_numbers`; prompt i has the rows i · m to i · m + m − 1.
        prefix: (p · m, k), the first codes of each picture, k < target_length; None: no code is given.
        code_count: only codes below this number are sampled; None: the translator's target_vocabulary.

    Yields:
        The codes so far, (p · m, k + 1) to (p · m, target_length), int64.
    """
    step = DecodingStep(bart, text, empty, len(uniforms), sampling, code_count or bart.config.target_vocabulary)
    all_positions = step.cache.all_positions
    written = torch.empty_like(uniforms, dtype=torch.long)  # (p · m, target_length)
    given = 0 if prefix is None else prefix.shape[1]
    if prefix is not None:
        written[:, :given] = prefix
    start = torch.full_like(written[:, :1], bart.config.decoder_start)
    tokens = torch.cat([start, written[:, :given]], dim=1)
    advance: Advance = step
    for at in range(given, bart.config.target_length):
        positions = all_positions[at + 1 - tokens.shape[1] : at + 1]  # first the whole prefix, then one code at a time
        if text.is_cuda and at == given + 1:  # from this step on, all steps have the same shapes
            advance = captured(step, tokens, positions, uniforms[:, at])
        tokens = advance(tokens, positions, uniforms[:, at], at + 1)
        written[:, at] = tokens[:, 0]
        yield written[:, : at + 1]
