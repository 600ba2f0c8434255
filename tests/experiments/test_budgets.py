"""Budgets: one dial, valid settings, and settings of one's own on top."""

from __future__ import annotations

import pytest

from lmzoo import zoo
from lmzoo.experiments.budgets import BUDGETS, merged, settings_for


@pytest.mark.parametrize("budget", BUDGETS)
@pytest.mark.parametrize("species", zoo.built_in_names())
def test_every_budget_makes_every_species(budget: str, species: str) -> None:
    assert zoo.create(species, 50, **settings_for(species, budget)).vocab_size == 50


def test_the_dial_goes_up() -> None:
    quick, standard, thorough = BUDGETS.values()
    assert quick.keys() == standard.keys() == thorough.keys()
    for species in quick:
        settings = [budget[species] for budget in (quick, standard, thorough)]
        sizes = [found["training"]["tokens"] if "training" in found else found["n_states"] for found in settings]
        assert sizes == sorted(set(sizes))


def test_own_settings_are_laid_over_the_budgets() -> None:
    assert merged({"a": 1, "training": {"tokens": 5, "clip": 1}}, {"b": 2, "training": {"tokens": 9}}) == {
        "a": 1,
        "b": 2,
        "training": {"tokens": 9, "clip": 1},
    }
    assert merged({"a": {"b": 1}}, {"a": 3}) == {"a": 3}
