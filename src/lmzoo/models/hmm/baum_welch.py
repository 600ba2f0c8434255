"""Baum-Welch: fitting a hidden Markov model by expectation-maximisation (Baum et al. 1970; Dempster et al. 1977).

With Dirichlet priors, EM maximises log P(train | parameters) + log P(parameters), and the M-step normalises the sums
of expected counts and pseudo-counts. The prior of the emissions is proportional to the unigram probabilities, so that
every token keeps a non-zero probability in every state; the prior of the transitions is uniform. EM never lowers this
objective, and every iteration checks that it did not. Training stops, and the best parameters are chosen, by the
log-probability of the validation set.

With `batch_tokens` there is an M-step after each batch of documents instead of after the whole text, from a running
mean of the counts (on-line EM: Cappé & Moulines 2009; called stepwise EM by Liang & Klein 2009). In a large text, the
first iteration then makes many steps instead of one. The counts of step k have the weight (k + 2)^-0.7, and the
objective may decrease from step to step.

State distributions are float32, which makes matrix products twice as fast and is precise enough for counts. Parameters
and sums are float64.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from lmzoo.checkpoint import Checkpoint
from lmzoo.checks import check_at_least, check_whole
from lmzoo.errors import TrainingError
from lmzoo.models.hmm.inference import Counts, Parameters, expected_counts, likelihoods, sum_of_logs
from lmzoo.models.hmm.packing import PackedText
from lmzoo.models.hmm.threads import batches_in_parallel
from lmzoo.stream import TokenStream, TrainingData
from lmzoo.system.progress import OnProgress, Progress

_SLACK: Final = 2e-6
"""Largest decrease of the objective, in nats per token, that float32 rounding can explain."""
_STEP_EXPONENT: Final = 0.7
"""On-line EM: step k has the weight (k + 2) ** -exponent; exponents between 0.5 and 1 converge."""
_MOST_STATES: Final = 1 << 15
"""Largest number of hidden states: training keeps several matrices of transitions, which then take 8.6 GB each."""
_LEAST_PRIOR: Final = 1e-6
"""Smallest pseudo-count allowed: smaller ones could make probabilities that are 0 in float32."""


@dataclass(frozen=True)
class Settings:
    """Settings of a hidden Markov model, as documented in `lmzoo.models.hmm.hmm`."""

    n_states: int
    n_iterations: int
    n_restarts: int
    emission_prior: float
    transition_prior: float
    tolerance: float
    patience: int
    batch_tokens: int | None

    def __post_init__(self) -> None:
        check_whole(1, _MOST_STATES, n_states=self.n_states)
        check_whole(1, n_iterations=self.n_iterations, n_restarts=self.n_restarts, patience=self.patience)
        check_at_least(_LEAST_PRIOR, emission_prior=self.emission_prior, transition_prior=self.transition_prior)
        check_at_least(0, tolerance=self.tolerance)
        check_whole(1, none_means="for the whole text at once", batch_tokens=self.batch_tokens)


_GROUPS: Final[dict[str, Any]] = {"parameters": Parameters, "best_parameters": Parameters, "running": Counts}
"""The fields of `EMState` that hold arrays, with their types."""


@dataclass
class EMState:
    """The state of an interrupted Baum-Welch fit, from which it resumes: parameters, scores and numbers of iterations.

    Scores are mean log-probabilities of the tokens of the validation set, in nats.
    """

    restart: int = 0
    iteration: int = 0
    """Number of iterations completed in this restart."""
    parameters: Parameters | None = None
    running: Counts | None = None
    """On-line EM: the running mean of the counts, scaled to the whole text."""
    objective: float = -np.inf
    """Objective of the parameters before the last M-step, in nats."""
    score: float = -np.inf
    """Score of the current parameters."""
    best_here: float = -np.inf
    """The best score in this restart."""
    n_without_gain: int = 0
    """Number of iterations since `best_here` last rose by more than the tolerance."""
    best: float = -np.inf
    """The best score of all restarts, reached by `best_parameters`."""
    best_parameters: Parameters | None = None

    def accept(self, parameters: Parameters, objective: float, slack: float) -> None:
        """Replaces the current parameters by new ones, which an M-step has computed, and counts the iteration.

        `objective`, in nats, is the objective of the current parameters, which the E-step has just computed. Raises
        TrainingError if it is more than `slack` below the objective that was stored in the previous iteration.
        """
        self.iteration += 1
        check_objective(self.iteration, self.objective, objective, slack)
        self.parameters, self.objective = parameters, objective

    def record_score(self, score: float, tolerance: float) -> None:
        """Stores the validation score of the current parameters, and keeps the parameters if they are the best so far.

        Also counts, in `n_without_gain`, the successive iterations that have not raised the best score of the restart
        by more than `tolerance`.
        """
        self.n_without_gain = 0 if score > self.best_here + tolerance else self.n_without_gain + 1
        self.score, self.best_here = score, max(score, self.best_here)
        if score > self.best:
            self.best, self.best_parameters = score, self.parameters

    def save(self, checkpoint: Checkpoint, fingerprint: str) -> None:
        facts = {field.name: getattr(self, field.name) for field in fields(self) if field.name not in _GROUPS}
        arrays = {
            f"{group}.{name}": np.asarray(array)
            for group in _GROUPS
            if getattr(self, group) is not None
            for name, array in getattr(self, group)._asdict().items()
        }
        checkpoint.save(arrays, {"fingerprint": fingerprint, "state": facts})

    @classmethod
    def load(cls, checkpoint: Checkpoint, fingerprint: str) -> EMState | None:
        """Loads the state of an interrupted Baum-Welch fit from a checkpoint.

        Returns None if there is no checkpoint.
        """
        saved = checkpoint.load(fingerprint)
        if saved is None:
            return None
        arrays, facts = saved
        groups = {
            group: kind(*(arrays[f"{group}.{name}"] for name in kind._fields))
            for group, kind in _GROUPS.items()
            if f"{group}.{kind._fields[0]}" in arrays
        }
        return cls(**facts["state"] | groups)


def check_objective(iteration: int, before: float, after: float, slack: float) -> None:
    """Raises TrainingError if an iteration of Baum-Welch lowered its objective by more than `slack` nats.

    EM cannot lower its objective, so a larger decrease than rounding explains is a bug.
    """
    if not after >= before - slack:
        raise TrainingError(
            f"iteration {iteration} of Baum-Welch lowered its objective from {before:.3f} to {after:.3f} nats, which a "
            "correct program cannot do: please report this bug, with the settings and the corpus"
        )


def maximise(
    counts: Counts, unigram: NDArray[np.float64], emission_prior: float, transition_prior: float
) -> Parameters:
    """Returns the most likely parameters, given expected counts and Dirichlet priors: the M-step of Baum-Welch.

    `unigram` (V,) holds the probabilities of the V tokens. The priors are pseudo-counts per state: `emission_prior` is
    divided among the tokens in proportion to `unigram`, `transition_prior` evenly among the next states.
    """
    n_states = len(counts.starts)
    starts = counts.starts + transition_prior / n_states
    transitions = counts.transitions + transition_prior / n_states
    emissions = counts.emissions + emission_prior * unigram[:, None]
    emissions /= emissions.sum(axis=0)
    return Parameters(starts / starts.sum(), transitions / transitions.sum(axis=1, keepdims=True), emissions)


def log_prior(
    parameters: Parameters, unigram: NDArray[np.float64], emission_prior: float, transition_prior: float
) -> float:
    """Returns the log-density, in nats, of the parameters of a hidden Markov model under Dirichlet priors.

    A constant term is left out. The priors are pseudo-counts per state: `emission_prior` is divided among the V tokens
    in proportion to their probabilities `unigram` (V,), `transition_prior` evenly among the next states.
    """
    flat = np.log(parameters.startprob).sum() + np.log(parameters.transmat).sum()
    return float(
        transition_prior / len(parameters.startprob) * flat
        + emission_prior * (unigram @ np.log(parameters.emissions)).sum()
    )


def fit_parameters(
    data: TrainingData,
    vocab_size: int,
    settings: Settings,
    *,
    seed: int,
    on_progress: OnProgress | None = None,
    checkpoint: Checkpoint | None = None,
) -> Parameters:
    """Fits a hidden Markov model and returns its parameters.

    Among all iterations of all restarts, the parameters with the highest log-probability of the validation set are
    chosen. Raises TrainingError if an iteration lowers the objective by more than rounding explains, or if the
    checkpoint belongs to a fit with other data or settings.
    """
    from lmzoo.models.hmm.initial import initial_counts  # imports scipy, which a fitted model does not need

    n_states, priors = settings.n_states, (settings.emission_prior, settings.transition_prior)
    total = settings.n_restarts * settings.n_iterations
    unigram = np.bincount(data.train.ids, minlength=vocab_size) + 1.0
    unigram /= unigram.sum()
    fingerprint = data.fingerprint(["hmm", vocab_size, asdict(settings), seed])
    state = (EMState.load(checkpoint, fingerprint) if checkpoint else None) or EMState()
    with batches_in_parallel() as run:
        train = [PackedText.of(part, n_states) for part in _parts(data.train, settings.batch_tokens)]
        valid = PackedText.of(data.valid, n_states)
        for restart in range(state.restart, settings.n_restarts):
            if restart > state.restart:
                state = EMState(restart, best=state.best, best_parameters=state.best_parameters)
            if state.parameters is None:
                start = initial_counts(data.train, vocab_size, n_states, np.random.default_rng([seed, restart]))
                state.parameters = maximise(start, unigram, *priors)
                state.running = start if len(train) > 1 else None
            while state.iteration < settings.n_iterations and state.n_without_gain < settings.patience:
                log_likelihood, objective, parameters = (
                    0.0,
                    log_prior(state.parameters, unigram, *priors),
                    state.parameters,
                )
                for number, part in enumerate(train):
                    counts = expected_counts(part, parameters.astype(np.float32), run)
                    log_likelihood += counts.log_likelihood
                    if state.running is not None:
                        step = state.iteration * len(train) + number
                        share = len(part.stream) / len(data.train)
                        state.running = counts = _update_mean(
                            state.running, counts, share, (step + 2) ** -_STEP_EXPONENT
                        )
                    parameters = maximise(counts, unigram, *priors)
                # On-line EM changes the parameters within the iteration, so that its objective may decrease.
                slack = np.inf if state.running is not None else _SLACK * len(data.train)
                state.accept(parameters, objective + log_likelihood, slack)
                valid_probs = likelihoods(valid, parameters.astype(np.float32), run)
                state.record_score(sum_of_logs(valid_probs) / len(data.valid), settings.tolerance)
                if checkpoint:
                    state.save(checkpoint, fingerprint)
                if on_progress:
                    bits = log_likelihood / len(data.train) / np.log(2)
                    message = (
                        f"log-likelihood {bits:.4f} bits/token, valid perplexity {np.exp(-state.score):.2f} per token"
                    )
                    on_progress(
                        Progress(restart * settings.n_iterations + state.iteration, total, "iterations", message)
                    )
    assert state.best_parameters is not None
    if on_progress:
        on_progress(Progress(total, total, "iterations", f"valid perplexity {np.exp(-state.best):.2f} per token"))
    return state.best_parameters


def _parts(stream: TokenStream, batch_tokens: int | None) -> list[TokenStream]:
    """Divides a token stream into parts of whole documents, with about `batch_tokens` tokens each.

    Returns the whole stream as one part if `batch_tokens` is None.
    """
    if batch_tokens is None:
        return [stream]
    ends = stream.ends
    borders = np.unique(ends[np.searchsorted(ends, np.arange(batch_tokens, len(stream), batch_tokens))])
    parts = np.split(stream.ids, borders)
    return [TokenStream(ids) for ids in parts if ids.size]


def _update_mean(running: Counts, counts: Counts, share: float, weight: float) -> Counts:
    """Returns the running mean of the expected counts after including the counts of one part of the text.

    `share` is the fraction of the text that the part contains. The new counts are divided by `share`, so that they
    estimate the counts of the whole text, and have the given weight in the mean.
    """
    sums = ((1 - weight) * old + weight / share * new for old, new in zip(running[1:], counts[1:], strict=True))
    return Counts(counts.log_likelihood, *sums)
