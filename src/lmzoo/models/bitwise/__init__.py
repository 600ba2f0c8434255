"""Models that predict a token bit by bit, and learn from every bit.

A token is a sequence of yes-or-no decisions, the bits of its code word. The probability of a token is the product of
the probabilities of its bits, each predicted from the bits before it. Since all code words together form a tree in
which every node has two children, the probabilities of all tokens sum to 1 exactly.

    code.py    the code words of tokens, and hash values, compiled      model.py   the language model and its readers

`lmzoo.models.context_tree_weighting` and `lmzoo.models.context_mixing` differ in how they predict a bit.
"""
