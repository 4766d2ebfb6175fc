"""What is wrong with a request to the page, in one sentence."""

from __future__ import annotations

from atelier.errors import AtelierError


class PageError(AtelierError):
    """A request to the page cannot be fulfilled; the message says why in one sentence.

    Attributes:
        status: the HTTP status of the answer.
    """

    def __init__(self, sentence: str, status: int = 400) -> None:
        super().__init__(sentence)
        self.status = status


class PortError(PageError, OSError):
    """The page cannot be served at an address and port."""
