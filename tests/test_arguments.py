"""Arguments by value: numbers, ids and counts that Python or NumPy would convert in silence are refused."""

from __future__ import annotations

import math
import re
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lmzoo import (
    Decoding,
    Distribution,
    Predictor,
    TokenStream,
    TrainingData,
    evaluate,
    load_corpus,
    surprisal_table,
    train_tokenizer,
    zoo,
)
from lmzoo.checks import check_seed
from lmzoo.corpora import Corpus, Document
from lmzoo.corpora.encoded import encode_corpus
from lmzoo.errors import (
    ConfigurationError,
    LmzooError,
    SavedModelError,
    TokenIdError,
    TokenizerError,
    UnknownNameError,
    UsageError,
)
from lmzoo.experiments.align.plan import AlignPlan
from lmzoo.experiments.plan import RunPlan
from lmzoo.generation import generate, generate_batch
from lmzoo.stream import as_id, as_ids
from lmzoo.tokenizers import open_tokenizer

NO_WHOLE_NUMBERS: list[Any] = [math.nan, math.inf, 1.5, 2.0, 1e308, True, np.bool_(True), "1", b"1", [1], 1j, {}]
NO_NUMBERS: list[Any] = [math.nan, math.inf, True, np.bool_(True), "1", None, [1], 1j, 10**400]
NO_IDS: dict[str, Any] = {
    "fractions": [1.7, 2.2], "whole floats": [1.0, 2.0], "texts": ["1", "2"], "truth values": [True, False],
    "a truth value": [1, True], "numpy's truth value": [1, np.bool_(True)], "NaN": [math.nan], "large": [10**30],
    "33 bits": [2**32], "None within": [None], "None": None, "two axes": [[1]], "ragged": [[1], [2, 3]], "a number": 5,
    "a set": {1}, "bytes": b"1", "bytearray": bytearray(b"the"), "float array": np.array([1.0]),
    "bool array": np.array([True]), "unsigned": np.array([2**63], np.uint64),
}  # fmt: skip


@pytest.mark.parametrize("value", [*NO_WHOLE_NUMBERS, 0, -1], ids=repr)
def test_top_k(value: Any) -> None:
    with pytest.raises(ConfigurationError, match="top_k must be a whole number of at least 1, got"):
        Decoding(top_k=value)


@pytest.mark.parametrize("name", ["temperature", "top_p", "min_p"])
@pytest.mark.parametrize("value", NO_NUMBERS, ids=lambda value: repr(value)[:10])
def test_decoding_numbers(name: str, value: Any) -> None:
    with pytest.raises(ConfigurationError, match=f"{name} must be a"):
        Decoding(**{name: value})


def test_numbers_of_numpy_are_taken() -> None:
    plain = Decoding(temperature=0.5, top_k=2, top_p=0.5, min_p=0.25)
    same = Decoding(temperature=np.float32(0.5), top_k=np.int64(2), top_p=np.float64(0.5), min_p=np.float32(0.25))  # type: ignore[arg-type]
    distribution = Distribution([0, 1, 2, 3])
    np.testing.assert_array_equal(plain(distribution).log_probs, same(distribution).log_probs)
    assert distribution.top(np.int32(2)) == distribution.top(2)  # type: ignore[arg-type]
    assert distribution.log_prob(np.int64(1)) == distribution.log_prob(1)  # type: ignore[arg-type]
    assert Decoding(top_k=10**30)(distribution) is distribution


@pytest.mark.parametrize("value", [*NO_WHOLE_NUMBERS, None], ids=repr)
def test_ids_and_counts_of_a_distribution(value: Any) -> None:
    distribution = Distribution([0, 1])
    for call in (distribution.log_prob, distribution.prob):
        with pytest.raises(TokenIdError, match="a token id must be an integer, got"):
            call(value)
    with pytest.raises(ConfigurationError, match="k must be a whole number of at least 0, got"):
        distribution.top(value)


