"""Class n-grams: exchange clustering against brute force, and the model against a direct implementation."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from lmzoo.errors import ConfigurationError, SavedModelError, UnknownNameError
from lmzoo.models.class_ngram import ClassNgramModel, class_ngram
from lmzoo.models.class_ngram.exchange import Clustering, cluster
from lmzoo.stream import EOT, TokenStream, TrainingData
from lmzoo.testing import LAWS, Law, Specimen, toy_data

CLASS_MARKOV = np.array(  # from each of three classes and the end of text to each
    [[0.0, 0.8, 0.1, 0.1], [0.05, 0.05, 0.8, 0.1], [0.05, 0.1, 0.05, 0.8], [0.05, 0.8, 0.1, 0.05]]
)
PLANTED = np.array([0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3])


def class_markov_text(n_tokens: int, seed: int) -> NDArray[np.int32]:
    """Returns a text of 12 different tokens in three classes, with different frequencies within a class."""
    rng = np.random.default_rng(seed)
    ids, own = [], 0
    while len(ids) < n_tokens:
        own = int(rng.choice(4, p=CLASS_MARKOV[own]))
        ids.append(int(rng.choice(np.flatnonzero(own == PLANTED), p=None if own == 0 else [0.4, 0.3, 0.2, 0.1])))
    return np.array([*ids, EOT], np.int32)


def direct_objective(ids: NDArray[np.int32], classes: NDArray[np.int32]) -> float:
    """Computes the objective F of exchange.py from counts in dictionaries."""
    pairs, firsts, seconds = {}, {}, {}
    for before, after in pairwise([EOT, *ids.tolist()]):
        g, h = int(classes[before]), int(classes[after])
        for counts, key in ((pairs, (g, h)), (firsts, g), (seconds, h)):
            counts[key] = counts.get(key, 0) + 1
    return sum(
        sign * n * np.log(n) for sign, counts in ((1, pairs), (-1, firsts), (-1, seconds)) for n in counts.values()
    )


texts = st.lists(st.integers(0, 6), min_size=1, max_size=40).map(lambda ids: np.array(ids, np.int32))
assignments = st.lists(st.integers(1, 3), min_size=6, max_size=6).map(lambda own: np.array([0, *own], np.int32))


@given(ids=texts, classes=assignments, order=st.permutations(range(1, 7)))
@settings(max_examples=60)
def test_every_exchange_finds_the_best_class(
    ids: NDArray[np.int32], classes: NDArray[np.int32], order: list[int]
) -> None:
    clustering = Clustering(TokenStream(ids), 7, classes, 4)
    for token in order:
        choices = []
        for own in (1, 2, 3):
            tried = clustering.classes.copy()
            tried[token] = own
            choices.append(direct_objective(ids, tried))
        before = clustering.objective()
        n_moved = clustering.exchange(np.array([token], np.int32))
        assert clustering.objective() == pytest.approx(max(choices), abs=2e-6)
        assert clustering.objective() == pytest.approx(direct_objective(ids, clustering.classes), abs=1e-9)
        assert clustering.objective() >= before
        assert (clustering.objective() > before) == n_moved, "only a gain moves a token"
    assert clustering.classes[EOT] == 0


def test_exchange_of_all_tokens_equals_one_after_another() -> None:
    stream, tokens = TokenStream(class_markov_text(500, 0)), np.arange(1, 13, dtype=np.int32)
    classes = np.minimum(np.arange(13), 4).astype(np.int32)
    together, apart = (Clustering(stream, 13, classes, 5) for _ in range(2))
    assert together.exchange(tokens) == sum(apart.exchange(tokens[i : i + 1]) for i in range(12))
    np.testing.assert_array_equal(together.classes, apart.classes)
    np.testing.assert_array_equal(together.counts, apart.counts)


def test_large_counts_leave_the_table_of_logarithms() -> None:
    ids = np.tile(np.array([1, 2, 1, 3], np.int32), 40_000)  # pairs occur up to 80,000 times, the table ends at 65,536
    clustering = Clustering(TokenStream(ids), 4, np.array([0, 1, 1, 1], np.int32), 3)
    clustering.exchange(np.array([1, 2, 3], np.int32))
    assert clustering.objective() == pytest.approx(direct_objective(ids, clustering.classes), rel=1e-12)
    assert clustering.classes[2] == clustering.classes[3] != clustering.classes[1]


def test_clustering_recovers_planted_classes() -> None:
    clustering = cluster(TokenStream(class_markov_text(6000, 1)), 13, 4)
    renamed = dict(zip(PLANTED.tolist(), clustering.classes.tolist(), strict=True))
    assert [renamed[own] for own in PLANTED.tolist()] == clustering.classes.tolist()
    assert len(set(renamed.values())) == 4


def test_no_more_classes_than_tokens() -> None:
    clustering = cluster(TokenStream(np.array([3, 1, 1, EOT])), 9, 300)
    assert clustering.counts.shape == (3, 3)
    assert clustering.classes[1] != clustering.classes[3]


def fitted(ids: NDArray[np.int32], valid: NDArray[np.int32], vocab_size: int = 13, **own: object) -> ClassNgramModel:
    model = ClassNgramModel(vocab_size, **{"n_classes": 4, "order": 2, "smoothing": "additive:1", **own})  # type: ignore[arg-type]
    return model.fit(TrainingData(TokenStream(ids), TokenStream(valid)))


def test_model_equals_a_direct_implementation() -> None:
    ids, valid = class_markov_text(300, 2), class_markov_text(200, 3)
    model = fitted(ids, valid)
    own, n_classes = model.classes, int(model.classes.max()) + 1
    in_class = [np.flatnonzero(own == own[token]) for token in range(13)]
    counts = np.bincount(ids, minlength=13)

    def member(token: int, alpha: float) -> float:
        return (counts[token] + alpha) / (counts[in_class[token]].sum() + alpha * in_class[token].size)

    alphas = np.exp(np.linspace(np.log(1e-3), np.log(1e3), 2000))
    valid_counts = Counter(valid.tolist())
    alpha = max(alphas, key=lambda alpha: sum(n * np.log(member(token, alpha)) for token, n in valid_counts.items()))
    previous = [EOT, *valid.tolist()[:-1]]
    pairs = [(int(own[before]), int(own[after])) for before, after in pairwise([EOT, *ids.tolist()])]
    for t, (before, after) in enumerate(zip(previous, valid.tolist(), strict=True)):
        n_both = pairs.count((int(own[before]), int(own[after])))
        n_before = sum(first == own[before] for first, _ in pairs)
        expected = (n_both + 1) / (n_before + n_classes) * member(after, alpha)
        assert np.exp(model.log_probs(valid)[t]) == pytest.approx(expected, rel=1e-3)  # the grid of alphas is coarse


def test_members_come_with_the_most_frequent_first() -> None:
    ids = class_markov_text(6000, 1)
    model = fitted(ids, ids)
    np.testing.assert_array_equal(model.members(int(model.classes[5])), [5, 6, 7, 8])
    np.testing.assert_array_equal(model.members(0), [EOT])


def test_new_tokens_join_the_class_that_valid_finds_them_in() -> None:
    valid = class_markov_text(400, 4)
    valid[valid == 7] = 13  # a token that the training text lacks stands where those of class 2 do
    model = fitted(class_markov_text(6000, 1), valid, vocab_size=15)
    assert model.classes[13] == model.classes[14] == model.classes[5]
    assert np.isfinite(model.predict_distribution([1]).log_probs).all()


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
@pytest.mark.parametrize(
    "own", [{"n_classes": 2}, {"n_classes": 5, "order": 1}, {"smoothing": "witten-bell", "order": 3}], ids=str
)
def test_laws(own: dict[str, object], law: Law) -> None:
    # The n-gram model over classes keeps its probabilities in single precision.
    law(Specimen(lambda vocab_size: class_ngram(vocab_size, **own), tolerance=1e-6))  # type: ignore[arg-type]


def test_bad_settings() -> None:
    with pytest.raises(ConfigurationError, match="n_classes must be a whole number of at least 2, got 1"):
        class_ngram(10, n_classes=1)
    with pytest.raises(ConfigurationError, match="order"):
        class_ngram(10, order=0)
    with pytest.raises(UnknownNameError, match="did you mean 'kneser-ney'"):
        class_ngram(10, smoothing="kneser-nay")


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("classes", lambda array: np.where(array == 0, 1, array)),
        ("classes", lambda array: np.where(array == array.max(), array + 1, array)),
        ("log_in_class", lambda array: array + 0.1),
        ("log_in_class", lambda array: array * np.nan),
    ],
)
def test_inconsistent_arrays_are_refused(name: str, damage: object) -> None:
    arrays = class_ngram(12, n_classes=5).fit(toy_data(12)).arrays()
    with pytest.raises(SavedModelError, match=name.replace("log_in_class", "in their classes")):
        class_ngram(12, n_classes=5).load_arrays({**arrays, name: damage(arrays[name])})  # type: ignore[operator]
