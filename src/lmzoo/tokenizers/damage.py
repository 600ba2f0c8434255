"""Checks of a `tokenizer.json` before the Hugging Face library reads it, which trusts the sizes that it declares."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import tokenizers

from lmzoo.errors import TokenizerError
from lmzoo.system.json_files import parse_json

_MAX_HOLES = 1_000_000
"""Number of ids without an entry: the library visits each of them whenever it writes the tokenizer."""
_MAX_GROWTH = 100
"""Largest factor by which the steps that replace or insert text may lengthen a text."""


def backend_from_json(text: str) -> tokenizers.Tokenizer:
    """Creates a tokenizer of the Hugging Face library from the text of a `tokenizer.json`.

    Raises TokenizerError if the text is damaged, or if the tokenizer would need far more memory than the text itself,
    because an id is very large or a replacement very long.
    """
    try:
        _check(parse_json(text))
        return tokenizers.Tokenizer.from_str(text)
    except BaseException as error:  # the library raises Exception itself, and its panics are not even an Exception
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise TokenizerError(f"this tokenizer.json is damaged: {' '.join(str(error).split())}") from error


def _check(description: Any) -> None:
    """Raises ValueError if a tokenizer is malformed or could use far more memory than its `tokenizer.json`.

    `description` is the parsed `tokenizer.json`. The largest token id may exceed the number of entries by at most a
    million, and replacements may make a text at most 100 times as long.
    """
    model = description.get("model") if isinstance(description, dict) else None
    if not isinstance(model, dict):
        raise ValueError("it must be an object with the field 'model'")
    if model.get("type") == "BPE":
        _check_merges(model)
    vocab, added = model.get("vocab"), description.get("added_tokens") or []
    ids = list(vocab.values()) if isinstance(vocab, dict) else []
    ids += [token.get("id") for token in added if isinstance(token, dict)] if isinstance(added, list) else []
    largest = max((token_id for token_id in ids if isinstance(token_id, int)), default=0)
    if largest >= len(ids) + _MAX_HOLES:
        raise ValueError(f"it has an entry with id {largest}, but only {len(ids)} entries")
    growth = math.prod(
        _growth(step) for name in ("normalizer", "pre_tokenizer", "decoder") for step in _steps(description.get(name))
    )
    if growth > _MAX_GROWTH:
        raise ValueError(f"its replacements can make a text more than {_MAX_GROWTH} times as long")


def _check_merges(model: dict[str, Any]) -> None:
    """Raises ValueError if a BPE merge joins a token with one that cannot stand inside a word.

    `model` is the field "model" of a `tokenizer.json`. In some models, tokens inside words have a prefix such as "##";
    the second token of each merge must have it. Models without a prefix need no check.
    """
    prefix, merges = model.get("continuing_subword_prefix"), model.get("merges")
    if isinstance(prefix, str) and prefix and isinstance(merges, list):
        pairs = [pair.split(" ") if isinstance(pair, str) else pair for pair in merges]
        if not all(isinstance(pair, list) and str(pair[-1:][0] if pair else "").startswith(prefix) for pair in pairs):
            raise ValueError(f"a merge does not begin with the prefix {prefix[:20]!r} of parts within words")


def _steps(component: Any) -> Iterator[dict[str, Any]]:
    """Yields all steps of a normalizer, pre-tokenizer or decoder, including the steps nested in other steps."""
    if isinstance(component, list):
        for part in component:
            yield from _steps(part)
    elif isinstance(component, dict):
        yield component
        for part in component.values():
            yield from _steps(part)


def _growth(step: dict[str, Any]) -> int:
    """Returns the largest factor by which a step can lengthen a text."""
    contents = [step.get(name) for name in ("content", "prepend", "replacement")]
    return max([1, *(len(content) for content in contents if isinstance(content, str))])
