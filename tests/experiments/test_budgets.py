"""Budgets: one dial, valid settings, and settings of one's own on top."""

from __future__ import annotations

import pytest

from lmzoo import sources, zoo
from lmzoo.experiments.budgets import BUDGETS, merged, scaled, settings_for


@pytest.mark.parametrize("budget", BUDGETS)
@pytest.mark.parametrize("species", zoo.built_in_names())
def test_every_budget_makes_every_species(budget: str, species: str) -> None:
    assert zoo.create(species, 50, **settings_for(species, budget)).vocab_size == 50


def test_each_budget_is_larger_than_the_one_before() -> None:
    with_budgets = [species for species in zoo.built_in_names() if set(BUDGETS) <= set(zoo.presets(species))]
    assert {"hmm", "lstm", "transformer"} <= set(with_budgets)
    for species in with_budgets:
        settings = [settings_for(species, budget) for budget in BUDGETS]
        amounts = [{**found, **found.get("training", {})} for found in settings]
        name = next(name for name in ("tokens", "n_states", "steps") if name in amounts[0])
        sizes = [amount[name] for amount in amounts]
        assert sizes == sorted(set(sizes))


def test_presets_have_known_names_and_valid_settings() -> None:
    known = {*BUDGETS, "bytes", "chat", "tiny", "ladder", *(f"ladder/{name}" for name in [*BUDGETS, *sources.names()])}
    for species in zoo.built_in_names():
        for preset, settings in zoo.presets(species).items():
            assert preset in known, (species, preset)
            assert zoo.create(species, 50, **settings).vocab_size == 50
            after = merged(settings_for(species, "quick"), settings) if preset == "chat" else settings
            assert zoo.create(species, 50, **after).vocab_size == 50


def test_training_tokens_are_scaled_at_any_depth() -> None:
    settings = {"n_states": 8, "members": [{"settings": {"training": {"tokens": 100, "clip": 2}}}]}
    expected = {"n_states": 8, "members": [{"settings": {"training": {"tokens": 50, "clip": 2}}}]}
    assert scaled(settings, lambda tokens: tokens // 2) == expected


def test_own_settings_are_laid_over_the_budgets() -> None:
    assert merged({"a": 1, "training": {"tokens": 5, "clip": 1}}, {"b": 2, "training": {"tokens": 9}}) == {
        "a": 1,
        "b": 2,
        "training": {"tokens": 9, "clip": 1},
    }
    assert merged({"a": {"b": 1}}, {"a": 3}) == {"a": 3}
