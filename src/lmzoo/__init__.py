"""lmzoo, a historical language-model zoo: a century of next-token predictors behind one `predict_distribution`.

    >>> import lmzoo
    >>> predictor = lmzoo.Predictor.load("runs/quick/predictors/ngram")
    >>> predictor.top_tokens("the quick brown fox", k=3)

Names are imported when they are first used, so that `import lmzoo` is fast and never imports torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from lmzoo.system.version import __version__

_MODULES = {
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
    "compare": "experiments.compare",
    "evaluate": "evaluation.evaluate",
    "generate": "generation",
    "load_corpus": "corpora",
    "train_tokenizer": "tokenizers",
}
"""The module in which each public name is defined."""

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
    "compare",
    "evaluate",
    "generate",
    "load_corpus",
    "train_tokenizer",
    "zoo",
]

if TYPE_CHECKING:
    from lmzoo import zoo
    from lmzoo.corpora import load_corpus
    from lmzoo.distribution import Distribution
    from lmzoo.errors import LmzooError
    from lmzoo.evaluation.evaluate import evaluate
    from lmzoo.evaluation.records import EvalRecord
    from lmzoo.experiments.compare import compare
    from lmzoo.generation import Decoding, generate
    from lmzoo.language_model import LanguageModel
    from lmzoo.predictor import Predictor
    from lmzoo.stream import EOT, TokenStream, TrainingData
    from lmzoo.tokenizers import Tokenizer, train_tokenizer
    from lmzoo.zoo import Card


def __getattr__(name: str) -> Any:
    if name == "zoo":
        return importlib.import_module("lmzoo.zoo")
    if name not in _MODULES:
        raise AttributeError(f"module 'lmzoo' has no attribute '{name}'")
    return getattr(importlib.import_module(f"lmzoo.{_MODULES[name]}"), name)
