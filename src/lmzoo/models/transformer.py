"""A modern transformer decoder: that of Vaswani et al. (2017) and Radford et al. (2018) with later improvements.

    a block    x = x + Attention(norm(x)),   x = x + MLP(norm(x))
    attention  softmax(Q K' / sqrt(d)) V,  where a token attends to itself and the `window` - 1 tokens before it
    MLP        relu(x A)^2 B

Changed since 2017: normalization comes before the layers and subtracts no mean (Zhang & Sennrich 2019), positions are
rotations of queries and keys (RoPE, Su et al. 2021), which are normalized too (Henry et al. 2020), and the activation
of the MLP is a square (So et al. 2021). Attention is banded (Child et al. 2019) with a rolling KV cache, in training
too (Transformer-XL, Dai et al. 2019). As rotations encode distances only, every token attends to its exact window
wherever a chunk begins, and n layers see n (window - 1) + 1 tokens.

With `convolution` = k above 1, the input of each attention layer is first mixed with that of the k - 1 tokens before
it (after Primer, So et al. 2021, which mixes queries, keys and values). Each token then knows its predecessor, and a
single attention layer can find what followed an earlier occurrence of the current token, which otherwise takes two
layers. So the model learns to copy from fewer examples.

With `ngrams` above 1 the input of a token also has a vector for each n-gram that ends in the token, from a table
addressed by hashing (Huang et al. 2025), so the first layer need not learn what pairs of tokens mean.

What it cannot do: see tokens before its context, or learn much from little text.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, final

import torch
from torch import Tensor, nn

from lmzoo.checks import check_share, check_whole
from lmzoo.errors import ConfigurationError
from lmzoo.neural.layers.attention import ScaledDotProduct
from lmzoo.neural.layers.ngram_embedding import NgramEmbedding
from lmzoo.neural.layers.normalization import rms_norm
from lmzoo.neural.layers.short_convolution import ShortConvolution
from lmzoo.neural.layers.windows import context_windows, shift_in
from lmzoo.neural.network import Network, State
from lmzoo.neural.neural_lm import NeuralLM
from lmzoo.neural.one_token.reader import register_reader
from lmzoo.neural.training.settings import TrainConfig
from lmzoo.stream import EOT
from lmzoo.system.placement import Device

_TRAINING = TrainConfig(tokens=1_000_000)

Rotary = tuple[Tensor, Tensor]
"""Cosines and sines of a rotary position embedding."""


def _rotary(positions: Tensor, d_head: int) -> Rotary:
    """Returns the cosines and sines of the rotary position embedding at `positions` (B, T).

    Both have the shape (B, 1, 1, T, d), for B sequences of T tokens and heads of d = `d_head` numbers.
    The angles are computed in float64, as positions may be large while only differences of angles matter.
    """
    exact = torch.float32 if positions.device.type == "mps" else torch.float64  # mps has no float64
    frequencies = 10_000.0 ** -(torch.arange(0, d_head, 2, dtype=exact, device=positions.device) / d_head)  # (d / 2,)
    angles = positions[:, None, None, :, None] * frequencies.repeat(2)
    return angles.cos().float(), angles.sin().float()


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotates each pair (x_i, x_{i + d/2}) of the vectors in `x` (.., T, d) by the angle of its position.

    Dot products of rotated vectors depend on the distance of their positions only.
    """
    left, right = x.chunk(2, dim=-1)
    return x * cos + torch.cat([-right, left], dim=-1) * sin