@pytest.mark.parametrize("bad", ["ab", ["a"], [None], None, {}, [1j], True, [True], ["1"], [[1], [2, 3]], [10**400]])
def test_log_probs_that_are_no_numbers(bad: Any) -> None:
    with pytest.raises(ConfigurationError, match="log_probs must be"):
        Distribution(bad)


@pytest.mark.parametrize("case", NO_IDS)
def test_every_call_refuses_the_same_ids(case: str, markov_predictor: Predictor) -> None:
    ids, model = NO_IDS[case], markov_predictor.model
    calls = {
        "as_ids": lambda: as_ids(ids),
        "stream": lambda: TokenStream(ids),
        "documents": lambda: TokenStream.from_documents([ids]),
        "predictor": lambda: markov_predictor.predict_distribution(ids),
        "top tokens": lambda: markov_predictor.top_tokens(ids),
        "model": lambda: model.predict_distribution(ids),
        "contexts": lambda: model.next_log_probs_after([ids]),
        "stats": lambda: model.token_stats(ids),
        "log_probs": lambda: model.log_probs(ids),
        "generate": lambda: generate(model, ids, max_tokens=1),
        "batch": lambda: generate_batch(model, [ids], max_tokens=1),
    }
    for call in calls.values():
        with pytest.raises(TokenIdError) as caught:
            call()
        assert "\n" not in str(caught.value)
    if case != "two axes":
        with pytest.raises(TokenIdError):
            markov_predictor.tokenizer.decode(ids)


@pytest.mark.parametrize("ids", [[1, 2], (1, 2), range(1, 3), np.array([1, 2], np.uint8), [np.int64(1), 2]], ids=repr)
def test_integers_of_all_kinds_are_ids(ids: Any, markov_predictor: Predictor) -> None:
    expected = markov_predictor.model.predict_distribution(np.array([1, 2], np.int32)).log_probs
    np.testing.assert_array_equal(markov_predictor.predict_distribution(ids).log_probs, expected)
    np.testing.assert_array_equal(markov_predictor.model.next_log_probs_after([ids])[0], expected)


@pytest.mark.parametrize("value", [*NO_WHOLE_NUMBERS, None, -1, 300], ids=repr)
def test_one_id_of_a_tokenizer(value: Any, markov_predictor: Predictor) -> None:
    for call in (markov_predictor.tokenizer.token_text, markov_predictor.tokenizer.token_bytes):
        with pytest.raises(TokenIdError):
            call(value)
    assert as_id(np.uint8(5), 300) == 5


def test_prompts_may_be_an_iterator(markov_predictor: Predictor) -> None:
    model, prompts = markov_predictor.model, [[1, 2], [3]]
    expected = generate_batch(model, prompts, rng=1, max_tokens=3)
    assert generate_batch(model, iter(prompts), rng=1, max_tokens=3) == expected


def test_a_random_generator_and_end_ids(markov_predictor: Predictor) -> None:
    wrong: Any = 3
    with pytest.raises(
        ConfigurationError, match=r"rng must be a random generator, as in np.random.default_rng\(3\), got"
    ):
        Distribution([0, 1]).sample(wrong)
    with pytest.raises(ConfigurationError, match=r"end_ids must be a collection of token ids, such as \[0\], got 3"):
        generate(markov_predictor.model, end_ids=wrong)


def test_names_that_no_folder_can_have(markov_predictor: Predictor, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="has a NUL character, which no folder can have: choose another name"):
        markov_predictor.save(tmp_path / "a\0b")
    with pytest.raises(LmzooError, match=r"cannot write .*x{80}\.\.\.: "):
        markov_predictor.save(tmp_path / ("x" * 5000))
    with pytest.raises(SavedModelError):
        Predictor.load("x" * 5000)


