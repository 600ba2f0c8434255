"""Predictors from and to the files of other toolkits: ARPA, which KenLM, SRILM, IRSTLM and others read and write."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from lmzoo.errors import ConfigurationError
from lmzoo.models.ngram import NgramModel
from lmzoo.models.ngram.arpa import read_arpa, write_arpa
from lmzoo.models.ngram.methods import GIVEN
from lmzoo.predictor import Predictor
from lmzoo.provenance import Provenance
from lmzoo.system.progress import OnProgress
from lmzoo.system.provenance import versions
from lmzoo.tokenizers import Tokenizer, word_tokenizer

_N_CHECKED = 64


def predictor_from_arpa(
    path: str | Path, *, tokenizer: Tokenizer | None = None, on_progress: OnProgress | None = None
) -> Predictor:
    """An `ngram` predictor that gives the scores of an ARPA file (see `read_arpa`).

    Its tokenizer splits text at white space into the words of the file; words outside it are `<unk>`, or refused if the
    file has no `<unk>`. A file that `predictor_to_arpa` wrote may be given the `tokenizer` of that predictor instead.
    The provenance has `largest_sum_error`: how far the probabilities of a distribution are from a sum of 1, at most,
    after 64 contexts of all orders. SavedModelError for a damaged file.
    """
    vocabulary, model = read_arpa(path, None if tokenizer is None else arpa_words(tokenizer), on_progress)
    with Path(path).open("rb") as file:
        fingerprint = hashlib.file_digest(file, "sha256").hexdigest()
    provenance = Provenance(
        source=Path(path).name,
        source_fingerprint=fingerprint,
        largest_sum_error=_largest_sum_error(model),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        versions=versions(),
    )
    settings = {"order": model.order, "smoothing": GIVEN}
    return Predictor(tokenizer or word_tokenizer(vocabulary[1:]), model, "ngram", settings, provenance)


def predictor_to_arpa(predictor: Predictor, path: str | Path, *, on_progress: OnProgress | None = None) -> None:
    """Writes an n-gram predictor as an ARPA file, packed by gzip if the name ends in `.gz`; see `arpa_words`.

    ConfigurationError for a predictor of another kind, or a token that no ARPA file can hold.
    """
    if not isinstance(predictor.model, NgramModel):
        raise ConfigurationError(f"only n-gram models can be written as ARPA, and this is a '{predictor.species}'")
    write_arpa(path, predictor.model, arpa_words(predictor.tokenizer), on_progress)


def arpa_words(tokenizer: Tokenizer) -> list[str]:
    """(V,) how tokens are written in ARPA files: words as they are, others as `tokenizer.json` spells them.

    So byte pairs have "Ġthe" for " the". Characters that are white space become their code points: "<U+0020>".
    """
    return [f"<U+{ord(entry):04X}>" if entry.isspace() else entry for entry in tokenizer.entries]


def _largest_sum_error(model: NgramModel) -> float:
    contexts = np.linspace(0, model.arrays()["backoffs"].size - 1, _N_CHECKED, dtype=np.int64)
    sums = (np.exp(model.next_log_probs(context)).sum() for context in {model.initial_state(), *contexts.tolist()})
    return float(f"{max(abs(total - 1) for total in sums):.2g}")
