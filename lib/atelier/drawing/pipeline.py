"""The pipeline: from a prompt to ranked pictures.

    prompt ── tokenizer ──> ids ── Bart ──> codes ── VQ-GAN ──> pictures ── CLIP ──> ranking

These are the steps of DALL·E Mini (Dayma et al. 2021). All presets, our own and the published ones, use this pipeline.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import SupportsIndex, Unpack, overload

import torch
from PIL import Image
from torch import Tensor

from atelier.arguments import shown, whole_number
from atelier.blocks.bart import Bart
from atelier.blocks.clip import CLIP
from atelier.blocks.vqgan import VQGAN
from atelier.decoding import DecodingSteps, Sampling, SamplingOptions, decode, uniform_numbers
from atelier.drawing.drawing import Drawing
from atelier.drawing.packed import prepare_for_drawing
from atelier.drawing.prompts import PromptError as PromptError
from atelier.drawing.prompts import checked_prompt, checked_prompts, remark_on_length, remark_on_words, shortened
from atelier.errors import AtelierError
from atelier.pictures import seen_by_clip, square
from atelier.weights.preset import Preset, load_preset
from atelier.weights.rankers import load_ranker
from atelier.weights.tokenizer import Tokenizer, TokenizerLike

UNDRAWN = 0.93  # the grey value of the pixels that are not drawn yet
MAX_PICTURES = 10_000  # in one drawing
PIXELS_AT_ONCE = 2**16  # decoded together: one picture of DALL·E Mini; its feature maps just fit into a CPU's cache

logger = logging.getLogger(__name__)


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
            vqgan: the VQ-GAN, which decodes codes to pictures.
            bart: the translator from captions to codes.
            clip: the CLIP that ranks pictures; None: they are not ranked.
            tokenizer: the tokenizer of the captions, for bart and clip.
            clip_tokenizer: the tokenizer of clip, if it has its own.
            name: the name of the preset.
            words: all words of the training captions. The drawing of a prompt with other words has a remark that names
                them. Empty: no such remarks.
            sampling: the default options of `draw`; None: the defaults of `Sampling`.
            device: the device to compute on.
        """
        self.name, self.tokenizer, self.words = name, tokenizer, tuple(words)
        self.clip_tokenizer = clip_tokenizer or tokenizer
        self.sampling = sampling or Sampling()
        self.device = torch.device(device)
        self.vqgan = vqgan.eval().to(self.device).to(memory_format=torch.channels_last)  # faster convolutions
        self.bart = bart.eval().to(self.device)
        self.decoding_steps = DecodingSteps()
        self.clip = None if clip is None else clip.eval().to(self.device)

    @classmethod
    def from_pretrained(
        cls,
        preset: str | Path | Preset | None = None,
        device: str | torch.device | None = None,
        ranker: str | None = None,
        dtype: torch.dtype | None = None,
    ) -> Pipeline:
        """Load the pipeline of a preset. Its translator cannot be trained; use `Preset.load_bart` for training.

        Args:
            preset: a preset, its name or its folder; None: the complete preset with the largest pictures.
            device: the device to compute on; None: a GPU if there is one, else the CPU.
            ranker: the name of a published CLIP to rank with, such as "ViT-B-32/openai"; None: the preset's CLIP. See
                `load_ranker`.
            dtype: the dtype in which the translator computes; None: see `drawing_dtype`.

        Returns:
            The pipeline.

        Raises:
            PresetError: if there is no such preset, if one of its files is missing, truncated or altered, or if its
                blocks were not trained with one another.
            AtelierError: if there is no such device, or dtype is not a dtype.
        """
        if dtype is not None and not isinstance(dtype, torch.dtype):
            raise AtelierError(f"dtype is {shown(dtype)}; give one such as torch.float16.")
        device = usable_device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        preset = preset if isinstance(preset, Preset) else load_preset(preset)
        logger.info("%s draws on %s, dtype %s", preset.name, device, dtype or "chosen for the device")
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
        seed: SupportsIndex | None = ...,
        rank: bool = ...,
        place: SupportsIndex | None = ...,
        **options: Unpack[SamplingOptions],
    ) -> Drawing: ...
    @overload
    def draw(
        self,
        prompt: list[str],
        n: int = ...,
        seed: SupportsIndex | None = ...,
        rank: bool = ...,
        place: SupportsIndex | None = ...,
        **options: Unpack[SamplingOptions],
    ) -> list[Drawing]: ...
    def draw(
        self,
        prompt: str | list[str],
        n: int = 9,
        seed: SupportsIndex | None = None,
        rank: bool = True,
        place: SupportsIndex | None = None,
        **options: Unpack[SamplingOptions],
    ) -> Drawing | list[Drawing]:
        """Draw n pictures of a prompt, or of each prompt of a list.

        Args:
            prompt: what to draw, or a list of prompts.
            n: the number of pictures of each prompt.
            seed: any integer; None: a random seed.
            rank: whether to sort the pictures by their CLIP scores, best first.
            place: draw only the picture that has this place before ranking, see `Drawing.places`; n is then ignored.
            **options: guidance, temperature, top_k, top_p; see `Sampling`.

        Returns:
            A drawing; for a list of prompts, a list of drawings, each the same as for its prompt alone.

        Raises:
            PromptError: if a prompt is empty or not a string.
            AtelierError: if a number is out of range.
        """
        prompts = [prompt] if isinstance(prompt, str) else prompt
        *_, drawings = self._draw(prompts, n, seed, rank, place, options, every=None)
        return drawings[0] if isinstance(prompt, str) else drawings

    def stream(
        self,
        prompt: str,
        n: int = 9,
        seed: SupportsIndex | None = None,
        rank: bool = True,
        every: int | None = None,
        first_codes: Sequence[int] = (),
        place: SupportsIndex | None = None,
        **options: Unpack[SamplingOptions],
    ) -> Iterator[Drawing]:
        """Draw like `draw`, and yield unfinished drawings as well.

        Args:
            prompt, n, seed, rank, place, options: as for `draw`.
            every: codes between two unfinished drawings; None: one row of codes.
            first_codes: the codes with which every picture begins, for example the upper rows of another drawing.

        Yields:
            Unfinished drawings, then the finished drawing, which is that of `draw` if no first codes are given.

        Raises:
            PromptError, AtelierError: for the reasons in `draw`, or if the first codes are too many or not codes.
        """
        codes = self._checked_first_codes(first_codes)
        first = torch.tensor(codes, dtype=torch.long, device=self.device) if codes else None
        every = self.vqgan.config.grid if every is None else whole_number(every, "every", 1)
        for drawings in self._draw([prompt], n, seed, rank, place, options, every, first):
            yield drawings[0]

    def complete(
        self,
        image: Image.Image | Tensor,
        prompt: str,
        rows: int | None = None,
        n: int = 9,
        seed: SupportsIndex | None = None,
        rank: bool = True,
        place: SupportsIndex | None = None,
        **options: Unpack[SamplingOptions],
    ) -> Drawing:
        """Keep the upper rows of a picture's codes and draw the rest.

        Args:
            image: a PIL image of any size, or pixels (3, size, size) from 0 to 1.
            prompt: a description of the whole picture.
            rows: the number of rows of codes to keep; None: half of the rows.
            n, seed, rank, place, options: as for `draw`.

        Returns:
            The drawing.

        Raises:
            PromptError: if the prompt is empty or not a string.
            AtelierError: if a number is out of range, or for the reasons in `encode`.
        """
        grid = self.vqgan.config.grid  # a picture has `grid` rows of codes
        rows = grid // 2 if rows is None else whole_number(rows, "rows", 0, grid - 1)
        kept = self.encode(image)[0, :rows]  # (rows, grid)
        *_, drawings = self._draw([prompt], n, seed, rank, place, options, every=None, kept=kept)
        return drawings[0]

    @torch.no_grad()
    def encode(self, image: Image.Image | Tensor) -> Tensor:
        """Encode a picture.

        Args:
            image: a PIL image of any size, which is cropped to its central square, or pixels (3, size, size), from 0
                to 1.

        Returns:
            Codes (1, grid, grid).

        Raises:
            AtelierError: if the image is neither, or if it is a tensor with the wrong shape, dtype or range.
        """
        size = self.vqgan.config.resolution
        if isinstance(image, Image.Image):
            image = square(image, size).float() / 255
        if not isinstance(image, Tensor):
            raise AtelierError(f"The picture is a {type(image).__name__}; give a PIL image (Image.open) or a tensor.")
        if image.shape != (3, size, size):
            raise AtelierError(
                f"The picture has the shape {tuple(image.shape)}; this preset takes (3, {size}, {size})."
            )
        check_pixels(image[None])
        with self._without_autocast():
            return self.vqgan.encode(image[None].to(self.device, torch.float32)).indices

    @torch.no_grad()
    def decode(self, codes: Tensor) -> Tensor:
        """Decode codes (n, grid, grid) to pictures (n, 3, size, size), from 0 to 1.

        Raises:
            AtelierError: if the codes are not whole numbers.
            ValueError: if they have the wrong shape or range.
        """
        if not isinstance(codes, Tensor) or codes.is_floating_point():
            raise AtelierError(f"The codes are {shown(codes)}; give a tensor of whole numbers, (n, grid, grid).")
        parts = codes.to(self.device).split(max(1, PIXELS_AT_ONCE // self.vqgan.config.resolution**2))
        with self._without_autocast():
            return torch.cat([self.vqgan.decode_codes(part) for part in parts]).float()

    def _without_autocast(self) -> torch.autocast:
        """Switch off the caller's autocast, since the pipeline chooses its own dtypes."""
        return torch.autocast(self.device.type, enabled=False)

    @torch.no_grad()
    def score(self, prompt: str, pictures: Tensor) -> list[float]:
        """Score pictures with CLIP.

        Args:
            prompt: what the pictures should show.
            pictures: (n, 3, size, size), from 0 to 1.

        Returns:
            100 · the cosine similarity of the prompt and each picture.

        Raises:
            PromptError: if the prompt is not a string.
            AtelierError: if the pipeline has no CLIP, or if the pictures have the wrong shape, dtype or range.
        """
        if self.clip is None:
            raise AtelierError("This pipeline has no CLIP, so it cannot score pictures.")
        check_pixels(pictures)
        prompt = checked_prompt(prompt)
        ids = self.clip_tokenizer.encode([prompt], self.clip.config.context_length)
        with self._without_autocast():
            text = self.clip.encode_text(ids.to(self.device))  # (1, e)
            pictures = seen_by_clip(pictures.to(self.device, torch.float32), self.clip.config.image_size)
            return (100 * self.clip.encode_image(pictures) @ text[0]).tolist()

    def remarks(self, prompt: str) -> list[str]:
        """Write a sentence about each problem of a prompt: unknown words, or too many tokens."""
        prompt = checked_prompt(prompt)
        remarks = (
            remark_on_words(prompt, self.words, self.name),
            remark_on_length(prompt, self.tokenizer, self.bart.config.text_length),
        )
        return [remark for remark in remarks if remark is not None]

    @torch.no_grad()
    def _draw(
        self,
        prompts: list[str],
        n: int,
        seed: SupportsIndex | None,
        rank: bool,
        place: SupportsIndex | None,
        options: SamplingOptions,
        every: int | None,
        kept: Tensor | None = None,
    ) -> Iterator[list[Drawing]]:
        """Draw all prompts; yield unfinished drawings after every `every` codes (None: never), then the finished ones.

        `kept`: the first codes, the same for every picture, in a tensor of any shape.
        """
        prompts = checked_prompts(prompts, self.tokenizer)
        n = whole_number(n, "n", 1, MAX_PICTURES)
        first, last = (1, n) if place is None else (whole_number(place, "place", 1, MAX_PICTURES),) * 2
        places = range(first, last + 1)
        sampling = replace(self.sampling, **options)
        seed = secrets.randbits(31) if seed is None else whole_number(seed, "The seed")
        length, grid = self.bart.config.target_length, self.vqgan.config.grid
        text = self.tokenizer.encode(prompts, self.bart.config.text_length).to(self.device)  # (p, t)
        empty = self.tokenizer.empty_caption(self.bart.config.text_length).to(self.device)  # (t,)
        uniforms = uniform_numbers(seed, last, length)[first - 1 :].repeat(len(prompts), 1).to(self.device)
        prefix = None if kept is None else kept.flatten().expand(len(uniforms), -1)  # (p · n, k)
        steps = decode(self.bart, text, empty, sampling, uniforms, prefix, self.vqgan.config.codes, self.decoding_steps)
        settings = {"preset": self.name, **asdict(sampling), **({} if kept is None else _kept(kept.numel(), grid))}
        drawing = partial(Drawing, seed=seed, settings=settings)
        for codes in self._each_without_autocast(steps):
            done = codes.shape[1]
            if done == length:
                codes = codes.unflatten(1, (grid, grid))  # (p · n, grid, grid)
                yield self._finished(drawing, prompts, codes, places, rank)
            elif every is not None and done % every == 0:
                yield self._unfinished(drawing, prompts, codes, places)

    def _each_without_autocast(self, steps: Iterator[Tensor]) -> Iterator[Tensor]:
        """Run each step without autocast; between the steps, the caller's autocast is on again."""
        while True:
            with self._without_autocast():
                codes = next(steps, None)
            if codes is None:
                return
            yield codes

    def _checked_first_codes(self, codes: Sequence[int]) -> list[int]:
        length, count = self.bart.config.target_length, self.vqgan.config.codes
        if len(codes) >= length:
            raise AtelierError(f"There are {len(codes)} first codes; give fewer than {length}.")
        return [whole_number(code, "One of the first codes", 0, count - 1) for code in codes]

    def _finished(
        self, drawing: Callable[..., Drawing], prompts: list[str], codes: Tensor, places: Sequence[int], rank: bool
    ) -> list[Drawing]:
        """Make the drawings from codes (p · n, grid, grid); `drawing` is `Drawing` with their common arguments set."""
        drawings = []
        groups = zip(prompts, codes.chunk(len(prompts)), self.decode(codes).chunk(len(prompts)), strict=True)
        for prompt, own_codes, own_pictures in groups:
            scores, order = None, list(range(len(places)))
            if rank and self.clip is not None:
                unordered = self.score(prompt, own_pictures)
                order.sort(key=lambda i: -unordered[i])
                scores = [unordered[i] for i in order]
            ordered = tuple(places[i] for i in order)
            remarks = self.remarks(prompt)
            drawings.append(
                drawing(prompt, own_pictures[order], own_codes[order], scores, remarks=remarks, places=ordered)
            )
        return drawings

    def _unfinished(
        self, drawing: Callable[..., Drawing], prompts: list[str], codes: Tensor, places: Sequence[int]
    ) -> list[Drawing]:
        """Make unfinished drawings: the missing codes are filled with the last code, and their pixels with grey."""
        grid, length, done = self.vqgan.config.grid, self.bart.config.target_length, codes.shape[1]
        filled = torch.cat([codes, codes[:, -1:].expand(-1, length - done)], dim=1).unflatten(1, (grid, grid))
        drawn = (torch.arange(length, device=self.device) < done).float().view(grid, grid)
        pictures = self.decode(filled)
        block = torch.ones(self.vqgan.config.factor, self.vqgan.config.factor, device=self.device)
        pictures = torch.where(torch.kron(drawn, block) > 0, pictures, UNDRAWN)
        groups = zip(prompts, filled.chunk(len(prompts)), pictures.chunk(len(prompts)), strict=True)
        return [
            drawing(prompt, own, own_codes, None, progress=done / length, places=tuple(places))
            for prompt, own_codes, own in groups
        ]


def _kept(codes: int, grid: int) -> dict[str, int]:
    """Record how many first codes were given, and how many rows they are if they are whole rows."""
    return {"kept_codes": codes, **({"kept_rows": codes // grid} if codes % grid == 0 else {})}


def usable_device(device: str | torch.device) -> torch.device:
    """Return a device after checking that it can be used.

    Raises:
        AtelierError: if it cannot be used on this machine.
    """
    try:
        return torch.empty(1, device=device).device
    except (RuntimeError, TypeError, AssertionError, NotImplementedError) as fault:
        reason = str(fault).strip().partition("\n")[0].rstrip(".")
        raise AtelierError(f"The device {shown(str(device))} cannot be used here: {shortened(reason, 200)}.") from fault


def check_pixels(pictures: Tensor) -> None:
    """Check the shape, dtype and range of pictures.

    Args:
        pictures: (n, 3, h, w), floating-point numbers from 0 to 1.

    Raises:
        AtelierError: if the shape, dtype or range is wrong.
    """
    if not isinstance(pictures, Tensor) or not pictures.is_floating_point():
        kind = str(pictures.dtype) if isinstance(pictures, Tensor) else type(pictures).__name__
        raise AtelierError(f"The pictures are of type {kind}; give floating-point numbers from 0 to 1.")
    if pictures.ndim != 4 or pictures.shape[1] != 3 or 0 in pictures.shape[2:]:
        raise AtelierError(f"The pictures have the shape {tuple(pictures.shape)}; it should be (n, 3, height, width).")
    if pictures.numel() and not (pictures.min() >= -0.01 and pictures.max() <= 1.01):
        low, high = pictures.min().item(), pictures.max().item()
        raise AtelierError(f"The pixels run from {low:.3g} to {high:.3g}; they should be from 0 to 1.")
