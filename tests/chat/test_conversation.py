"""Files of conversations: what is read and written, and the errors for files that are damaged."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lmzoo.chat.conversation import (
    Message,
    assistant,
    check_conversation,
    read_conversations,
    user,
    write_conversations,
)
from lmzoo.errors import CorpusError, UsageError

CONVERSATION = (Message("system", "be kind"), user("a\u2028b"), assistant("c"))


def test_conversations_come_back_from_their_file(tmp_path: Path) -> None:
    write_conversations(tmp_path / "c.jsonl", [CONVERSATION, (user(""), assistant("d"))])
    assert read_conversations(tmp_path / "c.jsonl") == [CONVERSATION, (user(""), assistant("d"))]


def test_other_fields_empty_lines_and_a_byte_order_mark_are_ignored(tmp_path: Path) -> None:
    line = json.dumps({"id": 7, "messages": [{"role": "user", "content": "a", "name": "anna"}]})
    (tmp_path / "c.jsonl").write_text(f"\ufeff\n{line}\r\n\n", encoding="utf-8")
    assert read_conversations(tmp_path / "c.jsonl") == [(user("a"),)]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 2 is not JSON"),
        ("[]", "line 2 must be a JSON object"),
        ("{}", 'line 2: "messages" must be a list of at least one object'),
        ('{"messages": []}', '"messages" must be a list of at least one object'),
        ('{"messages": ["hi"]}', 'message 1 must be an object with a string in "role"'),
        ('{"messages": [{"role": "user"}]}', 'message 1 must be an object with a string in "role"'),
        ('{"messages": [{"role": "user", "content": 5}]}', 'message 1 must be an object with a string'),
        ('{"messages": [{"role": "robot", "content": "a"}]}', "unknown role 'robot': the role must be system, user or"),
        ('{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": " "}]}', "is empty, so it"),
        ('{"messages": [{"role": "user", "content": "a"}, {"role": "system", "content": "a"}]}', "2 is by the system"),
        ('{"messages": [{"role": "user", "content": "\\ud800"}]}', "half of a surrogate pair"),
        ("[" * 100 + "]" * 100, "nested"),
    ],
)  # fmt: skip
def test_a_damaged_line_is_named_in_one_line(tmp_path: Path, line: str, message: str) -> None:
    good = json.dumps({"messages": [{"role": "user", "content": "a"}]})
    (tmp_path / "c.jsonl").write_text(f"{good}\n{line}\n", encoding="utf-8")
    with pytest.raises(CorpusError) as caught:
        read_conversations(tmp_path / "c.jsonl")
    assert message in str(caught.value)
    assert "c.jsonl line 2" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_empty_and_binary_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="cannot read conversations"):
        read_conversations(tmp_path / "none.jsonl")
    (tmp_path / "empty.jsonl").write_text("\n")
    with pytest.raises(CorpusError, match="is empty"):
        read_conversations(tmp_path / "empty.jsonl")
    (tmp_path / "binary.jsonl").write_bytes(b"\xff\xfe")
    with pytest.raises(CorpusError, match="not UTF-8"):
        read_conversations(tmp_path / "binary.jsonl")


def test_a_conversation_has_a_message_and_at_most_one_by_the_system() -> None:
    assert check_conversation(list(CONVERSATION)) == CONVERSATION
    with pytest.raises(UsageError, match="at least one message"):
        check_conversation([])
    with pytest.raises(UsageError, match="message 2 is by the system"):
        check_conversation([user("a"), Message("system", "b")])
