"""The number of threads of the BLAS library, which computes matrix products for NumPy."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from threadpoolctl import ThreadpoolController

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
