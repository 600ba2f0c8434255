"""L-BFGS (Liu & Nocedal 1989): finds the weights that maximise a penalised likelihood; a fit can be interrupted.

A step goes uphill in the direction H g, where g is the gradient, and H is an estimate of the inverse curvature from the
last steps and the changes of the gradient along them. At first, H is diagonal: it has the inverses of the curvatures of
the single weights, which differ by several orders of magnitude between frequent and rare features. As the penalised
likelihood is strictly concave, its slope decreases along every step, which is the condition under which H can be
updated. So the line search only has to find a step that is short enough to increase the likelihood.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, final

import numpy as np
from numpy.typing import NDArray

from lmzoo.checkpoint import Checkpoint
from lmzoo.system.interrupts import deferred
from lmzoo.system.progress import OnProgress, Progress

_HISTORY = 6
"""Number of past steps from which the curvature is estimated."""
_ENOUGH = 1e-12
"""The ascent ends when a step improves the penalised likelihood by less than this fraction."""
_SUFFICIENT = 1e-4
"""A step is shortened if it gains less than this fraction of the increase that the gradient predicts."""
_LARGEST_CHANGE = 1.0
"""A step changes no weight by more than this, because the curvature grows with exp(weight)."""
_SECONDS_BETWEEN_SAVES = 30.0

_Vector = NDArray[np.float64]


class Likelihood(Protocol):
    """A penalised log-likelihood of a text, as a strictly concave function of N weights."""

    @property
    def curvatures(self) -> _Vector:
        """Estimates (N,) of the absolute second derivatives of the penalised likelihood with respect to each weight."""
        ...

    def value_and_gradient(self, weights: _Vector) -> tuple[float, _Vector]:
        """Returns the penalised log-likelihood of the text in nats, and its gradient (N,)."""
        ...


class _Position(NamedTuple):
    """The state of L-BFGS after a step, which determines all further steps."""

    weights: _Vector
    """(N,) the weights."""
    value: float
    """The penalised likelihood of the weights."""
    gradient: _Vector
    """(N,) the gradient of the penalised likelihood at these weights."""
    n_steps: int = 0
    is_finished: bool = False
    """True if another step would gain too little."""
    moves: tuple[_Vector, ...] = ()
    """The changes (N,) of the weights in the last steps, the oldest first."""
    bends: tuple[_Vector, ...] = ()
    """The decreases (N,) of the gradient in these steps."""


@final
class Ascent:
    """The fit of the weights of a model in one or several phases, each of which starts where the one before ended.

    Its state is saved to `checkpoint` every half minute, after each phase, and when a step is interrupted by Ctrl-C. An
    interrupted fit is resumed from the checkpoint, and finds the same weights as a fit without interruption.
    `fingerprint` computes a hash of the data and settings, which must be that of the checkpoint; it is called only if
    there is a checkpoint.
    """

    def __init__(
        self, checkpoint: Checkpoint | None, fingerprint: Callable[[], str], on_progress: OnProgress | None
    ) -> None:
        self._checkpoint, self._on_progress = checkpoint, on_progress
        self._fingerprint = fingerprint() if checkpoint else ""
        self._saved = checkpoint.load(self._fingerprint) if checkpoint else None
        self._last_save = time.perf_counter()
        self._phase = 0  # the number of phases that have begun

    def report(self, n_steps: int, steps: int, message: str) -> None:
        """Reports that `n_steps` of at most `steps` steps are done; `message` says what the fit does."""
        if self._on_progress:
            self._on_progress(Progress(n_steps, steps, "steps", message))

    def maximised(self, likelihood: Likelihood, start: _Vector, steps: int, message: str) -> _Vector:
        """Returns the weights (N,) that maximise a penalised likelihood, or the best after `steps` steps of L-BFGS.

        `start` (N,) are the initial weights, and `message` says what is learned in this phase. If the interrupted fit
        was in a later phase, returns `start`: the result of this phase is part of the saved weights of the later one.
        """
        self._phase += 1
        position = self._take_saved()
        if position is None and self._saved:
            return start
        if position is None:
            position = _Position(start, *likelihood.value_and_gradient(start))
        inverse = 1 / likelihood.curvatures
        try:
            while position.n_steps < steps and not position.is_finished:
                position = _after_step(likelihood, position, inverse)
                self.report(position.n_steps, steps, message)
                if time.perf_counter() - self._last_save >= _SECONDS_BETWEEN_SAVES:
                    self._save(position)
        except KeyboardInterrupt:
            with deferred():
                self._save(position)
            raise
        self._save(position)
        return position.weights

    # ---- Checkpoints ----------------------------------------------------------------------------

    def _save(self, position: _Position) -> None:
        if self._checkpoint:
            arrays = {"weights": position.weights, "gradient": position.gradient}
            arrays |= {f"moves.{index}": move for index, move in enumerate(position.moves)}
            arrays |= {f"bends.{index}": bend for index, bend in enumerate(position.bends)}
            facts = {name: getattr(position, name) for name in ("value", "n_steps", "is_finished")}
            self._checkpoint.save(arrays, {"fingerprint": self._fingerprint, "phase": self._phase, "position": facts})
        self._last_save = time.perf_counter()

    def _take_saved(self) -> _Position | None:
        """Returns the saved position, and forgets it, if it belongs to the current phase; otherwise, None."""
        if self._saved is None or self._saved[1]["phase"] != self._phase:
            return None
        (arrays, facts), self._saved = self._saved, None
        moves, bends = (
            tuple(arrays[f"{kind}.{index}"] for index in range(_HISTORY) if f"{kind}.{index}" in arrays)
            for kind in ("moves", "bends")
        )
        return _Position(arrays["weights"], gradient=arrays["gradient"], moves=moves, bends=bends, **facts["position"])


def _after_step(likelihood: Likelihood, position: _Position, inverse: _Vector) -> _Position:
    """Takes one step of L-BFGS; `inverse` (N,) are the inverses of the curvatures."""
    direction = _direction(position, inverse)
    slope = float(position.gradient @ direction)
    if slope <= 0:  # possible because the changes of single weights are limited
        position = position._replace(moves=(), bends=())
        direction = _direction(position, inverse)
        slope = float(position.gradient @ direction)
    length = 1.0
    while length * slope > _ENOUGH * abs(position.value):
        weights = position.weights + length * direction
        value, gradient = likelihood.value_and_gradient(weights)
        gain, promised = value - position.value, length * slope
        if gain >= _SUFFICIENT * promised:
            break
        # The parabola through both points may be a poor approximation, so its maximum is used within limits only.
        length *= min(0.5, max(0.1, promised / (2 * (promised - gain)))) if math.isfinite(gain) else 0.1
    else:
        return position._replace(is_finished=True)
    moves, bends = position.moves, position.bends
    move, bend = weights - position.weights, position.gradient - gradient
    if move @ bend > 0:  # always true, except for rounding errors
        moves, bends = (*moves, move)[-_HISTORY:], (*bends, bend)[-_HISTORY:]
    is_finished = gain <= _ENOUGH * abs(value)
    return _Position(weights, value, gradient, position.n_steps + 1, is_finished, moves, bends)


def _direction(position: _Position, inverse: _Vector) -> _Vector:
    """Returns the direction (N,) of the next step: the two-loop recursion of Nocedal (1980), with limited changes."""
    direction, pairs = position.gradient.copy(), list(zip(position.moves, position.bends, strict=True))
    shares: list[Any] = []
    for move, bend in reversed(pairs):
        shares.append((move @ direction) / (move @ bend))
        direction -= shares[-1] * bend
    direction *= inverse
    if pairs:
        move, bend = pairs[-1]
        direction *= (move @ bend) / (bend @ (inverse * bend))
    for move, bend in pairs:
        direction += (shares.pop() - (bend @ direction) / (move @ bend)) * move
    return np.clip(direction, -_LARGEST_CHANGE, _LARGEST_CHANGE, out=direction)
