"""Batches of comparisons: pairs of replies to one prompt, of which one was preferred, from rankings of replies.

A ranking of K replies to one prompt gives up to K (K - 1) / 2 comparisons. They are correlated, so they are always in
the same batch, and together they count as much as a ranking of two replies (Ouyang et al. 2022, section 3.5).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, final

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from lmzoo.arrays import Arrays
from lmzoo.checks import check_whole
from lmzoo.errors import ConfigurationError
from lmzoo.neural.network import Network
from lmzoo.neural.objectives.sequences import Rows
from lmzoo.neural.training.batches import Batches

Ranking = Sequence[Sequence[int]]
"""The replies to one prompt from the best to the worst, as indices of sequences, each of which is the prompt and one of
the replies. The indices are grouped in levels: the replies of one level are equally good."""


class Comparisons(NamedTuple):
    """A batch of B comparisons between R sequences, each of which is a prompt followed by a reply.

    A sequence may take part in several comparisons, and is read once.
    """

    rows: Rows
    """The R sequences."""
    chosen: Tensor
    """(B,): index of the sequence with the preferred reply."""
    rejected: Tensor
    """(B,): index of the sequence with the rejected reply."""
    weights: Tensor
    """(B,): weight of each comparison."""
    reference_log_probs: Tensor | None = None
    """(R,): log-probability of the reply in each sequence under the reference model, in nats, which is computed before
    training; None for a reward model, which needs no reference."""

    def mean(self, values: Tensor) -> float:
        """Returns the weighted mean of `values` (B,), which are numbers or booleans, one for each comparison."""
        return float((values.detach() * self.weights).sum() / self.weights.sum().clamp_min(1e-9))


def ranking_pairs(ranking: Ranking) -> list[tuple[int, int]]:
    """Returns all comparisons of a ranking as pairs (preferred, rejected) of indices of sequences.

    Equally good replies are not compared.
    """
    return [
        (better, worse)
        for index, level in enumerate(ranking)
        for better in level
        for lower_level in ranking[index + 1 :]
        for worse in lower_level
    ]


@final
class ComparisonBatches(Batches[Comparisons]):
    """Batches of all comparisons of some rankings, with the sequences that are compared.

    A batch has the comparisons of `n_rankings` rankings; the weights of each ranking sum to 1. Each epoch has all
    rankings in a new order, which depends on `seed`. Raises ConfigurationError for a ranking without a comparison.

    - `sequences`: N pairs of token ids (n,) and their weights (n,), which are 1 for the reply and 0 for the prompt.
    - `rankings`: the rankings, which refer to the sequences by index.
    - `reference_log_probs`: for direct preference optimization (DPO), the log-probability (N,) of the reply in each
      sequence under the reference model, in nats; None for a reward model.
    """

    def __init__(
        self,
        sequences: Sequence[tuple[ArrayLike, ArrayLike]],
        rankings: Sequence[Ranking],
        *,
        n_rankings: int,
        seed: int,
        reference_log_probs: NDArray[np.floating] | None = None,
    ) -> None:
        check_whole(1, n_rankings=n_rankings)
        if not rankings:
            raise ConfigurationError("there are no rankings to learn from: give at least one")
        self._pairs = [ranking_pairs(ranking) for ranking in rankings]
        if [] in self._pairs:
            raise ConfigurationError(
                f"ranking {self._pairs.index([])} has no comparison, but a ranking must have at least two replies that "
                "are not equally good: leave it out"
            )
        self._sequences, self._reference_log_probs = sequences, reference_log_probs
        self._n_rankings, self._seed = n_rankings, seed
        self._epoch, self._order = -1, np.empty(0, np.intp)

    def batch(self, step: int, network: Network) -> Comparisons:
        first = step * self._n_rankings
        wanted = [self._ranking_at(first + index) for index in range(self._n_rankings)]
        pairs = [pair for ranking in wanted for pair in self._pairs[ranking]]
        weights = [1 / len(self._pairs[ranking]) for ranking in wanted for _ in self._pairs[ranking]]
        used, index = np.unique(np.array(pairs), return_inverse=True)  # (R,), (B, 2)
        chosen, rejected = torch.from_numpy(index.reshape(-1, 2)).to(network.device).unbind(1)
        references = None
        if self._reference_log_probs is not None:
            references = torch.from_numpy(self._reference_log_probs[used].astype(np.float32)).to(network.device)
        rows = Rows.of([self._sequences[number] for number in used.tolist()], network.device)
        return Comparisons(rows, chosen, rejected, torch.tensor(weights, device=network.device), references)

    def _ranking_at(self, position: int) -> int:
        """Returns the index of the ranking at a position, counted over all epochs, each of which is a permutation."""
        epoch, index = divmod(position, len(self._pairs))
        if epoch != self._epoch:
            self._order = np.random.default_rng([self._seed, epoch]).permutation(len(self._pairs))
            self._epoch = epoch
        return int(self._order[index])

    def n_tokens(self, batch: Comparisons) -> int:
        return batch.rows.n_tokens

    def arrays(self) -> Arrays:
        return {}

    def load_arrays(self, arrays: Arrays) -> None:
        """Does nothing, as all batches can be computed from the rankings, the seed and the number of the step."""
