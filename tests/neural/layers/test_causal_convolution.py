"""The causal convolution, against torch's own convolution, document by document."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from lmzoo.neural.layers.causal_convolution import CausalConvolution
from lmzoo.neural.layers.windows import lags_in_document, positions_in_document
from lmzoo.stream import EOT


def test_equals_a_convolution_of_each_document() -> None:
    """A text of three documents, read in chunks of every size."""
    size, d_input, d_output = 3, 4, 5
    generator = torch.Generator().manual_seed(0)
    layer = CausalConvolution(size, d_input, d_output).double()
    ids = torch.tensor([[EOT, 3, 4, EOT, EOT, 5, 6, 7, 8]])
    x = torch.randn(1, 9, d_input, generator=generator, dtype=torch.float64)
    # Weights (E, k, D), newest token first, as torch has them: (E, D, k), oldest token first
    kernel = layer.linear.weight.view(d_output, size, d_input).flip(1).transpose(1, 2)
    documents = [
        F.conv1d(F.pad(x[:, start:end].mT, (size - 1, 0)), kernel, layer.linear.bias).mT
        for start, end in ((0, 3), (3, 4), (4, 9))
    ]
    expected = torch.cat(documents, dim=1)
    for chunk_size in range(1, 10):
        n_read, previous, outputs = torch.zeros(1, dtype=torch.int64), torch.zeros(1, size - 1, d_input).double(), []
        for part_of_ids, part in zip(ids.split(chunk_size, 1), x.split(chunk_size, 1), strict=True):
            positions = positions_in_document(part_of_ids, n_read)
            y, previous = layer(part, previous, lags_in_document(positions, size).to(x.dtype))
            n_read = positions[:, -1] + 1
            outputs.append(y)
        torch.testing.assert_close(torch.cat(outputs, dim=1), expected)


def test_positions_count_from_the_last_end_of_text() -> None:
    ids = torch.tensor([[3, 4, EOT, 5, EOT], [EOT, EOT, 6, 7, 8]])
    positions = positions_in_document(ids, torch.tensor([7, 2]))
    assert positions.tolist() == [[7, 8, 0, 1, 0], [0, 0, 1, 2, 3]]
    assert lags_in_document(positions[:1, 2:4], 3).tolist() == [[[False, False], [True, False]]]
