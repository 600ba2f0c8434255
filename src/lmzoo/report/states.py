"""The report's section about the states of a hidden Markov model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lmzoo.probes.stored import State
from lmzoo.report import charts
from lmzoo.report.figures import Figure, Figures
from lmzoo.report.models import ModelEntry
from lmzoo.tokenizers import visible

_N_LABEL_TOKENS = 3


@dataclass(frozen=True)
class StatesSection:
    """The section of a report about the hidden states of one model: a list of states, and a graph of their transitions.

    The states are those that emit the largest shares of the text.
    """

    name: str
    n_states: int
    states: list[State]
    graph: Figure


def states_section(models: Sequence[ModelEntry], figures: Figures) -> StatesSection | None:
    """Returns the section of a report about the hidden states of one model: the model with the fewest of them.

    A model with few states is the easiest to read. Returns None if no model has hidden states.
    """
    stored = [(model.record.name, model.probes.predictions) for model in models if model.probes]
    with_states = [(name, predictions) for name, predictions in stored if predictions.states]
    if not with_states:
        return None
    name, predictions = min(with_states, key=lambda pair: pair[1].n_states)
    states = predictions.states
    labels = ["\n".join(visible(token) for token in state.tokens[:_N_LABEL_TOKENS]) for state in states]
    graph = figures.draw("states", charts.state_graph([state.summary for state in states], labels))
    return StatesSection(name, predictions.n_states, states, graph)