@final
class Attention(nn.Module):
    """Multi-head self-attention with rotary positions and a rolling KV cache.

    Shape letters: B sequences, T new tokens in each, D width, H heads of d = D / H numbers, M tokens in the KV cache.
    """

    def __init__(self, d_model: int, n_heads: int) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.qkv = nn.Linear(d_model, 3 * d_model, bias=False)
        self.out = nn.Linear(d_model, d_model, bias=False)
        self.attend = ScaledDotProduct()

    def forward(self, x: Tensor, cache: Tensor, mask: Tensor, rotary: Rotary) -> tuple[Tensor, Tensor]:
        """Computes the self-attention of T new tokens in each of B sequences to a KV cache and to each other.

        - `x` (B, T, D): the new tokens as vectors of width D.
        - `cache` (B, 2, H, M, d): keys and values of the M tokens before them, in H heads of d numbers.
        - `mask` (T, M + T) or (B, 1, T, M + T): True where a query may attend to a key.
        - `rotary`: cosines and sines of the rotary position embedding.

        Returns the output (B, T, D) and the cache of the last M tokens.
        """
        qkv = self.qkv(x).unflatten(2, (3, self.n_heads, -1)).permute(0, 2, 3, 1, 4)  # (B, 3, H, T, d)
        v = qkv[:, 2]  # (B, H, T, d)
        q, k = _rotate(rms_norm(qkv[:, :2]), *rotary).to(v.dtype).unbind(1)  # (B, H, T, d) each
        # Keys are cached with their rotation, as only differences of positions matter.
        cache = torch.cat([cache.to(v.dtype), torch.stack([k, v], dim=1)], dim=3)  # (B, 2, H, M + T, d)
        keys, values = cache.unbind(1)  # (B, H, M + T, d) each
        y = self.attend(q, keys, values, mask)  # (B, H, T, d)
        return self.out(y.transpose(1, 2).flatten(2)), cache[:, :, :, x.shape[1] :]


