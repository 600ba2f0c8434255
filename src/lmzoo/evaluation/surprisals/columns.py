"""The columns of tables of surprisals, computed from the scores of tokens.

Let t_1 .. t_n be the tokens of a word, with the white space before it, and c the tokens before. The surprisal of the
word is measured in two ways:

    sum        =  - sum_i log2 p(t_i | c t_1 .. t_{i-1})
    corrected  =  sum  -  log2 B(c t_1 .. t_n)  +  log2 B(c)

Here B(c) is the probability that a word ends with c: that the next token begins with white space or is EOT (end of
text). If white space is part of the token after it, `sum` is the surprisal of "the word before ends here, and the next
one begins with t_1 .. t_n". `corrected` is the surprisal of "the next word is t_1 .. t_n", given that the word before
ended (Pimentel and Meister 2024, "How to compute the probability of a word"; Oh and Schuler 2024, "Leading whitespaces
of language models' subword vocabulary pose a confound for calculating word probabilities"). At the start of a text,
B(c) is replaced by the probability that the text does not begin with white space, or by 1 if it does begin with it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lmzoo.language_model import TokenStats
from lmzoo.stream import EOT
from lmzoo.tokenizers.alignment import AlignedTexts, Aligner

_LN2 = math.log(2)


@dataclass(frozen=True, eq=False)
class Rows:
    """The columns of R words or tokens, and where each is in its text."""

    columns: dict[str, NDArray[Any]]
    text: NDArray[np.int64]
    """(R,) the index of the text."""
    place: NDArray[np.int64]
    """(R,) the position of the first character of the word, or of the word to which the token belongs."""


def word_rows(
    aligned: AlignedTexts, stats: TokenStats, aligner: Aligner, first_bits: float, *, end_of_text: bool
) -> Rows:
    """Returns the rows of the words of texts and, if `end_of_text` is True, of the end of each text.

    `stats` are the scores of the tokens. If they hold the log-probabilities of the tokens before which a word ends, the
    surprisals are corrected; `first_bits` is the surprisal, in bits, of a text that does not begin with white space.
    """
    n_segments = aligned.word_starts.size + aligned.end_segments.size
    segment, own = aligned.segment_of_token, aligned.has_own_tokens
    is_end = np.zeros(n_segments, bool)
    is_end[aligned.end_segments] = True
    n_tokens = np.bincount(segment, minlength=n_segments)
    first = np.minimum(np.cumsum(n_tokens) - n_tokens, segment.size - 1)  # the first token of each segment
    sums = np.where(own, np.bincount(segment, _bits(stats.log_probs), n_segments), np.nan)
    entropies = np.where(own, stats.entropies[first] / _LN2, np.nan)
    if stats.set_log_probs is not None:
        corrected = _corrected(aligned, sums, first, is_end, _bits(stats.set_log_probs), aligner, first_bits)
    else:
        corrected = sums if aligner.has_word_tokens else np.full(n_segments, np.nan)
    rows = np.arange(n_segments) if end_of_text else aligned.segment_of_word
    text = (np.cumsum(is_end) - is_end)[rows]
    starts, ends = _spans(aligned)
    columns = {
        "position": 1 + rows - np.append(0, aligned.end_segments + 1)[text],
        "word": _words(aligned, end_of_text=end_of_text),
        "start": starts[rows],
        "end": ends[rows],
        "n_tokens": n_tokens[rows],
        "sum": sums[rows],
        "corrected": corrected[rows],
        "entropy": entropies[rows],
        "entropy_reduction": _decrease(entropies, is_end)[rows],
        "rank": np.where(own & (n_tokens == 1), stats.ranks[first], np.nan)[rows],
    }
    return Rows(columns, text, starts[rows])


def token_rows(aligned: AlignedTexts, stats: TokenStats, aligner: Aligner, *, end_of_text: bool) -> Rows:
    """Returns the rows of the tokens of texts, and of EOT at the end of each text if `end_of_text` is True.

    `stats` are the scores of the tokens.
    """
    ids = aligned.stream.ids
    rows = np.arange(ids.size) if end_of_text else np.flatnonzero(ids != EOT)
    text, segment = aligned.text_of_token[rows], aligned.segment_of_token[rows]
    is_in_word = segment != aligned.end_segments[text]
    entropies = stats.entropies / _LN2
    columns = {
        "position": 1 + rows - aligned.stream.starts[text],
        "word_position": np.where(is_in_word, 1 + segment - np.append(0, aligned.end_segments + 1)[text], np.nan),
        "token": _token_texts(aligned, aligner, rows),
        "token_id": ids[rows].astype(np.int64),
        "start": aligned.starts[rows],
        "end": aligned.ends[rows],
        "surprisal": _bits(stats.log_probs)[rows],
        "entropy": entropies[rows],
        "entropy_reduction": _decrease(entropies, ids == EOT)[rows],
        "rank": stats.ranks[rows].astype(np.int64),
    }
    return Rows(columns, text, np.where(is_in_word, _spans(aligned)[0][segment], aligned.starts[rows]))


def first_bits(aligner: Aligner, log_probs: NDArray[np.floating]) -> float:
    """Returns the surprisal, in bits, of a text that does not begin with white space.

    `log_probs` (V,) is the distribution of the first token of a text, in nats.
    """
    return -math.log2(float(np.exp(log_probs)[~aligner.begins_with_separator].sum()))


def _corrected(
    aligned: AlignedTexts,
    sums: NDArray[np.float64],
    first: NDArray[np.int64],
    is_end: NDArray[np.bool_],
    end_bits: NDArray[np.float64],
    aligner: Aligner,
    first_bits: float,
) -> NDArray[np.float64]:
    """Returns the corrected surprisal (G,), in bits, of each of G segments of texts.

    `sums` (G,) are the sums of surprisals of the segments, `first` (G,) the first token of each, and `is_end` (G,) is
    True for the ends of texts. `end_bits` (T,) is -log2 B before each of T tokens.
    """
    ids = aligned.stream.ids
    before = np.where(aligner.ends_with_separator[ids[first - 1]], 0, end_bits[first])  # the word has ended already
    at_start = np.append(True, is_end[:-1])
    before[at_start] = np.where(aligner.begins_with_separator[ids[first[at_start]]], 0, first_bits)
    after = np.where(is_end, 0, np.append(before[1:], 0))
    with np.errstate(invalid="ignore"):  # infinite surprisals of unsmoothed models
        return sums + after - before


def _bits(log_probs: NDArray[np.float64]) -> NDArray[np.float64]:
    return 0.0 - log_probs / _LN2  # unlike a minus sign, gives no negative zero


def _decrease(entropies: NDArray[np.float64], is_last: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Returns by how much the entropies decrease from each entry to the next; NaN for the last entry of each text."""
    return np.where(is_last, np.nan, entropies - np.append(entropies[1:], 0))


