"""The origin of a trained model: its training text and seed, or the file that it was read from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """The origin of a trained model. A field is None if it is unknown or does not apply.

    `Predictor.fit` records the corpus, the seed and the time; a model that was read from a file of another program has
    a `source` instead.
    """

    corpus: str | None = None
    """Name of the training corpus."""
    corpus_fingerprint: str | None = None
    """SHA-256 hash of the training corpus, in hexadecimal."""
    parent: str | None = None
    """SHA-256 hash, in hexadecimal, of the weights of the model that training started from; None for a new model."""
    n_train_tokens: int | None = None
    """Number of tokens in the train split."""
    n_tokens_read: int | None = None
    """Number of tokens read in training, counted once per epoch; None for models that do not count them."""
    seed: int | None = None
    """Random seed of the training."""
    fit_seconds: float | None = None
    """Wall-clock time of the training in seconds, including interrupted runs that were resumed."""
    source: str | None = None
    """Name of the file or folder that an imported model was read from."""
    source_fingerprint: str | None = None
    """SHA-256 hash of the imported files, in hexadecimal."""
    largest_sum_error: float | None = None
    """Largest difference from 1 of the sum of a distribution, over a sample of contexts of an imported n-gram model."""
    created: str | None = None
    """Date and time (UTC) of the training or of the import, in ISO 8601 format."""
    versions: Mapping[str, str] | None = None
    """Version of lmzoo, Python and the numerical packages, by name."""
    machine: Mapping[str, Any] | None = None
    """Description of the computer that trained the model."""

    def as_dict(self) -> dict[str, Any]:
        """Returns the known fields by name, as values that JSON can hold."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {
            name: dict(value) if isinstance(value, Mapping) else value
            for name, value in values.items()
            if value is not None
        }
