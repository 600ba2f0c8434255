"""n-gram models: worked by hand, by a slow and simple second implementation, by nltk and by KenLM."""

from __future__ import annotations

import gzip
import math
import os
from collections import Counter
from pathlib import Path
from typing import Any

import nltk.lm
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nltk.lm.preprocessing import padded_everygram_pipeline
from numpy.typing import NDArray

from lmzoo.errors import ConfigurationError, LmzooError, SavedModelError, UnknownNameError
from lmzoo.language_model import Progress
from lmzoo.models.ngram import NgramModel, counting, ngram, scoring, trigram
from lmzoo.models.ngram import model as ngram_model
from lmzoo.models.ngram.compression import _worth
from lmzoo.models.ngram.counting import count_ngrams
from lmzoo.models.ngram.methods import SMOOTHINGS, Discounting, Katz
from lmzoo.models.ngram.smoothing import estimate
from lmzoo.models.ngram.workspace import parse_bytes
from lmzoo.stream import EOT, TokenStream, TrainingData
from lmzoo.testing import check_language_model, toy_data

Ngram = tuple[int, ...]

A, B, NEVER = 1, 2, 3
SINGLE = 1e-6  # log-probabilities are stored in single precision
HAND_MADE = TokenStream.from_documents([[B, B, B], [A], [A], [A, B], [A]])


def fitted(stream: TokenStream, vocab_size: int, valid: TokenStream | None = None, **args: Any) -> NgramModel:
    return ngram(vocab_size, **args).fit(TrainingData(stream, valid or stream))


def probs_after(model: NgramModel, *context: int) -> NDArray[np.float64]:
    return model.predict_distribution(context).probs


# ---- Worked by hand ------------------------------------------------------------------------------


def test_modified_kneser_ney_worked_by_hand() -> None:
    """Documents "b b b", "a", "a", "a b", "a" over {</s>, a, b, one word that never comes}; order 2.

    Bigrams: <s>a 4, a</s> 3, bb 2, b</s> 2, <s>b 1, ab 1. Two have count 1, two have 2, one has 3, one has 4, so
        Y = 2 / (2 + 2*2) = 1/3,  D1 = 1 - 2/3 * 2/2 = 1/3,  D2 = 2 - 3/3 * 1/2 = 3/2,  D3 = 3 - 4/3 * 1/1 = 5/3.
    Unigrams count the words before them: b 3 (<s> b a), </s> 2 (a b), a 1 (<s>), one of each count, 6 together, so
        Y = 1/3,  D1 = 1 - 2/3 = 1/3,  D2 = 2 - 3/3 = 1,  D3 = 3 - 0 = 3.
    They free (1/3 + 1 + 3) / 6 = 13/18, which the four words share:
        p(</s>) = (2-1)/6 + 13/18/4 = 25/72,  p(a) = (1-1/3)/6 + 13/72 = 21/72,  p(b) = 0 + 13/72,  p(never) = 13/72.
    After a (</s> 3 times, b once) 5/3 + 1/3 of 4 counts are free, so half of p comes from below:
        p(</s>|a) = (3-5/3)/4 + 25/144 = 73/144,  p(b|a) = (1-1/3)/4 + 13/144 = 37/144,
        p(a|a) = 21/144,  p(never|a) = 13/144.
    """
    model = fitted(HAND_MADE, 4, order=2)
    np.testing.assert_allclose(model.parameters, [[1 / 3, 1, 3], [1 / 3, 3 / 2, 5 / 3]], rtol=1e-12)
    np.testing.assert_allclose(probs_after(model, A), np.array([73, 21, 37, 13]) / 144, rtol=SINGLE)
    np.testing.assert_allclose(probs_after(model, NEVER), np.array([25, 21, 13, 13]) / 72, rtol=SINGLE)


