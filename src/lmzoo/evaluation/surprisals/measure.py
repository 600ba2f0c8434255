"""Measures the surprisals of words and tokens under predictors: in bits, with entropies, ranks and positions."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from lmzoo.checks import check_choice, one_or_several
from lmzoo.errors import UsageError
from lmzoo.evaluation.surprisals.columns import first_bits, token_rows, word_rows
from lmzoo.evaluation.surprisals.contexts import JOINER, Context, Contexts, Scope, from_texts
from lmzoo.evaluation.surprisals.scoring import scores
from lmzoo.evaluation.surprisals.table import TOKEN_COLUMNS, WORD_COLUMNS, SurprisalTable, Unit
from lmzoo.predictor import Predictor, as_predictor
from lmzoo.system.printable import printable
from lmzoo.system.progress import OnProgress, Progress
from lmzoo.tokenizers.alignment import Aligner

_logger = logging.getLogger(__name__)
_BATCH_CHARACTERS = 1 << 19
"""Number of characters that are measured at a time; a longer context is measured at once."""


def surprisal_table(
    predictors: Predictor | str | Path | Iterable[Predictor | str | Path] | Mapping[str, Predictor | str | Path],
    texts: str | Iterable[str],
    *,
    by: Unit = "word",
    context: str = "document",
    end_of_text: bool = False,
    on_progress: OnProgress | None = None,
) -> SurprisalTable:
    """Measures the surprisal of each word or token of texts under one or several predictors, in bits.

    - `predictors`: a Predictor, the path or name of one (see `Predictor.load`), several of them, or several by name.
    - `texts`: one text, or several; each is a document.
    - `by`: "word" for a row per word, where words are separated by white space, or "token" for a row per token.
    - `context`: "document" (a token is predicted from all tokens before it in its text), "sentence" (each line is read
      on its own), or "window:N" (from the last N tokens at most, as if the text began with them).
    - `end_of_text`: True adds a row for the end of each context, with the white space after the last word.

    The first word of a context is predicted from the start of a document. `sum` is the sum of the surprisals of the
    tokens of a word, and `corrected` the surprisal of the word itself; `lmzoo.evaluation.surprisals.columns` has the
    formulas. `entropy` is the entropy of the distribution of the next token before the word or token is read, and
    `entropy_reduction` is this entropy minus the one after it is read. A missing number is NaN: the rank of a word of
    several tokens, `corrected` for tokenizers that drop white space, and most numbers of words that share a token. The
    same context always gets the same numbers, whatever else is measured with it.

    Raises UsageError for a wrong argument.
    """
    scope = Scope.parse(context)
    named = _named(predictors)
    contexts = from_texts([*one_or_several(texts)], scope)
    tables = stream_surprisals(
        named, contexts, by=by, window=scope.window, end_of_text=end_of_text, on_progress=on_progress
    )
    return SurprisalTable.joined([*tables], output_columns(contexts.columns, by))


def output_columns(carried: Sequence[str], by: Unit) -> list[str]:
    """Returns the names of the columns of a table of surprisals, for an input with the columns `carried`.

    Raises UsageError if the input has a column of the same name as a result, and UnknownNameError unless `by` is "word"
    or "token".
    """
    check_choice(("word", "token"), by=by)
    first, *others = WORD_COLUMNS if by == "word" else TOKEN_COLUMNS
    if taken := next((name for name in carried if name in (first, *others)), None):
        raise UsageError(f"the input has a column '{taken}', which is the name of a result: rename it")
    return [first, *carried, *others]


def stream_surprisals(
    predictors: Mapping[str, Predictor],
    contexts: Contexts,
    *,
    by: Unit = "word",
    window: int | None = None,
    end_of_text: bool = False,
    on_progress: OnProgress | None = None,
) -> Iterator[SurprisalTable]:
    """Measures the surprisals of contexts as they are read, and yields the rows of successive contexts as tables.

    `predictors` by name, `by`, `end_of_text` and the columns are explained in `surprisal_table`. `contexts` comes from
    `lmzoo.evaluation.surprisals.contexts.read_contexts`, and `window` is the largest number of tokens that a model sees
    of a context; None = all. The rows of a context under all predictors follow each other. The memory needed depends on
    the longest context.
    """
    names = output_columns(contexts.columns, by)
    readers = [_Reader(name, predictor, by, window, end_of_text) for name, predictor in predictors.items()]
    n_contexts = n_read = 0
    for batch in _batches(contexts):
        tables: list[SurprisalTable] = []
        for reader in readers:

            def report(share: float, n_measured: int = len(tables), start: int = n_read, batch: Any = batch) -> None:
                if on_progress:
                    done = start + (batch[-1].n_bytes_read - start) * (n_measured + share) / len(readers)
                    on_progress(Progress(done, contexts.n_bytes, "bytes"))

            tables.append(reader.measure(batch, contexts.columns, n_contexts, report))
        n_contexts, n_read = n_contexts + len(batch), batch[-1].n_bytes_read
        if len(tables) == 1:
            yield SurprisalTable({name: tables[0][name] for name in names})
        else:
            joined = SurprisalTable.joined(tables, names)
            yield joined.ordered(np.argsort(joined["context"], kind="stable"))
    for reader in readers:
        reader.report_unknown()


def _named(predictors: Any) -> dict[str, Predictor]:
    """Returns the predictors that are given to `surprisal_table` by name; those given by a path or name are loaded."""
    named: dict[str, Predictor] = {}
    if isinstance(predictors, Mapping):
        named = {name: as_predictor(source) for name, source in predictors.items()}
    else:
        is_one = isinstance(predictors, str) or not isinstance(predictors, Iterable)
        sources: list[Any] = [predictors] if is_one else [*predictors]
        for source in sources:
            predictor = as_predictor(source)
            name = (predictor.label or predictor.species) if isinstance(source, Predictor) else Path(source).name
            if name in named:
                raise UsageError(f"two predictors have the name '{name}': give them by name, as {{'a': ..., 'b': ...}}")
            named[name] = predictor
    if not named:
        raise UsageError("name at least one predictor")
    return named


def _batches(contexts: Contexts) -> Iterator[list[Context]]:
    batch: list[Context] = []
    size = 0
    for context in contexts.contexts:
        batch.append(context)
        size += sum(len(part.text) for part in context.parts)
        if size >= _BATCH_CHARACTERS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


@final
class _Reader:
    """Measures contexts under one predictor."""

    def __init__(self, name: str, predictor: Predictor, by: Unit, window: int | None, end_of_text: bool) -> None:
        self._name, self._model, self._by, self._window = name, predictor.model, by, window
        self._end_of_text = end_of_text
        self._aligner = Aligner(predictor.tokenizer)
        self._corrects = by == "word" and self._aligner.keeps_separators
        self._first_bits = first_bits(self._aligner, predictor.model.predict_distribution().log_probs)
        self._n_unknown = self._n_tokens = 0
        if by == "word" and not (self._corrects or self._aligner.has_word_tokens):
            _logger.warning(
                "%s: its tokenizer drops white space, so the column 'corrected' is empty", printable(name, keep="")
            )

    def measure(
        self, batch: Sequence[Context], carried: Sequence[str], n_before: int, on_share: Callable[[float], None]
    ) -> SurprisalTable:
        """Returns the rows of a batch of contexts.

        `carried` are the names of the cells of the parts of the contexts, and `n_before` the number of contexts before
        the batch. `on_share` is called with the share of the batch that has been scored.
        """
        aligned = self._aligner.align([context.text for context in batch])
        token_set = self._aligner.ends_word if self._corrects else None
        stats = scores(self._model, aligned.stream, self._window, token_set, on_share)
        self._n_tokens += len(aligned.stream)
        self._n_unknown += np.count_nonzero(aligned.stream.ids == self._aligner.tokenizer.unknown_id)
        if self._by == "word":
            rows = word_rows(aligned, stats, self._aligner, self._first_bits, end_of_text=self._end_of_text)
        else:
            rows = token_rows(aligned, stats, self._aligner, end_of_text=self._end_of_text)
        columns, text = rows.columns, rows.text
        parts = [part for context in batch for part in context.parts]
        part_starts = _part_starts(batch, aligned.text_starts)
        last_parts = np.cumsum([len(context.parts) for context in batch]) - 1
        # The place of the end of a text is also that of the start of the next one.
        part = np.minimum(np.searchsorted(part_starts, rows.place, side="right") - 1, last_parts[text])
        offset = (np.array([part.offset for part in parts]) - part_starts)[part]
        for name in ("start", "end"):  # a token may begin with the space between two parts
            columns[name] = np.maximum(columns[name] + offset, 0)
        for index, name in enumerate(carried):
            columns[name] = np.array([part.cells[index] for part in parts], object)[part]
        columns["predictor"] = np.repeat(np.array([self._name], object), text.size)
        columns["context"] = n_before + 1 + text
        return SurprisalTable(columns)

    def report_unknown(self) -> None:
        """Logs how many of the tokens were unknown words, if any."""
        if self._n_unknown:
            _logger.warning(
                "%s: %s of %s tokens are unknown words, whose surprisal is that of <unk>",
                printable(self._name, keep=""),
                f"{self._n_unknown:,}",
                f"{self._n_tokens:,}",
            )


def _part_starts(batch: Sequence[Context], text_starts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Returns the position of the first character of each part of the contexts of a batch, in their joined texts.

    `text_starts` are the positions of the contexts.
    """
    starts: list[int] = []
    for context, start in zip(batch, text_starts.tolist(), strict=False):
        starts += accumulate((len(part.text) + len(JOINER) for part in context.parts[:-1]), initial=start)
    return np.array(starts, np.int64)
