"""Byte-pair encoding step by step: the merges by which a tokenizer splits a text."""

from __future__ import annotations

import itertools
import json

import tokenizers
from pydantic import BaseModel

from lmzoo.errors import TokenizerError
from lmzoo.playground.shown import ShownToken, shown_token
from lmzoo.tokenizers import Tokenizer


class WordPart(ShownToken):
    """A part of a text, which is a token of the vocabulary."""

    word: int
    """Index of the word that the part belongs to; parts of two words are never merged."""


class MergeStep(BaseModel):
    """One merge: two neighbouring parts become one, wherever they occur in the text."""

    rank: int
    """Position of the merge in the list that the tokenizer learned; the lowest one that is possible comes first."""
    left: ShownToken
    right: ShownToken
    token: ShownToken
    at: list[int]
    """Indices of the left parts among all parts of the text before the step."""


class Merges:
    """The merges of a tokenizer that uses byte-pair encoding; raises TokenizerError for other tokenizers."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        text = tokenizer.to_json()
        model = json.loads(text)["model"]
        if tokenizer.kind != "bpe":
            raise TokenizerError(f"the tokenizer '{tokenizer.spec}' has no merges: choose one of the kind bpe")
        pairs = [tuple(pair.split(" ")) if isinstance(pair, str) else tuple(pair) for pair in model["merges"]]
        self._ranks = {pair: rank for rank, pair in enumerate(pairs)}
        self._backend = tokenizers.Tokenizer.from_str(text)
        self._ids: dict[str, int] = model["vocab"]

    def replay(self, text: str) -> tuple[list[WordPart], list[MergeStep]]:
        """Returns the parts of a text before the first merge, and all merges in the order of their application.

        Raises TokenizerError if the tokens that result are not those of the tokenizer, as may happen for tokenizers
        that do more than to merge.
        """
        words = [self._characters(word) for word in self._words(text)]
        start = [
            WordPart(**self._shown(entry).model_dump(), word=index)
            for index, word in enumerate(words)
            for entry in word
        ]
        steps = []
        while possible := [
            (self._ranks[pair], pair) for word in words for pair in itertools.pairwise(word) if pair in self._ranks
        ]:
            rank, (left, right) = min(possible)
            at, n_before = [], 0
            for word in words:
                merged, index = [], 0
                while index < len(word):
                    if word[index : index + 2] == [left, right]:
                        at.append(n_before + index)
                        merged.append(left + right)
                        index += 2
                    else:
                        merged.append(word[index])
                        index += 1
                n_before += len(word)
                word[:] = merged
            shown = [self._shown(entry) for entry in (left, right, left + right)]
            steps.append(MergeStep(rank=rank, left=shown[0], right=shown[1], token=shown[2], at=at))
        if [self._ids[entry] for word in words for entry in word] != self._tokenizer.encode(text).tolist():
            raise TokenizerError("the merges of this tokenizer alone do not give its tokens, so they cannot be shown")
        return start, steps

    def _words(self, text: str) -> list[str]:
        """Returns the words of a text in the alphabet of the vocabulary; merges stay within a word."""
        if self._backend.normalizer is not None:
            text = self._backend.normalizer.normalize_str(text)
        if self._backend.pre_tokenizer is None:
            return [text] if text else []
        return [word for word, _ in self._backend.pre_tokenizer.pre_tokenize_str(text)]

    def _characters(self, word: str) -> list[str]:
        """Returns the entries of the vocabulary from which the merges of a word start."""
        return [
            entry
            for character in word
            for entry in ([character] if character in self._ids else [f"<0x{byte:02X}>" for byte in character.encode()])
        ]

    def _shown(self, entry: str) -> ShownToken:
        if entry not in self._ids:
            raise TokenizerError("this tokenizer has no token for a part of the text, so its merges cannot be shown")
        return shown_token(self._tokenizer, self._ids[entry])
