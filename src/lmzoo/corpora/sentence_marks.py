"""The words `<s>`, `</s>` and `<unk>` in a text, which other programs reserve and which are ordinary text for lmzoo."""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Iterable

from lmzoo.tokenizers import Tokenizer
from lmzoo.tokenizers.words import SEPARATORS

_MARK = re.compile(rf"(?<![^{SEPARATORS}])(?:</?s>|<unk>)(?![^{SEPARATORS}])")
_logger = logging.getLogger(__name__)


def report_marks(texts: Iterable[str], tokenizer: Tokenizer) -> None:
    """Logs a warning if a text for a word tokenizer contains the words `<s>`, `</s>` or `<unk>`.

    lmzoo reads these as ordinary text, and marks the start and the end of documents itself. Texts for other programs
    may contain these words. The warning says how often each word occurs, and how the tokenizer encodes it.
    """
    if tokenizer.kind != "word":
        return
    counts = Counter(mark for text in texts if "<" in text for mark in _MARK.findall(text))
    if not counts:
        return
    readings = ", ".join(f"{mark} ({counts[mark]:,} times) as {_reading(mark, tokenizer)}" for mark in sorted(counts))
    advice = []
    if "<s>" in counts or "</s>" in counts:
        advice.append("remove <s> and </s>, because lmzoo marks the start and the end of each document itself")
    if "<unk>" in counts:
        advice.append("keep <unk> only if it replaces rare words")
    _logger.warning(
        "the text has words that other programs use as marks, and the tokenizer reads %s: %s",
        readings,
        "; ".join(advice),
    )


def _reading(mark: str, tokenizer: Tokenizer) -> str:
    """Describes how a tokenizer encodes the word `<s>`, `</s>` or `<unk>`.

    The description is "an ordinary word", "2 ordinary words" (or another number), or "an unknown word".
    """
    ids = tokenizer.encode(mark).tolist()
    if ids == [tokenizer.unknown_id]:
        return "an unknown word"
    return "an ordinary word" if len(ids) == 1 else f"{len(ids)} ordinary words"
