"""The pipeline: a prompt goes in, ranked pictures come out.

    prompt ── tokenizer ──> ids ── Bart ──> codes ── VQ-GAN ──> pictures ── CLIP ──> ranking

This is DALL·E Mini's order of things (Dayma et al. 2021); every preset, ours or the published ones, runs through it.
"""

from __future__ import annotations

import difflib
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Unpack, overload

import torch
from PIL import Image
from torch import Tensor

from atelier.blocks.bart import Bart
from atelier.blocks.clip import CLIP
from atelier.blocks.vqgan import VQGAN
from atelier.decoding import Sampling, SamplingOptions, decode, dice
from atelier.drawing.drawing import Drawing
from atelier.drawing.packed import ready_to_draw
from atelier.pictures import seen_by_clip, square
from atelier.weights.presets import Preset, PresetError, load_preset, readable_presets, tell_of_skipped
from atelier.weights.rankers import load_ranker
from atelier.weights.tokenizer import CutsText, Tokenizer, words_of

UNDRAWN = 0.93  # the grey of what is not drawn yet
PIXELS_AT_ONCE = 2**16  # decoded together: one picture of DALL·E Mini's, whose maps a CPU's cache can just hold


class PromptError(ValueError):
    """A prompt that cannot be drawn; the message says why."""


