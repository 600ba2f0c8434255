"""Tokenizers that convert text to token ids and back: characters, bytes, words and byte pairs."""

from lmzoo.tokenizers.foreign import OpenedTokenizer, adopt_tokenizer
from lmzoo.tokenizers.opening import open_tokenizer
from lmzoo.tokenizers.tokenizer import Piece, Tokenizer, visible
from lmzoo.tokenizers.training import check_tokenizer, train_tokenizer, word_tokenizer

__all__ = [
    "OpenedTokenizer",
    "Piece",
    "Tokenizer",
    "adopt_tokenizer",
    "check_tokenizer",
    "open_tokenizer",
    "train_tokenizer",
    "visible",
    "word_tokenizer",
]
