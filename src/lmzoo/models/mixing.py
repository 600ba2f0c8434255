"""Functions for models that combine other models: creating members, learning their weights, and reading a text."""

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
"""Largest number of log-probabilities of each member that are held at a time: 128 MB of float64."""
_MAX_ITERATIONS = 10_000


def create_member(spec: Any, vocab_size: int, device: Device = "cpu") -> LanguageModel[Any]:
    """Creates an unfitted member model, given by the name of its species or as {"species": name, "settings": {...}}.

    A neural member computes on `device`. Raises ConfigurationError if `spec` has another form.
    """
    parts = {"species": spec} if isinstance(spec, str) else spec
    if not (
        isinstance(parts, Mapping)
        and set(parts) <= {"species", "settings"}
        and isinstance(parts.get("species"), str)
        and isinstance(parts.get("settings", {}), Mapping)
    ):
        raise ConfigurationError(
            'a member must be the name of a species, such as "ngram", or a species with settings, such as '
            f'{{"species": "ngram", "settings": {{"order": 3}}}}; got {spec!r}'
        )
    settings: Any = parts.get("settings", {})
    return zoo.create(parts["species"], vocab_size, device=device, **settings)


def add_prefix(name: str, arrays: Arrays) -> dict[str, NDArray[Any]]:
    """Returns the arrays of a member under the names that they have in the whole model, "member.array"."""
    return {f"{name}.{key}": array for key, array in arrays.items()}


def strip_prefix(name: str, arrays: Arrays) -> dict[str, NDArray[Any]]:
    """Returns the arrays of one member of a model, under the names that they have in the member."""
    return {key.removeprefix(f"{name}."): array for key, array in arrays.items() if key.startswith(f"{name}.")}


def learn_weights(log_probs: NDArray[np.float64], tolerance: float = 1e-7) -> NDArray[np.float64]:
    """Learns the weights (M,) of M models in a mixture, by maximum likelihood with expectation-maximisation.

    `log_probs` (T, M) are the log-probabilities in nats that the models give to each of T tokens. In each iteration
    (Dempster, Laird & Rubin 1977) every token is divided among the models in proportion to weight x probability, and
    the new weight of a model is its part of all tokens. One pseudo-count per model keeps every weight above zero. The
    objective is concave, so its gradient bounds the remaining gain; iteration stops when this bound is below
    `tolerance` nats per token.
    """
    peaks = log_probs.max(axis=1, keepdims=True)
    possible = np.isfinite(peaks[:, 0])  # a token that no model can predict does not depend on the weights
    probs = np.exp(log_probs[possible] - peaks[possible])  # (T, M)
    n_tokens, n_members = probs.shape
    weights = np.full(n_members, 1 / n_members)
    for _ in range(_MAX_ITERATIONS):
        counts = 1 + weights * ((1 / (probs @ weights)) @ probs)  # (M,)
        remaining_gain = (counts / weights).max() - counts.sum()
        weights = counts / counts.sum()
        if remaining_gain <= tolerance * (n_tokens + n_members):
            break
    return weights


@dataclass(frozen=True)
class Band:
    """The positions `start` to `stop` of a stream: whole documents, or a part of one that begins at `document`."""

    document: int
    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start


def bands(stream: TokenStream, vocab_size: int) -> Iterator[Band]:
    """Divides a stream into bands whose predictions fit in memory.

    The log-probabilities of a band of B positions over `vocab_size` = V tokens take B x V numbers. A band consists of
    whole documents; only a document that is too long is divided.
    """
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
    """Computes the predictions of a model for the positions of a band, in blocks.

    Yields pairs of positions in the band (B,) and log-probabilities in nats (B, V) over V tokens. Models may yield
    the positions of a stream in any order, so predictions of several models can be combined only band by band. A band
    that starts inside a document is read together with the context that the model needs, whose predictions are dropped.
    """
    begin = band.document if model.context_size is None else max(band.document, band.start - model.context_size)
    n_before = band.start - begin
    for positions, block in model.stream_log_probs(TokenStream(stream.ids[begin : band.stop])):
        inside = positions >= n_before
        yield (positions - n_before, block) if inside.all() else (positions[inside] - n_before, block[inside])
