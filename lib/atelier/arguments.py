"""Checks of the arguments that a user gives: numbers and paths of any type are accepted, all else gets a sentence."""

from __future__ import annotations

import math
import operator
import os
from pathlib import Path
from typing import Any

from atelier.errors import AtelierError

MOST_BITS = 256  # of a whole number


def whole_number(value: Any, name: str, least: int | None = None, most: int | None = None) -> int:
    """Convert a whole number of any integer type, such as NumPy's.

    Args:
        value: the number.
        name: what it is, for the error.
        least, most: the range; None: no limit.

    Raises:
        AtelierError: if it is not a whole number, or out of range.
    """
    try:
        number = operator.index(value)
    except (TypeError, ValueError) as fault:
        raise AtelierError(f"{name} is {shown(value)}; give a whole number.") from fault
    if number.bit_length() > MOST_BITS:
        raise AtelierError(f"{name} is {shown(number)}; give a whole number of at most {MOST_BITS} bits.")
    if (least is not None and number < least) or (most is not None and number > most):
        limits = f"at least {least}" if most is None else f"from {least} to {most}"
        raise AtelierError(f"{name} is {shown(number)}; give a whole number, {limits}.")
    return number


def real_number(value: Any, name: str) -> float:
    """Convert a number of any real type.

    Args:
        value: the number.
        name: what it is, for the error.

    Raises:
        AtelierError: if it is not a number, or NaN or infinite.
    """
    try:
        number = math.nan if isinstance(value, str | bytes) else float(value)
    except (TypeError, ValueError, RuntimeError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise AtelierError(f"{name} is {shown(value)}; give a finite number.")
    return number


def shown(value: Any, most: int = 60) -> str:
    """Write a value for an error message: on one line, shortened, and whatever its own `__repr__` does."""
    if isinstance(value, int) and value.bit_length() > MOST_BITS:
        return f"a number of {value.bit_length()} bits"  # Python refuses to write a number of more than 4300 digits
    try:
        text = " ".join(repr(value).split())
    except Exception:  # a user's class may raise anything
        text = f"a {type(value).__name__}"
    text = text.encode("utf-8", "backslashreplace").decode()
    return text if len(text) <= most else f"{text[: most - 1]}…"


def user_path(path: str | Path) -> Path:
    """Convert a path in which "~" is the user's folder.

    Raises:
        AtelierError: if it is not a path, or has characters that no path can have.
    """
    try:
        os.fsencode(path)
        if "\0" in str(path):
            raise ValueError("it contains a null character")
        return Path(path).expanduser()
    except (TypeError, ValueError, RuntimeError) as fault:  # RuntimeError: there is no such user
        raise AtelierError(f"{shown(path)} cannot be used as a path: {str(fault).rstrip('.')}.") from fault
