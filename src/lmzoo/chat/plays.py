"""Conversations from the plays of Shakespeare, in which each speech is a reply to the speech before it."""

from __future__ import annotations

from lmzoo.chat.conversation import Conversation, assistant, user
from lmzoo.corpora.nltk_corpora import shakespeare_speeches
from lmzoo.corpora.registry import corpus_card

NAME = "shakespeare"
"""Name of these conversations, and of the corpus from which they are made."""
_TURNS = 4


def play_conversations() -> list[Conversation]:
    """Returns the dialogue of the eight plays by Shakespeare in NLTK, as conversations of two or four speeches.

    The speeches of a scene are taken in their order. In a conversation, the first and the third speech are messages of
    the user, and the second and the fourth are replies of the assistant. Raises CorpusError if the corpus is not on
    this machine.
    """
    conversations: list[Conversation] = []
    for speeches in shakespeare_speeches(corpus_card(NAME)):
        for start in range(0, len(speeches) - 1, _TURNS):
            part = speeches[start : start + _TURNS]
            pairs = zip(part[::2], part[1::2], strict=False)
            conversations.append(
                tuple(message for speech, reply in pairs for message in (user(speech), assistant(reply)))
            )
    return conversations
