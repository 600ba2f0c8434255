"""The registry of model families, called species: their names, their cards, and their settings.

Listing the registry imports no model code. A new species is one file in `models/` and one `Card` in `zoo/cards.py`.
Other packages add species through the entry point group `lmzoo.species`, whose entries point to a `Card`; a script or
notebook calls `zoo.register(card)`.
"""

from __future__ import annotations

import inspect
import os
import sys
import typing
from functools import cache
from importlib.metadata import entry_points
from typing import Any

from lmzoo.checks import check_choice
from lmzoo.errors import ConfigurationError, UnknownNameError, UsageError
from lmzoo.system.placement import DEVICES
from lmzoo.zoo.cards import CARDS
from lmzoo.zoo.eras import REPRESENTATIVES
from lmzoo.zoo.network_cards import NETWORK_CARDS
from lmzoo.zoo.species_card import Card

if typing.TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from lmzoo.language_model import LanguageModel
    from lmzoo.system.placement import Device

ENTRY_POINT_GROUP = "lmzoo.species"
_NO_SETTINGS = ("vocab_size", "device")
"""Parameters of a factory that `create` passes and that are not settings of the model."""
_BUILT_IN_NETWORKS = frozenset(card.name for card in NETWORK_CARDS)
"""Networks that are known without their modules, which take more than a second to import, because of torch."""

_registered: dict[str, Card] = {card.name: card for card in CARDS}


def register(card: Card) -> None:
    """Adds the species (model family) that a card describes to the registry, for this process.

    Raises ConfigurationError if another species has the same name.
    """
    if _all_cards().get(card.name, card) != card:
        raise ConfigurationError(f"the species name '{card.name}' is taken: choose another name")
    _registered[card.name] = card


def names() -> list[str]:
    """Returns the names of all species, which are model families.

    Those of lmzoo come first, in order of year, then those of scripts and other packages.
    """
    return list(_all_cards())


def built_in_names() -> list[str]:
    """Returns the names of the species (model families) that are part of lmzoo, in order of year."""
    return [card.name for card in CARDS]


def text_species() -> list[str]:
    """Returns the names of the built-in species that learn from text alone, in order of year.

    The others, chat models, learn from conversations too: `lmzoo align` trains them.
    """
    return [card.name for card in CARDS if card.learns_from == "text"]


def chosen_species(chosen: Iterable[str]) -> list[str]:
    """Returns the species (model families) of a choice, each once and in the given order.

    A choice is one name or several. An empty choice stands for one or several species of each era (`REPRESENTATIVES`),
    and the name "all" for all built-in species that learn from text alone.
    """
    named = [chosen] if isinstance(chosen, str) else chosen
    expanded = [name for one in named for name in (text_species() if one == "all" else [one])]
    return list(dict.fromkeys(expanded or REPRESENTATIVES))


def check_learns_from_text(name: str) -> None:
    """Raises UsageError if a species (a model family) does not learn from text alone, and so cannot be fitted to it."""
    if card(name).learns_from != "text":
        raise UsageError(
            f"'{name}' learns from {card(name).learns_from}, not from text alone: train it with lmzoo align"
        )


def card(name: str) -> Card:
    """Returns the description (card) of a species, which is a model family.

    Raises UnknownNameError, with the nearest match, for an unknown name, and UsageError for the path of a folder.
    """
    cards = _all_cards()
    if name not in cards and isinstance(name, str) and os.path.isdir(name):  # noqa: PTH112 - a name of any length is allowed here
        raise UsageError(
            f"'{name}' is a folder, not the name of a species, so it cannot be trained here: to compare a saved model "
            f"with others, use lmzoo evaluate {name} OTHER_FOLDER --corpus TEXT"
        )
    if name not in cards:
        raise UnknownNameError("species", name, cards)
    return cards[name]


