"""What all sources share: a rule that makes text, and is itself the best possible predictor of it."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from lmzoo.arrays import Arrays
from lmzoo.checkpoint import Checkpoint
from lmzoo.errors import UnknownNameError
from lmzoo.language_model import LanguageModel
from lmzoo.stream import EOT, TokenStream, TrainingData
from lmzoo.system.progress import OnProgress, Progress

State = TypeVar("State")

FIRST_WORD = 2
"""The id of the first word. Ids are those of a word tokenizer: end-of-text, then `<unk>`, which no source ever says."""


class Source(LanguageModel[State]):
    """A rule that makes text, as the language model that knows it: nothing predicts its text better on average.

    All is given and nothing learned: `fit` only makes it ready, as every model must be. What the rule does not allow
    has probability 0; a token that is impossible where it comes leaves the state as it was, so that any context has a
    prediction.
    """

    context_size = None

    def __init__(self, words: Sequence[str], *, ignorance: float | None) -> None:
        super().__init__(FIRST_WORD + len(words))
        self.words = tuple(words)
        self.id_of = {word: FIRST_WORD + place for place, word in enumerate(words)}
        self.ignorance = ignorance
        """What a decisive token costs whoever knows all but what decides it: nats above the optimum; None = no such
        tokens."""

    @property
    @abstractmethod
    def entropy(self) -> float | None:
        """Nats per token, end-of-text included, that nothing can save; None = there is no closed form."""

    @abstractmethod
    def decisive(self, stream: TokenStream) -> NDArray[np.bool_]:
        """(T,) where a stream of this source asks for the ability that it is about: a verb that must agree, say."""

    def sample(self, n_documents: int, rng: np.random.Generator) -> TokenStream:
        """Draws documents from its own predictions, all side by side."""
        documents: list[list[int]] = [[] for _ in range(n_documents)]
        rows = list(range(n_documents))
        states: Sequence[State] = [self.initial_state()] * n_documents
        while rows:
            cumulative = np.exp(self.next_log_probs_batch(states)).cumsum(axis=1)  # (B, V)
            cumulative /= cumulative[:, -1:]
            drawn = (cumulative > rng.random((len(rows), 1))).argmax(axis=1)
            for row, token_id in zip(rows, drawn.tolist(), strict=True):
                documents[row].append(token_id)
            going_on = np.flatnonzero(drawn != EOT).tolist()
            rows = [rows[place] for place in going_on]
            states = self.advance_batch([states[place] for place in going_on], drawn[going_on].tolist())
        return TokenStream.from_documents(document[:-1] for document in documents)

    def text(self, ids: Sequence[int] | NDArray[np.integer]) -> str:
        """Ids as words with spaces between them, without ends of text."""
        entries = ["", "<unk>", *self.words]
        return " ".join(entries[token_id] for token_id in ids if token_id != EOT)

    def ids(self, text: str) -> list[int]:
        """The ids of words with white space between them; UnknownNameError for a word that the source does not have."""
        for word in text.split():
            if word not in self.id_of:
                raise UnknownNameError("word of this source", word, self.words)
        return [self.id_of[word] for word in text.split()]

    # ---- As a language model that has nothing to learn --------------------------------------------

    def fit(
        self,
        data: TrainingData,
        *,
        seed: int = 0,
        on_progress: OnProgress | None = None,
        checkpoint: Checkpoint | None = None,
    ) -> Self:
        n_tokens = len(data.checked(self.vocab_size).train)
        if on_progress:
            on_progress(Progress(n_tokens, n_tokens, "tokens"))
        return self.load_arrays({})

    def arrays(self) -> dict[str, NDArray[Any]]:
        return {}

    def load_arrays(self, arrays: Arrays) -> Self:
        self.fitted = True
        return self

    def _log_distribution(self, probs: Mapping[int, float]) -> NDArray[np.float64]:
        """(V,) log-probabilities from the probabilities of tokens; those not named have none."""
        all_probs = np.zeros(self.vocab_size)
        all_probs[list(probs)] = list(probs.values())
        with np.errstate(divide="ignore"):
            return np.log(all_probs)


def chance_to_end(n_so_far: int, lengths: range) -> float:
    """The probability that something of so many parts is whole, if all lengths are equally likely."""
    return 0.0 if n_so_far < lengths[0] else 1 / (lengths.stop - n_so_far)
