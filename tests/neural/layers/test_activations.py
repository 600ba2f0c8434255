"""Activation functions: values and gradients equal those of torch."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from lmzoo.neural.layers import activations


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_gelu_equals_that_of_torch(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(activations, "_BLOCK_ELEMENTS", 100)
    x = torch.linspace(-9, 9, 7 * 60).view(60, 7).t().to(dtype).requires_grad_()  # rows are not in one piece
    weights = torch.linspace(1, 2, 7 * 60).view(7, 60).to(dtype)
    exact = x.detach().double().requires_grad_()
    expected = F.gelu(exact, approximate="tanh")
    found = activations.gelu(x)
    assert found.dtype == dtype
    assert found.grad_fn is not None
    assert "_Gelu" in type(found.grad_fn).__name__
    (gradient,) = torch.autograd.grad((found * weights).sum(), x)
    (expected_gradient,) = torch.autograd.grad((expected * weights.double()).sum(), exact)
    tolerance = 1e-5 if dtype == torch.float32 else 0.02
    torch.testing.assert_close(found.double(), expected, atol=tolerance, rtol=tolerance)
    torch.testing.assert_close(gradient.double(), expected_gradient, atol=tolerance, rtol=tolerance)
