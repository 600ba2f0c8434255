"""Every source: the properties of models, sampling, target tokens, and generated corpora."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import pytest
from source_texts import every_source, sampled

from lmzoo import sources
from lmzoo.corpora import is_available, list_corpora, load_corpus
from lmzoo.corpora.encoded import encode_corpus
from lmzoo.errors import UnknownNameError
from lmzoo.language_model import TokenStats
from lmzoo.sources import source
from lmzoo.stream import EOT, TokenStream, TrainingData
from lmzoo.testing import LAWS, Law, Specimen

# ---- Laws -----------------------------------------------------------------------------------------------


@cache
def specimen(name: str) -> Specimen:
    made = Specimen(
        lambda vocab_size: sources.card(name).make(), nonzero_probabilities=False, vocab_size=source(name).vocab_size
    )
    # In the text of another source things are impossible, and nothing can be learned of them.
    text = source(name).sample(40, np.random.default_rng(5))
    made.data = TrainingData(text, text)
    return made


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
@every_source
def test_every_source_keeps_every_law(name: str, law: Law) -> None:
    law(specimen(name))


# ---- Sampling -------------------------------------------------------------------------------------------


@cache
def stats_of(name: str) -> TokenStats:
    """What a source says of the tokens of its sampled text."""
    return source(name).token_stats(sampled(name))


@every_source
def test_text_is_as_surprising_as_it_should_be(name: str) -> None:
    """Checks that surprisal minus entropy is zero on average: the sum of these differences is a martingale."""
    stats = stats_of(name)
    assert np.isfinite(stats.log_probs).all(), "a source must find its own text possible"
    differences = -stats.log_probs - stats.entropies
    assert abs(differences.sum()) < 4 * math.sqrt((differences**2).sum() + 1e-9)


@every_source
def test_entropy_is_what_text_costs(name: str) -> None:
    """Checks that the mean loss of a document is the entropy times its number of tokens."""
    entropy = source(name).entropy
    if entropy is None:
        assert name in ("hmm", "english"), "all others have a closed form"
        return
    text = sampled(name)
    paid = -stats_of(name).log_probs
    above = np.add.reduceat(paid - entropy, text.starts)
    assert abs(above.mean()) < 4 * above.std() / math.sqrt(len(above)) + 1e-9


@every_source
def test_documents_end_and_are_readable(name: str) -> None:
    made, text = source(name), sampled(name)
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
def test_target_tokens(name: str, text: str, marks: str) -> None:
    made = source(name)
    ids = [*made.ids(text), EOT]
    mask = made.target_mask(TokenStream(np.array([*ids, *ids])))
    assert "".join(".x"[int(one)] for one in mask) == marks * 2, "in the second document as in the first"
    assert (made.baseline_nats is None) == ("x" not in marks)


# ---- Corpora --------------------------------------------------------------------------------------------


load = cache(load_corpus)
"""Loads a corpus, once for all tests."""


@pytest.mark.slow
@pytest.mark.parametrize("name", ["agreement-4", "copying"])
def test_a_source_is_a_corpus(name: str) -> None:
    corpus = load(f"source:{name}")
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


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] if name == "brackets" else []) for name in FINGERPRINTS]
)
def test_generated_text_is_the_same_everywhere(name: str) -> None:
    assert load(f"source:{name}").fingerprint == FINGERPRINTS[name]


def test_sources_are_listed_among_the_corpora() -> None:
    card = next(card for card in list_corpora() if card.provider == "generated")
    assert card.specs == [f"source:{name}" for name in sources.names()]
    assert is_available(card)
    with pytest.raises(UnknownNameError, match="unknown source protocol 'copyin': did you mean 'copying'"):
        load_corpus("source:copyin")
