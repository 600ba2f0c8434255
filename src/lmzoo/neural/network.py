"""The interface of a neural network that reads token ids and predicts the next token at each position.

A network reads a batch of sequences. A sequence is a stream of documents, one after the other without padding. The ids
are *inputs*: at position t the network reads the id before t and predicts the id at t, and the input EOT (end of text)
means that a document starts here. Whenever a network reads EOT it resets its state. So nothing leaks across documents,
and training, scoring and generation run the same code.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Sequence
from hashlib import sha256
from typing import TYPE_CHECKING, NamedTuple, Self

import torch
from torch import Tensor, nn

from lmzoo.neural.layers.cross_entropy import linear_cross_entropy, token_nats
from lmzoo.stream import TokenStream

if TYPE_CHECKING:
    from lmzoo.neural.objectives.sampled import SampledLayer

State = tuple[Tensor, ...]
"""What a network carries from one chunk of ids to the next, such as hidden vectors or a KV cache.

Each tensor has the batch as its first axis. States are never modified in place.
"""


class ParameterGroups(NamedTuple):
    """The parameters of a network, grouped by how optimizers treat them."""

    hidden_matrices: list[Tensor]
    """Matrices that map hidden vectors to hidden vectors; Muon applies to these."""
    other_matrices: list[Tensor]
    """Other parameters of two or more dimensions, such as embeddings; weight decay applies to these and the above."""
    vectors: list[Tensor]
    """Biases and gains, which have no weight decay."""


class Network(nn.Module, ABC):
    """A neural network that reads token ids and computes hidden vectors, from which it predicts the next tokens.

    `forward` computes hidden vectors and `logits` the predictions. These are separate steps because logits are by far
    the larger: a caller that needs few of them, or only a loss, never holds B x T x V numbers for B sequences, T
    positions and V tokens. Everything that is learned is in `parameters()`; buffers hold only computed constants.

    `embedding` holds one vector per token and `head` is the output layer. A network with another kind of output
    overrides `vocab_size`, `logits`, `cross_entropy`, `sampled_cross_entropy`, `surprisals`, `parameter_groups`,
    `initialize_output_bias` and `_token_layers`.
    """

    embedding: nn.Embedding
    head: nn.Linear

    n_scored_together: int = 32
    """Number of sequences in which a text is scored in parallel."""

    @property
    def device(self) -> torch.device:
        """Device of the parameters, on which all inputs must be too."""
        return next(self.parameters()).device

    @property
    def vocab_size(self) -> int:
        """Number of tokens that the network predicts."""
        return self.head.out_features

    @abstractmethod
    def initial_state(self, batch_size: int) -> State:
        """Returns the state of `batch_size` sequences of which the network has read nothing yet.

        The first id that is read from this state may be at any position of a document.
        """

    @abstractmethod
    def forward(self, ids: Tensor, state: State) -> tuple[Tensor, State]:
        """Reads the ids (B, T) int64 of B sequences after `state`: returns hidden vectors (B, T, D) and the new state.

        The tensors of `state` are not modified.
        """

    def read_rows(self, ids: Tensor) -> Tensor:
        """Reads R rows of T ids each, (R, T) int64, from the initial state: returns hidden vectors (R, T, D).

        Each row starts with EOT, so it starts a document. A network with absolute positions raises ConfigurationError
        if the rows are longer than its window.
        """
        return self(ids, self.initial_state(len(ids)))[0]

    def stack_states(self, states: Sequence[State]) -> State:
        """Returns one batched state that holds the sequences of all given states, in order."""
        return tuple(torch.cat(parts) for parts in zip(*states, strict=True))

    def logits(self, hidden: Tensor) -> Tensor:
        """Computes the logits (.., V) of the next token over V tokens from hidden vectors (.., D)."""
        return self.head(hidden)

    def cross_entropy(self, hidden: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
        """Computes the weighted sum of -log P(target) in nats over N predictions.

        `hidden` (N, D) are hidden vectors of the last `forward`, `targets` (N,) the ids to predict, and `weights` (N,)
        the weight of each prediction; None = weight 1.
        """
        return linear_cross_entropy(hidden, self.head.weight, self.head.bias, targets, weights)

    def sampled_cross_entropy(self, hidden: Tensor, layer: SampledLayer, weights: Tensor | None) -> Tensor:
        """Computes the same weighted sum as `cross_entropy`, but with a sampled output layer.

        `hidden` (N, D) are hidden vectors of the last `forward`, `layer` is the output layer with the targets, and
        `weights` (N,) the weight of each prediction; None = weight 1.
        """
        return linear_cross_entropy(hidden, layer.weight, layer.bias, layer.rows, weights)

    def surprisals(self, hidden: Tensor, targets: Tensor) -> Tensor:
        """Computes -log P(target) in nats (N,) of each target id (N,), from hidden vectors (N, D)."""
        return token_nats(hidden, self.head.weight, self.head.bias, targets)

    def parameter_groups(self) -> ParameterGroups:
        """Returns all parameters of the network, grouped for the optimizers.

        Matrices with one row per token, such as embeddings and the output layer, are not hidden matrices.
        """
        tables = {id(module.weight) for module in self.modules() if isinstance(module, nn.Embedding)}
        tables.add(id(self.head.weight))
        layers = [module for module in self.modules() if isinstance(module, nn.Linear)]
        return self._grouped([layer.weight for layer in layers if id(layer.weight) not in tables])

    def _grouped(self, hidden_matrices: list[Tensor]) -> ParameterGroups:
        """Returns all parameters of the network in groups, with the given matrices as the group `hidden_matrices`.

        The remaining parameters are grouped by their number of dimensions: two or more, and fewer than two.
        """
        taken = {id(matrix) for matrix in hidden_matrices}
        rest = [parameter for parameter in self.parameters() if id(parameter) not in taken]
        return ParameterGroups(hidden_matrices, [p for p in rest if p.ndim >= 2], [p for p in rest if p.ndim < 2])

    def prepare(self, train: TokenStream) -> None:
        """Learns from the training text what gradient descent does not learn, such as the shape of an output tree.

        Called once for a new network, before its training. Most networks have nothing to learn here.
        """

    def initialize_output_bias(self, log_frequencies: Tensor) -> None:
        """Sets the bias of the output layer to the logarithms of the relative frequencies of the V tokens, (V,).

        A new network then predicts each token as often as it occurs, which would otherwise take many steps to learn.
        """
        self.head.bias.data = log_frequencies

    def weights_fingerprint(self) -> str:
        """Returns the SHA-256 hash of all weights of the network, in hexadecimal."""
        digest = sha256()
        for parameter in self.parameters():
            digest.update(parameter.detach().cpu().numpy().tobytes())
        return digest.hexdigest()

    def widened(self, n_new: int) -> Self:
        """Returns a copy of the network with `n_new` more tokens, whose ids follow the old ones.

        All old tokens keep their logits, so their log-probabilities change by one common constant. The rows of the new
        tokens are the means of the old rows (Hewitt 2021).
        """
        wider = copy.deepcopy(self)
        widened: dict[nn.Parameter, nn.Parameter] = {}  # so that weights that were tied stay tied
        for layer in wider._token_layers():
            for name, parameter in list(layer.named_parameters(recurse=False)):
                if parameter not in widened:
                    widened[parameter] = nn.Parameter(self._with_new_rows(parameter.detach(), n_new))
                setattr(layer, name, widened[parameter])
            if isinstance(layer, nn.Embedding):
                layer.num_embeddings += n_new
            elif isinstance(layer, nn.Linear):
                layer.out_features += n_new
        return wider

    def _token_layers(self) -> list[nn.Module]:
        """Returns the layers whose parameters all have one row per token: the token embedding and the output layer."""
        return [self.embedding, self.head]

    @staticmethod
    def _with_new_rows(rows: Tensor, n_new: int) -> Tensor:
        """Returns the rows (V, ..) of V tokens, followed by `n_new` rows for new tokens, each the mean of the V rows.

        A row holds the parameters of one token, such as its embedding.
        """
        return torch.cat([rows, rows.mean(0, keepdim=True).expand(n_new, *rows.shape[1:])])
