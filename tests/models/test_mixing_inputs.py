"""Other models as inputs of context mixing: their probabilities of bits, their learning, and the whole."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from slow_mixing import BYTES, SlowMixing

from lmzoo import Predictor, zoo
from lmzoo.errors import ConfigurationError, UnknownNameError
from lmzoo.models.bitwise.code import code_width, leaf_of, n_bits
from lmzoo.models.context_mixing import context_mixing, inputs
from lmzoo.models.context_mixing.inputs import RetrainedInput, TrainedInput
from lmzoo.models.context_mixing.other_models import add_up, ask
from lmzoo.models.context_mixing.reader import MixingReader
from lmzoo.neural import neural_lm
from lmzoo.online_reader import ReadsOnline
from lmzoo.stream import EOT, TokenStream, TrainingData
from lmzoo.testing import check_language_model, toy_data

NETWORK = {"d_embed": 8, "d_hidden": 16, "training": {"batch_size": 3, "chunk_size": 8, "learning_rate": 1e-2}}
BIGRAMS: dict[str, Any] = {"species": "ngram", "settings": {"order": 2}}
LSTM: dict[str, Any] = {"species": "lstm", "settings": NETWORK}
SMALL: dict[str, Any] = {"table_bits": 17, "inputs": ["ppm", "ngram", LSTM]}


def random_ids(n: int, vocab_size: int, seed: int = 0) -> NDArray[np.int32]:
    return np.random.default_rng(seed).integers(0, vocab_size, n).astype(np.int32)


# ---- Bits ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("vocab_size", [2, 3, 5, 8, 257])
def test_probabilities_of_bits_multiply_to_those_of_tokens(vocab_size: int) -> None:
    given = np.log(np.random.default_rng(1).dirichlet(np.ones(vocab_size), 2))
    sums, found = np.empty((2, 4 * code_width(vocab_size))), np.empty(4, np.float32)
    add_up(given, vocab_size, sums)
    np.testing.assert_allclose(sums[:, 1], 1)
    for token_id in range(vocab_size):
        leaf, probs = leaf_of(token_id, vocab_size), np.ones(2)
        for depth in range(n_bits(leaf)):
            ask(sums, leaf >> (depth + 1), found)
            bit = (leaf >> depth) & 1
            of_one = 1 / (1 + np.exp(-found[::2].astype(float)))
            np.testing.assert_allclose(of_one, 0.5 + found[1::2], atol=2e-4)
            probs *= of_one if bit else 1 - of_one
        np.testing.assert_allclose(probs, np.exp(given[:, token_id]), rtol=2e-3, atol=1e-6)


def test_impossible_tokens_are_unlikely_bits() -> None:
    """P = (0, 1, 0) for the tokens 0 (EOT), 1 and 2, whose code words are 11, 0 and 10: 30 zeros against 1."""
    sums, found = np.empty((1, 8)), np.empty(2, np.float32)
    with np.errstate(divide="ignore"):
        add_up(np.log([[0.0, 1.0, 0.0]]), 3, sums)
    ask(sums, 1, found)
    np.testing.assert_allclose(found, [-9, -0.5])
    ask(sums, 3, found)
    np.testing.assert_allclose(found, [0, 0])


@pytest.mark.slow
@pytest.mark.parametrize("vocab_size", [9, BYTES])
def test_equals_a_slow_implementation(vocab_size: int) -> None:
    phrase = random_ids(25, vocab_size)
    ids = np.concatenate([phrase, [EOT], phrase, random_ids(40, vocab_size, 1), phrase]).astype(np.int32)
    species = ["ppm", "context-tree-weighting"]
    given = [reader_of(name, vocab_size).read(ids) for name in species]
    slow, expected = SlowMixing(vocab_size, n_curve_rows=1 << 13, given=given), []
    for token_id in ids.tolist():
        expected.append(math.log(slow.prob(token_id)))
        slow.learn(token_id)
    found = context_mixing(vocab_size, inputs=species).online_log_probs(ids)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


# ---- Learning while reading ---------------------------------------------------------------------


def reader_of(species: str, vocab_size: int, **settings: Any) -> Any:
    model = zoo.create(species, vocab_size, **settings)
    assert isinstance(model, ReadsOnline)
    return model.online_reader(0)


@pytest.mark.parametrize("species", ["ppm", "context-tree-weighting", "context-mixing"])
def test_predictions_of_all_tokens(species: str) -> None:
    """They are those of `online_log_probs`, however many tokens are read at a time, and `finish` ends a `fit`."""
    data = toy_data(12)
    settings = {"table_bits": 17} if species == "context-mixing" else {}
    model: Any = zoo.create(species, 12, **settings)
    reader = model.online_reader(0)
    ids = data.train.ids
    rows = np.concatenate([reader.read(piece) for piece in np.split(ids, [1, 5, 200])])
    np.testing.assert_allclose(np.exp(rows).sum(axis=1), 1)
    np.testing.assert_allclose(rows[np.arange(ids.size), ids], model.online_log_probs(ids), atol=1e-12)
    assert not model.fitted
    reader.finish(data)
    fitted = zoo.create(species, 12, **settings).fit(data)
    np.testing.assert_array_equal(model.log_probs(data.valid), fitted.log_probs(data.valid))


def test_retrained_models(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bigram model is trained on the first 64 and 128 tokens; the last tenth of them is its validation split."""
    monkeypatch.setattr(inputs, "_FIRST_TRAINING", 64)
    data = toy_data(12)
    ids, model = data.train.ids[:200], zoo.create("ngram", 12, order=2)
    reader = RetrainedInput(model, seed=0)
    rows = np.concatenate([reader.read(piece) for piece in np.split(ids, [1, 70])])
    np.testing.assert_allclose(rows[:64], -math.log(12))
    for begin, cut in ((64, 57), (128, 115)):
        past = TrainingData(TokenStream(ids[:cut]), TokenStream(ids[cut:begin]))
        expected = (
            zoo.create("ngram", 12, order=2)
            .fit(past)
            .next_log_probs_after([ids[:t] for t in range(begin, 2 * begin)][: 200 - begin])
        )
        np.testing.assert_allclose(rows[begin : begin + len(expected)], expected, atol=1e-12)
    reader.finish(data)
    expected = zoo.create("ngram", 12, order=2).fit(data).log_probs(data.valid)
    np.testing.assert_array_equal(model.log_probs(data.valid), expected)


