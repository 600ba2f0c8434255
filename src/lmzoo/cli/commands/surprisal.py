"""The command `lmzoo surprisal`, which writes the surprisal of each word or token of texts."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from lmzoo.cli import terminal
from lmzoo.cli.commands import remote
from lmzoo.cli.commands.parameters import OrStandardInput
from lmzoo.system.placement import Device


def surprisal(
    *texts: OrStandardInput,
    predictors: Annotated[list[Path] | None, Parameter(name=["--predictor", "-p"])] = None,
    by: Literal["word", "token"] = "word",
    context: str = "document",
    out: Path | None = None,
    input: Literal["text", "csv", "tsv"] | None = None,
    text_column: str = "text",
    group: list[str] | None = None,
    end_of_text: bool = False,
    no_bos: bool = False,
    device: Device = "cpu",
    json: bool = False,
) -> None:
    """Prints the surprisal of each word of a text, in bits, with entropy and rank: a table with one row per word.

    Example: lmzoo surprisal story.txt -p ngram --out story.tsv

    Example: lmzoo surprisal stimuli.csv -p ngram -p lstm --context sentence --out stimuli.parquet

    Example: echo "The horse raced past the barn fell." | lmzoo surprisal - -p ngram --by token

    The columns of a table of words: sum is the total surprisal of the tokens of the word, which include the white space
    before it; corrected is the surprisal of the word itself, without the white space before it and including the end of
    the word; entropy is the entropy of the next token before the word is read; entropy_reduction is this entropy minus
    the entropy after the word is read; rank is the rank of the token, and is empty if the word has several tokens. A
    cell without a value is empty, never 0. The first word is predicted from the start of a document.

    Parameters
    ----------
    texts
        Files of plain text, or tables (.csv or .tsv) with a header; - is standard input. Files may be compressed. The
        rows of a table keep all their columns, such as item, condition and region.
    predictors
        Name of a predictor that comes with lmzoo, such as ngram; folder of a saved predictor, or of a causal model that
        transformers saved; GGUF file; or name of an installed model, such as smollm2. May be repeated: the
        table then has the rows of all predictors, and the column predictor names the predictor of each row.
    by
        One row for each word (between white space) or for each token of the predictor.
    context
        What a word is predicted from: document (everything before it in its file, or in its table row), sentence
        (everything before it in its line or row), or window:N (the N tokens before it, as if the document began with
        them).
    out
        Write the table to this file, which ends in .tsv, .csv, .jsonl or .parquet (.parquet needs pyarrow). Default:
        print it with tabs between the columns.
    input
        Read the texts as plain text, or as tables with commas (csv) or tabs (tsv). Default: as the suffix of the
        file name says.
    text_column
        The column of a table that has the text.
    group
        A column of a table: successive rows with the same value are parts of one document, joined by spaces. May be
        repeated. Default: item and condition if the table also has a column region; otherwise, each row is a document.
    end_of_text
        Add a row for the end of each text.
    no_bos
        Treat each text as an excerpt: its first word is not predicted from the start of a document. For n-gram models
        only.
    device
        Device on which networks compute: cpu, cuda, mps, or auto (cuda if there is one, else mps, else cpu).
    json
        Print one JSON object per row.
    """
    from lmzoo.cli.commands.saved import distinct_names, load_predictor
    from lmzoo.errors import UsageError
    from lmzoo.evaluation.surprisals import stream_surprisals
    from lmzoo.evaluation.surprisals.contexts import Scope, read_contexts
    from lmzoo.evaluation.surprisals.measure import output_columns
    from lmzoo.evaluation.surprisals.writing import format_of, table_file, table_writer

    for text in texts:
        if text.startswith("-") and text != "-" and not os.path.lexists(text):
            raise UsageError(f"unknown option or missing file {text}: lmzoo surprisal --help lists the options")
    folders, remote_models = remote.divided(predictors or ())
    if remote_models:
        raise UsageError("remote models report no entropies and ranks: name predictors on this computer")
    if not folders:
        raise UsageError("name at least one predictor: lmzoo surprisal TEXT -p ngram")
    labels = distinct_names(folders)
    for name in labels:
        if labels.count(name) > 1:
            raise UsageError(f"the predictor {name} is named twice: name it once")
    if out and json:
        raise UsageError("--json cannot be combined with --out, whose suffix decides the format: leave out --json")
    if out:
        format_of(out)
        if any(os.path.realpath(text) == os.path.realpath(out) for text in texts):
            raise UsageError(f"the table would replace the text {out}: name another file with --out")
    scope = Scope.parse(context)
    contexts = read_contexts(texts, scope, kind=input, text_column=text_column, groups=group)
    names = output_columns(contexts.columns, by)
    loaded = {}
    for folder, name in zip(folders, labels, strict=True):
        predictor = load_predictor(folder, name, device)
        loaded[name] = predictor.without_start() if no_bos else predictor
    n_rows = 0
    with terminal.progress("measuring surprisals") as on_progress:
        tables = stream_surprisals(
            loaded, contexts, by=by, window=scope.window, end_of_text=end_of_text, on_progress=on_progress
        )
        if out:
            with table_file(out, names) as write:
                for table in tables:
                    write(table)
                    n_rows += len(table)
        else:
            write = table_writer(terminal.DataOutput(), "jsonl" if json else "tsv", names)
            for table in tables:
                write(table)
    if out:
        terminal.note(f"{n_rows:,} rows, written to {out}")
