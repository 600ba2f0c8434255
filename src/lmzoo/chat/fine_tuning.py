"""Supervised fine-tuning (SFT): a language model learns to predict the assistant's messages in conversations.

The loss is that of language modelling, but only the tokens that the assistant produces count (Ouyang et al. 2022,
section 3.5). The model forgets less of the text on which it was trained before if some documents of this text are mixed
with the conversations. This is called replay.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lmzoo.chat.conversation import Conversation
from lmzoo.chat.template import render
from lmzoo.chat.tuning import neural_model, tuned_predictor, with_chat_vocabulary
from lmzoo.checkpoint import Checkpoint
from lmzoo.checks import check_at_least, check_share
from lmzoo.errors import CorpusError
from lmzoo.neural.objectives.next_token import next_token
from lmzoo.neural.scoring import observed_log_probs
from lmzoo.neural.training.batches import StreamBatches
from lmzoo.neural.training.loop import Training
from lmzoo.neural.training.settings import TrainConfig
from lmzoo.predictor import Predictor
from lmzoo.stream import EOT, TokenStream, TrainingData
from lmzoo.system.progress import OnProgress
from lmzoo.tokenizers import Tokenizer

FINE_TUNING = TrainConfig(
    tokens=3_000_000, batch_size=16, chunk_size=128, learning_rate=2e-3, schedule="wsd", patience=1000
)
"""Default settings of fine-tuning."""


class WeightedStream(NamedTuple):
    """A token stream of T tokens, with the weight of each token in the loss."""

    stream: TokenStream
    weights: NDArray[np.float32]
    """The weights (T,)."""


def fine_tune(
    base: Predictor,
    conversations: Sequence[Conversation],
    valid: Sequence[Conversation],
    *,
    replay: TokenStream | None = None,
    replay_share: float = 0.25,
    replay_weight: float = 0.2,
    training: TrainConfig | Mapping[str, Any] | None = None,
    seed: int = 0,
    on_progress: OnProgress | None = None,
    checkpoint: Checkpoint | None = None,
) -> Predictor:
    """Trains a copy of a language model on the assistant's messages of conversations, and returns the trained copy.

    `base` is a predictor, that is, a language model with its tokenizer; it is not changed. If the tokens of the chat
    template are missing in the copy, they are added. `valid` holds different conversations, for early stopping:
    training stops if the loss on them no longer falls. `replay` holds documents of the text on which `base` was
    trained; about the share `replay_share` of the tokens to learn from is taken from them. In the loss, these tokens
    have the weight `replay_weight`, and the tokens of the assistant have weight 1. A weight below 1 is needed because
    all tokens of a document count, but less than half of those of a conversation. `training` changes some of the
    default settings FINE_TUNING. Raises ConfigurationError if `base` is not a neural network of lmzoo, and CorpusError
    if no message of `conversations` or of `valid` is by the assistant.
    """
    check_share(replay_share=replay_share)
    check_at_least(0, replay_weight=replay_weight)
    predictor, config = with_chat_vocabulary(base), FINE_TUNING.changed(training)
    train = render_all(conversations, predictor.tokenizer)
    if replay is not None:
        train = _with_replay(train, replay, replay_share, replay_weight, np.random.default_rng([seed, 1]))
    held_out = render_all(valid, predictor.tokenizer)
    network = copy.deepcopy(neural_model(predictor).network)
    facts = [seed, repr(config), network.weights_fingerprint(), float(train.weights.sum())]
    run = Training(
        network,
        StreamBatches(train.stream, config, seed, weights=train.weights),
        config,
        objective=next_token,
        evaluate=lambda: _weighted_nats(observed_log_probs(network, held_out.stream), held_out.weights),
        evaluation_tokens=len(held_out.stream),
        seed=seed,
    )
    fingerprint = TrainingData(train.stream, held_out.stream).fingerprint(facts)
    return tuned_predictor(
        predictor, network, "gpt-3.5", run,
        fingerprint=fingerprint, seed=seed, checkpoint=checkpoint, on_progress=on_progress,
    )  # fmt: skip


def render_all(conversations: Sequence[Conversation], tokenizer: Tokenizer) -> WeightedStream:
    """Returns the token ids of conversations in one stream, in which each conversation is a document ended by EOT.

    The tokens that the assistant produces have weight 1 in the loss, and all other tokens have weight 0. Raises
    CorpusError if no message is by the assistant.
    """
    rendered = [render(conversation, tokenizer) for conversation in conversations]
    if not any(weights.any() for _, weights in rendered):
        raise CorpusError(
            f"none of the conversations has a message by the assistant, so nothing can be learned from these "
            f"{len(conversations)}: add replies of the assistant"
        )
    ids = np.concatenate([np.append(ids, EOT) for ids, _ in rendered]).astype(np.int32)
    weights = np.concatenate([np.append(weights, 0) for _, weights in rendered]).astype(np.float32)
    return WeightedStream(TokenStream(ids), weights)


def _with_replay(
    train: WeightedStream, replay: TokenStream, share: float, weight: float, rng: np.random.Generator
) -> WeightedStream:
    """Returns `train` followed by random documents of `replay`, whose tokens have the given weight in the loss.

    Documents are appended until they make up at least the share `share` of all tokens of the result. If `share` is 1,
    each document of `replay` is appended once.
    """
    documents = list(replay.documents())
    missing = len(train.stream) * share / (1 - share) if share < 1 else len(replay)
    added: list[NDArray[np.int32]] = []
    while missing > 0:
        for index in rng.permutation(len(documents)):
            added.append(documents[index])
            missing -= len(documents[index])
            if missing <= 0:
                break
    if not added:
        return train
    ids = np.concatenate([train.stream.ids, *added])
    weights = np.full(len(ids), weight, np.float32)
    weights[: len(train.weights)] = train.weights
    return WeightedStream(TokenStream(ids), weights)


def _weighted_nats(log_probs: NDArray[np.float64], weights: NDArray[np.float32]) -> float:
    return float(-(log_probs * weights).sum() / weights.sum())
