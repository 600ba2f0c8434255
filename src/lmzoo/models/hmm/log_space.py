"""The forward-backward algorithm in log space: slower, and exact where probabilities exceed the range of a float.

The scaled recursions of `lmzoo.models.hmm.inference` store state distributions as probabilities. They lose a state
whose probability falls below 1e-308 relative to the others. No model fitted by lmzoo comes near this limit, but a model
written by hand or imported may: for example when two tokens in a row make a state 1e-200 times less likely each, and
only this state can emit the third token.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp

from lmzoo.models.hmm.inference import Parameters


class Smoothed(NamedTuple):
    """The result of the forward-backward algorithm on one document, in nats."""

    log_probs: NDArray[np.float64]
    """Log-probability (T,) of each token, given the tokens before it; -inf from the first impossible token on."""
    log_posteriors: NDArray[np.float64]
    """Log-probability (T, K) of each of K states at each of T positions, given all tokens; NaN if the document is
    impossible."""


def smooth(ids: NDArray[np.int32], parameters: Parameters) -> Smoothed:
    """Runs the forward-backward algorithm in log space on one document (Rabiner 1989, section III).

    Takes T K^2 logarithms and exponentials for T tokens and K states.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        log_start, log_transmat = np.log(parameters.startprob), np.log(parameters.transmat)
        log_emissions = np.log(parameters.emissions[ids])  # (T, K)
        forward, backward = np.empty_like(log_emissions), np.zeros_like(log_emissions)
        for t, emission in enumerate(log_emissions):
            before = log_start if t == 0 else logsumexp(forward[t - 1][:, None] + log_transmat, axis=0)
            forward[t] = before + emission
        for t in range(len(ids) - 2, -1, -1):
            backward[t] = logsumexp(log_transmat + log_emissions[t + 1] + backward[t + 1], axis=1)
        so_far = np.asarray(logsumexp(forward, axis=1))  # (T,) log P(tokens 0 .. t)
        log_probs = np.diff(so_far, prepend=0)
        log_probs[np.isneginf(so_far)] = -np.inf
        return Smoothed(log_probs, forward + backward - so_far[-1:, None])
