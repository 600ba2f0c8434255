"""A session in which one person votes on comparisons, one after the other; each vote is saved immediately."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lmzoo.chat.preferences import append_rankings
from lmzoo.chat.voting import Comparison
from lmzoo.errors import UsageError


class VotingSession:
    """A session in which one rater votes on comparisons.

    `comparisons` are shown in the given order. `votes` is the file to which each vote is appended immediately, and
    `rater` is the name of the rater.
    """

    def __init__(self, comparisons: Sequence[Comparison], votes: Path, rater: str) -> None:
        self._waiting = list(reversed(comparisons))
        self._voted: list[tuple[Comparison, str]] = []
        self._path, self._rater = votes, rater

    @property
    def current(self) -> Comparison | None:
        """The comparison to vote on; None if all have been shown."""
        return self._waiting[-1] if self._waiting else None

    @property
    def n_left(self) -> int:
        """Number of comparisons that are still to be shown in this session, including the current one.

        A comparison that was skipped is not shown again, so it is not counted, although it has no vote.
        """
        return len(self._waiting)

    @property
    def n_votes(self) -> int:
        """Number of comparisons on which the rater has voted in this session."""
        return len(self._voted)

    @property
    def last_vote(self) -> tuple[Comparison, str] | None:
        """The comparison of the last vote with the choice, "1", "2" or "tie"; None before the first vote."""
        return self._voted[-1] if self._voted else None

    def vote(self, choice: str) -> None:
        """Saves a vote on the current comparison, and returns when the vote is on the disk.

        `choice` is "1" or "2" if the first or the second reply is better, and "tie" if they are equally good. Raises
        UsageError for any other choice, and if there is no comparison left.
        """
        if self.current is None:
            raise UsageError("there is no comparison left to vote on")
        append_rankings(self._path, [self.current.vote(choice, self._rater)])
        self._voted.append((self._waiting.pop(), choice))

    def skip(self) -> None:
        """Goes on to the next comparison without a vote; raises UsageError if there is no comparison left."""
        if self.current is None:
            raise UsageError("there is no comparison left to skip")
        self._waiting.pop()

    def undo(self) -> None:
        """Makes the comparison of the last vote the current one again, so that the rater can vote anew.

        The earlier vote stays in the file, and does not count after the new one. Raises UsageError if there is no vote
        in this session.
        """
        if not self._voted:
            raise UsageError("there is no vote in this session that could be undone")
        self._waiting.append(self._voted.pop()[0])
