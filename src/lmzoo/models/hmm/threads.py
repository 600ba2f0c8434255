"""Processes one batch per core, instead of one matrix product on all cores.

The matrix products of a hidden Markov model are small: dividing each of them among cores gains little, and is slow if
another program uses the cores. NumPy releases the interpreter lock while it computes, so that threads with one batch
each keep all cores busy. BLAS is limited to one thread meanwhile. Results are collected in order, and so do not depend
on the number of cores.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from lmzoo.models.hmm.inference import Map
from lmzoo.models.hmm.packing import Batch
from lmzoo.system.blas import one_blas_thread


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
