"""Small untrained networks of several species, for the tests of the objectives."""

from __future__ import annotations

from typing import Any

import torch

from lmzoo import zoo
from lmzoo.neural.network import Network
from lmzoo.neural.neural_lm import NeuralLM

V = 11
_DECODER = {"d_model": 8, "n_layers": 2, "n_heads": 2, "window": 16, "dropout": 0.0, "training": {"chunk_size": 16}}
SETTINGS: dict[str, dict[str, Any]] = {
    "nplm": {"order": 4, "d_embed": 4, "d_hidden": 8},
    "rnn": {"d_embed": 4, "d_hidden": 8},
    "lstm": {"d_embed": 4, "d_hidden": 8},
    "gru": {"d_embed": 4, "d_hidden": 8},
    "transformer": _DECODER,
    "transformer-2017": _DECODER,
    "gpt2": _DECODER,
    "log-bilinear": {"order": 4, "d_embed": 4},
    "low-rank-hmm": {"n_states": 8, "rank": 3, "d_embed": 4, "state_dropout": 0.0},
}


def model_of(species: str, vocab_size: int = V, **settings: Any) -> NeuralLM:
    """Returns an untrained model of a species, whose weights are random enough that its predictions differ."""
    model = zoo.create(species, vocab_size, **(SETTINGS[species] | settings))
    assert isinstance(model, NeuralLM)
    network = model.fresh_network(0)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.requires_grad:  # all but the shape of a tree of tokens
                parameter += 0.3 * torch.randn(parameter.shape, generator=generator)
    return NeuralLM.of(network, model)


def network_of(species: str, **settings: Any) -> Network:
    """Returns the network of `model_of`."""
    return model_of(species, **settings).network
