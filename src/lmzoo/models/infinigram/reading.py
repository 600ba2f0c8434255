"""Compiled look-ups in the context index: matching contexts, counts of the tokens that followed, and probabilities.

The matches at a position of a text are all contexts before this position that occur in the training text, from the
empty context to the longest. A match is stored as the rows [low, high) of the index and the length of the context.
Contexts with the same rows are one match, with the greatest of their lengths. Each match is extended by the next token;
the size of the extended match is the number of times that the token followed the context.
"""

from __future__ import annotations

import numpy as np
from numba import types

from lmzoo.stream import EOT
from lmzoo.system.compiled import kernel, read_only, writable

_I32, _I64, _U16, _F64 = types.int32, types.int64, types.uint16, types.float64
_MATCHES = writable(_I64, 2)
MIN_RATIO = 4
"""A shorter context is used if it occurs at least this many times as often as the context used before. Of 2, 3, 4 and
8, this value has the lowest loss on the validation sets of Brown and the King James Bible, by half a percent."""
N_LENGTHS, N_SIZES = 16, 12
"""Discounts depend on the length of a context (0, 1, .. 14, and 15 or more) and on the number of its rows (1, 2 to 3,
4 to 7, .., 2048 or more)."""


@kernel(_I64, _I64, returns=_I64)
def discount_of(length, n_rows):
    """Returns the index of the discount for a context of `length` tokens that occurs `n_rows` times in training.

    Contexts share a discount if they have the same length (15 or more is one case) and a similar number of occurrences:
    1, 2 to 3, 4 to 7, ..., or 2048 or more.
    """
    size = 0
    while n_rows > 1 and size < N_SIZES - 1:
        n_rows >>= 1
        size += 1
    return min(length, N_LENGTHS - 1) * N_SIZES + size


@kernel(_I64, _I64, read_only(_U16), read_only(_I32), returns=_I64)
def _types_after(low, high, shared, n_types):
    """Returns the number of different tokens that follow a context, a sequence of tokens, in the training text.

    The positions of the training text are sorted by the tokens before them. In this order, the positions that follow
    the context have the indices `low` to `high` - 1. The number is looked up in `shared` and `n_types`, arrays of the
    index of the training text (`ContextIndex`).
    """
    if high - low == 1:
        return 1
    if high - low == n_types.size - 1:  # the empty context
        return n_types[high]
    return n_types[low if shared[low] >= shared[high] else high - 1]


@kernel(_MATCHES, _I64, writable(types.boolean))
def _choose(matches, n_matches, chosen):
    """Chooses the contexts from which a token is predicted, among the contexts that occur in the training text.

    - `matches`: the `n_matches` contexts, from the shortest to the longest, with the range of their occurrences in the
      index of the training text.
    - `chosen`: array to which True is written for each chosen context, and False for the others.

    Chosen are the longest context, then each shorter context that occurs at least `MIN_RATIO` times as often as the
    last chosen one, and the empty context. The contexts in between were followed by nearly the same tokens as a longer
    one. At most 17 contexts are chosen, so that the product of their left-over probabilities cannot become 0 in
    floating point.
    """
    n_rows = 0
    for k in range(n_matches - 1, -1, -1):
        size = matches[k, 1] - matches[k, 0]
        chosen[k] = size >= MIN_RATIO * n_rows or k == 0
        if chosen[k]:
            n_rows = size


@kernel(read_only(_I64), _MATCHES, returns=_I64)
def start(starts, matches):
    """Writes the contexts of the first token of a document to `matches`: the empty context and the document start.

    Each context is written as three numbers: the first row of its occurrences in the sorted index of the training text,
    the row after the last one, and the length of the context. `starts` (V + 1,) is the first row of the contexts that
    end in each of V tokens. If every document is empty, both contexts have the same rows, and only the second is
    written. Returns the number of contexts, 1 or 2.
    """
    n_starts, n_rows = starts[EOT + 1], starts[-1]
    matches[0, 0], matches[0, 1], matches[0, 2] = 0, n_rows, 0
    n = 0 if n_starts == n_rows else 1
    matches[n, 0], matches[n, 1], matches[n, 2] = 0, n_starts, 1
    return n + 1


