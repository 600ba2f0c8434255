"""How far gradients flow: how much a prediction can teach a network about what it read earlier.

    g(t, d) = || d loss_t / d x_{t - d} ||     loss_t = -log P(token t) in nats
                                               x_s = the vector of the token read at step s; d = 0: the one read last

Learning moves weights along such gradients: where g has vanished, nothing that was read there can be learned from t
(Hochreiter 1991; Bengio, Simard & Frasconi 1994; Pascanu, Mikolov & Bengio 2013). A vector counts with all that it
does up to t, through a recurrent memory, a cache or a window. What came before the last D + 1 steps is read as usual,
from the start of its document, and held constant: it has no way to t that could change g.

What it does not tell: how much was in fact learned from there, as training cuts the flow where a chunk begins; or g in
one network against g in another, whose vectors have another length. Compare what is left of g at distance 0.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeGuard

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from lmzoo.checks import check_whole
from lmzoo.errors import CorpusError, UsageError
from lmzoo.language_model import LanguageModel
from lmzoo.neural.network import Memory, Network
from lmzoo.neural.neural_lm import NeuralLM
from lmzoo.probes.gradient_norms import GradientFlow
from lmzoo.stream import EOT, TokenStream

_DEEPEST = 256
"""Positions are drawn from so many at the start of each document, besides the distance: all before them is read."""
_N_ROWS = 16
"""Positions that share a backward pass."""
_CHUNK_SIZE = 128
_FIRST_NUMBER = 1 << 40
"""Above the ids of any vocabulary, and any number of positions."""


def has_token_vectors(model: LanguageModel[Any]) -> TypeGuard[NeuralLM]:
    """Whether there is something to follow in a fitted model: a network that reads tokens as vectors."""
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
    """Follows predictions back, at `n_positions` that `seed` draws from those deep enough in their documents.

    Where too few are, the distance is shorter: such that there are `n_positions`, or half of all. With `untrained`, the
    network is one that `seed` initialised in place of the fitted one: the same sizes, and no training.
    Raises UsageError for a model that has no token vectors.
    """
    check_whole(0, max_distance=max_distance)
    check_whole(1, n_positions=n_positions)
    if not untrained:
        model.require_fitted()
    network = None
    if isinstance(model, NeuralLM):
        network = model.fresh_network(seed) if untrained else model.network
    if network is None or not _embeddings(network):
        raise UsageError("gradients are followed in networks that read tokens as vectors, and this model has none")
    stream = TokenStream.of(text, model.vocab_size)
    max_distance = _farthest(stream, max_distance, n_positions)
    positions, depths = _drawn(stream, max_distance, n_positions, np.random.default_rng(seed))
    norms = np.empty((len(positions), max_distance + 1))
    for start in range(0, len(positions), _N_ROWS):
        rows = slice(start, start + _N_ROWS)
        norms[rows] = _norms(network, stream, positions[rows], int(depths[rows].max()), max_distance)
    return GradientFlow(positions, norms)


def _candidates(stream: TokenStream, distance: int) -> NDArray[np.int64]:
    """(documents,) how many positions of each have a token at this distance, and are not too deep in it."""
    # The input of the first position is no token, but says that a document starts.
    return np.clip(stream.ends - stream.starts - distance - 1, 0, _DEEPEST)


def _farthest(stream: TokenStream, limit: int, n_positions: int) -> int:
    enough = min(n_positions, max(1, int(_candidates(stream, 0).sum()) // 2))
    for distance in range(limit, -1, -1):
        if _candidates(stream, distance).sum() >= enough:
            return distance
    raise CorpusError("no document of the text has a token to look back to: it needs at least one")


def _drawn(
    stream: TokenStream, distance: int, n_positions: int, rng: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Positions in the stream and in their documents, the nearest to a document start first."""
    ends = _candidates(stream, distance).cumsum()
    chosen = rng.choice(ends[-1], size=min(n_positions, int(ends[-1])), replace=False)
    document = np.searchsorted(ends, chosen, side="right")
    depths = distance + 1 + chosen - np.append(0, ends)[document]
    order = np.argsort(depths, kind="stable")
    return (stream.starts[document] + depths)[order], depths[order]


def _norms(
    network: Network, stream: TokenStream, positions: NDArray[np.int64], deepest: int, distance: int
) -> NDArray[np.float64]:
    """(B, D + 1) for B positions that are at most `deepest` tokens into their documents."""
    # A row ends with the input of its position. What stands before the document is forgotten there, as everywhere; so
    # it may be any other, and before the first one any token.
    place = positions[:, None] - 1 - np.arange(deepest, -1, -1)  # (B, L)
    ids = np.where(place >= 0, stream.ids[np.maximum(place, 0)], np.where(place == -1, EOT, EOT + 1))
    device = next(network.parameters()).device
    before, chunk = torch.from_numpy(ids.astype(np.int64)).to(device).tensor_split([deepest - distance], dim=1)
    memory = network.initial_memory(len(positions))
    with torch.no_grad():
        for part in before.split(_CHUNK_SIZE, dim=1):
            if part.shape[1]:
                _, memory = network(part, memory)
    targets = torch.from_numpy(stream.ids[positions].astype(np.int64)).to(device)
    gradients = _token_gradients(network, chunk, memory, targets)
    # In double precision, in which squares do not vanish where single ones do not.
    return torch.cat([one.double() for one in gradients], dim=2).norm(dim=2).flip(1).cpu().numpy()


def _token_gradients(network: Network, ids: Tensor, memory: Memory, targets: Tensor) -> list[Tensor]:
    """Gradients (B, T, D) of -log P(target) (B,) at the end of each row by the token vector at every place.

    Networks read tokens in layouts of their own: in windows, side by side, twice. Where a token goes is found by
    reading numbers of places instead of ids first; then all that is read at one place is made the same variable.
    """
    embeddings = _embeddings(network)
    calls: list[tuple[nn.Module, Tensor]] = []

    def note(module: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
        calls.append((module, inputs[0]))
        return (torch.where(inputs[0] < _FIRST_NUMBER, inputs[0], EOT),)

    numbers = _FIRST_NUMBER + torch.arange(ids.numel(), device=ids.device).view_as(ids)
    with torch.no_grad(), _hooked([one.register_forward_pre_hook(note) for one in embeddings]):
        network(numbers, memory)
    readers = {module: module(ids).detach().requires_grad_() for module, read in calls if (read >= _FIRST_NUMBER).any()}
    replay = iter(calls)

    def replace(module: nn.Module, inputs: tuple[Tensor], vectors: Tensor) -> Tensor:
        _, read = next(replay)
        if module not in readers:  # it reads positions, n-grams or the like
            return vectors
        own = readers[module].flatten(0, 1)[(read - _FIRST_NUMBER).clamp(min=0)]
        return torch.where((read >= _FIRST_NUMBER)[..., None], own, vectors)

    with torch.enable_grad(), _hooked([one.register_forward_hook(replace) for one in embeddings]):
        hidden, _ = network(ids, memory)
        loss = network.surprisals(hidden[:, -1], targets).sum()  # rows do not see each other
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
