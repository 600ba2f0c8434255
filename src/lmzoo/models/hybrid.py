"""A hybrid of an n-gram model and a recurrent network, mixed by a gate for every token (Neubig & Dyer 2016).

    P(w | h) = (1 - g(h)) P_net(w | h) + g(h) P_ngram(w | h)
    g(h)     = sigmoid(v . r(h) + b_k)

Here w is the next token, and h the tokens before it. r(h) is the hidden vector from which the network predicts w, and k
is the length of the context that the n-gram model has found: the largest number of last tokens, at most n - 1, that
occurred in a row in the training text. The gate learns the vector v and a bias b_k for each length. An n-gram model
remembers phrases, even those that occurred once; a network generalises from similar tokens and from farther back. A
mixture with constant weights (`lmzoo.models.mixture`) prefers the same member everywhere; the gate learns where each of
them is right. The network and the gate are trained together on the loss of the mixture, so the network learns what the
n-gram model does not know.

Two measures keep the gate from choosing the n-gram model everywhere, which would leave the network nothing to learn:

- An n-gram model predicts the text on which it was fitted far better than any other text. In training, each document
  is therefore scored by an n-gram model that was fitted on other documents (cross-fitting). The predictions come from
  an n-gram model that was fitted on the whole training text.
- At first the network is far worse than the n-gram model. Therefore a part of the loss is that of the network alone.
  For the same reason, the paper leaves out n-gram distributions at random ("block dropout").

G. Neubig, C. Dyer, Generalizing and Hybridizing Count-based and Neural Language Models, EMNLP 2016.

Changed: one n-gram model, with interpolated Kneser-Ney smoothing, in place of several distributions; cross-fitting.
What a hybrid cannot do: give a token a higher probability than both of its members do.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple, Self, cast, final

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.special import log_expit
from torch import Tensor, nn
from torch.nn import functional as F

from lmzoo.arrays import Arrays
from lmzoo.checkpoint import Checkpoint
from lmzoo.checks import check_choice, check_flag, check_share, check_whole
from lmzoo.language_model import LanguageModel
from lmzoo.models.mixing import add_prefix, strip_prefix
from lmzoo.models.ngram import NgramModel
from lmzoo.models.recurrent import Recurrent
from lmzoo.neural.network import Network, State
from lmzoo.neural.neural_lm import NeuralLM, NeuralState
from lmzoo.neural.objectives.next_token import Chunk, read_chunk
from lmzoo.neural.objectives.objective import Step
from lmzoo.neural.objectives.sampled import SampledSoftmax
from lmzoo.neural.one_token.reader import register_reader
from lmzoo.neural.scoring import hidden_vectors, logits_in_blocks
from lmzoo.neural.training.settings import TrainConfig
from lmzoo.stream import TokenStream, TrainingData
from lmzoo.system.placement import Device
from lmzoo.system.progress import OnProgress, Progress

_TRAINING = TrainConfig(tokens=1_000_000)


@final
class GatedRecurrent(Recurrent):
    """A recurrent network with a gate, which says how much an n-gram model counts in the prediction of each token.

    `order` is the length n of the n-grams; the other arguments are those of `Recurrent`. Before training, the gate is
    1/2 everywhere.
    """

    def __init__(self, vocab_size: int, *, order: int, **architecture: Any) -> None:
        super().__init__(vocab_size, **architecture)
        self.gate = nn.Parameter(torch.zeros(self.head.in_features))  # v
        self.gate_biases = nn.Parameter(torch.zeros(order))  # b

    def gate_logits(self, hidden: Tensor, lengths: Tensor) -> Tensor:
        """Computes the logits (..) of the gate, which is the weight of the n-gram model in each prediction.

        `hidden` (.., D) are hidden vectors, and `lengths` (..) the lengths of the contexts that the n-gram model found.
        """
        return hidden.to(self.gate.dtype) @ self.gate + self.gate_biases[lengths]


register_reader(GatedRecurrent, "lmzoo.neural.one_token.recurrent:read")


class NgramScores(NamedTuple):
    """The scores of the T tokens of a text under an n-gram model."""

    log_probs: NDArray[np.float64]
    """(T,): log-probability of the token, in nats."""
    lengths: NDArray[np.intp]
    """(T,): length of the context that the n-gram model found before the token; see `NgramModel.context_lengths`."""

    @classmethod
    def of(cls, model: NgramModel, stream: TokenStream) -> NgramScores:
        """Returns the scores of a text under a fitted n-gram model."""
        return cls(model.log_probs(stream), model.context_lengths(model.states(stream)))


def folds_of(stream: TokenStream, n_folds: int) -> NDArray[np.intp]:
    """Divides the T tokens of a text into folds of about equal size: returns the fold of each token (T,).

    A fold consists of whole documents; only documents longer than a fold are cut into pieces.
    """
    sizes = stream.ends - stream.starts
    n_pieces = -(-sizes * n_folds // len(stream))
    index = np.arange(n_pieces.sum()) - np.repeat(n_pieces.cumsum() - n_pieces, n_pieces)  # of a piece in its document
    size, n = np.repeat(sizes, n_pieces), np.repeat(n_pieces, n_pieces)
    lengths = size * (index + 1) // n - size * index // n
    folds = np.empty(len(lengths), np.intp)
    folds[np.argsort(-lengths, kind="stable")] = np.arange(len(lengths)) % n_folds  # pieces are dealt like cards
    return np.repeat(folds, lengths)


def cross_fitted(
    make_ngram: Callable[[], NgramModel], data: TrainingData, n_folds: int, on_progress: OnProgress | None = None
) -> NgramScores:
    """Scores each token of the training text with an n-gram model that was fitted on the other folds of the text.

    `make_ngram` creates an unfitted n-gram model. If all text is in one fold, all tokens count as equally likely.
    """
    train, folds = data.train, folds_of(data.train, n_folds)
    scores = NgramScores(np.full(len(train), -np.log(make_ngram().vocab_size)), np.zeros(len(train), np.intp))
    for fold in range(n_folds):
        if on_progress:
            on_progress(Progress(fold, n_folds + 1, "n-gram models", "fitting n-gram models on parts of the text"))
        inside = folds == fold
        if inside.any() and not inside.all():
            model = make_ngram().fit(TrainingData(TokenStream(train.ids[~inside]), data.valid))
            scores.log_probs[inside], scores.lengths[inside] = NgramScores.of(model, TokenStream(train.ids[inside]))
    return scores


class MixtureLoss:
    """The training objective of a hybrid: a weighted sum of the loss of the mixture and that of the network alone.

    `network_share` is the weight of the network alone; that of the mixture is 1 - `network_share`. `scores` are the
    scores of the training text under cross-fitted n-gram models. `sampled` estimates the softmax of the network; None =
    the full softmax.
    """

    def __init__(
        self, scores: NgramScores, sampled: SampledSoftmax | None, *, network_share: float, device: torch.device
    ) -> None:
        self._log_probs = torch.from_numpy(scores.log_probs.astype(np.float32)).to(device)
        self._lengths = torch.from_numpy(scores.lengths.astype(np.int64)).to(device)
        self._sampled, self._network_share = sampled, network_share

    def __call__(self, network: Network, chunk: Chunk, state: State) -> Step:
        network = cast(GatedRecurrent, network)
        hidden, state = read_chunk(network, chunk, state)  # (N, D)
        assert chunk.positions is not None  # `StreamBatches` sets them
        targets, positions = chunk.targets.flatten(), chunk.positions.flatten()
        if self._sampled is None:
            nats = network.surprisals(hidden, targets)
        else:
            nats = self._sampled.surprisals(network.head, hidden, targets)
        logits = network.gate_logits(hidden, self._lengths[positions])
        mixed = torch.logaddexp(F.logsigmoid(-logits) - nats, F.logsigmoid(logits) + self._log_probs[positions])
        share = self._network_share
        return Step(share * nats.sum() - (1 - share) * mixed.sum(), len(targets), state)


class HybridState(NamedTuple):
    """The state of a hybrid model after a context: the states of the n-gram model and of the network."""

    ngram: int
    network: NeuralState


@final
class HybridModel(LanguageModel[HybridState]):
    """An n-gram model and a recurrent network, mixed by a gate that the network computes for every token.

    `make_ngram` creates an unfitted n-gram model, and `neural` is an unfitted model with a `GatedRecurrent` network.
    `n_folds` is the number of folds for cross-fitting, and `network_share` the share of the network alone in the loss.
    """

    context_size = None

    def __init__(
        self, make_ngram: Callable[[], NgramModel], neural: NeuralLM, *, n_folds: int, network_share: float
    ) -> None:
        super().__init__(neural.vocab_size)
        self._make_ngram, self._n_folds, self._network_share = make_ngram, n_folds, network_share
        self.ngram = make_ngram()
        self.neural = neural
        self.training = neural.training
        self.device_name = neural.device_name

    # ---- Learning -------------------------------------------------------------------------------

    def fit(
        self,
        data: TrainingData,
        *,
        seed: int = 0,
        on_progress: OnProgress | None = None,
        checkpoint: Checkpoint | None = None,
    ) -> Self:
        self.checked_data(data)
        scores = cross_fitted(self._make_ngram, data, self._n_folds, on_progress)
        if on_progress:
            on_progress(Progress(self._n_folds, self._n_folds + 1, "n-gram models", "fitting the n-gram model"))
        self.ngram.fit(data)
        sampled, share = self.neural.sampled_softmax(data.train), self._network_share
        loss = MixtureLoss(scores, sampled, network_share=share, device=self.neural.device)
        self.neural.train(
            data,
            loss,
            self._log_probs,
            facts=[share, hashlib.sha256(b"".join(part.tobytes() for part in scores)).hexdigest()],
            seed=seed,
            on_progress=on_progress,
            checkpoint=checkpoint,
        )
        self.n_tokens_read, self.fitted = self.neural.n_tokens_read, True
        return self

    # ---- Predicting -----------------------------------------------------------------------------

    def initial_state(self) -> HybridState:
        self.require_fitted()
        return HybridState(self.ngram.initial_state(), self.neural.initial_state())

    def advance(self, state: HybridState, token_id: int) -> HybridState:
        return HybridState(self.ngram.advance(state.ngram, token_id), self.neural.advance(state.network, token_id))

    def next_log_probs(self, state: HybridState) -> NDArray[np.float64]:
        probs = np.exp(self.neural.next_log_probs(state.network))
        return _mix(probs, self.ngram.next_log_probs(state.ngram), np.array(self.gate(state)))

    def gate(self, state: HybridState) -> float:
        """Returns the weight of the n-gram model, from 0 to 1, in the prediction of the next token."""
        return float(self._gates(state.network.hidden, np.array(state.ngram)))

    @torch.inference_mode()
    def _gates(self, hidden: Tensor, states: NDArray[Any]) -> NDArray[np.float64]:
        """Returns the weights (..) of the n-gram model in predictions.

        `hidden` (.., D) are hidden vectors of the network, and `states` (..) states of the n-gram model.
        """
        lengths = torch.from_numpy(np.asarray(self.ngram.context_lengths(states))).to(hidden.device)
        return self._network.gate_logits(hidden, lengths).cpu().double().sigmoid().numpy()

    @property
    def _network(self) -> GatedRecurrent:
        return cast(GatedRecurrent, self.neural.network)

    # ---- Speed ----------------------------------------------------------------------------------

    def state_after(self, context: NDArray[np.int32]) -> HybridState:
        return self.states_after([context])[0]

    def states_after(self, contexts: Sequence[NDArray[np.int32]]) -> Sequence[HybridState]:
        self.require_fitted()
        nodes = (self.ngram.state_after(self.ngram.visible(context)) for context in contexts)
        return list(map(HybridState, nodes, self.neural.states_after(contexts)))

    def advance_batch(self, states: Sequence[HybridState], token_ids: Sequence[int]) -> Sequence[HybridState]:
        nodes = self.ngram.advance_batch([state.ngram for state in states], token_ids)
        return list(map(HybridState, nodes, self.neural.advance_batch([state.network for state in states], token_ids)))

    def next_log_probs_batch(self, states: Sequence[HybridState]) -> NDArray[np.float64]:
        if not states:
            return super().next_log_probs_batch(states)
        nodes = [state.ngram for state in states]
        gates = self._gates(torch.stack([state.network.hidden for state in states]), np.array(nodes))
        log_probs = self.neural.next_log_probs_batch([state.network for state in states])
        return _mix(np.exp(log_probs), self.ngram.next_log_probs_batch(nodes), gates)

    @torch.inference_mode()
    def stream_log_probs(
        self, stream: TokenStream, positions: NDArray[np.intp] | None = None
    ) -> Iterator[tuple[NDArray[np.intp], NDArray[np.float64]]]:
        wanted, nodes = stream.mask(positions), self.ngram.states(stream)
        for read, hidden in hidden_vectors(self._network, stream):
            places = read[wanted[read]]
            hidden = hidden[torch.from_numpy(wanted[read]).to(hidden.device)]
            for start, stop, logits in logits_in_blocks(self._network, hidden, self.block_bounds(len(places))):
                here = nodes[places[start:stop]]
                gates = self._gates(hidden[start:stop], here)
                probs = logits.softmax(-1).cpu().numpy()
                yield places[start:stop], _mix(probs, self.ngram.next_log_probs_batch(here), gates)

    def log_probs(self, ids: ArrayLike | TokenStream) -> NDArray[np.float64]:
        return self._log_probs(self.neural.network, self.checked_stream(ids))

    @torch.inference_mode()
    def _log_probs(self, network: Network, stream: TokenStream) -> NDArray[np.float64]:
        """Returns the log-probability (T,), in nats, of each of T tokens, with the given network."""
        network = cast(GatedRecurrent, network)
        scores = NgramScores.of(self.ngram, stream)
        nats, logits = np.empty(len(stream)), np.empty(len(stream))
        for positions, hidden in hidden_vectors(network, stream):
            targets, lengths = (
                torch.from_numpy(part[positions].astype(np.int64)).to(hidden.device)
                for part in (stream.ids, scores.lengths)
            )
            nats[positions] = network.surprisals(hidden, targets).cpu().numpy()
            logits[positions] = network.gate_logits(hidden, lengths).cpu().numpy()
        return np.logaddexp(log_expit(-logits) - nats, log_expit(logits) + scores.log_probs)

    @property
    def flops_per_token(self) -> float:
        """Floating-point operations of the network per token; the n-gram model only looks up and adds numbers."""
        return self.neural.flops_per_token

    # ---- Saving ---------------------------------------------------------------------------------

    def arrays(self) -> dict[str, NDArray[Any]]:
        return {**add_prefix("ngram", self.ngram.arrays()), **add_prefix("network", self.neural.arrays())}

    def load_arrays(self, arrays: Arrays) -> Self:
        self.ngram.load_arrays(strip_prefix("ngram", arrays))
        self.neural.load_arrays(strip_prefix("network", arrays))
        self.fitted = True
        return self


def _mix(
    network_probs: NDArray[np.floating], ngram_log_probs: NDArray[np.float64], gates: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Returns the log-probabilities (.., V) of the mixture: log((1 - gate) P_net + gate P_ngram), in nats.

    `network_probs` (.., V) are probabilities, `ngram_log_probs` (.., V) log-probabilities, which are overwritten by the
    result, and `gates` (..) the weights of the n-gram model.
    """
    mixed = np.exp(ngram_log_probs, out=ngram_log_probs)
    mixed *= gates[..., None]
    mixed += network_probs * (1 - gates)[..., None]
    return np.log(mixed, out=mixed)


