"""The pipeline: a prompt goes in, ranked pictures come out.

    prompt ── tokenizer ──> ids ── Bart ──> codes ── VQ-GAN ──> pictures ── CLIP ──> ranking

These are the steps of DALL·E Mini (Dayma et al. 2021). All presets use them, our own and the published ones.
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
from atelier.decoding import Sampling, SamplingOptions, decode, uniform_numbers
from atelier.drawing.drawing import Drawing
from atelier.drawing.packed import prepare_for_drawing
from atelier.errors import AtelierError
from atelier.pictures import seen_by_clip, square
from atelier.weights.preset import Preset, load_preset, log_skipped, readable_presets
from atelier.weights.rankers import load_ranker
from atelier.weights.storage import PresetError
from atelier.weights.tokenizer import Tokenizer, TokenizerLike, words_of

UNDRAWN = 0.93  # the grey of the part of a picture that is not drawn yet
PIXELS_AT_ONCE = 2**16  # decoded together: one picture of DALL·E Mini, whose feature maps just fit a CPU's cache


class PromptError(AtelierError):
    """A prompt that cannot be drawn; the message says why."""


class Pipeline:
    """Draws pictures of prompts with the blocks of one preset."""

    def __init__(
        self,
        vqgan: VQGAN,
        bart: Bart,
        clip: CLIP | None,
        tokenizer: Tokenizer,
        *,
        clip_tokenizer: TokenizerLike | None = None,
        name: str = "",
        words: Sequence[str] = (),
        sampling: Sampling | None = None,
        device: str | torch.device = "cpu",
    ) -> None:
        """Make a pipeline from its blocks.

        Args:
            vqgan: decodes codes to pictures.
            bart: translates captions to codes.
            clip: ranks pictures; None: they are not ranked.
            tokenizer: turns captions into ids, for bart and clip.
            clip_tokenizer: the tokenizer of clip, if it is another.
            name: the name of the preset.
            words: the words of the captions in training; a drawing has a remark on other words. Empty: no remarks.
            sampling: the defaults of `draw`; None: those of `Sampling`.
            device: where to compute.
        """
        self.name, self.tokenizer, self.words = name, tokenizer, tuple(words)
        self.clip_tokenizer = clip_tokenizer or tokenizer
        self.sampling = sampling or Sampling()
        self.device = torch.device(device)
        self.vqgan = vqgan.eval().to(self.device).to(memory_format=torch.channels_last)  # faster convolutions
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
        """Load a preset. The translator of the pipeline cannot be trained; `Preset.load_bart` loads one that can.

        Args:
            name: the name of a preset, or its folder; None: the complete preset with the largest pictures.
            device: where to compute; None: a GPU if there is one, else the CPU.
            ranker: the name of a published CLIP to rank with, such as "ViT-B-32/openai"; None: the preset's CLIP. See
                `load_ranker`.
            dtype: the type in which the translator computes; None chooses it by device, see `prepare_for_drawing`.

        Returns:
            The pipeline.

        Raises:
            PresetError: if there is no such preset, or one of its files is missing, truncated or altered.
        """
        preset = best_preset() if name is None else load_preset(name)
        device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        clip, clip_tokenizer = load_ranker(preset, ranker)
        return cls(
            preset.load_vqgan(),
            prepare_for_drawing(preset.load_bart(as_stored=True), device, dtype),
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
            prompt: what to draw, or a list of prompts.
            n: pictures for each prompt.
            seed: any integer; None chooses one at random.
            rank: whether to sort the pictures by their CLIP scores, the best first.
            **how: guidance, temperature, top_k, top_p; see `Sampling`.

        Returns:
            A drawing; for a list of prompts a list of drawings, each the same as for its prompt alone.

        Raises:
            PromptError: if a prompt is empty.
            AtelierError: if a number is out of range.
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
        """Draw as `draw` does, and give the unfinished pictures too.

        Args:
            prompt, n, seed, rank, how: as for `draw`.
            every: codes between two drawings; None: the codes of one row.

        Yields:
            Unfinished drawings, then the finished drawing, the same as that of `draw`.
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
            prompt: describes the whole picture.
            rows: rows of codes to keep; None: half of them.
            n, seed, rank, how: as for `draw`.

        Returns:
            The drawing.

        Raises:
            PromptError: if the prompt is empty.
            AtelierError: if a number is out of range, or the image is a tensor that is not (3, size, size).
        """
        grid = self.vqgan.config.grid
        rows = grid // 2 if rows is None else rows
        if not 0 <= rows < grid:
            raise AtelierError(f"rows is {rows}; a picture has {grid} rows of codes, so keep from 0 to {grid - 1}.")
        if n < 1:
            raise AtelierError(f"n is {n}; ask for at least one picture.")
        kept = self.encode(image)[0, :rows].flatten().expand(n, -1)  # (n, rows · grid)
        *_, drawings = self._steps([prompt], n, seed, rank, how, every=None, prefix=kept)
        return drawings[0]

    @torch.no_grad()
    def encode(self, image: Image.Image | Tensor) -> Tensor:
        """Encode a picture.

        Args:
            image: a PIL image of any size, which is cut to its central square, or pixels (3, size, size) from 0 to 1.

        Returns:
            Codes (1, grid, grid).

        Raises:
            AtelierError: if the image is a tensor that is not (3, size, size).
        """
        size = self.vqgan.config.resolution
        if isinstance(image, Image.Image):
            image = square(image, size).float() / 255
        if image.shape != (3, size, size):
            raise AtelierError(
                f"The picture has the shape {tuple(image.shape)}; this preset takes (3, {size}, {size})."
            )
        return self.vqgan.encode(image[None].to(self.device)).indices

    @torch.no_grad()
    def decode(self, codes: Tensor) -> Tensor:
        """Decode codes (n, grid, grid) to pictures (n, 3, size, size), from 0 to 1."""
        parts = codes.to(self.device).split(max(1, PIXELS_AT_ONCE // self.vqgan.config.resolution**2))
        return torch.cat([self.vqgan.decode_codes(part) for part in parts]).float()

    @torch.no_grad()
    def score(self, prompt: str, pictures: Tensor) -> list[float]:
        """Score pictures with CLIP.

        Args:
            prompt: what the pictures should show.
            pictures: (n, 3, size, size), from 0 to 1.

        Returns:
            100 · cosine between the prompt and each picture, as on the session's slide.

        Raises:
            AtelierError: if the pipeline has no CLIP.
        """
        if self.clip is None:
            raise AtelierError("This pipeline has no CLIP, so it cannot score pictures.")
        ids = self.clip_tokenizer.encode([prompt], self.clip.config.context_length)
        text = self.clip.encode_text(ids.to(self.device))  # (1, e)
        pictures = seen_by_clip(pictures.to(self.device), self.clip.config.image_size)
        return (100 * self.clip.encode_image(pictures) @ text[0]).tolist()

    def remarks(self, prompt: str) -> list[str]:
        """Write sentences on a prompt: on words that the preset does not know, and on a prompt that is too long."""
        sentences, shown = [], 5
        unknown = unknown_words(prompt, self.words)
        if unknown:
            named = ", ".join(f"“{shortened(word)}”" for word in unknown[:shown])
            more = f" and {len(unknown) - shown} more" if len(unknown) > shown else ""
            near = dict.fromkeys(known for word in unknown[:shown] for known in nearest_words(word, self.words))
            sentences.append(
                f"The {self.name} preset never saw {named}{more}; the nearest words it knows are {', '.join(near)}."
            )
        elif self.words and not words_of(prompt):
            sentences.append(
                f"There is no word in this prompt that the {self.name} preset knows, "
                "so the pictures will not show what it asks for."
            )
        room = self.bart.config.text_length
        if len(self.tokenizer.pieces(prompt)) > room - 2:
            sentences.append(f"The prompt is longer than the {room} tokens that the model reads; the rest is cut off.")
        return sentences

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
        """Draw all prompts: unfinished drawings after every `every` codes, if given, then the finished drawings."""
        if n < 1 or not prompts:
            raise AtelierError(
                f"There is nothing to draw with n = {n} and {len(prompts)} prompts; ask for at least one."
            )
        for prompt in prompts:
            self._check(prompt)
        sampling = replace(self.sampling, **how)
        seed = secrets.randbits(31) if seed is None else seed
        length, grid = self.bart.config.target_length, self.vqgan.config.grid
        text = self.tokenizer.encode(prompts, self.bart.config.text_length).to(self.device)  # (p, t)
        empty = self.tokenizer.nothing(self.bart.config.text_length).to(self.device)  # (t,)
        uniforms = uniform_numbers(seed, n, length).repeat(len(prompts), 1).to(self.device)  # (p · n, length)
        for codes in decode(self.bart, text, empty, sampling, uniforms, prefix, self.vqgan.config.codes):
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
        """Make unfinished drawings: missing codes are decoded as the last code written, then covered with grey."""
        grid, length, done = self.vqgan.config.grid, self.bart.config.target_length, codes.shape[1]
        filled = torch.cat([codes, codes[:, -1:].expand(-1, length - done)], dim=1).unflatten(1, (grid, grid))
        written = (torch.arange(length, device=self.device) < done).float().view(grid, grid)
        pictures = self.decode(filled)
        block = torch.ones(self.vqgan.config.factor, self.vqgan.config.factor, device=self.device)
        pictures = torch.where(torch.kron(written, block) > 0, pictures, UNDRAWN)
        groups = zip(prompts, filled.chunk(len(prompts)), pictures.chunk(len(prompts)), strict=True)
        return [Drawing(prompt, own, own_codes, None, seed, done / length) for prompt, own_codes, own in groups]


def best_preset() -> Preset:
    """Find the complete and undamaged preset with the largest pictures; log a sentence for each that is skipped.

    Raises:
        PresetError: if there is no such preset.
    """
    readable, faults = readable_presets()
    complete = {name: preset for name, preset in readable.items() if preset.complete}
    for name, preset in sorted(complete.items(), key=lambda item: -item[1].picture_size):
        try:
            preset.check_pipeline()
        except PresetError as fault:
            faults[name] = fault
        else:
            log_skipped(faults)
            return preset
    sentences = ["No preset with weights was found; train one (atelier train --help) or set ATELIER_DATA."]
    raise PresetError(" ".join([*sentences, *map(str, faults.values())]))


def unknown_words(prompt: str, known: Sequence[str]) -> list[str]:
    """List the words of a prompt that are not known, each once; an empty list if `known` is empty."""
    words = set(known)
    return [word for word in dict.fromkeys(words_of(prompt)) if word not in words] if words else []


def nearest_words(word: str, known: Sequence[str], most: int = 3) -> list[str]:
    """List the known words with the most similar spelling, the most similar first."""
    return difflib.get_close_matches(word[:40], known, n=most, cutoff=0.0)


def shortened(word: str, most: int = 30) -> str:
    """Shorten a word to at most `most` characters."""
    return word if len(word) <= most else word[: most - 1] + "…"
