"""What a network makes of a stream: whole documents in rows, read chunk by chunk with the memory carried on."""

from __future__ import annotations

import heapq
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lmzoo.neural.network import Network
from lmzoo.stream import EOT, TokenStream

_N_ROWS = 32
_CHUNK_SIZE = 128


@torch.inference_mode()
def hidden_vectors(network: Network, stream: TokenStream) -> Iterator[tuple[NDArray[np.intp], Tensor]]:
    """Positions (N,) and the hidden vectors (N, D) that predict the ids at them; every position comes once."""
    positions = _rows_of_documents(stream)  # (R, L), -1 after the end of a row
    previous = stream.previous_ids()
    memory = network.initial_memory(len(positions))
    for start in range(0, positions.shape[1], _CHUNK_SIZE):
        chunk = positions[:, start : start + _CHUNK_SIZE]
        chunk = chunk[chunk[:, 0] >= 0]  # rows come longest first: those that go on are the first ones
        ids = np.where(chunk >= 0, previous[chunk], EOT)
        inputs = torch.from_numpy(ids.astype(np.int64)).to(network.device)
        hidden, memory = network(inputs, tuple(part[: len(chunk)] for part in memory))
        real = chunk >= 0
        yield chunk[real], hidden[torch.from_numpy(real).to(network.device)]


@torch.inference_mode()
def observed_log_probs(network: Network, stream: TokenStream) -> NDArray[np.float64]:
    """(T,) log-probability in nats of every id of the stream."""
    log_probs = np.empty(len(stream), np.float64)
    for positions, hidden in hidden_vectors(network, stream):
        ids = torch.from_numpy(stream.ids[positions].astype(np.int64)).to(network.device)
        log_probs[positions] = -network.surprisals(hidden, ids).cpu().numpy()
    return log_probs


def _rows_of_documents(stream: TokenStream) -> NDArray[np.intp]:
    """(R, L) positions: each document goes to the row that is shortest so far, the longest documents first."""
    sizes = stream.ends - stream.starts
    rows: list[list[NDArray[np.intp]]] = [[] for _ in range(min(_N_ROWS, stream.n_documents))]
    loads = [(0, row) for row in range(len(rows))]
    for document in np.argsort(-sizes, kind="stable").tolist():
        load, row = loads[0]
        rows[row].append(np.arange(int(stream.starts[document]), int(stream.ends[document])))
        heapq.heapreplace(loads, (load + int(sizes[document]), row))
    joined = sorted((np.concatenate(row) for row in rows), key=len, reverse=True)
    positions = np.full((len(joined), len(joined[0]) if joined else 0), -1)
    for row, filled in zip(positions, joined, strict=True):
        row[: len(filled)] = filled
    return positions
