"""Baum-Welch: fitting a hidden Markov model by expectation-maximisation (Baum et al. 1970; Dempster et al. 1977).

With Dirichlet priors it climbs log P(train | parameters) + log P(parameters), and the M-step is counts plus
pseudo-counts, normalised. The prior of the emissions has the shape of the unigram, so that every token stays possible
in every state; that of the transitions is flat. No iteration may lower the objective: this is checked. When to stop is
not read from the objective but from the valid split, whose best parameters are kept.

With `batch_tokens` the M-step is not made after the whole text but after each batch of documents, from a running mean
of counts (on-line EM: Cappé & Moulines 2009; as stepwise EM, Liang & Klein 2009): in a large text a first look at all
of it is many steps instead of one. Step k has the weight (k + 2)^-0.7, and the objective may fall from step to step.

Beliefs are float32 (a product of matrices is twice as fast, and counts need no more), parameters and sums are float64.
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
from lmzoo.models.hmm.initial import initial_counts
from lmzoo.models.hmm.packing import PackedText
from lmzoo.models.hmm.threads import batches_in_parallel
from lmzoo.stream import TokenStream, TrainingData
from lmzoo.system.progress import OnProgress, Progress

_SLACK: Final = 2e-6
"""By how many nats per token rounding to float32 may seem to lower the objective."""
_FORGETTING: Final = 0.7
"""On-line EM: the power with which the weight of new counts falls. Between 0.5 and 1 it converges."""
_LEAST_PRIOR: Final = 1e-6
"""Smaller pseudo-counts could make a probability that float32 takes for 0."""


@dataclass(frozen=True)
class Settings:
    """What `lmzoo.models.hmm.hmm` says of them."""

    n_states: int
    n_iterations: int
    n_restarts: int
    emission_prior: float
    transition_prior: float
    tolerance: float
    patience: int
    batch_tokens: int | None

    def __post_init__(self) -> None:
        check_whole(
            1,
            n_states=self.n_states,
            n_iterations=self.n_iterations,
            n_restarts=self.n_restarts,
            patience=self.patience,
        )
        check_at_least(_LEAST_PRIOR, emission_prior=self.emission_prior, transition_prior=self.transition_prior)
        check_at_least(0, tolerance=self.tolerance)
        check_whole(1, none_means="for the whole text at once", batch_tokens=self.batch_tokens)


_GROUPS: Final[dict[str, Any]] = {"parameters": Parameters, "best_parameters": Parameters, "running": Counts}
"""Fields of the class below that hold arrays."""


@dataclass
class _Standing:
    """How far a fit is: all that a resumed one needs. Scores are of the valid split, in nats per token."""

    restart: int = 0
    iteration: int = 0
    """Iterations done in this restart."""
    parameters: Parameters | None = None
    running: Counts | None = None
    """On-line EM: the mean of counts so far, as if of the whole text."""
    objective: float = -np.inf
    """Of the parameters before the last M-step, in nats."""
    score: float = -np.inf
    best_here: float = -np.inf
    """The best score in this restart; `best` is the best of all."""
    n_in_vain: int = 0
    """Iterations since `best_here` last rose by more than the tolerance."""
    best: float = -np.inf
    best_parameters: Parameters | None = None

    def climb(self, parameters: Parameters, objective: float, slack: float) -> None:
        """Takes over the parameters that an M-step found from those of the given objective."""
        self.iteration += 1
        if not objective >= self.objective - slack:
            raise TrainingError(
                f"iteration {self.iteration} of Baum-Welch lowered its objective from {self.objective:.3f} to "
                f"{objective:.3f} nats, which cannot be: please report it with the settings and the corpus"
            )
        self.parameters, self.objective = parameters, objective

    def compare(self, score: float, tolerance: float) -> None:
        """Notes the score of the parameters, and keeps them if they are the best."""
        self.n_in_vain = 0 if score > self.best_here + tolerance else self.n_in_vain + 1
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
        checkpoint.save(arrays, {"fingerprint": fingerprint, "standing": facts})

    @classmethod
    def load(cls, checkpoint: Checkpoint, fingerprint: str) -> _Standing | None:
        """Where an earlier fit of the same thing stopped, if there was one."""
        saved = checkpoint.load(fingerprint)
        if saved is None:
            return None
        arrays, facts = saved
        groups = {
            group: kind(*(arrays[f"{group}.{name}"] for name in kind._fields))
            for group, kind in _GROUPS.items()
            if f"{group}.{kind._fields[0]}" in arrays
        }
        return cls(**facts["standing"] | groups)


def maximise(
    counts: Counts, unigram: NDArray[np.float64], emission_prior: float, transition_prior: float
) -> Parameters:
    """The M-step: the parameters under which the counts, and a Dirichlet prior of these weights, are most likely."""
    n_states = len(counts.starts)
    starts = counts.starts + transition_prior / n_states
    transitions = counts.transitions + transition_prior / n_states
    emissions = counts.emissions + emission_prior * unigram[:, None]
    emissions /= emissions.sum(axis=0)
    return Parameters(starts / starts.sum(), transitions / transitions.sum(axis=1, keepdims=True), emissions)


def log_prior(
    parameters: Parameters, unigram: NDArray[np.float64], emission_prior: float, transition_prior: float
) -> float:
    """Logarithm of the density of the parameters under the prior, up to a constant."""
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
    """The parameters that find the valid split most likely, among all iterations of all restarts.

    Raises TrainingError if an iteration lowers the objective by more than rounding can, or for a checkpoint of another
    fit.
    """
    n_states, priors = settings.n_states, (settings.emission_prior, settings.transition_prior)
    total = settings.n_restarts * settings.n_iterations
    unigram = np.bincount(data.train.ids, minlength=vocab_size) + 1.0
    unigram /= unigram.sum()
    fingerprint = data.fingerprint(["hmm", vocab_size, asdict(settings), seed])
    at = (_Standing.load(checkpoint, fingerprint) if checkpoint else None) or _Standing()
    with batches_in_parallel() as run:
        train = [PackedText.of(part, n_states) for part in _parts(data.train, settings.batch_tokens)]
        valid = PackedText.of(data.valid, n_states)
        for restart in range(at.restart, settings.n_restarts):
            if restart > at.restart:
                at = _Standing(restart, best=at.best, best_parameters=at.best_parameters)
            if at.parameters is None:
                start = initial_counts(data.train, vocab_size, n_states, np.random.default_rng([seed, restart]))
                at.parameters = maximise(start, unigram, *priors)
                at.running = start if len(train) > 1 else None
            while at.iteration < settings.n_iterations and at.n_in_vain < settings.patience:
                log_likelihood, objective, parameters = 0.0, log_prior(at.parameters, unigram, *priors), at.parameters
                for number, part in enumerate(train):
                    counts = expected_counts(part, parameters.astype(np.float32), run)
                    log_likelihood += counts.log_likelihood
                    if at.running is not None:
                        step = at.iteration * len(train) + number
                        share = len(part.stream) / len(data.train)
                        at.running = counts = _mixed(at.running, counts, share, (step + 2) ** -_FORGETTING)
                    parameters = maximise(counts, unigram, *priors)
                # On-line, the parameters changed meanwhile: there is no objective that must have risen.
                slack = np.inf if at.running is not None else _SLACK * len(data.train)
                at.climb(parameters, objective + log_likelihood, slack)
                valid_probs = likelihoods(valid, parameters.astype(np.float32), run)
                at.compare(sum_of_logs(valid_probs) / len(data.valid), settings.tolerance)
                if checkpoint:
                    at.save(checkpoint, fingerprint)
                if on_progress:
                    bits = log_likelihood / len(data.train) / np.log(2)
                    message = (
                        f"log-likelihood {bits:.4f} bits/token, valid perplexity {np.exp(-at.score):.2f} per token"
                    )
                    on_progress(Progress(restart * settings.n_iterations + at.iteration, total, "iterations", message))
    assert at.best_parameters is not None
    if on_progress:
        on_progress(Progress(total, total, "iterations", f"valid perplexity {np.exp(-at.best):.2f} per token"))
    return at.best_parameters


def _parts(stream: TokenStream, batch_tokens: int | None) -> list[TokenStream]:
    """The documents in batches of about so many tokens, at least one document in each; None = all in one."""
    if batch_tokens is None:
        return [stream]
    ends = stream.ends
    borders = np.unique(ends[np.searchsorted(ends, np.arange(batch_tokens, len(stream), batch_tokens))])
    parts = np.split(stream.ids, borders)
    return [TokenStream(ids) for ids in parts if ids.size]


def _mixed(running: Counts, counts: Counts, share: float, weight: float) -> Counts:
    """A running mean with the counts of a part of the text, scaled up to all of it."""
    sums = ((1 - weight) * old + weight / share * new for old, new in zip(running[1:], counts[1:], strict=True))
    return Counts(counts.log_likelihood, *sums)
