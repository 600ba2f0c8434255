"""Reads n-gram models from ARPA files."""

from __future__ import annotations

import codecs
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from lmzoo.errors import SavedModelError
from lmzoo.models.ngram.arpa.files import END, ZERO, ArpaFile, quoted
from lmzoo.models.ngram.arpa.linking import RepeatedNgramError, link
from lmzoo.models.ngram.model import MAX_ORDER, NgramModel
from lmzoo.models.ngram.names import GIVEN
from lmzoo.stream import EOT
from lmzoo.system.progress import OnProgress, Progress
from lmzoo.tokenizers.words import split_bytes

if TYPE_CHECKING:
    from lmzoo.models.ngram.arpa.lines import Lexicon

_LARGEST_WEIGHT = 300.0
"""Largest absolute log10 of a back-off weight, because float64 ends at about 10^308."""
_SMALLEST = -1e38
"""Smallest log10 probability that is kept; smaller ones are read as zero, because float32 ends at about -3.4e38."""
_NUMBER = re.compile(rb"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|-inf")
_ROUNDING = 1e-5
"""Largest log10 probability that is read as 0: some programs round the last digit up."""
_LONGEST_PREAMBLE = 1000
"""Maximum number of lines before \\data\\."""


def read_arpa(
    path: str | Path, vocabulary: Sequence[str] | None = None, on_progress: OnProgress | None = None
) -> tuple[list[str], NgramModel]:
    """Reads an ARPA file, plain or compressed by gzip; returns the vocabulary (one word per token id) and the model.

    Id 0 is `</s>` (end-of-text). By default, id 1 is `<unk>` if the file has it, and the other words follow in the
    order of the file. For a file that `write_arpa` wrote, the same `vocabulary` can be given again, so that each word
    keeps its id. The scores of the model equal KenLM's. Raises SavedModelError, with the line number, if the file is
    not a valid ARPA file or its words are not those of `vocabulary`.
    """
    from lmzoo.models.ngram.arpa.lines import Lexicon  # imports numba, which writing does not need

    with ArpaFile(Path(path), on_progress) as file:
        counts = _read_counts(file)
        words, ids, unigrams = _read_unigrams(file, counts, vocabulary)
        lexicon = Lexicon(ids)
        longer = (_read_section(file, order, counts, ids, lexicon) for order in range(2, len(counts) + 1))
        sections = [unigrams, *(section.within_sentences() for section in longer)]
        file.expect("\\end\\")
        while line := file.line():
            if line.strip():
                raise file.error(f"the file continues after \\end\\ with {quoted(line)}: remove this", file.number - 1)
    arrays = _linked(file, sections, len(words))
    return words, NgramModel(len(words), order=len(sections), smoothing=GIVEN).load_arrays(arrays)


def _read_counts(file: ArpaFile) -> list[int]:
    """Reads the header of an ARPA file; returns the number of n-grams that it states for each order.

    Because the header may be wrong, these numbers never determine how much memory is allocated; they are only compared
    with the numbers of n-grams that follow. Raises SavedModelError if the header is not valid.
    """
    for _ in range(_LONGEST_PREAMBLE):
        line = file.line().removeprefix(b"\xef\xbb\xbf")
        if line.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            raise file.error("this is text in UTF-16: convert the file to UTF-8", 1)
        if line.startswith(b"mmap lm http://kheafield.com/code"):
            raise file.error("this is KenLM's binary format: convert the ARPA file from which it was built", 1)
        if line.startswith((b"iARPA", b"blmt")):
            raise file.error(
                "this is a format of IRSTLM: write an ARPA file with compile-lm --text=yes", file.number - 1
            )
        if not line or line.strip() == b"\\data\\":
            break
    else:
        line = b""
    if not line:
        raise file.error("the file has no \\data\\ line: this is not an ARPA file", max(1, file.number - 1))
    counts: list[int] = []
    while (line := file.line()).isspace():  # some programs leave the line after \\data\\ empty
        pass
    while line.strip():
        matched = re.fullmatch(rb"ngram\s+(\d{1,3})\s*=\s*(\d{1,18})", line.strip())
        if not matched or int(matched[1]) != len(counts) + 1:
            expected = f"'ngram {len(counts) + 1}=COUNT'" + " or an empty line" * bool(counts)
            raise file.error(f"expected {expected}, got {quoted(line)}", file.number - 1)
        counts.append(int(matched[2]))
        line = file.line()
    if not 1 <= len(counts) <= MAX_ORDER:
        raise file.error(f"the header has {len(counts)} orders, but only 1 to {MAX_ORDER} are allowed", file.number - 1)
    return counts


