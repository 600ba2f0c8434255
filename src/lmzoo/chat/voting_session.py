"""A session in which one person votes: the comparisons one after the other, with each vote saved at once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lmzoo.chat.preferences import append_rankings
from lmzoo.chat.voting import Comparison
from lmzoo.errors import UsageError


class VotingSession:
    """The votes of one rater on several comparisons, which are appended to the file `votes`, each at once.

    `comparisons` are shown in the given order; `rater` is the name of the person.
    """

    def __init__(self, comparisons: Sequence[Comparison], votes: Path, rater: str) -> None:
        self._waiting = list(reversed(comparisons))
        self._voted: list[Comparison] = []
        self._path, self._rater = votes, rater

    @property
    def current(self) -> Comparison | None:
        """The comparison to vote on; None if there are no more."""
        return self._waiting[-1] if self._waiting else None

    @property
    def n_left(self) -> int:
        """Number of comparisons without a vote, the current one included."""
        return len(self._waiting)

    @property
    def n_votes(self) -> int:
        """Number of comparisons on which the rater has voted in this session."""
        return len(self._voted)

    def vote(self, choice: str) -> None:
        """Saves a vote on the current comparison, "1", "2" or "tie", and returns when it is on the disk.

        Raises UsageError for another choice, and if there is no comparison left.
        """
        if self.current is None:
            raise UsageError("there is no comparison left to vote on")
        append_rankings(self._path, [self.current.vote(choice, self._rater)])
        self._voted.append(self._waiting.pop())

    def skip(self) -> None:
        """Leaves the current comparison without a vote; raises UsageError if there is none left."""
        if self.current is None:
            raise UsageError("there is no comparison left to skip")
        self._waiting.pop()

    def undo(self) -> None:
        """Makes the last comparison with a vote the current one again; its next vote replaces the one in the file.

        Raises UsageError if no vote was given in this session.
        """
        if not self._voted:
            raise UsageError("there is no vote in this session that could be undone")
        self._waiting.append(self._voted.pop())
