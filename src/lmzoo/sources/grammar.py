"""A probabilistic context-free grammar as a language model.

The probability of the next word is the ratio of two prefix probabilities, those of all texts that begin so (Jelinek &
Lafferty 1991, Computation of the Probability of Initial Substring Generation by Stochastic Context-Free Grammars;
Stolcke 1995). They are had by following all ways to write the text so far at once: the state is the belief over what
must still be written. Ways that leave the same to be written are one, so that few are to be followed in grammars like
those here, ambiguous ones too.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import final

import numpy as np
from numpy.typing import NDArray

from lmzoo.sources.rules import START, Rules, Stack
from lmzoo.sources.source import FIRST_WORD, Source
from lmzoo.stream import EOT, TokenStream

Belief = Mapping[Stack, float]
"""The stacks that are possible after a text, each empty or with a word on top, with their probabilities."""


@final
class Grammar(Source[Belief]):
    """Texts by `rules`, of which the words `decisive`, and the end if `end_is_decisive`, show the ability.

    `ambiguous` says that a text may be written in several ways: then there is no closed form of its entropy.
    """

    def __init__(
        self,
        rules: Rules,
        *,
        decisive: str,
        end_is_decisive: bool = False,
        ignorance: float,
        ambiguous: bool = False,
    ) -> None:
        super().__init__(rules.words, ignorance=ignorance)
        self._rules, self._ambiguous = rules, ambiguous
        self._decisive_ids = [*self.ids(decisive), *([EOT] if end_is_decisive else [])]
        self._start = rules.ways(START)

    @property
    def entropy(self) -> float | None:
        return None if self._ambiguous else self._rules.entropy / (self._rules.mean_length + 1)

    def decisive(self, stream: TokenStream) -> NDArray[np.bool_]:
        return np.isin(stream.ids, self._decisive_ids)

    def initial_state(self) -> Belief:
        return self._start

    def advance(self, state: Belief, token_id: int) -> Belief:
        if token_id == EOT:
            return self._start
        word = self.words[token_id - FIRST_WORD] if token_id >= FIRST_WORD else None
        read = {stack[1:]: prob for stack, prob in state.items() if stack and stack[0] == word}
        if not read:
            return state
        total = sum(read.values())
        after: defaultdict[Stack, float] = defaultdict(float)
        for rest, prob in read.items():
            for way, share in self._rules.ways(rest).items():
                after[way] += prob / total * share
        return dict(after)

    def next_log_probs(self, state: Belief) -> NDArray[np.float64]:
        probs: defaultdict[int, float] = defaultdict(float)
        for stack, prob in state.items():
            probs[self.id_of[stack[0]] if stack else EOT] += prob
        return self._log_distribution(probs)
