"""ARPA files next to KenLM: what separates words, which numbers are numbers, zero probabilities, and no start."""

from __future__ import annotations

import importlib
import itertools
import math
import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from arpa_files import PRUNED, WORDS, kenlm_scores, needs_kenlm, written
from hypothesis import example, given, settings
from test_arpa_reading import Ngrams, files_with_gaps

from lmzoo import Predictor
from lmzoo.cli import run
from lmzoo.errors import ConfigurationError, SavedModelError
from lmzoo.interchange.arpa import arpa_words, predictor_from_arpa, predictor_to_arpa
from lmzoo.models.ngram import NgramModel, ngram
from lmzoo.models.ngram.arpa import read_arpa, write_arpa
from lmzoo.stream import TokenStream
from lmzoo.testing import toy_data
from lmzoo.tokenizers import train_tokenizer

FILE = """
\\data\\
ngram 1=4
ngram 2=2

\\1-grams:
-0.5	<unk>
-99	<s>	-0.3
-0.5	</s>
{prob}	{word}	{weight}

\\2-grams:
{bigram}	<s> {word}
-0.5	{word} </s>

\\end\\
"""


def file_with(
    folder: Path, *, word: str = "a", prob: str = "-0.4", weight: str = "-0.25", bigram: str = "-0.2"
) -> Path:
    return written(folder, FILE.format(word=word, prob=prob, weight=weight, bigram=bigram))


def scores(path: Path, text: str) -> list[float]:
    """Returns the log10 probability of each word of a text and of its end, by the predictor of an ARPA file."""
    return [-token.surprisal_bits * math.log10(2) for token in predictor_from_arpa(path).surprisals(text)]


# ---- Words ---------------------------------------------------------------------------------------

INSIDE_WORDS = ["\xa0", "\u3000", "\x85", "\u2028", "\u202f", "\x0b", "\x0c", "\x1c", "\x1f", "\ufeff", "\u200b"]


@pytest.mark.parametrize("character", INSIDE_WORDS)
def test_white_space_that_is_part_of_a_word(character: str, tmp_path: Path) -> None:
    word = f"10{character}000"
    path = file_with(tmp_path, word=word)
    np.testing.assert_allclose(scores(path, f"{word} km"), [-0.2, -0.25 - 0.5, -0.5], atol=1e-6)
    predictor = predictor_from_arpa(path)
    assert predictor.tokenizer.encode(f"{word}\t{word}\r\n\0{word} ").tolist() == [2, 2, 2]
    predictor_to_arpa(predictor, tmp_path / "again.arpa")
    np.testing.assert_allclose(scores(tmp_path / "again.arpa", word), scores(path, word), atol=1e-6)


@needs_kenlm
@pytest.mark.parametrize("character", [one for one in INSIDE_WORDS if one not in "\x0b\x0c"])
def test_words_score_as_in_kenlm(character: str, tmp_path: Path) -> None:
    """Python's kenlm splits the sentence at vertical tab and form feed, although its files may have them in words."""
    word = f"10{character}000"
    path = file_with(tmp_path, word=word)
    np.testing.assert_allclose(scores(path, f"{word} km"), kenlm_scores(path, [f"{word} km"]), atol=1e-5)


@pytest.mark.parametrize("separator", ["\t", "\0", "\r", " ", " \0\t "])
def test_separators_of_words(separator: str, tmp_path: Path) -> None:
    plain, other = (
        PRUNED,
        PRUNED.replace("b a b", f"b{separator}a{separator}b").replace("\t<s> a", f"\t<s>{separator}a"),
    )
    assert plain != other or separator == " "
    (words, model), (other_words, other_model) = (read_arpa(written(tmp_path, text)) for text in (plain, other))
    assert words == other_words
    for name, array in model.arrays().items():
        np.testing.assert_array_equal(other_model.arrays()[name], array)


LMPLZ = os.environ.get("LMPLZ", "")


