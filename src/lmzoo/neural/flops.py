"""How much a network computes for a token: counted while it reads, not by a formula for each architecture."""

from __future__ import annotations

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from lmzoo.neural.network import Network
from lmzoo.stream import EOT


def flops_per_token(network: Network, *, n_tokens: int) -> float:
    """The mean over the first `n_tokens` of a text, read one by one, the next one predicted after each.

    Counted are multiplications and additions in products of matrices, two for each weight that a token meets, and
    those of attention; not looking up a row, norms, activations and the softmax.
    """
    ids = torch.full((n_tokens, 1, 1), EOT + 1, device=network.device)
    ids[0] = EOT  # where a text begins
    memory = network.initial_memory(1)
    # Not in inference mode, in which the counter cannot see into composite operations; and with attention as two
    # products, as it does not know every fused kernel.
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        network.logits(network(ids[0], memory)[0])  # what is computed once for all tokens is kept
        with FlopCounterMode(display=False) as counter:
            for token in ids:
                hidden, memory = network(token, memory)
                network.logits(hidden[:, -1])
    return counter.get_total_flops() / n_tokens
