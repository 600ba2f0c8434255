"""Mixtures: weights worked by hand, recovered and optimal; members walked side by side, resumed and saved."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lmzoo import Predictor, zoo
from lmzoo.checkpoint import Checkpoint
from lmzoo.errors import ConfigurationError, SavedModelError, TrainingError, UnknownNameError
from lmzoo.language_model import Progress
from lmzoo.models import mixing
from lmzoo.models.mixing import bands, learn_weights, read_band
from lmzoo.models.mixture import MixtureModel, mixture
from lmzoo.stream import TokenStream, TrainingData
from lmzoo.testing import check_language_model, toy_data

SINGLE = 1e-6  # n-grams store their log-probabilities in single precision
TINY_HMM = {"species": "hmm", "settings": {"n_states": 3, "n_iterations": 4}}
TINY_LSTM = {
    "species": "lstm",
    "settings": {"d_embed": 8, "d_hidden": 8, "training": {"tokens": 500, "batch_size": 4, "chunk_size": 8}},
}


def fitted(*members: Any, vocab_size: int = 12) -> MixtureModel:
    return mixture(vocab_size, members=members).fit(toy_data(vocab_size))


# ---- Weights ------------------------------------------------------------------------------------


def test_weights_worked_by_hand() -> None:
    """Each of 8 tokens has a probability above 0 under one member only: 6 under the first, 2 under the second.

    With one pseudo-token per member, the weights are (6 + 1) / (8 + 2) and (2 + 1) / (8 + 2).
    """
    probs = np.array([[0.5, 0.0]] * 6 + [[0.0, 0.1]] * 2)
    with np.errstate(divide="ignore"):
        assert learn_weights(np.log(probs)) == pytest.approx([0.7, 0.3])


def test_what_no_member_can_predict_does_not_count() -> None:
    nothing = np.full((5, 2), -np.inf)
    some = np.log([[0.9, 0.1]] * 4)
    assert learn_weights(np.concatenate([nothing, some])) == pytest.approx(learn_weights(some))
    assert learn_weights(nothing) == pytest.approx([0.5, 0.5])


@settings(max_examples=15)
@given(st.integers(1, 4), st.integers(1, 200), st.integers(0, 2**32 - 1))
def test_no_other_weights_are_better(n_members: int, n_tokens: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    log_probs = np.log(rng.dirichlet(np.ones(5), size=(n_tokens, n_members))[:, :, 0] + 1e-12)
    weights = learn_weights(log_probs)

    def objective(candidate: Any) -> float:
        return float(np.log(np.exp(log_probs) @ candidate).sum() + np.log(candidate).sum())

    assert weights.sum() == pytest.approx(1)
    for other in rng.dirichlet(np.ones(n_members), size=20):
        for step in (1e-3, 0.1, 1):
            candidate = (1 - step) * weights + step * other
            assert objective(candidate) <= objective(weights) + 1e-6 * (n_tokens + n_members)


def test_planted_weights_are_recovered() -> None:
    rng = np.random.default_rng(0)
    data = toy_data(12)
    members = {name: zoo.create(name, 12).fit(data) for name in ("uniform", "markov")}
    planted = MixtureModel(members).learn_weights(data.valid)._become(np.array([0.7, 0.3]))
    ids, state = [], planted.initial_state()
    for _ in range(6000):
        ids.append(int(rng.choice(12, p=np.exp(planted.next_log_probs(state)))))
        state = planted.advance(state, ids[-1])
    found = MixtureModel(members).learn_weights(TokenStream(np.array(ids)))
    assert found.weights == pytest.approx([0.7, 0.3], abs=0.05)


def test_a_mixture_is_the_weighted_mean_of_its_members() -> None:
    model = fitted("unigram", "markov", TINY_HMM)
    assert list(model.members) == ["unigram", "markov", "hmm"]
    parts = [member.predict_distribution([3, 4]).probs for member in model.members.values()]
    np.testing.assert_allclose(model.predict_distribution([3, 4]).probs, model.weights @ np.array(parts), atol=1e-12)
    assert model.context_size is None


# ---- Members side by side -----------------------------------------------------------------------


@pytest.mark.parametrize("elements", [12, 12 * 7, 12 * 64, 1 << 24])
def test_bands_cover_the_stream_and_keep_documents_whole(elements: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mixing, "_BAND_ELEMENTS", elements)
    stream = toy_data(12).train
    cut = list(bands(stream, 12))
    assert [band.start for band in cut] == [0, *(band.stop for band in cut[:-1])]
    assert cut[-1].stop == len(stream)
    starts = stream.starts.tolist()
    for band in cut:
        assert len(band) <= elements // 12
        assert band.document == max(start for start in starts if start <= band.start)
        assert band.start in starts or band.stop - band.document > elements // 12, "a short document was cut"


@pytest.mark.parametrize("member", ["markov", "ngram", TINY_HMM, TINY_LSTM], ids=str)
def test_a_model_predicts_in_bands_what_it_predicts_at_once(member: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mixing, "_BAND_ELEMENTS", 12 * 7)
    model = mixing.create_member(member, 12).fit(toy_data(12))
    stream = toy_data(12).valid
    whole, banded = np.empty((len(stream), 12)), np.full((len(stream), 12), np.nan)
    for positions, block in model.stream_log_probs(stream):
        whole[positions] = block
    for band in bands(stream, 12):
        for rows, block in read_band(model, stream, band):
            assert (rows >= 0).all()
            banded[band.start + rows] = block
    np.testing.assert_allclose(banded, whole, atol=1e-5)


# ---- The laws, resuming, saving -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("members", "tolerance"),
    [
        (["unigram", "uniform", "markov"], 1e-9),
        ({"hmm": TINY_HMM["settings"], "ngram": {"order": 4}}, SINGLE),
        ([{"species": "mixture", "settings": {"members": ["markov", "cache"]}}, "ngram", "ngram"], SINGLE),
    ],
    ids=str,
)
def test_mixtures_keep_the_laws(members: Any, tolerance: float) -> None:
    check_language_model(lambda vocab_size: mixture(vocab_size, members=members), tolerance=tolerance)


def test_a_mixture_adapts_if_a_member_does() -> None:
    assert mixture(5, members=["unigram", "cache"]).adapts_on_test
    assert not mixture(5, members=["unigram", "ngram"]).adapts_on_test


def test_context_is_that_of_the_widest_member() -> None:
    assert mixture(5, members=["unigram", "trigram"]).context_size == 2


def test_finished_members_are_not_fitted_again(tmp_path: Path) -> None:
    data, path = toy_data(12), tmp_path / "checkpoint.safetensors"
    messages: list[str] = []

    def interrupt_the_second(progress: Progress) -> None:
        messages.append(progress.message.partition(":")[0])
        if messages[-1] == "hmm" and progress.done >= 2:
            raise KeyboardInterrupt

    members = ["markov", TINY_HMM]
    with pytest.raises(KeyboardInterrupt):
        mixture(12, members=members).fit(data, on_progress=interrupt_the_second, checkpoint=Checkpoint(path))
    assert messages[0] == "markov"
    messages.clear()
    path.with_suffix(".markov.safetensors").touch()  # a kill before the member's own checkpoint was deleted
    resumed = mixture(12, members=members).fit(
        data, on_progress=lambda progress: messages.append(progress.message), checkpoint=Checkpoint(path)
    )
    assert not any(message.startswith("markov") and "valid" not in message for message in messages)
    expected = mixture(12, members=members).fit(data).arrays()
    for name, array in resumed.arrays().items():
        np.testing.assert_array_equal(array, expected[name])
    assert [file.name for file in tmp_path.iterdir()] == [path.name], (
        "a member's own checkpoint is gone when it is done"
    )
    with pytest.raises(TrainingError, match="other data or settings"):
        mixture(12, members=["markov", "hmm"]).fit(data, checkpoint=Checkpoint(path))


def test_mixture_is_saved_and_loaded(corpus_folder: Path, tmp_path: Path) -> None:
    members = ["markov", {"species": "ngram", "settings": {"order": 3}}]
    predictor = Predictor.fit("mixture", corpus_folder, tokenizer="bpe:300", members=members)
    loaded = Predictor.load(predictor.save(tmp_path / "mixture"))
    assert loaded.complete("The cat", seed=1) == predictor.complete("The cat", seed=1)
    assert loaded.top_tokens("The cat", 5) == predictor.top_tokens("The cat", 5)


# ---- Bad settings -------------------------------------------------------------------------------


def test_bad_members_are_refused() -> None:
    with pytest.raises(UnknownNameError, match="unknown species 'ngrm': did you mean 'ngram'"):
        mixture(5, members=["ngrm"])
    with pytest.raises(UnknownNameError, match="'ordr': did you mean 'order'"):
        mixture(5, members={"ngram": {"ordr": 3}})
    for wrong in ("ngram", 3):
        with pytest.raises(ConfigurationError, match="members must be a list of species"):
            mixture(5, members=wrong)  # type: ignore[arg-type]
    for wrong in (3, {"name": "ngram"}, {"species": "ngram", "settings": 4}, {"species": "ngram", "order": 4}):
        with pytest.raises(ConfigurationError, match="a member must be the name of a species"):
            mixture(5, members=[wrong])
    with pytest.raises(ConfigurationError, match="at least one member"):
        mixture(5, members=[])
    with pytest.raises(ConfigurationError, match=r"the same vocabulary, but their sizes are \{'a': 5, 'b': 6\}"):
        MixtureModel({"a": zoo.create("uniform", 5), "b": zoo.create("uniform", 6)})


def test_damaged_weights_are_refused() -> None:
    model = fitted("uniform", "unigram")
    for wrong in ([0.5, 0.6], [1.5, -0.5], [np.nan, 0.5]):
        with pytest.raises(SavedModelError, match="mixture weights"):
            mixture(12, members=["uniform", "unigram"]).load_arrays({**model.arrays(), "weights": np.array(wrong)})


def test_fitting_needs_data() -> None:
    stream = TokenStream(np.array([0]))
    assert mixture(4, members=["uniform"]).fit(TrainingData(stream, stream)).weights == pytest.approx([1])
