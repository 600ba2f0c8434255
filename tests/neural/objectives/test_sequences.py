"""Sequences in rows: padding changes nothing, and the log-probabilities are those of the model."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from small_networks import SETTINGS, model_of, network_of

from lmzoo.errors import ConfigurationError, TokenIdError
from lmzoo.neural.objectives.sequences import Rows, fixed_log_probs, last_hidden, sequence_log_probs
from lmzoo.stream import EOT

CPU = torch.device("cpu")
SEQUENCES = [([1, 2, 3, 4, 5, 6, 7], [0, 0, 1, 1, 0.5, 1, 2]), ([8, EOT], [1, 1]), ([9, 2, 9], [0, 1, 1]), ([], [])]


def test_rows_hold_a_sequence_from_its_start() -> None:
    rows = Rows.of(SEQUENCES[1:3], CPU)
    assert rows.inputs.tolist() == [[0, 8, 0, 0], [0, 9, 2, 9]]
    assert rows.targets.tolist() == [[8, 0, 0, 0], [9, 2, 9, 0]]
    assert rows.weights.tolist() == [[1, 1, 0, 0], [0, 1, 1, 0]]
    assert rows.last.tolist() == [1, 3], "an EOT at the end is predicted, but not read"
    assert rows.n_tokens == 6


def test_unusable_rows_are_refused() -> None:
    with pytest.raises(TokenIdError, match="before its end"):
        Rows.of([([1, EOT, 2], [1, 1, 1])], CPU)
    with pytest.raises(ConfigurationError, match=r"2 ids must have 2 weights, got an array of shape \(3,\)"):
        Rows.of([([1, 2], [1, 1, 1])], CPU)
    with pytest.raises(ConfigurationError, match="at least one sequence"):
        Rows.of([], CPU)
    with pytest.raises(ConfigurationError, match="a row of 17 ids is longer than the window of the network, 16"):
        sequence_log_probs(network_of("gpt2"), Rows.of([([1] * 16, [1] * 16)], CPU))


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("species", SETTINGS)
def test_log_probs_are_those_of_the_model(species: str, training: bool) -> None:
    model = model_of(species)
    log_probs = sequence_log_probs(model.network.train(training), Rows.of(SEQUENCES, CPU)).detach()
    model.network.eval()
    expected = [(model.log_probs(ids) * weights).sum() for ids, weights in SEQUENCES]
    np.testing.assert_allclose(log_probs, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("species", SETTINGS)
def test_padding_changes_nothing(species: str) -> None:
    network = network_of(species)
    with torch.no_grad():
        hidden = last_hidden(network, Rows.of(SEQUENCES, CPU))
        log_probs = sequence_log_probs(network, Rows.of(SEQUENCES, CPU))
        for row, sequence in enumerate(SEQUENCES):
            alone = Rows.of([sequence], CPU)
            torch.testing.assert_close(last_hidden(network, alone)[0], hidden[row], rtol=0, atol=1e-5)
            torch.testing.assert_close(sequence_log_probs(network, alone)[0], log_probs[row], rtol=0, atol=1e-5)
    assert not torch.equal(hidden[0], hidden[2])


@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.parametrize("species", ["lstm", "transformer", "gpt2"])
def test_the_gradient_is_that_of_a_full_softmax(species: str, bf16: bool) -> None:
    network, rows = network_of(species), Rows.of(SEQUENCES, CPU)
    gradients = []
    for full in (False, True):
        network.train().zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            if full:
                logits = network.logits(network.read_rows(rows.inputs)).float()
                nats = -logits.log_softmax(-1).gather(2, rows.targets[:, :, None])[:, :, 0]
                log_probs = (-nats * rows.weights).sum(1)
            else:
                log_probs = sequence_log_probs(network, rows)
        log_probs.square().sum().backward()
        gradients.append([parameter.grad for parameter in network.parameters()])
    for ours, expected in zip(*gradients, strict=True):
        assert ours is not None
        assert expected is not None
        torch.testing.assert_close(ours, expected, rtol=0, atol=(0.03 if bf16 else 1e-4) * expected.abs().max().item())


@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.parametrize("species", SETTINGS)
def test_fixed_log_probs_equal_those_of_training_bit_for_bit(species: str, bf16: bool) -> None:
    """Also with dropout, which is switched off for both."""
    network = network_of(species, **({} if species == "low-rank-hmm" else {"dropout": 0.5}))
    rows = Rows.of(SEQUENCES, CPU)
    fixed = fixed_log_probs(network.train(), rows, bf16)
    assert not fixed.requires_grad
    network.eval()
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        learning = sequence_log_probs(network, rows)
    assert learning.requires_grad
    assert torch.equal((fixed * rows.weights).sum(1), learning)
    assert fixed.shape == (4, 8)
