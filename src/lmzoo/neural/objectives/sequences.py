"""Rows of whole texts, for objectives that depend on the probability or on the score of a whole text.

Such objectives read texts from their start, each in a row of its own. Rows have different lengths, so they are padded
on the right with the input EOT (end of text). No prediction of a network depends on later ids, so padding changes no
result and no attention mask is needed.
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
    """R texts of token ids, padded on the right to T columns. Column t reads one id and predicts the next one."""

    inputs: Tensor
    """(R, T): EOT, then the ids of the text, then EOT as padding."""
    targets: Tensor
    """(R, T): the ids of the text, then EOT as padding."""
    weights: Tensor
    """(R, T): the weight of each target; 0 for padding, and for ids that are given rather than predicted."""
    last: Tensor
    """(R,): the column that has read the whole text, except for an EOT at its end: reading this would reset it."""

    @classmethod
    def of(
        cls, texts: Sequence[tuple[ArrayLike, ArrayLike]], device: torch.device, n_columns: int | None = None
    ) -> Rows:
        """Arranges R texts, pairs of n ids (n,) and their weights as targets (n,), in rows on `device`.

        There are `n_columns` columns; None means one more than the longest text has ids, because the input begins with
        EOT. Raises ConfigurationError if there is no text, if the number of weights of a text differs from the number
        of its ids, or if a text is longer than `n_columns` - 1, and TokenIdError if a text contains EOT before its end.
        """
        pairs = [(as_ids(ids), np.asarray(weights, np.float32)) for ids, weights in texts]
        if not pairs:
            raise ConfigurationError("rows need at least one text, got none")
        longest = max(len(ids) for ids, _ in pairs)
        n_columns = n_columns or longest + 1
        if longest >= n_columns:
            raise ConfigurationError(f"a text of {longest} ids does not fit in rows of {n_columns} columns")
        inputs, targets = (np.full((len(pairs), n_columns), EOT, np.int64) for _ in range(2))
        all_weights = np.zeros((len(pairs), n_columns), np.float32)
        last = np.zeros(len(pairs), np.int64)
        for row, (ids, weights) in enumerate(pairs):
            _check_text(ids, weights)
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


def _check_text(ids: NDArray[np.int32], weights: NDArray[np.float32]) -> None:
    if weights.shape != ids.shape:
        raise ConfigurationError(f"a text of {len(ids)} ids needs as many weights, got shape {weights.shape}")
    if (ids[:-1] == EOT).any():
        raise TokenIdError(f"a text contains the id {EOT} (end of text) before its end: make it two texts")


def sequence_log_probs(network: Network, rows: Rows) -> Tensor:
    """Computes the weighted sum of the log-probabilities of the targets of each of R rows, in nats (R,).

    With weight 1 for the ids of an answer and 0 for its prompt, this is log P(answer | prompt). It is a sum, not a mean
    over the length of the answer. The result has a gradient.
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
    otherwise use another kernel, whose results are rounded differently from those in training. `bf16` is True to
    multiply matrices in bfloat16; None means True if the device has instructions for it. The network is left in
    evaluation mode.
    """
    network.eval()
    with torch.enable_grad(), autocast(bf16, network.device):
        return target_log_probs(network, rows).detach()


def last_hidden(network: Network, rows: Rows) -> Tensor:
    """Computes the hidden vector of each of R rows after the last id of its text, an array (R, D).

    If the last id is EOT, the vector is that after the id before it, because reading EOT would reset the network.
    """
    hidden = network.read_rows(rows.inputs)  # (R, T, D)
    return hidden[torch.arange(len(hidden), device=hidden.device), rows.last]
