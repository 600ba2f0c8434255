"""A base of a few weights, and what it can learn from, for tests."""

from __future__ import annotations

from functools import cache

import numpy as np

from lmzoo import Predictor, train_tokenizer
from lmzoo.chat.conversation import Conversation, assistant, user
from lmzoo.chat.fine_tuning import fine_tune
from lmzoo.chat.preferences import Ranking
from lmzoo.corpora import Corpus, Document
from lmzoo.corpora.encoded import encode_corpus

CONVERSATIONS: list[Conversation] = [(user(f"say: {word}"), assistant(word)) for word in ("ab", "ba", "cab", "abc")] * 5
PROMPTS: list[Conversation] = [(user("say: ab"),), (user("say: cab"),)]
RANKINGS = [Ranking(prompt, ("a", "b")) for prompt in PROMPTS] + [Ranking(PROMPTS[0], ("a", "ab", "b"))]
"""Rankings that prefer the reply "a" to all others."""


@cache
def micro_base(species: str = "lstm") -> Predictor:
    """Returns a network of a few weights, trained for a moment on a text of a few letters."""
    documents = [Document(f"{index}", "abc cab bac say: " * 4) for index in range(12)]
    corpus = Corpus(
        name="letters", title="letters", licence="", citation="", protocol="",
        train=documents[:8], valid=documents[8:10], test=documents[10:],
    )  # fmt: skip
    encoded = encode_corpus(corpus, train_tokenizer("char", [document.text for document in corpus.train]))
    settings = {"lstm": {"d_embed": 8, "d_hidden": 16}, "transformer": {"d_model": 16, "n_layers": 1, "n_heads": 2}}
    training = {"tokens": 2_000, "batch_size": 4, "chunk_size": 16, "learning_rate": 1e-2}
    return Predictor.fit(species, encoded, device="cpu", training=training, **settings[species])


@cache
def micro_chat(species: str = "lstm") -> Predictor:
    """Returns the same network, fine-tuned on a few conversations."""
    training = {"tokens": 4_000, "batch_size": 4, "chunk_size": 16, "learning_rate": 1e-2}
    return fine_tune(micro_base(species), CONVERSATIONS, CONVERSATIONS[:2], training=training)


def weights_of(predictor: Predictor) -> np.ndarray:
    """Returns all weights of a network in one array."""
    return np.concatenate([array.ravel() for array in predictor.model.arrays().values()])
