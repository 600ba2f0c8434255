"""Recurrent layers: the fused operation equals the plain steps and torch's own layers, and its gradients are right."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from lmzoo.models.recurrent import Layer, gru_step, lstm_step, rnn_step
from lmzoo.neural.layers.recurrence import Cell, GRUCell, LSTMCell, RNNCell, recurrence

STEPS = {"rnn": rnn_step, "lstm": lstm_step, "gru": gru_step}


@pytest.mark.parametrize("name", STEPS)
def test_the_fused_layer_equals_its_plain_steps(name: str) -> None:
    """Outputs, states and gradients, also where a document starts in the middle."""
    torch.manual_seed(0)
    n_steps, n_rows = 6, 3
    layer = Layer(name, 5, 7).double()
    for parameter in layer.parameters():
        nn.init.normal_(parameter, std=0.5)
    x = torch.randn(n_steps, n_rows, 5, dtype=torch.float64)
    starts = torch.zeros(n_steps, n_rows, dtype=torch.bool)
    starts[2, 1] = starts[4] = True
    first = tuple(torch.randn(n_rows, 7, dtype=torch.float64) for _ in range(layer.cell.state_size))

    state, plain = first, []
    for x_t, starts_t in zip(x, starts, strict=True):
        state = STEPS[name](layer, x_t, tuple(part * ~starts_t[:, None] for part in state))
        plain.append(state[0])
    expected = torch.stack(plain)
    outputs, last_state = layer(x, starts, first, 0.0)
    torch.testing.assert_close(outputs, expected)
    torch.testing.assert_close(last_state, state)

    weights = torch.randn_like(expected)
    parameters = list(layer.parameters())
    torch.testing.assert_close(
        torch.autograd.grad((outputs * weights).sum(), parameters),
        torch.autograd.grad((expected * weights).sum(), parameters),
    )


@pytest.mark.parametrize("name", ["rnn", "lstm", "gru"])
def test_cells_equal_those_of_torch(name: str) -> None:
    """Outputs, states and every gradient."""
    d_input, d_hidden, n_rows, n_steps = 5, 7, 3, 9
    layer = Layer(name, d_input, d_hidden)
    nn.init.normal_(layer.W.bias)
    theirs = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}[name](d_input, d_hidden)
    # torch orders an LSTM's gates i, f, g, o, and adds a bias to both products.
    order = [0, 1, 3, 2] if name == "lstm" else list(range(layer.cell.n_gates))
    second_bias = torch.zeros(layer.cell.n_gates, d_hidden)
    if layer.b is not None:
        nn.init.normal_(layer.b)
        second_bias[2] = layer.b.detach()

    def in_their_order(stacked: torch.Tensor) -> torch.Tensor:
        return torch.cat([stacked.detach().split(d_hidden)[gate] for gate in order])

    with torch.no_grad():
        theirs.weight_ih_l0.copy_(in_their_order(layer.W.weight))
        theirs.bias_ih_l0.copy_(in_their_order(layer.W.bias))
        theirs.weight_hh_l0.copy_(in_their_order(layer.U.weight))
        theirs.bias_hh_l0.copy_(second_bias.flatten())
    x, their_x = (torch.randn(n_steps, n_rows, d_input).requires_grad_() for _ in range(2))
    their_x.data.copy_(x.data)
    state = tuple(torch.randn(n_rows, d_hidden) for _ in range(layer.cell.state_size))
    ours, after = layer(x, torch.zeros(n_steps, n_rows, dtype=torch.bool), state, 0.0)
    start = tuple(part[None] for part in state)
    expected, expected_after = theirs(their_x, start if name == "lstm" else start[0])
    expected_after = expected_after if name == "lstm" else (expected_after,)
    torch.testing.assert_close(ours, expected)
    torch.testing.assert_close(after, tuple(part[0] for part in expected_after))

    weights = torch.randn_like(ours)
    ((ours * weights).sum() + sum(part.sin().sum() for part in after)).backward()
    ((expected * weights).sum() + sum(part.sin().sum() for part in expected_after)).backward()
    torch.testing.assert_close(x.grad, their_x.grad)
    assert layer.U.weight.grad is not None
    assert layer.W.bias.grad is not None
    torch.testing.assert_close(layer.U.weight.grad, in_their_order(theirs.weight_hh_l0.grad))
    torch.testing.assert_close(layer.W.weight.grad, in_their_order(theirs.weight_ih_l0.grad))
    torch.testing.assert_close(layer.W.bias.grad, in_their_order(theirs.bias_ih_l0.grad))
    if layer.b is not None:
        torch.testing.assert_close(layer.b.grad, theirs.bias_hh_l0.grad[2 * d_hidden :])


@pytest.mark.parametrize("cell", [RNNCell, LSTMCell, GRUCell])
def test_gradients_of_recurrences_are_those_of_finite_differences(cell: type[Cell]) -> None:
    """Also through document starts, and of the state that comes in."""
    n_steps, n_rows, width = 4, 3, 2
    made = {"dtype": torch.float64, "requires_grad": True}
    x, U, bias = (
        torch.randn(*shape, **made)
        for shape in [(n_steps, n_rows, cell.n_gates * width), (cell.n_gates * width, width), (cell.n_gates * width,)]
    )
    state = [torch.randn(n_rows, width, **made) for _ in range(cell.state_size)]
    starts = torch.tensor([[False, True, False], [False] * 3, [True, False, False], [False] * 3])

    def outputs(x: Tensor, U: Tensor, bias: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        after, state = recurrence(cell, x, U, bias, starts, state)
        return after, *state

    assert torch.autograd.gradcheck(outputs, (x, U, bias, *state))
