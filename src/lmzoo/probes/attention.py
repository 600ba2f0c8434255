"""Attention weights: how much each head of a transformer takes from each input when it reads a text.

    A = softmax(Q K' / sqrt(d) + mask)     one matrix per head; row = the input that attends, column = the input read

Each row sums to 1, and is 0 beyond its own input (causal mask) and before the window of the network.
Limits: a large weight does not prove that an input matters for the prediction, as later layers may ignore what the head
took (Jain & Wallace 2019); `lmzoo.probes.gradient_flow` measures that influence.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any, TypeGuard

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from lmzoo.errors import UsageError
from lmzoo.language_model import LanguageModel
from lmzoo.neural.anchored import AnchoredNetwork
from lmzoo.neural.layers.attention import ScaledDotProduct, weights_of
from lmzoo.neural.network import Network
from lmzoo.neural.neural_lm import NeuralLM
from lmzoo.stream import EOT, as_ids


def has_attention(model: LanguageModel[Any]) -> TypeGuard[NeuralLM]:
    """Returns True if a trained model is a network of lmzoo with attention heads."""
    return isinstance(model, NeuralLM) and bool(_layers(model.network))


@torch.inference_mode()
def attention_weights(model: LanguageModel[Any], ids: ArrayLike) -> NDArray[np.float32]:
    """Returns the attention weights (L, H, T + 1, T + 1) of the H heads in each of L layers, on a text of T token ids.

    The network reads T + 1 inputs: the start of the document, then the T tokens. Raises UsageError if the model is not
    a transformer of lmzoo, or if the text contains EOT (end of text).
    """
    if not has_attention(model):
        raise UsageError("attention weights exist only in transformers that lmzoo trained; this model is not one")
    token_ids = as_ids(ids)
    if (token_ids == EOT).any():
        raise UsageError("attention weights are computed within one document: remove the end-of-text tokens")
    inputs = torch.from_numpy(np.append(EOT, token_ids).astype(np.int64))[None].to(model.network.device)
    network = copy.deepcopy(model.network)  # hooks must not disturb other threads that read with the same network
    read: list[tuple[Tensor, ...]] = []
    layers = _layers(network)
    for layer in layers:
        layer.register_forward_pre_hook(lambda _, arguments: read.append(arguments))
    n = inputs.shape[1]
    weights = np.zeros((0, 0, n, n), np.float32)
    for start, first, stop in _windows(network, n):
        read.clear()
        network.read_rows(inputs[:, start:stop])
        part = torch.cat([weights_of(q, k, mask) for q, k, _, mask in read]).cpu().numpy()  # (L, H, W, W)
        if not weights.size:
            weights = np.zeros((*part.shape[:2], n, n), np.float32)
        weights[:, :, first:stop, start:stop] = part[:, :, first - start :]
    return weights


def _layers(network: Network) -> list[ScaledDotProduct]:
    return [module for module in network.modules() if isinstance(module, ScaledDotProduct)]


def _windows(network: Network, n: int) -> Iterator[tuple[int, int, int]]:
    """Yields the windows in which a network reads n inputs of a document: start, first new input, and stop.

    A window reads the inputs from `start` to `stop`; those before `first` were read in earlier windows, too.
    """
    if not isinstance(network, AnchoredNetwork):
        yield 0, 0, n
        return
    start, first = 0, 0
    while first < n:
        stop = min(start + network.window, n)
        yield start, first, stop
        start, first = start + network.step, stop
