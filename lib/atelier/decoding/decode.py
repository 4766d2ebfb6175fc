"""Decoding: from a caption to the codes of a picture, one code at a time.

Each step runs the decoder only for the newest code: the keys and values of the text are computed once per prompt, and
those of earlier codes are cached.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from atelier.blocks.bart import Bart
from atelier.decoding.graphs import DecodingSteps
from atelier.decoding.sampling import Sampling


@torch.no_grad()
def decode(
    bart: Bart,
    text: Tensor,
    empty: Tensor,
    sampling: Sampling,
    uniforms: Tensor,
    prefix: Tensor | None = None,
    code_count: int | None = None,
    steps: DecodingSteps | None = None,
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
        steps: the steps of earlier drawings, which are faster to use again on a GPU.

    Yields:
        The codes so far, (p · m, k + 1) to (p · m, target_length), int64.

    Raises:
        AtelierError: at the end, if the numbers of a translator in float16 were too large.
    """
    pictures, length = uniforms.shape
    all_positions = torch.arange(length, device=text.device)
    written = torch.empty_like(uniforms, dtype=torch.long)  # (p · m, target_length)
    given = 0 if prefix is None else prefix.shape[1]
    if prefix is not None:
        written[:, :given] = prefix
    start = torch.full_like(written[:, :1], bart.config.decoder_start)
    tokens = torch.cat([start, written[:, :given]], dim=1)
    code_count = code_count or bart.config.target_vocabulary
    with (steps or DecodingSteps()).step(bart, text, empty, pictures, sampling, code_count) as step:
        for at in range(given, length):
            positions = all_positions[at + 1 - tokens.shape[1] : at + 1]  # the whole prefix, then one code at a time
            tokens = step(tokens, positions, uniforms[:, at], at + 1)
            written[:, at] = tokens[:, 0]
            yield written[:, : at + 1]
        step.check()
