"""The short causal convolution, against a definition with loops."""

from __future__ import annotations

import torch

from lmzoo.neural.layers.short_convolution import ShortConvolution


def test_adds_the_weighted_vectors_of_the_tokens_before() -> None:
    generator = torch.Generator().manual_seed(0)
    layer = ShortConvolution(3, d_model=4)
    layer.weight.data = torch.randn(2, 4, generator=generator)
    x, previous = torch.randn(2, 5, 4, generator=generator), torch.randn(2, 2, 4, generator=generator)
    in_document = torch.randint(0, 2, (2, 5, 2), generator=generator).float()
    y, last = layer(x, previous, in_document)
    history = torch.cat([previous, x], dim=1)
    for row in range(2):
        for t in range(5):
            expected = x[row, t].clone()
            for lag in (1, 2):
                if in_document[row, t, lag - 1]:
                    expected += layer.weight[lag - 1] * history[row, t + 2 - lag]
            torch.testing.assert_close(y[row, t], expected)
    assert torch.equal(last, x[:, -2:])


def test_is_the_identity_at_first_and_continues_over_chunks() -> None:
    generator = torch.Generator().manual_seed(1)
    layer = ShortConvolution(4, d_model=3)
    x, start, in_document = torch.randn(1, 6, 3, generator=generator), torch.zeros(1, 3, 3), torch.ones(1, 6, 3)
    assert torch.equal(layer(x, start, in_document)[0], x)
    layer.weight.data = torch.randn(3, 3, generator=generator)
    whole, last = layer(x, start, in_document)
    first, middle = layer(x[:, :1], start, in_document[:, :1])  # a chunk shorter than the convolution
    rest, end = layer(x[:, 1:], middle, in_document[:, 1:])
    torch.testing.assert_close(torch.cat([first, rest], dim=1), whole)
    assert torch.equal(end, last)
