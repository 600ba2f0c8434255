"""`lmzoo chat` and `lmzoo rank`: what they read from a pipe and print, and `lmzoo align`: its table and exit status."""

from __future__ import annotations

import io
import json
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from align_runs import REQUEST, align_corpus, make_align_run
from micro_chat_models import micro_predictor
from shared_runs import made_once

from lmzoo import Predictor
from lmzoo.chat.conversation import user
from lmzoo.chat.preferences import Ranking, append_rankings, read_rankings
from lmzoo.chat.session import ChatPredictor, ChatSession
from lmzoo.chat.voting import Comparison, write_comparisons
from lmzoo.cli import run
from lmzoo.experiments.align.records import StageRecord, WinRate
from lmzoo.experiments.align.results import best_chat_model
from lmzoo.report.alignment import header_and_rows

Type = Callable[[str], None]


@pytest.fixture
def type_in(monkeypatch: pytest.MonkeyPatch) -> Type:
    """A function that replaces standard input by a pipe with the given text."""

    def replace_input(text: str) -> None:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode("utf-8", "surrogateescape"))))

    return replace_input


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return micro_predictor().save(tmp_path_factory.mktemp("models") / "micro")


def _replies(model: Path, *texts: str, seed: int = 0, max_tokens: int = 8) -> list[str]:
    session = ChatSession(ChatPredictor(Predictor.load(model)), seed=seed, max_tokens=max_tokens)
    return ["".join(session.reply_to(text)) for text in texts]


def test_each_line_of_a_pipe_is_a_message(model: Path, type_in: Type, capsys: pytest.CaptureFixture[str]) -> None:
    type_in("hi\n\n  bé  \n")
    assert run(["chat", "-p", str(model), "--seed", "0", "--max-tokens", "8"]) == 0
    printed = capsys.readouterr()
    assert printed.out == "".join(f"{reply}\n" for reply in _replies(model, "hi", "bé"))
    assert "you> hi\n" in printed.err


def test_once_prints_one_reply(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["chat", "-p", str(model), "--once", "hi", "--seed", "0", "--max-tokens", "8"]) == 0
    assert capsys.readouterr() == (f"{_replies(model, 'hi')[0]}\n", "")