@kernel(read_only(_I32), read_only(_I64), _I64, _MATCHES, _I64, writable(_I64, 2))
def follow(by_next, starts, token, matches, n_matches, followed):
    """Finds the occurrences of each context in the training text that are followed by `token`.

    A row is a position of the training text, when the positions are sorted by the tokens before them.

    - `matches`: the `n_matches` contexts, each given by the range of its rows.
    - `by_next` (T,): the rows, sorted by the token that follows.
    - `starts` (V + 1,): index in `by_next` at which the rows followed by each of V tokens begin.
    - `followed`: array to which a begin and an end index in `by_next` are written for each context. The rows between
      them are occurrences of the context that are followed by `token`.
    """
    low, high = starts[token], starts[token + 1]
    for k in range(n_matches):
        if k > 0 and low < high:  # the rows of a longer context are among the rows of a shorter one
            for side in range(2):
                left, right = low, high
                while left < right:
                    middle = (left + right) >> 1
                    if by_next[middle] < matches[k, side]:
                        left = middle + 1
                    else:
                        right = middle
                if side == 0:
                    low = left
                else:
                    high = left
        followed[k, 0], followed[k, 1] = low, high


@kernel(read_only(_I64), _I64, _I64, writable(_I64, 2), _MATCHES, _I64, returns=_I64)
def lengthen(starts, max_context, token, followed, matches, n_matches):
    """Updates the contexts from which the next token is predicted after `token` is appended to a text.

    A context is a sequence of at most `max_context` last tokens of the text that also occurs in the training text.

    - `matches`: an array with a context in each row, from the shortest to the longest. The first `n_matches` rows are
      the contexts before `token` is appended; the contexts after it are written over them.
    - `followed`: the occurrences of the contexts that are followed by `token`, from the function `follow`.
    - `starts`: an array of the index of the training text (`ContextIndex`).

    Returns the number of contexts after `token`.
    """
    if token == EOT:
        return start(starts, matches)
    n, low, high, length = 0, np.int64(0), starts[-1], np.int64(0)  # the empty context always matches
    for k in range(n_matches + 1):
        before = matches[k, 2] if k < n_matches else 0  # n is at most k, so this row is not overwritten yet
        if n > 0 and matches[n - 1, 0] == low and matches[n - 1, 1] == high:
            n -= 1
        elif n > 0 and matches[n - 1, 2] >= max_context:
            break
        matches[n, 0], matches[n, 1], matches[n, 2] = low, high, min(length, max_context)
        n += 1
        if k == n_matches or followed[k, 0] == followed[k, 1]:
            break
        low, high, length = followed[k, 0], followed[k, 1], before + 1
    return n


@kernel(read_only(_I32), read_only(_I32), read_only(_I64), read_only(_U16), read_only(_I32), _I64, _MATCHES,
        writable(_I64), writable(_I32, 2), writable(_I64), writable(_I64), returns=_I64)  # fmt: skip
def collect(ids, by_next, starts, shared, n_types, max_context, matches, n_matches,
            evidence, ends, longest):  # fmt: skip
    """Collects the training counts from which the probability of each token of the text `ids` is computed.

    A token is predicted from several contexts: sequences of tokens before it that occur in the training text. The
    results are written to three arrays:

    - `evidence` (N, 4): one row for each token and context, with four numbers: how often the token followed the
      context, how often the context occurs, how many different tokens followed it, and the index of its discount.
    - `ends`: the rows of token t end before row ends[t].
    - `longest`: length of the longest n-gram that ends with each token and occurs in training.

    `matches` and `n_matches` are the contexts before the text, and are updated. `by_next`, `starts`, `shared` and
    `n_types` are the arrays of the index of the training text (`ContextIndex`). Stops if `evidence` is full; returns
    the number of tokens that were read.
    """
    followed = np.empty((matches.shape[0], 2), np.int64)
    chosen = np.empty(matches.shape[0], np.bool_)
    n, end, t = n_matches[0], 0, 0
    while t < ids.size and end + n <= evidence.shape[0]:
        token = ids[t]
        follow(by_next, starts, token, matches, n, followed)
        longest[t] = 1
        _choose(matches, n, chosen)
        for k in range(n):
            low, high, length = matches[k, 0], matches[k, 1], matches[k, 2]
            count = followed[k, 1] - followed[k, 0]
            if count > 0:
                longest[t] = length + 1
            if not chosen[k]:
                continue
            evidence[end, 0], evidence[end, 1] = count, high - low
            evidence[end, 2] = _types_after(low, high, shared, n_types)
            evidence[end, 3] = discount_of(length if k > 0 else 0, high - low)
            end += 1
        ends[t] = end
        n = lengthen(starts, max_context, token, followed, matches, n)
        t += 1
    n_matches[0] = n
    return t


