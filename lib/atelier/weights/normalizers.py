"""The normalisation of texts before the tokenizers of the published models encode them.

DALL·E Mini was trained on normalised captions: plain lower-case ASCII, commas for most punctuation, words for emoji,
and hashtags split into words. A prompt has to be normalised in the same way. min-dalle does less: it replaces emoji
with words, lower-cases the text, and drops all characters that are not ASCII.

Hashtags are split with a list of words, the most frequent first, that the project published with its model
(enwiki-words-frequency.txt). Without the list only the # of a hashtag is removed.

The rules follow src/dalle_mini/model/text.py of DALL·E Mini, rule for rule (copyright 2021 The DALL·E mini Authors,
Apache License 2.0), with these changes: emoji are replaced with words first, <person> is always replaced with the same
words, an HTML tag is replaced with a blank, and hashtags are split without a second search. The class HashtagSplitter
follows the HashtagProcessor there, which is adapted from wordninja (copyright 2017 Derek Anderson, MIT licence). See
NOTICE.
"""

from __future__ import annotations

import functools
import html
import math
import re
from collections.abc import Callable, Sequence

import emoji
import ftfy
from unidecode import unidecode

Normalizer = Callable[[str], str]

# ---------------------------------------------------------------------------------------------- DALL·E Mini's texts

# Placeholders for marks that the rules for punctuation would remove. They are spelled as in the project, because a
# hashtag can contain one.
DOT, QUOTE, SLASH = (f"xtokx{name}xtokx" for name in ("dot", "quote", "slash"))

MOST_CHARACTERS = 2000  # of a text; the models read 64 tokens

Rules = tuple[tuple[re.Pattern[str], str], ...]


def _rules(*pairs: tuple[str, str]) -> Rules:
    return tuple((re.compile(pattern), replacement) for pattern, replacement in pairs)


RULES_BEFORE_HASHTAGS = _rules(
    # One of their data sets has <person> instead of names. Of their three replacements this is the most frequent.
    (r"<person>(?:[,\s]*(?:and)*[,\s]*<person>)+", " people "),
    (r"<person>", " a person "),
    (r"\A\s*\[\d+\]", ""),  # references, as in Wikipedia's captions
    (r"\[\d+\]\s*\Z", ""),
    (r"<[^<]+?>", " "),
    (r"http\S+", ""),
    (r"(\d),(\d{3})", r"\1\2"),  # twice: groups of three digits between two commas overlap
    (r"(\d),(\d{3})", r"\1\2"),
    (r"(\w)\.(\w)", rf"\1{DOT}\2"),
    (r"'(?=(?:[stdm]|ll|re|ve)\b)", QUOTE),
    (r"(\d)/(\d)", rf"\1{SLASH}\2"),
    (r"(\w)-(\w)", r"\1 \2"),
    (r"([%&/$*])", r" \1 "),
)
RULES_AFTER_HASHTAGS = _rules(
    (r"[_#\\]", " "),
    (r"['\"`]", ' " '),
    (r"[()\[\].,|:;?!=+~\-/{}]", ","),
    (DOT, "."),
    (QUOTE, "'"),
    (SLASH, "/"),
    (r"(\D)\1{3,}", r"\1"),  # four or more: three are allowed, as in VIII
    (r"\s*\"[\s\"]*", ' " '),  # in linear time; the project's (?:\s*\"+\s*)+ takes quadratic time
    (r"\s*,[\s,]*", ", "),
    (r"\s+", " "),
)
HASHTAG = re.compile(r"#(\w+)")


def normalize_for_dalle_mini(text: str, hashtags: HashtagSplitter) -> str:
    """Normalise a text as for DALL·E Mini's training.

    Args:
        text: the text.
        hashtags: splits the hashtags.

    Returns:
        The normalised text. It starts with a blank, because the tokenizer's words do.
    """
    text = text[:MOST_CHARACTERS]
    text = html.unescape(html.unescape(ftfy.fix_text(text)))
    text = unidecode(emoji.demojize(text)).lower()
    text = _apply(RULES_BEFORE_HASHTAGS, text)
    text = HASHTAG.sub(lambda found: hashtags.split(found[1]), text)
    text = _apply(RULES_AFTER_HASHTAGS, text).strip()
    return " " + text.removesuffix(",").removeprefix(",").strip()


def _apply(rules: Rules, text: str) -> str:
    for pattern, replacement in rules:
        text = pattern.sub(replacement, text)
    return text


class HashtagSplitter:
    """Splits hashtags into words of a list.

    The cost of the word of rank r is ln r; by Zipf's law this differs from −ln of its probability only by a constant. A
    hashtag is split such that the total cost is least. A hashtag with a part that is not in the list is split into
    letters from there on.

    Args:
        ranked: words, the most frequent first; with an empty list hashtags are not split.
    """

    def __init__(self, ranked: Sequence[str]) -> None:
        self.costs = {word: math.log(rank) for rank, word in enumerate(ranked, start=1)}
        self.longest = max(map(len, ranked), default=0)

    @classmethod
    def read(cls, content: str) -> HashtagSplitter:
        """Parse a list that has a word, a blank and its count in each line."""
        return cls([line.split()[0] for line in content.splitlines() if line.strip()])

    def split(self, hashtag: str) -> str:
        """Split a hashtag.

        Args:
            hashtag: the hashtag without #.

        Returns:
            Its words, separated by blanks.
        """
        parts = [part for part in re.split(r"[^a-zA-Z0-9']+", hashtag) if part]
        return " ".join(word for part in parts for word in (self._split_letters(part) if self.costs else [part]))

    def _split_letters(self, text: str) -> list[str]:
        # For the first i letters: the least cost of a split, and the length of its last word.
        costs, lengths = [0.0], [0]
        for end in range(1, len(text) + 1):
            splits = (
                (costs[end - length] + self.costs.get(text[end - length : end].lower(), math.inf), length)
                for length in range(1, min(end, self.longest) + 1)
            )
            cost, length = min(splits)
            costs.append(cost)
            lengths.append(length)
        words: list[str] = []
        end = len(text)
        while end > 0:
            word = text[end - lengths[end] : end]
            if words and word[-1].isdigit() and words[0][0].isdigit():
                words[0] = word + words[0]  # a number is not split
            else:
                words.insert(0, word)
            end -= lengths[end]
        return words


# ---------------------------------------------------------------------------------------------- min-dalle's texts


def normalize_for_min_dalle(text: str) -> str:
    """Normalise a text as min-dalle does; the result has one blank before each word."""
    text = emoji.demojize(text, delimiters=("", "")).lower().encode("ascii", "ignore").decode()
    return "".join(f" {word}" for word in text.split(" ") if word)


def normalizer(name: str, frequencies: str = "") -> Normalizer:
    """Select the normalisation that a preset names.

    Args:
        name: "dalle-mini" or "min-dalle".
        frequencies: content of the list of words that hashtags are split with; empty if there is no list.

    Raises:
        ValueError: if the name is unknown.
    """
    if name == "dalle-mini":
        return functools.partial(normalize_for_dalle_mini, hashtags=HashtagSplitter.read(frequencies))
    if name == "min-dalle":
        return normalize_for_min_dalle
    raise ValueError(f"There is no text normalization {name!r}; choose dalle-mini or min-dalle.")
