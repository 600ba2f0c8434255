"""Where the models of a run differ: losses by kind of token, calibration, and passages with large differences."""

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
_N_TOKENS_SHOWN = 8
_BITS_PER_SHADE = 2
_BITS_BEHIND_PER_SHADE = 0.25
_DARKEST = 6


@dataclass(frozen=True)
class Cell:
    """The mean loss of one model on one group of tokens, as text and as a shade of colour."""

    text: str
    """Mean bits per token with its standard error."""
    shade: int
    """From 0 (as good as the best model) to 6 (1.5 bits or more above the best model)."""


@dataclass(frozen=True)
class Breakdown:
    """The losses of all models on groups of tokens that one property defines, such as rare and frequent tokens."""

    title: str
    about: str
    groups: list[str]
    n_tokens: list[int]
    """Number of tokens in each group."""
    rows: list[tuple[str, list[Cell]]]
    """Pairs of a model's name and its losses in the groups."""


@dataclass(frozen=True)
class Calibration:
    """A table and a figure of how well predicted probabilities agree with observed frequencies, for all models."""

    header: tuple[str, ...]
    rows: list[list[str]]
    figure: Figure


@dataclass(frozen=True)
class ShadedToken:
    """One token of a passage with its surprisal under one model."""

    text: str
    bits: float

    @property
    def shade(self) -> int:
        """The shade of the token's colour, from 0 (surprisal below 2 bits) to 6 (12 bits or more)."""
        return min(int(self.bits / _BITS_PER_SHADE), _DARKEST)


@dataclass(frozen=True)
class Disagreement:
    """A passage of the test text on which one model has a much lower loss than another, with the loss of each token."""

    better: str
    worse: str
    text: str
    readings: list[tuple[str, float, list[ShadedToken]]]
    """For the better and the worse model: name, bits of the whole passage, and the tokens."""
    largest: list[tuple[str, float, float]]
    """The tokens with the largest differences: text, bits under the better model, bits under the worse model."""


@dataclass(frozen=True)
class Differences:
    """The section of a report that shows on which kinds of tokens and in which passages models differ."""

    breakdowns: list[Breakdown]
    calibration: Calibration
    disagreements: list[Disagreement]


def differences(
    folder: Path, records: Sequence[EvalRecord], encoded: EncodedCorpus, figures: Figures
) -> Differences | None:
    """Returns the section of a report that shows on which kinds of tokens and in which passages models differ.

    The section has the losses by kind of token, the calibration of each model, and the parts of the test text on which
    two models differ most. `records` are the evaluation records, best first; only records with stored log-probabilities
    are used, and None is returned if there are none. Models that give some token probability 0 are left out, and models
    that adapt to the test text have no passages.
    """
    stream = encoded.test.stream
    scores: dict[str, TokenStats] = {}
    for record in sorted(records, key=_year):
        try:
            of_model = load_scores(scores_path(folder, record.name, "test"), len(stream))
        except LmzooError:  # written by an earlier version, or damaged
            continue
        if not record.n_impossible:
            scores[record.name] = of_model
    if not scores:
        return None
    counts = np.bincount(encoded.train.stream.ids, minlength=encoded.tokenizer.vocab_size)

    def breakdown(title: str, about: str, groups_of: Callable[[NDArray[np.floating]], list[Group]]) -> Breakdown:
        return _breakdown(title, about, {name: groups_of(stats.log_probs) for name, stats in scores.items()})

    tags = _tags(encoded)
    breakdowns = [
        breakdown(
            "By position", "The number of tokens before the token in its document.", partial(by_position, stream)
        ),
        breakdown(
            "By frequency",
            "The number of occurrences of the token in the training text.",
            partial(by_frequency, stream, train_counts=counts),
        ),
        breakdown(
            "First and repeated occurrences",
            "Whether the token occurred before in its document, and its number of occurrences in the training text.",
            partial(by_novelty, stream, train_counts=counts),
        ),
    ]
    if tags is not None:
        about = "The part of speech of the token's word, as annotated in the corpus."
        breakdowns.append(breakdown("By part of speech", about, partial(by_tag, stream, tags=tags)))
    ranked = [record.name for record in records if record.name in scores and not record.adapts_on_test]
    pair = most_different({name: scores[name].log_probs for name in ranked})
    return Differences(
        breakdowns,
        _calibration(
            {name: calibration(stream, stats.top_log_probs, stats.ranks == 1) for name, stats in scores.items()},
            figures,
        ),
        _disagreements(stream, encoded.tokenizer, {name: scores[name].log_probs for name in pair}) if pair else [],
    )


