"""Traces of recurrent networks: the values of gates and states while a text is read, unit by unit.

The equations are those of `lmzoo.models.recurrent`. A forget gate near 1 keeps the cell state; one near 0 erases it.
"""

from __future__ import annotations

from typing import Any, TypeGuard, cast

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from lmzoo.errors import UsageError
from lmzoo.language_model import LanguageModel
from lmzoo.models.recurrent import Layer, Recurrent
from lmzoo.neural.neural_lm import NeuralLM
from lmzoo.stream import EOT, as_ids

LayerTrace = dict[str, NDArray[np.float32]]
"""The gates and states of one layer by name, each an array (T, H) of H units at T inputs."""


def is_recurrent(model: LanguageModel[Any]) -> TypeGuard[NeuralLM]:
    """Returns True if a trained model is a recurrent network."""
    return isinstance(model, NeuralLM) and isinstance(model.network, Recurrent)


@torch.inference_mode()
def recurrent_traces(model: LanguageModel[Any], ids: ArrayLike) -> list[LayerTrace]:
    """Returns the trace of each layer of a recurrent network over the start of a document and the T tokens after it.

    The arrays of a trace have the shape (T + 1, H) for H hidden units. Raises UsageError for other models.
    """
    if not is_recurrent(model):
        raise UsageError("gates and states exist only in recurrent networks; this model is not one")
    network = cast(Recurrent, model.network)
    inputs = torch.from_numpy(np.append(EOT, as_ids(ids)).astype(np.int64)).to(network.device)
    starts = (inputs == EOT)[:, None]  # (T + 1, 1)
    x = network.embedding(inputs)[:, None]  # (T + 1, 1, D)
    size, traces = network.cell.state_size, []
    for index, layer in enumerate(cast("list[Layer]", network.layers)):
        h, _ = layer(x, starts, network.initial_state(1)[size * index : size * (index + 1)], 0.0)  # (T + 1, 1, H)
        before = torch.cat([torch.zeros_like(h[:1]), h[:-1]]) * ~starts[..., None]
        of_x, of_h = layer.mogrified(x, before)
        trace = _GATES[layer.cell.n_gates](layer, layer.W(of_x), layer.U(of_h), starts) | {"hidden state h": h}
        traces.append({name: values[:, 0].cpu().numpy() for name, values in trace.items()})
        x = h
    return traces


def _rnn_gates(layer: Layer, x: Tensor, u: Tensor, starts: Tensor) -> dict[str, Tensor]:
    return {}


def _gru_gates(layer: Layer, x: Tensor, u: Tensor, starts: Tensor) -> dict[str, Tensor]:
    (x_r, x_z, x_n), (u_r, u_z, u_n) = x.chunk(3, dim=2), u.chunk(3, dim=2)
    r, z = torch.sigmoid(x_r + u_r), torch.sigmoid(x_z + u_z)
    assert layer.b is not None  # as in every GRU
    return {"keep gate z": z, "reset gate r": r, "candidate n": torch.tanh(x_n + r * (u_n + layer.b))}


def _lstm_gates(layer: Layer, x: Tensor, u: Tensor, starts: Tensor) -> dict[str, Tensor]:
    i, f, o, g = (x + u).chunk(4, dim=2)
    i, f, o, g = torch.sigmoid(i), torch.sigmoid(f), torch.sigmoid(o), torch.tanh(g)
    cells, c = [], torch.zeros_like(g[0])
    for keep, new, start in zip(f, i * g, starts, strict=True):
        c = keep * torch.where(start[:, None], 0, c) + new
        cells.append(c)
    return {
        "forget gate f": f,
        "input gate i": i,
        "output gate o": o,
        "candidate g": g,
        "cell state c": torch.stack(cells),
    }


_GATES = {1: _rnn_gates, 3: _gru_gates, 4: _lstm_gates}
"""The functions that compute the gate values of a recurrent layer at all inputs, by the number of gates of its cell: 1
for a simple recurrent network, 3 for a GRU and 4 for an LSTM."""