class Pipeline:
    """Draws pictures of prompts with one preset's blocks."""

    def __init__(
        self,
        vqgan: VQGAN,
        bart: Bart,
        clip: CLIP | None,
        tokenizer: Tokenizer,
        *,
        clip_tokenizer: CutsText | None = None,
        name: str = "",
        words: Sequence[str] = (),
        sampling: Sampling | None = None,
        device: str | torch.device = "cpu",
    ) -> None:
        """Put blocks together.

        Args:
            vqgan: decodes codes to pictures.
            bart: translates captions to codes.
            clip: ranks pictures; without one they come in the order in which they were drawn.
            tokenizer: turns captions into ids, for bart and clip.
            clip_tokenizer: the clip's own, if it was not trained on the same ids as bart.
            name: of the preset.
            words: those that the captions of training used; for the others a remark is made. Empty: no remarks.
            sampling: what `draw` does where it is not told otherwise.
            device: where to compute.
        """
        self.name, self.tokenizer, self.words = name, tokenizer, tuple(words)
        self.clip_tokenizer = clip_tokenizer or tokenizer
        self.sampling = sampling or Sampling()
        self.device = torch.device(device)
        self.vqgan = vqgan.eval().to(self.device).to(memory_format=torch.channels_last)  # as convolutions like it
        self.bart = bart.eval().to(self.device)
        self.clip = None if clip is None else clip.eval().to(self.device)

    @classmethod
    def from_pretrained(
        cls,
        name: str | Path | None = None,
        device: str | torch.device | None = None,
        ranker: str | None = None,
        dtype: torch.dtype | None = None,
    ) -> Pipeline:
        """Load a preset. Its translator can draw but not learn; for one that can there is `Preset.load_bart`.

        Args:
            name: of a preset, or its folder; None takes the best one that is there: the one with the largest pictures.
            device: where to compute; None takes a GPU if there is one.
            ranker: a published CLIP to rank with, "ViT-B-32/openai"; None takes the preset's own. See `load_ranker`.
            dtype: of the translator's numbers; None takes what is best for the device, see `ready_to_draw`.

        Raises:
            PresetError: there is no such preset, or one of its files is missing, truncated or altered.
        """
        preset = best_preset() if name is None else load_preset(name)
        device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        clip, clip_tokenizer = load_ranker(preset, ranker)
        return cls(
            preset.load_vqgan(),
            ready_to_draw(preset.load_bart(as_stored=True), device, dtype),
            clip,
            preset.load_tokenizer(),
            clip_tokenizer=clip_tokenizer,
            name=preset.name,
            words=preset.words,
            sampling=Sampling(**preset.sampling),
            device=device,
        )

    @overload
    def draw(
        self,
        prompt: str,
        n: int = ...,
        seed: int | None = ...,
        rank: bool = ...,
        **how: Unpack[SamplingOptions],
    ) -> Drawing: ...
    @overload
    def draw(
        self,
        prompt: list[str],
        n: int = ...,
        seed: int | None = ...,
        rank: bool = ...,
        **how: Unpack[SamplingOptions],
    ) -> list[Drawing]: ...
    def draw(
        self,
        prompt: str | list[str],
        n: int = 9,
        seed: int | None = None,
        rank: bool = True,
        **how: Unpack[SamplingOptions],
    ) -> Drawing | list[Drawing]:
        """Draw n pictures of a prompt, or of each prompt of a list.

        Args:
            prompt: what to draw. A list gives a list of drawings, each the one that its prompt alone would give.
            n: pictures for each prompt.
            seed: any whole number, 0 too; None throws one.
            rank: put the pictures in the order of their CLIP scores, the best first.
            **how: guidance, temperature, top_k, top_p; see `Sampling`.

        Raises:
            PromptError: a prompt without anything to draw.
            ValueError: a number out of range.
        """
        prompts = [prompt] if isinstance(prompt, str) else prompt
        *_, drawings = self._steps(prompts, n, seed, rank, how, every=None)
        return drawings[0] if isinstance(prompt, str) else drawings

    def stream(
        self,
        prompt: str,
        n: int = 9,
        seed: int | None = None,
        rank: bool = True,
        every: int | None = None,
        **how: Unpack[SamplingOptions],
    ) -> Iterator[Drawing]:
        """Draw as `draw` does, and show the pictures while they come into being.

        Args:
            prompt, n, seed, rank, how: as for `draw`.
            every: codes between two drawings; one row of the grid if None.

        Yields:
            Unfinished drawings, then the finished one, which is the one that `draw` gives.
        """
        for drawings in self._steps([prompt], n, seed, rank, how, every=every or self.vqgan.config.grid):
            yield drawings[0]

    def complete(
        self,
        image: Image.Image | Tensor,
        prompt: str,
        rows: int | None = None,
        n: int = 9,
        seed: int | None = None,
        rank: bool = True,
        **how: Unpack[SamplingOptions],
    ) -> Drawing:
        """Keep the upper rows of a picture's codes and draw the rest.

        Args:
            image: a PIL image of any size, or pixels (3, size, size) from 0 to 1.
            prompt: what the whole picture is to show.
            rows: rows of codes that are kept; half of them if None.
            n, seed, rank, how: as for `draw`.
        """
        grid = self.vqgan.config.grid
        rows = grid // 2 if rows is None else rows
        if not 0 <= rows < grid:
            raise ValueError(f"rows is {rows}; a picture has {grid} rows of codes, so keep from 0 to {grid - 1}.")
        if n < 1:
            raise ValueError(f"n is {n}; ask for at least one picture.")
        kept = self.encode(image)[0, :rows].flatten().expand(n, -1)  # (n, rows · grid)
        *_, drawings = self._steps([prompt], n, seed, rank, how, every=None, prefix=kept)
        return drawings[0]

    @torch.no_grad()
    def encode(self, image: Image.Image | Tensor) -> Tensor:
        """A picture's codes, (1, grid, grid). A PIL image is cut to its central square first.

        Raises:
            ValueError: a tensor that is not (3, size, size).
        """
        size = self.vqgan.config.resolution
        if isinstance(image, Image.Image):
            image = square(image, size).float() / 255
        if image.shape != (3, size, size):
            raise ValueError(f"The picture has the shape {tuple(image.shape)}; this preset takes (3, {size}, {size}).")
        return self.vqgan.encode(image[None].to(self.device)).indices

    @torch.no_grad()
    def decode(self, codes: Tensor) -> Tensor:
        """Codes (n, grid, grid) to pictures (n, 3, size, size), from 0 to 1."""
        parts = codes.to(self.device).split(max(1, PIXELS_AT_ONCE // self.vqgan.config.resolution**2))
        return torch.cat([self.vqgan.decode_codes(part) for part in parts]).float()

    @torch.no_grad()
    def score(self, prompt: str, pictures: Tensor) -> list[float]:
        """100 · cosine between a prompt and each picture (n, 3, size, size), as on the session's slide."""
        if self.clip is None:
            raise ValueError("This pipeline has no CLIP, so it cannot score pictures.")
        ids = self.clip_tokenizer.encode([prompt], self.clip.config.context_length)
        text = self.clip.encode_text(ids.to(self.device))  # (1, e)
        pictures = seen_by_clip(pictures.to(self.device), self.clip.config.image_size)
        return (100 * self.clip.encode_image(pictures) @ text[0]).tolist()

    def remarks(self, prompt: str) -> list[str]:
        """What a user should know of a prompt before believing its pictures: unknown words, and what is cut off."""
        found, shown = [], 5
        unknown = unknown_words(prompt, self.words)
        if unknown:
            named = ", ".join(f"“{shortened(word)}”" for word in unknown[:shown])
            more = f" and {len(unknown) - shown} more" if len(unknown) > shown else ""
            near = dict.fromkeys(word for strange in unknown[:shown] for word in nearest_words(strange, self.words))
            found.append(
                f"The {self.name} preset never saw {named}{more}; the nearest words it knows are {', '.join(near)}."
            )
        elif self.words and not words_of(prompt):
            found.append(
                f"There is no word in this prompt that the {self.name} preset knows, so it draws what it likes."
            )
        room = self.bart.config.text_length
        if len(self.tokenizer.pieces(prompt)) > room - 2:
            found.append(f"The prompt is longer than the {room} tokens that the model reads; the rest is cut off.")
        return found

    @torch.no_grad()
    def _steps(
        self,
        prompts: list[str],
        n: int,
        seed: int | None,
        rank: bool,
        how: SamplingOptions,
        every: int | None,
        prefix: Tensor | None = None,
    ) -> Iterator[list[Drawing]]:
        """Drawings of all prompts: unfinished ones after each `every` codes if that is given, then finished ones."""
        if n < 1 or not prompts:
            raise ValueError(f"There is nothing to draw with n = {n} and {len(prompts)} prompts; ask for at least one.")
        for prompt in prompts:
            self._check(prompt)
        sampling = replace(self.sampling, **how)
        seed = secrets.randbits(31) if seed is None else seed
        length, grid = self.bart.config.target_length, self.vqgan.config.grid
        text = self.tokenizer.encode(prompts, self.bart.config.text_length).to(self.device)  # (p, t)
        nothing = self.tokenizer.nothing(self.bart.config.text_length).to(self.device)  # (t,)
        throws = dice(seed, n, length).repeat(len(prompts), 1).to(self.device)  # (p · n, length)
        for codes in decode(self.bart, text, nothing, sampling, throws, prefix, self.vqgan.config.codes):
            done = codes.shape[1]
            if done == length:
                pictures = self.decode(codes.unflatten(1, (grid, grid)))
                yield self._finished(prompts, codes.unflatten(1, (grid, grid)), pictures, seed, rank)
            elif every is not None and done % every == 0:
                yield self._unfinished(prompts, codes, seed)

    def _check(self, prompt: str) -> None:
        if not "".join(self.tokenizer.pieces(prompt)).strip():
            raise PromptError("The prompt is empty; say what to draw, for example “a blue strawberry on the moon”.")

    def _finished(self, prompts: list[str], codes: Tensor, pictures: Tensor, seed: int, rank: bool) -> list[Drawing]:
        drawings = []
        groups = zip(prompts, codes.chunk(len(prompts)), pictures.chunk(len(prompts)), strict=True)
        for prompt, own_codes, own_pictures in groups:
            scores = None
            if rank and self.clip is not None:
                unordered = self.score(prompt, own_pictures)
                order = sorted(range(len(unordered)), key=lambda i: -unordered[i])
                own_codes, own_pictures = own_codes[order], own_pictures[order]
                scores = [unordered[i] for i in order]
            drawings.append(Drawing(prompt, own_pictures, own_codes, scores, seed, remarks=self.remarks(prompt)))
        return drawings

    def _unfinished(self, prompts: list[str], codes: Tensor, seed: int) -> list[Drawing]:
        """What can be seen so far: codes not written yet are decoded as the last one written, and greyed out."""
        grid, length, done = self.vqgan.config.grid, self.bart.config.target_length, codes.shape[1]
        filled = torch.cat([codes, codes[:, -1:].expand(-1, length - done)], dim=1).unflatten(1, (grid, grid))
        written = (torch.arange(length, device=self.device) < done).float().view(grid, grid)
        pictures = self.decode(filled)
        block = torch.ones(self.vqgan.config.factor, self.vqgan.config.factor, device=self.device)
        pictures = torch.where(torch.kron(written, block) > 0, pictures, UNDRAWN)
        groups = zip(prompts, filled.chunk(len(prompts)), pictures.chunk(len(prompts)), strict=True)
        return [Drawing(prompt, own, kept, None, seed, done / length) for prompt, kept, own in groups]


def best_preset() -> Preset:
    """The complete and undamaged preset with the largest pictures; a sentence is logged for each that is skipped.

    Raises:
        PresetError: there is none.
    """
    readable, faults = readable_presets()
    complete = {name: preset for name, preset in readable.items() if preset.complete}
    for name, preset in sorted(complete.items(), key=lambda item: -item[1].picture_size):
        try:
            preset.check_pipeline()
        except PresetError as fault:
            faults[name] = fault
        else:
            tell_of_skipped(faults)
            return preset
    sentences = ["No preset with weights was found; train one (atelier train --help) or set ATELIER_DATA."]
    raise PresetError(" ".join([*sentences, *map(str, faults.values())]))


def unknown_words(prompt: str, known: Sequence[str]) -> list[str]:
    """The prompt's words that are not among the known ones, each once; none if nothing is known of words at all."""
    words = set(known)
    return [word for word in dict.fromkeys(words_of(prompt)) if word not in words] if words else []


def nearest_words(word: str, known: Sequence[str], most: int = 3) -> list[str]:
    """The known words that are spelled most like a word, the nearest first."""
    return difflib.get_close_matches(word[:40], known, n=most, cutoff=0.0)


def shortened(word: str, most: int = 30) -> str:
    """A word that fits into a sentence."""
    return word if len(word) <= most else word[: most - 1] + "…"
