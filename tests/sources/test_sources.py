"""Sources of known entropy: exact values, brute force, and what theory says of those who see less."""

from __future__ import annotations

import itertools
import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

import numpy as np
import pytest
from nltk.grammar import PCFG
from nltk.parse.pchart import InsideChartParser

from lmzoo import sources, zoo
from lmzoo.corpora import is_available, list_corpora, load_corpus
from lmzoo.corpora.encoded import encode_corpus
from lmzoo.errors import ConfigurationError, UnknownNameError
from lmzoo.sources import FiniteState, Source, source
from lmzoo.sources.agreement import agreement_rules, tense_rules
from lmzoo.sources.chains import weather
from lmzoo.sources.copying import Copying, Induction
from lmzoo.sources.grammar import Grammar
from lmzoo.sources.nesting import counting
from lmzoo.sources.recall import Recall
from lmzoo.sources.rules import Rules
from lmzoo.stream import EOT, TokenStream, TrainingData
from lmzoo.testing import LAWS, Law, Specimen

every_source = pytest.mark.parametrize("name", sources.names())


@cache
def drawn(name: str) -> TokenStream:
    return source(name).sample(400, np.random.default_rng(5))


# ---- Laws --------------------------------------------------------------------------------------------


@cache
def specimen(name: str) -> Specimen:
    made = Specimen(
        lambda vocab_size: sources.card(name).make(), nonzero_probabilities=False, vocab_size=source(name).vocab_size
    )
    # In the text of another source things are impossible, and nothing can be learned of them.
    made.data = TrainingData(drawn(name), drawn(name))
    return made


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
@every_source
def test_every_source_keeps_every_law(name: str, law: Law) -> None:
    law(specimen(name))


# ---- What is drawn is what is predicted --------------------------------------------------------------


@every_source
def test_text_is_as_surprising_as_it_should_be(name: str) -> None:
    """Surprisal less entropy is zero on average, whatever came before: a sum of such differences is a martingale."""
    stats = source(name).token_stats(drawn(name))
    assert np.isfinite(stats.log_probs).all(), "a source must find its own text possible"
    differences = -stats.log_probs - stats.entropies
    assert abs(differences.sum()) < 4 * math.sqrt((differences**2).sum() + 1e-9)


@every_source
def test_entropy_is_what_text_costs(name: str) -> None:
    """By document, the nats paid are on average the entropy times the tokens."""
    entropy = source(name).entropy
    if entropy is None:
        assert name in ("hmm", "english"), "all others have a closed form"
        return
    text = drawn(name)
    paid = -source(name).log_probs(text)
    above = np.add.reduceat(paid - entropy, text.starts)
    assert abs(above.mean()) < 4 * above.std() / math.sqrt(len(above)) + 1e-9


@every_source
def test_documents_end_and_are_readable(name: str) -> None:
    made, text = source(name), drawn(name)
    assert text.n_documents == 400
    assert text.ids[-1] == EOT
    assert not (text.ids == 1).any(), "<unk> is never said"
    first = next(text.documents())
    assert [*made.ids(made.text(first)), EOT] == first.tolist()


def test_sampling_repeats_with_the_seed_and_needs_no_others() -> None:
    made = source("brackets")
    same, again, other = (made.sample(20, np.random.default_rng(seed)).ids.tolist() for seed in (1, 1, 2))
    assert same == again != other
    assert len(made.sample(0, np.random.default_rng(0))) == 0


def test_words_of_a_source() -> None:
    assert source("agreement-4").ids("the keys near the door") == [2, 7, 10, 2, 5]
    with pytest.raises(UnknownNameError, match="unknown word of this source 'kyes': did you mean 'keys'"):
        source("agreement-4").ids("the kyes")
    with pytest.raises(UnknownNameError, match="unknown source 'agreement': did you mean 'agreement-4'"):
        source("agreement")


# ---- Exact values: finite states -----------------------------------------------------------------------