def test_witten_bell_worked_by_hand() -> None:
    """13 tokens of 3 kinds, b 4 times: p(b) = (4 + 3/4) / 16. After a 4 of 2, b once: p(b|a) = (1 + 2 p(b)) / 6."""
    model = fitted(HAND_MADE, 4, order=2, smoothing="witten-bell")
    p_b = (4 + 3 / 4) / 16
    np.testing.assert_allclose(probs_after(model, NEVER)[B], p_b, rtol=SINGLE)
    np.testing.assert_allclose(probs_after(model, A)[B], (1 + 2 * p_b) / 6, rtol=SINGLE)


# ---- A second implementation: dictionaries, one n-gram at a time -----------------------------------


def windows(stream: TokenStream, order: int) -> Counter[Ngram]:
    """How often each n-gram of exactly this order occurs, a document start being one EOT before the document."""
    found: Counter[Ngram] = Counter()
    for document in stream.documents():
        ids = (EOT, *document.tolist())
        found.update(ids[i : i + order] for i in range(len(ids) - order + 1))
    if order == 1:
        found = Counter({(token,): count for token, count in Counter(stream.ids.tolist()).items()})
    return found


class Reference:
    """Chen & Goodman's formulas over dictionaries."""

    def __init__(self, stream: TokenStream, vocab_size: int, smoothing: str, model: NgramModel) -> None:
        self.vocab_size, self.order, self.smoothing, self.model = vocab_size, model.order, smoothing, model
        self.counts = {k: windows(stream, k) for k in range(1, self.order + 2)}
        if self.smoothing.startswith("kneser-ney"):
            for k in range(1, self.order):
                before = Counter(gram[1:] for gram in self.counts[k + 1])
                starts = {gram: count for gram, count in self.counts[k].items() if gram[0] == EOT and k > 1}
                self.counts[k] = Counter({**before, **starts})

    def discount(self, order: int, count: int) -> float:
        if self.smoothing == "kneser-ney-tuned":
            return [0.0, *self.model.parameters[order - 1]][min(count, 3)]
        t = Counter(self.counts[order].values())
        y = t[1] / (t[1] + 2 * t[2]) if t[1] and t[2] else None
        if self.smoothing not in ("kneser-ney", "kneser-ney-backoff"):
            return min(count, 1) * (y if y else (0, 0.5, 1.0, 1.5)[min(count, 3)])
        if y and t[3]:
            usable = [0.0, *(j - (j + 1) * y * t[j + 1] / t[j] for j in (1, 2, 3))]
            if min(usable[1:]) > 0:
                return usable[min(count, 3)]
        return (0, 0.5, 1.0, 1.5)[min(count, 3)]

    def good_turing(self, order: int, count: int) -> float:
        """Katz (1987), equation for d_r with k = 5, times the count."""
        t = Counter(self.counts[order].values())
        pays = 6 * t[6] / t[1] if t[1] else 1
        if not all(t[r] for r in range(1, 7)) or pays == 1:
            factors = [0.5, 0.75, 0.85, 0.9, 0.95]
        else:
            factors = [((r + 1) * t[r + 1] / (r * t[r]) - pays) / (1 - pays) for r in range(1, 6)]
            if min(factors) <= 0 or max(factors) >= 1:
                factors = [0.5, 0.75, 0.85, 0.9, 0.95]
        return count * [0, *factors, 1][min(count, 6)]

    def score(self, context: Ngram, token: int) -> float:
        """Brants et al. (2007), equation 5; below the unigram every token has 1 / V."""
        followers = {w: self.counts[len(context) + 1][(*context, w)] for w in range(self.vocab_size)}
        lower = self.score(context[1:], token) if context else 1 / self.vocab_size
        total = sum(followers.values())
        return followers[token] / total if followers[token] else 0.4 * lower

    def prob(self, context: Ngram, token: int) -> float:
        """p(token | context); the context begins with an EOT where the document does."""
        if len(context) > self.order - 1:
            return self.prob(context[len(context) - self.order + 1 :], token)
        if self.smoothing == "stupid-backoff":
            return self.score(context, token) / sum(self.score(context, w) for w in range(self.vocab_size))
        lower = self.prob(context[1:], token) if context else 1 / self.vocab_size
        order = len(context) + 1
        followers = {w: self.counts[order][(*context, w)] for w in range(self.vocab_size)}
        if self.smoothing in ("additive", "mle"):
            lower = 1 / self.vocab_size
            if order < self.order and context[:1] != (EOT,):
                return lower
        total = sum(followers.values())
        if not total:
            return lower
        count = followers[token]
        if self.smoothing in ("katz", "kneser-ney-backoff", "kneser-ney-1995"):
            if self.smoothing == "katz":
                kept = {w: self.good_turing(order, c) for w, c in followers.items() if c}
                freed = total - sum(kept.values()) or 1
            else:
                kept = {w: c - self.discount(order, c) for w, c in followers.items() if c}
                freed = total - sum(kept.values())
            rest = sum(self.prob(context[1:], w) if context else lower for w, c in followers.items() if not c)
            if not rest:
                return kept[token] / sum(kept.values())
            return (kept[token] if count else freed * lower / rest) / (sum(kept.values()) + freed)
        match self.smoothing:
            case "witten-bell":
                kinds = sum(c > 0 for c in followers.values())
                return (count + kinds * lower) / (total + kinds)
            case "jelinek-mercer":
                weight = self.model.parameters[order - 1, min(math.ceil(math.log2(total)), 19)]
                return weight * count / total + (1 - weight) * lower
            case "additive":
                return (count + 1) / (total + self.vocab_size)
            case "mle":
                return count / total
            case _:
                freed = sum(self.discount(order, c) for c in followers.values())
                return (count - self.discount(order, count) + freed * lower) / total


