"""An output layer in the form of a binary tree (Morin & Bengio 2005; Mnih & Hinton 2008, section 4).

Each token is a leaf of the tree. At each inner node n on the way from the root to the leaf of a token, the hidden
vector q decides which child is next, with a vector and a bias of the node:

    P(first child) = sigmoid(n . q + b),   P(second child) = sigmoid(-(n . q + b))
    P(token | q) = product of these probabilities along the path to its leaf

A tree with V leaves has V - 1 inner nodes, whatever its shape, so the distribution over all tokens takes V - 1 sigmoids
and sums to 1. The probability of one token takes one sigmoid for each inner node on its path, about log2(V), which
makes training fast.
"""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lmzoo.errors import SavedModelError


@final
class TreeSoftmax(nn.Module):
    """A binary tree over V tokens, with a vector of width D and a bias for each of its V - 1 inner nodes.

    `child_nodes` (V - 1, 2) holds the two children of each inner node. A number below V is the leaf of a token, and
    V + i is inner node i; the children of a node come before it, so the root is the last. The tree does not change in
    training, but it may be learned from the text before, and is saved with the weights.
    """

    def __init__(self, d_input: int, vocab_size: int) -> None:
        super().__init__()
        self.vocab_size = vocab_size
        self.nodes = nn.Linear(d_input, vocab_size - 1)
        # A balanced tree: nodes 0 and 1 are the children of node V, nodes 2 and 3 of node V + 1, and so on. Floating
        # point, as all saved weights are; it is exact up to 2^24.
        balanced = torch.arange(2 * vocab_size - 2, dtype=torch.float32).view(-1, 2)
        self.child_nodes = nn.Parameter(balanced, requires_grad=False)
        nn.init.zeros_(self.nodes.weight)
        nn.init.zeros_(self.nodes.bias)

    def log_probs(self, hidden: Tensor) -> Tensor:
        """Computes the log-probabilities (.., V) of all tokens in nats from hidden vectors (.., D)."""
        logits = self.nodes(hidden)  # (.., V - 1)
        of_step = F.logsigmoid(torch.stack([logits, -logits], dim=-1))  # (.., V - 1, 2): from a node to its children
        children = self.child_nodes.long()
        log_probs = hidden.new_zeros(*hidden.shape[:-1], 2 * self.vocab_size - 1)  # of all nodes; the root has 0
        for inner in reversed(self._levels()):
            log_probs[..., children[inner]] = log_probs[..., self.vocab_size + inner, None] + of_step[..., inner, :]
        return log_probs[..., : self.vocab_size]

    def surprisals(self, hidden: Tensor, targets: Tensor) -> Tensor:
        """Computes -log P(target) in nats (N,) of each target id (N,), from hidden vectors (N, D)."""
        nodes, signs = (part[targets] for part in self._paths())  # (N, L) each
        row, step = signs.nonzero(as_tuple=True)  # the paths one after another: P steps in all
        node = nodes[row, step]
        # F.embedding adds up the gradients of its rows faster than indexing does.
        products = (F.embedding(node, self.nodes.weight) * hidden[row]).sum(1) + self.nodes.bias[node]  # (P,)
        nats = F.softplus(-signs[row, step] * products)
        return nats.new_zeros(len(targets)).index_add(0, row, nats)

    @torch.no_grad()
    def set_tree(self, children: Tensor) -> None:
        """Replaces the tree by another; `children` is described at the class."""
        self.child_nodes.copy_(children)

    @torch.no_grad()
    def set_frequencies(self, frequencies: Tensor) -> None:
        """Sets the biases so that hidden vectors of 0 predict each of the V tokens with its frequency (V,), all > 0."""
        nodes, signs = self._paths()
        first, second = (
            frequencies.new_zeros(self.vocab_size - 1).index_add(
                0, nodes.flatten(), (frequencies[:, None] * (signs == sign)).flatten()
            )
            for sign in (1, -1)
        )
        self.nodes.bias.copy_((first / second).log())

    def _paths(self) -> tuple[Tensor, Tensor]:
        """Returns the inner nodes on the path from each of V leaves to the root, (V, L), and the choices made there.

        A choice is 1 for the first child, -1 for the second, and 0 after the root, where the path has ended. Raises
        SavedModelError if the nodes do not form a tree.
        """
        children, size = self.child_nodes.long(), self.vocab_size
        limits = torch.arange(size, 2 * size - 1, device=children.device)[:, None]
        if ((children < 0) | (children >= limits)).any() or len(children.unique()) < children.numel():
            raise SavedModelError("the output tree of the network is damaged: its nodes do not form a tree")
        parent, sign = children.new_full((2 * size - 1,), -1), self.child_nodes.new_zeros(2 * size - 1)
        parent[children] = torch.arange(size - 1, device=children.device)[:, None]
        sign[children] = sign.new_tensor([1.0, -1.0])
        node, nodes, signs = torch.arange(size, device=children.device), [], []
        while (parent[node] >= 0).any():
            nodes.append(parent[node].clamp_min(0))
            signs.append(sign[node])
            node = torch.where(parent[node] >= 0, size + parent[node], node)
        return torch.stack(nodes, dim=1), torch.stack(signs, dim=1)

    def _levels(self) -> list[Tensor]:
        """Returns the inner nodes grouped by their distance from the root, the most distant first."""
        nodes, signs = self._paths()
        depth = nodes.new_zeros(self.vocab_size - 1)
        on_path = signs != 0
        n_above = on_path.sum(1, keepdim=True) - 1 - torch.arange(nodes.shape[1], device=nodes.device)
        depth[nodes[on_path]] = n_above[on_path]
        return [(depth == level).nonzero()[:, 0] for level in range(int(depth.max()), -1, -1)]
