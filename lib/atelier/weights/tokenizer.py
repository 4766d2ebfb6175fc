"""A byte-level BPE tokenizer (Sennrich et al. 2016, section 3.2; Radford et al. 2019, section 2.2).

Its ids 0 to 3 are BART's: <s>, <pad>, </s>, <unk>. Every byte has its own id, so every text can be encoded and <unk>
never occurs. The translator and the CLIP of a preset share one tokenizer.
"""

import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Protocol, Self

import tokenizers
import torch
from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers, processors, trainers
from torch import Tensor

from atelier.errors import AtelierError

SPECIAL_TOKENS = ("<s>", "<pad>", "</s>", "<unk>")
START, PAD, END, UNKNOWN = range(4)


class TokenizerError(AtelierError):
    """A tokenizer cannot be read or trained; the message says why."""


class MissingTokenizerError(TokenizerError, FileNotFoundError):
    """There is no file with a tokenizer."""


class TokenizerLike(Protocol):
    """The common interface of our tokenizers and those of published models."""

    def encode(self, texts: Sequence[str], length: int) -> Tensor:
        """Encode texts as ids (n, t), where t is at most `length`."""
        ...


class Tokenizer:
    """A trained byte-level BPE tokenizer.

    A tokenizer of `train_tokenizer` normalises a text first: it converts it to Unicode's NFKC form and to lower case,
    removes control characters and other invisible characters, and replaces white space with single blanks.

    Args:
        backend: the tokenizer of the `tokenizers` library.
        normalize: applied to each text before the backend's own normalisation. It is not saved.

    Raises:
        ValueError: if the backend's ids 0 to 3 are not <s>, <pad>, </s>, <unk>.
    """

    def __init__(self, backend: tokenizers.Tokenizer, normalize: Callable[[str], str] | None = None) -> None:
        found = tuple(backend.id_to_token(i) for i in range(len(SPECIAL_TOKENS)))
        if found != SPECIAL_TOKENS:
            raise ValueError(f"A tokenizer's ids 0 to 3 must be {SPECIAL_TOKENS}, but these are {found}.")
        backend.no_truncation()  # both may be set in a file; `encode` does the same to the length that it is asked for
        backend.no_padding()
        backend.encode_special_tokens = True  # "</s>" in a prompt is text, not the end token
        self._backend, self._normalize = backend, normalize

    @classmethod
    def from_file(cls, path: str | Path, normalize: Callable[[str], str] | None = None) -> Self:
        """Read a tokenizer.json.

        Args:
            path: the path of the file.
            normalize: see `Tokenizer`.

        Returns:
            The tokenizer.

        Raises:
            MissingTokenizerError: if there is no such file.
            TokenizerError: if the file is not a tokenizer.json, or if its special tokens are not BART's.
        """
        path = Path(path)
        if not path.is_file():
            raise MissingTokenizerError(f"There is no tokenizer at {path}; train one or choose another preset.")
        try:
            return cls(tokenizers.Tokenizer.from_str(path.read_text(encoding="utf-8")), normalize)
        except Exception as error:  # the library raises bare Exception for a file that it cannot read
            raise TokenizerError(f"{path} is not a usable tokenizer: {error}") from error

    def save(self, path: str | Path) -> None:
        """Write a tokenizer.json. Equal tokenizers give equal files."""
        Path(path).write_bytes(self.content())

    def content(self) -> bytes:
        """The content of a tokenizer.json."""
        return (self._backend.to_str(pretty=True) + "\n").encode()

    def __len__(self) -> int:
        """The number of ids, and so of rows of a text embedding."""
        return self._backend.get_vocab_size()

    def encode(self, texts: Sequence[str], length: int) -> Tensor:
        """Encode texts as ids.

        Args:
            texts: captions or prompts, any strings.
            length: tokens in a row. Shorter texts are padded with <pad>, longer ones truncated; </s> is always kept.

        Returns:
            (n, length) int64 of the form <s> … </s> <pad> ….

        Raises:
            TypeError: if texts is a single string, or if an item is not a string.
            ValueError: if length is less than 2.
        """
        if length < 2:
            raise ValueError(f"length is {length}; <s> and </s> alone need 2.")
        encoded = self._backend.encode_batch(self._normalized(texts), add_special_tokens=False)
        rows = [[START, *pieces.ids[: length - 2], END] for pieces in encoded]
        padded = [row + [PAD] * (length - len(row)) for row in rows]
        return torch.tensor(padded, dtype=torch.long).view(len(texts), length)

    def empty_caption(self, length: int) -> Tensor:
        """The ids (length,) of the empty caption, <s> </s> <pad> …, with which guidance compares.

        They can differ from the ids of an empty string, to which normalisation may add a blank.
        """
        return torch.tensor([START, END] + [PAD] * (length - 2))

    def decode(self, ids: Tensor) -> list[str]:
        """Decode rows of ids (n, length) to texts without special tokens.

        Raises:
            ValueError: if ids are not two-dimensional, or out of range.
        """
        if ids.ndim != 2:
            raise ValueError(f"ids have shape {tuple(ids.shape)}; give one row per text, (n, length).")
        if ids.numel() and not 0 <= int(ids.min()) <= int(ids.max()) < len(self):
            raise ValueError(
                f"ids run from {int(ids.min())} to {int(ids.max())}; this tokenizer has 0 to {len(self) - 1}."
            )
        return [text.strip() for text in self._backend.decode_batch(ids.tolist(), skip_special_tokens=True)]

    def pieces(self, text: str) -> list[str]:
        """Split a text into the pieces that its tokens stand for; a piece that starts a word has a blank before it.

        A character that is split between tokens, such as an emoji, gives replacement characters.
        """
        encoded = self._backend.encode(self._normalized([text])[0], add_special_tokens=False)
        return [self._backend.decode([i], skip_special_tokens=False) for i in encoded.ids]

    def _normalized(self, texts: Iterable[str]) -> list[str]:
        texts = clean_texts(texts)
        return texts if self._normalize is None else [self._normalize(text) for text in texts]


