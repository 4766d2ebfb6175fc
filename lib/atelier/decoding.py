"""Decoding: from a translator's logits to codes, one step at a time.

The loop, its memory and its dice live here, outside the blocks. Each picture has its own stream of random numbers, so a
picture does not depend on how many others are drawn beside it, nor on the device.

A step reads every weight of the decoder for one new code of each picture. So it computes nothing a second time: keys
and values of the text are made once for each prompt, those of the codes when they are written. On a GPU, which would
wait for Python between hundreds of small kernels, a step is recorded once and then launched as a whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, TypedDict

import torch
from torch import Tensor

from atelier.blocks.bart import Bart
from atelier.errors import AtelierError


class SamplingOptions(TypedDict, total=False):
    """`Sampling`'s fields as keyword arguments; those left out keep the preset's values."""

    guidance: float
    temperature: float
    top_k: int | None
    top_p: float | None


@dataclass(frozen=True)
class Sampling:
    """How the next code is chosen.

    Attributes:
        guidance: how far the logits are pushed away from those without a caption: uncond + guidance · (cond − uncond).
            DALL·E Mini calls it super-conditioning (Ho and Salimans 2022, "Classifier-free diffusion guidance", for
            pictures in general). 1 leaves the logits as they are, and halves the work.
        temperature: divides the logits; 0 always takes the likeliest code.
        top_k: only the k likeliest codes stay in the game; None keeps all.
        top_p: only the likeliest codes that together reach this probability stay (Holtzman et al. 2020, section 3.1);
            None keeps all.

    Raises:
        AtelierError: a number out of range.
    """

    guidance: float = 3.0
    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.guidance <= 100:
            raise AtelierError(f"guidance is {self.guidance}; give a number from 0 to 100 (1 means none).")
        if not 0 <= self.temperature <= 100:
            raise AtelierError(f"temperature is {self.temperature}; give a number from 0 (no chance at all) to 100.")
        if self.top_k is not None and self.top_k < 1:
            raise AtelierError(f"top_k is {self.top_k}; at least 1 code must stay in the game.")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise AtelierError(f"top_p is {self.top_p}; it is a probability, above 0 and at most 1.")


def probabilities(logits: Tensor, sampling: Sampling) -> Tensor:
    """Logits (n, codes) to the probabilities that the next code is drawn from, (n, codes), float32."""
    logits = logits.float()
    if sampling.temperature == 0:
        return torch.zeros_like(logits).scatter_(1, logits.argmax(1, keepdim=True), 1.0)
    if sampling.top_k is not None and sampling.top_k < logits.shape[1]:
        best = logits.topk(sampling.top_k)
        logits = torch.full_like(logits, -torch.inf).scatter_(1, best.indices, best.values)
    share = (logits / sampling.temperature).softmax(1)
    if sampling.top_p is not None and sampling.top_p < 1:
        ranked = share.sort(1, descending=True)
        before = ranked.values.cumsum(1) - ranked.values  # probability of everything likelier
        kept = ranked.values.masked_fill(before >= sampling.top_p, 0.0)
        share = torch.zeros_like(share).scatter_(1, ranked.indices, kept)
        share = share / share.sum(1, keepdim=True)
    return share


def pick(share: Tensor, dice: Tensor) -> Tensor:
    """Draw one code per row by inverting the distribution function.

    Args:
        share: (n, codes), rows that sum to 1.
        dice: (n,), uniform in [0, 1).

    Returns:
        (n,) int64; never a code of probability 0.
    """
    if share.device.type == "mps":  # Apple's GPUs have no float64; on the CPU the numbers are those of every device
        return pick(share.cpu(), dice.cpu()).to(share.device)
    total = share.double().cumsum(1)  # (n, codes)
    thrown = dice.double()[:, None] * total[:, -1:]
    return torch.searchsorted(total, thrown, right=True).squeeze(1).clamp_(max=share.shape[1] - 1)


def dice(seed: int, pictures: int, steps: int) -> Tensor:
    """Uniform numbers (pictures, steps) of any whole seed; a picture's row does not depend on how many there are."""
    return torch.rand(pictures, steps, generator=torch.Generator().manual_seed(seed % 2**63))


class Memory:
    """The keys and values of the tokens so far, for every decoder layer: allocated once and written in place.

    Attributes:
        layers: the memory of each decoder layer.
        places: (target_length,) the numbers of the places that tokens can stand at.
    """

    def __init__(self, bart: Bart, rows: int, device: torch.device, dtype: torch.dtype) -> None:
        c = bart.config
        shape = (2, rows, c.heads, c.target_length, c.width // c.heads)
        # Zeros, as a place may be looked at before it is filled: with weight 0, but 0 times rubbish can be no number.
        held = [torch.zeros(shape, device=device, dtype=dtype) for _ in range(c.decoder_layers)]
        self.layers = [LayerMemory(self, *keys_and_values) for keys_and_values in held]
        self.places = torch.arange(c.target_length, device=device)
        self.look_at(self.places[:1], 1)

    def look_at(self, positions: Tensor, shown: int | None) -> None:
        """Get ready for new tokens.

        Args:
            positions: (s,) int64, the places where they are going to stand.
            shown: how many places they look at: all that are filled, the new ones included. None: all there are, and a
                mask hides the empty ones, so that every step has the same shapes.
        """
        self.positions, self.shown = positions, shown

    def place(self, count: int) -> tuple[Tensor, Tensor | None]:
        """Positions (s,) of the new tokens, and which keys each may see (s, shown), None for all."""
        if count == 1 and self.shown is not None:
            return self.positions, None
        return self.positions, self.places[: self.shown] <= self.positions[:, None]


class LayerMemory:
    """One layer's share of a memory: keys and values (rows, heads, target_length, c)."""

    def __init__(self, memory: Memory, keys: Tensor, values: Tensor) -> None:
        self.memory, self.keys, self.values = memory, keys, values

    def extend(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Write the new keys and values (rows, heads, s, c); return those to look at, (rows, heads, shown, c) each."""
        self.keys.index_copy_(2, self.memory.positions, keys)
        self.values.index_copy_(2, self.memory.positions, values)
        return self.keys[:, :, : self.memory.shown], self.values[:, :, : self.memory.shown]


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
