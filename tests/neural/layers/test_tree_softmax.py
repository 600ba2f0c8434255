"""The output tree: hand values, and probabilities that sum to 1 and are the same however they are computed."""

from __future__ import annotations

import math

import pytest
import torch

from lmzoo.errors import SavedModelError
from lmzoo.neural.layers.tree_softmax import TreeSoftmax


def skewed_tree(vocab_size: int, seed: int = 0) -> torch.Tensor:
    """The children of the inner nodes of a random tree: any two roots become the children of a new node."""
    generator = torch.Generator().manual_seed(seed)
    roots, children = list(range(vocab_size)), []
    while len(roots) > 1:
        pair = [roots.pop(int(torch.randint(len(roots), (1,), generator=generator))) for _ in range(2)]
        children.append(pair)
        roots.append(vocab_size + len(children) - 1)
    return torch.tensor(children)


def test_hand_values() -> None:
    """Three tokens: the root chooses between token 2 and node 3, and node 3 between tokens 0 and 1.

    With q = 1 the root has the logit log 3, so P(2) = 3/4. Node 3 has the logit 0 + log 4, so P(0) = 1/4 x 4/5.
    """
    tree = TreeSoftmax(1, 3)
    tree.set_tree(torch.tensor([[0, 1], [2, 3]]))
    tree.nodes.weight.data = torch.tensor([[0.0], [math.log(3)]])
    tree.nodes.bias.data = torch.tensor([math.log(4), 0.0])
    probs = tree.log_probs(torch.ones(1, 1)).exp()[0]
    torch.testing.assert_close(probs, torch.tensor([0.2, 0.05, 0.75]))


@pytest.mark.parametrize("vocab_size", [2, 3, 17])
@pytest.mark.parametrize("seed", [None, 1])
def test_probabilities_of_all_tokens_and_of_one_agree(vocab_size: int, seed: int | None) -> None:
    """In a balanced tree and in a random one; also their gradients."""
    torch.manual_seed(0)
    tree = TreeSoftmax(4, vocab_size).double()
    if seed is not None:
        tree.set_tree(skewed_tree(vocab_size, seed))
    for parameter in tree.nodes.parameters():
        torch.nn.init.normal_(parameter)
    hidden = torch.randn(5, 4, dtype=torch.float64, requires_grad=True)
    targets = torch.randint(vocab_size, (5,))
    log_probs = tree.log_probs(hidden)
    torch.testing.assert_close(log_probs.exp().sum(1), torch.ones(5, dtype=torch.float64))
    found, expected = tree.surprisals(hidden, targets), -log_probs[range(5), targets]
    torch.testing.assert_close(found, expected)
    weights, inputs = torch.randn(5, dtype=torch.float64), [hidden, *tree.nodes.parameters()]
    torch.testing.assert_close(
        torch.autograd.grad(found @ weights, inputs), torch.autograd.grad(expected @ weights, inputs)
    )


def test_a_new_tree_predicts_frequencies() -> None:
    frequencies = torch.tensor([0.1, 0.5, 0.05, 0.05, 0.3])
    tree = TreeSoftmax(3, 5)
    tree.set_tree(skewed_tree(5))
    tree.set_frequencies(frequencies)
    torch.testing.assert_close(tree.log_probs(torch.zeros(1, 3)).exp()[0], frequencies)


@pytest.mark.parametrize("children", [[[0, 0], [2, 3]], [[0, 4], [2, 3]], [[0, -1], [2, 3]], [[0, 1], [2, 9]]])
def test_nodes_that_form_no_tree_are_refused(children: list[list[int]]) -> None:
    tree = TreeSoftmax(1, 3)
    tree.set_tree(torch.tensor(children))
    with pytest.raises(SavedModelError, match="do not form a tree"):
        tree.log_probs(torch.ones(1, 1))
