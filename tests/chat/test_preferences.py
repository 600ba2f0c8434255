"""Files of rankings: what is read, appended and repaired, and how often raters agree."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lmzoo.chat.conversation import assistant, user
from lmzoo.chat.preferences import Ranking, agreement, append_rankings, read_rankings
from lmzoo.errors import CorpusError, UsageError

PROMPT = (user("say: light"),)
PAIR = Ranking(PROMPT, ("light", "dark"), rater="anna")
THREE = Ranking(PROMPT, ("verily, light", "light", "dark"), rater="judge")


def test_rankings_come_back_in_the_order_in_which_they_were_appended(tmp_path: Path) -> None:
    path = tmp_path / "new" / "votes.jsonl"
    append_rankings(path, [PAIR])
    append_rankings(path, [THREE, Ranking(PROMPT, ("a", "b"), tie=True)])
    assert read_rankings(path) == [PAIR, THREE, Ranking(PROMPT, ("a", "b"), tie=True)]
    assert json.loads(path.read_text().splitlines()[0])["chosen"] == "light"


def test_a_later_vote_of_the_same_rater_replaces_the_earlier_one(tmp_path: Path) -> None:
    reverse = Ranking(PROMPT, ("dark", "light"), rater="anna")
    append_rankings(tmp_path / "votes.jsonl", [PAIR, THREE, reverse, Ranking(PROMPT, ("light", "dark"), rater="ben")])
    assert read_rankings(tmp_path / "votes.jsonl")[1:] == [reverse, Ranking(PROMPT, ("light", "dark"), rater="ben")]


@pytest.mark.parametrize("incomplete", [b'{"prompt": [{"role"', '{"prompt": "\N{OWL}'.encode()[:-1]])
def test_an_incomplete_last_line_is_ignored_and_then_removed(incomplete: bytes, tmp_path: Path) -> None:
    path = tmp_path / "votes.jsonl"
    append_rankings(path, [PAIR])
    path.write_bytes(path.read_bytes() + incomplete)
    assert read_rankings(path) == [PAIR]
    append_rankings(path, [THREE])
    assert read_rankings(path) == [PAIR, THREE]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_a_complete_last_line_without_line_end_is_kept(encoding: str, tmp_path: Path) -> None:
    path = tmp_path / "votes.jsonl"
    line = '{"prompt": "say: light", "chosen": "light", "rejected": "dark", "rater": "anna"}'
    path.write_text(line, encoding=encoding)
    assert read_rankings(path) == [PAIR]
    append_rankings(path, [THREE])
    assert read_rankings(path) == [PAIR, THREE]


def test_the_conversational_form_is_read(tmp_path: Path) -> None:
    entry = {
        "prompt": [{"role": "user", "content": "say: light"}],
        "chosen": [{"role": "assistant", "content": "light"}],
        "rejected": [{"role": "assistant", "content": "dark"}],
    }
    (tmp_path / "votes.jsonl").write_text(json.dumps(entry) + "\n")
    assert read_rankings(tmp_path / "votes.jsonl") == [Ranking(PROMPT, ("light", "dark"))]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{}", '"prompt" must be a list'),
        ('{"prompt": "a"}', "two replies in"),
        ('{"prompt": "a", "chosen": "b", "rejected": "b"}', "at least two replies, all different"),
        ('{"prompt": "a", "ranking": ["b"]}', "at least two replies"),
        ('{"prompt": "a", "ranking": "b"}', "must be a list of replies"),
        ('{"prompt": "a", "ranking": ["a", "b", "c"], "tie": true}', "a tie must have exactly two replies, got 3"),
        ('{"prompt": "a", "chosen": "b", "rejected": "c", "tie": 1}', '"tie" must be true or false'),
        ('{"prompt": [{"role": "assistant", "content": "a"}], "chosen": "b", "rejected": "c"}', "must be by the user"),
        ("[", "not JSON"),
    ],
)
def test_a_damaged_line_is_named(tmp_path: Path, line: str, message: str) -> None:
    (tmp_path / "votes.jsonl").write_text(f"{line}\n\n")
    with pytest.raises(CorpusError) as caught:
        read_rankings(tmp_path / "votes.jsonl")
    assert "votes.jsonl line 1" in str(caught.value)
    assert message in str(caught.value)


def test_a_ranking_gives_all_pairs_and_a_tie_none() -> None:
    assert THREE.pairs == [("verily, light", "light"), ("verily, light", "dark"), ("light", "dark")]
    assert Ranking(PROMPT, ("a", "b"), tie=True).pairs == []
    with pytest.raises(UsageError, match="all different"):
        Ranking(PROMPT, ("a", "b", "a"))


def test_agreement_counts_pairs_of_raters_who_compared_the_same_replies() -> None:
    votes = [
        PAIR,
        Ranking(PROMPT, ("light", "dark"), rater="ben"),
        Ranking(PROMPT, ("dark", "light"), rater="carl"),
        Ranking((user("other"), assistant("x"), user("y")), ("light", "dark"), rater="carl"),
    ]
    assert agreement(votes) == (1 / 3, 3)  # anna and ben agree; carl agrees with neither
    assert agreement(votes[:1]) is None
