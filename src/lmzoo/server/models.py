"""The predictors that a server offers, by name. Each is loaded when it is first asked for, and kept in memory."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from threading import Lock

from lmzoo import zoo
from lmzoo.errors import UnknownNameError
from lmzoo.predictor import Predictor
from lmzoo.predictor_folder import Description, read_description


class ServedModels:
    """The predictors of a server by name; safe to use from several threads.

    `sources` gives, for each name, a predictor, or the path from which `Predictor.load` loads it.
    """

    def __init__(self, sources: Mapping[str, Predictor | Path]) -> None:
        self._sources = dict(sources)
        self._lock = Lock()

    def add(self, name: str, source: Predictor | Path) -> None:
        """Adds a predictor under a name; `source` is the predictor, or the path from which it is loaded when needed."""
        self._sources[name] = source

    @property
    def names(self) -> list[str]:
        """The names of the predictors, in the order in which they were given."""
        return list(self._sources)

    def get(self, name: str) -> Predictor:
        """Returns the predictor `name`, after loading it if this was not done before.

        Raises UnknownNameError if there is no such predictor, and the errors of `Predictor.load`.
        """
        if name not in self._sources:
            raise UnknownNameError("model", name, self._sources)
        with self._lock:  # one at a time, as loading imports modules, and two threads could wait for each other's
            source = self._sources[name]
            if isinstance(source, Path):
                source = self._sources[name] = Predictor.load(source)
        return source

    def unloaded_chat_model(self, name: str) -> Description | None:
        """Returns the description of the predictor `name` if it is a chat model that is not loaded yet, else None.

        Chat models that lmzoo trained are loaded when somebody talks to them. Raises SavedModelError if the description
        is damaged.
        """
        source = self._sources[name]
        path = source / "predictor.json" if isinstance(source, Path) else None
        if path is None or not path.is_file():
            return None
        description = read_description(path)
        is_chat_model = description.species in zoo.names() and zoo.card(description.species).learns_from != "text"
        return description if is_chat_model else None