@pytest.mark.skipif(not LMPLZ, reason="LMPLZ does not name KenLM's program lmplz")
def test_words_of_a_french_text_are_those_of_lmplz(tmp_path: Path) -> None:
    lines = ["il a payé 10\xa0000 € !", "elle\u202fdit\xa0: « non »", "a\x0bb c\x0cd\x85e\tf\x00g"] * 3
    arpa = subprocess.run(
        [LMPLZ, "-o", "2", "--discount_fallback", "-S", "100M"],
        input="\n".join(lines).encode(), capture_output=True, check=True,
    ).stdout  # fmt: skip
    words, _ = read_arpa(written(tmp_path, arpa))
    assert {"</s>", *train_tokenizer("word-space:1", lines).entries[1:]} == set(words)


def test_nul_and_spaces_inside_tokens_are_written_as_code_points(tmp_path: Path) -> None:
    texts = ["a\0b \x0b\xa0\u3000\n\t", "a!\0!b"] * 5
    for spec, spelled in (("char", "<U+0000>"), ("word:1", "!<U+0000>!")):
        tokenizer = train_tokenizer(spec, texts)
        model = ngram(tokenizer.vocab_size, order=2).fit(toy_data(tokenizer.vocab_size))
        predictor_to_arpa(Predictor(tokenizer, model, "ngram"), tmp_path / f"{spec[:4]}.arpa")
        words = arpa_words(tokenizer)
        assert spelled in words
        assert b"\0" not in (tmp_path / f"{spec[:4]}.arpa").read_bytes()
        again = predictor_from_arpa(tmp_path / f"{spec[:4]}.arpa", tokenizer=tokenizer)
        assert again.surprisals(texts[0])[0].surprisal_bits > 0


# ---- Numbers -------------------------------------------------------------------------------------

NUMBERS = ["-0.5", "-.5", "-5.", "+0", "-0", "0", "-5e-1", "-5E-1", "-5e+0", "1e-400", "-1e-400", "-100", "-99.999",
           "-1000", "-1e30"]  # fmt: skip
NO_NUMBERS = ["-1_0.5", "-2_0", "-Inf", "-INF", "-infinity", "-Infinity", "inf", "nan", "NaN", "-nan", "0x1p-1", "-0x5",
              "１", "-１.5", "−0.5", "-0,5", "--5", "-.", "-5e", "-5d0", "-5f", "-5L", "-0.5.1", "٣"]  # fmt: skip


def kenlm_reads(path: Path) -> bool:
    kenlm: Any = importlib.import_module("kenlm")
    config = kenlm.Config()
    config.show_progress = False
    try:
        kenlm.Model(str(path), config)
    except OSError:
        return False
    return True


@pytest.mark.parametrize("field", ["prob", "bigram", "weight"])
def test_other_notations_of_numbers_are_refused(field: str, tmp_path: Path) -> None:
    for number in NO_NUMBERS + ["-inf"] * (field == "weight"):
        path = file_with(tmp_path, **{field: number})
        with pytest.raises(
            SavedModelError, match=r":(10|13): (expected a decimal number|the log10 back-off)"
        ) as caught:
            read_arpa(path)
        assert number in str(caught.value) or not number.isascii()


@needs_kenlm
@pytest.mark.parametrize("field", ["prob", "bigram", "weight"])
def test_numbers_are_those_of_kenlm(field: str, tmp_path: Path) -> None:
    for number in NUMBERS:
        path = file_with(tmp_path, **{field: number})
        if field == "weight" and number in ("-1000", "-1e30"):
            with pytest.raises(SavedModelError, match="must be from -300 to 300"):
                read_arpa(path)
        else:
            np.testing.assert_allclose(scores(path, "a a"), kenlm_scores(path, ["a a"]), rtol=1e-6, atol=1e-6)
    for number in NO_NUMBERS:
        assert not kenlm_reads(file_with(tmp_path, **{field: number})), number


