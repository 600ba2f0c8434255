"""Reading single tokens by compiled kernels: the same as by torch, alone or among others, whenever it is done."""

from __future__ import annotations

import copy
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from lmzoo import zoo
from lmzoo.generation import generate
from lmzoo.neural.anchored import AnchoredNetwork
from lmzoo.neural.network import Network, State
from lmzoo.neural.neural_lm import NeuralLM
from lmzoo.neural.one_token import reader as reader_module
from lmzoo.neural.one_token.reader import TokenReader
from lmzoo.stream import EOT, TokenStream, TrainingData

V = 13
DECODER: dict[str, Any] = {"d_model": 8, "n_layers": 2, "n_heads": 2, "window": 6}
RECURRENT: dict[str, Any] = {"d_model": 8, "n_layers": 2, "n_heads": 2, "convolution": 3}
SPECIES: dict[str, tuple[str, dict[str, Any]]] = {
    "gpt2": ("gpt2", DECODER),
    "transformer-2017": ("transformer-2017", {**DECODER, "d_model": 10}),
    "transformer": ("transformer", DECODER),
    "transformer with n-grams": ("transformer", {**DECODER, "ngrams": 4, "n_slots": 50, "d_slot": 3}),
    "transformer that sees one token": ("transformer", {**DECODER, "window": 1}),
    "nplm": ("nplm", {"order": 4, "d_embed": 5, "d_hidden": 6}),
    "nplm, direct": ("nplm", {"order": 4, "d_embed": 5, "d_hidden": 6, "direct": True}),
    "nplm, bigrams": ("nplm", {"order": 2, "d_embed": 5, "d_hidden": 6}),
    "rnn": ("rnn", {"d_embed": 5, "d_hidden": 6, "n_layers": 2}),
    "lstm": ("lstm", {"d_embed": 5, "d_hidden": 6, "n_layers": 2}),
    "gru": ("gru", {"d_embed": 5, "d_hidden": 6, "n_layers": 2}),
    "lstm with Mogrifier rounds": ("lstm", {"d_embed": 5, "d_hidden": 6, "n_layers": 2, "mogrifier": 3}),
    "gru with Mogrifier rounds": ("gru", {"d_embed": 5, "d_hidden": 6, "mogrifier": 2}),
    "rnn with n-grams": ("rnn", {"d_embed": 5, "d_hidden": 6, "maxent_order": 4, "maxent_size": 50}),
    "lstm with bigrams": ("lstm", {"d_embed": 5, "d_hidden": 6, "maxent_order": 2, "maxent_size": 50}),
    "gated-conv": ("gated-conv", {"d_model": 6, "n_layers": 2, "width": 4}),
    "linear-recurrence": ("linear-recurrence", RECURRENT),
    "linear-recurrence with n-grams": ("linear-recurrence", {**RECURRENT, "ngrams": 4, "n_slots": 50, "d_slot": 3}),
    "gated linear attention": ("linear-recurrence", {**RECURRENT, "recurrence": "attention"}),
    "min-gru": ("linear-recurrence", {**RECURRENT, "recurrence": "min-gru", "convolution": 1}),
}
every_species = pytest.mark.parametrize("species", SPECIES)


def fitted(species: str) -> NeuralLM:
    """Returns a model of its own: not trained, but with weights that all matter."""
    return copy.deepcopy(_fitted(species))


@cache
def _fitted(species: str) -> NeuralLM:
    name, settings = SPECIES[species]
    stream = TokenStream.from_documents([[1, 2, 3]])
    model = zoo.create(name, V, **settings, training={"tokens": 0}).fit(TrainingData(stream, stream))
    assert isinstance(model, NeuralLM)
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.network.parameters():
            parameter.add_(0.4 * torch.randn_like(parameter))
    return model


@torch.inference_mode()
def by_torch(network: Network, token_id: int, state: State) -> tuple[State, Tensor]:
    hidden, state = network(torch.tensor([[token_id]]), state)
    return state, hidden[:, 0]


def by_kernels(reader: TokenReader, token_id: int, state: State) -> tuple[State, Tensor]:
    result = reader.read(np.array([token_id]), state, threshold=0)
    assert result is not None
    return result


def walk(network: Network, *token_ids: int) -> State:
    state = network.initial_state(1)
    for token_id in token_ids:
        state, _ = by_torch(network, token_id, state)
    return state


