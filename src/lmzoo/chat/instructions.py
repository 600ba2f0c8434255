"""Generated instructions whose correct answers are known, for learning to chat on a small scale.

Each instruction is a task about words that stand in the prompt. These are examples, with their correct answers:

    last word of: light upon waters         waters
    backwards: light upon waters            waters upon light
    lamb red, goat blue. goat?              blue
    spell: lamb goat                        l a m b, g o a t

The words are those of the text on which the base model was trained. A tenth of them are held out: they occur in no
prompt of the training set, and the prompts of the test set are made of them alone. A model therefore has to learn the
tasks rather than the prompts. To succeed, it must learn to copy words that it has never seen. This is why half of the
words in training prompts are made up of the beginning of one word and the end of another. The exception is spelling: a
model with a byte-pair tokenizer cannot see the letters of a token, so it has to learn the spelling of each word by
heart. A prompt for spelling has two words. The test set has the same words as the training set here, but no training
prompt has the same two words in the same order as a test prompt.

A demonstration is a conversation in which the assistant replies correctly; a model is fine-tuned on demonstrations.
Their style is mixed: some replies are polite, some are long-winded. A model that imitates them replies in all styles,
and rankings can teach it to prefer one.

The judge is a program that grades replies. It knows the correct answers.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Container, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from lmzoo.chat.conversation import Conversation, assistant, user
from lmzoo.errors import CorpusError

_NUMBERS = ("one", "two", "three", "four", "five", "six")
_N_SPELLED = 300
"""Number of different words in the prompts for spelling. A model has to learn the letters of each by heart."""
_POLITE = "verily, "
_LONG = "I say unto thee "
STYLES = ("", _POLITE, _LONG, _POLITE + _LONG)
"""The four styles of the replies in demonstrations, as the text before the answer: nothing, a polite word, a phrase
that makes the reply long-winded, or both. All have the same probability."""


@dataclass(frozen=True)
class Instruction:
    """A prompt for a chat model, with the correct answer."""

    task: str
    """Name of the task, such as "reverse"."""
    prompt: str
    """Text of the user's message."""
    answer: str
    """The correct answer. A reply is correct if it is this text, possibly after one of the `STYLES`."""

    @property
    def conversation(self) -> Conversation:
        """The prompt as a conversation of one message, to which the assistant has not replied yet."""
        return (user(self.prompt),)


@dataclass(frozen=True)
class Words:
    """The words of which prompts are made."""

    general: Sequence[str]
    """The words of all tasks but spelling, in the order of their frequency; made-up words come last."""
    spelled: Sequence[str]
    """The words to be spelled, which are short."""


def word_lists(texts: Iterable[str]) -> tuple[Words, Words]:
    """Returns the words for training prompts, and the words for test prompts.

    The words of `texts` that are used have 3 to 8 letters, all in lower case, and occur at least twice. In the order of
    their frequency, every tenth is a test word. The others are training words, together with as many made-up words.
    Raises CorpusError if `texts` have fewer than 200 such words.
    """
    counts = Counter(word for text in texts for word in re.findall(r"\b[a-z]{3,8}\b", text))
    words = sorted((word for word, n in counts.items() if n > 1), key=lambda word: (-counts[word], word))
    if len(words) < 200:
        raise CorpusError(
            f"instructions need a text with at least 200 different words of 3 to 8 letters, got {len(words)}"
        )
    spelled = [word for word in words if len(word) <= 5][:_N_SPELLED]
    learned = [word for i, word in enumerate(words) if i % 10]
    return Words([*learned, *_made_up(learned, set(words))], spelled), Words(words[::10], spelled)


def _made_up(words: Sequence[str], real: Container[str]) -> list[str]:
    """Returns as many made-up words as there are `words`.

    A made-up word is the beginning of one word and the end of a word that is usually a different one. It has 3 to 8
    letters, as `words` have, and is not in `real`.
    """
    rng = np.random.default_rng(0)
    made_up: list[str] = []
    while len(made_up) < len(words):
        indices: list[int] = rng.integers(len(words), size=2).tolist()
        first, second = (words[index] for index in indices)
        word = first[: int(rng.integers(1, len(first)))] + second[int(rng.integers(1, len(second))) :]
        if 3 <= len(word) <= 8 and word not in real:
            made_up.append(word)
    return made_up


def _several(rng: np.random.Generator, words: Sequence[str], low: int, high: int) -> list[str]:
    """Returns a random number of different words, at least `low` and at most `high`."""
    n = int(rng.integers(low, high + 1))
    while True:  # many times faster than a choice without replacement, as words rarely occur twice
        indices: list[int] = rng.integers(len(words), size=n).tolist()
        if len(set(indices)) == n:
            return [words[index] for index in indices]


