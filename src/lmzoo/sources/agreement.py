"""Agreement over a distance: what a word must be was decided many words earlier, and others of its kind stand between.

The nouns between a subject and its verb "attract" whoever looks at the nearest one (Linzen, Dupoux & Goldberg 2016,
Assessing the Ability of LSTMs to Learn Syntax-Sensitive Dependencies).
"""

from __future__ import annotations

import math

from lmzoo.sources.finite_state import FiniteState
from lmzoo.sources.rules import Rules


def agreement(n_phrases: int) -> FiniteState:
    """ "the keys near the door today are old", with so many phrases of three words before "today".

    That word says that the verb comes next, so that all that is left to know there is the number.
    """
    return FiniteState.of_rules(agreement_rules(n_phrases), decisive="is was are were", ignorance=math.log(2))


def agreement_rules(n_phrases: int) -> Rules:
    return Rules(
        {
            "S": "the SUBJECT",
            "SUBJECT": "ONE | MANY",
            "ONE": f"THING {'PHRASE ' * n_phrases} today IS ADJECTIVE",
            "MANY": f"THINGS {'PHRASE ' * n_phrases} today ARE ADJECTIVE",
            "PHRASE": "PREPOSITION the NOUN",
            "NOUN": "THING | THINGS",
            "THING": "key | door | lamp",
            "THINGS": "keys | doors | lamps",
            "PREPOSITION": "near | behind",
            "IS": "is | was",
            "ARE": "are | were",
            "ADJECTIVE": "old | new | red",
        }
    )


def tense() -> FiniteState:
    """ "she went to the store with anna and bought bread": what begins in the past ends in it."""
    return FiniteState.of_rules(
        tense_rules(), decisive="bought found ate sold buys finds eats sells", ignorance=math.log(2)
    )


def tense_rules() -> Rules:
    return Rules(
        {
            "S": "WHO STORY",
            "STORY": "PAST | PRESENT",
            "PAST": "WENT WHERE and BOUGHT WHAT",
            "PRESENT": "GOES WHERE and BUYS WHAT",
            "WHERE": "to the PLACE COMPANY TIME",
            "COMPANY": "with NAME |",
            "TIME": "early | on DAY | in the HOUR |",
            "WHO": "she | he | NAME",
            "NAME": "anna | ben | clara | tom",
            "WENT": "went | ran | walked | drove",
            "GOES": "goes | runs | walks | drives",
            "BOUGHT": "bought | found | ate | sold",
            "BUYS": "buys | finds | eats | sells",
            "PLACE": "store | market | harbour | village",
            "DAY": "monday | friday | sunday",
            "HOUR": "morning | evening | rain",
            "WHAT": "bread | fish | apples | milk",
        }
    )