def assert_close(left: tuple[State, Tensor], right: tuple[State, Tensor]) -> None:
    torch.testing.assert_close(left[1], right[1], rtol=1e-5, atol=1e-5)
    assert len(left[0]) == len(right[0])
    for one, other in zip(left[0], right[0], strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


def ids_of_texts() -> list[int]:
    """Returns a text that is far longer than the windows, and three short ones."""
    rng = np.random.default_rng(1)
    return [EOT, *rng.integers(1, V, 29).tolist(), EOT, EOT, *rng.integers(1, V, 3).tolist(), EOT, 5, 6, 7]


@every_species
def test_hidden_vectors_and_states_are_those_of_torch(species: str) -> None:
    network = fitted(species).network
    reader, state = TokenReader(network), network.initial_state(1)
    for token_id in ids_of_texts():
        step = by_torch(network, token_id, state)
        assert_close(by_kernels(reader, token_id, state), step)
        state = step[0]


@every_species
def test_rounding_errors_grow_no_faster_than_those_of_torch(species: str) -> None:
    """Each goes on from its own states, next to a network that computes with 64 bits."""
    network = fitted(species).network
    exact_network, reader = copy.deepcopy(network).double(), TokenReader(network)
    exact, torchs, ours = (model.initial_state(1) for model in (exact_network, network, network))
    exact = tuple(part.double() if part.is_floating_point() else part for part in exact)
    error_of_torch = error = 0.0
    for token_id in ids_of_texts():
        exact, exact_hidden = by_torch(exact_network, token_id, exact)
        torchs, hidden_of_torch = by_torch(network, token_id, torchs)
        ours, hidden = by_kernels(reader, token_id, ours)
        error_of_torch = max(error_of_torch, float((hidden_of_torch - exact_hidden).abs().max()))
        error = max(error, float((hidden - exact_hidden).abs().max()))
    assert error < 3 * error_of_torch < 1e-3


@every_species
def test_a_sequence_gets_the_same_numbers_alone_and_among_others(species: str) -> None:
    """Bit for bit, at other positions than the others, beyond the window, and over ends of text.

    Only anchored windows that begin at the same time are read by torch together, which may change the last bits.
    """
    network = fitted(species).network
    tolerance = 1e-5 if isinstance(network, AnchoredNetwork) else 0
    reader, rng = TokenReader(network), np.random.default_rng(2)
    alone = [walk(network, EOT, *rng.integers(1, V, length).tolist()) for length in (0, 1, 4, 5, 9, 23)]
    together = network.stack_states(alone)
    for step in range(20):
        token_ids = rng.integers(1, V, len(alone))
        token_ids[step % 4 :: 7] = EOT
        result = reader.read(token_ids, together, threshold=0)
        assert result is not None
        together, hidden = result
        logits = reader.logits_batch(hidden, threshold=0)
        assert logits is not None
        for row, token_id in enumerate(token_ids.tolist()):
            alone[row], own = by_kernels(reader, token_id, alone[row])
            torch.testing.assert_close(hidden[row], own[0], rtol=0, atol=tolerance)
            own_logits = reader.logits_batch(own, threshold=0)
            assert own_logits is not None
            np.testing.assert_allclose(logits[row], own_logits[0], rtol=0, atol=2 * tolerance)


@every_species
def test_a_language_model_reads_this_way(species: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = fitted(species)
    ids = np.random.default_rng(2).integers(1, V, 40).tolist()
    model.kernel_threshold = 10**9
    state = model.state_after(np.array([3, 4], np.int32))
    by_torch = []
    for token_id in ids:
        state = model.advance(state, token_id)
        by_torch.append(model.next_log_probs(state))

    model.kernel_threshold = 0
    monkeypatch.setattr(model.network, "logits", lambda *_: pytest.fail("torch computed logits"))
    state = model.state_after(np.array([3, 4], np.int32))
    calls, forward = [], model.network.forward
    monkeypatch.setattr(model.network, "forward", lambda *given: calls.append(given) or forward(*given))
    for token_id, expected in zip(ids, by_torch, strict=True):
        state = model.advance(state, token_id)
        np.testing.assert_allclose(model.next_log_probs(state), expected, rtol=0, atol=3e-5)
        assert np.exp(model.next_log_probs(state)).sum() == pytest.approx(1, abs=1e-12)
    assert not calls


@every_species
def test_states_are_not_modified(species: str) -> None:
    network = fitted(species).network
    reader, state = TokenReader(network), walk(network, EOT, 3, 4)
    before = [part.clone() for part in state]
    first = by_kernels(reader, 5, state)
    kept = [part.clone() for part in (*first[0], first[1])]
    other = by_kernels(reader, 6, state)
    assert not torch.equal(first[1], other[1])
    by_kernels(reader, 7, first[0])
    again = by_kernels(reader, 5, state)
    for part, copied in zip((*state, *first[0], first[1], *again[0], again[1]), before + kept + kept, strict=True):
        assert torch.equal(part, copied)


@pytest.mark.parametrize("species", ["gpt2", "transformer", "lstm"])
def test_rows_that_were_read_side_by_side_go_on_alone(species: str) -> None:
    """Also those with fewer keys than others, whose caches are wider than they need."""
    model = fitted(species)
    states = [model.state_after(np.array(ids, np.int32)) for ids in ([2], [3, 4, 5], [6, 7])]
    together = model.advance_batch(states, [8, 9, 10])
    for state, row, token_id in zip(states, together, [8, 9, 10], strict=True):
        alone = model.advance(model.advance(state, token_id), 1)
        np.testing.assert_allclose(
            model.next_log_probs(model.advance(row, 1)), model.next_log_probs(alone), rtol=0, atol=1e-5
        )


# ---- Weights that change ----------------------------------------------------------------------------


def _in_place(network: Network) -> None:
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(1.5)


def _trained(network: Network) -> None:
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    hidden, _ = network(torch.tensor([[1, 2]]), network.initial_state(1))
    network.cross_entropy(hidden[0], torch.tensor([2, 3])).backward()
    optimizer.step()


def _replaced(network: Network) -> None:
    for parameter in network.parameters():
        parameter.data = parameter.data * 1.5


CHANGES: dict[str, Callable[[Network], None]] = {"in place": _in_place, "trained": _trained, "replaced": _replaced}


@every_species
@pytest.mark.parametrize("change", CHANGES)
def test_weights_are_those_of_now(species: str, change: str) -> None:
    network = fitted(species).network
    reader, state = TokenReader(network), walk(network, EOT, 3)
    old = by_kernels(reader, 4, state)
    CHANGES[change](network)
    new = by_kernels(reader, 4, state)
    assert not torch.allclose(new[1], old[1], rtol=0, atol=1e-4)
    expected = by_torch(network, 4, state)
    assert_close(new, expected)
    with torch.inference_mode():
        expected_logits = network.logits(expected[1])
    for logits in (reader.logits(new[1][0]), reader.logits_batch(new[1], threshold=0)):
        assert logits is not None
        torch.testing.assert_close(torch.from_numpy(np.atleast_2d(logits)), expected_logits, rtol=1e-5, atol=1e-5)


def test_a_copy_has_weights_of_its_own() -> None:
    model = fitted("gpt2")
    state = model.advance(model.initial_state(), 3)
    copied = copy.deepcopy(model)
    _in_place(copied.network)
    found = copied.advance(state, 4)
    changed = by_torch(copied.network, 4, state.network_state)[1][0]
    torch.testing.assert_close(found.hidden, changed, rtol=1e-5, atol=1e-5)
    original = by_torch(model.network, 4, state.network_state)[1][0]
    torch.testing.assert_close(model.advance(state, 4).hidden, original, rtol=1e-5, atol=1e-5)


def test_two_threads_begin_at_the_same_time(monkeypatch: pytest.MonkeyPatch) -> None:
    network = fitted("lstm").network
    reader, hidden, found = TokenReader(network), torch.ones(5), list[Any]()
    as_arrays = reader_module._as_arrays

    def shared_slowly(module: Any) -> Any:
        if module is network and not found:  # another thread asks at this moment
            found.append(None)
            found.append(reader.logits(hidden))
        return as_arrays(module)

    monkeypatch.setattr(reader_module, "_as_arrays", shared_slowly)
    expected = reader.logits(hidden)
    assert expected is not None
    np.testing.assert_array_equal(found[1], expected)


def test_other_types_and_training_are_left_to_torch() -> None:
    network = fitted("lstm").network
    reader, state, one = TokenReader(network), walk(network, EOT), np.array([1])
    assert reader.read(one, state, threshold=0) is not None
    assert reader.read(one, network.train().initial_state(1), threshold=0) is None
    double = network.eval().double()
    assert reader.read(one, tuple(part.double() for part in state), threshold=0) is None
    assert reader.logits(torch.zeros(5, dtype=torch.float64)) is None
    assert reader.logits_batch(torch.zeros(1, 5, dtype=torch.float64), threshold=0) is None
    double.float()
    assert reader.read(one, state, threshold=0) is not None


def test_a_network_without_a_short_way_goes_the_long_one() -> None:
    model = zoo.create("low-rank-hmm", V, n_states=6, rank=3, d_embed=4, training={"tokens": 0})
    stream = TokenStream.from_documents([[1, 2, 3]])
    model.fit(TrainingData(stream, stream))
    state = model.advance(model.initial_state(), 3)
    np.testing.assert_allclose(model.next_log_probs(state), model.predict_distribution([3]).log_probs, atol=1e-6)


# ---- When it begins ---------------------------------------------------------------------------------


@pytest.mark.slow
def test_kernels_are_loaded_when_they_pay_off() -> None:
    """Not for a few tokens; and the text does not show where they begin."""
    code = """
import sys
import numpy as np
from lmzoo import zoo
from lmzoo.stream import TokenStream, TrainingData

stream = TokenStream.from_documents([[1, 2, 3]])
model = zoo.create("nplm", 5, order=3, d_embed=2, d_hidden=3, training={"tokens": 0})
state = model.fit(TrainingData(stream, stream)).initial_state()
for token in range(model.kernel_threshold):
    state = model.advance(state, 1 + token % 4)
assert "numba" not in sys.modules
model.advance(state, 1)
assert "lmzoo.neural.one_token.kernels" in sys.modules
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("species", ["gpt2", "transformer", "lstm"])
def test_the_text_does_not_show_where_kernels_begin(species: str) -> None:
    model, texts = fitted(species), []
    for begin in (0, 20, 10**9):
        model.kernel_threshold = begin
        model.load_arrays(model.arrays())  # nothing was read yet
        drawn = [[token.token_id for token in generate(model, [1], rng=seed, max_tokens=60)] for seed in range(30)]
        texts.append(drawn)
        assert max(map(len, drawn)) > 10
    assert texts[0] == texts[1] == texts[2]
