"""One batch on each core, instead of one matrix product on all of them.

The products here are small: shared among cores they gain little, and lose much if anything else wants the cores. NumPy
lets go of the interpreter lock while it computes, so that threads with a batch each keep all cores busy, with the
products and with all the rest. BLAS is kept to one thread meanwhile, which also makes results independent of the number
of cores: they are gathered in order.
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
    """Keeps BLAS, which is the whole process's, to one thread; yields how many it had. Several may ask at a time."""
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
    """A `map` over batches, with as many threads as BLAS would have."""
    with one_blas_thread() as n_threads, ThreadPoolExecutor(n_threads) as pool:

        def run(function: Callable[[Batch], Any], batches: Iterable[Batch]) -> Iterator[Any]:
            waiting: deque[Future[Any]] = deque()
            for batch in batches:
                waiting.append(pool.submit(function, batch))
                if len(waiting) > n_threads:  # results are large: hold few of them
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()

        yield run
