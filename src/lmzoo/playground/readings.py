"""Predictions of served models, with a short memory of the last contexts that each model has read."""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from collections.abc import Sequence
from threading import Lock
from typing import Any, NamedTuple

import numpy as np

from lmzoo.distribution import Distribution
from lmzoo.predictor import Predictor
from lmzoo.server.models import ServedModels

_KEPT = 8
"""Number of contexts remembered for each model."""
_STEPS = 8
"""Largest number of tokens by which a remembered context is extended; a longer rest is read faster at once."""


class Reading(NamedTuple):
    """The state of a model after a context, and its distribution over the next token."""

    state: Any
    distribution: Distribution


class Readings:
    """Computes the states and distributions of models after contexts; safe to use from several threads.

    While a prompt is typed, continued or decoded with other settings, most of its tokens stay the same: the model then
    goes on from a state that it had before.
    """

    def __init__(self, models: ServedModels) -> None:
        self._models = models
        self._kept: defaultdict[str, OrderedDict[bytes, Reading]] = defaultdict(OrderedDict)
        self._lock = Lock()

    def predictor(self, name: str) -> Predictor:
        """Returns the predictor `name`; raises UnknownNameError if there is none."""
        return self._models.get(name)

    def after(self, name: str, token_ids: Sequence[int]) -> Reading:
        """Returns the reading of the model `name` after a context; raises TokenIdError for ids outside its vocabulary.

        `token_ids` is the context from the start of a document.
        """
        model = self.predictor(name).model
        context = np.asarray(token_ids, np.int32)
        known, rest = self._longest_known(name, context)
        if known is not None and not len(rest):
            return known
        if known is None:
            state = model.state_after(model.visible(context))
        else:
            model.visible(rest)  # checks the ids
            state = known.state
            for token_id in rest.tolist():
                state = model.advance(state, token_id)
        reading = Reading(state, Distribution(model.next_log_probs(state)))
        with self._lock:
            kept = self._kept[name]
            kept[context.tobytes()] = reading
            if len(kept) > _KEPT:
                kept.popitem(last=False)
        return reading

    def _longest_known(self, name: str, context: np.ndarray) -> tuple[Reading | None, np.ndarray]:
        """Returns the reading of the longest remembered beginning of a context, and the ids after this beginning."""
        with self._lock:
            kept = self._kept[name]
            for n_rest in range(min(_STEPS, len(context)) + 1):
                key = context[: len(context) - n_rest].tobytes()
                if key in kept:
                    kept.move_to_end(key)
                    return kept[key], context[len(context) - n_rest :]
        return None, context
