"""Cards of model families: the year, authors, idea and paper of each, and the location of its code."""

from __future__ import annotations

import importlib
import typing
from dataclasses import dataclass
from typing import Any

from lmzoo.errors import ConfigurationError

if typing.TYPE_CHECKING:
    from collections.abc import Callable

    from lmzoo.language_model import LanguageModel


@dataclass(frozen=True)
class Card:
    """A description of a species, which is a model family of the zoo, and the location of its factory function."""

    name: str
    factory: str
    """The factory as "module:function"; it takes `vocab_size` and keyword settings, and returns a `LanguageModel`."""
    title: str
    year: int
    people: str
    idea: str
    sees: str
    """The context that the model uses, in words."""
    changed: str
    """The contribution of the model to the history of language models."""
    limits: str
    paper: str
    cites: tuple[str, ...] = ()
    """Keys of the papers in `references.bib`."""
    beware: str = ""
    """A note against misunderstandings of the model or of its results; empty if none is needed."""
    learns_from: str = "text"
    """What the model learns from: "text", or "conversations" for models that `lmzoo align` trains."""
    tolerance: float = 1e-9
    """Largest difference of two log-probabilities, in nats, that rounding alone explains; used by `lmzoo.testing`."""

    def resolve(self) -> Callable[..., LanguageModel[Any]]:
        """Imports and returns the function that creates an untrained model of the family which the card describes.

        Raises ConfigurationError if the function cannot be imported.
        """
        module, _, function = self.factory.partition(":")
        try:
            return getattr(importlib.import_module(module), function)
        except (ImportError, AttributeError, ValueError) as error:
            raise ConfigurationError(
                f"cannot import the factory '{self.factory}' of species '{self.name}': {error}"
            ) from error
