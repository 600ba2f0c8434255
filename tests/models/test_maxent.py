"""The maximum-entropy model against logistic regression, relative frequencies, and the equations of its optimum."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lmzoo.checkpoint import Checkpoint
from lmzoo.errors import ConfigurationError, SavedModelError, TrainingError
from lmzoo.language_model import LanguageModel
from lmzoo.models.maxent import TriggerModel, ascent, maxent
from lmzoo.models.maxent.ascent import Ascent
from lmzoo.models.maxent.learning import NgramLikelihood, TriggerLikelihood
from lmzoo.models.maxent.triggers import find_triggers
from lmzoo.models.ngram import NgramModel, ngram
from lmzoo.models.ngram.arpa import read_arpa, write_arpa
from lmzoo.models.ngram.counting.sorting import count_ngrams
from lmzoo.stream import EOT, TokenStream, TrainingData
from lmzoo.system.progress import Progress
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
    ngrams = NgramLikelihood(count_ngrams(stream, 10, 3), 4.0, 0.1)
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
    ngrams = NgramLikelihood(count_ngrams(stream, 10, 3), 8.0, 0.2)
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


# ---- L-BFGS and its checkpoints ----------------------------------------------------------------------


def test_the_maximum_is_that_of_scipy() -> None:
    optimize = pytest.importorskip("scipy.optimize")
    likelihood = NgramLikelihood(count_ngrams(toy_data(9).train, 9, 3), 4.0, 0.1)

    def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
        value, gradient = likelihood.value_and_gradient(weights)
        return -value, -gradient

    start = likelihood.start()
    options = {"maxiter": 5000, "maxfun": 50_000, "ftol": 1e-15, "gtol": 1e-7}
    expected = optimize.minimize(loss, start, jac=True, method="L-BFGS-B", options=options)
    found = Ascent(None, lambda: "", None).maximised(likelihood, start, 1000, "learning")
    assert likelihood.value_and_gradient(found)[0] == pytest.approx(-expected.fun, rel=1e-10)
    np.testing.assert_allclose(found, expected.x, atol=1e-3)


def test_no_step_lowers_the_likelihood() -> None:
    """Also from weights that are far too large, where whole steps are too long."""
    likelihood = NgramLikelihood(count_ngrams(toy_data(9).train, 9, 3), 4.0, 0.1)
    start, values = 20 * np.random.default_rng(0).normal(size=likelihood.counts.size), []
    start[0] = 0
    for steps in range(12):
        weights = Ascent(None, lambda: "", None).maximised(likelihood, start, steps, "learning")
        values.append(likelihood.value_and_gradient(weights)[0])
    assert (np.diff(values) > 0).all()


class Interrupt:
    """Interrupts a fit after its `n_steps`-th step, by an exception of the given type, and counts the steps."""

    def __init__(self, n_steps: float, kind: type[BaseException] = KeyboardInterrupt) -> None:
        self.n_steps, self.kind, self.count = n_steps, kind, 0

    def __call__(self, progress: Progress) -> None:
        self.count += progress.done > 0
        if self.count >= self.n_steps:
            raise self.kind


@pytest.mark.parametrize("triggers", [0, 3])
@pytest.mark.parametrize("kind", [KeyboardInterrupt, RuntimeError])
def test_an_interrupted_fit_goes_on_where_it_was(
    triggers: int, kind: type[BaseException], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After any step of any phase, the last ones included; after a sudden end, with the last save."""
    if kind is RuntimeError:
        monkeypatch.setattr(ascent, "_SECONDS_BETWEEN_SAVES", 0)
    stream = documents_with_topics(0)
    data, counter = TrainingData(stream, stream), Interrupt(math.inf)
    expected = maxent(10, order=2, steps=8, triggers=triggers).fit(data, on_progress=counter).arrays()
    assert counter.count == (18 if triggers else 8)
    for n_steps in range(1, counter.count + 1):
        checkpoint = Checkpoint(tmp_path / "checkpoint.safetensors")
        with pytest.raises(kind):
            maxent(10, order=2, steps=8, triggers=triggers).fit(
                data, on_progress=Interrupt(n_steps, kind), checkpoint=checkpoint
            )
        rest = Interrupt(math.inf)
        resumed = maxent(10, order=2, steps=8, triggers=triggers).fit(data, on_progress=rest, checkpoint=checkpoint)
        # What was reported is saved on an interrupt; a sudden end loses the step that it hit.
        assert rest.count == counter.count - n_steps + (kind is RuntimeError)
        for name, array in resumed.arrays().items():
            np.testing.assert_array_equal(array, expected[name])
        checkpoint.discard()


def test_a_fit_that_has_converged_stays_so(tmp_path: Path) -> None:
    data, counter = toy_data(6), Interrupt(math.inf)
    expected = maxent(6, order=1, steps=1000).fit(data, on_progress=counter).arrays()
    assert counter.count < 100
    checkpoint = Checkpoint(tmp_path / "checkpoint.safetensors")
    with pytest.raises(KeyboardInterrupt):
        maxent(6, order=1, steps=1000).fit(data, on_progress=Interrupt(counter.count), checkpoint=checkpoint)
    resumed = maxent(6, order=1, steps=1000).fit(data, checkpoint=checkpoint).arrays()
    for name, array in resumed.items():
        np.testing.assert_array_equal(array, expected[name])


def test_a_checkpoint_of_other_settings_is_refused(tmp_path: Path) -> None:
    data, checkpoint = toy_data(8), Checkpoint(tmp_path / "checkpoint.safetensors")
    with pytest.raises(KeyboardInterrupt):
        maxent(8, order=2).fit(data, on_progress=Interrupt(2), checkpoint=checkpoint)
    for other in ({"order": 3}, {"order": 2, "variance": 2.0}, {"order": 2, "triggers": 1}):
        with pytest.raises(TrainingError, match="other data or settings"):
            maxent(8, **other).fit(data, checkpoint=checkpoint)  # type: ignore[arg-type]


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