def _spans(aligned: AlignedTexts) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Returns the positions (G,) of the first character of each segment, and after its last one.

    The end of a text has no characters.
    """
    starts = np.empty(aligned.word_starts.size + aligned.end_segments.size, np.int64)
    starts[aligned.end_segments] = aligned.text_starts[1:]
    ends = starts.copy()
    starts[aligned.segment_of_word], ends[aligned.segment_of_word] = aligned.word_starts, aligned.word_ends
    return starts, ends


def _words(aligned: AlignedTexts, *, end_of_text: bool) -> NDArray[np.object_]:
    """Returns the words of texts, and if `end_of_text` is True, an empty one after each text."""
    if not end_of_text:
        return np.array(aligned.words, object)
    words = np.full(aligned.word_starts.size + aligned.end_segments.size, "", object)
    words[aligned.segment_of_word] = aligned.words
    return words


def _token_texts(aligned: AlignedTexts, aligner: Aligner, rows: NDArray[np.int64]) -> NDArray[np.object_]:
    """Returns the texts of the tokens with the indices `rows`; that of EOT is empty."""
    if aligner.tokenizer.kind != "word":
        return aligner.entries[aligned.stream.ids[rows]]
    text = "".join(aligned.texts)  # which has the unknown words, too
    spans = zip(aligned.starts[rows].tolist(), aligned.ends[rows].tolist(), strict=True)
    return np.array([text[start:end] for start, end in spans], object)
