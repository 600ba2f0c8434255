"""Stores all n-grams of a text as a sorted trie in flat arrays.

The nodes of the trie are numbered by order, and within an order in the lexicographic order of their tokens. So the
children of a node (the n-grams that continue it by one token) have consecutive numbers, sorted by their last token, and
one array of offsets gives the first child of each node. Node 0 is the root, which is the empty n-gram. Node 1 + w is
the unigram of token w, whether it occurs in the text or not.

    context "the cat" --first_child--> [the cat ate | the cat sat | the cat was]
    n-gram "the cat sat" --suffix--> "cat sat" --suffix--> "sat" --suffix--> root

The suffix link of an n-gram leads to the same n-gram without its first token, which is used for back-off. The id of
end-of-text (EOT) denotes both ends of a document: as the last token of an n-gram it is the end, which is predicted; as
the first token it is the start (KenLM's `<s>`), which is only a context. No n-gram continues after the end of a
document.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from lmzoo.arrays import Arrays, take_array
from lmzoo.errors import SavedModelError
from lmzoo.stream import EOT

ROOT = 0


@dataclass(frozen=True, eq=False)
class Trie:
    """A sorted trie of n-grams in flat arrays, with M nodes, one for each n-gram of length 0 to n.

    The first C nodes are the n-grams shorter than n. They are contexts, which may have children: the n-grams that
    continue them by one token.
    """

    levels: NDArray[np.int64]
    """(n + 2,) the first node of each order 0 .. n, and M."""
    tokens: NDArray[np.int32]
    """(M,) the last token of each n-gram."""
    first_child: NDArray[np.int32]
    """(C + 1,) the children of node i are the nodes first_child[i] to first_child[i + 1] - 1."""
    suffixes: NDArray[np.int32]
    """(M,) the node of each n-gram without its first token; the root for the root itself."""

    @property
    def order(self) -> int:
        """The length n of the longest n-grams in the trie."""
        return len(self.levels) - 2

    @property
    def vocab_size(self) -> int:
        """The number of tokens in the vocabulary, each of which has a unigram in the trie."""
        return int(self.levels[2] - self.levels[1])

    @property
    def n_contexts(self) -> int:
        """The number of trie nodes that may have children: all n-grams below the highest order."""
        return int(self.levels[self.order])

    @property
    def document_start(self) -> int:
        """The node of the context at the start of a document: the unigram of EOT, or the root in a trie of order 1."""
        return 1 + EOT if self.order > 1 else ROOT

    def level(self, order: int) -> slice:
        """Returns the range of trie nodes whose n-grams have the length `order`."""
        return slice(int(self.levels[order]), int(self.levels[order + 1]))

    def order_of(self, node: int) -> int:
        """Returns the length of the n-gram of a trie node."""
        return int(np.searchsorted(self.levels, node, side="right")) - 1

    def children(self, context: int) -> slice:
        """Returns the range of trie nodes that continue a context by one token."""
        return slice(int(self.first_child[context]), int(self.first_child[context + 1]))

    def parents(self, order: int) -> NDArray[np.int64]:
        """Returns the context of each n-gram of length `order`, as a trie node: the n-gram without its last token."""
        contexts = self.level(order - 1)
        sizes = np.diff(self.first_child[contexts.start : contexts.stop + 1])
        return np.repeat(np.arange(contexts.start, contexts.stop), sizes)

    def child(self, context: int, token_id: int) -> int | None:
        """Returns the trie node that continues a context by `token_id`, or None if there is no such n-gram."""
        children = self.children(context)
        node = children.start + int(np.searchsorted(self.tokens[children], token_id))
        return node if node < children.stop and self.tokens[node] == token_id else None

    def longest_match(self, context: int, token_id: int) -> int:
        """Returns the trie node of the longest stored n-gram that ends with a token and fits the tokens before it.

        `context` is the trie node of the tokens before, and `token_id` the token. The n-gram consists of these tokens
        or only the last of them, and the token. If the trie has no such n-gram, the result is the node of the token
        alone (its unigram).
        """
        for longer in self.backoff_path(context):
            if (node := self.child(longer, token_id)) is not None:
                return node
        return 1 + token_id

    def as_context(self, node: int) -> int:
        """Returns the trie node of the longest context that can be used for the token after an n-gram.

        This context is the n-gram itself, or its suffix (without the first token) if the n-gram has the highest order.
        """
        return node if node < self.n_contexts else int(self.suffixes[node])

    def backoff_path(self, context: int) -> Iterator[int]:
        """Yields the contexts to which an n-gram model backs off, one after the other, as trie nodes.

        The first is `context` itself, and each next one lacks the first token of the one before. The empty context is
        left out.
        """
        while context != ROOT:
            yield context
            context = int(self.suffixes[context])

    @cached_property
    def n_at_document_start(self) -> list[int]:
        """The number of n-grams of each order 0 .. n that begin at the start of a document.

        These n-grams are the first nodes of their order, because EOT (the end-of-text token) has the lowest id.
        """
        counts, end = [0, 1], 2 + EOT
        for order in range(2, self.order + 1):
            end = int(self.first_child[end])
            counts.append(end - int(self.levels[order]))
        return counts

    def arrays(self) -> dict[str, NDArray[np.integer]]:
        """Returns the arrays of the trie by name, in the format that `from_arrays` reads."""
        return {
            "levels": self.levels,
            "tokens": self.tokens,
            "first_child": self.first_child,
            "suffixes": self.suffixes,
        }

    @classmethod
    def from_arrays(cls, arrays: Arrays, vocab_size: int, order: int) -> Trie:
        """Returns the n-gram trie that is saved in `arrays`.

        Raises SavedModelError if the arrays do not match each other, so that compiled code could read outside them or
        run forever. The check reads each array once.
        """
        levels = take_array(arrays, "levels", shape=(order + 2,), dtype=np.int64)
        start = [0, 1, 1 + vocab_size]
        if levels[:3].tolist() != start or (np.diff(levels) < 0).any() or levels[-1] >= 2**31:
            raise SavedModelError(
                f"the saved n-gram model is damaged: its levels are {levels.tolist()}, but they must begin with "
                f"{start} and increase to less than 2**31"
            )
        n_nodes, n_contexts = int(levels[-1]), int(levels[order])
        trie = cls(
            levels,
            *(
                np.require(take_array(arrays, name, shape=(size,), dtype=np.int32), None, ["C", "A"])
                for name, size in (("tokens", n_nodes), ("first_child", n_contexts + 1), ("suffixes", n_nodes))
            ),
        )
        if not (
            np.array_equal(trie.tokens[trie.level(1)], np.arange(vocab_size))
            and _within(trie.tokens, 0, vocab_size)
            and np.array_equal(trie.first_child[levels[:-1]], levels[1:])
            and (trie.first_child[1:] >= trie.first_child[:-1]).all()
            and all(_within(trie.suffixes[trie.level(k)], 0, max(1, int(levels[k]))) for k in range(order + 1))
        ):
            raise SavedModelError(
                "the saved n-gram model is damaged: its tokens, children or suffixes are out of range"
            )
        return trie


def _within(values: NDArray[np.integer], low: int, high: int) -> bool:
    return not values.size or (low <= values.min() and values.max() < high)
