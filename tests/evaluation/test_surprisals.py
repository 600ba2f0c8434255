"""Surprisals of words and tokens: what they are, and that they do not depend on what else is measured."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers
from tokenizers import models

from lmzoo import EOT, Predictor, train_tokenizer, zoo
from lmzoo.errors import ConfigurationError, UnknownNameError, UsageError
from lmzoo.evaluation.surprisals import SurprisalTable, measure, scoring, stream_surprisals, surprisal_table
from lmzoo.evaluation.surprisals.contexts import Scope, from_texts
from lmzoo.evaluation.surprisals.table import COUNTS
from lmzoo.metrics import bits
from lmzoo.models.baselines import uniform
from lmzoo.tokenizers import adopt_tokenizer

TEXTS = ["And God said,  Let there\nbe light: néar 川.", "In the beginning \n", "the"]


def uniform_predictor(tokenizer: Any) -> Predictor:
    return Predictor(tokenizer, uniform(tokenizer.vocab_size).fit(_two_documents()), "uniform")


def _two_documents() -> Any:
    from lmzoo.stream import TokenStream, TrainingData

    stream = TokenStream.from_documents([[1], [1]])
    return TrainingData(stream, stream)


@pytest.fixture(scope="module")
def shipped() -> dict[str, Predictor]:
    return {name: Predictor.load(name) for name in ("ngram", "lstm")}


def test_bits_of_a_uniform_model_by_hand() -> None:
    table = surprisal_table(uniform_predictor(train_tokenizer("byte", [])), "ab c", end_of_text=True)
    # 257 tokens: the bytes, 5 of which separate words, and EOT. A word ends before 6 of them: B = 6/257. A text does
    # not begin with white space with probability 252/257. "ab" has the tokens a, b; "c" has " ", c; the end has EOT.
    token, end, first = math.log2(257), math.log2(257 / 6), math.log2(257 / 252)
    assert table["word"].tolist() == ["ab", "c", ""]
    np.testing.assert_allclose(table["sum"], [2 * token, 2 * token, token], rtol=1e-12)
    np.testing.assert_allclose(table["corrected"], [2 * token + end - first, 2 * token, token - end], rtol=1e-12)
    np.testing.assert_allclose(table["corrected"].sum(), table["sum"].sum() - first, rtol=1e-12)
    np.testing.assert_allclose(table["entropy"], token, rtol=1e-12)
    np.testing.assert_allclose(table["entropy_reduction"], [0, 0, np.nan], atol=1e-12)
    assert table["n_tokens"].tolist() == [2, 2, 1]
    np.testing.assert_array_equal(table["rank"], [np.nan, np.nan, 1])
    assert [table[name].tolist() for name in ("position", "start", "end")] == [[1, 2, 3], [0, 3, 4], [2, 4, 4]]


def test_a_text_that_begins_with_white_space_has_no_correction_of_its_start() -> None:
    table = surprisal_table(uniform_predictor(train_tokenizer("byte", [])), "\n ab\n", end_of_text=True)
    token, end = math.log2(257), math.log2(257 / 6)
    np.testing.assert_allclose(table["sum"], [4 * token, 2 * token], rtol=1e-12)
    np.testing.assert_allclose(table["corrected"], [4 * token + end, 2 * token - end], rtol=1e-12)


def test_white_space_at_the_end_of_a_token_ends_the_word(monkeypatch: pytest.MonkeyPatch) -> None:
    entries = ["<|endoftext|>", *tokenizers.pre_tokenizers.ByteLevel.alphabet(), ".Ċ"]
    backend = tokenizers.Tokenizer(models.BPE({entry: i for i, entry in enumerate(entries)}, [(".", "Ċ")]))
    backend.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = tokenizers.decoders.ByteLevel()
    predictor = uniform_predictor(adopt_tokenizer(backend.to_str(), eot_id=0, vocab_size=258))
    table = surprisal_table(predictor, "a.\nb")
    token, end, first = math.log2(258), math.log2(258 / 6), math.log2(258 / 253)
    np.testing.assert_allclose(table["sum"], [2 * token, token], rtol=1e-12)
    np.testing.assert_allclose(table["corrected"], [2 * token - first, token + end], rtol=1e-12)


@pytest.mark.parametrize("name", ["ngram", "lstm"])
def test_tokens_are_those_of_predictor_surprisals(name: str, shipped: dict[str, Predictor]) -> None:
    table = surprisal_table(shipped[name], TEXTS, by="token", end_of_text=True)
    expected = [(number, token) for number, text in enumerate(TEXTS, 1) for token in shipped[name].surprisals(text)]
    assert table["context"].tolist() == [number for number, _ in expected]
    for column, field in [
        ("token", "text"),
        ("token_id", "token_id"),
        ("start", "start"),
        ("end", "end"),
        ("rank", "rank"),
    ]:
        assert table[column].tolist() == [getattr(token, field) for _, token in expected]
    np.testing.assert_array_equal(table["surprisal"], [token.surprisal_bits for _, token in expected])
    np.testing.assert_array_equal(table["entropy"], [token.entropy_bits for _, token in expected])
    ends = np.flatnonzero(table["token_id"] == EOT)
    assert np.isnan(table["entropy_reduction"][ends]).all()
    assert np.isnan(table["word_position"][ends]).all()
    here = np.setdiff1d(np.arange(len(table)), ends)
    np.testing.assert_array_equal(table["entropy_reduction"][here], table["entropy"][here] - table["entropy"][here + 1])
    assert table["position"][: ends[0] + 1].tolist() == list(range(1, ends[0] + 2))


@pytest.mark.parametrize("name", ["ngram", "lstm"])
def test_words_are_sums_of_their_tokens(name: str, shipped: dict[str, Predictor]) -> None:
    tokens = surprisal_table(shipped[name], TEXTS, by="token", end_of_text=True)
    words = surprisal_table(shipped[name], TEXTS, end_of_text=True)
    assert words["word"].tolist() == [word for text in TEXTS for word in [*text.split(), ""]]
    for row in range(len(words)):
        inside = tokens["context"] == words["context"][row]
        at = tokens["word_position"] == words["position"][row]
        inside &= at if words["word"][row] else np.isnan(tokens["word_position"])
        assert words["sum"][row] == pytest.approx(tokens["surprisal"][inside].sum(), rel=1e-12)
        assert words["n_tokens"][row] == inside.sum()
        assert words["entropy"][row] == tokens["entropy"][inside][0]
    ends = words["word"] == ""
    after = np.append(words["entropy"][1:], np.nan)
    np.testing.assert_array_equal(words["entropy_reduction"][~ends], (words["entropy"] - after)[~ends])


@pytest.mark.parametrize("name", ["ngram", "lstm"])
def test_corrections_are_those_of_whole_distributions(name: str, shipped: dict[str, Predictor]) -> None:
    predictor, text = shipped[name], TEXTS[0]
    tokenizer, words = predictor.tokenizer, surprisal_table(predictor, text)
    ids = tokenizer.encode(text)
    separating = [tokenizer.token_bytes(i)[:1] in b"\0\t\n\r " for i in range(tokenizer.vocab_size)]  # b"" for EOT

    def ending(n_tokens: int) -> float:
        return -math.log2(np.exp(predictor.predict_distribution(ids[:n_tokens]).log_probs)[separating].sum())

    start = np.exp(predictor.predict_distribution().log_probs)
    begins = np.array(separating)
    begins[EOT] = False
    before, read = -math.log2(start[~begins].sum()), 0
    for row in range(len(words)):
        read += words["n_tokens"][row]
        after = ending(read)
        assert words["corrected"][row] == pytest.approx(words["sum"][row] + after - before, abs=1e-4)
        before = after


@pytest.mark.parametrize("by", ["word", "token"])
@pytest.mark.parametrize("context", ["document", "sentence", "window:3"])
def test_numbers_do_not_depend_on_what_else_is_measured(
    by: Any, context: str, shipped: dict[str, Predictor], monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = [*TEXTS, "In the beginning God created the heaven and the earth.", *TEXTS]
    together = surprisal_table(shipped, texts, by=by, context=context)
    monkeypatch.setattr(measure, "_BATCH_CHARACTERS", 1)
    one_by_one = surprisal_table(shipped, texts, by=by, context=context)
    for name, column in together.columns.items():
        np.testing.assert_array_equal(one_by_one[name], column, err_msg=name)
    scope, n_before = Scope.parse(context), 0
    for text in texts:
        alone = surprisal_table(shipped, text, by=by, context=context)
        there = slice(n_before, n_before + len(alone))
        for name in {*alone.columns} - {"document", "context"}:
            np.testing.assert_array_equal(alone[name], together[name][there], err_msg=name)
        n_before += len(alone)
    assert n_before == len(together)
    assert scope.by_sentence == (len(np.unique(together["context"])) > len(texts))


def test_rows_of_several_predictors_follow_each_other_in_every_context(shipped: dict[str, Predictor]) -> None:
    table = surprisal_table(shipped, TEXTS)
    order = [*dict.fromkeys(zip(table["context"].tolist(), table["predictor"].tolist(), strict=True))]
    assert order == [(number, name) for number in (1, 2, 3) for name in ("ngram", "lstm")]
    for name, predictor in shipped.items():
        alone, here = surprisal_table({name: predictor}, TEXTS), table["predictor"] == name
        for column in alone.columns:
            np.testing.assert_array_equal(alone[column], table[column][here])


@pytest.mark.parametrize("name", ["ngram", "lstm"])
@pytest.mark.parametrize("window", [1, 3, 50])
def test_a_window_is_read_like_the_start_of_a_document(
    name: str, window: int, shipped: dict[str, Predictor], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scoring, "_WINDOW_IDS", 20)  # several readings of a text
    predictor, text = shipped[name], TEXTS[0]
    table = surprisal_table(predictor, text, by="token", context=f"window:{window}", end_of_text=True)
    ids = [*predictor.tokenizer.encode(text).tolist(), EOT]
    for row, token_id in enumerate(ids):
        distribution = predictor.predict_distribution(ids[max(0, row - window) : row])
        assert table["surprisal"][row] == pytest.approx(-bits(distribution.log_prob(token_id)), abs=1e-4)
        assert table["entropy"][row] == pytest.approx(bits(distribution.entropy()), abs=1e-4)


def test_each_line_is_a_context_with_the_positions_of_the_whole_text(shipped: dict[str, Predictor]) -> None:
    text = "Let there be light.\n\n \r\nIn the\n"
    table = surprisal_table(shipped["ngram"], text, context="sentence")
    assert table["context"].tolist() == [1] * 4 + [2] * 2
    words = [text[start:end] for start, end in zip(table["start"], table["end"], strict=True)]
    assert words == table["word"].tolist() == text.split()
    alone = surprisal_table(shipped["ngram"], "In the")
    np.testing.assert_array_equal(table["sum"][4:], alone["sum"])


def test_word_tokenizers(caplog: pytest.LogCaptureFixture) -> None:
    separated = uniform_predictor(train_tokenizer("word-space:1", ["a b."]))
    table = surprisal_table(separated, "b. a z")
    np.testing.assert_array_equal(table["corrected"], table["sum"])
    assert table["n_tokens"].tolist() == [1, 1, 1]
    assert "1 of 4 tokens are unknown words" in caplog.text
    divided = uniform_predictor(train_tokenizer("word:1", ["a b."]))
    table = surprisal_table(divided, "b. a")
    assert table["n_tokens"].tolist() == [2, 1]
    assert np.isnan(table["corrected"]).all()
    assert "drops white space" in caplog.text
    assert surprisal_table(separated, "z b.", by="token")["token"].tolist() == ["z", "b."], "not <unk>"


def test_words_that_share_a_token_have_no_surprisal() -> None:
    entries = ["<|endoftext|>", *tokenizers.pre_tokenizers.ByteLevel.alphabet(), "aĠ", "aĠb"]
    merges = [("a", "Ġ"), ("aĠ", "b")]
    backend = tokenizers.Tokenizer(models.BPE({entry: i for i, entry in enumerate(entries)}, merges))
    backend.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = tokenizers.decoders.ByteLevel()
    table = surprisal_table(uniform_predictor(adopt_tokenizer(backend.to_str(), eot_id=0, vocab_size=259)), "c a b d")
    for name in ("sum", "corrected", "entropy", "rank"):
        assert np.isnan(table[name][1:3]).all(), name
    assert not np.isnan(table["sum"][[0, 3]]).any()


def test_impossible_words_have_an_infinite_surprisal(corpus_folder: Path) -> None:
    predictor = Predictor.fit("ngram", corpus_folder, tokenizer="bpe:300", order=2, smoothing="mle")
    table = surprisal_table(predictor, "The cat zzz")
    assert table["sum"][-1] == math.inf
    assert next(row for row in table.rows() if row["word"] == "zzz")["sum"] == math.inf
    assert np.isfinite(table["sum"][0])


def test_texts_without_words(shipped: dict[str, Predictor]) -> None:
    assert len(surprisal_table(shipped["ngram"], ["", " \n"])) == 0
    assert len(surprisal_table(shipped["ngram"], [])) == 0
    for by in ("word", "token"):
        empty, full = (surprisal_table(shipped["ngram"], text, by=by).columns for text in ("", "a"))
        assert [*empty] == [*full]
        for name, column in empty.items():
            assert column.dtype == full[name].dtype or (name in COUNTS and column.dtype == np.int64), name
    both = surprisal_table(shipped["ngram"], ["", "a"])
    assert (both["document"].tolist(), both["context"].tolist()) == (["2"], [1])


def test_a_table_as_rows_and_as_a_data_frame(shipped: dict[str, Predictor]) -> None:
    pandas = pytest.importorskip("pandas")
    table = surprisal_table(shipped["ngram"], "And anthropoid", end_of_text=True)
    rows = [*table.rows()]
    assert [row["rank"] is None for row in rows] == [n > 1 for n in table["n_tokens"].tolist()]
    assert rows[-1]["entropy_reduction"] is None
    frame = table.to_dataframe()
    assert frame["rank"].isna().tolist() == [row["rank"] is None for row in rows]
    assert frame["sum"].tolist() == table["sum"].tolist()
    assert pandas.api.types.is_integer_dtype(frame["rank"])


def test_predictors_by_name_path_and_object(saved: Path, markov_predictor: Predictor) -> None:
    tables = [surprisal_table(source, "The cat") for source in (str(saved), saved, [markov_predictor])]
    tables.append(surprisal_table({"markov": saved}, (text for text in ["The cat"])))
    for table in tables:
        assert table["predictor"].tolist() == ["markov"] * 2
        np.testing.assert_array_equal(table["sum"], tables[0]["sum"])


def test_progress_is_reported_up_to_the_end(shipped: dict[str, Predictor], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "_BATCH_CHARACTERS", 1)
    reports: list[Any] = []
    tables = stream_surprisals(shipped, from_texts(TEXTS, Scope()), on_progress=reports.append)
    assert sum(map(len, tables)) > 0
    done = [report.done for report in reports]
    assert done == sorted(done)
    assert done[-1] == reports[-1].total == len("".join(TEXTS).encode())


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"by": "sentence"}, UnknownNameError, "unknown by 'sentence'"),
        ({"context": "window:0"}, ConfigurationError, "at least 1, as in 'window:64'; got 'window:0'"),
        ({"context": "paragraph"}, ConfigurationError, "got 'paragraph'"),
        ({"context": "document:3"}, ConfigurationError, "got 'document:3'"),
        ({"context": "window:" + "9" * 5000}, ConfigurationError, r"as in 'window:64'; got 'window:9+\.\.\.9+'$"),
        ({"context": None}, ConfigurationError, "got None"),
        ({"predictors": []}, UsageError, "name at least one predictor"),
        ({"predictors": {}}, UsageError, "name at least one predictor"),
        ({"predictors": None}, UsageError, "a predictor must be a Predictor, or the path or name of one, got None"),
        ({"predictors": ["markov", 5]}, UsageError, "or the path or name of one, got 5"),
        ({"predictors": {"a": None}}, UsageError, "or the path or name of one, got None"),
        ({"texts": None}, UsageError, "a text must be a str, got None"),
        ({"texts": ["a", b"b"]}, UsageError, "a text must be a str, got b'b'"),
    ],
)
def test_wrong_arguments(arguments: dict[str, Any], error: type[Exception], message: str, saved: Path) -> None:
    with pytest.raises(error, match=message):
        surprisal_table(**{"predictors": saved, "texts": "a", **arguments})
    with pytest.raises(UsageError, match="two predictors have the name 'markov'"):
        surprisal_table([saved, saved], "a")


def test_joined_tables_keep_their_columns() -> None:
    empty = SurprisalTable.joined([], ["a", "b"])
    assert (len(empty), [*empty.columns]) == (0, ["a", "b"])


def test_models_that_round_differently_in_batches_are_read_one_by_one() -> None:
    assert not zoo.create("lstm", 20).exact_in_batches
    assert zoo.create("ngram", 20).exact_in_batches
