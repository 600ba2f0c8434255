"""Corpora from a user's own files: text, JSON, Parquet or Arrow, in folders, globs, zip archives, or standard input.

A document is an object of a JSON file (its field "text"), a row of a table (its column "text"), or a text file; a
single text file is cut into passages. If the names of several files tell their splits, as `train.txt` and `dev/a.txt`
do, the files form these splits (see `lmzoo.corpora.split_names`). Otherwise passages are split in order, 80/10/10, and
documents by `every_tenth`. Empty documents are left out. A log message says which files belong to which split, and
which files of a folder are not read.

A long text is read in blocks, and its documents are kept in a temporary file (see `lmzoo.corpora.stored`), so that it
can be larger than the memory. Only a JSON array, JSON objects that span several lines, and each plain text that is one
of several files are in memory as a whole while they are read.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from lmzoo.corpora.about_files import Description, describe
from lmzoo.corpora.arrow_tables import table_documents
from lmzoo.corpora.corpus import Corpus, Document, Splits, Text
from lmzoo.corpora.json_texts import are_json_lines, is_json, json_documents, json_lines
from lmzoo.corpora.own_files import STANDARD_INPUT, TEXT_FIELD, OwnFile, find_files, shown, with_field
from lmzoo.corpora.split_names import listed, splits_by_name
from lmzoo.corpora.splitting import every_tenth, in_order, passages_of_blocks
from lmzoo.corpora.stored import count_characters, stored
from lmzoo.corpora.text_files import blocks_of_standard_input
from lmzoo.errors import CorpusError
from lmzoo.system.counts import counted
from lmzoo.system.printable import name_text
from lmzoo.system.progress import OnProgress, progress_counter

_logger = logging.getLogger(__name__)
_SAVE_TABLE = "save the table as JSON lines or Parquet to make each row a document"
_OnRead = Callable[[int], None]
"""A function that is called with the number of bytes of files that have been read since its last call."""


def load_own(specs: Sequence[str | Path], on_progress: OnProgress | None = None) -> Corpus:
    """Loads a corpus from the user's files, folders and glob patterns, or from standard input if `specs` is ["-"].

    Raises CorpusError, which names the file and the position of the error, if the text cannot be read.
    """
    name = _name(specs)
    about = Description()
    if _is_standard_input(specs):
        rule, splits = _divided(*_documents_of_standard_input(specs), "standard input")
    else:
        rule, splits, about = _from_files(specs, name, on_progress)
    _logger.info("corpus %s: %s", shown(name), rule)
    return _corpus(name, rule, splits, about)


def load_own_text(specs: Sequence[str | Path], on_progress: OnProgress | None = None) -> Text:
    """Loads the user's files, folders and glob patterns, or standard input, as documents without splits.

    A single document is enough. Raises CorpusError, which names the file and the position of the error, if the text
    cannot be read.
    """
    name = _name(specs)
    if _is_standard_input(specs):
        documents, is_one_text = _documents_of_standard_input(specs)
    else:
        own_files = find_files(specs)
        _log_skipped(name, own_files.skipped)
        documents, is_one_text = _documents(own_files.files, _reporter(own_files.files, on_progress))
        if not own_files.is_one_file:  # the names of the files may tell the splits
            return Text(name, documents, lambda: load_own(specs, on_progress))
    about = "standard input" if _is_standard_input(specs) else name
    return Text(name, documents, lambda: _corpus(name, *_divided(documents, is_one_text, about), Description()))


def _corpus(name: str, rule: str, splits: Splits, about: Description) -> Corpus:
    return Corpus(
        name,
        title=about.title or name,
        licence=about.licence or "not stated",
        citation=about.citation,
        protocol=rule,
        **splits._asdict(),
    )


def _name(specs: Sequence[str | Path]) -> str:
    if not specs:
        raise CorpusError("no file was given: give a file, a folder, a glob, or - for standard input")
    first = name_text(specs[0])
    return first if len(specs) == 1 else f"{first} and {len(specs) - 1} more"


def _is_standard_input(specs: Sequence[str | Path]) -> bool:
    return len(specs) == 1 and with_field(specs[0])[0] == STANDARD_INPUT


def _log_skipped(name: str, skipped: Sequence[str]) -> None:
    if skipped:
        _logger.info("corpus %s: not read: %s", shown(name), listed(skipped))


# ---- Documents and splits ---------------------------------------------------------------------------


def _from_files(
    specs: Sequence[str | Path], name: str, on_progress: OnProgress | None
) -> tuple[str, Splits, Description]:
    """Reads the files of a corpus, and divides them into splits.

    Returns a one-line description of the rule by which the text was divided, the splits, and the description of the
    corpus in the files beside the texts. If the names of the files contain words such as "train" and "test", they
    decide the split of each file.
    """
    own_files = find_files(specs)
    files, skipped = own_files.files, [*own_files.skipped]
    names = [shown(file.name) for file in files]
    split_of = None if own_files.is_one_file else splits_by_name(names, shown(name))
    if split_of is None:
        rule, splits = _divided(*_documents(files, _reporter(files, on_progress)), name)
        if len(files) > 1:
            rule = f"no split in the names of {listed(names)}; {rule}"
    else:
        inside = {name: [i for i, split in enumerate(split_of) if split == name] for name in Splits._fields}
        on_read = _reporter([files[i] for places in inside.values() for i in places], on_progress)
        splits = Splits(**{split: _whole_documents([files[i] for i in inside[split]], on_read) for split in inside})
        parts = (f"{split} from {listed([names[i] for i in inside[split]])}" for split in inside)
        rule = f"splits by the names of the files: {', '.join(parts)}"
        skipped += [name for name, split in zip(names, split_of, strict=True) if split is None]
    _log_skipped(name, skipped)
    return rule, splits, describe(own_files.about)


def _divided(documents: Sequence[Document], is_one_text: bool, name: str) -> tuple[str, Splits]:
    """Divides documents into training, validation and test set.

    If `is_one_text` is True, the documents are passages of one text: the first 80 % are for training, the next 10 % for
    validation, the last 10 % for test. Otherwise, every tenth document is for test, and the document before it for
    validation. Returns a one-line description of this rule, and the splits. Raises CorpusError if there are fewer than
    three documents.
    """
    if is_one_text and len(documents) < 3:
        n_characters = count_characters(documents)
        raise CorpusError(f"{name} has too little text: give at least 500 characters, not {n_characters}")
    if is_one_text:
        rule = "one text, cut into passages of about 4,000 characters (fewer in a short text); "
        rule += "the first 80 % for training, the next 10 % for validation, the last 10 % for test"
        return rule, in_order(documents)
    if len(documents) < 3:
        raise CorpusError(
            f"{name} has {counted(len(documents), 'non-empty document')}, but a corpus needs at least three: add "
            "documents, or give a single text file, which is cut into passages"
        )
    rule = "every tenth document is for test, and the one before it for validation"
    if len(documents) < 10:
        rule = "the last document is for test, and the one before it for validation"
    return rule, every_tenth(documents)


def _documents(files: Sequence[OwnFile], on_read: _OnRead) -> tuple[Sequence[Document], bool]:
    """Reads the documents of files. A single plain text is cut into passages, which are then the documents.

    Returns the documents, and True if they are passages of one text.
    """
    if len(files) > 1 or files[0].is_table:
        return _whole_documents(files, on_read), False
    return _documents_of_text(files[0].text_blocks(on_read), files[0])


def _documents_of_standard_input(specs: Sequence[str | Path]) -> tuple[Sequence[Document], bool]:
    """Reads the documents of standard input. Plain text is cut into passages, which are then the documents.

    Returns the documents, and True if they are passages of one text.
    """
    file = OwnFile(Path("standard input"), "stdin", with_field(specs[0])[1])
    return _documents_of_text(blocks_of_standard_input(), file)


def _documents_of_text(blocks: Iterable[str], file: OwnFile) -> tuple[Sequence[Document], bool]:
    """Divides a text into documents: the documents in JSON, or the passages of plain text.

    Returns the documents, and True if they are passages of plain text. `blocks` are the consecutive parts of the text,
    and `file` is the file that contains it. Raises CorpusError if all documents are empty.
    """
    documents, blocks = _json_or_plain(blocks, file)
    is_plain = documents is None
    return _not_empty(passages_of_blocks(file.name, blocks) if documents is None else documents, file.shown), is_plain


def _whole_documents(files: Sequence[OwnFile], on_read: _OnRead) -> Sequence[Document]:
    """Reads the documents of files: all those in a table or a JSON file, and each plain text as one document.

    Raises CorpusError if all documents are empty.
    """
    others = f" and {counted(len(files) - 1, 'other file')}" if len(files) > 1 else ""
    documents = (document for file in files for document in _documents_of_file(file, on_read))
    return _not_empty(documents, f"{files[0].shown}{others}")


def _documents_of_file(file: OwnFile, on_read: _OnRead) -> Iterable[Document]:
    if file.is_table:
        return _documents_of_table(file, on_read)
    documents, blocks = _json_or_plain(file.text_blocks(on_read), file)
    return [Document(file.name, "".join(blocks))] if documents is None else documents


def _documents_of_table(file: OwnFile, on_read: _OnRead) -> Iterator[Document]:
    yield from table_documents(file.path, file.name, file.field)
    on_read(file.path.stat().st_size)


def _json_or_plain(blocks: Iterable[str], file: OwnFile) -> tuple[Iterator[Document] | None, Iterable[str]]:
    """Determines if the text of a file, given in blocks, is JSON or plain text.

    Returns the documents of a text in JSON, or None and the blocks of a plain text.
    """
    blocks = iter(blocks)
    head = list(itertools.islice(blocks, 2))
    are_lines = None if len(head) < 2 else are_json_lines(head[0], file.suffix, file.field)
    blocks = itertools.chain(head, blocks)
    if are_lines:
        return json_lines(blocks, file.name, file.shown, file.field), ()
    if are_lines is None:  # a short text, or one whose beginning is not enough to tell
        blocks = ["".join(blocks)]
        if is_json(blocks[0], file.suffix, file.field):
            return json_documents(blocks[0], file.name, file.shown, file.field), ()
    _check_is_plain(file)
    return None, blocks


def _check_is_plain(file: OwnFile) -> None:
    """Raises CorpusError if the user has named a field of a file that is plain text.

    A table of values separated by commas or tabs is read as plain text, too, which a log message says.
    """
    is_table = file.suffix in (".csv", ".tsv")
    if file.field != TEXT_FIELD and is_table:
        raise CorpusError(f"{file.shown}: columns of .csv and .tsv files are not read: {_SAVE_TABLE}")
    if is_table:
        _logger.info(".csv and .tsv files are read as plain text, not as tables: %s", _SAVE_TABLE)
    if file.field != TEXT_FIELD:
        raise CorpusError(
            f'{file.shown} is plain text, which has no field "{file.field}": give the name of the file only'
        )


def _not_empty(documents: Iterable[Document], place: str | Path) -> Sequence[Document]:
    """Removes documents that are empty or consist of white space only.

    Raises CorpusError if no document is left. `place` is the name of the input in the error message.
    """
    kept = stored(document for document in documents if document.text and not document.text.isspace())
    if not kept:
        raise CorpusError(f"there is no text in {place}")
    return kept


def _reporter(files: Sequence[OwnFile], on_progress: OnProgress | None) -> _OnRead:
    """Returns a function that reports progress each time a part of some files has been read.

    The total is unknown if the size of a file is unknown, or if all files are empty.
    """
    sizes = [file.n_bytes for file in files]
    total = None if None in sizes else sum(size or 0 for size in sizes) or None
    return progress_counter(on_progress, total, "bytes", "reading the corpus")
