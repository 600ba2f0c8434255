"""The probes of a fitted model as files of a run folder, so that a report reads them and measures nothing.

probes/NAME/predictions.json         predictions after a prompt, a sampled continuation, the hidden states
probes/NAME/context.safetensors      a `ContextUse`; absent if it cannot be measured
probes/NAME/gradients.safetensors    a `GradientFlow`; absent unless the model is a network that embeds tokens
"""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lmzoo.arrays import check_numbers, load_arrays, save_arrays, take_array
from lmzoo.corpora.encoded import EncodedCorpus
from lmzoo.errors import CorpusError, SavedModelError, UsageError
from lmzoo.metrics import bits
from lmzoo.models.hidden_states import HasHiddenStates, StateSummary
from lmzoo.probes.context_use import ContextUse, context_use
from lmzoo.probes.gradient_norms import GradientFlow
from lmzoo.stream import TokenStream
from lmzoo.system.files import atomic_file, atomic_folder
from lmzoo.system.json_files import parse_as, read_text

if TYPE_CHECKING:
    from lmzoo.predictor import Predictor

SAMPLE_TOP_P, SAMPLE_SEED = 0.95, 0
_PROMPT_WORDS = 8
_N_NEXT_TOKENS = 5
_N_SAMPLED_TOKENS = 60
_N_STATES = 12
_N_PASSAGES = 32
_N_TOKENS_OF_STATE = 8


@dataclass(frozen=True)
class State:
    """One hidden state of a model: its frequency, its most likely tokens and next states, and the tokens as text."""

    summary: StateSummary
    tokens: list[str]


@dataclass(frozen=True)
class Predictions:
    """The predictions of one model after a prompt, and its hidden states if it has any."""

    prompt: str
    next_tokens: list[tuple[str, float]]
    """The most likely next tokens and their probabilities."""
    entropy_bits: float
    """Entropy of the next-token distribution, in bits."""
    sample: str
    """A continuation of the prompt, sampled with a fixed seed."""
    n_states: int
    """Number of hidden states; 0 for a model without hidden states."""
    states: list[State]
    """The hidden states that emit the largest shares of the text, the largest share first."""


@dataclass(frozen=True, eq=False)
class StoredProbes:
    """The stored measurements of one trained model, other than its loss.

    These are its predictions after a prompt, its use of context, and the norms of its gradients.
    """

    predictions: Predictions
    context: ContextUse | None
    gradients: GradientFlow | None


def probes_path(folder: Path, name: str) -> Path:
    """Returns the path, in the run folder `folder`, of the stored measurements of the model `name`."""
    return folder / "probes" / name


def are_stored(home: Path) -> bool:
    """Returns True if the folder `home` holds the measurements of a model that `measure` has written."""
    return (home / "predictions.json").exists()


def measure(predictor: Predictor, encoded: EncodedCorpus, home: Path) -> None:
    """Measures a trained model on the validation split and writes the measurements to the folder `home`.

    Measured are the predictions after a prompt, the use of context, and for a network the norms of its gradients. The
    prompt is the start of the validation split, on which no model is trained and no score is computed.
    """
    valid = encoded.valid.stream
    with atomic_folder(home) as temporary:
        _write_predictions(_predictions(predictor, _prompt(encoded)), temporary / "predictions.json")
        # Context use needs long enough documents, and a probability above 0 for every token of the text.
        with suppress(CorpusError, UsageError):
            save_arrays(
                temporary / "context.safetensors", vars(context_use(predictor.model, valid, n_positions=_N_PASSAGES))
            )
        with suppress(CorpusError):  # no document has a token before its last one
            _write_gradients(predictor, valid, temporary / "gradients.safetensors")


def load_probes(home: Path) -> StoredProbes:
    """Reads the stored measurements of a model from the folder `home`.

    Raises SavedModelError if they are missing or damaged.
    """
    predictions = _read_predictions(home / "predictions.json")
    context = gradients = None
    if (path := home / "context.safetensors").exists():
        arrays, _ = load_arrays(path)
        check_numbers(arrays)
        shape = take_array(arrays, "whole", shape=(None, None)).shape
        context = ContextUse(
            **{name: take_array(arrays, name, shape=shape[:1]) for name in ("positions", "documents")},
            **{name: take_array(arrays, name, shape=shape) for name in ("whole", "cut", "shuffled")},
        )
    if (path := home / "gradients.safetensors").exists():
        arrays, _ = load_arrays(path)
        check_numbers(arrays)
        positions = take_array(arrays, "positions", shape=(None,))
        gradients = GradientFlow(positions, take_array(arrays, "norms", shape=(len(positions), None)))
    return StoredProbes(predictions, context, gradients)


def _prompt(encoded: EncodedCorpus) -> str:
    text = encoded.tokenizer.decode(next(encoded.valid.stream.documents())[:200])
    return " ".join(text.split()[:_PROMPT_WORDS])


def _predictions(predictor: Predictor, prompt: str) -> Predictions:
    states: list[StateSummary] = []
    if isinstance(predictor.model, HasHiddenStates):
        states = sorted(predictor.model.state_table(_N_TOKENS_OF_STATE), key=lambda state: -state.mass)
    text_of = predictor.tokenizer.token_text
    return Predictions(
        prompt,
        next_tokens=predictor.top_tokens(prompt, _N_NEXT_TOKENS),
        entropy_bits=bits(predictor.predict_distribution(prompt).entropy()),
        sample=predictor.complete(prompt, max_tokens=_N_SAMPLED_TOKENS, top_p=SAMPLE_TOP_P, seed=SAMPLE_SEED),
        n_states=len(states),
        states=[State(state, [text_of(token_id) for token_id, _ in state.top]) for state in states[:_N_STATES]],
    )


def _write_predictions(predictions: Predictions, path: Path) -> None:
    with atomic_file(path) as temporary:
        temporary.write_text(json.dumps(asdict(predictions), default=np.generic.item), encoding="utf-8")


def _read_predictions(path: Path) -> Predictions:
    if not path.is_file():
        raise SavedModelError(f"{path} is missing: this run stores no probes of the model")
    try:
        return parse_as(Predictions, read_text(path, "predictions"))
    except ValueError as error:
        raise SavedModelError(f"{path} is damaged: {error}") from error


def _write_gradients(predictor: Predictor, valid: TokenStream, path: Path) -> None:
    if predictor.model.device_name is None:
        return  # a model without torch, whose import takes seconds, has no gradients
    from lmzoo.probes.gradient_flow import gradient_flow, has_token_vectors

    if has_token_vectors(predictor.model):
        save_arrays(path, vars(gradient_flow(predictor.model, valid)))
