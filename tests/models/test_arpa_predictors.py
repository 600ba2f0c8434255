"""Predictors from and to ARPA files, the command `convert`, and the page for users of KenLM."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from arpa_files import HAS_KENLM, PRUNED, kenlm_scores, log10_probs, written

from lmzoo import Predictor
from lmzoo.cli import run
from lmzoo.errors import ConfigurationError, SavedModelError, TokenizerError
from lmzoo.interchange.arpa import arpa_words, predictor_from_arpa, predictor_to_arpa
from lmzoo.models.ngram.arpa import read_arpa, reading, writing

# ---- Predictors ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def fitted(corpus_folder: Path) -> Callable[[str], Predictor]:
    made: dict[str, Predictor] = {}

    def fit(tokenizer: str) -> Predictor:
        if tokenizer not in made:
            made[tokenizer] = Predictor.fit("ngram", corpus_folder, tokenizer=tokenizer, order=3)
        return made[tokenizer]

    return fit


@pytest.mark.parametrize("order", [2, 3])
def test_a_file_without_longer_ngrams_scores_by_its_unigrams(order: int, tmp_path: Path) -> None:
    path = tmp_path / "unigrams.arpa"
    counts = "".join(f"ngram {n}=0\n" for n in range(2, order + 1))
    sections = "".join(f"\\{n}-grams:\n\n" for n in range(2, order + 1))
    path.write_text(f"\\data\\\nngram 1=3\n{counts}\n\\1-grams:\n-0.3\t</s>\n-99\t<s>\n-0.4\ta\n\n{sections}\\end\\\n")
    tokens = predictor_from_arpa(path).surprisals("a a")
    assert [-token.surprisal_bits * math.log10(2) for token in tokens] == pytest.approx([-0.4, -0.4, -0.3])


@pytest.mark.parametrize("spec", ["char", "byte", "word", "word-space", "bpe:300"])
def test_predictors_of_every_tokenizer_go_there_and_back(
    spec: str, fitted: Callable[[str], Predictor], tmp_path: Path
) -> None:
    predictor = fitted(spec)
    path = tmp_path / "model.arpa"
    predictor_to_arpa(predictor, path)
    again = predictor_from_arpa(path, tokenizer=predictor.tokenizer)
    text = "The kings that I saw were near the house."
    for before, after in zip(predictor.surprisals(text), again.surprisals(text), strict=True):
        assert after.surprisal_bits == pytest.approx(before.surprisal_bits, abs=1e-4)


@pytest.mark.parametrize("spec", ["char", "bpe:300"])
def test_tokens_that_are_not_words_are_spelled_without_spaces(
    spec: str, fitted: Callable[[str], Predictor], tmp_path: Path
) -> None:
    """KenLM, and lmzoo's tokenizer of words, can read the spelled tokens."""
    predictor, text = fitted(spec), "The kings that I saw\nwere near"
    path = tmp_path / "model.arpa"
    predictor_to_arpa(predictor, path)
    words = arpa_words(predictor.tokenizer)
    spelled = " ".join(words[token_id] for token_id in predictor.tokenizer.encode(text))
    assert ("<U+0020>" in spelled, "<U+000A>" in spelled, "Ġ" in spelled) == (
        spec == "char",
        spec == "char",
        spec != "char",
    )
    bits = sum(token.surprisal_bits for token in predictor.surprisals(text))
    by_words = predictor_from_arpa(path).surprisals(spelled)
    assert sum(token.surprisal_bits for token in by_words) == pytest.approx(bits, rel=1e-5)
    if HAS_KENLM:
        assert -sum(kenlm_scores(path, [spelled])) / math.log10(2) == pytest.approx(bits, rel=1e-5)


def test_a_closed_vocabulary_refuses_other_words(tmp_path: Path) -> None:
    predictor = predictor_from_arpa(written(tmp_path, PRUNED))
    assert predictor.tokenizer.vocab_size == 3
    assert predictor.complete("a", max_tokens=5, seed=1).split()[0] in ("a", "b")
    for ask in (predictor.surprisals, predictor.predict_distribution, predictor.complete):
        with pytest.raises(TokenizerError, match="'kitten' is not in the vocabulary, which has no <unk>"):
            ask("a b kitten a")


def test_a_tokenizer_of_other_words_is_refused(fitted: Callable[[str], Predictor], tmp_path: Path) -> None:
    with pytest.raises(SavedModelError, match=r"are not the 257 words of the given vocabulary: .* is not in the file"):
        predictor_from_arpa(written(tmp_path, PRUNED), tokenizer=fitted("byte").tokenizer)


