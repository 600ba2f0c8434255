"""Aligns the tokens of texts with their words.

A word is a *separated word* (see `lmzoo.tokenizers.words`): what stands between NUL, tab, line feed, carriage return
and space. A token belongs to the first word that ends after the start of the token. So the white space before a word
belongs to the word, whether it is a token of its own or the beginning of another. Tokens of white space after the last
word belong to the end of the text, as EOT does. An example, with a tokenizer of byte pairs:

    text      I saw\\n anthropoids.
    tokens    I| saw|\\n| anthrop|oids|.|EOT
    segments  0    1  2        2    2 2   3
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import Final, final

import numpy as np
from numpy.typing import NDArray

from lmzoo.stream import EOT, TokenStream
from lmzoo.tokenizers.tokenizer import Tokenizer
from lmzoo.tokenizers.words import SEPARATORS, split_words

_IS_SEPARATOR: Final = np.isin(np.arange(2 + max(map(ord, SEPARATORS))), [*map(ord, SEPARATORS)])
"""True for the code point of each separator; the last entry, which is False, stands for all larger code points."""
_SEPARATORS: Final = tuple(character.encode() for character in SEPARATORS)


@dataclass(frozen=True, eq=False)
class AlignedTexts:
    """K texts with the positions of their W words and of their T tokens, an EOT after each text included.

    Positions count characters from the start of the first text, as if the texts were joined. Each word and the end of
    each text is a *segment*, in the order of the texts: G = W + K segments.
    """

    texts: Sequence[str]
    text_starts: NDArray[np.int64]
    """(K + 1,) the position of the first character of each text, and the length of all texts."""
    stream: TokenStream
    """The token ids of the texts; each text is a document."""
    starts: NDArray[np.int64]
    """(T,) the position of the first character of each token. Tokens that share a character have the same position."""
    ends: NDArray[np.int64]
    """(T,) the position after the last character of each token."""
    word_starts: NDArray[np.int64]
    """(W,) the position of the first character of each word."""
    word_ends: NDArray[np.int64]
    """(W,) the position after the last character of each word."""

    @cached_property
    def text_of_token(self) -> NDArray[np.int64]:
        """Index (T,) of the text of each token."""
        return np.repeat(np.arange(self.stream.n_documents), self.stream.ends - self.stream.starts)

    @cached_property
    def text_of_word(self) -> NDArray[np.int64]:
        """Index (W,) of the text of each word."""
        return np.searchsorted(self.text_starts, self.word_starts, side="right") - 1

    @cached_property
    def end_segments(self) -> NDArray[np.int64]:
        """Index (K,) of the segment of the end of each text."""
        n_words = np.bincount(self.text_of_word, minlength=self.stream.n_documents)
        return np.cumsum(n_words + 1) - 1

    @cached_property
    def segment_of_token(self) -> NDArray[np.int64]:
        """Index (T,) of the segment of each token, in increasing order."""
        return np.minimum(self._word_of_token + self.text_of_token, self.end_segments[self.text_of_token])

    @cached_property
    def segment_of_word(self) -> NDArray[np.int64]:
        """Index (W,) of the segment of each word."""
        return np.arange(self.word_starts.size) + self.text_of_word

    @cached_property
    def _word_of_token(self) -> NDArray[np.int64]:
        """Index (T,) of the first word that ends after the start of each token, even if it is in a later text."""
        return _n_before(self.word_ends, int(self.text_starts[-1]))[self.starts + 1]

    @property
    def words(self) -> list[str]:
        """The W words."""
        return list(chain.from_iterable(map(split_words, self.texts)))

    @property
    def has_own_tokens(self) -> NDArray[np.bool_]:
        """True (G,) for each segment that has tokens, and shares none of them with another segment.

        Most tokenizers never join words. If one does, the probability of such a token cannot be divided among its
        words.
        """
        own = np.bincount(self.segment_of_token, minlength=self.word_starts.size + self.stream.n_documents) > 0
        # The last word in which each token has a part.
        last = _n_before(self.word_starts, int(self.text_starts[-1]))[self.ends] - 1
        joins = np.flatnonzero(last > self._word_of_token)
        for first, text, stop in zip(
            self._word_of_token[joins], self.text_of_token[joins], last[joins] + 1, strict=True
        ):
            own[first + text : stop + text] = False
        return own


def _n_before(positions: NDArray[np.int64], n_characters: int) -> NDArray[np.int64]:
    """Returns, for each position from 0 to `n_characters` + 1 of a text, how many of `positions` are before it.

    `positions` are different from each other. The result is an array (`n_characters` + 2,). For whole texts, computing
    it takes less time than a binary search for each token.
    """
    follows = np.zeros(n_characters + 2, np.int8)
    follows[positions + 1] = 1
    return np.cumsum(follows, dtype=np.int64)


@final
class Aligner:
    """Encodes texts with a tokenizer, and aligns their tokens with their words."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        spellings = [tokenizer.token_bytes(token_id) for token_id in range(tokenizer.vocab_size)]
        self._sizes = np.array([len(spelling) for spelling in spellings])
        self.begins_with_separator: NDArray[np.bool_] = np.array([each.startswith(_SEPARATORS) for each in spellings])
        """(V,) True for tokens that begin with a separator of words, such as a space."""
        self.ends_with_separator: NDArray[np.bool_] = np.array([each.endswith(_SEPARATORS) for each in spellings])
        """(V,) True for tokens that end with a separator of words."""
        self.ends_word: NDArray[np.bool_] = self.begins_with_separator | (self._sizes == 0)
        """(V,) True for tokens before which a word ends: those that begin with a separator, EOT, and other specials."""

    @cached_property
    def entries(self) -> NDArray[np.object_]:
        """The texts (V,) of all tokens; that of EOT is empty."""
        return np.array(["", *map(self.tokenizer.token_text, range(EOT + 1, self.tokenizer.vocab_size))], object)

    @property
    def keeps_separators(self) -> bool:
        """True if the tokens of a text tell where its words begin and end, because separators are parts of tokens.

        False for tokenizers that drop white space and divide words, such as `word`, which divides "end." in two.
        """
        return self.tokenizer.kind not in ("word", "wordpiece")

    @property
    def has_word_tokens(self) -> bool:
        """True if each word is exactly one token, as with the tokenizer `word-space`."""
        return self.tokenizer.spec.startswith("word-space")

    def align(self, texts: Sequence[str]) -> AlignedTexts:
        """Encodes texts, and finds the positions of their tokens and words.

        Raises TokenizerError for a text that is not valid Unicode.
        """
        encoded = self.tokenizer.encode_batch(texts)
        text_starts = np.cumsum([0, *map(len, texts)])
        codes = np.frombuffer("".join(texts).encode("utf-32-le"), np.uint32)
        in_word = np.concatenate([[False], ~_IS_SEPARATOR[np.minimum(codes, _IS_SEPARATOR.size - 1)], [False]])
        edge = np.zeros(codes.size + 1, bool)
        edge[text_starts] = True
        edge |= in_word[1:] != in_word[:-1]
        word_starts = np.flatnonzero(edge[:-1] & in_word[1:-1])
        word_ends = 1 + np.flatnonzero(edge[1:] & in_word[1:-1])
        stream = TokenStream.from_documents(encoded)
        starts, ends = self._positions(texts, text_starts, codes, stream)
        return AlignedTexts(texts, text_starts, stream, starts, ends, word_starts, word_ends)

    def _positions(
        self, texts: Sequence[str], text_starts: NDArray[np.int64], codes: NDArray[np.uint32], stream: TokenStream
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Returns the positions (T,) of the first character of each token, and after its last one.

        `codes` are the code points of the joined texts.
        """
        if self.tokenizer.lossless:
            sizes = self._sizes[stream.ids]
            after = np.cumsum(sizes)  # bytes
            if all(text.isascii() for text in texts):  # each character is one byte
                if np.array_equal(after[stream.ends - 1], text_starts[1:]):  # the tokens spell the texts
                    return after - sizes, after
            else:
                n_bytes = 1 + (codes >= 0x80) + (codes >= 0x800) + (codes >= 0x10000)
                byte_starts = np.append(0, np.cumsum(n_bytes))
                if np.array_equal(after[stream.ends - 1], byte_starts[text_starts[1:]]):
                    character = np.append(np.repeat(np.arange(codes.size), n_bytes), codes.size)  # of each byte
                    starts = character[after - sizes]
                    return starts, np.where(sizes > 0, character[after - 1] + 1, starts)
        positions: list[tuple[int, int]] = []
        for text, start in zip(texts, text_starts.tolist(), strict=False):
            positions += [(start + piece.start, start + piece.end) for piece in self.tokenizer.pieces(text)]
            positions.append((start + len(text), start + len(text)))
        starts, ends = np.array(positions, np.int64).reshape(-1, 2).T
        return starts, ends
