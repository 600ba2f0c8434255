"""Blocks of a text for prequential coding: a model that was trained on the text before a block predicts the block."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lmzoo.stream import TokenStream, TrainingData

_FIRST_SHARE = 1 / 1024
"""The first block ends at the first end of a document after this share of the text."""
_MIN_TOKENS = 256
"""Minimal length of the first block: a model that was trained on less is no better than the uniform distribution."""


@dataclass(frozen=True)
class Block:
    """A block of a text in prequential coding: whole documents, all compressed by the same model.

    The block consists of the tokens at the positions `start` to `stop` - 1.
    """

    start: int
    stop: int
    n_bytes: int
    """UTF-8 bytes of the documents."""


def cut_into_blocks(stream: TokenStream, document_bytes: NDArray[np.int64], growth: float) -> list[Block]:
    """Divides a text into blocks for prequential coding: each block makes the text about `growth` times as long.

    Blocks end at the ends of documents. `document_bytes` (D,): UTF-8 bytes of each of the D documents of `stream`.
    """
    n_growths = math.ceil(math.log(1 / _FIRST_SHARE, growth))
    lengths = len(stream) * growth ** -np.arange(n_growths, -1, -1.0)
    lengths = np.clip(lengths, _MIN_TOKENS, len(stream))
    last = np.unique(np.searchsorted(stream.ends, lengths))  # index of the last document of each block
    stops = stream.ends[last]
    n_bytes = np.diff(document_bytes.cumsum()[last], prepend=0)
    starts = np.append(0, stops[:-1])
    return [Block(*ends) for ends in zip(starts.tolist(), stops.tolist(), n_bytes.tolist(), strict=True)]


def training_data(past: TokenStream) -> TrainingData:
    """Divides a text into a train split and a validation split, which is about the last tenth, to train a model on it.

    `past` is the text before the block that the model compresses. The validation split starts at the beginning of a
    document, if one starts in the second half of the text.
    """
    tenth = len(past) * 9 // 10
    start = int(past.document_starts(tenth))
    cut = start if 2 * start > len(past) else tenth
    return TrainingData(TokenStream(past.ids[:cut]), TokenStream(past.ids[cut:]))