@pytest.mark.parametrize("order", [1, 2, 3, 4])
@pytest.mark.parametrize("smoothing", SMOOTHINGS)
def test_every_smoothing_equals_a_second_implementation(smoothing: str, order: int) -> None:
    data = toy_data(8)
    model = ngram(8, order=order, smoothing=smoothing).fit(data)
    reference = Reference(data.train, 8, smoothing, model)
    rng = np.random.default_rng(1)
    seen = [data.train.ids[i : i + order - 1].tolist() for i in range(0, 200, 7)]
    for context in [*(c for c in seen if EOT not in c), *rng.integers(1, 8, (10, order)).tolist(), [], [1]]:
        expected = [reference.prob((EOT, *context), token) for token in range(8)]
        np.testing.assert_allclose(probs_after(model, *context), expected, atol=SINGLE, err_msg=f"after {context}")


@pytest.mark.parametrize(
    ("smoothing", "order"), [*((smoothing, 3) for smoothing in SMOOTHINGS), *(("kneser-ney", k) for k in (1, 2, 12))]
)
def test_every_smoothing_and_order_keeps_every_law(smoothing: str, order: int) -> None:
    check_language_model(
        lambda vocab_size: ngram(vocab_size, order=order, smoothing=smoothing),
        tolerance=SINGLE,
        nonzero_probabilities=smoothing != "mle",
    )


def test_jelinek_mercer_weights_make_the_valid_split_most_likely() -> None:
    """No weight can be moved either way without loss (one token for "kept" and one for "freed" included)."""
    data = toy_data(12, n_documents=300)
    model = trigram(12).fit(data)
    counted = count_ngrams(data.train, 12, 3)

    def objective(parameters: NDArray[np.float64]) -> float:
        weights = estimate(counted, model.smoothing, parameters)
        likelihood = scoring.Matcher(counted.trie).log_probs(data.valid.ids, weights).sum()
        return float(likelihood + np.log(parameters * (1 - parameters)).sum())

    best = objective(model.parameters)
    for index in np.ndindex(model.parameters.shape):
        for odds in (0.6, 1.6):
            changed = model.parameters.copy()
            changed[index] *= odds / (1 - changed[index] + odds * changed[index])
            assert objective(changed) < best, f"weight {index} times {odds}"
    assert len(np.unique(model.parameters.round(3))) > 10


