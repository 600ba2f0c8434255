"""All n-grams of a text as one sorted trie in flat arrays.

The nodes are numbered order by order, and inside an order as a dictionary would sort them. So the children of a node
(the n-grams that continue it by one token) are neighbours, sorted by their last token, and one array of offsets tells
where each family begins. Node 0 is the root, the empty n-gram; node 1 + w is the unigram of token w, seen or not.

    context "the cat" --first_child--> [the cat ate | the cat sat | the cat was]
    n-gram "the cat sat" --suffix--> "cat sat" --suffix--> "sat" --suffix--> root

A suffix link leads to the same n-gram without its first token, the one to back off to. The id of end-of-text stands
for both ends of a document: as the last token of an n-gram it is the end, which is predicted; as the first one it is
the start (KenLM's `<s>`), which is only a context. No n-gram goes on after an end.
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
    """M nodes, the first C of which have an order below the highest, n, and so may have children."""

    levels: NDArray[np.int64]
    """(n + 2,) the first node of every order 0 .. n, and M."""
    tokens: NDArray[np.int32]
    """(M,) the last token of every n-gram."""
    first_child: NDArray[np.int32]
    """(C + 1,) children of node i: first_child[i] to first_child[i + 1]."""
    suffixes: NDArray[np.int32]
    """(M,) the n-gram without its first token; that of the root is the root."""

    @property
    def order(self) -> int:
        """n, the length of the longest n-grams."""
        return len(self.levels) - 2

    @property
    def vocab_size(self) -> int:
        return int(self.levels[2] - self.levels[1])

    @property
    def n_contexts(self) -> int:
        """C, the number of nodes below order n."""
        return int(self.levels[self.order])

    @property
    def document_start(self) -> int:
        """The context at a document start."""
        return 1 + EOT if self.order > 1 else ROOT

    def level(self, order: int) -> slice:
        """The nodes of an order."""
        return slice(int(self.levels[order]), int(self.levels[order + 1]))

    def order_of(self, node: int) -> int:
        """The length of the n-gram of a node."""
        return int(np.searchsorted(self.levels, node, side="right")) - 1

    def children(self, context: int) -> slice:
        """The nodes that continue a context."""
        return slice(int(self.first_child[context]), int(self.first_child[context + 1]))

    def owners(self, order: int) -> NDArray[np.int64]:
        """The context of every n-gram of an order from 1 on."""
        contexts = self.level(order - 1)
        sizes = np.diff(self.first_child[contexts.start : contexts.stop + 1])
        return np.repeat(np.arange(contexts.start, contexts.stop), sizes)

    def child(self, context: int, token_id: int) -> int | None:
        """The node that continues a context by one token, if it does."""
        family = self.children(context)
        node = family.start + int(np.searchsorted(self.tokens[family], token_id))
        return node if node < family.stop and self.tokens[node] == token_id else None

    def longest_match(self, context: int, token_id: int) -> int:
        """The longest n-gram that ends in this token after some of the context."""
        for longer in self.backoff_path(context):
            if (node := self.child(longer, token_id)) is not None:
                return node
        return 1 + token_id

    def as_context(self, node: int) -> int:
        """The longest context that an n-gram leaves behind."""
        return node if node < self.n_contexts else int(self.suffixes[node])

    def backoff_path(self, context: int) -> Iterator[int]:
        """A context and all its shorter ones, without the root."""
        while context != ROOT:
            yield context
            context = int(self.suffixes[context])

    @cached_property
    def n_at_document_start(self) -> list[int]:
        """How many n-grams of each order 0 .. n begin at a document start: the first ones of their level."""
        counts, end = [0, 1], 2 + EOT
        for order in range(2, self.order + 1):
            end = int(self.first_child[end])
            counts.append(end - int(self.levels[order]))
        return counts

    def arrays(self) -> dict[str, NDArray[np.integer]]:
        """What `from_arrays` reads."""
        return {
            "levels": self.levels,
            "tokens": self.tokens,
            "first_child": self.first_child,
            "suffixes": self.suffixes,
        }

    @classmethod
    def from_arrays(cls, arrays: Arrays, vocab_size: int, order: int) -> Trie:
        """The trie that `arrays` came from. SavedModelError if a kernel could leave the arrays or run for ever.

        Reads every array once, at memory speed.
        """
        levels = take_array(arrays, "levels", shape=(order + 2,), dtype=np.int64)
        start = [0, 1, 1 + vocab_size]
        if levels[:3].tolist() != start or (np.diff(levels) < 0).any() or levels[-1] >= 2**31:
            raise SavedModelError(f"the saved n-gram levels {levels.tolist()} must rise from {start} to below 2**31")
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
            raise SavedModelError("the saved n-grams are inconsistent: tokens, children or suffixes are out of range")
        return trie


def _within(values: NDArray[np.integer], low: int, high: int) -> bool:
    return not values.size or (low <= values.min() and values.max() < high)
