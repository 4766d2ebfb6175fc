"""One step of decoding: from the newest codes of all pictures to the next ones."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from atelier.blocks.bart import Bart, KeysValues
from atelier.decoding.cache import StaticCache
from atelier.decoding.sampling import Sampling, probabilities, sample_codes
from atelier.errors import AtelierError


@dataclass(frozen=True)
class EncodedPrompts:
    """What the decoder reads of p prompts; with guidance, p times the empty caption follows, and p is doubled.

    Attributes:
        keys_values: for each decoder layer, the keys and values of the text, (p, heads, t, c) each.
        mask: (p, t) bool, True at tokens.
    """

    keys_values: list[KeysValues]
    mask: Tensor

    def copy_(self, other: EncodedPrompts) -> None:
        """Copy other prompts, with tensors of the same shapes, into these tensors."""
        self.mask.copy_(other.mask)
        for own, new in zip(self.keys_values, other.keys_values, strict=True):
            own.keys.copy_(new.keys)
            own.values.copy_(new.values)


def encode_prompts(bart: Bart, text: Tensor, empty: Tensor, guided: bool, multiple: int = 1) -> EncodedPrompts:
    """Run the encoder.

    Args:
        bart: the translator.
        text: (p, t) token ids.
        empty: (t,) token ids of the empty caption.
        guided: whether the empty caption is needed too.
        multiple: columns that are padding in all rows are cut off, but their number stays a multiple of this one, where
            t allows it. Prompts of similar length then have tensors of the same shapes.

    Returns:
        The p prompts; with guidance followed by p empty captions.
    """
    prompts = torch.cat([text, empty.expand_as(text)]) if guided else text
    mask = bart.text_mask(prompts)
    longest = -(-int(mask.sum(1).max()) // multiple) * multiple
    prompts, mask = prompts[:, :longest], mask[:, :longest]
    return EncodedPrompts(bart.project(bart.encode(prompts, mask)), mask)


class DecodingStep:
    """One step of decoding: samples the next code of each of m pictures of each of p prompts.

    Args:
        bart: the translator.
        prompts: the p prompts, with the empty caption if `sampling` has guidance.
        pictures: the number of pictures, p · m.
        sampling: the options of sampling.
        code_count: only codes below this number are sampled.

    Attributes:
        cache: the keys and values of the codes so far.
        finite: scalar bool, see `check`.
    """

    def __init__(self, bart: Bart, prompts: EncodedPrompts, pictures: int, sampling: Sampling, code_count: int) -> None:
        self.bart, self.prompts, self.code_count = bart, prompts, code_count
        self.text, self.mask = prompts.keys_values, prompts.mask
        rows = pictures * (2 if sampling.guided else 1)
        device, dtype = prompts.mask.device, prompts.keys_values[0].keys.dtype
        self.cache = StaticCache(bart, rows, device, dtype)
        # These two are tensors, so that a CUDA graph of the step can be launched with other values.
        self.guidance, self.temperature = torch.empty(2, dtype=torch.float32, device=device)
        self.finite = torch.ones((), dtype=torch.bool, device=device)
        self.set_sampling(sampling)

    def set_sampling(self, sampling: Sampling) -> None:
        """Use other options. In a captured step only guidance and temperature may differ, see `CapturedSteps`."""
        self.guidance.fill_(sampling.guidance)
        self.temperature.fill_(1.0 if sampling.greedy else sampling.temperature)
        self.sampling = sampling if sampling.greedy else replace(sampling, temperature=1.0)
        self.guided = sampling.guided

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
            conditional, unconditional = hidden.float().chunk(2)
            hidden = unconditional.lerp(conditional, self.guidance).to(hidden.dtype)
        logits = self.bart.logits(hidden)[:, : self.code_count].float() / self.temperature
        self._note_overflow(logits)
        return sample_codes(probabilities(logits, self.sampling), uniforms)[:, None]

    def _note_overflow(self, logits: Tensor) -> None:
        """Record for `check` whether logits (p · m, codes) are finite, if the translator computes in float16."""
        if self.cache.dtype == torch.float16:
            self.finite.logical_and_(logits.isfinite().all())

    def check(self) -> None:
        """Check the numbers of all steps so far; on a GPU this waits for them.

        Raises:
            AtelierError: if they were too large for float16, whose largest number is 65504. The codes are then
                meaningless.
        """
        if not self.finite:
            raise AtelierError(
                "The translator's numbers are too large for float16, so the codes are meaningless; load the pipeline "
                "with dtype=torch.float32."
            )