def test_entropy_of_a_chain_by_hand() -> None:
    # "a", then with even chances the end or the other letter, and so on: 2 even choices a document on average, in
    # 3 tokens: 2 ln 2 / 3. Who sees one token knows the state; who sees nothing meets, per document, the start once,
    # a and b: lengths 1, 2, 3, ... with 1/2, 1/4, ...; a at odd places: 1 + 1/4 + 1/16 + ... = 4/3, b 2/3, and the
    # end once. Frequencies 4/9, 2/9, 3/9.
    transitions = np.zeros((4, 3, 3))
    transitions[2, 0, 1] = 1
    transitions[EOT, 1, 0] = transitions[EOT, 2, 0] = 0.5
    transitions[3, 1, 2] = transitions[2, 2, 1] = 0.5
    made = FiniteState(["a", "b"], transitions, np.array([1.0, 0, 0])).load_arrays({})
    assert made.visits.tolist() == pytest.approx([1, 4 / 3, 2 / 3])
    assert made.entropy == pytest.approx(2 * math.log(2) / 3)
    assert made.limit(1) == pytest.approx(made.entropy)
    assert made.limit(0) == pytest.approx(-sum(p * math.log(p) for p in (4 / 9, 2 / 9, 3 / 9)))
    assert np.exp(made.log_probs(made.ids("a b a"))).tolist() == pytest.approx([1, 0.5, 0.5])


def binary(p: float) -> float:
    """The entropy of an event in nats."""
    return -p * math.log(p) - (1 - p) * math.log(1 - p)


@pytest.mark.parametrize("n", [1, 3, 8])
def test_agreement_by_hand(n: int) -> None:
    # the NOUN (PREPOSITION the NOUN) x n today VERB ADJECTIVE end: 6 nouns, 2 prepositions, 2 verbs of a number, 3
    # adjectives, all alike. 6 + 3 n tokens.
    made, n_tokens = source(f"agreement-{3 * n + 1}"), 6 + 3 * n
    nats = (n + 1) * math.log(6) + n * math.log(2) + math.log(2) + math.log(3)
    assert isinstance(made, FiniteState)
    assert made.entropy == pytest.approx(nats / n_tokens)
    # Who sees one token does not know after a noun which one it was: n of n + 1 go on with a preposition, one with
    # "today", and after that not the number of the first.
    lost = (n + 1) * binary(1 / (n + 1)) + math.log(2)
    assert made.limit(1) - made.entropy == pytest.approx(lost / n_tokens)


def test_limits_fall_to_the_entropy() -> None:
    for order in (1, 2, 3):
        made = source(f"markov-{order}")
        assert isinstance(made, FiniteState)
        limits = [made.limit(n) for n in range(5)]
        assert limits[order:] == pytest.approx([made.entropy] * (5 - order))
        assert all(less > more + 0.05 for less, more in itertools.pairwise(limits[: order + 1]))
    near, far = source("agreement-4"), source("agreement-10")
    assert isinstance(near, FiniteState)
    assert isinstance(far, FiniteState)
    # 6 back from the verb: adjacent to the noun are 4 tokens and the verb itself is the next.
    assert near.limit(5) == pytest.approx(near.entropy)
    assert near.limit(4) - near.entropy == pytest.approx(math.log(2) / 9)
    assert far.limit(5) - far.entropy > math.log(2) / 15


def test_limits_are_those_of_exact_frequencies() -> None:
    """By another way: from the conditional frequencies in all texts of a source that has finitely many."""
    rules = Rules({"S": "0.3 a X b | 0.2 b X | 0.5 X X", "X": "0.5 a | 0.25 b b | 0.25"})
    made = FiniteState.of_rules(rules, decisive="b", ignorance=1.0).load_arrays({})
    texts = all_texts(made)
    assert sum(texts.values()) == pytest.approx(1)
    mean_length = sum(prob * len(text) for text, prob in texts.items())
    for n in range(4):
        following: defaultdict[Any, Counter[int]] = defaultdict(Counter)
        for text, prob in texts.items():
            for place, token_id in enumerate(text):
                following[text[max(0, place - n) : place], place < n][token_id] += prob
        nats = 0.0
        for counts in following.values():
            total = sum(counts.values())
            nats -= sum(count * math.log(count / total) for count in counts.values())
        assert made.limit(n) == pytest.approx(nats / mean_length), n


