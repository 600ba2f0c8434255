"""The base class of sources: a source generates text by a known rule, and is the best possible predictor of it."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Self, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lmzoo.arrays import Arrays
from lmzoo.checkpoint import Checkpoint
from lmzoo.errors import UnknownNameError
from lmzoo.language_model import LanguageModel
from lmzoo.stream import EOT, TokenStream, TrainingData
from lmzoo.system.progress import OnProgress, Progress

State = TypeVar("State")

FIRST_WORD = 2
"""The id of the first word, after the two special tokens of a word tokenizer: end-of-text and `<unk>` (never used)."""


class Source(LanguageModel[State]):
    """A rule that generates random text, with the exact probabilities of this rule as a language model.

    No other model predicts the text better on average. The probabilities are given, not learned, so `fit` only marks
    the model as fitted. Tokens that the rule does not allow have probability 0. Reading such a token does not change
    the state, so that every context has a prediction. `words` are the texts of the token ids; `baseline_nats`: see the
    attribute of this name.
    """

    context_size = None

    def __init__(self, words: Sequence[str], *, baseline_nats: float | None) -> None:
        super().__init__(FIRST_WORD + len(words))
        self.words = tuple(words)
        self.id_of = {word: FIRST_WORD + number for number, word in enumerate(words)}
        self.baseline_nats = baseline_nats
        """Baseline loss on the target tokens: nats per token above the optimum, for a model that knows everything
        except the fact that determines them. None if the source has no target tokens."""

    @property
    @abstractmethod
    def entropy(self) -> float | None:
        """The entropy of the generated text in nats per token, end-of-text tokens included.

        None if there is no closed form.
        """

    @abstractmethod
    def target_mask(self, stream: TokenStream) -> NDArray[np.bool_]:
        """Returns a mask (T,) that is True at those of the T tokens of a stream on which models are judged.

        These target tokens test one ability, such as a verb that must agree with its subject.
        """

    def sample(self, n_documents: int, rng: np.random.Generator) -> TokenStream:
        """Samples `n_documents` random documents by the rule of the source, and returns them as one token stream."""
        documents: list[list[int]] = [[] for _ in range(n_documents)]
        unfinished = list(range(n_documents))
        states: Sequence[State] = [self.initial_state()] * n_documents
        while unfinished:
            cumulative = np.exp(self.next_log_probs_batch(states)).cumsum(axis=1)  # (B, V)
            cumulative /= cumulative[:, -1:]
            sampled = (cumulative > rng.random((len(unfinished), 1))).argmax(axis=1)
            for number, token_id in zip(unfinished, sampled.tolist(), strict=True):
                documents[number].append(token_id)
            rows = np.flatnonzero(sampled != EOT).tolist()
            unfinished = [unfinished[row] for row in rows]
            states = self.advance_batch([states[row] for row in rows], sampled[rows].tolist())
        return TokenStream.from_documents(document[:-1] for document in documents)

    def log_probs(self, ids: ArrayLike | TokenStream) -> NDArray[np.float64]:
        """Returns the log-probability (T,), in nats, of each of T tokens given the tokens before it in its document.

        The documents are read in parallel: all first tokens, then all second tokens, and so on. This is faster than
        reading one document after the other.
        """
        stream = self.checked_stream(ids)
        log_probs = np.empty(len(stream))
        positions, ends = stream.starts, stream.ends  # next position and end of each unfinished document
        states: Sequence[State] = [self.initial_state()] * len(positions)
        while positions.size:
            token_ids = stream.ids[positions]
            log_probs[positions] = self.next_log_probs_batch(states)[np.arange(len(positions)), token_ids]
            rows = np.flatnonzero(positions + 1 < ends)
            states = self.advance_batch([states[row] for row in rows.tolist()], token_ids[rows].tolist())
            positions, ends = positions[rows] + 1, ends[rows]
        return log_probs

    def text(self, ids: Sequence[int] | NDArray[np.integer]) -> str:
        """Converts token ids to text: words separated by spaces, without end-of-text tokens."""
        entries = ["", "<unk>", *self.words]
        return " ".join(entries[token_id] for token_id in ids if token_id != EOT)

    def ids(self, text: str) -> list[int]:
        """Converts text, words separated by white space, to token ids; raises UnknownNameError for an unknown word."""
        for word in text.split():
            if word not in self.id_of:
                raise UnknownNameError("word of this source", word, self.words)
        return [self.id_of[word] for word in text.split()]

    # ---- Fitting and saving: there is nothing to learn --------------------------------------------

    def fit(
        self,
        data: TrainingData,
        *,
        seed: int = 0,
        on_progress: OnProgress | None = None,
        checkpoint: Checkpoint | None = None,
    ) -> Self:
        n_tokens = len(self.checked_data(data).train)
        if on_progress:
            on_progress(Progress(n_tokens, n_tokens, "tokens"))
        return self.load_arrays({})

    def arrays(self) -> dict[str, NDArray[Any]]:
        return {}

    def load_arrays(self, arrays: Arrays) -> Self:
        self.fitted = True
        return self

    def _log_distribution(self, probs: Mapping[int, float]) -> NDArray[np.float64]:
        """Returns log-probabilities (V,) from token probabilities by id; ids that are not given have probability 0."""
        all_probs = np.zeros(self.vocab_size)
        all_probs[list(probs)] = list(probs.values())
        with np.errstate(divide="ignore"):
            return np.log(all_probs)


def end_probability(n_so_far: int, lengths: range) -> float:
    """Returns the probability that a sequence ends after `n_so_far` elements, if all `lengths` are equally likely."""
    return 0.0 if n_so_far < lengths[0] else 1 / (lengths.stop - n_so_far)
