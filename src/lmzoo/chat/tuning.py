"""Functions that all stages of training a chat model share.

They prepare the language model from which a stage starts, and join the trained network with its tokenizer again.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from hashlib import sha256

from lmzoo import zoo
from lmzoo.chat.template import with_chat_tokens
from lmzoo.errors import ConfigurationError
from lmzoo.neural.network import Network
from lmzoo.neural.neural_lm import NeuralLM
from lmzoo.predictor import Predictor
from lmzoo.provenance import Provenance
from lmzoo.system.placement import this_process
from lmzoo.system.provenance import machine, versions


def is_neural(species: str) -> bool:
    """Returns True if models of the species `species` are neural networks of lmzoo, which can learn from conversations.

    A species is a kind of model in the zoo, such as "ngram" or "lstm".
    """
    return isinstance(zoo.create(species, 2), NeuralLM)


def neural_model(predictor: Predictor) -> NeuralLM:
    """Returns the language model of a predictor, which is a language model with its tokenizer.

    Raises ConfigurationError if the model is not a neural network of lmzoo.
    """
    if not isinstance(predictor.model, NeuralLM):
        raise ConfigurationError(
            f"'{predictor.species}' cannot learn from conversations, because it is not a neural network of lmzoo: "
            "choose a base such as transformer, gpt2 or lstm"
        )
    return predictor.model


def with_chat_vocabulary(base: Predictor) -> Predictor:
    """Returns a copy of a predictor whose tokenizer and network have the tokens of the chat template.

    A predictor that has them already is returned unchanged.
    """
    model, tokenizer = neural_model(base), with_chat_tokens(base.tokenizer)
    n_new = tokenizer.vocab_size - base.tokenizer.vocab_size
    if not n_new:
        return base
    return replace(base, tokenizer=tokenizer, model=NeuralLM.of(model.network.widened(n_new), like=model))


def tuned_predictor(
    parent: Predictor, network: Network, species: str, *, n_tokens_read: int, seed: int, seconds: float
) -> Predictor:
    """Joins a network that was trained in one stage with its tokenizer, and returns the result as a chat model.

    `parent` is the model with its tokenizer from which the stage started; its tokenizer has the chat tokens. `species`
    is the kind of chat model: "gpt-3.5", "chat" or "gpt-4". `n_tokens_read`, `seed` and `seconds` are the number of
    tokens that the network read in this stage, its random seed and its duration. Nothing is written to disk.
    """
    model = neural_model(parent)
    is_chat_model = {"base", "settings"} == set(parent.settings)
    settings = parent.settings if is_chat_model else {"base": parent.species, "settings": dict(parent.settings)}
    computer = machine() | {"n_processes": this_process().n_processes, "device": str(model.device)}
    provenance = Provenance(
        corpus=parent.provenance.corpus,
        corpus_fingerprint=parent.provenance.corpus_fingerprint,
        parent=weights_fingerprint(model.network),
        n_train_tokens=parent.provenance.n_train_tokens,
        n_tokens_read=n_tokens_read,
        seed=seed,
        fit_seconds=round(seconds, 3),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        versions=versions(),
        machine=computer,
    )
    return replace(
        parent, model=NeuralLM.of(network, like=model), species=species, settings=settings, provenance=provenance
    )


def weights_fingerprint(network: Network) -> str:
    """Returns the SHA-256 hash, in hexadecimal, of the weights of a network."""
    digest = sha256()
    for parameter in network.parameters():
        digest.update(parameter.detach().cpu().numpy().tobytes())
    return digest.hexdigest()
