"""The table of the models in the order of their years, and the bibliography of a run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lmzoo import zoo
from lmzoo.evaluation.records import EvalRecord
from lmzoo.report.leaderboard import context, formatted
from lmzoo.system.files import atomic_file
from lmzoo.zoo.citations import bibtex

HEADER = ("year", "model", "people", "idea", "context", "bits/byte", "rank", "cite")
MAIN = ("year", "model", "idea", "bits/byte", "rank")
"""The columns that a page shows first."""
WIDE = ("people", "idea")
"""The columns that hold whole sentences."""

_SOFTWARE = """@software{{lmzoo,
  author  = {{{{The lmzoo developers}}}},
  title   = {{lmzoo: a Historical Language-Model Zoo}},
  version = {{{version}}},
  note    = {{Corpus {corpus}, sha256 {fingerprint}}},
}}
"""


def rows(records: Sequence[EvalRecord]) -> list[list[str]]:
    """Returns the rows of a table of model families (species): year, authors, idea and result, the oldest first.

    `records`: evaluation records, best first. A species with several records is shown with its best one.
    """
    ranked = [record for record in records if record.is_ranked]
    best = {record.species: record for record in reversed(records) if record.species in zoo.names()}
    table = []
    for card in sorted((zoo.card(species) for species in best), key=lambda card: card.year):
        record = best[card.name]
        rank = f"{ranked.index(record) + 1} of {len(ranked)}" if record in ranked else "–"
        bits, cites = formatted(record.bits_per_byte, ".3f"), ", ".join(card.cites)
        table.append([str(card.year), card.name, card.people, card.idea, context(record), bits, rank, cites])
    return table


def write_references(path: Path, records: Sequence[EvalRecord]) -> None:
    """Writes a bibliography in BibTeX, with the papers of the models and entries for lmzoo and for the corpus."""
    cards = [zoo.card(record.species) for record in records if record.species in zoo.names()]
    first = records[0]
    software = _SOFTWARE.format(
        version=first.versions.get("lmzoo", ""), corpus=first.corpus, fingerprint=first.corpus_fingerprint
    )
    papers = bibtex(key for card in sorted(cards, key=lambda card: card.year) for key in card.cites)
    with atomic_file(path) as temporary:
        temporary.write_text(f"{papers}\n{software}", encoding="utf-8", newline="\n")
