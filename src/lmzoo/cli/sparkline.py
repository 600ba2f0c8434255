"""A curve drawn in one line of text, such as ▇▅▃▂▂▁, which grows while a loss is measured."""

from __future__ import annotations

from typing import Final, final

_BARS: Final = "▁▂▃▄▅▆▇█"
_WIDTH: Final = 16
"""Number of characters of a whole curve."""


@final
class Sparkline:
    """A curve of numbers over the progress of some work; each character shows the mean over a sixteenth of the work."""

    def __init__(self) -> None:
        self._sums = [0.0] * _WIDTH
        self._counts = [0] * _WIDTH

    def add(self, share: float, value: float) -> None:
        """Adds a number that was measured when the given share of the work, from 0 to 1, was done."""
        index = min(int(_WIDTH * share), _WIDTH - 1)
        self._sums[index] += value
        self._counts[index] += 1

    def __str__(self) -> str:
        """Returns the curve so far, from the highest bar for the largest mean to the lowest for the smallest."""
        means = [total / count for total, count in zip(self._sums, self._counts, strict=True) if count]
        if not means:
            return ""
        low, high = min(means), max(means)
        steps = (len(_BARS) - 1) / (high - low) if high > low else 0.0
        return "".join(_BARS[round((mean - low) * steps)] for mean in means)