@dataclass(frozen=True, eq=False)
class _Section:
    """The N n-grams of length k in an ARPA file, in the order of the file."""

    words: NDArray[np.int32]
    """(N, k) token ids; -1 for `<s>`."""
    log_probs: NDArray[np.float64]
    """(N,) log10 probabilities."""
    backoffs: NDArray[np.float64]
    """(N,) log10 back-off weights."""
    lines: NDArray[np.int64]
    """(N,) line numbers."""

    @classmethod
    def empty(cls, size: int, order: int) -> Self:
        """Returns a section with uninitialised arrays for `size` n-grams of length `order`."""
        return cls(np.empty((size, order), np.int32), np.empty(size), np.empty(size), np.empty(size, np.int64))

    def select(self, which: slice | NDArray[Any]) -> _Section:
        """Returns a new section of an ARPA file that has only the n-grams at the given indices, a slice or a mask."""
        return _Section(self.words[which], self.log_probs[which], self.backoffs[which], self.lines[which])

    def within_sentences(self) -> _Section:
        """Returns the n-grams that lie within one sentence, with the EOT (end-of-text) token in place of `<s>`.

        N-grams in which `<s>` is not the first word, or `</s>` not the last word, extend over two sentences and are
        removed.
        """
        words = self.words
        crosses = (words[:, 1:] < 0).any(axis=1) | (words[:, :-1] == EOT).any(axis=1)
        section = self.select(~crosses) if crosses.any() else self
        np.maximum(section.words, EOT, out=section.words)
        return section


def _read_unigrams(
    file: ArpaFile, counts: list[int], vocabulary: Sequence[str] | None
) -> tuple[list[str], dict[bytes, int], _Section]:
    """Reads the words of an ARPA file with their unigram probabilities, and assigns token ids to the words.

    - `counts`: the numbers of n-grams of each order, from the header.
    - `vocabulary`: the words in the order of their ids, or None for the order of the file.

    Returns the vocabulary, a dictionary from the bytes of each word to its id, and the unigrams in the order of the
    ids.
    """
    unigrams = _unigram_lines(file, counts)
    if b"<UNK>" in unigrams:
        unigrams[b"<unk>"] = unigrams.pop(b"<UNK>")
    _, start_backoff, _ = unigrams.pop(b"<s>")
    special = [b"</s>", b"<unk>"][: 2 if b"<unk>" in unigrams else 1]
    spelled = [*special, *(word for word in unigrams if word not in special)]
    if vocabulary is None:
        words = [_decoded(file, word, unigrams[word][2]) for word in spelled]
    else:
        words = [END, *vocabulary[1:]]
        spelled = [word.encode() for word in words]
        if different := unigrams.keys() ^ set(spelled):
            word = min(different)
            where = "only in the file" if word in unigrams else "not in the file"
            raise file.error(
                f"the 1-grams are not the {len(words):,} words of the given vocabulary: {quoted(word)} is {where}"
            )
    ids = {word: token_id for token_id, word in enumerate(spelled)}
    log_probs, backoffs, lines = map(np.array, zip(*(unigrams[word] for word in spelled), strict=True))
    backoffs[EOT] = start_backoff  # as a context, EOT is <s>: no word follows </s>
    ids |= {b"<s>": -1} | ({b"<UNK>": ids[b"<unk>"]} if b"<unk>" in ids else {})
    return words, ids, _Section(np.arange(len(words), dtype=np.int32)[:, None], log_probs, backoffs, lines)


