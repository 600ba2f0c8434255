"""The model card of a saved predictor: a README in Markdown with its paper, its training text and its settings."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from lmzoo import zoo
from lmzoo.provenance import Provenance
from lmzoo.system.counts import short_count
from lmzoo.system.fact_tables import fact_table
from lmzoo.system.version import __version__

if TYPE_CHECKING:
    from lmzoo.predictor import Predictor


def model_card(predictor: Predictor) -> str:
    """Returns the model card of a predictor as Markdown: the model and its paper, the training text, the settings."""
    card, tokenizer = zoo.card(predictor.species), predictor.tokenizer
    lines = [
        f"# {card.title} ({card.year}), saved by lmzoo {__version__}",
        "",
        card.idea,
        "",
        f"- people: {card.people}",
        f"- sees: {card.sees}",
        f"- limits: {card.limits}",
        f"- paper: {card.paper}",
        *_origin(predictor.provenance),
        f"- tokenizer: {tokenizer.spec}, {tokenizer.vocab_size:,} entries",
        f"- settings: `{json.dumps(dict(predictor.settings), sort_keys=True)}`",
        "",
        "```python",
        "from lmzoo import Predictor",
        "",
        'Predictor.load("this folder").top_tokens("some text")',
        "```",
        "",
    ]
    return "\n".join(lines)


def facts_in_html(predictor: Predictor) -> str:
    """Returns an HTML table of what a predictor is, for notebooks: its model, its tokenizer, its text and its size."""
    made, model, tokenizer = predictor.provenance, predictor.model, predictor.tokenizer
    known = predictor.species in zoo.names()
    settings = ", ".join(f"{name} = {json.dumps(value)}" for name, value in sorted(predictor.settings.items()))
    facts = {
        "model": f"{zoo.card(predictor.species).title} ({zoo.card(predictor.species).year})" if known else None,
        "settings": settings or None,
        "tokenizer": f"{tokenizer.spec}, {tokenizer.vocab_size:,} entries",
        "context in tokens": "unlimited" if model.reach is None else f"{model.reach:,}",
        "fitted on": made.corpus,
        "read from": made.source,
        "parameters": short_count(model.n_parameters) if model.fitted else "not fitted",
        "training": None if made.fit_seconds is None else f"{made.fit_seconds:,.1f} s",
    }
    return fact_table(predictor.label or predictor.species, facts)


def _origin(provenance: Provenance) -> list[str]:
    """Returns the lines of the card about the origin of the model; unknown facts are left out."""
    fingerprint = provenance.source_fingerprint if provenance.source else provenance.corpus_fingerprint
    facts = {
        "read from": provenance.source,
        "corpus": provenance.corpus,
        "sha256": fingerprint,
        "seed": provenance.seed,
        "training tokens": None if provenance.n_train_tokens is None else f"{provenance.n_train_tokens:,}",
        "training time": None if provenance.fit_seconds is None else f"{provenance.fit_seconds:.1f} s",
        "created": provenance.created,
    }
    return [f"- {name}: {fact}" for name, fact in facts.items() if fact is not None]