def test_tuned_discounts_make_the_valid_split_most_likely() -> None:
    """No discount inside its bounds can be moved either way without loss."""
    data = toy_data(12, n_documents=300)
    model = ngram(12, order=3, smoothing="kneser-ney-tuned").fit(data)
    counted = count_ngrams(data.train, 12, 3)

    def likelihood(parameters: NDArray[np.float64]) -> float:
        weights = estimate(counted, model.smoothing, parameters)
        return float(scoring.Matcher(counted.trie).log_probs(data.valid.ids, weights).sum())

    best, worse = likelihood(model.parameters), 0
    for index in np.ndindex(model.parameters.shape):
        if 0.03 < model.parameters[index] < index[1] + 0.97:
            for step in (-0.02, 0.02):
                changed = model.parameters.copy()
                changed[index] += step
                moved = likelihood(changed)
                assert moved < best + 1e-9, f"discount {index} {step:+}"
                worse += moved < best
    assert worse >= 8
    assert best > likelihood(ngram(12, order=3).fit(data).parameters)


def test_katz_discounts_worked_by_hand() -> None:
    """t = 100, 40, 20, 12, 8, 6 n-grams of counts 1 .. 6. Greater counts pay nothing, so with 6 t_6 / t_1 = 0.36,
    d_1 = (2*40/100 - 0.36) / 0.64 = 0.6875,  d_2 = (3*20/80 - 0.36) / 0.64 = 0.609375, and so on.
    """
    t = [100, 40, 20, 12, 8, 6]
    counts = np.repeat(np.arange(1, 7), t).astype(np.int32)
    expected = [((r + 1) * t[r] / (r * t[r - 1]) - 0.36) / 0.64 for r in range(1, 6)]
    assert expected[:2] == pytest.approx([0.6875, 0.609375])
    assert Katz()._factors(counts).tolist() == pytest.approx(expected)
    freed = counts.sum() - (counts * np.array([0, *expected, 1])[counts]).sum()
    assert freed == pytest.approx(t[0])  # Good-Turing: what came once is the share of what never came


# ---- Smaller, and larger than memory ----------------------------------------------------------------


def test_ngrams_are_worth_the_relative_entropy_that_their_loss_costs() -> None:
    """Takes each n-gram out by itself and compares the two distributions after its context, weighed by p(context)."""
    data = toy_data(8)
    model = ngram(8, order=3).fit(data)
    trie, weights = model._trie, model._weights
    for context in range(1, trie.n_contexts):
        path = [context]
        while (parent := int(np.searchsorted(trie.first_child, path[-1], side="right")) - 1) > 0:
            path.append(parent)
        p_context = math.exp(float(weights.values[path].sum()))
        before = model.next_log_probs(context)
        lower = model.next_log_probs(int(trie.suffixes[context]))
        family = range(trie.children(context).start, trie.children(context).stop)
        for node in family:
            others = [int(trie.tokens[other]) for other in family if other != node]
            after = lower + math.log((1 - np.exp(before[others]).sum()) / (1 - np.exp(lower[others]).sum()))
            after[others] = before[others]
            cost = math.expm1(p_context * float(np.exp(before) @ (before - after)))
            for threshold, stays in ((cost - 1e-6, True), (cost + 1e-6, False)):
                keep = _worth(trie, weights, threshold)
                needed = (
                    node < trie.n_contexts
                    or node
                    in trie.suffixes[trie.levels[trie.order_of(node)] :][keep[trie.levels[trie.order_of(node)] :]]
                )
                assert keep[node] == stays or (needed and keep[node]), (context, node)


