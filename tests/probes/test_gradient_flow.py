"""How far gradients flow: exact values, positions, and the predictions of theory."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lmzoo import Predictor, zoo
from lmzoo.errors import CorpusError, NotFittedError, TokenIdError, UsageError
from lmzoo.models.recurrent import Recurrent
from lmzoo.neural.neural_lm import NeuralLM
from lmzoo.probes import gradient_flow as probe
from lmzoo.probes.gradient_flow import gradient_flow, has_token_vectors
from lmzoo.probes.gradient_norms import GradientFlow
from lmzoo.stream import EOT, TokenStream, TrainingData

V = 11
DECODER: dict[str, Any] = {"d_model": 8, "n_layers": 2, "n_heads": 2}
SETTINGS: dict[str, dict[str, Any]] = {
    "nplm": {"order": 4, "d_embed": 5, "d_hidden": 6, "direct": True, "dropout": 0.5},
    **{name: {"d_embed": 5, "d_hidden": 6, "n_layers": 2, "dropout": 0.5} for name in ("rnn", "lstm", "gru")},
    "transformer-2017": {**DECODER, "window": 6, "training": {"chunk_size": 6}},
    "gpt2": {**DECODER, "window": 6, "training": {"chunk_size": 6}},
    "transformer": {**DECODER, "window": 4},
}
every_species = pytest.mark.parametrize("species", SETTINGS)


def with_weights(species: str, std: float = 0.5, **settings: Any) -> NeuralLM:
    """A model with weights that are nowhere zero."""
    model = zoo.create(species, V, **{**SETTINGS[species], **settings})
    assert isinstance(model, NeuralLM)
    model.network, model.fitted = model.fresh_network(0), True
    generator = torch.Generator().manual_seed(1)
    for parameter in model.network.parameters():
        nn.init.normal_(parameter, std=std, generator=generator)
    return model


def documents(sizes: list[int], seed: int = 0) -> TokenStream:
    rng = np.random.default_rng(seed)
    return TokenStream.from_documents(rng.integers(1, V, size) for size in sizes)


STREAM = documents([3, 30, 9, 1, 17])


def document_before(stream: TokenStream, position: int) -> NDArray[np.int32]:
    """The ids of a position's document up to it."""
    return stream.ids[stream.starts[stream.starts <= position][-1] : position]


# ---- Exact values ------------------------------------------------------------------------------------


def jacobian_norms(model: NeuralLM, context: NDArray[np.int32], target: int, distance: int) -> NDArray[np.float32]:
    """By another way: every token of the context becomes an entry of its own in the table of vectors."""
    network, n = model.network, len(context)
    (name,) = [name for name, _ in network.named_parameters() if name in ("embedding.weight", "C.weight")]
    table = network.get_parameter(name).detach()
    ids = torch.cat([torch.tensor([EOT]), V + torch.arange(n)])[None]

    def loss(vectors: Tensor) -> Tensor:
        weights = {name: torch.cat([table, vectors])}
        call = (ids, network.initial_state(1))
        hidden, _ = torch.func.functional_call(network, weights, call, tie_weights=False)
        return network.surprisals(hidden[:, -1], torch.tensor([target]))[0]

    found = torch.autograd.functional.jacobian(loss, table[context.tolist()])  # (T, D)
    assert isinstance(found, Tensor)
    return found.norm(dim=1).flip(0)[: distance + 1].numpy()


@every_species
def test_norms_are_those_of_the_jacobian(species: str) -> None:
    model = with_weights(species)
    flow = gradient_flow(model, STREAM, max_distance=7, n_positions=25)
    assert flow.norms.shape == (25, 8)
    for position, norms in zip(flow.positions.tolist(), flow.norms, strict=True):
        expected = jacobian_norms(model, document_before(STREAM, position), int(STREAM.ids[position]), 7)
        np.testing.assert_allclose(norms, expected, rtol=1e-3, atol=1e-6 * expected.max())


def test_norms_beside_vectors_of_ngrams() -> None:
    """Hashed n-grams have vectors, too: they are read for the true ids, and are none of the tokens'."""
    model = with_weights("transformer", ngrams=3, n_slots=32)
    network: Any = model.network
    flow = gradient_flow(model, STREAM, max_distance=5, n_positions=6)
    for position, norms in zip(flow.positions.tolist(), flow.norms, strict=True):
        inputs = torch.from_numpy(np.append(EOT, document_before(STREAM, position)))[None].long()
        vectors = network.embedding(inputs).detach().requires_grad_()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(network.embedding, "forward", lambda ids, vectors=vectors: vectors)
            hidden, _ = network(inputs, network.initial_state(1))
        network.surprisals(hidden[:, -1], torch.tensor([int(STREAM.ids[position])])).backward()
        np.testing.assert_allclose(norms, vectors.grad[0].norm(dim=1).flip(0)[:6].numpy(), rtol=1e-4)


