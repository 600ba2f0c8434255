"""The commands `lmzoo corpus list`, `info`, `fetch`, `add` and `remove`, which manage corpora."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import cyclopts

from lmzoo.cli import terminal
from lmzoo.cli.commands.parameters import OrStandardInput

if TYPE_CHECKING:
    from lmzoo.corpora import Corpus, NearDuplicates

app = cyclopts.App(
    name="corpus",
    help="Lists, inspects, downloads and adds corpora.",
    default_parameter=cyclopts.Parameter(negative=()),  # is not inherited from the main program
)


@app.command(name="list")
def list_(*, json: bool = False) -> None:
    """Lists the corpora that lmzoo knows by name, and shows which of them are on this machine.

    Wherever a command takes the name of a corpus, it also takes the path of your own text file or folder. `lmzoo corpus
    add` gives your own texts a name.

    Parameters
    ----------
    json
        Print one JSON document instead of tables.
    """
    from lmzoo.corpora import is_available, list_corpora

    rows = [
        {
            "name": card.name,
            "specs": card.specs,
            "title": card.title,
            "provider": card.provider,
            "language": card.language,
            "size_bytes": card.size,
            "licence": card.licence,
            "available": is_available(card),
        }
        for card in list_corpora()
    ]
    if json:
        terminal.print_json(rows)
        return
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    for column in ("name", "title", "source", "size", "available", "licence"):
        table.add_column(column, justify="right" if column == "size" else "left", no_wrap=column in ("name", "size"))
    for row in rows:
        protocols = " ".join(spec.removeprefix(row["name"]) for spec in row["specs"] if spec != row["name"])
        title = f"{row['title']}\n{protocols}".strip()
        available = "yes" if row["available"] else "no"
        cells = (row["name"], title, row["provider"], _size(row["size_bytes"]), available, row["licence"])
        table.add_row(*(Text(cell) for cell in cells))
    terminal.stdout().print(table)
    terminal.note(
        "A `:protocol` is appended to the name, as in brown:bengio2003. `lmzoo corpus info NAME` shows details."
    )


@app.command
def info(corpus: OrStandardInput, /, *, json: bool = False) -> None:
    """Shows one corpus: its splits, the rule that made them, and the text that test and valid share with train.

    Example: lmzoo corpus info brown:bengio2003

    Parameters
    ----------
    corpus
        A name from `lmzoo corpus list`, or your own text: a file, a folder, a glob pattern, or - for standard input.
    json
        Print one JSON document instead of tables.
    """
    from lmzoo.corpora import Size, load_corpus, near_duplicates

    with terminal.progress("reading the corpus") as on_progress:
        loaded = load_corpus(corpus, on_progress)
    with terminal.progress("comparing the splits") as on_progress:
        duplicates = near_duplicates(loaded, on_progress=on_progress)
    facts = {
        "name": loaded.name,
        "title": loaded.title,
        "licence": loaded.licence,
        "citation": loaded.citation,
        "protocol": loaded.protocol,
        "tokenizer": loaded.tokenizer,
        "vocabulary_size": None if loaded.vocabulary is None else len(loaded.vocabulary),
        "fingerprint": loaded.fingerprint,
        "splits": {name: asdict(Size.of(documents)) for name, documents in loaded.splits.items()},
        "near_duplicates": {name: asdict(near) for name, near in duplicates.items()},
    }
    if json:
        terminal.print_json(facts)
    else:
        _print_info(loaded, facts["splits"], duplicates)


@app.command
def fetch(names: list[str], /, *, json: bool = False) -> None:
    """Downloads corpora into the cache of this machine and verifies them. Interrupted downloads are resumed.

    Example: lmzoo corpus fetch wikitext-2 brown

    Parameters
    ----------
    names
        Names of corpora from `lmzoo corpus list`.
    json
        Print one JSON document instead of tables.
    """
    from lmzoo.corpora import corpus_card, fetch_corpus

    cards = [corpus_card(name) for name in names]  # a misspelt name raises before any download
    for card in cards:
        with terminal.progress(f"fetching {card.name}") as on_progress:
            fetch_corpus(card.name, on_progress)
        if not json:
            terminal.note(f"{card.name} ({_size(card.size)}) is on this machine; licence: {card.licence}")
    if json:
        terminal.print_json([{"name": card.name, "size_bytes": card.size, "licence": card.licence} for card in cards])


@app.command
def add(name: str, paths: list[str], /, *, json: bool = False) -> None:
    """Gives a name to your own texts, so that --corpus NAME loads them from any folder; they stay where they are.

    Example: lmzoo corpus add letters my-texts/

    Example: lmzoo corpus add wiki 'wiki/*.parquet:content'

    The texts are read once, and their fingerprint is kept with the rule that divides them into train, valid and test.
    If they change later, the name is refused until they are added again. A README and a licence beside them are read
    for the title and the licence.

    Parameters
    ----------
    name
        Small letters, digits, dots, dashes and underscores.
    paths
        Files, folders, zip archives or glob patterns: plain text, JSON, Parquet or Arrow. FILE:FIELD names the JSON
        field or the column that has the text, if that is not "text".
    json
        Print one JSON document instead of a line.
    """
    from lmzoo.corpora import add_corpus

    card = add_corpus(name, paths)
    (protocol,) = card.protocols.values()
    if json:
        facts = {"title": card.title, "licence": card.licence, "size_bytes": card.size, "protocol": protocol.rule}
        terminal.print_json({"name": name, **facts, "fingerprint": protocol.options["fingerprint"]})
    else:
        terminal.note(f"added {name} ({_size(card.size)} of text), licence: {card.licence}; use it as --corpus {name}")


@app.command
def remove(name: str, /, *, json: bool = False) -> None:
    """Forgets the name of a corpus that was added; its texts stay where they are.

    Example: lmzoo corpus remove letters

    Parameters
    ----------
    name
        Name of a corpus that `lmzoo corpus add` has added.
    json
        Print the name as one JSON object.
    """
    from lmzoo.corpora import remove_corpus

    remove_corpus(name)
    if json:
        terminal.print_json({"name": name})


def _print_info(
    corpus: Corpus, splits: Mapping[str, Mapping[str, int]], duplicates: Mapping[str, NearDuplicates]
) -> None:
    from rich.table import Table
    from rich.text import Text

    from lmzoo.cli.tables import plain_table

    out = terminal.stdout()
    about = Table.grid(padding=(0, 2))
    about.add_column(style="dim", no_wrap=True)
    for label, value in (
        ("title", corpus.title),
        ("licence", corpus.licence),
        ("citation", corpus.citation),
        ("protocol", corpus.protocol),
        ("tokenizer", corpus.tokenizer or "any"),
        ("vocabulary", f"{len(corpus.vocabulary):,} words; all others are unknown words" if corpus.vocabulary else ""),
        ("fingerprint", corpus.fingerprint),
    ):
        if value:
            about.add_row(label, Text(value))
    out.print(Text(corpus.name, style="bold"))
    out.print(about)

    rows = []
    for name, size in splits.items():
        shared = duplicates.get(name)
        seen = ("", "") if shared is None else (f"{shared.share:.2%}", f"{shared.exact:,}")
        rows.append([name, *(f"{number:,}" for number in size.values()), *seen])
    header = ("split", "documents", "bytes", "characters", "words", "seen in train", "exact copies")
    out.print()
    out.print(plain_table(header, rows))
    out.print(
        Text(
            "seen in train: share of the words that are part of a sequence of 8 words, or of a shorter document, that "
            "train has too",
            style="dim",
        )
    )
    for name, shared in duplicates.items():
        if shared.worst:
            rows = [
                [document.name, f"{document.share:.1%}", f"{document.n_words:,}", document.nearest]
                for document in shared.worst
            ]
            header = ("document", "seen in train", "words", "most similar in train")
            out.print(Text(f"\n{name}: documents with the largest share of text from train", style="italic"))
            out.print(plain_table(header, rows, text=(0, 3)))


def _size(n_bytes: Any) -> str:
    return f"{n_bytes / 1e6:,.1f} MB"
