"""The gated delta rule in chunks, against a loop over single tokens in float64."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lmzoo.neural.layers import delta_rule as chunked
from lmzoo.neural.layers.delta_rule import delta_rule

Inputs = dict[str, Tensor]


def inputs(n_tokens: int, *, seed: int, n_starts: int = 0, dtype: torch.dtype = torch.float64) -> Inputs:
    """Random inputs for two sequences and three heads, with documents that start at `n_starts` random places."""
    n_rows, n_heads, d_key, d_value = 2, 3, 5, 4
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    q, k = (torch.nn.functional.normalize(normal(n_rows, n_heads, n_tokens, d_key), dim=-1) for _ in range(2))
    starts = torch.zeros(n_rows, n_tokens, dtype=torch.bool)
    starts.view(-1)[torch.randint(0, starts.numel(), (n_starts,), generator=generator)] = True
    made = {
        "q": q,
        "k": k,
        "v": normal(n_rows, n_heads, n_tokens, d_value),
        "log_keep": -normal(n_rows, n_heads, n_tokens).exp(),  # from hardly anything to nearly everything is forgotten
        "write": normal(n_rows, n_heads, n_tokens).sigmoid(),
        "state": normal(n_rows, n_heads, d_key, d_value),
    }
    return {**{name: part.to(dtype) for name, part in made.items()}, "starts": starts}


def token_by_token(given: Inputs, *, erase: bool) -> tuple[Tensor, Tensor]:
    """S_t = a S_{t-1} (I - b k k') + b v k', written as in the paper, with S (E, D) for each row and head."""
    exact = {name: part.double() for name, part in given.items()}
    n_rows, n_heads, n_tokens, _ = exact["q"].shape
    outputs, last = torch.empty_like(exact["v"]), torch.empty_like(exact["state"])
    for row in range(n_rows):
        for head in range(n_heads):
            S = exact["state"][row, head].T
            for t in range(n_tokens):
                q, k, v = (exact[name][row, head, t] for name in ("q", "k", "v"))
                a, b = exact["log_keep"][row, head, t].exp(), exact["write"][row, head, t]
                if given["starts"][row, t]:
                    S = torch.zeros_like(S)
                if erase:
                    S = S @ (torch.eye(len(k), dtype=torch.float64) - b * torch.outer(k, k))
                    S = a * S + b * torch.outer(v, k)
                else:
                    S = a * S + b * torch.outer(v, k)
                outputs[row, head, t] = S @ q
            last[row, head] = S.T
    return outputs, last


@pytest.mark.parametrize("erase", [True, False])
@settings(max_examples=25)
@given(
    n_tokens=st.integers(1, 20), chunk_size=st.integers(1, 20), n_starts=st.integers(0, 4), seed=st.integers(0, 2**32)
)
def test_chunks_equal_single_tokens(erase: bool, n_tokens: int, chunk_size: int, n_starts: int, seed: int) -> None:
    """Wherever documents start, however the tokens are divided, and if they are read one by one."""
    given = inputs(n_tokens, seed=seed, n_starts=n_starts)
    expected, last = token_by_token(given, erase=erase)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chunked, "CHUNK_SIZE", chunk_size)
        outputs, state = delta_rule(**given, erase=erase)
    torch.testing.assert_close(outputs, expected)
    torch.testing.assert_close(state, last)


@pytest.mark.parametrize("erase", [True, False])
def test_single_precision_is_exact_over_long_documents(erase: bool) -> None:
    given = inputs(600, seed=1, n_starts=3, dtype=torch.float32)
    expected, last = token_by_token(given, erase=erase)
    outputs, state = delta_rule(**given, erase=erase)
    torch.testing.assert_close(outputs.double(), expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(state.double(), last, rtol=0, atol=1e-5)


def test_what_is_stored_under_a_key_is_replaced() -> None:
    """With a = b = 1 a key is a name: it returns what was stored under it last, or else 0."""
    names = torch.eye(3)
    k, v = names[[0, 1, 0]], torch.tensor([[1.0], [2.0], [5.0]])
    full = {
        "log_keep": torch.zeros(1, 1, 3),
        "write": torch.ones(1, 1, 3),
        "starts": torch.zeros(1, 3, dtype=torch.bool),
    }
    state = torch.zeros(1, 1, 3, 1)
    _, replaced = delta_rule(k[None, None], k[None, None], v[None, None], state=state, erase=True, **full)
    assert replaced.flatten().tolist() == [5, 2, 0]
    _, added = delta_rule(k[None, None], k[None, None], v[None, None], state=state, erase=False, **full)
    assert added.flatten().tolist() == [6, 2, 0]


@pytest.mark.parametrize("erase", [True, False])
def test_gradients_are_those_of_finite_differences(erase: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also of the state, over the bounds of chunks and through the start of a document."""
    monkeypatch.setattr(chunked, "CHUNK_SIZE", 3)
    given = inputs(5, seed=2)
    given["starts"][0, 1] = given["starts"][1, 4] = True
    starts = given.pop("starts")
    parts = tuple(part[:, :1].clone().requires_grad_() for part in given.values())

    def outputs(*parts: Tensor) -> tuple[Tensor, Tensor]:
        return delta_rule(**dict(zip(given, parts, strict=True)), starts=starts, erase=erase)

    assert torch.autograd.gradcheck(outputs, parts)
