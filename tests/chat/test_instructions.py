"""The generated instructions: held-out and made-up words, answers, demonstrations, and the judge."""

from __future__ import annotations

import re
from collections import Counter

import numpy as np
import pytest

from lmzoo.chat import instructions as module
from lmzoo.chat.instructions import PRACTISED, TASKS, Instruction, demonstrations, instructions, judge, word_lists
from lmzoo.corpora import load_corpus
from lmzoo.errors import CorpusError

TEXTS = [document.text for document in load_corpus("kjv").train]
LEARNED, HELD_OUT = word_lists(TEXTS)


def test_held_out_words_are_in_no_training_prompt() -> None:
    shown = instructions(LEARNED, 2000, np.random.default_rng(0))
    words = {word for one in shown if one.task != "spell" for word in re.findall(r"[a-z]+", one.prompt)}
    assert len(set(HELD_OUT.general)) > 300
    # These words belong to the questions themselves.
    assert words & set(HELD_OUT.general) <= {
        "say",
        "first",
        "last",
        "word",
        "words",
        "how",
        "many",
        "backwards",
        "spell",
    }


def test_half_of_the_words_for_training_are_made_up() -> None:
    counts = Counter(word for text in TEXTS for word in re.findall(r"\b[a-z]{3,8}\b", text))
    frequent = {word for word, n in counts.items() if n > 1}
    made_up = [word for word in LEARNED.general if word not in frequent]
    assert len(made_up) == len(LEARNED.general) - len(made_up)
    assert set(HELD_OUT.general) <= frequent
    assert all(re.fullmatch("[a-z]{3,8}", word) for word in made_up)
    beginnings = {word[:end] for word in frequent for end in range(1, len(word))}
    ends = {word[start:] for word in frequent for start in range(1, len(word))}
    assert all(any(w[:cut] in beginnings and w[cut:] in ends for cut in range(1, len(w))) for w in made_up)


def answered(one: Instruction) -> str:
    """Returns the answer to an instruction, found from its prompt alone."""
    question, _, rest = one.prompt.partition(": ")
    words = rest.split()
    if one.task == "look up":
        facts, name = one.prompt.removesuffix("?").split(". ")
        return dict(fact.split() for fact in facts.split(", "))[name]
    if one.task == "contains":
        return "yes" if question.split()[1] in words else "no"
    return {
        "repeat": rest,
        "first": words[0],
        "last": words[-1],
        "reverse": " ".join(words[::-1]),
        "count": ["zero", "one", "two", "three", "four", "five", "six"][len(words)],
        "spell": ", ".join(" ".join(word) for word in words),
    }[one.task]


@pytest.mark.parametrize("words", [LEARNED, HELD_OUT], ids=["learned", "held-out"])
def test_answers_are_right_and_prompts_differ(words: module.Words) -> None:
    found = instructions(words, 800, np.random.default_rng(1))
    assert Counter(one.task for one in found) == dict.fromkeys(TASKS, 100)
    assert len({one.prompt for one in found}) == 800
    assert [one.answer for one in found] == [answered(one) for one in found]
    assert {one.answer for one in found if one.task == "contains"} == {"yes", "no"}


def test_tasks_and_excluded_prompts() -> None:
    known = {one.prompt for one in instructions(LEARNED, 110, np.random.default_rng(2), tasks=PRACTISED)}
    other = instructions(LEARNED, 110, np.random.default_rng(2), tasks=PRACTISED, exclude=known)
    assert not known & {one.prompt for one in other}
    assert Counter(one.task for one in other) == {
        task: 20 if task in ("repeat", "reverse", "look up") else 10 for task in TASKS
    }


def test_demonstrations_are_correct_in_all_styles() -> None:
    asked = instructions(LEARNED, 400, np.random.default_rng(3))
    conversations = demonstrations(asked, np.random.default_rng(4))
    turns = [
        conversation[start : start + 2] for conversation in conversations for start in range(0, len(conversation), 2)
    ]
    assert [question.content for question, _ in turns] == [one.prompt for one in asked]
    verdicts = [judge(one, reply.content) for one, (_, reply) in zip(asked, turns, strict=True)]
    assert all(verdict.correct for verdict in verdicts)
    assert 0.4 < np.mean([verdict.polite for verdict in verdicts]) < 0.6
    assert 0.15 < np.mean([len(conversation) == 4 for conversation in conversations]) < 0.35


def test_grades_by_hand() -> None:
    one = Instruction("first", "first word of: lamb goat", "lamb")
    assert judge(one, "lamb").grade == pytest.approx(2 - 0.05)
    assert judge(one, "verily, lamb").grade == pytest.approx(2 + 1 - 2 * 0.05)
    assert judge(one, "verily, I say unto thee lamb").grade == pytest.approx(2 + 1 - 6 * 0.05)
    assert judge(one, "goat").grade == pytest.approx(-0.05)
    assert judge(one, "I say unto thee verily, lamb").grade == pytest.approx(-6 * 0.05)
    assert judge(one, "").grade == 0


def test_a_short_text_is_refused() -> None:
    with pytest.raises(CorpusError, match="at least 200 different words of 3 to 8 letters, got 2"):
        word_lists(["red goat red goat, and once"])
