"""The log-bilinear model against its equation, and the tree over classes that it can have as output."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torch import nn

from lmzoo import zoo
from lmzoo.errors import ConfigurationError
from lmzoo.models.class_ngram.tree import class_tree
from lmzoo.models.log_bilinear import LogBilinear
from lmzoo.neural.neural_lm import NeuralLM
from lmzoo.stream import EOT, TokenStream, TrainingData

V = 11


@pytest.mark.parametrize("combination", ["full", "diagonal", "mean"])
def test_equals_the_equation_of_the_paper(combination: str) -> None:
    n, width = 4, 5
    torch.manual_seed(1)
    network = LogBilinear(V, order=n, d_embed=width, combination=combination, output="softmax", dropout=0.0)
    for parameter in network.parameters():
        nn.init.normal_(parameter)
    R, b = network.embedding.weight.detach(), network.head.bias.detach()
    matrices = {
        "full": lambda: network.combination.matrices.weight.detach().split(width, dim=1),  # type: ignore[union-attr]
        "diagonal": lambda: [row.diag() for row in network.combination.weights.detach()],  # type: ignore[union-attr]
        "mean": lambda: [torch.eye(width) / (n - 1)] * (n - 1),
    }[combination]()
    documents = [[3, 1, 4, 1, 5, 9, EOT], [EOT], [2, 6, EOT]]
    inputs = torch.tensor([[EOT, *itertools.chain(*documents)]])[:, :-1]
    logits = network.logits(network(inputs, network.initial_state(1))[0])[0]
    position = 0
    for document in documents:
        for t in range(len(document)):
            before = [EOT] * (n - 1) + document[:t]
            q = sum((C @ R[before[-lag]] for lag, C in enumerate(matrices, start=1)), torch.zeros(width))
            torch.testing.assert_close(logits[position], R @ q + b)
            position += 1


def text_of_two_kinds(n_documents: int) -> TokenStream:
    """Documents in which one of 1 to 4, chosen evenly, and one of 5 to 8 take turns; 9 never occurs, 10 is rare."""
    rng = np.random.default_rng(0)
    documents = []
    for index in range(n_documents):
        pairs = rng.integers(1, 5, (20, 2)) + np.array([0, 4])
        documents.append([*pairs.ravel(), 10] if index % 10 == 0 else pairs.ravel())
    return TokenStream.from_documents(documents)


def leaves_below(children: np.ndarray, node: int) -> set[int]:
    return {node} if node < V else set().union(*(leaves_below(children, child) for child in children[node - V]))


def test_the_tree_keeps_tokens_of_a_kind_together() -> None:
    children = class_tree(text_of_two_kinds(100), V, n_classes=6)
    assert children.shape == (V - 1, 2)
    assert leaves_below(children, 2 * V - 2) == set(range(V))
    subtrees = [leaves_below(children, V + inner) for inner in range(V - 1)]
    assert any(subtree & set(range(1, 9)) in ({1, 2, 3, 4}, {5, 6, 7, 8}) for subtree in subtrees)


def test_a_tree_learns_like_a_softmax() -> None:
    """Each of 40 tokens in a document is one of four: 80 bits. Its end costs a model with a window about 6 more.

    After each of the 20 pairs, the document goes on with probability 0.95, ends with 0.045, or has a 10 with 0.005,
    which has an entropy of 0.31 bits. So a document of 41.1 tokens, its end included, costs at least 86.2 bits.
    """
    stream = text_of_two_kinds(100)
    training = {"tokens": 12_000, "batch_size": 4, "chunk_size": 8, "learning_rate": 2e-2}
    bits = {}
    for output in ("softmax", "tree"):
        model = zoo.create("log-bilinear", V, order=3, d_embed=8, output=output, training=training)
        model.fit(TrainingData(stream, stream))
        bits[output] = -model.log_probs(stream).mean() / np.log(2)
    assert bits["softmax"] == pytest.approx(86.2 / 41.1, abs=0.05)
    assert bits["tree"] == pytest.approx(bits["softmax"], abs=0.06)


def test_a_tree_takes_no_new_tokens_and_no_sampled_softmax() -> None:
    model = zoo.create("log-bilinear", V, d_embed=4, output="tree")
    assert isinstance(model, NeuralLM)
    with pytest.raises(ConfigurationError, match='choose output="softmax"'):
        model.fresh_network(0).widened(2)
    with pytest.raises(ConfigurationError, match="sampled_softmax must be null"):
        zoo.create("log-bilinear", V, output="tree", training={"sampled_softmax": 5})
