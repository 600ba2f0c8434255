"""Processes one batch per core, instead of one matrix product on all cores.

The matrix products of a hidden Markov model are small: dividing each of them among cores gains little, and is slow if
another program uses the cores. NumPy releases the interpreter lock while it computes, so that threads with one batch
each keep all cores busy. BLAS is limited to one thread meanwhile. Results are collected in order, and so do not depend
on the number of cores.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from typing import Any

from threadpoolctl import ThreadpoolController

from lmzoo.models.hmm.inference import Map
from lmzoo.models.hmm.packing import Batch

_lock = threading.Lock()
_n_users = 0
_limit: Any = None
_n_threads = 1


@cache
def _blas() -> ThreadpoolController:
    return ThreadpoolController().select(user_api="blas")


@contextmanager
def one_blas_thread() -> Iterator[int]:
    """Limits the BLAS library (for matrix products) to one thread inside the `with` block.

    Yields the number of threads that it had before. Several threads may enter this context at a time; the limit is
    removed when the last one leaves.
    """
    global _n_users, _limit, _n_threads
    with _lock:
        if _n_users == 0:
            _n_threads = max((library["num_threads"] for library in _blas().info()), default=1)
            _limit = _blas().limit(limits=1)
        _n_users += 1
    try:
        yield _n_threads
    finally:
        with _lock:
            _n_users -= 1
            if _n_users == 0:
                _limit.restore_original_limits()


@contextmanager
def batches_in_parallel() -> Iterator[Map]:
    """Yields a function like `map` that processes batches in parallel threads, for use inside a `with` block.

    The number of threads is the one that the BLAS library (for matrix products) normally uses. Inside the block, BLAS
    itself is limited to one thread.
    """
    with one_blas_thread() as n_threads, ThreadPoolExecutor(n_threads) as pool:

        def run(function: Callable[[Batch], Any], batches: Iterable[Batch]) -> Iterator[Any]:
            waiting: deque[Future[Any]] = deque()
            for batch in batches:
                waiting.append(pool.submit(function, batch))
                if len(waiting) > n_threads:  # results are large: keep only a few of them
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()

        yield run