def test_pruning_makes_a_smaller_model_that_says_nearly_the_same() -> None:
    data = toy_data(30, n_documents=400)
    full, pruned = (ngram(30, order=4, prune=prune).fit(data) for prune in (0, 1e-4))
    assert pruned._trie.tokens.size < 0.8 * full._trie.tokens.size
    assert pruned.log_probs(data.valid).mean() > full.log_probs(data.valid).mean() - 0.02
    check_language_model(lambda vocab_size: ngram(vocab_size, order=4, prune=0.01), tolerance=2 * SINGLE)
    with pytest.raises(ConfigurationError, match="prune"):
        ngram(30, prune=1.5)


def test_quantising_takes_a_byte_and_says_nearly_the_same() -> None:
    data = toy_data(30, n_documents=400)
    full, small = (ngram(30, order=4, quantise=quantise).fit(data) for quantise in (False, True))
    saved = small.arrays()
    assert (saved["codes"].dtype, saved["codes"].size, saved["codebook"].size) == (
        np.uint8,
        small._trie.tokens.size,
        287,
    )
    assert small.log_probs(data.valid).mean() == pytest.approx(full.log_probs(data.valid).mean(), abs=0.01)
    children = small._trie.level(4)
    rounding = full._weights.log_probs(children) - small._weights.log_probs(children)
    assert rounding.min() >= 0
    assert 0 < rounding.max() < 0.5
    for settings_ in ({"quantise": True}, {"quantise": True, "prune": 0.01}, {"quantise": True, "order": 1}):
        check_language_model(lambda vocab_size, more=settings_: ngram(vocab_size, **more), tolerance=2 * SINGLE)


@pytest.mark.parametrize("smoothing", ["kneser-ney", "stupid-backoff"])
def test_a_fit_on_disk_equals_one_in_memory(smoothing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counting, "_BUCKET", 100)
    data = toy_data(40, n_documents=200)
    in_memory, on_disk = (ngram(40, smoothing=smoothing, memory=memory).fit(data) for memory in ("1G", "1K"))
    for name, array in in_memory.arrays().items():
        np.testing.assert_array_equal(on_disk.arrays()[name], array, err_msg=name)


def test_a_full_disk_is_an_error_with_advice(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full, raising=False)
    with pytest.raises(LmzooError, match=r"No space left on device.*TMPDIR"):
        ngram(12, memory="1K").fit(toy_data(12))


def test_sizes_of_memory() -> None:
    assert [parse_bytes(size) for size in ("500M", "1.5GB", "2 KiB", "123")] == [500 * 2**20, 3 * 2**29, 2048, 123]
    for wrong in ("", "-1G", "much", "1X"):
        with pytest.raises(ConfigurationError, match="500M"):
            parse_bytes(wrong)


# ---- nltk.lm ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("smoothing", "peer"), [("mle", nltk.lm.MLE), ("additive:0.3", lambda order: nltk.lm.Lidstone(0.3, order))]
)
def test_equals_nltk_where_nltk_is_right(smoothing: str, peer: Any) -> None:
    """nltk is right where only the highest order counts. Elsewhere it counts `<s>` as a unigram, its unigrams are not
    smoothed, and Kneser-Ney gives words that it has not seen exactly 0."""
    data = toy_data(8)
    theirs = peer(2)
    theirs.fit(*padded_everygram_pipeline(2, [list(map(str, ids[:-1].tolist())) for ids in data.train.documents()]))
    names = ["</s>", *map(str, range(1, 6))]
    assert set(theirs.vocab) == {"<s>", "<UNK>", *names}
    model = ngram(len(theirs.vocab), order=2, smoothing=smoothing).fit(data)
    for context in range(6):
        given_context = ["<s>" if context == EOT else str(context)]
        expected = [theirs.score(name, given_context) for name in names]
        np.testing.assert_allclose(probs_after(model, context)[:6], expected, rtol=SINGLE)


# ---- KenLM -----------------------------------------------------------------------------------------

DATA = Path(os.environ.get("LMZOO_DATA", "")) / "brown-by-sentence"
SHAKESPEARE = DATA.parent / "tinyshakespeare.txt"
needs_brown = pytest.mark.skipif(
    not os.environ.get("LMZOO_DATA") or not DATA.is_dir(), reason="LMZOO_DATA has no brown-by-sentence"
)


