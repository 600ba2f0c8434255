"""Reading ARPA files: worked by hand, with missing n-grams, and damaged in every way."""

from __future__ import annotations

import gzip
import math
from pathlib import Path

import numpy as np
import pytest
from arpa_files import PRUNED, written
from hypothesis import given, settings
from hypothesis import strategies as st

from lmzoo.errors import ConfigurationError, SavedModelError
from lmzoo.models.ngram.arpa import read_arpa
from lmzoo.models.ngram.arpa.lines import Lexicon
from lmzoo.stream import EOT
from lmzoo.testing import toy_data

# ---- Worked by hand ------------------------------------------------------------------------------


def test_a_pruned_file_worked_by_hand(tmp_path: Path) -> None:
    """Reads a file as SRILM writes them: unsorted, without weights of 1, and without some contexts and suffixes.

    The file as probabilities: p(</s>) = p(a) = 1/4, p(b) = 1/2, weights <s> 1/2, a 1/2, b 1;
    p(b|a) = 3/4, weight of "a b" 2/3; p(a|<s>) = 5/8; p(b|b a) = 7/8; p(</s>|a b) = 1/2. So
        at the start      </s> 1/2 * 1/4 = 1/8, a 5/8, b 1/2 * 1/2 = 1/4
        after <s> a       as after a: </s> 1/2 * 1/4 = 1/8, a 1/8, b 3/4
        after a b         </s> 1/2, a 2/3 * 1/4 = 1/6, b 2/3 * 1/2 = 1/3; after b: the unigrams
        after b a         </s> 1/8, a 1/8, b 7/8: "b a" is not in the file, so its weight is 1 (and the sum is not 1)
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
    text = PRUNED.replace("-0.20412", "-inf").replace("-0.05799195", "1e-6").replace("-0.1249387", "-1e39")
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


def test_numbers_are_read_to_the_last_bit() -> None:
    """Compares numbers with Python's float to 15 digits; lines that are left to Python are not changed."""
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


# ---- Missing n-grams -----------------------------------------------------------------------------


Ngrams = dict[tuple[str, ...], tuple[float, float]]


@st.composite
def files_with_gaps(draw: st.DrawFn) -> list[Ngrams]:
    """Draws n-grams with log10 probability and weight for each order: all unigrams, and any longer ones."""
    values = st.tuples(st.integers(-3000, 0).map(lambda value: value / 1000), st.sampled_from([0.0, -0.5, -2.25]))
    words = ("</s>", "a", "b", "c")
    orders = [{(word,): draw(values) for word in ("<s>", *words)}]
    for k in range(2, draw(st.integers(1, 5)) + 1):
        middle = st.tuples(st.sampled_from(("<s>", "a", "b", "c")), *[st.sampled_from("abc")] * (k - 2))
        ngram_of_k = st.builds(lambda context, word: (*context, word), middle, st.sampled_from(words))
        orders.append(draw(st.dictionaries(ngram_of_k, values, max_size=12)))
    return orders


