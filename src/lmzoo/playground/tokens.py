"""Texts split by several tokenizers: the data of the view Tokens."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from threading import Lock
from typing import Annotated, NamedTuple

from fastapi import APIRouter
from pydantic import BaseModel, Field

from lmzoo.corpora import load_corpus
from lmzoo.errors import LmzooError, UnknownNameError
from lmzoo.playground.merges import Merges, MergeStep, WordPart
from lmzoo.playground.shown import ShownToken, shown_token
from lmzoo.predictor import DEFAULT_CORPUS
from lmzoo.server.models import ServedModels
from lmzoo.stream import EOT
from lmzoo.tokenizers import OpenedTokenizer, Piece, Tokenizer, open_tokenizer, train_tokenizer, visible
from lmzoo.tokenizers.encodings import PREFIX, installed_encodings
from lmzoo.tokenizers.tokenizer import special_entry

_TRAINED = {"char": "char", "word": "word:5", "bpe": "bpe:1024", "byte": "byte"}
"""The tokenizers that are trained on the bundled corpus for kinds that no model of the server has."""
_ORDER = ("char", "word", "wordpiece", "bpe", "byte")
_MOST_NAMED = 4
"""Number of models that are named as users of a tokenizer."""
_MOST_SHOWN = 2_000
"""Number of tokens that are returned; the counts include all."""

Name = Annotated[str, Field(max_length=200)]


class ListedTokenizer(BaseModel):
    """A tokenizer that the server offers."""

    name: str
    title: str
    origin: str
    """The models that use the tokenizer, or where it comes from."""
    kind: str
    """One of "char", "word", "wordpiece", "bpe" and "byte"."""


class TokensRequest(BaseModel):
    """A text, and the tokenizer that splits it."""

    text: str = Field(max_length=20_000)
    tokenizer: Name


class MergesRequest(BaseModel):
    """A text, and the tokenizer whose merges are replayed on it."""

    text: str = Field(max_length=1_000)
    tokenizer: Name


class TextToken(ShownToken):
    """A token of a text."""

    unknown: bool
    """True if the vocabulary does not have the word or character."""
    dropped: str
    """Text before the token that belongs to no token, such as the spaces between words, with visible white space."""


class SplitText(BaseModel):
    """A text as one tokenizer splits it."""

    vocab_size: int
    n_tokens: int
    n_unknown: int
    n_bytes: int
    n_characters: int
    tokens: list[TextToken]
    """The first tokens; `n_tokens` counts all."""


class ReplayedMerges(BaseModel):
    """The merges by which byte-pair encoding splits a text."""

    start: list[WordPart]
    """The parts of the text before the first merge."""
    steps: list[MergeStep]


class _Source(NamedTuple):
    """A tokenizer that is opened when it is first used."""

    title: str
    origin: str
    kind: str
    load: Callable[[], OpenedTokenizer]


class Tokenizers:
    """The tokenizers that the pages can use, by name; safe to use from several threads.

    They are the tokenizers of the served models, those trained on the bundled corpus for kinds that no model has, and
    the encodings of tiktoken that come with an installed package. Files of the server cannot be opened by name.
    """

    def __init__(self, models: ServedModels) -> None:
        self._models = models
        self._opened: dict[str, OpenedTokenizer] = {}
        self._merges: dict[str, Merges] = {}
        self._locks: defaultdict[str, Lock] = defaultdict(Lock)
        self._sources_of = lru_cache(1)(self._find_sources)

    @property
    def _sources(self) -> dict[str, _Source]:
        return self._sources_of(tuple(self._models.names))  # models may be added while the server runs

    def _find_sources(self, names: Sequence[str]) -> dict[str, _Source]:
        users: dict[str, list[str]] = {}
        tokenizers: dict[str, Tokenizer] = {}
        for name in names:
            try:
                tokenizer = self._models.get(name).tokenizer
            except LmzooError:
                continue  # the list of models gives the reason
            key = _splitting(tokenizer)
            tokenizers.setdefault(key, tokenizer)
            users.setdefault(key, []).append(name)
        sources = {
            users[key][0]: _Source(
                tokenizer.spec, _origin(users[key]), tokenizer.kind, partial(OpenedTokenizer, tokenizer, EOT)
            )
            for key, tokenizer in tokenizers.items()
        }
        kinds = {source.kind for source in sources.values()}
        for kind, spec in _TRAINED.items():
            if kind not in kinds:
                sources[spec] = _Source(spec, "trained on the bundled corpus", kind, partial(_trained, spec))
        for name in installed_encodings():
            sources[PREFIX + name] = _Source(name, "OpenAI", "bpe", partial(_opened, PREFIX + name))
        return dict(sorted(sources.items(), key=lambda item: _ORDER.index(item[1].kind)))

    def listed(self) -> list[ListedTokenizer]:
        """Returns the names of all tokenizers: characters, words, parts of words, bytes."""
        return [
            ListedTokenizer(name=name, title=one.title, origin=one.origin, kind=one.kind)
            for name, one in self._sources.items()
        ]

    def get(self, name: str) -> OpenedTokenizer:
        """Returns the tokenizer `name`; raises UnknownNameError if there is none."""
        sources = self._sources
        if name not in sources:
            raise UnknownNameError("tokenizer", name, sources)
        with self._locks[name]:
            if name not in self._opened:
                self._opened[name] = sources[name].load()
            return self._opened[name]

    def split(self, text: str, name: str) -> SplitText:
        """Returns a text as the tokenizer `name` splits it; raises TokenizerError for a word that it cannot take."""
        opened = self.get(name)
        pieces = opened.tokenizer.pieces(text)
        unknown = opened.tokenizer.unknown_id
        return SplitText(
            vocab_size=opened.tokenizer.vocab_size,
            n_tokens=len(pieces),
            n_unknown=sum(piece.token_id == unknown for piece in pieces),
            n_bytes=len(text.encode()),
            n_characters=len(text),
            tokens=_shown(opened, text, pieces[:_MOST_SHOWN]),
        )

    def replay(self, text: str, name: str) -> ReplayedMerges:
        """Returns the merges by which the tokenizer `name` splits a text; raises TokenizerError if it has none."""
        opened = self.get(name)
        if name not in self._merges:
            self._merges[name] = Merges(opened.tokenizer)
        start, steps = self._merges[name].replay(text)
        return ReplayedMerges(start=start, steps=steps)


def tokens_router(tokenizers: Tokenizers) -> APIRouter:
    """Returns the routes that list tokenizers, split texts, and replay merges."""
    router = APIRouter(prefix="/playground")

    @router.get("/tokenizers")
    def list_tokenizers() -> list[ListedTokenizer]:
        """Lists the tokenizers of the server."""
        return tokenizers.listed()

    @router.post("/tokens")
    def split(request: TokensRequest) -> SplitText:
        """Splits a text with a tokenizer."""
        return tokenizers.split(request.text, request.tokenizer)

    @router.post("/merges")
    def replay(request: MergesRequest) -> ReplayedMerges:
        """Replays the merges of byte-pair encoding on a text."""
        return tokenizers.replay(request.text, request.tokenizer)

    return router


@lru_cache
def _splitting(tokenizer: Tokenizer) -> str:
    """Returns what determines how a tokenizer splits texts: its JSON text without the special tokens of a template."""
    description = json.loads(tokenizer.to_json())
    for name in tokenizer.special_tokens:
        del description["model"]["vocab"][special_entry(name)]
    return json.dumps(description)


def _origin(users: Sequence[str]) -> str:
    """Returns the names of the models that use a tokenizer; of many, only the first."""
    named = ", ".join(users[:_MOST_NAMED])
    return named if len(users) <= _MOST_NAMED else f"{named} and {len(users) - _MOST_NAMED} others"


def _trained(spec: str) -> OpenedTokenizer:
    texts = [document.text for document in load_corpus(DEFAULT_CORPUS).train]
    return OpenedTokenizer(train_tokenizer(spec, texts), EOT)


def _opened(spec: str) -> OpenedTokenizer:
    opened = open_tokenizer(spec)
    assert opened is not None
    return opened


def _shown(opened: OpenedTokenizer, text: str, pieces: list[Piece]) -> list[TextToken]:
    """Returns the tokens of a text for display, with the ids that the library of the tokenizer gives them."""
    tokenizer, end, tokens = opened.tokenizer, 0, []
    for piece in pieces:
        unknown = piece.token_id == tokenizer.unknown_id
        shown = shown_token(tokenizer, piece.token_id)
        tokens.append(
            TextToken(
                id=opened.original_id(piece.token_id),
                text=visible(piece.text) if unknown else shown.text,
                hex=shown.hex,
                unknown=unknown,
                dropped=visible(text[end : piece.start]) if tokenizer.kind == "word" and piece.start > end else "",
            )
        )
        end = piece.end
    return tokens