def read_arpa(path: Path, vocabulary: dict[str, int]) -> list[tuple[NDArray[np.int32], NDArray, NDArray]]:
    """(M, k) ids, (M,) log10 probabilities and (M,) log10 back-off weights of each order k, sorted by ids."""
    text = gzip.decompress(path.read_bytes()).decode("utf-8")
    sections = [section.rpartition("\n\\")[0] for section in text.split("-grams:\n")[1:]]
    orders = []
    for k, section in enumerate(sections, 1):
        fields = section.split()
        width = k + 2 if k < len(sections) else k + 1
        ids = np.column_stack(
            [np.fromiter(map(vocabulary.__getitem__, fields[1 + j :: width]), np.int32) for j in range(k)]
        )
        log_probs = np.fromiter(map(float, fields[::width]), float)
        backoffs = np.fromiter(map(float, fields[k + 1 :: width]), float) if width > k + 1 else np.zeros_like(log_probs)
        order = np.lexsort(ids.T[::-1])
        orders.append((ids[order], log_probs[order], backoffs[order]))
    return orders


@needs_brown
@pytest.mark.parametrize(("order", "perplexity"), [(3, 139.8), pytest.param(5, 138.8, marks=pytest.mark.slow)])
def test_equals_kenlm_on_brown(order: int, perplexity: float) -> None:
    """Every n-gram, probability and back-off weight of `lmplz`, and the perplexity of the test sentences."""
    vocabulary = {"</s>": EOT, "<unk>": 1}  # KenLM's own <unk>, which never occurs here

    def stream(split: str) -> TokenStream:
        lines = (DATA / f"{split}.txt").read_text(encoding="utf-8").splitlines()
        return TokenStream.from_documents(
            [vocabulary.setdefault(word, len(vocabulary)) for word in line.split()] for line in lines
        )

    train, valid, test = map(stream, ("train", "valid", "test"))
    model = fitted(train, len(vocabulary), valid, order=order)
    trie = model._trie
    ids = np.empty((1, 0), np.int32)  # the n-gram of each node of a level
    for k, (theirs, log10_probs, log10_backoffs) in enumerate(
        read_arpa(DATA / f"kenlm-{order}.arpa.gz", {**vocabulary, "<s>": EOT}), 1
    ):
        contexts, nodes = trie.level(k - 1), trie.level(k)
        sizes = np.diff(trie.first_child[contexts.start : contexts.stop + 1])
        ids = np.column_stack([np.repeat(ids, sizes, axis=0), trie.tokens[nodes]])
        if k == 1:  # <s> and </s> are two lines there and one node here: a context and a token
            start, end = (0, 1) if log10_probs[0] == 0 else (1, 0)
            log10_probs[0], log10_backoffs[0] = log10_probs[end], log10_backoffs[start]
            theirs, log10_probs, log10_backoffs = (
                np.delete(x, 1, axis=0) for x in (theirs, log10_probs, log10_backoffs)
            )
        np.testing.assert_array_equal(ids, theirs)
        np.testing.assert_allclose(model._weights.log_probs(nodes) / math.log(10), log10_probs, rtol=0, atol=2e-6)
        if k < order:
            np.testing.assert_allclose(model._weights.backoffs[nodes] / math.log(10), log10_backoffs, rtol=0, atol=2e-6)
    assert round(math.exp(-model.log_probs(test).mean()), 1) == perplexity


