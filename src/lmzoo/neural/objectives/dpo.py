"""Direct preference optimization (Rafailov et al. 2023): learning from comparisons without a reward model.

    implicit reward   r(y) = beta (log p(y | x) - log ref(y | x))
    loss              -log sigmoid(r(chosen) - r(rejected))

The policy p that maximises a reward r minus beta KL(p || ref) is ref exp(r / beta) / Z. So every policy is the optimum
for some reward, from which the constant Z cancels in comparisons, and the loss of a reward model can train the policy
itself. Log-probabilities are sums over the tokens of an answer, not means. Often the log-probabilities of both answers
fall in training, that of the rejected answer more (Razin et al. 2025); so the figures have both.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import Tensor
from torch.nn import functional as F

from lmzoo.checks import check_positive
from lmzoo.errors import ConfigurationError
from lmzoo.neural.network import Network, State
from lmzoo.neural.objectives.comparisons import Comparisons
from lmzoo.neural.objectives.objective import Objective, Step
from lmzoo.neural.objectives.sequences import Rows, fixed_log_probs, sequence_log_probs

_BATCH_SIZE = 64
"""Texts that the reference reads at a time."""


def dpo_loss(
    policy_chosen: Tensor,
    policy_rejected: Tensor,
    reference_chosen: Tensor,
    reference_rejected: Tensor,
    *,
    beta: float,
) -> Tensor:
    """Computes the DPO loss of each of B comparisons, in nats (B,).

    The arguments are log-probabilities (B,) of the preferred and of the rejected answers, under the policy that learns
    and under the reference, from which it started.
    """
    margins = (policy_chosen - reference_chosen) - (policy_rejected - reference_rejected)
    return -F.logsigmoid(beta * margins)


def text_log_probs(
    network: Network, texts: Sequence[tuple[ArrayLike, ArrayLike]], *, bf16: bool | None = None
) -> NDArray[np.float32]:
    """Computes the log-probabilities in nats of the answers in N texts (N,), without dropout.

    A text is a pair of token ids and their weights as targets: 1 for the answer, 0 for the prompt. `bf16` is as in the
    training settings. The network is left in evaluation mode.
    """
    parts = [np.empty(0, np.float32)]
    for start in range(0, len(texts), _BATCH_SIZE):
        rows = Rows.of(texts[start : start + _BATCH_SIZE], network.device)
        parts.append((fixed_log_probs(network, rows, bf16) * rows.weights).sum(1).cpu().numpy())
    return np.concatenate(parts)


def dpo_objective(beta: float) -> Objective:
    """Returns the objective of DPO, for batches of `Comparisons` with the log-probabilities of the reference.

    The policy is read without dropout, like the reference, so all margins are 0 at first. The figures are the share of
    comparisons in which the implicit reward of the preferred answer is higher, and the mean change of the
    log-probability of preferred and of rejected answers, in nats. Raises ConfigurationError for a `beta` of 0 or less.
    """
    check_positive(beta=beta)

    def objective(network: Network, batch: Comparisons, state: State) -> Step:
        if batch.reference_log_probs is None:
            raise ConfigurationError("DPO needs the log-probabilities of the reference: compute them before training")
        network.eval()  # without dropout
        log_probs, reference = sequence_log_probs(network, batch.rows), batch.reference_log_probs  # (R,)
        chosen, rejected = batch.chosen, batch.rejected
        losses = dpo_loss(log_probs[chosen], log_probs[rejected], reference[chosen], reference[rejected], beta=beta)
        change = (log_probs - reference).detach()
        figures = {
            "accuracy": batch.mean(change[chosen] > change[rejected]),
            "chosen": batch.mean(change[chosen]),
            "rejected": batch.mean(change[rejected]),
        }
        return Step((losses * batch.weights).sum(), batch.weights.sum(), figures=figures)

    return objective
