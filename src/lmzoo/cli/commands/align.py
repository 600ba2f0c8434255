"""The command `lmzoo align`, which teaches a language model to chat in stages."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from lmzoo.cli import terminal
from lmzoo.cli.commands.parameters import OrStandardInput, Seed
from lmzoo.system.placement import Device

if TYPE_CHECKING:
    from lmzoo.experiments.align.records import StageRecord
    from lmzoo.system.jobs import Outcome


def align(
    *,
    base: str = "transformer",
    corpus: OrStandardInput = "kjv",
    tokenizer: str = "bpe:2048",
    preset: str = "quick",
    methods: Annotated[
        list[Literal["dpo", "ppo", "ppo-unpenalised"]] | None, Parameter(consume_multiple=(1, None))
    ] = None,
    conversations: str | None = None,
    ranker: str = "judge",
    against: Path | None = None,
    seed: Seed = 0,
    device: Device = "auto",
    out: Path | None = None,
    log: list[str] | None = None,
    json: bool = False,
) -> int:
    """Teaches a language model to chat: fine-tuning on conversations, then learning from rankings of its replies.

    The stages are base (a language model learns to predict text), sft (supervised fine-tuning on conversations),
    rankings (replies of the fine-tuned model are ranked), reward (a reward model learns from the rankings), and dpo and
    ppo (two copies of the fine-tuned model learn to write better replies). At the end, a table shows for each stage how
    many replies to held-out prompts are correct, and how often they win against those of the fine-tuned model.

    To continue a run that was interrupted, repeat the command. Stages that are finished are reused. The exit status is
    1 if a stage failed, or if there are too few rankings to learn from.

    Example: lmzoo align --base lstm --methods dpo --out runs/my-chat

    Parameters
    ----------
    base
        Name of a neural network from `lmzoo list`, which is trained first, or folder of a saved predictor.
    corpus
        Text from which the base learns: a name from `lmzoo corpus list`, or your own text as a file, a folder, a glob
        pattern, or - for standard input. In all stages, the loss is measured on its test split.
    tokenizer
        Tokenizer of the base, if it is trained first: char, byte, word:N or bpe:SIZE.
    preset
        Preset of the amount of data and the length of training in all stages: quick, or tiny, which is for tests only.
    methods
        Methods of learning from rankings: dpo (direct preference optimization) and ppo (proximal policy optimization,
        which is reinforcement learning with the reward model). Default: both. ppo-unpenalised is PPO for longer and
        without a penalty for divergence from the fine-tuned model, to show over-optimisation.
    conversations
        File of your own conversations in JSON lines, or shakespeare for the dialogue of his plays. Default: generated
        instructions with known correct answers, so that a program can grade the replies to them.
    ranker
        Who ranks the replies: judge (the program that knows the correct answers), people (repeat the command after
        `lmzoo rank` has collected their votes), or a file of rankings.
    against
        Folder of an earlier run. The judge compares its chat models with the new ones, method by method, on the same
        prompts.
    seed
        Random seed. The same seed gives the same models.
    device
        Device on which networks are trained and evaluated: cpu, cuda, mps, or auto (cuda if there is one, else mps,
        else cpu).
    out
        Folder for the models and the results. Default: runs/align-BASE-PRESET.
    log
        Where to write the losses of the networks of all stages while they are trained: tensorboard:FOLDER (needs the
        extra lmzoo[tensorboard]), csv:FILE or jsonl:FILE; may be repeated.
    json
        Print one JSON record per stage.
    """
    from lmzoo.experiments.align import run_alignment
    from lmzoo.experiments.align.plan import METHODS, AlignPlan
    from lmzoo.experiments.training_log import training_logs
    from lmzoo.report.alignment import header_and_rows, write_alignment

    plan = AlignPlan(
        base=base,
        corpus=corpus,
        tokenizer=tokenizer,
        preset=preset,
        methods=methods or METHODS,
        conversations=conversations,
        ranker=ranker,
        against=against,
        seed=seed,
        device=device,
        command=terminal.command_line(),
    )
    with terminal.progress_of_many() as show, training_logs(log or [], show) as on_progress:
        result = run_alignment(out, plan, on_progress=on_progress, on_outcome=_finish)
    if json:
        terminal.print_records(result.records)
    elif result.records:
        terminal.print_table(*header_and_rows(result.records))
    if result.records:
        terminal.note_pages(write_alignment(result.folder))
    if not result.failures:
        terminal.note(f"Talk to the model: lmzoo chat -p {result.folder}")
    return 1 if result.failures else 0


def _finish(outcome: Outcome[StageRecord]) -> None:
    """Prints one line on stderr about a stage that has ended."""
    record = outcome.record
    if record is None:
        terminal.note(f"  {outcome.name}: failed: {outcome.error}")
        return
    how = "reused" if outcome.reused else f"done in {record.seconds:.1f} s"
    terminal.note(f"  {outcome.name}: {', '.join([*_quality(record), how])}")


def _quality(record: StageRecord) -> list[str]:
    """Returns the most important measures of a stage in words."""
    facts: list[str] = []
    if record.mean_accuracy is not None:
        facts.append(f"{record.mean_accuracy:.1%} of the replies correct")
    if record.against_sft is not None:
        facts.append(f"{record.against_sft.rate:.1%} wins against sft")
    if record.reward_accuracy is not None:
        facts.append(f"{record.reward_accuracy:.1%} of pairs of replies ordered correctly")
    if record.bits_per_byte is not None:
        facts.append(f"{record.bits_per_byte:.3f} bits/byte")
    return facts