@final
class Block(nn.Module):
    """A pre-norm transformer block without biases: self-attention and an MLP, each added to its input.

    With `convolution` = k above 1, the input of the attention goes through a convolution over k tokens.
    """

    def __init__(self, d_model: int, n_heads: int, dropout: float, convolution: int) -> None:
        super().__init__()
        self.convolution = ShortConvolution(convolution, d_model) if convolution > 1 else None
        self.attention = Attention(d_model, n_heads)
        self.up = nn.Linear(d_model, 4 * d_model, bias=False)
        self.down = nn.Linear(4 * d_model, d_model, bias=False)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, x: Tensor, cache: Tensor, previous: Tensor, mask: Tensor, in_document: Tensor, rotary: Rotary
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Computes the output of the transformer block (B, T, D) for T new tokens in each of B sequences.

        `x` (B, T, D) holds the new tokens as vectors of width D. The KV cache and `previous`, the inputs (B, k - 1, D)
        of the convolution for the k - 1 tokens before, are returned too, as the next tokens need them. The arguments
        are explained in `Attention.forward` and `lmzoo.neural.layers.windows.earlier_vectors`.
        """
        y = rms_norm(x)
        if self.convolution is not None:
            y, previous = self.convolution(y, previous, in_document)
        y, cache = self.attention(y, cache, mask, rotary)
        x = x + self.dropout(y)  # (B, T, D)
        y = self.down(self.up(rms_norm(x)).relu().square())  # (B, T, D) -> (B, T, 4 D) -> (B, T, D)
        return x + self.dropout(y), cache, previous


@final
class Transformer(Network):
    """A pre-norm transformer decoder with rotary positions, attention to a limited window and a tied output layer.

    The state of the network contains, for B sequences:

    - (B, M): for each of the last M = window - 1 tokens, True if the token belongs to the current document;
    - (B,): the position of the next token;
    - (B, N): the previous ids, which form n-grams with the next tokens and tell where a document began;
    - (B, 2, H, M, d) for each block: its KV cache, in H heads of d numbers;
    - (B, k - 1, D) for each block: the inputs of its convolution for the last k - 1 tokens.
    """

    def __init__(
        self, vocab_size: int, *, d_model: int, n_layers: int, n_heads: int, window: int, dropout: float,
        ngrams: int, n_slots: int, d_slot: int, ngram_dropout: float, convolution: int,
    ) -> None:  # fmt: skip
        super().__init__()
        self.n_orders, self.n_convolved, self.n_cached = ngrams, convolution - 1, window - 1
        self.n_heads, self.d_head = n_heads, d_model // n_heads
        self.embedding = nn.Embedding(vocab_size, d_model)
        self.ngrams = NgramEmbedding(ngrams, n_slots, d_slot, d_model, ngram_dropout) if ngrams > 1 else None
        self.blocks = nn.ModuleList(Block(d_model, n_heads, dropout, convolution) for _ in range(n_layers))
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(d_model, vocab_size)
        self.head.weight = self.embedding.weight  # tied
        nn.init.zeros_(self.head.bias)
        nn.init.normal_(self.embedding.weight, std=0.02)
        for name, parameter in self.blocks.named_parameters():
            if name.endswith(("out.weight", "down.weight")):
                nn.init.zeros_(parameter)  # every block starts as the identity
            elif "convolution" not in name:
                nn.init.normal_(parameter, std=d_model**-0.5)

    def initial_state(self, batch_size: int) -> State:
        return self._state_without_tokens(batch_size, self.n_cached)

    def _state_without_tokens(self, batch_size: int, n_cached: int) -> State:
        """Returns the state before the first token, with room for `n_cached` tokens in the KV cache."""
        in_document = torch.zeros(batch_size, n_cached, dtype=torch.bool, device=self.device)
        position = torch.zeros(batch_size, dtype=torch.int64, device=self.device)
        cache = torch.zeros(batch_size, 2, self.n_heads, n_cached, self.d_head, device=self.device)
        previous_ids = torch.full((batch_size, max(self.n_orders - 1, self.n_convolved)), EOT, device=self.device)
        previous = torch.zeros(batch_size, self.n_convolved, self.n_heads * self.d_head, device=self.device)
        memories = [cache] * len(self.blocks) + [previous] * len(self.blocks)
        return in_document, position, previous_ids, *memories

    def read_rows(self, ids: Tensor) -> Tensor:
        # Without a cache, so that no token attends to keys that nothing was read into.
        return self(ids, self._state_without_tokens(len(ids), 0))[0]

    def forward(self, ids: Tensor, state: State) -> tuple[Tensor, State]:
        in_document, position, previous_ids, *memories = state
        n_blocks = len(self.blocks)
        n_cached, n_new = in_document.shape[1], ids.shape[1]
        # The documents of a sequence are numbered from that of the cache, 0; cached keys of earlier ones have -1.
        document = (ids == EOT).cumsum(1)  # (B, T)
        document_of_key = torch.cat([in_document.long() - 1, document], dim=1)  # (B, M + T)
        index = torch.arange(n_cached + n_new, device=ids.device)
        distance = index[n_cached:, None] - index  # (T, M + T): from query to key
        mask = (distance >= 0) & (distance <= self.n_cached)
        if (document_of_key != 0).any():
            mask = (mask & (document[:, :, None] == document_of_key[:, None, :]))[:, None]  # (B, 1, T, M + T)
        rotary = _rotary(position[:, None] + index[:n_new], self.d_head)
        windows = context_windows(ids, previous_ids)  # (B, T, N + 1)
        x = self.embedding(ids)  # (B, T, D)
        if self.ngrams is not None:
            x = x + self.ngrams(windows[:, :, : self.n_orders])  # (B, T, D)
        x = self.dropout(rms_norm(x))
        convolved = (windows[:, :, 1 : self.n_convolved + 1] != EOT).to(x.dtype)  # (B, T, k - 1)
        for number, block in enumerate(self.blocks):
            memory = memories[number], memories[n_blocks + number]
            x, memories[number], memories[n_blocks + number] = block(x, *memory, mask, convolved, rotary)
        in_document = document_of_key[:, n_new:] == document[:, -1:]
        return rms_norm(x), (in_document, position + n_new, shift_in(previous_ids, ids), *memories)


register_reader(Transformer, "lmzoo.neural.one_token.transformer:read")


def transformer(
    vocab_size: int,
    *,
    d_model: int = 128,
    n_layers: int = 4,
    n_heads: int = 4,
    window: int = 64,
    dropout: float = 0.0,
    ngrams: int = 1,
    n_slots: int = 16_384,
    d_slot: int = 32,
    ngram_dropout: float = 0.1,
    convolution: int = 1,
    training: TrainConfig | Mapping[str, Any] | None = None,
    device: Device = "cpu",
) -> NeuralLM:
    """Creates a transformer decoder in which each layer attends to `window` tokens.

    All layers together see n_layers x (window - 1) + 1 tokens. With `convolution` = k above 1, the input of each
    attention layer is mixed with that of the k - 1 tokens before, so that each layer sees k - 1 tokens more. With
    `ngrams` = n above 1 the model also has embeddings of n-grams up to this order, and sees n - 1 tokens more. Each
    order has a table of `n_slots` vectors of `d_slot` numbers, which are dropped in training with probability
    `ngram_dropout`. Raises ConfigurationError unless `d_model` is a multiple of 2 x `n_heads`.
    """
    check_whole(1, ngrams=ngrams, n_slots=n_slots, d_slot=d_slot, convolution=convolution)
    check_whole(1, d_model=d_model, n_layers=n_layers, n_heads=n_heads, window=window)
    check_share(dropout=dropout, ngram_dropout=ngram_dropout)
    if d_model % (2 * n_heads):
        raise ConfigurationError(f"d_model must be a multiple of 2 x n_heads = {2 * n_heads}, got {d_model}")
    architecture = {
        "d_model": d_model, "n_layers": n_layers, "n_heads": n_heads, "window": window, "dropout": dropout,
        "ngrams": ngrams, "n_slots": n_slots, "d_slot": d_slot, "ngram_dropout": ngram_dropout,
        "convolution": convolution,
    }  # fmt: skip
    context_size = n_layers * (window + convolution - 2) + ngrams
    config = _TRAINING.changed(training)
    return NeuralLM(vocab_size, Transformer, architecture, config, context_size=context_size, device=device)


PRESETS: dict[str, dict[str, dict[str, Any]]] = {
    "transformer": {
        "quick": {
            "n_layers": 1, "ngrams": 3, "ngram_dropout": 0.3, "convolution": 4,
            "training": {
                "tokens": 1_400_000, "batch_size": 16, "learning_rate": 1e-2, "weight_decay": 0.01,
                "optimizer": "muon", "sampled_softmax": 512,
            },
        },
        "standard": {
            "d_model": 256, "n_layers": 4, "dropout": 0.2, "ngrams": 3, "ngram_dropout": 0.5,
            "training": {
                "tokens": 2_500_000, "learning_rate": 1e-2, "weight_decay": 0.1,
                "optimizer": "muon", "ema_fraction": 0.1
            },
        },
        "thorough": {
            "d_model": 384, "n_layers": 6, "n_heads": 6, "dropout": 0.3, "ngrams": 3, "ngram_dropout": 0.5,
            "training": {
                "tokens": 4_500_000, "learning_rate": 1e-2, "weight_decay": 0.1,
                "optimizer": "muon", "ema_fraction": 0.1
            },
        },
        # The base of a chat model: it has to learn to copy from its prompt, for which vectors of n-grams are no help.
        "chat": {
            "d_model": 96, "n_layers": 3, "ngrams": 1, "ngram_dropout": 0.0, "convolution": 4,
            "training": {"tokens": 1_500_000, "chunk_size": 64, "sampled_softmax": None},
        },
        # Vectors for n-grams would solve some tasks of the ladder without attention, so there are none.
        "ladder": {
            "d_model": 64, "n_layers": 2, "n_heads": 4, "window": 128, "dropout": 0.0, "ngrams": 1,
            "training": {"batch_size": 16},
        },
        "tiny": {
            "d_model": 16, "n_layers": 2, "n_heads": 2, "window": 6, "dropout": 0.1, "ngrams": 3, "n_slots": 100,
            "convolution": 2, "training": {
                "tokens": 2000, "batch_size": 4, "chunk_size": 8, "learning_rate": 1e-2, "optimizer": "muon"
            },
        },
    }
}  # fmt: skip
"""Settings of each factory of this file under each preset; see `lmzoo.zoo.presets`."""
