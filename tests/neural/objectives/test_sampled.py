"""The sampled softmax: it estimates the full one, and models learn from it."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from lmzoo import zoo
from lmzoo.errors import ConfigurationError
from lmzoo.neural.network import Network, State
from lmzoo.neural.objectives.next_token import Chunk
from lmzoo.neural.objectives.sampled import SampledSoftmax
from lmzoo.stream import TokenStream, TrainingData

V = 11


class Fixed(Network):
    """A network whose hidden vectors are given."""

    def __init__(self, hidden: Tensor, vocab_size: int, bias: bool) -> None:
        super().__init__()
        self.hidden = nn.Parameter(hidden)
        self.head = nn.Linear(hidden.shape[-1], vocab_size, bias=bias)

    def initial_state(self, batch_size: int) -> State:
        return ()

    def forward(self, ids: Tensor, state: State) -> tuple[Tensor, State]:
        return self.hidden, state


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
        step = SampledSoftmax(frequencies, n_samples)(network, Chunk(targets, targets), ())
        return step.total / step.weight

    whole = network.cross_entropy(network.hidden.flatten(0, 1), targets.flatten()) / targets.numel()
    expected = torch.autograd.grad(whole, parameters)
    near = sampled(200_000)
    assert near.item() == pytest.approx(whole.item(), abs=0.01)
    for found, of_whole in zip(torch.autograd.grad(near, parameters), expected, strict=True):
        torch.testing.assert_close(found, of_whole, rtol=0.05, atol=2e-3)

    # For one prediction, exp(loss) is the sum over the probability's numerator: right on average with 5 samples too.
    network.hidden.data, targets = network.hidden.data[:1, :1], targets[:1, :1]
    with torch.no_grad():
        mean = torch.stack([sampled(5).exp() for _ in range(2_000)]).mean()  # its standard error is 0.6 %
    assert mean.item() == pytest.approx(math.exp(network.cross_entropy(network.hidden[0], targets[0]).item()), rel=0.03)


def test_a_species_learns_from_a_sampled_loss() -> None:
    data = TrainingData(*(TokenStream.from_documents([np.tile(np.arange(1, V), 40)]) for _ in range(2)))
    training = {"tokens": 20_000, "sampled_softmax": 3, "batch_size": 4, "chunk_size": 16, "learning_rate": 2e-2}
    model = zoo.create("lstm", V, d_embed=8, d_hidden=16, training=training)
    assert -model.fit(data).log_probs(data.valid).mean() < 0.2  # log(V) = 2.4
    with pytest.raises(ConfigurationError, match="sampled_softmax must be null"):
        zoo.create("low-rank-hmm", V, training={"sampled_softmax": 3})


def test_a_sample_as_large_as_the_vocabulary_is_the_full_softmax() -> None:
    data = TrainingData(*(TokenStream.from_documents([np.tile(np.arange(1, V), 20)]) for _ in range(2)))
    models = [
        zoo.create("lstm", V, d_embed=4, d_hidden=6, training={"tokens": 500, "batch_size": 2, "sampled_softmax": n})
        for n in (None, V, 2)
    ]
    full, as_large, smaller = (model.fit(data).arrays()["embedding.weight"] for model in models)
    np.testing.assert_array_equal(as_large, full)
    assert not np.array_equal(smaller, full)