@pytest.mark.parametrize("zero", ["-99", "-99.999", "-98.9366", "-100", "-250.5", "-4000", "-1e30"])
def test_small_probabilities_go_there_and_back(zero: str, tmp_path: Path) -> None:
    path = file_with(tmp_path, prob=zero, weight="-99.999")
    predictor_to_arpa(predictor_from_arpa(path), tmp_path / "again.arpa")
    expected = [-0.2, -99.999 + float(zero), -0.5]
    np.testing.assert_allclose(scores(path, "a a"), expected, rtol=1e-6)
    np.testing.assert_allclose(scores(tmp_path / "again.arpa", "a a"), expected, rtol=1e-6)


# ---- Header --------------------------------------------------------------------------------------


@pytest.mark.parametrize("empty", ["\n", "\n\n \r\n"])
def test_empty_lines_after_the_data_line(empty: str, tmp_path: Path) -> None:
    words, _ = read_arpa(written(tmp_path, PRUNED.replace("\\data\\\n", f"\\data\\\n{empty}")))
    assert words == ["</s>", "a", "b"]


def test_a_sentence_end_that_only_longer_ngrams_have(tmp_path: Path) -> None:
    text = PRUNED.replace("-0.60206\t</s>\n", "").replace("ngram 1=4", "ngram 1=3")
    with pytest.raises(SavedModelError, match=r"add the line '-99 </s>' and raise the count in the header"):
        read_arpa(written(tmp_path, text))
    advised = text.replace("ngram 1=3", "ngram 1=4").replace("\\1-grams:\n", "\\1-grams:\n-99 </s>\n")
    assert read_arpa(written(tmp_path, advised))[0] == ["</s>", "a", "b"]


# ---- Sums ----------------------------------------------------------------------------------------

SOUND = r"""
\data\
ngram 1=3
ngram 2=2
ngram 3=1

\1-grams:
-99 <s> 0
-0.30103 </s>
-0.30103 a 0

\2-grams:
-0.30103 a </s> 2.0
-0.30103 a a 0

\3-grams:
-0.30103 a a a

\end\
"""


def test_weights_of_contexts_that_no_text_has_are_no_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(tmp_path, SOUND)
    assert predictor_from_arpa(path).provenance.largest_sum_error == pytest.approx(0, abs=1e-5)
    assert run(["convert", str(path), str(tmp_path / "out")]) == 0
    assert "do not sum to 1" not in capsys.readouterr().err


WORST_AT_THE_START: list[Ngrams] = [
    {(word,): (0.0, 0.0) for word in ("<s>", "</s>", *"abc")},
    {("<s>", "</s>"): (0.0, 0.0)} | {(word, "</s>"): (-0.001, 0.0) for word in "abc"},
    {},
]


