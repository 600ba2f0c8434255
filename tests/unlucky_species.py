"""A unigram model whose training can fail, for tests."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Self

from lmzoo import zoo
from lmzoo.errors import TrainingError
from lmzoo.models.baselines import ContextIndependentModel


class UnluckyUnigram(ContextIndependentModel):
    """A unigram model whose training fails if `fails` is True."""

    def __init__(self, vocab_size: int, *, fails: bool) -> None:
        super().__init__(vocab_size, alpha=1)
        self._fails = fails

    def fit(self, *args: Any, **kwargs: Any) -> Self:
        if self._fails:
            raise TrainingError("bad luck")
        return super().fit(*args, **kwargs)


def unlucky(vocab_size: int, *, fails: bool = True) -> UnluckyUnigram:
    """Creates a unigram model whose training fails, unless `fails` is False."""
    return UnluckyUnigram(vocab_size, fails=fails)


@contextmanager
def unlucky_species() -> Iterator[str]:
    """Registers the species "unlucky" inside the `with` block, and yields its name."""
    card = zoo.Card("unlucky", "unlucky_species:unlucky", "Mine", 2026, "-", "-", "-", "-", "-", "-")
    zoo.register(card)
    try:
        yield card.name
    finally:
        del zoo._registered[card.name]