def create(name: str, vocab_size: int, /, *, device: Device = "cpu", **settings: Any) -> LanguageModel[Any]:
    """Creates an unfitted model of the kind `name`, such as "lstm", for a vocabulary of `vocab_size` tokens.

    `settings` are the settings that `lmzoo show` lists for this kind of model. A network computes on `device`: "cpu",
    "cuda", "mps", or "auto" for the fastest device present; other models ignore it. Raises UnknownNameError for an
    unknown species or setting, and ConfigurationError for a value that is not allowed or a device that is not present.
    """
    check_settings(name, settings)
    check_choice(DEVICES, device=device)
    factory = card(name).resolve()
    if "device" in inspect.signature(factory).parameters:
        settings["device"] = device
    return factory(vocab_size, **settings)


def check_settings(name: str, settings: Iterable[str]) -> None:
    """Raises UnknownNameError if a species (a model family) has no setting with one of the given names."""
    allowed = defaults(name)
    for setting in settings:
        if setting not in allowed:
            raise UnknownNameError(f"{name} setting", setting, allowed)


def check_choice_of_settings(settings: Mapping[str, Iterable[str]], species: Collection[str]) -> None:
    """Raises an error if settings that are grouped by species (model family) do not fit a run of the given `species`.

    The error is UnknownNameError for an unknown species or setting, and UsageError for settings of a species that is
    not part of the run.
    """
    for name in species:
        card(name)  # so that a misspelt species is reported first
    for name, names_of_settings in settings.items():
        check_settings(name, names_of_settings)
        if name not in species:
            raise UsageError(
                f"settings are given for '{name}', which is not among the species of this run: {', '.join(species)}"
            )


def year(species: str) -> int | None:
    """Returns the year in which a model family was introduced; None for a family that is not registered.

    This is the case if the package that provided the family was removed.
    """
    return card(species).year if species in names() else None


def place(species: str) -> tuple[int, str]:
    """Returns a sort key that puts model families into the order of `names()`.

    Families that are not registered come last, in alphabetical order.
    """
    known = names()
    return (known.index(species) if species in known else len(known)), species


def defaults(name: str) -> dict[str, Any]:
    """Returns the settings of the species (model family) `name` with their default values."""
    parameters = inspect.signature(card(name).resolve()).parameters.values()
    return {parameter.name: parameter.default for parameter in parameters if parameter.name not in _NO_SETTINGS}


def is_network(name: str) -> bool:
    """Returns True if a species (a model family) that learns from text is a neural network, which trains step by step.

    The settings of these steps are its setting `training`.
    """
    return name in _BUILT_IN_NETWORKS or "training" in defaults(name)


def presets(name: str) -> dict[str, dict[str, Any]]:
    """Returns the presets of a species (a model family): groups of settings by name; {} if the species has none.

    `PRESETS`, beside the factory of the species, maps the name of each factory of a module to its presets. Names with a
    meaning are "quick", "standard" and "thorough" (budgets), "bytes" (tokens are single bytes or characters), "chat"
    (changes of "quick" for the base of a chat model), "tiny" (a model for tests), and "ladder", "ladder/BUDGET" and
    "ladder/TASK" (tasks of `lmzoo ladder`). A name that is absent leaves the defaults unchanged.
    """
    owner = card(name)
    owner.resolve()
    module, _, function = owner.factory.partition(":")
    return getattr(sys.modules[module], "PRESETS", {}).get(function, {})


def _all_cards() -> dict[str, Card]:
    return {**_registered, **{name: card for name, card in _plugins().items() if name not in _registered}}


@cache
def _plugins() -> dict[str, Card]:
    """Returns the descriptions (cards) of the species, or model families, of other installed packages.

    A package that cannot be loaded gives a card that raises ConfigurationError only when its species is used.
    """
    cards = {}
    for entry in entry_points(group=ENTRY_POINT_GROUP):
        try:
            loaded = entry.load()
        except Exception as error:
            loaded = _broken(entry.name, f"{type(error).__name__}: {error}")
        if not isinstance(loaded, Card):
            loaded = _broken(entry.name, f"its entry point is a {type(loaded).__name__} and must be a Card")
        cards[loaded.name] = loaded
    return cards


def _broken(name: str, reason: str) -> Card:
    """Returns the description (card) of a species, or model family, that cannot be loaded for the given reason."""
    about = f"cannot be loaded: {reason}"
    return Card(
        name=name, factory=f"({about})", title="(broken plug-in)", year=0, people="",
        idea=about, sees="", changed="", limits="", paper="",
    )  # fmt: skip