def hybrid(
    vocab_size: int,
    *,
    order: int = 5,
    cell: str = "gru",
    d_embed: int = 128,
    d_hidden: int = 256,
    n_layers: int = 1,
    dropout: float = 0.0,
    variational: bool = False,
    weight_dropout: float = 0.0,
    n_folds: int = 5,
    network_share: float = 0.5,
    training: TrainConfig | Mapping[str, Any] | None = None,
    device: Device = "cpu",
) -> HybridModel:
    """Creates a mixture of a Kneser-Ney n-gram model and a recurrent network with a learned weight for every token.

    `order` is the length of the n-grams, and `cell` the type of the recurrent network, "gru" or "lstm". In training,
    the text is divided into `n_folds` parts, 2 to 100, each of which is scored by an n-gram model that was fitted on
    the others. `network_share` is the weight, in the training loss, of the loss of the network alone, without the
    n-gram model. The kinds of dropout are those of the factory `lstm`.
    """
    check_choice(("gru", "lstm"), cell=cell)
    check_whole(1, d_embed=d_embed, d_hidden=d_hidden, n_layers=n_layers)
    check_whole(2, 100, n_folds=n_folds)
    check_share(dropout=dropout, weight_dropout=weight_dropout, network_share=network_share)
    check_flag(variational=variational)
    architecture = {
        "order": order, "cell": cell, "d_embed": d_embed, "d_hidden": d_hidden, "n_layers": n_layers,
        "dropout": dropout, "variational": variational, "weight_dropout": weight_dropout, "mogrifier": 0,
    }  # fmt: skip
    config = _TRAINING.changed(training)
    neural = NeuralLM(vocab_size, GatedRecurrent, architecture, config, context_size=None, device=device)
    make_ngram = partial(NgramModel, vocab_size, order=order, smoothing="kneser-ney")
    return HybridModel(make_ngram, neural, n_folds=n_folds, network_share=network_share)


