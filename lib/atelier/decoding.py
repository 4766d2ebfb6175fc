"""Decoding: from a translator's logits to codes, one step at a time.

The loop, its memory and its dice live here, outside the blocks. Each picture has its own stream of random numbers, so a
picture does not depend on how many others are drawn beside it, nor on the device.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypedDict

import torch
from torch import Tensor

from atelier.blocks.bart import Bart


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
        ValueError: a number out of range.
    """

    guidance: float = 3.0
    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.guidance <= 100:
            raise ValueError(f"guidance is {self.guidance}; give a number from 0 to 100 (1 means none).")
        if not 0 <= self.temperature <= 100:
            raise ValueError(f"temperature is {self.temperature}; give a number from 0 (no chance at all) to 100.")
        if self.top_k is not None and self.top_k < 1:
            raise ValueError(f"top_k is {self.top_k}; at least 1 code must stay in the game.")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise ValueError(f"top_p is {self.top_p}; it is a probability, above 0 and at most 1.")


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
    total = share.double().cumsum(1)  # (n, codes)
    thrown = dice.double()[:, None] * total[:, -1:]
    return torch.searchsorted(total, thrown, right=True).squeeze(1).clamp_(max=share.shape[1] - 1)


def dice(seed: int, pictures: int, steps: int) -> Tensor:
    """Uniform numbers (pictures, steps) of any whole seed; a picture's row does not depend on how many there are."""
    return torch.rand(pictures, steps, generator=torch.Generator().manual_seed(seed % 2**63))


class Memory:
    """The keys and values of the codes so far, for every decoder layer: written in place, never copied."""

    def __init__(self, bart: Bart, rows: int, device: torch.device, dtype: torch.dtype) -> None:
        c = bart.config
        shape = (2, rows, c.heads, c.target_length, c.width // c.heads)
        self.layers = [LayerMemory(torch.empty(shape, device=device, dtype=dtype)) for _ in range(c.decoder_layers)]
        self.length, self.device = 0, device

    def place(self, count: int) -> tuple[Tensor, Tensor | None]:
        """Positions (count,) of the next tokens, and which keys each may see (count, all), None for all."""
        start, self.length = self.length, self.length + count
        positions = torch.arange(start, self.length, device=self.device)
        for layer in self.layers:
            layer.start, layer.end = start, self.length
        if count == 1:
            return positions, None
        return positions, torch.arange(self.length, device=self.device) <= positions[:, None]


class LayerMemory:
    """One layer's share of the memory: `held` is (2, rows, heads, length, c)."""

    def __init__(self, held: Tensor) -> None:
        self.held, self.start, self.end = held, 0, 0

    def extend(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Write the new keys and values (rows, heads, s, c); return all so far, (rows, heads, end, c) each."""
        self.held[0, :, :, self.start : self.end] = keys
        self.held[1, :, :, self.start : self.end] = values
        return self.held[0, :, :, : self.end], self.held[1, :, :, : self.end]


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
    guided = sampling.guidance != 1
    prompts = torch.cat([text, empty.expand_as(text)]) if guided else text  # (p or 2p, t)
    mask = bart.text_mask(prompts)
    longest = int(mask.sum(1).max())  # nothing looks at padding, so columns of nothing but padding can go
    prompts, mask = prompts[:, :longest], mask[:, :longest]
    seen = bart.project(bart.encode(prompts, mask))
    copies, codes = (2 if guided else 1), codes or bart.config.target_vocabulary
    rows = len(throws) * copies
    memory = Memory(bart, rows, text.device, seen[0].keys.dtype)
    written = throws.new_empty((len(throws), 0), dtype=torch.long) if prefix is None else prefix
    tokens = torch.cat([torch.full_like(throws[:, :1], bart.config.decoder_start, dtype=torch.long), written], dim=1)
    for step in range(written.shape[1], bart.config.target_length):
        logits = bart.decode(tokens.repeat(copies, 1), seen, mask, memory)[:, -1, :codes].float()
        if guided:
            conditional, unconditional = logits.chunk(2)
            logits = unconditional + sampling.guidance * (conditional - unconditional)
        tokens = pick(probabilities(logits, sampling), throws[:, step])[:, None]
        written = torch.cat([written, tokens], dim=1)
        yield written
