"""Attention weights, gates and states, and the gradients of one token: they are those of the network that predicts."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import pytest
import torch

from lmzoo import zoo
from lmzoo.errors import UsageError
from lmzoo.models.recurrent import Recurrent
from lmzoo.neural.layers.attention import ScaledDotProduct, weights_of
from lmzoo.neural.neural_lm import NeuralLM
from lmzoo.probes.attention import attention_weights, has_attention
from lmzoo.probes.gates import is_recurrent, recurrent_traces
from lmzoo.probes.gradient_flow import gradient_flow, gradient_norms
from lmzoo.stream import EOT, TokenStream

V, T = 11, 20
IDS = np.random.default_rng(0).integers(1, V, T)
DECODER: dict[str, Any] = {"d_model": 8, "n_layers": 2, "n_heads": 2}
TRANSFORMERS: dict[str, dict[str, Any]] = {
    "transformer-2017": {**DECODER, "window": 7, "training": {"chunk_size": 7}},
    "gpt2": {**DECODER, "window": 6, "training": {"chunk_size": 6}},
    "transformer": {**DECODER, "window": 5, "ngrams": 3},
}
CELLS = ("rnn", "lstm", "gru")


def model_of(species: str, **settings: Any) -> NeuralLM:
    """A network whose weights are nowhere zero."""
    model = zoo.create(species, V, **settings)
    assert isinstance(model, NeuralLM)
    network = model.fresh_network(0)
    generator = torch.Generator().manual_seed(1)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.5, generator=generator)
    return NeuralLM.of(network, like=model)


@pytest.mark.parametrize("species", TRANSFORMERS)
def test_attention_weights_are_those_of_reading_token_by_token(species: str) -> None:
    model = model_of(species, **TRANSFORMERS[species])
    weights = attention_weights(model, IDS)
    assert weights.shape == (2, 2, T + 1, T + 1)
    np.testing.assert_allclose(weights.sum(-1), 1, rtol=1e-5)
    assert not np.triu(weights, 1).any()
    rows: list[np.ndarray] = []

    def compare(layer: ScaledDotProduct, arguments: tuple[Any, ...], output: torch.Tensor) -> None:
        q, k, v, mask = arguments
        if not len(q):  # no window to continue
            return
        row = weights_of(q, k, mask)
        torch.testing.assert_close(row @ v, output)
        rows.append(row[0, :, -1].numpy())  # (H, M): of the last input, which is the newest

    for layer in model.network.modules():
        if isinstance(layer, ScaledDotProduct):
            layer.register_forward_hook(compare)
    model.kernel_threshold = 10**9  # torch reads all tokens
    state = model.initial_state()
    for token_id in IDS.tolist():
        state = model.advance(state, token_id)
    for index in range(T + 1):
        for layer in range(2):
            row = rows[2 * index + layer]
            n_seen = min(row.shape[1], index + 1)  # the cache of the transformer has empty places at the start
            np.testing.assert_allclose(
                row[:, -n_seen:], weights[layer, :, index, index + 1 - n_seen : index + 1], atol=1e-5
            )


@pytest.mark.parametrize(("cell", "n_rounds"), [*((cell, 0) for cell in CELLS), ("lstm", 3)])
def test_traces_end_in_the_states_of_the_network(cell: str, n_rounds: int) -> None:
    model = model_of(cell, d_embed=5, d_hidden=6, n_layers=2, mogrifier=n_rounds)
    traces = recurrent_traces(model, IDS)
    assert len(traces) == 2
    network = cast(Recurrent, model.network)
    with torch.inference_mode():
        inputs = torch.tensor([[EOT, *IDS.tolist()]])
        _, state = network(inputs, network.initial_state(1))
    parts = iter(state)
    for trace in traces:
        h = trace["hidden state h"]
        assert h.shape == (T + 1, 6)
        np.testing.assert_allclose(h[-1], next(parts)[0], atol=1e-6)
        before = np.vstack([np.zeros_like(h[:1]), h[:-1]])
        if cell == "gru":
            z = trace["keep gate z"]
            np.testing.assert_allclose(h, z * before + (1 - z) * trace["candidate n"], atol=1e-6)
        if cell == "lstm":
            c = trace["cell state c"]
            np.testing.assert_allclose(c[-1], next(parts)[0], atol=1e-6)
            np.testing.assert_allclose(h, trace["output gate o"] * np.tanh(c), atol=1e-6)


@pytest.mark.parametrize("species", ["lstm", "gpt2", "nplm"])
def test_gradients_of_one_token_are_those_of_gradient_flow(species: str) -> None:
    settings = {"lstm": {"d_embed": 5, "d_hidden": 6}, "nplm": {"order": 4, "d_embed": 5, "d_hidden": 6}}
    model = model_of(species, **settings.get(species, TRANSFORMERS.get(species, {})))
    flow = gradient_flow(model, TokenStream.of(IDS, V), max_distance=4, n_positions=10)
    for position, norms in zip(flow.positions.tolist(), flow.norms, strict=True):
        found = gradient_norms(model, IDS, position)
        assert found.shape == (position,)
        np.testing.assert_allclose(found[::-1][:5], norms, rtol=1e-4, atol=1e-9)
    assert gradient_norms(model, IDS, 0).shape == (0,)
    assert gradient_norms(model, IDS, 1).shape == (1,)


def test_models_without_such_values_are_refused() -> None:
    markov, lstm = zoo.create("markov", V), model_of("lstm", d_embed=5, d_hidden=6)
    assert not has_attention(lstm)
    assert not is_recurrent(markov)
    with pytest.raises(UsageError, match="only in transformers"):
        attention_weights(lstm, IDS)
    with pytest.raises(UsageError, match="only in recurrent networks"):
        recurrent_traces(markov, IDS)
    with pytest.raises(UsageError, match="embeddings"):
        gradient_norms(markov, IDS, 0)
    with pytest.raises(UsageError, match="at least 0 and below the number of tokens, 20: got 20"):
        gradient_norms(lstm, IDS, T)
    with pytest.raises(UsageError, match="remove the end-of-text tokens"):
        attention_weights(model_of("gpt2", **TRANSFORMERS["gpt2"]), [3, EOT])
