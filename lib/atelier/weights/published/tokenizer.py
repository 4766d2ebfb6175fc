"""The tokenizers of the published models: byte-level BPE, as in BART."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import decoders, models, pre_tokenizers

from atelier.arguments import shown
from atelier.weights.published.tensors import PublishedError
from atelier.weights.storage import read_json
from atelier.weights.tokenizer import Tokenizer

SPECIAL_TOKENS = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")


def read_tokenizer(folder: str | Path, rows: int, split_at_blanks: bool = False, suffix: str = "") -> Tokenizer:
    """Read the tokenizer of a folder with vocab.json and merges.txt, or with a tokenizer.json.

    Args:
        folder: the folder.
        rows: the number of rows of the model's text embedding. Special tokens with a larger id, as BART's <mask> may
            have, are left out.
        split_at_blanks: whether texts are split at blanks only before merging, as min-dalle does; by default letters,
            digits and punctuation are separated as well.
        suffix: the suffix of the names vocab and merges, for a folder with the files of several models.

    Returns:
        The tokenizer.

    Raises:
        PublishedError: if files are missing or damaged, or if a token has an id beyond the embedding.
    """
    folder = Path(folder)
    try:
        vocabulary, merges = _vocabulary_and_merges(folder, suffix)
        _check_ids(vocabulary)
        vocabulary = {token: i for token, i in vocabulary.items() if i < rows or not re.fullmatch("<.+>", token)}
        if max(vocabulary.values()) >= rows:
            raise ValueError(f"it has the id {max(vocabulary.values())}, but the model only {rows} rows")
        backend = tokenizers.Tokenizer(models.BPE(vocab=vocabulary, merges=merges, unk_token="<unk>"))
        backend.pre_tokenizer = _blanks() if split_at_blanks else pre_tokenizers.ByteLevel(add_prefix_space=False)
        backend.decoder = decoders.ByteLevel()
        backend.add_special_tokens([token for token in SPECIAL_TOKENS if token in vocabulary])
        return Tokenizer(backend)
    except PublishedError:
        raise
    except Exception as fault:  # the tokenizers library raises bare Exceptions
        reason = " ".join(str(fault).split())[:200].rstrip(".")
        raise PublishedError(f"{folder} holds no usable tokenizer: {reason}.") from fault


def _vocabulary_and_merges(folder: Path, suffix: str) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Read the tokens with their ids, and the pairs of tokens in the order in which they are merged."""
    vocabulary, merges = folder / f"vocab{suffix}.json", folder / f"merges{suffix}.txt"
    if vocabulary.is_file() and merges.is_file():
        _check_ids(read_json(vocabulary))  # the library's message for a wrong id has several lines
        return models.BPE.read_file(str(vocabulary), str(merges))
    if (folder / "tokenizer.json").is_file():
        model: Any = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))["model"]
        return model["vocab"], [tuple(pair.split(" ") if isinstance(pair, str) else pair) for pair in model["merges"]]
    raise PublishedError(f"{folder} has neither {vocabulary.name} and {merges.name} nor a tokenizer.json.")


def _check_ids(vocabulary: Any) -> None:
    """Check that the ids are whole numbers from 0, each of one token."""
    if not isinstance(vocabulary, dict) or not vocabulary:
        raise ValueError("its vocab is not an object with tokens")
    for token, number in vocabulary.items():
        if type(number) is not int or number < 0:
            raise ValueError(f"the id of {shown(token)} is {shown(number)}, which is not a whole number from 0")
    if len(set(vocabulary.values())) < len(vocabulary):
        raise ValueError("several tokens have the same id")


def _blanks() -> pre_tokenizers.PreTokenizer:
    return pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(" ", behavior="merged_with_next"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
