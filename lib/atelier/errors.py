"""Errors that a user can correct. All other exceptions are bugs."""

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

OPTIONAL_PACKAGES = {  # module → distribution of every package in an extra of pyproject.toml that the library imports
    "emoji": "emoji",
    "ftfy": "ftfy",
    "huggingface_hub": "huggingface_hub",
    "ipywidgets": "ipywidgets",
    "matplotlib": "matplotlib",
    "onnx": "onnx",
    "onnxscript": "onnxscript",
    "open_clip": "open_clip_torch",
    "segno": "segno",
    "starlette": "starlette",
    "torchvision": "torchvision",
    "transformers": "transformers",
    "unidecode": "unidecode",
    "uvicorn": "uvicorn",
}


class AtelierError(ValueError):
    """The base class of all errors for the user; the shell and the page show only the message, without a traceback.

    The message says in one or two sentences what was given, what was expected, and what to do. The class is a subclass
    of ValueError, so that other programs can catch it without importing it.
    """


class FileError(AtelierError, OSError):
    """A file or folder that the user named cannot be read or written."""


class MissingPackageError(AtelierError):
    """A package is not installed that only a part of the course needs."""


@contextmanager
def missing_packages() -> Generator[None]:
    """Convert the ModuleNotFoundError of an optional package to a MissingPackageError, which says how to install it.

    Raises:
        MissingPackageError: if one of OPTIONAL_PACKAGES is imported in the context and is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as fault:
        distribution = OPTIONAL_PACKAGES.get((fault.name or "").partition(".")[0])
        if distribution is None:
            raise
        sentence = f"This needs the package {distribution}, which is not installed: pip install {distribution}."
        raise MissingPackageError(sentence) from fault


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
