"""Finds triggers: tokens that make another token more likely in the rest of a document (Lau, Rosenfeld & Roukos 1993).

A token u triggers the token w if w is more frequent after u has occurred in the document, however far back. If a token
triggers itself, the model makes its repetition more likely, as a cache model does.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import types
from numpy.typing import NDArray

from lmzoo.arrays import Arrays, take_array
from lmzoo.errors import SavedModelError
from lmzoo.stream import EOT, TokenStream
from lmzoo.system.compiled import kernel, read_only, writable

_I32, _I64 = types.int32, types.int64
_BLOCK_ELEMENTS = 1 << 24
"""Number of pairs of tokens that are counted at a time."""
_LEAST_NATS = 6.0
"""A pair of tokens becomes a trigger only if it gives more than this information about the training text, in nats."""


@dataclass(frozen=True, eq=False)
class Triggers:
    """P pairs of tokens, the trigger and its target, sorted by trigger, for a vocabulary of V tokens."""

    first: NDArray[np.int64]
    """(V + 1,) for each token, the index of its first target in `targets`; the last element is P."""
    targets: NDArray[np.int32]
    """(P,) the targets, increasing for each trigger."""

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """Returns the arrays of the pairs by name, in the format that `from_arrays` reads."""
        return {"first_target": self.first, "targets": self.targets}

    @classmethod
    def from_arrays(cls, arrays: Arrays, vocab_size: int) -> Triggers:
        """Returns the pairs that are saved in `arrays`; raises SavedModelError if they are outside the vocabulary."""
        first = take_array(arrays, "first_target", shape=(vocab_size + 1,), dtype=np.int64)
        targets = take_array(arrays, "targets", shape=(None,), dtype=np.int32)
        if not (
            first[0] == 0
            and first[-1] == targets.size
            and (np.diff(first) >= 0).all()
            and (not targets.size or 0 <= targets.min() <= targets.max() < vocab_size)
        ):
            raise SavedModelError("the saved maximum-entropy model is damaged: its triggers are out of range")
        return cls(first, targets)


def find_triggers(stream: TokenStream, vocab_size: int, n_triggers: int) -> tuple[Triggers, NDArray[np.float64]]:
    """Finds the `n_triggers` best triggers of each token of a vocabulary, or fewer if the others tell little about it.

    The triggers of a token w are the tokens whose occurrence earlier in the document has the highest mutual information
    with the event that the next token is w, among those that make w more frequent. Returns the P pairs, and the number
    of times that each target occurs after its trigger in the same document, an array (P,).
    """
    n_tokens = len(stream)
    n_after, n_next = np.zeros(vocab_size, np.int64), np.bincount(stream.ids, minlength=vocab_size)
    count_positions_after(stream.ids, n_after)
    width = max(1, _BLOCK_ELEMENTS // vocab_size)
    pairs_of_targets = []
    for start in range(0, vocab_size, width):
        pairs = np.zeros((min(width, vocab_size - start), vocab_size), np.int32)  # (targets, triggers)
        count_pairs(stream.ids, start, pairs)
        for target, counts in enumerate(pairs, start):
            nats = _information(counts, n_after, int(n_next[target]), n_tokens)
            best = np.argsort(-nats, kind="stable")[:n_triggers]
            best = best[nats[best] > _LEAST_NATS]
            pairs_of_targets.append(np.stack([best, np.full(best.size, target), counts[best]]))
    triggers, targets, counts = np.concatenate(pairs_of_targets, axis=1)
    order = np.lexsort((targets, triggers))
    first = np.searchsorted(triggers[order], np.arange(vocab_size + 1)).astype(np.int64)
    return Triggers(first, targets[order].astype(np.int32)), counts[order].astype(np.float64)


def _information(
    both: NDArray[np.int32], n_after: NDArray[np.int64], n_next: int, n_tokens: int
) -> NDArray[np.float64]:
    """Returns the mutual information (V,) of V triggers with a target, times the number of tokens, in nats.

    `both` (V,) counts the tokens that are the target and come after the trigger, `n_after` (V,) all tokens after the
    trigger, and `n_next` all occurrences of the target. The information is 0 if the target is not more frequent after
    the trigger.
    """
    total = np.zeros(both.size)
    for observed, row, column in (
        (both, n_after, n_next),
        (n_after - both, n_after, n_tokens - n_next),
        (n_next - both, n_tokens - n_after, n_next),
        (n_tokens - n_after - n_next + both, n_tokens - n_after, n_tokens - n_next),
    ):
        ratio = np.divide(observed * float(n_tokens), row * float(column), out=np.ones(both.size), where=observed > 0)
        total += observed * np.log(ratio)
    return np.where(both * float(n_tokens) > n_after * float(n_next), total, 0.0)


@kernel(read_only(_I32), writable(_I64))
def count_positions_after(ids, n_after):
    """Counts, for each of V tokens, the tokens of a text that come after it in the same document.

    - `ids` (T,): the text; EOT ends a document.
    - `n_after` (V,): receives the counts.
    """
    first, start = np.full(n_after.size, -1), 0
    for position in range(ids.size):
        token = ids[position]
        if token != EOT and first[token] < start:
            first[token] = position
        if token == EOT or position == ids.size - 1:
            for earlier in range(start, position + 1):
                if first[ids[earlier]] == earlier and ids[earlier] != EOT:
                    n_after[ids[earlier]] += position - earlier
            start = position + 1


@kernel(read_only(_I32), _I64, writable(_I32, 2))
def count_pairs(ids, start, pairs):
    """Counts how often each of B targets occurs after each of V tokens in the same document.

    - `ids` (T,): the text; EOT ends a document.
    - `start`: the first target; the others are the next ids.
    - `pairs` (B, V): the counts are added to it.
    """
    seen, n_seen = np.empty(pairs.shape[1], np.int32), 0
    is_seen = np.zeros(pairs.shape[1], np.bool_)
    for token in ids:
        if start <= token and token < start + pairs.shape[0]:
            for index in range(n_seen):
                pairs[token - start, seen[index]] += 1
        if token == EOT:
            is_seen[seen[:n_seen]] = False
            n_seen = 0
        elif not is_seen[token]:
            is_seen[token] = True
            seen[n_seen] = token
            n_seen += 1
