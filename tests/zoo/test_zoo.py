"""The registry: names, cards, settings, plug-ins, and what importing costs."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

import lmzoo
from lmzoo import zoo
from lmzoo.cli import run
from lmzoo.errors import ConfigurationError, UnknownNameError
from lmzoo.zoo.eras import ERAS, era_name


def test_names_are_in_order_of_year() -> None:
    years = [zoo.card(name).year for name in zoo.built_in_names()]
    assert years == sorted(years)
    assert zoo.names()[: len(years)] == zoo.built_in_names()


def test_unknown_species_names_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="unknown species 'NGRAM': did you mean 'ngram'"):
        zoo.card("NGRAM")
    with pytest.raises(UnknownNameError, match="unknown species 'lstn': did you mean 'lstm'"):
        zoo.card("lstn")


def test_names_with_commas_between_them_get_the_right_form() -> None:
    advice = "these are several names: give one, or, where several are allowed, each separately without commas"
    with pytest.raises(UnknownNameError, match=f"unknown species 'ngram,lstm': {advice}"):
        zoo.card("ngram,lstm")


def test_unknown_setting_names_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="'alhpa': did you mean 'alpha'"):
        zoo.create("unigram", 5, alhpa=1)


@pytest.mark.parametrize("name", zoo.names())
def test_every_card_is_complete_and_its_factory_exists(name: str) -> None:
    card = zoo.card(name)
    assert card.resolve()
    assert all((card.title, card.people, card.idea, card.sees, card.changed, card.limits, card.paper))
    assert 1900 < card.year < 2100
    assert "vocab_size" not in zoo.defaults(name)


@pytest.mark.parametrize("name", zoo.text_species())
def test_networks_are_the_species_that_compute_with_torch(name: str) -> None:
    assert zoo.is_network(name) == (zoo.create(name, 2).device_name is not None)


def test_built_in_networks_are_known_without_torch() -> None:
    program = "import sys; from lmzoo import zoo; print(zoo.is_network('lstm'), 'torch' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", program], text=True) == "True False\n"


@pytest.mark.parametrize("name", lmzoo.__all__)
def test_every_public_name_exists(name: str) -> None:
    assert getattr(lmzoo, name) is not None


def test_public_names_that_do_not_exist() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = lmzoo.nonsense  # type: ignore[attr-defined]


def _plugin(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    entry = EntryPoint("visitor", value, zoo.ENTRY_POINT_GROUP)
    monkeypatch.setattr(zoo, "entry_points", lambda group: [entry])
    monkeypatch.setattr(zoo, "_plugins", zoo._plugins.__wrapped__)


VISITOR = zoo.Card("visitor", "lmzoo.models.baselines:uniform", "Visitor", 2026, "-", "-", "-", "-", "-", "-")


def test_plugins_join_the_zoo(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules[__name__], "VISITOR", VISITOR)
    _plugin(monkeypatch, f"{__name__}:VISITOR")
    monkeypatch.setitem(sys.modules, __name__, sys.modules[__name__])
    assert "visitor" in zoo.names()
    assert zoo.create("visitor", 5).vocab_size == 5


def test_a_broken_plugin_does_not_take_the_zoo_down(monkeypatch: pytest.MonkeyPatch) -> None:
    _plugin(monkeypatch, "no_such_package:card")
    assert "visitor" in zoo.names()
    with pytest.raises(ConfigurationError, match="no_such_package"):
        zoo.create("visitor", 5)


def test_a_name_cannot_be_taken_twice() -> None:
    with pytest.raises(ConfigurationError, match="'lstm' is taken"):
        zoo.register(zoo.Card("lstm", "a:b", "Mine", 2026, "-", "-", "-", "-", "-", "-"))


def test_listing_imports_nothing_heavy() -> None:
    code = "import sys, lmzoo; lmzoo.zoo.names(); print(sorted({'torch', 'numpy', 'numba'} & set(sys.modules)))"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.strip() == "[]"


@pytest.mark.parametrize("name", ["x" * 5000, "a\0b", "half \ud800"])
def test_names_that_no_file_can_have_are_unknown(name: str) -> None:
    with pytest.raises(UnknownNameError):
        zoo.card(name)


def test_the_species_that_stand_for_their_eras_are_in_order_and_of_every_era() -> None:
    chosen = zoo.chosen_species([])
    years = [zoo.card(name).year for name in chosen]
    assert years == sorted(years)
    assert {era_name(year) for year in years} == {era.name for era in ERAS}
    assert set(chosen) < set(zoo.text_species())


@pytest.mark.parametrize("command", ["compare", "curves", "prequential"])
def test_help_names_the_species_of_the_default(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([command, "--help"]) == 0
    text = " ".join(re.sub(r"[│╭╮╰╯─]", " ", capsys.readouterr().out).split())
    assert f"Default: {', '.join(zoo.chosen_species([])[:-1])} and {zoo.chosen_species([])[-1]}, which" in text


def test_the_readme_names_the_species_of_the_default() -> None:
    text = " ".join((Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8").split())
    *first, last = (f"`{name}`" for name in zoo.chosen_species([]))
    assert f"models of `make compare` are {', '.join(first)} and {last};" in text
    assert f"trains {len(first) + 1} models" in text


def test_all_stands_for_every_species_that_learns_from_text() -> None:
    assert zoo.chosen_species(["all"]) == zoo.text_species()
    assert zoo.chosen_species(["lstm", "all", "lstm"])[:2] == ["lstm", "markov"]
    assert zoo.chosen_species(["ngram", "lstm", "ngram"]) == ["ngram", "lstm"]
    assert zoo.chosen_species("ngram") == ["ngram"]
