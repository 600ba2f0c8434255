"""Conversations: lists of messages by a system, a user and an assistant, and their files.

A file of conversations has one JSON object per line, with a list of messages in its field "messages". OpenAI's
fine-tuning service and the library TRL (Transformer Reinforcement Learning) read the same format:

    {"messages": [{"role": "user", "content": "last word of: light upon waters"},
                  {"role": "assistant", "content": "waters"}]}
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lmzoo.errors import CorpusError, UsageError
from lmzoo.system.files import atomic_file
from lmzoo.system.json_files import parse_json

ROLES = ("system", "user", "assistant")
"""The roles of the speakers: the system sets the rules, the user writes prompts, and the assistant replies to them."""


@dataclass(frozen=True)
class Message:
    """A message of a conversation: the role of its speaker, and its text."""

    role: str
    """"system", "user" or "assistant"."""
    content: str
    """Text of the message."""

    def __post_init__(self) -> None:
        if self.role not in ROLES:
            raise UsageError(f"unknown role {self.role!r}: the role must be {', '.join(ROLES[:-1])} or {ROLES[-1]}")


Conversation = tuple[Message, ...]
"""The messages of a conversation in their order. Only the first one may be by the system."""


def user(content: str) -> Message:
    """Returns a message by the user, whose text is `content`."""
    return Message("user", content)


def assistant(content: str) -> Message:
    """Returns a message by the assistant, whose text is `content`."""
    return Message("assistant", content)


def check_conversation(messages: Sequence[Message]) -> Conversation:
    """Checks that messages form a conversation, and returns them as a tuple.

    Raises UsageError if there is no message, or if a message after the first one is by the system.
    """
    if not messages:
        raise UsageError("a conversation must have at least one message, got none")
    for number, message in enumerate(messages[1:], start=2):
        if message.role == "system":
            raise UsageError(
                f"message {number} is by the system, but only the first message of a conversation may be: move it to "
                "the start"
            )
    return tuple(messages)


def parse_messages(value: Any, name: str = "messages") -> Conversation:
    """Converts a list of JSON objects, each with the fields "role" and "content", to a conversation.

    `value` is the list, as parsed from JSON, and `name` is what error messages call it. Raises UsageError if `value` is
    not a list or is empty, if a field is missing or not a string, if a role is unknown, if a system message is not the
    first message, or if a message by the assistant has no text.
    """
    if not isinstance(value, list) or not value:
        raise UsageError(f'"{name}" must be a list of at least one object with "role" and "content"')
    messages: list[Message] = []
    for number, entry in enumerate(value, start=1):
        if not isinstance(entry, dict) or not all(isinstance(entry.get(name), str) for name in ("role", "content")):
            raise UsageError(f'message {number} must be an object with a string in "role" and a string in "content"')
        message = Message(entry["role"], entry["content"])
        if message.role == "assistant" and not message.content.strip():
            raise UsageError(f"message {number}, by the assistant, is empty, so it teaches nothing: remove it")
        try:
            message.content.encode()
        except UnicodeEncodeError as error:
            raise UsageError(
                f"message {number} has half of a surrogate pair at character {error.start}: remove this character"
            ) from error
        messages.append(message)
    return check_conversation(messages)


def as_json(conversation: Conversation) -> list[dict[str, str]]:
    """Returns the messages of a conversation as a list of dictionaries with "role" and "content"."""
    return [{"role": message.role, "content": message.content} for message in conversation]


def read_conversations(path: str | Path) -> list[Conversation]:
    """Reads a file of conversations in JSON lines.

    Raises CorpusError if the file is missing, empty or not UTF-8, or if a line is not a conversation; the message then
    names the line.
    """
    path = Path(path)
    conversations: list[Conversation] = []
    for number, entry in read_objects(path, "conversations"):
        try:
            conversations.append(parse_messages(entry.get("messages")))
        except UsageError as error:
            raise CorpusError(f"{path} line {number}: {error}") from error
    if not conversations:
        raise CorpusError(f'{path} is empty, but must have one object with the field "messages" in each line')
    return conversations


def read_objects(path: Path, content: str, *, ignore_incomplete: bool = False) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yields the JSON objects of a file of JSON lines, each with the number of its line; empty lines are skipped.

    `content` is a noun for error messages that says what the file should hold, such as "conversations". A program that
    is killed while it writes leaves an incomplete last line (see `complete_size`), which is skipped if
    `ignore_incomplete` is True. Raises CorpusError if the file cannot be read, or if a line is not a JSON object.
    """
    try:
        data = path.read_bytes()
        text = (data[: complete_size(data)] if ignore_incomplete else data).decode("utf-8-sig")
    except OSError as error:
        raise CorpusError(f"cannot read {content} from {path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise CorpusError(f"{path} is not UTF-8 (byte {error.start}): save it as UTF-8") from error
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            entry = parse_json(line)
        except ValueError as error:
            raise CorpusError(f"{path} line {number} is not JSON: {error}") from error
        if not isinstance(entry, dict):
            raise CorpusError(f"{path} line {number} must be a JSON object, got {line.strip()[:60]}")
        yield number, entry


def complete_size(data: bytes) -> int:
    """Returns how many bytes at the start of a file of JSON lines are complete.

    `data` is the content of the file. A program that is killed while it writes leaves a last line that has no line end
    and is not JSON, and that may end within a character; only such a line is incomplete.
    """
    end = data.rfind(b"\n") + 1
    try:
        parse_json(data[end:].decode("utf-8-sig"))
    except ValueError:
        return end
    return len(data)


def write_conversations(path: str | Path, conversations: Iterable[Conversation]) -> None:
    """Writes conversations to a file of JSON lines. After an error, the file is as it was before."""
    write_objects(path, ({"messages": as_json(conversation)} for conversation in conversations))


def write_objects(path: str | Path, objects: Iterable[Mapping[str, Any]]) -> None:
    """Writes JSON objects to a file, one in each line. After an error, the file is as it was before."""
    with atomic_file(path) as temporary, temporary.open("w", encoding="utf-8", newline="\n") as file:
        file.writelines(map(json_line, objects))


def json_line(value: Mapping[str, Any]) -> str:
    """Returns a JSON object as a line of a file of JSON lines, with the line end."""
    return json.dumps(value, ensure_ascii=False) + "\n"
