"""The code with which participants join a room."""

from __future__ import annotations

import re
import secrets

from atelier.errors import AtelierError

LETTERS = (
    "BCDFGHJKMNPQRSTVWXYZ23456789"  # without vowels, so that no words arise, and without 0, 1, L, which look alike
)
LENGTH = 4


def new_code() -> str:
    """Make a code at random: one of 28⁴ = 614,656."""
    return "".join(secrets.choice(LETTERS) for _ in range(LENGTH))


def cleaned_code(code: str) -> str:
    """Write a code as `new_code` does: without spaces and dashes, in capital letters."""
    return re.sub(r"[\s-]", "", code).upper()


def checked_code(code: str) -> str:
    """Check a code that the instructor chooses.

    Raises:
        AtelierError: if it is not made of 4 to 12 letters and digits of the Latin alphabet.
    """
    cleaned = cleaned_code(code)
    if not re.fullmatch(r"[A-Z0-9]{4,12}", cleaned):
        raise AtelierError(f"The code is {code[:20]!r}; give 4 to 12 of the letters A to Z and digits.")
    return cleaned
