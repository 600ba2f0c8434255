"""How much context models use: models with a known reach, exact values and positions."""

from __future__ import annotations

import math
from typing import Any, Self

import numpy as np
import pytest
from numpy.typing import NDArray

from lmzoo import zoo
from lmzoo.errors import CorpusError, NotFittedError, TokenIdError, UsageError
from lmzoo.language_model import LanguageModel, Progress
from lmzoo.probes import context_use as probe
from lmzoo.probes.context_use import ContextUse, Reach, context_use
from lmzoo.stream import EOT, TokenStream, TrainingData

V = 12


class ByHand(LanguageModel[tuple[int, ...]]):
    """A model whose state is all of the document so far; `next_log_probs` says what it makes of it."""

    context_size = None
    fitted = True

    def fit(self, data: TrainingData, **_: Any) -> Self:
        return self

    def initial_state(self) -> tuple[int, ...]:
        return ()

    def advance(self, state: tuple[int, ...], token_id: int) -> tuple[int, ...]:
        return () if token_id == EOT else (*state, token_id)

    def arrays(self) -> dict[str, NDArray[Any]]:
        return {}

    def load_arrays(self, arrays: Any) -> Self:
        return self


class Echo(ByHand):
    """Expects the token `lag` back with 9 / 10, all ids alike with 1 / 10; if there is none, it knows nothing."""

    def __init__(self, lag: int, context_size: int | None = None) -> None:
        super().__init__(V)
        self.lag, self.context_size = lag, context_size

    def next_log_probs(self, state: tuple[int, ...]) -> NDArray[np.float64]:
        if len(state) < self.lag:
            return np.full(V, -math.log(V))
        return np.log(0.1 / V + 0.9 * (np.arange(V) == state[-self.lag]))


class Bag(ByHand):
    """Expects each id as often as the document has it so far, in whatever order: (count + 1) / (n + V)."""

    def next_log_probs(self, state: tuple[int, ...]) -> NDArray[np.float64]:
        counts = np.bincount(np.array(state, np.int64), minlength=V) + 1.0
        return np.log(counts / counts.sum())


def echoes(lag: int, sizes: list[int], seed: int = 0) -> TokenStream:
    """Documents in which nine of ten tokens are those `lag` before them."""
    rng = np.random.default_rng(seed)
    documents = []
    for size in sizes:
        ids = rng.integers(1, V, size)
        for place in np.flatnonzero(rng.random(size) < 0.9):
            ids[place] = ids[place - lag] if place >= lag else ids[place]
        documents.append(ids)
    return TokenStream.from_documents(documents)


# ---- Models whose reach is known ---------------------------------------------------------------------


@pytest.mark.parametrize("lag", [1, 3, 6, 16])
def test_a_model_that_uses_one_token_far_back(lag: int) -> None:
    """Cut or shuffled closer, it loses what the token tells it; and with `lag` tokens it has all."""
    stream = echoes(lag, [200] * 12)
    use = context_use(Echo(lag), stream, max_context=40, n_positions=24)
    assert use.max_context == 40
    hit, miss = -math.log(0.9 + 0.1 / V), -math.log(0.1 / V)
    assert set(np.round(use.whole.ravel(), 9)) == {round(hit, 9), round(miss, 9)}
    start = min(lag, 16)  # of each stretch of 41, cut at 0, 16 and not at 32, as that piece would be shorter
    pieces = use.whole[:, :32].reshape(-1, 2, 16)[:, :, :start].mean(1)
    np.testing.assert_allclose(use.cut[:, :start], math.log(V) - pieces)
    np.testing.assert_array_equal(use.cut[:, lag:], 0)
    np.testing.assert_array_equal(use.shuffled[:, lag:], 0)
    assert (use.loss("cut")[use.lengths >= lag] == use.whole.mean()).all()
    assert (use.loss("cut")[use.lengths < lag] > use.whole.mean() + 1).all()
    for kind in ("cut", "shuffled"):
        assert use.reach(kind) == Reach(lag, lag, lag)
    # A model that says how far it sees is not asked for what it cannot know, and the rest is the same.
    told = context_use(Echo(lag, context_size=lag), stream, max_context=40, n_positions=24)
    for kind in ("whole", "cut", "shuffled"):
        np.testing.assert_array_equal(getattr(told, kind), getattr(use, kind))