@kernel(read_only(_I32, 2), read_only(_I64), read_only(_F64), _I64, writable(_F64), writable(_F64))
def score(evidence, ends, discounts, vocab_size, log_probs, gradient):
    """Computes the log-probability of each token of a text by absolute discounting, from the counts of its contexts.

    - `evidence`: each row holds the counts for one token and one context (a sequence of tokens before it), from the
      empty context to the longest, as `collect` writes them.
    - `ends`: the rows of token t end before row ends[t].
    - `discounts`: all discounts; the last column of `evidence` holds their indices.
    - `log_probs`: array to which the log-probabilities are written.
    - `gradient`: array to which the derivatives of the sum of the log-probabilities by each discount are added; empty
      if they are not needed.

    For each row, the counts are interpolated with the probability from the rows before. The first row uses 1 /
    `vocab_size`.
    """
    below = np.empty(1)
    begin = 0
    for t in range(log_probs.size):
        n = ends[t] - begin
        if n > below.size:
            below = np.empty(2 * n)
        prob = 1 / vocab_size
        for k in range(n):
            below[k] = prob
            count, n_rows, n_types = evidence[begin + k, 0], evidence[begin + k, 1], evidence[begin + k, 2]
            discount = discounts[evidence[begin + k, 3]]
            prob = (max(count - discount, 0.0) + discount * n_types * prob) / n_rows
        log_probs[t] = np.log(prob)
        if gradient.size > 0:
            slope = 1 / prob
            for k in range(n - 1, -1, -1):
                count, n_rows, n_types = evidence[begin + k, 0], evidence[begin + k, 1], evidence[begin + k, 2]
                number = evidence[begin + k, 3]
                gradient[number] += slope * (n_types * below[k] - (1 if count > 0 else 0)) / n_rows
                slope *= discounts[number] * n_types / n_rows
        begin = ends[t]


@kernel(_MATCHES, _I64, read_only(_I32), read_only(_U16), read_only(_I32), read_only(_F64), read_only(_F64),
        writable(_F64), writable(types.boolean), writable(_I32))  # fmt: skip
def fill_row(matches, n_matches, next_ids, shared, n_types, discounts, unigram, row, chosen, counts):
    """Writes the probability of each of V tokens after a text to `row` (V,).

    - `matches`: the first `n_matches` rows are the sequences of last tokens of the text that occur in the training
      text.
    - `discounts`: the discounts of the model.
    - `unigram` (V,): probabilities after the empty context.
    - `chosen`, `counts`: working memory; `counts` (V,) must be 0.

    `next_ids`, `shared` and `n_types` are arrays of the index of the training text (`ContextIndex`).
    """
    row[:] = unigram
    _choose(matches, n_matches, chosen)
    for k in range(1, n_matches):
        if not chosen[k]:
            continue
        low, high, length = matches[k, 0], matches[k, 1], matches[k, 2]
        n_rows = high - low
        discount = discounts[discount_of(length, n_rows)]
        row *= discount * _types_after(low, high, shared, n_types) / n_rows
        for token in next_ids[low:high]:
            counts[token] += 1
        for token in next_ids[low:high]:
            if counts[token] > 0:
                row[token] += (counts[token] - discount) / n_rows
                counts[token] = 0


@kernel(read_only(_I32), read_only(_I32), read_only(_I32), read_only(_I64), read_only(_U16), read_only(_I32), _I64,
        read_only(_F64), read_only(_F64), _MATCHES, _I64, writable(_F64, 2), returns=_I64)  # fmt: skip
def fill_rows(ids, next_ids, by_next, starts, shared, n_types, max_context, discounts, unigram,
              matches, n_matches, rows):  # fmt: skip
    """Writes the next-token distribution before each of the T tokens `ids` to `rows` (T, V), unless `rows` is empty.

    - `matches`: the first `n_matches` rows are the sequences of last tokens of the text before `ids` that occur in the
      training text. They are updated to the sequences after the last of `ids`.
    - `max_context`: maximum length of these sequences.
    - `discounts`: the discounts of the model.
    - `unigram` (V,): distribution over V tokens after the empty context.

    The other arguments are the arrays of the index of the training text (`ContextIndex`). Returns the updated number of
    sequences.
    """
    followed = np.empty((matches.shape[0], 2), np.int64)
    chosen, counts = np.empty(matches.shape[0], np.bool_), np.zeros(unigram.size, np.int32)
    for t in range(ids.size):
        if rows.size > 0:
            fill_row(matches, n_matches, next_ids, shared, n_types, discounts, unigram, rows[t], chosen, counts)
        follow(by_next, starts, ids[t], matches, n_matches, followed)
        n_matches = lengthen(starts, max_context, ids[t], followed, matches, n_matches)
    return n_matches
