"""Forward-backward in logarithms: slower, and exact where probabilities span more than a float holds.

The scaled form of `inference` keeps beliefs as probabilities, and loses a state whose belief falls below 1e-308 of the
others. No model that was fitted here comes near; one that was made by hand, or imported, may: a state that two tokens
in a row make 1e-200 times less likely, and a third one proves.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp

from lmzoo.models.hmm.inference import Parameters


class Smoothed(NamedTuple):
    """What one document tells about its hidden states, in nats."""

    log_probs: NDArray[np.float64]
    """(T,) log-probability of each token, given those before it; -inf from the first impossible one on."""
    log_posteriors: NDArray[np.float64]
    """(T, K) log-probability of each state at each position, given all tokens; NaN if they are impossible."""


def smooth(ids: NDArray[np.int32], parameters: Parameters) -> Smoothed:
    """Forward and backward through one document, in T K^2 logarithms and exponentials (Rabiner 1989, section III)."""
    with np.errstate(divide="ignore", invalid="ignore"):
        log_start, log_transmat = np.log(parameters.startprob), np.log(parameters.transmat)
        log_emissions = np.log(parameters.emissions[ids])  # (T, K)
        forward, backward = np.empty_like(log_emissions), np.zeros_like(log_emissions)
        for t, emission in enumerate(log_emissions):
            before = log_start if t == 0 else logsumexp(forward[t - 1][:, None] + log_transmat, axis=0)
            forward[t] = before + emission
        for t in range(len(ids) - 2, -1, -1):
            backward[t] = logsumexp(log_transmat + log_emissions[t + 1] + backward[t + 1], axis=1)
        so_far = np.asarray(logsumexp(forward, axis=1))  # (T,) log P(tokens up to t)
        log_probs = np.diff(so_far, prepend=0)
        log_probs[np.isneginf(so_far)] = -np.inf
        return Smoothed(log_probs, forward + backward - so_far[-1:, None])
