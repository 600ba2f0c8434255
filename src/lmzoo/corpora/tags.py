"""Parts of speech: what the corpora that have them say of each word, in names that people know."""

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
"""The beginnings of the tags of the Brown Corpus and the Penn Treebank."""
_BEGINNINGS = sorted(
    ((beginning, part) for part, all_of_it in _PARTS.items() for beginning in all_of_it.split()),
    key=lambda pair: -len(pair[0]),
)
_WORD = re.compile(r"\S+")


@cache
def part_of_speech(tag: str) -> str:
    """The name of a tag of the Brown Corpus or the Penn Treebank; of a contraction, such as "ppss+md", of its head."""
    tag = tag.lower()
    for beginning, part in _BEGINNINGS:
        if tag.startswith(beginning):
            return part
    return OTHER if tag[:1].isalpha() else PUNCTUATION


def token_tags(documents: Sequence[Document], tags: Sequence[Document], tokenizer: Tokenizer) -> NDArray[np.str_]:
    """(T,) the tag of each token of these documents, one after the other with their ends: that of its word.

    `tags` has the same documents with a tag in place of each word (see `load_tags`). A token of white space alone is
    "space", and an end of text "end". CorpusError if a document has another number of words than of tags.
    """
    found: list[str] = []
    for document, of_words in zip(documents, tags, strict=True):
        words, own = [word.start() for word in _WORD.finditer(document.text)], of_words.text.split()
        if len(words) != len(own):
            raise CorpusError(f"document '{document.name}' has {len(words):,} words, and {len(own):,} tags for them")
        pieces = tokenizer.pieces(document.text)
        places = np.searchsorted(words, [piece.end for piece in pieces]) - 1  # the last word that begins before its end
        found += [
            SPACE if document.text[piece.start : piece.end].isspace() else own[place]
            for piece, place in zip(pieces, places.tolist(), strict=True)
        ]
        found.append(END)
    return np.array(found, np.str_)
