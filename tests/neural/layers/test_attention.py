"""Attention: values and gradients equal those of torch."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from lmzoo.models import transformer
from lmzoo.models.transformer import Attention
from lmzoo.neural import anchored
from lmzoo.neural.layers.attention import attention


def test_attention_equals_that_of_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without rotations and norms of queries and keys, ours is the attention of 2017."""
    monkeypatch.setattr(transformer, "rms_norm", lambda x: x)
    ours, theirs = Attention(12, 3), nn.MultiheadAttention(12, 3, bias=False, batch_first=True)
    with torch.no_grad():
        theirs.in_proj_weight.copy_(ours.qkv.weight)
        theirs.out_proj.weight.copy_(ours.out.weight)
    x = torch.randn(2, 6, 12)
    mask = torch.ones(6, 6, dtype=torch.bool).tril()
    y, cached = ours(x, torch.zeros(2, 2, 3, 0, 4), mask, (torch.ones(6, 4), torch.zeros(6, 4)))
    expected, _ = theirs(x, x, x, attn_mask=~mask, need_weights=False)
    torch.testing.assert_close(y, expected)
    assert cached.shape == (2, 2, 3, 0, 4)


def test_extending_a_cache_equals_reading_at_once() -> None:
    torch.manual_seed(0)
    layer, x = anchored.Attention(12, 3).eval(), torch.randn(2, 6, 12)
    mask = torch.ones(6, 6, dtype=torch.bool).tril()
    expected = layer(x, mask)
    first, cache = layer.extend(x[:, :4], torch.zeros(2, 2, 3, 0, 4), None, mask[:4, :4])
    second, cache = layer.extend(x[:, 4:], cache, None, mask[4:])
    torch.testing.assert_close(torch.cat([first, second], dim=1), expected)
    assert cache.shape == (2, 2, 3, 6, 4)


@pytest.mark.parametrize("per_row", [False, True])
def test_the_gradient_of_attention_is_that_of_torch(per_row: bool) -> None:
    q, k, v = (torch.randn(2, 3, n, 4, dtype=torch.float64).requires_grad_() for n in (5, 7, 7))
    mask = torch.rand(*((2, 1) if per_row else ()), 5, 7) > 0.5
    mask[..., 0] = True
    weights = torch.randn(2, 3, 5, 4, dtype=torch.float64)
    found = torch.autograd.grad((attention(q, k, v, mask) * weights).sum(), (q, k, v))
    expected = torch.autograd.grad((F.scaled_dot_product_attention(q, k, v, attn_mask=mask) * weights).sum(), (q, k, v))
    torch.testing.assert_close(found, expected)
