"""The Predictor class: predictions, generation, display, saving, loading, and damaged folders."""

from __future__ import annotations

import errno
import html
import json
import math
import os
import re
import shutil
import sys
import types
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lmzoo import EOT, Decoding, Predictor, Provenance, load_corpus, zoo
from lmzoo.errors import ConfigurationError, LmzooError, MissingExtraError, NotFittedError, TokenIdError, UsageError
from lmzoo.generation import generate
from lmzoo.streaming import PieceDecoder, until_stop
from lmzoo.system.counts import short_count
from lmzoo.tokenizers import train_tokenizer


def test_text_and_ids_give_the_same_prediction(markov_predictor: Predictor) -> None:
    text = "The cat that I"
    ids = markov_predictor.tokenizer.encode(text)
    left, right = markov_predictor.predict_distribution(text), markov_predictor.predict_distribution(ids.tolist())
    np.testing.assert_array_equal(left.log_probs, right.log_probs)
    token, prob = markov_predictor.top_tokens(text, 1)[0]
    best, best_prob = left.top(1)[0]
    assert (token, prob) == (markov_predictor.tokenizer.token_text(best), best_prob)


def test_surprisals_cover_the_text_and_add_up(markov_predictor: Predictor) -> None:
    text = "The fox that I saw was néar 川."
    surprisals = markov_predictor.surprisals(text)
    assert surprisals[-1].token_id == EOT
    assert (surprisals[-1].start, surprisals[-1].text) == (len(text), "")
    ids = [surprisal.token_id for surprisal in surprisals]
    total = -markov_predictor.model.log_probs(ids).sum() / math.log(2)
    assert sum(surprisal.surprisal_bits for surprisal in surprisals) == pytest.approx(total)
    first = markov_predictor.predict_distribution("")
    assert surprisals[0].surprisal_bits == pytest.approx(-first.log_prob(ids[0]) / math.log(2))
    assert surprisals[0].entropy_bits == pytest.approx(first.entropy() / math.log(2))
    assert len(markov_predictor.surprisals(text, end_of_text=False)) == len(surprisals) - 1
    assert len(markov_predictor.surprisals("")) == 1


def test_tokens_that_are_certain_have_a_surprisal_and_an_entropy_of_0(corpus_folder: Path) -> None:
    predictor = Predictor.fit("ngram", corpus_folder, tokenizer="byte", order=12, smoothing="mle")
    text = load_corpus(corpus_folder).train[0].text
    certain = [token for token in predictor.surprisals(text) if token.rank == 1 and token.surprisal_bits == 0]
    assert {(str(token.surprisal_bits), str(token.entropy_bits)) for token in certain} == {("0.0", "0.0")}


@pytest.mark.parametrize("spec", ["word", "word-space", "char", "bpe:300"])
def test_a_space_at_the_end_of_a_prompt_is_not_doubled(spec: str, corpus_folder: Path) -> None:
    predictor = Predictor.fit("ngram", corpus_folder, tokenizer=spec, order=2)
    for prompt in ("The ", "The  ", "The\n"):
        once = predictor.complete(prompt, max_tokens=4, seed=1)
        if spec.startswith("word"):
            assert f" {once}" == predictor.complete("The", max_tokens=4, seed=1)
            assert not once.startswith(" ")
        assert predictor.completions(prompt, n=1, max_tokens=4, seed=1)
        assert "".join(predictor.stream(prompt, max_tokens=4, seed=1)) == once


def test_predictors_and_models_describe_themselves_in_one_line(markov_predictor: Predictor) -> None:
    size = short_count(markov_predictor.model.n_parameters)
    corpus = markov_predictor.provenance.corpus
    assert repr(markov_predictor) == f"<Predictor markov, bpe:300, fitted on {corpus}, {size} parameters>"
    assert repr(markov_predictor.model) == f"<MarkovChain, vocabulary of 300, {size} parameters>"
    empty = Predictor(markov_predictor.tokenizer, zoo.create("markov", 300), "markov")
    assert repr(empty) == "<Predictor markov, bpe:300, not fitted>"


def test_a_notebook_shows_predictors_as_tables(markov_predictor: Predictor) -> None:
    page = markov_predictor._repr_html_()
    for part in (
        "markov",
        "Markov chain (1913)",
        "bpe:300, 300 entries",
        'context in tokens</th><td style="text-align:left">1</td>',
        "fitted on",
    ):
        assert part in page
    imported = replace(markov_predictor, species="<toy>", settings={"x": "<i>"}, provenance=Provenance(source="a&b"))
    page = imported._repr_html_()
    assert "&lt;toy&gt;" in page
    assert "x = &quot;&lt;i&gt;&quot;" in page
    assert "a&amp;b" in page
    assert "fitted on" not in page
    unfitted = Predictor(markov_predictor.tokenizer, zoo.create("markov", 300), "markov")
    assert "not fitted" in unfitted._repr_html_()


