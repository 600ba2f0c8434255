"""Gradient flow: how much the gradient of a prediction changes the network's reading of earlier tokens.

    g(t, d) = || d loss_t / d x_{t - d} ||     loss_t = -log P(token t) in nats
                                               x_s = embedding of the token read at step s; d = 0: the last token read

Training changes weights along these gradients: where g is 0, the prediction at t teaches the network nothing about that
token (Hochreiter 1991; Bengio, Simard & Frasconi 1994; Pascanu, Mikolov & Bengio 2013). The gradient includes all paths
from the embedding to t: hidden states, KV cache and window. Tokens more than D + 1 steps back are read from the start
of the document and treated as constant; no path from them changes g.

Limits: g does not say how much the network did learn, since training cuts the gradient at the start of each chunk.
Values of g are not comparable between networks, whose embeddings differ in scale; compare g relative to distance 0.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeGuard

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from lmzoo.checks import check_count, check_seed
from lmzoo.errors import CorpusError, UsageError
from lmzoo.language_model import LanguageModel
from lmzoo.neural.network import Network, State
from lmzoo.neural.neural_lm import NeuralLM
from lmzoo.probes.gradient_norms import GradientFlow
from lmzoo.stream import EOT, TokenStream

_DEEPEST = 256
"""Number of candidate positions at the start of each document: all tokens before a position have to be read."""
_N_ROWS = 16
"""Number of positions in one backward pass."""
_CHUNK_SIZE = 128
_FIRST_NUMBER = 1 << 40
"""Smallest position number: larger than any token id."""


def has_token_vectors(model: LanguageModel[Any]) -> TypeGuard[NeuralLM]:
    """Returns True if a trained model is a network that reads tokens as embeddings."""
    return isinstance(model, NeuralLM) and bool(_embeddings(model.network))


def gradient_flow(
    model: LanguageModel[Any],
    text: ArrayLike | TokenStream,
    *,
    max_distance: int = 100,
    n_positions: int = 64,
    seed: int = 0,
    untrained: bool = False,
) -> GradientFlow:
    """Computes gradient norms of the predictions of a text with respect to the embeddings of earlier tokens.

    `n_positions` predictions are sampled with `seed` among those with `max_distance` earlier tokens in their document.
    If there are too few, the distance is reduced. With `untrained`, a network of the same sizes with random weights is
    measured. Raises UsageError if the model is not a network that embeds tokens, and CorpusError if no document has an
    earlier token.
    """
    check_count(0, max_distance=max_distance)
    check_count(1, n_positions=n_positions)
    check_seed(seed=seed)
    if not untrained:
        model.require_fitted()
    network = None
    if isinstance(model, NeuralLM):
        network = model.fresh_network(seed) if untrained else model.network
    if network is None or not _embeddings(network):
        raise UsageError(
            "gradients can be measured only in networks that read tokens as embeddings; this model does not"
        )
    stream = TokenStream.of(text, model.vocab_size)
    max_distance = _farthest(stream, max_distance, n_positions)
    positions, depths = _sampled_positions(stream, max_distance, n_positions, np.random.default_rng(seed))
    norms = np.empty((len(positions), max_distance + 1))
    for start in range(0, len(positions), _N_ROWS):
        rows = slice(start, start + _N_ROWS)
        norms[rows] = _norms(network, stream, positions[rows], int(depths[rows].max()), max_distance)
    return GradientFlow(positions, norms)


def gradient_norms(model: LanguageModel[Any], ids: ArrayLike, position: int) -> NDArray[np.float64]:
    """Returns the norm of the gradient of one token's loss with respect to each of the earlier tokens, (position,).

    `ids` is a text of T token ids without EOT (end of text), and `position` the index of the token in it. The norms of
    the oldest tokens come first. Raises UsageError if the model is not a network that embeds tokens, or if there is no
    token at `position`.
    """
    if not has_token_vectors(model):
        raise UsageError(
            "gradients can be measured only in networks that read tokens as embeddings; this model does not"
        )
    stream = TokenStream.of(ids, model.vocab_size)
    if not 0 <= position < len(stream):
        raise UsageError(
            f"the position must be at least 0 and below the number of tokens, {len(stream)}: got {position}"
        )
    network = copy.deepcopy(model.network)  # hooks must not disturb other threads that read with the same network
    return _norms(network, stream, np.array([position]), position, position - 1)[0, ::-1] if position else np.empty(0)


def _candidates(stream: TokenStream, distance: int) -> NDArray[np.int64]:
    """Returns, for each document, the number of tokens for which gradients can be measured up to a given distance.

    These tokens have at least `distance` + 1 earlier tokens in the document. At most `_DEEPEST` tokens per document are
    counted.
    """
    # The input before the first token is EOT, not a token of the document.
    return np.clip(stream.ends - stream.starts - distance - 1, 0, _DEEPEST)


def _farthest(stream: TokenStream, limit: int, n_positions: int) -> int:
    enough = min(n_positions, max(1, int(_candidates(stream, 0).sum()) // 2))
    for distance in range(limit, -1, -1):
        if _candidates(stream, distance).sum() >= enough:
            return distance
    raise CorpusError("no document of the text has a token before its end: gradients need at least one earlier token")


def _sampled_positions(
    stream: TokenStream, distance: int, n_positions: int, rng: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Samples predictions and returns the positions of their tokens in the stream and in their documents.

    Each token has at least `distance` + 1 earlier tokens in its document. The sample is sorted by position in the
    document.
    """
    ends = _candidates(stream, distance).cumsum()
    chosen = rng.choice(ends[-1], size=min(n_positions, int(ends[-1])), replace=False)
    document = np.searchsorted(ends, chosen, side="right")
    depths = distance + 1 + chosen - np.append(0, ends)[document]
    order = np.argsort(depths, kind="stable")
    return (stream.starts[document] + depths)[order], depths[order]