def test_a_trained_model_reads_on() -> None:
    model = zoo.create("ngram", 12, order=3).fit(toy_data(12))
    ids = np.array([3, 4, 5, EOT, 3, 4], np.int32)
    found = TrainedInput(model, ids[:2]).read(ids[2:])
    np.testing.assert_allclose(found, model.next_log_probs_after([ids[:t] for t in range(2, 6)]))


def test_a_distribution_is_computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A step of generation asks for the distribution, and then reads the token that was sampled."""
    model = zoo.create("ngram", 12, order=3).fit(toy_data(12))
    ids, calls, next_log_probs = np.array([3, 4, 5, EOT, 3, 4], np.int32), [], model.next_log_probs
    expected = TrainedInput(model).read(ids)
    monkeypatch.setattr(model, "next_log_probs", lambda state: calls.append(1) or next_log_probs(state))
    one = TrainedInput(model)
    for token_id, row in zip(ids, expected, strict=True):
        np.testing.assert_array_equal(one.next_log_probs(), row)
        np.testing.assert_array_equal(one.read(np.array([token_id])), [row])
    assert len(calls) == ids.size


def test_the_text_so_far_is_seldom_copied() -> None:
    reader, arrays = RetrainedInput(zoo.create("ngram", 12, order=2), seed=0), {}
    for token_id in random_ids(900, 12):
        reader.read(np.array([token_id]))
        arrays[id(reader._ids)] = reader._ids
    assert len(arrays) < 10
    np.testing.assert_array_equal(reader._ids[: reader._n_read], random_ids(900, 12))


class Seer:
    """Predicts each token, which it has seen, with a probability of `prob`; the other tokens are equally likely."""

    def __init__(self, prob: float) -> None:
        self.prob = prob

    def online_reader(self, seed: int) -> Seer:
        return self

    def read(self, ids: NDArray[np.int32]) -> NDArray[np.float64]:
        rows = np.full((ids.size, 12), math.log((1 - self.prob) / 11))
        rows[np.arange(ids.size), ids] = math.log(self.prob)
        return rows


def test_the_mixer_learns_which_models_to_trust() -> None:
    """The text is random: only the model that sees the next token helps, and a model that says nothing hardly harms."""
    ids, surprisals = random_ids(1500, 12), []
    for probs in ([], [1 / 12], [0.9], [1 / 12, 0.9]):
        models: Any = [Seer(prob) for prob in probs]
        reader = MixingReader(12, table_bits=17, words=False, new_models=lambda models=models: models)
        reader.begin_training(0)
        log_probs = np.empty(ids.size)
        reader.read(ids, log_probs)
        surprisals.append(-log_probs[-500:].mean())
    assert surprisals[0] > 2.4
    assert surprisals[1] < surprisals[0] + 0.02
    assert max(surprisals[2:]) < 0.45


# ---- The whole ----------------------------------------------------------------------------------


@pytest.mark.slow
def test_laws(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inputs, "_FIRST_TRAINING", 64)
    monkeypatch.setattr(neural_lm, "_KERNEL_THRESHOLD", 0)  # the same code predicts before and after saving
    check_language_model(lambda vocab_size: context_mixing(vocab_size, **SMALL), tolerance=1e-4)


def test_it_is_saved_and_loaded(corpus_folder: Path, tmp_path: Path) -> None:
    predictor = Predictor.fit("context-mixing", corpus_folder, tokenizer="byte", table_bits=17, inputs=["ppm", BIGRAMS])
    loaded = Predictor.load(predictor.save(tmp_path / "mixing"))
    expected = predictor.predict_distribution("the").log_probs
    np.testing.assert_array_equal(loaded.predict_distribution("the").log_probs, expected)


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        ("ppm", ConfigurationError, "inputs must be a list of species"),
        ({"ppm": {}}, ConfigurationError, "inputs must be a list of species"),
        ([3], ConfigurationError, "a member must be the name of a species"),
        (["pmp"], UnknownNameError, "ppm"),
        ([{"species": "ppm", "settings": {"order": 0}}], ConfigurationError, "order must be"),
    ],
)
def test_bad_inputs_are_refused(wrong: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        context_mixing(12, inputs=wrong)


def test_a_static_model_has_static_inputs() -> None:
    with pytest.raises(ConfigurationError, match="ppm does"):
        context_mixing(12, inputs=["ngram", "ppm"], adaptive=False)
    static = {"species": "ppm", "settings": {"adaptive": False}}
    assert not context_mixing(12, inputs=["ngram", static], adaptive=False).adapts_on_test