def test_commands_change_the_conversation(model: Path, type_in: Type, capsys: pytest.CaptureFixture[str]) -> None:
    lines = [
        "/system be kind",
        "/temperature 0",
        "hi",
        "/retry",
        "/history",
        "/reset",
        "/history",
        "/system",
        "/history",
    ]
    type_in("\n".join([*lines, "/top-p 2", "/temperature hot", "/nonsense", "/help", "/quit", "not read"]))
    assert run(["chat", "-p", str(model), "--max-tokens", "4"]) == 0
    out, err = capsys.readouterr()
    first, second = out.splitlines() if out.count("\n") == 2 else (out[: len(out) // 2],) * 2
    assert first == second, "the most likely reply, twice"
    histories = [part.splitlines()[0] for part in err.split("you> /history")[1:]]
    assert len(histories) == 3
    assert err.count("system: be kind") == 2, "a reset keeps the system message"
    assert err.count("user: hi") == 1
    assert "top_p" in err
    assert "/temperature needs a number, such as /temperature 0.8, got 'hot'" in err
    assert "unknown command /nonsense: /help lists them" in err or "/help lists the commands" in err
    assert "/top-p X" in err
    assert "not read" not in err


def test_a_long_conversation_says_once_that_its_earliest_turns_are_not_seen(
    tmp_path: Path, type_in: Type, capsys: pytest.CaptureFixture[str]
) -> None:
    model = micro_predictor(base="gpt2").save(tmp_path / "gpt2")
    type_in("a long message\n" * 8)
    assert run(["chat", "-p", str(model), "--max-tokens", "4", "--json"]) == 0
    out, err = capsys.readouterr()
    left_out = [json.loads(line)["n_left_out"] for line in out.splitlines()]
    assert left_out[0] == 0
    assert left_out[-1] > 0
    assert left_out == sorted(left_out)
    assert err.count("no longer sees the earliest turns") == 1


def test_a_completion_model_continues_the_same_message(
    model: Path, saved: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--once", "The cat", "--seed", "0", "--max-tokens", "8", "--beside", str(saved)]
    assert run(["chat", "-p", str(model), *options]) == 0
    continued = Predictor.load(saved).complete("The cat", max_tokens=8, seed=0)
    out = capsys.readouterr().out
    assert out == f"{_replies(model, 'The cat')[0]}\nmarkov continues: The cat{continued}\n"
    assert run(["chat", "-p", str(model), *options, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["beside"] == continued


def test_a_model_that_cannot_chat_is_refused_in_one_line(saved: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["chat", "-p", str(saved), "--once", "hi"]) == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert "train a chat model with lmzoo align" in message


def test_without_a_run_the_chat_model_that_comes_with_lmzoo_replies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["chat", "--once", "first word of: light upon waters", "--temperature", "0"]) == 0
    assert "light" in capsys.readouterr().out


def test_without_a_run_people_vote_on_the_replies_that_come_with_lmzoo(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.stdin", io.StringIO("1\nq\n"))
    assert run(["rank", "--rater", "ann", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["n_votes"] == 1
    assert [vote.rater for vote in read_rankings("runs/votes/votes.jsonl")] == ["ann"]


def test_input_that_is_not_utf8_is_refused(model: Path, type_in: Type, capsys: pytest.CaptureFixture[str]) -> None:
    type_in("hi \udcff\n")
    assert run(["chat", "-p", str(model)]) == 2
    assert "the input is not UTF-8" in capsys.readouterr().err


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="Windows has no timers")
def test_an_interrupt_at_a_terminal_stops_the_reply_and_keeps_its_text(
    model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = iter(["hi", "/history", None])
    monkeypatch.setattr("lmzoo.cli.keyboard.is_interactive", lambda: True)
    monkeypatch.setattr("lmzoo.cli.keyboard.read_line", lambda _: next(lines))
    n_pieces = 0

    def write(piece: str) -> None:
        nonlocal n_pieces
        n_pieces += 1
        if n_pieces == 3:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr("lmzoo.cli.commands.chat._write", write)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        assert run(["chat", "-p", str(model), "--seed", "0", "--max-tokens", "500"]) == 0
    finally:
        signal.signal(signal.SIGINT, before)
    assert n_pieces == 4, "three pieces and the line end"
    assert "assistant: " in capsys.readouterr().err


# ---- Votes -------------------------------------------------------------------------------------------

COMPARISONS = [Comparison((user(f"say: {number}"),), f"good {number}", f"bad\x1b[2J {number}") for number in range(4)]


def test_votes_of_keys_are_saved_and_undone(tmp_path: Path, type_in: Type, capsys: pytest.CaptureFixture[str]) -> None:
    write_comparisons(tmp_path / "comparisons.jsonl", COMPARISONS)
    type_in("1\nu\n2\nx\ns\nt\nq\n")
    assert run(["rank", str(tmp_path), "--rater", "anna"]) == 0
    out, err = capsys.readouterr()
    votes = read_rankings(tmp_path / "votes.jsonl")
    assert [vote.tie for vote in votes] == [False, True]
    assert len((tmp_path / "votes.jsonl").read_text().splitlines()) == 3, "the vote that was undone is kept"
    assert "\x1b" not in err
    assert "bad␛[2J" in err
    assert "Still to show in this session: 4." in err
    assert "unknown key 'x': press 1, 2, t" in err
    assert "Votes by anna in this session: 2. Comparisons without a vote by anna: 2." in err
    assert out.split() == ["rater", "votes", "anna", "2"]
    type_in("")
    assert run(["rank", str(tmp_path), "--rater", "anna", "--n", "1"]) == 0
    assert capsys.readouterr().err.count("user: say:") == 1


def test_the_summary_counts_votes_and_agreement(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_comparisons(tmp_path / "mine.jsonl", COMPARISONS)
    for rater, choices in (("anna", "112"), ("ben", "12")):
        append_rankings(
            tmp_path / "votes.jsonl",
            [one.vote(choice, rater) for one, choice in zip(COMPARISONS, choices, strict=False)],
        )
    assert run(["rank", str(tmp_path / "mine.jsonl"), "--summary", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "n_votes": 5,
        "by_rater": {"anna": 3, "ben": 2},
        "among_raters": {"rate": 0.5, "n_cases": 2},
        "with_judge": None,
        "with_reward_model": None,
    }
    assert run(["rank", str(tmp_path / "mine.jsonl"), "--summary"]) == 0
    assert "Two raters of the same replies agree in 50.0% of 2 cases." in capsys.readouterr().err


def test_votes_are_compared_with_the_judge(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "data").mkdir()
    entry = {"prompt": [{"role": "user", "content": "say: a"}], "task": "repeat", "answer": "a"}
    (tmp_path / "data" / "prompts.jsonl").write_text(json.dumps(entry) + "\n")
    prompt = (user("say: a"),)
    write_comparisons(tmp_path / "comparisons.jsonl", [Comparison(prompt, "a", "b")])
    votes = [
        Ranking(prompt, ("verily, a", "b"), rater="anna"),
        Ranking(prompt, ("b", "a"), rater="anna"),
        Ranking(prompt, ("b", "c"), rater="anna"),
        Ranking((user("other"),), ("b", "a"), rater="anna"),
    ]
    append_rankings(tmp_path / "votes.jsonl", votes)
    assert run(["rank", str(tmp_path), "--summary", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["with_judge"] == {"rate": 0.5, "n_cases": 2}, "equal grades do not count"


def test_a_folder_without_comparisons_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["rank", str(tmp_path)]) == 2
    assert "there are no comparisons in" in capsys.readouterr().err


# ---- Runs --------------------------------------------------------------------------------------------


def _record(stage: str, **results: object) -> StageRecord:
    origin = {"base": "lstm", "seed": 0, "seconds": 1.0, "n_tokens_read": 0, "n_parameters": 0}
    return StageRecord(stage=stage, **origin, **results)  # type: ignore[arg-type]


def test_the_table_shows_the_change_from_the_base_and_leaves_out_empty_columns() -> None:
    wins = WinRate(rate=0.625, low=0.5, high=0.75, n_prompts=8)
    records = [
        _record("base", bits_per_byte=2.0),
        _record("reward", reward_accuracy=0.8, best_of_n=wins, n_best_of=16),
        _record("dpo", bits_per_byte=2.1, against_sft=wins, mean_accuracy=0.5, kl=1.234, ended=1.0),
    ]
    header, rows = header_and_rows(records)
    assert "wins against earlier" not in header
    columns = [title.lower() for title in header]
    dpo = dict(zip(columns, rows[2], strict=True))
    assert (dpo["correct"], dpo["wins against sft"]) == ("50.0%", "62 % (50 to 75 %)")
    assert (dpo["best of 16"], dpo["kl, nats/reply"], dpo["ended"]) == ("–", "1.23", "100.0%")
    assert (dpo["bits/byte"], dpo["change from base"]) == ("2.100", "+5.0%")
    assert rows[1][columns.index("best of 16")] == "62 % (50 to 75 %)"


@pytest.mark.slow
@pytest.mark.usefixtures("undrawn")
def test_align_prints_a_table_and_chat_and_rank_read_its_folder(
    tmp_path_factory: pytest.TempPathFactory, capsys: pytest.CaptureFixture[str], type_in: Type
) -> None:
    home = made_once("align", make_align_run, tmp_path_factory)
    folder = home / "run"
    options = [word for name in ("base", "tokenizer", "preset", "device") for word in (f"--{name}", REQUEST[name])]
    command = ["align", *options, "--corpus", str(align_corpus()), "--out", str(folder)]
    assert run(command) == 0
    out, err = capsys.readouterr()
    stages = ["base", "sft", "rankings", "reward", "dpo", "ppo"]
    assert [line.split()[0].lower() for line in out.splitlines()] == ["stage", *stages]
    assert [line.split()[0] for line in err.splitlines() if line.endswith("reused")] == [f"{one}:" for one in stages]
    assert run([*command, "--json"]) == 0
    assert [json.loads(line)["stage"] for line in capsys.readouterr().out.splitlines()] == stages
    assert run(["chat", "-p", str(folder), "--once", "say: a", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["predictor"] == str(best_chat_model(folder))
    type_in("1\n2\nt\n")
    assert run(["rank", str(folder), "--rater", "anna", "--n", "3", "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["n_votes"] == 3
    assert summary["with_reward_model"]["n_cases"] == 2

    lines = (folder / "results.jsonl").read_text().splitlines(keepends=True)
    (folder / "results.jsonl").write_text("".join(line for line in lines if '"stage": "dpo"' not in line))
    shutil.rmtree(folder / "predictors" / "dpo")
    (folder / "replies" / "sft.jsonl").write_text("damaged\n")
    assert run(command) == 1, "a stage fails"
    out, err = capsys.readouterr()
    assert "dpo: failed: " in err
    assert [line.split()[0].lower() for line in out.splitlines()] == ["stage", "base", "sft", "rankings", "reward"]
