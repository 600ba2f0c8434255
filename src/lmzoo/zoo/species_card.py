"""A card describes a model family: its year, its people, its idea, its paper, and where its code is."""

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
    """What a visitor reads on the cage, and where the animal lives."""

    name: str
    factory: str
    """"module:function"; the function takes vocab_size and keyword settings, and returns a `LanguageModel`."""
    title: str
    year: int
    people: str
    idea: str
    sees: str
    """Its context window, in words."""
    changed: str
    """What it changed."""
    limits: str
    paper: str
    cites: tuple[str, ...] = ()
    """Keys of its papers in `references.bib`."""
    beware: str = ""
    """What is often said of it and is wrong."""
    tolerance: float = 1e-9
    """Largest difference of two log-probabilities, in nats, that rounding alone explains; used by `lmzoo.testing`."""

    def resolve(self) -> Callable[..., LanguageModel[Any]]:
        """Imports and returns the factory."""
        module, _, function = self.factory.partition(":")
        try:
            return getattr(importlib.import_module(module), function)
        except (ImportError, AttributeError, ValueError) as error:
            raise ConfigurationError(f"species '{self.name}' names the factory '{self.factory}': {error}") from error
