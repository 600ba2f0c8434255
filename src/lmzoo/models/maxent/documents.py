"""Computes the log-likelihood of a text under a model with n-grams and triggers, and the sums for its gradient."""

from __future__ import annotations

import math

import numpy as np
from numba import types

from lmzoo.stream import EOT
from lmzoo.system.compiled import kernel, read_only, writable

_I32, _I64, _F64 = types.int32, types.int64, types.float64


@kernel(_I64, _I64, _F64, _F64, writable(_F64), writable(_F64), writable(_F64), writable(_F64), returns=types.void)
def _catch_up(target, node, score, share, gains, read, extra_shares, n_expected):
    """Adds the tokens that were read since the last call to the sums of a target, before its gain changes.

    The gain of a target is the factor of its triggers minus 1. `share` is the sum of 1 / normaliser over all tokens so
    far, and `read` (V,) holds the value of this sum at the last call for each target. Only the unigram of the target is
    taken into account, whose node in the trie is `node` and whose score is `score`. The function `read_documents` adds
    the longer n-grams at each token.
    """
    new = share - read[target]
    read[target] = share
    extra_shares[node] += gains[target] * new
    n_expected[target] += score * (1.0 + gains[target]) * new


@kernel(
    read_only(_I32), read_only(_I32), read_only(_I32), read_only(_F64), read_only(_F64), read_only(_I32),
    read_only(_I32), read_only(_I32), read_only(_I64), read_only(_I32), read_only(_F64), writable(_F64),
    writable(_F64), writable(_F64), returns=_F64,
)  # fmt: skip
def read_documents(
    ids, states, nodes, scores, normalisers, tokens, first_child, suffixes, first_target, targets, weights, shares,
    extra_shares, expected,
):  # fmt: skip
    """Returns the log-likelihood of a text of T tokens in nats, and computes the sums for its gradient.

    - `ids` (T,), `states` (T,), `nodes` (T,): the text, the longest context before each token, and the longest n-gram
      that ends with it, as nodes of the trie.
    - `scores`, `normalisers`, `tokens`, `first_child`, `suffixes`: see `lmzoo.models.maxent.sums.add_up_scores`.
    - `first_target` (V + 1,), `targets` (P,), `weights` (P,): the triggers and their weights.
    - `shares` (C,), `extra_shares` (M,): arrays to which the inputs of `add_up_expectations` are added.
    - `expected` (P,): array to which is added how often the model expects each target after its trigger.

    The normaliser at a token is that of its longest context, plus, for each target of the triggers so far, its score
    times (factor of the triggers - 1). This sum is first computed with the scores of unigrams, and then corrected for
    the tokens that followed the contexts. The sum over unigrams changes only when a trigger occurs for the first time
    in a document. So each token of the text costs as many operations as there are tokens that followed its contexts.
    """
    vocab_size = first_target.size - 1
    is_seen, seen, n_seen = np.zeros(vocab_size, np.bool_), np.empty(vocab_size, np.int32), 0
    sums, gains = np.zeros(vocab_size), np.zeros(vocab_size)
    read, n_expected = np.zeros(vocab_size), np.zeros(vocab_size)
    gain_of_unigrams, share, log_likelihood = 0.0, 0.0, 0.0
    for t in range(ids.size):
        token = ids[t]
        normaliser, context = normalisers[states[t]] + gain_of_unigrams, states[t]
        while context:
            for node in range(first_child[context], first_child[context + 1]):
                normaliser += (scores[node] - scores[suffixes[node]]) * gains[tokens[node]]
            context = suffixes[context]
        log_likelihood += math.log(scores[nodes[t]]) + sums[token] - math.log(normaliser)
        shares[states[t]] += 1.0 / normaliser
        share += 1.0 / normaliser
        context = states[t]
        while context:
            for node in range(first_child[context], first_child[context + 1]):
                target = tokens[node]
                extra_shares[node] += gains[target] / normaliser
                n_expected[target] += (1.0 + gains[target]) * (scores[node] - scores[suffixes[node]]) / normaliser
            context = suffixes[context]
        if token == EOT or t == ids.size - 1:
            for trigger in seen[:n_seen]:
                for pair in range(first_target[trigger], first_target[trigger + 1]):
                    target = targets[pair]
                    _catch_up(target, 1 + target, scores[1 + target], share, gains, read, extra_shares, n_expected)
                    expected[pair] += n_expected[target]
            for trigger in seen[:n_seen]:
                is_seen[trigger] = False
                for target in targets[first_target[trigger] : first_target[trigger + 1]]:
                    sums[target] = gains[target] = 0.0
            n_seen, gain_of_unigrams = 0, 0.0
        elif not is_seen[token]:
            is_seen[token], seen[n_seen] = True, token
            n_seen += 1
            for pair in range(first_target[token], first_target[token + 1]):
                target = targets[pair]
                _catch_up(target, 1 + target, scores[1 + target], share, gains, read, extra_shares, n_expected)
                expected[pair] -= n_expected[target]
                sums[target] += weights[pair]
                gain = math.exp(sums[target]) - 1.0
                gain_of_unigrams += scores[1 + target] * (gain - gains[target])
                gains[target] = gain
    return log_likelihood
