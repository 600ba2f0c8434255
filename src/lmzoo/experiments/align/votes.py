"""A summary of votes: their number, and the agreement of people with each other, the judge and the reward model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lmzoo.chat.conversation import Conversation
from lmzoo.chat.instructions import Instruction, judge
from lmzoo.chat.preferences import Ranking, agreement, read_rankings
from lmzoo.chat.reward_model import RewardModel
from lmzoo.experiments.align.data import read_instructions


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """The agreement of two sides, such as people and the reward model, about which of two replies is better."""

    rate: float
    """Share of the comparisons in which both sides prefer the same reply."""
    n: int
    """Number of comparisons that both sides have made."""


@dataclass(frozen=True, kw_only=True)
class VoteSummary:
    """The votes in a file, and with whom they agree. Measures that cannot be computed are None."""

    n_votes: int
    """Number of comparisons with a vote; of repeated votes by one rater, only the last one counts."""
    by_rater: dict[str, int]
    """Number of these votes by rater, the most diligent first."""
    among_raters: Agreement | None
    """Agreement of two raters about the same replies; a tie agrees with a tie only."""
    with_judge: Agreement | None
    """Agreement with the judge, where it can grade the replies; votes and grades that are ties are left out."""
    with_reward_model: Agreement | None
    """Agreement with the reward model of the run; ties are left out."""


def summarize_votes(votes: Path, run: Path | None) -> VoteSummary:
    """Summarizes a file of votes. `run` is the run folder with the instructions and the reward model; None for none."""
    found = read_rankings(votes) if votes.exists() else []
    decided = [vote for vote in found if vote.pairs]
    among = agreement(found)
    answers = {one.conversation: one for one in read_instructions(run / "data" / "prompts.jsonl")} if run else {}
    return VoteSummary(
        n_votes=len(found),
        by_rater=dict(Counter(vote.rater for vote in found).most_common()),
        among_raters=Agreement(rate=among[0], n=among[1]) if among else None,
        with_judge=agreement_with_judge(decided, answers),
        with_reward_model=_agreement_with_reward_model(decided, run),
    )


def agreement_with_judge(votes: Sequence[Ranking], answers: Mapping[Conversation, Instruction]) -> Agreement | None:
    """Returns how often votes prefer the reply that the judge grades higher; None if there is nothing to compare.

    `answers` maps a prompt to its instruction. Other prompts, and replies with equal grades, are left out.
    """
    outcomes: list[bool] = []
    for vote in votes:
        if vote.prompt in answers:
            better, worse = (judge(answers[vote.prompt], reply).score for reply in vote.replies[:2])
            outcomes += [better > worse] if better != worse else []
    return Agreement(rate=sum(outcomes) / len(outcomes), n=len(outcomes)) if outcomes else None


def _agreement_with_reward_model(votes: Sequence[Ranking], run: Path | None) -> Agreement | None:
    if run is None or not (run / "reward").is_dir() or not votes:
        return None
    rate = RewardModel.load(run / "reward").accuracy(votes)
    return None if rate is None else Agreement(rate=rate, n=len(votes))
