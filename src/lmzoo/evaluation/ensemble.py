"""The zoo together: what several models make of a text when they vote, and what each one contributes.

Static: P(w | h) = sum_m weight_m P_m(w | h), weights learned on valid (Jelinek & Mercer 1980), as in the species
`mixture`. Dynamic: after every token of the test text Bayes' rule says anew whom to trust, and a share of that trust
goes back to the static weights, so that what was right long ago counts for little (fixed share; Herbster & Warmuth
1998, Tracking the Best Expert): that adapts to the text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp

from lmzoo.evaluation.statistics import Certainty, Grouping, certainty
from lmzoo.models.mixing import learn_weights

_TOLERANCE = 1e-6
"""Nats a token within which weights are the best ones: what is shown has three decimals."""
_MOST_TOKENS = 100_000
"""Of valid, on which the share that dynamic weights forget is learned."""
_SHARE_TOLERANCE = 0.02


@dataclass(frozen=True, eq=False)
class Together:
    """M models that vote on a text. `sure` compares, in this order: the mixture, the best single model, the dynamic
    mixture, and the mixtures without each of the models."""

    names: list[str]
    weights: NDArray[np.float64]
    """(M,) of the static mixture."""
    best: int
    """Which model is the best alone on valid."""
    sure: Certainty

    def without(self, member: int) -> int:
        """The row of `sure` that has the mixture of all but this one."""
        return 3 + member


def together(
    names: Sequence[str],
    valid: NDArray[np.floating],
    test: NDArray[np.floating],
    sizes: NDArray[np.floating],
    groups: Grouping,
) -> Together | None:
    """Mixes M models, from what they gave the tokens of valid (M, T') and test (M, T), in nats.

    `sizes` and `groups` are of test, as in `certainty`; None if it is too short to compare anything on.
    """
    valid, test = np.asarray(valid, np.float64), np.asarray(test, np.float64)
    n_models = len(names)
    weights = learn_weights(valid.T, _TOLERANCE)
    best = int(np.argmax(valid.sum(axis=1)))
    forgotten = learn_forgetting(valid[:, :_MOST_TOKENS], weights)
    rows = [mixed(test, weights), test[best], dynamically_mixed(test, weights, forgotten)]
    for left_out in range(n_models):
        others = np.delete(np.arange(n_models), left_out)
        rows.append(mixed(test[others], learn_weights(valid[others].T, _TOLERANCE)))
    sure = certainty(np.stack(rows), sizes, groups)
    return None if sure is None else Together(list(names), weights, best, sure)


def mixed(log_probs: NDArray[np.float64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """(T,) log-probabilities of the vote of M models, from (M, T) and their weights."""
    return np.asarray(logsumexp(log_probs + np.log(weights)[:, None], axis=0))


def learn_forgetting(log_probs: NDArray[np.float64], prior: NDArray[np.float64]) -> float:
    """The share that weights should forget from token to token where M models gave `log_probs` (M, T)."""

    def loss(forgotten: float) -> float:
        return -float(dynamically_mixed(log_probs, prior, forgotten).sum())

    found: Any = minimize_scalar(loss, bounds=(0, 1), method="bounded", options={"xatol": _SHARE_TOLERANCE})
    return float(found.x)


def dynamically_mixed(
    log_probs: NDArray[np.float64], prior: NDArray[np.float64], forgotten: float
) -> NDArray[np.float64]:
    """(T,) the same with weights that follow the text, from `prior`; a token is predicted before it counts."""
    weights, found = prior, np.empty(log_probs.shape[1])
    peaks = log_probs.max(axis=0)
    for t, probs in enumerate(np.exp(log_probs - peaks).T):  # (M,)
        shares = weights * probs
        total = shares.sum()
        found[t] = np.log(total)
        weights = (1 - forgotten) * shares / total + forgotten * prior
    return found + peaks
