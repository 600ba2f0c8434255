"""Floating-point operations per token, counted while a network reads rather than by a formula for each architecture."""

from __future__ import annotations

from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from lmzoo.neural.network import Network
from lmzoo.stream import EOT


def flops_per_token(network: Network, *, n_tokens: int) -> float:
    """Counts the floating-point operations per token, as the mean over the first `n_tokens` tokens of a text.

    The tokens are read one by one, and the next token is predicted after each. The count includes matrix products
    (a multiplication and an addition for each weight) and attention. It excludes embedding lookups, normalization,
    activation functions and the softmax.
    """
    ids = torch.full((n_tokens, 1, 1), EOT + 1, device=network.device)
    ids[0] = EOT  # where a text begins
    state = network.initial_state(1)
    # Not in inference mode, in which the counter cannot see into composite operations; and with attention as two
    # products, as it does not know every fused kernel.
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        network.logits(network(ids[0], state)[0])  # excludes what is computed once for all tokens
        with _FlopCounter() as counter:
            for token in ids:
                hidden, state = network(token, state)
                network.logits(hidden[:, -1])
    return counter.n_flops / n_tokens


class _FlopCounter(TorchDispatchMode):
    """Counts the floating-point operations of a `with` block, by torch's own formula for each operation.

    `torch.utils.flop_counter.FlopCounterMode` counts the same, but imports torch's compiler, which takes seconds.
    """

    def __init__(self) -> None:
        super().__init__()
        self.n_flops = 0

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        if count := flop_registry.get(func.overloadpacket):
            self.n_flops += count(*args, **kwargs, out_val=result)
        return result
