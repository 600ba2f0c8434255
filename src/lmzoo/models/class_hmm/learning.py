"""Fitting: states are split until there are enough, and trained by Baum-Welch with back-off after each split.

The M-step smooths each row of probabilities with a coarser distribution, by pseudo-counts (Dirichlet priors; MacKay &
Peto 1995, A Hierarchical Dirichlet Language Model):

    A(i, j) = (n(i, j) + a B(c(i), j)) / (n(i) + a)     transitions of state i, smoothed with those of its class
    B(c, j) = (n(c, j) + b m(j)) / (n(c) + b)           transitions of class c, smoothed with state frequencies m
    E(i, w) = (n(i, w) + e P(w | c(i))) / (n(i) + e)    emissions of state i, smoothed with those of its class

n are the expected counts and c(i) is the class of state i. B and the strengths a, b and e are updated between rounds of
iterations; the strengths are chosen by the log-probability of the validation set. Within a round they are constant, so
that Baum-Welch maximises log P(train) + log P(parameters), which is checked at every iteration.
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
from lmzoo.errors import ConfigurationError
from lmzoo.models.class_hmm.layout import EOT_STATE, Counts, Layout, Parameters
from lmzoo.models.class_ngram.model import with_new_tokens
from lmzoo.models.hmm.baum_welch import check_objective
from lmzoo.stream import TrainingData
from lmzoo.system.progress import OnProgress, Progress

_ROUND: Final = 4
"""Iterations of a round, which has one prior."""
_SLACK: Final = 1e-5
"""Largest decrease of the objective, in nats per token, that float32 rounding can explain in a long text."""
_ROUNDING: Final = float(np.finfo(np.float32).eps)
"""Largest relative decrease of the objective that rounding can explain with many states and little text."""
_MANY_STATES: Final = 1 << 15
_LEAST, _MOST = 1e-2, 1e5
"""The smallest and the largest strength of a prior."""
_NOISE: Final = 0.8
"""Relative deviation of the counts of the parts of a split state from equal shares, at most."""


@dataclass(frozen=True)
class Settings:
    """Settings of a large hidden Markov model, as documented in `lmzoo.models.class_hmm.class_hmm`."""

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
                f"n_states must be at most {_MANY_STATES:,}: {self.n_states:,} states would need {gigabytes:,.0f} GB "
                "of memory"
            )


@dataclass(frozen=True)
class Strengths:
    """The strengths of the Dirichlet priors that smooth the probabilities of a hidden Markov model, as pseudo-counts.

    Each state belongs to a class of tokens. The priors interpolate the transitions of a state with those of its class,
    the transitions of a class with the frequencies of all states, and the emissions of a state with those of its class.
    """

    of_state: float = 20.0
    """a: from the transitions of a state to those of its class."""
    of_class: float = 40.0
    """b: from the transitions of a class to the frequencies of states."""
    of_tokens: float = 5.0
    """e: from the emissions of a state to those of its class."""

    def neighbours(self) -> Iterator[Strengths]:
        """Yields copies of a set of prior strengths, each with one of the strengths doubled or halved.

        Copies with a value outside the allowed range are left out. Hill climbing compares the copies with the original.
        """
        for name, value in asdict(self).items():
            yield from (replace(self, **{name: new}) for new in (2 * value, value / 2) if _LEAST <= new <= _MOST)


class Prior(NamedTuple):
    """Dirichlet priors of the transition and emission probabilities of a hidden Markov model, as pseudo-counts.

    Each of the K states emits only the tokens of one of C token classes. N is the number of pairs of a state and a
    token of its class.
    """

    transitions: NDArray[np.float32]
    """Pseudo-counts (C, K) of the transitions from a state of each class: a B."""
    emissions: NDArray[np.float64]
    """Pseudo-counts (N,) of the emissions: e P(w | c)."""

    @classmethod
    def of(cls, counts: Counts, strengths: Strengths, layout: Layout, token_counts: NDArray[np.floating]) -> Prior:
        """Estimates Dirichlet priors for a hidden Markov model whose states belong to token classes.

        The prior of a state is a multiple of the distribution of its class, which is estimated from the expected
        `counts` and from the numbers of occurrences `token_counts` (V,) of the V tokens in the training text, all
        positive. `strengths` are the total pseudo-counts of the priors; `layout` gives the class of each token and
        state.
        """
        masses = np.bincount(layout.state_of_emission, counts.emissions, layout.n_states)
        masses += 1e-6 * masses.sum() / len(masses)  # so that a state without counts stays possible
        rows = np.add.reduceat(counts.transitions, layout.first_state[:-1], axis=0, dtype=np.float64)  # (C, K)
        rows += strengths.of_class * masses / masses.sum()
        rows *= strengths.of_state / rows.sum(axis=1, keepdims=True)
        in_class = token_counts / np.bincount(layout.classes, token_counts)[layout.classes]  # (V,)
        return cls(rows.astype(np.float32), strengths.of_tokens * in_class[layout.token_of_emission])

    def maximise(self, counts: Counts, layout: Layout) -> Parameters:
        """Returns the most likely parameters, given expected counts and the Dirichlet prior: the M-step of Baum-Welch.

        `layout` gives the class of each token and state.
        """
        transmat = counts.transitions + self.transitions[layout.class_of_state]
        transmat /= transmat.sum(axis=1, keepdims=True)
        emissions = counts.emissions + self.emissions
        emissions /= np.bincount(layout.state_of_emission, emissions)[layout.state_of_emission]
        return Parameters(transmat, emissions.astype(np.float32))

    def log_density(self, parameters: Parameters, layout: Layout) -> float:
        """Returns the log-density of the parameters under the prior, in nats, without a constant term."""
        logs = np.add.reduceat(np.log(parameters.transmat), layout.first_state[:-1], axis=0, dtype=np.float64)
        return float((logs * self.transitions).sum() + self.emissions @ np.log(parameters.emissions, dtype=np.float64))


@dataclass
class SplittingState:
    """The state of an interrupted fit of a large hidden Markov model: counts, parameters and scores to resume from.

    The fit starts with few hidden states, and splits them until it has the requested number. Scores are mean
    log-probabilities of the tokens of the validation set, in nats.
    """

    layout: Layout
    counts: Counts
    strengths: Strengths = Strengths()
    n_rounds: int = 0
    """Number of rounds completed with the current number of states."""
    is_settled: bool = False
    """True if more rounds with the current number of states would gain little."""
    best: float = -np.inf
    """The best score with the current number of states, reached by `best_parameters`."""
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
    def load(cls, checkpoint: Checkpoint, fingerprint: str) -> SplittingState | None:
        """Loads the state of an interrupted fit of a large hidden Markov model from a checkpoint.

        Returns None if there is no checkpoint.
        """
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


def class_bigram(
    data: TrainingData, vocab_size: int, settings: Settings, on_progress: OnProgress | None
) -> SplittingState:
    """Clusters the tokens into classes and counts class bigrams, as the initial model from which a fit starts.

    This model is a hidden Markov model with one hidden state for each class. Its states are known from the tokens, so
    that its counts are exact without an E-step.
    """
    from lmzoo.models.class_ngram.exchange import cluster  # numba is slow to import

    clustering = cluster(data.train, vocab_size, min(settings.n_classes, settings.n_states), on_progress)
    token_counts = np.bincount(data.train.ids, minlength=vocab_size)
    classes = with_new_tokens(clustering.classes, token_counts == 0, clustering.counts, data.valid)
    layout = Layout(classes, np.ones(int(classes.max()) + 1, np.int64))
    transitions = np.zeros((layout.n_classes,) * 2, np.float32)
    np.add.at(transitions, (classes[data.train.previous_ids()], classes[data.train.ids]), 1)
    return SplittingState(layout, Counts(transitions, token_counts[layout.tokens].astype(np.float64)))


def split(state: SplittingState, n_states: int, rng: np.random.Generator) -> SplittingState:
    """Splits the hidden states of a model into several states each, so that their total number grows to `n_states`.

    The counts of a state are divided among its parts with random noise. The number of parts is proportional to the
    square root of the frequency of the state, rounded by D'Hondt's method: frequent states have more contexts to
    distinguish, but not in proportion to their frequency. `state` is the state of the fit.
    """
    masses = np.bincount(state.layout.state_of_emission, state.counts.emissions, state.layout.n_states)
    n_parts = np.ones(state.layout.n_states, np.int64)
    queue = [(-np.sqrt(mass), number) for number, mass in enumerate(masses.tolist()) if number != EOT_STATE]
    heapq.heapify(queue)
    for _ in range(n_states - state.layout.n_states):
        _, number = queue[0]
        n_parts[number] += 1
        heapq.heapreplace(queue, (-np.sqrt(masses[number]) / n_parts[number], number))
    layout, old_state, old_emission = state.layout.split(n_parts)

    def share(counts: NDArray[Any], n_shares: NDArray[np.int64]) -> NDArray[Any]:
        noise = rng.random(counts.shape, dtype=np.float32)
        noise *= 2 * _NOISE
        noise += 1 - _NOISE
        return counts * noise / n_shares.astype(np.float32)

    n_shares = n_parts[old_state]
    transitions = share(share(state.counts.transitions[:, old_state], n_shares)[old_state], n_shares[:, None])
    emissions = share(state.counts.emissions[old_emission], n_shares[layout.state_of_emission])
    return SplittingState(layout, Counts(transitions, emissions), state.strengths)


@final
class Fit:
    """The training of a large hidden Markov model on given data, with given settings and random seed."""

    def __init__(self, data: TrainingData, vocab_size: int, settings: Settings, seed: int) -> None:
        self._data, self._vocab_size, self._settings, self._seed = data, vocab_size, settings, seed
        self._token_counts = np.bincount(data.train.ids, minlength=vocab_size) + 0.5
        self._fingerprint = data.fingerprint(["class-hmm", vocab_size, asdict(settings), seed])

    def run(
        self, *, on_progress: OnProgress | None = None, checkpoint: Checkpoint | None = None
    ) -> tuple[Layout, Parameters]:
        """Fits a hidden Markov model by Baum-Welch, and returns the layout of its states and its parameters.

        The number of states is about doubled, several times, until it is the requested one. Among the parameters with
        the requested number of states, those with the highest log-probability of the validation set are chosen. The
        layout gives the class of each token and state. Raises TrainingError if an iteration lowers the objective by
        more than rounding explains, or if the checkpoint belongs to a fit with other data or settings.
        """
        state = SplittingState.load(checkpoint, self._fingerprint) if checkpoint else None
        if state is None:
            state = class_bigram(self._data, self._vocab_size, self._settings, on_progress)
        sizes = _sizes(state.layout.n_classes, self._settings.n_states)
        for n_states in sizes:
            if n_states > state.layout.n_states:
                state = split(state, n_states, np.random.default_rng([self._seed, n_states]))
            while n_states == state.layout.n_states and not state.is_settled:
                self._round(state, _reporter(sizes, state, self._settings.n_rounds, on_progress))
                if checkpoint:
                    state.save(checkpoint, self._fingerprint)
        assert state.best_parameters is not None
        return state.layout, state.best_parameters

    def _round(self, state: SplittingState, report: Callable[[int, float], None]) -> None:
        """Runs one round of Baum-Welch iterations with constant priors, and updates `state`, the state of the fit.

        Afterwards, the strengths of the priors are chosen on the validation set, and the parameters are kept if they
        are the best so far. `report` is called after each iteration with its number and the log-likelihood in nats per
        token.
        """
        from lmzoo.models.class_hmm.inference import expected_counts  # numba is slow to import

        train = self._data.train
        prior, objective = Prior.of(state.counts, state.strengths, state.layout, self._token_counts), -np.inf
        for iteration in range(1, _ROUND + 1):
            parameters = prior.maximise(state.counts, state.layout)
            log_likelihood, state.counts = expected_counts(train, state.layout, parameters)
            before, objective = objective, log_likelihood + prior.log_density(parameters, state.layout)
            check_objective(iteration, before, objective, max(_SLACK * len(train), _ROUNDING * abs(objective)))
            report(iteration, log_likelihood / len(train))
        parameters, score = self._tune_strengths(state)
        state.n_rounds += 1
        state.is_settled = state.n_rounds == self._settings.n_rounds or score < state.best + self._settings.tolerance
        if score > state.best:
            state.best, state.best_parameters = score, parameters

    def _tune_strengths(self, state: SplittingState) -> tuple[Parameters, float]:
        """Chooses the strengths of the priors by hill climbing on the validation set, and stores them in `state`.

        Returns the parameters of the M-step with these strengths, and the mean log-probability of the validation
        tokens, in nats.
        """
        parameters, score = self._maximise_and_score(state, state.strengths)
        while True:
            for strengths in state.strengths.neighbours():
                candidate, candidate_score = self._maximise_and_score(state, strengths)
                if candidate_score > score:
                    parameters, score, state.strengths = candidate, candidate_score, strengths
                    break
            else:
                return parameters, score

    def _maximise_and_score(self, state: SplittingState, strengths: Strengths) -> tuple[Parameters, float]:
        """Computes new parameters of a hidden Markov model from expected counts (M-step), and their validation score.

        `strengths` are the weights of the priors of the parameters, as pseudo-counts. The score is the mean
        log-probability of the tokens of the validation set, in nats.
        """
        from lmzoo.models.class_hmm.inference import log_likelihood  # numba is slow to import

        prior = Prior.of(state.counts, strengths, state.layout, self._token_counts)
        parameters = prior.maximise(state.counts, state.layout)
        return parameters, log_likelihood(self._data.valid, state.layout, parameters) / len(self._data.valid)


def _sizes(n_classes: int, n_states: int) -> list[int]:
    """Returns the numbers of hidden states of the models that a fit trains one after the other, in increasing order.

    The last number is `n_states`. Each other number is half of the next number, rounded up, and greater than
    `n_classes`, the number of states at which the fit starts.
    """
    sizes = [n_states]
    while (half := -(-sizes[0] // 2)) > n_classes:
        sizes.insert(0, half)
    return sizes


def _reporter(
    sizes: list[int], state: SplittingState, n_rounds: int, on_progress: OnProgress | None
) -> Callable[[int, float], None]:
    """Returns a function that reports the progress of a fit after each iteration of expectation-maximisation.

    The fit trains models with increasing numbers of hidden states, `sizes`, for at most `n_rounds` rounds each. The
    reported percentage of completed work is computed as if the time for an iteration were proportional to the square of
    the number of states.
    """

    def report(iteration: int, nats: float) -> None:
        if on_progress is None:
            return
        n_states = state.layout.n_states
        share = (state.n_rounds + iteration / _ROUND) / n_rounds
        done = sum(size**2 for size in sizes if size < n_states) + share * n_states**2
        message = f"{n_states} states, log-likelihood {nats / np.log(2):.4f} bits/token"
        if state.n_rounds:
            message += f", valid perplexity {np.exp(-state.best):.2f} per token"
        on_progress(Progress(100 * done / sum(size**2 for size in sizes), 100, "percent", message))

    return report
