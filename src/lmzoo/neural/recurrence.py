"""Back-propagation through time, written out: a recurrent layer as one differentiable operation.

Left to autograd, every step of a recurrence is a dozen operations whose graph costs more than their arithmetic. Here a
cell says how a step and its derivative are computed, on buffers, and the products that need not wait for the step
before are one product for all steps: the inputs', before, and the gradient of U, after.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import torch
from torch import Tensor

from lmzoo.neural.network import Memory

_sigmoid_backward, _tanh_backward = torch.ops.aten.sigmoid_backward, torch.ops.aten.tanh_backward
"""Of a gradient and the activation itself: d * a (1 - a) and d * (1 - a^2); `grad_input` is where it goes."""


class Cell(ABC):
    """One step of a recurrence whose memory begins with its output h (B, H).

    What it reads comes as x = W input + b and u = U h_before (+ b'), both (B, G H) with G gates.
    """

    n_gates: ClassVar[int]
    n_memories: ClassVar[int]
    x_and_u_differ: ClassVar[bool] = False
    """Whether their gradients do: where only their sum counts, they do not."""

    @staticmethod
    @abstractmethod
    def step(x: Tensor, u: Tensor, memory: Memory) -> tuple[Memory, tuple[Tensor, ...]]:
        """The new memory, and what `back` needs of the step; may overwrite x and u."""

    @staticmethod
    @abstractmethod
    def back(d_memory: Memory, kept: tuple[Tensor, ...]) -> tuple[Tensor, Tensor, tuple[Tensor | None, ...]]:
        """The gradients of x, of u (which may be the same tensor), and of the memory before by ways other than u."""


def recurrence(
    cell: type[Cell], x: Tensor, U: Tensor, bias: Tensor | None, starts: Tensor, memory: Memory
) -> tuple[Tensor, Memory]:
    """x = W inputs + b (T, B, G H) -> outputs (T, B, H), and the memory after them.

    U (G H, H) and `bias` (G H,) act on the output before; where `starts` (T, B) is true, the memory before is
    forgotten. Products are made in the type of x, everything else in that of the memory.
    """
    outputs, *memory_after = _Recurrence.apply(cell, x, U, bias, starts, *memory)  # pyright: ignore[reportGeneralTypeIssues]
    return outputs, tuple(memory_after)


class _Recurrence(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, cell: type[Cell], x: Tensor, U: Tensor, bias: Tensor | None, starts: Tensor, *memory: Tensor
    ) -> tuple[Tensor, ...]:
        exact = memory[0].dtype
        matrix = U.to(x.dtype)  # (G H, H), cast once for all steps
        in_full = x.to(exact, copy=True)  # (T, B, G H); a cell may overwrite it
        keeps = [
            ~column[:, None] if any_starts else None
            for column, any_starts in zip(starts, starts.any(1).tolist(), strict=True)
        ]
        before = x.new_empty(len(x), *memory[0].shape)  # (T, B, H): h before each step
        outputs = torch.empty_like(before, dtype=exact)
        kept = []
        for x_t, keep, h_before, output in zip(in_full, keeps, before, outputs, strict=True):
            if keep is not None:
                memory = tuple(part * keep for part in memory)
            h_before.copy_(memory[0])
            u = h_before @ matrix.t()
            u = u.to(exact) if bias is None else u + bias
            memory, of_step = cell.step(x_t, u, memory)
            output.copy_(memory[0])
            kept.append(of_step)
        ctx.cell, ctx.matrix, ctx.before, ctx.keeps, ctx.kept = cell, matrix, before, keeps, kept
        ctx.has_bias, ctx.U_dtype = bias is not None, U.dtype
        # Copies, as what is kept for the backward pass must not hold its own results: nothing would ever be let go.
        return outputs, *(part.clone() for part in memory)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        d_outputs, d_h, *d_others = gradients
        before, matrix = ctx.before, ctx.matrix
        d_x = before.new_empty(*before.shape[:2], len(matrix))  # (T, B, G H)
        d_u = torch.empty_like(d_x) if ctx.cell.x_and_u_differ else d_x
        for t in reversed(range(len(d_x))):
            d_x_t, d_u_t, (d_direct, *d_others) = ctx.cell.back((d_h + d_outputs[t], *d_others), ctx.kept[t])
            d_x[t].copy_(d_x_t)
            if ctx.cell.x_and_u_differ:
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
    """h = tanh(x + u)."""

    n_gates, n_memories = 1, 1

    @staticmethod
    def step(x: Tensor, u: Tensor, memory: Memory) -> tuple[Memory, tuple[Tensor, ...]]:
        h = x.add_(u).tanh_()
        return (h,), (h,)

    @staticmethod
    def back(d_memory: Memory, kept: tuple[Tensor, ...]) -> tuple[Tensor, Tensor, tuple[Tensor | None, ...]]:
        (d_h,), (h,) = d_memory, kept
        d_x = _tanh_backward(d_h, h)
        return d_x, d_x, (None,)


class LSTMCell(Cell):
    """i, f, o = sigmoid(x + u), g = tanh(the same); c = f * c_before + i * g, h = o * tanh(c)."""

    n_gates, n_memories = 4, 2

    @staticmethod
    def step(x: Tensor, u: Tensor, memory: Memory) -> tuple[Memory, tuple[Tensor, ...]]:
        width = memory[1].shape[1]
        gates = x.add_(u)
        gates[:, : 3 * width].sigmoid_()
        gates[:, 3 * width :].tanh_()
        i, f, o, g = gates.chunk(4, dim=1)
        c = (f * memory[1]).addcmul_(i, g)
        tanh_c = c.tanh()
        return (o * tanh_c, c), (gates, memory[1], tanh_c)

    @staticmethod
    def back(d_memory: Memory, kept: tuple[Tensor, ...]) -> tuple[Tensor, Tensor, tuple[Tensor | None, ...]]:
        (d_h, d_c), (gates, c_before, tanh_c) = d_memory, kept
        i, f, o, g = gates.chunk(4, dim=1)
        d_c = d_c + _tanh_backward(d_h * o, tanh_c)
        d_x = torch.empty_like(gates)
        # Gate by gate: pieces as small are not shared out to threads, which would have to be woken first.
        d_i, d_f, d_o, d_g = d_x.chunk(4, dim=1)
        for d_gate, gate, left, right in ((d_i, i, d_c, g), (d_f, f, d_c, c_before), (d_o, o, d_h, tanh_c)):
            _sigmoid_backward(torch.mul(left, right, out=d_gate), gate, grad_input=d_gate)
        _tanh_backward(torch.mul(d_c, i, out=d_g), g, grad_input=d_g)
        return d_x, d_x, (None, d_c * f)


class GRUCell(Cell):
    """r, z = sigmoid(x + u), n = tanh(x + r * u); h = z * h_before + (1 - z) * n."""

    n_gates, n_memories, x_and_u_differ = 3, 1, True

    @staticmethod
    def step(x: Tensor, u: Tensor, memory: Memory) -> tuple[Memory, tuple[Tensor, ...]]:
        (h_before,) = memory
        sizes = [2 * h_before.shape[1], h_before.shape[1]]
        (gates, n), (u_gates, u_n) = x.split(sizes, dim=1), u.split(sizes, dim=1)
        r, z = gates.add_(u_gates).sigmoid_().chunk(2, dim=1)
        n.addcmul_(r, u_n).tanh_()
        return (torch.lerp(n, h_before, z),), (gates, n, u_n, h_before)

    @staticmethod
    def back(d_memory: Memory, kept: tuple[Tensor, ...]) -> tuple[Tensor, Tensor, tuple[Tensor | None, ...]]:
        (d_h,), (gates, n, u_n, h_before) = d_memory, kept
        r, z = gates.chunk(2, dim=1)
        d_n = _tanh_backward(d_h - d_h * z, n)
        d_gates = _sigmoid_backward(torch.cat([d_n * u_n, d_h * (h_before - n)], dim=1), gates)
        return torch.cat([d_gates, d_n], dim=1), torch.cat([d_gates, d_n * r], dim=1), (d_h * z,)
