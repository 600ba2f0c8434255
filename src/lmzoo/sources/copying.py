"""Sources whose documents say something for the first time, and then again: what comes is in the document itself.

Copying: a list of words, a sign, and the list once more. Induction: different words in any order, until one of them
comes again, and with it all that followed it (the task of the "induction heads" of Olsson et al. 2022, In-context
Learning and Induction Heads). No table of counts can hold what is new in every document: the past must be looked up.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple, final

import numpy as np
from numpy.typing import NDArray

from lmzoo.sources.source import FIRST_WORD, Source, chance_to_end
from lmzoo.stream import EOT, TokenStream


class Place(NamedTuple):
    """What was said for the first time, and how much of it has come again."""

    first: tuple[int, ...]
    again: int | None = None
    """Up to which place `first` has come again; None = it is still being said."""

    def said_again(self) -> Place:
        """After one more token of the second time."""
        return self._replace(again=(self.again or 0) + 1)

    @property
    def following(self) -> int | None:
        """What must come: the next of what comes again, or the end; None = that is open."""
        if self.again is None:
            return None
        return self.first[self.again] if self.again < len(self.first) else EOT


@final
class Copying(Source[Place]):
    """So many words as one of `lengths`, any number of them alike, then the sign `words[-1]`, then the same words."""

    def __init__(self, words: Sequence[str], lengths: range) -> None:
        super().__init__(words, ignorance=math.log(len(words) - 1))
        self._lengths = lengths
        *self._list_ids, self._sign = range(FIRST_WORD, self.vocab_size)

    @property
    def entropy(self) -> float:
        mean = float(np.mean(self._lengths))
        return (math.log(len(self._lengths)) + mean * math.log(len(self._list_ids))) / (2 * mean + 2)

    def decisive(self, stream: TokenStream) -> NDArray[np.bool_]:
        """The words when they come again."""
        return _comes_again(self, stream)

    def initial_state(self) -> Place:
        return Place(())

    def advance(self, state: Place, token_id: int) -> Place:
        if token_id == EOT:
            return Place(())
        if not self._probs(state).get(token_id):
            return state
        if state.again is not None:
            return state.said_again()
        return state._replace(again=0) if token_id == self._sign else Place((*state.first, token_id))

    def next_log_probs(self, state: Place) -> NDArray[np.float64]:
        return self._log_distribution(self._probs(state))

    def _probs(self, state: Place) -> dict[int, float]:
        if state.following is not None:
            return {state.following: 1.0}
        ends = chance_to_end(len(state.first), self._lengths)
        return dict.fromkeys(self._list_ids, (1 - ends) / len(self._list_ids)) | {self._sign: ends}


@final
class Induction(Source[Place]):
    """So many different words as one of `lengths`, then one of them again, but the last, and what followed it."""

    def __init__(self, words: Sequence[str], lengths: range) -> None:
        super().__init__(words, ignorance=math.log(len(words)))
        self._lengths = lengths

    @property
    def entropy(self) -> float:
        n_words = len(self.words)
        orders = [sum(math.log(n_words - place) for place in range(length)) for length in self._lengths]
        seams = [math.log(length - 1) for length in self._lengths]
        sizes = [length + (length + 2) / 2 + 1 for length in self._lengths]  # 2 to `length` words come again
        return float((math.log(len(self._lengths)) + np.mean(orders) + np.mean(seams)) / np.mean(sizes))

    def decisive(self, stream: TokenStream) -> NDArray[np.bool_]:
        """The words that come again, but for the first of them, which nobody can know."""
        return _comes_again(self, stream)

    def initial_state(self) -> Place:
        return Place(())

    def advance(self, state: Place, token_id: int) -> Place:
        if token_id == EOT:
            return Place(())
        if not self._probs(state).get(token_id):
            return state
        if state.again is not None:
            return state.said_again()
        if token_id in state.first:
            return state._replace(again=state.first.index(token_id) + 1)
        return Place((*state.first, token_id))

    def next_log_probs(self, state: Place) -> NDArray[np.float64]:
        return self._log_distribution(self._probs(state))

    def _probs(self, state: Place) -> dict[int, float]:
        if state.following is not None:
            return {state.following: 1.0}
        first = state.first
        ends = chance_to_end(len(first), self._lengths)
        new = [token_id for token_id in range(FIRST_WORD, self.vocab_size) if token_id not in first]
        shares = dict.fromkeys(new, (1 - ends) / max(1, len(new)))
        return shares | dict.fromkeys(first[:-1], ends / max(1, len(first) - 1))


def _comes_again(source: Source[Place], stream: TokenStream) -> NDArray[np.bool_]:
    """(T,) where a word was said before and must come; not where the end must."""
    mask = np.zeros(len(stream), bool)
    state = source.initial_state()
    for position, token_id in enumerate(stream.ids.tolist()):
        mask[position] = state.following not in (None, EOT)
        state = source.advance(state, token_id)
    return mask


_THINGS = (
    "red orange yellow green blue purple black white brown pink apple pear plum cherry lemon peach "
    "melon fig dog cat cow hen pig goat fox owl"
)


def copying() -> Copying:
    """A list of 5 to 12 words, "again", and the list again."""
    return Copying([*_THINGS.split()[:16], "again"], range(5, 13))


def induction() -> Induction:
    """8 to 16 different words, one of them again, and what followed it."""
    return Induction(_THINGS.split(), range(8, 17))
