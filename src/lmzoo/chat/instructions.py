"""A generated set of instructions with answers that a program can check, for learning to chat on a small scale.

Each task is a question about words that stand in the prompt, such as

    last word of: light upon waters         waters
    backwards: light upon waters            waters upon light
    lamb red, goat blue. goat?              blue
    spell: lamb goat                        l a m b, g o a t

The words are those of the text that the base model was trained on. A tenth of them are held out: they occur in no
prompt of the training set, and the prompts of the test set are made of them alone. A model therefore has to learn
the task rather than the prompts. So that it learns to copy words that it has never seen, half of the words in training
prompts are made up: the beginning of one word and the end of another. The exception is spelling: a model with a
byte-pair tokenizer cannot see the letters of a token, so it has to learn the spelling of each word by heart. A prompt
for spelling has two words. Training and test prompts are made of the same words, but a pair of words in a test prompt,
in its order, is in no demonstration.

The demonstrations, from which a model is fine-tuned, are correct, but their manner is mixed: some are polite, some are
long-winded. So a model that imitates them answers in all manners, and rankings can teach it to prefer one.
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
"""Number of words to spell; a model learns their letters by heart."""
_POLITE = "verily, "
_LONG = "I say unto thee "
MANNERS = ("", _POLITE, _LONG, _POLITE + _LONG)
"""The four texts, each with the same probability, that precede the answer in a demonstration: nothing, a polite word,
a long-winded phrase, or both."""


@dataclass(frozen=True)
class Instruction:
    """A prompt for a chat model, with the correct answer."""

    task: str
    """Name of the task, such as "reverse"."""
    prompt: str
    answer: str

    @property
    def conversation(self) -> Conversation:
        """The prompt as a conversation that waits for the reply of the assistant."""
        return (user(self.prompt),)


@dataclass(frozen=True)
class Words:
    """The words of which prompts are made."""

    prompts: Sequence[str]
    """Words of most tasks, in the order of their frequency."""
    spelled: Sequence[str]
    """Short words, to be spelled."""


def word_lists(texts: Iterable[str]) -> tuple[Words, Words]:
    """Returns the words for training prompts, and the words for test prompts.

    The test words are every tenth word of `texts`, by frequency. The training words are the other words of `texts`, and
    as many made-up words. Words have 3 to 8 letters, all in lower case, and those of `texts` occur in them at least
    twice. Raises CorpusError if there are fewer than 200 of them.
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
    """Returns as many made-up words as there are `words`: the beginning of one of them and the end of another.

    Made-up words have 3 to 8 letters, as `words` do, and none is in `real`.
    """
    rng = np.random.default_rng(0)
    found: list[str] = []
    while len(found) < len(words):
        indices: list[int] = rng.integers(len(words), size=2).tolist()
        first, second = (words[index] for index in indices)
        word = first[: int(rng.integers(1, len(first)))] + second[int(rng.integers(1, len(second))) :]
        if 3 <= len(word) <= 8 and word not in real:
            found.append(word)
    return found


def _several(rng: np.random.Generator, words: Sequence[str], low: int, high: int) -> list[str]:
    """Returns a random number of different words, at least `low` and at most `high`."""
    n = int(rng.integers(low, high + 1))
    while True:  # many times faster than a choice without replacement, as words rarely occur twice
        indices: list[int] = rng.integers(len(words), size=n).tolist()
        if len(set(indices)) == n:
            return [words[index] for index in indices]


def _repeat(rng: np.random.Generator, words: Words) -> tuple[str, str]:
    text = " ".join(_several(rng, words.prompts, 2, 4))
    return f"say: {text}", text


def _first(rng: np.random.Generator, words: Words) -> tuple[str, str]:
    picked = _several(rng, words.prompts, 2, 5)
    return f"first word of: {' '.join(picked)}", picked[0]


def _last(rng: np.random.Generator, words: Words) -> tuple[str, str]:
    picked = _several(rng, words.prompts, 2, 5)
    return f"last word of: {' '.join(picked)}", picked[-1]


def _reverse(rng: np.random.Generator, words: Words) -> tuple[str, str]:
    picked = _several(rng, words.prompts, 2, 3)
    return f"backwards: {' '.join(picked)}", " ".join(reversed(picked))


def _count(rng: np.random.Generator, words: Words) -> tuple[str, str]:
    picked = _several(rng, words.prompts, 1, len(_NUMBERS))
    return f"how many words: {' '.join(picked)}", _NUMBERS[len(picked) - 1]


def _look_up(rng: np.random.Generator, words: Words) -> tuple[str, str]:
    picked = _several(rng, words.prompts, 4, 6)
    pairs = list(zip(picked[::2], picked[1::2], strict=False))
    name, thing = pairs[rng.integers(len(pairs))]
    return f"{', '.join(f'{a} {b}' for a, b in pairs)}. {name}?", thing


def _contains(rng: np.random.Generator, words: Words) -> tuple[str, str]:
    *listed, other = _several(rng, words.prompts, 3, 5)
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
"""The tasks by name: functions that return a random prompt and its answer."""
PRACTISED = (*TASKS, "repeat", "reverse", "look up")
"""The tasks of demonstrations. The hardest ones, in which several words are copied or one is found, come twice."""


def instructions(
    words: Words, n: int, rng: np.random.Generator, *, tasks: Sequence[str] = tuple(TASKS), exclude: Iterable[str] = ()
) -> list[Instruction]:
    """Returns `n` random instructions with different prompts, cycling through `tasks`, which are names in `TASKS`.

    `words` are the words of the prompts, and `exclude` holds prompts that must not occur.
    """
    seen = set(exclude)
    found: list[Instruction] = []
    while len(found) < n:
        task = tasks[len(found) % len(tasks)]
        prompt, answer = TASKS[task](rng, words)
        if prompt not in seen:
            seen.add(prompt)
            found.append(Instruction(task, prompt, answer))
    return found


def demonstrations(
    instructions: Sequence[Instruction], rng: np.random.Generator, second_turn: float = 0.25
) -> list[Conversation]:
    """Returns conversations in which the assistant answers instructions correctly, in a random manner.

    A conversation has one instruction or, with probability `second_turn`, two.
    """
    conversations: list[Conversation] = []
    turns: list[Conversation] = []
    for instruction in instructions:
        reply = MANNERS[rng.integers(len(MANNERS))] + instruction.answer
        turns.append((*instruction.conversation, assistant(reply)))
        if len(turns) == 2 or rng.random() >= second_turn:
            conversations.append(tuple(message for turn in turns for message in turn))
            turns = []
    return [*conversations, *turns]


@dataclass(frozen=True)
class Verdict:
    """The judgement of a program about a reply to an instruction: correctness, politeness and length."""

    correct: bool
    polite: bool
    n_words: int

    @property
    def score(self) -> float:
        """The grade of the reply: 2 if it is correct, plus 1 if it is polite, minus 0.05 per word."""
        return 2.0 * self.correct + 1.0 * self.polite - 0.05 * self.n_words


def judge(instruction: Instruction, reply: str) -> Verdict:
    """Grades a reply: a correct answer counts most, then a polite manner, then a short text."""
    polite = reply.startswith(_POLITE)
    answer = reply.removeprefix(_POLITE).removeprefix(_LONG)
    return Verdict(answer == instruction.answer, polite, len(reply.split()))