def _norms(
    network: Network, stream: TokenStream, positions: NDArray[np.int64], deepest: int, distance: int
) -> NDArray[np.float64]:
    """Returns the gradient norms (B, D + 1) of B predictions at the distances 0 .. D = `distance`.

    Column d holds the norm of the gradient of -log P(token) with respect to the embedding of the token d steps before
    the last token read. `positions` (B,) are the indices of the predicted tokens in the stream, and each has at most
    `deepest` earlier tokens in its document.
    """
    # Each row ends with the input of its position. The state is reset at the start of a document, so any tokens may
    # precede it: the earlier documents of the stream, and before the first document an arbitrary token.
    index = positions[:, None] - 1 - np.arange(deepest, -1, -1)  # (B, L)
    ids = np.where(index >= 0, stream.ids[np.maximum(index, 0)], np.where(index == -1, EOT, EOT + 1))
    device = network.device
    before, chunk = torch.from_numpy(ids.astype(np.int64)).to(device).tensor_split([deepest - distance], dim=1)
    state = network.initial_state(len(positions))
    with torch.no_grad():
        for part in before.split(_CHUNK_SIZE, dim=1):
            if part.shape[1]:
                _, state = network(part, state)
    targets = torch.from_numpy(stream.ids[positions].astype(np.int64)).to(device)
    gradients = _token_gradients(network, chunk, state, targets)
    # Squares of small gradients underflow in single precision.
    return torch.cat([one.double() for one in gradients], dim=2).norm(dim=2).flip(1).cpu().numpy()


def _token_gradients(network: Network, ids: Tensor, state: State, targets: Tensor) -> list[Tensor]:
    """Returns the gradients of -log P(target) with respect to the embeddings of the T `ids` of B sequences.

    `ids` has the shape (B, T) and `targets` (B,). Each returned tensor has the shape (B, T, D) for an embedding of size
    D. A network may read a token several times, for example in overlapping windows. To find all uses of a token, a
    first pass feeds position numbers to the embedding layers in place of ids. In a second pass, all uses of a position
    share one variable, and the gradient with respect to this variable is computed.
    """
    embeddings = _embeddings(network)
    calls: list[tuple[nn.Module, Tensor]] = []

    def note(module: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
        calls.append((module, inputs[0]))
        return (torch.where(inputs[0] < _FIRST_NUMBER, inputs[0], EOT),)

    numbers = _FIRST_NUMBER + torch.arange(ids.numel(), device=ids.device).view_as(ids)
    with torch.no_grad(), _hooked([one.register_forward_pre_hook(note) for one in embeddings]):
        network(numbers, state)
    readers = {module: module(ids).detach().requires_grad_() for module, read in calls if (read >= _FIRST_NUMBER).any()}
    replay = iter(calls)

    def replace(module: nn.Module, inputs: tuple[Tensor], vectors: Tensor) -> Tensor:
        _, read = next(replay)
        if module not in readers:  # an embedding of positions or n-grams, not of tokens
            return vectors
        vectors_of_position = readers[module].flatten(0, 1)[(read - _FIRST_NUMBER).clamp(min=0)]
        return torch.where((read >= _FIRST_NUMBER)[..., None], vectors_of_position, vectors)

    with torch.enable_grad(), _hooked([one.register_forward_hook(replace) for one in embeddings]):
        hidden, _ = network(ids, state)
        loss = network.surprisals(hidden[:, -1], targets).sum()  # the sequences of a batch are independent
    return list(torch.autograd.grad(loss, list(readers.values())))


def _embeddings(network: Network) -> list[nn.Embedding]:
    return [module for module in network.modules() if isinstance(module, nn.Embedding)]


@contextmanager
def _hooked(handles: Iterable[RemovableHandle]) -> Iterator[None]:
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
