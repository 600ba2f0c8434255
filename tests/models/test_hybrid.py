"""The hybrid of an n-gram model and a network: its equation, its gate, cross-fitting, resuming and saving."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from lmzoo import zoo
from lmzoo.arrays import load_arrays, save_arrays
from lmzoo.checkpoint import Checkpoint
from lmzoo.errors import ConfigurationError, SavedModelError, TrainingError, UnknownNameError
from lmzoo.models.hybrid import HybridModel, MixtureLoss, NgramScores, cross_fitted, folds_of
from lmzoo.models.ngram import ngram
from lmzoo.neural.neural_lm import NeuralLM
from lmzoo.neural.objectives.next_token import Chunk
from lmzoo.neural.objectives.sampled import SampledSoftmax
from lmzoo.stream import EOT, TokenStream, TrainingData
from lmzoo.system.progress import Progress
from lmzoo.testing import toy_data

V = 12


def tiny(vocab_size: int = V, **changes: Any) -> HybridModel:
    model = zoo.create("hybrid", vocab_size, **zoo.presets("hybrid")["tiny"] | changes)
    assert isinstance(model, HybridModel)
    return model


@pytest.fixture(scope="module", params=["gru", "lstm"])
def model(request: pytest.FixtureRequest) -> HybridModel:
    """A fitted hybrid whose weights have then been changed, so that its gate is neither 0, 1/2 nor 1."""
    fitted = tiny(cell=request.param).fit(toy_data(V))
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in fitted.neural.network.parameters():
            parameter.add_(0.5 * torch.randn_like(parameter))
    return fitted


# ---- The mixture --------------------------------------------------------------------------------


def test_equals_the_equation(model: HybridModel) -> None:
    """The members apart: the network read token by token by torch, and the n-gram model of a zoo of its own."""
    counts = ngram(V, order=3).fit(toy_data(V))
    network: Any = model.neural.network
    for context in ([], [3], [3, 4], [3, 4, 5, 9, 1]):
        hidden, state = network(torch.tensor([[EOT]]), network.initial_state(1))
        for token_id in context:
            hidden, state = network(torch.tensor([[token_id]]), state)
        r = hidden[0, 0].detach()
        # The longest of the last 2 tokens, the start of the document included, that occur in the training text.
        text, past = [EOT, *toy_data(V).train.ids.tolist()], [EOT, *context]
        length = max(
            k for k in (0, 1, 2) if k < 2 or (len(past) > 1 and tuple(past[-2:]) in set(itertools.pairwise(text)))
        )
        gate = 1 / (1 + math.exp(-float(r @ network.gate.detach() + network.gate_biases.detach()[length])))
        net = F.softmax(network.head(r), 0).detach().double().numpy()
        expected = (1 - gate) * net + gate * counts.predict_distribution(context).probs
        np.testing.assert_allclose(model.predict_distribution(context).probs, expected, rtol=1e-4, atol=1e-7)
        assert model.gate(model.state_after(np.array(context, np.int32))) == pytest.approx(gate, abs=1e-5)


def test_the_gate_is_between_0_and_1_and_its_limits_are_the_members() -> None:
    model = tiny().fit(toy_data(V))
    stream = toy_data(V).valid
    network: Any = model.neural.network
    states = [model.state_after(document[:-1]) for document in stream.documents()]
    assert all(0 <= model.gate(state) <= 1 for state in states)
    for bias, member in ((-1000.0, model.neural), (1000.0, model.ngram)):
        nn.init.constant_(network.gate_biases, bias)
        np.testing.assert_allclose(model.log_probs(stream), member.log_probs(stream), atol=1e-5)
        np.testing.assert_allclose(model.token_stats(stream).log_probs, member.log_probs(stream), atol=1e-5)
        assert {model.gate(state) for state in states} == {float(bias > 0)}


# ---- The loss -----------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.0, 0.3])
def test_the_loss_is_that_of_the_mixture(model: HybridModel, share: float) -> None:
    """The objective reads what the n-gram model knows by position; its value and gradient are those of the formula."""
    network: Any = model.neural.network
    rng = np.random.default_rng(0)
    scores = NgramScores(np.log(rng.uniform(0.01, 0.9, 30)), rng.integers(0, 3, 30))
    inputs, targets, positions = (torch.from_numpy(rng.integers(1, n, (2, 5))) for n in (V, V, 30))
    objective = MixtureLoss(scores, None, network_share=share, device=torch.device("cpu"))
    step = objective(network, Chunk(inputs, targets, positions=positions), ())

    hidden, _ = network(inputs, network.initial_state(2))
    net = network.head(hidden).softmax(2).gather(2, targets[..., None])[..., 0]
    counted = torch.from_numpy(np.exp(scores.log_probs)).float()[positions]
    gates = (hidden @ network.gate + network.gate_biases[torch.from_numpy(scores.lengths)[positions]]).sigmoid()
    mixed = (1 - gates) * net + gates * counted
    expected = -(share * net.log() + (1 - share) * mixed.log()).sum()
    assert step.weight == 10
    torch.testing.assert_close(step.total, expected)
    parameters = list(network.parameters())
    found, wanted = (torch.autograd.grad(loss, parameters) for loss in (step.total, expected))
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_a_sampled_softmax_is_that_of_the_other_networks(model: HybridModel) -> None:
    network = model.neural.network
    ids = torch.arange(1, V).expand(3, V - 1)
    sampled = SampledSoftmax(torch.full((V,), 1 / V), 4)
    torch.manual_seed(0)
    total = sampled(network, Chunk(ids, ids), ()).total
    torch.manual_seed(0)
    hidden, _ = network(ids, network.initial_state(3))
    nats = sampled.surprisals(network.head, hidden.flatten(0, 1), ids.flatten())
    torch.testing.assert_close(nats.sum(), total)


# ---- Cross-fitting ------------------------------------------------------------------------------


@settings(max_examples=60)
@given(st.lists(st.integers(0, 30), min_size=1, max_size=30), st.integers(2, 7))
def test_folds_are_of_equal_size_and_keep_documents_whole(sizes: list[int], n_folds: int) -> None:
    stream = TokenStream.from_documents(np.ones(size, np.int32) for size in sizes)
    folds = folds_of(stream, n_folds)
    assert folds.shape == (len(stream),)
    assert set(folds.tolist()) <= set(range(n_folds))
    fold_size = len(stream) / n_folds
    largest = 1
    for start, end in zip(stream.starts, stream.ends, strict=True):
        pieces = 1 + np.count_nonzero(np.diff(folds[start:end]))
        assert pieces == 1 or end - start > fold_size
        largest = max(largest, min(end - start, math.ceil(fold_size)))
    counts = np.bincount(folds, minlength=n_folds)
    assert counts.max() - counts.min() <= largest + 1


def test_no_token_is_scored_by_a_model_that_has_seen_it() -> None:
    """Each document repeats a pair of tokens that no other one has, and ends with a phrase that all have."""
    documents = [[2 * d + 4, 2 * d + 5] * 8 + [1, 2, 3] for d in range(20)]
    stream = TokenStream.from_documents(documents)
    data, size = TrainingData(stream, stream), 44
    scores = cross_fitted(lambda: ngram(size, order=3), data, n_folds=4)
    folds = folds_of(stream, 4)
    own = (stream.ids > 3) & (stream.previous_ids() > 3)
    seen = NgramScores.of(ngram(size, order=3).fit(data), stream)
    assert np.exp(seen.log_probs[own]).min() > 0.5
    assert np.exp(scores.log_probs[own]).max() < 1 / size  # less than the tokens that were seen in training
    phrase = np.isin(stream.ids, (2, 3))
    assert np.exp(scores.log_probs[phrase]).min() > 0.5
    assert (scores.lengths[stream.ids == 3] == 2).all()
    for fold in range(4):  # against models fitted on the other documents, one by one
        others = [doc for doc, start in zip(documents, stream.starts, strict=True) if folds[start] != fold]
        model = ngram(size, order=3).fit(TrainingData(TokenStream.from_documents(others), stream))
        for document, start, end in zip(stream.documents(), stream.starts, stream.ends, strict=True):
            if folds[start] == fold:
                np.testing.assert_allclose(scores.log_probs[start:end], model.log_probs(document), atol=1e-6)


def test_a_single_document_is_cut() -> None:
    stream = TokenStream(np.append(np.tile([1, 2, 3], 100), EOT))
    scores = cross_fitted(lambda: ngram(V, order=3), TrainingData(stream, stream), n_folds=5)
    assert np.bincount(folds_of(stream, 5)).tolist() == [61, 60, 60, 60, 60]
    assert np.exp(scores.log_probs[:-1]).mean() > 0.8
    alone = TokenStream(np.array([EOT]))
    nothing = cross_fitted(lambda: ngram(V, order=3), TrainingData(alone, alone), n_folds=5)
    assert nothing.log_probs == pytest.approx(-math.log(V))
    assert nothing.lengths == 0


# ---- Resuming and saving ------------------------------------------------------------------------


def test_training_resumes_where_it_was_interrupted(tmp_path: Path) -> None:
    data, checkpoint = toy_data(V), Checkpoint(tmp_path / "checkpoint.safetensors")
    whole = tiny().fit(data, seed=3)
    n_read: list[float] = []

    def interrupt(progress: Progress) -> None:
        if progress.unit == "tokens":
            n_read.append(progress.done)
            if progress.done > 1000:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tiny().fit(data, seed=3, on_progress=interrupt, checkpoint=checkpoint)
    changes: list[dict[str, Any]] = [{"n_folds": 2}, {"network_share": 0.4}]
    for other in changes:
        with pytest.raises(TrainingError, match="other data or settings"):
            tiny(**other).fit(data, seed=3, checkpoint=checkpoint)
    resumed: list[float] = []
    again = tiny().fit(
        data, seed=3, checkpoint=checkpoint,
        on_progress=lambda progress: resumed.append(progress.done) if progress.unit == "tokens" else None,
    )  # fmt: skip
    assert min(resumed) > max(n_read[:-1])
    assert again.n_tokens_read == whole.n_tokens_read
    for name, array in whole.arrays().items():
        np.testing.assert_array_equal(again.arrays()[name], array, name)


def test_a_saved_model_is_the_same_and_a_damaged_one_is_refused(model: HybridModel, tmp_path: Path) -> None:
    path, stream = tmp_path / "arrays.safetensors", toy_data(V).valid
    save_arrays(path, model.arrays())
    arrays, _ = load_arrays(path)
    cell = "lstm" if len(arrays["network.layers.0.U.weight"]) == 4 * 16 else "gru"
    loaded = tiny(cell=cell).load_arrays(arrays)
    np.testing.assert_array_equal(loaded.log_probs(stream), model.log_probs(stream))
    np.testing.assert_array_equal(loaded.token_stats(stream).entropies, model.token_stats(stream).entropies)
    with pytest.raises(SavedModelError, match="NaN"):
        tiny(cell=cell).load_arrays({**arrays, "network.gate": np.full(8, np.nan, np.float32)})
    with pytest.raises(SavedModelError):
        tiny(cell=cell, order=4).load_arrays(arrays)
    with pytest.raises(SavedModelError):
        tiny(cell=cell, d_hidden=1 << 40).load_arrays(arrays)


@pytest.mark.parametrize(("name", "value"), [("variational", True), ("weight_dropout", 0.5)])
def test_each_kind_of_dropout_changes_training_and_no_prediction(name: str, value: Any) -> None:
    plain, dropped = (tiny(dropout=0.5, **changes).fit(toy_data(V)) for changes in ({}, {name: value}))
    network: Any = dropped.neural.network
    assert getattr(network, name) == value
    stream = toy_data(V).valid
    assert not np.allclose(plain.log_probs(stream), dropped.log_probs(stream))
    again = tiny(dropout=0.5).load_arrays(dropped.arrays())
    np.testing.assert_array_equal(again.log_probs(stream), dropped.log_probs(stream))


@pytest.mark.parametrize(
    "settings",
    [
        {"cell": "rnn"}, {"n_folds": 1}, {"network_share": 1.5}, {"order": 0}, {"d_hidden": 0}, {"variational": 2},
        {"weight_dropout": -0.1},
    ],
    ids=str,
)  # fmt: skip
def test_wrong_settings_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises((ConfigurationError, UnknownNameError), match=next(iter(settings))):
        tiny(**settings)


def test_is_no_special_case_of_networks() -> None:
    model = tiny()
    assert not isinstance(model, NeuralLM)
    assert not model.adapts_on_test
    assert model.context_size is None
