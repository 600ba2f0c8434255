"""Nesting: counting, brackets, and simple English, by grammars that no finite-state model can represent."""

from __future__ import annotations

import math

from lmzoo.sources.grammar import Grammar
from lmzoo.sources.rules import Rules


def counting() -> Grammar:
    """Creates a random generator of texts with n words such as "climb" followed by n words such as "slide".

    This is the formal language a^n b^n. n is at least 1 and has a geometric distribution with mean 6 2/3.
    """
    turns = 0.15
    rules = Rules(
        {
            "S": f"{1 - turns} UP S DOWN | {turns} UP DOWN",
            "UP": "climb | hop | step",
            "DOWN": "slide | drop | fall",
        }
    )
    # A model that does not count predicts the end with probability `turns` after every step down. This costs
    # h(turns) / turns nats per document, where h is the binary entropy; a model that counts loses nothing. The target
    # tokens of a document are 1 / turns steps down, on average, and the end. (The first step down is random for both.)
    entropy = -turns * math.log(turns) - (1 - turns) * math.log(1 - turns)
    return Grammar(
        rules, targets="slide drop fall", end_is_target=True, baseline_nats=entropy / turns / (1 / turns + 1)
    )


def brackets() -> Grammar:
    """Creates a random generator of correctly nested brackets of three kinds, to any depth.

    This is a Dyck language (Chomsky & Schützenberger 1963).
    """
    rules = Rules(
        {
            "S": "PAIR MORE",
            "MORE": "0.75 PAIR MORE | 0.25",
            "PAIR": "( INSIDE ) | [ INSIDE ] | { INSIDE }",
            "INSIDE": "0.4 PAIR INSIDE | 0.6",
        }
    )
    return Grammar(rules, targets=") ] }", baseline_nats=math.log(3))


def english() -> Grammar:
    """Creates a random generator of sentences such as "the farmer that the dogs see likes the cat in the garden".

    Verbs agree with their nouns, which may be many words earlier. The grammar is ambiguous: "in the garden" can belong
    to the noun or to the verb.
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
    return Grammar(rules, targets=verbs, baseline_nats=math.log(2), ambiguous=True)
