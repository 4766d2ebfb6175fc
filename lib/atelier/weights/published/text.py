"""The texts of the published models: how they are normalised, and the tokenizer that turns them into ids.

DALL·E Mini saw no raw captions. Every one was put into plain lower-case ASCII, with commas for most punctuation, words
for emoji, and hashtags taken apart; a prompt has to be treated the same way. min-dalle does less: words for emoji,
lower case, and nothing but ASCII.

Hashtags are taken apart with a list of words, the most frequent first, that the project published beside its model
(enwiki-words-frequency.txt). Without it a hashtag loses its #, and stays one word.

The rules follow src/dalle_mini/model/text.py of DALL·E Mini, rule for rule (copyright 2021 The DALL·E mini Authors,
Apache License 2.0). Changed are: emoji become words first, <person> is always replaced by the same words, a tag by a
blank, and the splitting of hashtags is computed without a second search. The class Words follows the HashtagProcessor
there, which is adapted from wordninja (copyright 2017 Derek Anderson, MIT licence). See NOTICE.
"""

from __future__ import annotations

import functools
import html
import json
import math
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import emoji
import ftfy
import tokenizers
from tokenizers import decoders, models, pre_tokenizers
from unidecode import unidecode

from atelier.weights.published.pieces import PublishedError
from atelier.weights.tokenizer import Tokenizer

Normalizer = Callable[[str], str]

# ---------------------------------------------------------------------------------------------- DALL·E Mini's texts

# Marks that outlive the rules for punctuation. They are words, spelled as in the project: a hashtag can contain one.
DOT, QUOTE, SLASH = (f"xtokx{name}xtokx" for name in ("dot", "quote", "slash"))

Rules = tuple[tuple[re.Pattern[str], str], ...]


def _rules(*pairs: tuple[str, str]) -> Rules:
    return tuple((re.compile(pattern), replacement) for pattern, replacement in pairs)


TO_HASHTAGS = _rules(
    # A data set of theirs has <person> for a name. The most frequent of their three replacements stands for all.
    (r"<person>(?:[,\s]*(?:and)*[,\s]*<person>)+", " people "),
    (r"<person>", " a person "),
    (r"\A\s*\[\d+\]", ""),  # references, as in Wikipedia's captions
    (r"\[\d+\]\s*\Z", ""),
    (r"<[^<]+?>", " "),
    (r"http\S+", ""),
    (r"(\d),(\d{3})", r"\1\2"),  # twice: two commas can share a group of three digits
    (r"(\d),(\d{3})", r"\1\2"),
    (r"(\w)\.(\w)", rf"\1{DOT}\2"),
    (r"'(?=(?:[stdm]|ll|re|ve)\b)", QUOTE),
    (r"(\d)/(\d)", rf"\1{SLASH}\2"),
    (r"(\w)-(\w)", r"\1 \2"),
    (r"([%&/$*])", r" \1 "),
)
FROM_HASHTAGS = _rules(
    (r"[_#\\]", " "),
    (r"['\"`]", ' " '),
    (r"[()\[\].,|:;?!=+~\-/{}]", ","),
    (DOT, "."),
    (QUOTE, "'"),
    (SLASH, "/"),
    (r"(\D)\1{3,}", r"\1"),  # not from three on: there are numbers such as VIII
    (r"(?:\s*\"+\s*)+", ' " '),
    (r"(?:\s*,+\s*)+", ", "),
    (r"\s+", " "),
)
HASHTAG = re.compile(r"#(\w+)")


def dalle_mini_text(text: str, words: Words) -> str:
    """A text as DALL·E Mini was trained on it. It begins with a blank, as every word does for the tokenizer."""
    text = html.unescape(html.unescape(ftfy.fix_text(text)))
    text = unidecode(emoji.demojize(text)).lower()
    text = _apply(TO_HASHTAGS, text)
    text = HASHTAG.sub(lambda found: words.split(found[1]), text)
    text = _apply(FROM_HASHTAGS, text).strip()
    return " " + text.removesuffix(",").removeprefix(",").strip()


def _apply(rules: Rules, text: str) -> str:
    for pattern, replacement in rules:
        text = pattern.sub(replacement, text)
    return text


class Words:
    """Knows words by how frequent they are, and finds them in what was written without blanks.

    The cost of the word of rank r is ln r (Zipf's law makes it as good as −ln of its probability), and of all ways to
    cut a hashtag the cheapest is taken. What contains something that is no word falls into letters.

    Args:
        ranked: words, the most frequent first; none: nothing is cut.
    """

    def __init__(self, ranked: Sequence[str]) -> None:
        self.costs = {word: math.log(rank) for rank, word in enumerate(ranked, start=1)}
        self.longest = max(map(len, ranked), default=0)

    @classmethod
    def read(cls, content: str) -> Words:
        """From a list with a word, a blank and its count in each line."""
        return cls([line.split()[0] for line in content.splitlines() if line.strip()])

    def split(self, hashtag: str) -> str:
        """The words of a hashtag, with blanks between them."""
        parts = [part for part in re.split(r"[^a-zA-Z0-9']+", hashtag) if part]
        return " ".join(word for part in parts for word in (self._cut(part) if self.costs else [part]))

    def _cut(self, text: str) -> list[str]:
        # Of the cheapest way to cut the first i letters: its cost, and the length of its last word.
        best, lengths = [0.0], [0]
        for end in range(1, len(text) + 1):
            ways = (
                (best[end - length] + self.costs.get(text[end - length : end].lower(), math.inf), length)
                for length in range(1, min(end, self.longest) + 1)
            )
            cost, length = min(ways)
            best.append(cost)
            lengths.append(length)
        words: list[str] = []
        end = len(text)
        while end > 0:
            word = text[end - lengths[end] : end]
            if words and word[-1].isdigit() and words[0][0].isdigit():
                words[0] = word + words[0]  # a number stays in one piece
            else:
                words.insert(0, word)
            end -= lengths[end]
        return words


# ---------------------------------------------------------------------------------------------- min-dalle's texts


def min_dalle_text(text: str) -> str:
    """A text as min-dalle gives it to the model: one blank before each word."""
    text = emoji.demojize(text, delimiters=("", "")).lower().encode("ascii", "ignore").decode()
    return "".join(f" {word}" for word in text.split(" ") if word)


def normalizer(name: str, frequencies: str = "") -> Normalizer:
    """The treatment of texts that a preset names: "dalle-mini" or "min-dalle".

    frequencies: content of the list that hashtags are taken apart with, if there is one.

    Raises ValueError for another name.
    """
    if name == "dalle-mini":
        return functools.partial(dalle_mini_text, words=Words.read(frequencies))
    if name == "min-dalle":
        return min_dalle_text
    raise ValueError(f"There is no text normalization {name!r}; choose dalle-mini or min-dalle.")


# ---------------------------------------------------------------------------------------------- the tokenizer


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
