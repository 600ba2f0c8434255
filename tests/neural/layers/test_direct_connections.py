"""Weights of n-grams beside a recurrent network (RNNME): logits, losses and gradients against loops over n-grams."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from lmzoo import zoo
from lmzoo.models.recurrent import Recurrent
from lmzoo.neural.layers.direct_connections import DirectConnections
from lmzoo.neural.neural_lm import NeuralLM
from lmzoo.neural.objectives.next_token import Chunk, next_token
from lmzoo.neural.objectives.reward import reward_network
from lmzoo.neural.objectives.sampled import SampledLayer, SampledSoftmax
from lmzoo.stream import EOT, TokenStream, TrainingData

V = 11
SIZE = 40
DOCUMENTS = [[3, 1, 4, 1, 5, 9, EOT], [EOT], [2, 6, EOT], [3, 1, 4, 1, 5, 9, EOT]]


def start_of(context: list[int]) -> int:
    """Where the weights after a context begin; the last token of the context is mixed in first, in 64 bits."""
    key = 0
    for token in reversed(context):
        key = (key + token + 1) * 6364136223846793005 % 2**64
    key -= 2**64 * (key >= 2**63)
    return (key >> 20) % SIZE


def network_of(order: int, cell: str = "rnn", **settings: Any) -> Recurrent:
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"d_embed": 5, "d_hidden": 6, "n_layers": 1, "dropout": 0.0, "variational": False}
    sizes |= {"weight_dropout": 0.0, "mogrifier": 0, "maxent_order": order, "maxent_size": SIZE}
    network = Recurrent(V, cell=cell, **sizes | settings)
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.5)
    return network.eval()


def inputs_of(documents: list[list[int]]) -> Tensor:
    return torch.tensor([[EOT, *itertools.chain(*documents)]])[:, :-1]


@pytest.mark.parametrize("order", [2, 3, 4])
def test_logits_are_those_of_the_network_and_all_n_grams(order: int) -> None:
    """The tanh network and the sum over n-grams, one number after the other, with numpy."""
    network = network_of(order)
    p = {name: parameter.detach().double().numpy() for name, parameter in network.named_parameters()}
    ids = inputs_of(DOCUMENTS)
    with torch.no_grad():
        logits = network.logits(network(ids, network.initial_state(1))[0])[0].numpy()
    position = 0
    for document in DOCUMENTS:
        h = np.zeros(6)
        for t, read in enumerate([EOT, *document[:-1]]):
            h = np.tanh(
                p["layers.0.W.weight"] @ p["embedding.weight"][read] + p["layers.0.W.bias"] + p["layers.0.U.weight"] @ h
            )
            expected = p["embedding.weight"] @ (p["projection.weight"] @ h + p["projection.bias"]) + p["head.bias"]
            before = [EOT] * order + document[:t]
            for length, token in itertools.product(range(1, order), range(V)):
                expected[token] += p["maxent.table"][start_of(before[-length:]) + token]
            np.testing.assert_allclose(logits[position], expected, atol=1e-5)
            position += 1
    assert position == len(ids[0])


def test_gradients_are_those_of_indexing() -> None:
    layer = DirectConnections(4, SIZE, V).double()
    nn.init.normal_(layer.table)
    windows = torch.randint(V, (5, 2, 3))
    for token_ids in (None, torch.tensor([4, 4, 0])):
        starts = torch.stack(layer.starts_of(windows), -1)  # (5, 2, 3)
        columns = torch.arange(V) if token_ids is None else token_ids
        expected = layer.table[starts[..., None] + columns].sum(-2)
        torch.testing.assert_close(layer(windows, token_ids), expected)
        weights = torch.randn_like(expected)
        found = torch.autograd.grad((layer(windows, token_ids) * weights).sum(), layer.table)
        torch.testing.assert_close(found, torch.autograd.grad((expected * weights).sum(), layer.table))


@pytest.mark.parametrize("weighted", [False, True])
def test_losses_are_those_of_the_logits(weighted: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also in several blocks, and for a sample that holds each token once."""
    monkeypatch.setattr("lmzoo.models.recurrent._BLOCK_ELEMENTS", 4 * V)
    network = network_of(3, "gru")
    ids = inputs_of(DOCUMENTS)
    targets = torch.tensor(list(itertools.chain(*DOCUMENTS)))
    weights = torch.rand(len(targets)) if weighted else None
    hidden = network(ids, network.initial_state(1))[0][0]
    log_probs = network.logits(hidden).log_softmax(-1)
    nats = -log_probs[torch.arange(len(targets)), targets]
    expected = (nats if weights is None else nats * weights).sum()
    order = torch.randperm(V)
    sample = SampledLayer(network.head.weight[order], network.head.bias[order], order.argsort()[targets], order)
    losses = [network.cross_entropy(hidden, targets, weights), network.sampled_cross_entropy(hidden, sample, weights)]
    torch.testing.assert_close(network.surprisals(hidden, targets), nats)
    parameters = list(network.parameters())
    gradients = torch.autograd.grad(expected, parameters, retain_graph=True)
    for loss in losses:
        torch.testing.assert_close(loss, expected)
        for found, wanted in zip(torch.autograd.grad(loss, parameters, retain_graph=True), gradients, strict=True):
            torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)


def test_a_sampled_loss_with_many_samples_is_the_full_loss() -> None:
    network = network_of(3)
    ids = torch.randint(1, V, (2, 30))
    chunk = Chunk(ids, ids.roll(-1, 1))
    with torch.no_grad():
        full = next_token(network, chunk, ()).total
        sampled = SampledSoftmax(torch.full((V,), 1 / V), 100_000)(network, chunk, ()).total
    assert sampled.item() == pytest.approx(full.item(), rel=0.01)


def test_a_reward_network_has_no_weights_of_n_grams() -> None:
    network = reward_network(network_of(3))
    hidden, _ = network(inputs_of(DOCUMENTS), network.initial_state(1))
    assert network.logits(hidden).abs().max() == 0
    assert not any("table" in name for name, _ in network.named_parameters())


def test_a_narrow_network_learns_phrases_from_n_grams() -> None:
    """The next token is a random function of the last two, which a network of two hidden units cannot learn."""
    rng = np.random.default_rng(0)
    following = rng.integers(1, V, (V, V))
    documents = []
    for _ in range(60):
        document = rng.integers(1, V, 2).tolist()
        while len(document) < 40:
            document.append(
                int(following[document[-2], document[-1]]) if rng.random() < 0.9 else int(rng.integers(1, V))
            )
        documents.append(document)
    data = TrainingData(TokenStream.from_documents(documents[:50]), TokenStream.from_documents(documents[50:]))
    training = {"tokens": 20_000, "batch_size": 4, "chunk_size": 16, "learning_rate": 1e-2}
    losses = []
    for order in (0, 2, 3):
        model = zoo.create(
            "rnn", V, d_embed=2, d_hidden=2, maxent_order=order, maxent_size=5000, training=training
        ).fit(data)
        assert isinstance(model, NeuralLM)
        losses.append(-model.log_probs(data.valid).mean())
    assert losses[2] < 1.3 < losses[1] < losses[0]
