"""Networks that learn a text while they read it: causality, replay, and what remains after the text."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch

from lmzoo import zoo
from lmzoo.neural import online
from lmzoo.neural.objectives.next_token import next_token
from lmzoo.neural.online import OnlineNetworkReader
from lmzoo.stream import EOT, TokenStream, TrainingData

V = 12
NOTHING = TrainingData(TokenStream(np.empty(0, np.int32)), TokenStream(np.empty(0, np.int32)))
TRAINING = {"batch_size": 4, "chunk_size": 8, "learning_rate": 1e-2, "bf16": False}
NETWORKS: dict[str, dict[str, Any]] = {
    "lstm": {"d_embed": 8, "d_hidden": 16, "dropout": 0.1, "training": TRAINING},
    "gpt2": {"d_model": 8, "n_layers": 1, "n_heads": 2, "window": 8, "training": TRAINING},
    "nplm": {"training": TRAINING},
}


def text(n: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).integers(0, V, n).astype(np.int32)


def reader(species: str = "lstm", seed: int = 1) -> Any:
    model: Any = zoo.create(species, V, **NETWORKS[species])
    return model.online_reader(seed)


@pytest.mark.parametrize("species", NETWORKS)
def test_predictions_do_not_depend_on_the_pieces(species: str) -> None:
    ids = text(90)
    whole, pieces = reader(species).read(ids), [reader(species)] * 1
    rows = np.concatenate([pieces[0].read(piece) for piece in np.split(ids, [1, 3, 20, 64, 65])])
    np.testing.assert_allclose(rows, whole, atol=1e-4)
    np.testing.assert_allclose(np.exp(rows).sum(axis=1), 1)


@pytest.mark.parametrize("species", NETWORKS)
def test_later_tokens_do_not_matter(species: str) -> None:
    ids = text(60)
    changed = ids.copy()
    changed[37:] = text(23, seed=5)
    found, expected = reader(species).read(changed), reader(species).read(ids)
    np.testing.assert_allclose(found[:38], expected[:38], atol=1e-6)
    assert np.abs(found[39:] - expected[39:]).max() > 1e-3


def test_a_network_learns_what_recurs() -> None:
    """The text repeats six tokens: after 150 chunks, the next one is nearly certain."""
    ids = np.tile(np.array([3, 1, 4, 1, 5, 9], np.int32), 200)
    rows = (
        zoo.create("lstm", V, d_embed=8, d_hidden=16, training=TRAINING | {"learning_rate": 3e-2})
        .online_reader(1)
        .read(ids)
    )
    surprisals = -rows[np.arange(ids.size), ids]
    assert surprisals[:8].mean() > 2
    assert surprisals[-60:].mean() < 0.2


def test_chunks_are_read_again() -> None:
    """Three of four sequences move within the text so far, and each reads most of it at some time."""
    one: Any = reader()
    assert isinstance(one, OnlineNetworkReader)
    places = []
    for piece in np.split(text(80 * 8), 80):
        one.read(piece)
        places.append(one._places.copy())
    places = np.array(places)
    assert places.shape == (80, 3)
    assert (places <= 8 * np.arange(1, 81)[:, None]).all()
    assert len(np.unique(places[40:])) > 60


def test_the_same_seed_gives_the_same_predictions() -> None:
    ids, state = text(50), torch.get_rng_state()
    np.testing.assert_array_equal(reader(seed=3).read(ids), reader(seed=3).read(ids))
    assert np.abs(reader(seed=3).read(ids) - reader(seed=4).read(ids)).max() > 1e-3
    assert torch.equal(torch.get_rng_state(), state)


def test_the_network_remains() -> None:
    ids = np.append(text(71), EOT).astype(np.int32)
    model: Any = zoo.create("lstm", V, **NETWORKS["lstm"])
    one = model.online_reader(1)
    one.read(ids)
    assert not model.fitted
    one.finish(TrainingData(TokenStream(ids), TokenStream(ids)))
    assert model.fitted
    fresh = text(5, seed=9)
    expected = one.read(fresh)  # a document begins, as the text ends with EOT, and no chunk ends in it
    np.testing.assert_allclose(model.log_probs(fresh), expected[np.arange(5), fresh], atol=1e-5)


@pytest.mark.parametrize(
    ("n", "n_steps", "n_learned"),
    [(0, 0, 0), (5, 1, 5), (8, 1, 8), (15, 1, 8), (23, 1, 16), (24, 1, 24), (29, 1, 24), (47, 2, 40)],
)
def test_the_chunks_that_remain_are_learned(
    n: int, n_steps: int, n_learned: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A step learns three new chunks of 8 tokens and nine replayed ones; the last step may have fewer new ones."""
    chunks: list[Any] = []
    monkeypatch.setattr(online, "next_token", lambda *args: chunks.append(args[1]) or next_token(*args))
    model: Any = zoo.create("lstm", V, d_embed=8, d_hidden=16, training=TRAINING | {"batch_size": 12})
    one, ids = model.online_reader(1), text(n)
    one.read(ids)
    one.finish(NOTHING)
    assert model.fitted
    assert len(chunks) == n_steps
    new = [int(token_id) for chunk in chunks for token_id in chunk.targets[:-9].flatten()]
    assert new == ids[:n_learned].tolist()


def test_a_gradient_that_is_not_finite_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    factors = iter([1.0, np.nan, 1.0, np.inf, 1.0])

    def scaled(*args: Any) -> Any:
        step = next_token(*args)
        factor = next(factors)
        return step._replace(total=step.total * factor, state=tuple(part * factor for part in step.state))

    monkeypatch.setattr(online, "next_token", scaled)
    one = reader()
    weights = [one._network.head.weight.detach().clone()]
    for piece in np.split(text(40), 5):
        assert np.isfinite(one.read(piece)).all()
        weights.append(one._network.head.weight.detach().clone())
    changed = [not torch.equal(old, new) for old, new in itertools.pairwise(weights)]
    assert changed == [True, False, True, False, True]
