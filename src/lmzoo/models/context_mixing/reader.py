"""The reader of a context mixing model: holds tables of a fixed size, and copies what changes within a document."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Self, final

import numpy as np
from numpy.typing import NDArray

from lmzoo.arrays import Arrays, take_array
from lmzoo.errors import SavedModelError
from lmzoo.models.bitwise.model import Reader
from lmzoo.models.context_mixing.arrays import Learned, new_account, new_learned, new_moment
from lmzoo.models.context_mixing.contexts import N_CONTEXTS, N_FOLLOWERS, N_WORD_CONTEXTS
from lmzoo.models.context_mixing.counters import N_SLOTS, Counters, first_meanings, move
from lmzoo.models.context_mixing.inputs import Model, TrainedInput, learner
from lmzoo.models.context_mixing.matches import N_MATCHES, NO_MATCH
from lmzoo.models.context_mixing.other_models import add_up
from lmzoo.models.context_mixing.reading import (
    FOUND,
    LENGTHS,
    N_LEARNED,
    N_NOW,
    Memory,
    distribution,
    look,
    walk,
)
from lmzoo.models.mixing import add_prefix, strip_prefix
from lmzoo.models.one_pass import NO_LOG_PROBS, NO_ROWS
from lmzoo.online_reader import OnlineReader
from lmzoo.stream import TrainingData

_FIRST_ROWS = 1 << 12
_N_BYTES = 257
"""Number of token ids of the tokenizer `byte`."""
_NOTHING = np.empty(0, np.int32)
_MOST_GIVEN = 1 << 20
"""Largest number of elements of the predictions of one model that are computed at a time: 8 MB."""


@final
class MixingReader(Reader):
    """Reads texts with a mixture of the predictions of many contexts, in tables of a fixed size.

    There are 2^`table_bits` buckets of counters. The match model looks back at most 2^`table_bits` tokens.
    """

    def __init__(
        self,
        vocab_size: int,
        *,
        table_bits: int,
        words: bool,
        new_models: Callable[[], list[Model]] = list,
        models: Sequence[Model] = (),
        learns: bool = True,
        memory: Memory | None = None,
        known_ids: NDArray[np.int32] = _NOTHING,
    ) -> None:
        """Creates a reader that has learned nothing, or one that starts with the memory of an earlier text.

        - `words`: True to use contexts made of words, provided that the tokens are bytes.
        - `new_models`: creates untrained models whose predictions are further inputs of the mixer.
        - `models`: the same models, but trained.
        - `learns`: False for a reader that does not learn from the text that it reads.
        - `memory`, `known_ids`: what was learned from the earlier text, and the last tokens of this text.
        """
        super().__init__(vocab_size)
        self._table_bits, self._words, self._learns, self._known_ids = table_bits, words, learns, known_ids
        self._n_contexts = N_CONTEXTS + (N_WORD_CONTEXTS if words and vocab_size == _N_BYTES else 0)
        self._models = list(models) or new_models()
        self._inputs = [TrainedInput(model) for model in models]
        self._learners: list[OnlineReader] = []
        self._given, self._given_from = np.empty((0, len(self._models), vocab_size)), 0
        self._memory = memory or self._new_memory()
        self._moment = new_moment(self._n_contexts, len(self._models), vocab_size)
        self._account = new_account(self._n_contexts, len(self._models))
        self._now = np.zeros(N_NOW, np.int64)
        self._now[FOUND:LENGTHS] = NO_MATCH

    def _new_memory(self) -> Memory:
        n_buckets = 1 << self._table_bits
        none = _read_only(np.empty((0, N_SLOTS), np.uint32))
        counters = Counters(np.zeros((n_buckets, N_SLOTS), np.uint32), np.empty(0, np.int64), none)
        learned = new_learned(first_meanings(), self._n_contexts, len(self._models), n_buckets >> 9)
        places = np.full((N_MATCHES, n_buckets >> 4), NO_MATCH, np.int32)
        return Memory(counters, learned, places, np.zeros((N_FOLLOWERS, n_buckets >> 7, 2), np.int64))

    def begin_training(self, seed: int) -> None:
        self._learners = [learner(model, seed + number) for number, model in enumerate(self._models)]

    def end_training(self, data: TrainingData) -> None:
        for each in self._learners:
            each.finish(data)

    def read(
        self, ids: NDArray[np.int32], log_probs: NDArray[np.float64] = NO_LOG_PROBS, rows: NDArray[np.float64] = NO_ROWS
    ) -> None:
        sources = self._learners or self._inputs
        if not sources:
            super().read(ids, log_probs, rows)
            return
        for start in range(0, ids.size, size := max(1, _MOST_GIVEN // self.vocab_size)):
            piece = slice(start, start + size)
            self._given = np.stack([each.read(ids[piece]) for each in sources], axis=1)  # (T, M, V)
            self._given_from = self.ids.size
            super().read(ids[piece], log_probs[piece], rows[piece])

    def for_document(self, *, learns: bool) -> Self:
        known_ids, (counters, learned, places, followers) = self._kept()
        if learns:  # the other arrays are small enough to be copied as a whole
            learned = Learned(**{name: array.copy() for name, array in learned._asdict().items()})
            places, followers = places.copy(), followers.copy()
        memory = Memory(_copies(counters.slots, _FIRST_ROWS if learns else 1), learned, places, followers)
        reader = type(self)(
            self.vocab_size,
            table_bits=self._table_bits,
            words=self._words,
            models=self._models,
            learns=learns,
            memory=memory,
            known_ids=known_ids,
        )
        reader._now[N_LEARNED] = self._now[N_LEARNED]
        return reader

    def _kept(self) -> tuple[NDArray[np.int32], Memory]:
        """Returns the last tokens, which the match model may use, and the memory.

        The positions in the memory count from the first of these tokens.
        """
        n_dropped = max(0, self._known_ids.size + self.ids.size - (1 << self._table_bits))
        parts = [part for part in (self._known_ids, self.ids) if part.size]  # mostly one: not copied for each document
        ids = parts[0] if len(parts) == 1 else np.concatenate([_NOTHING, *parts])
        ids = ids[n_dropped:]
        if n_dropped == 0:
            return ids, self._memory
        places = np.maximum(self._memory.places - n_dropped, NO_MATCH)
        return ids, self._memory._replace(places=places.astype(np.int32))

    def next_log_probs(self) -> NDArray[np.float64]:
        probs = np.empty(self.vocab_size)
        counters, learned, _, followers = self._memory
        if self._inputs:
            add_up(np.stack([each.next_log_probs() for each in self._inputs]), self.vocab_size, self._moment.sums)
        look(followers, self._now, self._known_ids, self.ids, self.ids.size, self.vocab_size, self._moment)
        distribution(counters, learned, self._moment, self._account, self.vocab_size, probs)
        return np.log(probs)

    def _walk(
        self, ids: NDArray[np.int32], start: int, log_probs: NDArray[np.float64], rows: NDArray[np.float64]
    ) -> int:
        return walk(
            self._memory, self._moment, self._account, self._now, self._known_ids, ids, start, self._learns,
            self.vocab_size, 1 << self._table_bits, self._given[start - self._given_from :], log_probs, rows,
        )  # fmt: skip

    def _grow(self) -> None:
        old = self._memory.counters
        larger = _copies(old.known, 2 * old.homes.size)
        move(old, larger)
        self._memory = self._memory._replace(counters=larger)

    def arrays(self) -> dict[str, NDArray[Any]]:
        ids, (counters, learned, places, followers) = self._kept()
        used = np.flatnonzero(counters.slots[:, 0])
        return {
            "buckets": used,
            "slots": counters.slots[used],
            **learned._asdict(),
            "places": places,
            "followers": followers,
            "ids": ids,
            "n_learned": self._now[N_LEARNED : N_LEARNED + 1],
            **{
                key: array
                for number, model in enumerate(self._models)
                for key, array in add_prefix(f"input-{number}", model.arrays()).items()
            },
        }

    def load_arrays(self, arrays: Arrays) -> None:
        new = self._new_memory()
        buckets = take_array(arrays, "buckets", shape=(None,), dtype=np.int64)
        slots = take_array(arrays, "slots", shape=(buckets.size, N_SLOTS), dtype=np.uint32)
        loaded = {
            name: np.array(take_array(arrays, name, shape=array.shape, dtype=array.dtype.type))
            for name, array in {**new.learned._asdict(), "places": new.places, "followers": new.followers}.items()
        }
        ids = np.array(take_array(arrays, "ids", shape=(None,), dtype=np.int32))
        n_learned = take_array(arrays, "n_learned", shape=(1,), dtype=np.int64)
        _check(
            (buckets >= 0) & (buckets < len(new.counters.slots)),
            *(np.isfinite(loaded[name]) for name in Learned._fields),
            *((loaded[name] >= 0) & (loaded[name] <= 1) for name in ("meanings", "trust")),
            *(loaded[name] >= 0 for name in ("n_meanings", "n_trust")),
            (loaded["places"] >= NO_MATCH) & (loaded["places"] < max(ids.size, 1)),
            (ids >= 0) & (ids < self.vocab_size),
            n_learned >= 0,
        )
        new.counters.slots[buckets] = slots
        learned = Learned(*(loaded[name] for name in Learned._fields))
        self._memory = Memory(new.counters, learned, loaded["places"], loaded["followers"])
        self._known_ids, self._now[N_LEARNED] = ids, n_learned[0]
        for number, model in enumerate(self._models):
            model.load_arrays(strip_prefix(f"input-{number}", arrays))


def _copies(known: NDArray[np.uint32], n_rows: int) -> Counters:
    """Returns an empty table for copies of the buckets `known`, with room for `n_rows` of them, a power of two."""
    return Counters(np.zeros((n_rows, N_SLOTS), np.uint32), np.zeros(n_rows, np.int64), _read_only(known))


def _read_only(array: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """Returns a read-only view of an array."""
    view = array.view()
    view.flags.writeable = False
    return view


def _check(*conditions: NDArray[np.bool_]) -> None:
    """Raises SavedModelError unless all elements of all conditions are true."""
    if not all(bool(condition.all()) for condition in conditions):
        raise SavedModelError("the saved context mixing model is damaged: a number is out of range")
