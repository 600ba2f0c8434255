"""Associative recall: names with things, and a name that comes again has the same thing as before.

The task of Arora et al. 2023 (Zoology: Measuring and Improving Recall in Efficient Language Models), as running text:
every document has facts of its own, which are told once and asked for later.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple, final

import numpy as np
from numpy.typing import NDArray

from lmzoo.sources.source import FIRST_WORD, Source, chance_to_end
from lmzoo.stream import EOT, TokenStream


class Facts(NamedTuple):
    """What a document has told so far."""

    things: Mapping[int, int]
    """By name, as ids."""
    n_pairs: int = 0
    """How many times a name and its thing were said."""
    name: int | None = None
    """Whose thing comes next; None = a name comes next, or the end."""


@final
class Recall(Source[Facts]):
    """Pairs of a name and a thing, as many as `lengths` says; names come at random, things with the first of a name."""

    def __init__(self, names: Sequence[str], things: Sequence[str], lengths: range) -> None:
        super().__init__([*names, *things], ignorance=math.log(len(things)))
        self._lengths = lengths
        self._names = range(FIRST_WORD, FIRST_WORD + len(names))
        self._things = range(self._names.stop, self.vocab_size)

    @property
    def entropy(self) -> float:
        n_names, n_things = len(self._names), len(self._things)
        known = 1 - 1 / n_names  # to the power i: that the name of pair i is not among the i before it
        new = np.mean([sum(known**place for place in range(length)) for length in self._lengths])
        mean = np.mean(self._lengths)
        nats = math.log(len(self._lengths)) + mean * math.log(n_names) + new * math.log(n_things)
        return float(nats / (2 * mean + 1))

    def decisive(self, stream: TokenStream) -> NDArray[np.bool_]:
        """Things of names that come again."""
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
        ends = chance_to_end(state.n_pairs, self._lengths)
        return dict.fromkeys(self._names, (1 - ends) / len(self._names)) | {EOT: ends}


_NAMES = "anna ben clara david"
_COLOURS = "red orange yellow green blue purple black white brown pink gold grey"


def recall() -> Recall:
    """8 to 16 pairs of one of 4 names with one of 12 colours.

    With twice as many names a small transformer needs more than a few million tokens to find out that it can look up.
    """
    return Recall(_NAMES.split(), _COLOURS.split(), range(8, 17))
