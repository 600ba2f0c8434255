"""The eras of language models, their colours in figures, and the species that stand for them by default."""

from __future__ import annotations

from typing import NamedTuple

FIRST_YEAR, LAST_YEAR = 1908, 2029


class Era(NamedTuple):
    """A range of years, from `start` up to the year before `end`, with its name and colour."""

    name: str
    start: int
    end: int
    colour: str


ERAS = (
    Era("beginnings", FIRST_YEAR, 1962, "#7a5195"),
    Era("speech recognition", 1962, 1990, "#2b6cb0"),
    Era("large corpora", 1990, 2003, "#1b8a7a"),
    Era("neural networks", 2003, 2017, "#d9730d"),
    Era("attention", 2017, LAST_YEAR, "#c2334d"),
)


REPRESENTATIVES = (
    "markov", "unigram", "hmm", "trigram", "ppm", "rnn", "lstm", "ngram", "nplm", "hybrid",
    "transformer-2017", "gpt2", "infinigram", "linear-recurrence", "transformer",
)  # fmt: skip
"""Names of species (model families) that stand for their eras, in order of year. Experiments train these by default."""


def era_name(year: int) -> str:
    """Returns the name of the era of a year; years after the last era belong to it."""
    return next((era.name for era in ERAS if year < era.end), ERAS[-1].name)
