"""The commands `lmzoo list` and `lmzoo show`, which describe the species (model families)."""

from __future__ import annotations

from lmzoo.cli import terminal


def list_species(*, json: bool = False) -> None:
    """Lists the species (model families) that lmzoo knows, oldest first.

    Parameters
    ----------
    json
        Print the cards of all species as one JSON array.
    """
    from dataclasses import asdict

    from lmzoo import zoo

    cards = [zoo.card(name) for name in zoo.names()]
    if json:
        terminal.print_json([asdict(card) for card in cards])
        return
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, padding=(0, 2, 0, 0))
    for column in ("species", "year", "title", "context"):
        table.add_column(column, style="bold" if column == "species" else "", no_wrap=column == "species")
    for card in sorted(cards, key=lambda card: card.year):
        table.add_row(card.name, str(card.year), Text(card.title), Text(card.sees))
    terminal.stdout().print(table)


def show(species: str, *, bibtex: bool = False, json: bool = False) -> None:
    """Shows one species: its history, its limits, its paper, and its settings under each budget.

    Example: lmzoo show lstm

    Parameters
    ----------
    species
        Name of a species from `lmzoo list`.
    bibtex
        Print only the papers of the species, in BibTeX format.
    json
        Print the card and the settings as one JSON object.
    """
    from dataclasses import asdict

    from lmzoo import zoo
    from lmzoo.experiments.budgets import BUDGETS, as_assignments, settings_for

    card = zoo.card(species)
    if bibtex:
        import sys

        from lmzoo.zoo.citations import bibtex as papers

        sys.stdout.write(papers(card.cites))
        return
    settings = {name: _plain(value) for name, value in zoo.defaults(species).items()}
    if "training" in settings:  # the default is None; the model then knows the training settings of its species
        settings["training"] = _plain(getattr(zoo.create(species, 2), "training", None))
    budgets = {budget: settings_for(species, budget) for budget in BUDGETS}
    if json:
        terminal.print_json({**asdict(card), "settings": settings, "budgets": budgets})
        return
    from rich.table import Table
    from rich.text import Text

    console = terminal.stdout()
    console.print(Text(f"{card.title} ({card.year})", style="bold"), Text(card.people, style="dim"), sep="\n")
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    rows = {"idea": card.idea, "sees": card.sees, "changed": card.changed, "limits": card.limits, "paper": card.paper}
    if card.beware:
        rows["beware"] = card.beware
    for name, text in rows.items():
        table.add_row(Text(name, style="bold"), Text(text))
    console.print(table)
    if settings:
        table = Table(box=None, padding=(0, 2, 0, 0))
        laid_over = {budget: as_assignments(changes) for budget, changes in budgets.items() if changes}
        for column in ("--set", "default", *laid_over):
            table.add_column(column, no_wrap=True)
        for name, value in as_assignments(settings).items():
            changes = (changed.get(name, "") for changed in laid_over.values())
            table.add_row(name, Text(value), *map(Text, changes))
        title = "settings: the defaults, and the values under each --budget" if laid_over else "settings"
        console.print(Text(f"\n{title}", style="bold"), table)


def _plain(value: object) -> object:
    """Converts the default value of a setting to a type that JSON can hold."""
    from dataclasses import asdict, is_dataclass

    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if isinstance(value, tuple):
        return list(value)
    return value if isinstance(value, bool | int | float | str | list | dict | None) else str(value)