@every_species
def test_batches_and_chunks_change_nothing(species: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = with_weights(species)
    whole = gradient_flow(model, STREAM, max_distance=4, n_positions=20)
    monkeypatch.setattr(probe, "_N_ROWS", 3)
    monkeypatch.setattr(probe, "_CHUNK_SIZE", 5)
    parts = gradient_flow(model, STREAM, max_distance=4, n_positions=20)
    np.testing.assert_array_equal(whole.positions, parts.positions)
    np.testing.assert_allclose(whole.norms, parts.norms, rtol=1e-3, atol=1e-6)


@every_species
def test_nothing_is_left_behind(species: str) -> None:
    model = with_weights(species)
    before = model.log_probs(STREAM)
    gradient_flow(model, STREAM, max_distance=4, n_positions=5)
    assert all(parameter.grad is None for parameter in model.network.parameters())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.network.modules())
    np.testing.assert_array_equal(model.log_probs(STREAM), before)


# ---- Positions ---------------------------------------------------------------------------------------


def test_positions_lie_deep_enough_in_their_documents(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "_DEEPEST", 10)
    flow = gradient_flow(with_weights("rnn"), STREAM, max_distance=8, n_positions=1000)
    # Depths 9 .. 18 of the document of 30 tokens, 9 in that of 9 tokens (its end of text), 9 .. 17 in that of 17.
    depths = sorted(len(document_before(STREAM, position)) for position in flow.positions.tolist())
    assert depths == sorted([*range(9, 19), 9, *range(9, 18)])
    assert len(set(flow.positions.tolist())) == 20


def test_seeds_draw_positions() -> None:
    model = with_weights("rnn")
    first, same, other = (gradient_flow(model, STREAM, max_distance=3, n_positions=9, seed=seed) for seed in (4, 4, 5))
    np.testing.assert_array_equal(first.norms, same.norms)
    assert first.positions.tolist() != other.positions.tolist()
    start, again, another = (
        gradient_flow(model, STREAM, max_distance=3, seed=seed, untrained=True) for seed in (4, 4, 5)
    )
    np.testing.assert_array_equal(start.norms, again.norms)
    assert start.norms[0, 0] != another.norms[0, 0]
    assert start.norms[0, 0] != first.norms[0, 0]


def test_short_texts_shorten_the_distance() -> None:
    model = with_weights("rnn")
    flow = gradient_flow(model, documents([20]))  # 20 positions have a token before them: half of them is enough
    assert (flow.max_distance, len(flow.positions)) == (10, 10)
    assert gradient_flow(model, documents([20]), n_positions=3).max_distance == 17
    numbers: Any = {"max_distance": np.int64(30), "n_positions": np.int32(3)}
    assert gradient_flow(model, documents([20]), **numbers).max_distance == 17
    assert gradient_flow(model, documents([0, 1])).norms.shape == (1, 1)
    for nothing in (documents([0, 0]), documents([])):
        with pytest.raises(CorpusError, match="no document of the text has a token"):
            gradient_flow(model, nothing)


def test_what_cannot_be_followed(markov_predictor: Predictor) -> None:
    low_rank = zoo.create("low-rank-hmm", V, n_states=4, rank=2, d_embed=3, training={"tokens": 0})
    low_rank.fit(TrainingData(STREAM, STREAM))
    for model in (markov_predictor.model, low_rank):
        assert not has_token_vectors(model)
        with pytest.raises(UsageError, match="read tokens as embeddings"):
            gradient_flow(model, STREAM)
    unfitted = zoo.create("rnn", V, **SETTINGS["rnn"])
    with pytest.raises(NotFittedError):
        gradient_flow(unfitted, STREAM)
    assert gradient_flow(unfitted, STREAM, untrained=True).norms[0, 0] > 0
    for wrong in ({"max_distance": -1}, {"n_positions": 0}):
        with pytest.raises(UsageError, match="must be a whole number"):
            gradient_flow(with_weights("rnn"), STREAM, **wrong)
    with pytest.raises(TokenIdError, match="outside the vocabulary"):
        gradient_flow(with_weights("rnn"), [1, 2, V])


# ---- What theory says --------------------------------------------------------------------------------

DEEP = documents([45] * 8)


def quiet(species: str, d_hidden: int = 64) -> tuple[NeuralLM, Recurrent]:
    """A recurrent network near zero, where each activation is as good as linear."""
    model = zoo.create(species, V, d_embed=16, d_hidden=d_hidden)
    assert isinstance(model, NeuralLM)
    model.network, model.fitted = model.fresh_network(0), True
    assert isinstance(model.network, Recurrent)
    nn.init.normal_(model.network.embedding.weight, std=1e-12)
    return model, model.network


