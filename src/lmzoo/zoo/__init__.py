"""The registry: every species by name, with its place in history. Listing it imports no species.

A new species is one file in `models/` and one `Card` here. Other packages add theirs through the entry point group
`lmzoo.species`, whose entries point at a `Card`; a script or notebook calls `zoo.register(card)`.
"""

from __future__ import annotations

import inspect
import typing
from functools import cache
from importlib.metadata import entry_points
from typing import Any

from lmzoo.checks import check_choice
from lmzoo.errors import ConfigurationError, UnknownNameError, UsageError
from lmzoo.system.placement import DEVICES
from lmzoo.zoo.cards import CARDS
from lmzoo.zoo.species_card import Card

if typing.TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from lmzoo.language_model import LanguageModel
    from lmzoo.system.placement import Device

ENTRY_POINT_GROUP = "lmzoo.species"
_NO_SETTINGS = ("vocab_size", "device")
"""Parameters of a factory that `create` passes and that are not settings of the model."""

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


def create(name: str, vocab_size: int, /, *, device: Device = "cpu", **settings: Any) -> LanguageModel[Any]:
    """Creates an unfitted model of a species, for a vocabulary of `vocab_size` tokens.

    `settings` are keyword arguments of the factory of the species. A network computes on `device`: "cpu", "cuda",
    "mps", or "auto" for the fastest device present; other models ignore it. Raises UnknownNameError for an unknown
    species or setting, and ConfigurationError for a value that is not allowed or a device that is not present.
    """
    check_settings(name, settings)
    check_choice(DEVICES, device=device)
    factory = card(name).resolve()
    if "device" in inspect.signature(factory).parameters:
        settings["device"] = device
    return factory(vocab_size, **settings)


def check_settings(name: str, settings: Iterable[str]) -> None:
    """UnknownNameError unless a species has settings with all these names."""
    allowed = defaults(name)
    for setting in settings:
        if setting not in allowed:
            raise UnknownNameError(f"setting of species '{name}'", setting, allowed or ["(it has none)"])


def check_choice_of_settings(
    settings: Mapping[str, Iterable[str]], species: Collection[str], *, of: str = "run"
) -> None:
    """The same for settings by species; UsageError if some are for one that is not among `species`, those of a run."""
    for name in species:
        card(name)  # a typo there is what to say first
    for name, own in settings.items():
        check_settings(name, own)
        if name not in species:
            raise UsageError(f"settings are given for '{name}', which is not among the species of this {of}")


def year(species: str) -> int | None:
    """Of its card; None if there is none, as of a plug-in that has gone."""
    return card(species).year if species in names() else None


def defaults(name: str) -> dict[str, Any]:
    """Returns the settings of a species with their default values."""
    parameters = inspect.signature(card(name).resolve()).parameters.values()
    return {parameter.name: parameter.default for parameter in parameters if parameter.name not in _NO_SETTINGS}


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
