"""Every registered model satisfies every law."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest

from lmzoo import zoo
from lmzoo.language_model import LanguageModel
from lmzoo.neural.neural_lm import NeuralLM
from lmzoo.testing import LAWS, Law, Specimen

# Settings with which a model learns a toy text within a second; models without an entry use their defaults.
SHORT = {"tokens": 4000, "batch_size": 4, "chunk_size": 8, "learning_rate": 1e-2}
TINY: dict[str, dict[str, Any]] = {
    "hmm": {"n_states": 4, "n_iterations": 8},
    "class-hmm": {"n_states": 16, "n_classes": 5, "n_rounds": 2},
    "low-rank-hmm": {"n_states": 12, "rank": 4, "d_embed": 8, "training": SHORT},
    "nplm": {"order": 4, "d_embed": 8, "d_hidden": 16, "dropout": 0.1, "training": SHORT},
    "rnn": {"d_embed": 8, "d_hidden": 16, "dropout": 0.1, "training": SHORT},
    "lstm": {"d_embed": 8, "d_hidden": 16, "n_layers": 2, "dropout": 0.1, "training": SHORT},
    "gru": {"d_embed": 8, "d_hidden": 16, "dropout": 0.1, "training": SHORT},
    "transformer-2017": {
        "d_model": 16,
        "n_layers": 2,
        "n_heads": 2,
        "window": 6,
        "training": {**SHORT, "chunk_size": 6},
    },
    "gpt2": {"d_model": 16, "n_layers": 2, "n_heads": 2, "window": 6, "training": {**SHORT, "chunk_size": 6}},
    "transformer": {
        "d_model": 16,
        "n_layers": 2,
        "n_heads": 2,
        "window": 6,
        "dropout": 0.1,
        "ngrams": 3,
        "n_slots": 100,
        "training": {**SHORT, "optimizer": "muon"},
    },
}
# Largest allowed difference of log-probabilities: networks and hidden Markov models compute in float32, and n-gram
# models store their logarithms in float32.
TOLERANCES = {
    **dict.fromkeys(["low-rank-hmm", "nplm", "rnn", "lstm", "gru", "transformer-2017", "transformer", "gpt2"], 1e-4),
    **dict.fromkeys(["hmm", "class-hmm"], 1e-5),
    **dict.fromkeys(["trigram", "ngram", "class-ngram", "cache", "mixture"], 1e-6),
}


def create(species: str, vocab_size: int) -> LanguageModel[Any]:
    """Creates a small model; a network reads single tokens by its compiled kernels from the first one on."""
    model = zoo.create(species, vocab_size, **TINY.get(species, {}))
    if isinstance(model, NeuralLM):
        model.kernel_threshold = 0
    return model


@cache
def specimen(species: str) -> Specimen:
    return Specimen(
        lambda vocab_size: create(species, vocab_size),
        tolerance=TOLERANCES.get(species, 1e-9),
    )


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
@pytest.mark.parametrize("species", zoo.names())
def test_every_model_satisfies_every_law(species: str, law: Law) -> None:
    law(specimen(species))
