"""What models made of models share: naming their members, learning their weights, and reading text side by side."""

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

_BAND_ELEMENTS = 1 << 24
"""Size of the (B, V) bands in which members are read: 128 MB of float64."""
_MAX_ITERATIONS = 10_000


def create_member(spec: Any, vocab_size: int) -> LanguageModel[Any]:
    """A fresh model of a species given by name, or as {"species": name, "settings": {...}}."""
    parts = {"species": spec} if isinstance(spec, str) else spec
    if not (
        isinstance(parts, Mapping)
        and set(parts) <= {"species", "settings"}
        and isinstance(parts.get("species"), str)
        and isinstance(parts.get("settings", {}), Mapping)
    ):
        raise ConfigurationError(
            'a member is a species such as "ngram", or with settings '
            f'{{"species": "ngram", "settings": {{"order": 3}}}}; got {spec!r}'
        )
    settings: Any = parts.get("settings", {})
    return zoo.create(parts["species"], vocab_size, **settings)


def under_name(name: str, arrays: Arrays) -> dict[str, NDArray[Any]]:
    """The arrays of a member as they lie among those of the whole."""
    return {f"{name}.{key}": array for key, array in arrays.items()}


def of_member(name: str, arrays: Arrays) -> dict[str, NDArray[Any]]:
    """The arrays of one member out of those of the whole."""
    return {key.removeprefix(f"{name}."): array for key, array in arrays.items() if key.startswith(f"{name}.")}


def learn_weights(log_probs: NDArray[np.float64], tolerance: float = 1e-7) -> NDArray[np.float64]:
    """(M,) weights under which a mixture finds T tokens most likely; `log_probs` (T, M) are what each member gave them.

    Expectation-maximisation (Dempster, Laird & Rubin 1977): each token is shared among the members as they predicted
    it, and a member's weight becomes its part of all tokens. One imagined token a member keeps every weight above zero.
    The objective is concave, so that its gradient bounds what is left to gain: less than `tolerance` nats a token.
    """
    peaks = log_probs.max(axis=1, keepdims=True)
    possible = np.isfinite(peaks[:, 0])  # what no member can predict is lost under all weights
    probs = np.exp(log_probs[possible] - peaks[possible])  # (T, M)
    n_tokens, n_members = probs.shape
    weights = np.full(n_members, 1 / n_members)
    for _ in range(_MAX_ITERATIONS):
        counts = 1 + weights * ((1 / (probs @ weights)) @ probs)  # (M,)
        left_to_gain = (counts / weights).max() - counts.sum()
        weights = counts / counts.sum()
        if left_to_gain <= tolerance * (n_tokens + n_members):
            break
    return weights


@dataclass(frozen=True)
class Band:
    """Positions `start` to `stop` of a stream, whole documents or a part of one, which begins at `document`."""

    document: int
    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start


def bands(stream: TokenStream, vocab_size: int) -> Iterator[Band]:
    """Cuts a stream into bands whose (B, V) predictions fit in memory; inside a document only if it is too long."""
    size = max(1, _BAND_ELEMENTS // vocab_size)

    def document_at(position: int) -> int:
        return int(stream.starts[np.searchsorted(stream.starts, position, side="right") - 1])

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
    """What a model predicts in a band, in blocks: rows of the band (B,) and log-probabilities (B, V).

    Models yield the positions of a stream in any order, so members can only be brought together band by band. A band
    that starts inside a document is read together with what the model can see before it, and that is dropped.
    """
    begin = band.document if model.context_size is None else max(band.document, band.start - model.context_size)
    n_before = band.start - begin
    for positions, block in model.stream_log_probs(TokenStream(stream.ids[begin : band.stop])):
        inside = positions >= n_before
        yield (positions - n_before, block) if inside.all() else (positions[inside] - n_before, block[inside])
