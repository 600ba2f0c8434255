"""Recurrent layers with back-propagation through time written by hand, which is faster than autograd.

With autograd, every time step of a recurrent layer is a dozen small operations, and building their graph costs more
than the arithmetic. Here the whole layer is one differentiable operation. A `Cell` computes one time step and its
derivative in place. The products that do not depend on the previous step are computed for all steps at once: the
products with the inputs before the loop, and the gradient of the recurrent weights U after the backward loop.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import torch
from torch import Tensor

State = tuple[Tensor, ...]
"""The state of a recurrent layer: its output h (B, H) first; an LSTM also has its cell state c (B, H)."""

_sigmoid_backward, _tanh_backward = torch.ops.aten.sigmoid_backward, torch.ops.aten.tanh_backward
"""The derivatives d a (1 - a) and d (1 - a^2), from the gradient d of an activation and its value a."""


class Cell(ABC):
    """One time step of a recurrent layer with G gates, and the derivative of this step.

    For B sequences and H hidden units, the step gets two arrays of B rows and G x H columns: the product of the input
    with its weights, and the product of the previous output with its weights, both with their biases. It returns the
    new state of the layer, whose first tensor is the output (B, H).
    """

    n_gates: ClassVar[int]
    state_size: ClassVar[int]
    """Number of tensors in the state."""
    separate_gradients: ClassVar[bool] = False
    """True if the gradients of x and u differ; False if the step depends on x + u only."""

    @staticmethod
    @abstractmethod
    def step(x: Tensor, u: Tensor, state: State) -> tuple[State, tuple[Tensor, ...]]:
        """Computes one time step of a recurrent cell: returns the new state and the tensors that `step_backward` needs.

        `x` (B, G H) is the contribution of the input and `u` (B, G H) the contribution of the previous output to the G
        gates of H units, for B sequences. Both tensors may be overwritten.
        """

    @staticmethod
    @abstractmethod
    def step_backward(d_state: State, saved: tuple[Tensor, ...]) -> tuple[Tensor, Tensor, tuple[Tensor | None, ...]]:
        """Computes the gradients of one time step of a recurrent cell from the gradient `d_state` of the new state.

        Returns the gradients of x and u, the contributions of the input and of the previous output to the gates, and of
        the previous state. The caller adds the gradient that reaches the previous output through u. The gradients of x
        and u may be the same tensor. `saved` holds the tensors that `step` returned.
        """


def recurrence(
    cell: type[Cell], x: Tensor, U: Tensor, bias: Tensor | None, starts: Tensor, state: State
) -> tuple[Tensor, State]:
    """Runs a recurrent cell over T time steps and returns its outputs (T, B, H) and its last state.

    `x` (T, B, G H) holds W input + b for B sequences and G gates of H units; `U` (G H, H) and `bias` (G H,) act on the
    previous output. Where `starts` (T, B) is True a document starts, and the previous state is set to zero. Products
    are computed in the type of `x`, everything else in the type of the state.
    """
    outputs, *last_state = _Recurrence.apply(cell, x, U, bias, starts, *state)  # pyright: ignore[reportGeneralTypeIssues]
    return outputs, tuple(last_state)


class _Recurrence(torch.autograd.Function):
    """A recurrent layer over all its time steps as one differentiable operation."""

    @staticmethod
    def forward(
        ctx: Any, cell: type[Cell], x: Tensor, U: Tensor, bias: Tensor | None, starts: Tensor, *state: Tensor
    ) -> tuple[Tensor, ...]:
        exact = state[0].dtype
        matrix = U.to(x.dtype)  # (G H, H), cast once for all steps
        in_full = x.to(exact, copy=True)  # (T, B, G H); a cell may overwrite it
        keeps = [
            ~column[:, None] if any_starts else None
            for column, any_starts in zip(starts, starts.any(1).tolist(), strict=True)
        ]
        before = x.new_empty(len(x), *state[0].shape)  # (T, B, H): h before each step
        outputs = torch.empty_like(before, dtype=exact)
        saved = []
        for x_t, keep, h_before, output in zip(in_full, keeps, before, outputs, strict=True):
            if keep is not None:
                state = tuple(part * keep for part in state)
            h_before.copy_(state[0])
            u = h_before @ matrix.t()
            u = u.to(exact) if bias is None else u + bias
            state, saved_of_step = cell.step(x_t, u, state)
            output.copy_(state[0])
            saved.append(saved_of_step)
        ctx.cell, ctx.matrix, ctx.before, ctx.keeps, ctx.saved = cell, matrix, before, keeps, saved
        ctx.has_bias, ctx.U_dtype = bias is not None, U.dtype
        # Copies: tensors saved for the backward pass must not include the results themselves, or none would be freed.
        return outputs, *(part.clone() for part in state)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        d_outputs, d_h, *d_others = gradients
        before, matrix = ctx.before, ctx.matrix
        d_x = before.new_empty(*before.shape[:2], len(matrix))  # (T, B, G H)
        d_u = torch.empty_like(d_x) if ctx.cell.separate_gradients else d_x
        for t in reversed(range(len(d_x))):
            d_x_t, d_u_t, (d_direct, *d_others) = ctx.cell.step_backward((d_h + d_outputs[t], *d_others), ctx.saved[t])
            d_x[t].copy_(d_x_t)
            if ctx.cell.separate_gradients:
                d_u[t].copy_(d_u_t)
            d_h = (d_u[t] @ matrix).to(d_h.dtype)
            if d_direct is not None:
                d_h += d_direct
            if (keep := ctx.keeps[t]) is not None:
                d_h, *d_others = (part * keep for part in (d_h, *d_others))
        rows = d_u.flatten(0, 1)  # (T B, G H)
        d_U = (rows.t() @ before.flatten(0, 1)).to(ctx.U_dtype)
        d_bias = rows.sum(0, dtype=ctx.U_dtype) if ctx.has_bias else None
        return None, d_x, d_U, d_bias, None, d_h, *d_others


class RNNCell(Cell):
    """The step of a tanh recurrent network, h = tanh(x + u), with its derivative.

    x is the contribution of the input (W input + b), and u the contribution of the previous output (U h_before).
    """

    n_gates, state_size = 1, 1

    @staticmethod
    def step(x: Tensor, u: Tensor, state: State) -> tuple[State, tuple[Tensor, ...]]:
        h = x.add_(u).tanh_()
        return (h,), (h,)

    @staticmethod
    def step_backward(d_state: State, saved: tuple[Tensor, ...]) -> tuple[Tensor, Tensor, tuple[Tensor | None, ...]]:
        (d_h,), (h,) = d_state, saved
        d_x = _tanh_backward(d_h, h)
        return d_x, d_x, (None,)


class LSTMCell(Cell):
    """The step of an LSTM with forget gate, with its derivative.

    The gates are i, f, o = sigmoid(x + u) and g = tanh(x + u). The cell state is c = f * c_before + i * g, and the
    output is h = o * tanh(c).
    """

    n_gates, state_size = 4, 2

    @staticmethod
    def step(x: Tensor, u: Tensor, state: State) -> tuple[State, tuple[Tensor, ...]]:
        width = state[1].shape[1]
        gates = x.add_(u)
        gates[:, : 3 * width].sigmoid_()
        gates[:, 3 * width :].tanh_()
        i, f, o, g = gates.chunk(4, dim=1)
        c = (f * state[1]).addcmul_(i, g)
        tanh_c = c.tanh()
        return (o * tanh_c, c), (gates, state[1], tanh_c)

    @staticmethod
    def step_backward(d_state: State, saved: tuple[Tensor, ...]) -> tuple[Tensor, Tensor, tuple[Tensor | None, ...]]:
        (d_h, d_c), (gates, c_before, tanh_c) = d_state, saved
        i, f, o, g = gates.chunk(4, dim=1)
        d_c = d_c + _tanh_backward(d_h * o, tanh_c)
        d_x = torch.empty_like(gates)
        # Gate by gate: torch runs such small operations in one thread, which saves waking the others.
        d_i, d_f, d_o, d_g = d_x.chunk(4, dim=1)
        for d_gate, gate, left, right in ((d_i, i, d_c, g), (d_f, f, d_c, c_before), (d_o, o, d_h, tanh_c)):
            _sigmoid_backward(torch.mul(left, right, out=d_gate), gate, grad_input=d_gate)
        _tanh_backward(torch.mul(d_c, i, out=d_g), g, grad_input=d_g)
        return d_x, d_x, (None, d_c * f)


class GRUCell(Cell):
    """The step of a gated recurrent unit (GRU), with its derivative.

    The gates are r, z = sigmoid(x + u), the candidate is n = tanh(x + r * u), and the output is
    h = z * h_before + (1 - z) * n.
    """

    n_gates, state_size, separate_gradients = 3, 1, True

    @staticmethod
    def step(x: Tensor, u: Tensor, state: State) -> tuple[State, tuple[Tensor, ...]]:
        (h_before,) = state
        sizes = [2 * h_before.shape[1], h_before.shape[1]]
        (gates, n), (u_gates, u_n) = x.split(sizes, dim=1), u.split(sizes, dim=1)
        r, z = gates.add_(u_gates).sigmoid_().chunk(2, dim=1)
        n.addcmul_(r, u_n).tanh_()
        return (torch.lerp(n, h_before, z),), (gates, n, u_n, h_before)

    @staticmethod
    def step_backward(d_state: State, saved: tuple[Tensor, ...]) -> tuple[Tensor, Tensor, tuple[Tensor | None, ...]]:
        (d_h,), (gates, n, u_n, h_before) = d_state, saved
        r, z = gates.chunk(2, dim=1)
        d_n = _tanh_backward(d_h - d_h * z, n)
        d_gates = _sigmoid_backward(torch.cat([d_n * u_n, d_h * (h_before - n)], dim=1), gates)
        return torch.cat([d_gates, d_n], dim=1), torch.cat([d_gates, d_n * r], dim=1), (d_h * z,)
