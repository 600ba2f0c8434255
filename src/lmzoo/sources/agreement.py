"""Agreement over a distance: the form of a verb depends on a word many tokens earlier.

The nouns between a subject and its verb mislead a model that uses the nearest noun, an effect called attraction
(Linzen, Dupoux & Goldberg 2016, Assessing the Ability of LSTMs to Learn Syntax-Sensitive Dependencies).
"""

from __future__ import annotations

import math

from lmzoo.sources.finite_state import FiniteState
from lmzoo.sources.rules import Rules


def agreement(n_phrases: int) -> FiniteState:
    """Creates a random generator of sentences in which a verb agrees with a noun that is farther back.

    An example is "the keys near the door today are old". The noun and the verb are separated by `n_phrases` phrases of
    three words, such as "near the door". The word "today" always precedes the verb, so that only the number of the verb
    (singular or plural) has to be remembered.
    """
    return FiniteState.of_rules(agreement_rules(n_phrases), targets="is was are were", baseline_nats=math.log(2))


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
    """Creates a random generator of sentences in which two verbs have the same tense.

    An example is "she went to the store and bought bread".
    """
    return FiniteState.of_rules(
        tense_rules(), targets="bought found ate sold buys finds eats sells", baseline_nats=math.log(2)
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
