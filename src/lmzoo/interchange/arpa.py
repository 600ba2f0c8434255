"""Reads and writes predictors as ARPA files, the format of KenLM, SRILM, IRSTLM and other n-gram programs."""

from __future__ import annotations

import re
from pathlib import Path

from lmzoo.errors import ConfigurationError
from lmzoo.models.ngram import NgramModel
from lmzoo.models.ngram.arpa import read_arpa, write_arpa
from lmzoo.models.ngram.names import GIVEN
from lmzoo.predictor import Predictor
from lmzoo.provenance import Provenance
from lmzoo.system.files import sha256_of
from lmzoo.system.printable import name_text
from lmzoo.system.progress import OnProgress
from lmzoo.system.provenance import timestamp, versions
from lmzoo.tokenizers import Tokenizer, word_tokenizer
from lmzoo.tokenizers.words import SEPARATORS

_UNWRITABLE = re.compile(rf"[{SEPARATORS}]|^\s$")


def predictor_from_arpa(
    path: str | Path, *, tokenizer: Tokenizer | None = None, on_progress: OnProgress | None = None
) -> Predictor:
    """Reads an ARPA file as a predictor, which is an n-gram model with its tokenizer; the scores equal KenLM's.

    The tokenizer splits text into words at white space. Words that are not in the file become `<unk>`, or raise
    TokenizerError if the file has no `<unk>`. For a file that `predictor_to_arpa` wrote, `tokenizer` can be the
    tokenizer of the original predictor. The provenance of the predictor has `largest_sum_error`, the largest difference
    between 1 and the sum of a predicted distribution. Raises SavedModelError for a damaged file.
    """
    vocabulary, model = read_arpa(path, None if tokenizer is None else arpa_words(tokenizer), on_progress)
    provenance = Provenance(
        source=name_text(Path(path).name),
        source_fingerprint=sha256_of(Path(path)),
        largest_sum_error=float(f"{model.largest_sum_error():.2g}"),
        created=timestamp(),
        versions=versions(),
    )
    settings = {"order": model.order, "smoothing": GIVEN}
    return Predictor(tokenizer or word_tokenizer(vocabulary[1:]), model, "ngram", settings, provenance)


def predictor_to_arpa(predictor: Predictor, path: str | Path, *, on_progress: OnProgress | None = None) -> None:
    """Writes a predictor, an n-gram model with its tokenizer, as an ARPA file, compressed if the name ends in `.gz`.

    Tokens are written as the words that `arpa_words` returns. Raises ConfigurationError if the model is not an n-gram
    model, or if a token cannot be written in an ARPA file.
    """
    if not isinstance(predictor.model, NgramModel):
        raise ConfigurationError(
            f"only n-gram models can be written as ARPA files, but this is a '{predictor.species}' model"
        )
    write_arpa(path, predictor.model, arpa_words(predictor.tokenizer), on_progress)


def arpa_words(tokenizer: Tokenizer) -> list[str]:
    """Returns the V words that stand for the tokens of a tokenizer in ARPA files.

    Words are not changed. Other tokens are spelled as in `tokenizer.json`, for example "Ġthe" for " the" with byte
    pairs. Characters that separate words in ARPA files, and tokens that are one white space character, are written as
    code points, for example "<U+0020>".
    """
    return [_UNWRITABLE.sub(lambda match: f"<U+{ord(match[0]):04X}>", entry) for entry in tokenizer.entries]
