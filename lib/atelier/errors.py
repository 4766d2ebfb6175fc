"""Errors that a user can correct. All other exceptions are bugs."""

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path


class AtelierError(ValueError):
    """The base class of all errors for the user; the shell and the page show only the message, without a traceback.

    The message says in one or two sentences what was given, what was expected, and what to do. The class is a subclass
    of ValueError, so that other programs can catch it without importing it.
    """


class FileError(AtelierError, OSError):
    """A file or folder that the user named cannot be read or written."""


@contextmanager
def file_errors(path: str | Path) -> Generator[None]:
    """Convert an OSError to a FileError whose message names the file.

    Args:
        path: the file or folder to name if the OSError does not name one.

    Raises:
        FileError: if an OSError is raised in the context.
    """
    try:
        yield
    except AtelierError:
        raise
    except OSError as fault:
        reason = fault.strerror or fault
        raise FileError(f"{fault.filename or path} cannot be read or written: {reason}.") from fault
