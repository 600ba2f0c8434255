"""The eras of a run, from the oldest: one definition of the table for Markdown and HTML, and the bibliography."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lmzoo import zoo
from lmzoo.evaluation.records import EvalRecord
from lmzoo.report.leaderboard import context, figure
from lmzoo.system.files import atomic_file
from lmzoo.zoo.citations import bibtex

HEADER = ("year", "species", "people", "idea", "context", "bits/byte", "place", "cite")
WIDE = ("people", "idea")
"""Columns of whole sentences."""

_SOFTWARE = """@software{{lmzoo,
  author  = {{{{The lmzoo developers}}}},
  title   = {{lmzoo: a Historical Language-Model Zoo}},
  version = {{{version}}},
  note    = {{Corpus {corpus}, sha256 {fingerprint}}},
}}
"""


def rows(records: Sequence[EvalRecord]) -> list[list[str]]:
    """The cells under `HEADER`: each species once, with the best of its records; `records` has the best first."""
    ranked = [record for record in records if record.is_ranked]
    best = {record.species: record for record in reversed(records) if record.species in zoo.names()}
    table = []
    for card in sorted((zoo.card(species) for species in best), key=lambda card: card.year):
        record = best[card.name]
        place = f"{ranked.index(record) + 1} of {len(ranked)}" if record in ranked else "–"
        bits, cites = figure(record.bits_per_byte, ".3f"), ", ".join(card.cites)
        table.append([str(card.year), card.name, card.people, card.idea, context(record), bits, place, cites])
    return table


def write_references(path: Path, records: Sequence[EvalRecord]) -> None:
    """Writes the papers of the species, and this software with the corpus, as BibTeX."""
    cards = [zoo.card(record.species) for record in records if record.species in zoo.names()]
    first = records[0]
    software = _SOFTWARE.format(
        version=first.versions.get("lmzoo", ""), corpus=first.corpus, fingerprint=first.corpus_fingerprint
    )
    papers = bibtex(key for card in sorted(cards, key=lambda card: card.year) for key in card.cites)
    with atomic_file(path) as temporary:
        temporary.write_text(f"{papers}\n{software}", encoding="utf-8", newline="\n")
