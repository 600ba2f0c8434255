"""Fits n-gram models in partitions: a text is counted and smoothed in many parts, by several processes or computers.

An n-gram belongs to the partition of its token before the last. A context and all n-grams that continue it have this
token in common, and so have an n-gram and its suffixes of two or more tokens. Counts, discounts, probabilities and
back-off weights can therefore be computed in each partition alone, and the result is the model that a fit in memory
gives. Only two things need all partitions: the counts of single tokens, and the numbers of n-grams with each count,
from which discounts are learned. (Brants et al. 2007 partition by the first two tokens, which is enough for stupid
back-off, but not for Kneser-Ney smoothing.)

The stages, each of which runs for all its tasks in parallel (`lmzoo.system.executors`):

    1. count tokens    shard -> (V,) counts, from which the partitions are planned                plan.py
    2. cut             shard -> for each partition, the n-grams of highest order                  counting.py
    3. sort            partition -> its n-grams of every order, sorted, with adjusted counts      counting.py
    4. estimate        partition -> log-probabilities and back-off weights                        estimating.py
    5. join            all partitions -> one trie, in this process                                joining.py

Between 3 and 4, the sums over all partitions are computed here. Stage 2 moves each n-gram of the text once, to its
partition; nothing else that is large moves.

A token that is more frequent than an average partition is split: its n-grams go to several partitions, by the token
before it. Then bigrams that begin with it have a count in each of them; these counts are summed between stages 3 and 4,
where the probabilities after the token alone are estimated, too. Those n-grams are called the head of the model.
"""
