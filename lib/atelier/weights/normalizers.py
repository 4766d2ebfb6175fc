"""How the texts of the published models are normalised before their tokenizers see them.

DALL·E Mini was trained on normalised captions: plain lower-case ASCII, commas for most punctuation, words for emoji,
and hashtags split into words. A prompt has to be normalised in the same way. min-dalle does less: words for emoji,
lower case, and only ASCII.

Hashtags are split with a list of words, the most frequent first, that the project published beside its model
(enwiki-words-frequency.txt). Without the list a hashtag only loses its #.

The rules follow src/dalle_mini/model/text.py of DALL·E Mini, rule for rule (copyright 2021 The DALL·E mini Authors,
Apache License 2.0). Changed are: emoji become words first, <person> is always replaced by the same words, a tag by a
blank, and the splitting of hashtags is computed without a second search. The class Words follows the HashtagProcessor
there, which is adapted from wordninja (copyright 2017 Derek Anderson, MIT licence). See NOTICE.
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
