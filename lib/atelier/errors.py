"""Errors that a user can mend. All other exceptions are faults of the program."""

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path


class AtelierError(ValueError):
    """The root of all errors that are meant for the user; the shell and the page show the message alone.

    The message is a sentence or two: what was given, what was expected, what to do. It is a ValueError, so that code
    which knows nothing of this class can catch it.
    """


class FileError(AtelierError, OSError):
    """A file or folder that the user named cannot be read or written."""


@contextmanager
def file_errors(path: str | Path) -> Generator[None]:
    """Turn an OSError into a FileError whose message names the file; where the OSError names none, `path`."""
    try:
        yield
    except AtelierError:
        raise
    except OSError as fault:
        reason = fault.strerror or fault
        raise FileError(f"{fault.filename or path} cannot be read or written: {reason}.") from fault
