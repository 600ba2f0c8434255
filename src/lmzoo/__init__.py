"""lmzoo: a century of language models, from the Markov chain to the transformer, behind one interface.

    import lmzoo
    predictor = lmzoo.Predictor.load("runs/quick/predictors/ngram")
    predictor.top_tokens("the quick brown fox", k=3)

Each public name is imported when it is first used, so that `import lmzoo` is fast and never imports torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from lmzoo.system.version import __version__

_MODULES = {
    "Card": "zoo",
    "Checkpoint": "checkpoint",
    "Decoding": "generation",
    "Distribution": "distribution",
    "EOT": "stream",
    "EvalRecord": "evaluation.records",
    "LanguageModel": "language_model",
    "LmzooError": "errors",
    "Predictor": "predictor",
    "Progress": "language_model",
    "Provenance": "provenance",
    "SampledToken": "generation",
    "TokenStream": "stream",
    "Tokenizer": "tokenizers",
    "TrainingData": "stream",
    "align": "experiments.align",
    "check_language_model": "testing",
    "compare": "experiments.compare",
    "evaluate": "evaluation.evaluate",
    "generate": "generation",
    "generate_batch": "generation",
    "load_corpus": "corpora",
    "predictor_from_arpa": "interchange.arpa",
    "predictor_from_huggingface": "interchange.huggingface",
    "predictor_to_arpa": "interchange.arpa",
    "predictor_to_huggingface": "interchange.huggingface",
    "surprisal_table": "evaluation.surprisals",
    "take_array": "arrays",
    "train_tokenizer": "tokenizers",
}
"""The module that defines each public name."""

__all__ = [
    "EOT",
    "Card",
    "Checkpoint",
    "Decoding",
    "Distribution",
    "EvalRecord",
    "LanguageModel",
    "LmzooError",
    "Predictor",
    "Progress",
    "Provenance",
    "SampledToken",
    "TokenStream",
    "Tokenizer",
    "TrainingData",
    "__version__",
    "align",
    "check_language_model",
    "compare",
    "evaluate",
    "generate",
    "generate_batch",
    "load_corpus",
    "predictor_from_arpa",
    "predictor_from_huggingface",
    "predictor_to_arpa",
    "predictor_to_huggingface",
    "surprisal_table",
    "take_array",
    "train_tokenizer",
    "zoo",
]

if TYPE_CHECKING:
    from lmzoo import zoo
    from lmzoo.arrays import take_array
    from lmzoo.checkpoint import Checkpoint
    from lmzoo.corpora import load_corpus
    from lmzoo.distribution import Distribution
    from lmzoo.errors import LmzooError
    from lmzoo.evaluation.evaluate import evaluate
    from lmzoo.evaluation.records import EvalRecord
    from lmzoo.evaluation.surprisals import surprisal_table
    from lmzoo.experiments.align import align
    from lmzoo.experiments.compare import compare
    from lmzoo.generation import Decoding, SampledToken, generate, generate_batch
    from lmzoo.interchange.arpa import predictor_from_arpa, predictor_to_arpa
    from lmzoo.interchange.huggingface import predictor_from_huggingface, predictor_to_huggingface
    from lmzoo.language_model import LanguageModel, Progress
    from lmzoo.predictor import Predictor
    from lmzoo.provenance import Provenance
    from lmzoo.stream import EOT, TokenStream, TrainingData
    from lmzoo.testing import check_language_model
    from lmzoo.tokenizers import Tokenizer, train_tokenizer
    from lmzoo.zoo import Card


def __getattr__(name: str) -> Any:
    if name == "zoo":
        return importlib.import_module("lmzoo.zoo")
    if name not in _MODULES:
        raise AttributeError(f"module 'lmzoo' has no attribute '{name}'")
    return getattr(importlib.import_module(f"lmzoo.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
