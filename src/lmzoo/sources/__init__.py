"""Sources of text whose true entropy is known: each is a rule that makes text, and the best predictor of that text.

A source asks for one ability: to remember the last k tokens, to agree over a distance, to close brackets, to copy. A
species that is trained on its text shows by its excess over the true entropy whether it has the ability.

    source.py   what all share                 finite_state.py   Markov chains, hidden Markov models, agreement
    rules.py    grammars, and their stacks     grammar.py        grammars without end
    chains.py, agreement.py, nesting.py, copying.py, recall.py   the sources themselves

>>> from lmzoo.sources import source
>>> agreement = source("agreement-4")
>>> agreement.predict_distribution(agreement.ids("the keys near the box"))
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from lmzoo.errors import UnknownNameError
from lmzoo.sources.agreement import agreement, tense
from lmzoo.sources.chains import markov, weather
from lmzoo.sources.copying import copying, induction
from lmzoo.sources.finite_state import FiniteState
from lmzoo.sources.nesting import brackets, counting, english
from lmzoo.sources.recall import recall
from lmzoo.sources.source import Source

__all__ = ["FiniteState", "Source", "SourceCard", "card", "names", "source"]


@dataclass(frozen=True)
class SourceCard:
    """What is known of a source without making it."""

    name: str
    ability: str
    """What a predictor must be able to do."""
    rule: str
    """How a document is written, in one line."""
    decisive: str
    """The tokens that show the ability; "" = all tokens alike."""
    make: Callable[[], Source[Any]]


_CARDS = {
    card.name: card
    for card in (
        *(
            SourceCard(
                name=f"markov-{order}",
                ability=f"know the last {'token' if order == 1 else f'{order} tokens'}",
                rule=f"a melody; what note comes next depends on the last {order if order > 1 else 'one'}",
                decisive="",
                make=partial(markov, order),
            )
            for order in (1, 2, 3)
        ),
        SourceCard(
            name="hmm",
            ability="infer what is hidden",
            rule="what somebody does each hour, by a weather that is not told and seldom changes, until the night",
            decisive="",
            make=weather,
        ),
        *(
            SourceCard(
                name=f"agreement-{3 * n_phrases + 1}",
                ability=f"agree over {3 * n_phrases + 1} tokens",
                rule=f"a sentence with {3 * n_phrases + 1} words between its noun and the verb that agrees in number",
                decisive="the verb",
                make=partial(agreement, n_phrases),
            )
            for n_phrases in (1, 3, 8)
        ),
        SourceCard(
            name="tense",
            ability="keep the tense",
            rule="a sentence with two verbs in the same tense, and four to nine words between them",
            decisive="the second verb",
            make=tense,
        ),
        SourceCard(
            name="counting",
            ability="count",
            rule="so many steps up, and as many down",
            decisive="the steps down and the end",
            make=counting,
        ),
        SourceCard(
            name="brackets",
            ability="keep a stack",
            rule="brackets of three kinds, nested to any depth",
            decisive="closing brackets",
            make=brackets,
        ),
        SourceCard(
            name="english",
            ability="parse",
            rule="a sentence of a small grammar with relative clauses, and phrases that can belong to two words",
            decisive="verbs, which agree with a noun that may be far back",
            make=english,
        ),
        SourceCard(
            name="copying",
            ability="copy",
            rule="a list of 5 to 12 words, a sign, and the same list",
            decisive="the list when it comes again",
            make=copying,
        ),
        SourceCard(
            name="induction",
            ability="find what followed before",
            rule="8 to 16 different words, then one of them again and all that followed it",
            decisive="what followed it",
            make=induction,
        ),
        SourceCard(
            name="recall",
            ability="look up facts",
            rule="8 to 16 times a name and its thing, which stays the same within a document",
            decisive="the thing of a name that was there before",
            make=recall,
        ),
    )
}


def names() -> list[str]:
    """All sources, from the lowest rung up."""
    return list(_CARDS)


def card(name: str) -> SourceCard:
    """The card of a source; UnknownNameError with the nearest match."""
    if name not in _CARDS:
        raise UnknownNameError("source", name, _CARDS)
    return _CARDS[name]


def source(name: str) -> Source[Any]:
    """A source, ready to be asked and sampled from; UnknownNameError with the nearest match."""
    return card(name).make().load_arrays({})
