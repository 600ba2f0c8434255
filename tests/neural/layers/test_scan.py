"""The parallel scan of a linear recurrence, against a loop over time."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lmzoo.neural.layers.scan import linear_scan


def step_by_step(keep: Tensor, new: Tensor, state: Tensor) -> Tensor:
    steps = []
    for t in range(keep.shape[1]):
        state = keep[:, t] * state + new[:, t]
        steps.append(state)
    return torch.stack(steps, dim=1)


@settings(max_examples=25)
@given(n_steps=st.integers(1, 40), seed=st.integers(0, 2**32))
def test_equals_a_loop(n_steps: int, seed: int) -> None:
    """Values and gradients; also where nothing is kept, as at the start of a document."""
    generator = torch.Generator().manual_seed(seed)
    shape = 2, n_steps, 3
    keep = torch.rand(shape, generator=generator, dtype=torch.float64)
    keep[torch.rand(shape, generator=generator) < 0.1] = 0
    new, state = (torch.randn(size, generator=generator, dtype=torch.float64) for size in (shape, (2, 3)))
    parts = [part.requires_grad_() for part in (keep, new, state)]
    found, expected = linear_scan(*parts), step_by_step(*parts)
    torch.testing.assert_close(found, expected)
    weights = torch.randn(shape, generator=generator, dtype=torch.float64)
    torch.testing.assert_close(
        torch.autograd.grad((found * weights).sum(), parts), torch.autograd.grad((expected * weights).sum(), parts)
    )


def test_single_precision_is_exact_over_long_texts() -> None:
    """Where nearly all is kept, and where so little is kept that a quotient of products would overflow."""
    generator = torch.Generator().manual_seed(0)
    new = torch.randn(2, 2000, 3, generator=generator)
    for keep in (torch.full_like(new, 0.999), torch.full_like(new, 1e-6), torch.rand(new.shape, generator=generator)):
        exact = step_by_step(keep.double(), new.double(), torch.ones(2, 3, dtype=torch.float64))
        found = linear_scan(keep, new, torch.ones(2, 3))
        torch.testing.assert_close(found.double(), exact, rtol=0, atol=1e-5 * float(exact.abs().max()))
