"""Untrained chat models of a few units, for tests that need no sense in the replies."""

from __future__ import annotations

from dataclasses import replace

from lmzoo import Predictor, train_tokenizer, zoo
from lmzoo.chat.template import with_chat_tokens
from lmzoo.neural.neural_lm import NeuralLM
from lmzoo.provenance import Provenance


def micro_predictor(*, base: str = "lstm", seed: int = 0, chat: bool = True) -> Predictor:
    """Returns a predictor of bytes with random weights; with `chat`, its tokenizer has the tokens of the template."""
    tokenizer = train_tokenizer("byte", ["any text"])
    if chat:
        tokenizer = with_chat_tokens(tokenizer)
    settings = {"d_embed": 4, "d_hidden": 6} if base == "lstm" else {"d_model": 8, "n_layers": 1, "n_heads": 1}
    if base != "lstm":
        settings["window"] = 64
    model = zoo.create(base, tokenizer.vocab_size, **settings)
    assert isinstance(model, NeuralLM)
    model = NeuralLM.of(model.fresh_network(seed), like=model)
    predictor = Predictor(tokenizer, model, base, settings, Provenance())
    return replace(predictor, species="chat", settings={"base": base, "settings": settings}) if chat else predictor