def test_a_markov_chain_loses_what_theory_says() -> None:
    """On agreement, with a train split that is long enough for its few parameters."""
    made = source("agreement-4")
    assert isinstance(made, FiniteState)
    assert made.entropy is not None
    assert made.ignorance is not None
    rng = np.random.default_rng(1)
    data = TrainingData(made.sample(4000, rng), made.sample(400, rng))
    test = made.sample(2000, rng)
    species = zoo.create("markov", made.vocab_size).fit(data)
    excess = made.log_probs(test) - species.log_probs(test)
    by_document = np.add.reduceat(excess, test.starts)
    error = by_document.std() / math.sqrt(len(by_document)) / 9
    assert excess.mean() == pytest.approx(made.limit(1) - made.entropy, abs=4 * error + 0.003)
    assert excess[made.decisive(test)].mean() == pytest.approx(made.ignorance, abs=0.02), "it guesses the number"


def test_hidden_states_are_those_of_the_species() -> None:
    """The filter of the source and that of the zoo's hidden Markov model, which computes in float32, agree."""
    made = source("hmm")
    transitions = weather()._transitions
    arrays = {
        "startprob": np.array([0.25, 0.25, 0.25, 0.25, 0]),
        "transmat": transitions.sum(axis=0),
        "emissionprob": transitions.sum(axis=2).T,
    }
    species = zoo.create("hmm", made.vocab_size, n_states=5).load_arrays(arrays)
    np.testing.assert_allclose(made.log_probs(drawn("hmm")), species.log_probs(drawn("hmm")), atol=1e-5)


def test_hidden_entropy_lies_between_its_bounds() -> None:
    """Cover & Thomas, theorem 4.5.1: above what the hidden state tells, below what the last tokens tell."""
    made = weather().load_arrays({})
    text = made.sample(3000, np.random.default_rng(0))
    paid = -made.log_probs(text)
    error = 4 * paid.std() / math.sqrt(len(paid))
    emissions = made._transitions.sum(axis=2).T
    of_states = -(emissions * np.log(np.where(emissions > 0, emissions, 1))).sum(axis=1)
    assert made.entropy is None
    assert made.visits @ of_states / made.visits.sum() < paid.mean() - error
    limits = [made.limit(n) for n in range(5)]
    assert limits == sorted(limits, reverse=True)
    assert paid.mean() < limits[4] + error


# ---- Exact values: grammars ----------------------------------------------------------------------------


def test_counting_by_hand() -> None:
    # n steps up and n down, n geometric with 0.15: h(0.15) / 0.15 nats for n, ln 3 for each of 2 / 0.15 words, and the
    # end comes for nothing.
    made, mean = counting(), 1 / 0.15
    assert made.entropy == pytest.approx((binary(0.15) * mean + 2 * mean * math.log(3)) / (2 * mean + 1))
    # Who does not count pays -ln 0.85 for every step down but the first, and -ln 0.15 for the end, on n + 1 tokens.
    assert made.ignorance == pytest.approx((-(mean - 1) * math.log(0.85) - math.log(0.15)) / (mean + 1))


def test_brackets_by_hand() -> None:
    # 4 times MORE; 4 pairs outside; each pair has one INSIDE and each INSIDE 0.4 pairs and INSIDEs more: 12 pairs, 20
    # INSIDEs. 24 brackets and the end.
    nats = 4 * binary(0.25) + 12 * math.log(3) + 20 * binary(0.4)
    assert source("brackets").entropy == pytest.approx(nats / 25)


