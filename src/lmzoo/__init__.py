"""lmzoo, a historical language-model zoo: a century of next-token predictors behind one `predict_distribution`.

    >>> import lmzoo
    >>> predictor = lmzoo.Predictor.load("runs/quick/predictors/ngram")
    >>> predictor.top_tokens("the quick brown fox", k=3)

Names are imported on first use, so that `import lmzoo` costs nothing and never imports torch. Functions that share
their module's name come from there: `from lmzoo.experiments.compare import compare`, likewise `evaluate` and `generate`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from lmzoo.system.version import __version__

_HOME = {
    "Card": "zoo",
    "Decoding": "generation",
    "Distribution": "distribution",
    "EOT": "stream",
    "EvalRecord": "evaluation.records",
    "LanguageModel": "language_model",
    "LmzooError": "errors",
    "Predictor": "predictor",
    "TokenStream": "stream",
    "Tokenizer": "tokenizers",
    "TrainingData": "stream",
    "load_corpus": "corpora",
    "train_tokenizer": "tokenizers",
    "zoo": "",
}

__all__ = [
    "EOT",
    "Card",
    "Decoding",
    "Distribution",
    "EvalRecord",
    "LanguageModel",
    "LmzooError",
    "Predictor",
    "TokenStream",
    "Tokenizer",
    "TrainingData",
    "__version__",
    "load_corpus",
    "train_tokenizer",
    "zoo",
]

if TYPE_CHECKING:
    from lmzoo import zoo
    from lmzoo.corpora import load_corpus
    from lmzoo.distribution import Distribution
    from lmzoo.errors import LmzooError
    from lmzoo.evaluation.records import EvalRecord
    from lmzoo.generation import Decoding
    from lmzoo.language_model import LanguageModel
    from lmzoo.predictor import Predictor
    from lmzoo.stream import EOT, TokenStream, TrainingData
    from lmzoo.tokenizers import Tokenizer, train_tokenizer
    from lmzoo.zoo import Card


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'lmzoo' has no attribute '{name}'")
    home = _HOME[name]
    return getattr(importlib.import_module(f"lmzoo.{home}"), name) if home else importlib.import_module(f"lmzoo.{name}")
