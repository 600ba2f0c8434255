"""Nesting: counting, brackets, and a little English, by grammars whose texts no finite memory can follow."""

from __future__ import annotations

import math

from lmzoo.sources.grammar import Grammar
from lmzoo.sources.rules import Rules


def counting() -> Grammar:
    """So many steps up, one at least, and as many down: the language a^n b^n, n geometric with a mean of 6 2/3."""
    turns = 0.15
    rules = Rules(
        {
            "S": f"{1 - turns} UP S DOWN | {turns} UP DOWN",
            "UP": "climb | hop | step",
            "DOWN": "slide | drop | fall",
        }
    )
    # Who does not count sees the end come with probability `turns` after every step down, and pays h(turns) / turns
    # nats for it in each document, whose decisive tokens are 1 / turns steps and the end. Who counts pays nothing for
    # it. (When the first step down comes neither knows.)
    entropy = -turns * math.log(turns) - (1 - turns) * math.log(1 - turns)
    return Grammar(rules, decisive="slide drop fall", end_is_decisive=True, ignorance=entropy / turns / (1 / turns + 1))


def brackets() -> Grammar:
    """Brackets of three kinds, nested to any depth: the Dyck language of Chomsky & Schützenberger (1963)."""
    rules = Rules(
        {
            "S": "PAIR MORE",
            "MORE": "0.75 PAIR MORE | 0.25",
            "PAIR": "( INSIDE ) | [ INSIDE ] | { INSIDE }",
            "INSIDE": "0.4 PAIR INSIDE | 0.6",
        }
    )
    return Grammar(rules, decisive=") ] }", ignorance=math.log(3))


def english() -> Grammar:
    """ "the farmer that the dogs see likes the cat in the garden": verbs agree with their nouns, which may be far back.

    Whether somebody is in the garden, or likes somebody there, cannot be told: the grammar is ambiguous.
    """
    rules = Rules(
        {
            "S": "ONE VERB_ONE | MANY VERB_MANY",
            "ONE": "the NOUN_ONE OF_ONE",
            "MANY": "the NOUN_MANY OF_MANY",
            "OF_ONE": "0.55 | 0.2 PLACE | 0.15 that VERB_ONE | 0.1 that SOMEBODY",
            "OF_MANY": "0.55 | 0.2 PLACE | 0.15 that VERB_MANY | 0.1 that SOMEBODY",
            "SOMEBODY": "ONE SEES | MANY SEE",
            "VERB_ONE": "SEES OBJECT WHERE | SLEEPS WHERE",
            "VERB_MANY": "SEE OBJECT WHERE | SLEEP WHERE",
            "OBJECT": "ONE | MANY",
            "WHERE": "0.75 | 0.25 PLACE",
            "PLACE": "in the GARDEN | near the GARDEN",
            "NOUN_ONE": "dog | cat | farmer | girl",
            "NOUN_MANY": "dogs | cats | farmers | girls",
            "SEES": "sees | likes | follows",
            "SEE": "see | like | follow",
            "SLEEPS": "sleeps | waits",
            "SLEEP": "sleep | wait",
            "GARDEN": "garden | house | field",
        }
    )
    verbs = "sees likes follows see like follow sleeps waits sleep wait"
    return Grammar(rules, decisive=verbs, ignorance=math.log(2), ambiguous=True)
