"""Blocks of a text for prequential coding."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prequential_runs import stops_of

from lmzoo.experiments.blocks import Block, cut_into_blocks, training_data
from lmzoo.stream import TokenStream


def stream_of(sizes: list[int]) -> TokenStream:
    """Returns a stream of documents with the given numbers of tokens, EOT tokens included."""
    return TokenStream.from_documents([np.ones(size - 1, np.int32) for size in sizes])


def test_blocks_double() -> None:
    # Of 2,048 tokens in documents of 128 the first block has the least size, 256 tokens, and 254 bytes of text.
    blocks = cut_into_blocks(stream_of([128] * 16), np.full(16, 127), 2.0)
    assert blocks == [Block(0, 256, 254), Block(256, 512, 254), Block(512, 1024, 508), Block(1024, 2048, 1016)]
    # Documents end at 300, 700, 1000: 256 is reached at 300, 500 at 700, 1000 at 1000.
    blocks = cut_into_blocks(stream_of([300, 400, 300]), np.array([299, 399, 299]), 2.0)
    assert blocks == [Block(0, 300, 299), Block(300, 700, 399), Block(700, 1000, 299)]


@given(st.lists(st.integers(1, 3000), min_size=1, max_size=60), st.floats(1.01, 5))
def test_blocks_are_runs_of_documents(sizes: list[int], growth: float) -> None:
    blocks = cut_into_blocks(stream_of(sizes), np.array(sizes) - 1, growth)
    ends = np.cumsum(sizes).tolist()
    assert [block.start for block in blocks] == [0, *(block.stop for block in blocks[:-1])]
    assert [ends.index(block.stop) + 1 for block in blocks] == stops_of(sizes, growth)
    assert blocks[-1].stop == ends[-1]
    assert sum(block.n_bytes for block in blocks) == sum(sizes) - len(sizes)


@pytest.mark.parametrize(
    ("sizes", "cut"),
    [
        ([60, 30, 5, 5], 90),  # a document starts where the last tenth does
        ([60, 28, 12], 88),  # one starts a little before
        ([60, 40], 60),
        ([40, 60], 90),  # from the start of the last document on it would be more than half
        ([100], 90),
    ],
)
def test_the_last_tenth_is_valid(sizes: list[int], cut: int) -> None:
    split = training_data(stream_of(sizes))
    assert (len(split.train), len(split.valid)) == (cut, 100 - cut)