@pytest.mark.parametrize("value", NO_WHOLE_NUMBERS, ids=repr)
def test_counts_of_generation(value: Any, markov_predictor: Predictor) -> None:
    with pytest.raises(ConfigurationError, match="max_tokens must be"):
        generate(markov_predictor.model, max_tokens=value)
    for call in (markov_predictor.complete, markov_predictor.stream):
        with pytest.raises(ConfigurationError, match="max_tokens must be"):
            call("The", max_tokens=value)
    with pytest.raises(ConfigurationError, match="n must be a whole number of at least 1"):
        markov_predictor.completions("The", n=value)
    with pytest.raises(ConfigurationError, match="k must be a whole number"):
        markov_predictor.top_tokens("The", value)


@pytest.mark.parametrize("value", [*NO_WHOLE_NUMBERS, -1, 2**63], ids=repr)
def test_seeds(value: Any, markov_predictor: Predictor) -> None:
    with pytest.raises(ConfigurationError, match="seed must be a whole number from 0"):
        check_seed(seed=value)
    with pytest.raises(ConfigurationError, match="seed must be a whole number from 0"):
        markov_predictor.complete("The", seed=value)
    with pytest.raises(ConfigurationError, match="seed must be a whole number from 0"):
        Predictor.fit("markov", "kjv", seed=value)


def test_seeds_of_numpy_are_those_of_python(corpus_folder: Path, tmp_path: Path) -> None:
    seed: Any = np.int64(3)
    predictor = Predictor.fit("markov", corpus_folder, tokenizer="byte", seed=seed)
    assert Predictor.load(predictor.save(tmp_path / "markov")).provenance.seed == 3
    assert type(RunPlan(seed=seed).checked().seed) is int
    assert type(AlignPlan(seed=seed).checked().seed) is int
    stream = TokenStream.from_documents([[1, 2], [2]])
    models = [zoo.create("hmm", 3, n_states=2).fit(TrainingData(stream, stream), seed=value) for value in (seed, 3)]
    np.testing.assert_array_equal(models[0].log_probs(stream), models[1].log_probs(stream))


@pytest.mark.parametrize("value", [5, None, ["The"], b"The"], ids=repr)
def test_a_text_is_a_str(value: Any, markov_predictor: Predictor) -> None:
    for call in (markov_predictor.complete, markov_predictor.surprisals, markov_predictor.tokenizer.encode):
        with pytest.raises(UsageError, match="a text must be a str, got"):
            call(value)
    with pytest.raises(UsageError, match="a text must be a str, got"):
        markov_predictor.score([value])
    with pytest.raises(UsageError, match="a text must be a str, got"):
        surprisal_table([markov_predictor], [value])


@pytest.mark.parametrize("value", [5, None, b"The", bytearray(b"The")], ids=repr)
def test_one_text_of_several_is_a_str(value: Any, markov_predictor: Predictor) -> None:
    calls = markov_predictor.score, partial(surprisal_table, [markov_predictor]), partial(train_tokenizer, "char")
    for call in calls:
        with pytest.raises(UsageError, match=f"a text must be a str, got {re.escape(repr(value))}"):
            call(value)


def test_tables_of_texts_are_not_read_as_their_columns(markov_predictor: Predictor) -> None:
    calls = markov_predictor.score, partial(surprisal_table, [markov_predictor]), partial(train_tokenizer, "char")
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"text": ["the cat", "sat"]})
    for value in ({"text": "the cat"}, frame, frame.to_numpy()):
        for call in calls:
            with pytest.raises(UsageError, match=f"one column of a table, got a {type(value).__name__}"):
                call(value)
    assert surprisal_table([markov_predictor], frame["text"])["word"].tolist() == ["the", "cat", "sat"]


@pytest.mark.parametrize("value", [None, 5, b"a", ["a", None], [""]], ids=repr)
def test_stop_strings(value: Any, markov_predictor: Predictor) -> None:
    for call in (markov_predictor.complete, partial(markov_predictor.completions, n=1)):
        with pytest.raises(ConfigurationError, match="a stop string must be a text of at least one character, got"):
            call("The", stop=value)