PRESETS: dict[str, dict[str, dict[str, Any]]] = {
    "hybrid": {
        "quick": {
            "training": {
                "tokens": 1_000_000, "chunk_size": 32, "learning_rate": 1.5e-2, "weight_decay": 0.01,
                "sampled_softmax": 512,
            },
        },
        "standard": {
            "d_embed": 256, "d_hidden": 512, "dropout": 0.3,
            "training": {"tokens": 2_500_000, "chunk_size": 32, "learning_rate": 6e-3},
        },
        "thorough": {"d_embed": 512, "d_hidden": 1024, "dropout": 0.5, "training": {"tokens": 8_000_000}},
        "bytes": {"order": 10, "training": {"sampled_softmax": None}},
        "ladder": {
            "d_embed": 32, "d_hidden": 64, "dropout": 0.0, "training": {"learning_rate": 1e-2, "sampled_softmax": None}
        },
        "ladder/standard": {"training": {"chunk_size": 64}},
        "ladder/thorough": {"training": {"chunk_size": 64}},
        "tiny": {
            "order": 3, "d_embed": 8, "d_hidden": 16, "dropout": 0.1, "n_folds": 3,
            "training": {"tokens": 2000, "batch_size": 4, "chunk_size": 8, "learning_rate": 1e-2},
        },
    },
}  # fmt: skip
"""Settings of each factory of this file under each preset; see `lmzoo.zoo.presets`."""
