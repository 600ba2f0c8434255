"""Conversations with a chat model: which messages the model sees, and what stays when a reply is stopped."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pytest
from micro_chat_models import micro_predictor
from numpy.typing import NDArray

from lmzoo.chat.conversation import Conversation, Message, assistant, user
from lmzoo.chat.replies import sample_replies
from lmzoo.chat.session import ChatPredictor, ChatSession
from lmzoo.chat.template import decode_message, render_prompt
from lmzoo.errors import ConfigurationError, UsageError
from lmzoo.generation import Decoding, generate
from lmzoo.stream import EOT


class Scripted:
    """A chat model that gives its replies in order, one word per token, and keeps the conversations that it saw.

    A message has as many tokens as words.
    """

    def __init__(self, *replies: str, context_size: int | None = None) -> None:
        self.context_size = context_size
        self.seen: list[Conversation] = []
        self.settings: list[tuple[Decoding, int]] = []
        self._replies = iter(replies)
        self._words: list[str] = []

    def prompt_ids(self, conversation: Conversation) -> NDArray[np.int32]:
        if any("<refused>" in message.content for message in conversation):
            raise UsageError("a message contains <refused>")
        self.seen.append(conversation)
        return np.zeros(sum(len(message.content.split()) for message in conversation), np.int32)

    def shortened(self, conversation: Conversation, n_tokens: int) -> tuple[Conversation, int]:
        first = int(conversation[0].role == "system")
        for start in range(first, len(conversation), 2):
            shorter = (*conversation[:first], *conversation[start:])
            if sum(len(message.content.split()) for message in shorter) <= n_tokens:
                return shorter, start - first
        return (*conversation[:first], conversation[-1]), len(conversation) - 1 - first

    def sample(
        self, prompt_ids: NDArray[np.int32], *, rng: np.random.Generator, decoding: Decoding, max_tokens: int
    ) -> Iterator[int]:
        self.settings.append((decoding, max_tokens))
        self._words = next(self._replies).split()[:max_tokens]
        yield from range(len(self._words))

    def decode(self, token_ids: Iterable[int]) -> Iterator[str]:
        for index in token_ids:
            yield f" {self._words[index]}" if index else self._words[index]


def test_the_model_sees_all_messages_and_its_own_replies() -> None:
    model = Scripted("one two", "three")
    session = ChatSession(model, system="be kind")
    assert list(session.reply_to("a")) == ["one", " two"]
    assert "".join(session.reply_to("b")) == "three"
    assert model.seen[1] == (Message("system", "be kind"), user("a"), assistant("one two"), user("b"))
    assert session.messages == (*model.seen[1], assistant("three"))


def test_the_text_so_far_stays_when_a_reply_is_stopped() -> None:
    session = ChatSession(Scripted("one two three", "four"))
    reply = session.reply_to("a")
    assert next(reply) + next(reply) == "one two"
    reply.close()
    assert session.messages == (user("a"), assistant("one two"))
    assert "".join(session.reply_to("b")) == "four"


def test_retry_replaces_the_last_reply_only() -> None:
    model = Scripted("one", "two", "three")
    session = ChatSession(model)
    with pytest.raises(UsageError, match="no reply yet"):
        session.retry()
    list(session.reply_to("a"))
    list(session.reply_to("b"))
    assert "".join(session.retry()) == "three"
    assert session.messages == (user("a"), assistant("one"), user("b"), assistant("three"))
    assert model.seen[2] == model.seen[1]


def test_reset_keeps_the_system_message_and_an_empty_one_removes_it() -> None:
    session = ChatSession(Scripted("one"), system="be kind")
    list(session.reply_to("a"))
    session.reset()
    assert session.messages == (Message("system", "be kind"),)
    session.set_system("")
    assert session.messages == ()


def test_a_long_conversation_slides_by_turns_and_says_how_many_messages_are_lost() -> None:
    model = Scripted(*["r r"] * 4, context_size=8)
    session = ChatSession(model, system="s", max_tokens=2)
    left_out = []
    for text in ("a a", "b b", "c c"):
        list(session.reply_to(text))
        left_out.append(session.n_left_out)
    assert left_out == [0, 2, 4]  # of 8 tokens, 2 are for the reply and 1 for the system message
    assert model.seen[1] == (Message("system", "s"), user("b b"))
    assert model.seen[2][0] == Message("system", "s")
    assert len(session.messages) == 7, "the session keeps what the model does not see"
    session.reset()
    assert session.n_left_out == 0


def test_half_of_the_context_is_for_the_conversation_when_replies_may_be_long() -> None:
    model = Scripted("r", context_size=8)
    list(ChatSession(model, max_tokens=100).reply_to("a a a a"))
    assert model.seen[0] == (user("a a a a"),)


def test_a_message_that_the_template_refuses_leaves_the_conversation_as_it_was() -> None:
    session = ChatSession(Scripted("one", "two"))
    list(session.reply_to("a"))
    with pytest.raises(UsageError, match="<refused>"):
        session.reply_to("<refused>")
    assert session.messages == (user("a"), assistant("one"))


def test_settings_reach_the_model() -> None:
    model = Scripted("one", "two")
    session = ChatSession(model, max_tokens=7)
    session.decoding = Decoding(0.5)
    list(session.reply_to("a"))
    assert model.settings == [(Decoding(0.5), 7)]
    settings: dict[str, Any] = {"temperature": 0.8, "top_k": 9, "top_p": 0.7, "min_p": 0.1}
    assert ChatSession(model, **settings).decoding == Decoding(**settings)
    with pytest.raises(ConfigurationError, match="temperature must be"):
        ChatSession(model, temperature=-1)
    with pytest.raises(ConfigurationError, match="max_tokens"):
        ChatSession(model, max_tokens=0)
    with pytest.raises(ConfigurationError, match="seed"):
        ChatSession(model, seed=-1)


@pytest.mark.parametrize("seed", range(3))
def test_the_pieces_are_those_of_the_message_that_generate_samples(seed: int) -> None:
    predictor = micro_predictor(seed=seed)
    session = ChatSession(ChatPredictor(predictor), seed=seed, max_tokens=40)
    replies = ["".join(session.reply_to(text)) for text in ("é", "b")]
    rng = np.random.default_rng(seed)
    ends = (EOT, predictor.tokenizer.special_tokens["<|end|>"])
    conversation: Conversation = ()
    for text, reply in zip(("é", "b"), replies, strict=True):
        conversation = (*conversation, user(text))
        ids = render_prompt(conversation, predictor.tokenizer)
        sampled = [one.token_id for one in generate(predictor.model, ids, rng=rng, max_tokens=40, end_ids=ends)]
        assert reply == decode_message(sampled, predictor.tokenizer)
        conversation = (*conversation, assistant(reply))
    assert session.messages == conversation
    again = ChatSession(ChatPredictor(predictor), seed=seed, max_tokens=40)
    assert ["".join(again.reply_to(text)) for text in ("é", "b")] == replies


def test_the_likeliest_reply_is_that_of_a_batch() -> None:
    predictor = micro_predictor(seed=4)
    session = ChatSession(ChatPredictor(predictor), temperature=0, max_tokens=12)
    batch = sample_replies(
        predictor.model,
        predictor.tokenizer,
        [(user("hi"),)],
        rng=np.random.default_rng(0),
        decoding=Decoding(0),
        max_tokens=12,
    )
    assert "".join(session.reply_to("hi")) == batch[0].text


def test_the_context_of_a_window_is_that_of_the_model() -> None:
    predictor = micro_predictor(base="gpt2")
    model = ChatPredictor(predictor)
    assert model.context_size == predictor.model.reach
    assert model.context_size is not None
    conversation = tuple(turn for _ in range(10) for turn in (user("question"), assistant("answer")))[:-1]
    shorter, left_out = model.shortened(conversation, 40)
    assert shorter == conversation[left_out:]
    assert shorter[0].role == "user"
    assert len(model.prompt_ids(shorter)) <= 40 < len(model.prompt_ids(conversation[left_out - 2 :]))


def test_a_model_without_chat_tokens_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="train a chat model with lmzoo align"):
        ChatPredictor(micro_predictor(chat=False))
