"""Mogrifier rounds: hand values, and whole layers against a loop that follows the equations of the paper."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from lmzoo.models.recurrent import Layer, gru_step, lstm_step, rnn_step
from lmzoo.neural.layers.mogrifier import mogrify

STEPS = {"rnn": rnn_step, "lstm": lstm_step, "gru": gru_step}


def test_hand_values() -> None:
    """Three rounds, starting from x = 1 and h = 0.5.

    Round 1: x = 2 sigmoid(2 log 3 x 0.5) x 1 = 2 x 3/4 = 1.5. Round 2: h = 2 sigmoid(-log 3 / 1.5 x 1.5) x 0.5 = 1/4.
    Round 3: x = 2 sigmoid(0) x 1.5 = 1.5, because a matrix of zeros changes nothing.
    """
    x, h = torch.tensor([[1.0]]), torch.tensor([[0.5]])
    matrices = [torch.tensor([[value]]) for value in (2 * math.log(3), -math.log(3) / 1.5, 0.0)]
    assert [part.item() for part in mogrify(x, h, matrices[:1])] == pytest.approx([1.5, 0.5])
    assert [part.item() for part in mogrify(x, h, matrices[:2])] == pytest.approx([1.5, 0.25])
    assert [part.item() for part in mogrify(x, h, matrices)] == pytest.approx([1.5, 0.25])


def step_by_step(name: str, layer: Layer, x: Tensor, starts: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """The outputs (T, B, H) and the parts of the last state: x^i for odd and h^i for even i, as in the paper."""
    outputs = []
    for x_t, starts_t in zip(x, starts, strict=True):
        state = tuple(part * ~starts_t[:, None] for part in state)
        values = {-1: x_t, 0: state[0]}
        for i, matrix in enumerate(layer.rounds, start=1):
            values[i] = 2 * torch.sigmoid(matrix(values[i - 1])) * values[i - 2]
        last = len(layer.rounds)
        newest_x, newest_h = (values[last], values[last - 1]) if last % 2 else (values[last - 1], values[last])
        state = STEPS[name](layer, newest_x, (newest_h, *state[1:]))
        outputs.append(state[0])
    return torch.stack(outputs), *state


@pytest.mark.parametrize("n_rounds", [1, 2, 5])
@pytest.mark.parametrize("name", STEPS)
def test_the_layer_equals_a_loop(name: str, n_rounds: int) -> None:
    """Outputs, states and gradients, also where a document starts in the middle."""
    torch.manual_seed(0)
    n_steps, n_rows = 6, 3
    layer = Layer(name, 5, 7, n_rounds).double()
    for parameter in layer.parameters():
        nn.init.normal_(parameter, std=0.5)
    made = {"dtype": torch.float64, "requires_grad": True}
    x, *state = (torch.randn(size, **made) for size in [(n_steps, n_rows, 5), *[(n_rows, 7)] * layer.cell.state_size])
    starts = torch.zeros(n_steps, n_rows, dtype=torch.bool)
    starts[2, 1] = starts[4] = True
    expected = step_by_step(name, layer, x, starts, tuple(state))
    outputs, last_state = layer(x, starts, tuple(state), 0.0)
    found = outputs, *last_state
    torch.testing.assert_close(found, expected)

    weights = [torch.randn_like(part) for part in expected]
    inputs = [x, *state, *layer.parameters()]
    of_found, of_expected = (
        torch.autograd.grad(sum((part * weight).sum() for part, weight in zip(parts, weights, strict=True)), inputs)
        for parts in (found, expected)
    )
    torch.testing.assert_close(of_found, of_expected)


def test_a_new_layer_with_rounds_is_a_layer_without() -> None:
    torch.manual_seed(0)
    plain, mogrified = Layer("lstm", 5, 7), Layer("lstm", 5, 7, 3)
    mogrified.load_state_dict(plain.state_dict(), strict=False)
    x, state = torch.randn(4, 2, 5), (torch.randn(2, 7), torch.randn(2, 7))
    starts = torch.zeros(4, 2, dtype=torch.bool)
    torch.testing.assert_close(mogrified(x, starts, state, 0.0), plain(x, starts, state, 0.0))
