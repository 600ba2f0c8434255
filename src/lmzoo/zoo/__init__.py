"""The registry: every species by name, with its place in history. Listing it imports no species.

A new species is one file in `models/` and one `Card` here. Other packages add theirs through the entry point group
`lmzoo.species`, whose entries point at a `Card`; a script or notebook calls `zoo.register(card)`.
"""

from __future__ import annotations

import inspect
import sys
import typing
from functools import cache
from importlib.metadata import entry_points
from typing import Any

from lmzoo.errors import ConfigurationError, UnknownNameError, UsageError
from lmzoo.zoo.cards import CARDS
from lmzoo.zoo.species_card import Card

if typing.TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from lmzoo.language_model import LanguageModel

ENTRY_POINT_GROUP = "lmzoo.species"


_registered: dict[str, Card] = {card.name: card for card in CARDS}


def register(card: Card) -> None:
    """Adds a species for this process. ConfigurationError if the name belongs to another one."""
    if _all_cards().get(card.name, card) != card:
        raise ConfigurationError(f"the species name '{card.name}' is taken; choose another")
    _registered[card.name] = card


def names() -> list[str]:
    """The names of all species, in the order of the eras."""
    return list(_all_cards())


def built_in_names() -> list[str]:
    """The names of the species that lmzoo itself brings."""
    return [card.name for card in CARDS]


def card(name: str) -> Card:
    """The card of a species; UnknownNameError with the nearest match."""
    cards = _all_cards()
    if name not in cards:
        raise UnknownNameError("species", name, cards)
    return cards[name]


def create(name: str, vocab_size: int, /, **settings: Any) -> LanguageModel[Any]:
    """A fresh, unfitted model. The settings are the factory's keyword arguments: ConfigurationError for others."""
    check_settings(name, settings)
    return card(name).resolve()(vocab_size, **settings)


def check_settings(name: str, settings: Iterable[str]) -> None:
    """UnknownNameError unless a species has settings with all these names."""
    allowed = defaults(name)
    for setting in settings:
        if setting not in allowed:
            raise UnknownNameError(f"setting of species '{name}'", setting, allowed or ["(it has none)"])


def check_choice_of_settings(settings: Mapping[str, Iterable[str]], species: Collection[str]) -> None:
    """The same for settings by species; UsageError if some are for one that is not among `species`, those of a run."""
    for name in species:
        card(name)  # a typo there is what to say first
    for name, own in settings.items():
        check_settings(name, own)
        if name not in species:
            raise UsageError(f"settings are given for '{name}', which is not among the species of this run")


def year(species: str) -> int | None:
    """Of its card; None if there is none, as of a plug-in that has gone."""
    return card(species).year if species in names() else None


def defaults(name: str) -> dict[str, Any]:
    """The settings of a species with their default values."""
    parameters = inspect.signature(card(name).resolve()).parameters.values()
    return {parameter.name: parameter.default for parameter in parameters if parameter.name != "vocab_size"}


def presets(name: str) -> dict[str, dict[str, Any]]:
    """Returns the presets of a species: groups of settings by name, from `PRESETS` beside its factory; {} without one.

    `PRESETS` maps the name of each factory of a module to its presets. Names with a meaning are "quick", "standard" and
    "thorough" (budgets), "bytes" (tokens are single bytes or characters), "tiny" (a model for tests), and "ladder",
    "ladder/BUDGET" and "ladder/TASK" (tasks of `lmzoo ladder`). A name that is absent leaves the defaults unchanged.
    """
    owner = card(name)
    owner.resolve()
    module, _, function = owner.factory.partition(":")
    return getattr(sys.modules[module], "PRESETS", {}).get(function, {})


def _all_cards() -> dict[str, Card]:
    return {**_registered, **{name: found for name, found in _plugins().items() if name not in _registered}}


@cache
def _plugins() -> dict[str, Card]:
    """Cards of installed packages. A broken one must not take the zoo down: it shows its error when it is used."""
    cards = {}
    for entry in entry_points(group=ENTRY_POINT_GROUP):
        try:
            found = entry.load()
        except Exception as error:
            found = _broken(entry.name, f"{type(error).__name__}: {error}")
        if not isinstance(found, Card):
            found = _broken(entry.name, f"its entry point is a {type(found).__name__}, not a Card")
        cards[found.name] = found
    return cards


def _broken(name: str, reason: str) -> Card:
    about = f"cannot be loaded: {reason}"
    return Card(
        name=name, factory=f"({about})", title="(broken plug-in)", year=0, people="",
        idea=about, sees="", changed="", limits="", paper="",
    )  # fmt: skip
