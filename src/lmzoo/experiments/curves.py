"""Learning curves: every species fitted on ever larger shares of one train split, measured on the same test split.

    run/run.json        what was asked for
    run/tokenizer.json  the tokenizer that all share
    run/share-64/       a run of `compare` on 1/64 of the train split, and so on
    run/share-1/        to one on all of it
    run/curves.jsonl    the records of them all

A share holds the documents of each smaller one. The tokenizer is trained once, on the whole train split: losses lie on
one curve only under one vocabulary, so a small share knows of the rest which tokens there are. `valid`, on which some
species tune, is the same for every share. A network reads each share equally often: its budget in tokens shrinks with
the text (save that of networks within a mixture or a cache, which keep theirs).
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from lmzoo import zoo
from lmzoo.checks import check_whole
from lmzoo.corpora import Corpus, load_corpus
from lmzoo.corpora.encoded import EncodedCorpus, tokenizer_for
from lmzoo.errors import CorpusError, SavedModelError, UsageError
from lmzoo.evaluation.records import EvalRecord, read_lines, read_records, write_records
from lmzoo.evaluation.scaling import Crossing, PowerLaw, crossings, fit_power_law, leaders
from lmzoo.evaluation.scores import load_scores
from lmzoo.evaluation.statistics import grouping
from lmzoo.experiments.budgets import merged, settings_for
from lmzoo.experiments.compare import compare
from lmzoo.experiments.run_folder import open_run, scores_path
from lmzoo.predictor import DEFAULT_CORPUS
from lmzoo.system.jobs import Outcome, check_jobs, named
from lmzoo.system.placement import Device
from lmzoo.system.progress import OnProgress, Progress
from lmzoo.system.version import __version__
from lmzoo.tokenizers import Tokenizer, check_tokenizer

SMALLEST: Final = 64
"""The smallest share is one part of so many."""
_N_RESAMPLES = 1000


# ---- Measuring --------------------------------------------------------------------------------------


@dataclass
class CurvesRun:
    """What became of a run."""

    folder: Path
    records: list[EvalRecord] = field(default_factory=list)
    """Of all shares, the smallest first."""
    failures: list[Outcome[EvalRecord]] = field(default_factory=list)


def curves(
    folder: str | Path,
    *,
    species: Sequence[str] | None = None,
    corpus: str | Path | Corpus = DEFAULT_CORPUS,
    tokenizer: str | None = None,
    budget: str = "quick",
    settings: Mapping[str, Mapping[str, Any]] | None = None,
    sizes: Mapping[str, Mapping[str, Sequence[Any]]] | None = None,
    smallest: int = SMALLEST,
    seed: int = 0,
    jobs: int | None = None,
    device: Device = "auto",
    command: str = "",
    on_progress: Callable[[str, Progress], None] | None = None,
    on_outcome: Callable[[int, Outcome[EvalRecord]], None] | None = None,
) -> CurvesRun:
    """Fits and measures `species` (default: all that lmzoo brings) on shares from 1/`smallest` to all, in `folder`.

    Each share is a run of `compare`, whose arguments are explained there; `sizes` are its `sweeps`, such as
    {"lstm": {"d_hidden": [64, 128, 256]}}. `budget` and `settings` are for the whole text. Outcomes come with the
    number of parts of which their share is one. What was fitted is reused, so that a run goes on where it was stopped.
    From a script, call this under `if __name__ == "__main__":`.
    """
    check_jobs(jobs)
    folder = Path(folder)
    chosen = list(dict.fromkeys(species)) if species else zoo.built_in_names()
    settings, sizes = settings or {}, sizes or {}
    zoo.check_choice_of_settings(settings, {*chosen, *sizes})
    if isinstance(tokenizer, str):
        check_tokenizer(tokenizer)
    if any(setting.startswith("training.tokens") for swept in sizes.values() for setting in swept):
        raise UsageError("the tokens that a network is trained on follow the share: sweep its size, as lstm.d_hidden")
    budgets = {name: _token_budget(name, budget, settings.get(name, {})) for name in {*chosen, *sizes, *settings}}
    if not isinstance(corpus, Corpus):
        corpus = load_corpus(corpus)
    shares = nested_shares(corpus, smallest, seed=seed)
    request = {
        "kind": "learning curves",
        "corpus": corpus.name,
        "corpus_fingerprint": corpus.fingerprint,
        "tokenizer": tokenizer,
        "seed": seed,
        "lmzoo": __version__,
    }
    with open_run(folder, request):
        shared = _tokenizer(folder / "tokenizer.json", corpus, tokenizer, named("tokenizer", on_progress))
        run, path = CurvesRun(folder), folder / "curves.jsonl"
        points = {_place(record): record for record in read_lines(path, EvalRecord)}
        for n_parts, part in reversed(shares.items()):
            share = _n_bytes(part) / _n_bytes(corpus)
            comparison = compare(
                folder / f"share-{n_parts}",
                species=chosen,
                corpus=part,
                tokenizer=shared,
                budget=budget,
                settings={
                    name: merged(settings.get(name, {}), _scaled(tokens, share)) for name, tokens in budgets.items()
                },
                sweeps=sizes,
                seed=seed,
                jobs=jobs,
                device=device,
                command=command,
                on_progress=_of_share(n_parts, on_progress),
                on_outcome=(lambda outcome, n_parts=n_parts: on_outcome(n_parts, outcome)) if on_outcome else None,
            )
            of_share = [replace(record, train_share=1 / n_parts) for record in comparison.records]
            run.records += of_share
            run.failures += comparison.failures
            points |= {_place(record): record for record in of_share}
            for failed in comparison.failures:  # what it was with other settings belongs to another curve
                points.pop((failed.name, 1 / n_parts), None)
            write_records(path, list(points.values()))
    return run


def _place(record: EvalRecord) -> tuple[str, float | None]:
    """Of a point among those of all curves."""
    return record.name, record.train_share


def nested_shares(corpus: Corpus, smallest: int = SMALLEST, *, seed: int = 0) -> dict[int, Corpus]:
    """The corpus with 1/1, 1/2, 1/4 .. 1/`smallest` of its train split in bytes, to the nearest document.

    Documents are drawn in an order of `seed`, and stand in their own; a share holds those of each smaller one. Ends
    earlier where a share would have no fewer documents than the one before. CorpusError if there is nothing to cut.
    """
    check_whole(2, smallest=smallest)
    order = np.random.default_rng(seed).permutation(len(corpus.train))
    sizes = np.array([corpus.train[place].n_bytes for place in order]).cumsum()
    shares = {1: corpus}
    n_before = len(order)
    for n_parts in (2**power for power in range(1, smallest.bit_length())):
        n_documents = 1 + int(np.abs(sizes - sizes[-1] / n_parts).argmin())
        if n_documents == n_before:
            break
        n_before = n_documents
        shares[n_parts] = replace(
            corpus,
            train=[corpus.train[place] for place in sorted(order[:n_documents].tolist())],
            protocol=f"{corpus.protocol}; of train, 1/{n_parts}: {n_documents} documents, drawn with seed {seed}",
        )
    if len(shares) == 1:
        raise CorpusError(f"the train split of '{corpus.name}' is one document: a learning curve needs several to cut")
    return shares


def _n_bytes(corpus: Corpus) -> int:
    return sum(document.n_bytes for document in corpus.train)


def _token_budget(name: str, budget: str, settings: Mapping[str, Any]) -> int | None:
    """How many tokens a network is trained on with the whole text; None for other species."""
    if "training" not in zoo.defaults(name):
        return None
    from lmzoo.neural.neural_lm import NeuralLM  # here, as it imports torch

    model = zoo.create(name, 2, **merged(settings_for(name, budget), settings))
    return model.training.tokens if isinstance(model, NeuralLM) else None


def _scaled(tokens: int | None, share: float) -> dict[str, Any]:
    return {} if tokens is None else {"training": {"tokens": max(1, round(tokens * share))}}


def _tokenizer(path: Path, corpus: Corpus, spec: str | None, on_progress: OnProgress) -> Tokenizer:
    if not path.exists():
        tokenizer_for(corpus, spec, on_progress).save(path)
    return Tokenizer.load(path)


def _of_share(
    n_parts: int, on_progress: Callable[[str, Progress], None] | None
) -> Callable[[str, Progress], None] | None:
    if on_progress is None:
        return None
    return lambda name, progress: on_progress(f"{share_name(n_parts)} · {name}", progress)


def share_name(n_parts: int) -> str:
    """As "1/64", or "all"."""
    return "all" if n_parts == 1 else f"1/{n_parts}"


# ---- Reading ----------------------------------------------------------------------------------------


Against = Literal["tokens", "parameters", "FLOPs"]


@dataclass(frozen=True)
class Law:
    """How the loss of an entry, or of all sizes of a species, falls with what is spent."""

    name: str
    against: Against
    """Training tokens; parameters, of the sizes of a species on all of the text; or operations of learning, along the
    best that networks of a species came to with as many."""
    n_points: int
    law: PowerLaw | None
    """None if there are too few points, or the loss does not fall."""


@dataclass(frozen=True, eq=False)
class Curves:
    """The curves of S entries over n shares of the train split, best at the end first."""

    records: list[EvalRecord]
    """All points that have a loss, the smallest share first."""
    names: list[str]
    n_parts: list[int]
    """Each share is one of so many parts of the train split."""
    n_train_tokens: NDArray[np.float64]
    """(n,) of each share, rising."""
    losses: NDArray[np.float64]
    """(S, n) in `unit`; NaN where an entry has no point."""
    unit: str
    """"bits/byte", or "bits/token" under a tokenizer that loses something."""
    resampled: NDArray[np.float64]
    """(R, S, n) losses on R resamples of the test split, the same for all; NaN where there are no scores."""

    @cached_property
    def static(self) -> list[str]:
        """The entries that can be held against each other: not those that adapt to the test text."""
        adaptive = {record.name for record in self.records if record.adapts_on_test}
        return [name for name in self.names if name not in adaptive]

    def leaders(self) -> list[tuple[float, str]]:
        """Who is best: (training tokens from which on, entry), among those that have a point on every share."""
        whole = [name for name in self.static if np.isfinite(self.losses[self.names.index(name)]).all()]
        if not whole:
            return []
        rows = self.losses[[self.names.index(name) for name in whole]]
        return [(tokens, whole[row]) for tokens, row in leaders(self.n_train_tokens, rows)]

    def crossings(self, first: str, second: str) -> list[Crossing]:
        """Where the curves of two entries cross, in training tokens."""
        rows = [self.names.index(first), self.names.index(second)]
        there = np.isfinite(self.losses[rows]).all(axis=0)
        one, other = self.losses[rows][:, there]
        draws = self.resampled[:, rows][:, :, there]
        resampled = (draws[:, 0], draws[:, 1]) if np.isfinite(draws).all() else None
        return crossings(self.n_train_tokens[there], one, other, resampled)

    def laws(self) -> list[Law]:
        """Of every entry against tokens; and, for species with networks or sizes, against operations and parameters."""
        found = []
        for name, row in zip(self.names, self.losses, strict=True):
            there = np.isfinite(row)
            found.append(_law(name, "tokens", self.n_train_tokens[there], row[there]))
        for species in dict.fromkeys(record.species for record in self.records):
            own = [record for record in self.records if record.species == species]
            on_all = [record for record in own if record.train_share == 1]
            if len({record.n_parameters for record in on_all}) > 1:
                found.append(_law(species, "parameters", *_best(on_all, lambda record: record.n_parameters)))
            if any(record.training_flops for record in own):
                found.append(_law(species, "FLOPs", *_best(own, lambda record: record.training_flops)))
        return found


def loss_of(record: EvalRecord) -> float | None:
    """Bits per byte, or per token under a tokenizer that loses something; None if something was impossible."""
    if record.lossless or record.perplexity_per_token is None:
        return record.bits_per_byte
    return math.log2(record.perplexity_per_token)


def read_curves(folder: str | Path) -> Curves:
    """The curves of a run; SavedModelError if the folder holds none."""
    folder = Path(folder)
    if not (folder / "curves.jsonl").is_file():
        raise SavedModelError(f"there are no learning curves in {folder} (see: lmzoo curves)")
    points = {
        (record.name, round(1 / record.train_share)): record
        for record in read_records(folder / "curves.jsonl")
        if record.train_share and loss_of(record) is not None
    }
    if not points:
        raise SavedModelError(f"{folder / 'curves.jsonl'} holds no point with a loss: run lmzoo curves --out {folder}")
    records = list(points.values())
    n_parts = sorted({parts for _, parts in points}, reverse=True)
    tokens = {parts: record.n_train_tokens for (_, parts), record in points.items()}
    names = list(dict.fromkeys(record.name for record in records))
    losses = np.array(
        [[loss_of(points[name, n]) if (name, n) in points else None for n in n_parts] for name in names], np.float64
    )
    order = np.argsort(losses[:, -1], kind="stable")  # NaN is last
    names = [names[row] for row in order]
    return Curves(
        records=records,
        names=names,
        n_parts=n_parts,
        n_train_tokens=np.array([tokens[n] for n in n_parts], np.float64),
        losses=losses[order],
        unit="bits/byte" if records[0].lossless else "bits/token",
        resampled=_resampled(folder, names, n_parts, lossless=records[0].lossless),
    )


def _resampled(folder: Path, names: Sequence[str], n_parts: Sequence[int], *, lossless: bool) -> NDArray[np.float64]:
    """(R, S, n) losses when documents of the test split are drawn anew; NaN where scores cannot be read."""
    losses = np.full((_N_RESAMPLES, len(names), len(n_parts)), np.nan)
    try:
        test = EncodedCorpus.load(folder / f"share-{n_parts[0]}" / "encoded").test
    except SavedModelError:
        return losses
    starts, n_tokens = grouping(test.stream).starts, len(test.stream)
    times = np.random.default_rng(0).multinomial(len(starts), np.full(len(starts), 1 / len(starts)), _N_RESAMPLES)
    units = times @ np.add.reduceat(test.bytes_by_token if lossless else np.ones(n_tokens), starts)  # (R,)
    for row, name in enumerate(names):
        for column, n in enumerate(n_parts):
            with contextlib.suppress(SavedModelError):
                scores = load_scores(scores_path(folder / f"share-{n}", name, "test"), n_tokens)
                bits = -np.add.reduceat(scores.log_probs.astype(np.float64), starts) / math.log(2)  # (G,)
                losses[:, row, column] = times @ bits / units
    return losses


def _best(
    records: Sequence[EvalRecord], spent: Callable[[EvalRecord], float | None]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """What was spent (n,), rising, and the losses (n,), of those with a lower loss than all that spent less."""
    figures = np.array(sorted((spent(record) or 0, loss_of(record) or 0) for record in records), np.float64)
    figures = figures[figures[:, 0] > 0]
    lowest = np.minimum.accumulate(figures[:, 1])
    kept = np.diff(lowest, prepend=np.inf) < 0
    return figures[kept, 0], lowest[kept]


def _law(name: str, against: Against, spent: NDArray[np.float64], losses: NDArray[np.float64]) -> Law:
    return Law(name, against, len(spent), fit_power_law(spent, losses))