@given(orders=files_with_gaps())
@example(orders=WORST_AT_THE_START)
@settings(max_examples=40)
def test_the_largest_sum_error_is_that_of_all_texts(
    orders: list[Ngrams], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Compares with the sums after every text of at most 6 words, which lead to all states of such small models."""
    n = len(orders)
    lines = ["\\data\\", *(f"ngram {k}={len(of_k)}" for k, of_k in enumerate(orders, 1))]
    for k, of_k in enumerate(orders, 1):
        lines += ["", f"\\{k}-grams:"]
        lines += [f"{prob}\t{' '.join(words)}" + f"\t{weight}" * (k < n) for words, (prob, weight) in of_k.items()]
    path = written(tmp_path_factory.mktemp("sums"), "\n".join([*lines, "", "\\end\\", ""]))
    words, model = read_arpa(path)
    ids = [words.index(word) for word in "abc"]
    states, reached = {model.initial_state()}, {model.initial_state()}
    while states:
        states = {model.advance(state, token_id) for state, token_id in itertools.product(states, ids)} - reached
        reached |= states
    worst = max(abs(np.exp(model.next_log_probs(state)).sum() - 1) for state in reached)
    assert model.largest_sum_error() == pytest.approx(worst, rel=1e-6, abs=1e-9)


def test_the_sums_of_fitted_models_are_1() -> None:
    for more in ({}, {"order": 1}, {"quantise": True}, {"prune": 1e-3}, {"smoothing": "katz"}):
        assert ngram(8, **{"order": 4, **more}).fit(toy_data(8)).largest_sum_error() < 1e-5


# ---- Without a start -----------------------------------------------------------------------------


@needs_kenlm
@pytest.mark.parametrize("order", [1, 2, 4])
def test_without_a_start_as_in_kenlm(order: int, tmp_path: Path) -> None:
    model = ngram(8, order=order).fit(toy_data(8))
    path = tmp_path / "model.arpa"
    write_arpa(path, model, WORDS)
    predictor = predictor_from_arpa(path)
    kenlm: Any = importlib.import_module("kenlm")
    text = "a b 日本 don't a zzz b"
    found = [-token.surprisal_bits * math.log10(2) for token in predictor.without_start().surprisals(text)]
    if order > 1:  # KenLM does not read unigram files
        expected = [one for one, _, _ in kenlm.Model(str(path)).full_scores(text, bos=False)]
        np.testing.assert_allclose(found, expected, atol=1e-5)
        assert found[0] != pytest.approx(scores(path, text)[0])
    else:
        np.testing.assert_allclose(found, scores(path, text), atol=1e-6)


@pytest.mark.parametrize("more", [{}, {"quantise": True}, {"prune": 1e-2}, {"order": 1}])
def test_without_a_start_by_the_definition(more: dict[str, Any]) -> None:
    """Compares with the scores after a long prefix of which only the last tokens are a context in the middle."""
    model: NgramModel = ngram(8, **{"order": 3, **more}).fit(toy_data(8))
    cut = model.without_start()
    unigrams = np.exp(cut.next_log_probs(cut.initial_state()))
    assert unigrams.sum() == pytest.approx(1, abs=1e-5)
    np.testing.assert_array_equal(cut.predict_distribution([]).log_probs, cut.predict_distribution([0]).log_probs)
    for context in ([2, 3, 4, 2], [5, 1, 2, 3], [4, 4, 4, 4]):  # longer than the order: the start is out of sight
        np.testing.assert_allclose(
            cut.predict_distribution(context).log_probs, model.predict_distribution(context).log_probs, atol=1e-6
        )
    ids = [2, 3, 0, 4, 0]
    documents = [cut.log_probs([2, 3, 0]), cut.log_probs([4, 0])]
    np.testing.assert_allclose(cut.log_probs(TokenStream(np.array(ids, np.int32))), np.concatenate(documents))
    assert cut.log_probs([4])[0] == pytest.approx(math.log(unigrams[4]), abs=1e-6)
    assert model.fitted
    assert model.largest_sum_error() < 1e-5


def test_commands_without_a_start(
    saved: Path, corpus_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home = str(predictor_from_arpa(written(tmp_path, PRUNED)).save(tmp_path / "home"))
    assert run(["predict", "", "-p", home, "--no-bos", "--json"]) == 0
    assert '"probability": 0.5' in capsys.readouterr().out, "the unigram b"
    assert run(["predict", "", "-p", str(saved), "--no-bos"]) == 2
    assert "only n-gram models can score a text without it" in capsys.readouterr().err
    with pytest.raises(ConfigurationError, match="always begins at the start of a document"):
        Predictor.load(saved).without_start()
    fitted = Predictor.fit("ngram", corpus_folder, tokenizer="word", order=2)
    fitted.save(tmp_path / "ngram")
    assert run(["evaluate", str(tmp_path / "ngram"), "--corpus", str(corpus_folder), "--no-bos", "--json"]) == 0
    assert '"label": "ngram, no start"' in capsys.readouterr().out
