"""Surprisals of a text under a remote model, from the log-probabilities of an echoed prompt.

A server that honours `echo` repeats the prompt as tokens with their log-probabilities. The first token usually has
none, because nothing precedes it; the end of the text is not scored, because the server does not know where it is.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from lmzoo.interchange.remote.answers import UNKNOWN, ScoredToken
from lmzoo.metrics import bits
from lmzoo.system.counts import counted

_DAMAGED = "\ufffd"
"""The character that stands for bytes that are not a whole character."""
_BYTES = "bytes:"
"""Beginning of a token that is not a whole character, in answers of OpenAI: bytes:\\xe2\\x80."""
_MOST_SKIPPED = 4
"""Most characters of a text for each token that holds parts of characters; more are missing tokens."""


@dataclass(frozen=True)
class RemoteSurprisal:
    """The surprisal of one token of a text under a remote model."""

    text: str
    """Text of the token, as the server writes it."""
    start: int
    """Index of the first character of the token in the text."""
    end: int
    """Index after the last character of the token; tokens that are parts of characters share the span of them all."""
    surprisal_bits: float | None
    """Surprisal of the token in bits; None if the server gives no log-probability, as for a first token."""


class RemoteSurprisals(list[RemoteSurprisal]):
    """The surprisals of the tokens of a text under a remote model, in order."""

    def __init__(self, text: str, tokens: Iterable[RemoteSurprisal]) -> None:
        super().__init__(tokens)
        self.text = text

    @property
    def scored(self) -> list[RemoteSurprisal]:
        """The tokens that have a surprisal, except those that share a character with a token without a surprisal."""
        unscored = {(token.start, token.end) for token in self if token.surprisal_bits is None}
        return [token for token in self if (token.start, token.end) not in unscored]

    @property
    def total_bits(self) -> float:
        """Sum of the surprisals of the scored tokens, in bits."""
        return math.fsum(token.surprisal_bits or 0 for token in self.scored)

    @property
    def scored_bytes(self) -> int:
        """Number of UTF-8 bytes of the scored tokens."""
        return sum(_n_bytes(self.text[start:end]) for start, end in {(token.start, token.end) for token in self.scored})

    @property
    def bits_per_byte(self) -> float | None:
        """Bits per UTF-8 byte of the scored tokens; None if no token with a byte is scored."""
        return self.total_bits / self.scored_bytes if self.scored_bytes else None

    @property
    def not_covered(self) -> str:
        """A sentence that says which parts of the text have no surprisal."""
        n_tokens, n_bytes = len(self) - len(self.scored), _n_bytes(self.text) - self.scored_bytes
        return not_covered(n_tokens, n_bytes)


def not_covered(n_tokens: int, n_bytes: int) -> str:
    """Returns a sentence for users: `n_tokens` tokens with `n_bytes` bytes, and the ends of texts, are not scored."""
    tokens = f"{counted(n_tokens, 'token')} without a log-probability ({counted(n_bytes, 'byte')}), and "
    return f"Not scored: {tokens if n_tokens else ''}the end of each text."


def align(text: str, tokens: Sequence[ScoredToken]) -> RemoteSurprisals | None:
    """Returns the surprisals of the tokens that a text was divided into; None if the tokens do not make up the text.

    A first token without log-probability that is not in the text, such as `<s>`, is left out. The first token may begin
    with a space that is not in the text, because some tokenizers add one. Raises ValueError for a log-probability of
    -9999 or below, which some servers send as a placeholder for an unknown one.
    """
    spans = _spans(text, [token.text for token in tokens])
    if spans is None and tokens and tokens[0].log_prob is None:
        tokens = tokens[1:]
        spans = _spans(text, [token.text for token in tokens])
    if spans is None:
        return None
    return RemoteSurprisals(
        text,
        (
            RemoteSurprisal(token.text, start, end, _surprisal_bits(token.log_prob))
            for token, (start, end) in zip(tokens, spans, strict=True)
        ),
    )


def _surprisal_bits(log_prob: float | None) -> float | None:
    if log_prob is not None and log_prob <= UNKNOWN:
        raise ValueError(f"the log-probability {log_prob:g} stands for a token of unknown probability")
    return None if log_prob is None else bits(-log_prob) + 0.0  # no negative zero


def _spans(text: str, tokens: Sequence[str]) -> list[tuple[int, int]] | None:
    """Returns the spans (start, end) of tokens in a text; None if the tokens do not make up the text.

    Tokens that hold parts of characters cannot be found in the text. Successive ones all get the same span: from the
    end of the last token that was found to the start of the next one, or to the end of the text.
    """
    spans: list[tuple[int, int]] = []
    position = 0  # end of the last token that was found
    parts: list[str] = []  # the tokens after it, which hold parts of characters
    for index, token in enumerate(tokens):
        if not token or _DAMAGED in token or token.startswith(_BYTES):
            parts.append(token)
            continue
        if index == 0 and token.startswith(" ") and not text.startswith(" "):
            token = token[1:]
        start = text.find(token, position + any(parts), position + _MOST_SKIPPED * len(parts) + len(token))
        if start < 0:
            return None
        spans += [(position, start)] * len(parts)
        parts = []
        position = start + len(token)
        spans.append((start, position))
    spans += [(position, len(text))] * len(parts)
    is_whole = len(text) - position <= _MOST_SKIPPED * len(parts)
    return spans if is_whole else None


def _n_bytes(text: str) -> int:
    return len(text.encode(errors="surrogatepass"))
