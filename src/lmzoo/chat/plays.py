"""Conversations from the plays of Shakespeare, in which each speech is a reply to the speech before it."""

from __future__ import annotations

from lmzoo.chat.conversation import Conversation, assistant, user
from lmzoo.corpora.nltk_corpora import shakespeare_speeches
from lmzoo.corpora.registry import corpus_card

NAME = "shakespeare"
"""Name of these conversations, which is also that of the corpus from which they are made."""
_TURNS = 4


def play_conversations() -> list[Conversation]:
    """Returns the dialogue of the eight plays by Shakespeare in NLTK as conversations of two or four speeches.

    The speeches of a scene are taken in their order. The user has the first speech of a conversation and the assistant
    the second, and so on. Raises CorpusError if the corpus is not on this machine.
    """
    conversations: list[Conversation] = []
    for speeches in shakespeare_speeches(corpus_card(NAME)):
        for start in range(0, len(speeches) - 1, _TURNS):
            part = speeches[start : start + _TURNS]
            pairs = zip(part[::2], part[1::2], strict=False)
            conversations.append(
                tuple(message for asked, reply in pairs for message in (user(asked), assistant(reply)))
            )
    return conversations
