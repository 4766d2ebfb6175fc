"""Checkers of the exercises of lesson 5, the full pipeline."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from atelier.teaching.exercises import AnswerError, exercise, expect_close, expect_number, expect_tensor
from atelier.training.data import CAPTIONS_FILE, CaptionedFolder, DataError
from atelier.weights.preset import load_preset
from atelier.weights.tokenizer import words_of
from atelier.world import is_held_out, parse


@exercise("5.1")
def check_gallery(prompts: list[str]) -> None:
    """Five different prompts of known words, three of them with a held-out combination."""
    if not isinstance(prompts, list | tuple) or not all(isinstance(prompt, str) for prompt in prompts):
        raise AnswerError("the answer should be a list of sentences, each in quotation marks.")
    if len(prompts) != 5:
        raise AnswerError(f"these are {len(prompts)} prompts; there should be five.")
    normalised = [" ".join(words_of(prompt)) for prompt in prompts]
    if len(set(normalised)) < 5:
        raise AnswerError("two of the prompts are the same.")
    known = set(load_preset("laptop").words)
    for prompt in prompts:
        unknown = [word for word in words_of(prompt) if word not in known]
        if unknown or not words_of(prompt):
            raise AnswerError(f"the small model does not know {', '.join(unknown) or 'any word'} in “{prompt}”.")
    number = sum(map(_has_held_out_combination, prompts))
    if number < 3:
        raise AnswerError(
            f"all words are known, but the number of prompts with a held-out combination is {number}; at least three "
            "are needed."
        )


def _has_held_out_combination(prompt: str) -> bool:
    try:
        return is_held_out(parse(prompt))
    except ValueError as error:
        raise AnswerError(f"“{prompt}” cannot be read: {error}") from error


@exercise("5.2")
def check_lot(lot: Callable[[Tensor, Tensor, float, float, int | None], Tensor]) -> None:
    """Guidance, top-k, temperature and softmax."""
    conditional, unconditional, guidance, temperature = 0.4 * torch.randn(12), 0.4 * torch.randn(12), 2.5, 0.6
    guided = unconditional + guidance * (conditional - unconditional)
    result = expect_tensor(lot(conditional, unconditional, guidance, temperature, None), (12,), "lot")
    swapped = conditional + guidance * (unconditional - conditional)
    expect_close(
        result,
        (guided / temperature).softmax(0),
        {
            "these are logits: the softmax is missing.": guided / temperature,
            "the temperature has no effect.": guided.softmax(0),
            "the logits are multiplied by the temperature; divide by it.": (guided * temperature).softmax(0),
            "the guidance has no effect.": (conditional / temperature).softmax(0),
            "the logits with and without caption are swapped.": (swapped / temperature).softmax(0),
            "the difference is added to the logits with the caption; add it to those without.": (
                ((conditional + guidance * (conditional - unconditional)) / temperature).softmax(0)
            ),
            "this is the difference alone; add it to the logits without the caption.": (
                (guidance * (conditional - unconditional) / temperature).softmax(0)
            ),
            "guidance is applied to probabilities; apply it to logits, before the softmax.": (
                unconditional.softmax(0) + guidance * (conditional.softmax(0) - unconditional.softmax(0))
            ),
        },
    )
    _check_top_k(lot, conditional, unconditional)


def _check_top_k(lot: Callable[..., Tensor], conditional: Tensor, unconditional: Tensor) -> None:
    guided = unconditional + 2.5 * (conditional - unconditional)
    result = expect_tensor(lot(conditional, unconditional, 2.5, 0.6, 3), (12,), "lot with top_k = 3")
    left, low = guided.topk(3).indices, guided.topk(3, largest=False).indices
    out, whole = torch.full_like(guided, -torch.inf), (guided / 0.6).softmax(0)
    kept = (out.scatter(0, left, guided[left]) / 0.6).softmax(0)
    only = torch.zeros_like(guided).scatter(0, left, guided[left])
    first = conditional.topk(3).indices
    expect_close(
        result,
        kept,
        {
            "without top_k it is right, but top_k = 3 has no effect.": whole,
            "the removed codes have the logit 0, which still gives a probability; it must be −∞.": (
                (only / 0.6).softmax(0)
            ),
            "the probabilities do not sum to 1: remove codes before the softmax.": torch.where(kept > 0, whole, 0.0),
            "the unlikeliest codes are kept.": (out.scatter(0, low, guided[low]) / 0.6).softmax(0),
            "the likeliest codes are chosen before guidance; choose them by the guided logits.": (
                (out.scatter(0, first, guided[first]) / 0.6).softmax(0)
            ),
            "only one code is kept; top_k = 3 keeps three.": torch.zeros_like(guided).scatter(
                0, left[:1], torch.ones(1)
            ),
        },
    )


@exercise("5.3")
def check_variety(variety: Callable[[Tensor], float]) -> None:
    """The mean share of differing cells over all pairs of different pictures."""
    codes = torch.randint(3, (5, 4, 4))
    codes[4], codes[:, 0, 0] = codes[0], 2  # two equal pictures, and a cell that is the same in all
    result = expect_number(variety(codes), "what variety returns")
    cells = codes.flatten(1)
    compared = (cells[:, None] != cells[None]).double()  # (5, 5, 16)
    total = compared.sum()
    expect_close(
        torch.tensor(result, dtype=torch.float64),
        total / (5 * 4 * 16),
        {
            "the n comparisons of a picture with itself, which are always 0, are part of the mean.": compared.mean(),
            "this is the share of equal cells; return that of different ones.": 1 - total / (5 * 4 * 16),
            "equal cells are counted, and pictures are compared with themselves.": 1 - compared.mean(),
            "this is a number of cells; divide by the number of cells in a picture.": total / (5 * 4),
            "this is half of the mean: n · (n − 1) comparisons are summed, but the divisor is twice that.": (
                total / (2 * 5 * 4 * 16)
            ),
            "this is twice the mean: the sum has each pair in both orders, the divisor only in one.": (
                total / (5 * 2 * 16)
            ),
            "only neighbouring pictures are compared; compare all pairs.": (cells[1:] != cells[:-1]).double().mean(),
            "all pictures are compared with the first; compare all pairs.": (cells[1:] != cells[:1]).double().mean(),
            "this is the number of different codes in a cell, averaged over the cells; compare pictures in pairs.": (
                _different_codes(cells)
            ),
            "this is the number of different codes in all pictures; compare pictures in pairs, cell by cell.": (
                torch.tensor(cells.unique().numel(), dtype=torch.float64)
            ),
            "this is the share of different pictures; compare their cells.": (
                torch.tensor(len(cells.unique(dim=0)) / len(cells), dtype=torch.float64)
            ),
            "a cell counts if any two pictures differ in it; return the mean over pairs.": (
                (cells != cells[:1]).any(0).double().mean()
            ),
        },
    )


def _different_codes(cells: Tensor) -> Tensor:
    """The number of different codes in a cell, averaged over the cells (n, cells)."""
    return torch.tensor([column.unique().numel() for column in cells.T], dtype=torch.float64).mean()


CAPTIONS = {
    "a.png": "a red cat in the snow",
    "b.png": "a house, a tree, and nothing else",
    "c.png": 'what the sign calls “Café”: a "small" house',
}


@exercise("5.4")
def check_write_captions(write_captions: Callable[[str, dict[str, str]], None]) -> None:
    """A captions.csv from which `CaptionedFolder` reads the captions unchanged."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for file in CAPTIONS:
            Image.new("RGB", (8, 8), "white").save(folder / file)
        write_captions(name, dict(CAPTIONS))
        if not (folder / CAPTIONS_FILE).is_file():
            others = [path.name for path in folder.iterdir() if path.name not in CAPTIONS]
            found = f"there is {', '.join(others)}" if others else "nothing was written"
            raise AnswerError(f"the folder has no {CAPTIONS_FILE} afterwards; {found}.")
        try:
            read = CaptionedFolder(folder, size=8)
        except DataError as error:
            raise AnswerError(str(error).replace(f"{folder}{os.sep}", "").replace(str(folder), "the folder")) from error
    _compare_captions(read.captions)


def _compare_captions(captions: list[str]) -> None:
    wanted = list(CAPTIONS.values())
    if len(captions) != len(wanted):
        raise AnswerError(f"the table has {len(captions)} rows for {len(wanted)} pictures.")
    for text, found in zip(wanted, captions, strict=True):
        if text == found:
            continue
        if text.startswith(found):
            raise AnswerError(f"a caption is cut off at its comma: “{text}” became “{found}”.")
        raise AnswerError(f"a caption has changed: “{text}” became “{found}”.")