@pytest.mark.parametrize("value", [None, 5, b"markov", ["markov"]], ids=repr)
def test_a_predictor_is_a_name_or_a_path(value: Any) -> None:
    for call in (Predictor.load, partial(evaluate, corpus="kjv")):
        with pytest.raises(UsageError, match="must be a Predictor, or the path or name of one, got"):
            call(value)


@pytest.mark.parametrize("spec", ["char", "word:1", "word-space:1", "bpe:260"])
def test_tokenizers_are_trained_on_valid_texts(spec: str) -> None:
    for value in (None, 5, b"the"):
        with pytest.raises(UsageError, match="a text must be a str, got"):
            train_tokenizer(spec, ["the", value])  # type: ignore[list-item]
    with pytest.raises(TokenizerError, match="character 2 of the text is half of a surrogate pair"):
        train_tokenizer(spec, ["the", "a \ud800"])


@pytest.mark.parametrize("value", [5, None, b"byte", Path("tokenizer.json")], ids=repr)
def test_a_tokenizer_is_named_by_a_str(value: Any) -> None:
    train = partial(train_tokenizer, texts=["a"])
    for call in (open_tokenizer, train, partial(train, vocabulary=["a"])):
        with pytest.raises(ConfigurationError, match="a tokenizer must be given as a str, such as 'bpe:4096' or"):
            call(value)


def test_words_of_a_vocabulary() -> None:
    expected = train_tokenizer("word", [], vocabulary=["a", "bc"])
    assert expected.entries[2:] == ["a", "bc"]
    with pytest.raises(ConfigurationError, match="a fixed vocabulary needs a word tokenizer"):
        train_tokenizer("tiktoken:no-such-encoding", [], vocabulary=["a"])  # before the encoding is looked for
    assert train_tokenizer("word", [], vocabulary=iter(["a", "bc", "a"])).fingerprint == expected.fingerprint
    for value in ([1], 5, b"ab"):
        with pytest.raises(UsageError, match="a text must be a str, got"):
            train_tokenizer("word", [], vocabulary=value)  # type: ignore[arg-type]
    with pytest.raises(TokenizerError, match="half of a surrogate pair"):
        train_tokenizer("word", [], vocabulary=["a\ud800"])


def test_a_corpus_holds_documents() -> None:
    splits: dict[str, Any] = {"train": ["a text"], "valid": [Document("1", "b")], "test": [Document("2", "c")]}
    with pytest.raises(
        UsageError, match=r"must be a sequence of documents, such as the list \[Document\('first', 'a text'\)\]"
    ):
        Corpus("mine", "mine", "none", "none", "by hand", **splits)
    no_sequences: list[Any] = [iter(splits["valid"]), {*splits["valid"]}]
    for value in no_sequences:
        with pytest.raises(UsageError, match="the train split must be a sequence of documents"):
            Corpus("mine", "mine", "none", "none", "by hand", value, splits["valid"], splits["test"])
    for text in (None, 5, b"a text"):
        with pytest.raises(UsageError, match="a text must be a str, got"):
            Document("first", text)  # type: ignore[arg-type]


def test_texts_of_a_corpus_are_valid(markov_predictor: Predictor) -> None:
    train, valid, test = ([Document("1", text)] for text in ("a\ud800", "b", "c\ud800"))
    corpus = Corpus("mine", "mine", "none", "none", "by hand", train, valid, test)
    for spec in ("byte", "char"):
        with pytest.raises(TokenizerError, match="character 1 of the text is half of a surrogate pair"):
            Predictor.fit("markov", corpus, tokenizer=spec)
    with pytest.raises(TokenizerError, match="character 1 of the text is half of a surrogate pair"):
        evaluate(markov_predictor, corpus)