@pytest.mark.parametrize("radius", [0.7, 1.0, 1.5])
def test_gradients_of_an_rnn_go_with_the_powers_of_its_matrix(radius: float) -> None:
    """d h_t / d h_{t-1} = diag(1 - h_t^2) U, which is U near zero: they vanish below a radius of 1, explode above."""
    model, network = quiet("rnn")
    with torch.no_grad():
        network.layers[0].U.weight.mul_(radius)  # orthogonal before, so that all its eigenvalues have this size
    flow = gradient_flow(model, DEEP, max_distance=40, n_positions=16)
    slopes = np.polyfit(np.arange(41), np.log(flow.norms).T, 1)[0]
    np.testing.assert_allclose(slopes, np.log(radius), atol=0.01)
    # In full, g(d) = W' U'^d P' E' (softmax(b) - target), with the bias b = 0.
    W, U, P, E = (
        one.weight.detach().double().numpy()
        for one in (network.layers[0].W, network.layers[0].U, network.projection, network.embedding)
    )
    for position, norms in zip(flow.positions.tolist(), flow.norms, strict=True):
        backward = P.T @ E.T @ (np.full(V, 1 / V) - np.eye(V)[DEEP.ids[position]])
        for distance in range(41):
            assert norms[distance] == pytest.approx(np.linalg.norm(W.T @ backward), rel=1e-3)
            backward = U.T @ backward


@pytest.mark.parametrize("species", ["rnn", "lstm", "gru"])
def test_gates_keep_gradients(species: str) -> None:
    """Without recurrent weights, a plain network forgets at once, and gates at sigmoid(5) keep so much at each step."""
    model, network = quiet(species)
    with torch.no_grad():
        network.layers[0].U.weight.zero_()
        if species != "rnn":
            network.layers[0].W.bias[64:128] = 5.0  # the forget gate of the LSTM, the update gate of the GRU
    left = gradient_flow(model, DEEP, max_distance=40, n_positions=16).left()
    expected = (0.0 if species == "rnn" else 1 / (1 + np.exp(-5))) ** np.arange(41)
    np.testing.assert_allclose(left, expected, rtol=1e-3)


def sees(species: str, depth: int) -> int:
    """The farthest distance that the network of `SETTINGS` sees from the input at `depth` in its document."""
    match species:
        case "nplm":
            return 2  # n - 1 tokens
        case "transformer":
            return 6  # 2 layers of 4 - 1 tokens before
        case "transformer-2017" | "gpt2":
            # C = 6 inputs and steps of S = 3: the window of input p starts at S max(0, ceil((p - C + 1) / S)).
            return depth - 3 * max(0, -(-(depth - 5) // 3))
        case _:
            return depth


@every_species
def test_gradients_end_where_the_sight_ends(species: str) -> None:
    flow = gradient_flow(with_weights(species), DEEP, max_distance=12, n_positions=40)
    depths = [len(document_before(DEEP, position)) for position in flow.positions.tolist()]
    expected = np.array([np.arange(13) <= sees(species, depth) for depth in depths])
    np.testing.assert_array_equal(flow.norms > 0, expected)
    np.testing.assert_allclose(flow.reached(), expected.mean(axis=0))


@pytest.mark.parametrize("species", ["transformer-2017", "gpt2", "transformer"])
def test_attention_is_level_within_its_window(species: str) -> None:
    """With small weights it takes the mean of its window: no token of it is nearer than another."""
    window = {"training": {"chunk_size": 32}} if species != "transformer" else {}
    model = with_weights(species, 0.05, d_model=32, n_layers=1, window=32, **window)
    left = gradient_flow(model, documents([60] * 8), max_distance=15, n_positions=64).left()
    assert left[1:].min() > 0
    assert left[1:].max() < 3 * left[1:].min()


@pytest.mark.slow
def test_training_on_a_distant_dependence_opens_gates() -> None:
    """Documents end as they began: what 22 tokens later can teach reaches back through gates, not so without."""

    @cache
    def texts(n_documents: int, seed: int) -> TokenStream:
        rng = np.random.default_rng(seed)
        firsts, fillers = rng.integers(1, 5, n_documents), rng.integers(5, 9, (n_documents, 22))
        return TokenStream.from_documents([[a, *between, a] for a, between in zip(firsts, fillers, strict=True)])

    training = {"tokens": 30_000, "batch_size": 16, "chunk_size": 25, "learning_rate": 1e-2, "bf16": False}
    left = {}
    for species in ("rnn", "lstm", "gru"):
        model = zoo.create(species, 9, d_embed=16, d_hidden=32, training=training)
        model.fit(TrainingData(texts(300, 0), texts(20, 1)))
        left[species] = gradient_flow(model, texts(40, 2), max_distance=22).left()[22]
    assert left["lstm"] > 2 * left["rnn"]
    assert left["gru"] > 2 * left["rnn"]


# ---- Summaries ---------------------------------------------------------------------------------------


def flow_of(*norms: float) -> GradientFlow:
    return GradientFlow(np.array([5]), np.array([norms]))


def test_shares_and_distances() -> None:
    flow = GradientFlow(np.array([5, 6, 7]), np.array([[4.0, 1.0, 0.0], [2.0, 0.5, 0.0], [1.0, 3.0, 1.0]]))
    np.testing.assert_allclose(flow.quantile(0.5), [2, 1, 0])
    np.testing.assert_allclose(flow.left(), [1, 0.5, 0])
    np.testing.assert_allclose(flow.reached(), [1, 1, 1 / 3])
    assert [flow.last_distance_with(share) for share in (1.0, 0.5, 0.1, 0.0)] == [0, 1, 1, 2]
    assert flow_of(0, 0).last_distance_with(0.01) is None
    np.testing.assert_array_equal(flow_of(0, 0).left(), [0, 0])
