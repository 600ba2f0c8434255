"""One dial for all species: how much each may spend, in tokens and parameters, never in seconds.

Quick gives each species about a minute of one core on a million tokens of text. Standard and thorough are sized for
about ten and a hundred times as much work; the transformer of thorough takes 86 minutes on one core of 2023.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from lmzoo.errors import UnknownNameError

# Species that are not named here learn by counting: they run with their defaults under every budget.
BUDGETS: dict[str, dict[str, dict[str, Any]]] = {
    "quick": {
        "hmm": {"n_states": 64, "n_iterations": 20},
        "class-hmm": {"n_states": 1024},
        "low-rank-hmm": {"n_states": 512, "rank": 64, "training": {"tokens": 1_100_000}},
        "nplm": {"training": {"tokens": 1_000_000, "chunk_size": 32, "learning_rate": 1e-2, "weight_decay": 0.01}},
        "rnn": {"training": {"tokens": 700_000, "chunk_size": 32, "learning_rate": 1e-2, "weight_decay": 0.01}},
        "lstm": {"training": {"tokens": 700_000, "chunk_size": 32, "learning_rate": 1.5e-2, "weight_decay": 0.01}},
        "gru": {"training": {"tokens": 700_000, "chunk_size": 32, "learning_rate": 1.5e-2, "weight_decay": 0.01}},
        "transformer-2017": {"training": {"tokens": 500_000, "batch_size": 16}},
        "gpt2": {"training": {"tokens": 500_000, "batch_size": 16, "learning_rate": 3e-3}},
        "transformer": {
            "n_layers": 2, "ngrams": 3, "ngram_dropout": 0.3,
            "training": {
                "tokens": 500_000, "batch_size": 16, "learning_rate": 1e-2, "weight_decay": 0.01, "optimizer": "muon"
            },
        },
    },
    "standard": {
        "hmm": {"n_states": 256, "n_iterations": 40},
        "class-hmm": {"n_states": 2048},
        "low-rank-hmm": {"n_states": 1024, "rank": 128, "training": {"tokens": 4_000_000}},
        "nplm": {
            "d_embed": 128, "d_hidden": 256, "dropout": 0.2,
            "training": {"tokens": 4_000_000, "chunk_size": 32, "learning_rate": 6e-3},
        },
        "rnn": {
            "d_embed": 256, "d_hidden": 512, "dropout": 0.2, "training": {"tokens": 3_000_000, "chunk_size": 32}
        },
        "lstm": {
            "d_embed": 256, "d_hidden": 512, "dropout": 0.3,
            "training": {"tokens": 2_500_000, "chunk_size": 32, "learning_rate": 6e-3},
        },
        "gru": {
            "d_embed": 256, "d_hidden": 512, "dropout": 0.3,
            "training": {"tokens": 2_500_000, "chunk_size": 32, "learning_rate": 6e-3},
        },
        "transformer-2017": {
            "d_model": 256, "n_layers": 4, "dropout": 0.2, "training": {"tokens": 2_500_000, "batch_size": 16}
        },
        "gpt2": {
            "d_model": 256, "n_layers": 4, "dropout": 0.2,
            "training": {"tokens": 2_500_000, "batch_size": 16, "learning_rate": 2e-3},
        },
        "transformer": {
            "d_model": 256, "n_layers": 4, "dropout": 0.2, "ngrams": 3, "ngram_dropout": 0.5,
            "training": {
                "tokens": 2_500_000, "learning_rate": 1e-2, "weight_decay": 0.1,
                "optimizer": "muon", "ema_fraction": 0.1
            },
        },
    },
    "thorough": {
        "hmm": {"n_states": 1024, "n_iterations": 80},
        "class-hmm": {"n_states": 4096},
        "low-rank-hmm": {"n_states": 2048, "rank": 256, "training": {"tokens": 20_000_000}},
        "nplm": {"d_embed": 128, "d_hidden": 512, "dropout": 0.3, "training": {"tokens": 20_000_000}},
        "rnn": {"d_embed": 512, "d_hidden": 1024, "dropout": 0.3, "training": {"tokens": 12_000_000}},
        "lstm": {"d_embed": 512, "d_hidden": 1024, "dropout": 0.5, "training": {"tokens": 8_000_000}},
        "gru": {"d_embed": 512, "d_hidden": 1024, "dropout": 0.5, "training": {"tokens": 8_000_000}},
        "transformer-2017": {
            "d_model": 384, "n_layers": 6, "n_heads": 6, "dropout": 0.3, "training": {"tokens": 9_000_000}
        },
        "gpt2": {"d_model": 384, "n_layers": 6, "n_heads": 6, "dropout": 0.3, "training": {"tokens": 9_000_000}},
        "transformer": {
            "d_model": 384, "n_layers": 6, "n_heads": 6, "dropout": 0.3, "ngrams": 3, "ngram_dropout": 0.5,
            "training": {
                "tokens": 4_500_000, "learning_rate": 1e-2, "weight_decay": 0.1,
                "optimizer": "muon", "ema_fraction": 0.1
            },
        },
    },
}  # fmt: skip


def settings_for(species: str, budget: str) -> dict[str, Any]:
    """The factory arguments of a species under a budget; UnknownNameError for an unknown budget."""
    if budget not in BUDGETS:
        raise UnknownNameError("budget", budget, BUDGETS)
    return dict(BUDGETS[budget].get(species, {}))


def merged(settings: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """`settings` with `changes` laid over them, group by group."""
    result = dict(settings)
    for name, value in changes.items():
        old = result.get(name)
        result[name] = merged(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return result


def as_assignments(settings: Mapping[str, Any]) -> dict[str, str]:
    """{"training.tokens": "5"} for {"training": {"tokens": 5}}: names and values as --set takes them."""
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        flat |= {f"{name}.{part}": own for part, own in value.items()} if isinstance(value, Mapping) else {name: value}
    return {name: value if isinstance(value, str) else json.dumps(value) for name, value in flat.items()}
