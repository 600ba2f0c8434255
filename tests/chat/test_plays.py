"""Conversations from plays, against a scene that is written down here."""

from __future__ import annotations

import pytest

from lmzoo.chat.conversation import assistant, user
from lmzoo.chat.plays import play_conversations
from lmzoo.corpora import load_corpus
from lmzoo.errors import CorpusError


def test_each_speech_is_a_reply_to_the_one_before() -> None:
    try:
        conversations = play_conversations()
    except CorpusError:
        pytest.skip("NLTK's corpus shakespeare is not on this machine")
    assert all(len(conversation) in (2, 4) for conversation in conversations)
    assert all([message.role for message in one[:2]] == ["user", "assistant"] for one in conversations)
    opening = next(one for one in conversations if one[0].content == "Who's there?")  # Hamlet, act 1, scene 1
    assert opening == (
        user("Who's there?"),
        assistant("Nay, answer me: stand, and unfold yourself."),
        user("Long live the king!"),
        assistant("Bernardo?"),
    )
    spoken = " ".join(" ".join(document.text.split()) for document in load_corpus("shakespeare").train)
    inside = sum(message.content in spoken for one in conversations[:50] for message in one)
    assert inside > 150  # speeches are texts of the corpus; a stage direction interrupts some, others are held out
