"""Generated text, piece by piece: decodes token ids as they arrive and ends the text at stop strings.

`PieceDecoder` and `StopStrings` are fed one token or one piece at a time. `PieceDecoder.pieces` and `until_stop` do the
same for iterators.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import final

import numpy as np
from numpy.typing import NDArray

from lmzoo.errors import ConfigurationError
from lmzoo.stream import EOT
from lmzoo.tokenizers import Tokenizer

_MOST_BEFORE = 16
"""Number of ids of a prompt that can change the text of the token after it: its last character may be incomplete."""


@final
class PieceDecoder:
    """Decodes generated token ids to pieces of text that hold whole characters only.

    `prompt_ids` are the ids before the generated ones; they can change the text of the first generated token, for
    example by a space before a word. If `drop_first_space` is True, the first piece begins without such a space. Ids in
    `skipped` add no text.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        prompt_ids: Sequence[int] = (),
        *,
        drop_first_space: bool = False,
        skipped: Collection[int] = (),
    ) -> None:
        self._tokenizer, self._skipped = tokenizer, skipped
        self._before = list(prompt_ids[-_MOST_BEFORE:])
        self._pending: list[int] = []
        self._drops_space = drop_first_space

    def pieces(self, token_ids: Iterable[int]) -> Iterator[str]:
        """Yields the pieces of text of generated ids as they arrive, up to EOT (end of text).

        A character that is split over several tokens is yielded after its last token.
        """
        for token_id in token_ids:
            if token_id == EOT:
                break
            piece = self.add(token_id)
            if piece is not None:
                yield piece
        if rest := self.rest():
            yield rest

    def add(self, token_id: int) -> str | None:
        """Returns the text that is complete with this token; None if its last character is not complete yet."""
        if token_id in self._skipped:
            return None
        self._pending.append(token_id)
        text = self._text()
        if text.endswith("\ufffd"):
            return None
        return self._finished(text)

    def rest(self) -> str:
        """Returns the text of the tokens at the end whose last character has stayed incomplete."""
        return self._finished(self._text()) if self._pending else ""

    def _text(self) -> str:
        """Returns the text that the pending ids add to the text of the ids before them."""
        if not self._before:
            alone = len(self._pending) == 1
            return self._tokenizer.text_of(self._pending[0]) if alone else self._tokenizer.decode(self._pending)
        before, whole = self._tokenizer.decode(self._before), self._tokenizer.decode(self._before + self._pending)
        # If the prompt ends within a character, `before` ends with U+FFFD for each part of the character. Only these
        # are removed; a U+FFFD that the prompt itself contains stays.
        while before.endswith("\ufffd") and (whole == before or not whole.startswith(before)):
            before = before[:-1]
        return whole[len(before) :]

    def _finished(self, text: str) -> str:
        """Notes that the pending ids have been decoded as `text`, and returns the text to show."""
        # The text of a token after a whole character depends on the token before only if spaces are put between words.
        self._before, self._pending = [] if self._tokenizer.lossless else self._pending, []
        if self._drops_space:
            self._drops_space = False
            return text.removeprefix(" ")
        return text


def continuation(
    tokenizer: Tokenizer, token_ids: Iterable[int], prompt: str, prompt_ids: NDArray[np.int32], stop: Sequence[str]
) -> Iterator[str]:
    """Yields the pieces of text of generated ids, up to EOT (end of text) or before the first of the `stop` strings.

    `prompt_ids` (T,) are the ids of the text `prompt`, after which the ids were generated.
    """
    before = prompt_ids.tolist()
    decoder = PieceDecoder(tokenizer, before, drop_first_space=drops_first_space(tokenizer, prompt, before))
    return until_stop(decoder.pieces(token_ids), stop)


def drops_first_space(tokenizer: Tokenizer, prompt: str, prompt_ids: Sequence[int]) -> bool:
    """Returns True if the text after a prompt must begin without the space that decoding puts there.

    A word tokenizer drops the space at the end of the prompt, and writes one before the first generated word.
    """
    return prompt[-1:].isspace() and not tokenizer.decode(prompt_ids)[-1:].isspace()


def stop_strings(stop: str | Iterable[str]) -> list[str]:
    """Returns one stop string, or several, as a list.

    Raises ConfigurationError if a stop string is empty or not a string.
    """
    strings = list(stop) if isinstance(stop, Iterable) and not isinstance(stop, str) else [stop]
    for text in strings:
        if not isinstance(text, str) or not text:
            raise ConfigurationError(f"a stop string must be a text of at least one character, got {text!r}")
    return strings


@final
class StopStrings:
    """Ends a text before the first of several stop strings, which may be split over its pieces.

    If the text so far ends with the beginning of a stop string, this end is held back until the next piece shows that
    no stop string follows.
    """

    def __init__(self, stop: Sequence[str]) -> None:
        self._stop = stop
        self._waiting = ""
        self.found = False
        """True after a stop string; no piece may be added any more."""

    def add(self, piece: str) -> str:
        """Adds a piece of text, and returns the text that can be shown now."""
        waiting = self._waiting + piece
        positions = [position for position in map(waiting.find, self._stop) if position >= 0]
        if positions:
            self.found, self._waiting = True, ""
            return waiting[: min(positions)]
        n_ready = len(waiting) - max((_overlap(waiting, ending) for ending in self._stop), default=0)
        self._waiting = waiting[n_ready:]
        return waiting[:n_ready]

    def rest(self) -> str:
        """Returns the text that was held back, when the text has ended without a stop string."""
        return self._waiting


def until_stop(pieces: Iterable[str], stop: Sequence[str]) -> Iterator[str]:
    """Yields the pieces of a text up to its first stop string, which is left out; see `StopStrings`."""
    scanner = StopStrings(stop)
    for piece in pieces:
        ready = scanner.add(piece)
        if ready or scanner.found:
            yield ready
        if scanner.found:
            return
    if rest := scanner.rest():
        yield rest


def _overlap(text: str, stop: str) -> int:
    """Returns the length of the longest suffix of `text` that is a prefix of `stop`, but shorter than `stop`."""
    sizes = range(min(len(stop) - 1, len(text)), 0, -1)
    return next((size for size in sizes if text.endswith(stop[:size])), 0)
