"""Fitting: from classes to states by splitting, and between splits Baum-Welch with back-off.

The M-step draws each row of probabilities towards a coarser one, by pseudo-counts (Dirichlet priors; MacKay & Peto
1995, A Hierarchical Dirichlet Language Model):

    A(i, j) = (n(i, j) + a B(c(i), j)) / (n(i) + a)         a state's transitions, towards those of its class
    B(c, j) = (n(c, j) + b m(j)) / (n(c) + b)               a class's, towards how often states occur, m
    E(i, w) = (n(i, w) + e P(w | c(i))) / (n(i) + e)        a state's tokens, towards those of its class

B and the strengths a, b and e are chosen between rounds, the strengths by the valid split. Within a round they stand
still, so that Baum-Welch climbs log P(train) + log P(parameters): this is checked at every iteration.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any, Final, NamedTuple, final

import numpy as np
from numpy.typing import NDArray

from lmzoo.checkpoint import Checkpoint
from lmzoo.checks import check_at_least, check_whole
from lmzoo.errors import ConfigurationError, TrainingError
from lmzoo.models.class_hmm.layout import EOT_STATE, Counts, Layout, Parameters
from lmzoo.models.class_ngram.model import with_new_tokens
from lmzoo.stream import TrainingData
from lmzoo.system.progress import OnProgress, Progress

_ROUND: Final = 4
"""Iterations under one prior."""
_SLACK: Final = 1e-5
"""By how many nats per token rounding to float32 may seem to lower the objective, where the text decides it."""
_ROUNDING: Final = float(np.finfo(np.float32).eps)
"""By what share of it, where the prior does: of thousands of states and little text."""
_MANY_STATES: Final = 1 << 15
_LEAST, _MOST = 1e-2, 1e5
"""The weakest and the strongest prior."""
_NOISE: Final = 0.8
"""How different the halves of a state are at first: shares of its counts vary by so much, relative to their mean."""


@dataclass(frozen=True)
class Settings:
    """What `lmzoo.models.class_hmm.class_hmm` says of them."""

    n_states: int
    n_classes: int
    n_rounds: int
    tolerance: float

    def __post_init__(self) -> None:
        check_whole(2, n_states=self.n_states, n_classes=self.n_classes)
        check_whole(1, n_rounds=self.n_rounds)
        check_at_least(0, tolerance=self.tolerance)
        if self.n_states > _MANY_STATES:
            gigabytes = 40 * self.n_states**2 / 1e9  # measured, on two cores
            raise ConfigurationError(
                f"n_states must be at most {_MANY_STATES:,}: {self.n_states:,} states would take {gigabytes:,.0f} GB"
            )


@dataclass(frozen=True)
class Strengths:
    """Pseudo-counts of the priors."""

    of_state: float = 20.0  # a
    of_class: float = 40.0  # b
    of_tokens: float = 5.0  # e

    def neighbours(self) -> Iterator[Strengths]:
        """One of the three doubled, or halved."""
        for name, value in asdict(self).items():
            yield from (replace(self, **{name: new}) for new in (2 * value, value / 2) if _LEAST <= new <= _MOST)


class Prior(NamedTuple):
    """What the parameters are drawn to, and how strongly."""

    transitions: NDArray[np.float32]
    """(C, K) a B: pseudo-counts of the transitions from a state of each class."""
    emissions: NDArray[np.float64]
    """(N,) e P(w | c)."""

    @classmethod
    def of(cls, counts: Counts, strengths: Strengths, layout: Layout, token_counts: NDArray[np.floating]) -> Prior:
        """The prior that counts suggest; `token_counts` (V,) must be positive."""
        masses = np.bincount(layout.state_of_emission, counts.emissions, layout.n_states)
        masses += 1e-6 * masses.sum() / len(masses)  # a state that died is not impossible
        rows = np.add.reduceat(counts.transitions, layout.first_state[:-1], axis=0, dtype=np.float64)  # (C, K)
        rows += strengths.of_class * masses / masses.sum()
        rows *= strengths.of_state / rows.sum(axis=1, keepdims=True)
        in_class = token_counts / np.bincount(layout.classes, token_counts)[layout.classes]  # (V,)
        return cls(rows.astype(np.float32), strengths.of_tokens * in_class[layout.token_of_emission])

    def maximise(self, counts: Counts, layout: Layout) -> Parameters:
        """The M-step: the parameters under which the counts and the prior are most likely."""
        transmat = counts.transitions + self.transitions[layout.class_of_state]
        transmat /= transmat.sum(axis=1, keepdims=True)
        emissions = counts.emissions + self.emissions
        emissions /= np.bincount(layout.state_of_emission, emissions)[layout.state_of_emission]
        return Parameters(transmat, emissions.astype(np.float32))

    def log_density(self, parameters: Parameters, layout: Layout) -> float:
        """Of the parameters, in nats, up to a constant."""
        logs = np.add.reduceat(np.log(parameters.transmat), layout.first_state[:-1], axis=0, dtype=np.float64)
        return float((logs * self.transitions).sum() + self.emissions @ np.log(parameters.emissions, dtype=np.float64))


@dataclass
class Standing:
    """How far a fit is: all that a resumed one needs. Scores are of the valid split, in nats per token."""

    layout: Layout
    counts: Counts
    strengths: Strengths = Strengths()
    n_rounds: int = 0
    """Rounds done with this number of states."""
    is_settled: bool = False
    """Whether more rounds with this number of states would gain little."""
    best: float = -np.inf
    """The best score with this number of states, and its parameters."""
    best_parameters: Parameters | None = None

    def save(self, checkpoint: Checkpoint, fingerprint: str) -> None:
        assert self.best_parameters is not None
        facts = {"n_rounds": self.n_rounds, "is_settled": self.is_settled, "best": self.best}
        arrays = {
            "classes": self.layout.classes,
            "n_states_of": self.layout.n_states_of,
            **{f"counts.{name}": array for name, array in self.counts._asdict().items()},
            **{f"best.{name}": array for name, array in self.best_parameters._asdict().items()},
        }
        checkpoint.save(arrays, {"fingerprint": fingerprint, "strengths": asdict(self.strengths), **facts})

    @classmethod
    def load(cls, checkpoint: Checkpoint, fingerprint: str) -> Standing | None:
        """Where an earlier fit of the same thing stopped, if there was one."""
        saved = checkpoint.load(fingerprint)
        if saved is None:
            return None
        arrays, facts = saved
        return cls(
            Layout(arrays["classes"], arrays["n_states_of"]),
            Counts(*(arrays[f"counts.{name}"] for name in Counts._fields)),
            Strengths(**facts["strengths"]),
            facts["n_rounds"],
            facts["is_settled"],
            facts["best"],
            Parameters(*(arrays[f"best.{name}"] for name in Parameters._fields)),
        )


def class_bigram(data: TrainingData, vocab_size: int, settings: Settings, on_progress: OnProgress | None) -> Standing:
    """Where fitting starts: classes of tokens with one state each, whose counts need no expectation."""
    from lmzoo.models.class_ngram.exchange import cluster  # numba is slow to import

    clustering = cluster(data.train, vocab_size, min(settings.n_classes, settings.n_states), on_progress)
    token_counts = np.bincount(data.train.ids, minlength=vocab_size)
    classes = with_new_tokens(clustering.classes, token_counts == 0, clustering.counts, data.valid)
    layout = Layout(classes, np.ones(int(classes.max()) + 1, np.int64))
    transitions = np.zeros((layout.n_classes,) * 2, np.float32)
    np.add.at(transitions, (classes[data.train.previous_ids()], classes[data.train.ids]), 1)
    return Standing(layout, Counts(transitions, token_counts[layout.tokens].astype(np.float64)))


def split(at: Standing, n_states: int, rng: np.random.Generator) -> Standing:
    """Splits states until there are `n_states`, and shares their counts out unevenly.

    States come to have numbers in proportion to the square roots of how often they occur (by D'Hondt's method): a class
    that occurs often has more to tell apart, but not in proportion.
    """
    masses = np.bincount(at.layout.state_of_emission, at.counts.emissions, at.layout.n_states)
    n_parts = np.ones(at.layout.n_states, np.int64)
    queue = [(-np.sqrt(mass), state) for state, mass in enumerate(masses.tolist()) if state != EOT_STATE]
    heapq.heapify(queue)
    for _ in range(n_states - at.layout.n_states):
        _, state = queue[0]
        n_parts[state] += 1
        heapq.heapreplace(queue, (-np.sqrt(masses[state]) / n_parts[state], state))
    layout, old_state, old_emission = at.layout.split(n_parts)

    def share(counts: NDArray[Any], n_shares: NDArray[np.int64]) -> NDArray[Any]:
        noise = rng.random(counts.shape, dtype=np.float32)
        noise *= 2 * _NOISE
        noise += 1 - _NOISE
        return counts * noise / n_shares.astype(np.float32)

    n_shares = n_parts[old_state]
    transitions = share(share(at.counts.transitions[:, old_state], n_shares)[old_state], n_shares[:, None])
    emissions = share(at.counts.emissions[old_emission], n_shares[layout.state_of_emission])
    return Standing(layout, Counts(transitions, emissions), at.strengths)


@final
class Fit:
    """One fit: where it stands, and how it goes on."""

    def __init__(self, data: TrainingData, vocab_size: int, settings: Settings, seed: int) -> None:
        self._data, self._vocab_size, self._settings, self._seed = data, vocab_size, settings, seed
        self._token_counts = np.bincount(data.train.ids, minlength=vocab_size) + 0.5
        self._fingerprint = data.fingerprint(["class-hmm", vocab_size, asdict(settings), seed])

    def run(
        self, *, on_progress: OnProgress | None = None, checkpoint: Checkpoint | None = None
    ) -> tuple[Layout, Parameters]:
        """The states and their probabilities: of the full size, those that find the valid split most likely.

        Raises TrainingError if an iteration lowers the objective by more than rounding can, or for a checkpoint of
        another fit.
        """
        at = Standing.load(checkpoint, self._fingerprint) if checkpoint else None
        if at is None:
            at = class_bigram(self._data, self._vocab_size, self._settings, on_progress)
        sizes = _sizes(at.layout.n_classes, self._settings.n_states)
        for n_states in sizes:
            if n_states > at.layout.n_states:
                at = split(at, n_states, np.random.default_rng([self._seed, n_states]))
            while n_states == at.layout.n_states and not at.is_settled:
                self._round(at, _reporter(sizes, at, self._settings.n_rounds, on_progress))
                if checkpoint:
                    at.save(checkpoint, self._fingerprint)
        assert at.best_parameters is not None
        return at.layout, at.best_parameters

    def _round(self, at: Standing, report: Callable[[int, float], None]) -> None:
        """Some iterations under one prior; then new strengths for it, and the parameters that they give."""
        from lmzoo.models.class_hmm.inference import expected_counts  # numba is slow to import

        train = self._data.train
        prior, objective = Prior.of(at.counts, at.strengths, at.layout, self._token_counts), -np.inf
        for iteration in range(1, _ROUND + 1):
            parameters = prior.maximise(at.counts, at.layout)
            log_likelihood, at.counts = expected_counts(train, at.layout, parameters)
            before, objective = objective, log_likelihood + prior.log_density(parameters, at.layout)
            if not objective >= before - max(_SLACK * len(train), _ROUNDING * abs(objective)):
                raise TrainingError(
                    f"an iteration of Baum-Welch lowered its objective from {before:.3f} to {objective:.3f} nats, "
                    "which cannot be: please report it with the settings and the corpus"
                )
            report(iteration, log_likelihood / len(train))
        parameters, score = self._tuned(at)
        at.n_rounds += 1
        at.is_settled = at.n_rounds == self._settings.n_rounds or score < at.best + self._settings.tolerance
        if score > at.best:
            at.best, at.best_parameters = score, parameters

    def _tuned(self, at: Standing) -> tuple[Parameters, float]:
        """The M-step whose strengths make the valid split most likely, uphill from the last ones; and its score."""
        parameters, score = self._maximised(at, at.strengths)
        while True:
            for strengths in at.strengths.neighbours():
                candidate, candidate_score = self._maximised(at, strengths)
                if candidate_score > score:
                    parameters, score, at.strengths = candidate, candidate_score, strengths
                    break
            else:
                return parameters, score

    def _maximised(self, at: Standing, strengths: Strengths) -> tuple[Parameters, float]:
        """The M-step, and the mean log-probability of a token of the valid split under it, in nats."""
        from lmzoo.models.class_hmm.inference import log_likelihood  # numba is slow to import

        prior = Prior.of(at.counts, strengths, at.layout, self._token_counts)
        parameters = prior.maximise(at.counts, at.layout)
        return parameters, log_likelihood(self._data.valid, at.layout, parameters) / len(self._data.valid)


def _sizes(n_classes: int, n_states: int) -> list[int]:
    """The numbers of states to fit one after the other: each about half of the next."""
    sizes = [n_states]
    while (half := -(-sizes[0] // 2)) > n_classes:
        sizes.insert(0, half)
    return sizes


def _reporter(
    sizes: list[int], at: Standing, n_rounds: int, on_progress: OnProgress | None
) -> Callable[[int, float], None]:
    """What tells how far a fit is after an iteration of a round; the time for one grows with the square of the size."""

    def report(iteration: int, nats: float) -> None:
        if on_progress is None:
            return
        n_states = at.layout.n_states
        share = (at.n_rounds + iteration / _ROUND) / n_rounds
        done = sum(size**2 for size in sizes if size < n_states) + share * n_states**2
        message = f"{n_states} states, log-likelihood {nats / np.log(2):.4f} bits/token"
        if at.n_rounds:
            message += f", valid perplexity {np.exp(-at.best):.2f} per token"
        on_progress(Progress(100 * done / sum(size**2 for size in sizes), 100, "percent", message))

    return report
