"""Generated text, piece by piece: decodes token ids as they arrive and ends the text at stop strings."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from lmzoo.errors import ConfigurationError
from lmzoo.stream import EOT
from lmzoo.tokenizers import Tokenizer


def decode_pieces(tokenizer: Tokenizer, token_ids: Iterable[int], prompt_ids: Sequence[int] = ()) -> Iterator[str]:
    """Decodes generated token ids as they arrive, and yields pieces of text that hold whole characters only.

    Stops at EOT (end of text). A character that is split over several tokens is yielded after its last token.
    `prompt_ids` are the ids before the generated ones; they can change the text of the first generated token, for
    example by a space before a word.
    """
    before = list(prompt_ids)
    pending: list[int] = []
    for token_id in token_ids:
        if token_id == EOT:
            break
        pending.append(token_id)
        text = _text_after(tokenizer, before, pending)
        if not text.endswith("\ufffd"):  # the last character is whole
            yield text
            before, pending = pending, []
    if pending:
        yield _text_after(tokenizer, before, pending)


def _text_after(tokenizer: Tokenizer, before: list[int], ids: list[int]) -> str:
    """Returns the text that `ids` add to the text of the ids `before` them."""
    return tokenizer.decode(before + ids)[len(tokenizer.decode(before)) :]


def without_first_space(pieces: Iterable[str]) -> Iterator[str]:
    """Yields the pieces of a text without the space at the start of the first piece, if there is one."""
    for index, piece in enumerate(pieces):
        yield piece if index else piece.removeprefix(" ")


def check_stop(stop: Sequence[str]) -> None:
    """Raises ConfigurationError if a stop string is empty."""
    if any(not text for text in stop):
        raise ConfigurationError("a stop string must have at least one character, got ''")


def until_stop(pieces: Iterable[str], stop: Sequence[str]) -> Iterator[str]:
    """Yields the pieces of a text up to its first stop string, which is left out.

    If the text so far ends with the beginning of a stop string, this end is yielded only when the next piece shows that
    no stop string follows.
    """
    waiting = ""
    for piece in pieces:
        waiting += piece
        found = [position for position in map(waiting.find, stop) if position >= 0]
        if found:
            yield waiting[: min(found)]
            return
        ready = len(waiting) - max((_overlap(waiting, ending) for ending in stop), default=0)
        if ready:
            yield waiting[:ready]
            waiting = waiting[ready:]
    if waiting:
        yield waiting


def _overlap(text: str, stop: str) -> int:
    """Returns the length of the longest suffix of `text` that is a prefix of `stop`, but shorter than `stop`."""
    sizes = range(min(len(stop) - 1, len(text)), 0, -1)
    return next((size for size in sizes if text.endswith(stop[:size])), 0)
