"""The exceptions of lmzoo. The command line reports them in one line, without a traceback.

    LmzooError                     base class (exit status 1 of the command line)
      UsageError                   the call is wrong (exit status 2)
        UnknownNameError           an unknown name of a model, corpus or tokenizer; suggests the nearest name
        ConfigurationError         a setting with a wrong name or value
        TokenIdError               a token id outside the vocabulary
      CorpusError                  text that is missing, empty, damaged or too short
      TokenizerError               text that a tokenizer cannot represent, or a damaged tokenizer
      NotFittedError               a prediction of a model that is not trained
      SavedModelError              a saved folder that is missing, damaged or of another version
      TrainingError                training that cannot continue (divergence, or a checkpoint of another run)
      RemoteError                  a server that cannot be reached, refuses a request, or gives an unusable answer
      MissingExtraError            an optional dependency that is not installed or cannot be imported

A message says what was wrong, the value received, what is allowed, and what to do.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Returns the question "did you mean 'X'?" with the known name X that resembles `name` most.

    A name with other capitals is the nearest. Returns an empty string if no known name is similar enough.
    """
    known = list(known)
    same = [each for each in known if each.lower() == name.lower()]
    nearest = same or difflib.get_close_matches(name, known, n=1)
    return f"did you mean '{nearest[0]}'?" if nearest else ""


class LmzooError(Exception):
    """Base class of all exceptions that lmzoo raises deliberately."""


class UsageError(LmzooError, ValueError):
    """Raised for a wrong call, such as a wrong argument, that would fail in the same way on any computer."""


class UnknownNameError(UsageError):
    """Raised for a name that is not among the known names; the message suggests the nearest known name."""

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        known = sorted(known)
        text = str(name)
        if "," in text and set(text.split(",")) <= set(known):
            hint = "these are several names: give one, or, where several are allowed, each separately without commas"
        else:
            hint = did_you_mean(text, known) or (f"choose one of {', '.join(known)}" if known else "there are none")
        super().__init__(f"unknown {kind} '{name}': {hint}")
        self.kind, self.name, self.known = kind, name, known

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.kind, self.name, self.known)


class ConfigurationError(UsageError):
    """Raised for a setting with a wrong name, type or value."""


class TokenIdError(UsageError):
    """Raised for a token id outside the vocabulary."""


class CorpusError(LmzooError):
    """Raised for a text that is missing, empty, damaged or too short for the request."""


class TokenizerError(LmzooError):
    """Raised for text that a tokenizer cannot represent, and for a damaged tokenizer."""


class NotFittedError(LmzooError):
    """Raised when a model is asked for a prediction before it was trained or loaded."""


class SavedModelError(LmzooError):
    """Raised for a saved folder that is missing, damaged or written by an incompatible version."""


class TrainingError(LmzooError):
    """Raised when training cannot continue, for example after divergence."""


class RemoteError(LmzooError):
    """Raised when a server cannot be reached, refuses a request, or gives an answer that cannot be used."""


class MissingExtraError(LmzooError):
    """Raised when an optional dependency is not installed or cannot be imported; the message says what to install.

    `reason` is the message of the error inside a package that is installed; empty if the package is not installed.
    """

    def __init__(self, package: str, extra: str, purpose: str, reason: str = "") -> None:
        advice = f": pip install 'lmzoo[{extra}]'"
        if reason:
            advice = f", which is installed but cannot be imported ({reason}): pip install --force-reinstall {package}"
        super().__init__(f"{purpose} needs the package '{package}'{advice}")
        self.package, self.extra, self.purpose, self.reason = package, extra, purpose, reason

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.package, self.extra, self.purpose, self.reason)


@contextmanager
def needs_extra(package: str, extra: str, purpose: str) -> Iterator[None]:
    """Raises MissingExtraError if an import inside the `with` block fails.

    The message says that `purpose`, such as "a Parquet file", needs the package `package`, which the optional
    dependency `extra` of lmzoo installs. If the package is installed but damaged, the message gives the reason.
    """
    try:
        yield
    except ImportError as error:
        reason = str(error) if find_spec(package) else ""
        raise MissingExtraError(package, extra, purpose, reason) from error
