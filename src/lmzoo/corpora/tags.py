"""Part-of-speech tags of words, under common names such as "noun" and "verb"."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray

from lmzoo.corpora.corpus import Document
from lmzoo.errors import CorpusError
from lmzoo.tokenizers import Tokenizer

END, SPACE, PUNCTUATION, OTHER = "end", "space", "punctuation", "other"
_PARTS = {
    "noun": "nn nr",
    "name": "np nnp",
    "pronoun": "pp pn prp wp ex",
    "verb": "vb be hv do md",
    "adjective": "jj",
    "adverb": "rb rn ql wrb wql",
    "preposition": "in",
    "conjunction": "cc cs",
    "determiner": "at dt ap ab pdt wdt",
    "number": "cd od",
    "particle": "to rp pos *",
}
"""Prefixes of the tags of the Brown Corpus and the Penn Treebank, by part of speech."""
_PREFIXES = sorted(
    ((prefix, part) for part, prefixes in _PARTS.items() for prefix in prefixes.split()),
    key=lambda pair: -len(pair[0]),
)
_WORD = re.compile(r"\S+")


@cache
def part_of_speech(tag: str) -> str:
    """Returns the part of speech, such as "noun", for a tag of the Brown Corpus or the Penn Treebank.

    For a contraction, such as "ppss+md", this is the part of speech of its first word.
    """
    tag = tag.lower()
    for prefix, part in _PREFIXES:
        if tag.startswith(prefix):
            return part
    return OTHER if tag[:1].isalpha() else PUNCTUATION


def token_tags(documents: Sequence[Document], tags: Sequence[Document], tokenizer: Tokenizer) -> NDArray[np.str_]:
    """Returns the part-of-speech tag (T,) of each of the T tokens of a list of documents.

    `tags` contains the same documents with each word replaced by its tag (see `load_tags`). A token that is part of a
    word has the tag of the word, and a token that covers several words has the tag of the last of these words. A token
    of white space has the tag "space". Each document adds one end-of-text token, with the tag "end". Raises CorpusError
    if a document has more words than tags, or fewer.
    """
    tags_of_tokens: list[str] = []
    for document, tagged in zip(documents, tags, strict=True):
        word_starts, word_tags = [word.start() for word in _WORD.finditer(document.text)], tagged.text.split()
        if len(word_starts) != len(word_tags):
            raise CorpusError(
                f"document '{document.name}' has {len(word_starts):,} words but {len(word_tags):,} part-of-speech "
                "tags; their numbers must be equal"
            )
        pieces = tokenizer.pieces(document.text)
        indices = np.searchsorted(word_starts, [piece.end for piece in pieces]) - 1  # last word that starts before
        tags_of_tokens += [
            SPACE if document.text[piece.start : piece.end].isspace() else word_tags[index]
            for piece, index in zip(pieces, indices.tolist(), strict=True)
        ]
        tags_of_tokens.append(END)
    return np.array(tags_of_tokens, np.str_)