def _unigram_lines(file: ArpaFile, counts: list[int]) -> dict[bytes, tuple[float, float, int]]:
    """Reads the unigrams of an ARPA file; returns a dictionary whose keys are the words.

    Its values are the log10 probability, the log10 back-off weight and the line number of the word. `counts` are the
    numbers of n-grams of each order, from the header.
    """
    file.expect("\\1-grams:")
    unigrams: dict[bytes, tuple[float, float, int]] = {}
    for number, block in file.blocks():
        for line, text in enumerate(block.split(b"\n"), number):
            if fields := split_bytes(text):
                log_prob, (word,), backoff = _parsed(file, fields, line, 1, len(counts))
                if word in unigrams:
                    raise _repeated(file, 1, line)
                if len(unigrams) == counts[0]:
                    raise _too_many(file, 1, counts, line)
                unigrams[word] = log_prob, backoff, line
    if len(unigrams) < counts[0]:
        raise _too_few(file, 1, counts, len(unigrams))
    for word in (b"<s>", b"</s>"):
        if word not in unigrams:
            raise file.error(
                f"the 1-grams lack {word.decode()}: estimate the model on sentences with <s> and </s>, or, if longer "
                f"n-grams have {word.decode()}, add the line '-99 {word.decode()}' and raise the count in the header"
            )
    if {b"<unk>", b"<UNK>"} <= unigrams.keys():
        raise file.error("the 1-grams have both <unk> and <UNK>, which mean the same: remove one of them")
    return unigrams


def _decoded(file: ArpaFile, word: bytes, line: int) -> str:
    try:
        return word.decode()
    except UnicodeDecodeError as error:
        raise file.error(
            f"the word {quoted(word)} is not UTF-8: convert the file, for example with iconv", line
        ) from error


