"""Words into numbers: a byte-level BPE tokenizer (Sennrich et al. 2016, section 3.2; Radford et al. 2019, section 2.2).

Its ids 0 to 3 are BART's: <s>, <pad>, </s>, <unk>. Every byte has an id of its own, so there is no text that it cannot
write down and <unk> never occurs. Translator and critic share one tokenizer.
"""

import re
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
    """A tokenizer that cannot be read or trained; the message says why."""


class NoTokenizerError(TokenizerError, FileNotFoundError):
    """There is no file with a tokenizer."""


class CutsText(Protocol):
    """Whatever turns texts into ids: our tokenizers, and those of published models."""

    def encode(self, texts: Sequence[str], length: int) -> Tensor:
        """One row of ids for each text, (n, t), t at most `length`."""
        ...


class Tokenizer:
    """A trained byte-level BPE tokenizer.

    One that was trained here puts text into Unicode's NFKC form, lower-cases it, frees it of control and other
    invisible characters, and makes its white space single blanks, before it cuts it into pieces.

    Args:
        backend: the tokenizer of the `tokenizers` library that does the cutting.
        normalize: what is done to each text before, beyond what the backend does itself. It is not saved.

    Raises:
        ValueError: the backend's ids 0 to 3 are not <s>, <pad>, </s>, <unk>.
    """

    def __init__(self, backend: tokenizers.Tokenizer, normalize: Callable[[str], str] | None = None) -> None:
        found = tuple(backend.id_to_token(i) for i in range(len(SPECIAL_TOKENS)))
        if found != SPECIAL_TOKENS:
            raise ValueError(f"A tokenizer's ids 0 to 3 must be {SPECIAL_TOKENS}, but these are {found}.")
        backend.encode_special_tokens = True  # a prompt that contains "</s>" means these four characters
        self._backend, self._normalize = backend, normalize

    @classmethod
    def from_file(cls, path: str | Path, normalize: Callable[[str], str] | None = None) -> Self:
        """Read a tokenizer.json.

        Raises:
            NoTokenizerError: there is no such file.
            TokenizerError: the file is not a tokenizer.json, or its special tokens are not BART's.
        """
        path = Path(path)
        if not path.is_file():
            raise NoTokenizerError(f"There is no tokenizer at {path}; train one or name another preset.")
        try:
            return cls(tokenizers.Tokenizer.from_str(path.read_text(encoding="utf-8")), normalize)
        except Exception as error:  # the library raises bare Exception for a file that it cannot read
            raise TokenizerError(f"{path} is no tokenizer that can be used here: {error}") from error

    def save(self, path: str | Path) -> None:
        """Write a tokenizer.json, byte for byte the same for the same tokenizer."""
        Path(path).write_bytes(self.content())

    def content(self) -> bytes:
        """What a tokenizer.json holds."""
        return (self._backend.to_str(pretty=True) + "\n").encode()

    def __len__(self) -> int:
        """How many ids there are: the rows of a text embedding."""
        return self._backend.get_vocab_size()

    def encode(self, texts: Sequence[str], length: int) -> Tensor:
        """Turn texts into ids.

        Args:
            texts: captions or prompts, any strings.
            length: tokens in a row. Shorter texts are filled up with <pad>, longer ones cut; </s> always stays.

        Returns:
            (n, length) int64 of the form <s> … </s> <pad> ….

        Raises:
            TypeError: texts is one string, or holds something that is no string.
            ValueError: length leaves no room for <s> and </s>.
        """
        if length < 2:
            raise ValueError(f"length is {length}; <s> and </s> alone need 2.")
        cut = self._backend.encode_batch(self._prepared(texts), add_special_tokens=False)
        rows = [[START, *pieces.ids[: length - 2], END] for pieces in cut]
        filled = [row + [PAD] * (length - len(row)) for row in rows]
        return torch.tensor(filled, dtype=torch.long).view(len(texts), length)

    def nothing(self, length: int) -> Tensor:
        """The ids (length,) of no text at all, <s> </s> <pad> …: what guidance pushes away from.

        An empty text may have more to it, such as a blank that normalisation has put there.
        """
        return torch.tensor([START, END] + [PAD] * (length - 2))

    def decode(self, ids: Tensor) -> list[str]:
        """Turn rows of ids (n, length) back into text, without the special tokens.

        Raises:
            ValueError: ids are not two-dimensional, or hold a number that is no id.
        """
        if ids.ndim != 2:
            raise ValueError(f"ids have shape {tuple(ids.shape)}; give one row per text, (n, length).")
        if ids.numel() and not 0 <= int(ids.min()) <= int(ids.max()) < len(self):
            raise ValueError(
                f"ids run from {int(ids.min())} to {int(ids.max())}; this tokenizer has 0 to {len(self) - 1}."
            )
        return [text.strip() for text in self._backend.decode_batch(ids.tolist(), skip_special_tokens=True)]

    def pieces(self, text: str) -> list[str]:
        """The pieces that a text is cut into, as one can read them: a blank in front starts a new word.

        A character that is cut through, as an emoji may be, shows as replacement characters.
        """
        encoded = self._backend.encode(self._prepared([text])[0], add_special_tokens=False)
        return [self._backend.decode([i], skip_special_tokens=False) for i in encoded.ids]

    def _prepared(self, texts: Iterable[str]) -> list[str]:
        texts = cleaned(texts)
        return texts if self._normalize is None else [self._normalize(text) for text in texts]


def train_tokenizer(captions: Iterable[str], vocabulary: int = 1024) -> Tokenizer:
    """Learn a byte-level BPE tokenizer.

    Args:
        captions: what to learn from.
        vocabulary: most ids there may be, the four special tokens and 256 bytes included. Few captions yield fewer:
            ask the tokenizer's `len`.

    Raises:
        TokenizerError: no room for special tokens and bytes, or no captions.
        TypeError: a caption that is no string.
    """
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    least = len(SPECIAL_TOKENS) + len(alphabet)
    if vocabulary < least:
        raise TokenizerError(f"vocabulary is {vocabulary}; the special tokens and bytes alone need {least}.")
    texts = cleaned(captions)
    if not texts:
        raise TokenizerError("There are no captions to learn from; give at least one.")
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
    # The first word gets a blank as every other word has, or it would be another word.
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
    """The words of a text in lower case, without punctuation."""
    return re.findall(r"\w[\w'-]*", text.lower())


def cleaned(texts: Iterable[str]) -> list[str]:
    """Check that texts are strings, and drop lone surrogates: Python can hold them, UTF-8 cannot."""
    if isinstance(texts, str):
        raise TypeError(f"The texts are the one string {texts[:40]!r}; give a list of strings.")
    texts = list(texts)
    for text in texts:
        if not isinstance(text, str):
            raise TypeError(f"A text is {text!r} of type {type(text).__name__}; give strings.")
    return [text.encode("utf-8", "ignore").decode("utf-8") for text in texts]
