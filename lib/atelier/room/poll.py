"""The poll: which claim of a lesson do you doubt?"""

from __future__ import annotations

from typing import Any

from atelier.page.faults import PageError

QUESTION = "Which claim do you doubt?"
NO_DOUBT = "I doubt none of them."


class Poll:
    """A poll about the claims of one lesson. A participant has one vote and may change it while the poll is open.

    Args:
        number: of the poll, so that a vote for an earlier one is not counted here.
        lesson: the lesson's key.
        claims: the words of its claims.
    """

    def __init__(self, number: int, lesson: str, claims: list[str]) -> None:
        self.number, self.lesson = number, lesson
        self.choices = [*claims, NO_DOUBT]
        self.open = True
        self._votes: dict[str, int] = {}

    def vote(self, token: str, number: Any, choice: Any) -> None:
        """Count a participant's vote.

        Raises:
            PageError: if the poll is closed or is another one, or if there is no such choice.
        """
        if number != self.number or not self.open:
            raise PageError("This poll is closed.", 409)
        if isinstance(choice, bool) or not isinstance(choice, int) or not 0 <= choice < len(self.choices):
            raise PageError(f"There is no such choice; give a number from 0 to {len(self.choices) - 1}.")
        self._votes[token] = choice

    def clear(self) -> None:
        """Remove all votes."""
        self._votes.clear()

    @property
    def counts(self) -> list[int]:
        """The votes for each choice."""
        votes = list(self._votes.values())
        return [votes.count(choice) for choice in range(len(self.choices))]

    def described(self) -> dict[str, Any]:
        """The poll and its votes as a JSON object."""
        return {
            "number": self.number,
            "lesson": self.lesson,
            "open": self.open,
            "question": QUESTION,
            "choices": self.choices,
            "counts": self.counts,
        }
