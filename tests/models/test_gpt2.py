"""The decoders with absolute positions: `gpt2` and `transformer-2017`, and anchored windows."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lmzoo import zoo
from lmzoo.errors import ConfigurationError
from lmzoo.generation import generate
from lmzoo.models.gpt2 import GPT2
from lmzoo.models.transformer_2017 import Transformer2017, sinusoids
from lmzoo.neural.anchored import AnchoredNetwork
from lmzoo.neural.objectives.next_token import Chunk, next_token
from lmzoo.stream import EOT, TokenStream
from lmzoo.testing import toy_data

V, C = 12, 6
SIZES: dict[str, Any] = {"d_model": 8, "n_layers": 2, "n_heads": 2, "window": C, "dropout": 0.2}
NETWORKS = {"gpt2": GPT2, "transformer-2017": Transformer2017}


def network(species: str, window: int = C) -> AnchoredNetwork:
    """Random weights large enough that every input and its position matter."""
    torch.manual_seed(0)
    made = NETWORKS[species](V, **{**SIZES, "window": window}).eval()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return made


def window_start(position: int, window: int) -> int:
    """By the definition: the last multiple of S that leaves C - S inputs before the position; 0 while all fit."""
    step = window // 2
    return 0 if position < window else max(s for s in range(0, position, step) if position - s >= window - step)


@torch.inference_mode()
def from_scratch(made: AnchoredNetwork, ids: list[int]) -> torch.Tensor:
    """(T, D): every position with its window read alone, from the initial state."""
    rows, begin = [], 0
    for place, token_id in enumerate(ids):
        begin = place if token_id == EOT else begin
        start = begin + window_start(place - begin, made.window)
        x = made.embed(torch.tensor([ids[start : place + 1]]), torch.arange(place + 1 - start))
        for block in made.blocks:
            x = block(x, torch.ones(x.shape[1], x.shape[1]).tril() > 0)
        rows.append(made.finish(x)[0, -1])
    return torch.stack(rows)


@pytest.mark.parametrize("species", NETWORKS)
@settings(max_examples=40)
@given(data=st.data())
def test_any_chunks_of_any_rows_read_each_window_as_from_scratch(species: str, data: st.DataObject) -> None:
    window = data.draw(st.integers(2, 9))
    made = network(species, window)
    n_rows, length = data.draw(st.integers(1, 3)), data.draw(st.integers(1, 40))
    token = st.one_of(st.integers(1, V - 1), st.integers(1, V - 1), st.integers(0, V - 1))
    ids = [data.draw(st.lists(token, min_size=length, max_size=length)) for _ in range(n_rows)]
    cuts = sorted({0, length, *data.draw(st.lists(st.integers(0, length), max_size=10))})
    state, read = made.initial_state(n_rows), []
    with torch.inference_mode():
        for start, stop in itertools.pairwise(cuts):
            hidden, state = made(torch.tensor(ids)[:, start:stop], state)
            read.append(hidden)
    for row, hidden in zip(ids, torch.cat(read, 1), strict=True):
        torch.testing.assert_close(hidden, from_scratch(made, row), rtol=0, atol=2e-5)


@pytest.mark.parametrize("species", NETWORKS)
def test_states_are_not_modified(species: str) -> None:
    made = network(species)
    with torch.inference_mode():
        _, state = made(torch.tensor([[EOT, 3, 4, 5, 6]]), made.initial_state(1))
        before = [part.clone() for part in state]
        first, _ = made(torch.tensor([[7, 8, 9]]), state)
        again, _ = made(torch.tensor([[7, 8, 9]]), state)
    torch.testing.assert_close(first, again, rtol=0, atol=0)
    for part, old in zip(state, before, strict=True):
        torch.testing.assert_close(part, old, rtol=0, atol=0)


@pytest.mark.parametrize("species", NETWORKS)
@pytest.mark.parametrize("length", [0, 1, C - 1, C, C + 1, 3 * C])
def test_stream_batch_walk_and_single_prediction_agree(species: str, length: int) -> None:
    model = zoo.create(species, V, **SIZES)
    model.load_arrays({name: part.detach().numpy() for name, part in network(species).named_parameters()})
    context = np.random.default_rng(length).integers(1, V, length)
    single = model.predict_distribution(context).log_probs
    state = model.initial_state()
    for token_id in context.tolist():
        state = model.advance(state, token_id)
    np.testing.assert_allclose(model.next_log_probs(state), single, rtol=0, atol=1e-4)
    np.testing.assert_allclose(model.next_log_probs_after([[3], context])[1], single, rtol=0, atol=1e-4)
    stream = TokenStream.from_documents([np.array([5, 6]), context])
    np.testing.assert_allclose(model.log_probs(stream)[-1], single[EOT], rtol=0, atol=1e-4)


@pytest.mark.parametrize("species", NETWORKS)
def test_what_is_out_of_the_window_changes_nothing_and_what_is_in_it_does(species: str) -> None:
    made = network(species)
    ids = [EOT, *([1, 2, 3, 4, 5] * 3)]
    last = len(ids) - 1
    start = window_start(last, C)
    read = from_scratch(made, ids)[-1]
    for place in range(1, last):
        changed = ids.copy()
        changed[place] = 9
        with torch.inference_mode():
            hidden = made(torch.tensor([changed]), made.initial_state(1))[0][0, -1]
        assert torch.allclose(hidden, read, rtol=0, atol=1e-5) == (place < start)


@pytest.mark.parametrize("species", NETWORKS)
def test_training_reads_a_chunk_as_windows_of_its_own(species: str) -> None:
    made = network(species)
    for module in made.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    made.train()
    ids = torch.tensor([[3, 4, EOT, 5, 6, 7, 8, 9], [1, 2, 3, 4, 5, 6, 7, 8]])  # 8 > C: two windows
    hidden, state = made(ids, made.initial_state(2))
    for part, initial in zip(state, made.initial_state(2), strict=True):
        torch.testing.assert_close(part, initial)
    made.eval()
    for row, bounds in ((0, (0, 2, 6, 8)), (1, (0, 6, 8))):
        for start, stop in itertools.pairwise(bounds):
            alone, _ = made(ids[row : row + 1, start:stop], made.initial_state(1))
            torch.testing.assert_close(hidden[row, start:stop], alone[0], rtol=0, atol=2e-5)


@pytest.mark.parametrize("species", NETWORKS)
def test_the_loss_is_cross_entropy_and_every_parameter_learns(species: str) -> None:
    made = network(species).train()
    for module in made.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    inputs, targets = torch.randint(V, (2, 3, C), generator=torch.Generator().manual_seed(1))
    step = next_token(made, Chunk(inputs, targets), ())
    loss = step.total / step.weight
    hidden, _ = made(inputs, made.initial_state(3))
    plain = torch.nn.functional.cross_entropy(made.logits(hidden).flatten(0, 1), targets.flatten())
    torch.testing.assert_close(loss, plain)
    loss.backward()
    for name, parameter in made.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name


def test_sinusoids_are_those_of_the_paper() -> None:
    table = sinusoids(50, 8)
    for position in (0, 1, 49):
        for i in range(4):
            angle = position / 10_000 ** (2 * i / 8)
            np.testing.assert_allclose(table[position, 2 * i], np.sin(angle), atol=1e-5)
            np.testing.assert_allclose(table[position, 2 * i + 1], np.cos(angle), atol=1e-5)
    assert sinusoids(3, 5).shape == (3, 5)


@pytest.mark.parametrize("species", NETWORKS)
def test_generation_goes_on_beyond_the_window(species: str) -> None:
    training = {"tokens": 2000, "batch_size": 4, "learning_rate": 1e-2}
    model = zoo.create(species, V, **SIZES, training=training).fit(toy_data(V))
    texts = ([token.token_id for token in generate(model, [1], rng=seed, max_tokens=60)] for seed in range(100))
    seed, ids = next((seed, ids) for seed, ids in enumerate(texts) if len(ids) > 2 * C)
    rng, prompt = np.random.default_rng(seed), [1]
    for token_id in ids:  # the same draws, from distributions that are read from the start each time
        assert model.predict_distribution(prompt).sample(rng) == token_id
        prompt.append(token_id)


@pytest.mark.parametrize("species", NETWORKS)
def test_settings_that_do_not_fit_each_other_are_refused(species: str) -> None:
    with pytest.raises(ConfigurationError, match=r"chunk_size must be at most window = 6, .* got 7"):
        zoo.create(species, V, **SIZES, training={"chunk_size": 7})
    with pytest.raises(ConfigurationError, match="d_model must be a multiple of n_heads = 3, got 8"):
        zoo.create(species, V, d_model=8, n_heads=3)
