"""Corpora that the user adds to the registry: they load by name everywhere, and changed texts are refused."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest
from corpora_on_disk import texts, write

from lmzoo import Predictor, cli, evaluate
from lmzoo.corpora import add_corpus, added, corpus_card, is_available, list_corpora, load_corpus, remove_corpus
from lmzoo.corpora.corpus import Size
from lmzoo.errors import CorpusError, UnknownNameError, UsageError
from lmzoo.system.progress import Progress


@pytest.fixture(autouse=True)
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty registry for one test."""
    folder = tmp_path / "registry" / "corpora"
    monkeypatch.setattr(added, "folder", lambda: folder)
    monkeypatch.chdir(tmp_path)
    return folder


def letters(folder: Path) -> Path:
    """Writes a folder of texts with a README and a licence."""
    for number in range(20):
        write(folder / f"{number:02}.txt", f"The {number} of us went to the sea. " * 20)
    write(folder / "README.md", "# Letters from the sea\n")
    write(folder / "LICENSE", "CC BY 4.0\n")
    return folder


def test_an_added_corpus_loads_by_its_name_in_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    of_folder = load_corpus(letters(Path("texts")))
    card = add_corpus("letters", ["texts"])
    assert (card.title, card.licence, card.provider) == ("Letters from the sea", "CC BY 4.0", "own")
    assert card == corpus_card("letters") == list_corpora()[-1]
    assert is_available(card)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    seen: list[Progress] = []
    corpus = load_corpus("letters", seen.append)
    assert corpus.fingerprint == of_folder.fingerprint
    assert seen[-1].done == seen[-1].total == Size.of([*itertools.chain(*corpus.splits.values())]).bytes
    assert (corpus.name, corpus.title, corpus.licence) == ("letters", "Letters from the sea", "CC BY 4.0")
    assert corpus.protocol == of_folder.protocol == card.protocols["default"].rule

    predictor = Predictor.fit("ngram", "letters", tokenizer="word", order=2)
    assert evaluate(predictor, "letters").corpus == "letters"
    assert evaluate(predictor).n_documents == 2, "the predictor remembers the name of its corpus"


def test_changed_texts_are_refused_until_they_are_added_again() -> None:
    folder = letters(Path("texts"))
    add_corpus("letters", [folder])
    write(folder / "20.txt", "One more.")
    with pytest.raises(
        CorpusError, match=r"'letters' has changed since .*`lmzoo corpus add letters /.*/texts`"
    ) as told:
        load_corpus("letters")
    assert "\n" not in str(told.value)
    add_corpus("letters", [folder])
    assert "One more." in texts(load_corpus("letters"))
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    assert not is_available(corpus_card("letters"))
    with pytest.raises(CorpusError, match=r"there is no file or folder /.*/texts"):
        load_corpus("letters")


def test_a_field_is_part_of_the_corpus() -> None:
    write(Path("a.jsonl"), "".join(f'{{"content": "text {number}"}}\n' for number in range(5)))
    add_corpus("mine", ["a.jsonl:content"])
    assert texts(load_corpus("mine")) == [f"text {number}" for number in range(5)]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("kjv", "'kjv' is the name of a corpus of lmzoo"),
        ("source", "'source' is the name of a corpus of lmzoo"),
        ("Mine", "use small letters, digits, dots, dashes and underscores"),
        ("a:b", "use small letters"),
        ("../a", "use small letters"),
        ("", "use small letters"),
        ("x" * 200, "use small letters"),
    ],
)
def test_wrong_names(name: str, message: str, registry: Path) -> None:
    letters(Path("texts"))
    with pytest.raises(UsageError, match=message):
        add_corpus(name, ["texts"])
    assert not registry.exists()


def test_a_name_belongs_to_one_corpus() -> None:
    letters(Path("texts"))
    letters(Path("other"))
    add_corpus("letters", ["texts"])
    with pytest.raises(UsageError, match=r"'letters' has other files \(/.*/texts\): choose another name"):
        add_corpus("letters", ["other"])
    remove_corpus("letters")
    add_corpus("letters", ["other"])
    with pytest.raises(UnknownNameError, match="unknown added corpus 'lettrs': did you mean 'letters'"):
        remove_corpus("lettrs")
    with pytest.raises(UnknownNameError, match="did you mean 'letters'"):
        load_corpus("lettrs")
    with pytest.raises(UsageError, match="standard input cannot be added"):
        add_corpus("in", ["-"])
    with pytest.raises(CorpusError, match="there is no file or folder"):
        add_corpus("none", ["no-such-folder"])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is damaged: "),
        ('{"version": 1}', "is damaged: the field 'paths' is missing; run `lmzoo corpus remove letters`, and add"),
        (None, "was written by another version of lmzoo: run `lmzoo corpus remove letters`, and add the corpus again"),
    ],
)
def test_a_damaged_registry_is_told(registry: Path, content: str | None, message: str) -> None:
    letters(Path("texts"))
    add_corpus("letters", ["texts"])
    path = registry / "letters.json"
    path.write_text(content or json.dumps(json.loads(path.read_text()) | {"version": 2}))
    with pytest.raises(CorpusError, match=message) as told:
        load_corpus("letters")
    assert "\n" not in str(told.value)
    assert load_corpus("kjv").name == "kjv"
    remove_corpus("letters")
    add_corpus("letters", ["texts"])


def test_a_damaged_description_does_not_hide_the_other_corpora(
    registry: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("first", "last"):
        add_corpus(name, [letters(Path(name))])
    write(registry / "damaged.json", "{")
    assert [card.name for card in list_corpora() if card.provider == "own"] == ["first", "last"]
    (warning,) = caplog.messages
    assert "damaged.json is damaged" in warning
    assert warning.endswith("run `lmzoo corpus remove damaged`, and add the corpus again")
    with pytest.raises(UnknownNameError, match="unknown corpus or file 'lst': did you mean 'last'"):
        load_corpus("lst")


def test_commands(capsys: pytest.CaptureFixture[str]) -> None:
    letters(Path("texts"))
    assert cli.run(["corpus", "add", "letters", "texts"]) == 0
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "added letters (0.0 MB of text), licence: CC BY 4.0; use it as --corpus letters" in captured.err
    assert cli.run(["corpus", "add", "letters", "texts", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["fingerprint"] == load_corpus("letters").fingerprint
    assert cli.run(["corpus", "list", "--json"]) == 0
    (row,) = [row for row in json.loads(capsys.readouterr().out) if row["name"] == "letters"]
    assert (row["provider"], row["available"], row["title"]) == ("own", True, "Letters from the sea")
    assert cli.run(["corpus", "info", "letters", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["splits"]["train"]["documents"] == 16
    assert cli.run(["fit", "unigram", "--corpus", "letters", "--tokenizer", "byte", "--out", "model"]) == 0
    assert cli.run(["evaluate", "model", "--corpus", "letters", "--json"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["corpus"] == "letters"
    assert cli.run(["corpus", "remove", "letters", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"name": "letters"}
    assert cli.run(["corpus", "info", "letters"]) == 2
    assert "unknown corpus or file 'letters'" in capsys.readouterr().err
