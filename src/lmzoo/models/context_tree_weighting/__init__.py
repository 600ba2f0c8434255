"""Context-tree weighting (Willems, Shtarkov & Tjalkens 1995): the exact average over all tree sources.

In a tree source, a bit depends on the last few symbols, and on how many of them depends on these symbols themselves:
after "q" one may be enough, after "th" three may be needed. The contexts that matter are the leaves of a tree, and each
has a probability of its own. Neither the tree nor the probabilities are known. Context-tree weighting averages over all
trees of at most D symbols, each with a weight of 2^-(number of its nodes of less than D symbols), and over all
probabilities in the leaves. The average over very many trees takes one formula per node of the largest tree:

    P_w = 1/2 P_e + 1/2 prod_c P_w(child c)    for a context of less than D symbols,    P_w = P_e otherwise

P_e is the probability of all bits that followed the context, by the estimator of Krichevsky and Trofimov (1981), which
gives a bit that was seen a times in n the probability (a + 1/2) / (n + 1). For every text
and every tree source, the text costs at most this much more than under the source itself: one bit for each node of the
tree of less than D symbols, plus 1/2 log2(n) + 1 bits for each leaf in which n > 0 bits occurred.

A token is predicted bit by bit. Every node of the code tree (see `lmzoo.models.bitwise.code`), that is, every sequence
of earlier bits of the same token, has a context tree of its own, whose symbols are the tokens before. So P_w is
weighted at the borders of tokens only, as Willems, Shtarkov and Tjalkens (1997) recommend for text: a context that ends
inside a token is hardly ever the right one, and D + 1 nodes are visited for a bit instead of 8 D + 1. This
decomposition of bytes is that of Volf and Willems, too. The default of D = 6 tokens is 48 bits for bytes.

F. M. J. Willems, Y. M. Shtarkov, T. J. Tjalkens, The Context-Tree Weighting Method: Basic Properties, IEEE Transactions
on Information Theory 41, 1995. The same, Reflections on "The Context-Tree Weighting Method: Basic Properties", IEEE
Information Theory Society Newsletter 47, 1997. R. E. Krichevsky, V. K. Trofimov, The Performance of Universal Encoding,
IEEE Transactions on Information Theory 27, 1981.

What context-tree weighting cannot do: see beyond D tokens, or learn that two contexts are alike. Nor does it trust a
long context that was always followed by the same token as much as it should in text.

    tree.py   the nodes of the trees and the weighted probabilities, compiled      reader.py   tables that grow
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from lmzoo.checks import check_whole
from lmzoo.models.bitwise.model import BitwiseModel

if TYPE_CHECKING:
    from lmzoo.models.context_tree_weighting.reader import TreeReader

__all__ = ["context_tree_weighting"]

MAX_DEPTH = 64


def context_tree_weighting(vocab_size: int, *, depth: int = 6, adaptive: bool = True) -> BitwiseModel[Any]:
    """Creates a model that averages over all tree sources with contexts of at most `depth` tokens.

    If `adaptive` is True, the model also learns each document that it predicts, token by token, and forgets it at its
    end. If False, it learns only the training text.
    """
    check_whole(0, MAX_DEPTH, depth=depth)

    return BitwiseModel(vocab_size, partial(_new_reader, vocab_size, depth), adaptive=adaptive)


def _new_reader(vocab_size: int, depth: int) -> TreeReader:
    from lmzoo.models.context_tree_weighting.reader import TreeReader  # imports numba, which is slow

    return TreeReader(vocab_size, depth=depth)


PRESETS: dict[str, dict[str, dict[str, Any]]] = {"context_tree_weighting": {"tiny": {"depth": 3}}}
"""Settings of each factory of this file under each preset; see `lmzoo.zoo.presets`."""
