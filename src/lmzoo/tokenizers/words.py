"""The two definitions of a word, which all of lmzoo shares.

A *separated word* is a longest sequence of characters other than the five separators NUL, tab, line feed, carriage
return and space. KenLM's `lmplz` and all ARPA files define words in this way. It is the definition of the tokenizer
`word-space`, of ARPA files, of perplexity per word and of the word counts of a corpus. Other white space, such as the
no-break space of "10 000" (U+00A0) or the ideographic space (U+3000), belongs to the word.

A *lexical word* is a longest sequence of letters, combining marks, digits and connecting punctuation such as "_"; in
terms of Unicode, of the characters that match `\\w` of UTS 18. It is the definition of the tokenizer `word`, which also
makes a token of each sequence of other characters that are not white space, and of the search for near-duplicates.
"""

from __future__ import annotations

import re
from typing import Final

import regex

SEPARATORS: Final = "\0\t\n\r "
"""The characters between separated words."""
SEPARATED: Final = r"[^\x00\t\n\r ]+"
"""Regular expression of a separated word, for text and for UTF-8 bytes; Python and the tokenizers read it alike."""
LEXICAL: Final = regex.compile(r"\w+")
"""Compiled expression of a lexical word. The module `re` would not do: its \\w has no combining marks."""

_WORD = re.compile(SEPARATED)
_WORD_IN_BYTES = re.compile(SEPARATED.encode())
_SPLIT_AS_WELL = re.compile("[\\x00\v\f\x1c-\x1f]")
"""The ASCII characters at which `str.split` splits unlike `SEPARATORS`, or the other way round."""
_FOR_SPLIT = bytes.maketrans(b"\0\v\f", b" xx")
"""Makes `bytes.split` follow `SEPARATORS`: by itself it splits at \\v and \\f, and not at NUL."""


def split_words(text: str) -> list[str]:
    """Returns the words of a text, which are separated by NUL, tab, line feed, carriage return and space.

    The tokenizer `word-space` has these words as its tokens.
    """
    if text.isascii() and not _SPLIT_AS_WELL.search(text):
        return text.split()  # faster than the regular expression
    return _WORD.findall(text)


def split_bytes(text: bytes) -> list[bytes]:
    """Returns the words of a text that is given as bytes, in UTF-8 or another encoding that contains ASCII.

    Words are separated by NUL, tab, line feed, carriage return and space.
    """
    return _WORD_IN_BYTES.findall(text)


def count_words(text: str) -> int:
    """Returns the number of words in a text, where NUL, tab, line feed, carriage return and space separate words."""
    return len(text.encode().translate(_FOR_SPLIT).split())
