"""Checks of prompts, and remarks about prompts with unknown words or too many tokens."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from atelier.arguments import shown
from atelier.errors import AtelierError
from atelier.weights.tokenizer import Tokenizer, clean_texts, words_of

MIN_SIMILARITY = 0.75  # between a word and its misspelling, by difflib's ratio
MAX_SIMILAR = 2  # similar words to suggest for an unknown word
MAX_NAMED = 5  # unknown words to name in a remark


class PromptError(AtelierError):
    """A prompt that cannot be drawn; the message says why."""


def checked_prompts(prompts: Sequence[str], tokenizer: Tokenizer) -> list[str]:
    """Clean prompts as the tokenizer does, so that they can be shown and saved.

    Raises:
        PromptError: if there are no prompts, or if a prompt is empty or not a string.
    """
    if not isinstance(prompts, Sequence) or isinstance(prompts, bytes) or not prompts:
        raise PromptError(f"The prompt is {shown(prompts)}; give a string, or a list of strings.")
    checked = [checked_prompt(prompt) for prompt in prompts]
    for prompt in checked:
        if not "".join(tokenizer.pieces(prompt)).strip():
            raise PromptError("The prompt is empty; say what to draw, for example “a blue strawberry on the moon”.")
    return checked


def checked_prompt(prompt: str) -> str:
    """Remove lone surrogates from a prompt, since they can be neither shown nor saved.

    Raises:
        PromptError: if it is not a string.
    """
    if not isinstance(prompt, str):
        raise PromptError(f"The prompt is {shown(prompt)}; give a string.")
    return clean_texts([prompt])[0]


def remark_on_words(prompt: str, known: Sequence[str], preset: str) -> str | None:
    """Write a sentence about the words of a prompt that a preset does not know.

    Args:
        prompt: the prompt.
        known: all words that the preset knows; empty if it has no closed vocabulary.
        preset: the name of the preset.

    Returns:
        The sentence; None if the preset knows all words.
    """
    unknown = unknown_words(prompt, known)
    if unknown:
        named = ", ".join(f"“{shortened(word)}”" for word in unknown[:MAX_NAMED])
        more = f" and {len(unknown) - MAX_NAMED} more" if len(unknown) > MAX_NAMED else ""
        similar = dict.fromkeys(other for word in unknown[:MAX_NAMED] for other in similar_words(word, known))
        end = f"; did you mean {' or '.join(similar)}?" if similar else ", so its pictures cannot show that."
        return f"The {preset} preset never saw {named}{more}{end}"
    if known and not words_of(prompt):
        return f"The prompt has no word that the {preset} preset knows, so its pictures cannot show it."
    return None


def remark_on_length(prompt: str, tokenizer: Tokenizer, text_length: int) -> str | None:
    """Write a sentence if a prompt has more tokens than a translator reads; else return None.

    Args:
        prompt: the prompt.
        tokenizer: the translator's tokenizer.
        text_length: the translator's `text_length`, which includes the start and the end token.
    """
    count, room = len(tokenizer.pieces(prompt)), text_length - 2
    if count <= room:
        return None
    return f"The prompt has {count} tokens, but the model reads only the first {room}; the rest is cut off."


def unknown_words(prompt: str, known: Sequence[str]) -> list[str]:
    """List the words of a prompt that are not known, each once; if `known` is empty, return an empty list."""
    words = set(known)
    parts = [part for word in words_of(prompt) for part in ([word] if word in words else _parts(word))]
    return [part for part in dict.fromkeys(parts) if part not in words] if words else []


def _parts(word: str) -> list[str]:
    """Split a word at its hyphens and remove the genitive 's, as the tokenizer does."""
    return [part.removesuffix("'s") for part in word.split("-")]


def similar_words(word: str, known: Sequence[str]) -> list[str]:
    """List up to MAX_SIMILAR known words of which a word may be a misspelling, the most similar first."""
    long_enough = [each for each in known if len(each) > 2]  # "a" and "in" are similar to every short word
    return difflib.get_close_matches(word[:40], long_enough, n=MAX_SIMILAR, cutoff=MIN_SIMILARITY)


def shortened(text: str, length: int = 30) -> str:
    """Shorten a string to at most `length` characters."""
    return text if len(text) <= length else text[: length - 1] + "…"
