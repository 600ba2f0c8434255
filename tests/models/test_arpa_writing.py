"""Writing ARPA files: worked by hand, read again, and scored by KenLM."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
import pytest
from arpa_files import WORDS, kenlm_scores, log10_probs, needs_kenlm, written

from lmzoo.errors import ConfigurationError
from lmzoo.language_model import Progress
from lmzoo.models.ngram import NgramModel, ngram
from lmzoo.models.ngram.arpa import files, read_arpa, write_arpa
from lmzoo.stream import TokenStream, TrainingData
from lmzoo.testing import toy_data


@pytest.fixture(scope="module")
def trigram_model() -> NgramModel:
    return ngram(8, order=3).fit(toy_data(8))


# ---- Read again ----------------------------------------------------------------------------------


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


@pytest.mark.parametrize("block", [1, 7, 64, 1000])
def test_blocks_of_any_size_give_the_same_model(
    block: int, trigram_model: NgramModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "model.arpa"
    write_arpa(path, trigram_model, WORDS)
    _, whole = read_arpa(path)
    monkeypatch.setattr(files, "_BLOCK", block)
    _, pieced = read_arpa(path)
    for name, array in whole.arrays().items():
        np.testing.assert_array_equal(pieced.arrays()[name], array)


def test_the_file_worked_by_hand(tmp_path: Path) -> None:
    """Writes the Witten-Bell model of order 2 of the documents "a b" and "b".

    Of 5 tokens, a occurs once, b and </s> twice: p(a) = (1 + 3/4) / 8 = 7/32, p(b) = p(</s>) = 11/32, p(<unk>) = 3/32.
    The left-over counts are 2 of 4 after <s> (a, b), 1 of 3 after b (</s> twice), and 1 of 2 after a (b).
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
        (["", "<unk>", "a"], "has 3 words, but the model has 4 tokens"),
        (["", "<unk>", "a", "a"], "'a' .id 3. is reserved in ARPA files or occurs twice"),
        (["", "<unk>", "a", "</s>"], "'</s>' .id 3. is reserved"),
        (["", "<unk>", "<UNK>", "b"], "'<UNK>' .id 2. is reserved"),
        (["", "<unk>", "a b", "b"], "'a b' .id 2. is empty or contains NUL, tab, line end or space, which ARPA files"),
        (["", "<unk>", "", "b"], "'' .id 2. is empty"),
        (["", "<unk>", "a\n", "b"], "contains NUL, tab, line end or space"),
        (["", "<unk>", "a\0b", "b"], "contains NUL, tab, line end or space"),
    ],
)
def test_words_that_arpa_cannot_hold_are_refused(words: list[str], message: str, tmp_path: Path) -> None:
    model = ngram(4, order=2).fit(toy_data(4))
    with pytest.raises(ConfigurationError, match=message):
        write_arpa(tmp_path / "model.arpa", model, words)
    assert not list(tmp_path.iterdir())


def test_an_interrupt_leaves_nothing(trigram_model: NgramModel, tmp_path: Path) -> None:
    def interrupt(progress: Progress) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_arpa(tmp_path / "model.arpa", trigram_model, WORDS, interrupt)
    assert not list(tmp_path.iterdir())


def test_progress_reaches_the_end(trigram_model: NgramModel, tmp_path: Path) -> None:
    seen: list[Progress] = []
    write_arpa(tmp_path / "model.arpa", trigram_model, WORDS, seen.append)
    assert (seen[-1].done, seen[-1].unit) == (seen[-1].total, "n-grams")
    seen.clear()
    read_arpa(tmp_path / "model.arpa", on_progress=seen.append)
    read = [progress for progress in seen if progress.unit == "bytes"]
    assert read[-1].done == read[-1].total == (tmp_path / "model.arpa").stat().st_size


# ---- KenLM ---------------------------------------------------------------------------------------


def random_sentences(rng: np.random.Generator, words: list[str], n_sentences: int) -> list[str]:
    return [" ".join(rng.choice(words, rng.integers(0, 12))) for _ in range(n_sentences)]


@needs_kenlm
@pytest.mark.parametrize("order", [2, 3, 5])
@pytest.mark.parametrize("smoothing", ["kneser-ney", "witten-bell"])
def test_kenlm_scores_what_we_write_as_we_do(smoothing: str, order: int, tmp_path: Path) -> None:
    model = ngram(8, order=order, smoothing=smoothing).fit(toy_data(8))
    path = tmp_path / "model.arpa"
    write_arpa(path, model, WORDS)
    sentences = random_sentences(np.random.default_rng(order), [*WORDS[1:], "never-seen"], 200)
    np.testing.assert_allclose(log10_probs(model, WORDS, sentences), kenlm_scores(path, sentences), atol=1e-4)


@needs_kenlm
def test_pruned_files_score_as_in_kenlm(tmp_path: Path) -> None:
    """Removes at random half of the n-grams that are no context of another, including suffixes of others."""
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