def test_a_bag_of_words_has_no_order() -> None:
    rng = np.random.default_rng(0)  # documents with words of their own: what a document has said it says again
    stream = TokenStream.from_documents(rng.choice(rng.integers(1, V, 3), 100) for _ in range(20))
    use = context_use(Bag(V), stream, max_context=30)
    np.testing.assert_allclose(use.shuffled, 0, atol=1e-12)
    assert use.reach("shuffled").tokens == 0
    assert use.reach("cut").tokens > 10
    loss = use.loss("cut")
    assert loss[0] == pytest.approx(use.whole.mean() + (math.log(V) - use.whole[:, 0]).mean())
    assert loss[0] > loss[3] > loss[-1] > use.whole.mean()


def test_a_model_that_needs_more_than_was_tried() -> None:
    use = context_use(Echo(30), echoes(30, [100] * 10), max_context=20, n_positions=16)
    assert use.reach("cut") == Reach(21, 21, 21)


# ---- Exact values ------------------------------------------------------------------------------------

DATA = TrainingData(echoes(2, [30] * 20), echoes(2, [30] * 5))
TRAINING = {"tokens": 500, "batch_size": 4, "chunk_size": 8}
SETTINGS: dict[str, dict[str, Any]] = {
    "unigram": {},
    "markov": {},
    "ngram": {"order": 4},
    "cache": {},
    "infinigram": {},
    "sequence-memoizer": {},
    "ppm": {"order": 4},
    "context-tree-weighting": {"depth": 3},
    "context-mixing": {"table_bits": 17},
    "hmm": {"n_states": 4},
    "lstm": {"d_embed": 5, "d_hidden": 6, "training": TRAINING},
    "gpt2": {"d_model": 8, "n_layers": 1, "n_heads": 2, "window": 8, "training": TRAINING},
}


@pytest.mark.parametrize("species", SETTINGS)
def test_losses_are_those_of_single_predictions(species: str) -> None:
    model = zoo.create(species, V, **SETTINGS[species]).fit(DATA)
    stream = echoes(2, [3, 30, 9, 1, 40], seed=1)
    use = context_use(model, stream, max_context=9, n_positions=5)
    assert use.whole.shape == (5, 10)
    for row, position in enumerate(use.positions.tolist()):
        begin = int(stream.starts[use.documents[row]])
        assert position - begin >= use.max_context
        for n in range(10):
            observed = int(stream.ids[position + n])
            whole, cut = (
                -model.predict_distribution(stream.ids[first : position + n]).log_prob(observed)
                for first in (begin, position)
            )
            assert use.whole[row, n] == pytest.approx(whole, abs=1e-4)
            assert use.cut[row, n] == pytest.approx(cut - whole, abs=2e-4)


def test_only_what_stands_before_a_stretch_is_shuffled() -> None:
    """What the model reads, three times for each batch: the documents so far, the stretches alone, and the disorder."""
    read: list[TokenStream] = []

    class Listening(Bag):
        def log_probs(self, ids: Any) -> NDArray[np.float64]:
            read.append(ids)
            return super().log_probs(ids)

    stream = echoes(2, [60, 50])
    use = context_use(Listening(V), stream, max_context=12, n_positions=7)
    whole, cut, shuffled = read
    for row, position in enumerate(use.positions.tolist()):
        begin = int(stream.starts[use.documents[row]])
        so_far, stretch = stream.ids[begin:position], stream.ids[position : position + 13]
        texts = [[ids.tolist() for ids in one.documents() if len(ids) > 1][row] for one in (whole, cut, shuffled)]
        ending = [*stretch[stretch != EOT].tolist(), EOT]
        assert texts[0] == [*so_far.tolist(), *ending]
        assert texts[1] == ending
        assert texts[2][position - begin :] == ending
        assert texts[2][: position - begin] != so_far.tolist()
        assert sorted(texts[2][: position - begin]) == sorted(so_far.tolist())


def test_batches_change_nothing_and_report_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = echoes(3, [80] * 6)
    whole = context_use(Bag(V), stream, max_context=20, n_positions=10)
    monkeypatch.setattr(probe, "_N_ROWS", 4)
    seen: list[Progress] = []
    parts = context_use(Bag(V), stream, max_context=20, n_positions=10, on_progress=seen.append)
    for kind in ("whole", "cut", "shuffled"):
        np.testing.assert_allclose(getattr(parts, kind), getattr(whole, kind))
    assert [(one.done, one.total) for one in seen] == [(4, 10), (8, 10), (10, 10)]


