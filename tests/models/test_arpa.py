"""ARPA files: worked by hand, there and back, next to KenLM, and damaged in every way."""

from __future__ import annotations

import gzip
import json
import math
import os
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lmzoo import Predictor
from lmzoo.cli import run
from lmzoo.errors import ConfigurationError, SavedModelError, TokenizerError
from lmzoo.interchange.arpa import arpa_words, predictor_from_arpa, predictor_to_arpa
from lmzoo.language_model import Progress
from lmzoo.models.ngram import NgramModel, arpa, ngram
from lmzoo.models.ngram.arpa import read_arpa, write_arpa
from lmzoo.models.ngram.arpa_lines import Lexicon
from lmzoo.stream import EOT, TokenStream, TrainingData
from lmzoo.testing import toy_data

WORDS = ["</s>", "<unk>", "a", "b", "日本", "don't", "\\data\\", "-1"]

PRUNED = r"""
\data\
ngram 1=4
ngram 2=2
ngram 3=2

\1-grams:
-0.60206	a	-0.30103
-99	<s>	-0.30103
-0.30103	b
-0.60206	</s>

\2-grams:
-0.1249387	a b	-0.1760913
-0.20412	<s> a

\3-grams:
-0.05799195	b a b
-0.30103	a b </s>

\end\
"""


def written(folder: Path, text: str | bytes, name: str = "model.arpa") -> Path:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def log10_probs(model: NgramModel, vocabulary: list[str], sentences: list[str]) -> list[float]:
    """The score of every word and sentence end, as KenLM's `full_scores`."""
    ids = {word: token_id for token_id, word in enumerate(vocabulary)}
    documents = [[ids.get(word, ids.get("<unk>", -1)) for word in sentence.split()] for sentence in sentences]
    return (model.log_probs(TokenStream.from_documents(documents)) / math.log(10)).tolist()


# ---- Reading -------------------------------------------------------------------------------------


def test_a_pruned_file_worked_by_hand(tmp_path: Path) -> None:
    """SRILM's kind: in any order, weights left out where they are 1, and n-grams missing that others contain.

    The file, in probabilities: p(</s>) = p(a) = 1/4, p(b) = 1/2, weights <s> 1/2, a 1/2, b 1;
    p(b|a) = 3/4, weight of "a b" 2/3; p(a|<s>) = 5/8; p(b|b a) = 7/8; p(</s>|a b) = 1/2. So
        at the start      </s> 1/2 * 1/4 = 1/8, a 5/8, b 1/2 * 1/2 = 1/4
        after <s> a       as after a: </s> 1/2 * 1/4 = 1/8, a 1/8, b 3/4
        after a b         </s> 1/2, a 2/3 * 1/4 = 1/6, b 2/3 * 1/2 = 1/3; after b: the unigrams
        after b a         </s> 1/8, a 1/8, b 7/8: "b a" is not in the file, so its weight is 1 (and the sum is not)
    """
    words, model = read_arpa(written(tmp_path, PRUNED))
    assert (words, model.order) == (["</s>", "a", "b"], 3)
    a, b = 1, 2
    for context, expected in (
        ([], [1 / 8, 5 / 8, 1 / 4]),
        ([a], [1 / 8, 1 / 8, 3 / 4]),
        ([a, b], [1 / 2, 1 / 6, 1 / 3]),
        ([b], [1 / 4, 1 / 4, 1 / 2]),
        ([b, a], [1 / 8, 1 / 8, 7 / 8]),
        ([b, b, a], [1 / 8, 1 / 8, 7 / 8]),
    ):
        state = model.state_after(np.array(context, np.int32))
        np.testing.assert_allclose(np.exp(model.next_log_probs(state)), expected, rtol=1e-5, err_msg=f"after {context}")
    scores = model.log_probs([b, a, b, EOT])
    np.testing.assert_allclose(np.exp(scores), [1 / 4, 1 / 4, 7 / 8, 1 / 2], rtol=1e-5)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("\n", "\r\n"),
        ("\t", "  "),
        (r"\data" + "\\", "made by hand\n\n\\data\\"),
        ("\n\\data", "\ufeff\\data"),
        ("\\end\\\n", "\\end\\"),
        ("ngram ", "ngram  "),
        ("-0.30103", "-3.0103e-1"),
        ("-0.30103", "-0.301030000000000000000000"),
        ("\n-0.", "\n  -.0000"),
        ("-0.30103\tb", "-0.30103\tb\t0"),
        ("\ta b </s>", "\ta b </s>\t-0.0"),
    ],
)
def test_other_ways_to_write_the_same(old: str, new: str, tmp_path: Path) -> None:
    changed = PRUNED.replace(old, new)
    assert changed != PRUNED
    _, model = read_arpa(written(tmp_path, PRUNED))
    _, other = read_arpa(written(tmp_path, changed))
    if new == "\n  -.0000":  # as it was, but for ten thousandths of the probabilities' digits
        assert other.log_probs([1])[0] == pytest.approx(model.log_probs([1])[0] / 1e4, rel=1e-3)
    else:
        np.testing.assert_array_equal(other.arrays()["log_probs"], model.arrays()["log_probs"])
        np.testing.assert_array_equal(other.arrays()["backoffs"], model.arrays()["backoffs"])


