"""Batches of text: every epoch reads each id once, in continuous sequences."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from lmzoo.errors import ConfigurationError
from lmzoo.models.nplm import NPLM
from lmzoo.neural.objectives.next_token import Chunk, read_chunk
from lmzoo.neural.training.batches import StreamBatches
from lmzoo.neural.training.settings import TrainConfig
from lmzoo.stream import EOT, TokenStream

NETWORK = NPLM(9, order=3, d_embed=2, d_hidden=2, direct=False, dropout=0.0)


def test_an_epoch_reads_every_prediction_once() -> None:
    documents = [[1, 2, 3], [], [4], [5, 6, 7, 8, 1, 2]]
    stream = TokenStream.from_documents(documents)  # 14 ids
    config = TrainConfig(batch_size=2, chunk_size=3)
    batches = StreamBatches(stream, config, seed=0)
    assert batches.n_chunks == 2  # 7 ids a row, in chunks of 3 and 4
    wanted = sorted(zip(stream.previous_ids().tolist(), stream.ids.tolist(), strict=True))
    arrangements = []
    for epoch in range(3):
        chunks = [batches.batch(2 * epoch + chunk, NETWORK) for chunk in range(2)]
        assert [chunk.at_start for chunk in chunks] == [True, False]
        inputs, targets = (torch.cat([chunk[part] for chunk in chunks], dim=1) for part in (0, 1))
        read = sorted(zip(inputs.flatten().tolist(), targets.flatten().tolist(), strict=True))
        assert read == wanted, "each id is predicted once, from the id before it in its document"
        assert torch.equal(inputs[:, 1:], targets[:, :-1]), "a row is continuous"
        arrangements.append(targets.tolist())
    assert arrangements[0] != arrangements[1] != arrangements[2]
    again = StreamBatches(stream, config, seed=0)
    assert again.batch(4, NETWORK).targets.tolist() == [row[:3] for row in arrangements[2]], (
        "a chunk is a function of seed and step"
    )


def test_an_open_end_joins_no_documents() -> None:
    stream = TokenStream([1, 2, EOT, 3, 4])
    inputs, targets, *_ = StreamBatches(stream, TrainConfig(batch_size=1, chunk_size=5), seed=0).batch(0, NETWORK)
    assert set(zip(inputs[0].tolist(), targets[0].tolist(), strict=True)) == {
        (EOT, 1),
        (1, 2),
        (2, EOT),
        (EOT, 3),
        (3, 4),
    }


def test_weights_stay_with_their_targets() -> None:
    rng = np.random.default_rng(0)
    stream = TokenStream.from_documents([rng.integers(1, 9, 5) for _ in range(20)])
    weights = stream.ids / 8  # the weight of a target tells which id it is
    config = TrainConfig(batch_size=3, chunk_size=7)
    batches = StreamBatches(stream, config, seed=0, rows=slice(1, 3), weights=weights)
    plain = StreamBatches(stream, config, seed=0, rows=slice(1, 3))
    for step in range(2 * batches.n_chunks):
        chunk = batches.batch(step, NETWORK)
        assert chunk.weights is not None
        assert torch.equal(chunk.weights * 8, chunk.targets.float())
        assert torch.equal(chunk.targets, plain.batch(step, NETWORK).targets)
    assert plain.batch(0, NETWORK).weights is None


def test_positions_say_where_each_target_is_in_the_text() -> None:
    stream = TokenStream.from_documents([[1, 2, 3], [], [4, 5], [6]])
    config = TrainConfig(batch_size=4, chunk_size=3)
    whole, part = (StreamBatches(stream, config, seed=0, rows=rows) for rows in (slice(None), slice(1, 3)))
    for step in range(3 * whole.n_chunks):
        chunk, own = whole.batch(step, NETWORK), part.batch(step, NETWORK)
        assert chunk.positions is not None
        assert own.positions is not None
        np.testing.assert_array_equal(stream.ids[chunk.positions.numpy()], chunk.targets)
        np.testing.assert_array_equal(stream.previous_ids()[chunk.positions.numpy()], chunk.inputs)
        assert torch.equal(own.positions, chunk.positions[1:3])


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (np.ones(3), r"one number for each of 4 ids, got shape \(3,\)"),
        (np.array([1, 1, -2.0, 1]), "at least 0, got -2.0"),
        (np.array([1, 1, np.nan, 1]), "finite numbers of at least 0, got nan"),
        (np.zeros(4), "nothing to learn"),
    ],
)
def test_unusable_weights_are_refused(weights: NDArray[np.float64], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        StreamBatches(TokenStream([1, 2, 3, EOT]), TrainConfig(), seed=0, weights=weights)


@pytest.mark.parametrize("n_ids", [1, 2, 70, 1000])
def test_any_text_fills_the_batch(n_ids: int) -> None:
    batches = StreamBatches(TokenStream(np.full(n_ids, 3)), TrainConfig(batch_size=8, chunk_size=16), seed=0)
    for step in range(2 * batches.n_chunks + 1):
        inputs, targets, *_ = batches.batch(step, NETWORK)
        assert inputs.shape == targets.shape
        assert inputs.shape[0] == 8
        assert 11 <= inputs.shape[1] <= 24


def test_a_part_of_the_sequences_is_reset_at_random() -> None:
    config = TrainConfig(batch_size=8, chunk_size=4, reset_rate=0.5)
    batches = StreamBatches(TokenStream(np.full(500, 3)), config, seed=0)
    resets = torch.stack([batches.batch(step, NETWORK).resets for step in range(40)])  # pyright: ignore[reportArgumentType]
    assert resets.float().mean().item() == pytest.approx(0.5, abs=0.1)
    part = StreamBatches(TokenStream(np.full(500, 3)), config, seed=0, rows=slice(2, 5)).batch(7, NETWORK).resets
    assert part is not None
    assert torch.equal(part, resets[7, 2:5]), "the same sequences are reset in any process"


def test_a_reset_sequence_is_read_from_the_initial_state() -> None:
    nn.init.normal_(NETWORK.C.weight)
    ids = torch.tensor([[4], [4]])
    state = (torch.tensor([[1], [1]]),)
    both, _ = read_chunk(NETWORK.eval(), Chunk(ids, ids, at_start=False, resets=torch.tensor([True, False])), state)
    fresh, _ = read_chunk(NETWORK, Chunk(ids, ids), state)
    continued, _ = read_chunk(NETWORK, Chunk(ids, ids, at_start=False), state)
    assert torch.equal(both, torch.stack([fresh[0], continued[1]]))
    assert not torch.equal(fresh[1], continued[1])
