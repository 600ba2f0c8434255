"""Encodes long texts in segments: a segment that occurs many times in the texts is encoded only once.

A text is cut before each space or line feed that follows a character other than white space. The tokenizers that lmzoo
trains split every text at these positions, whatever the text before and after, so the token ids of a text are the token
ids of its segments in order. Most segments of a natural text are words that occur often: 100 MB of English have about
18 million segments, but fewer than one million different ones.
"""

from __future__ import annotations

import itertools
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, final

import numpy as np
from numpy.typing import NDArray

_SEGMENT = re.compile(r"[ \n]*[^ \n]+(?:(?<!\S)[ \n]+[^ \n]*)*|[ \n]+")
_CUT = re.compile(r"(?<=\S)(?=[ \n])")
_MEMORY_CHARACTERS = 1 << 22
"""Total length of the segments that an encoder remembers. Beyond it, the encoder forgets all segments."""


class Part(NamedTuple):
    """A part of a text, with a flag that tells if it is the last part."""

    text: str
    is_last: bool
    """True if the part ends its text."""


def parts(text: str, n_characters: int) -> Iterator[Part]:
    """Cuts a text into consecutive parts of at least `n_characters` characters; only the last part may have fewer.

    A part ends where a word ends: before the first space or line feed that follows another character than white space.
    """
    start = 0
    while len(text) - start > n_characters and (cut := _CUT.search(text, start + n_characters)):
        yield Part(text[start : cut.start()], is_last=False)
        start = cut.start()
    yield Part(text[start:], is_last=True)


@final
class SegmentEncoder:
    """Encodes texts as token ids faster than `encode` alone, because repeated words are encoded only once.

    A text is cut into segments, most of which are a word with the space before it. `encode` is a function that returns
    the token ids of each text in a list. It is called for new segments only, and its results are stored.
    """

    def __init__(self, encode: Callable[[list[str]], list[NDArray[np.int32]]]) -> None:
        self._encode_new = encode
        self._forget()

    def _forget(self) -> None:
        self._numbers: defaultdict[str, int] = defaultdict(itertools.count().__next__)  # the number of each segment
        self._n_characters = 0
        self._ids = np.empty(0, np.int32)  # the token ids of all segments, one segment after the other
        self._ends = np.zeros(1, np.int64)  # 0, and the position in `_ids` after the last id of each segment

    def encode(self, texts: Sequence[str]) -> list[NDArray[np.int32]]:
        """Returns the token ids of each text."""
        found = [_SEGMENT.findall(text) for text in texts]
        numbers = [np.fromiter(map(self._numbers.__getitem__, segments), np.int32, len(segments)) for segments in found]
        self._encode_unknown()
        flat = np.concatenate([np.empty(0, np.int32), *numbers])
        lengths = np.diff(self._ends)[flat]
        ends = np.cumsum(lengths)  # (S,) the position after each of S segments in the token ids of all texts
        ids = self._ids[np.arange(lengths.sum()) + np.repeat(self._ends[flat + 1] - ends, lengths)]
        if self._n_characters > _MEMORY_CHARACTERS:
            self._forget()
        text_ends = np.append(0, ends)[np.cumsum([0, *map(len, numbers)])].tolist()
        return [ids[start:end] for start, end in itertools.pairwise(text_ends)]

    def _encode_unknown(self) -> None:
        """Encodes the segments that have been seen in texts but have no stored token ids yet."""
        n_new = len(self._numbers) - (len(self._ends) - 1)
        new = list(itertools.islice(reversed(self._numbers), n_new))[::-1]
        encoded = self._encode_new(new)
        self._n_characters += sum(map(len, new))
        self._ids = np.concatenate([self._ids, *encoded])
        self._ends = np.append(self._ends, self._ends[-1] + np.cumsum([*map(len, encoded)], dtype=np.int64))


def cuts_at_white_space(steps: Sequence[Mapping[str, Any]]) -> bool:
    """Returns True if a tokenizer is known to encode each word of a text independently of the words before and after.

    Such a tokenizer splits each text before any space or line feed that follows another character than white space.
    `steps` are the steps of its pre-tokenizer, as in `tokenizer.json`, which are compared with a list of known ones.
    """
    match steps:
        case [{"type": "WhitespaceSplit" | "Whitespace"}]:
            return True
        case [{"type": "ByteLevel", "add_prefix_space": False, "use_regex": True}]:
            return True
        case [{"type": "Split", "pattern": {"Regex": r"[\s\S]{1,32}" | r"[^\x00\t\n\r ]+"}}]:
            return True
        case _:
            return False