@given(orders=files_with_gaps(), context=st.lists(st.sampled_from("abc"), max_size=6))
@settings(max_examples=60)
def test_gaps_change_no_probability(
    orders: list[Ngrams], context: list[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Compares the model with the definition of backing off, by which missing n-grams get their probability."""
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


# ---- Damaged files -------------------------------------------------------------------------------


GOOD = PRUNED.lstrip().encode()


def change(old: str, new: str, count: int = -1) -> bytes:
    changed = GOOD.replace(old.encode(), new.encode("utf-8", "surrogateescape"), count)
    assert changed != GOOD
    return changed


DAMAGED: dict[str, tuple[bytes, int, str]] = {
    "empty": (b"", 1, "not an ARPA file"),
    "something else": (b"To be, or not to be\n" * 5000, 1000, "not an ARPA file"),
    "UTF-16": (GOOD.decode().encode("utf-16"), 1, "this is text in UTF-16: convert the file to UTF-8"),
    "an endless line": (b"x" * 3_000_000, 1, "longer than 1,048,576 bytes"),
    "KenLM's binary": (b"mmap lm http://kheafield.com/code format version 5\n\x00", 1, "KenLM's binary format"),
    "no counts": (b"\\data\\\n\n\\1-grams:\n", 3, "expected 'ngram 1=COUNT', got '\\1-grams:'"),
    "counts that skip one": (change("ngram 2", "ngram 3", 1), 3, "expected 'ngram 2=COUNT' or an empty line, got"),
    "negative count": (change("ngram 2=2", "ngram 2=-2"), 3, "got 'ngram 2=-2'"),
    "huge count": (change("ngram 2=2", "ngram 2=1000000000000"), 16, "states 1,000,000,000,000 2-grams, but only 2"),
    "count of many digits": (change("ngram 2=2", "ngram 2=" + "9" * 10000), 3, "expected 'ngram 2=COUNT'"),
    "huge order": (b"\\data\\\n" + b"".join(b"ngram %d=1\n" % k for k in range(1, 200)) + b"\n", 201, "199 orders"),
    "one unigram too few": (change("ngram 1=4", "ngram 1=5"), 12, "states 5 1-grams, but only 4"),
    "one unigram too many": (change("ngram 1=4", "ngram 1=3"), 10, "states 3 1-grams, but this is one more"),
    "one bigram too few": (change("ngram 2=2", "ngram 2=3"), 16, "states 3 2-grams, but only 2"),
    "one bigram too many": (change("ngram 2=2", "ngram 2=1"), 14, "states 1 2-grams, but this is one more"),
    "order left out": (change("\\2-grams:\n", "\\3-grams:\n", 1), 12, "expected \\2-grams:, got '\\3-grams:'"),
    "no end": (change("\\end\\\n", ""), 20, "expected \\end\\, got the end of the file"),
    "cut off": (GOOD[: GOOD.index(b"\\3-grams")], 16, "expected \\3-grams:, got the end of the file"),
    "cut off in a line": (GOOD[: GOOD.index(b" </s>\n\n\\end")], 18, "this line has 3 fields, but a 3-gram"),
    "IRSTLM's text format": (b"iARPA\n\n" + GOOD, 1, "this is a format of IRSTLM: write an ARPA file with compile-lm"),
    "IRSTLM's binary format": (b"blmt 3 4 2 2\nNgram_1\n", 1, "this is a format of IRSTLM"),
    "words after the end": (GOOD + b"\n\nmore\n", 23, "continues after \\end\\ with 'more'"),
    "no </s>": (change("\t</s>", "\tc", 1), 12, "lack </s>"),
    "no <s>": (change("\t<s>\t", "\tc\t"), 12, "lack <s>"),
    "both unknowns": (change("\ta\t", "\t<unk>\t").replace(b"\tb\n", b"\t<UNK>\n"), 12, "both <unk> and <UNK>"),
    "NaN": (change("-0.20412", "nan"), 14, "expected a decimal number such as -1.25, got 'nan'"),
    "positive": (change("-0.20412", "0.20412"), 14, "the log10 probability is '0.20412'"),
    "infinite": (change("-0.60206\ta", "inf\ta"), 7, "expected a decimal number such as -1.25, got 'inf'"),
    "no number": (change("-0.20412", "-0.2.0412"), 14, "expected a decimal number such as -1.25, got '-0.2.0412'"),
    "a word for a weight": (change("b\t-0.1760913", "b\tweight"), 13, "number such as -1.25, got 'weight'"),
    "NaN weight": (change("b\t-0.1760913", "b\tnan"), 13, "expected a decimal number such as -1.25, got 'nan'"),
    "infinite weight": (change("a\t-0.30103", "a\t-inf"), 7, "the log10 back-off weight is -inf"),
    "enormous weight": (change("b\t-0.1760913", "b\t1e9"), 13, "weight is 1e+09, but it must be from -300 to 300"),
    "a weight too many": (change("a b </s>", "a b </s>\t-0.5"), 18, "weight is -0.5, but it must be 0 or left out"),
    "too few fields": (change("\ta b\t-0.1760913", "\tb"), 13, "this line has 2 fields, but a 2-gram needs 3 or 4"),
    "too many fields": (change("\ta b\t", "\ta b b b\t"), 13, "this line has 6 fields"),
    "unknown word": (change("\ta b\t", "\ta kitten\t"), 13, "the word 'kitten' is not among the 1-grams"),
    "same unigram twice": (change("\tb\n", "\ta\n"), 9, "this 1-gram occurs for the second time"),
    "same trigram twice": (change("\tb a b", "\ta b </s>"), 18, "this 3-gram occurs for the second time"),
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


def test_a_model_that_was_read_cannot_be_fitted(tmp_path: Path) -> None:
    _, model = read_arpa(written(tmp_path, PRUNED))
    with pytest.raises(ConfigurationError, match="a model that was read from a file: fit with kneser-ney, "):
        model.fit(toy_data(4))