def _repeat(rng: np.random.Generator, words: Words) -> tuple[str, str]:
    text = " ".join(_several(rng, words.general, 2, 4))
    return f"say: {text}", text


def _first(rng: np.random.Generator, words: Words) -> tuple[str, str]:
    picked = _several(rng, words.general, 2, 5)
    return f"first word of: {' '.join(picked)}", picked[0]


def _last(rng: np.random.Generator, words: Words) -> tuple[str, str]:
    picked = _several(rng, words.general, 2, 5)
    return f"last word of: {' '.join(picked)}", picked[-1]


def _reverse(rng: np.random.Generator, words: Words) -> tuple[str, str]:
    picked = _several(rng, words.general, 2, 3)
    return f"backwards: {' '.join(picked)}", " ".join(reversed(picked))


def _count(rng: np.random.Generator, words: Words) -> tuple[str, str]:
    picked = _several(rng, words.general, 1, len(_NUMBERS))
    return f"how many words: {' '.join(picked)}", _NUMBERS[len(picked) - 1]


def _look_up(rng: np.random.Generator, words: Words) -> tuple[str, str]:
    picked = _several(rng, words.general, 4, 6)
    pairs = list(zip(picked[::2], picked[1::2], strict=False))
    name, thing = pairs[rng.integers(len(pairs))]
    return f"{', '.join(f'{a} {b}' for a, b in pairs)}. {name}?", thing


def _contains(rng: np.random.Generator, words: Words) -> tuple[str, str]:
    *listed, other = _several(rng, words.general, 3, 5)
    is_in = bool(rng.integers(2))
    asked = listed[rng.integers(len(listed))] if is_in else other
    return f"is {asked} in: {' '.join(listed)}", "yes" if is_in else "no"


def _spell(rng: np.random.Generator, words: Words) -> tuple[str, str]:
    picked = _several(rng, words.spelled, 2, 2)
    return f"spell: {' '.join(picked)}", ", ".join(" ".join(word) for word in picked)


TASKS: dict[str, Callable[[np.random.Generator, Words], tuple[str, str]]] = {
    "repeat": _repeat,
    "first": _first,
    "last": _last,
    "reverse": _reverse,
    "count": _count,
    "look up": _look_up,
    "contains": _contains,
    "spell": _spell,
}
"""The tasks by name: functions that return a random prompt and its correct answer."""
PRACTISED = (*TASKS, "repeat", "reverse", "look up")
"""The tasks of demonstrations. The hardest ones, in which several words are copied or one is found, come twice."""


def instructions(
    words: Words, n: int, rng: np.random.Generator, *, tasks: Sequence[str] = tuple(TASKS), exclude: Iterable[str] = ()
) -> list[Instruction]:
    """Returns `n` random instructions with different prompts, cycling through `tasks`, which are names in `TASKS`.

    `words` are the words of the prompts, and `exclude` holds prompts that must not occur.
    """
    seen = set(exclude)
    drawn: list[Instruction] = []
    while len(drawn) < n:
        task = tasks[len(drawn) % len(tasks)]
        prompt, answer = TASKS[task](rng, words)
        if prompt not in seen:
            seen.add(prompt)
            drawn.append(Instruction(task, prompt, answer))
    return drawn


def demonstrations(instructions: Sequence[Instruction], rng: np.random.Generator) -> list[Conversation]:
    """Returns conversations in which the assistant replies to instructions correctly, each time in a random style.

    A quarter of the conversations have two instructions, the others one.
    """
    conversations: list[Conversation] = []
    turns: list[Conversation] = []
    for instruction in instructions:
        reply = STYLES[rng.integers(len(STYLES))] + instruction.answer
        turns.append((*instruction.conversation, assistant(reply)))
        if len(turns) == 2 or rng.random() >= 0.25:
            conversations.append(tuple(message for turn in turns for message in turn))
            turns = []
    return [*conversations, *turns]


@dataclass(frozen=True)
class Verdict:
    """What the judge, a program, finds out about a reply to an instruction."""

    correct: bool
    """True if the reply is the correct answer, possibly after one of the `STYLES`."""
    polite: bool
    """True if the reply begins with a polite word."""
    n_words: int
    """Number of words of the reply."""

    @property
    def grade(self) -> float:
        """The grade of the reply: 2 if it is correct, plus 1 if it is polite, minus 0.05 per word."""
        return 2.0 * self.correct + 1.0 * self.polite - 0.05 * self.n_words


def judge(instruction: Instruction, reply: str) -> Verdict:
    """Judges a reply to an instruction. For the grade, correctness counts most, then politeness, then brevity."""
    polite = reply.startswith(_POLITE)
    content = reply.removeprefix(_POLITE).removeprefix(_LONG)
    return Verdict(content == instruction.answer, polite, len(reply.split()))