def _year(record: EvalRecord) -> float:
    return zoo.year(record.species) or math.inf


def most_different(log_probs: Mapping[str, NDArray[np.floating]]) -> tuple[str, str] | None:
    """Returns the names of two models: the best one, and the one whose mixture with it has the lowest loss.

    `log_probs` maps the name of each model, best first, to the log-probabilities (T,) of T tokens. The mixture gives
    both models the weight 1/2. Returns None for fewer than two models.
    """
    if len(log_probs) < 2:
        return None
    best, *others = log_probs
    return best, max(others, key=lambda other: float(np.logaddexp(log_probs[best], log_probs[other]).mean()))


def _tags(encoded: EncodedCorpus) -> NDArray[np.str_] | None:
    """Returns the part of speech of each of the T tokens of a corpus's test split, such as "noun", as an array (T,).

    Returns None if the corpus is not annotated with parts of speech, cannot be read or has changed since it was
    encoded.
    """
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
    first = next(iter(groups.values()))
    rows = [
        (name, [_cell(group, least) for group, least in zip(of_model, best, strict=True)])
        for name, of_model in groups.items()
    ]
    return Breakdown(title, about, [group.name for group in first], [group.n for group in first], rows)


def _cell(group: Group, least: float) -> Cell:
    error = f" ± {bits(group.error):.2f}" if group.error is not None else ""
    behind = int(bits(group.nats - least) / _BITS_BEHIND_PER_SHADE)
    return Cell(f"{bits(group.nats):.2f}{error}", min(behind, _DARKEST))


def _calibration(bins: Mapping[str, list[ConfidenceBin]], figures: Figures) -> Calibration:
    rows = []
    for name, of_model in bins.items():
        n = sum(one.n for one in of_model)
        confidence = sum(one.n * one.confidence for one in of_model) / n
        accuracy = sum(one.n * one.accuracy for one in of_model) / n
        rows.append([name, f"{confidence:.1%}", f"{accuracy:.1%}", f"{calibration_error(of_model):.1%}"])
    figure = figures.draw("calibration", charts.by_confidence(bins))
    return Calibration(("model", "confidence", "accuracy", "calibration error"), rows, figure)


def _disagreements(
    stream: TokenStream, tokenizer: Tokenizer, log_probs: Mapping[str, NDArray[np.floating]]
) -> list[Disagreement]:
    """Returns the passages of a text on which the losses of two models differ most.

    `log_probs` maps the names of the two models to the log-probabilities (T,) of the T tokens of `stream`. Passages on
    which the first model is better precede passages on which the second model is better.
    """
    (first, of_first), (second, of_second) = log_probs.items()
    passages = []
    for better, left, worse, right in ((first, of_first, second, of_second), (second, of_second, first, of_first)):
        for passage in disagreements(stream, right, left, n_passages=_PASSAGES_EACH):
            span = slice(passage.start, passage.stop)
            ids = stream.ids[span].tolist()
            separator = " " if tokenizer.kind == "word" else ""
            tokens = [separator + tokenizer.token_text(token_id) for token_id in ids]
            losses = [[bits(-nats) for nats in one[span].tolist()] for one in (left, right)]
            readings = [
                (name, sum(loss), [ShadedToken(*token) for token in zip(tokens, loss, strict=True)])
                for name, loss in zip((better, worse), losses, strict=True)
            ]
            largest = sorted(zip(tokens, *losses, strict=True), key=lambda token: token[1] - token[2])[:_N_TOKENS_SHOWN]
            passages.append(Disagreement(better, worse, tokenizer.decode(ids), readings, largest))
    return passages
