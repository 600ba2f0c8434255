"""The parameters of hidden Markov models of the package hmmlearn."""

from __future__ import annotations

import operator
from typing import Literal

import numpy as np
from hmmlearn.hmm import CategoricalHMM
from numpy.typing import NDArray

from lmzoo.errors import ConfigurationError
from lmzoo.stream import EOT


def arrays_of(model: CategoricalHMM, end_symbol: int | Literal["unknown"] | None) -> dict[str, NDArray[np.float64]]:
    """Returns the probabilities of a CategoricalHMM of hmmlearn as arrays in the order of lmzoo's token ids.

    The result is a dictionary with the arrays "startprob", "transmat" and "emissionprob". `end_symbol` is the symbol
    that ends each sequence, None if no symbol does, or "unknown" if the model itself stores the symbol. Raises
    ConfigurationError if the model is of another kind, or if its arrays are not valid.
    """
    if not isinstance(model, CategoricalHMM):
        raise ConfigurationError(
            f"only a CategoricalHMM, whose states emit symbols, can be converted; this is a {type(model).__name__}"
        )
    emissionprob = _probabilities(model, "emissionprob_", (model.n_components, None))
    arrays = {
        "startprob": _probabilities(model, "startprob_", (model.n_components,)),
        "transmat": _probabilities(model, "transmat_", (model.n_components, model.n_components)),
    }
    if end_symbol == "unknown":
        end_symbol = getattr(model, "end_symbol_", "unknown")
    n_symbols = emissionprob.shape[1]
    if end_symbol is None:
        return {**arrays, "emissionprob": np.insert(emissionprob, EOT, 0, axis=1)}
    try:
        end = operator.index(end_symbol)  # type: ignore[arg-type]
    except TypeError:
        end = -1
    if isinstance(end_symbol, bool) or not 0 <= end < n_symbols:
        raise ConfigurationError(
            f"end_symbol={end_symbol!r}: give the symbol that ends each sequence, from 0 to {n_symbols - 1}, or None "
            "if no symbol does; all symbols then get ids from 1 on"
        )
    emissionprob[:, [EOT, end]] = emissionprob[:, [end, EOT]]
    return {**arrays, "emissionprob": emissionprob}


def _probabilities(model: CategoricalHMM, name: str, shape: tuple[int | None, ...]) -> NDArray[np.float64]:
    """Returns a copy of an array of probabilities in an hmmlearn model, after checking its shape and its rows.

    `name` is the name of the attribute that contains the array. `shape` is the required shape, in which None stands for
    any size. Each row must sum to 1 within the tolerance of hmmlearn, and is normalised; a row of zeros becomes
    uniform. Raises ConfigurationError if the array does not fit.
    """
    if not hasattr(model, name):
        raise ConfigurationError(f"this hmmlearn model has no attribute {name}: fit it first, or set its probabilities")
    try:
        array = np.array(getattr(model, name), np.float64)
    except (TypeError, ValueError) as error:
        raise ConfigurationError(f"the attribute {name} of this hmmlearn model is not an array of numbers") from error
    if array.ndim != len(shape) or any(n != wanted for n, wanted in zip(array.shape, shape, strict=True) if wanted):
        wanted = " x ".join("n_features" if size is None else str(size) for size in shape)
        raise ConfigurationError(f"the attribute {name} of this hmmlearn model has shape {array.shape}, not {wanted}")
    array[~array.any(axis=-1)] = 1 / max(1, array.shape[-1])
    sums = array.sum(axis=-1, keepdims=True)
    if not array.size or not ((array >= 0).all() and np.allclose(sums, 1)):
        raise ConfigurationError(
            f"the rows of the attribute {name} of this hmmlearn model must be probabilities that sum to 1"
        )
    return np.where(np.abs(sums - 1) > 1e-9, array / sums, array)