def test_lengths_and_levels() -> None:
    """Eight lengths for every doubling; each stands for those up to the next, and the last one is not cut short."""
    documents, whole = np.array([0, 0, 1]), np.zeros((3, 41))
    whole[:, 0] = 41.0  # one nat a token on average
    excess = np.maximum(0.0, 20 - np.arange(41)) + np.zeros((3, 1))
    use = ContextUse(np.arange(3), documents, whole, excess, np.zeros_like(whole))
    # 2^(k/8) from 2^4: 16, 17.4, 19.0, 20.7, 22.6, 24.7, 26.9, 29.3, 32, 34.9; not 38.1, whose step would end at 41.5.
    assert use.lengths.tolist() == [*range(15), 16, 17, 19, 20, 22, 24, 26, 29, 32, 34]
    loss = dict(zip(use.lengths.tolist(), use.loss("cut").tolist(), strict=True))
    assert loss[0] == 1 + 20
    assert loss[14] == 1 + 5.5  # 14 and 15
    assert loss[17] == 1 + 2.5  # 17 and 18: 3 and 2
    assert loss[19] == 1 + 1  # 19 alone
    assert loss[20] == 1
    np.testing.assert_allclose(use.loss("shuffled"), 1)
    assert use.reach("cut") == Reach(20, 20, 20)
    # 1.6 nats are a perplexity of e^1.6 = 5 times as much: 19 tokens cost 1, and 17 and 18 cost 2.5.
    assert use.reach("cut", tolerance=math.expm1(1.6)).tokens == 19
    assert use.n_documents == 2


def test_the_interval_is_over_documents() -> None:
    """One document of two needs 3 tokens, the other none: a quarter of the draws has only one or only the other."""
    excess = np.zeros((4, 11))
    excess[:2, :3] = 1.0
    use = ContextUse(np.arange(4), np.array([5, 5, 9, 9]), np.ones((4, 11)), excess, np.zeros((4, 11)))
    assert use.reach("cut") == Reach(3, 0, 3)


# ---- Positions ---------------------------------------------------------------------------------------


def test_contexts_are_as_long_as_half_of_the_text_allows() -> None:
    # Documents of 4, 31, 10, 2 and 18 tokens: those of 31 and 18 hold half of all 65; and 18 are 8 tokens and 8 + 1.
    stream = echoes(2, [3, 30, 9, 1, 17])
    use = context_use(Bag(V), stream, n_positions=1000)
    assert use.max_context == 8
    # 31 tokens have a stretch of 9 after 8 .. 22 tokens, of which those up to 15 are taken; and 18 after 8 and 9.
    depths = (use.positions - stream.starts[use.documents]).tolist()
    assert depths == sorted([*range(8, 16), 8, 9])
    deep = context_use(Bag(V), echoes(2, [300]), max_context=5, n_positions=1000)
    assert sorted(deep.positions.tolist()) == list(range(5, 10))
    # The last document may be open.
    assert context_use(Bag(V), stream.ids[4:34], max_context=8).max_context == 8


def test_the_same_seed_gives_the_same_stretches_to_every_model() -> None:
    stream = echoes(2, [50] * 9)
    first, second = (context_use(model, stream, max_context=10, n_positions=5) for model in (Bag(V), Echo(2)))
    np.testing.assert_array_equal(first.positions, second.positions)
    assert (context_use(Bag(V), stream, max_context=10, n_positions=5, seed=1).positions != first.positions).any()


def test_numbers_may_be_those_of_numpy() -> None:
    numbers: Any = {"max_context": np.int64(10), "n_positions": np.int32(5)}
    found = context_use(Bag(V), echoes(2, [50] * 9), **numbers)
    assert found.whole.shape == context_use(Bag(V), echoes(2, [50] * 9), max_context=10, n_positions=5).whole.shape


def test_what_cannot_be_measured() -> None:
    for short in ([], [EOT], [1, EOT, 2, EOT]):
        with pytest.raises(CorpusError, match="too short"):
            context_use(Bag(V), short)
    with pytest.raises(NotFittedError):
        context_use(zoo.create("markov", V), echoes(2, [50]))
    with pytest.raises(TokenIdError, match="outside the vocabulary"):
        context_use(Bag(V), [1, 2, V])
    for wrong in ({"max_context": 0}, {"n_positions": 0}):
        with pytest.raises(UsageError, match="must be a whole number"):
            context_use(Bag(V), echoes(2, [50]), **wrong)
    with pytest.raises(UsageError, match="tolerance must be"):
        context_use(Bag(V), echoes(2, [50])).reach("cut", tolerance=0)

    class Sure(ByHand):
        def next_log_probs(self, state: tuple[int, ...]) -> NDArray[np.float64]:
            return np.where(np.arange(V) == 1, 0.0, -np.inf)

    with pytest.raises(UsageError, match="gives some token of the text probability 0"):
        context_use(Sure(V), echoes(2, [50]))
