"""Token sequences in rows, for objectives that depend on the probability or the reward of a whole sequence.

A sequence is a prompt followed by a reply, as token ids. Each sequence is read from its start, in a row of its own.
Sequences have different lengths, so the rows are padded on the right with the input EOT (end of text). A network
predicts a token from the tokens before it only, so padding changes no result, and no attention mask is needed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from lmzoo.errors import ConfigurationError, TokenIdError
from lmzoo.neural.devices import autocast
from lmzoo.neural.network import Network
from lmzoo.stream import EOT, as_ids


class Rows(NamedTuple):
    """R sequences of token ids, padded on the right to T columns. Column t reads one id and predicts the next one."""

    inputs: Tensor
    """(R, T): EOT, then the ids of the sequence, then EOT as padding."""
    targets: Tensor
    """(R, T): the ids of the sequence, then EOT as padding."""
    weights: Tensor
    """(R, T): the weight of each target; 0 for padding, and for ids that are given rather than predicted."""
    last: Tensor
    """(R,): the column that has read the whole sequence, except for an EOT at its end: reading it would reset the
    network."""

    @classmethod
    def of(cls, sequences: Sequence[tuple[ArrayLike, ArrayLike]], device: torch.device) -> Rows:
        """Arranges R sequences in rows on `device`.

        A sequence is a pair of n ids (n,) and the weights of these ids as targets (n,). There is one column more than
        the longest sequence has ids, because the input begins with EOT. Raises ConfigurationError if there is no
        sequence, or if a sequence has more or fewer weights than ids, and TokenIdError if a sequence contains EOT
        before its end.
        """
        pairs = [(as_ids(ids), np.asarray(weights, np.float32)) for ids, weights in sequences]
        if not pairs:
            raise ConfigurationError("there must be at least one sequence to put in rows, got none")
        n_columns = 1 + max(len(ids) for ids, _ in pairs)
        inputs, targets = (np.full((len(pairs), n_columns), EOT, np.int64) for _ in range(2))
        all_weights = np.zeros((len(pairs), n_columns), np.float32)
        last = np.zeros(len(pairs), np.int64)
        for row, (ids, weights) in enumerate(pairs):
            _check_sequence(ids, weights)
            n = len(ids)
            inputs[row, 1 : n + 1], targets[row, :n], all_weights[row, :n] = ids, ids, weights
            last[row] = n - 1 if n and ids[-1] == EOT else n
        arrays = (inputs, targets, all_weights, last)
        return cls(*(torch.from_numpy(array).to(device) for array in arrays))

    def selected(self, index: Tensor | slice) -> Rows:
        """Returns the rows with the given indices (N,), or in a slice."""
        return Rows(self.inputs[index], self.targets[index], self.weights[index], self.last[index])

    @property
    def n_tokens(self) -> int:
        """Number of ids that are read, without padding."""
        return int(self.last.sum()) + len(self.last)


def _check_sequence(ids: NDArray[np.int32], weights: NDArray[np.float32]) -> None:
    if weights.shape != ids.shape:
        raise ConfigurationError(
            f"a sequence of {len(ids)} ids must have {len(ids)} weights, got an array of shape {weights.shape}"
        )
    if (ids[:-1] == EOT).any():
        raise TokenIdError(f"a sequence contains the id {EOT} (end of text) before its end: divide it into two there")


def sequence_log_probs(network: Network, rows: Rows) -> Tensor:
    """Computes the weighted sum of the log-probabilities of the targets of each of R rows, in nats (R,).

    If the ids of a reply have weight 1 and those of its prompt have weight 0, this is log P(reply | prompt). It is a
    sum over the tokens of the reply, not a mean. The result has a gradient.
    """
    return (target_log_probs(network, rows) * rows.weights).sum(1)


def target_log_probs(network: Network, rows: Rows) -> Tensor:
    """Computes the log-probability in nats of each target in R rows of T columns (R, T).

    The result has a gradient. It is 0 where the weight of the target is 0.
    """
    hidden = network.read_rows(rows.inputs).flatten(0, 1)  # (R T, D)
    kept = rows.weights.flatten().nonzero()[:, 0]  # (N,)
    nats = network.surprisals(hidden[kept], rows.targets.flatten()[kept])  # (N,)
    return nats.new_zeros(rows.targets.numel()).index_put((kept,), -nats).view_as(rows.weights)


def fixed_log_probs(network: Network, rows: Rows, bf16: bool | None) -> Tensor:
    """Computes the log-probability in nats of each target in R rows of T columns (R, T), without dropout.

    The result has no gradient. It is nevertheless computed with gradients switched on, because attention would
    otherwise use a different kernel, whose results are rounded differently from those in training. `bf16` is True to
    multiply matrices in bfloat16; None means True if the device has instructions for it. The network is left in
    evaluation mode.
    """
    network.eval()
    with torch.enable_grad(), autocast(bf16, network.device):
        return target_log_probs(network, rows).detach()


def last_hidden(network: Network, rows: Rows) -> Tensor:
    """Computes the hidden vector of each of R rows after the last id of its sequence, an array (R, D).

    If the last id is EOT, the vector is that after the id before it, because reading EOT would reset the network.
    """
    hidden = network.read_rows(rows.inputs)  # (R, T, D)
    return hidden[torch.arange(len(hidden), device=hidden.device), rows.last]
