"""ARPA files: n-gram models as text, as Doug Paul laid them out and KenLM, SRILM, IRSTLM and CMU's toolkit share them.

    \\data\\
    ngram 1=4
    ngram 2=2

    \\1-grams:
    -99      <s>        -0.30103
    -0.60206 </s>
    -0.30103 a          -0.1760913
    -0.60206 <unk>

    \\2-grams:
    -0.1249387 <s> a
    -0.30103 a </s>

    \\end\\

A line is the log10 probability of an n-gram's last word after the others, the words, and the log10 weight of backing
off from the n-gram as a context (none = 0). The format: SRILM's ngram-format(5),
http://www.speech.sri.com/projects/srilm/manpages/ngram-format.5.html; what it leaves open is decided as in KenLM's
`lm/read_arpa.hh` (Heafield 2011), so that every score is KenLM's:

- `<s>` is only a context: the probability on its line means nothing. Our one id EOT is `<s>` in front of an n-gram and
  `</s>` at its end. N-grams that cross a sentence end (`</s> a`, `a <s>`) are asked for by no one, and dropped.
- `<unk>`, also written `<UNK>`, is the class of all unknown words. A file without it has a closed vocabulary.
- Pruned files lack n-grams that begin or end longer ones. They are put in as blanks: with the probability that backing
  off gives, and a weight of 1, which changes no distribution.
- Zero probability is -99 in SRILM and may be -inf elsewhere: both are -99 here, so that no word is impossible.
- Probabilities are kept as they stand, and sum to 1 as well as the file's digits let them.
"""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from lmzoo.errors import ConfigurationError, SavedModelError
from lmzoo.models.ngram.linking import RepeatedNgramError, link
from lmzoo.models.ngram.methods import GIVEN
from lmzoo.models.ngram.model import MAX_ORDER, NgramModel
from lmzoo.models.ngram.trie import Trie
from lmzoo.models.ngram.weights import Weights
from lmzoo.stream import EOT
from lmzoo.system.files import atomic_file
from lmzoo.system.progress import OnProgress, Progress

if TYPE_CHECKING:
    from lmzoo.models.ngram.arpa_lines import Lexicon

START, END, UNKNOWN = "<s>", "</s>", "<unk>"
ZERO = -99.0
"""The log10 of zero, in the files."""
_LARGEST = 300.0
"""What lies beyond in log10 is no float64: as a probability it is zero, as a back-off weight an error."""
_ROUNDING = 1e-5
"""By how much a log10 probability may be above 0: the last digit of some writers."""
_NATS = np.log(10)
_BLOCK = 1 << 22
"""Bytes that are read at once."""
_LONGEST_LINE = 1 << 20
_LONGEST_PREAMBLE = 1000
"""Lines before the one with \\data\\."""
_BLOCK_LINES = 1 << 15
"""Lines that are written at once."""


# ---- Reading -------------------------------------------------------------------------------------


def read_arpa(
    path: str | Path, vocabulary: Sequence[str] | None = None, on_progress: OnProgress | None = None
) -> tuple[list[str], NgramModel]:
    """The vocabulary, a word for each id, and the model of an ARPA file, plain or packed by gzip.

    Id 0 is `</s>` (end-of-text). The ids of the words follow a `vocabulary` that was written by `write_arpa`; without
    one, id 1 is `<unk>` if the file has it, and the others follow in the order of the file. The model scores as KenLM
    does with the file. SavedModelError, with the number of the line, for whatever is not ARPA.
    """
    from lmzoo.models.ngram.arpa_lines import Lexicon  # numba, which writing does without

    with _Source(Path(path), on_progress) as source:
        counts = _read_counts(source)
        words, ids, unigrams = _read_unigrams(source, counts, vocabulary)
        lexicon = Lexicon(ids)
        longer = (_read_section(source, order, counts, ids, lexicon) for order in range(2, len(counts) + 1))
        sections = [unigrams, *(section.within_a_sentence() for section in longer)]
        source.expect("\\end\\")
        while line := source.line():
            if line.strip():
                raise source.error(f"{_shown(line)} stands after \\end\\: remove what is no n-gram", source.number - 1)
    arrays = _linked(source, sections, len(words))
    return words, NgramModel(len(words), order=len(sections), smoothing=GIVEN).load_arrays(arrays)