def all_texts(made: Source[Any], least: float = 0.0) -> dict[tuple[int, ...], float]:
    """Every text of a source that is more likely than `least`, ended by EOT, with its probability: the whole tree."""
    found: dict[tuple[int, ...], float] = {}

    def walk(state: Any, text: tuple[int, ...], prob: float) -> None:
        for token_id, share in enumerate(np.exp(made.next_log_probs(state))):
            if prob * share > least:
                if token_id == EOT:
                    found[*text, EOT] = prob * share
                else:
                    walk(made.advance(state, token_id), (*text, token_id), prob * share)

    walk(made.initial_state(), (), 1.0)
    return found


def written(rows: Mapping[str, list[tuple[float, str]]], n_words: int) -> dict[str, float]:
    """Every text of at most so many words with its probability, by writing out all derivations one by one."""
    texts: defaultdict[str, float] = defaultdict(float)
    todo: list[tuple[tuple[str, ...], float]] = [(("S",), 1.0)]
    while todo:
        symbols, prob = todo.pop()
        place = next((place for place, one in enumerate(symbols) if one in rows), None)
        if place is None:
            texts[" ".join(symbols)] += prob
            continue
        for share, row in rows[symbols[place]]:
            after = (*symbols[:place], *row.split(), *symbols[place + 1 :])
            if sum(one not in rows for one in after) <= n_words:
                todo.append((after, prob * share))
    return texts


def grammar_of(rows: Mapping[str, list[tuple[float, str]]], **kind: Any) -> Grammar:
    rules = Rules({symbol: " | ".join(f"{share} {row}" for share, row in some) for symbol, some in rows.items()})
    return Grammar(rules, decisive="", ignorance=1.0, **kind).load_arrays({})


AMBIGUOUS = {
    "S": [(1.0, "NP v NP PP"), ],
    "NP": [(0.7, "n"), (0.3, "n PP")],
    "PP": [(0.25, ""), (0.75, "p NP")],
}  # fmt: skip


def test_a_text_is_as_likely_as_all_its_derivations() -> None:
    made = grammar_of(AMBIGUOUS, ambiguous=True)
    texts = written(AMBIGUOUS, 11)
    # "n v n p n": the phrase may belong to either, as PP may be nothing.
    assert len(texts) > 10
    for text, prob in texts.items():
        assert math.exp(made.log_probs([*made.ids(text), EOT]).sum()) == pytest.approx(prob), text
    assert made.entropy is None


def test_the_next_word_is_that_of_all_texts_that_begin_so() -> None:
    """Prefix probabilities by brute force, on a grammar with few texts, of which some have several derivations."""
    rows = {
        "S": [(0.4, "A B"), (0.35, "a A"), (0.25, "B A B")],
        "A": [(0.5, "a"), (0.3, "a b"), (0.2, "")],
        "B": [(0.6, "b"), (0.4, "A b")],
    }
    made = grammar_of(rows, ambiguous=True)
    texts = written(rows, 20)
    assert sum(texts.values()) == pytest.approx(1)
    for text in texts:
        words = [*text.split(), "end"]
        for n in range(len(words)):
            own = sum(prob for other, prob in texts.items() if [*other.split(), "end"][: n + 1] == words[: n + 1])
            prefix = sum(prob for other, prob in texts.items() if [*other.split(), "end"][:n] == words[:n])
            token_id = EOT if words[n] == "end" else made.id_of[words[n]]
            predicted = made.predict_distribution(made.ids(" ".join(words[:n]))).prob(token_id)
            assert predicted == pytest.approx(own / prefix), (words[:n], words[n])


