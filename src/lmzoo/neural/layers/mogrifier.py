"""Recurrent layers with Mogrifier rounds (Melis, Kocisky & Blunsom 2020, section 2).

Before each time step, the input x and the previous output h gate each other in turn:

    odd rounds    x = 2 sigmoid(M_1 h) * x,   later with M_3, M_5, ...
    even rounds   h = 2 sigmoid(M_2 x) * h,   later with M_4, M_6, ...

So the same token is a different input in a different context. With matrices of zeros the rounds change nothing. As the
input of a time step depends on the previous output, its product with the input weights cannot be computed for all steps
at once, as `lmzoo.neural.layers.recurrence` does for layers without rounds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from lmzoo.neural.devices import product_dtype
from lmzoo.neural.layers.recurrence import Cell, State


def mogrify(x: Tensor, h: Tensor, matrices: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Applies the rounds of a Mogrifier to an input `x` (.., D) and a previous output `h` (.., H), and returns both.

    `matrices` has one matrix for each round, (D, H) and (H, D) in turn.
    """
    for index, matrix in enumerate(matrices):
        if index % 2 == 0:
            x = 2 * torch.sigmoid(h @ matrix.mT) * x
        else:
            h = 2 * torch.sigmoid(x @ matrix.mT) * h
    return x, h


def mogrified_recurrence(
    cell: type[Cell], x: Tensor, W: Tensor, bias: Tensor, U: Tensor, bias_u: Tensor | None,
    matrices: Sequence[Tensor], starts: Tensor, state: State,
) -> tuple[Tensor, State]:  # fmt: skip
    """Runs a recurrent cell with Mogrifier rounds over T time steps: returns its outputs (T, B, H) and its last state.

    - `x` (T, B, D): the inputs of B sequences.
    - `W` (G H, D) and `bias` (G H,): weights of the input for G gates of H units; `U` (G H, H) and `bias_u` (G H,): of
      the previous output.
    - `matrices`: the matrices of the rounds, see `mogrify`.
    - `starts` (T, B): True where a document starts, and the previous state is set to zero.
    """
    outputs, *last_state = _MogrifiedRecurrence.apply(  # pyright: ignore[reportGeneralTypeIssues]
        cell, len(matrices), x, W, bias, U, bias_u, starts, *matrices, *state
    )
    return outputs, tuple(last_state)


class _MogrifiedRecurrence(torch.autograd.Function):
    """A recurrent layer with Mogrifier rounds over all its time steps as one differentiable operation.

    As without rounds, the gradients of all weights are computed after the backward loop, as one product for each.
    """

    @staticmethod
    def forward(
        ctx: Any, cell: type[Cell], n_rounds: int, x: Tensor, W: Tensor, bias: Tensor, U: Tensor, bias_u: Tensor | None,
        starts: Tensor, *rest: Tensor,
    ) -> tuple[Tensor, ...]:  # fmt: skip
        matrices, state = rest[:n_rounds], rest[n_rounds:]
        exact, fast = state[0].dtype, product_dtype(W)
        W_fast, U_fast, *rounds = (matrix.to(fast) for matrix in (W, U, *matrices))
        keeps = ~starts[..., None]  # (T, B, 1)
        outputs = state[0].new_empty(len(x), *state[0].shape)
        saved, steps = [], []
        for x_t, keep, output in zip(x.to(exact), keeps, outputs, strict=True):
            state = tuple(part * keep for part in state)
            pair, gates = [x_t, state[0]], []  # x and h; values[i] are both before round i
            values = [tuple(pair)]
            for index, matrix in enumerate(rounds):
                changed = index % 2  # 0 = x, 1 = h
                gate = (pair[1 - changed].to(fast) @ matrix.t()).to(exact).sigmoid_().mul_(2)
                pair[changed] = gate * pair[changed]
                gates.append(gate)
                values.append(tuple(pair))
            of_x = (pair[0].to(fast) @ W_fast.t()).to(exact) + bias
            of_h = (pair[1].to(fast) @ U_fast.t()).to(exact)
            of_h = of_h if bias_u is None else of_h + bias_u
            state, saved_of_step = cell.step(of_x, of_h, (pair[1], *state[1:]))
            output.copy_(state[0])
            saved.append(saved_of_step)
            steps.append((values, gates))
        ctx.cell, ctx.keeps, ctx.saved, ctx.steps, ctx.has_bias_u = cell, keeps, saved, steps, bias_u is not None
        ctx.W, ctx.U, ctx.rounds, ctx.exact, ctx.x_dtype = W_fast, U_fast, rounds, exact, x.dtype
        # Copies: tensors saved for the backward pass must not include the results themselves, or none would be freed.
        return outputs, *(part.clone() for part in state)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        d_outputs, d_h, *d_others = gradients
        W, U, rounds, exact, fast = ctx.W, ctx.U, ctx.rounds, ctx.exact, ctx.W.dtype
        d_inputs: list[Tensor] = []
        # For each product of a vector with a matrix: the gradients of the product, and the vectors, from the last step
        d_products: list[list[Tensor]] = [[] for _ in range(2 + len(rounds))]
        vectors: list[list[Tensor]] = [[] for _ in range(2 + len(rounds))]
        for t in reversed(range(len(d_outputs))):
            values, gates = ctx.steps[t]
            d_of_x, d_of_h, (d_direct, *d_others) = ctx.cell.step_backward(
                (d_h + d_outputs[t], *d_others), ctx.saved[t]
            )
            pair = [(d_of_x.to(fast) @ W).to(exact), (d_of_h.to(fast) @ U).to(exact)]
            if d_direct is not None:
                pair[1] = pair[1] + d_direct
            parts = [(d_of_x, values[-1][0]), (d_of_h, values[-1][1])]
            for index in reversed(range(len(rounds))):
                changed = index % 2
                gate, before = gates[index], values[index]
                # The derivative of 2 sigmoid(a) is g (1 - g / 2) where g is its value.
                d_a = pair[changed] * before[changed] * gate * (1 - gate / 2)
                pair[changed] = pair[changed] * gate
                pair[1 - changed] = pair[1 - changed] + (d_a.to(fast) @ rounds[index]).to(exact)
                parts.insert(2, (d_a, before[1 - changed]))
            for index, (d_product, vector) in enumerate(parts):
                d_products[index].append(d_product)
                vectors[index].append(vector)
            d_inputs.append(pair[0])
            d_h, *d_others = (part * ctx.keeps[t] for part in (pair[1], *d_others))
        d_W, d_U, *d_rounds = (
            (torch.cat(left).to(fast).t() @ torch.cat(right).to(fast)).to(exact)
            for left, right in zip(d_products, vectors, strict=True)
        )
        d_x = torch.stack(d_inputs[::-1]).to(ctx.x_dtype)
        d_bias, d_bias_u = torch.cat(d_products[0]).sum(0), torch.cat(d_products[1]).sum(0) if ctx.has_bias_u else None
        return None, None, d_x, d_W, d_bias, d_U, d_bias_u, None, *d_rounds, d_h, *d_others