@pytest.mark.skipif(not SHAKESPEARE.is_file(), reason="LMZOO_DATA has no tinyshakespeare.txt")
@pytest.mark.parametrize(("order", "bits"), [(6, 2.197), (10, 2.196)])
def test_equals_kenlm_on_characters(order: int, bits: float) -> None:
    """One stream, 90/10. KenLM needs --discount_fallback here, since no character is rare; bits a character are its."""
    text = SHAKESPEARE.read_text(encoding="utf-8")
    letters = sorted(set(text))
    ids = 2 + np.searchsorted(letters, list(text))  # 0 and 1 are KenLM's </s> and <unk>
    train, valid = TokenStream(ids[: int(0.9 * len(ids))]), TokenStream(ids[int(0.9 * len(ids)) :])
    model = fitted(train, 2 + len(letters), order=order)
    assert model.parameters[0].tolist() == list(Discounting.FALLBACK)
    assert -model.log_probs(valid).mean() / math.log(2) == pytest.approx(bits, abs=1e-3)


# ---- The trie --------------------------------------------------------------------------------------

streams = st.lists(st.integers(0, 4), min_size=1, max_size=40).map(lambda ids: TokenStream(np.array(ids, np.int32)))


@given(stream=streams, order=st.integers(1, 6))
@settings(max_examples=150, deadline=None)
def test_the_trie_holds_every_ngram_once_in_order(stream: TokenStream, order: int) -> None:
    counted = count_ngrams(stream, 5, order)
    trie = counted.trie
    grams: list[Ngram] = [()]
    for context in range(trie.n_contexts):
        family = trie.children(context)
        assert family.start == len(grams)
        grams += [(*grams[context], int(token)) for token in trie.tokens[family]]
    assert len(grams) == trie.tokens.size
    for k in range(1, order + 1):
        level = trie.level(k)
        of_level, expected = grams[level], windows(stream, k)
        assert of_level == (sorted(expected) if k > 1 else [(token,) for token in range(5)])
        assert counted.counts[level].tolist() == [expected[gram] for gram in of_level]
    assert [grams[suffix] for suffix in trie.suffixes] == [gram[1:] for gram in grams]


@given(stream=streams, text=streams, order=st.integers(1, 6))
@settings(max_examples=100, deadline=None)
def test_walking_climbing_and_hashing_match_the_same_ngrams(stream: TokenStream, text: TokenStream, order: int) -> None:
    model = fitted(stream, 5, order=order)
    state, walked = model.initial_state(), []
    for token in text.ids.tolist():
        walked.append((model.matched_order(state, token), model.next_log_probs(state)[token]))
        state = model.advance(state, token)
    with pytest.MonkeyPatch.context() as patch:
        for pays_off, table_bytes, block in ((1000, 1 << 20, 1000), (-1, 1 << 20, 1000), (-1, 1 << 20, 3), (-1, 1, 3)):
            patch.setattr(scoring, "_PAYS_OFF", pays_off)
            patch.setattr(scoring, "_TABLE_BYTES", table_bytes)
            patch.setattr(scoring, "_BLOCK", block)
            model.load_arrays(model.arrays())  # forgets the hash table
            assert model.matched_orders(text).tolist() == [order for order, _ in walked]
            np.testing.assert_allclose(model.log_probs(text), [log_prob for _, log_prob in walked], atol=1e-12)