def test_a_notebook_shows_surprisals_as_coloured_text(markov_predictor: Predictor) -> None:
    text = "The <b>fox</b> & 川"
    surprisals = markov_predictor.surprisals(text)
    page = surprisals._repr_html_()
    shown = re.sub(r"<[^>]*>", "", page.partition("</div>")[0])
    assert html.unescape(shown) == text + "■"
    assert "<b>" not in page
    assert f"{len(surprisals)} tokens, {surprisals.total_bits:.1f} bits" in page
    assert "Distribution" not in markov_predictor.predict_distribution("The")._repr_html_()
    assert "␣" in markov_predictor.predict_distribution("The")._repr_html_(), "spaces are visible"


def test_surprisals_become_a_data_frame(markov_predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    surprisals = markov_predictor.surprisals("The fox")
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(MissingExtraError, match=r"needs the package 'pandas': pip install 'lmzoo\[pandas\]'"):
        surprisals.to_dataframe()
    monkeypatch.setitem(sys.modules, "pandas", types.SimpleNamespace(DataFrame=lambda rows, columns: (rows, columns)))
    rows, columns = surprisals.to_dataframe()
    assert rows[0]["surprisal_bits"] == surprisals[0].surprisal_bits
    assert markov_predictor.surprisals("", end_of_text=False).to_dataframe() == ([], columns)
    assert list(rows[0]) == columns


def test_completion_is_the_stream_and_repeats_with_its_seed(markov_predictor: Predictor) -> None:
    text = markov_predictor.complete("The ", max_tokens=40, seed=5)
    assert text == "".join(markov_predictor.stream("The ", max_tokens=40, seed=5))
    assert text == markov_predictor.complete("The ", max_tokens=40, seed=5)
    assert text != markov_predictor.complete("The ", max_tokens=40, seed=6)
    assert markov_predictor.complete("The ", max_tokens=0) == ""


def test_completion_decodes_as_a_whole(markov_predictor: Predictor) -> None:
    """The pieces of a stream join to the text of all ids decoded at once, even with broken characters among them."""
    hot = Decoding(temperature=8.0)  # nearly uniform: samples bytes that form no character
    for seed in range(5):
        prompt = markov_predictor.tokenizer.encode("The ")
        tokens = generate(markov_predictor.model, prompt, rng=seed, decoding=hot, max_tokens=60)
        ids = [token.token_id for token in tokens]
        whole = markov_predictor.tokenizer.decode([*prompt.tolist(), *(i for i in ids if i != EOT)])
        assert "The " + markov_predictor.complete("The ", max_tokens=60, seed=seed, temperature=8.0) == whole


def test_completions_differ_and_repeat_with_their_seed(markov_predictor: Predictor) -> None:
    texts = markov_predictor.completions("The ", n=4, max_tokens=40, seed=5)
    assert len(set(texts)) == 4
    assert texts == markov_predictor.completions("The ", n=4, max_tokens=40, seed=5)
    stopped = markov_predictor.completions("The ", n=4, max_tokens=40, seed=5, stop=["t"])
    assert stopped == [text.partition("t")[0] for text in texts]
    with pytest.raises(ConfigurationError, match="n must be a whole number of at least 1, got 0"):
        markov_predictor.completions("The ", n=0)
    with pytest.raises(ConfigurationError, match="at least one character"):
        markov_predictor.completions("The ", n=2, stop=[""])


def test_temperature_0_takes_the_most_likely_token(markov_predictor: Predictor) -> None:
    first = markov_predictor.complete("The", max_tokens=1, temperature=0)
    assert first == markov_predictor.top_tokens("The", 1)[0][0]
    assert markov_predictor.completions("The", n=2, max_tokens=1, temperature=0) == [first, first]


def test_sampling_settings_are_those_of_a_decoding(markov_predictor: Predictor) -> None:
    settings: dict[str, Any] = {"temperature": 1.5, "top_k": 40, "top_p": 0.9, "min_p": 0.01}
    tokens = generate(markov_predictor.model, rng=1, decoding=Decoding(**settings), max_tokens=30)
    text = markov_predictor.tokenizer.decode([token.token_id for token in tokens if token.token_id != EOT])
    assert markov_predictor.complete(max_tokens=30, seed=1, **settings) == text
    assert "".join(markov_predictor.stream(max_tokens=30, seed=1, **settings)) == text
    with pytest.raises(ConfigurationError, match="temperature must be"):
        markov_predictor.stream("The", temperature=-1)


@pytest.mark.parametrize(
    ("pieces", "stop", "expected"),
    [
        (["ab", "cd", "ef"], ["de"], "abc"),
        (["ab", "c"], ["bcd"], "abc"),
        (["a", "b", "a", "b", "c"], ["abc"], "ab"),
        (["xyz"], ["z", "y"], "x"),
        (["xyz"], [], "xyz"),
        ([], ["a"], ""),
    ],
)
def test_stop_strings_may_span_pieces(pieces: list[str], stop: list[str], expected: str) -> None:
    assert "".join(until_stop(pieces, stop)) == expected


def test_pieces_have_the_character_in_which_the_ids_of_a_prompt_end() -> None:
    tokenizer = train_tokenizer("byte", [])
    ids = tokenizer.encode("a €b").tolist()
    for n_prompt in range(len(ids)):
        decoder = PieceDecoder(tokenizer, ids[:n_prompt])
        expected = "a €b"[n_prompt:] if n_prompt < 3 else "€b" if n_prompt < 5 else "b"
        assert "".join(decoder.pieces(ids[n_prompt:])) == expected


@pytest.mark.parametrize("spec", ["byte", "char", "bpe:300"])
def test_a_replacement_character_of_the_prompt_is_not_repeated(spec: str) -> None:
    tokenizer = train_tokenizer(spec, "the cat sat on the mat")
    ids = tokenizer.encode("the \ufffd\ufffd😀").tolist()
    for n_prompt in (len(ids) - 1, len(ids) - 3):
        assert "".join(PieceDecoder(tokenizer, ids[:n_prompt]).pieces(ids[n_prompt:])) == "😀"


def test_empty_stop_string(markov_predictor: Predictor) -> None:
    with pytest.raises(ConfigurationError, match="at least one character"):
        markov_predictor.complete("The", stop=[""])


def test_saved_and_loaded(markov_predictor: Predictor, saved: Path) -> None:
    assert {path.name for path in saved.iterdir()} == {
        "predictor.json",
        "tokenizer.json",
        "arrays.safetensors",
        "README.md",
        "training_sample.safetensors",
    }
    loaded = Predictor.load(saved)
    assert (loaded.species, loaded.settings, loaded.provenance) == ("markov", {}, markov_predictor.provenance)
    for context in ("", "The cat", "日本語"):
        np.testing.assert_array_equal(
            loaded.predict_distribution(context).log_probs, markov_predictor.predict_distribution(context).log_probs
        )


def test_a_label_is_saved_and_old_files_have_none(markov_predictor: Predictor, tmp_path: Path) -> None:
    home = replace(markov_predictor, label="mine").save(tmp_path / "home")
    assert Predictor.load(home).label == "mine"
    description = json.loads((home / "predictor.json").read_text(encoding="utf-8"))
    del description["label"]
    (home / "predictor.json").write_text(json.dumps(description), encoding="utf-8")
    assert Predictor.load(home).label == ""


def test_unknown_provenance_is_none_and_not_0(markov_predictor: Predictor, tmp_path: Path) -> None:
    imported = replace(markov_predictor, provenance=Provenance(source="model.arpa"))
    loaded = Predictor.load(imported.save(tmp_path / "home"))
    made = loaded.provenance
    assert (made.seed, made.n_train_tokens, made.fit_seconds, made.corpus) == (None, None, None, None)
    assert "seed" not in (tmp_path / "home" / "README.md").read_text(encoding="utf-8")
    assert repr(loaded).startswith("<Predictor markov, bpe:300, read from model.arpa, ")


def test_saving_replaces_a_predictor_and_nothing_else(markov_predictor: Predictor, tmp_path: Path) -> None:
    home = tmp_path / "home"
    markov_predictor.save(home)
    markov_predictor.save(home)
    assert [path.name for path in tmp_path.iterdir()] == ["home"]
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work", encoding="utf-8")
    with pytest.raises(UsageError, match="holds other files"):
        markov_predictor.save(tmp_path / "mine")
    assert (tmp_path / "mine" / "thesis.txt").exists()
    for file in (tmp_path / "mine" / "thesis.txt", os.devnull):
        with pytest.raises(UsageError, match="is a file, but a predictor is saved in a folder"):
            markov_predictor.save(file)


def test_saving_keeps_the_files_of_the_user(markov_predictor: Predictor, tmp_path: Path) -> None:
    home = markov_predictor.save(tmp_path / "home")
    (home / "notes.txt").write_text("my notes", encoding="utf-8")
    (home / "plots").mkdir()
    (home / "plots" / "a.svg").write_text("<svg/>", encoding="utf-8")
    (home / "notes.txt").chmod(0o444)
    (home / "link").symlink_to("nowhere")
    (home / "history.jsonl").write_text("", encoding="utf-8")  # as an earlier network leaves it
    before = (home / "arrays.safetensors").stat().st_ino
    markov_predictor.save(home)
    assert (home / "arrays.safetensors").stat().st_ino != before
    assert (home / "notes.txt").read_text(encoding="utf-8") == "my notes"
    assert (home / "plots" / "a.svg").read_text(encoding="utf-8") == "<svg/>"
    assert (home / "link").is_symlink()
    assert not (home / "history.jsonl").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["home"]


def test_a_failed_save_leaves_the_old_one(
    markov_predictor: Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    markov_predictor.save(home)

    def full_disk(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("lmzoo.predictor.save_arrays", full_disk)
    with pytest.raises(LmzooError, match="No space left on device; free some space"):
        markov_predictor.save(home)
    assert [path.name for path in tmp_path.iterdir()] == ["home"]
    assert Predictor.load(home).species == "markov"


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def _edit(path: Path, **changes: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | changes), encoding="utf-8")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda home: (home / "predictor.json").unlink(), "no saved predictor in"),
        (lambda home: (home / "arrays.safetensors").unlink(), "arrays.safetensors is missing"),
        (lambda home: _truncate(home / "arrays.safetensors"), "arrays.safetensors is damaged"),
        (lambda home: _truncate(home / "predictor.json"), "predictor.json is damaged"),
        (lambda home: _truncate(home / "tokenizer.json"), "tokenizer.json"),
        (lambda home: (home / "predictor.json").write_text("[]", encoding="utf-8"), "predictor.json is damaged"),
        (lambda home: _edit(home / "predictor.json", format_version=99), "has format 99"),
        (lambda home: _edit(home / "predictor.json", species="markow"), "did you mean 'markov'"),
        (lambda home: _edit(home / "predictor.json", tokenizer_fingerprint="0"), "is not the tokenizer"),
        (lambda home: _edit(home / "predictor.json", species="unigram"), "the saved model lacks the array"),
    ],
)
def test_damaged_folders_raise_a_clear_error(
    saved: Path, tmp_path: Path, damage: Callable[[Path], object], message: str
) -> None:
    home = tmp_path / "home"
    shutil.copytree(saved, home)
    damage(home)
    with pytest.raises(LmzooError, match=message) as caught:
        Predictor.load(home)
    assert "\n" not in str(caught.value)


