"""Conversations with a pretrained chat model through its own template."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from gguf_files import CHAT_TEMPLATE
from test_pretrained_chat import chat_folder

from lmzoo import Predictor
from lmzoo.chat.conversation import as_json, assistant, user
from lmzoo.chat.pretrained import PretrainedChat
from lmzoo.chat.session import ChatSession
from lmzoo.cli import run
from lmzoo.errors import UsageError
from lmzoo.models.pretrained import PretrainedLM
from lmzoo.models.pretrained_chat import read_chat_format


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return chat_folder(tmp_path_factory.mktemp("chat") / "small", CHAT_TEMPLATE)


def _chat(home: Path) -> PretrainedChat:
    predictor = Predictor.load(home)
    assert isinstance(predictor.model, PretrainedLM)
    return PretrainedChat(predictor.model, predictor.tokenizer, read_chat_format(home))


def test_a_reply_is_that_of_the_chat_format(home: Path) -> None:
    chat, predictor = _chat(home), Predictor.load(home)
    assert isinstance(predictor.model, PretrainedLM)
    session = ChatSession(chat, max_tokens=10, seed=0)
    reply = "".join(session.reply_to("The cat?"))
    ids = read_chat_format(home).reply(
        predictor.model, as_json((user("The cat?"),)), max_tokens=10, rng=np.random.default_rng(0)
    )
    assert reply == predictor.tokenizer.decode(list(ids))
    assert session.messages == (user("The cat?"), assistant(reply))


def test_early_turns_are_left_out_and_control_tokens_refused(home: Path) -> None:
    chat = _chat(home)
    turns = tuple(turn for _ in range(6) for turn in (user("The cat sat."), assistant("Yes.")))[:-1]
    shorter, left_out = chat.shortened(turns, 100)
    assert 0 < left_out < len(turns)
    assert shorter == turns[left_out:]
    assert len(chat.prompt_ids(shorter)) <= 100
    session = ChatSession(chat)
    with pytest.raises(UsageError, match="control token"):
        session.reply_to("<|im_end|>")
    with pytest.raises(UsageError, match="write a shorter message"):
        session.reply_to("x " * 500)
    assert session.messages == ()


def test_the_command_talks_to_it(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["chat", "-p", str(home), "--once", "The cat?", "--seed", "0", "--max-tokens", "10"]) == 0
    assert (
        capsys.readouterr().out == "".join(ChatSession(_chat(home), max_tokens=10, seed=0).reply_to("The cat?")) + "\n"
    )
