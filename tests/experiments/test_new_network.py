"""A new network is one file and one registration: every experiment then knows it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lmzoo import zoo
from lmzoo.experiments.budgets import settings_for
from lmzoo.experiments.compare import compare
from lmzoo.experiments.ladder import ladder, settings_of
from lmzoo.experiments.plan import RunPlan

FILE = '''
"""A network that predicts from the last token alone."""
import torch
from torch import nn

from lmzoo.neural.network import Network
from lmzoo.neural.neural_lm import NeuralLM
from lmzoo.neural.training.settings import TrainConfig


class LastToken(Network):
    def __init__(self, vocab_size, *, d_embed):
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, d_embed)
        self.head = nn.Linear(d_embed, vocab_size)

    def initial_state(self, batch_size):
        return ()

    def forward(self, ids, state):
        return self.embedding(ids), state


def last_token(vocab_size, *, d_embed=32, training=None):
    config = TrainConfig(tokens=50_000).changed(training)
    return NeuralLM(vocab_size, LastToken, {"d_embed": d_embed}, config, context_size=1)


SHORT = {"tokens": 3000, "batch_size": 4, "chunk_size": 8}
PRESETS = {
    "last_token": {
        "quick": {"d_embed": 8, "training": SHORT},
        "ladder": {"d_embed": 4, "training": {"batch_size": 64}},
        "ladder/markov-1": {"training": {"tokens": 20_000}},
    }
}
'''


@pytest.fixture
def species(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    (tmp_path / "last_token_network.py").write_text(FILE, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    card = zoo.Card("last-token", "last_token_network:last_token", "Mine", 2026, "-", "-", "-", "-", "-", "-")
    zoo.register(card)
    yield card.name
    del zoo._registered[card.name]
    sys.modules.pop("last_token_network", None)


@pytest.mark.slow
def test_compare_and_ladder_know_a_new_network(species: str, corpus_folder: Path, tmp_path: Path) -> None:
    assert settings_for(species, "standard") == {}, "no preset: the defaults"
    comparison = compare(tmp_path / "run", species=[species, "unigram"], corpus=corpus_folder, tokenizer="byte")
    unigram, network = comparison.records  # networks are trained last
    assert network.settings == settings_for(species, "quick")
    assert network.settings["d_embed"] == 8
    assert (network.bits_per_byte or 9) < (unigram.bits_per_byte or 0)

    (record,) = ladder(tmp_path / "ladder", RunPlan(species=[species]), tasks=["markov-1"]).records
    assert record.settings["training"] == {"tokens": 20_000, "batch_size": 64, "chunk_size": 8}
    assert settings_of("copying", species, "quick")["training"]["tokens"] == 600_000
