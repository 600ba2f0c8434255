"""Muon against torch's own implementation, and against the singular value decomposition."""

from __future__ import annotations

import pytest
import torch

from lmzoo.neural.training.muon import Muon, orthogonalised


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.bfloat16, 2e-3), (torch.float32, 2e-2)])
def test_steps_are_those_of_torch(dtype: torch.dtype, tolerance: float) -> None:
    torch.manual_seed(0)
    ours = [torch.randn(8, 8), torch.randn(16, 8), torch.randn(8, 8)]
    theirs = [matrix.clone() for matrix in ours]
    mine = Muon(ours, weight_decay=0.1, dtype=dtype)
    reference = torch.optim.Muon(theirs, lr=0.1, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
    for _ in range(3):
        for one, other in zip(ours, theirs, strict=True):
            one.grad = torch.randn_like(one)
            other.grad = one.grad.clone()
        mine.step(0.1)
        reference.step()
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, atol=tolerance, rtol=0)


@pytest.mark.parametrize("shape", [(3, 12, 12), (2, 6, 24), (2, 24, 6)])
def test_singular_values_come_close_to_one_and_singular_vectors_stay(shape: tuple[int, int, int]) -> None:
    torch.manual_seed(1)
    matrices = torch.randn(shape)
    result = orthogonalised(matrices, torch.float32)
    u, _, vh = torch.linalg.svd(matrices, full_matrices=False)
    inside = u.mT @ result @ vh.mT  # diagonal in the basis of the singular vectors
    diagonal = inside.diagonal(dim1=1, dim2=2)
    torch.testing.assert_close(inside, torch.diag_embed(diagonal), atol=1e-4, rtol=0)
    assert 0.5 < float(diagonal.min()) <= float(diagonal.max()) < 1.3


def test_a_matrix_without_gradient_and_a_gradient_of_zero_change_nothing_but_the_decay() -> None:
    still, zero = torch.ones(4, 4), torch.ones(4, 4)
    zero.grad = torch.zeros(4, 4)
    Muon([still, zero], weight_decay=0.5, dtype=torch.float32).step(0.1)
    assert (still == 1).all()
    torch.testing.assert_close(zero, torch.full((4, 4), 0.95))