def test_a_text_is_as_likely_as_a_chart_parser_says() -> None:
    rows = {
        "S": [(1.0, "NP VP")],
        "NP": [(0.6, "the N"), (0.4, "the N PP")],
        "VP": [(0.5, "sees NP"), (0.3, "sees NP PP"), (0.2, "sleeps")],
        "PP": [(1.0, "near NP")],
        "N": [(0.5, "dog"), (0.5, "cat")],
    }
    lines = [
        f"{symbol} -> {' '.join(one if one in rows else repr(one) for one in row.split())} [{share}]"
        for symbol, some in rows.items()
        for share, row in some
    ]
    parser = InsideChartParser(PCFG.fromstring("\n".join(lines)))
    made = grammar_of(rows, ambiguous=True)
    for text, is_ambiguous in (
        ("the dog sleeps", False),
        ("the dog sees the cat near the dog", True),
        ("the dog near the cat sees the dog near the cat near the dog", True),
    ):
        trees = list(parser.parse(text.split()))
        assert (len(trees) > 1) == is_ambiguous
        likely = sum(tree.prob() for tree in trees)
        assert math.exp(made.log_probs([*made.ids(text), EOT]).sum()) == pytest.approx(likely), text


def test_entropy_of_rules_is_that_of_their_texts() -> None:
    rows = {"S": [(0.4, "a S b"), (0.5, "c"), (0.1, "d d")]}
    made = grammar_of(rows)
    texts = all_texts(made, least=1e-14)
    nats = -sum(prob * math.log(prob) for prob in texts.values())
    assert made.entropy == pytest.approx(nats / sum(prob * len(text) for text, prob in texts.items()), abs=1e-9)