def test_zero_is_minus_99_and_rounding_is_forgiven(tmp_path: Path) -> None:
    text = PRUNED.replace("-0.20412", "-inf").replace("-0.05799195", "1e-6").replace("-0.1249387", "-1e30")
    _, model = read_arpa(written(tmp_path, text))
    assert model.log_probs([1])[0] == pytest.approx(-99 * math.log(10))
    assert model.log_probs([1, 2])[1] == pytest.approx(-99 * math.log(10))
    assert model.log_probs([2, 1, 2])[2] == 0


def test_ngrams_across_sentence_ends_are_dropped(tmp_path: Path) -> None:
    lines = "-1\t</s> <s>\n-1\tb <s>\t-3\n-1\t</s> b\n"
    text = PRUNED.replace("ngram 2=2", "ngram 2=5").replace("\n\\3-grams", lines + "\n\\3-grams")
    _, model = read_arpa(written(tmp_path, PRUNED))
    _, other = read_arpa(written(tmp_path, text))
    for name, array in model.arrays().items():
        np.testing.assert_array_equal(other.arrays()[name], array)


def test_unknown_words_are_a_class_however_it_is_spelled(tmp_path: Path) -> None:
    text = PRUNED.replace("\tb", "\t<UNK>").replace(" b", " <unk>")
    words, model = read_arpa(written(tmp_path, text))
    assert words == ["</s>", "<unk>", "a"]
    assert model.log_probs([1, 2, 1])[2] == pytest.approx(math.log(7 / 8), abs=1e-5)


Ngrams = dict[tuple[str, ...], tuple[float, float]]


@st.composite
def files_with_gaps(draw: st.DrawFn) -> list[Ngrams]:
    """For each order, n-grams with log10 probability and weight: all unigrams, and any longer ones."""
    values = st.tuples(st.integers(-3000, 0).map(lambda value: value / 1000), st.sampled_from([0.0, -0.5, -2.25]))
    words = ("</s>", "a", "b", "c")
    orders = [{(word,): draw(values) for word in ("<s>", *words)}]
    for k in range(2, draw(st.integers(1, 5)) + 1):
        middle = st.tuples(st.sampled_from(("<s>", "a", "b", "c")), *[st.sampled_from("abc")] * (k - 2))
        ngram_of_k = st.builds(lambda context, word: (*context, word), middle, st.sampled_from(words))
        orders.append(draw(st.dictionaries(ngram_of_k, values, max_size=12)))
    return orders


