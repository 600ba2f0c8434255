"""Sources of known entropy: rules that generate text, each of which is also the best predictor of its text.

A source tests one ability: to remember the last k tokens, to agree over a distance, to close brackets, to copy. A model
is trained on text of the source; its cross-entropy above the true entropy shows whether it has learned the ability.

    source.py   the base class                 finite_state.py   Markov chains, hidden Markov models, agreement
    rules.py    grammars and their stacks      grammar.py        grammars with any number of stacks
    chains.py, agreement.py, nesting.py, copying.py, recall.py   the sources themselves

>>> from lmzoo.sources import source
>>> agreement = source("agreement-4")
>>> context = agreement.ids("the keys" + 4 * " near the door" + " today")
>>> probs = agreement.predict_distribution(context).probs
>>> {verb: round(float(probs[agreement.id_of[verb]]), 6) for verb in ("is", "are", "were")}
{'is': 0.0, 'are': 0.5, 'were': 0.5}
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
    """A description of a text source, which is a rule that generates text of known entropy.

    The description is available without creating the source.
    """

    name: str
    ability: str
    """The ability that a model needs to predict the text."""
    rule: str
    """How a document is generated, in one line."""
    targets: str
    """The target tokens, which test the ability; empty if all tokens are equal."""
    make: Callable[[], Source[Any]]


_CARDS = {
    card.name: card
    for card in (
        *(
            SourceCard(
                name=f"markov-{order}",
                ability=f"remember the last {'token' if order == 1 else f'{order} tokens'}",
                rule=f"a melody, in which each note depends on the last {'note' if order == 1 else f'{order} notes'}",
                targets="",
                make=partial(markov, order),
            )
            for order in (1, 2, 3)
        ),
        SourceCard(
            name="hmm",
            ability="infer a hidden state",
            rule="the activity of each hour until night, which depends on a weather that is hidden and seldom changes",
            targets="",
            make=weather,
        ),
        *(
            SourceCard(
                name=f"agreement-{3 * n_phrases + 1}",
                ability=f"agree over {3 * n_phrases + 1} tokens",
                rule=f"a sentence with {3 * n_phrases + 1} words between its noun and the verb that agrees with it",
                targets="the verb",
                make=partial(agreement, n_phrases),
            )
            for n_phrases in (1, 3, 8)
        ),
        SourceCard(
            name="tense",
            ability="keep the tense",
            rule="a sentence with two verbs in the same tense, separated by four to nine words",
            targets="the second verb",
            make=tense,
        ),
        SourceCard(
            name="counting",
            ability="count",
            rule="a number of steps up, and the same number of steps down",
            targets="the steps down and the end",
            make=counting,
        ),
        SourceCard(
            name="brackets",
            ability="keep a stack",
            rule="brackets of three kinds, nested to any depth",
            targets="closing brackets",
            make=brackets,
        ),
        SourceCard(
            name="english",
            ability="parse",
            rule="a sentence of a small grammar with relative clauses, and phrases that can belong to two words",
            targets="the verbs, which agree with a noun that can be many words earlier",
            make=english,
        ),
        SourceCard(
            name="copying",
            ability="copy",
            rule='a list of 5 to 12 words, the word "again", and the same list',
            targets="the words of the second list",
            make=copying,
        ),
        SourceCard(
            name="induction",
            ability="repeat what followed a word",
            rule="8 to 16 different words, then one of them again and all words that followed it",
            targets="the words that followed it",
            make=induction,
        ),
        SourceCard(
            name="recall",
            ability="look up facts",
            rule="8 to 16 pairs of a name and a colour; a name has the same colour within a document",
            targets="the colours of repeated names",
            make=recall,
        ),
    )
}


def names() -> list[str]:
    """Returns the names of all text sources (rules that generate text of known entropy), from easy to hard."""
    return list(_CARDS)


def card(name: str) -> SourceCard:
    """Returns the description of a text source: the ability that it tests, its rule, and its target tokens.

    A text source is a rule that generates text of known entropy. Raises UnknownNameError, with the nearest match, for
    an unknown name.
    """
    if name not in _CARDS:
        raise UnknownNameError("source", name, _CARDS)
    return _CARDS[name]


def source(name: str) -> Source[Any]:
    """Creates a text source, a rule that generates text of known entropy, by name; it is ready to predict and sample.

    Raises UnknownNameError, with the nearest match, for an unknown name.
    """
    return card(name).make().load_arrays({})
