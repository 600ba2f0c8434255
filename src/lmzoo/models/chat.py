"""Chat models: language models that learned from conversations and from rankings of their replies (2022).

A chat model is a network of an earlier species, such as a transformer or an LSTM. Its vocabulary has a few more tokens,
which mark who speaks and where a message ends. It still predicts the next token. What is new is its training:

1. A language model learns to predict the next token of a text. It is called the base.
2. Supervised fine-tuning (SFT): the base learns to predict the assistant's messages in conversations. The result
   corresponds to GPT-3.5.
3. The fine-tuned model learns from rankings of its replies. In proximal policy optimization (PPO), which is
   reinforcement learning, it learns to write replies to which a reward model gives high rewards; the reward model has
   learned from the rankings. In direct preference optimization (DPO), it learns from the rankings themselves. The
   result corresponds to ChatGPT.

A chat model whose better base was trained in the same stages corresponds to GPT-4.

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
    """Creates an untrained chat model: the network of the species `base`, such as "lstm", with the settings `settings`.

    `vocab_size` includes the special tokens of the chat template. Raises ConfigurationError if the base is not a neural
    network that learns from text, or if `settings` is not a mapping of settings of the base to values.
    """
    if not isinstance(base, str):
        raise ConfigurationError(f"base must be the name of a species, such as lstm, got {base!r}")
    if settings is not None and not isinstance(settings, Mapping):
        raise ConfigurationError(f"settings must be a mapping of the base's settings to values, got {settings!r}")
    if zoo.card(base).learns_from != "text":
        raise ConfigurationError(
            f"the base of a chat model must be a model that learns from text, such as lstm, got '{base}'"
        )
    model = zoo.create(base, vocab_size, device=device, **(settings or {}))
    if not isinstance(model, NeuralLM):
        raise ConfigurationError(f"the base of a chat model must be a neural network, such as lstm, got '{base}'")
    return model


PRESETS: dict[str, dict[str, dict[str, Any]]] = {
    "chat": {
        "tiny": {"base": "lstm", "settings": {"d_embed": 8, "d_hidden": 12, "training": {"tokens": 2000}}},
    }
}
"""The presets of the factory of this file, each with its settings; see `lmzoo.zoo.presets`."""
