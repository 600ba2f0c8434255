"""Scoring a text with a network: documents are packed into parallel sequences and read chunk by chunk."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lmzoo.neural.network import Network
from lmzoo.stream import EOT, TokenStream

_CHUNK_SIZE = 128
_CONTEXTS_AT_ONCE = 64
"""Number of contexts that are read in parallel."""
_LOGITS_AT_ONCE = 1 << 21
"""Number of logits, more or less, that are computed in one matrix product."""


@torch.inference_mode()
def hidden_vectors(network: Network, stream: TokenStream) -> Iterator[tuple[NDArray[np.intp], Tensor]]:
    """Yields the hidden vectors from which a network predicts each token of a stream, in blocks.

    Each block is a pair: positions (N,) in the stream, and the hidden vectors (N, D) that predict the ids at these
    positions. Every position occurs in exactly one block.
    """
    positions = _pack_documents(stream, network.n_scored_together)  # (R, L), -1 after the end of a sequence
    previous = stream.previous_ids()
    state = network.initial_state(len(positions))
    for start in range(0, positions.shape[1], _CHUNK_SIZE):
        chunk = positions[:, start : start + _CHUNK_SIZE]
        chunk = chunk[chunk[:, 0] >= 0]  # sequences are sorted by length, so those that continue are the first ones
        ids = np.where(chunk >= 0, previous[chunk], EOT)
        inputs = torch.from_numpy(ids.astype(np.int64)).to(network.device)
        hidden, state = network(inputs, tuple(part[: len(chunk)] for part in state))
        real = chunk >= 0
        yield chunk[real], hidden[torch.from_numpy(real).to(network.device)]


@torch.inference_mode()
def logits_in_blocks(
    network: Network, hidden: Tensor, bounds: Iterable[tuple[int, int]]
) -> Iterator[tuple[int, int, Tensor]]:
    """Yields the logits over V tokens of consecutive blocks of hidden vectors (N, D), as triples (start, stop, logits).

    `bounds` are the start and the stop of each block of B rows, whose logits are an array (B, V). One matrix product
    computes the logits of many small blocks together, which takes less time per row.
    """
    n_rows, first, logits = _LOGITS_AT_ONCE // network.vocab_size, 0, hidden[:0]
    for start, stop in bounds:
        if stop > first + len(logits):
            first, logits = start, network.logits(hidden[start : max(stop, start + n_rows)])
        yield start, stop, logits[start - first : stop - first]


@torch.inference_mode()
def observed_log_probs(network: Network, stream: TokenStream) -> NDArray[np.float64]:
    """Returns the log-probability in nats of each of the T ids of a stream under a network (T,)."""
    log_probs = np.empty(len(stream), np.float64)
    for positions, hidden in hidden_vectors(network, stream):
        ids = torch.from_numpy(stream.ids[positions].astype(np.int64)).to(network.device)
        log_probs[positions] = -network.surprisals(hidden, ids).cpu().numpy()
    return log_probs


def _pack_documents(stream: TokenStream, n_sequences: int) -> NDArray[np.intp]:
    """Packs the documents of a stream into R sequences of similar length: returns positions in the stream (R, L).

    R is `n_sequences`, or the number of documents if that is smaller. The documents are taken from the longest to the
    shortest, and each is added to the shortest sequence so far. The sequences are returned from the longest to the
    shortest, and padded with -1 to the length L of the longest.
    """
    sizes = stream.ends - stream.starts
    sequences: list[list[NDArray[np.intp]]] = [[] for _ in range(min(n_sequences, stream.n_documents))]
    lengths = [(0, index) for index in range(len(sequences))]
    for document in np.argsort(-sizes, kind="stable").tolist():
        length, index = lengths[0]
        sequences[index].append(np.arange(int(stream.starts[document]), int(stream.ends[document])))
        heapq.heapreplace(lengths, (length + int(sizes[document]), index))
    joined = sorted((np.concatenate(parts) for parts in sequences), key=len, reverse=True)
    positions = np.full((len(joined), len(joined[0]) if joined else 0), -1)
    for row, filled in zip(positions, joined, strict=True):
        row[: len(filled)] = filled
    return positions


def of_similar_length(contexts: Sequence[NDArray[np.int32]]) -> Iterator[list[int]]:
    """Divides contexts into groups whose lengths differ by less than a factor of 2, and yields the indices of each."""
    by_length = sorted(range(len(contexts)), key=lambda index: len(contexts[index]))
    for _, members in itertools.groupby(by_length, key=lambda index: len(contexts[index]).bit_length()):
        group = list(members)
        for start in range(0, len(group), _CONTEXTS_AT_ONCE):
            yield group[start : start + _CONTEXTS_AT_ONCE]
