"""Writing what a room shows into a folder: `atelier room --keep FOLDER`."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from atelier.errors import file_errors


class Keeper:
    """Writes pictures as they arrive, and tables when they are complete.

    A folder that can no longer be written does not end the room: `fault` says what is wrong, and nothing more is
    written.

    Args:
        folder: is created if it does not exist. Files that it contains are not overwritten.

    Raises:
        FileError: if it cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.fault = folder, ""
        with file_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
            probe = folder / ".writable"
            probe.touch()
            probe.unlink()

    def add(self, name: str, content: bytes) -> None:
        """Write a file."""
        try:
            if not self.fault:
                (self.folder / name).write_bytes(content)
        except OSError as fault:
            self.fault = f"Nothing more is kept in {self.folder}: {fault.strerror or fault}."

    def remove(self, name: str) -> None:
        """Remove a file that `add` has written."""
        try:
            (self.folder / name).unlink(missing_ok=True)
        except OSError as fault:
            self.fault = f"{name} cannot be removed from {self.folder}: {fault.strerror or fault}."

    def picture_name(self, prompt: str) -> str:
        """A name for a picture's file that is not taken, with the beginning of its prompt."""
        words = re.sub(r"[\W_]+", "-", prompt.lower()).strip("-")[:40].strip("-") or "picture"
        return self._free("picture", f"-{words}.png")

    def add_table(self, name: str, head: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
        """Write a table as CSV, with a number in its name; an empty table is not written."""
        lines = [[_harmless(str(value)) for value in row] for row in rows]
        if not lines or self.fault:
            return
        try:
            with (self.folder / self._free(name, ".csv")).open("w", newline="", encoding="utf-8") as file:
                csv.writer(file).writerows([list(head), *lines])
        except OSError as fault:
            self.fault = f"Nothing more is kept in {self.folder}: {fault.strerror or fault}."

    def _free(self, kind: str, ending: str) -> str:
        """A name that begins with a kind and a number that no other file of this kind has."""
        taken = [re.match(rf"{kind}-(\d+)", path.name) for path in self.folder.glob(f"{kind}-*")]
        number = max((int(match[1]) for match in taken if match), default=0) + 1
        return f"{kind}-{number:03}{ending}"


def _harmless(text: str) -> str:
    """A cell that a spreadsheet does not take for a formula."""
    return f"'{text}" if text.startswith(("=", "+", "-", "@")) else text
