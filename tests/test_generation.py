"""Text generation for one prompt and for a batch of prompts."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any

import numpy as np
import pytest

from lmzoo import zoo
from lmzoo.distribution import Distribution
from lmzoo.errors import ConfigurationError, TokenIdError
from lmzoo.generation import Decoding, SampledToken, generate, generate_batch
from lmzoo.language_model import LanguageModel
from lmzoo.neural.neural_lm import NeuralLM, NeuralStates
from lmzoo.stream import EOT
from lmzoo.testing import toy_data

V = 12
SHORT = {"tokens": 2000, "batch_size": 4, "chunk_size": 6, "learning_rate": 1e-2}
DECODER = {"d_model": 8, "n_layers": 2, "n_heads": 2, "window": 6, "training": SHORT}
SPECIES: dict[str, dict[str, Any]] = {
    "markov": {},
    "ngram": {},
    "low-rank-hmm": {"n_states": 8, "rank": 3, "d_embed": 4, "training": SHORT},
    "nplm": {"d_embed": 4, "d_hidden": 8, "training": SHORT},
    "lstm": {"d_embed": 4, "d_hidden": 8, "training": SHORT},
    "transformer": DECODER,
    "gpt2": DECODER,
}


def ids_of(tokens: Iterable[SampledToken]) -> list[int]:
    return [token.token_id for token in tokens]


every_species = pytest.mark.parametrize("species", SPECIES)


@cache
def fitted(species: str) -> LanguageModel[Any]:
    return zoo.create(species, V, **SPECIES[species]).fit(toy_data(V), seed=1)


@every_species
@pytest.mark.parametrize("compiled", [True, False])
def test_a_batch_equals_single_texts(species: str, compiled: bool) -> None:
    """A batch and single calls agree for prompts of any length, beyond windows, while texts end one after the other."""
    model = fitted(species)
    if isinstance(model, NeuralLM):
        model.kernel_threshold = 0 if compiled else 10**9
    prompts = [(), [1], [1], [2, 3, 4, 5, 6, 7, 8, 9], [3, EOT, 4], [5]] * 3
    for decoding in (None, Decoding(1.3, min_p=0.01)):
        settings: dict[str, Any] = {"decoding": decoding, "max_tokens": 30}
        batch = generate_batch(model, prompts, rng=4, **settings)
        rngs = np.random.default_rng(4).spawn(len(prompts))
        alone = [list(generate(model, prompt, rng=rng, **settings)) for prompt, rng in zip(prompts, rngs, strict=True)]
        texts = list(map(ids_of, batch))
        assert texts == list(map(ids_of, alone))
        for tokens, expected in zip(batch, alone, strict=True):
            log_probs = [token.log_prob for token in expected]
            np.testing.assert_allclose([token.log_prob for token in tokens], log_probs, rtol=0, atol=1e-4)
        assert len({tuple(text) for text in texts}) > 5
        assert len({len(text) for text in texts}) > 3


def test_a_network_reads_unfinished_texts_as_one_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    model = fitted("gpt2")
    assert isinstance(model, NeuralLM)
    sizes: list[int] = []
    forward = model.network.forward
    monkeypatch.setattr(model.network, "forward", lambda ids, memory: sizes.append(len(ids)) or forward(ids, memory))
    texts = list(map(ids_of, generate_batch(model, [[1, 2]] * 7, rng=0, max_tokens=20)))
    assert sizes[:2] == [1, 1], "equal prompts are read once: the start, and then the prompt"
    lengths = np.array([len(text) - (text[-1] == EOT) for text in texts])
    n_unfinished = [int((lengths > step).sum()) for step in range(19)]
    assert [size for size in sizes[2:] if size > 1] == [n for n in n_unfinished if n > 1]


@pytest.mark.parametrize("species", [name for name in SPECIES if name not in ("markov", "ngram")])
def test_contexts_of_any_length_are_read_together(species: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = fitted(species)
    assert isinstance(model, NeuralLM)
    rng = np.random.default_rng(0)
    contexts = [rng.integers(1, V, n).astype(np.int32) for n in (5, 0, 1, 12, 7, 300, 4, 6, 11, 290)]
    alone = np.array([model.next_log_probs(model.state_after(context)) for context in contexts])
    sizes: list[tuple[int, int]] = []
    forward = model.network.forward
    monkeypatch.setattr(
        model.network, "forward", lambda ids, memory: sizes.append(tuple(ids.shape)) or forward(ids, memory)
    )
    states = model.states_after(contexts)
    np.testing.assert_allclose(model.next_log_probs_batch(states), alone, rtol=0, atol=1e-5)
    assert sizes == [(1, 1), (1, 2), (4, 8), (2, 13), (2, 256), (2, 45)], "lengths 0, 1, 4-7, 8-15 and 256-511"


def test_states_of_a_batch_stay_joined_while_no_text_ends() -> None:
    model = fitted("lstm")
    states: Sequence[Any] = [model.state_after(np.array([token_id], np.int32)) for token_id in (1, 2, 3)]
    states = model.advance_batch(model.advance_batch(states, [4, 5, 6]), [1, 1, 1])
    assert isinstance(states, NeuralStates)
    assert len(states) == len(list(states)) == 3
    np.testing.assert_array_equal(states[-1].hidden, states.hidden[2])
    np.testing.assert_array_equal(states[1:].hidden, states.hidden[1:])
    with pytest.raises(IndexError):
        states[3]


def test_empty_batches_and_wrong_arguments() -> None:
    model, rng = fitted("markov"), np.random.default_rng(0)
    assert generate_batch(model, [], rng=rng) == []
    assert generate_batch(model, [[1], [2]], rng=rng, max_tokens=0) == [[], []]
    with pytest.raises(ConfigurationError, match=r"max_tokens must be .* at least 0, .*got -1"):
        generate_batch(model, [[1]], rng=rng, max_tokens=-1)
    with pytest.raises(ConfigurationError, match=r"max_tokens must be .* at least 0, .*got -1"):
        generate(model, max_tokens=-1)  # before the first token is asked for
    with pytest.raises(TokenIdError, match="token id 12 is outside"):
        generate_batch(model, [[1], [V]], rng=rng)


@pytest.mark.parametrize("size", [1, 7, 63, 64, 65, 3000])
def test_sampling_is_the_same_with_and_without_a_distribution(size: int) -> None:
    rng = np.random.default_rng(size)
    for seed in range(20):
        log_probs = 3 * rng.normal(size=size).round(1)  # some tokens are equally likely
        log_probs[1 : 1 + size // 3 : 2] = -np.inf
        for temperature, top_k, top_p, min_p in itertools.product((0.0, 0.7, 1.0), (None, 1, 5), (1.0, 0.9), (0, 0.1)):
            decoding = Decoding(temperature, top_k, top_p, min_p)
            expected = decoding(Distribution(log_probs)).sample(np.random.default_rng(seed))
            assert decoding.sample(log_probs, np.random.default_rng(seed)) == expected
    with pytest.raises(ConfigurationError, match="not NaN"):
        Decoding().sample(np.array([0.0, np.nan]), rng)


@every_species
def test_a_text_ends_with_any_of_the_given_ids(species: str) -> None:
    """The same random numbers give the same texts, cut off after the first ending."""
    model, prompts = fitted(species), [[1], [2], [3, 4]] * 8
    whole = list(map(ids_of, generate_batch(model, prompts, rng=5, max_tokens=40, end_ids=())))
    ended = list(map(ids_of, generate_batch(model, prompts, rng=5, max_tokens=40, end_ids=(3, 5))))
    for text, cut in zip(whole, ended, strict=True):
        ends = [index for index, token_id in enumerate(text) if token_id in (3, 5)]
        assert cut == text[: ends[0] + 1 if ends else None]
    assert any(EOT in text for text in ended), "EOT ends a document, and no longer the text"
    assert all(len(text) == 40 for text in whole)
    assert ids_of(generate(model, [1], rng=0, max_tokens=40, end_ids=range(model.vocab_size)))[1:] == []
    with pytest.raises(TokenIdError, match="token id 12 is outside"):
        generate(model, [1], end_ids=(V,))


def test_the_model_reads_no_token_in_vain(monkeypatch: pytest.MonkeyPatch) -> None:
    model, read = fitted("markov"), []
    advance = model.advance
    monkeypatch.setattr(model, "advance", lambda state, token_id: read.append(token_id) or advance(state, token_id))
    tokens = generate(model, [1], rng=0)
    next(tokens)
    assert read == [1], "the prompt alone"
    read.clear()
    text = ids_of(generate(model, rng=0, max_tokens=3))
    assert read == [token_id for token_id in text[:2] if token_id != EOT]


def test_log_probs_are_those_of_the_model_whatever_the_decoding() -> None:
    model = fitted("ngram")
    for decoding in (None, Decoding(temperature=0), Decoding(2.0, top_k=3, top_p=0.9)):
        tokens = list(generate(model, [2], rng=1, decoding=decoding, max_tokens=20))
        expected = model.log_probs([2, *ids_of(tokens)])[1:]
        np.testing.assert_allclose([token.log_prob for token in tokens], expected, rtol=0, atol=1e-6)