def _read_counts(source: _Source) -> list[int]:
    """How many n-grams of each order the header promises. Nothing is ever sized by them."""
    for _ in range(_LONGEST_PREAMBLE):
        line = source.line().removeprefix(b"\xef\xbb\xbf")
        if line.startswith(b"mmap lm http://kheafield.com/code"):
            raise source.error("this is KenLM's binary format: convert the ARPA file that it was built from", 1)
        if not line or line.strip() == b"\\data\\":
            break
    else:
        line = b""
    if not line:
        raise source.error("no \\data\\ line: this is not an ARPA file", max(1, source.number - 1))
    counts: list[int] = []
    while line := source.line().strip():
        matched = re.fullmatch(rb"ngram\s+(\d{1,3})\s*=\s*(\d{1,18})", line)
        if not matched or int(matched[1]) != len(counts) + 1:
            expected = f"'ngram {len(counts) + 1}=COUNT' or an empty line"
            raise source.error(f"{expected} must stand here, got {_shown(line)}", source.number - 1)
        counts.append(int(matched[2]))
    if not 1 <= len(counts) <= MAX_ORDER:
        raise source.error(f"the header has {len(counts)} orders, not 1 to {MAX_ORDER}", source.number - 1)
    return counts


@dataclass(frozen=True, eq=False)
class _Section:
    """N n-grams of one order, as they stand in the file."""

    words: NDArray[np.int32]
    """(N, k) their words by number; `<s>` is -1."""
    log_probs: NDArray[np.float64]
    """(N,) log10."""
    backoffs: NDArray[np.float64]
    """(N,) log10."""
    lines: NDArray[np.int64]
    """(N,) where they stand."""

    @classmethod
    def empty(cls, size: int, order: int) -> Self:
        return cls(np.empty((size, order), np.int32), np.empty(size), np.empty(size), np.empty(size, np.int64))

    def only(self, which: slice | NDArray[Any]) -> _Section:
        return _Section(self.words[which], self.log_probs[which], self.backoffs[which], self.lines[which])

    def within_a_sentence(self) -> _Section:
        """Those with `<s>` nowhere but in front, now as EOT, and `</s>` nowhere but at the end."""
        words = self.words
        crosses = (words[:, 1:] < 0).any(axis=1) | (words[:, :-1] == EOT).any(axis=1)
        section = self.only(~crosses) if crosses.any() else self
        np.maximum(section.words, EOT, out=section.words)
        return section


def _read_unigrams(
    source: _Source, counts: list[int], vocabulary: Sequence[str] | None
) -> tuple[list[str], dict[bytes, int], _Section]:
    """The vocabulary, the id of each word as it is spelled in the file, and the unigrams by id."""
    source.expect("\\1-grams:")
    found: dict[bytes, tuple[float, float, int]] = {}
    for number, block in source.blocks():
        for line, text in enumerate(block.split(b"\n"), number):
            if fields := text.split():
                log_prob, (word,), backoff = _parsed(source, fields, line, 1, len(counts))
                if word in found:
                    raise _repeated(source, 1, line)
                if len(found) == counts[0]:
                    raise _too_many(source, 1, counts, line)
                found[word] = log_prob, backoff, line
    if len(found) < counts[0]:
        raise _too_few(source, 1, counts, len(found))
    for mark in (b"<s>", b"</s>"):
        if mark not in found:
            raise source.error(f"the 1-grams lack {mark.decode()}: estimate the model on sentences with their ends")
    if {b"<unk>", b"<UNK>"} <= found.keys():
        raise source.error("the 1-grams have both <unk> and <UNK>, which are one class: remove one")
    if b"<UNK>" in found:
        found[b"<unk>"] = found.pop(b"<UNK>")
    start = found.pop(b"<s>")
    special = [b"</s>", b"<unk>"][: 2 if b"<unk>" in found else 1]
    spelled = [*special, *(word for word in found if word not in special)]
    if vocabulary is None:
        words = [_decoded(source, word, found[word][2]) for word in spelled]
    else:
        words = [END, *vocabulary[1:]]
        spelled = [word.encode() for word in words]
        if odd := found.keys() ^ set(spelled):
            word = min(odd)
            where = "only in the file" if word in found else "not in the file"
            raise source.error(f"the 1-grams are not those of the {len(words):,} ids: {_shown(word)} is {where}")
    ids = {word: token_id for token_id, word in enumerate(spelled)}
    log_probs, backoffs, lines = map(np.array, zip(*(found[word] for word in spelled), strict=True))
    backoffs[EOT] = start[1]  # nothing follows </s>
    ids |= {b"<s>": -1} | ({b"<UNK>": ids[b"<unk>"]} if b"<unk>" in ids else {})
    return words, ids, _Section(np.arange(len(words), dtype=np.int32)[:, None], log_probs, backoffs, lines)


