"""Direct preference optimization (DPO): learning from comparisons without a reward model (Rafailov et al. 2023).

    implicit reward   r(y) = beta (log p(y | x) - log ref(y | x))
    loss              -log sigmoid(r(chosen) - r(rejected))

Here x is a prompt and y a reply to it. The policy p is the language model that learns, and the reference ref is the
model from which the policy started. Suppose that a reward r(y) is given, and that the policy maximises the mean of r(y)
minus beta KL(p || ref), where KL is the Kullback-Leibler divergence. This policy is p(y | x) = ref(y | x) exp(r(y) /
beta) / Z, where Z depends only on the prompt. Solved for r(y), the equation says that every policy is the best one for
some reward, namely for the implicit reward above plus beta log Z. Two replies to the same prompt have the same Z, so it
cancels when their rewards are compared. The loss of a reward model can therefore train the policy itself.

The log-probability of a reply is the sum over its tokens, not the mean. In training, the log-probabilities of both
replies often fall, and that of the rejected reply falls more (Razin et al. 2025). Training therefore reports the
changes of both.
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
"""Number of sequences that `reply_log_probs` reads together."""


def dpo_loss(
    policy_chosen: Tensor,
    policy_rejected: Tensor,
    reference_chosen: Tensor,
    reference_rejected: Tensor,
    *,
    beta: float,
) -> Tensor:
    """Computes the DPO loss of each of B comparisons, in nats (B,).

    The arguments are the log-probabilities (B,) of the preferred and of the rejected replies, under the policy, which
    learns, and under the reference, from which the policy started.
    """
    margins = (policy_chosen - reference_chosen) - (policy_rejected - reference_rejected)
    return -F.logsigmoid(beta * margins)


def reply_log_probs(
    network: Network, sequences: Sequence[tuple[ArrayLike, ArrayLike]], *, bf16: bool | None = None
) -> NDArray[np.float32]:
    """Computes the log-probabilities (N,) of the replies in N sequences, in nats, without dropout.

    A sequence is a pair of token ids (n,) and their weights (n,), which are 1 for the reply and 0 for the prompt.
    `bf16` is True to multiply matrices in bfloat16; None means True if the device has instructions for it. The network
    is left in evaluation mode.
    """
    parts = [np.empty(0, np.float32)]
    for start in range(0, len(sequences), _BATCH_SIZE):
        rows = Rows.of(sequences[start : start + _BATCH_SIZE], network.device)
        parts.append((fixed_log_probs(network, rows, bf16) * rows.weights).sum(1).cpu().numpy())
    return np.concatenate(parts)


def dpo_objective(beta: float) -> Objective:
    """Returns the function that computes the loss of DPO on a batch, for the training loop to minimise.

    Batches are `Comparisons` with the log-probabilities of the reference. The policy is computed without dropout, like
    the reference, so the implicit rewards of all replies are 0 before the first step. Besides the loss, three measures
    are reported: "accuracy" is the share of comparisons in which the implicit reward of the preferred reply is higher;
    "chosen" and "rejected" are the mean changes of the log-probability of the preferred and of the rejected replies, in
    nats. Raises ConfigurationError if `beta` is not above 0.
    """
    check_positive(beta=beta)

    def objective(network: Network, batch: Comparisons, state: State) -> Step:
        if batch.reference_log_probs is None:
            raise ConfigurationError(
                "DPO needs the log-probabilities of the reference, but the batch has none: compute them with "
                "reply_log_probs before training"
            )
        network.eval()  # without dropout
        log_probs, reference = sequence_log_probs(network, batch.rows), batch.reference_log_probs  # (R,)
        chosen, rejected = batch.chosen, batch.rejected
        losses = dpo_loss(log_probs[chosen], log_probs[rejected], reference[chosen], reference[rejected], beta=beta)
        change = (log_probs - reference).detach()
        measures = {
            "accuracy": batch.mean(change[chosen] > change[rejected]),
            "chosen": batch.mean(change[chosen]),
            "rejected": batch.mean(change[rejected]),
        }
        return Step((losses * batch.weights).sum(), batch.weights.sum(), measures=measures)

    return objective
