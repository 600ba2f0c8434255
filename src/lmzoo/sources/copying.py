"""Sources whose documents repeat themselves: the next token can be predicted only from the document itself.

Copying: a list of words, a separator, and the same list again. Induction: different words in random order, until one of
them is repeated, with all words that followed it (the task of the "induction heads" of Olsson et al. 2022, In-context
Learning and Induction Heads). Counts from training text do not help, because the lists differ in every document: a
model must retrieve them from its context.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import NamedTuple, final

import numpy as np
from numpy.typing import NDArray

from lmzoo.sources.source import FIRST_WORD, Source, end_probability
from lmzoo.stream import EOT, TokenStream


class RepetitionState(NamedTuple):
    """The words of a document that are to be repeated, and the number of words that are already repeated."""

    first: tuple[int, ...]
    """Token ids that occurred for the first time, in order."""
    n_repeated: int | None = None
    """Index in `first` of the next word to repeat; None before the repetition starts."""

    @property
    def required(self) -> int | None:
        """The token id that must come next: the next repeated word, or EOT at the end; None if it is not determined."""
        if self.n_repeated is None:
            return None
        return self.first[self.n_repeated] if self.n_repeated < len(self.first) else EOT


class Repetition(Source[RepetitionState]):
    """A source whose documents have two parts: new words, and a repetition of them that is fully determined."""

    _lengths: range
    """The possible numbers of new words, all equally likely."""

    @abstractmethod
    def _advance_first(self, state: RepetitionState, token_id: int) -> RepetitionState:
        """Returns the state after a token of the first part, or after the token that starts the repetition."""

    @abstractmethod
    def _first_probs(self, first: tuple[int, ...]) -> Mapping[int, float]:
        """Returns the probabilities of the next token, by id, after the words `first` of the first part."""

    def target_mask(self, stream: TokenStream) -> NDArray[np.bool_]:
        """Returns a mask (T,) that is True at the repeated words of T tokens, which the document determines.

        The word that starts a repetition is random, and the end of a document is easy, so both are excluded.
        """
        mask = np.zeros(len(stream), bool)
        state = self.initial_state()
        for position, token_id in enumerate(stream.ids.tolist()):
            mask[position] = state.required not in (None, EOT)
            state = self.advance(state, token_id)
        return mask

    def initial_state(self) -> RepetitionState:
        return RepetitionState(())

    def advance(self, state: RepetitionState, token_id: int) -> RepetitionState:
        if token_id == EOT:
            return RepetitionState(())
        if not self._probs(state).get(token_id):
            return state
        if state.n_repeated is not None:
            return state._replace(n_repeated=state.n_repeated + 1)
        return self._advance_first(state, token_id)

    def next_log_probs(self, state: RepetitionState) -> NDArray[np.float64]:
        return self._log_distribution(self._probs(state))

    def _probs(self, state: RepetitionState) -> Mapping[int, float]:
        return self._first_probs(state.first) if state.required is None else {state.required: 1.0}


@final
class Copying(Repetition):
    """A source of lists that are written twice: random words, the separator `words[-1]`, and the same words again.

    The number of words is chosen uniformly from `lengths`. A word can occur several times in a list.
    """

    def __init__(self, words: Sequence[str], lengths: range) -> None:
        super().__init__(words, baseline_nats=math.log(len(words) - 1))
        self._lengths = lengths
        *self._list_ids, self._separator = range(FIRST_WORD, self.vocab_size)

    @property
    def entropy(self) -> float:
        mean = float(np.mean(self._lengths))
        return (math.log(len(self._lengths)) + mean * math.log(len(self._list_ids))) / (2 * mean + 2)

    def _advance_first(self, state: RepetitionState, token_id: int) -> RepetitionState:
        return (
            state._replace(n_repeated=0) if token_id == self._separator else RepetitionState((*state.first, token_id))
        )

    def _first_probs(self, first: tuple[int, ...]) -> Mapping[int, float]:
        ends = end_probability(len(first), self._lengths)
        return dict.fromkeys(self._list_ids, (1 - ends) / len(self._list_ids)) | {self._separator: ends}


@final
class Induction(Repetition):
    """A source of distinct random words, after which one of them (not the last) and all that followed it are repeated.

    The number of distinct words is chosen uniformly from `lengths`.
    """

    def __init__(self, words: Sequence[str], lengths: range) -> None:
        super().__init__(words, baseline_nats=math.log(len(words)))
        self._lengths = lengths

    @property
    def entropy(self) -> float:
        n_words = len(self.words)
        orders = [sum(math.log(n_words - place) for place in range(length)) for length in self._lengths]
        starts = [math.log(length - 1) for length in self._lengths]
        sizes = [length + (length + 2) / 2 + 1 for length in self._lengths]  # 2 to `length` words are repeated
        return float((math.log(len(self._lengths)) + np.mean(orders) + np.mean(starts)) / np.mean(sizes))

    def _advance_first(self, state: RepetitionState, token_id: int) -> RepetitionState:
        if token_id in state.first:
            return state._replace(n_repeated=state.first.index(token_id) + 1)
        return RepetitionState((*state.first, token_id))

    def _first_probs(self, first: tuple[int, ...]) -> Mapping[int, float]:
        ends = end_probability(len(first), self._lengths)
        new = [token_id for token_id in range(FIRST_WORD, self.vocab_size) if token_id not in first]
        probs = dict.fromkeys(new, (1 - ends) / max(1, len(new)))
        return probs | dict.fromkeys(first[:-1], ends / max(1, len(first) - 1))


_THINGS = (
    "red orange yellow green blue purple black white brown pink apple pear plum cherry lemon peach "
    "melon fig dog cat cow hen pig goat fox owl"
)


def copying() -> Copying:
    """Creates the source of lists of 5 to 12 words, each followed by the word "again" and the same list."""
    return Copying([*_THINGS.split()[:16], "again"], range(5, 13))


def induction() -> Induction:
    """Creates the source of 8 to 16 distinct words, after which one of them and all that followed it are repeated."""
    return Induction(_THINGS.split(), range(8, 17))
