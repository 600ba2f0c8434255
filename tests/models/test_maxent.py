"""The maximum-entropy model against logistic regression, relative frequencies, and the equations of its optimum."""

from __future__ import annotations

import itertools
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lmzoo.errors import ConfigurationError, SavedModelError
from lmzoo.language_model import LanguageModel
from lmzoo.models.maxent import TriggerModel, maxent
from lmzoo.models.maxent.learning import NgramLikelihood, TriggerLikelihood
from lmzoo.models.maxent.triggers import find_triggers
from lmzoo.models.ngram import NgramModel, ngram
from lmzoo.models.ngram.arpa import read_arpa, write_arpa
from lmzoo.models.ngram.counting.sorting import count_ngrams
from lmzoo.stream import EOT, TokenStream, TrainingData
from lmzoo.testing import LAWS, Law, Specimen, toy_data

Ngram = tuple[int, ...]


def contexts(stream: TokenStream, order: int) -> list[Ngram]:
    """Returns the last `order` - 1 tokens before each token of a stream; a document starts with EOT."""
    found = []
    for document in stream.documents():
        ids = [EOT, *document.tolist()]
        found += [tuple(ids[max(0, end - order + 1) : end]) for end in range(1, len(ids))]
    return found


def counted(stream: TokenStream, order: int) -> Counter[Ngram]:
    """Returns how often each n-gram of length 1 to `order` ends at a token of a stream."""
    pairs = zip(contexts(stream, order), stream.ids.tolist(), strict=True)
    return Counter((*context[start:], token) for context, token in pairs for start in range(len(context) + 1))


def predicted(model: LanguageModel[Any], context: Ngram) -> np.ndarray:
    """Returns the probabilities of all tokens after a context that starts with EOT, or follows an unseen token."""
    before = context[1:] if context[:1] == (EOT,) else (model.vocab_size - 1, *context)
    return model.predict_distribution(np.array(before, np.int32)).probs


def weights_of(model: LanguageModel[Any], grams: Counter[Ngram]) -> dict[Ngram, float]:
    """Returns the weight of each n-gram that is longer than one token.

    With all tokens that never followed a context h, the context without its first token predicts in the same
    proportions as h. A longer n-gram changes the proportion of its last token by the factor exp(weight).
    """
    weights = {}
    for gram in grams:
        context, token = gram[:-1], gram[-1]
        if context:
            new = next(other for other in range(model.vocab_size) if (*context, other) not in grams)
            longer, shorter = predicted(model, context), predicted(model, context[1:])
            weights[gram] = np.log(longer[token] / longer[new]) - np.log(shorter[token] / shorter[new])
    return weights


@pytest.mark.parametrize("order", [1, 2])
def test_equals_logistic_regression(order: int) -> None:
    linear_model = pytest.importorskip("sklearn.linear_model")
    rng = np.random.default_rng(1)  # all pairs occur, so that logistic regression has the same features
    stream = TokenStream.from_documents(rng.choice([1, 1, 1, 2, 2, 3], rng.integers(0, 9)) for _ in range(60))
    variance = 3.0
    model = maxent(4, order=order, variance=variance, discount=0.0, steps=1000).fit(TrainingData(stream, stream))
    features = np.zeros((len(stream), 1 + 4 * (order - 1)))
    features[:, 0] = np.sqrt(variance)  # a feature times s has the same prior as one with s^2 times the variance
    if order == 2:
        assert len(counted(stream, 2)) == 4 + 16
        features[np.arange(len(stream)), 1 + stream.previous_ids()] = np.sqrt(variance)
    regression = linear_model.LogisticRegression(fit_intercept=False, C=1.0, tol=1e-9, max_iter=10_000)
    expected = regression.fit(features, stream.ids).predict_log_proba(features)
    rows = np.array([np.log(predicted(model, context)) for context in contexts(stream, order)])
    np.testing.assert_allclose(rows, expected, atol=1e-4)


def test_unigrams_without_penalties_are_relative_frequencies() -> None:
    stream = toy_data(8).train
    counts = np.bincount(stream.ids, minlength=8)
    model = maxent(8, order=1, variance=1e12, discount=0.0, steps=1000).fit(TrainingData(stream, stream))
    np.testing.assert_allclose(predicted(model, ()), counts / counts.sum(), atol=1e-6)


@pytest.mark.parametrize(("order", "variance", "discount"), [(2, 2.0, 0.0), (3, 16.0, 0.3), (4, 5.0, 0.2)])
def test_expected_counts_are_discounted_as_the_priors_say(order: int, variance: float, discount: float) -> None:
    data = toy_data(9, seed=order)
    model = maxent(9, order=order, variance=variance, discount=discount, steps=3000).fit(data)
    grams = counted(data.train, order)
    expected = Counter[Ngram]()
    for context in contexts(data.train, order):
        probs = predicted(model, context)
        for start, token in itertools.product(range(len(context) + 1), range(9)):
            expected[(*context[start:], token)] += probs[token]
    for gram, weight in weights_of(model, grams).items():
        wanted = grams[gram] - discount - weight * (len(gram) - 1) / variance
        assert expected[gram] == pytest.approx(wanted, abs=0.02), gram


def test_distributions_sum_to_one_after_all_contexts() -> None:
    model = maxent(12, order=4).fit(toy_data(12))
    assert isinstance(model, NgramModel)
    assert model.largest_sum_error() < 1e-6


def test_an_arpa_file_of_the_model_scores_the_same(tmp_path: Path) -> None:
    data = toy_data(12)
    model = maxent(12, order=3).fit(data)
    assert isinstance(model, NgramModel)
    path = tmp_path / "maxent.arpa"
    words = ["</s>", *"abcdefghijk"]
    write_arpa(path, model, words)
    _, loaded = read_arpa(path, words)
    np.testing.assert_allclose(loaded.log_probs(data.valid), model.log_probs(data.valid), atol=1e-5)