def _decoded(source: _Source, word: bytes, line: int) -> str:
    try:
        return word.decode()
    except UnicodeDecodeError as error:
        raise source.error(f"the word {_shown(word)} is not UTF-8: convert the file, as by iconv", line) from error


def _read_section(
    source: _Source, order: int, counts: list[int], ids: Mapping[bytes, int], lexicon: Lexicon
) -> _Section:
    """The n-grams of an order from 2 on."""
    source.expect(f"\\{order}-grams:")
    parts, n_found = [_Section.empty(0, order)], 0
    for number, block in source.blocks():
        text, at, row = np.frombuffer(block, np.uint8), 0, 0
        shortest = 2 * order + 2  # bytes of a line: one for each number and word, one after each
        part = _Section.empty(1 + min(block.count(b"\n"), len(block) // shortest), order)
        while at < len(block):
            first = row
            at, row = lexicon.parse(text, at, row, part.words, part.log_probs, part.backoffs)
            part.lines[first:row] = np.arange(number, number + row - first)
            number += row - first
            if at < len(block):  # not a plain line: an empty one, a rare way to write a number, or an error
                end = block.index(b"\n", at)
                if fields := block[at:end].split():
                    part.log_probs[row], words, part.backoffs[row] = _parsed(source, fields, number, order, len(counts))
                    part.words[row] = [_known(source, word, number, ids) for word in words]
                    part.lines[row] = number
                    row += 1
                number += 1
                at = end + 1
        part = part.only(slice(row))
        part.log_probs[part.log_probs < -_LARGEST] = ZERO
        wrong = np.abs(part.backoffs) > (_LARGEST if order < len(counts) else 0)
        if wrong.any():
            raise _wrong_backoff(source, part.backoffs[wrong][0], order, len(counts), int(part.lines[wrong][0]))
        n_found += row
        if n_found > counts[order - 1]:
            raise _too_many(source, order, counts, int(part.lines[row - n_found + counts[order - 1]]))
        parts.append(part)
    if n_found < counts[order - 1]:
        raise _too_few(source, order, counts, n_found)
    return _Section(*map(np.concatenate, zip(*(vars(part).values() for part in parts), strict=True)))


def _parsed(
    source: _Source, fields: list[bytes], line: int, order: int, highest: int
) -> tuple[float, list[bytes], float]:
    """The log10 probability, the words and the log10 back-off weight of a line."""
    if not order + 1 <= len(fields) <= order + 2:
        needed = f"{order + 1} or {order + 2}: log10 probability, words, log10 back-off weight"
        raise source.error(f"this line has {len(fields)} fields, but a {order}-gram {needed}", line)
    log_prob = _number(source, fields[0], line)
    backoff = _number(source, fields[order + 1], line) if len(fields) == order + 2 else 0.0
    if not log_prob <= _ROUNDING:
        raise source.error(f"the log10 probability is {_shown(fields[0])}; it must be 0 or below", line)
    if not abs(backoff) <= (_LARGEST if order < highest else 0):
        raise _wrong_backoff(source, backoff, order, highest, line)
    return min(0.0, log_prob if log_prob >= -_LARGEST else ZERO), fields[1 : order + 1], backoff


def _number(source: _Source, field: bytes, line: int) -> float:
    try:
        return float(field)
    except ValueError as error:
        raise source.error(f"{_shown(field)} is not a number", line) from error


def _known(source: _Source, word: bytes, line: int, ids: Mapping[bytes, int]) -> int:
    if word not in ids:
        raise source.error(f"the word {_shown(word)} is not among the 1-grams, which list all words", line)
    return ids[word]


def _wrong_backoff(source: _Source, backoff: float, order: int, highest: int, line: int) -> SavedModelError:
    allowed = f"from {-_LARGEST:g} to {_LARGEST:g}" if order < highest else "0 or left out: no n-gram is longer"
    return source.error(f"the log10 back-off weight is {backoff:g}; it must be {allowed}", line)


def _repeated(source: _Source, order: int, line: int) -> SavedModelError:
    return source.error(f"this {order}-gram stands here for the second time: remove one", line)


def _too_many(source: _Source, order: int, counts: list[int], line: int) -> SavedModelError:
    return source.error(f"the header promises {counts[order - 1]:,} {order}-grams, and this is one more", line)


def _too_few(source: _Source, order: int, counts: list[int], n_found: int) -> SavedModelError:
    return source.error(
        f"the header promises {counts[order - 1]:,} {order}-grams, but only {n_found:,} stand before this line: "
        "the file is cut off or damaged"
    )


def _linked(source: _Source, sections: list[_Section], vocab_size: int) -> dict[str, NDArray[Any]]:
    """The arrays of the model."""
    try:
        trie, log_probs, backoffs = link(
            [section.words for section in sections],
            [section.log_probs for section in sections],
            [section.backoffs for section in sections],
            vocab_size,
            lambda done: source.report(Progress(done, len(sections), "orders", "linking")),
        )
    except RepeatedNgramError as error:
        raise _repeated(source, error.order, int(sections[error.order - 1].lines[error.place])) from error
    if log_probs.max() > _ROUNDING:
        raise source.error("backing off gives some n-gram a probability above 1: the weights are wrong")
    return {
        **trie.arrays(),
        "log_probs": (np.minimum(log_probs, 0) * _NATS).astype(np.float32),
        "backoffs": (backoffs * _NATS).astype(np.float32),
        "parameters": np.empty((len(sections), 0)),
    }


class _Source:
    """An ARPA file, read in blocks of whole lines; errors name the file and the line."""

    def __init__(self, path: Path, on_progress: OnProgress | None) -> None:
        self.number = 1
        """That of the next line."""
        self.report = on_progress or (lambda progress: None)
        self._path = path
        self._unread, self._at = b"", 0
        try:
            self._raw = path.open("rb")
            self._size = path.stat().st_size
            packed = self._raw.read(2) == b"\x1f\x8b"
            self._raw.seek(0)
        except OSError as error:
            raise SavedModelError(f"cannot read {path}: {error.strerror or error}") from error
        self._file = gzip.GzipFile(fileobj=self._raw) if packed else self._raw

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._file.close()
        self._raw.close()

    def error(self, message: str, line: int | None = None) -> SavedModelError:
        """At the next line, if no other is named."""
        return SavedModelError(f"{self._path}:{line or self.number}: {message}")

    def line(self) -> bytes:
        """The next line with its end; nothing at the end of the file."""
        while (end := self._unread.find(b"\n", self._at)) < 0:
            if not self._read():
                return b""
        line = self._unread[self._at : end + 1]
        self._at = end + 1
        self.number += 1
        return line

    def expect(self, mark: str) -> None:
        """Passes the line that must come next, after empty ones."""
        while (line := self.line()).isspace():
            pass
        if line.strip() != mark.encode():
            found = _shown(line) if line else "the end of the file"
            number = self.number - 1 if line else self.number
            raise self.error(f"{mark} must stand here, got {found}: the file is cut off or damaged", number)

    def blocks(self) -> Iterator[tuple[int, bytes]]:
        """Many lines at a time, with the number of the first, up to the next line that begins with a backslash."""
        while True:
            while (stop := self._unread.rfind(b"\n", self._at) + 1) == 0:
                if not self._read():
                    return
            if self._unread.startswith(b"\\", self._at):
                return
            mark = self._unread.find(b"\n\\", self._at, stop)
            stop = mark + 1 if mark >= 0 else stop
            number, block = self.number, self._unread[self._at : stop]
            self._at = stop
            self.number += block.count(b"\n")
            yield number, block

    def _read(self) -> bool:
        """More of the file, where no whole line is left; False at its end. The last line is given an end."""
        rest = self._unread[self._at :]
        if len(rest) > _LONGEST_LINE:
            raise self.error(f"this line is longer than {_LONGEST_LINE:,} bytes: this is not an ARPA file")
        try:
            block = self._file.read(_BLOCK)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise self.error(f"the gzip data are damaged after this line: {error}; get the file again") from error
        except OSError as error:
            raise self.error(f"cannot read on: {error.strerror or error}") from error
        self.report(Progress(self._raw.tell(), self._size, "bytes"))
        if not block and rest:
            block = b"\n"
        self._unread, self._at = rest + block, 0
        return bool(block)


def _shown(text: bytes) -> str:
    """A piece of the file for an error message."""
    text = text.strip()
    return "'" + (text[:40] + b"..." * (len(text) > 40)).decode(errors="backslashreplace") + "'"


# ---- Writing -------------------------------------------------------------------------------------


def write_arpa(
    path: str | Path, model: NgramModel, vocabulary: Sequence[str], on_progress: OnProgress | None = None
) -> None:
    """Writes a fitted model as an ARPA file, whole or not at all; packed by gzip if its name ends in `.gz`.

    `vocabulary` is the (V,) word of each id; the one of id 0 does not matter, it is written as `<s>` and `</s>`.
    Numbers have 7 significant digits, as KenLM's (float32). ConfigurationError for words that ARPA cannot hold.
    """
    path = Path(path)
    model.require_fitted()
    _check_words(vocabulary, model.vocab_size)
    with atomic_file(path) as temporary, temporary.open("wb") as raw:
        if path.suffix == ".gz":
            with gzip.GzipFile("", "wb", _GZIP_LEVEL, raw, mtime=0) as packed:
                _write(packed, model, vocabulary, on_progress)
        else:
            _write(raw, model, vocabulary, on_progress)


_GZIP_LEVEL = 4
"""Takes half the time of the usual 6; files are larger by a twentieth."""


def _check_words(vocabulary: Sequence[str], vocab_size: int) -> None:
    if len(vocabulary) != vocab_size:
        raise ConfigurationError(f"the vocabulary must have the {vocab_size} words of the model, got {len(vocabulary)}")
    seen: set[str] = {START, END, "<UNK>"}
    for token_id, word in enumerate(vocabulary[1:], 1):
        if word in seen:
            raise ConfigurationError(f"'{word}' (id {token_id}) has another meaning in this ARPA file: rename it")
        if word.encode().split() != [word.encode()]:
            raise ConfigurationError(f"{word!r} (id {token_id}) cannot be written: words of ARPA files have no spaces")
        seen.add(word)


def _write(
    file: IO[bytes] | gzip.GzipFile, model: NgramModel, vocabulary: Sequence[str], on_progress: OnProgress | None
) -> None:
    arrays = model.arrays()
    trie = Trie.from_arrays(arrays, model.vocab_size, model.order)
    weights = Weights.from_arrays(arrays, trie)
    backoffs = _log10(weights.backoffs)
    first_words, last_words = (np.array([mark, *vocabulary[1:]], object) for mark in (START, END))
    counts = np.diff(trie.levels)[1:] + (np.arange(trie.order) == 0)  # <s> and </s> are two
    file.write("".join(["\\data\\\n", *(f"ngram {k}={count}\n" for k, count in enumerate(counts, 1))]).encode())
    for k in range(1, trie.order + 1):
        file.write(f"\n\\{k}-grams:\n".encode())
        n_columns = k + 1 + (k < trie.order)
        line = "%.7g\t" + " ".join(["%s"] * k) + "\t%.7g" * (k < trie.order) + "\n"
        if k == 1:
            file.write((line % (ZERO, START, backoffs[trie.document_start])[:n_columns]).encode())
            backoffs[trie.document_start] = 0  # nothing follows </s>
        level = trie.level(k)
        for begin in range(level.start, level.stop, _BLOCK_LINES):
            block = slice(begin, min(begin + _BLOCK_LINES, level.stop))
            nodes = np.arange(block.start, block.stop)
            fields = np.empty((nodes.size, n_columns), object)
            fields[:, 0] = _log10(weights.log_probs(block))
            if k < trie.order:
                fields[:, -1] = backoffs[block]
            fields[:, k] = last_words[trie.tokens[nodes]]
            for column in range(k - 1, 0, -1):
                nodes = np.searchsorted(trie.first_child, nodes, side="right") - 1  # the contexts that they continue
                fields[:, column] = first_words[trie.tokens[nodes]]
            file.write((line * len(fields) % tuple(fields.ravel())).encode())
            if on_progress:
                on_progress(Progress(block.stop, int(trie.levels[-1]), "n-grams"))
    file.write(b"\n\\end\\\n")


def _log10(nats: NDArray[np.float32]) -> NDArray[np.float64]:
    """The logarithms of the file; never -0."""
    return np.maximum(nats.astype(np.float64) / _NATS, ZERO) + 0.0