@pytest.mark.parametrize(
    ("name", "rules"),
    [("agreement-4", agreement_rules(1)), ("agreement-25", agreement_rules(8)), ("tense", tense_rules())],
)
def test_states_and_stacks_are_the_same(name: str, rules: Rules) -> None:
    """A grammar with few stacks, read as a finite-state source and as a grammar."""
    made, grammar = source(name), Grammar(rules, decisive="", ignorance=1.0).load_arrays({})
    assert grammar.words == made.words
    assert grammar.entropy == pytest.approx(made.entropy)
    few = TokenStream(drawn(name).ids[: drawn(name).starts[50]])
    np.testing.assert_allclose(grammar.log_probs(few), made.log_probs(few), atol=1e-12)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ({"A": "a"}, "begins with the symbol S"),
        ({"S": "0.5 a | 0.6 b"}, "must be above 0 and sum to 1, not 1.1"),
        ({"S": "0.5 a | b"}, "to some rows and not to others"),
        ({"S": "S a | b"}, "must not begin in circles: S - S"),
        ({"S": "A b", "A": "E S | a", "E": "e |"}, "must not begin in circles"),
        ({"S": "0.5 a S S | 0.5 b"}, "no finite mean length"),
    ],
)
def test_rules_that_cannot_be_followed(rows: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        Rules(rows)


# ---- Exact values: what is in the document itself -----------------------------------------------------


def words_of(made: Source[Any]) -> dict[str, float]:
    return {made.text(text): prob for text, prob in all_texts(made).items()}


def check_all_texts(made: Source[Any], expected: Iterator[tuple[str, float]]) -> None:
    """Against all texts written out one by one; the entropy too."""
    found, wanted = words_of(made), dict(expected)
    assert found.keys() == wanted.keys()
    assert found == pytest.approx(wanted)
    assert sum(found.values()) == pytest.approx(1)
    nats = -sum(prob * math.log(prob) for prob in found.values())
    assert made.entropy == pytest.approx(nats / sum(prob * (len(text.split()) + 1) for text, prob in found.items()))


def test_copying_is_all_lists_twice() -> None:
    def texts() -> Iterator[tuple[str, float]]:
        for length in (1, 2, 3):
            for words in itertools.product("ab", repeat=length):
                yield f"{' '.join(words)} | {' '.join(words)}", 1 / 3 / 2**length

    check_all_texts(Copying(["a", "b", "|"], range(1, 4)).load_arrays({}), texts())


def test_induction_is_all_orders_and_their_tails() -> None:
    def texts() -> Iterator[tuple[str, float]]:
        for length in (2, 3):
            orders = list(itertools.permutations("abc", length))
            for order in orders:
                for seam in range(length - 1):
                    yield " ".join(order + order[seam:]), 1 / 2 / len(orders) / (length - 1)

    check_all_texts(Induction(["a", "b", "c"], range(2, 4)).load_arrays({}), texts())


def test_recall_is_all_facts_asked_for() -> None:
    def texts() -> Iterator[tuple[str, float]]:
        for length in (1, 2, 3):
            for names in itertools.product(["ann", "bob"], repeat=length):
                told = sorted(set(names))
                for things in itertools.product(["red", "blue"], repeat=len(told)):
                    facts = dict(zip(told, things, strict=True))
                    text = " ".join(f"{name} {facts[name]}" for name in names)
                    yield text, 1 / 3 / 2**length / 2 ** len(told)

    check_all_texts(Recall(["ann", "bob"], ["red", "blue"], range(1, 4)).load_arrays({}), texts())


@pytest.mark.parametrize(
    ("name", "text", "marks"),
    [
        ("agreement-4", "the keys near the door today are old", "......x.."),
        ("tense", "she went to the store and bought bread", "......x.."),
        ("counting", "hop step fall slide", "..xxx"),
        ("brackets", "[ ( ) ]", "..xx."),
        ("english", "the dogs that wait see the cat", "...xx..."),
        ("copying", "red red red pink blue again red red red pink blue", "......xxxxx."),
        ("induction", "red pink blue fig owl fox hen cow pink blue fig owl fox hen cow", ".........xxxxxx."),
        ("recall", "anna red ben red anna red ben red", ".....x.x."),
        ("markov-1", "do re mi", "...."),
    ],
)
def test_decisive_tokens(name: str, text: str, marks: str) -> None:
    made = source(name)
    ids = [*made.ids(text), EOT]
    mask = made.decisive(TokenStream(np.array([*ids, *ids])))
    assert "".join(".x"[int(one)] for one in mask) == marks * 2, "in the second document as in the first"
    assert (made.ignorance is None) == ("x" not in marks)


# ---- As corpora ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["agreement-4", "copying"])
def test_a_source_is_a_corpus(name: str) -> None:
    corpus = load_corpus(f"source:{name}")
    made = source(name)
    assert corpus.vocabulary == made.words
    assert corpus.name == f"source:{name}"
    assert corpus.licence == "CC0"
    assert [len(split) for split in corpus.splits.values()] == [10_000, 500, 1000]
    encoded = encode_corpus(corpus)
    assert encoded.tokenizer.vocab_size == made.vocab_size
    stream = encoded.test.stream
    assert made.text(next(stream.documents())) == corpus.test[0].text
    assert np.isfinite(made.log_probs(stream)).all(), "the ids of the tokenizer must be those of the source"


# Every figure of the ladder rests on these texts: if a line must change, so must the name of the source.
FINGERPRINTS = {
    "markov-2": "3e6b9e9b67b2eff1dc5a0807b65d200ce70bb1f80a7477f0d9dacab860aadcf4",
    "agreement-4": "0f6791a5312425c0f15d1456ab63ca17968f368c5d1997284a077cf1f1bd453e",
    "brackets": "defc3e754b0784e789c5949e40ca3a22a55f6b1a4721fa8437515b84e6272ec9",
    "copying": "946296cd7159452a64d41c6d785f847011b9b5bd57eef50659ecdc2ee2919b9f",
}


@pytest.mark.parametrize("name", FINGERPRINTS)
def test_generated_text_is_the_same_everywhere(name: str) -> None:
    assert load_corpus(f"source:{name}").fingerprint == FINGERPRINTS[name]


def test_sources_are_listed_among_the_corpora() -> None:
    card = next(card for card in list_corpora() if card.provider == "generated")
    assert card.specs == [f"source:{name}" for name in sources.names()]
    assert is_available(card)
    with pytest.raises(UnknownNameError, match="protocol of corpus 'source' 'copyin': did you mean 'copying'"):
        load_corpus("source:copyin")
