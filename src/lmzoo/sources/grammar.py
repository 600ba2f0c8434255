"""A probabilistic context-free grammar as a language model.

The probability of the next word is the ratio of two prefix probabilities; the prefix probability of a sequence is the
total probability of all texts that start with it (Jelinek & Lafferty 1991, Computation of the Probability of Initial
Substring Generation by Stochastic Context-Free Grammars; Stolcke 1995). It is computed by following all derivations of
the text so far in parallel: the state is a distribution over stacks, which hold what is still to be written.
Derivations with the same stack are merged, so that the grammars of lmzoo have few stacks, even the ambiguous ones.
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

StackDistribution = Mapping[Stack, float]
"""The possible stacks after a text, with their probabilities; each is empty or has a word as its first element."""


@final
class Grammar(Source[StackDistribution]):
    """A random generator of text by the rules of a probabilistic context-free grammar.

    Models are judged on the target tokens: the words in `targets`, which are separated by spaces, and the end of the
    text if `end_is_target` is True. If the grammar is `ambiguous`, so that a text can have several derivations, its
    entropy has no closed form. `baseline_nats` is the loss on the target tokens, in nats per token above the lowest
    possible loss, of a model that lacks only the fact that determines them.
    """

    def __init__(
        self,
        rules: Rules,
        *,
        targets: str,
        end_is_target: bool = False,
        baseline_nats: float,
        ambiguous: bool = False,
    ) -> None:
        super().__init__(rules.words, baseline_nats=baseline_nats)
        self._rules, self._ambiguous = rules, ambiguous
        self._target_ids = [*self.ids(targets), *([EOT] if end_is_target else [])]
        self._start = rules.expansions(START)

    @property
    def entropy(self) -> float | None:
        return None if self._ambiguous else self._rules.entropy / (self._rules.mean_length + 1)

    def target_mask(self, stream: TokenStream) -> NDArray[np.bool_]:
        return np.isin(stream.ids, self._target_ids)

    def initial_state(self) -> StackDistribution:
        return self._start

    def advance(self, state: StackDistribution, token_id: int) -> StackDistribution:
        if token_id == EOT:
            return self._start
        word = self.words[token_id - FIRST_WORD] if token_id >= FIRST_WORD else None
        remaining = {stack[1:]: prob for stack, prob in state.items() if stack and stack[0] == word}
        if not remaining:
            return state
        total = sum(remaining.values())
        after: defaultdict[Stack, float] = defaultdict(float)
        for stack, prob in remaining.items():
            for expansion, share in self._rules.expansions(stack).items():
                after[expansion] += prob / total * share
        return dict(after)

    def next_log_probs(self, state: StackDistribution) -> NDArray[np.float64]:
        probs: defaultdict[int, float] = defaultdict(float)
        for stack, prob in state.items():
            probs[self.id_of[stack[0]] if stack else EOT] += prob
        return self._log_distribution(probs)
