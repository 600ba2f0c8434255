"""Where the species of a run differ: on which tokens they lose, how well they know it, and passages to read."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lmzoo import zoo
from lmzoo.corpora import load_corpus, load_tags, token_tags
from lmzoo.corpora.encoded import EncodedCorpus
from lmzoo.errors import LmzooError
from lmzoo.evaluation.records import EvalRecord
from lmzoo.evaluation.scores import load_scores
from lmzoo.experiments.run_folder import scores_path
from lmzoo.language_model import TokenStats
from lmzoo.metrics import bits
from lmzoo.probes.breakdown import (
    ConfidenceBin,
    Group,
    by_frequency,
    by_novelty,
    by_position,
    by_tag,
    calibration,
    calibration_error,
    disagreements,
)
from lmzoo.report import charts
from lmzoo.report.figures import Figure, Figures
from lmzoo.stream import TokenStream
from lmzoo.tokenizers import Tokenizer

_PASSAGES_EACH = 2
_N_TELLING = 8
_BITS_PER_SHADE = 2
_BITS_BEHIND_PER_SHADE = 0.25
_DARKEST = 6


@dataclass(frozen=True)
class Cell:
    """The mean bits of one species on one group of tokens."""

    text: str
    """With standard error."""
    shade: int
    """0 = as good as the best .. 6 = 1.5 bits behind it, or more."""


@dataclass(frozen=True)
class Breakdown:
    """Losses by one property of tokens."""

    title: str
    about: str
    groups: list[str]
    n_tokens: list[int]
    """In each group."""
    rows: list[tuple[str, list[Cell]]]
    """A species, and its losses in the groups."""


@dataclass(frozen=True)
class Calibration:
    """How well the species know what they know."""

    header: tuple[str, ...]
    rows: list[list[str]]
    figure: Figure


@dataclass(frozen=True)
class Shaded:
    """One token of a passage, as one species saw it."""

    text: str
    bits: float

    @property
    def shade(self) -> int:
        """0 = expected .. 6 = a surprise of 12 bits or more."""
        return min(int(self.bits / _BITS_PER_SHADE), _DARKEST)


@dataclass(frozen=True)
class Disagreement:
    """A passage that one species finds easier than another."""

    better: str
    worse: str
    text: str
    readings: list[tuple[str, float, list[Shaded]]]
    """Of the better and of the worse one: name, bits of the whole passage, and its tokens."""
    telling: list[tuple[str, float, float]]
    """The tokens that make the difference, the most telling first: text, and bits under the better and the worse."""


@dataclass(frozen=True)
class Differences:
    """All of the section."""

    breakdowns: list[Breakdown]
    calibration: Calibration
    disagreements: list[Disagreement]


def differences(
    folder: Path, records: Sequence[EvalRecord], encoded: EncodedCorpus, figures: Figures
) -> Differences | None:
    """The section about the records (best first) that have scores in the run folder; None if there are none.

    Those that found some of the text impossible are left out, and those that adapt to it from the passages.
    """
    stream = encoded.test.stream
    scores: dict[str, TokenStats] = {}
    for record in sorted(records, key=_year):
        try:
            own = load_scores(scores_path(folder, record.name, "test"), len(stream))
        except LmzooError:  # of an earlier version, or damaged
            continue
        if not record.n_impossible:
            scores[record.name] = own
    if not scores:
        return None
    counts = np.bincount(encoded.train.stream.ids, minlength=encoded.tokenizer.vocab_size)

    def breakdown(title: str, about: str, groups_of: Callable[[NDArray[np.floating]], list[Group]]) -> Breakdown:
        return _breakdown(title, about, {name: groups_of(own.log_probs) for name, own in scores.items()})

    tags = _tags(encoded)
    breakdowns = [
        breakdown("By place", "How many tokens of its document come before it.", partial(by_position, stream)),
        breakdown(
            "By frequency",
            "How often the training text has the token.",
            partial(by_frequency, stream, train_counts=counts),
        ),
        breakdown(
            "New and again",
            "Whether its document has said the token before, and how often the training text has it.",
            partial(by_novelty, stream, train_counts=counts),
        ),
    ]
    if tags is not None:
        about = "The part of speech of its word, as the corpus tells it."
        breakdowns.append(breakdown("By part of speech", about, partial(by_tag, stream, tags=tags)))
    ranked = [record.name for record in records if record.name in scores and not record.adapts_on_test]
    pair = most_different({name: scores[name].log_probs for name in ranked})
    return Differences(
        breakdowns,
        _calibration(
            {name: calibration(stream, own.top_log_probs, own.ranks == 1) for name, own in scores.items()}, figures
        ),
        _disagreements(stream, encoded.tokenizer, {name: scores[name].log_probs for name in pair}) if pair else [],
    )


def _year(record: EvalRecord) -> float:
    return zoo.year(record.species) or math.inf


def most_different(log_probs: Mapping[str, NDArray[np.floating]]) -> tuple[str, str] | None:
    """The first name, of the best, and the one that adds the most to it: mixed half and half they predict best."""
    if len(log_probs) < 2:
        return None
    best, *others = log_probs
    return best, max(others, key=lambda other: float(np.logaddexp(log_probs[best], log_probs[other]).mean()))


def _tags(encoded: EncodedCorpus) -> NDArray[np.str_] | None:
    """(T,) the part of speech of each token of the test split, where the corpus tells and is at hand."""
    try:
        tags = load_tags(encoded.name)
        if tags is None:
            return None
        corpus = load_corpus(encoded.name)
        same = corpus.fingerprint == encoded.fingerprint
        return token_tags(corpus.test, tags.test, encoded.tokenizer) if same else None
    except LmzooError:
        return None


def _breakdown(title: str, about: str, groups: Mapping[str, list[Group]]) -> Breakdown:
    best = [min(group.nats for group in column) for column in zip(*groups.values(), strict=True)]
    some = next(iter(groups.values()))
    rows = [
        (name, [_cell(group, least) for group, least in zip(of_species, best, strict=True)])
        for name, of_species in groups.items()
    ]
    return Breakdown(title, about, [group.name for group in some], [group.n for group in some], rows)


def _cell(group: Group, least: float) -> Cell:
    error = f" ± {bits(group.error):.2f}" if group.error is not None else ""
    behind = int(bits(group.nats - least) / _BITS_BEHIND_PER_SHADE)
    return Cell(f"{bits(group.nats):.2f}{error}", min(behind, _DARKEST))


def _calibration(bins: Mapping[str, list[ConfidenceBin]], figures: Figures) -> Calibration:
    rows = []
    for name, of_species in bins.items():
        n = sum(one.n for one in of_species)
        sure = sum(one.n * one.confidence for one in of_species) / n
        right = sum(one.n * one.accuracy for one in of_species) / n
        rows.append([name, f"{sure:.1%}", f"{right:.1%}", f"{calibration_error(of_species):.1%}"])
    figure = figures.draw("calibration", charts.by_confidence(bins))
    return Calibration(("species", "sure", "right", "error"), rows, figure)


def _disagreements(
    stream: TokenStream, tokenizer: Tokenizer, log_probs: Mapping[str, NDArray[np.floating]]
) -> list[Disagreement]:
    """Passages in which the first of two does better, and such in which the second does."""
    (first, own), (second, other) = log_probs.items()
    found = []
    for better, left, worse, right in ((first, own, second, other), (second, other, first, own)):
        for passage in disagreements(stream, right, left, n_passages=_PASSAGES_EACH):
            place = slice(passage.start, passage.stop)
            ids = stream.ids[place].tolist()
            between = " " if tokenizer.kind == "word" else ""
            tokens = [between + tokenizer.token_text(token_id) for token_id in ids]
            costs = [[bits(-nats) for nats in one[place].tolist()] for one in (left, right)]
            readings = [
                (name, sum(cost), [Shaded(*token) for token in zip(tokens, cost, strict=True)])
                for name, cost in zip((better, worse), costs, strict=True)
            ]
            telling = sorted(zip(tokens, *costs, strict=True), key=lambda token: token[1] - token[2])[:_N_TELLING]
            found.append(Disagreement(better, worse, tokenizer.decode(ids), readings, telling))
    return found
