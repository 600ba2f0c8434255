"""Shared code of models that combine other models: creating members, learning their weights, reading text in
parallel."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lmzoo import zoo
from lmzoo.arrays import Arrays
from lmzoo.errors import ConfigurationError
from lmzoo.language_model import LanguageModel
from lmzoo.stream import TokenStream
from lmzoo.system.placement import Device

_BAND_ELEMENTS = 1 << 24
"""Number of elements of a (B, V) band of predictions: 128 MB of float64."""
_MAX_ITERATIONS = 100
_FULL_STEP = 1 / 16
"""If the gradient times the step is at most this, a full step of Newton's method needs no line search, because a sum of
logarithms is self-concordant."""


def create_member(spec: Any, vocab_size: int, device: Device = "cpu") -> LanguageModel[Any]:
    """Creates an unfitted member of a mixture or cache model from its specification.

    `spec` is the name of a model family ("species"), or {"species": name, "settings": {...}}. A network computes on
    `device`. Raises ConfigurationError for any other form of `spec`.
    """
    parts = {"species": spec} if isinstance(spec, str) else spec
    if not (
        isinstance(parts, Mapping)
        and set(parts) <= {"species", "settings"}
        and isinstance(parts.get("species"), str)
        and isinstance(parts.get("settings", {}), Mapping)
    ):
        raise ConfigurationError(
            'a member must be the name of a species, such as "ngram", or have the form '
            f'{{"species": "ngram", "settings": {{"order": 3}}}}, got {spec!r}'
        )
    settings: Any = parts.get("settings", {})
    return zoo.create(parts["species"], vocab_size, device=device, **settings)


def add_prefix(name: str, arrays: Arrays) -> dict[str, NDArray[Any]]:
    """Returns the arrays of a member with the prefix "NAME." before each key, for saving them with other members."""
    return {f"{name}.{key}": array for key, array in arrays.items()}


def strip_prefix(name: str, arrays: Arrays) -> dict[str, NDArray[Any]]:
    """Returns the arrays whose keys begin with "NAME.", without this prefix: the inverse of `add_prefix`."""
    return {key.removeprefix(f"{name}."): array for key, array in arrays.items() if key.startswith(f"{name}.")}


def learn_weights(log_probs: NDArray[np.float64], tolerance: float = 1e-7) -> NDArray[np.float64]:
    """Learns the weights (M,) of M models that maximise the likelihood of T tokens under their mixture.

    `log_probs` (T, M) is the log-probability of each token under each model. One pseudo-token per model keeps every
    weight above 0. The objective is concave, and Newton's method with a line search (Boyd & Vandenberghe 2004, section
    9.5) maximises it in about twenty steps. The gradient bounds the gain that is still possible; the iteration ends if
    the bound is below `tolerance` nats per token.
    """
    peaks = log_probs.max(axis=1, keepdims=True)
    possible = np.isfinite(peaks[:, 0])  # tokens that no model can predict do not depend on the weights
    probs = np.exp(log_probs[possible] - peaks[possible])  # (T, M)
    total = sum(probs.shape)  # of the tokens and pseudo-tokens: the multiplier of the constraint that weights sum to 1

    def gain(weights: NDArray[np.float64]) -> float:
        return float(np.log(probs @ weights).sum() + np.log(weights).sum() - total * weights.sum())

    weights = np.full(probs.shape[1], 1 / probs.shape[1])
    for _ in range(_MAX_ITERATIONS):
        ratios = probs / (probs @ weights)[:, None]  # (T, M)
        slopes = ratios.sum(axis=0) + 1 / weights - total  # (M,): the gradient
        if slopes.max() <= tolerance * total:
            break
        step = np.linalg.solve(ratios.T @ ratios + np.diag(weights**-2), slopes)
        before, promised = gain(weights), float(slopes @ step)
        size = 1.0
        while promised > _FULL_STEP and (  # else the whole step is safe, and the gain may be below rounding errors
            (weights + size * step).min() <= 0 or gain(weights + size * step) < before + size * promised / 4
        ):
            size /= 2
        weights = weights + size * step
        weights /= weights.sum()  # of all multiples of the weights, this one has the largest gain
    return weights


@dataclass(frozen=True)
class Band:
    """A range of positions of a token stream, `start` to `stop` - 1, which is processed as one batch.

    The range consists of whole documents or of a part of one document. `document` is the position at which the document
    begins that contains position `start`.
    """

    document: int
    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start


def bands(stream: TokenStream, vocab_size: int) -> Iterator[Band]:
    """Splits a stream into consecutive ranges of positions, and yields these ranges as `Band` objects.

    A range has at most B tokens, so that the distributions (B, V) for it over the vocabulary of V tokens fit in memory.
    It ends inside a document only if the document has more than B tokens.
    """
    size = max(1, _BAND_ELEMENTS // vocab_size)

    def document_at(position: int) -> int:
        return int(stream.document_starts(position))

    start = 0
    while start < len(stream):
        stop = min(start + size, len(stream))
        if stop < len(stream) and document_at(stop) > start:
            stop = document_at(stop)
        yield Band(document_at(start), start, stop)
        start = stop


def read_band(
    model: LanguageModel[Any], stream: TokenStream, band: Band
) -> Iterator[tuple[NDArray[np.intp], NDArray[np.floating]]]:
    """Yields a model's predictions of the tokens in a range of positions of a stream, in blocks of B positions.

    Each block is a tuple: the indices (B,) of the positions, counted from the start of the range `band`, and the
    log-probabilities (B, V) of all V tokens at these positions. The model also reads the tokens of the document before
    the range. The blocks may be in any order, so the predictions of several models have to be combined range by range.
    """
    begin = band.document if model.context_size is None else max(band.document, band.start - model.context_size)
    n_before = band.start - begin
    for positions, block in model.stream_log_probs(TokenStream(stream.ids[begin : band.stop])):
        inside = positions >= n_before
        yield (positions - n_before, block) if inside.all() else (positions[inside] - n_before, block[inside])