def test_bad_ids_and_settings(markov_predictor: Predictor) -> None:
    with pytest.raises(TokenIdError, match="outside the vocabulary"):
        markov_predictor.predict_distribution([10**6])
    with pytest.raises(UsageError, match="unknown markov setting 'alpa': did you mean 'alpha'"):
        Predictor.fit("markov", "kjv", tokenizer=markov_predictor.tokenizer, alpa=1)


def test_unfitted_model_cannot_predict(markov_predictor: Predictor) -> None:
    empty = Predictor(markov_predictor.tokenizer, zoo.create("markov", 300), "markov")
    with pytest.raises(NotFittedError, match="call fit first"):
        empty.predict_distribution("a")


def test_parameters_are_the_settings_of_the_model(corpus_folder: Path) -> None:
    predictor = Predictor.fit("ngram", corpus_folder, tokenizer="bpe:300", order=2)
    params = predictor.get_params(deep=False)
    assert (params["species"], params["order"]) == ("ngram", 2)
    assert params == {"species": "ngram", **zoo.defaults("ngram"), "order": 2}


def test_the_score_is_minus_the_bits_per_byte(markov_predictor: Predictor, corpus_folder: Path) -> None:
    texts = [path.read_text(encoding="utf-8") for path in sorted(corpus_folder.glob("*.txt"))[:3]]
    nats = -sum(markov_predictor.model.log_probs([*markov_predictor.tokenizer.encode(text), 0]).sum() for text in texts)
    expected = -nats / math.log(2) / sum(len(text.encode()) for text in texts)
    assert markov_predictor.score(texts) == pytest.approx(expected, rel=1e-12)
    assert markov_predictor.score(texts[0]) == pytest.approx(markov_predictor.score(texts[:1]), rel=1e-12)
    for nothing in ([], "", [""]):
        with pytest.raises(UsageError, match="there is no text"):
            markov_predictor.score(nothing)
    lossy = Predictor.fit("unigram", corpus_folder, tokenizer="word:1")
    with pytest.raises(UsageError, match="the tokenizer word:1 loses parts of texts"):
        lossy.score(texts)
