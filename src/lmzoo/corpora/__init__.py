"""Text for training and evaluation: published corpora by name, and a user's own files.

>>> from lmzoo.corpora import load_corpus
>>> corpus = load_corpus("kjv")
>>> corpus.train[0].name
'Genesis 1'
"""

from lmzoo.corpora.added import remove as remove_corpus
from lmzoo.corpora.corpus import Corpus, Document, Size, Text
from lmzoo.corpora.corpus_card import CorpusCard, DataFile, Protocol
from lmzoo.corpora.duplicates import DuplicateDocument, NearDuplicates, near_duplicates
from lmzoo.corpora.load import fetch_corpus, is_available, load_corpus, load_tags, load_text
from lmzoo.corpora.registry import add_corpus, corpus_card, list_corpora
from lmzoo.corpora.tags import token_tags

__all__ = [
    "Corpus",
    "CorpusCard",
    "DataFile",
    "Document",
    "DuplicateDocument",
    "NearDuplicates",
    "Protocol",
    "Size",
    "Text",
    "add_corpus",
    "corpus_card",
    "fetch_corpus",
    "is_available",
    "list_corpora",
    "load_corpus",
    "load_tags",
    "load_text",
    "near_duplicates",
    "remove_corpus",
    "token_tags",
]
