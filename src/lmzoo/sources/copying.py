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
    """The state of a `Repetition` source: the words that the document has listed, and the next word to repeat.

    Each document of such a source lists random words, and then repeats all or some of them in the same order.
    """

    first: tuple[int, ...]
    """Token ids that occurred for the first time, in order."""
    n_repeated: int | None = None
    """Index in `first` of the next word to repeat; None before the repetition starts."""

    @property
    def required(self) -> int | None:
        """The id of the only possible next token: the next repeated word, or EOT (end of text) after the last one.

        None if the repetition has not started, so that several tokens are possible.
        """
        if self.n_repeated is None:
            return None
        return self.first[self.n_repeated] if self.n_repeated < len(self.first) else EOT


class Repetition(Source[RepetitionState]):
    """A text source (a generator of random text) whose documents list random words, and then repeat words of this list.

    Once the repetition has started, the rest of the document is determined.
    """

    _lengths: range
    """The possible numbers of new words, all equally likely."""

    @abstractmethod
    def _advance_first(self, state: RepetitionState, token_id: int) -> RepetitionState:
        """Returns the state of the source after one more token of a document, before the document repeats any words.

        The token is another word of the list, or the token that starts the repetition of the list.
        """

    @abstractmethod
    def _first_probs(self, first: tuple[int, ...]) -> Mapping[int, float]:
        """Returns the probabilities of the next token of a document, by id, before the document repeats any words.

        `first` are the ids of the words so far. The next token is a further word, or the token that starts the
        repetition.
        """

    def target_mask(self, stream: TokenStream) -> NDArray[np.bool_]:
        """Returns a mask (T,) that is True at each repeated word, in a stream of T tokens.

        Each document lists random words, and then repeats words of this list. The token that starts the repetition is
        random, and the end of a document is easy to predict, so both are excluded.
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
    """A random generator of documents that are a list of random words, a separator, and the same list again.

    The separator is the last of `words`. The length of the list is chosen uniformly from `lengths`. A word can occur
    several times in a list.
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
    """A random generator of documents that list distinct words, and then repeat the list from one of its words on.

    An example is "fig dog cat hen dog cat hen". The repetition starts at a random word of the list, but not at the last
    one. The length of the list is chosen uniformly from `lengths`.
    """

    def __init__(self, words: Sequence[str], lengths: range) -> None:
        super().__init__(words, baseline_nats=math.log(len(words)))
        self._lengths = lengths

    @property
    def entropy(self) -> float:
        n_words = len(self.words)
        orders = [sum(math.log(n_words - index) for index in range(length)) for length in self._lengths]
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
    """Creates a random generator of documents that are a list of 5 to 12 words, the word "again" and the same list."""
    return Copying([*_THINGS.split()[:16], "again"], range(5, 13))


def induction() -> Induction:
    """Creates a random generator of documents that list distinct words and then repeat the end of the list.

    Each document lists 8 to 16 words. A random word of the list follows, and after it the words that followed it in the
    list. An example with a shorter list is "fig dog cat hen dog cat hen".
    """
    return Induction(_THINGS.split(), range(8, 17))
