"""Encoded corpora: progress while a long text is encoded, and the sample from which byte pairs are learned."""

from __future__ import annotations

import numpy as np
import pytest
from corpora_on_disk import toy

from lmzoo import train_tokenizer
from lmzoo.corpora import encoded
from lmzoo.corpora.encoded import encode_corpus, evenly_sampled, tokenizer_for
from lmzoo.stream import EOT
from lmzoo.system.progress import Progress
from lmzoo.tokenizers import tokenizer


def test_progress_moves_while_one_long_document_is_encoded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokenizer, "_BATCH_CHARACTERS", 100)
    seen: list[Progress] = []
    corpus = toy(["the cat sat on the mat. " * 500], ["a cat"], ["a mat"])
    result = encode_corpus(corpus, train_tokenizer("byte", []), seen.append)
    done = [progress.done for progress in seen]
    total = 500 * 24 + 5 + 5
    assert done == sorted(done)
    assert (done[-1], {progress.total for progress in seen}) == (total, {total})
    assert max(np.diff([0, *done])) < total / 50
    assert result.train.stream.ids.tolist() == [*result.tokenizer.encode(corpus.train[0].text), EOT]


def test_an_even_sample_reaches_from_the_first_text_to_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoded, "_PASSAGE_CHARACTERS", 10)
    texts = [f"{n:04d} " * 20 for n in range(100)]
    sample = evenly_sampled(texts, 10_000, 2500)
    assert 2500 <= sum(map(len, sample)) <= 2520
    numbers = [int(passage.split()[0]) for passage in sample]
    assert numbers == sorted(numbers)
    assert (numbers[0], max(np.diff(numbers))) == (0, 1)
    assert numbers[-1] >= 98


def test_only_byte_pairs_are_learned_from_a_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    corpus = toy(["one two three four"] * 50 + ["rare rare"], ["a"], ["b"])
    whole = tokenizer_for(corpus, "bpe:270")
    assert whole.fingerprint == train_tokenizer("bpe:270", [document.text for document in corpus.train]).fingerprint
    monkeypatch.setattr(encoded, "_BYTE_PAIR_CHARACTERS", 100)
    seen: list[Progress] = []
    tokenizer_for(corpus, "bpe:270", seen.append)
    assert 100 <= seen[-1].done < 130
    assert seen[-1].total == seen[-1].done
    assert "rare" in tokenizer_for(corpus, "word:2").entries
