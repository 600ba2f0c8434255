"""The command `lmzoo rank`, which shows pairs of replies and saves votes on them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from cyclopts.validators import Number

from lmzoo.cli import keyboard, terminal

if TYPE_CHECKING:
    from lmzoo.chat.voting import Comparison
    from lmzoo.chat.voting_session import VotingSession
    from lmzoo.experiments.align.votes import Agreement, VoteSummary

_KEYS = "Better reply: 1 or 2 (t: tie, s: skip, u: undo, q: quit): "


def rank(
    run: Path | None = None,
    *,
    rater: str | None = None,
    n: Annotated[int | None, Parameter(validator=Number(gte=1))] = None,
    summary: bool = False,
    json: bool = False,
) -> None:
    """Shows two replies to the same prompt at a time, and saves your vote on which of them is better.

    Both replies were written by the fine-tuned model of a run of `lmzoo align`, and are shown in random order. Press 1
    or 2 for the better reply, t for a tie, s to skip the comparison, u to undo your last vote and to vote again, and q
    to quit. Every vote is saved immediately. At the end, the program prints how often the votes of different raters
    agree with each other, with the judge, and with the reward model of the run.

    Example: lmzoo rank runs/align-transformer-quick --n 50

    Parameters
    ----------
    run
        Run folder of `lmzoo align`, or a file of comparisons: JSON lines with a "prompt" and two "replies". The votes
        are appended to the file votes.jsonl in the same folder. Default: the replies that come with lmzoo, with the
        votes in runs/votes/votes.jsonl.
    rater
        Your name, which is saved with your votes to tell them from those of other people. Default: your user name.
    n
        Largest number of comparisons in this session. Default: all comparisons on which you have not voted yet.
    summary
        Only print the summary of the votes.
    json
        Print the summary as one JSON object.
    """
    from dataclasses import asdict

    from lmzoo.experiments.align.votes import summarize_votes

    comparisons, votes, folder = _files(run)
    if not summary:
        _collect(comparisons, votes, rater or _user_name(), n)
    vote_summary = summarize_votes(votes, folder)
    if json:
        terminal.print_json(asdict(vote_summary))
    else:
        _show(vote_summary)


def _files(run: Path | None) -> tuple[Path, Path, Path | None]:
    """Returns the file of comparisons, the file of votes, and the run folder; None for a file outside a run."""
    from lmzoo.errors import UsageError
    from lmzoo.models.shipped import VOTES, shipped_comparisons

    if run is None:
        return shipped_comparisons(), VOTES, None
    if run.is_file():
        return run, run.with_name("votes.jsonl"), None
    if not (run / "comparisons.jsonl").is_file():
        raise UsageError(
            f"there are no comparisons in {run}: name a run folder of lmzoo align in which the stage rankings is "
            "finished, or a file of comparisons"
        )
    return run / "comparisons.jsonl", run / "votes.jsonl", run


def _collect(path: Path, votes: Path, rater: str, n: int | None) -> None:
    """Asks for votes until all comparisons are shown, or the person quits."""
    from lmzoo.chat.preferences import read_rankings
    from lmzoo.chat.voting import read_comparisons, unvoted_comparisons
    from lmzoo.chat.voting_session import VotingSession

    earlier = read_rankings(votes) if votes.exists() else []
    unvoted = unvoted_comparisons(read_comparisons(path), earlier, rater)
    session = VotingSession(unvoted[:n], votes, rater)
    with keyboard.each_interrupt_counts():
        while session.current is not None and _ask(session, session.current):
            pass
    terminal.note(
        f"Votes by {rater} in this session: {session.n_votes}. "
        f"Comparisons without a vote by {rater}: {len(unvoted) - session.n_votes}."
    )


def _ask(session: VotingSession, comparison: Comparison) -> bool:
    """Shows a comparison and carries out the key that is pressed; returns False if the person quits."""
    from lmzoo.errors import UsageError

    _print_comparison(comparison)
    while True:
        try:
            key = keyboard.read_key(f"Still to show in this session: {session.n_left}. {_KEYS}")
        except KeyboardInterrupt:
            if keyboard.ends_the_program():
                raise
            key = None
        choice = key if key is None else key.strip().lower()
        try:
            match choice:
                case None | "q":
                    return False
                case "1" | "2" | "t":
                    session.vote("tie" if choice == "t" else choice)
                case "s":
                    session.skip()
                case "u":
                    session.undo()
                case _:
                    terminal.note(f"lmzoo: unknown key '{choice}': press 1, 2, t, s, u or q")
                    continue
        except UsageError as error:
            terminal.note(f"lmzoo: {error}")
            continue
        return True


def _print_comparison(comparison: Comparison) -> None:
    from rich.text import Text

    console = terminal.stderr()
    console.print(Text())
    for message in comparison.prompt:
        console.print(Text.assemble((f"{message.role}: ", "bold"), message.content), soft_wrap=True)
    for number, reply in enumerate((comparison.first, comparison.second), start=1):
        console.print(Text.assemble((f"{number}: ", "bold"), reply), soft_wrap=True)


def _show(summary: VoteSummary) -> None:
    """Prints how many votes there are, and with whom they agree."""
    if not summary.n_votes:
        terminal.note("There are no votes yet.")
        return
    terminal.print_table(
        ["rater", "votes"], [[rater or "unknown", f"{votes:,}"] for rater, votes in summary.by_rater.items()]
    )
    _show_agreement("Two raters of the same replies agree", summary.among_raters)
    _show_agreement("Votes agree with the judge", summary.with_judge)
    _show_agreement("Votes agree with the reward model", summary.with_reward_model)


def _show_agreement(sentence: str, agreement: Agreement | None) -> None:
    if agreement is not None:
        terminal.note(f"{sentence} in {agreement.rate:.1%} of {agreement.n_cases:,} cases.")


def _user_name() -> str:
    """Returns the name of the user of this computer, or "anonymous" if it is unknown."""
    import getpass

    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):  # no environment variable, and no entry in the user database
        return "anonymous"
