"""Reads the records of a run of `lmzoo curves` as learning curves, with power laws and crossings."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from lmzoo.corpora.encoded import EncodedCorpus
from lmzoo.errors import SavedModelError
from lmzoo.evaluation.records import EvalRecord, read_records
from lmzoo.evaluation.scaling import Crossing, PowerLaw, crossings, fit_power_law, leaders
from lmzoo.evaluation.scores import load_scores
from lmzoo.evaluation.statistics import resampling_units, sums_of_units
from lmzoo.experiments.run_folder import read_request, scores_path

RECORDS: Final = "curves.jsonl"
"""Name of the file with the records of all shares."""
SHARE_MARK: Final = "; of train, "
"""Text in the protocol of a share, between the protocol of the corpus and the description of the share."""
_N_RESAMPLES = 1000

Against = Literal["tokens", "parameters", "FLOPs"]


@dataclass(frozen=True)
class Law:
    """A power law for the losses of models, as a function of training tokens, parameters or training FLOPs.

    The losses to which it was fitted are those of one model on several shares of the text, or of several models of a
    species.
    """

    name: str
    """Name of the model, or of the species."""
    against: Against
    """The expense: training tokens; parameters, for the models of a species that were trained on the whole text; or
    training FLOPs. Laws against parameters or FLOPs are fitted to models with a lower loss than all cheaper models."""
    n_points: int
    """Number of points of the fit."""
    law: PowerLaw | None
    """The power law; None if there are too few points, or if the loss does not fall."""


@dataclass(frozen=True, eq=False)
class Curves:
    """The learning curves of S models over n shares of the train split, sorted by the loss on the largest share."""

    corpus_fingerprint: str
    """Hash of the documents of the corpus, of which the shares are parts."""
    records: list[EvalRecord]
    """The records that have a loss, the smallest share first."""
    names: list[str]
    """Names of the S models."""
    shares: list[float]
    """The n shares, increasing: 1/64, 1/32, ..., 1."""
    n_train_tokens: NDArray[np.float64]
    """(n,): number of training tokens of each share."""
    losses: NDArray[np.float64]
    """(S, n): loss of each model on each share, in `unit`; NaN where there is no record."""
    unit: str
    """"bits/byte", or "bits/token" for a tokenizer that loses information."""
    resampled: NDArray[np.float64]
    """(R, S, n): losses on R resamples of the test documents, the same for all models; NaN where scores are missing."""

    @property
    def protocol(self) -> str:
        """The rule by which the documents of the corpus were divided into train, validation and test split."""
        return self.records[-1].protocol.partition(SHARE_MARK)[0]

    @cached_property
    def static(self) -> list[str]:
        """Names of the models that do not adapt to the test text; only these models are compared with each other."""
        adaptive = {record.name for record in self.records if record.adapts_on_test}
        return [name for name in self.names if name not in adaptive]

    def leaders(self) -> list[tuple[float, str]]:
        """Returns the model with the lowest loss in each range of training tokens, as pairs (start of the range, name).

        Models without a loss on one of the shares, and models that adapt to the test text, are left out.
        """
        complete = [name for name in self.static if np.isfinite(self.losses[self.names.index(name)]).all()]
        if not complete:
            return []
        rows = self.losses[[self.names.index(name) for name in complete]]
        return [(tokens, complete[row]) for tokens, row in leaders(self.n_train_tokens, rows)]

    def crossings(self, first: str, second: str) -> list[Crossing]:
        """Returns the numbers of training tokens at which the learning curves of two models cross, with 95 % intervals.

        `first` and `second` are the names of the models. The intervals are None if the scores of a model are missing.
        """
        rows = [self.names.index(first), self.names.index(second)]
        measured = np.isfinite(self.losses[rows]).all(axis=0)
        one, other = self.losses[rows][:, measured]
        resamples = self.resampled[:, rows][:, :, measured]
        resampled = (resamples[:, 0], resamples[:, 1]) if np.isfinite(resamples).all() else None
        return crossings(self.n_train_tokens[measured], one, other, resampled)

    def laws(self) -> list[Law]:
        """Fits power laws to the losses of models, as functions of training tokens, parameters and training FLOPs.

        The losses of each model on all shares are fitted as a function of training tokens. The losses of all models of
        a species are fitted as a function of the number of parameters, if models of several sizes were trained on the
        whole text, and as a function of training FLOPs, if the models are networks.
        """
        laws = []
        for name, row in zip(self.names, self.losses, strict=True):
            measured = np.isfinite(row)
            laws.append(_law(name, "tokens", self.n_train_tokens[measured], row[measured]))
        for species in dict.fromkeys(record.species for record in self.records):
            records = [record for record in self.records if record.species == species]
            on_all = [record for record in records if record.train_share == 1]
            if len({record.n_parameters for record in on_all}) > 1:
                laws.append(_law(species, "parameters", *_frontier(on_all, lambda record: record.n_parameters)))
            if any(record.training_flops for record in records):
                laws.append(_law(species, "FLOPs", *_frontier(records, lambda record: record.training_flops)))
        return laws


def loss_of(record: EvalRecord) -> float | None:
    """Returns the loss of a record in bits per byte, or in bits per token if the tokenizer loses information.

    Returns None if the loss is not finite.
    """
    if record.lossless or record.perplexity_per_token is None:
        return record.bits_per_byte
    return math.log2(record.perplexity_per_token)


def share_name(share: float) -> str:
    """Returns a share of the train split as text: "1/64", or "all"."""
    return "all" if share == 1 else f"1/{1 / share:.0f}"


def share_folder(folder: Path, share: float) -> Path:
    """Returns the folder with the models that were trained on one share of the train split.

    For the share 1/64, this is `share-64` in `folder`, the folder of all learning curves.
    """
    return folder / f"share-{1 / share:.0f}"


def read_curves(folder: str | Path) -> Curves:
    """Reads the learning curves of a run folder; raises SavedModelError if it holds none."""
    folder = Path(folder)
    path = folder / RECORDS
    if not path.is_file():
        raise SavedModelError(f"there are no learning curves in {folder} (see: lmzoo curves)")
    points: dict[tuple[str, float], EvalRecord] = {}
    losses: dict[tuple[str, float], float] = {}
    tokens: dict[float, int] = {}
    for record in sorted(read_records(path), key=lambda record: record.train_share or 0):
        loss, share = loss_of(record), record.train_share
        if loss is not None and share and record.n_train_tokens is not None:
            points[record.name, share], losses[record.name, share] = record, loss
            tokens[share] = record.n_train_tokens
    if not points:
        raise SavedModelError(f"{path} holds no point with a loss: run lmzoo curves --out {folder}")
    records, shares = list(points.values()), sorted(tokens)
    names = list(dict.fromkeys(record.name for record in records))
    table = np.array([[losses.get((name, share), np.nan) for share in shares] for name in names])
    order = np.argsort(table[:, -1], kind="stable")  # NaN is last
    names = [names[row] for row in order]
    return Curves(
        # The records of a share have the hash of the share; the request of the run has that of the corpus.
        corpus_fingerprint=read_request(folder).get("corpus_fingerprint", records[-1].corpus_fingerprint),
        records=records,
        names=names,
        shares=shares,
        n_train_tokens=np.array([tokens[share] for share in shares], np.float64),
        losses=table[order],
        unit="bits/byte" if records[0].lossless else "bits/token",
        resampled=_resampled(folder, names, shares, lossless=records[0].lossless),
    )


def _resampled(folder: Path, names: Sequence[str], shares: Sequence[float], *, lossless: bool) -> NDArray[np.float64]:
    """Returns the losses of S models on n shares for R bootstrap resamples of the test documents: an array (R, S, n).

    Losses are NaN where the scores of a model cannot be read.
    """
    losses = np.full((_N_RESAMPLES, len(names), len(shares)), np.nan)
    try:
        test = EncodedCorpus.load(share_folder(folder, shares[0]) / "encoded").test
    except SavedModelError:
        return losses
    starts, n_tokens = resampling_units(test.stream).starts, len(test.stream)
    counts = np.random.default_rng(0).multinomial(len(starts), np.full(len(starts), 1 / len(starts)), _N_RESAMPLES)
    sizes = counts @ sums_of_units(test.bytes_by_token if lossless else np.ones(n_tokens), starts)  # (R,)
    for row, name in enumerate(names):
        for column, share in enumerate(shares):
            with contextlib.suppress(SavedModelError):
                scores = load_scores(scores_path(share_folder(folder, share), name, "test"), n_tokens)
                bits = -sums_of_units(scores.log_probs, starts) / math.log(2)  # (G,)
                losses[:, row, column] = counts @ bits / sizes
    return losses


def _frontier(
    records: Sequence[EvalRecord], expense: Callable[[EvalRecord], float | None]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Returns the expenses and the losses of the records that are Pareto-optimal in both, as two arrays (n,).

    An expense is a cost of a model, such as training FLOPs: `expense` returns it for a record, or None, and records
    without an expense are left out. The n records are those with a lower loss than all cheaper records; the cheapest is
    first.
    """
    figures = np.array(sorted((expense(record) or 0, loss_of(record) or 0) for record in records), np.float64)
    figures = figures[figures[:, 0] > 0]
    lowest = np.minimum.accumulate(figures[:, 1])
    kept = np.diff(lowest, prepend=np.inf) < 0
    return figures[kept, 0], lowest[kept]


def _law(name: str, against: Against, expense: NDArray[np.float64], losses: NDArray[np.float64]) -> Law:
    return Law(name, against, len(expense), fit_power_law(expense, losses))
