"""The files of a run from which its stages learn, and on which they are tested.

    run/encoded/                      the corpus as token ids, with the tokens of the chat template
    run/data/demonstrations.jsonl     conversations for fine-tuning
    run/data/valid.jsonl              conversations for early stopping
    run/data/prompts.jsonl            prompts whose replies are ranked, and that PPO answers
    run/data/test.jsonl               held-out prompts

Each line of prompts.jsonl and test.jsonl is a JSON object with the conversation up to the reply in its field "prompt".
For generated instructions, it also has the name of the task and the correct answer, in the fields "task" and "answer".
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np

from lmzoo.chat.conversation import (
    Conversation,
    as_json,
    parse_messages,
    read_conversations,
    read_objects,
    write_conversations,
    write_objects,
)
from lmzoo.chat.instructions import PRACTISED, Instruction, demonstrations, instructions, word_lists
from lmzoo.chat.template import with_chat_tokens
from lmzoo.corpora import Corpus
from lmzoo.corpora.encoded import EncodedCorpus, encode_corpus, tokenizer_for
from lmzoo.errors import CorpusError
from lmzoo.experiments.align.plan import AlignPlan
from lmzoo.predictor import Predictor
from lmzoo.system.files import atomic_folder

_N_VALID = 400
_SEEDS = {"demonstrations": 1, "prompts": 2, "test": 3}
"""Each file has random numbers of its own; those of the test set do not depend on the seed of the run."""


class RunData:
    """The encoded corpus, the conversations and the prompts in a run folder, each read when it is first used."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @cached_property
    def encoded(self) -> EncodedCorpus:
        """The corpus of the run as token ids."""
        return EncodedCorpus.load(self._folder / "encoded")

    @cached_property
    def demonstrations(self) -> list[Conversation]:
        """Conversations for fine-tuning."""
        return read_conversations(self._folder / "data" / "demonstrations.jsonl")

    @cached_property
    def valid(self) -> list[Conversation]:
        """Conversations for early stopping."""
        return read_conversations(self._folder / "data" / "valid.jsonl")

    @cached_property
    def prompts(self) -> list[Conversation]:
        """Prompts whose replies are ranked, and that PPO answers."""
        return [prompt for prompt, _ in _read_prompts(self._folder / "data" / "prompts.jsonl")]

    @cached_property
    def instructions(self) -> list[Instruction]:
        """The instructions of these prompts, with the correct answers; [] for the user's own conversations."""
        return read_instructions(self._folder / "data" / "prompts.jsonl")

    @cached_property
    def test(self) -> list[Instruction]:
        """Held-out instructions; [] if the run learns from the user's own conversations."""
        return read_instructions(self._folder / "data" / "test.jsonl")


def read_instructions(path: Path) -> list[Instruction]:
    """Reads the prompts of a file whose answers are known; [] if the file does not exist.

    `path` is `data/prompts.jsonl` or `data/test.jsonl` of a run folder.
    """
    return [instruction for _, instruction in _read_prompts(path) if instruction] if path.exists() else []


def prepare(folder: Path, plan: AlignPlan, corpus: Corpus) -> None:
    """Writes the files of a run to its folder, unless they are there already."""
    if not (folder / "encoded").exists():
        tokenizer = Predictor.load(plan.base).tokenizer if plan.is_saved_base else tokenizer_for(corpus, plan.tokenizer)
        encode_corpus(corpus, with_chat_tokens(tokenizer)).save(folder / "encoded")
    if (folder / "data").exists():
        return
    with atomic_folder(folder / "data") as data:
        if plan.conversations is None:
            _write_instructions(data, plan, corpus)
        else:
            _write_own(data, plan.read_conversations())


def _write_instructions(data: Path, plan: AlignPlan, corpus: Corpus) -> None:
    """Writes generated instructions: demonstrations, prompts and the test set have no prompt in common."""
    amounts = plan.amounts
    learned, held_out = word_lists(document.text for document in corpus.train)
    test = instructions(held_out, amounts.n_test, np.random.default_rng(_SEEDS["test"]))
    _write_prompts(data / "test.jsonl", test)
    known = {instruction.prompt for instruction in test}
    rng = np.random.default_rng([plan.seed, _SEEDS["demonstrations"]])
    shown = instructions(learned, amounts.n_instructions, rng, tasks=PRACTISED, exclude=known)
    conversations = demonstrations(shown, rng)
    n_valid = min(_N_VALID, len(conversations) // 10)
    write_conversations(data / "demonstrations.jsonl", conversations[n_valid:])
    write_conversations(data / "valid.jsonl", conversations[:n_valid])
    known |= {instruction.prompt for instruction in shown}
    rng = np.random.default_rng([plan.seed, _SEEDS["prompts"]])
    _write_prompts(data / "prompts.jsonl", instructions(learned, amounts.n_ranked_prompts, rng, exclude=known))


def _write_own(data: Path, conversations: Sequence[Conversation]) -> None:
    """Writes a user's conversations to the folder `data`, divided into those to learn from and those to validate on.

    Every tenth conversation, from the first, is for early stopping. In the others, each part from the beginning up to a
    reply of the assistant is a prompt. The test set is empty. Raises CorpusError if there are fewer than two
    conversations in which the assistant replies to a user.
    """
    usable = [one for one in conversations if any(_prompts_of(one))]
    if len(usable) < 2:
        raise CorpusError(
            f"fine-tuning needs at least 2 conversations with a reply of the assistant, got {len(usable)}"
        )
    valid = usable[::10]
    train = [one for index, one in enumerate(usable) if index % 10]
    write_conversations(data / "demonstrations.jsonl", train)
    write_conversations(data / "valid.jsonl", valid)
    prompts = [prompt for conversation in train for prompt in _prompts_of(conversation)]
    write_objects(data / "prompts.jsonl", ({"prompt": as_json(prompt)} for prompt in dict.fromkeys(prompts)))
    write_objects(data / "test.jsonl", ())


def _prompts_of(conversation: Conversation) -> list[Conversation]:
    """Returns all beginnings of a conversation after which the assistant replies to the user."""
    return [
        conversation[:index]
        for index in range(1, len(conversation))
        if conversation[index].role == "assistant" and conversation[index - 1].role == "user"
    ]


def _write_prompts(path: Path, prompts: Iterable[Instruction]) -> None:
    write_objects(
        path,
        ({"prompt": as_json(one.conversation), "task": one.task, "answer": one.answer} for one in prompts),
    )


def _read_prompts(path: Path) -> list[tuple[Conversation, Instruction | None]]:
    """Reads prompts, each with its instruction; None for prompts that have no known answer."""
    found: list[tuple[Conversation, Instruction | None]] = []
    for _, entry in read_objects(path, "prompts"):
        prompt = parse_messages(entry.get("prompt"), "prompt")
        instruction = Instruction(entry["task"], prompt[-1].content, entry["answer"]) if "answer" in entry else None
        found.append((prompt, instruction))
    return found
