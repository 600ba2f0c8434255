"""Tests of all settings of all species: invalid values raise, and whole numbers are accepted as real numbers."""

from __future__ import annotations

import math
import typing
from dataclasses import fields
from pathlib import Path
from types import NoneType
from typing import Any

import numpy as np
import pytest

from lmzoo import zoo
from lmzoo.arrays import load_arrays, save_arrays
from lmzoo.checks import check_at_least, check_flag, check_positive, check_share, check_whole
from lmzoo.errors import ConfigurationError, UnknownNameError
from lmzoo.neural.training.settings import TrainConfig
from lmzoo.testing import toy_data

V = 12
_OF_NO_NUMBER = ["abc", "64", True, None, [8], {}, -1, math.nan, math.inf, 10**400]
WRONG: dict[Any, list[Any]] = {
    int: [value for value in _OF_NO_NUMBER if value != 10**400] + [1.5, 64.0],
    float: _OF_NO_NUMBER,
    bool: ["yes", 1, 0, None, [True], {}],
    str: ["nonsense", True, None, [], {}],
}
WRONG_OF: dict[str, list[Any]] = {
    "training": [5, "abc", True, [1], {"nonsense": 1}],
    "static": ["nonsense", 5, True, None, [], {}, {"species": "ngram", "settings": {"vocab_size": 5}}],
    "base": ["nonsense", "chat", "unigram", 5, True, None, [], {}],
    "settings": [5, "abc", True, [1], {"nonsense": 1}, {"vocab_size": 5}],
    "inputs": ["ppm", 5, True, None, {}, [5], [None], ["nonsense"], [{"species": "ppm", "settings": {"order": 0}}]],
    "members": ["ngram", 5, True, None, [], {}, [5], [None], {"ngram": 5}, {"ngram": {"name": "trigram"}}],
}


def wrong_settings(species: str) -> list[dict[str, Any]]:
    """Returns settings of a species with one invalid value each, for all of its settings."""
    hints = typing.get_type_hints(zoo.card(species).resolve())
    cases = [{setting: value} for setting in zoo.defaults(species) for value in _wrong(setting, hints[setting])]
    if "training" in hints:
        hints = typing.get_type_hints(TrainConfig)
        for name in (field.name for field in fields(TrainConfig)):
            cases += [{"training": {name: value}} for value in _wrong(name, hints[name])]
    return cases


def _wrong(setting: str, hint: Any) -> list[Any]:
    if setting in WRONG_OF:
        return WRONG_OF[setting]
    kinds = set(typing.get_args(hint) or [hint])
    (kind,) = kinds - {NoneType}
    return [value for value in WRONG[kind] if not (value is None and NoneType in kinds)]


def refusal(species: str, settings: dict[str, Any]) -> str:
    """Returns the message of the error for invalid settings; fails if they are accepted."""
    try:
        zoo.create(species, V, **settings)
    except (ConfigurationError, UnknownNameError) as error:
        return str(error)
    pytest.fail(f"{species} accepts {settings}")


@pytest.mark.parametrize("species", [name for name in zoo.names() if zoo.defaults(name)])
def test_wrong_values_are_refused_in_one_line(species: str) -> None:
    for settings in wrong_settings(species):
        message = refusal(species, settings)
        assert "\n" not in message, settings
        reasons = (" must be ", " is ", "needs", "choose one of ", "did you mean", "cannot read")
        assert any(reason in message for reason in reasons), (settings, message)


@pytest.mark.parametrize("species", zoo.names())
def test_defaults_are_allowed(species: str) -> None:
    assert zoo.create(species, V, **zoo.defaults(species)).vocab_size == V


@pytest.mark.parametrize(
    ("species", "settings"),
    [
        ("unigram", {"alpha": 1}),
        ("markov", {"alpha": 1}),
        ("hmm", {"n_states": 3, "n_iterations": 2, "emission_prior": 5, "transition_prior": 2, "tolerance": 0}),
        ("class-hmm", {"n_states": 8, "n_classes": 4, "n_rounds": 1, "tolerance": 0}),
        ("ngram", {"order": 2, "prune": 0, "memory": 10**9}),
        ("cache", {"static": "markov", "half_life": 20}),
        ("mixture", {"members": {"unigram": {"alpha": 1}, "markov": {"alpha": 2}}}),
        ("low-rank-hmm", {"n_states": 4, "rank": 2, "d_embed": 4, "state_dropout": 0, "training": {"tokens": 500}}),
        (
            "gru",
            {
                "d_embed": 4,
                "d_hidden": 4,
                "dropout": 0,
                "training": {"tokens": 500, "warmup": 0, "final_rate": 1, "weight_decay": 0, "clip": 1, "seconds": 60},
            },
        ),
    ],
)
def test_whole_numbers_do_for_real_ones(species: str, settings: dict[str, Any], tmp_path: Path) -> None:
    data = toy_data(V)
    model = zoo.create(species, V, **settings).fit(data)
    save_arrays(tmp_path / "arrays.safetensors", model.arrays())
    loaded = zoo.create(species, V, **settings).load_arrays(load_arrays(tmp_path / "arrays.safetensors")[0])
    np.testing.assert_array_equal(loaded.log_probs(data.valid), model.log_probs(data.valid))


def test_messages_of_the_checks() -> None:
    for check, message in (
        (lambda: check_whole(1, n=0), "n must be a whole number of at least 1, got 0"),
        (lambda: check_whole(1, 9, n=10), "n must be a whole number from 1 to 9, got 10"),
        (
            lambda: check_whole(1, none_means="for all", n="x"),
            "n must be a whole number of at least 1, or null for all; got 'x'",
        ),
        (lambda: check_share(p=1.5), "p must be a number from 0 to 1, got 1.5"),
        (lambda: check_positive(a=1, b=0), "b must be a finite number above 0, got 0"),
        (lambda: check_at_least(1e-6, a=0), "a must be a finite number of at least 1e-06, got 0"),
        (lambda: check_flag(quick=1), "quick must be true or false, got 1"),
        (lambda: check_flag(quick=None), "quick must be true or false, got None"),
    ):
        with pytest.raises(ConfigurationError) as refused:
            check()
        assert str(refused.value) == message
    check_whole(1, 9, n=9)
    check_share(p=0, q=1)
    check_positive(none_means="to tune it", a=None)
    check_flag(none_means="for automatic", quick=None)
