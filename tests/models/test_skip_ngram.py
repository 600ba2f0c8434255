"""Skip n-grams: tables worked by hand, and the whole model against an implementation with dictionaries."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np
import pytest

from lmzoo.errors import ConfigurationError, SavedModelError
from lmzoo.models.ngram import ngram
from lmzoo.models.skip_ngram import skip_ngram
from lmzoo.models.skip_ngram.tables import count_contexts, recent_tokens
from lmzoo.stream import EOT, TokenStream, TrainingData
from lmzoo.testing import LAWS, Law, Specimen, toy_data


def histories(stream: TokenStream, order: int) -> list[tuple[int, ...]]:
    """Returns the last n - 1 tokens before each position, the last one first; EOT before the start of a document."""
    result, state = [], (EOT,) * (order - 1)
    for token in stream.ids.tolist():
        result.append(state)
        state = (EOT,) * (order - 1) if token == EOT else (token, *state[:-1])
    return result


class Slow:
    """A skip n-gram model with dictionaries, by the formulas of the package; a pattern is a tuple of distances."""

    def __init__(self, data: TrainingData, vocab_size: int, order: int) -> None:
        self.vocab_size, self.order = vocab_size, order
        self.patterns = sorted(  # the nearest places weigh most
            (tuple(k for k in range(1, order) if bits >> (k - 1) & 1) for bits in range(1 << (order - 1))),
            key=lambda pattern: -sum(0.5**k for k in pattern),
        )
        self.counts = {pattern: self._counts(pattern, data.train) for pattern in self.patterns}
        self.discounts = {}
        for pattern, families in self.counts.items():
            values = [count for family in families.values() for count in family.values()]
            t1, t2 = values.count(1), values.count(2)
            self.discounts[pattern] = t1 / (t1 + 2 * t2) if t1 and t2 else 0.5
        self.lambdas = {(pattern, b): 1 - (b + 0.5) / 100 for pattern in self.patterns for b in range(100)}
        self._learn(data.valid)

    def _counts(self, pattern: tuple[int, ...], train: TokenStream) -> dict[tuple[int, ...], Counter[int]]:
        occurrences: dict[tuple[int, ...], Counter[int]] = defaultdict(Counter)
        before = defaultdict(set)
        farther = max(pattern, default=0) + 1
        for history, token in zip(histories(train, self.order), train.ids.tolist(), strict=True):
            context = tuple(history[k - 1] for k in pattern)
            occurrences[context][token] += 1
            if farther < self.order:
                before[context, token].add(history[farther - 1])
        for context, token in before:
            if not (context and context[-1] == EOT):
                occurrences[context][token] = len(before[context, token])
        return occurrences

    def asked(self, history: tuple[int, ...], token: int) -> list[tuple[tuple[tuple[int, ...], int], float]]:
        """Returns, for each context that occurs in training, the key of its lambda and its probability of `token`."""
        result = []
        for pattern in self.patterns:
            family = self.counts[pattern].get(tuple(history[k - 1] for k in pattern))
            if family:
                discount, total = self.discounts[pattern], sum(family.values())
                kept = sum(count - discount for count in family.values())
                own = (family[token] - discount) / kept if token in family else 0.0
                result.append(((pattern, min(int((1 - kept / total) * 100), 99)), own))
        return result

    def prob(self, history: tuple[int, ...], token: int) -> float:
        p = 1 / self.vocab_size
        for who, own in reversed(self.asked(history, token)):
            p = self.lambdas[who] * own + (1 - self.lambdas[who]) * p
        return p

    def _learn(self, valid: TokenStream) -> None:
        questions = list(zip(histories(valid, self.order), valid.ids.tolist(), strict=True))
        prior, best = dict(self.lambdas), -np.inf
        while True:
            drawn, reached, log_likelihood = defaultdict(float), defaultdict(float), 0.0
            for history, token in questions:
                p = self.prob(history, token)
                log_likelihood += np.log(p) / len(questions)
                passed, not_drawn = 1.0, 1.0
                for who, own in self.asked(history, token):
                    reached[who] += not_drawn
                    mine = passed * self.lambdas[who] * own / p
                    drawn[who] += mine
                    not_drawn -= mine
                    passed *= 1 - self.lambdas[who]
            self.lambdas = {who: (drawn[who] + prior[who]) / (reached[who] + 1) for who in prior}
            if log_likelihood - best < 1e-6:
                return
            best = log_likelihood


@pytest.mark.parametrize("order", [2, 3, 4])
def test_model_equals_a_slow_implementation(order: int) -> None:
    data = toy_data(9, n_documents=16, seed=order)
    model, slow = skip_ngram(9, order=order).fit(data), Slow(data, 9, order)
    unseen = TokenStream(np.array([8, 3, 7, 2, 2, EOT, 5, 8, 8, 4]))
    for stream in (data.valid, unseen):
        expected = [
            slow.prob(history, token)
            for history, token in zip(histories(stream, order), stream.ids.tolist(), strict=True)
        ]
        np.testing.assert_allclose(np.exp(model.log_probs(stream)), expected, rtol=1e-9)


def test_tables_worked_by_hand() -> None:
    # Documents "1 2 3" and "2 2 3", n = 3. After the last token 2 (pattern 10) came
    #     3 in "1 2 3" and "2 2 3": preceded in two ways;   2 in "0 2 2": in one.
    # Counts by pattern 10: after 0: 1 and 2, once each (they occur once, and nothing comes before a start); after 1: 2,
    # in one way; after 2: 2 in one and 3 in two ways; after 3: 0, once after 2 3, which occurs twice: in one way.
    # So t1 = 5, t2 = 1, D = 5 / (5 + 2) = 5/7. After 2: (1 - 5/7, 2 - 5/7) = (2/7, 9/7), and 10/7 of 3 are freed.
    tables, freed = count_contexts(TokenStream(np.array([1, 2, 3, 0, 2, 2, 3, 0])), 4, 3, None)
    contexts = tables.find(np.array([[2], [3]]))[:, 0]  # the last token 2, the one before it 3
    assert contexts[0b11] == tables.keys.size, "3 2 was never seen"
    after_2 = slice(*tables.starts[contexts[0b10] :][:2].tolist())
    assert tables.tokens[after_2].tolist() == [2, 3]
    np.testing.assert_allclose(tables.probs[after_2], [2 / 11, 9 / 11])
    assert freed[contexts[0b10]] == pytest.approx(10 / 7 / 3)
    assert contexts[0b01] == tables.keys.size, "3 _ was never seen, either"
    # With a gap, pattern 01, came after 0: 1 once and 2 three times; after 1: 3 once; after 2: 0 twice and 3 once. So
    # t1 = 3, t2 = 1, D = 3 / (3 + 2) = 3/5. After 2 _: (2 - 3/5, 1 - 3/5) = (7/5, 2/5), and 6/5 of 3 are freed.
    behind_a_gap = tables.find(np.array([[1], [2]]))[0b01, 0]
    after_2 = slice(*tables.starts[behind_a_gap:][:2].tolist())
    assert tables.tokens[after_2].tolist() == [0, 3]
    np.testing.assert_allclose(tables.probs[after_2], [7 / 9, 2 / 9])
    assert freed[behind_a_gap] == pytest.approx(6 / 5 / 3)


def test_a_document_starts_after_ends_of_text() -> None:
    recent = recent_tokens(TokenStream(np.array([4, 5, 6, EOT, 7, EOT])), 3)
    assert recent.tolist() == [[0, 4, 5, 6, 0, 7], [0, 0, 4, 5, 0, 0]]


def gapped_text(n_tokens: int, seed: int) -> TokenStream:
    """Returns runs of ten equal tokens, from 1 to 9, with one of 990 other tokens at random after each."""
    rng = np.random.default_rng(seed)
    runs, noise = np.repeat(rng.integers(1, 10, n_tokens // 20), 10), rng.integers(10, 1000, n_tokens // 20 * 10)
    return TokenStream(np.stack([runs, noise], axis=1).ravel().astype(np.int32))


def test_it_sees_what_stands_behind_a_gap() -> None:
    data, test = TrainingData(gapped_text(8000, 0), gapped_text(1000, 1)), gapped_text(1000, 2)
    skip = skip_ngram(1000, order=3).fit(data).log_probs(test)[::2]
    contiguous = ngram(1000, order=3, smoothing="kneser-ney-tuned").fit(data).log_probs(test)[::2]
    # One in ten starts a new run, of one of nine: no model has less than 0.1 (ln 10 + ln 9) + 0.9 ln (10 / 9) = 0.54.
    # Without the gap, a trigram knows the few pairs that it has seen, and that one of nine comes: ln 9 = 2.2 nats.
    assert -skip.mean() < 0.7
    assert -contiguous.mean() > 1.4


def mean_log_prob(lambdas: np.ndarray | None, data: TrainingData) -> float:
    model = skip_ngram(12).fit(data)
    if lambdas is not None:
        model = skip_ngram(12).load_arrays({**model.arrays(), "lambdas": lambdas})
    return float(model.log_probs(data.valid).mean())


def test_learning_whom_to_ask_pays_off() -> None:
    data = toy_data(12)
    _, freed = count_contexts(data.train, 12, 4, None)
    assert mean_log_prob(None, data) > mean_log_prob(1 - np.maximum(freed, 1e-9), data) + 0.01


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
@pytest.mark.parametrize("order", [2, 3, 6])
def test_laws(order: int, law: Law) -> None:
    law(Specimen(lambda vocab_size: skip_ngram(vocab_size, order=order)))


@pytest.mark.parametrize("order", [1, 7])
def test_bad_order(order: int) -> None:
    with pytest.raises(ConfigurationError, match=f"from 2 to 6, got {order}"):
        skip_ngram(10, order=order)


def changed(array: np.ndarray, places: Sequence[int] | slice, value: float) -> np.ndarray:
    array = array.copy()
    array[places] = value
    return array


@pytest.mark.parametrize(
    ("name", "places", "value", "message"),
    [
        ("first", [1], -5, "out of range"),
        ("starts", [-1], 10**9, "out of range"),
        ("starts", [2], 10**6, "out of range"),
        ("tokens", [0], 12, "out of range"),
        ("probs", [0], np.nan, "outside 0 to 1"),
        ("probs", [0], 2.0, "outside 0 to 1"),
        ("lambdas", [0], 1.0, "outside 0 to 1"),
        ("lambdas", [3], np.nan, "outside 0 to 1"),
    ],
)
def test_inconsistent_arrays_are_refused(name: str, places: list[int], value: float, message: str) -> None:
    arrays = skip_ngram(12).fit(toy_data(12)).arrays()
    with pytest.raises(SavedModelError, match=message):
        skip_ngram(12).load_arrays({**arrays, name: changed(arrays[name], places, value)})
