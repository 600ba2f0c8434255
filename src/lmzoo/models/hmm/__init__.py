"""Hidden Markov model (Baum et al. 1970; Baker 1975; Jelinek 1976): a hidden state walks a Markov chain
and emits tokens.

Nobody sees the state; Bayes' rule turns the tokens so far into a belief over K states, and the belief into a
prediction.
L. E. Baum, T. Petrie, G. Soules, N. Weiss, A Maximization Technique Occurring in the Statistical Analysis of
Probabilistic Functions of Markov Chains, Annals of Mathematical Statistics 41, 1970.

What it cannot do: remember more than a distribution over K states, at most log2(K) bits of the past: it learns what
kind of word comes next, hardly which one.

    packing.py      documents side by side, without padding      initial.py      word classes to start from
    inference.py    filter, smooth, decode                       baum_welch.py   the EM loop
    model.py        the language model                           log_space.py    smooth, in logarithms
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from lmzoo.errors import ConfigurationError
from lmzoo.language_model import LanguageModel
from lmzoo.models.hmm.baum_welch import Settings
from lmzoo.models.hmm.model import HiddenMarkovModel
from lmzoo.stream import EOT

if TYPE_CHECKING:
    from hmmlearn.hmm import CategoricalHMM

__all__ = ["HiddenMarkovModel", "from_hmmlearn", "from_markov", "hmm"]


def hmm(
    vocab_size: int,
    *,
    n_states: int = 64,
    n_iterations: int = 30,
    n_restarts: int = 1,
    emission_prior: float = 50.0,
    transition_prior: float = 20.0,
    tolerance: float = 1e-4,
    patience: int = 3,
    batch_tokens: int | None = None,
) -> HiddenMarkovModel:
    """Hidden Markov model with `n_states` states, fitted by Baum-Welch from word classes.

    One iteration costs about 6 K^2 floating-point operations a token. At most `n_iterations` are run; a fit stops once
    the valid split has not gained `tolerance` nats a token for `patience` iterations, and keeps the best of
    `n_restarts` fits. The priors are pseudo-counts per state: `emission_prior` of them are shared among the tokens
    as their frequencies are, `transition_prior` evenly among the next states. With `batch_tokens` parameters are
    improved after each batch of about so many tokens, which is worth it for tens of millions of them.
    """
    return HiddenMarkovModel(
        vocab_size,
        Settings(
            n_states, n_iterations, n_restarts, emission_prior, transition_prior, tolerance, patience, batch_tokens
        ),
    )


def from_markov(chain: LanguageModel[Any]) -> HiddenMarkovModel:
    """A model that sees one token, as a Markov chain does, as a hidden Markov model: with nothing hidden.

    State k emits token k and nothing else, so that the last token says it all. This is what is left of a hidden Markov
    model in the popular simplification "the next state depends on the last token": the belief is always certain. Takes
    2 V^2 numbers; ConfigurationError for a model that sees more than one token.
    """
    if chain.context_size != 1:
        sees = "all of the document" if chain.context_size is None else f"{chain.context_size} tokens"
        raise ConfigurationError(f"only a model that sees one token is such a special case; this one sees {sees}")
    vocab_size = chain.vocab_size
    rows = np.exp(chain.next_log_probs_after([[token_id] for token_id in range(vocab_size)]))
    rows /= rows.sum(axis=1, keepdims=True)
    # After end-of-text a document starts.
    arrays = {"startprob": rows[EOT], "transmat": rows, "emissionprob": np.eye(vocab_size)}
    return hmm(vocab_size, n_states=vocab_size).load_arrays(arrays)


def from_hmmlearn(model: CategoricalHMM) -> HiddenMarkovModel:
    """The same model as a fitted `hmmlearn.hmm.CategoricalHMM`, in whose sequences the symbol 0 is the last, as EOT is.

    Probabilities of zero stay zero, so that a token can be impossible: its log-probability is then -inf, and it leaves
    the belief as it was. Rows of zeros, which hmmlearn gives to states that it never saw, become uniform.
    """
    if not hasattr(model, "emissionprob_"):
        raise ConfigurationError("this hmmlearn model has no emissionprob_ yet: fit it first, or set its probabilities")
    n_states, vocab_size = model.emissionprob_.shape
    rows = {
        name: np.array(getattr(model, f"{name}_"), np.float64) for name in ("startprob", "transmat", "emissionprob")
    }
    for array in rows.values():
        array[~array.any(axis=-1)] = 1 / array.shape[-1]
    return hmm(vocab_size, n_states=n_states).load_arrays(rows)


PRESETS: dict[str, dict[str, dict[str, Any]]] = {
    "hmm": {
        "quick": {"n_states": 64, "n_iterations": 20},
        "standard": {"n_states": 256, "n_iterations": 40},
        "thorough": {"n_states": 1024, "n_iterations": 80},
        "tiny": {"n_states": 4, "n_iterations": 8},
    }
}
"""Settings of each factory of this file under each preset; see `lmzoo.zoo.presets`."""
