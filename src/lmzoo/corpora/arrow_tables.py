"""Reads documents from tables of Apache Arrow: Parquet files, Arrow files and streams, and data sets of `datasets`.

Each row is a document, whose text is the string in one column. A table is read in batches of rows, so that only one
batch at a time is in memory in addition to the documents. Tables need the package pyarrow, which the extra
`lmzoo[arrow]` installs. `datasets` is Hugging Face's library of this name.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lmzoo.corpora.corpus import Document
from lmzoo.corpora.text_files import READ_ANYWAY, begins_with, max_bytes
from lmzoo.errors import CorpusError, needs_extra
from lmzoo.system.json_files import parse_json, read_text
from lmzoo.system.messages import first_line
from lmzoo.system.printable import printable

SUFFIXES = (".parquet", ".arrow", ".feather")
_PARQUET, _FILE, _STREAM = b"PAR1", b"ARROW1", b"\xff\xff\xff\xff"
"""First bytes of a Parquet file, of an Arrow file, and of an Arrow stream. No UTF-8 text begins like the last one."""
_ROWS = 1024
"""Largest number of rows in a batch."""
_BUFFER = 1 << 20
_TEXT_TYPES = ("string", "large_string", "string_view")


def is_table(path: Path) -> bool:
    """Returns True if the content of the file `path` begins like a Parquet or Arrow file, whatever its name is."""
    return begins_with(path, _PARQUET, _FILE, _STREAM)


def table_documents(path: Path, name: str, column: str) -> Iterator[Document]:
    """Yields the documents of the table in the file `path`, named by their row, such as "a.parquet:1".

    `name` is the name of the file in the corpus, and `column` the name of the column with the texts. A row without a
    value has an empty text. Raises MissingExtraError if the package pyarrow is not installed, and CorpusError if the
    table is damaged, has no such column of text, or has more characters than the limit. The limit is 2^30 or the value
    of the environment variable LMZOO_MAX_BYTES, but at least the size of the file in bytes.
    """
    row = n_characters = 0
    with _errors_of(path):
        limit = max(max_bytes(), path.stat().st_size)
        for batch in _batches(path, column):
            batch.validate(full=True)  # the offsets in a damaged file may point anywhere in the memory
            for value in batch:
                row += 1
                text = value.as_py() or ""
                n_characters += len(text)
                if n_characters > limit:
                    raise CorpusError(f"{path} has more than {limit:,} characters of text: {READ_ANYWAY}")
                yield Document(f"{name}:{row}", text)


def files_of_saved_datasets(files: Sequence[Path]) -> Mapping[Path, Set[Path]]:
    """Returns, for each folder in which the library `datasets` has saved a data set, the files of the data set.

    `files` are the files of a folder and its subfolders. A saved data set has a file `state.json` with the names of its
    files; any other files in its folder are a cache of earlier results. Raises CorpusError if one of the named files is
    missing.
    """
    saved: dict[Path, set[Path]] = {}
    for state in files:
        if state.name != "state.json":
            continue
        try:
            entries = parse_json(read_text(state, "a description of a data set", CorpusError)).get("_data_files")
            names = [entry["filename"] for entry in entries]
        except (ValueError, AttributeError, TypeError, KeyError):  # a file of the same name with another purpose
            continue
        saved[state.parent] = {state.parent / name for name in names}
        missing = [str(name) for name in names if not (state.parent / name).is_file()]
        if missing:
            raise CorpusError(f"the data set {state.parent} has no file {missing[0]}: copy the whole folder again")
    return saved


def _batches(path: Path, column: str) -> Iterator[Any]:
    """Yields the values of a column of a table as Arrow arrays of at most `_ROWS` rows each."""
    pyarrow = _import_pyarrow()
    with path.open("rb") as file:
        head = file.read(8)
    if head.startswith(_PARQUET):
        from pyarrow import parquet

        with pyarrow.OSFile(os.fsencode(path)) as source, parquet.ParquetFile(source, buffer_size=_BUFFER) as table:
            _check_column(path, table.schema_arrow, column)
            for batch in table.iter_batches(_ROWS, columns=[column], use_threads=False):
                yield batch.column(column)
        return
    with pyarrow.memory_map(os.fsencode(path)) as source:
        is_file = head.startswith(_FILE)
        opened = pyarrow.ipc.open_file(source) if is_file else pyarrow.ipc.open_stream(source)
        index = _check_column(path, opened.schema, column)
        options = pyarrow.ipc.IpcReadOptions(included_fields=[index], use_threads=False)
        source.seek(0)
        opened = (
            pyarrow.ipc.open_file(source, options=options)
            if is_file
            else pyarrow.ipc.open_stream(source, options=options)
        )
        batches = map(opened.get_batch, range(opened.num_record_batches)) if is_file else opened
        for batch in batches:
            whole = batch.column(0)
            for start in range(0, len(whole), _ROWS):
                yield whole.slice(start, _ROWS)


def _check_column(path: Path, schema: Any, column: str) -> int:
    """Returns the index of the column `column`; raises CorpusError if there is no such column, or if it has no text."""
    texts = [field.name for field in schema if _is_text(field.type)]
    index = schema.get_field_index(column)  # -1 if there is none, or more than one
    if index >= 0 and column in texts:
        return index
    advice = f"; name one with text, as in {path}:{texts[0]}" if texts else ", and none has text"
    if index >= 0:
        raise CorpusError(f'the column "{column}" of {path} has values of type {schema.field(index).type}{advice}')
    if column in schema.names:
        raise CorpusError(f'{path} has two columns "{column}": rename one of them')
    names = printable(", ".join(schema.names), keep="")[:200] or "none"
    raise CorpusError(f'{path} has no column "{column}"; its columns are: {names}{advice}')


def _is_text(kind: Any) -> bool:
    return str(getattr(kind, "value_type", kind) if str(kind).startswith("dictionary") else kind) in _TEXT_TYPES


@contextmanager
def _errors_of(path: Path) -> Iterator[None]:
    """Replaces errors of pyarrow inside the `with` block by CorpusErrors of one line that name the file."""

    def damaged(error: Exception) -> CorpusError:
        reason = printable(first_line(error), keep="")[:200]
        return CorpusError(f"{path} is damaged: {reason}; write or copy it again")

    pyarrow = _import_pyarrow()
    try:
        yield
    except (pyarrow.ArrowException, UnicodeDecodeError) as error:
        raise damaged(error) from error
    except OSError as error:
        if error.errno is None:  # pyarrow found damage, and not the operating system
            raise damaged(error) from error
        raise CorpusError(f"cannot read {path}: {error.strerror}") from error


def _import_pyarrow() -> Any:
    with needs_extra("pyarrow", "arrow", "reading Parquet and Arrow files"):
        import pyarrow
        import pyarrow.ipc
    return pyarrow
