"""Votes of people on pairs of replies: their order, undoing, damaged files, and programs that are killed."""

from __future__ import annotations

import json
import os
import random
import signal
import time
import warnings
from dataclasses import replace
from pathlib import Path

import pytest

from lmzoo.chat.conversation import user
from lmzoo.chat.preferences import Ranking, read_rankings
from lmzoo.chat.voting import Comparison, read_comparisons, unvoted_comparisons, write_comparisons
from lmzoo.chat.voting_session import VotingSession
from lmzoo.errors import CorpusError, UsageError

COMPARISONS = [Comparison((user(f"say: {number}"),), f"good {number}", f"bad {number}") for number in range(12)]


def _replies(comparison: Comparison) -> frozenset[str]:
    return frozenset((comparison.first, comparison.second))


def test_comparisons_come_back_from_their_file(tmp_path: Path) -> None:
    comparisons = [*COMPARISONS, replace(COMPARISONS[0], models=("sft", "dpo"))]
    write_comparisons(tmp_path / "c.jsonl", comparisons)
    assert read_comparisons(tmp_path / "c.jsonl") == comparisons
    assert comparisons[-1].swapped() == Comparison(COMPARISONS[0].prompt, "bad 0", "good 0", ("dpo", "sft"))


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"replies": ["a", "b"]}, '"prompt" must be a list'),
        ({"prompt": [{"role": "user", "content": "x"}], "replies": ["a"]}, "a list of two strings"),
        ({"prompt": [{"role": "user", "content": "x"}], "replies": ["a", 1]}, "a list of two strings"),
        ({"prompt": [{"role": "user", "content": "x"}], "replies": ["a", "a"]}, "the two replies are equal"),
        ({"prompt": [{"role": "assistant", "content": "x"}], "replies": ["a", "b"]}, "must be by the user"),
        ({"prompt": [{"role": "user", "content": "x"}], "replies": ["a", "b"], "models": "sft"}, "a list of two names"),
    ],
)
def test_a_damaged_comparison_is_named(tmp_path: Path, entry: object, message: str) -> None:
    (tmp_path / "c.jsonl").write_text(json.dumps(entry) + "\n")
    with pytest.raises(CorpusError) as caught:
        read_comparisons(tmp_path / "c.jsonl")
    assert "c.jsonl line 1" in str(caught.value)
    assert message in str(caught.value)


def test_each_rater_sees_all_comparisons_in_an_order_of_their_own() -> None:
    anna, ben = (unvoted_comparisons(COMPARISONS, [], rater) for rater in ("anna", "ben"))
    assert anna == unvoted_comparisons(COMPARISONS, [], "anna")
    assert {_replies(one) for one in anna} == {_replies(one) for one in ben} == {_replies(one) for one in COMPARISONS}
    assert anna != ben
    sides = [one.first.startswith("good") for one in anna]
    assert 0 < sum(sides) < len(sides), "the better reply is on both sides"


def test_comparisons_with_a_vote_of_the_same_rater_are_left_out() -> None:
    anna = unvoted_comparisons(COMPARISONS, [], "anna")
    votes = [anna[0].vote("1", "anna"), anna[1].vote("tie", "anna"), anna[2].vote("2", "ben")]
    assert unvoted_comparisons(COMPARISONS, votes, "anna") == anna[2:]


def test_votes_are_saved_at_once_and_can_be_undone_and_skipped(tmp_path: Path) -> None:
    path = tmp_path / "votes.jsonl"
    session = VotingSession(COMPARISONS[:3], path, "anna")
    with pytest.raises(UsageError, match="no vote in this session"):
        session.undo()
    session.vote("1")
    assert read_rankings(path) == [Ranking(COMPARISONS[0].prompt, ("good 0", "bad 0"), rater="anna")]
    session.undo()
    assert session.current == COMPARISONS[0]
    session.vote("2")
    assert read_rankings(path) == [Ranking(COMPARISONS[0].prompt, ("bad 0", "good 0"), rater="anna")]
    assert len(path.read_text().splitlines()) == 2, "the file keeps both votes, and the later one counts"
    session.skip()
    assert (session.n_votes, session.n_left) == (1, 1)
    session.vote("tie")
    assert session.current is None
    assert [vote.tie for vote in read_rankings(path)] == [False, True]
    for too_late in (lambda: session.vote("1"), session.skip):
        with pytest.raises(UsageError, match="no comparison left"):
            too_late()
    session.undo()
    assert session.current == COMPARISONS[2]
    with pytest.raises(UsageError, match="must be 1, 2 or tie"):
        session.vote("3")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="Windows has no fork and no SIGKILL")
def test_a_kill_at_any_moment_loses_no_vote(tmp_path: Path) -> None:
    """A process votes as fast as it can and reports each vote that was saved; it is killed at 20 random moments."""
    path, n_reported, rng = tmp_path / "votes.jsonl", 0, random.Random(0)
    for attempt in range(20):
        receiver, sender = os.pipe()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # the child only writes files, and starts no threads
            child = os.fork()
        if not child:
            try:
                for number in range(10_000):
                    one = Comparison((user(f"{attempt} {number}"),), "é" * 200, "b")
                    VotingSession([one], path, "anna").vote("1")
                    os.write(sender, b".")
            finally:
                os._exit(1)
        os.close(sender)
        assert os.read(receiver, 1) == b"."
        time.sleep(rng.uniform(0, 0.03))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        reported = 1
        while data := os.read(receiver, 4096):
            reported += len(data)
        os.close(receiver)
        n_reported += reported
        saved = [vote for vote in read_rankings(path) if vote.prompt[0].content.startswith(f"{attempt} ")]
        assert [vote.prompt[0].content for vote in saved] == [f"{attempt} {n}" for n in range(len(saved))]
        assert reported <= len(saved) <= reported + 1
    assert n_reported > 20, "some processes were killed after more than one vote"
