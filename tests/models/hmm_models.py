"""Helpers of the hidden Markov model tests: models, parameters and token streams."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lmzoo.models.hmm import HiddenMarkovModel, hmm
from lmzoo.models.hmm.inference import Parameters
from lmzoo.stream import TokenStream


def model_of(startprob: Any, transmat: Any, emissionprob: Any) -> HiddenMarkovModel:
    rows = {"startprob": startprob, "transmat": transmat, "emissionprob": emissionprob}
    n_states, vocab_size = np.shape(emissionprob)
    return hmm(vocab_size, n_states=n_states).load_arrays({name: np.array(row, float) for name, row in rows.items()})


def random_model(n_states: int, vocab_size: int, seed: int) -> HiddenMarkovModel:
    rng = np.random.default_rng(seed)
    return model_of(
        rng.dirichlet(np.ones(n_states)),
        rng.dirichlet(np.full(n_states, 0.5), n_states),
        rng.dirichlet(np.full(vocab_size, 0.5), n_states),
    )


def parameters_of(model: HiddenMarkovModel) -> Parameters:
    return Parameters(model.startprob, model.transmat, np.ascontiguousarray(model.emissionprob.T))


def random_stream(vocab_size: int, lengths: list[int], seed: int) -> TokenStream:
    rng = np.random.default_rng(seed)
    return TokenStream.from_documents(rng.integers(1, vocab_size, length) for length in lengths)


def lengths_of(stream: TokenStream) -> NDArray[np.int64]:
    return stream.ends - stream.starts
