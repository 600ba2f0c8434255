"""Tests of the `lmzoo` program: its output, its error messages, and the files that it writes."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from lmzoo import zoo
from lmzoo.cli import ADVICE, app, run
from lmzoo.cli.commands.settings import parse_settings
from lmzoo.errors import ConfigurationError

COMMANDS = [
    "list",
    "show",
    "corpus",
    "tokenize",
    "fit",
    "evaluate",
    "predict",
    "surprisal",
    "states",
    "gradients",
    "context",
    "generate",
    "align",
    "chat",
    "cluster",
    "compare",
    "ladder",
    "curves",
    "prequential",
    "rank",
    "report",
    "convert",
    "serve",
    "play",
]


@pytest.mark.parametrize("command", [[], *([name] for name in COMMANDS), ["corpus", "info"]])
def test_help(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*command, "--help"]) == 0
    assert "Usage: lmzoo" in capsys.readouterr().out


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from lmzoo.cli import run\n"
        "for command in sys.argv[1:]:\n"
        "    run([*command.split(), '--help'])\n"
        "    heavy = {'torch', 'numpy', 'scipy', 'numba', 'nltk', 'altair', 'tokenizers'} & set(sys.modules)\n"
        "    assert not heavy, (command, heavy)\n"
    )
    finished = subprocess.run([sys.executable, "-c", code, "", *COMMANDS], capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr


def _words(printed: str) -> list[list[str]]:
    return [line.split() for line in printed.splitlines()]


def test_list_and_show(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["list"]) == 0
    printed = capsys.readouterr().out
    assert all(name in printed for name in zoo.names())
    assert run(["list", "--json"]) == 0
    assert [card["name"] for card in json.loads(capsys.readouterr().out)] == zoo.names()
    assert run(["show", "markov"]) == 0
    assert _words(capsys.readouterr().out)[-2:] == [["--set", "default"], ["alpha", "null"]]
    assert run(["show", "lstm", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["year"] == 1997
    assert shown["settings"]["training"]["learning_rate"] == 3e-3
    assert shown["budgets"]["standard"]["d_hidden"] == 512
    assert run(["show", "gpt2"]) == 0
    rows = _words(capsys.readouterr().out)
    assert ["--set", "default", "quick", "standard", "thorough"] in rows
    assert ["training.learning_rate", "0.001", "0.008", "0.002"] in rows, "as --set takes it; thorough has the default"
    assert ["n_layers", "4", "2", "4", "6"] in rows


def test_fit_evaluate_predict_generate(corpus_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    home = str(tmp_path / "unigram")
    fitted = ["fit", "unigram", "--corpus", str(corpus_folder), "--tokenizer", "bpe:300", "--out", home]
    assert run([*fitted, "--set", "alpha=0.5"]) == 0
    assert "saved in" in capsys.readouterr().err
    assert run(["evaluate", home, "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert (record["species"], record["settings"]) == ("unigram", {"alpha": 0.5})
    assert record["bits_per_byte"] > 0
    assert run(["evaluate", home, "--split", "valid"]) == 0
    assert "bits/byte" in capsys.readouterr().out
    assert run(["predict", "The [bold]cat", "-p", home, "-p", home, "--json"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(lines) == 2
    assert lines[0]["top"][0]["probability"] >= lines[0]["top"][1]["probability"]
    assert run(["predict", "The", "-p", home, "-k", "3"]) == 0
    assert "%" in capsys.readouterr().out
    drawn = ["generate", "The ", "-p", home, "--max-tokens", "20", "--seed", "1", "--temperature", "0.9"]
    assert run(drawn) == 0
    plain = capsys.readouterr().out
    assert run([*drawn, "--json"]) == 0
    assert "The " + json.loads(capsys.readouterr().out)["completion"] + "\n" == plain
    assert run([*drawn, "--n", "3"]) == 0
    shown = capsys.readouterr().out
    assert run([*drawn, "--n", "3", "--json"]) == 0
    texts = [json.loads(line)["completion"] for line in capsys.readouterr().out.splitlines()]
    assert shown == "".join(f"── unigram, {i} of 3\nThe {text}\n" for i, text in enumerate(texts, 1))
    assert list(tmp_path.iterdir()) == [tmp_path / "unigram"], "nothing but the predictor may be left"


@pytest.mark.usefixtures("undrawn")
def test_compare_prints_and_reports(
    unlucky: str, corpus_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "run")
    asked = ["compare", "--corpus", str(corpus_folder), "--species", unlucky, "markov", "--out", out]
    assert run([*asked, "--set", f"{unlucky}.fails=false"]) == 0
    captured = capsys.readouterr()
    assert captured.out.index("markov") < captured.out.index(unlucky), "the better one comes first"
    assert "report.html" in captured.err
    assert run([*asked, "--json"]) == 1
    captured = capsys.readouterr()
    assert f"{unlucky}: failed: bad luck" in captured.err
    assert json.loads(captured.out)["species"] == "markov"
    assert run(["report", out, "--json"]) == 0
    assert all(Path(page).exists() for page in json.loads(capsys.readouterr().out))


def test_compare_shows_a_first_leaderboard_before_the_networks(
    corpus_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lmzoo.report.write_report", lambda folder: [])  # nothing below reads the reports
    asked = ["compare", "--corpus", str(corpus_folder), "--out", str(tmp_path / "run"), "--tokenizer", "char"]
    tiny = "{'tokens': 500, 'batch_size': 2, 'chunk_size': 8}".replace("'", '"')
    fitted = [*asked, "--species", "rnn", "markov", "unigram", "--set", f"rnn.training={tiny}", "--jobs", "1"]
    assert run(fitted) == 0
    captured = capsys.readouterr()
    first = captured.err.index("Before the neural networks are trained")
    assert captured.err.index("  unigram: ") < first < captured.err.index("  rnn: ")
    assert "rnn" in captured.out
    assert run(fitted) == 0
    assert "Before the neural networks" not in capsys.readouterr().err, "all models are reused"
    assert run([*asked, "--species", "markov", "uniform"]) == 0
    assert "Before the neural networks" not in capsys.readouterr().err, "there is no network"
    assert run([*asked, "--species", "markov", "uniform", "unigram", "trigram", "ngram"]) == 0
    assert "Before the other models are trained" in capsys.readouterr().err, "four of five models are finished"


def test_settings_from_the_command_line() -> None:
    parsed = parse_settings(["a=1", "b.c=[1, 2]", "b.d=text", "e=null", "f=x=y"])
    assert parsed == {"a": 1, "b": {"c": [1, 2], "d": "text"}, "e": None, "f": "x=y"}
    for bad in (["a"], ["=1"], ["a=1", "a.b=2"]):
        with pytest.raises(ConfigurationError):
            parse_settings(bad)


def _folder(tmp_path: Path, texts: list[bytes]) -> str:
    folder = tmp_path / "texts"
    folder.mkdir()
    for number, text in enumerate(texts):
        (folder / f"{number}.txt").write_bytes(text)
    return str(folder)


def _read_only(tmp_path: Path) -> str:
    if sys.platform == "linux":
        return "/proc/lmzoo/model"  # nobody can write there, not even root
    folder = tmp_path / "locked"
    folder.mkdir(mode=0o500)
    return str(folder / "model")


def _run_folder(tmp_path: Path) -> str:
    (tmp_path / "run" / "predictors").mkdir(parents=True)
    return str(tmp_path / "run")


COMPARE = ["compare", "--corpus", "CORPUS", "--out", "OUT"]
FIT = ["fit", "unigram", "--out", "OUT", "--corpus"]

BAD_CALLS: dict[str, tuple[Callable[[Path], list[str]], int, str]] = {
    "missing file": (lambda tmp: [*FIT, str(tmp / "nothing.txt")], 1, "nothing.txt"),
    "binary file": (lambda tmp: [*FIT, _folder(tmp, [b"\x00\x01\x02\xff" * 50] * 20)], 1, "0.txt"),
    "not UTF-8": (lambda tmp: [*FIT, _folder(tmp, [b"ab\xff\xfe cd"] * 20)], 1, "2"),
    "empty corpus": (lambda tmp: [*FIT, _folder(tmp, [])], 1, "texts"),
    "empty files": (lambda tmp: [*FIT, _folder(tmp, [b""] * 3)], 1, "texts"),
    "one document": (
        lambda tmp: [*FIT, _folder(tmp, [b"one line"])],
        1,
        "has too little text: give at least 500 characters",
    ),
    "unknown species": (lambda tmp: ["fit", "trnsformer", "--out", "OUT"], 2, "did you mean 'transformer'"),
    "species of conversations before a missing file": (
        lambda tmp: ["fit", "chat", "--corpus", "nothing.txt", "--out", "OUT"],
        2,
        "train it with lmzoo align",
    ),
    "unknown corpus": (lambda tmp: [*FIT, "kjw"], 2, "did you mean 'kjv'"),
    "two corpora": (lambda tmp: [*FIT, "kjv,brown"], 2, "these are several names: give one, or"),
    "unknown tokenizer": (lambda tmp: [*FIT, "kjv", "--tokenizer", "bqe:300"], 2, "bqe"),
    "tokenizer before a missing file": (lambda tmp: [*FIT, "nothing.txt", "--tokenizer", "bpe:9"], 2, "from 257 to"),
    "tokenizer from an unset variable": (lambda tmp: [*FIT, "kjv", "--tokenizer", ""], 2, "unknown tokenizer ''"),
    "unknown setting": (lambda tmp: [*FIT, "kjv", "--set", "alhpa=1"], 2, "did you mean 'alpha'"),
    "wrong setting": (lambda tmp: [*FIT, "kjv", "--set", "alpha=-1"], 2, "alpha must be a finite number above 0"),
    "unknown budget": (lambda tmp: [*FIT, "kjv", "--budget", "thorogh"], 2, "did you mean 'thorough'"),
    "read-only folder": (
        lambda tmp: ["fit", "unigram", "--corpus", "CORPUS", "--out", _read_only(tmp)],
        1,
        "choose another place",
    ),
    "no predictor": (lambda tmp: ["predict", "a", "-p", str(tmp)], 1, "no saved predictor"),
    "NaN temperature": (lambda tmp: ["generate", "a", "-p", "SAVED", "--temperature", "nan"], 2, "temperature must be"),
    "wrong temperature before a missing predictor": (
        lambda tmp: ["generate", "a", "-p", str(tmp), "--temperature", "-1"],
        2,
        "temperature must be",
    ),
    "empty stop string before a missing predictor": (
        lambda tmp: ["generate", "a", "-p", str(tmp), "--stop", ""],
        2,
        "at least one character",
    ),
    "no continuation before a missing predictor": (
        lambda tmp: ["generate", "a", "-p", str(tmp), "--n", "0"],
        2,
        "n must be a whole number",
    ),
    "wrong temperature before a missing chat model": (
        lambda tmp: ["chat", "-p", str(tmp), "--temperature", "-1"],
        2,
        "temperature must be",
    ),
    "no continuation": (lambda tmp: ["generate", "a", "-p", "SAVED", "--n", "0"], 2, "n must be a whole number"),
    "tokens below zero": (lambda tmp: ["generate", "a", "-p", "SAVED", "--max-tokens", "-5"], 2, "--max-tokens"),
    "temperature is text": (lambda tmp: ["generate", "a", "-p", "SAVED", "--temperature", "hot"], 2, "hot"),
    "k is no whole number": (lambda tmp: ["predict", "a", "-k", "2.5"], 2, "-k must be a whole number, got '2.5'. See"),
    "k is text": (lambda tmp: ["predict", "a", "-k", "x"], 2, "-k must be a whole number, got 'x'. See: lmzoo predict"),
    "standard input to predict": (
        lambda tmp: ["predict", "-", "-p", "SAVED"],
        2,
        "- does not stand for standard input",
    ),
    "standard input to generate": (
        lambda tmp: ["generate", "-", "-p", "SAVED"],
        2,
        'give the text itself, such as "$(cat FILE)". See: lmzoo generate --help',
    ),
    "no quotation marks": (lambda tmp: ["predict", "the", "king"], 2, "Unexpected argument: king. Put a text"),
    "unknown command": (lambda tmp: ["comprae"], 2, "comprae"),
    "unknown option": (lambda tmp: ["list", "--jsno"], 2, "Did you mean --json? See: lmzoo list --help"),
    "unknown option beside a text": (
        lambda tmp: ["tokenize", "--jsn"],
        2,
        "Unknown option: --jsn. Did you mean --json? See: lmzoo tokenize --help",
    ),
    "unknown option beside a corpus": (
        lambda tmp: ["corpus", "info", "kjv", "--jsn=true"],
        2,
        "Did you mean --json? See: lmzoo corpus info --help",
    ),
    "workers of no n-grams": (lambda tmp: ["fit", "rnn", "--out", "OUT", "--workers", "2"], 2, "leave out --workers"),
    "missing option": (lambda tmp: ["fit", "unigram"], 2, "Missing option: --out. See: lmzoo fit --help"),
    "missing value": (lambda tmp: ["fit", "unigram", "--out"], 2, "Missing value after --out"),
    "missing argument": (lambda tmp: ["corpus", "info"], 2, "Missing argument: CORPUS. See: lmzoo corpus info --help"),
    "a pattern without quotation marks": (
        lambda tmp: [*FIT, str(tmp), __file__],
        2,
        f"Unexpected argument: {__file__}. A pattern of file names, such as '*.txt', must be in quotation marks. See:",
    ),
    "another argument": (
        lambda tmp: ["predict", "a", "b"],
        2,
        "Unexpected argument: b. Put a text with spaces in quotation marks. See: lmzoo predict --help",
    ),
    "run without a name": (lambda tmp: ["report"], 2, "lmzoo report FOLDER"),
    "no tokens to show": (lambda tmp: ["predict", "a", "-k", "0"], 2, "--k must be at least 1, got 0"),
    "no run": (lambda tmp: ["report", str(tmp)], 1, "there are no results"),
    "a run for a predictor": (lambda tmp: ["predict", "a", "-p", _run_folder(tmp)], 1, "choose one of the predictors"),
    "no species": (lambda tmp: [*COMPARE, "--species", "--jobs", "1"], 2, "--species"),
    "no task": (lambda tmp: ["ladder", "--out", "OUT", "--task", "--species", "markov"], 2, "--task"),
    "negative seed": (lambda tmp: [*COMPARE, "--seed", "-1"], 2, "--seed"),
    "one share": (lambda tmp: ["curves", "--out", "OUT", "--shares", "1"], 2, "shares must be a power of two"),
    "setting of nobody": (
        lambda tmp: [*COMPARE, "--set", "alpha=1"],
        2,
        "species.name=value, such as lstm.d_hidden=512",
    ),
    "unknown setting of one": (lambda tmp: [*COMPARE, "--set", "rnn.d_hiden=1"], 2, "did you mean 'd_hidden'"),
    "unknown setting of a ladder": (lambda tmp: ["ladder", "--out", "OUT", "--set", "rnn.d_hiden=1"], 2, "d_hidden"),
    "tokenizer of a run": (lambda tmp: [*COMPARE, "--tokenizer", "bpe:x"], 2, "bpe:x"),
    "a file for a run": (lambda tmp: ["compare", "--corpus", "CORPUS", "--out", __file__], 2, "is a file"),
}


@pytest.mark.parametrize("case", BAD_CALLS)
def test_bad_calls_fail_in_one_line_and_leave_nothing(
    case: str, tmp_path: Path, saved: Path, corpus_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments, status, message = BAD_CALLS[case]
    places = {"OUT": str(tmp_path / "out" / "model"), "SAVED": str(saved), "CORPUS": str(corpus_folder)}
    asked = [places.get(argument, argument) for argument in arguments(tmp_path)]
    assert run(asked) == status
    captured = capsys.readouterr()
    assert captured.out == ""
    lines = [line for line in captured.err.splitlines() if not line.startswith("corpus ")]  # which files were read
    assert len(lines) == 1, captured.err
    assert lines[0].startswith("lmzoo: ")
    assert message in lines[0]
    assert not (tmp_path / "out").exists()


def test_standard_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    text = "\n\n".join(f"The cat number {number} sat on the mat." for number in range(40))
    for arguments in (
        ["corpus", "info", "-", "--json"],
        ["tokenize", "-", "-t", "byte", "--json"],
        ["fit", "unigram", "--corpus", "-", "--tokenizer", "char", "--out", str(tmp_path / "made"), "--json"],
    ):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
        assert run(arguments) == 0, capsys.readouterr().err
        json.loads(capsys.readouterr().out)


@pytest.mark.parametrize(("command", "advice"), [("generate", ""), ("fit", ADVICE)])
def test_only_commands_that_continue_say_so(
    command: str, advice: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("lmzoo.cli._check_options", interrupt)
    assert run([command]) == 130
    assert capsys.readouterr().err == f"lmzoo: interrupted{advice}\n"


def test_too_little_memory_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def fail(*_: object) -> None:
        raise MemoryError("needs 4 TiB")

    monkeypatch.setattr("lmzoo.corpora.load_corpus", fail)
    assert run(["fit", "unigram", "--out", "never"]) == 1
    expected = "lmzoo: the memory is not large enough (needs 4 TiB): choose smaller settings or a smaller text\n"
    assert capsys.readouterr().err == expected


def test_damaged_predictor(saved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    home = tmp_path / "home"
    shutil.copytree(saved, home)
    (home / "arrays.safetensors").write_bytes(b"half")
    assert run(["predict", "a", "-p", str(home)]) == 1
    assert "arrays.safetensors is damaged" in capsys.readouterr().err


@pytest.mark.skipif(os.name == "nt", reason="no pipes of this kind")
def test_a_closed_pipe_is_no_error() -> None:
    command = f"{sys.executable} -m lmzoo list | head -1"
    finished = subprocess.run(["sh", "-c", command], capture_output=True, text=True)
    assert finished.stderr == ""


@pytest.mark.skipif(os.name == "nt", reason="needs a shell")
@pytest.mark.parametrize(
    ("command", "status", "message"),
    [("tokenize -t byte - <&-", 0, ""), ("corpus info - <&-", 1, "there is no text"), ("list --json >&-", 0, "")],
)
def test_closed_streams_are_empty(command: str, status: int, message: str) -> None:
    finished = subprocess.run(["sh", "-c", f"{sys.executable} -m lmzoo {command}"], capture_output=True, text=True)
    assert finished.returncode == status, finished.stderr
    assert message in finished.stderr
    assert "Traceback" not in finished.stderr


def test_every_command_is_tested_here() -> None:
    assert sorted(name for name in app if not name.startswith("-")) == sorted(COMMANDS)


def test_tokenize(saved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "text.txt").write_text("The cat 日", encoding="utf-8")
    asked = ["tokenize", "--file", str(tmp_path / "text.txt"), "-t", str(saved), "-t", "byte", "-t", "word:2"]
    assert run([*asked, "--json"]) == 0
    bpe, byte, word = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert byte["n_tokens"] == len(byte["ids"]) == len("The cat 日".encode())
    assert byte["bytes_per_token"] == 1
    assert bpe["vocab_size"] == 300
    assert bpe["n_tokens"] < byte["n_tokens"]
    assert (word["pieces"], word["n_unknown"]) == (["The", "cat", "日"], 2), "no cat in the Bible"
    assert run(asked) == 0
    printed = capsys.readouterr().out
    assert "T|h|e|␣|c|a|t|␣" in printed
    assert "3 tokens (2 unknown), 3.00 characters and 3.67 bytes per token, vocabulary of " in printed
    assert " ".join(map(str, byte["ids"])) in printed
    assert run(["tokenize", "a", "-t", "byte"]) == 0
    assert " 1 token, 1.00 characters and 1.00 bytes per token, vocabulary of 257\n" in capsys.readouterr().out
    assert run(["tokenize", "-t", "byte", "--json", "--", "--jsn"]) == 0
    assert json.loads(capsys.readouterr().out)["pieces"] == [*"--jsn"]
    assert run(["tokenize"]) == 2
    assert "give either a text or --file FILE" in capsys.readouterr().err
