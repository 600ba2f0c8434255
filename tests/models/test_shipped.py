"""The predictors that come with lmzoo: complete, small, unchanged, and taken by name wherever a predictor is."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest

from lmzoo import Predictor, zoo
from lmzoo.chat.session import ChatPredictor, ChatSession
from lmzoo.chat.voting import read_comparisons
from lmzoo.cli import run
from lmzoo.errors import SavedModelError
from lmzoo.models.shipped import shipped_comparisons, shipped_folder, shipped_names, shipped_text_models
from lmzoo.predictor_folder import find_predictor

PROMPT = "the quick brown fox jumps over the"


@pytest.fixture(scope="module")
def predictors() -> dict[str, Predictor]:
    return {name: Predictor.load(name) for name in shipped_names()}


def test_the_eras_are_there_in_order_of_year() -> None:
    names = shipped_names()
    assert {
        "markov",
        "unigram",
        "hmm",
        "ngram",
        "lstm",
        "log-bilinear",
        "gated-conv",
        "transformer",
        "gpt-3.5",
        "chat",
    } <= set(names)
    assert set(names) - set(shipped_text_models()) == {"gpt-3.5", "chat"}
    years = [zoo.card(name).year for name in names]
    assert years == sorted(years)


def test_the_files_are_those_of_the_list_of_hashes() -> None:
    folder = shipped_folder()
    lines = (folder / "SHA256SUMS").read_text().splitlines()
    listed = {name: digest for digest, name in (line.split("  ") for line in lines)}
    files = {path.relative_to(folder).as_posix(): path for path in folder.glob("*/*")}
    assert listed == {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in files.items()}


def test_they_are_small() -> None:
    files = [path for path in shipped_folder().rglob("*") if path.is_file()]
    assert sum(len(zlib.compress(path.read_bytes())) for path in files) < 15e6  # as the wheel stores them


def test_the_page_lists_all_of_them() -> None:
    page = (shipped_folder() / "README.md").read_text(encoding="utf-8")
    listed = [line.split("`")[1] for line in page.splitlines() if line.startswith("| `")]
    assert sorted(listed) == sorted(shipped_names())


def test_each_predicts_with_the_same_tokens(predictors: dict[str, Predictor]) -> None:
    of_text = {name: predictors[name] for name in shipped_text_models()}
    assert len({predictor.tokenizer.fingerprint for predictor in of_text.values()}) == 1
    for name, predictor in of_text.items():
        probs = predictor.predict_distribution(PROMPT).probs
        np.testing.assert_allclose(probs.sum(), 1, atol=1e-5, err_msg=name)
        assert predictor.species == name
        assert predictor.provenance.corpus == "kjv"
        assert zoo.card(name).title in (shipped_folder() / name / "README.md").read_text(encoding="utf-8")


def test_later_models_are_better_than_the_first(predictors: dict[str, Predictor]) -> None:
    text = "And it came to pass, when Jesus had ended these sayings, the people were astonished at his doctrine:"
    nats = {
        name: -predictors[name].model.log_probs(predictors[name].tokenizer.encode(text)).sum() for name in predictors
    }
    assert nats["uniform"] > nats["unigram"] > nats["hmm"] > nats["ngram"]
    assert nats["unigram"] > nats["transformer"]


def test_chat_models_follow_instructions(predictors: dict[str, Predictor]) -> None:
    for name in ("gpt-3.5", "chat"):
        session = ChatSession(ChatPredictor(predictors[name]), temperature=0)
        assert "light" in "".join(session.reply_to("first word of: light upon waters")), name


def test_there_are_replies_to_vote_on() -> None:
    comparisons = read_comparisons(shipped_comparisons())
    assert len(comparisons) == 300
    assert {comparison.models for comparison in comparisons} == {("sft", "sft")}


def test_a_folder_of_the_same_name_is_preferred(
    markov_predictor: Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_predictor("unigram") == shipped_folder() / "unigram"
    markov_predictor.save("unigram")
    assert Predictor.load("unigram").species == "markov"


def test_an_unknown_name_lists_the_names() -> None:
    with pytest.raises(
        SavedModelError, match=r"no saved predictor in nothing: train one .* comes with lmzoo \(markov, .*ngram"
    ):
        Predictor.load("nothing")


def test_a_folder_of_other_files_gets_no_advice_to_train_into_it(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    with pytest.raises(
        SavedModelError, match=r"no saved predictor in .*: name the folder of a predictor, a GGUF file, "
    ):
        Predictor.load(tmp_path)
    with pytest.raises(SavedModelError, match=r"no saved predictor in \.: name the folder of a predictor, a GGUF file"):
        Predictor.load("")


@pytest.mark.parametrize("name", ["ngrm", "NGRAM"])
def test_a_misspelt_name_gets_the_nearest_name(name: str) -> None:
    with pytest.raises(SavedModelError, match=f"no saved predictor in {name}: did you mean 'ngram'"):
        Predictor.load(name)


def test_the_commands_take_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("text.txt").write_text("And God said, Let there be light: and there was light.\n" * 40, encoding="utf-8")

    def printed(*arguments: str) -> list[dict[str, object]]:
        assert run([*arguments, "--json"]) == 0, capsys.readouterr().err
        return [json.loads(line) for line in capsys.readouterr().out.splitlines()]

    assert [row["species"] for row in printed("predict", PROMPT, "-p", "markov", "-p", "ngram")] == ["markov", "ngram"]
    assert printed("generate", "And", "-p", "ngram", "--seed", "1", "--max-tokens", "3")[0]["predictor"] == "ngram"
    assert printed("evaluate", "unigram", "--corpus", "text.txt")[0]["species"] == "unigram"
    assert len(printed("states", "hmm")) == 64
    assert printed("tokenize", "light", "-t", "ngram")[0]["vocab_size"] == 2048
    assert printed("convert", "ngram", "ngram.arpa")[0]["vocab_size"] == 2048
    assert printed("convert", "ngram.arpa", "back", "--tokenizer", "ngram")[0]["vocab_size"] == 2048


def test_without_a_run_all_of_them_are_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("lmzoo.models.shipped.shipped_text_models", lambda: ("markov", "unigram"))
    assert run(["predict", "And", "-k", "1"]) == 0
    out = capsys.readouterr().out
    assert "markov" in out
    assert "unigram" in out


def test_a_damaged_file_is_an_error(tmp_path: Path) -> None:
    folder = shutil.copytree(shipped_folder() / "unigram", tmp_path / "unigram")
    path = folder / "arrays.safetensors"
    path.write_bytes(path.read_bytes().replace(b"F64", b"F99"))
    with pytest.raises(SavedModelError, match="is damaged"):
        Predictor.load(folder)


@pytest.mark.slow
def test_they_load_without_packages_that_are_slow_to_import() -> None:
    code = (
        "import sys; from lmzoo import Predictor; from lmzoo.models.shipped import shipped_names\n"
        "for name in shipped_names(): Predictor.load(name).top_tokens('the quick brown fox')\n"
        "print({'torch._dynamo', 'sympy', 'scipy.sparse', 'numba'} & sys.modules.keys())"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "set()\n"