@given(orders=files_with_gaps(), context=st.lists(st.sampled_from("abc"), max_size=6))
@settings(max_examples=200, deadline=None)
def test_gaps_change_no_probability(
    orders: list[Ngrams], context: list[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Next to the definition: an n-gram that is not in the file has the weight of its context, if any, times ..."""
    known = {ngram: values for of_k in orders for ngram, values in of_k.items()}

    def log10_prob(context: tuple[str, ...], word: str) -> float:
        if (*context, word) in known:
            return known[*context, word][0]
        return known.get(context, (0, 0))[1] + log10_prob(context[1:], word)

    n = len(orders)
    lines = ["\\data\\", *(f"ngram {k}={len(of_k)}" for k, of_k in enumerate(orders, 1))]
    for k, of_k in enumerate(orders, 1):
        lines += ["", f"\\{k}-grams:"]
        lines += [f"{prob}\t{' '.join(ngram)}" + f"\t{weight}" * (k < n) for ngram, (prob, weight) in of_k.items()]
    path = written(tmp_path_factory.mktemp("gaps"), "\n".join([*lines, "", "\\end\\", ""]))
    words, model = read_arpa(path)
    before = ("<s>", *context)[max(0, len(context) + 2 - n) :] if n > 1 else ()
    state = model.state_after(np.array([words.index(word) for word in context][-n:], np.int32))
    expected = [log10_prob(before, word) for word in words]
    np.testing.assert_allclose(model.next_log_probs(state) / math.log(10), expected, atol=1e-5)


@pytest.mark.parametrize("block", [1, 7, 64, 1000])
def test_blocks_of_any_size_give_the_same_model(block: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = ngram(8, order=3).fit(toy_data(8))
    path = tmp_path / "model.arpa"
    write_arpa(path, model, WORDS)
    _, whole = read_arpa(path)
    monkeypatch.setattr(arpa, "_BLOCK", block)
    _, pieced = read_arpa(path)
    for name, array in whole.arrays().items():
        np.testing.assert_array_equal(pieced.arrays()[name], array)


def test_numbers_are_read_to_the_last_bit() -> None:
    """Of float32 at least: what the kernel leaves to Python, it leaves whole."""
    numbers = ["-0", "-1", "+0", "-.5", "-5.", "-1e-3", "-12.5E+1", "-0.000012345678", "-98765.4321", "-1e-300", "-2e5"]
    rng = np.random.default_rng(0)
    numbers += [f"{value:.{digits}g}" for digits in (5, 7, 9, 17) for value in -rng.exponential(size=50)]
    for number in numbers:
        words, log_probs, backoffs = np.empty((2, 1), np.int32), np.empty(2), np.empty(2)
        text = np.frombuffer(f"{number}\ta\t{number}\n".encode(), np.uint8)
        at, row = Lexicon({b"b": 4, b"a": 7}).parse(text, 0, 0, words, log_probs, backoffs)
        if number == "-1e-300":
            assert (at, row) == (0, 0), "not a plain line: left to Python"
            continue
        assert (at, row, words[0, 0]) == (text.size, 1, 7)
        assert log_probs[0] == backoffs[0] == pytest.approx(float(number), rel=1e-15)


GOOD = PRUNED.lstrip().encode()


def change(old: str, new: str, count: int = -1) -> bytes:
    changed = GOOD.replace(old.encode(), new.encode("utf-8", "surrogateescape"), count)
    assert changed != GOOD
    return changed


DAMAGED: dict[str, tuple[bytes, int, str]] = {
    "empty": (b"", 1, "not an ARPA file"),
    "something else": (b"To be, or not to be\n" * 5000, 1000, "not an ARPA file"),
    "an endless line": (b"x" * 3_000_000, 1, "longer than 1,048,576 bytes"),
    "KenLM's binary": (b"mmap lm http://kheafield.com/code format version 5\n\x00", 1, "KenLM's binary format"),
    "no counts": (b"\\data\\\n\n\\1-grams:\n", 2, "0 orders"),
    "counts that skip one": (change("ngram 2", "ngram 3", 1), 3, "'ngram 2=COUNT' or an empty line must stand here"),
    "negative count": (change("ngram 2=2", "ngram 2=-2"), 3, "got 'ngram 2=-2'"),
    "huge count": (change("ngram 2=2", "ngram 2=1000000000000"), 16, "promises 1,000,000,000,000 2-grams, but only 2"),
    "count of many digits": (change("ngram 2=2", "ngram 2=" + "9" * 10000), 3, "must stand here"),
    "huge order": (b"\\data\\\n" + b"".join(b"ngram %d=1\n" % k for k in range(1, 200)) + b"\n", 201, "199 orders"),
    "one unigram too few": (change("ngram 1=4", "ngram 1=5"), 12, "promises 5 1-grams, but only 4"),
    "one unigram too many": (change("ngram 1=4", "ngram 1=3"), 10, "promises 3 1-grams, and this is one more"),
    "one bigram too few": (change("ngram 2=2", "ngram 2=3"), 16, "promises 3 2-grams, but only 2"),
    "one bigram too many": (change("ngram 2=2", "ngram 2=1"), 14, "promises 1 2-grams, and this is one more"),
    "order left out": (change("\\2-grams:\n", "\\3-grams:\n", 1), 12, "\\2-grams: must stand here, got '\\3-grams:'"),
    "no end": (change("\\end\\\n", ""), 20, "\\end\\ must stand here, got the end of the file"),
    "cut off": (GOOD[: GOOD.index(b"\\3-grams")], 16, "\\3-grams: must stand here, got the end of the file"),
    "cut off in a line": (GOOD[: GOOD.index(b" </s>\n\n\\end")], 18, "this line has 3 fields, but a 3-gram"),
    "words after the end": (GOOD + b"\n\nmore\n", 23, "'more' stands after \\end\\"),
    "no </s>": (change("\t</s>", "\tc", 1), 12, "lack </s>"),
    "no <s>": (change("\t<s>\t", "\tc\t"), 12, "lack <s>"),
    "both unknowns": (change("\ta\t", "\t<unk>\t").replace(b"\tb\n", b"\t<UNK>\n"), 12, "both <unk> and <UNK>"),
    "NaN": (change("-0.20412", "nan"), 14, "the log10 probability is 'nan'; it must be 0 or below"),
    "positive": (change("-0.20412", "0.20412"), 14, "the log10 probability is '0.20412'"),
    "infinite": (change("-0.60206\ta", "inf\ta"), 7, "the log10 probability is 'inf'"),
    "no number": (change("-0.20412", "-0.2.0412"), 14, "'-0.2.0412' is not a number"),
    "a word for a weight": (change("b\t-0.1760913", "b\tweight"), 13, "'weight' is not a number"),
    "NaN weight": (change("b\t-0.1760913", "b\tnan"), 13, "the log10 back-off weight is nan"),
    "infinite weight": (change("a\t-0.30103", "a\t-inf"), 7, "the log10 back-off weight is -inf"),
    "enormous weight": (change("b\t-0.1760913", "b\t1e9"), 13, "weight is 1e+09; it must be from -300 to 300"),
    "a weight too many": (change("a b </s>", "a b </s>\t-0.5"), 18, "weight is -0.5; it must be 0 or left out"),
    "too few fields": (change("\ta b\t-0.1760913", "\tb"), 13, "this line has 2 fields, but a 2-gram 3 or 4"),
    "too many fields": (change("\ta b\t", "\ta b b b\t"), 13, "this line has 6 fields"),
    "unknown word": (change("\ta b\t", "\ta kitten\t"), 13, "the word 'kitten' is not among the 1-grams"),
    "same unigram twice": (change("\tb\n", "\ta\n"), 9, "this 1-gram stands here for the second time"),
    "same trigram twice": (change("\tb a b", "\ta b </s>"), 18, "this 3-gram stands here for the second time"),
    "not UTF-8": (change("\ta\t", "\t\udcff\udcfe\t"), 7, "the word '\\xff\\xfe' is not UTF-8"),
    "improper": (change("\tb\n", "\tb\t2\n"), 21, "probability above 1"),
    "damaged gzip": (gzip.compress(GOOD, mtime=0)[:-30], 1, "gzip data are damaged"),
    "wrong checksum": (gzip.compress(GOOD, mtime=0)[:-8] + bytes(8), 1, "gzip data are damaged"),
}  # fmt: skip


@pytest.mark.parametrize("case", DAMAGED)
def test_damaged_files_are_refused_with_the_line(case: str, tmp_path: Path) -> None:
    data, line, message = DAMAGED[case]
    path = written(tmp_path, data)
    with pytest.raises(SavedModelError) as caught:
        read_arpa(path)
    assert str(caught.value).startswith(f"{path}:{line}: ")
    assert message in str(caught.value)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SavedModelError, match=r"cannot read .*nothing.arpa: No such file"):
        read_arpa(tmp_path / "nothing.arpa")


# ---- There and back ------------------------------------------------------------------------------


@pytest.mark.parametrize("order", [1, 2, 5])
@pytest.mark.parametrize("smoothing", ["kneser-ney", "additive", "mle"])
def test_what_is_written_is_read_as_the_same_model(smoothing: str, order: int, tmp_path: Path) -> None:
    model = ngram(8, order=order, smoothing=smoothing).fit(toy_data(8))
    path = tmp_path / "model.arpa.gz"
    write_arpa(path, model, WORDS)
    words, again = read_arpa(path)
    assert words == WORDS
    before, after = model.arrays(), again.arrays()
    for name in ("levels", "tokens", "first_child", "suffixes"):
        np.testing.assert_array_equal(after[name], before[name])
    for name in ("log_probs", "backoffs"):
        expected = np.maximum(before[name], -99 * math.log(10))  # "mle" has zeros
        np.testing.assert_allclose(after[name][1:], expected[1:], rtol=2e-6, atol=1e-6)
    stream = toy_data(8).valid
    impossible = np.isneginf(model.log_probs(stream))
    assert impossible.any() == (smoothing == "mle" and order == 5)
    np.testing.assert_allclose(again.log_probs(stream)[~impossible], model.log_probs(stream)[~impossible], atol=1e-5)
    assert np.isfinite(again.log_probs(stream)).all()


def test_quantised_and_pruned_models_are_written_as_they_predict(tmp_path: Path) -> None:
    data = toy_data(8)
    model = ngram(8, order=4, prune=1e-3, quantise=True).fit(data)
    write_arpa(tmp_path / "model.arpa", model, WORDS)
    _, again = read_arpa(tmp_path / "model.arpa")
    np.testing.assert_array_equal(again.arrays()["tokens"], model.arrays()["tokens"])
    np.testing.assert_allclose(again.log_probs(data.valid), model.log_probs(data.valid), atol=1e-5)


def test_the_file_worked_by_hand(tmp_path: Path) -> None:
    """Documents "a b" and "b", order 2, one count freed for each different token (Witten & Bell).

    Of 5 tokens a comes once, b and </s> twice: p(a) = (1 + 3/4) / 8 = 7/32, p(b) = p(</s>) = 11/32, p(<unk>) = 3/32.
    After <s> (a, b) and after b (</s> twice) it is half and a third that is freed; after a (b) it is half.
    p(a|<s>) = (1 + 2 * 7/32) / 4 = 23/64, p(b|<s>) = 27/64, p(b|a) = 43/64, p(</s>|b) = (2 + 11/32) / 3 = 25/32.
    """
    stream = TokenStream.from_documents([[2, 3], [3]])
    model = ngram(4, order=2, smoothing="witten-bell").fit(TrainingData(stream, stream))
    path = tmp_path / "model.arpa"
    write_arpa(path, model, ["", "<unk>", "a", "b"])
    marks = r"""
\data\
ngram 1=5
ngram 2=4

\1-grams:
-99 <s> LOG(1/2)
LOG(11/32) </s> 0
LOG(3/32) <unk> 0
LOG(7/32) a LOG(1/2)
LOG(11/32) b LOG(1/3)

\2-grams:
LOG(23/64) <s> a
LOG(27/64) <s> b
LOG(43/64) a b
LOG(25/32) b </s>

\end\
"""

    def log10(fraction: re.Match[str]) -> str:
        return f"{math.log10(int(fraction[1]) / int(fraction[2])):.4f}"

    expected = re.sub(r"LOG\((\d+)/(\d+)\)", log10, marks).lstrip().split()
    found = path.read_text(encoding="utf-8").split()
    assert [f"{float(field):.4f}" if "." in field else field for field in found] == expected


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["", "<unk>", "a"], "must have the 4 words of the model, got 3"),
        (["", "<unk>", "a", "a"], "'a' .id 3. has another meaning"),
        (["", "<unk>", "a", "</s>"], "'</s>' .id 3. has another meaning"),
        (["", "<unk>", "<UNK>", "b"], "'<UNK>' .id 2. has another meaning"),
        (["", "<unk>", "a b", "b"], "'a b' .id 2. cannot be written: words of ARPA files have no spaces"),
        (["", "<unk>", "", "b"], "'' .id 2. cannot be written"),
        (["", "<unk>", "a\n", "b"], "cannot be written"),
    ],
)
def test_words_that_arpa_cannot_hold_are_refused(words: list[str], message: str, tmp_path: Path) -> None:
    model = ngram(4, order=2).fit(toy_data(4))
    with pytest.raises(ConfigurationError, match=message):
        write_arpa(tmp_path / "model.arpa", model, words)
    assert not list(tmp_path.iterdir())


def test_an_interrupt_leaves_nothing(tmp_path: Path) -> None:
    def interrupt(progress: Progress) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_arpa(tmp_path / "model.arpa", ngram(8, order=2).fit(toy_data(8)), WORDS, interrupt)
    assert not list(tmp_path.iterdir())


def test_progress_reaches_the_end(tmp_path: Path) -> None:
    seen: list[Progress] = []
    model = ngram(8, order=3).fit(toy_data(8))
    write_arpa(tmp_path / "model.arpa", model, WORDS, seen.append)
    assert (seen[-1].done, seen[-1].unit) == (seen[-1].total, "n-grams")
    seen.clear()
    read_arpa(tmp_path / "model.arpa", on_progress=seen.append)
    read = [progress for progress in seen if progress.unit == "bytes"]
    assert read[-1].done == read[-1].total == (tmp_path / "model.arpa").stat().st_size


def test_a_model_that_was_read_cannot_be_fitted(tmp_path: Path) -> None:
    _, model = read_arpa(written(tmp_path, PRUNED))
    with pytest.raises(ConfigurationError, match="read from a file: fit with kneser-ney, "):
        model.fit(toy_data(4))


# ---- KenLM ---------------------------------------------------------------------------------------

DATA = Path(os.environ.get("LMZOO_DATA", "")) / "brown-by-sentence"
needs_brown = pytest.mark.skipif(
    not os.environ.get("LMZOO_DATA") or not DATA.is_dir(), reason="LMZOO_DATA has no brown-by-sentence"
)


def kenlm_scores(path: Path, sentences: list[str]) -> list[float]:
    """log10 of every word and sentence end by KenLM."""
    kenlm = pytest.importorskip("kenlm", reason="the Python package kenlm is not installed")
    config = kenlm.Config()
    config.show_progress = False
    model = kenlm.Model(str(path), config)
    return [log_prob for sentence in sentences for log_prob, _, _ in model.full_scores(sentence)]


def random_sentences(rng: np.random.Generator, words: list[str], n_sentences: int) -> list[str]:
    return [" ".join(rng.choice(words, rng.integers(0, 12))) for _ in range(n_sentences)]


@pytest.mark.parametrize("order", [2, 3, 5])
@pytest.mark.parametrize("smoothing", ["kneser-ney", "witten-bell"])
def test_kenlm_scores_what_we_write_as_we_do(smoothing: str, order: int, tmp_path: Path) -> None:
    model = ngram(8, order=order, smoothing=smoothing).fit(toy_data(8))
    path = tmp_path / "model.arpa"
    write_arpa(path, model, WORDS)
    sentences = random_sentences(np.random.default_rng(order), [*WORDS[1:], "never-seen"], 200)
    np.testing.assert_allclose(log10_probs(model, WORDS, sentences), kenlm_scores(path, sentences), atol=1e-4)


def test_pruned_files_score_as_in_kenlm(tmp_path: Path) -> None:
    """Half of the n-grams that are no context of another are taken out at random, suffixes of others among them."""
    rng = np.random.default_rng(4)
    write_arpa(tmp_path / "whole.arpa", ngram(8, order=4).fit(toy_data(8)), WORDS)
    sections = re.split(r"(?<=grams:)\n", (tmp_path / "whole.arpa").read_text(encoding="utf-8"))
    kept: list[list[str]] = [[] for _ in range(4)]
    contexts: set[str] = set()
    for order in (4, 3, 2, 1):
        for line in sections[order].split("\n\n")[0].splitlines():
            words = line.split("\t")[1]
            if order == 1 or words in contexts or rng.random() < 0.5:
                kept[order - 1].append(line if words in contexts else line.rsplit("\t", order < 4)[0])
        contexts = {line.split("\t")[1].rpartition(" ")[0] for line in kept[order - 1]}
    counts = "".join(f"ngram {order}={len(lines)}\n" for order, lines in enumerate(kept, 1))
    body = "".join(f"\n\\{order}-grams:\n" + "\n".join(lines) + "\n" for order, lines in enumerate(kept, 1))
    path = written(tmp_path, f"\\data\\\n{counts}{body}\n\\end\\\n")
    words, model = read_arpa(path)
    assert model.arrays()["tokens"].size > 1 + len(words) + sum(map(len, kept[1:])), "suffixes are missing"
    sentences = random_sentences(rng, WORDS[1:], 300)
    np.testing.assert_allclose(log10_probs(model, words, sentences), kenlm_scores(path, sentences), atol=1e-4)


@needs_brown
@pytest.mark.parametrize("order", [3, pytest.param(5, marks=pytest.mark.slow)])
def test_brown_scores_as_in_kenlm(order: int) -> None:
    path = DATA / f"kenlm-{order}.arpa.gz"
    words, model = read_arpa(path)
    sentences = [
        line for split in ("test", "train") for line in (DATA / f"{split}.txt").read_text(encoding="utf-8").splitlines()
    ][:10_000]
    sentences[::9] = [f"{sentence} zyzzyva , the end" for sentence in sentences[::9]]
    np.testing.assert_allclose(log10_probs(model, words, sentences), kenlm_scores(path, sentences), atol=1e-4)
    for state in [model.initial_state(), *range(1, len(model.arrays()["backoffs"]), 40_000)]:
        assert np.exp(model.next_log_probs(state)).sum() == pytest.approx(1, abs=1e-5)


# ---- Predictors and the command line ---------------------------------------------------------------


@pytest.fixture(scope="module")
def fitted(corpus_folder: Path) -> Callable[[str], Predictor]:
    made: dict[str, Predictor] = {}

    def fit(tokenizer: str) -> Predictor:
        if tokenizer not in made:
            made[tokenizer] = Predictor.fit("ngram", corpus_folder, tokenizer=tokenizer, order=3)
        return made[tokenizer]

    return fit


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
    """So that KenLM, and a tokenizer of words, read them."""
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
    assert -sum(kenlm_scores(path, [spelled])) / math.log10(2) == pytest.approx(bits, rel=1e-5)


def test_a_closed_vocabulary_refuses_other_words(tmp_path: Path) -> None:
    predictor = predictor_from_arpa(written(tmp_path, PRUNED))
    assert predictor.tokenizer.vocab_size == 3
    assert predictor.complete("a", max_tokens=5, seed=1).split()[0] in ("a", "b")
    for ask in (predictor.surprisals, predictor.predict_distribution, predictor.complete):
        with pytest.raises(TokenizerError, match="'kitten' is not in the vocabulary, which has no <unk>"):
            ask("a b kitten a")


def test_a_tokenizer_of_other_words_is_refused(fitted: Callable[[str], Predictor], tmp_path: Path) -> None:
    with pytest.raises(SavedModelError, match=r"are not those of the 257 ids: .* is not in the file"):
        predictor_from_arpa(written(tmp_path, PRUNED), tokenizer=fitted("byte").tokenizer)


def test_only_ngram_models_are_arpa(markov_predictor: Predictor, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="only n-gram models can be written as ARPA, and this is a 'markov'"):
        predictor_to_arpa(markov_predictor, tmp_path / "model.arpa")


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

    monkeypatch.setattr(arpa, part, interrupted)
    source = written(tmp_path, PRUNED) if part == "link" else fitted("word").save(tmp_path / "home")
    assert run(["convert", str(source), str(tmp_path / "new.arpa")]) == 130
    assert list(tmp_path.iterdir()) == [source]


def test_convert_says_when_probabilities_do_not_sum_to_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(tmp_path, PRUNED)
    assert run(["convert", str(path), str(tmp_path / "out")]) == 0
    assert "they do not sum to 1: off by 0.12" in capsys.readouterr().err, "after b a: 7/8 + 1/8 + 1/8"


BAD_CALLS: dict[str, tuple[list[str], int, str]] = {
    "missing source": (["nothing.arpa", "out"], 1, "cannot read"),
    "a folder that is no predictor": ([".", "out.arpa"], 1, "no saved predictor"),
    "an ARPA file that is there": (["saved", "model.arpa"], 2, "left as it is: choose a new name"),
    "a folder that holds something else": (["model.arpa", "full"], 2, "holds other files"),
    "another species": (["saved", "out.arpa"], 2, "this is a 'markov'"),
    "a tokenizer for a predictor": (["saved", "out.arpa", "--tokenizer", "saved"], 2, "is for ARPA files"),
    "a damaged file": (["damaged.arpa", "out"], 1, "damaged.arpa:1: "),
    "a missing tokenizer": (["model.arpa", "out", "--tokenizer", "full"], 1, "tokenizer.json is missing"),
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


# ---- The page about moving over --------------------------------------------------------------------


def test_the_page_runs(
    fitted: Callable[[str], Predictor],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    page = (Path(__file__).parents[2] / "docs" / "kenlm.md").read_text(encoding="utf-8")
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
