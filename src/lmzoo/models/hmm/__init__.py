"""Hidden Markov model (Baum et al. 1970; Baker 1975; Jelinek 1976): a Markov chain over hidden states, each of which
emits tokens.

The states are not observed. Bayes' rule turns the tokens so far into a probability distribution over the K states, from
which the next token is predicted.
L. E. Baum, T. Petrie, G. Soules, N. Weiss, A Maximization Technique Occurring in the Statistical Analysis of
Probabilistic Functions of Markov Chains, Annals of Mathematical Statistics 41, 1970.

Limits: the state carries at most log2(K) bits about the past. The model learns which class of words comes next, but
hardly which word.

    packing.py      batches of documents without padding      initial.py      initial word classes
    inference.py    filtering, smoothing, decoding            baum_welch.py   the EM algorithm
    model.py        the language model                        log_space.py    smoothing in log space
    threads.py      one batch per core                        hmmlearn_models.py   models of hmmlearn
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

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
    """Creates a hidden Markov model with `n_states` states, fitted by Baum-Welch starting from word classes.

    A fit runs at most `n_iterations` iterations. It stops when the log-probability of the validation set has not
    improved by `tolerance` nats per token for `patience` iterations; the best of `n_restarts` fits is kept. The priors
    are pseudo-counts per state: `emission_prior` is divided among the tokens in proportion to their frequencies,
    `transition_prior` evenly among the next states. With `batch_tokens`, the parameters are updated after each batch of
    about that many tokens, which is faster for texts of tens of millions of tokens. One iteration with K states takes
    about 6 K^2 floating-point operations per token.
    """
    return HiddenMarkovModel(
        vocab_size,
        Settings(
            n_states, n_iterations, n_restarts, emission_prior, transition_prior, tolerance, patience, batch_tokens
        ),
    )


def from_markov(chain: LanguageModel[Any]) -> HiddenMarkovModel:
    """Converts a Markov chain, or any model whose context is one token, to an equivalent hidden Markov model.

    The hidden Markov model has one state for each of the V tokens of the vocabulary. State k emits only token k, so the
    last token determines the state, and nothing is hidden. The result has 2 V^2 parameters. Raises ConfigurationError
    if the context of the model is not one token.
    """
    if chain.context_size != 1:
        sees = "all of the document" if chain.context_size is None else f"{chain.context_size} tokens"
        raise ConfigurationError(
            f"only a model with a context of one token can be converted to a hidden Markov model; this one sees {sees}"
        )
    vocab_size = chain.vocab_size
    rows = np.exp(chain.next_log_probs_after([[token_id] for token_id in range(vocab_size)]))
    rows /= rows.sum(axis=1, keepdims=True)
    # A document starts after an end-of-text token.
    arrays = {"startprob": rows[EOT], "transmat": rows, "emissionprob": np.eye(vocab_size)}
    return hmm(vocab_size, n_states=vocab_size).load_arrays(arrays)


def from_hmmlearn(
    model: CategoricalHMM, *, end_symbol: int | Literal["unknown"] | None = "unknown"
) -> HiddenMarkovModel:
    """Converts a fitted `hmmlearn.hmm.CategoricalHMM` to a hidden Markov model of lmzoo.

    `end_symbol` is the symbol that ends each sequence. It exchanges its number with symbol 0, because lmzoo's EOT
    (end-of-text) token has id 0. If `end_symbol` is None, no symbol ends sequences: symbol k gets the id k + 1, and EOT
    has the probability 0. The argument can be omitted only if `to_hmmlearn` created the model. Probabilities of zero
    stay zero: an impossible token has log-probability -inf and leaves the state distribution unchanged. Rows of zeros,
    which hmmlearn gives to states that it never visited, become uniform. Raises ConfigurationError if the model is of
    another kind, is not fitted, or has arrays that are not probabilities.
    """
    from lmzoo.models.hmm.hmmlearn_models import arrays_of

    arrays = arrays_of(model, end_symbol)
    n_states, vocab_size = arrays["emissionprob"].shape
    return hmm(vocab_size, n_states=n_states).load_arrays(arrays)


PRESETS: dict[str, dict[str, dict[str, Any]]] = {
    "hmm": {
        "quick": {"n_states": 64, "n_iterations": 10},
        "standard": {"n_states": 256, "n_iterations": 40},
        "thorough": {"n_states": 1024, "n_iterations": 80},
        "tiny": {"n_states": 4, "n_iterations": 8},
    }
}
"""Settings of each factory of this file under each preset; see `lmzoo.zoo.presets`."""
