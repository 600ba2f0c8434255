"""`lmzoo list` and `lmzoo show`."""

from __future__ import annotations

from lmzoo import terminal


def list_species(*, json: bool = False) -> None:
    """The species of the zoo, era by era.

    Parameters
    ----------
    json
        Print one JSON array of the cards.
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
    for column in ("species", "year", "what", "sees"):
        table.add_column(column, style="bold" if column == "species" else "", no_wrap=column == "species")
    for card in sorted(cards, key=lambda card: card.year):
        table.add_row(card.name, str(card.year), Text(card.title), Text(card.sees))
    terminal.stdout().print(table)


def show(species: str, *, bibtex: bool = False, json: bool = False) -> None:
    """One species: its card and its settings.

    Example: lmzoo show lstm

    Parameters
    ----------
    species
        A name from `lmzoo list`.
    bibtex
        Print its papers for a bibliography, and nothing else.
    json
        Print one JSON object.
    """
    from dataclasses import asdict

    from lmzoo import zoo

    card = zoo.card(species)
    if bibtex:
        import sys

        from lmzoo.citations import bibtex as papers

        sys.stdout.write(papers(card.cites))
        return
    settings = zoo.defaults(species)
    if json:
        terminal.print_json({**asdict(card), "settings": {name: _plain(value) for name, value in settings.items()}})
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
        console.print(Text("\nsettings (lmzoo fit --set name=value)", style="bold"))
        for name, value in settings.items():
            console.print(Text(f"  {name} = {_plain(value)}"))


def _plain(value: object) -> object:
    """A default as something that JSON and people can read."""
    from dataclasses import asdict, is_dataclass

    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if isinstance(value, tuple):
        return list(value)
    return value if isinstance(value, bool | int | float | str | list | dict | None) else str(value)
