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
    """Creates a chat model with the network of the species `base`, such as "lstm", and its `settings`.

    `vocab_size` includes the special tokens of the chat template. Raises ConfigurationError if the base is not a neural
    network that learns from text, or if `settings` is no mapping of its settings.
    """
    if not isinstance(base, str):
        raise ConfigurationError(f"base must be the name of a species, such as lstm; got {base!r}")
    if settings is not None and not isinstance(settings, Mapping):
        raise ConfigurationError(f"settings must be a mapping of the base's settings to values, got {settings!r}")
    if zoo.card(base).learns_from != "text":
        raise ConfigurationError(f"the base of a chat model must be a model of text, such as lstm; got '{base}'")
    model = zoo.create(base, vocab_size, device=device, **(settings or {}))
    if not isinstance(model, NeuralLM):
        raise ConfigurationError(f"the base of a chat model must be a neural network, such as lstm; got '{base}'")
    return model


PRESETS: dict[str, dict[str, dict[str, Any]]] = {
    "chat": {
        "tiny": {"base": "lstm", "settings": {"d_embed": 8, "d_hidden": 12, "training": {"tokens": 2000}}},
    }
}
"""Settings of the factory of this file under each preset; see `lmzoo.zoo.presets`."""
