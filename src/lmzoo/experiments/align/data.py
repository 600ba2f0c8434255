"""The files of a run from which its stages learn, and on which their models are tested.

    run/encoded/                      the corpus as token ids, with the tokens of the chat template
    run/data/demonstrations.jsonl     conversations from which the base is fine-tuned
    run/data/valid.jsonl              conversations for early stopping of the fine-tuning
    run/data/prompts.jsonl            prompts; replies to them are ranked, or sampled and rewarded in PPO
    run/data/test.jsonl               held-out prompts, on which the models are tested

PPO is proximal policy optimization. Each line of prompts.jsonl and test.jsonl is a JSON object with the conversation up
to the reply in its field "prompt". For generated instructions, it also has the name of the task in the field "task" and
the correct answer in the field "answer".
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
from lmzoo.chat.instructions import PRACTISED, Instruction, demonstrations, instructions, judge, word_lists
from lmzoo.chat.template import with_chat_tokens
from lmzoo.corpora import Corpus
from lmzoo.corpora.encoded import EncodedCorpus, encode_corpus, tokenizer_for
from lmzoo.errors import CorpusError
from lmzoo.experiments.align.plan import AlignPlan
from lmzoo.predictor import Predictor
from lmzoo.system.files import atomic_folder

_N_VALID = 400
_SEEDS = {"demonstrations": 1, "prompts": 2, "test": 3}
"""A different number for each file, from which its random numbers are seeded. Those of the test set depend on this
number only, and not on the seed of the run."""


class RunData:
    """The encoded corpus, the conversations and the prompts in a run folder. Each is read when it is first used."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @cached_property
    def encoded(self) -> EncodedCorpus:
        """The corpus of the run as token ids."""
        return EncodedCorpus.load(self._folder / "encoded")

    @cached_property
    def demonstrations(self) -> list[Conversation]:
        """Conversations from which the base is fine-tuned."""
        return read_conversations(self._folder / "data" / "demonstrations.jsonl")

    @cached_property
    def valid(self) -> list[Conversation]:
        """Conversations for early stopping of the fine-tuning."""
        return read_conversations(self._folder / "data" / "valid.jsonl")

    @cached_property
    def prompts(self) -> list[Conversation]:
        """Prompts; replies to them are ranked, or sampled and rewarded in PPO."""
        return [prompt for prompt, _ in _read_prompts(self._folder / "data" / "prompts.jsonl")]

    @cached_property
    def instructions(self) -> list[Instruction]:
        """The same prompts as instructions with correct answers; [] if the user gave the conversations."""
        return read_instructions(self._folder / "data" / "prompts.jsonl")

    def grade(self, prompt: Conversation, reply: str) -> float:
        """Returns the grade that the judge gives to a reply; `prompt` is one of those in `instructions`."""
        return judge(self._instruction_of[prompt], reply).grade

    @cached_property
    def _instruction_of(self) -> dict[Conversation, Instruction]:
        return {instruction.conversation: instruction for instruction in self.instructions}

    @cached_property
    def test(self) -> list[Instruction]:
        """Held-out instructions, on which the models are tested; [] if the user gave the conversations."""
        return read_instructions(self._folder / "data" / "test.jsonl")


def read_instructions(path: Path) -> list[Instruction]:
    """Reads the prompts of a file whose correct answers are known; returns [] if the file does not exist.

    `path` is `data/prompts.jsonl` or `data/test.jsonl` of a run folder.
    """
    return [instruction for _, instruction in _read_prompts(path) if instruction] if path.exists() else []


def prepare(folder: Path, plan: AlignPlan, corpus: Corpus) -> None:
    """Writes the files of a run to its folder; files that exist already are not written again."""
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
    settings = plan.stage_settings
    learned, held_out = word_lists(document.text for document in corpus.train)
    test = instructions(held_out, settings.n_test, np.random.default_rng(_SEEDS["test"]))
    _write_prompts(data / "test.jsonl", test)
    known = {instruction.prompt for instruction in test}
    rng = np.random.default_rng([plan.seed, _SEEDS["demonstrations"]])
    shown = instructions(learned, settings.n_instructions, rng, tasks=PRACTISED, exclude=known)
    conversations = demonstrations(shown, rng)
    n_valid = min(_N_VALID, len(conversations) // 10)
    write_conversations(data / "demonstrations.jsonl", conversations[n_valid:])
    write_conversations(data / "valid.jsonl", conversations[:n_valid])
    known |= {instruction.prompt for instruction in shown}
    rng = np.random.default_rng([plan.seed, _SEEDS["prompts"]])
    _write_prompts(data / "prompts.jsonl", instructions(learned, settings.n_ranked_prompts, rng, exclude=known))


def _write_own(data: Path, conversations: Sequence[Conversation]) -> None:
    """Writes a user's conversations to the folder `data`, divided into those to learn from and those to validate on.

    Every tenth conversation, beginning with the first, is for early stopping of the fine-tuning. The prompts come from
    the others: each prompt is the part of a conversation before a reply of the assistant. The test set is empty. Raises
    CorpusError if there are fewer than two conversations in which the assistant replies to the user.
    """
    usable = [one for one in conversations if any(_prompts_of(one))]
    if len(usable) < 2:
        raise CorpusError(
            "fine-tuning needs at least 2 conversations in which the assistant replies to the user, got "
            f"{len(usable)}: add more"
        )
    valid = usable[::10]
    train = [one for index, one in enumerate(usable) if index % 10]
    write_conversations(data / "demonstrations.jsonl", train)
    write_conversations(data / "valid.jsonl", valid)
    prompts = [prompt for conversation in train for prompt in _prompts_of(conversation)]
    write_objects(data / "prompts.jsonl", ({"prompt": as_json(prompt)} for prompt in dict.fromkeys(prompts)))
    write_objects(data / "test.jsonl", ())


def _prompts_of(conversation: Conversation) -> list[Conversation]:
    """Returns the prompts in a conversation: each is the part before a reply of the assistant to the user."""
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
    """Reads prompts, each with its instruction; the instruction is None if the correct answer is not known."""
    prompts: list[tuple[Conversation, Instruction | None]] = []
    for _, entry in read_objects(path, "prompts"):
        prompt = parse_messages(entry.get("prompt"), "prompt")
        instruction = Instruction(entry["task"], prompt[-1].content, entry["answer"]) if "answer" in entry else None
        prompts.append((prompt, instruction))
    return prompts
