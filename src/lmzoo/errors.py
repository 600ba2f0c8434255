"""Every error that lmzoo raises on purpose.

    LmzooError                     caught at the command line: one line, no traceback, exit status 1
      UsageError                   the call is wrong (exit status 2)
        UnknownNameError           no such species, corpus, tokenizer, ...: names the nearest match
        ConfigurationError         a setting with a wrong name or value
        TokenIdError               an id outside the vocabulary
      CorpusError                  text that is missing, empty, damaged or too small
      TokenizerError               text that this tokenizer cannot represent, or a damaged tokenizer
      NotFittedError               a model was asked before it was fitted
      SavedModelError              a saved folder that is missing, damaged or of another version
      TrainingError                a fit that cannot go on (divergence, a checkpoint of another run)
      MissingExtraError            an optional dependency is not installed

Messages say what was wrong, the value received, what is allowed, and what to do.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class LmzooError(Exception):
    """Base of every error that lmzoo raises on purpose."""


class UsageError(LmzooError, ValueError):
    """The call itself is wrong: it would fail in the same way on any machine."""


class UnknownNameError(UsageError):
    """No such name in a closed list of names."""

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        known = sorted(known)
        nearest = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
        hint = f"did you mean '{nearest[0]}'?" if nearest else f"known: {', '.join(known)}"
        super().__init__(f"unknown {kind} '{name}': {hint}")
        self.kind, self.name, self.known = kind, name, known

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.kind, self.name, self.known)


class ConfigurationError(UsageError):
    """A setting with a wrong name, type or value."""


class TokenIdError(UsageError):
    """A token id outside the vocabulary."""


class CorpusError(LmzooError):
    """Text that is missing, empty, damaged or too small for the request."""


class TokenizerError(LmzooError):
    """Text that a tokenizer cannot represent, or a damaged tokenizer."""


class NotFittedError(LmzooError):
    """A model was asked for a prediction before `fit` or `load_arrays`."""


class SavedModelError(LmzooError):
    """A saved folder that is missing, damaged or written by an incompatible version."""


class TrainingError(LmzooError):
    """A fit that cannot go on."""


class MissingExtraError(LmzooError):
    """An optional dependency is not installed."""

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        super().__init__(f"{purpose} needs the package '{package}': pip install 'lmzoo[{extra}]'")
        self.package, self.extra, self.purpose = package, extra, purpose

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.package, self.extra, self.purpose)
