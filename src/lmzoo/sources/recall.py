"""Associative recall: pairs of a name and a thing, where a repeated name has the same thing as before.

This is the task of Arora et al. 2023 (Zoology: Measuring and Improving Recall in Efficient Language Models), written as
running text. The pairs differ between documents, so that a model must look them up in its context.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple, final

import numpy as np
from numpy.typing import NDArray

from lmzoo.sources.source import FIRST_WORD, Source, end_probability
from lmzoo.stream import EOT, TokenStream


class Facts(NamedTuple):
    """The state of a `Recall` source: the things that a document has assigned to names, and the name read last.

    The documents of such a source are pairs of a name and a thing, such as "anna red".
    """

    things: Mapping[int, int]
    """Token id of the thing of each name, by the token id of the name."""
    n_pairs: int = 0
    """Number of pairs so far, repeated ones included."""
    name: int | None = None
    """Token id of the name whose thing comes next; None if a name or the end comes next."""


@final
class Recall(Source[Facts]):
    """A random generator of documents with pairs such as "anna red", in which each name keeps its thing.

    Names are random. The thing is random when its name occurs for the first time in a document, and the same each
    further time. The number of pairs is chosen uniformly from `lengths`.
    """

    def __init__(self, names: Sequence[str], things: Sequence[str], lengths: range) -> None:
        super().__init__([*names, *things], baseline_nats=math.log(len(things)))
        self._lengths = lengths
        self._names = range(FIRST_WORD, FIRST_WORD + len(names))
        self._things = range(self._names.stop, self.vocab_size)

    @property
    def entropy(self) -> float:
        n_names, n_things = len(self._names), len(self._things)
        other = 1 - 1 / n_names  # to the power i: probability that the name of pair i is new
        new = np.mean([sum(other**position for position in range(length)) for length in self._lengths])
        mean = np.mean(self._lengths)
        nats = math.log(len(self._lengths)) + mean * math.log(n_names) + new * math.log(n_things)
        return float(nats / (2 * mean + 1))

    def target_mask(self, stream: TokenStream) -> NDArray[np.bool_]:
        """Returns a mask (T,) that is True at the tokens that can be looked up in the document before them.

        Documents are pairs such as "anna red", in which a name is followed by the same thing each time. The mask is
        True at the thing of each pair whose name occurred in an earlier pair. T is the number of tokens of the stream.
        """
        mask = np.zeros(len(stream), bool)
        state = self.initial_state()
        for position, token_id in enumerate(stream.ids.tolist()):
            mask[position] = state.name in state.things
            state = self.advance(state, token_id)
        return mask

    def initial_state(self) -> Facts:
        return Facts({})

    def advance(self, state: Facts, token_id: int) -> Facts:
        if token_id == EOT:
            return Facts({})
        if not self._probs(state).get(token_id):
            return state
        if state.name is None:
            return state._replace(name=token_id)
        return Facts({**state.things, state.name: token_id}, state.n_pairs + 1)

    def next_log_probs(self, state: Facts) -> NDArray[np.float64]:
        return self._log_distribution(self._probs(state))

    def _probs(self, state: Facts) -> dict[int, float]:
        if state.name is not None:
            thing = state.things.get(state.name)
            return dict.fromkeys(self._things, 1 / len(self._things)) if thing is None else {thing: 1.0}
        ends = end_probability(state.n_pairs, self._lengths)
        return dict.fromkeys(self._names, (1 - ends) / len(self._names)) | {EOT: ends}


_NAMES = "anna ben clara david"
_COLOURS = "red orange yellow green blue purple black white brown pink gold grey"


def recall() -> Recall:
    """Creates a random generator of pairs such as "anna red", in which each name keeps its colour in a document.

    A document has 8 to 16 pairs, of 4 names and 12 colours. With twice as many names, a small transformer needs more
    than a few million tokens to learn to look up colours.
    """
    return Recall(_NAMES.split(), _COLOURS.split(), range(8, 17))
