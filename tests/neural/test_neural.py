"""The neural species: their equations against torch's own modules and literal transcriptions, and what they share."""

from __future__ import annotations

import itertools
import math
import os
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from lmzoo import zoo
from lmzoo.errors import ConfigurationError, UnknownNameError
from lmzoo.models import recurrent, transformer
from lmzoo.models.nplm import NPLM
from lmzoo.models.recurrent import Recurrent
from lmzoo.models.transformer import Attention, Transformer
from lmzoo.neural import activations, scoring
from lmzoo.neural.attention import attention
from lmzoo.neural.losses import SampledLoss, linear_cross_entropy
from lmzoo.neural.network import Memory, Network
from lmzoo.neural.neural_lm import NeuralLM
from lmzoo.neural.recurrence import Cell, GRUCell, LSTMCell, RNNCell, recurrence
from lmzoo.neural.scoring import hidden_vectors, observed_log_probs
from lmzoo.neural.settings import TrainConfig
from lmzoo.stream import EOT, TokenStream, TrainingData

V = 11


def networks() -> dict[str, Network]:
    """One network of each kind, small, with weights that are nowhere zero."""
    torch.manual_seed(0)
    made: dict[str, Network] = {
        "nplm": NPLM(V, order=4, d_embed=5, d_hidden=6, direct=True, dropout=0.5),
        "transformer": Transformer(
            V,
            d_model=8,
            n_layers=2,
            n_heads=2,
            window=4,
            dropout=0.5,
            ngrams=3,
            n_slots=32,
            d_slot=4,
            ngram_dropout=0.5,
        ),
    }
    for cell in ("rnn", "lstm", "gru"):
        made[cell] = Recurrent(
            V, cell=cell, d_embed=5, d_hidden=6, n_layers=2, dropout=0.5, variational=cell == "gru", weight_dropout=0.5
        )
    for network in made.values():
        for parameter in network.parameters():
            nn.init.normal_(parameter, std=0.5)
        network.eval()
    return made


NETWORKS = networks()
every_network = pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS.keys())


# ---- Against torch's own modules -------------------------------------------------------------------


@pytest.mark.parametrize("name", ["rnn", "lstm", "gru"])
def test_cells_equal_those_of_torch(name: str) -> None:
    """Outputs, memory and every gradient."""
    d_input, d_hidden, n_rows, n_steps = 5, 7, 3, 9
    layer = recurrent.Layer(name, d_input, d_hidden)
    nn.init.normal_(layer.W.bias)
    theirs = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}[name](d_input, d_hidden)
    # torch orders an LSTM's gates i, f, g, o, and adds a bias to both products.
    order = [0, 1, 3, 2] if name == "lstm" else list(range(layer.cell.n_gates))
    second_bias = torch.zeros(layer.cell.n_gates, d_hidden)
    if layer.b is not None:
        nn.init.normal_(layer.b)
        second_bias[2] = layer.b.detach()

    def in_their_order(stacked: torch.Tensor) -> torch.Tensor:
        return torch.cat([stacked.detach().split(d_hidden)[gate] for gate in order])

    with torch.no_grad():
        theirs.weight_ih_l0.copy_(in_their_order(layer.W.weight))
        theirs.bias_ih_l0.copy_(in_their_order(layer.W.bias))
        theirs.weight_hh_l0.copy_(in_their_order(layer.U.weight))
        theirs.bias_hh_l0.copy_(second_bias.flatten())
    x, their_x = (torch.randn(n_steps, n_rows, d_input).requires_grad_() for _ in range(2))
    their_x.data.copy_(x.data)
    memory = tuple(torch.randn(n_rows, d_hidden) for _ in range(layer.cell.n_memories))
    ours, after = layer(x, torch.zeros(n_steps, n_rows, dtype=torch.bool), memory, 0.0)
    start = tuple(part[None] for part in memory)
    expected, expected_after = theirs(their_x, start if name == "lstm" else start[0])
    expected_after = expected_after if name == "lstm" else (expected_after,)
    torch.testing.assert_close(ours, expected)
    torch.testing.assert_close(after, tuple(part[0] for part in expected_after))

    weights = torch.randn_like(ours)
    ((ours * weights).sum() + sum(part.sin().sum() for part in after)).backward()
    ((expected * weights).sum() + sum(part.sin().sum() for part in expected_after)).backward()
    torch.testing.assert_close(x.grad, their_x.grad)
    assert layer.U.weight.grad is not None
    assert layer.W.bias.grad is not None
    torch.testing.assert_close(layer.U.weight.grad, in_their_order(theirs.weight_hh_l0.grad))
    torch.testing.assert_close(layer.W.weight.grad, in_their_order(theirs.weight_ih_l0.grad))
    torch.testing.assert_close(layer.W.bias.grad, in_their_order(theirs.bias_ih_l0.grad))
    if layer.b is not None:
        torch.testing.assert_close(layer.b.grad, theirs.bias_hh_l0.grad[2 * d_hidden :])


