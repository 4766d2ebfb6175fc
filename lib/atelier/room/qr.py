"""The QR code of an address, drawn as the path of an SVG element."""

from __future__ import annotations

from typing import NamedTuple

import segno


class QrPath(NamedTuple):
    """A QR code without its margin.

    Attributes:
        path: of an SVG element, one unit to a module; the dark modules are filled.
        size: modules on a side.
    """

    path: str
    size: int


def qr_path(text: str) -> QrPath:
    """Draw the QR code of a text (ISO/IEC 18004, error correction level M)."""
    modules = segno.make_qr(text, error="m", boost_error=False).matrix
    path = "".join(
        f"M{column} {row}h1v1h-1z" for row, line in enumerate(modules) for column, dark in enumerate(line) if dark
    )
    return QrPath(path, len(modules))