def documents_with_topics(seed: int) -> TokenStream:
    """Returns 60 documents of 20 tokens, of 1 to 4 and 8, or of 5 to 7 and 8; the first token tells which."""
    rng = np.random.default_rng(seed)
    topics = rng.integers(0, 2, 60)
    return TokenStream.from_documents(rng.choice([[1, 2, 3, 4, 8], [5, 6, 7, 7, 8]][topic], 20) for topic in topics)


def slow_triggers(stream: TokenStream, vocab_size: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the counts (V, V) of each token after each trigger, and the mutual information (V, V) in nats."""
    after, next_ids = [], stream.ids.tolist()
    for document in stream.documents():
        after += [np.isin(np.arange(vocab_size), document[:t]) for t in range(len(document))]
    is_after, is_next = np.array(after), np.eye(vocab_size)[next_ids]
    information = np.zeros((vocab_size, vocab_size))
    for u, w in itertools.product(range(vocab_size), repeat=2):
        for a, b in itertools.product((0, 1), repeat=2):
            joint = np.mean((is_after[:, u] == a) & (is_next[:, w] == b))
            if joint:
                information[u, w] += joint * np.log(joint / np.mean(is_after[:, u] == a) / np.mean(is_next[:, w] == b))
    both = is_after.T.astype(float) @ is_next
    information[both * len(stream) <= np.outer(is_after.sum(0), is_next.sum(0))] = 0
    return both, information * len(stream)


def test_triggers_are_the_pairs_with_the_most_information() -> None:
    stream = documents_with_topics(0)
    triggers, counts = find_triggers(stream, 10, 2)
    both, information = slow_triggers(stream, 10)
    pairs = [(u, w) for u in range(10) for w in triggers.targets[triggers.first[u] : triggers.first[u + 1]].tolist()]
    expected = [(int(u), w) for w in range(10) for u in np.argsort(-information[:, w])[:2] if information[u, w] > 6]
    assert pairs == sorted(expected)
    assert counts.tolist() == [both[pair] for pair in pairs]


def test_the_gradient_with_triggers_is_that_of_the_likelihood() -> None:
    stream = TokenStream(documents_with_topics(1).ids[:-1])  # the last document has no end
    ngrams = NgramLikelihood(count_ngrams([stream], 10, 3), 4.0, 0.1)
    joint = TriggerLikelihood(ngrams, stream, *find_triggers(stream, 10, 3))
    rng = np.random.default_rng(2)
    weights = rng.normal(0, 0.3, joint.curvatures.size)
    direction = rng.normal(0, 1e-5, weights.size)
    weights[0] = direction[0] = 0  # the root has no weight
    difference = joint.value_and_gradient(weights + direction)[0] - joint.value_and_gradient(weights - direction)[0]
    assert difference / 2 == pytest.approx(joint.value_and_gradient(weights)[1] @ direction, rel=1e-5)


def test_the_likelihood_with_triggers_is_that_of_the_model() -> None:
    stream = documents_with_topics(1)
    model = maxent(10, order=3, triggers=3).fit(TrainingData(stream, stream))
    assert isinstance(model, TriggerModel)
    ngrams = NgramLikelihood(count_ngrams([stream], 10, 3), 8.0, 0.2)
    start = np.zeros(ngrams.counts.size)
    joint = TriggerLikelihood(ngrams, stream, model.triggers, np.zeros(model.trigger_weights.size))
    value, _ = joint.value_and_gradient(np.concatenate([start, model.trigger_weights]))
    uniform = ngram(10, order=1, smoothing="additive:1e12").fit(TrainingData(stream, stream))
    arrays = {**model.arrays(), **{f"ngrams.{name}": array for name, array in uniform.arrays().items()}}
    other = maxent(10, order=1, triggers=3).load_arrays(arrays)
    penalty = model.trigger_weights @ model.trigger_weights / 2
    assert value == pytest.approx(other.log_probs(stream).sum() - penalty, rel=1e-6)


def test_triggers_know_the_topic_of_a_document() -> None:
    data, test = TrainingData(documents_with_topics(0), documents_with_topics(1)), documents_with_topics(2)
    without, with_triggers = (maxent(10, order=1, triggers=n).fit(data).log_probs(test).mean() for n in (0, 4))
    assert with_triggers > without + 0.3  # the topic is worth up to ln 2 = 0.69 nats per token


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
@pytest.mark.parametrize("order", [1, 2, 5])
def test_laws(order: int, law: Law) -> None:
    law(Specimen(lambda vocab_size: maxent(vocab_size, order=order, steps=20), tolerance=1e-6))


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [("first_target", 5, "triggers are out of range"), ("targets", 12, "triggers are out of range"),
     ("trigger_weights", np.nan, "not finite")],
)  # fmt: skip
def test_damaged_triggers_are_refused(name: str, value: float, message: str) -> None:
    arrays = dict(maxent(12, order=2, triggers=2).fit(toy_data(12)).arrays())
    arrays[name] = arrays[name].copy()
    arrays[name][0] = value
    with pytest.raises(SavedModelError, match=message):
        maxent(12, order=2, triggers=2).load_arrays(arrays)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"order": 0}, "order must be"),
        ({"variance": 0}, "variance must be a finite number above 0, got 0"),
        ({"discount": -0.1}, "discount must be a finite number of at least 0, got -0.1"),
        ({"steps": 0}, "steps must be a whole number of at least 1, got 0"),
        ({"triggers": -1}, "triggers must be a whole number of at least 0, got -1"),
    ],
)
def test_wrong_settings(settings: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        maxent(10, **settings)  # type: ignore[arg-type]