@pytest.mark.parametrize(
    "more",
    [{}, {"order": 1}, {"order": 4, "quantise": True}, {"smoothing": "katz", "prune": 0.001}, {"smoothing": "mle"}],
)
def test_ranks_and_entropies_without_the_distributions(more: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    data = toy_data(30, n_documents=100)
    model = ngram(30, **{"order": 3, **more}).fit(data)
    text = TokenStream.from_documents([*(ids[:-1] for ids in data.valid.documents()), [28, 29, 1, 28], [5] * 9])
    expected = model.token_stats(text)  # a short text: from whole distributions
    monkeypatch.setattr(ngram_model, "_LONG_TEXT", 0)
    monkeypatch.setattr(ngram_model, "_BLOCK", 7)
    reports: list[Progress] = []
    found = model.token_stats(text, reports.append)
    np.testing.assert_array_equal(found.ranks, expected.ranks)
    np.testing.assert_allclose(found.entropies, expected.entropies, atol=SINGLE)
    np.testing.assert_allclose(found.top_log_probs, expected.top_log_probs, atol=SINGLE)
    np.testing.assert_allclose(found.log_probs, expected.log_probs, atol=1e-12)
    assert reports[-1].done == len(text)
    assert len(np.unique(expected.ranks)) > 10


def test_no_ngram_crosses_a_document_end() -> None:
    model = fitted(TokenStream.from_documents([[A, B], [A, B]]), 4, order=4)
    np.testing.assert_array_equal(model.matched_orders([A, B, EOT, A, B, A]), [2, 3, 4, 2, 3, 1])


# ---- Small texts, settings, saving -------------------------------------------------------------------


def test_discounts_fall_back_order_by_order() -> None:
    # Every bigram comes once: no t2. The continuations are a 3 (<s> a b), b 2 (a b), </s> 1 (a): one of each count.
    model = fitted(TokenStream.from_documents([[A, A, B, B, A]]), 4, order=2)
    np.testing.assert_allclose(model.parameters, [[1 / 3, 1, 3], Discounting.FALLBACK])


def test_characters_at_a_high_order() -> None:
    """All families of the lower orders are full: nothing is left to back off for, and everything still sums to 1."""
    rng = np.random.default_rng(0)
    stream = TokenStream.from_documents(rng.integers(1, 6, (40, 60)))
    model = fitted(stream, 6, order=12)
    for context in ([1], [1, 2], [1, 2, 3, 4, 5] * 3):
        np.testing.assert_allclose(
            np.exp(model.next_log_probs(model.state_after(np.array(context)))).sum(), 1, atol=1e-12
        )


@pytest.mark.parametrize(
    ("args", "kind", "message"),
    [
        ({"order": 0}, ConfigurationError, "order .* from 1 to 100, got 0"),
        ({"order": 101}, ConfigurationError, "got 101"),
        ({"smoothing": "kneserney"}, UnknownNameError, "did you mean 'kneser-ney'"),
        ({"smoothing": "additive:0"}, ConfigurationError, "above 0, as in 'additive:0.1'; got 'additive:0'"),
        ({"smoothing": "additive:x"}, ConfigurationError, "got 'additive:x'"),
        ({"smoothing": "absolute:0.5"}, ConfigurationError, "only 'additive' takes a number"),
    ],
)
def test_wrong_settings_are_refused(args: dict[str, Any], kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        ngram(4, **args)


def test_hostile_arrays_are_refused() -> None:
    """Whatever could send a kernel outside its arrays, or round in circles, is found when a model is loaded."""
    model = fitted(HAND_MADE, 4, order=3)
    saved = model.arrays()
    changes = [
        ("tokens", -1, 4), ("tokens", -1, -1), ("tokens", 2, 3),
        ("first_child", 3, 2**31 - 1), ("first_child", 3, -5), ("first_child", 5, 0),
        ("suffixes", -1, len(saved["tokens"]) - 1), ("suffixes", 6, 6), ("suffixes", 3, -1), ("suffixes", 0, 1),
        ("levels", 1, 0), ("levels", 3, 10**6), ("levels", -1, 2**40),
        ("log_probs", 4, np.nan), ("log_probs", 4, 0.5), ("backoffs", 2, np.nan), ("backoffs", 2, np.inf),
    ]  # fmt: skip
    for name, index, value in changes:
        damaged = saved[name].copy()
        damaged[index] = value
        with pytest.raises(SavedModelError):
            ngram(4, order=3).load_arrays({**saved, name: damaged})
    with pytest.raises(SavedModelError):
        ngram(4, order=4).load_arrays(saved)
    with pytest.raises(SavedModelError):
        ngram(5, order=3).load_arrays(saved)
    unaligned = np.frombuffer(b"0" + saved["log_probs"].tobytes(), np.uint8)[1:].view(np.float32)
    loaded = ngram(4, order=3).load_arrays({**saved, "log_probs": unaligned})
    np.testing.assert_array_equal(loaded.log_probs([A, B, B]), model.log_probs([A, B, B]))
