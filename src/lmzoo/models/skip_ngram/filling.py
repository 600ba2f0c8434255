"""Writing out distributions: adding up what thousands of tokens get from each context."""

from __future__ import annotations

from numba import types

from lmzoo.system.compiled import kernel, read, write

_I32, _I64, _F64 = types.int32, types.int64, types.float64


def _read_2d(dtype: types.Type) -> types.Type:
    return types.Array(dtype, 2, "C", readonly=True)


@kernel(_read_2d(_I64), _read_2d(_F64), read(_I64), read(_I32), read(_F64), write(_F64, 2))
def add_families(contexts, shares, starts, tokens, probs, rows):
    """Adds to each row (B, V) the probabilities of what followed its contexts (P, B), times their shares (P, B)."""
    for b in range(rows.shape[0]):
        for pattern in range(contexts.shape[0]):
            context, share = contexts[pattern, b], shares[pattern, b]
            for i in range(starts[context], starts[context + 1]):
                rows[b, tokens[i]] += share * probs[i]
