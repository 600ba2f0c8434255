"""Measures of prediction quality: bits per byte, perplexity, and the surprisal of each token of a text."""

from __future__ import annotations

import html
import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from itertools import groupby
from typing import Any

from lmzoo.errors import needs_extra


def bits_per_byte(total_nats: float, n_bytes: int) -> float:
    """Returns the mean surprisal of a text in bits per UTF-8 byte, for a total surprisal in nats.

    Values are comparable between all tokenizers that are lossless.
    """
    return total_nats / (math.log(2) * n_bytes)


def perplexity(total_nats: float, n_units: int) -> float:
    """Returns the perplexity of a text: the exponential of its mean surprisal, in nats, per token or per word.

    Values are comparable only if the text was split into the same units.
    """
    mean = total_nats / n_units
    return math.exp(mean) if mean < 700 else math.inf


def bits(nats: float) -> float:
    """Converts nats to bits."""
    return nats / math.log(2)


@dataclass(frozen=True)
class TokenSurprisal:
    """The surprisal of one token of a text under a model, with its rank and the entropy of the prediction."""

    token_id: int
    text: str
    """Text of the token; empty for EOT (end of text)."""
    start: int
    """Index of the first character of the token in the text."""
    end: int
    """Index after the last character of the token in the text."""
    surprisal_bits: float
    """Surprisal of the token in bits: -log2 of its probability given the text before it."""
    rank: int
    """Rank of the token among all tokens by probability; 1 is the most likely token."""
    entropy_bits: float
    """Entropy, in bits, of the distribution that predicted the token."""


class Surprisals(list[TokenSurprisal]):
    """The surprisals of the tokens of a text, in order; a notebook shows them as coloured text."""

    def __init__(self, text: str, tokens: Iterable[TokenSurprisal]) -> None:
        super().__init__(tokens)
        self.text = text

    @property
    def total_bits(self) -> float:
        """Sum of the surprisals of all tokens, in bits."""
        return math.fsum(token.surprisal_bits for token in self)

    def to_dataframe(self) -> Any:
        """Returns a pandas data frame with one row for each token; raises MissingExtraError without pandas."""
        with needs_extra("pandas", "pandas", "a data frame of surprisals"):
            import pandas  # pyright: ignore[reportMissingImports]
        columns = [field.name for field in fields(TokenSurprisal)]
        return pandas.DataFrame([asdict(token) for token in self], columns=columns)

    def _repr_html_(self) -> str:
        """Returns the text as HTML; a token with a higher surprisal has a redder background."""
        parts, written = [], 0
        for (start, end), group in groupby(self, key=lambda token: (token.start, token.end)):
            tokens = list(group)  # more than one if a character is split into bytes
            parts += [html.escape(self.text[written:start]), _coloured(self.text[start:end] or "■", tokens)]
            written = end
        parts.append(html.escape(self.text[written:]))
        note = f"{len(self):,} tokens, {self.total_bits:,.1f} bits"
        return (
            f'<div style="white-space:pre-wrap;line-height:1.7">{"".join(parts)}</div>'
            f'<div style="opacity:.7;font-size:85%">{note}</div>'
        )


def _coloured(text: str, tokens: list[TokenSurprisal]) -> str:
    total = math.fsum(token.surprisal_bits for token in tokens)
    opacity = 0.65 * min(total / 16, 1)
    hint = html.escape(f"{total:.1f} bits, rank {', '.join(f'{token.rank:,}' for token in tokens)}")
    return f'<span title="{hint}" style="background:rgba(226,74,51,{opacity:.2f})">{html.escape(text)}</span>'
