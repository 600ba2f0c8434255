"""The sample of the training text, which tells how much of a text was seen in training."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lmzoo import Predictor
from lmzoo.arrays import save_arrays
from lmzoo.corpora import training_sample
from lmzoo.corpora.training_sample import TrainingSample
from lmzoo.errors import SavedModelError
from lmzoo.stream import TokenStream


def stream(n_tokens: int, seed: int) -> TokenStream:
    """Returns random documents of 50 tokens from a vocabulary of 1,000."""
    ids = np.random.default_rng(seed).integers(1, 1000, n_tokens).astype(np.int32)
    ids[49::50] = 0
    return TokenStream(ids)


def runs(text: TokenStream, length: int) -> list[tuple[int, ...]]:
    """Returns all runs of `length` tokens within the documents; a shorter document is one run."""
    return [
        tuple(document[start : start + length].tolist())
        for document in text.documents()
        for start in range(max(1, len(document) - length + 1))
    ]


def test_the_share_is_that_of_the_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    known, new = stream(5000, 1), stream(3000, 2)
    short = TokenStream(np.array([7, 8, 0, 9, 0], np.int32))
    mixed = TokenStream(np.concatenate([known.ids[:1000], new.ids, short.ids]))
    monkeypatch.setattr(training_sample, "_BLOCK", 700)  # runs lie across the borders of blocks
    sample = TrainingSample.of(TokenStream(np.concatenate([known.ids, short.ids[:3]])), n_words=4000)
    assert sample.length == 8
    inside = {*runs(known, 8), (7, 8, 0)}
    expected = np.mean([run in inside for run in runs(mixed, 8)])
    assert sample.share_in(mixed) == pytest.approx(expected)
    assert 0.2 < expected < 0.3
    assert sample.share_in(known) == 1
    assert sample.share_in(new) == 0


def test_a_large_text_is_sampled() -> None:
    known, new = stream(200_000, 1), stream(100_000, 2)
    sample = TrainingSample.of(known, n_words=200_000)
    assert len(sample.hashes) == 1 << 14
    assert sample.share_in(TokenStream(known.ids[:50_000])) == 1
    mixed = TokenStream(np.concatenate([known.ids[:100_000], new.ids]))
    assert sample.share_in(mixed) == pytest.approx(0.5, abs=0.03)


def test_the_length_of_a_run_follows_the_words() -> None:
    assert [TrainingSample.of(stream(1000, 1), n_words).length for n_words in (2000, 1000, 200, 0)] == [4, 8, 32, 64]


def test_a_predictor_keeps_the_sample(markov_predictor: Predictor, saved: Path, tmp_path: Path) -> None:
    kept, sample = Predictor.load(saved).training_sample, markov_predictor.training_sample
    assert kept
    assert sample
    assert kept.length == sample.length
    np.testing.assert_array_equal(kept.hashes, sample.hashes)
    home = markov_predictor.save(tmp_path / "home")
    save_arrays(home / "training_sample.safetensors", {**sample.arrays(), "hashes": sample.hashes[::-1].copy()})
    with pytest.raises(SavedModelError, match="sample of the training text is damaged"):
        Predictor.load(home)