def _read_section(
    file: ArpaFile, order: int, counts: list[int], ids: Mapping[bytes, int], lexicon: Lexicon
) -> _Section:
    """Reads the n-grams of length `order`, which is 2 or more, from an ARPA file.

    - `counts`: the number of n-grams of each order, from the header.
    - `ids` and `lexicon`: the token id of each word, for Python code and for compiled code.

    Compiled code parses almost all lines. It stops at each line with an unusual notation or an error, which is then
    parsed in Python.
    """
    file.expect(f"\\{order}-grams:")
    parts, n_read = [_Section.empty(0, order)], 0
    for number, block in file.blocks():
        text, at, row = np.frombuffer(block, np.uint8), 0, 0
        shortest = 2 * order + 2  # bytes of a line: at least one per number and word, and one after each
        part = _Section.empty(1 + min(block.count(b"\n"), len(block) // shortest), order)
        while at < len(block):
            first = row
            at, row = lexicon.parse(text, at, row, part.words, part.log_probs, part.backoffs)
            part.lines[first:row] = np.arange(number, number + row - first)
            number += row - first
            if at < len(block):  # an empty line, an unusual notation, or an error
                end = block.index(b"\n", at)
                if fields := split_bytes(block[at:end]):
                    part.log_probs[row], words, part.backoffs[row] = _parsed(file, fields, number, order, len(counts))
                    part.words[row] = [_known(file, word, number, ids) for word in words]
                    part.lines[row] = number
                    row += 1
                number += 1
                at = end + 1
        part = part.select(slice(row))
        part.log_probs[part.log_probs < _SMALLEST] = ZERO
        wrong = np.abs(part.backoffs) > (_LARGEST_WEIGHT if order < len(counts) else 0)
        if wrong.any():
            raise _wrong_backoff(file, part.backoffs[wrong][0], order, len(counts), int(part.lines[wrong][0]))
        n_read += row
        if n_read > counts[order - 1]:
            raise _too_many(file, order, counts, int(part.lines[row - n_read + counts[order - 1]]))
        parts.append(part)
    if n_read < counts[order - 1]:
        raise _too_few(file, order, counts, n_read)
    return _Section(*map(np.concatenate, zip(*(vars(part).values() for part in parts), strict=True)))


def _parsed(
    file: ArpaFile, fields: list[bytes], line: int, order: int, highest: int
) -> tuple[float, list[bytes], float]:
    """Parses a line of an ARPA file; returns the log10 probability, words and log10 back-off weight of an n-gram.

    - `fields`: the parts of the line that are separated by white space.
    - `line`: the line number, for error messages.
    - `order`: the length of the n-gram.
    - `highest`: the length of the longest n-grams of the file, which have no back-off weight.

    Raises SavedModelError if a field is wrong or missing.
    """
    if not order + 1 <= len(fields) <= order + 2:
        needed = f"{order + 1} or {order + 2} (log10 probability, words, log10 back-off weight)"
        raise file.error(f"this line has {len(fields)} fields, but a {order}-gram needs {needed}", line)
    log_prob = _number(file, fields[0], line)
    backoff = _number(file, fields[order + 1], line) if len(fields) == order + 2 else 0.0
    if not log_prob <= _ROUNDING:
        raise file.error(f"the log10 probability is {quoted(fields[0])}, but it must be 0 or below", line)
    if not abs(backoff) <= (_LARGEST_WEIGHT if order < highest else 0):
        raise _wrong_backoff(file, backoff, order, highest, line)
    return min(0.0, log_prob if log_prob >= _SMALLEST else ZERO), fields[1 : order + 1], backoff


def _number(file: ArpaFile, field: bytes, line: int) -> float:
    if not _NUMBER.fullmatch(field):
        raise file.error(f"expected a decimal number such as -1.25, got {quoted(field)}", line)
    return float(field)


def _known(file: ArpaFile, word: bytes, line: int, ids: Mapping[bytes, int]) -> int:
    if word not in ids:
        raise file.error(f"the word {quoted(word)} is not among the 1-grams, which must list all words", line)
    return ids[word]


def _wrong_backoff(file: ArpaFile, backoff: float, order: int, highest: int, line: int) -> SavedModelError:
    allowed = (
        f"be from {-_LARGEST_WEIGHT:g} to {_LARGEST_WEIGHT:g}"
        if order < highest
        else "be 0 or left out at the highest order"
    )
    return file.error(f"the log10 back-off weight is {backoff:g}, but it must {allowed}", line)


def _repeated(file: ArpaFile, order: int, line: int) -> SavedModelError:
    return file.error(f"this {order}-gram occurs for the second time: remove one of them", line)


def _too_many(file: ArpaFile, order: int, counts: list[int], line: int) -> SavedModelError:
    return file.error(f"the header states {counts[order - 1]:,} {order}-grams, but this is one more", line)


def _too_few(file: ArpaFile, order: int, counts: list[int], n_read: int) -> SavedModelError:
    return file.error(
        f"the header states {counts[order - 1]:,} {order}-grams, but only {n_read:,} precede this line: "
        "the file is truncated or damaged"
    )


def _linked(file: ArpaFile, sections: list[_Section], vocab_size: int) -> dict[str, NDArray[Any]]:
    """Converts the n-grams of an ARPA file to the arrays of an n-gram model, in the format of `NgramModel.load_arrays`.

    `sections` contains the n-grams of each order 1 .. n, with their log10 probabilities and back-off weights, and
    `vocab_size` is the number of words. Raises SavedModelError if an n-gram occurs twice or gets a probability above 1.
    """
    try:
        trie, log_probs, backoffs = link(
            [section.words for section in sections],
            [section.log_probs for section in sections],
            [section.backoffs for section in sections],
            vocab_size,
            lambda done: file.report(Progress(done, len(sections), "orders", "linking")),
        )
    except RepeatedNgramError as error:
        raise _repeated(file, error.order, int(sections[error.order - 1].lines[error.index])) from error
    if log_probs.max() > _ROUNDING:
        raise file.error("backing off gives an n-gram a probability above 1: the back-off weights are wrong")
    nats = np.log(10)
    return {
        **trie.arrays(),
        "log_probs": (np.minimum(log_probs, 0) * nats).astype(np.float32),
        "backoffs": (backoffs * nats).astype(np.float32),
        "parameters": np.empty((len(sections), 0)),
    }
