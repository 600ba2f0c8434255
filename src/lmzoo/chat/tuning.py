"""Functions that several stages of training a chat model use.

They prepare the language model from which a stage starts, run the training, and join the trained network with its
tokenizer again.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

from lmzoo import zoo
from lmzoo.chat.template import with_chat_tokens
from lmzoo.checkpoint import Checkpoint
from lmzoo.errors import ConfigurationError
from lmzoo.neural.network import Network
from lmzoo.neural.neural_lm import NeuralLM
from lmzoo.neural.training.loop import Training
from lmzoo.predictor import Predictor
from lmzoo.provenance import Provenance
from lmzoo.system.placement import this_process
from lmzoo.system.progress import OnProgress
from lmzoo.system.provenance import machine, timestamp, versions


def neural_model(predictor: Predictor) -> NeuralLM:
    """Returns the language model of a predictor; raises ConfigurationError unless it is a neural network of lmzoo."""
    if not isinstance(predictor.model, NeuralLM):
        raise ConfigurationError(
            f"'{predictor.species}' cannot learn from conversations, because it is not a neural network of lmzoo: "
            "choose a base such as transformer, gpt2 or lstm"
        )
    return predictor.model


def with_chat_vocabulary(base: Predictor) -> Predictor:
    """Returns a copy of a predictor whose tokenizer and network have the tokens of the chat template.

    If the predictor has them already, it is returned itself.
    """
    model, tokenizer = neural_model(base), with_chat_tokens(base.tokenizer)
    n_new = tokenizer.vocab_size - base.tokenizer.vocab_size
    if not n_new:
        return base
    return replace(base, tokenizer=tokenizer, model=NeuralLM.of(model.network.widened(n_new), like=model))


def tuned_predictor(
    parent: Predictor,
    network: Network,
    species: str,
    training: Training[Any],
    *,
    fingerprint: str,
    seed: int,
    checkpoint: Checkpoint | None,
    on_progress: OnProgress | None,
) -> Predictor:
    """Trains a network in one stage, joins it with its tokenizer, and returns the result as a chat model.

    `parent` is the predictor from which the stage starts; its tokenizer has the chat tokens. `species` is the species
    of the result: "gpt-3.5", "chat" or "gpt-4". `training` trains `network` with the random seed `seed`; the other
    arguments are those of `Training.run`.
    """
    started = time.perf_counter()
    n_tokens_read = training.run(fingerprint=fingerprint, checkpoint=checkpoint, on_progress=on_progress)
    seconds = time.perf_counter() - started + (checkpoint.earlier_seconds if checkpoint else 0)
    model = neural_model(parent)
    was_tuned = zoo.card(parent.species).learns_from == "conversations"
    settings = parent.settings if was_tuned else {"base": parent.species, "settings": dict(parent.settings)}
    computer = machine() | {"n_processes": this_process().n_processes, "device": str(model.device)}
    provenance = Provenance(
        corpus=parent.provenance.corpus,
        corpus_fingerprint=parent.provenance.corpus_fingerprint,
        parent=model.network.weights_fingerprint(),
        n_train_tokens=parent.provenance.n_train_tokens,
        n_tokens_read=n_tokens_read,
        seed=seed,
        fit_seconds=round(seconds, 3),
        created=timestamp(),
        versions=versions(),
        machine=computer,
    )
    return replace(
        parent,
        model=NeuralLM.of(network, like=model),
        species=species,
        settings=settings,
        provenance=provenance,
        history=training.history,
    )
