"""Cross-entropy in slices: sums, single losses and gradients equal those of torch."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from lmzoo.neural.layers import cross_entropy
from lmzoo.neural.layers.cross_entropy import linear_cross_entropy, token_nats


def leaves(*tensors: Tensor) -> list[Tensor]:
    return [tensor.clone().requires_grad_() for tensor in tensors]


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(("n_rows", "vocab_size"), [(1, 3), (300, 5), (400, 8192)])
def test_linear_cross_entropy_is_the_weighted_sum_of_torch(n_rows: int, vocab_size: int, weighted: bool) -> None:
    torch.manual_seed(0)
    hidden, weight, bias = torch.randn(n_rows, 4), torch.randn(vocab_size, 4), torch.randn(vocab_size)
    targets = torch.randint(vocab_size, (n_rows,))
    weights = torch.rand(n_rows) * (torch.rand(n_rows) > 0.3) if weighted else None
    ours, theirs = leaves(hidden, weight, bias), leaves(hidden, weight, bias)
    total = linear_cross_entropy(ours[0], ours[1], ours[2], targets, weights)
    nats = F.cross_entropy(F.linear(*theirs), targets, reduction="none")
    expected = nats.sum() if weights is None else (nats * weights).sum()
    torch.testing.assert_close(total, expected)
    (3 * total).backward()
    (3 * expected).backward()
    for our, their in zip(ours, theirs, strict=True):
        torch.testing.assert_close(our.grad, their.grad, rtol=1e-4, atol=1e-5)


def test_linear_cross_entropy_survives_logits_far_apart() -> None:
    hidden, weight, bias = torch.ones(1, 1), torch.tensor([[500.0], [-500.0]]), torch.zeros(2)
    assert linear_cross_entropy(hidden, weight, bias, torch.tensor([1])).item() == 1000


@pytest.mark.parametrize("has_bias", [True, False])
@pytest.mark.parametrize("block_elements", [1, 30, 1 << 21])
def test_token_nats_and_gradients_of_functions_of_them_equal_those_of_torch(
    block_elements: int, has_bias: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As for the log-probability of a sequence in DPO: the loss is not linear in the single losses."""
    monkeypatch.setattr(cross_entropy, "_BLOCK_ELEMENTS", block_elements)
    torch.manual_seed(0)
    tensors = [torch.randn(8, 4), torch.randn(9, 4), *([torch.randn(9)] if has_bias else [])]
    targets = torch.randint(9, (8,))
    ours, theirs = leaves(*tensors), leaves(*tensors)
    found = token_nats(ours[0], ours[1], ours[2] if has_bias else None, targets)
    expected = F.cross_entropy(F.linear(*theirs), targets, reduction="none")
    torch.testing.assert_close(found, expected)
    for nats in (found, expected):
        F.logsigmoid(nats[:4].sum() - 1.5 * nats[4:].sum()).backward()
    for our, their in zip(ours, theirs, strict=True):
        torch.testing.assert_close(our.grad, their.grad)


def test_token_nats_under_autocast_multiply_in_bfloat16() -> None:
    torch.manual_seed(0)
    hidden, weight, bias = leaves(torch.randn(8, 4), torch.randn(9, 4), torch.randn(9))
    targets = torch.randint(9, (8,))
    exact = token_nats(hidden, weight, bias, targets)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = token_nats(hidden, weight, bias, targets)
    assert rounded.dtype == torch.float32
    assert not torch.equal(rounded, exact)
    torch.testing.assert_close(rounded, exact, rtol=0.1, atol=0.1)
    rounded.sum().backward()
    assert hidden.grad is not None
    assert hidden.grad.dtype == torch.float32
