"""Direct preference optimization (Rafailov et al. 2023): learning from comparisons without a reward model.

    implicit reward   r(y) = beta (log p(y | x) - log ref(y | x))
    loss              -log sigmoid(r(chosen) - r(rejected))

Here x is a prompt and y an answer to it; p is the policy, the language model that learns, and ref is the reference, the
model from which it started. The policy that maximises the mean of a reward r(y) minus beta KL(p || ref) is
p(y | x) = ref(y | x) exp(r(y) / beta) / Z, where Z depends only on the prompt. Therefore, every policy is the best one
for some reward, namely for the implicit reward above plus beta log Z. Two answers to the same prompt have the same Z,
so it cancels when their rewards are compared, and the loss of a reward model can train the policy itself.

Log-probabilities are sums over the tokens of an answer, not means. Often the log-probabilities of both answers fall in
training, and more for the rejected answer (Razin et al. 2025). Training therefore reports the changes of both.
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

    A text is a pair of token ids (n,) and their weights (n,), which are 1 for the answer and 0 for the prompt. `bf16`
    is True to multiply matrices in bfloat16; None means True if the device has instructions for it. The network is left
    in evaluation mode.
    """
    parts = [np.empty(0, np.float32)]
    for start in range(0, len(texts), _BATCH_SIZE):
        rows = Rows.of(texts[start : start + _BATCH_SIZE], network.device)
        parts.append((fixed_log_probs(network, rows, bf16) * rows.weights).sum(1).cpu().numpy())
    return np.concatenate(parts)


def dpo_objective(beta: float) -> Objective:
    """Returns the function that computes the loss of DPO on a batch, for the training loop to minimise.

    Batches are `Comparisons` with the log-probabilities of the reference. The policy is computed without dropout, like
    the reference, so the implicit rewards of all answers are 0 before the first step. Besides the loss, three numbers
    are reported: "accuracy", the share of comparisons in which the implicit reward of the preferred answer is higher,
    and "chosen" and "rejected", the mean changes of the log-probability of the preferred and of the rejected answers,
    in nats. Raises ConfigurationError for a `beta` of 0 or less.
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
