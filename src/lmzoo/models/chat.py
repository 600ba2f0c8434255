"""Chat models: language models that learned from conversations and from rankings of their replies (2022).

A chat model is a language model of an earlier kind, such as a transformer or an LSTM, whose vocabulary has a few more
tokens: those that mark who speaks and where a message ends. The model to which these tokens are added is called its
base. A chat model still predicts the next token; the new thing is how it is trained, in stages:

1. The base learns from text to predict the next token: a completion model.
2. Supervised fine-tuning: it learns to predict the assistant's messages in conversations (GPT-3.5).
3. A reward model learns from rankings to grade replies, and the model learns to write replies of high reward, by
   reinforcement learning (PPO) or directly from the rankings (DPO): ChatGPT.
4. A newer base is trained in the same stages: GPT-4.

Papers: L. Ouyang et al., Training Language Models to Follow Instructions with Human Feedback, NeurIPS 2022; R. Rafailov
et al., Direct Preference Optimization, NeurIPS 2023. The stages are trained by `lmzoo.experiments.align`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lmzoo import zoo
from lmzoo.errors import ConfigurationError
from lmzoo.neural.neural_lm import NeuralLM
from lmzoo.system.placement import Device


def chat(
    vocab_size: int, *, base: str = "transformer", settings: Mapping[str, Any] | None = None, device: Device = "cpu"
) -> NeuralLM:
    """Creates an untrained chat model: a network of the kind `base` in the zoo, such as "lstm".

    `settings` are keyword arguments of the function that creates such a network. `vocab_size` includes the special
    tokens of the chat template. `device` is where the network computes, such as "cpu" or "cuda". Raises
    ConfigurationError if `base` is not a neural network.
    """
    model = zoo.create(base, vocab_size, device=device, **(settings or {}))
    if not isinstance(model, NeuralLM):
        raise ConfigurationError(f"a chat model needs a neural network as its base, but '{base}' is none")
    return model


PRESETS: dict[str, dict[str, dict[str, Any]]] = {
    "chat": {
        "tiny": {"base": "lstm", "settings": {"d_embed": 8, "d_hidden": 12, "training": {"tokens": 2000}}},
    }
}
"""Settings of the factory of this file under each preset; see `lmzoo.zoo.presets`."""