def test_only_ngram_models_are_arpa(markov_predictor: Predictor, tmp_path: Path) -> None:
    with pytest.raises(
        ConfigurationError, match="only n-gram models can be written as ARPA files, but this is a 'markov' model"
    ):
        predictor_to_arpa(markov_predictor, tmp_path / "model.arpa")


# ---- The command ---------------------------------------------------------------------------------


def test_convert(fitted: Callable[[str], Predictor], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    home, packed, back = (str(tmp_path / name) for name in ("home", "model.arpa.gz", "back"))
    fitted("word").save(home)
    assert run(["convert", home, packed, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["target"] == packed
    assert told["n_ngrams"][0] == told["vocab_size"] == fitted("word").tokenizer.vocab_size
    assert run(["convert", packed, back, "--tokenizer", home]) == 0
    assert "n-grams up to order 3, written to" in capsys.readouterr().err
    assert run(["convert", packed, back]) == 0, "an older predictor is replaced"
    assert "read from: model.arpa.gz" in (tmp_path / "back" / "README.md").read_text(encoding="utf-8")
    assert run(["predict", "The king", "-p", back, "-k", "3", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["top"][0]["token"]
    assert run(["evaluate", back]) == 2
    assert "name a text with --corpus" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["back", "home", "model.arpa.gz"]


@pytest.mark.parametrize("part", ["link", "_write"])
def test_an_interrupted_convert_leaves_nothing(
    part: str, fitted: Callable[[str], Predictor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(reading if part == "link" else writing, part, interrupted)
    source = written(tmp_path, PRUNED) if part == "link" else fitted("word").save(tmp_path / "home")
    assert run(["convert", str(source), str(tmp_path / "new.arpa")]) == 130
    assert list(tmp_path.iterdir()) == [source]


def test_convert_says_when_probabilities_do_not_sum_to_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(tmp_path, PRUNED)
    assert run(["convert", str(path), str(tmp_path / "out")]) == 0
    assert "some distributions do not sum to 1 (by up to 0.12)" in capsys.readouterr().err, "after b a: 7/8 + 1/8 + 1/8"


BAD_CALLS: dict[str, tuple[list[str], int, str]] = {
    "missing source": (["nothing.arpa", "out"], 1, "cannot read"),
    "a folder that is no predictor": ([".", "out.arpa"], 1, "no saved predictor"),
    "an ARPA file that is there": (["saved", "model.arpa"], 2, "was not changed: choose a new name"),
    "a folder that holds something else": (["model.arpa", "full"], 2, "holds other files"),
    "another species": (["saved", "out.arpa"], 2, "but this is a 'markov' model"),
    "a tokenizer for a predictor": (["saved", "out.arpa", "--tokenizer", "saved"], 2, "is for ARPA files"),
    "a damaged file": (["damaged.arpa", "out"], 1, "damaged.arpa:1: "),
    "a missing tokenizer": (["model.arpa", "out", "--tokenizer", "full"], 1, "tokenizer.json is missing"),
    "a tokenizer nowhere": (["model.arpa", "out", "--tokenizer", "no"], 2, "no: give a predictor or a tokenizer.json"),
}


@pytest.mark.parametrize("case", BAD_CALLS)
def test_bad_calls_of_convert_leave_everything(
    case: str, saved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments, status, message = BAD_CALLS[case]
    written(tmp_path, PRUNED)
    written(tmp_path, b"", "damaged.arpa")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "note.txt").write_text("mine", encoding="utf-8")
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    places = [
        argument if argument.startswith("--") else str(saved if argument == "saved" else tmp_path / argument)
        for argument in arguments
    ]
    assert run(["convert", *places]) == status
    captured = capsys.readouterr()
    assert captured.out == ""
    assert len(captured.err.splitlines()) == 1, captured.err
    assert message in captured.err
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


# ---- The page ------------------------------------------------------------------------------------


def test_the_page_runs(
    fitted: Callable[[str], Predictor],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    page = (Path(__file__).parents[2] / "docs" / "how-to" / "kenlm.md").read_text(encoding="utf-8")
    predictor_to_arpa(fitted("word-space"), tmp_path / "model.arpa")
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for block in re.findall(r"^```python\n(.*?)^```", page, re.M | re.S):
        exec(block, names)
    printed = capsys.readouterr().out.splitlines()
    score = float(printed[0].removeprefix("log10, as kenlm's score: "))
    perplexity = float(printed[1].removeprefix("perplexity: "))
    assert perplexity == pytest.approx(10 ** (-score / 10)), "nine words and an end"
    words, model = read_arpa("model.arpa")
    assert score == pytest.approx(sum(log10_probs(model, words, [str(names["text"])])), abs=1e-9)