def train_tokenizer(captions: Iterable[str], vocabulary: int = 1024) -> Tokenizer:
    """Train a byte-level BPE tokenizer.

    Args:
        captions: the training texts.
        vocabulary: the maximum number of ids, including the four special tokens and 256 bytes. Few captions give fewer
            ids; `len` of the tokenizer is their number.

    Returns:
        The tokenizer.

    Raises:
        TokenizerError: if the vocabulary is too small for special tokens and bytes, or if there are no captions.
        TypeError: if a caption is not a string.
    """
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    least = len(SPECIAL_TOKENS) + len(alphabet)
    if vocabulary < least:
        raise TokenizerError(f"vocabulary is {vocabulary}; the special tokens and bytes alone need {least}.")
    texts = clean_texts(captions)
    if not texts:
        raise TokenizerError("There are no captions to train with; give at least one.")
    backend = tokenizers.Tokenizer(models.BPE())
    backend.normalizer = normalizers.Sequence(
        [
            normalizers.NFKC(),
            normalizers.Lowercase(),
            normalizers.Replace(Regex(r"\s+"), " "),
            normalizers.Replace(Regex(r"[\p{Cc}\p{Cf}]"), ""),
            normalizers.Replace(Regex(r" {2,}"), " "),
            normalizers.Strip(),
        ]
    )
    # A blank before the first word as before all others; otherwise a word would have other tokens there.
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    backend.decoder = decoders.ByteLevel()
    start, end = SPECIAL_TOKENS[START], SPECIAL_TOKENS[END]
    backend.post_processor = processors.TemplateProcessing(
        single=f"{start} $A {end}", special_tokens=[(start, START), (end, END)]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        min_frequency=2,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=sorted(alphabet),
        show_progress=False,
    )
    backend.train_from_iterator(texts, trainer, length=len(texts))
    return Tokenizer(backend)


def words_of(text: str) -> list[str]:
    """Split a text into words in lower case, without punctuation; a symbol such as an emoji is a word, too."""
    words = re.findall(r"\w+(?:['-]\w+)*|[^\w\s]", text.lower().replace("’", "'"))
    return [word for word in words if word[0].isalnum() or "_" in word or is_symbol(word)]


def is_symbol(word: str) -> bool:
    """Whether a word is a symbol such as an emoji."""
    return len(word) == 1 and unicodedata.category(word) == "So"


def clean_texts(texts: Iterable[str]) -> list[str]:
    """Remove lone surrogates, which UTF-8 cannot encode.

    Raises:
        TypeError: if texts is a single string, or if an item is not a string.
    """
    if isinstance(texts, str):
        raise TypeError(f"The texts are a single string, {texts[:40]!r}; give a list of strings.")
    texts = list(texts)
    for text in texts:
        if not isinstance(text, str):
            raise TypeError(f"A text is {text!r} of type {type(text).__name__}; give strings.")
    return [text.encode("utf-8", "ignore").decode("utf-8") for text in texts]
