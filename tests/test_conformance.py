"""Every registered model satisfies every law."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from copy import deepcopy
from functools import cache
from typing import Any

import numpy as np
import pytest

from lmzoo import zoo
from lmzoo.language_model import LanguageModel
from lmzoo.neural.neural_lm import NeuralLM
from lmzoo.testing import LAWS, Law, Specimen

VARIANTS: dict[str, dict[str, Any]] = {
    "rnn": {"maxent_order": 3, "maxent_size": 50},
    "lstm": {"mogrifier": 3},
    "linear-recurrence": {"recurrence": "min-gru"},
    "log-bilinear": {"output": "tree"},
    "maxent": {"triggers": 4},
    "context-mixing": {"inputs": ["ppm", {"species": "ngram", "settings": {"order": 3}}]},
}
"""Settings with which a species is another model."""


def create(species: str, vocab_size: int, changes: Mapping[str, Any]) -> LanguageModel[Any]:
    """Creates a small model; a network uses its compiled kernels from the first token on, so that they are tested."""
    settings = {**zoo.presets(species).get("tiny", {}), **changes}
    if "training" in settings:  # half of the preset is enough for every law
        settings["training"] = settings["training"] | {"tokens": 1000}
    model = zoo.create(species, vocab_size, **settings)
    if isinstance(model, NeuralLM):
        model.kernel_threshold = 0
    return model


@cache
def specimen(species: str, is_variant: bool = False) -> Specimen:
    changes = VARIANTS[species] if is_variant else {}
    return Specimen(lambda vocab_size: create(species, vocab_size, changes), tolerance=zoo.card(species).tolerance)


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
@pytest.mark.parametrize("species", zoo.names())
def test_every_model_satisfies_every_law(species: str, law: Law) -> None:
    law(specimen(species))


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
@pytest.mark.parametrize("species", VARIANTS)
def test_every_variant_satisfies_every_law(species: str, law: Law) -> None:
    law(specimen(species, is_variant=True))


@pytest.mark.parametrize("species", zoo.names())
def test_models_and_states_can_be_sent_to_other_processes(species: str) -> None:
    model = specimen(species).fitted
    state = model.state_after(np.array([2, 3], np.int32))
    expected = model.next_log_probs(model.advance(state, 4))
    other_model, other_state = pickle.loads(pickle.dumps((model, state)))  # noqa: S301
    np.testing.assert_array_equal(other_model.next_log_probs(other_model.advance(other_state, 4)), expected)
    np.testing.assert_array_equal(other_model.next_log_probs(other_model.advance(deepcopy(state), 4)), expected)
