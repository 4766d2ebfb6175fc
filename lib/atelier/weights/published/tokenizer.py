"""The tokenizers of the published models: byte-level BPE, as BART's."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import decoders, models, pre_tokenizers

from atelier.weights.published.pieces import PublishedError
from atelier.weights.tokenizer import Tokenizer


def read_tokenizer(folder: str | Path, rows: int, by_blanks: bool = False, suffix: str = "") -> Tokenizer:
    """The tokenizer of a folder with vocab.json and merges.txt, or with a tokenizer.json: byte-level BPE as BART's.

    Args:
        folder: the files' place.
        rows: of the model's text embedding. Ids without a row, as BART's <mask> may be, are left out.
        by_blanks: merge inside of what stands between blanks, as min-dalle does; by default letters, digits and
            punctuation are kept apart first.
        suffix: of the names vocab and merges, where the files of several models share a folder.

    Raises:
        PublishedError: files are missing or damaged, or the model has no row for a word.
    """
    folder = Path(folder)
    try:
        vocabulary, merges = _vocabulary(folder, suffix)
        vocabulary = {word: i for word, i in vocabulary.items() if i < rows or not re.fullmatch("<.+>", word)}
        if max(vocabulary.values()) >= rows:
            raise ValueError(f"it has the id {max(vocabulary.values())}, but the model only {rows} rows")
        backend = tokenizers.Tokenizer(models.BPE(vocab=vocabulary, merges=merges, unk_token="<unk>"))
        backend.pre_tokenizer = _by_blanks() if by_blanks else pre_tokenizers.ByteLevel(add_prefix_space=False)
        backend.decoder = decoders.ByteLevel()
        backend.add_special_tokens([word for word in ("<s>", "<pad>", "</s>", "<unk>", "<mask>") if word in vocabulary])
        return Tokenizer(backend)
    except PublishedError:
        raise
    except Exception as fault:  # the tokenizers library raises bare Exceptions
        raise PublishedError(f"{folder} holds no tokenizer that can be used here: {fault}.") from fault


def _vocabulary(folder: Path, suffix: str) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Words with their ids, and pairs of words in the order in which they are merged."""
    words, pairs = folder / f"vocab{suffix}.json", folder / f"merges{suffix}.txt"
    if words.is_file() and pairs.is_file():
        vocabulary: Any = json.loads(words.read_text(encoding="utf-8"))
        lines: list[Any] = pairs.read_text(encoding="utf-8").split("\n")
        merges = [line for number, line in enumerate(lines) if line and not (number == 0 and line[:9] == "#version:")]
    elif (folder / "tokenizer.json").is_file():
        model: Any = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))["model"]
        vocabulary, merges = model["vocab"], model["merges"]
    else:
        raise PublishedError(f"{folder} has neither {words.name} and {pairs.name} nor a tokenizer.json.")
    split = [tuple(merge.split(" ") if isinstance(merge, str) else merge) for merge in merges]
    if not vocabulary or any(len(pair) != 2 for pair in split):
        raise ValueError("its words are none, or its merges are no pairs")
    return vocabulary, [(first, second) for first, second in split]


def _by_blanks() -> pre_tokenizers.PreTokenizer:
    return pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(" ", behavior="merged_with_next"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