def test_one_text_stands_for_a_list_of_it(markov_predictor: Predictor) -> None:
    text = "the cat sat on the mat, the cat sat"
    assert markov_predictor.score(text) == markov_predictor.score([text]) == markov_predictor.score(iter([text])) < 0
    assert train_tokenizer("bpe:270", text).fingerprint == train_tokenizer("bpe:270", [text]).fingerprint
    ended = markov_predictor.complete("The", seed=1, stop=[" the "])
    assert markov_predictor.complete("The", seed=1, stop=" the ") == ended != markov_predictor.complete("The", seed=1)


@pytest.mark.parametrize("value", [{"temperature": 0.5}, 0.5, "greedy"], ids=repr)
def test_decoding_is_a_decoding(value: Any, markov_predictor: Predictor) -> None:
    with pytest.raises(
        ConfigurationError, match=r"decoding must be a Decoding, as in Decoding\(temperature=0.8\), got"
    ):
        generate(markov_predictor.model, decoding=value)


def test_text_is_generated_with_a_model(markov_predictor: Predictor) -> None:
    with pytest.raises(UsageError, match=r"with a LanguageModel, such as predictor\.model; got <Predictor"):
        generate(markov_predictor, max_tokens=1)  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [0, -5, 1.0, "300", None, True], ids=repr)
def test_vocabulary_sizes(value: Any) -> None:
    with pytest.raises(ConfigurationError, match="vocab_size must be a whole number of at least 2"):
        zoo.create("markov", value)
    size: Any = np.int64(9)
    assert type(zoo.create("markov", size).vocab_size) is int


def test_arguments_of_fit(corpus_folder: Path, tmp_path: Path) -> None:
    for species in (5, None):
        with pytest.raises(UnknownNameError, match=f"unknown species '{species}': choose one of "):
            Predictor.fit(species, corpus_folder)  # type: ignore[arg-type]
    for corpus in (5, None, b"kjv", [5, 6]):
        with pytest.raises(UsageError, match="a corpus is given by its name or by paths to files, got "):
            Predictor.fit("markov", corpus)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="tokenizer must be a Tokenizer or a text such as 'bpe:4096', got 300"):
        Predictor.fit("markov", corpus_folder, tokenizer=300)  # type: ignore[arg-type]
    encoded = encode_corpus(load_corpus(corpus_folder), "byte")
    with pytest.raises(UsageError, match="the corpus is encoded already: leave out the tokenizer"):
        Predictor.fit("markov", encoded, tokenizer="char")
    plain = Predictor.fit("ngram", encoded, order=2, prune=0.5)
    same = Predictor.fit("ngram", corpus_folder, tokenizer="byte", order=np.int64(2), prune=np.float32(0.5))
    assert same.settings == plain.settings
    assert Predictor.load(same.save(tmp_path / "same")).get_params() == plain.get_params()


def test_training_data_are_streams() -> None:
    stream = TokenStream.from_documents([[1, 2]])
    for train, valid, name in ((stream.ids, stream, "train"), (stream, [1, 2], "valid")):
        with pytest.raises(UsageError, match=f"the {name} split must be a TokenStream, as in TokenStream.from_docum"):
            TrainingData(train, valid)  # type: ignore[arg-type]


@pytest.mark.parametrize("data", [None, "a text", ["a", "text"], np.zeros(3), np.ones((2, 2), int)])
def test_a_model_is_fitted_to_training_data_only(data: Any) -> None:
    message = "a model is fitted to TrainingData, such as TrainingData(train, valid) of two TokenStreams, got "
    with pytest.raises(UsageError, match=re.escape(message)):
        zoo.create("markov", 9).fit(data)


def test_splits_of_an_evaluation(markov_predictor: Predictor, corpus_folder: Path) -> None:
    with pytest.raises(UnknownNameError, match="unknown split 'tst': did you mean 'test'"):
        evaluate(markov_predictor, corpus_folder, split="tst")  # type: ignore[arg-type]
