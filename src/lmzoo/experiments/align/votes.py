"""A summary of votes: their number, and the agreement of raters with each other, the judge and the reward model."""

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
    """How often two sides, such as raters and the reward model, agree about which of two replies is better."""

    rate: float
    """Share of the cases in which both sides agree."""
    n_cases: int
    """Number of cases. Between raters, a case is a pair of raters who compared the same replies, so three raters of the
    same replies are three cases. With the judge or the reward model, a case is a vote."""


@dataclass(frozen=True, kw_only=True)
class VoteSummary:
    """The number of votes in a file, and with whom they agree. An agreement is None if there is no case."""

    n_votes: int
    """Number of votes. If a rater voted on the same replies several times, only the last vote counts."""
    by_rater: dict[str, int]
    """Number of these votes by rater; the rater with the most votes comes first."""
    among_raters: Agreement | None
    """Agreement between raters who compared the same replies; a tie agrees with a tie only."""
    with_judge: Agreement | None
    """Agreement with the grades of the judge. Ties and votes on replies with equal grades are left out, and so are
    prompts whose correct answers are not known."""
    with_reward_model: Agreement | None
    """Agreement with the rewards of the run's reward model; ties are left out."""


def summarize_votes(votes: Path, run: Path | None) -> VoteSummary:
    """Summarizes a file of votes, which need not exist yet.

    `run` is the run folder with the instructions and the reward model; None if the votes do not belong to a run.
    """
    rankings = read_rankings(votes) if votes.exists() else []
    decided = [vote for vote in rankings if vote.pairs]
    among = agreement(rankings)
    known = {one.conversation: one for one in read_instructions(run / "data" / "prompts.jsonl")} if run else {}
    return VoteSummary(
        n_votes=len(rankings),
        by_rater=dict(Counter(vote.rater for vote in rankings).most_common()),
        among_raters=Agreement(rate=among[0], n_cases=among[1]) if among else None,
        with_judge=agreement_with_judge(decided, known),
        with_reward_model=_agreement_with_reward_model(decided, run),
    )


def agreement_with_judge(
    votes: Sequence[Ranking], instructions: Mapping[Conversation, Instruction]
) -> Agreement | None:
    """Returns how often votes prefer the reply that the judge grades higher; None if there is no case.

    `instructions` are the instructions by their prompts. Votes on replies to a prompt without an instruction are left
    out, and so are votes on replies with equal grades.
    """
    outcomes: list[bool] = []
    for vote in votes:
        if vote.prompt in instructions:
            better, worse = (judge(instructions[vote.prompt], reply).grade for reply in vote.replies[:2])
            outcomes += [better > worse] if better != worse else []
    return Agreement(rate=sum(outcomes) / len(outcomes), n_cases=len(outcomes)) if outcomes else None


def _agreement_with_reward_model(votes: Sequence[Ranking], run: Path | None) -> Agreement | None:
    if run is None or not (run / "reward").is_dir() or not votes:
        return None
    rate = RewardModel.load(run / "reward").accuracy(votes)
    return None if rate is None else Agreement(rate=rate, n_cases=len(votes))