@pytest.mark.parametrize("cell", [RNNCell, LSTMCell, GRUCell])
def test_gradients_of_recurrences_are_those_of_finite_differences(cell: type[Cell]) -> None:
    """Also through document starts, and of the memory that comes in."""
    n_steps, n_rows, width = 4, 3, 2
    made = {"dtype": torch.float64, "requires_grad": True}
    x, U, bias = (
        torch.randn(*shape, **made)
        for shape in [(n_steps, n_rows, cell.n_gates * width), (cell.n_gates * width, width), (cell.n_gates * width,)]
    )
    memory = [torch.randn(n_rows, width, **made) for _ in range(cell.n_memories)]
    starts = torch.tensor([[False, True, False], [False] * 3, [True, False, False], [False] * 3])

    def outputs(x: Tensor, U: Tensor, bias: Tensor, *memory: Tensor) -> tuple[Tensor, ...]:
        after, memory = recurrence(cell, x, U, bias, starts, memory)
        return after, *memory

    assert torch.autograd.gradcheck(outputs, (x, U, bias, *memory))


def test_attention_equals_that_of_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without rotations and norms of queries and keys, ours is the attention of 2017."""
    monkeypatch.setattr(transformer, "_norm", lambda x: x)
    ours, theirs = Attention(12, 3), nn.MultiheadAttention(12, 3, bias=False, batch_first=True)
    with torch.no_grad():
        theirs.in_proj_weight.copy_(ours.qkv.weight)
        theirs.out_proj.weight.copy_(ours.out.weight)
    x = torch.randn(2, 6, 12)
    seen = torch.ones(6, 6, dtype=torch.bool).tril()
    y, cached = ours(x, torch.zeros(2, 2, 3, 0, 4), seen, (torch.ones(6, 4), torch.zeros(6, 4)))
    expected, _ = theirs(x, x, x, attn_mask=~seen, need_weights=False)
    torch.testing.assert_close(y, expected)
    assert cached.shape == (2, 2, 3, 0, 4)


@pytest.mark.parametrize("per_row", [False, True])
def test_the_gradient_of_attention_is_that_of_torch(per_row: bool) -> None:
    q, k, v = (torch.randn(2, 3, n, 4, dtype=torch.float64).requires_grad_() for n in (5, 7, 7))
    seen = torch.rand(*((2, 1) if per_row else ()), 5, 7) > 0.5
    seen[..., 0] = True
    weights = torch.randn(2, 3, 5, 4, dtype=torch.float64)
    found = torch.autograd.grad((attention(q, k, v, seen) * weights).sum(), (q, k, v))
    expected = torch.autograd.grad((F.scaled_dot_product_attention(q, k, v, attn_mask=seen) * weights).sum(), (q, k, v))
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_gelu_equals_that_of_torch(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(activations, "_BLOCK_ELEMENTS", 100)
    x = torch.linspace(-9, 9, 7 * 60).view(60, 7).t().to(dtype).requires_grad_()  # rows are not in one piece
    weights = torch.linspace(1, 2, 7 * 60).view(7, 60).to(dtype)
    exact = x.detach().double().requires_grad_()
    expected = F.gelu(exact, approximate="tanh")
    found = activations.gelu(x)
    assert found.dtype == dtype
    assert found.grad_fn is not None
    assert "_Gelu" in type(found.grad_fn).__name__
    (gradient,) = torch.autograd.grad((found * weights).sum(), x)
    (expected_gradient,) = torch.autograd.grad((expected * weights.double()).sum(), exact)
    tolerance = 1e-5 if dtype == torch.float32 else 0.02
    torch.testing.assert_close(found.double(), expected, atol=tolerance, rtol=tolerance)
    torch.testing.assert_close(gradient.double(), expected_gradient, atol=tolerance, rtol=tolerance)


def test_rotations_turn_complex_numbers_and_tell_distances_only() -> None:
    far = 1_000_000  # positions go on counting in a long text
    positions = torch.arange(far, far + 20)[None]
    cos, sin = (part[0, 0] for part in transformer._rotations(positions, 6))  # (1, 20, 6)
    x = torch.randn(1, 20, 6)
    turned = transformer._rotated(x, cos, sin)
    for position, pair in itertools.product((0, 7, 19), range(3)):
        number = complex(x[0, position, pair], x[0, position, pair + 3])
        expected = number * np.exp(1j * (far + position) * 10_000 ** (-2 * pair / 6))
        assert complex(turned[0, position, pair], turned[0, position, pair + 3]) == pytest.approx(expected, abs=1e-5)
    same = torch.randn(6).expand(1, 20, 6)
    products = transformer._rotated(same, cos, sin)[0] @ transformer._rotated(same, cos, sin)[0].T
    for distance in range(20):
        along = products.diagonal(distance)
        torch.testing.assert_close(along, along[:1].expand_as(along), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("direct", [True, False])
def test_nplm_equals_equation_1_of_the_paper(direct: bool) -> None:
    n, m, h = 4, 5, 6
    torch.manual_seed(1)
    network = NPLM(V, order=n, d_embed=m, d_hidden=h, direct=direct, dropout=0.0)
    nn.init.normal_(network.head.weight)
    nn.init.normal_(network.head.bias)
    C, H, d = network.C.weight.detach(), network.H.weight.detach(), network.H.bias.detach()
    b, UW = network.head.bias.detach(), network.head.weight.detach()
    U, W = UW[:, :h], UW[:, h:] if direct else torch.zeros(V, (n - 1) * m)
    documents = [[3, 1, 4, 1, 5, 9, EOT], [EOT], [2, 6, EOT]]
    inputs = torch.tensor([[EOT, *itertools.chain(*documents)]])[:, :-1]
    logits = network.head(network(inputs, network.initial_memory(1))[0])[0]
    position = 0
    for document in documents:
        for t in range(len(document)):
            before = [EOT] * (n - 1) + document[:t]
            x = torch.cat([C[before[-lag]] for lag in range(1, n)])
            y = b + W @ x + U @ torch.tanh(d + H @ x)
            torch.testing.assert_close(logits[position], y)
            position += 1


@pytest.mark.parametrize(("n_rows", "vocab_size"), [(1, 3), (300, 5), (400, 8192)])
def test_linear_cross_entropy_equals_that_of_torch(n_rows: int, vocab_size: int) -> None:
    torch.manual_seed(0)
    hidden, weight, bias = torch.randn(n_rows, 4), torch.randn(vocab_size, 4), torch.randn(vocab_size)
    targets = torch.randint(vocab_size, (n_rows,))
    ours = [tensor.clone().requires_grad_() for tensor in (hidden, weight, bias)]
    theirs = [tensor.clone().requires_grad_() for tensor in (hidden, weight, bias)]
    loss = linear_cross_entropy(ours[0], ours[1], ours[2], targets)
    expected = F.cross_entropy(F.linear(*theirs), targets)
    torch.testing.assert_close(loss, expected)
    (3 * loss).backward()
    (3 * expected).backward()
    for our, their in zip(ours, theirs, strict=True):
        torch.testing.assert_close(our.grad, their.grad)


def test_linear_cross_entropy_survives_logits_far_apart() -> None:
    hidden, weight, bias = torch.ones(1, 1), torch.tensor([[500.0], [-500.0]]), torch.zeros(2)
    assert linear_cross_entropy(hidden, weight, bias, torch.tensor([1])).item() == 1000


class Fixed(Network):
    """A network whose hidden vectors are given."""

    def __init__(self, hidden: Tensor, vocab_size: int, bias: bool) -> None:
        super().__init__()
        self.hidden = nn.Parameter(hidden)
        self.head = nn.Linear(hidden.shape[-1], vocab_size, bias=bias)

    def initial_memory(self, batch_size: int) -> Memory:
        return ()

    def forward(self, ids: Tensor, memory: Memory) -> tuple[Tensor, Memory]:
        return self.hidden, memory


@pytest.mark.parametrize("bias", [True, False])
def test_a_sampled_loss_estimates_the_whole_sum(bias: bool) -> None:
    """Many samples give the loss and the gradient of the whole; few give the sum on average."""
    torch.manual_seed(0)
    vocab_size = 50
    targets = torch.randint(vocab_size, (2, 6))
    network = Fixed(torch.randn(2, 6, 4), vocab_size, bias)
    frequencies = torch.rand(vocab_size) + 0.1
    frequencies /= frequencies.sum()
    parameters = list(network.parameters())

    def sampled(n_samples: int) -> Tensor:
        return SampledLoss(frequencies, n_samples)(network, targets, targets, ())[0]

    whole = network.loss(network.hidden.flatten(0, 1), targets.flatten())
    expected = torch.autograd.grad(whole, parameters)
    near = sampled(200_000)
    assert near.item() == pytest.approx(whole.item(), abs=0.01)
    for found, of_whole in zip(torch.autograd.grad(near, parameters), expected, strict=True):
        torch.testing.assert_close(found, of_whole, rtol=0.05, atol=2e-3)

    # For one prediction, exp(loss) is the sum over the probability's numerator: right on average with 5 samples too.
    network.hidden.data, targets = network.hidden.data[:1, :1], targets[:1, :1]
    mean = torch.stack([sampled(5).exp() for _ in range(20_000)]).mean()
    assert mean.item() == pytest.approx(math.exp(network.loss(network.hidden[0], targets[0]).item()), rel=0.03)


def test_a_species_learns_from_a_sampled_loss() -> None:
    data = TrainingData(*(TokenStream.from_documents([np.tile(np.arange(1, V), 40)]) for _ in range(2)))
    training = {"tokens": 20_000, "sampled": 3, "batch_size": 4, "chunk_size": 16, "learning_rate": 2e-2}
    model = zoo.create("lstm", V, d_embed=8, d_hidden=16, training=training)
    assert -model.fit(data).log_probs(data.valid).mean() < 0.2  # log(V) = 2.4
    with pytest.raises(ConfigurationError, match="sampled must be null"):
        zoo.create("low-rank-hmm", V, training={"sampled": 3})


# ---- What every network must keep ------------------------------------------------------------------

ids_of_rows = st.lists(st.lists(st.integers(0, V - 1), min_size=12, max_size=12), min_size=2, max_size=2)


@every_network
@settings(max_examples=15, deadline=None)
@given(rows=ids_of_rows, cut=st.integers(1, 11))
def test_chunks_make_no_difference(network: Network, rows: list[list[int]], cut: int) -> None:
    ids = torch.tensor(rows)
    with torch.no_grad():
        whole, after = network(ids, network.initial_memory(2))
        first, memory = network(ids[:, :cut], network.initial_memory(2))
        kept = tuple(part.clone() for part in memory)
        second, after_both = network(ids[:, cut:], memory)
    torch.testing.assert_close(torch.cat([first, second], dim=1), whole)
    # What is forgotten anyway may differ: memories are the same if they go on in the same way.
    going_on = torch.randint(V, (2, 5))
    torch.testing.assert_close(network(going_on, after_both)[0], network(going_on, after)[0])
    for part, copy in zip(memory, kept, strict=True):
        assert torch.equal(part, copy), "a network must leave the memory that it is given as it was"


@every_network
def test_end_of_text_forgets_everything(network: Network) -> None:
    with torch.no_grad():
        other = network(torch.randint(1, V, (1, 9)), network.initial_memory(1))[1]
        ids = torch.tensor([[EOT, 3, 4, 5]])
        torch.testing.assert_close(network(ids, other)[0], network(ids, network.initial_memory(1))[0])


@pytest.mark.parametrize(
    ("name", "arguments", "expected"),
    [
        ("nplm", {"order": 4}, 3),
        ("transformer", {"window": 4, "n_layers": 3, "d_model": 8, "n_heads": 2}, 3 * 3 + 1),
        ("transformer", {"window": 1, "n_layers": 2, "d_model": 8, "n_heads": 2}, 1),
    ],
)
def test_context_size_is_the_reach_of_the_gradient(name: str, arguments: dict[str, Any], expected: int) -> None:
    model = zoo.create(name, V, **arguments)
    assert isinstance(model, NeuralLM)
    assert model.context_size == expected
    network = model.fresh_network(0)
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.5)
    embedding = next(module for module in network.modules() if isinstance(module, nn.Embedding))
    read: list[torch.Tensor] = []
    embedding.register_forward_hook(lambda _module, _input, output: (output.retain_grad(), read.append(output))[0])
    n_ids = expected + 5
    hidden, _ = network(torch.randint(1, V, (1, n_ids)), network.initial_memory(1))
    hidden[0, -1].square().sum().backward()
    gradient = read[0].grad
    assert gradient is not None
    if name == "nplm":  # (1, T, n - 1, m): the window of the last position
        assert gradient[0, -1].abs().sum(1).count_nonzero() == expected
        assert gradient[0, :-1].count_nonzero() == 0
    else:
        assert gradient[0].abs().sum(1).nonzero().min() == n_ids - expected


# ---- Scoring ---------------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 7), max_size=40), st.booleans())
def test_rows_hold_every_position_once(lengths: list[int], open_end: bool) -> None:
    stream = TokenStream.from_documents([np.full(length, 3) for length in lengths])
    if open_end and len(stream):
        stream = TokenStream(stream.ids[:-1])
    rows = scoring._rows_of_documents(stream)
    assert sorted(rows[rows >= 0].tolist()) == list(range(len(stream)))
    real = (rows >= 0).sum(1)
    assert (np.diff(real) <= 0).all(), "rows come longest first"
    for row, size in zip(rows, real, strict=True):
        assert (row[:size] >= 0).all(), "a row has no gaps"
        jumps = np.flatnonzero(np.diff(row[:size]) != 1)
        assert np.isin(row[jumps + 1], stream.starts).all(), "only whole documents move"


@every_network
def test_scores_do_not_depend_on_rows_and_chunks(network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    stream = TokenStream.from_documents([rng.integers(1, V, size) for size in (0, 3, 30, 7, 1, 12)])
    expected = observed_log_probs(network, stream)
    for n_rows, chunk_size, block in [(1, 1, V), (2, 5, 3 * V), (6, 64, 10**6)]:
        monkeypatch.setattr(scoring, "_N_ROWS", n_rows)
        monkeypatch.setattr(scoring, "_CHUNK_SIZE", chunk_size)
        monkeypatch.setattr("lmzoo.neural.network._BLOCK_ELEMENTS", block)
        np.testing.assert_allclose(observed_log_probs(network, stream), expected, atol=1e-5)
        seen = np.concatenate([positions for positions, _ in hidden_vectors(network, stream)])
        assert sorted(seen.tolist()) == list(range(len(stream)))


# ---- The language model ----------------------------------------------------------------------------


def agreeing_text(n_documents: int, seed: int) -> tuple[TokenStream, float]:
    """Documents "subject, 0 to 2 fillers, verb", and what they cost whoever knows how they are made, in bits.

    The verb (5 or 6) goes with the subject (1 or 2), whatever fillers (3 or 4) stand between them. A document costs
    1 bit for its subject, log2(3) for the number of its fillers, and 1 for each of them.
    """
    rng = np.random.default_rng(seed)
    documents = []
    for _ in range(n_documents):
        subject = rng.integers(1, 3)
        documents.append([subject, *rng.integers(3, 5, rng.integers(3)), subject + 4])
    return TokenStream.from_documents(documents), sum(len(document) - 1 + np.log2(3) for document in documents)


SIZES: dict[str, dict[str, Any]] = {
    "nplm": {"d_embed": 8, "d_hidden": 16},
    "rnn": {"d_embed": 8, "d_hidden": 16},
    "lstm": {"d_embed": 8, "d_hidden": 16},
    "gru": {"d_embed": 8, "d_hidden": 16},
    "transformer": {"d_model": 16, "n_layers": 2, "n_heads": 2, "window": 8},
}


@pytest.mark.parametrize("name", SIZES)
def test_learns_an_agreement_over_a_distance(name: str) -> None:
    """A reference for the learning curve: after 12,000 tokens 0.04 to 0.08 bits a document are missing.

    Two of three verbs follow a filler. Who sees only one token loses about 1 bit at each of these, 0.67 a document.
    """
    (train, _), (valid, least_bits) = agreeing_text(2000, seed=0), agreeing_text(300, seed=1)
    rate = 0.01 if name == "rnn" else 0.02
    training = {"tokens": 12_000, "batch_size": 4, "chunk_size": 8, "learning_rate": rate}
    model = zoo.create(name, 7, **SIZES[name], training=training).fit(TrainingData(train, valid))
    bits = -model.log_probs(valid).sum() / np.log(2)
    assert -0.05 < (bits - least_bits) / valid.n_documents < 0.2


def test_parameters_are_counted_once() -> None:
    model = zoo.create("transformer", V, d_model=8, n_layers=1, n_heads=2, training={"tokens": 0})
    model.fit(TrainingData(TokenStream([1, EOT]), TokenStream([1, EOT])))
    # embedding = output weights 11 x 8, output bias 11, attention 4 x 8 x 8, MLP 2 x 4 x 8 x 8
    assert model.n_parameters == 11 * 8 + 11 + 4 * 64 + 8 * 64


def test_fit_leaves_the_global_generator_alone() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    model = zoo.create("lstm", V, d_hidden=4, d_embed=4, dropout=0.5, training={"tokens": 600, "batch_size": 2})
    model.fit(TrainingData(agreeing_text(20, 0)[0], agreeing_text(5, 1)[0]))
    assert torch.equal(torch.get_rng_state(), before)


def test_settings_come_from_json() -> None:
    model = zoo.create("lstm", V, training={"tokens": 5, "learning_rate": 1e-3})
    assert isinstance(model, NeuralLM)
    assert (model.training.tokens, model.training.learning_rate) == (5, 1e-3)
    config = TrainConfig(tokens=7)
    assert zoo.create("lstm", V, training=config).training is config  # pyright: ignore[reportAttributeAccessIssue]


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("lstm", {"d_hidden": "big"}, "d_hidden must be a whole number of at least 1, got 'big'"),
        ("lstm", {"n_layers": 0}, "n_layers must be a whole number of at least 1, got 0"),
        ("gru", {"dropout": 1.5}, "dropout must be a number from 0 to 1, got 1.5"),
        ("nplm", {"order": 1}, "order must be a whole number of at least 2"),
        ("transformer", {"d_model": 10, "n_heads": 4}, "d_model must be a multiple of 2 x n_heads = 8, got 10"),
        ("rnn", {"training": {"tokens": -1}}, "tokens must be a whole number of at least 0, got -1"),
        ("rnn", {"training": {"learning_rate": float("nan")}}, "learning_rate must be a finite number above 0"),
        ("rnn", {"training": {"weight_decay": -0.1}}, "weight_decay must be a finite number of at least 0"),
        ("rnn", {"training": {"bf16": "yes"}}, "bf16 must be true or false, or null"),
        ("rnn", {"training": 5}, "training must be settings by name"),
    ],
)
def test_wrong_settings_are_refused_at_once(name: str, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        zoo.create(name, V, **arguments)


def test_misspelt_training_settings_get_a_hint() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'learning_rate'"):
        zoo.create("rnn", V, training={"learningrate": 1})


def test_the_package_and_its_counts_need_no_torch() -> None:
    code = "import sys, lmzoo, lmzoo.zoo; lmzoo.zoo.create('markov', 5); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("species", ["ngram", "class-hmm"])
def test_counting_leaves_torch_its_threads(species: str) -> None:
    """Whoever gives torch one thread, since other programs run on the cores, has one after a fit on several too."""
    code = (
        "import torch\nfrom lmzoo import zoo\nfrom lmzoo.testing import toy_data\n"
        f"zoo.create('{species}', 12).fit(toy_data(12))\nassert torch.get_num_threads() == 1"
    )
    environment = os.environ | {"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "2"}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)
