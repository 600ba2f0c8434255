"""Bits per byte of documents under a remote model."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from lmzoo.corpora import Document
from lmzoo.errors import CorpusError
from lmzoo.interchange.remote.model import RemoteModel
from lmzoo.interchange.remote.surprisals import not_covered
from lmzoo.system.progress import OnProgress, Progress


@dataclass(frozen=True)
class RemoteEvaluation:
    """The quality of a remote model on a text, as far as the server shows it."""

    model: str
    url: str
    n_documents: int
    n_bytes: int
    """UTF-8 bytes of all documents."""
    scored_bytes: int
    """UTF-8 bytes of the tokens with a log-probability."""
    scored_tokens: int
    """Number of tokens with a log-probability, as the server divides the text."""
    total_bits: float
    """Sum of the surprisals of these tokens, in bits."""
    bits_per_byte: float
    """`total_bits` divided by `scored_bytes`."""
    not_covered: str
    """A sentence that says which parts of the text are not scored."""


def remote_evaluation(
    model: RemoteModel, documents: Sequence[Document], *, on_progress: OnProgress | None = None
) -> RemoteEvaluation:
    """Scores documents with a remote model, one request for each, and returns the result for all of them together.

    A document must fit into the context of the model. Raises RemoteError if the server does not return the
    log-probabilities of a prompt, and CorpusError if there is no text.
    """
    texts = [document.text for document in documents if document.text]
    scored = []
    for text in texts:
        scored.append(model.surprisals(text))
        if on_progress:
            on_progress(Progress(len(scored), len(texts), "documents"))
    n_bytes = sum(len(text.encode(errors="surrogatepass")) for text in texts)
    scored_bytes = sum(surprisals.scored_bytes for surprisals in scored)
    scored_tokens = sum(len(surprisals.scored) for surprisals in scored)
    if not scored_bytes:
        raise CorpusError(f"{len(texts)} documents have no token that a remote model can score: name a longer text")
    total_bits = math.fsum(surprisals.total_bits for surprisals in scored)
    return RemoteEvaluation(
        model.model,
        model.url,
        len(texts),
        n_bytes,
        scored_bytes,
        scored_tokens,
        total_bits,
        total_bits / scored_bytes,
        not_covered(sum(map(len, scored)) - scored_tokens, n_bytes - scored_bytes),
    )
